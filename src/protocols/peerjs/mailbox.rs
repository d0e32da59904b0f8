//! Messages for clients that are not connected, stored until their destination connects or they expire, and
//! the EXPIRE that a source gets for a pair of source and destination.
//!
//! An application takes an EXPIRE as the failure of its call, and calls again. So each call gets at most one,
//! not sooner than the usual time, and none that is untrue: the state of a pair ([`Pair`]) decides. The
//! mailbox is bounded ([`Limits`]); [`Mailbox::make_place`] decides whose messages make place for others.

mod limits;

use super::messages::MAX_ID_BYTES;
use super::shares::Shares;
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::base::spare::FreeSpare;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that a stored message is charged for in addition to its frame and ids: its entries in queues and
/// maps, with the allocator's share. It is measured for a message that is the only one of its address, of its
/// source and for its destination, which is the worst case.
pub(super) const MESSAGE_OVERHEAD: usize = 2688;

/// Bytes that a pair without messages is charged for in addition to its ids, measured in the same way.
const NOTE_OVERHEAD: usize = 2048;

/// Maximum number of pairs without stored messages: those whose EXPIRE is due for messages that did not fit,
/// and those that had theirs a moment ago. A client has one of them for each id that it calls in vain. At the
/// limit one of the address that has most makes place.
pub(super) const MAX_NOTES: usize = 4096;

/// The id of a client. Maps share it.
type Id = Arc<str>;

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
    /// Time for which a message is stored, and for which a pair is quiet after its EXPIRE; at least a second.
    pub(super) expire_timeout: Duration,
}

/// Returns whether an amount is within a limit.
fn is_within(amount: usize, limit: usize) -> bool {
    limit == 0 || amount <= limit
}

/// The client that sends a message.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) id: &'a str,
    pub(super) address: SubnetKey,
}

/// A message that was sent while its destination was absent, or took no more.
pub(super) struct Undelivered<'a> {
    pub(super) source: Source<'a>,
    pub(super) dst: &'a str,
    pub(super) frame: Frame,
    /// Whether it is an OFFER, which begins a call.
    pub(super) begins_call: bool,
}

struct StoredMessage {
    /// Position among all messages that were ever stored.
    seq: u64,
    source: Id,
    address: SubnetKey,
    frame: Frame,
    /// Bytes that it is charged for.
    cost: usize,
}

/// The stage of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its EXPIRE will be sent: messages are stored, or did not fit.
    Waiting,
    /// Its EXPIRE was sent a moment ago: what belongs to the failed call is dropped.
    Quiet,
}

/// A source and a destination. It exists while messages are stored or an EXPIRE is due, and for a moment
/// after the EXPIRE.
struct Pair {
    stage: Stage,
    /// Time at which the stage ends.
    due: Duration,
    /// Address of the source when the pair began.
    address: SubnetKey,
    /// Its stored messages, oldest first.
    stored: Vec<u64>,
    /// Its position among the notes, the pairs without stored messages.
    note: Option<u64>,
}

/// What is stored of one source.
#[derive(Default)]
struct SourceUsage {
    /// Its pairs by destination; never empty.
    pairs: BTreeMap<Id, Pair>,
    messages: usize,
    bytes: usize,
    note_bytes: usize,
}

/// What is stored for one destination.
#[derive(Default)]
struct Destination {
    /// Oldest first.
    messages: VecDeque<StoredMessage>,
    /// Number of its messages by address of the source; none is 0.
    by_address: Vec<(SubnetKey, usize)>,
    /// The sources of all pairs with it; never empty.
    sources: BTreeSet<Id>,
}

impl Destination {
    fn count_of(&self, address: SubnetKey) -> usize {
        let mut counts = self.by_address.iter();
        let count = counts.find(|(other, _)| *other == address);
        count.map_or(0, |(_, count)| *count)
    }

    /// Adds 1 to the number of messages of an address.
    fn count(&mut self, address: SubnetKey) {
        match self.by_address.iter_mut().find(|(key, _)| *key == address) {
            Some((_, count)) => *count += 1,
            None => self.by_address.push((address, 1)),
        }
    }

    /// Removes a message.
    fn remove(&mut self, seq: u64) -> Option<StoredMessage> {
        let index = self.messages.binary_search_by_key(&seq, |it| it.seq).ok()?;
        let message = self.messages.remove(index)?;
        let mut counts = self.by_address.iter_mut().enumerate();
        if let Some((index, (_, count))) = counts.find(|(_, (key, _))| *key == message.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.swap_remove(index);
            }
        }
        Some(message)
    }
}

/// Stored messages, and the pairs whose EXPIRE is due or was sent a moment ago.
pub(super) struct Mailbox {
    limits: Limits,
    destinations: BTreeMap<Id, Destination>,
    sources: BTreeMap<Id, SourceUsage>,
    /// All pairs, in the order in which their stages end: time, source, destination.
    due: BTreeSet<(Duration, Id, Id)>,
    /// Sum of the costs of all messages.
    bytes: usize,
    /// Bytes by address of the source.
    shares: Shares,
    /// The destination of each message, by address of its source and in the order of storing.
    by_address: BTreeMap<(SubnetKey, u64), Id>,
    /// Number of notes by address of the source.
    note_shares: Shares,
    /// Source and destination of each note, by address of the source and in the order of noting.
    notes: BTreeMap<(SubnetKey, u64), (Id, Id)>,
    note_bytes: usize,
    /// Number of messages and notes so far.
    count: u64,
}

impl Mailbox {
    /// Changes the limits. What is stored stays until its time is over, also above them.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            destinations: BTreeMap::new(),
            sources: BTreeMap::new(),
            due: BTreeSet::new(),
            bytes: 0,
            shares: Shares::default(),
            by_address: BTreeMap::new(),
            note_shares: Shares::default(),
            notes: BTreeMap::new(),
            note_bytes: 0,
            count: 0,
        }
    }

    /// Stores a message for a client that is not connected, behind those that are there. If it does not fit,
    /// the pair gets its EXPIRE in due time; if the pair had it a moment ago, the message is dropped.
    pub(super) fn push(&mut self, now: Duration, message: Undelivered<'_>) {
        if self.is_dropped(now, &message) {
            return;
        }
        let Undelivered { source, dst, .. } = message;
        let cost = message.frame.len() + source.id.len() + 2 * dst.len() + MESSAGE_OVERHEAD;
        // No client can have an id above the limit.
        if dst.len() > MAX_ID_BYTES || !self.make_place(source, dst, cost) {
            return self.refuse(now, message);
        }
        let due = now + self.limits.expire_timeout;
        let has_stored = self
            .pair(source.id, dst)
            .is_some_and(|pair| !pair.stored.is_empty());
        let (id, dst) = self.enter(source, dst, |pair| {
            pair.stage = Stage::Waiting;
            if !has_stored {
                pair.due = due;
            }
        });
        self.remove_note(&id, &dst);
        self.count += 1;
        let (seq, address) = (self.count, source.address);
        self.bytes += cost;
        self.shares.add(address, cost);
        self.by_address.insert((address, seq), Arc::clone(&dst));
        if let Some(usage) = self.sources.get_mut(&id) {
            usage.messages += 1;
            usage.bytes += cost;
            if let Some(pair) = usage.pairs.get_mut(&dst) {
                pair.stored.push(seq);
            }
        }
        if let Some(destination) = self.destinations.get_mut(&dst) {
            destination.count(address);
            destination.messages.push_back(StoredMessage {
                seq,
                source: id,
                address,
                frame: message.frame,
                cost,
            });
        }
    }

    /// Notes that a message was neither delivered nor stored: the pair gets its EXPIRE in due time, unless one
    /// is due anyway or was sent a moment ago.
    pub(super) fn refuse(&mut self, now: Duration, message: Undelivered<'_>) {
        let is_waiting = self
            .pair(message.source.id, message.dst)
            .is_some_and(|pair| pair.stage == Stage::Waiting);
        if is_waiting || self.is_dropped(now, &message) {
            return;
        }
        let due = now + self.limits.expire_timeout;
        let (id, dst) = self.enter(message.source, message.dst, |pair| {
            pair.stage = Stage::Waiting;
            pair.due = due;
        });
        self.add_note(&id, &dst);
    }

    /// Forgets a pair whose destination has just taken a message: an EXPIRE would be untrue.
    pub(super) fn delivered(&mut self, source: &str, dst: &str) {
        // Almost always there is none, and each relayed message asks.
        if self.pair(source, dst).is_some() {
            self.remove_pair(source, dst);
        }
    }

    /// Removes and returns the messages for a destination that has connected, oldest first. No source gets
    /// an EXPIRE for it.
    pub(super) fn take(&mut self, dst: &str) -> Vec<Frame> {
        let Some(destination) = self.destinations.get_mut(dst) else {
            return Vec::new();
        };
        let sources = std::mem::take(&mut destination.sources);
        let messages = std::mem::take(&mut destination.messages);
        for message in &messages {
            self.release(dst, message);
        }
        for source in &sources {
            self.remove_pair(source, dst);
        }
        self.destinations.remove(dst);
        messages.into_iter().map(|message| message.frame).collect()
    }

    /// Ends the stages that are over. Returns the pairs whose source gets an EXPIRE; what was stored of
    /// them is removed.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<(Id, Id)> {
        let mut expired = Vec::new();
        while self.due.first().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, source, dst)) = self.due.pop_first() else {
                break;
            };
            let is_waiting = |pair: &&Pair| pair.stage == Stage::Waiting;
            let Some(pair) = self.pair(&source, &dst).filter(is_waiting) else {
                self.remove_pair(&source, &dst);
                continue;
            };
            for seq in pair.stored.clone() {
                self.remove_message(&dst, seq);
            }
            let until = now + self.limits.expire_timeout;
            if let Some(pair) = self.pair_mut(&source, &dst) {
                pair.stage = Stage::Quiet;
                pair.due = until;
                self.due
                    .insert((until, Arc::clone(&source), Arc::clone(&dst)));
                self.add_note(&source, &dst);
            }
            expired.push((source, dst));
        }
        expired
    }

    /// Removes everything of a source.
    pub(super) fn remove_source(&mut self, source: &str) {
        let Some(usage) = self.sources.get(source) else {
            return;
        };
        let pairs = usage.pairs.iter();
        let pairs: Vec<(Id, Vec<u64>)> = pairs
            .map(|(dst, pair)| (Arc::clone(dst), pair.stored.clone()))
            .collect();
        for (dst, stored) in pairs {
            for seq in stored {
                self.remove_message(&dst, seq);
            }
            self.remove_pair(source, &dst);
        }
    }

    /// Returns the number of stored messages.
    pub(super) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Returns the bytes of all messages and notes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.note_bytes
    }

    /// Returns the bytes of the messages and notes of a source.
    pub(super) fn bytes_of(&self, source: &str) -> usize {
        let usage = self.sources.get(source);
        usage.map_or(0, |usage| usage.bytes + usage.note_bytes)
    }

    fn pair(&self, source: &str, dst: &str) -> Option<&Pair> {
        self.sources.get(source)?.pairs.get(dst)
    }

    fn pair_mut(&mut self, source: &str, dst: &str) -> Option<&mut Pair> {
        self.sources.get_mut(source)?.pairs.get_mut(dst)
    }

    /// Returns whether a message belongs to a call that has failed: the source had its EXPIRE a moment ago.
    fn is_dropped(&self, now: Duration, message: &Undelivered<'_>) -> bool {
        let pair = self.pair(message.source.id, message.dst);
        let is_quiet = |pair: &Pair| pair.stage == Stage::Quiet && now < pair.due;
        !message.begins_call && pair.is_some_and(is_quiet)
    }

    /// Applies a change to a pair, which is created if there is none. Returns its ids.
    fn enter(&mut self, source: Source<'_>, dst: &str, change: impl FnOnce(&mut Pair)) -> (Id, Id) {
        let known = |id: Option<&Id>, text: &str| id.map_or_else(|| Arc::from(text), Arc::clone);
        let id = self.sources.get_key_value(source.id).map(|(id, _)| id);
        let id: Id = known(id, source.id);
        let key = self.destinations.get_key_value(dst).map(|(key, _)| key);
        let dst: Id = known(key, dst);
        let usage = self.sources.entry(Arc::clone(&id)).or_default();
        let pair = usage.pairs.entry(Arc::clone(&dst)).or_insert_with(|| Pair {
            stage: Stage::Waiting,
            due: Duration::ZERO,
            address: source.address,
            stored: Vec::new(),
            note: None,
        });
        let before = pair.due;
        change(pair);
        let due = pair.due;
        self.due
            .remove(&(before, Arc::clone(&id), Arc::clone(&dst)));
        self.due.insert((due, Arc::clone(&id), Arc::clone(&dst)));
        let destination = self.destinations.entry(Arc::clone(&dst)).or_default();
        destination.sources.insert(Arc::clone(&id));
        (id, dst)
    }

    /// Removes a pair without stored messages.
    fn remove_pair(&mut self, source: &str, dst: &str) {
        self.remove_note(source, dst);
        let Some(usage) = self.sources.get_mut(source) else {
            return;
        };
        let Some((dst, pair)) = usage.pairs.remove_entry(dst) else {
            return;
        };
        if usage.pairs.is_empty() {
            self.sources.remove(source);
        }
        self.due
            .remove(&(pair.due, Arc::from(source), Arc::clone(&dst)));
        if let Some(destination) = self.destinations.get_mut(&dst) {
            destination.sources.remove(source);
            if destination.sources.is_empty() && destination.messages.is_empty() {
                self.destinations.remove(&dst);
            }
        }
    }

    /// Removes a stored message. Its pair stays.
    fn remove_message(&mut self, dst: &str, seq: u64) -> Option<StoredMessage> {
        let message = self.destinations.get_mut(dst)?.remove(seq)?;
        self.release(dst, &message);
        Some(message)
    }

    /// Subtracts a message that was removed from its destination.
    fn release(&mut self, dst: &str, message: &StoredMessage) {
        self.bytes -= message.cost;
        self.shares.subtract(message.address, message.cost);
        self.by_address.remove(&(message.address, message.seq));
        if let Some(usage) = self.sources.get_mut(&message.source) {
            usage.messages -= 1;
            usage.bytes -= message.cost;
            if let Some(pair) = usage.pairs.get_mut(dst) {
                pair.stored.retain(|&seq| seq != message.seq);
            }
        }
    }
}

impl FreeSpare for Mailbox {
    fn free_spare(&mut self) {
        let Self {
            destinations,
            sources,
            due,
            shares,
            by_address,
            note_shares,
            notes,
            limits: _,
            bytes: _,
            note_bytes: _,
            count: _,
        } = self;
        destinations.free_spare();
        sources.free_spare();
        due.free_spare();
        shares.free_spare();
        by_address.free_spare();
        note_shares.free_spare();
        notes.free_spare();
    }
}
