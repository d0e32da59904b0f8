//! The broker's sign of life, which others may look at without asking it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Written by the broker once a second, read by the thread that notifies systemd.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Seconds that the broker has handled.
    ticks: AtomicU64,
    /// Number of connections at the last one.
    connections: AtomicUsize,
}

impl Pulse {
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
}
