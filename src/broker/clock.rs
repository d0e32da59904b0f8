//! The daemon's clock, by which silence and all times of realms are measured.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest time between two readings in which the daemon has been running. The broker reads the clock
/// at least once a second, so a longer one means that the process was stopped, or got no processor. That time
/// is left out: nothing was read from any client in it, so it is no silence of theirs (rulings, "liveness").
const LONGEST_GAP: Duration = Duration::from_secs(2);

/// What such a time counts for: the usual time between two readings.
const USUAL_GAP: Duration = Duration::from_secs(1);

/// Time between two readings below which the last one is not updated: the tasks of all threads share it.
const RESOLUTION: u64 = 100_000_000;

/// Time since the daemon started, without the times in which it did not run. Never goes back.
pub(crate) struct Clock {
    started: Instant,
    /// Time of the last reading, left-out times included, in nanoseconds since `started`.
    last: AtomicU64,
    /// Time that is left out, in nanoseconds.
    left_out: AtomicU64,
}

impl Clock {
    /// Creates a clock that starts now.
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> Duration {
        self.read(self.started.elapsed())
    }

    /// Returns the time when the system's clock has advanced by `elapsed` since the start.
    fn read(&self, elapsed: Duration) -> Duration {
        let elapsed = nanos(elapsed);
        if elapsed.saturating_sub(self.last.load(Ordering::Relaxed)) > RESOLUTION {
            let last = self.last.fetch_max(elapsed, Ordering::Relaxed);
            let gap = elapsed.saturating_sub(last);
            if gap > nanos(LONGEST_GAP) {
                self.left_out
                    .fetch_add(gap - nanos(USUAL_GAP), Ordering::Relaxed);
            }
        }
        Duration::from_nanos(elapsed.saturating_sub(self.left_out.load(Ordering::Relaxed)))
    }
}

/// Returns a time in nanoseconds; 64 bits are 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_daemon_did_not_run_is_left_out() {
        let clock = Clock::new();
        let ms = Duration::from_millis;
        // The times of readings, and what the clock shows: it was stopped for an hour, and once more.
        for (elapsed, shown) in [
            (500, 500),
            (1_500, 1_500),
            (3_500, 3_500),
            (3_603_500, 4_500),
            (3_603_550, 4_550),
            (3_604_500, 5_500),
            (3_614_500, 6_500),
        ] {
            assert_eq!(clock.read(ms(elapsed)), ms(shown), "at {elapsed} ms");
        }
    }
}
