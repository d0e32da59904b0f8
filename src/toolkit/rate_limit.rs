//! Rate limits over a sliding minute.

use std::collections::VecDeque;
use std::time::Duration;

/// The span over which a [`SlidingWindow`] counts: the documents state all limits per minute (rulings, "rate
/// limits").
pub const WINDOW: Duration = Duration::from_secs(60);

/// The times of the events of the last minute: exact, without the rounding of buckets.
///
/// Stores at most `limit` times of 16 bytes each, and no memory when the last minute had no event.
#[derive(Debug, Default)]
pub struct SlidingWindow {
    times: VecDeque<Duration>,
}

impl SlidingWindow {
    /// Counts an event at `now` if fewer than `limit` happened in the last minute. A rejected event does not
    /// count. A `limit` of 0 is no limit.
    ///
    /// # Errors
    /// The time until the next event is allowed.
    pub fn try_record(&mut self, now: Duration, limit: u32) -> Result<(), Duration> {
        if limit == 0 {
            return Ok(());
        }
        self.remove_expired(now);
        match self.times.front() {
            Some(&oldest) if self.times.len() >= limit as usize => Err(oldest + WINDOW - now),
            _ => {
                self.times.push_back(now);
                Ok(())
            }
        }
    }

    /// Returns the number of events in the last minute.
    pub fn count(&mut self, now: Duration) -> usize {
        self.remove_expired(now);
        self.times.len()
    }

    fn remove_expired(&mut self, now: Duration) {
        while self.times.front().is_some_and(|&time| time + WINDOW <= now) {
            self.times.pop_front();
        }
        if self.times.is_empty() {
            self.times = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_event_above_the_limit_is_rejected() {
        let mut window = SlidingWindow::default();
        assert!((0..3).all(|_| window.try_record(s(10), 3).is_ok()));
        assert_eq!(window.try_record(s(15), 3), Err(s(55)));
    }

    #[test]
    fn the_window_slides() {
        let mut window = SlidingWindow::default();
        assert!(window.try_record(s(0), 2).is_ok());
        assert!(window.try_record(s(30), 2).is_ok());
        assert_eq!(window.try_record(s(59), 2), Err(s(1)));
        assert!(window.try_record(s(60), 2).is_ok());
        assert_eq!(window.try_record(s(60), 2), Err(s(30)));
    }

    #[test]
    fn a_rejected_event_does_not_count() {
        let mut window = SlidingWindow::default();
        assert!(window.try_record(s(0), 1).is_ok());
        assert!((1..60).all(|now| window.try_record(s(now), 1).is_err()));
        assert!(window.try_record(s(60), 1).is_ok());
    }

    #[test]
    fn no_memory_is_kept_after_a_minute_without_events() {
        let mut window = SlidingWindow::default();
        assert!(window.try_record(s(0), 100).is_ok());
        assert_eq!(window.count(s(60)), 0);
        assert_eq!(window.times.capacity(), 0);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut window = SlidingWindow::default();
        assert!((0..1000).all(|_| window.try_record(s(0), 0).is_ok()));
        assert_eq!(window.count(s(0)), 0);
    }
}
