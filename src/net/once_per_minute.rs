//! Log lines that clients cause and that would otherwise fill the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Minimum time between two lines, in seconds.
const INTERVAL: u64 = 60;

/// Lets the first event pass, and then one a minute.
#[derive(Default)]
pub(crate) struct OncePerMinute {
    /// Seconds since the start at which the next event may pass.
    next: AtomicU64,
}

impl OncePerMinute {
    /// Returns whether an event passes at `now`, the time since the start.
    pub(crate) fn passes(&self, now: Duration) -> bool {
        let now = now.as_secs();
        let update = |next| (now >= next).then_some(now + INTERVAL);
        self.next
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_of_a_minute_passes() {
        let events = OncePerMinute::default();
        let passes = |seconds| events.passes(Duration::from_secs(seconds));
        let passed: Vec<u64> = (0..=121).filter(|seconds| passes(*seconds)).collect();
        assert_eq!(passed, [0, 60, 120]);
    }
}
