//! Memory that an empty collection keeps for its next entry.
//!
//! glibc returns memory to the system from the end of the heap (mallopt(3), `M_TRIM_THRESHOLD`). A small block
//! that a storm of clients leaves there holds all memory below it. So collections that live as long as the
//! daemon keep no block once they are empty.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// A collection, or a part of the daemon's state that consists of collections.
pub(crate) trait FreeSpare {
    /// Frees what collections without an entry keep for their next one. Costs little enough to be called once a
    /// second, or when an entry is removed.
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

impl<K: Eq + Hash, V, S: BuildHasher> FreeSpare for HashMap<K, V, S> {
    /// Frees the table if it is empty, and shrinks it if more than half of it is unused. Its `capacity` does not
    /// tell that: places of removed entries are not counted in it.
    fn free_spare(&mut self) {
        self.shrink_to(2 * self.len());
    }
}

/// Returns a copy of a queue without spare capacity. `shrink_to_fit` would shrink the block where it is, and leave
/// a gap behind it that other allocations rarely fit.
pub(crate) fn compacted<T: Copy>(queue: &VecDeque<T>) -> VecDeque<T> {
    queue.iter().copied().collect()
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
        let mut table: HashMap<u32, u32> = HashMap::new();
        for key in 0..5000 {
            table.insert(key, 0);
            if key >= 50 {
                table.remove(&(key - 50));
            }
        }
        for key in 4950..4998 {
            table.remove(&key);
        }
        table.free_spare();
        assert!(table.capacity() < 10, "{} places", table.capacity());
        table.clear();
        table.free_spare();
        assert_eq!(table.capacity(), 0);
        let mut map = BTreeMap::from([(1, 2)]);
        map.free_spare();
        assert_eq!(map.len(), 1);
        let mut set = BTreeSet::from([1]);
        set.free_spare();
        assert_eq!(set.len(), 1);
    }
}
