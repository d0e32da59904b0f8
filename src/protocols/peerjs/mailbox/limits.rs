//! What happens at the limits of the mailbox: whose messages, and whose notes, make place for others.
//!
//! Sources are summed by address, so that one machine with many ids counts as one. What has most makes place,
//! its newest first; a newcomer that would itself have most is the one refused. So a stranger that sends much
//! does not shut out others, and cannot push out what they have stored.

use super::{Id, MAX_NOTES, Mailbox, NOTE_OVERHEAD, Source, is_within};
use crate::base::ip::SubnetKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A message that makes place: its destination and its position.
type Victim = (Id, u64);

/// Returns the bytes that a note is charged for. Maps share its ids.
fn note_cost(source: &str, dst: &str) -> usize {
    source.len() + dst.len() + NOTE_OVERHEAD
}

impl Mailbox {
    /// Makes place for a message of `cost` bytes, at the expense of what has most. Returns whether there is
    /// place now; if not, nothing was removed.
    pub(super) fn make_place(&mut self, source: Source<'_>, dst: &str, cost: usize) -> bool {
        let Some(victims) = self.plan(source, dst, cost) else {
            return false;
        };
        for (dst, seq) in victims {
            self.evict(&dst, seq);
        }
        true
    }

    /// Removes messages until `bytes` are freed or none is left, each time the newest of the address that has most
    /// stored. Each pair still gets its EXPIRE in due time. Returns the bytes that were freed.
    pub(in crate::protocols::peerjs) fn shed(&mut self, bytes: usize) -> usize {
        let before = self.bytes();
        while before.saturating_sub(self.bytes()) < bytes {
            let Some((_, largest)) = self.shares.descending().next() else {
                break;
            };
            let mut messages = self.by_address.range((largest, 0)..=(largest, u64::MAX));
            let Some((&(_, seq), dst)) = messages.next_back() else {
                break;
            };
            let dst = Arc::clone(dst);
            self.evict(&dst, seq);
        }
        before.saturating_sub(self.bytes())
    }

    /// Removes a message. If it was the last of its pair, the pair becomes a note, so that its EXPIRE is still sent.
    fn evict(&mut self, dst: &str, seq: u64) {
        let Some(message) = self.remove_message(dst, seq) else {
            return;
        };
        let pair = self.pair(&message.source, dst);
        if pair.is_some_and(|pair| pair.stored.is_empty()) {
            self.add_note(&message.source, dst);
        }
    }

    /// Returns the messages that must make place for one of `cost` bytes; `None` if it does not fit.
    fn plan(&self, source: Source<'_>, dst: &str, cost: usize) -> Option<Vec<Victim>> {
        let limits = self.limits;
        let (messages, bytes) = self
            .sources
            .get(source.id)
            .map_or((0, 0), |usage| (usage.messages, usage.bytes));
        let is_within_limits_of_source = is_within(messages + 1, limits.per_source)
            && is_within(bytes + cost, limits.source_bytes);
        if !is_within_limits_of_source {
            return None;
        }
        let at_destination = self.plan_at_destination(source.address, dst)?;
        let mut victims: Vec<Victim> = Vec::new();
        let mut taken = BTreeMap::new();
        let mut freed = 0;
        if let Some((address, seq, bytes)) = at_destination {
            victims.push((Arc::from(dst), seq));
            taken.insert(address, (bytes, u64::MAX));
            freed = bytes;
        }
        let own = self.shares.of(source.address) + cost;
        while !is_within(self.bytes + cost - freed, limits.bytes) {
            let (left, address) = self.largest(&taken)?;
            if own >= left {
                return None;
            }
            let (bytes, before) = taken.entry(address).or_insert((0, u64::MAX));
            let mut older = self.by_address.range((address, 0)..(address, *before));
            let (&(_, seq), key) = older.next_back()?;
            *before = seq;
            if victims.first().is_some_and(|(_, first)| *first == seq) {
                continue;
            }
            let message = self.message(key, seq)?;
            *bytes += message;
            freed += message;
            victims.push((Arc::clone(key), seq));
        }
        Some(victims)
    }

    /// Returns the message that must make place at a full destination, with its address and bytes; `None` in
    /// it if none must, and `None` if the newcomer is refused.
    #[allow(clippy::option_option, reason = "the outer one is for `?`")]
    fn plan_at_destination(
        &self,
        address: SubnetKey,
        dst: &str,
    ) -> Option<Option<(SubnetKey, u64, usize)>> {
        let Some(destination) = self.destinations.get(dst) else {
            return Some(None);
        };
        if is_within(destination.messages.len() + 1, self.limits.per_destination) {
            return Some(None);
        }
        let counts = destination.by_address.iter();
        let (largest, count) = counts.max_by_key(|(address, count)| (*count, *address))?;
        if destination.count_of(address) + 1 >= *count {
            return None;
        }
        let mut newest_first = destination.messages.iter().rev();
        let newest = newest_first.find(|message| message.address == *largest)?;
        Some(Some((*largest, newest.seq, newest.cost)))
    }

    /// Returns the address that has most when what is taken from each is subtracted, and how much it has.
    fn largest(&self, taken: &BTreeMap<SubnetKey, (usize, u64)>) -> Option<(usize, SubnetKey)> {
        let mut untouched = self.shares.descending();
        let untouched = untouched.find(|(_, address)| !taken.contains_key(address));
        let left =
            |(&address, &(bytes, _))| (self.shares.of(address).saturating_sub(bytes), address);
        taken.iter().map(left).chain(untouched).max()
    }

    /// Returns the cost of a stored message.
    fn message(&self, dst: &str, seq: u64) -> Option<usize> {
        let messages = &self.destinations.get(dst)?.messages;
        let index = messages.binary_search_by_key(&seq, |it| it.seq).ok()?;
        messages.get(index).map(|message| message.cost)
    }

    /// Makes a pair without stored messages a note. At the limit the newest of the address that has most makes
    /// place: its source gets no EXPIRE, or a second one. If that is this one, it is forgotten.
    pub(super) fn add_note(&mut self, source: &str, dst: &str) {
        let pair = self.pair(source, dst);
        let Some(address) = pair.filter(|it| it.note.is_none()).map(|it| it.address) else {
            return;
        };
        if self.notes.len() >= MAX_NOTES {
            let largest = self.note_shares.descending().next();
            let Some((_, largest)) =
                largest.filter(|&(count, _)| self.note_shares.of(address) + 1 < count)
            else {
                return self.remove_pair(source, dst);
            };
            let newest = self
                .notes
                .range((largest, 0)..=(largest, u64::MAX))
                .next_back();
            if let Some((_, (source, dst))) = newest {
                let (source, dst) = (Arc::clone(source), Arc::clone(dst));
                self.remove_pair(&source, &dst);
            }
        }
        self.count += 1;
        let number = self.count;
        let Some((id, _)) = self.sources.get_key_value(source) else {
            return;
        };
        let id = Arc::clone(id);
        let Some(usage) = self.sources.get_mut(source) else {
            return;
        };
        let Some(key) = usage
            .pairs
            .get_key_value(dst)
            .map(|(key, _)| Arc::clone(key))
        else {
            return;
        };
        if let Some(pair) = usage.pairs.get_mut(dst) {
            pair.note = Some(number);
        }
        usage.note_bytes += note_cost(source, dst);
        self.note_bytes += note_cost(source, dst);
        self.note_shares.add(address, 1);
        self.notes.insert((address, number), (id, key));
    }

    /// Makes a pair no note any more.
    pub(super) fn remove_note(&mut self, source: &str, dst: &str) {
        let Some(pair) = self.pair_mut(source, dst) else {
            return;
        };
        let (note, address) = (pair.note.take(), pair.address);
        let Some(number) = note else {
            return;
        };
        if let Some(usage) = self.sources.get_mut(source) {
            usage.note_bytes -= note_cost(source, dst);
        }
        self.note_bytes -= note_cost(source, dst);
        self.note_shares.subtract(address, 1);
        self.notes.remove(&(address, number));
    }

    /// Returns whether neither messages nor pairs nor accounts of them are left.
    #[cfg(any(test, fuzzing))]
    pub(in crate::protocols::peerjs) fn is_empty(&self) -> bool {
        self.destinations.is_empty()
            && self.sources.is_empty()
            && self.due.is_empty()
            && self.by_address.is_empty()
            && self.notes.is_empty()
            && self.shares.is_empty()
            && self.note_shares.is_empty()
            && self.bytes() == 0
    }
}
