//! The ends of clients' access tokens, at which their connections are closed.

use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::base::spare::FreeSpare;
use crate::realm::ConnectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// The connections that end with their clients' tokens. The times are since the Unix epoch.
#[derive(Default)]
pub(super) struct Expiries {
    of: BTreeMap<ConnectionId, Duration>,
    order: BTreeSet<(Duration, ConnectionId)>,
}

impl Expiries {
    /// Sets the end of a connection in place of an earlier one; `None`: it has no end.
    pub(super) fn set(&mut self, conn: ConnectionId, end: Option<Duration>) {
        self.remove(conn);
        if let Some(end) = end {
            self.of.insert(conn, end);
            self.order.insert((end, conn));
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        if let Some(end) = self.of.remove(&conn) {
            self.order.remove(&(end, conn));
        }
    }

    /// Returns whether no connection has an end.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty() && self.order.is_empty()
    }

    /// Removes and returns a connection whose end has come.
    fn pop(&mut self, now: Duration) -> Option<ConnectionId> {
        let &(_, conn) = self.order.first().filter(|(end, _)| *end <= now)?;
        self.remove(conn);
        Some(conn)
    }
}

impl FreeSpare for Expiries {
    fn free_spare(&mut self) {
        let Self { of, order } = self;
        of.free_spare();
        order.free_spare();
    }
}

impl Broker {
    /// Has a connection end with its client's token; `None`: it has no end.
    pub(super) fn expire_at(&mut self, conn: ConnectionId, end: Option<Duration>) {
        if self.connections.contains_key(&conn) {
            self.expiries.set(conn, end);
        }
    }

    /// Closes the connections whose tokens have ended. Returns the units of work.
    pub(super) fn close_expired(&mut self, now: Now) -> usize {
        // A clock before the epoch has not been set yet.
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH);
        let wall = wall.unwrap_or_default();
        while let Some(conn) = self.expiries.pop(wall) {
            self.close(conn, CloseReason::TOKEN_EXPIRED);
        }
        self.deliver_pending_closes(now)
    }
}
