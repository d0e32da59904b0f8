//! What is kept of those who went, for the case that they come back soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many are remembered at the most; beyond it the one who went first is forgotten.
pub const MAX_RECENTLY_GONE: usize = 10_000;

/// Something about each of those who went lately.
#[derive(Debug)]
pub struct RecentlyGone<K, V> {
    entries: BTreeMap<K, (Duration, V)>,
    /// Who went when.
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
    /// Keeps something of somebody who goes at `now`. Who is forgotten for it is returned.
    #[must_use = "what belongs to whoever is forgotten may have to go, too"]
    pub fn insert(&mut self, now: Duration, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let forgotten = if self.entries.len() >= MAX_RECENTLY_GONE {
            self.pop_oldest()
        } else {
            None
        };
        self.order.insert((now, key.clone()));
        self.entries.insert(key, (now, value));
        forgotten
    }

    /// What was kept of somebody who comes back; it is kept no longer.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (went, value) = self.entries.remove(key)?;
        self.order.remove(&(went, key.clone()));
        Some(value)
    }

    /// Whether somebody is remembered.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// What is kept of somebody.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Forgets one of those who went `span` ago or earlier. To be called until there is none.
    pub fn pop_expired(&mut self, now: Duration, span: Duration) -> Option<(K, V)> {
        let (went, _) = self.order.first()?;
        if *went + span > now {
            return None;
        }
        self.pop_oldest()
    }

    fn pop_oldest(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(_, value)| (key, value))
    }

    /// Whether nothing is kept at all.
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
    fn who_comes_back_in_time_finds_what_was_kept() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.pop_expired(s(59), SPAN), None);
        assert!(entries.contains(&"a"));
        assert_eq!(entries.remove(&"a"), Some(1));
        assert_eq!(entries.remove(&"a"), None);
    }

    #[test]
    fn who_does_not_is_forgotten_once_and_leaves_nothing() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.insert(s(1), "b", 2), None);
        assert_eq!(entries.pop_expired(s(60), SPAN), Some(("a", 1)));
        assert_eq!(entries.pop_expired(s(60), SPAN), None);
        assert_eq!(entries.pop_expired(s(61), SPAN), Some(("b", 2)));
        assert!(entries.is_empty());
    }

    #[test]
    fn going_again_counts_from_then() {
        let mut entries = RecentlyGone::default();
        assert_eq!(entries.insert(s(0), "a", 1), None);
        assert_eq!(entries.remove(&"a"), Some(1));
        assert_eq!(entries.insert(s(30), "a", 2), None);
        assert_eq!(entries.pop_expired(s(60), SPAN), None);
        assert_eq!(entries.pop_expired(s(90), SPAN), Some(("a", 2)));
        assert!(entries.is_empty());
    }

    #[test]
    fn one_who_comes_and_goes_counts_once() {
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
    fn beyond_the_limit_who_went_first_is_forgotten() {
        let mut entries = RecentlyGone::default();
        for key in 0..MAX_RECENTLY_GONE {
            assert_eq!(entries.insert(s(0), key, ()), None);
        }
        assert_eq!(entries.insert(s(0), MAX_RECENTLY_GONE, ()), Some((0, ())));
    }
}
