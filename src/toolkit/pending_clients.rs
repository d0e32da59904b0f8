//! Clients that are connected and not yet admitted: unregistered ones, which must identify themselves in
//! time, and those that take over another connection's identity and wait until it has been probed.
//!
//! A connection that broke may look alive to the server for a while. So a takeover is neither rejected nor
//! granted at once: the realm probes the owner, the connection that has the identity. If the owner is alive,
//! the realm rejects all clients that wait for it; otherwise it lets them try again, and the first of them
//! succeeds.

use crate::base::spare::FreeSpare;
use crate::realm::ConnectionId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The pending clients of one realm. `T` is what a client sent to start a takeover.
#[derive(Debug)]
pub struct PendingClients<T> {
    /// Times of connection of all pending clients, those in a takeover included.
    connected_at: BTreeMap<ConnectionId, Duration>,
    takeovers: BTreeMap<ConnectionId, Takeover<T>>,
    /// Time for which a client may stay unregistered; 0: no limit.
    timeout: Duration,
}

#[derive(Debug)]
struct Takeover<T> {
    /// The connection that has the identity.
    owner: ConnectionId,
    payload: T,
}

impl<T> PendingClients<T> {
    /// Creates an empty set. A client must identify itself within `timeout`; 0: no limit.
    pub fn new(timeout: Duration) -> Self {
        Self {
            connected_at: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            timeout,
        }
    }

    /// Changes the timeout, for those that are pending, too.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Inserts a client that connected at `now`.
    pub fn insert(&mut self, now: Duration, conn: ConnectionId) {
        self.connected_at.insert(conn, now);
    }

    /// Removes a client that is admitted or has disconnected. Returns whether it was pending.
    pub fn remove(&mut self, conn: ConnectionId) -> bool {
        self.takeovers.remove(&conn);
        self.connected_at.remove(&conn).is_some()
    }

    /// Returns the number of clients that are pending.
    pub fn len(&self) -> usize {
        self.connected_at.len()
    }

    /// Returns whether a client waits for the result of a takeover.
    pub fn is_taking_over(&self, conn: ConnectionId) -> bool {
        self.takeovers.contains_key(&conn)
    }

    /// Returns the connection that has the identity for which a client waits.
    pub fn owner(&self, conn: ConnectionId) -> Option<ConnectionId> {
        self.takeovers.get(&conn).map(|takeover| takeover.owner)
    }

    /// Starts a takeover: `conn` waits until `owner` has been probed.
    pub fn start_takeover(&mut self, conn: ConnectionId, owner: ConnectionId, payload: T) {
        self.takeovers.insert(conn, Takeover { owner, payload });
    }

    /// Returns whether any client waits for a probe of `owner`.
    pub fn has_takeover_of(&self, owner: ConnectionId) -> bool {
        self.takeovers
            .values()
            .any(|takeover| takeover.owner == owner)
    }

    /// Ends all takeovers of `owner`. Returns the clients and their payloads in the order in which they
    /// connected; the clients stay unregistered.
    pub fn end_takeovers(&mut self, owner: ConnectionId) -> Vec<(ConnectionId, T)> {
        let of_owner = self
            .takeovers
            .iter()
            .filter(|(_, takeover)| takeover.owner == owner);
        let waiting: Vec<ConnectionId> = of_owner.map(|(&conn, _)| conn).collect();
        let end = |conn| {
            let takeover = self.takeovers.remove(&conn)?;
            Some((conn, takeover.payload))
        };
        waiting.into_iter().filter_map(end).collect()
    }

    /// Returns the clients that have been unregistered for longer than the timeout and are in no takeover.
    /// `silent_since` is that of [`Context`](crate::realm::Context::silent_since).
    pub fn expired(
        &self,
        now: Duration,
        silent_since: impl Fn(ConnectionId, Duration) -> Duration,
    ) -> Vec<ConnectionId> {
        let is_expired = |&(&conn, &since): &(&ConnectionId, &Duration)| {
            !self.timeout.is_zero()
                && silent_since(conn, since) + self.timeout <= now
                && !self.is_taking_over(conn)
        };
        let expired = self.connected_at.iter().filter(is_expired);
        expired.map(|(&conn, _)| conn).collect()
    }

    /// Returns whether no client is pending.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_empty(&self) -> bool {
        self.connected_at.is_empty() && self.takeovers.is_empty()
    }
}

impl<T> FreeSpare for PendingClients<T> {
    fn free_spare(&mut self) {
        let Self {
            connected_at,
            takeovers,
            timeout: _,
        } = self;
        connected_at.free_spare();
        takeovers.free_spare();
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
    fn a_client_that_does_not_identify_itself_expires() {
        let mut pending = PendingClients::<()>::new(TIMEOUT);
        pending.insert(s(0), id(1));
        pending.insert(s(1), id(2));
        assert_eq!(pending.expired(s(9), |_, since| since), []);
        assert_eq!(pending.expired(s(10), |_, since| since), [id(1)]);
        assert!(pending.remove(id(1)));
        assert_eq!(pending.expired(s(11), |_, since| since), [id(2)]);
        assert!(pending.remove(id(2)));
        assert!(!pending.remove(id(1)));
        assert!(pending.is_empty());
    }

    #[test]
    fn time_in_which_a_client_was_not_read_does_not_count() {
        let mut pending = PendingClients::<()>::new(TIMEOUT);
        pending.insert(s(0), id(1));
        pending.insert(s(0), id(2));
        let read_since = |conn, since| if conn == id(1) { s(5) } else { since };
        assert_eq!(pending.expired(s(10), read_since), [id(2)]);
        assert_eq!(pending.expired(s(15), read_since), [id(1), id(2)]);
    }

    #[test]
    fn without_a_timeout_no_client_expires() {
        let mut pending = PendingClients::<()>::new(Duration::ZERO);
        pending.insert(s(0), id(1));
        assert_eq!(pending.expired(s(1_000_000), |_, since| since), []);
        pending.remove(id(1));
        assert!(pending.is_empty());
    }

    #[test]
    fn a_removed_client_or_one_in_a_takeover_does_not_expire() {
        let mut pending = PendingClients::new(TIMEOUT);
        (1..=3).for_each(|conn| pending.insert(s(0), id(conn)));
        pending.remove(id(1));
        pending.start_takeover(id(2), id(9), ());
        assert_eq!(pending.expired(s(10), |_, since| since), [id(3)]);
    }

    #[test]
    fn a_takeover_ends_with_the_result_of_the_probe_or_with_its_client() {
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
