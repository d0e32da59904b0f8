//! What is kept of those who went, for the case that they come back soon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many are remembered at the most; beyond it the one who went first is forgotten.
pub const REMEMBERED: usize = 10_000;

/// Something about each of those who went lately.
#[derive(Debug)]
pub struct Remembered<K, V> {
    gone: BTreeMap<K, (Duration, V)>,
    /// Who went when.
    order: BTreeSet<(Duration, K)>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            gone: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<K: Clone + Ord, V> Remembered<K, V> {
    /// Keeps something of somebody who goes at `now`. Who is forgotten for it is returned.
    #[must_use = "what belongs to whoever is forgotten may have to go, too"]
    pub fn remember(&mut self, now: Duration, key: K, value: V) -> Option<(K, V)> {
        self.come_back(&key);
        let forgotten = if self.gone.len() >= REMEMBERED {
            self.forget_first()
        } else {
            None
        };
        self.order.insert((now, key.clone()));
        self.gone.insert(key, (now, value));
        forgotten
    }

    /// What was kept of somebody who comes back; it is kept no longer.
    pub fn come_back(&mut self, key: &K) -> Option<V> {
        let (went, value) = self.gone.remove(key)?;
        self.order.remove(&(went, key.clone()));
        Some(value)
    }

    /// Whether somebody is remembered.
    pub fn knows(&self, key: &K) -> bool {
        self.gone.contains_key(key)
    }

    /// What is kept of somebody.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.gone.get_mut(key).map(|(_, value)| value)
    }

    /// Forgets one of those who went `span` ago or earlier. To be called until there is none.
    pub fn forget(&mut self, now: Duration, span: Duration) -> Option<(K, V)> {
        let (went, _) = self.order.first()?;
        if *went + span > now {
            return None;
        }
        self.forget_first()
    }

    fn forget_first(&mut self) -> Option<(K, V)> {
        let (_, key) = self.order.pop_first()?;
        self.gone.remove(&key).map(|(_, value)| (key, value))
    }

    /// Whether nothing is kept at all.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.order.is_empty()
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
        let mut gone = Remembered::default();
        assert_eq!(gone.remember(s(0), "a", 1), None);
        assert_eq!(gone.forget(s(59), SPAN), None);
        assert!(gone.knows(&"a"));
        assert_eq!(gone.come_back(&"a"), Some(1));
        assert_eq!(gone.come_back(&"a"), None);
    }

    #[test]
    fn who_does_not_is_forgotten_once_and_leaves_nothing() {
        let mut gone = Remembered::default();
        assert_eq!(gone.remember(s(0), "a", 1), None);
        assert_eq!(gone.remember(s(1), "b", 2), None);
        assert_eq!(gone.forget(s(60), SPAN), Some(("a", 1)));
        assert_eq!(gone.forget(s(60), SPAN), None);
        assert_eq!(gone.forget(s(61), SPAN), Some(("b", 2)));
        assert!(gone.is_empty());
    }

    #[test]
    fn going_again_counts_from_then() {
        let mut gone = Remembered::default();
        assert_eq!(gone.remember(s(0), "a", 1), None);
        assert_eq!(gone.come_back(&"a"), Some(1));
        assert_eq!(gone.remember(s(30), "a", 2), None);
        assert_eq!(gone.forget(s(60), SPAN), None);
        assert_eq!(gone.forget(s(90), SPAN), Some(("a", 2)));
        assert!(gone.is_empty());
    }

    #[test]
    fn one_who_comes_and_goes_counts_once() {
        let mut gone = Remembered::default();
        assert_eq!(gone.remember(s(0), "other", 0), None);
        for second in 0..2 * REMEMBERED as u64 {
            assert_eq!(gone.remember(s(second), "a", 1), None);
            assert_eq!(gone.come_back(&"a"), Some(1));
        }
        assert_eq!(gone.order.len(), 1);
        assert!(gone.knows(&"other"));
    }

    #[test]
    fn beyond_the_limit_who_went_first_is_forgotten() {
        let mut gone = Remembered::default();
        for key in 0..REMEMBERED {
            assert_eq!(gone.remember(s(0), key, ()), None);
        }
        assert_eq!(gone.remember(s(0), REMEMBERED, ()), Some((0, ())));
    }
}
