//! State of clients that disconnected recently, kept for the case that they reconnect soon.

use super::heap_bytes::HeapBytes;
use crate::base::spare::FreeSpare;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Maximum number of entries; at the limit the oldest is dropped for a new one.
pub const MAX_RECENTLY_GONE: usize = 10_000;

/// Maximum number of bytes of all entries. Enough for 5,000 users who lose their connections at the same time,
/// with six chats each; more is dropped, oldest first.
pub const MAX_RECENTLY_GONE_BYTES: usize = 6 << 20;

/// A value of type `V` for each client (or user, or session) that disconnected recently.
#[derive(Debug)]
pub struct RecentlyGone<K, V> {
    entries: BTreeMap<K, (Duration, V)>,
    /// The keys ordered by the time of disconnection.
    order: BTreeSet<(Duration, K)>,
    /// The sum of [`Self::cost`] of all entries.
    bytes: usize,
}

impl<K, V> Default for RecentlyGone<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
        }
    }
}

impl<K: Clone + Ord + HeapBytes, V: HeapBytes> RecentlyGone<K, V> {
    /// Memory of an entry besides what its key and its value allocate: its places in two trees, whose
    /// nodes are about two thirds full where keys are inserted in random order, and half full where in
    /// ascending order.
    const ENTRY_BYTES: usize =
        size_of::<(K, (Duration, V))>() * 3 / 2 + size_of::<(Duration, K)>() * 2;

    /// Returns the memory of an entry.
    fn cost(key: &K, value: &V) -> usize {
        Self::ENTRY_BYTES + 2 * key.heap_bytes() + value.heap_bytes()
    }

    /// Returns the memory of all entries, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Inserts an entry for a client that disconnected at `now`. Returns the oldest entry if it was dropped.
    #[must_use = "state that belongs to the dropped entry may have to be removed, too"]
    pub fn insert(&mut self, now: Duration, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let is_full =
            self.entries.len() >= MAX_RECENTLY_GONE || self.bytes >= MAX_RECENTLY_GONE_BYTES;
        let dropped = if is_full { self.pop_oldest() } else { None };
        // Clones have no spare capacity: so both keys cost the same, now and when they are removed.
        let place = (now, key.clone());
        let key = key.clone();
        self.bytes += Self::cost(&key, &value);
        self.order.insert(place);
        self.entries.insert(key, (now, value));
        dropped
    }

    /// Removes and returns the entry of a client, for when it reconnects.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (key, (gone_at, value)) = self.entries.remove_entry(key)?;
        self.bytes -= Self::cost(&key, &value);
        self.order.remove(&(gone_at, key));
        Some(value)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the values of all entries.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|(_, value)| value)
    }

    /// Returns whether a client has an entry.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the time at which a client disconnected.
    pub fn gone_at(&self, key: &K) -> Option<Duration> {
        self.entries.get(key).map(|(gone_at, _)| *gone_at)
    }

    /// Changes the value of a client that has an entry.
    pub fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (_, value) = self.entries.get_mut(key)?;
        let before = value.heap_bytes();
        let result = change(value);
        self.bytes = self.bytes - before + value.heap_bytes();
        Some(result)
    }

    /// Removes and returns the oldest entry if its client disconnected `span` ago or earlier, or if all
    /// entries are above [`MAX_RECENTLY_GONE_BYTES`]. Call it until it returns `None`.
    pub fn pop_expired(&mut self, now: Duration, span: Duration) -> Option<(K, V)> {
        let (gone_at, _) = self.order.first()?;
        if *gone_at + span > now && self.bytes <= MAX_RECENTLY_GONE_BYTES {
            return None;
        }
        self.pop_oldest()
    }

    /// Removes and returns the oldest entry.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        let (_, value) = self.entries.remove(&key)?;
        self.bytes -= Self::cost(&key, &value);
        Some((key, value))
    }

    /// Has `reduce` free memory of the values, oldest first, until `bytes` are freed. It returns whether
    /// anything is left that is worth keeping; an entry is removed otherwise. Returns the bytes freed.
    pub fn shed(&mut self, bytes: usize, mut reduce: impl FnMut(&mut V) -> bool) -> usize {
        let before = self.bytes;
        let mut removed = Vec::new();
        for place in &self.order {
            if before - self.bytes >= bytes {
                break;
            }
            let (_, key) = place;
            let Some((_, value)) = self.entries.get_mut(key) else {
                continue;
            };
            let value_before = value.heap_bytes();
            let keep = reduce(value);
            self.bytes = self.bytes - value_before + value.heap_bytes();
            if !keep {
                self.bytes -= Self::cost(key, value);
                removed.push(place.clone());
                self.entries.remove(key);
            }
        }
        for place in &removed {
            self.order.remove(place);
        }
        before - self.bytes
    }

    /// Returns whether there is no entry.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.order.is_empty() && self.bytes == 0
    }
}

impl<K, V> FreeSpare for RecentlyGone<K, V> {
    fn free_spare(&mut self) {
        let Self {
            entries,
            order,
            bytes: _,
        } = self;
        entries.free_spare();
        order.free_spare();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl HeapBytes for &str {}
    impl HeapBytes for i32 {}
    impl HeapBytes for usize {}
    impl HeapBytes for Vec<u8> {
        fn heap_bytes(&self) -> usize {
            self.capacity()
        }
    }

    const SPAN: Duration = Duration::from_secs(60);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_key_costs_the_same_when_it_is_removed_whatever_room_it_had() {
        let with_room = || {
            let mut key = String::with_capacity(1000);
            key.push('a');
            key
        };
        let mut entries = RecentlyGone::default();
        let _ = entries.insert(s(0), with_room(), 1);
        assert_eq!(entries.pop_oldest(), Some(("a".to_owned(), 1)));
        assert_eq!(entries.bytes(), 0);
        let _ = entries.insert(s(0), "a".to_owned(), 1);
        entries.remove(&with_room());
        assert_eq!(entries.bytes(), 0);
    }

    #[test]
    fn a_client_that_reconnects_in_time_finds_its_entry() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.pop_expired(s(59), SPAN), None);
        assert!(entries.contains(&"a"));
        assert_eq!(entries.remove(&"a"), Some(1));
        assert_eq!(entries.remove(&"a"), None);
    }

    #[test]
    fn an_expired_entry_is_returned_once_and_leaves_nothing() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.insert(s(1), "b", 2), None);
        assert_eq!(entries.pop_expired(s(60), SPAN), Some(("a", 1)));
        assert_eq!(entries.pop_expired(s(60), SPAN), None);
        assert_eq!(entries.pop_expired(s(61), SPAN), Some(("b", 2)));
        assert!(entries.is_empty());
    }

    #[test]
    fn a_second_disconnection_restarts_the_time() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.remove(&"a"), Some(1));
        assert_eq!(entries.insert(s(30), "a", 2), None);
        assert_eq!(entries.pop_expired(s(60), SPAN), None);
        assert_eq!(entries.pop_expired(s(90), SPAN), Some(("a", 2)));
        assert!(entries.is_empty());
    }

    #[test]
    fn a_client_that_reconnects_repeatedly_has_one_entry() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "other", 0), None);
        for second in 0..2 * MAX_RECENTLY_GONE as u64 {
            assert_eq!(entries.insert(s(second), "a", 1), None);
            assert_eq!(entries.remove(&"a"), Some(1));
        }
        assert_eq!(entries.order.len(), 1);
        assert!(entries.contains(&"other"));
    }

    #[test]
    fn the_oldest_entry_is_dropped_at_the_limit() {
        let mut entries = RecentlyGone::default();
        for key in 0..MAX_RECENTLY_GONE {
            assert_eq!(entries.insert(s(0), key, ()), None);
        }
        assert_eq!(entries.insert(s(0), MAX_RECENTLY_GONE, ()), Some((0, ())));
    }

    /// Entries of 1,000 bytes each, gone in this order.
    fn large_entries(count: usize) -> RecentlyGone<usize, Vec<u8>> {
        let mut entries = RecentlyGone::default();
        for key in 0..count {
            assert_eq!(entries.insert(s(key as u64), key, vec![0; 1000]), None);
        }
        entries
    }

    #[test]
    fn entries_are_bounded_by_their_bytes() {
        let mut entries = large_entries(5000);
        let cost = entries.bytes() / 5000;
        let mut key = 5000;
        while entries.bytes() < MAX_RECENTLY_GONE_BYTES {
            assert_eq!(entries.insert(s(5000), key, vec![0; 1000]), None);
            key += 1;
        }
        let dropped = entries.insert(s(5000), key, vec![0; 1000]);
        assert_eq!(dropped.unwrap().0, 0, "the oldest");
        // Those that are larger than the ones dropped for them go at the next tick.
        let _ = entries.insert(s(5000), key + 1, vec![0; 100_000]);
        while entries.pop_expired(s(5001), s(100_000)).is_some() {}
        assert!(entries.bytes() <= MAX_RECENTLY_GONE_BYTES);
        assert!(entries.bytes() > MAX_RECENTLY_GONE_BYTES - 2 * cost);
    }

    #[test]
    fn the_bytes_are_those_of_the_entries_that_are_left() {
        let mut entries = large_entries(10);
        let all = entries.bytes();
        assert!(all >= 10_000);
        entries.update(&3, |value| value.reserve_exact(500));
        entries.update(&3, |value| *value = Vec::new());
        assert_eq!(entries.bytes(), all - 1000);
        while entries.pop_expired(s(100), SPAN).is_some() {}
        assert_eq!(entries.bytes(), 0);
        assert!(entries.is_empty());
    }

    #[test]
    fn the_oldest_entries_are_shed_first_and_no_more_than_needed() {
        let mut entries = large_entries(10);
        let all = entries.bytes();
        let freed = entries.shed(1500, |value| {
            *value = Vec::new();
            false
        });
        assert_eq!(entries.bytes(), all - freed);
        let left: Vec<bool> = (0..4).map(|key| entries.contains(&key)).collect();
        assert_eq!(left, [false, false, true, true]);
        // A value may be kept without a part of it.
        assert_eq!(
            entries.shed(usize::MAX, |value| {
                *value = Vec::new();
                true
            }),
            8000
        );
        assert!(entries.contains(&2));
        while entries.pop_oldest().is_some() {}
        assert!(entries.is_empty());
    }
}
