//! Identities that are known to have a holder of a token, which clients without one cannot take.

use super::heap_bytes::HeapBytes;
use super::recently_gone::{MAX_RECENTLY_GONE_BYTES, RecentlyGone};
use crate::base::spare::FreeSpare;
use crate::realm::Access;
use std::time::Duration;

/// The identities that clients have proven with a token since the realm was created, connected or not: at most
/// [`MAX_RECENTLY_GONE`](super::recently_gone::MAX_RECENTLY_GONE), in at most [`MAX_RECENTLY_GONE_BYTES`]. At a limit those
/// that were proven longest ago are forgotten.
#[derive(Debug)]
pub struct Proven<K>(RecentlyGone<K, ()>);

impl<K> Default for Proven<K> {
    fn default() -> Self {
        Self(RecentlyGone::default())
    }
}

impl<K: Clone + Ord + HeapBytes> Proven<K> {
    /// Records that a client has proven an identity.
    pub fn insert(&mut self, now: Duration, identity: K) {
        // Nothing but the entry belongs to it.
        let _ = self.0.insert(now, identity, ());
        // A long one takes the place of many short ones.
        while self.0.bytes() > MAX_RECENTLY_GONE_BYTES && self.0.pop_oldest().is_some() {}
    }

    /// Returns whether a client has proven an identity.
    pub fn contains(&self, identity: &K) -> bool {
        self.0.contains(identity)
    }

    /// Forgets all if tokens are no longer read: whoever has proven an identity could not have it again.
    pub fn forget_unprovable(&mut self, access: &Access) {
        if !access.are_tokens_read {
            *self = Self::default();
        }
    }

    /// Returns the memory of all entries, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Forgets the oldest until `bytes` are freed. Returns the bytes freed.
    pub fn shed(&mut self, bytes: usize) -> usize {
        self.0.shed(bytes, |()| false)
    }
}

impl<K> FreeSpare for Proven<K> {
    fn free_spare(&mut self) {
        let Self(entries) = self;
        entries.free_spare();
    }
}

#[cfg(test)]
mod tests {
    use super::super::recently_gone::MAX_RECENTLY_GONE;
    use super::*;

    fn at(second: usize) -> Duration {
        Duration::from_secs(second as u64)
    }

    #[test]
    fn long_identities_take_the_places_of_as_many_bytes_of_short_ones() {
        let mut proven = Proven::default();
        for number in 0..MAX_RECENTLY_GONE {
            proven.insert(at(number), number.to_string());
        }
        for number in 0..MAX_RECENTLY_GONE {
            proven.insert(at(MAX_RECENTLY_GONE + number), format!("{number:06000}"));
            assert!(proven.bytes() <= MAX_RECENTLY_GONE_BYTES);
        }
        assert!(!proven.contains(&"9999".to_owned()));
    }

    #[test]
    fn the_one_that_was_proven_longest_ago_is_forgotten_first() {
        let mut proven = Proven::default();
        for number in 0..MAX_RECENTLY_GONE {
            proven.insert(at(number), number.to_string());
        }
        proven.insert(at(MAX_RECENTLY_GONE), "0".to_owned());
        proven.insert(at(MAX_RECENTLY_GONE), "ann".to_owned());
        assert!(proven.contains(&"0".to_owned()) && proven.contains(&"ann".to_owned()));
        assert!(!proven.contains(&"1".to_owned()));
        assert!(proven.shed(1) > 0 && !proven.contains(&"2".to_owned()));
        assert!(proven.contains(&"3".to_owned()));
        let bytes = proven.bytes();
        assert_eq!((proven.shed(usize::MAX), proven.bytes()), (bytes, 0));
    }
}
