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
pub struct PendingClients<T> {
    /// Everybody here, claimants among them, and when each came.
    unregistered: BTreeMap<ConnectionId, Duration>,
    takeovers: BTreeMap<ConnectionId, Takeover<T>>,
    /// How long a stranger may stay without a word; 0: without end.
    timeout: Duration,
}

#[derive(Debug)]
struct Takeover<T> {
    /// The connection that has the place.
    owner: ConnectionId,
    payload: T,
}

impl<T> PendingClients<T> {
    /// Nobody yet. A stranger must say within `timeout` who it is; 0: whenever it likes.
    pub fn new(timeout: Duration) -> Self {
        Self {
            unregistered: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            timeout,
        }
    }

    /// Somebody comes.
    pub fn insert(&mut self, now: Duration, conn: ConnectionId) {
        self.unregistered.insert(conn, now);
    }

    /// Somebody is let in, or goes. Says whether it was here.
    pub fn remove(&mut self, conn: ConnectionId) -> bool {
        self.takeovers.remove(&conn);
        self.unregistered.remove(&conn).is_some()
    }

    /// Whether somebody waits for another's sign of life.
    pub fn is_taking_over(&self, conn: ConnectionId) -> bool {
        self.takeovers.contains_key(&conn)
    }

    /// Somebody waits for a sign of life of `owner`.
    pub fn start_takeover(&mut self, conn: ConnectionId, owner: ConnectionId, payload: T) {
        self.takeovers.insert(conn, Takeover { owner, payload });
    }

    /// Whether anybody waits for a sign of life of `owner`.
    pub fn has_takeover_of(&self, owner: ConnectionId) -> bool {
        self.takeovers
            .values()
            .any(|start_takeover| start_takeover.owner == owner)
    }

    /// Ends the claims to a connection's place: who made them, and what they had said, in the
    /// order in which they connected. They are strangers again.
    pub fn end_takeovers(&mut self, owner: ConnectionId) -> Vec<(ConnectionId, T)> {
        let of_owner = self
            .takeovers
            .iter()
            .filter(|(_, start_takeover)| start_takeover.owner == owner);
        let end_takeovers: Vec<ConnectionId> = of_owner.map(|(&conn, _)| conn).collect();
        let take = |conn| {
            self.takeovers
                .remove(&conn)
                .map(|start_takeover| (conn, start_takeover.payload))
        };
        end_takeovers.into_iter().filter_map(take).collect()
    }

    /// Those whose time is up and who have not said who they are.
    pub fn expired(&self, now: Duration) -> Vec<ConnectionId> {
        let is_expired = |&(conn, &came): &(&ConnectionId, &Duration)| {
            !self.timeout.is_zero() && came + self.timeout <= now && !self.is_taking_over(*conn)
        };
        let expired = self.unregistered.iter().filter(is_expired);
        expired.map(|(&conn, _)| conn).collect()
    }

    /// Whether nothing is kept at all.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.unregistered.is_empty() && self.takeovers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn id(conn: u64) -> ConnectionId {
        ConnectionId(conn)
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_says_nothing_is_overdue() {
        let mut pending = PendingClients::<()>::new(TIMEOUT);
        pending.insert(s(0), id(1));
        pending.insert(s(1), id(2));
        assert_eq!(pending.expired(s(9)), []);
        assert_eq!(pending.expired(s(10)), [id(1)]);
        assert!(pending.remove(id(1)));
        assert_eq!(pending.expired(s(11)), [id(2)]);
        assert!(pending.remove(id(2)));
        assert!(!pending.remove(id(1)));
        assert!(pending.is_empty());
    }

    #[test]
    fn without_a_limit_nobody_is_overdue() {
        let mut pending = PendingClients::<()>::new(Duration::ZERO);
        pending.insert(s(0), id(1));
        assert_eq!(pending.expired(s(1_000_000)), []);
        pending.remove(id(1));
        assert!(pending.is_empty());
    }

    #[test]
    fn who_is_gone_or_has_claimed_a_place_is_not() {
        let mut pending = PendingClients::new(TIMEOUT);
        (1..=3).for_each(|conn| pending.insert(s(0), id(conn)));
        pending.remove(id(1));
        pending.start_takeover(id(2), id(9), ());
        assert_eq!(pending.expired(s(10)), [id(3)]);
    }

    #[test]
    fn claims_end_with_an_answer_or_with_the_claimant() {
        let mut pending = PendingClients::new(TIMEOUT);
        (1..=4).for_each(|conn| pending.insert(s(0), id(conn)));
        for (conn, owner) in [(3, 9), (1, 9), (2, 8), (4, 9)] {
            pending.start_takeover(id(conn), id(owner), conn);
        }
        pending.remove(id(4));
        assert!(pending.has_takeover_of(id(9)) && !pending.has_takeover_of(id(1)));
        assert_eq!(pending.end_takeovers(id(9)), [(id(1), 1), (id(3), 3)]);
        assert_eq!(pending.end_takeovers(id(9)), []);
        assert!(!pending.is_taking_over(id(1)) && pending.remove(id(1)));
        assert!(pending.is_taking_over(id(2)));
    }
}
