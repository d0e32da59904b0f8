//! The time of the broker's batches.

use std::time::{Duration, Instant};

/// Time after which the broker yields even if the units of work are fewer: some cost more than most. Longer
/// than a batch that is interrupted by other programs, which would otherwise be cut into small ones.
pub(super) const TIME_PER_BATCH: Duration = Duration::from_millis(10);

/// The time that a batch has taken so far.
pub(super) struct BatchTime {
    start: Instant,
    pub(super) spent: Duration,
}

impl BatchTime {
    pub(super) fn start() -> Self {
        Self {
            start: Instant::now(),
            spent: Duration::ZERO,
        }
    }

    /// Reads the clock, and returns the time since it was read before.
    pub(super) fn lap(&mut self) -> Duration {
        let before = std::mem::replace(&mut self.spent, self.start.elapsed());
        self.spent.saturating_sub(before)
    }

    /// Returns whether the broker is to yield.
    pub(super) fn is_over(&self) -> bool {
        self.spent >= TIME_PER_BATCH
    }
}
