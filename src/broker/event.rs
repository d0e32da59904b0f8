//! What the broker is told, by connections, handshakes and the daemon itself.

use super::outbox::Outbox;
use super::socket_status::SocketStatus;
use crate::base::close::DisconnectReason;
use crate::realm::erased::AnyCommand;
use crate::realm::{ConnectRequest, ConnectionId, HttpReply, Rejection, Request};
use futures::channel::oneshot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the broker is told.
pub(crate) enum Event {
    /// Somebody stands at the door.
    Open(Box<OpenEvent>),
    /// Somebody asks something.
    Request(Box<HttpEvent>),
    /// A connection's messages, in their order. Not more before these are taken.
    Commands {
        conn: ConnectionId,
        commands: Vec<AnyCommand>,
        /// For so many of their octets the connection is charged until they are done.
        charged: usize,
    },
    /// A connection's outbox has room again, or has been written as far as its socket goes.
    OutboxDrained(ConnectionId),
    /// A connection that was asked for a sign of life has given one.
    Alive(ConnectionId),
    /// What a connection has received has overdrawn the budget.
    BudgetExceeded,
    /// A connection is gone. Nothing comes from it after this.
    Ended(ConnectionId, DisconnectReason),
    /// A second has passed.
    Tick,
    /// The daemon stops.
    Stop,
    /// How have connections ended so far?
    Count(oneshot::Sender<DisconnectCounts>),
}

/// An opening handshake that is in order and waits for an answer.
pub(crate) struct OpenEvent {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) conn: ConnectionId,
    pub(crate) hello: ConnectRequest,
    pub(crate) outbox: Outbox,
    pub(crate) status: Arc<SocketStatus>,
    /// Whether to complete the handshake.
    pub(crate) answer: oneshot::Sender<Result<(), Rejection>>,
}

/// A plain HTTP request for a realm.
pub(crate) struct HttpEvent {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<HttpReply>,
}

/// How many connections ended in which way, for the log.
pub(crate) type DisconnectCounts = BTreeMap<&'static str, u64>;
