//! Messages for clients that are not connected, stored within limits until their destination connects
//! or they expire.

use crate::base::frame::Frame;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Bytes that a stored message is charged for in addition to its frame and ids: its entries in a queue and
/// three maps, with the allocator's share. It is measured for a message that is the only one of its source
/// and for its destination, which is the worst case.
pub(super) const MESSAGE_OVERHEAD: usize = 768;

/// Returns the bytes that a message is charged for. Its destination counts twice, as a key of two maps.
fn cost(source: &str, dst: &str, frame: &Frame) -> usize {
    frame.len() + source.len() + 2 * dst.len() + MESSAGE_OVERHEAD
}

/// Limits of a [`Mailbox`]; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages for one destination.
    pub(super) per_destination: usize,
    /// Messages of one source.
    pub(super) per_source: usize,
    /// Bytes of one source.
    pub(super) source_bytes: usize,
    /// Bytes of all messages.
    pub(super) bytes: usize,
}

/// Returns whether an amount is within a limit.
fn is_within(amount: usize, limit: usize) -> bool {
    limit == 0 || amount <= limit
}

struct StoredMessage {
    source: String,
    frame: Frame,
    stored_at: Duration,
}

/// Stored messages of one source.
#[derive(Default)]
struct SourceUsage {
    /// Number of messages by destination; none is 0.
    destinations: BTreeMap<String, usize>,
    messages: usize,
    bytes: usize,
}

/// Messages for clients that are not connected, and the amount that each source has among them.
pub(super) struct Mailbox {
    limits: Limits,
    /// Messages by destination, oldest first; none is empty.
    queues: BTreeMap<String, VecDeque<StoredMessage>>,
    usage_by_source: BTreeMap<String, SourceUsage>,
    /// Sum of all [`cost`]s.
    bytes: usize,
}

impl Mailbox {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
            usage_by_source: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Stores a message for `dst` behind those that are there. Returns whether it is within the limits.
    #[must_use = "a message that is not stored has expired"]
    pub(super) fn push(&mut self, now: Duration, source: &str, dst: &str, frame: Frame) -> bool {
        let cost = cost(source, dst, &frame);
        let (messages, bytes) = self
            .usage_by_source
            .get(source)
            .map_or((0, 0), |usage| (usage.messages, usage.bytes));
        let queued = self.queues.get(dst).map_or(0, VecDeque::len);
        let limits = self.limits;
        if !(is_within(queued + 1, limits.per_destination)
            && is_within(messages + 1, limits.per_source)
            && is_within(bytes + cost, limits.source_bytes)
            && is_within(self.bytes + cost, limits.bytes))
        {
            return false;
        }
        let usage = self.usage_by_source.entry(source.to_owned()).or_default();
        usage.messages += 1;
        usage.bytes += cost;
        *usage.destinations.entry(dst.to_owned()).or_default() += 1;
        self.bytes += cost;
        let queue = self.queues.entry(dst.to_owned()).or_default();
        queue.push_back(StoredMessage {
            source: source.to_owned(),
            frame,
            stored_at: now,
        });
        true
    }

    /// Removes and returns the messages for a destination, oldest first.
    pub(super) fn take(&mut self, dst: &str) -> Vec<Frame> {
        let queue = self.queues.remove(dst).unwrap_or_default();
        let frame = |message: StoredMessage| {
            self.release(dst, &message);
            message.frame
        };
        queue.into_iter().map(frame).collect()
    }

    /// Removes the messages that were stored at `until` or earlier. Returns each of their pairs of source
    /// and destination once.
    pub(super) fn expire(&mut self, until: Duration) -> Vec<(String, String)> {
        let mut expired = Vec::new();
        let mut queues = std::mem::take(&mut self.queues);
        queues.retain(|dst, queue| {
            let mut sources = BTreeSet::new();
            while queue.front().is_some_and(|first| first.stored_at <= until) {
                if let Some(message) = queue.pop_front() {
                    self.release(dst, &message);
                    sources.insert(message.source);
                }
            }
            expired.extend(sources.into_iter().map(|source| (source, dst.clone())));
            !queue.is_empty()
        });
        self.queues = queues;
        expired
    }

    /// Removes the messages of a source.
    pub(super) fn remove_source(&mut self, source: &str) {
        let Some(usage) = self.usage_by_source.remove(source) else {
            return;
        };
        self.bytes -= usage.bytes;
        for dst in usage.destinations.into_keys() {
            if let Some(queue) = self.queues.get_mut(&dst) {
                queue.retain(|message| message.source != source);
                if queue.is_empty() {
                    self.queues.remove(&dst);
                }
            }
        }
    }

    /// Returns the bytes of all messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes of the messages of a source.
    pub(super) fn bytes_of(&self, source: &str) -> usize {
        self.usage_by_source
            .get(source)
            .map_or(0, |usage| usage.bytes)
    }

    /// Subtracts a message that was removed from its queue.
    fn release(&mut self, dst: &str, message: &StoredMessage) {
        let cost = cost(&message.source, dst, &message.frame);
        self.bytes -= cost;
        let usage = self.usage_by_source.get_mut(&message.source);
        let usage = usage.expect("the source of a stored message has an entry");
        usage.messages -= 1;
        usage.bytes -= cost;
        if let Some(count) = usage.destinations.get_mut(dst) {
            *count -= 1;
            if *count == 0 {
                usage.destinations.remove(dst);
            }
        }
        if usage.messages == 0 {
            self.usage_by_source.remove(&message.source);
        }
    }

    /// Returns whether neither messages nor accounts of them are left.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.usage_by_source.is_empty() && self.bytes == 0
    }

    /// Returns the number of destinations that a source has an account for.
    #[cfg(test)]
    pub(super) fn destination_count(&self, source: &str) -> usize {
        self.usage_by_source
            .get(source)
            .map_or(0, |usage| usage.destinations.len())
    }
}
