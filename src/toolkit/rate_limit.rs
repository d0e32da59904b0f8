//! Rate limits over a sliding minute.

use super::heap_bytes::{HeapBytes, allocation};
use crate::base::spare::compacted;
use std::collections::VecDeque;
use std::time::Duration;

/// The span over which a [`SlidingWindow`] counts: the documents state all limits per minute (rulings, "rate
/// limits").
pub const WINDOW: Duration = Duration::from_secs(60);

/// [`WINDOW`] in milliseconds.
const WINDOW_MILLIS: u16 = 60_000;

/// The times of the events of the last minute: exact to the millisecond, without the rounding of buckets.
///
/// Stores at most `limit` times of 2 bytes each, and no memory when the last minute had no event. Windows are
/// remembered of clients that are gone, so their size is what a client can make the daemon keep for a minute
/// at the price of a connection.
#[derive(Debug, Default)]
pub struct SlidingWindow {
    /// `None` without an event: most clients are idle, and have several windows.
    events: Option<Box<Events>>,
}

/// At least one event.
#[derive(Debug)]
struct Events {
    /// Time of the newest event, in milliseconds.
    newest: u64,
    /// The low 16 bits of each time, in milliseconds. All are at most [`WINDOW`] older than the newest, so
    /// these bits determine the rest.
    times: VecDeque<u16>,
}

const _: () = assert!(WINDOW_MILLIS as u128 == WINDOW.as_millis());

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
        let now = millis(now);
        let Some(events) = self.remove_expired(now) else {
            self.events = Some(Box::new(Events::first(now)));
            return Ok(());
        };
        // The event with which less than `limit` are left: the oldest, but after the limit was lowered a later one.
        let above = events.times.len().checked_sub(limit as usize);
        match above.and_then(|index| events.times.get(index)) {
            Some(&blocking) => {
                let wait = u64::from(WINDOW_MILLIS) - events.age(blocking, now);
                Err(Duration::from_millis(wait))
            }
            None => {
                events.newest = now;
                events.times.push_back(low_bits(now));
                Ok(())
            }
        }
    }

    /// Returns the number of events in the last minute.
    pub fn count(&mut self, now: Duration) -> usize {
        let events = self.remove_expired(millis(now));
        events.map_or(0, |events| events.times.len())
    }

    /// Frees what is not needed for the events of the last minute, before the window is remembered of a
    /// client that is gone.
    pub fn compact(&mut self, now: Duration) {
        if let Some(events) = self.remove_expired(millis(now)) {
            events.times = compacted(&events.times);
        }
    }

    /// Removes the events of more than a minute ago, and returns the others.
    fn remove_expired(&mut self, now: u64) -> Option<&mut Events> {
        let events = self.events.as_mut()?;
        let is_expired = |events: &Events, time: u16| events.age(time, now) >= WINDOW_MILLIS.into();
        while events
            .times
            .front()
            .is_some_and(|&time| is_expired(events, time))
        {
            events.times.pop_front();
        }
        if events.times.is_empty() {
            self.events = None;
        }
        self.events.as_deref_mut()
    }
}

impl Events {
    fn first(now: u64) -> Self {
        Self {
            newest: now,
            times: VecDeque::from([low_bits(now)]),
        }
    }

    /// Returns how long before `now` an event was, in milliseconds.
    fn age(&self, time: u16, now: u64) -> u64 {
        let before_newest = low_bits(self.newest).wrapping_sub(time);
        now - self.newest + u64::from(before_newest)
    }
}

impl HeapBytes for SlidingWindow {
    fn heap_bytes(&self) -> usize {
        self.events.as_ref().map_or(0, |events| {
            let times = events.times.capacity() * size_of::<u16>();
            allocation(size_of::<Events>()) + allocation(times)
        })
    }
}

/// Returns a time in milliseconds, rounded down.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits are wanted"
)]
const fn low_bits(time: u64) -> u16 {
    time as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_limit_that_is_lowered_counts_the_events_before_and_tells_the_time_until_it_allows_one() {
        let mut window = SlidingWindow::default();
        for second in 0..10 {
            window.try_record(s(second), 10).unwrap();
        }
        // The third last is 7 s old and leaves the minute at second 67.
        assert_eq!(window.try_record(s(14), 3), Err(s(53)));
        assert_eq!(window.try_record(s(66), 3), Err(s(1)));
        assert_eq!(window.try_record(s(67), 3), Ok(()));
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
        assert!(window.events.is_none());
    }

    #[test]
    fn an_event_takes_two_bytes() {
        let mut window = SlidingWindow::default();
        for event in 0..400 {
            assert!(window.try_record(Duration::from_millis(event), 400).is_ok());
        }
        window.compact(s(1));
        let times = allocation(2 * 400);
        assert_eq!(window.heap_bytes(), allocation(size_of::<Events>()) + times);
        window.compact(s(61));
        assert_eq!(window.heap_bytes(), 0);
    }

    #[test]
    fn a_window_is_the_same_however_long_the_daemon_has_run() {
        // 65,536 ms is where the stored bits of a time begin anew.
        for start in [0_u64, 65_535, 65_536, 100_000_000_123] {
            let mut window = SlidingWindow::default();
            let at = |millis: u64| Duration::from_millis(start + millis);
            assert!(window.try_record(at(0), 2).is_ok());
            assert!(window.try_record(at(30_000), 2).is_ok());
            let rest = Duration::from_millis(1);
            assert_eq!(window.try_record(at(59_999), 2), Err(rest));
            assert!(window.try_record(at(60_000), 2).is_ok());
            assert_eq!(window.count(at(90_000)), 1);
            // After a silence in which those bits went round several times.
            assert_eq!(window.count(at(60_000 + 10 * 65_536)), 0);
        }
    }

    proptest! {
        #[test]
        fn a_window_counts_as_one_that_keeps_whole_times(
            steps in prop::collection::vec((0u64..90_000, any::<bool>()), 1..200),
            limit in 1u32..6,
        ) {
            let (mut now, mut window, mut times) = (0, SlidingWindow::default(), Vec::new());
            for (step, is_short) in steps {
                now += if is_short { step / 100 } else { step };
                times.retain(|time| time + 60_000 > now);
                let recorded = window.try_record(Duration::from_millis(now), limit);
                prop_assert_eq!(recorded.is_ok(), times.len() < limit as usize);
                match recorded {
                    Ok(()) => times.push(now),
                    Err(wait) => prop_assert_eq!(wait.as_millis() as u64, times[0] + 60_000 - now),
                }
            }
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let mut window = SlidingWindow::default();
        assert!((0..1000).all(|_| window.try_record(s(0), 0).is_ok()));
        assert_eq!(window.count(s(0)), 0);
    }
}
