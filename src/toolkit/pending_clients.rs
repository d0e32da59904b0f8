//! Those who are connected and have not been let in: strangers who must say in time who they are,
//! and claimants, who say they are somebody who is here already and wait for that one's sign of
//! life.
//!
//! A connection that broke may look alive to the server for a while. So a claim is neither refused
//! nor granted at once: the realm probes the connection that has the place, and then either turns
//! all claimants away, or lets them try again, of whom the first gets in.

use crate::realm::ConnectionId;
use std::collections::BTreeMap;
use std::time::Duration;

/// All of them in one realm. `T` is what a claimant said.
#[derive(Debug)]
pub struct Doorstep<T> {
    /// Everybody here, claimants among them, and when each came.
    strangers: BTreeMap<ConnectionId, Duration>,
    claims: BTreeMap<ConnectionId, Claim<T>>,
    /// How long a stranger may stay without a word; 0: without end.
    patience: Duration,
}

#[derive(Debug)]
struct Claim<T> {
    /// The connection that has the place.
    owner: ConnectionId,
    said: T,
}

impl<T> Doorstep<T> {
    /// Nobody yet. A stranger must say within `patience` who it is; 0: whenever it likes.
    pub fn new(patience: Duration) -> Self {
        Self {
            strangers: BTreeMap::new(),
            claims: BTreeMap::new(),
            patience,
        }
    }

    /// Somebody comes.
    pub fn arrive(&mut self, now: Duration, who: ConnectionId) {
        self.strangers.insert(who, now);
    }

    /// Somebody is let in, or goes. Says whether it was here.
    pub fn leave(&mut self, who: ConnectionId) -> bool {
        self.claims.remove(&who);
        self.strangers.remove(&who).is_some()
    }

    /// Whether somebody waits for another's sign of life.
    pub fn is_claimant(&self, who: ConnectionId) -> bool {
        self.claims.contains_key(&who)
    }

    /// Somebody waits for a sign of life of `owner`.
    pub fn claim(&mut self, who: ConnectionId, owner: ConnectionId, said: T) {
        self.claims.insert(who, Claim { owner, said });
    }

    /// Whether anybody waits for a sign of life of `owner`.
    pub fn is_claimed(&self, owner: ConnectionId) -> bool {
        self.claims.values().any(|claim| claim.owner == owner)
    }

    /// Ends the claims to a connection's place: who made them, and what they had said, in the
    /// order in which they connected. They are strangers again.
    pub fn claimants(&mut self, owner: ConnectionId) -> Vec<(ConnectionId, T)> {
        let of_owner = self.claims.iter().filter(|(_, claim)| claim.owner == owner);
        let claimants: Vec<ConnectionId> = of_owner.map(|(&who, _)| who).collect();
        let take = |who| self.claims.remove(&who).map(|claim| (who, claim.said));
        claimants.into_iter().filter_map(take).collect()
    }

    /// Those whose time is up and who have not said who they are.
    pub fn overdue(&self, now: Duration) -> Vec<ConnectionId> {
        let is_overdue = |&(who, &came): &(&ConnectionId, &Duration)| {
            !self.patience.is_zero() && came + self.patience <= now && !self.is_claimant(*who)
        };
        let overdue = self.strangers.iter().filter(is_overdue);
        overdue.map(|(&who, _)| who).collect()
    }

    /// Whether nothing is kept at all.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.claims.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn id(who: u64) -> ConnectionId {
        ConnectionId(who)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_says_nothing_is_overdue() {
        let mut doorstep = Doorstep::<()>::new(PATIENCE);
        doorstep.arrive(s(0), id(1));
        doorstep.arrive(s(1), id(2));
        assert_eq!(doorstep.overdue(s(9)), []);
        assert_eq!(doorstep.overdue(s(10)), [id(1)]);
        assert!(doorstep.leave(id(1)));
        assert_eq!(doorstep.overdue(s(11)), [id(2)]);
        assert!(doorstep.leave(id(2)));
        assert!(!doorstep.leave(id(1)));
        assert!(doorstep.is_empty());
    }

    #[test]
    fn without_a_limit_nobody_is_overdue() {
        let mut doorstep = Doorstep::<()>::new(Duration::ZERO);
        doorstep.arrive(s(0), id(1));
        assert_eq!(doorstep.overdue(s(1_000_000)), []);
        doorstep.leave(id(1));
        assert!(doorstep.is_empty());
    }

    #[test]
    fn who_is_gone_or_has_claimed_a_place_is_not() {
        let mut doorstep = Doorstep::new(PATIENCE);
        (1..=3).for_each(|who| doorstep.arrive(s(0), id(who)));
        doorstep.leave(id(1));
        doorstep.claim(id(2), id(9), ());
        assert_eq!(doorstep.overdue(s(10)), [id(3)]);
    }

    #[test]
    fn claims_end_with_an_answer_or_with_the_claimant() {
        let mut doorstep = Doorstep::new(PATIENCE);
        (1..=4).for_each(|who| doorstep.arrive(s(0), id(who)));
        for (who, owner) in [(3, 9), (1, 9), (2, 8), (4, 9)] {
            doorstep.claim(id(who), id(owner), who);
        }
        doorstep.leave(id(4));
        assert!(doorstep.is_claimed(id(9)) && !doorstep.is_claimed(id(1)));
        assert_eq!(doorstep.claimants(id(9)), [(id(1), 1), (id(3), 3)]);
        assert_eq!(doorstep.claimants(id(9)), []);
        assert!(!doorstep.is_claimant(id(1)) && doorstep.leave(id(1)));
        assert!(doorstep.is_claimant(id(2)));
    }
}
