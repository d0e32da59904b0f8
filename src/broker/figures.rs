//! What only the broker knows of each listener, published once a second for the status port.

use super::{Broker, DisconnectCounts, ListenerCounters};

impl Broker {
    /// Publishes the bytes in outboxes and the figures of the realms, and has each connection's traffic added to that
    /// of its listener. So whoever reads the figures need not ask the broker.
    pub(super) fn publish_figures(&self) {
        let mut outbox_bytes = vec![0; self.slots.len()];
        for connection in self.connections.values() {
            connection.status.traffic.report();
            if let Some(bytes) = outbox_bytes.get_mut(connection.listener_index) {
                *bytes += connection.outbox.queued_bytes();
            }
        }
        for (index, outbox_bytes) in outbox_bytes.into_iter().enumerate() {
            if let (Some(slot), Some(counters)) =
                (self.slots.get(index), self.slots.counters(index))
            {
                counters.publish(outbox_bytes, &slot.realm.figures());
            }
        }
    }

    /// Returns how many connections of all listeners have ended, those of removed ones included, by the names of the
    /// reasons.
    pub(super) fn disconnect_counts(&self) -> DisconnectCounts {
        let mut counts = self.ended_before.clone();
        let listeners = (0..self.slots.len()).filter_map(|index| self.slots.counters(index));
        listeners.for_each(|counters| add_ended(&mut counts, counters));
        counts
    }
}

/// Adds the ended connections of a listener.
pub(super) fn add_ended(counts: &mut DisconnectCounts, counters: &ListenerCounters) {
    for (ending, count) in counters.closed().filter(|(_, count)| *count > 0) {
        *counts.entry(ending.reason).or_default() += count;
    }
}
