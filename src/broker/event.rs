//! The events that connections, handshakes and the daemon send to the broker.

use super::clients::OperatorRequest;
use super::outbox::Outbox;
use super::slots::{ConnectionChecks, ListenerKey, RealmSlot};
use super::socket_status::SocketStatus;
use crate::base::close::DisconnectReason;
use crate::realm::{
    Commands, ConnectRequest, ConnectionId, HttpReply, Rejection, Request, SettingMap,
};
use futures::channel::{mpsc, oneshot};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An event for the broker.
pub(crate) enum Event {
    /// A valid opening handshake waits for the realm's decision.
    Open(Box<OpenEvent>),
    /// A plain HTTP request waits for the realm's reply.
    Request(Box<HttpEvent>),
    /// Decoded messages of a connection, in order. The connection sends no more before the broker
    /// has taken these.
    Commands {
        conn: ConnectionId,
        commands: Commands,
        /// Bytes of the connection's `receive_memory` to release once the commands are handled.
        reserved_bytes: usize,
    },
    /// A connection has done what the outbox's `NotifyWhen` asked for: senders paused for it may
    /// be read again.
    OutboxDrained(ConnectionId),
    /// A connection has received a message after it was probed.
    ProbeAnswered(ConnectionId),
    /// Receiving has taken the process above its memory budget.
    BudgetExceeded,
    /// A connection has ended. It sends nothing after this.
    Disconnected(ConnectionId, DisconnectReason),
    /// A second has passed.
    Tick,
    /// Has no content. Sent through the lane of each listener once a second, so that its channel allocates a new
    /// block for its last event, and frees that of a storm's last event (see [`crate::base::spare`]).
    Refresh,
    /// A listener is to be served.
    AddListener(Box<NewListener>),
    /// Settings of a listener have changed.
    ChangeListener(Box<ListenerChange>),
    /// The listener of this index is removed.
    RemoveListener(usize),
    /// An operator asks about clients.
    Operator(Box<OperatorRequest>),
    /// The daemon stops.
    Stop,
    /// A request for the number of ended connections by reason; the last event of the daemon.
    Count(oneshot::Sender<DisconnectCounts>),
}

/// A valid opening handshake.
pub(crate) struct OpenEvent {
    /// Index of the listener.
    pub(crate) listener_index: usize,
    pub(crate) conn: ConnectionId,
    pub(crate) request: ConnectRequest,
    pub(crate) outbox: Outbox,
    pub(crate) status: Arc<SocketStatus>,
    /// Sender of the decision whether to complete the handshake; dropped when the broker or the listener is stopping.
    pub(crate) reply_to: oneshot::Sender<Result<(), Rejection>>,
}

/// A plain HTTP request for a realm.
pub(crate) struct HttpEvent {
    /// Index of the listener.
    pub(crate) listener_index: usize,
    pub(crate) request: Request,
    pub(crate) reply_to: oneshot::Sender<HttpReply>,
}

/// A listener that is to be served from now on.
pub(crate) struct NewListener {
    pub(crate) slot: RealmSlot,
    /// The events of its lane.
    pub(crate) events: EventReceiver,
    pub(crate) reply_to: oneshot::Sender<ListenerKey>,
}

/// What a reload changes of a listener.
pub(crate) struct ListenerChange {
    pub(crate) listener_index: usize,
    pub(crate) checks: ConnectionChecks,
    /// The realm's options, if they have changed. They are valid.
    pub(crate) options: Option<SettingMap>,
}

/// The events of one lane of the [inbox](super::Inbox), as they were sent.
pub(crate) type EventReceiver = mpsc::Receiver<Event>;

/// Number of ended connections by [`DisconnectReason::name`], for the log.
pub(crate) type DisconnectCounts = BTreeMap<&'static str, u64>;
