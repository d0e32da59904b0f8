//! The recipients of a broadcast.

use super::ConnectionId;
use std::cmp::Ordering;
use std::sync::Arc;

/// The connections that a broadcast goes to, each once. Clones share one list, and the broker joins what is sent to the
/// same list one after another. So a realm whose messages come often keeps its list until the recipients change.
#[derive(Clone, Debug)]
pub struct Recipients(Arc<[ConnectionId]>);

impl Recipients {
    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the connections in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = ConnectionId> {
        self.0.iter().copied()
    }

    /// Returns them in ascending order.
    pub(crate) fn as_slice(&self) -> &[ConnectionId] {
        &self.0
    }

    /// Returns whether a connection is among them.
    pub fn contains(&self, conn: ConnectionId) -> bool {
        self.0.binary_search(&conn).is_ok()
    }

    /// Returns whether both are clones of one list.
    pub(crate) fn is_same_list(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns whether someone else holds the list, and may send more to it.
    pub(crate) fn is_kept(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Returns whether a connection is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
            match one.cmp(two) {
                Ordering::Less => left.next(),
                Ordering::Greater => right.next(),
                Ordering::Equal => return true,
            };
        }
        false
    }
}

impl FromIterator<ConnectionId> for Recipients {
    fn from_iter<T: IntoIterator<Item = ConnectionId>>(connections: T) -> Self {
        let mut connections: Vec<ConnectionId> = connections.into_iter().collect();
        connections.sort_unstable();
        connections.dedup();
        Self(connections.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipients<const N: usize>(connections: [u64; N]) -> Recipients {
        connections.map(ConnectionId).into_iter().collect()
    }

    #[test]
    fn each_recipient_is_listed_once_in_ascending_order() {
        let list = recipients([3, 1, 2, 3]);
        assert_eq!(list.iter().collect::<Vec<_>>(), [1, 2, 3].map(ConnectionId));
        assert!(list.contains(ConnectionId(3)) && !list.contains(ConnectionId(4)));
    }

    #[test]
    fn lists_overlap_if_a_connection_is_in_both() {
        assert!(recipients([1, 5, 9]).overlaps(&recipients([2, 9])));
        assert!(!recipients([1, 5, 9]).overlaps(&recipients([2, 4, 10])));
        assert!(!recipients([]).overlaps(&recipients([1])));
    }

    #[test]
    fn equal_lists_are_not_the_same_list() {
        let list = recipients([1, 2]);
        assert!(!list.is_kept());
        assert!(list.is_same_list(&list.clone()) && !list.is_same_list(&recipients([1, 2])));
        let _kept = list.clone();
        assert!(list.is_kept());
    }
}
