//! The recipients of a room's broadcasts, in a list for each dialect that is kept until the room changes.

use super::dialect::{Recipient, by_dialect};
use crate::realm::Recipients;

/// The lists of the recipients in each dialect in use. They can be derived from the room; they are kept so that the
/// broker can tell that two broadcasts go to the same recipients, and made at the first broadcast after a change, so
/// that thousands who come one after another do not each cost a list of all.
pub struct RecipientLists<D> {
    lists: Option<Vec<(D, Recipients)>>,
}

impl<D> Default for RecipientLists<D> {
    fn default() -> Self {
        Self { lists: None }
    }
}

impl<D: Copy + PartialEq> RecipientLists<D> {
    /// Drops the lists, as a recipient has been added or removed, or has changed its dialect.
    pub fn invalidate(&mut self) {
        self.lists = None;
    }

    /// Returns the lists, which are made of all `recipients` if there are none.
    pub fn get(&mut self, recipients: impl Iterator<Item = Recipient<D>>) -> &[(D, Recipients)] {
        self.lists.get_or_insert_with(|| by_dialect(recipients))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realm::ConnectionId;

    #[test]
    fn a_list_is_kept_until_the_room_changes() {
        let recipient = |id, dialect| Recipient {
            connection: ConnectionId(id),
            dialect,
        };
        let room = [recipient(1, 'a'), recipient(2, 'b'), recipient(3, 'a')];
        let mut lists = RecipientLists::default();
        let first = lists.get(room.into_iter()).to_vec();
        let listed = first.iter().map(|(dialect, list)| (*dialect, list.len()));
        assert_eq!(listed.collect::<Vec<_>>(), [('a', 2), ('b', 1)]);
        let is_same = |lists: &mut RecipientLists<char>| {
            let same = |(_, list): &(char, Recipients)| list.is_same_list(&first[0].1);
            lists.get(room.into_iter()).iter().any(same)
        };
        assert!(is_same(&mut lists));
        lists.invalidate();
        assert!(!is_same(&mut lists));
    }
}
