//! The broker's sign of life, which others may look at without asking it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Time within which a broker that works has handled a second.
const PATIENCE: Duration = Duration::from_secs(1);

/// Written by the broker once a second, read by the status port and by the thread that notifies systemd.
pub(crate) struct Pulse {
    started: Instant,
    /// Seconds that were sent to the broker.
    sent: AtomicU64,
    /// Time at which the last one was, in milliseconds since `started`.
    sent_at: AtomicU64,
    /// Seconds that the broker has handled.
    ticks: AtomicU64,
    /// Number of connections at the last one.
    connections: AtomicUsize,
}

impl Pulse {
    /// Creates the pulse of a broker that starts now.
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            sent: AtomicU64::new(0),
            sent_at: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        }
    }

    /// Records that a second is sent to the broker.
    pub(crate) fn record_sent(&self) {
        let sent_at = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sent_at.store(sent_at, Ordering::Relaxed);
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that the broker has handled another second.
    pub(super) fn record(&self, connections: usize) {
        self.connections.store(connections, Ordering::Relaxed);
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of seconds that the broker has handled. A broker that hangs adds none.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Returns the number of connections at the last of them.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns whether the broker has handled all seconds that were sent to it, but for one that was sent within the
    /// last second.
    pub(crate) fn is_alive(&self) -> bool {
        let sent_at = Duration::from_millis(self.sent_at.load(Ordering::Relaxed));
        self.ticks() >= self.sent.load(Ordering::Relaxed)
            || self.started.elapsed().saturating_sub(sent_at) <= PATIENCE
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
        pulse.record(0);
        assert!(pulse.is_alive());
        pulse.record_sent();
        assert!(pulse.is_alive());
    }
}
