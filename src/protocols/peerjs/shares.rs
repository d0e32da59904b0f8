//! Amounts by client address, with the largest at hand: the address that has most makes place for others.

use crate::base::ip::SubnetKey;
use crate::base::spare::FreeSpare;
use std::collections::{BTreeMap, BTreeSet};

/// The amount of each address; none is 0.
#[derive(Default)]
pub(super) struct Shares {
    amounts: BTreeMap<SubnetKey, usize>,
    /// The same, ordered by amount.
    ranking: BTreeSet<(usize, SubnetKey)>,
}

impl Shares {
    /// Returns the amount of an address.
    pub(super) fn of(&self, address: SubnetKey) -> usize {
        self.amounts.get(&address).copied().unwrap_or_default()
    }

    /// Adds to the amount of an address.
    pub(super) fn add(&mut self, address: SubnetKey, amount: usize) {
        self.set(address, self.of(address) + amount);
    }

    /// Subtracts from the amount of an address.
    pub(super) fn subtract(&mut self, address: SubnetKey, amount: usize) {
        self.set(address, self.of(address).saturating_sub(amount));
    }

    fn set(&mut self, address: SubnetKey, amount: usize) {
        let before = self.amounts.remove(&address);
        if let Some(before) = before {
            self.ranking.remove(&(before, address));
        }
        if amount > 0 {
            self.amounts.insert(address, amount);
            self.ranking.insert((amount, address));
        }
    }

    /// Returns all addresses with their amounts, the largest first.
    pub(super) fn descending(&self) -> impl Iterator<Item = (usize, SubnetKey)> {
        self.ranking.iter().rev().copied()
    }

    /// Returns whether no address has anything.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.amounts.is_empty() && self.ranking.is_empty()
    }
}

impl FreeSpare for Shares {
    fn free_spare(&mut self) {
        let Self { amounts, ranking } = self;
        amounts.free_spare();
        ranking.free_spare();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn address(last: u8) -> SubnetKey {
        SubnetKey::of(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_largest_share_is_first_and_none_is_left_at_zero() {
        let mut shares = Shares::default();
        shares.add(address(1), 5);
        shares.add(address(2), 7);
        shares.add(address(1), 5);
        let all: Vec<_> = shares.descending().collect();
        assert_eq!(all, [(10, address(1)), (7, address(2))]);
        shares.subtract(address(1), 10);
        assert_eq!((shares.of(address(1)), shares.of(address(2))), (0, 7));
        assert_eq!(shares.descending().count(), 1);
        shares.subtract(address(2), 7);
        assert!(shares.is_empty());
    }
}
