//! The broker's signs of life, which others may look at without asking it.

use super::histogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time within which a broker that works has handled a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// Limits of the buckets of [`Pulse::batches`] in nanoseconds: from a single command to far more than
/// [`TIME_PER_BATCH`](super::batch_time::TIME_PER_BATCH).
const BATCH_LIMITS: &[u64] = &[
    10_000,
    100_000,
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    100_000_000,
    1_000_000_000,
];

/// Limits of the buckets of [`Pulse::lag`] in nanoseconds: what clients do not notice, up to what [`PATIENCE`] does not
/// bear.
const LAG_LIMITS: &[u64] = &[
    100_000,
    1_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
];

/// Written by the broker once a second, read by the status port and by the thread that notifies systemd.
pub(crate) struct Pulse {
    started: Instant,
    /// Seconds that were sent to the broker.
    sent: AtomicU64,
    /// Time at which the last one was, in nanoseconds since `started`; 64 bits are 584 years.
    sent_at: AtomicU64,
    /// Seconds that the broker has handled.
    ticks: AtomicU64,
    /// How long the broker's batches took.
    pub(crate) batches: Histogram,
    /// How long the seconds waited for the broker, as all events do.
    pub(crate) lag: Histogram,
}

impl Pulse {
    /// Creates the pulse of a broker that starts now.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            sent: AtomicU64::new(0),
            sent_at: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            batches: Histogram::new(BATCH_LIMITS),
            lag: Histogram::new(LAG_LIMITS),
        }
    }

    /// Records that a second is sent to the broker.
    pub(crate) fn record_sent(&self) {
        let sent_at = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.sent_at.store(sent_at, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the time since the last second was sent.
    fn since_sent(&self) -> Duration {
        let sent_at = Duration::from_nanos(self.sent_at.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(sent_at)
    }

    /// Records that the broker begins to handle the last second that was sent.
    pub(super) fn record_lag(&self) {
        self.lag.record(self.since_sent());
    }

    /// Records that the broker has handled another second.
    pub(super) fn record_tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of seconds that the broker has handled. A broker that hangs adds none.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Returns whether the broker has handled all seconds that were sent to it, but for one that was sent within the
    /// last second.
    pub(crate) fn is_alive(&self) -> bool {
        self.ticks() >= self.sent.load(Ordering::Relaxed) || self.since_sent() <= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_alive_while_it_handles_each_second_within_the_next() {
        let mut pulse = Pulse::new();
        assert!(pulse.is_alive(), "nothing was asked yet");
        pulse.record_sent();
        assert!(pulse.is_alive(), "it has a second");
        pulse.started -= 2 * PATIENCE;
        assert!(!pulse.is_alive());
        pulse.record_tick();
        assert!(pulse.is_alive());
        pulse.record_sent();
        assert!(pulse.is_alive());
    }
}
