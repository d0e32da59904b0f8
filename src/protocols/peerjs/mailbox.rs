//! Messages for clients that are not there, within bounds, until they come or the message expires.

use crate::base::frame::Frame;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What a stored message costs besides its octets and names, if it is the only one of its source and
/// for its destination: places in a queue and in three maps, and what the allocator adds.
pub(super) const MESSAGE_OVERHEAD: usize = 768;

/// What a message costs. Its destination is the key of two maps.
fn cost(source: &str, dst: &str, frame: &Frame) -> usize {
    frame.len() + source.len() + 2 * dst.len() + MESSAGE_OVERHEAD
}

/// How much is kept; 0: no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Messages for one destination.
    pub(super) per_destination: usize,
    /// Messages of one source.
    pub(super) per_source: usize,
    /// Bytes of one source.
    pub(super) source_bytes: usize,
    /// Bytes of all.
    pub(super) bytes: usize,
}

/// Whether so much is within a limit.
fn is_within(amount: usize, limit: usize) -> bool {
    limit == 0 || amount <= limit
}

struct StoredMessage {
    source: String,
    frame: Frame,
    stored_at: Duration,
}

/// What one source has stored.
#[derive(Default)]
struct SourceUsage {
    /// How many messages, by their destination.
    destinations: BTreeMap<String, usize>,
    messages: usize,
    bytes: usize,
}

/// The messages that wait for clients who are not there, and what each source has among them.
pub(super) struct Mailbox {
    limits: Limits,
    /// By destination, in the order in which they came.
    queues: BTreeMap<String, VecDeque<StoredMessage>>,
    usage_by_source: BTreeMap<String, SourceUsage>,
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

    /// Keeps a message, if there is room for it.
    #[must_use = "what is not kept has expired"]
    pub(super) fn push(&mut self, now: Duration, source: &str, dst: &str, frame: Frame) -> bool {
        let cost = cost(source, dst, &frame);
        let (messages, bytes) = self
            .usage_by_source
            .get(source)
            .map_or((0, 0), |usage| (usage.messages, usage.bytes));
        let waiting = self.queues.get(dst).map_or(0, VecDeque::len);
        let Limits {
            per_destination,
            per_source,
            source_bytes,
            bytes: all_bytes,
        } = self.limits;
        if !(is_within(waiting + 1, per_destination)
            && is_within(messages + 1, per_source)
            && is_within(bytes + cost, source_bytes)
            && is_within(self.bytes + cost, all_bytes))
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

    /// Takes out what is stored for a client that has come, in the order in which it came.
    pub(super) fn take(&mut self, dst: &str) -> Vec<Frame> {
        let queue = self.queues.remove(dst).unwrap_or_default();
        let frame = |stored: StoredMessage| {
            self.release(dst, &stored);
            stored.frame
        };
        queue.into_iter().map(frame).collect()
    }

    /// Takes out what came at `until` or earlier: each pair of source and destination once.
    pub(super) fn expire(&mut self, until: Duration) -> Vec<(String, String)> {
        let mut expired = Vec::new();
        let mut queues = std::mem::take(&mut self.queues);
        queues.retain(|dst, queue| {
            let mut sources = BTreeSet::new();
            while queue.front().is_some_and(|first| first.stored_at <= until) {
                if let Some(stored) = queue.pop_front() {
                    self.release(dst, &stored);
                    sources.insert(stored.source);
                }
            }
            expired.extend(sources.into_iter().map(|source| (source, dst.clone())));
            !queue.is_empty()
        });
        self.queues = queues;
        expired
    }

    /// Drops what a source has stored.
    pub(super) fn remove_source(&mut self, source: &str) {
        let Some(usage) = self.usage_by_source.remove(source) else {
            return;
        };
        self.bytes -= usage.bytes;
        for dst in usage.destinations.into_keys() {
            if let Some(queue) = self.queues.get_mut(&dst) {
                queue.retain(|stored| stored.source != source);
                if queue.is_empty() {
                    self.queues.remove(&dst);
                }
            }
        }
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of those are a source's.
    pub(super) fn bytes_of(&self, source: &str) -> usize {
        self.usage_by_source
            .get(source)
            .map_or(0, |usage| usage.bytes)
    }

    /// Gives back the room of a message that has been taken out of its queue.
    fn release(&mut self, dst: &str, stored: &StoredMessage) {
        let cost = cost(&stored.source, dst, &stored.frame);
        self.bytes -= cost;
        let usage = self.usage_by_source.get_mut(&stored.source);
        let usage = usage.expect("what is stored stands in its source's usage");
        usage.messages -= 1;
        usage.bytes -= cost;
        if let Some(count) = usage.destinations.get_mut(dst) {
            *count -= 1;
            if *count == 0 {
                usage.destinations.remove(dst);
            }
        }
        if usage.messages == 0 {
            self.usage_by_source.remove(&stored.source);
        }
    }

    /// Whether nothing is kept.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.usage_by_source.is_empty() && self.bytes == 0
    }

    /// For how many destinations a source is remembered to have something.
    #[cfg(test)]
    pub(super) fn destination_count(&self, source: &str) -> usize {
        self.usage_by_source
            .get(source)
            .map_or(0, |usage| usage.destinations.len())
    }
}
