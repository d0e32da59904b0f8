//! What an operator asks the broker about its clients: who is there, and to close some.
//!
//! Each request is a slice of the clients that is small enough to be handled within a few batches; `status/directory.rs`
//! goes through all of them.

use super::{Broker, EFFECTS_PER_UNIT, Now};
use crate::base::close::CloseReason;
use crate::base::ip::ClientAddress;
use crate::config::Address;
use crate::realm::{ConnectionId, Identity};
use futures::channel::oneshot;
use std::time::{Duration, SystemTime};

/// Clients that one request may describe or close. Each is about as much work as a command, so together they are a few
/// batches.
pub(crate) const MAX_SLICE: usize = 128;

/// A request of an operator. Its reply is lost only if nobody waits for it any more.
pub(crate) enum OperatorRequest {
    /// The ids of all connections, in no order.
    List(oneshot::Sender<Vec<ConnectionId>>),
    /// What is known of these connections, as far as they are still there; at most [`MAX_SLICE`].
    Describe(Vec<ConnectionId>, oneshot::Sender<Vec<Client>>),
    /// To close these connections, at most [`MAX_SLICE`]. The reply is how many there were that were not closing yet.
    Close(Vec<ConnectionId>, CloseReason, oneshot::Sender<usize>),
}

/// A client as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) conn: ConnectionId,
    /// The name of its listener's protocol.
    pub(crate) protocol: &'static str,
    /// The address of its listener.
    pub(crate) listener: Address,
    pub(crate) address: ClientAddress,
    pub(crate) identity: Identity,
    /// The time of its handshake.
    pub(crate) since: SystemTime,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Broker {
    /// Handles a request of an operator, and returns the units of work.
    pub(super) fn operator_request(&mut self, now: Now, request: OperatorRequest) -> usize {
        match request {
            OperatorRequest::List(reply_to) => {
                let _ = reply_to.send(self.connections.keys().copied().collect());
                1 + self.connections.len() / EFFECTS_PER_UNIT
            }
            OperatorRequest::Describe(conns, reply_to) => {
                let clients = conns.iter().filter_map(|conn| self.describe(now, *conn));
                let _ = reply_to.send(clients.collect());
                conns.len()
            }
            OperatorRequest::Close(conns, reason, reply_to) => {
                let mut closed = 0;
                let mut work = 1;
                for conn in conns {
                    let is_open = self.connections.get(&conn).is_some_and(|it| !it.closing);
                    closed += usize::from(is_open);
                    self.close(conn, reason);
                    work += 1 + self.deliver_pending_closes(now);
                }
                let _ = reply_to.send(closed);
                work
            }
        }
    }

    /// Returns what is known of a connection; `None` if it is not there, or is closing.
    fn describe(&self, now: Now, conn: ConnectionId) -> Option<Client> {
        let connection = self.connections.get(&conn).filter(|it| !it.closing)?;
        let slot = self.slots.get(connection.listener_index)?;
        let since = Duration::from_secs(connection.since.into());
        let traffic = connection.status.traffic.counts.get();
        Some(Client {
            conn,
            protocol: slot.realm.protocol().name,
            listener: slot.address.clone(),
            address: connection.address,
            identity: slot.realm.identity(conn),
            since: now.wall - now.monotonic.saturating_sub(since),
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
        })
    }
}
