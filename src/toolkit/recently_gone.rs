//! State of clients that disconnected recently, kept for the case that they reconnect soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Maximum number of entries; at the limit the oldest is dropped for a new one.
pub const MAX_RECENTLY_GONE: usize = 10_000;

/// A value of type `V` for each client (or user, or session) that disconnected recently.
#[derive(Debug)]
pub struct RecentlyGone<K, V> {
    entries: BTreeMap<K, (Duration, V)>,
    /// The keys ordered by the time of disconnection.
    order: BTreeSet<(Duration, K)>,
}

impl<K, V> Default for RecentlyGone<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Ord, V> RecentlyGone<K, V> {
    /// Inserts an entry for a client that disconnected at `now`. Returns the oldest entry if it was dropped.
    #[must_use = "state that belongs to the dropped entry may have to be removed, too"]
    pub fn insert(&mut self, now: Duration, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let dropped = if self.entries.len() >= MAX_RECENTLY_GONE {
            self.pop_oldest()
        } else {
            None
        };
        self.order.insert((now, key.clone()));
        self.entries.insert(key, (now, value));
        dropped
    }

    /// Removes and returns the entry of a client, for when it reconnects.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (gone_at, value) = self.entries.remove(key)?;
        self.order.remove(&(gone_at, key.clone()));
        Some(value)
    }

    /// Returns whether a client has an entry.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the time at which a client disconnected.
    pub fn gone_at(&self, key: &K) -> Option<Duration> {
        self.entries.get(key).map(|(gone_at, _)| *gone_at)
    }

    /// Returns the entry of a client.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Removes and returns the oldest entry if its client disconnected `span` ago or earlier. Call it until
    /// it returns `None`.
    pub fn pop_expired(&mut self, now: Duration, span: Duration) -> Option<(K, V)> {
        let (gone_at, _) = self.order.first()?;
        if *gone_at + span > now {
            return None;
        }
        self.pop_oldest()
    }

    fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(_, value)| (key, value))
    }

    /// Returns whether there is no entry.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
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
}
