//! Memory that an empty collection keeps for its next entry.
//!
//! glibc returns memory to the system from the end of the heap (mallopt(3), `M_TRIM_THRESHOLD`). A small block
//! that a storm of clients leaves there holds all memory below it. So collections that live as long as the
//! daemon keep no block once they are empty.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A collection, or a part of the daemon's state that consists of collections.
pub(crate) trait FreeSpare {
    /// Frees what the empty collections keep for their next entry. Called once a second: an allocation in
    /// between is worth nothing compared with a storm's memory.
    fn free_spare(&mut self);
}

impl<K, V> FreeSpare for BTreeMap<K, V> {
    fn free_spare(&mut self) {
        // The standard library keeps a node when the last entry is removed.
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<T> FreeSpare for BTreeSet<T> {
    fn free_spare(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<T> FreeSpare for VecDeque<T> {
    fn free_spare(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

impl<T> FreeSpare for Vec<T> {
    fn free_spare(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_collection_keeps_no_capacity_and_another_keeps_its_entries() {
        let mut queue: VecDeque<u32> = VecDeque::with_capacity(1000);
        queue.free_spare();
        assert_eq!(queue.capacity(), 0);
        let mut list: Vec<u32> = Vec::with_capacity(1000);
        list.free_spare();
        assert_eq!(list.capacity(), 0);
        let mut map = BTreeMap::from([(1, 2)]);
        map.free_spare();
        assert_eq!(map.len(), 1);
        let mut set = BTreeSet::from([1]);
        set.free_spare();
        assert_eq!(set.len(), 1);
    }
}
