//! What the broker is told, by connections, handshakes and the daemon itself.

use super::outbox::Outbox;
use super::socket_status::Pulse;
use crate::base::close::Ending;
use crate::realm::erased::AnyCommand;
use crate::realm::{ConnectionId, Hello, Refusal, Reply, Request};
use futures::channel::oneshot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the broker is told.
pub(crate) enum Event {
    /// Somebody stands at the door.
    Open(Box<Opening>),
    /// Somebody asks something.
    Request(Box<Question>),
    /// A connection's messages, in their order. Not more before these are taken.
    Commands {
        who: ConnectionId,
        commands: Vec<AnyCommand>,
        /// For so many of their octets the connection is charged until they are done.
        charged: usize,
    },
    /// A connection's outbox has room again, or has been written as far as its socket goes.
    Room(ConnectionId),
    /// A connection that was asked for a sign of life has given one.
    Alive(ConnectionId),
    /// What a connection has received has overdrawn the budget.
    Overdrawn,
    /// A connection is gone. Nothing comes from it after this.
    Ended(ConnectionId, Ending),
    /// A second has passed.
    Tick,
    /// The daemon stops.
    Stop,
    /// How have connections ended so far?
    Count(oneshot::Sender<Endings>),
}

/// An opening handshake that is in order and waits for an answer.
pub(crate) struct Opening {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) who: ConnectionId,
    pub(crate) hello: Hello,
    pub(crate) outbox: Outbox,
    pub(crate) pulse: Arc<Pulse>,
    /// Whether to complete the handshake.
    pub(crate) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// A plain HTTP request for a realm.
pub(crate) struct Question {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// How many connections ended in which way, for the log.
pub(crate) type Endings = BTreeMap<&'static str, u64>;
