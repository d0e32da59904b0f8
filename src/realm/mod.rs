//! The contract between the broker and a protocol: a [`Realm`] is a pure state machine that receives events
//! and returns effects.
//!
//! A realm has no socket, task, channel, log, clock or random source of its own. Its input is its arguments,
//! its output goes through [`Context`]. So each sentence of a protocol document can be a test of three
//! lines, and a test can let an hour pass in no time.
//!
//! The broker guarantees:
//!
//! - each `open` that succeeds is followed by exactly one `close`, also one that was deferred, unless the realm
//!   rejects it later;
//! - the effects of one call are applied in order and before the next call; only a broadcast that a message caused
//!   may be queued later, but before anything else is done for one of its recipients;
//! - effects for a connection that is closed or closing are ignored;
//! - calls do not nest;
//! - after `stop`, all connections are closed at once and the realm is not called again.

pub mod access;
pub mod body;
pub mod command;
pub mod context;
pub mod figures;
pub mod protocol;
pub mod recipients;
pub mod request;
pub mod setting;
pub(crate) mod setting_list;
pub(crate) mod setting_types;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
pub use access::{Access, Claims, MAX_TOKEN_LENGTH, TokenError, TokenReader};
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
pub use body::Body;
pub use command::Command;
pub(crate) use command::Commands;
pub use context::{Connections, Context, Ids};
pub use figures::Figures;
pub use protocol::{DecodeFn, Protocol, TryPage};
pub use recipients::Recipients;
pub use request::{ConnectRequest, HttpReply, Method, Rejection, Request};
pub use setting::{Applies, Setting, SettingError, SettingMap};
use std::time::Duration;

/// The number of a connection; not reused while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A data message from a client (RFC 6455 section 5.6), reassembled from its fragments.
#[derive(Clone, Debug)]
pub enum Message {
    /// A text message; valid UTF-8.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// Returns the length of the payload in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What a client is known by to others, and so to the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name that people see.
    pub name: Option<String>,
    /// The id by which the protocol tells the client, or its user, from others.
    pub id: Option<String>,
}

/// An action that a realm requests from the broker.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame to a connection.
    Send(ConnectionId, Frame),
    /// Send a frame to each of these connections, as [`Effect::Send`] would. Broadcasts to the same list one after
    /// another are joined.
    Broadcast {
        /// The recipients, and some that may be excepted.
        to: Recipients,
        /// Connections that are not sent the frame, in ascending order.
        except: Box<[ConnectionId]>,
        /// The frame.
        frame: Frame,
    },
    /// Send a frame to a connection whose outbox had capacity for it when the realm asked: see
    /// [`Context::deliver`].
    Deliver(ConnectionId, Frame),
    /// Close a connection after the frames already sent to it. [`Realm::close`] follows, as for any other
    /// end of a connection.
    Close(ConnectionId, CloseReason),
    /// Close a connection with [`CloseReason::TOKEN_EXPIRED`] at this time since the Unix epoch, or up to a second later:
    /// the end of its client's token. A later one takes its place; `None`: the connection has no end.
    ExpireAt(ConnectionId, Option<Duration>),
    /// Probe a connection: send a Ping, which must be answered within this time. [`Realm::probe_result`]
    /// follows, unless the connection closes first. A second probe while one is pending changes nothing.
    ///
    /// The first whole message or control frame after the Ping, Close excepted, answers the probe at once.
    /// Without one, the probe also counts as answered at its deadline if there was activity in a later
    /// second than that of the Ping: part of a message, or the client's reading a long queue.
    Probe(ConnectionId, Duration),
    /// Defer the decision about the connection whose `open` is running: its client waits for the response to
    /// its handshake. One of these follows: [`Effect::Admit`]; [`Effect::Reject`]; or [`Realm::close`], if the
    /// client disconnects first, the realm closes the connection (its handshake is completed for the Close
    /// frame), or 30 s have passed. Until then the connection sends nothing, and its silence does not count.
    Defer(ConnectionId),
    /// Complete the handshake of a connection whose `open` was deferred, which counts as a successful `open`.
    Admit(ConnectionId),
    /// Reject the handshake of a connection whose `open` was deferred. [`Realm::close`] does not follow.
    Reject(ConnectionId, Rejection),
    /// Stop reading from a connection until [`Effect::ResumeReading`]. Its commands that arrive meanwhile
    /// (at most two batches) are held, and handled in order once it is resumed. Its silence does not count.
    PauseReading(ConnectionId),
    /// Read from a connection again.
    ResumeReading(ConnectionId),
}

/// The policy when a frame is sent to a connection whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// The recipient is closed with [`CloseReason::TOO_SLOW`]. A recipient is slow if its socket accepts no
    /// bytes while its outbox is full. If only its task has not been scheduled yet, the sender is paused
    /// until it has been, and no longer.
    Disconnect,
    /// The sender is not read from until the outbox has capacity: back-pressure from end to end.
    Backpressure,
}

/// How firmly a realm has to keep data that it stores for clients, some of which are gone (rulings,
/// "memory").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// No document promises to keep it: rates and names of clients that are gone. It goes before any
    /// connection is closed for memory.
    BestEffort,
    /// It is promised for a time: chats, places, stored messages. It goes after the connections of those that hold more
    /// than a fair share.
    Promised,
    /// Who has proven an identity with an access token. Without it a stranger could take the identity, so it goes last of
    /// all, and of all listeners.
    Identity,
}

/// One protocol on one listener: its state and its rules. The [module](self) lists what the broker
/// guarantees.
pub trait Realm: Send + 'static {
    /// Creates a realm without connections.
    ///
    /// # Errors
    /// All options that are invalid.
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>>
    where
        Self: Sized;

    /// Changes the options, which hold from then on, also for the connections that there are. What the realm has stored
    /// stays as far as the new options let it; what has to go is told as ever.
    ///
    /// # Errors
    /// All options that are invalid. Then nothing is changed.
    fn reconfigure(
        &mut self,
        cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>>;

    /// Returns the protocol whose rules the realm has.
    fn protocol(&self) -> &'static Protocol;

    /// Answers a plain HTTP request with one of [`Protocol::methods`].
    fn request(&mut self, _cx: &mut Context, _request: &Request) -> HttpReply {
        unreachable!("a realm without methods receives no requests")
    }

    /// Handles a new connection. Frames sent to `conn` in this call are exempt from the outbox limit; the
    /// realm must limit them.
    ///
    /// A realm that cannot decide yet returns `Ok` and calls [`Context::defer`].
    ///
    /// # Errors
    /// A rejection by HTTP status; `close` does not follow.
    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection>;

    /// Handles a message, as the protocol's [`DecodeFn`] returned it.
    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command);

    /// Handles the end of a connection: exactly once for each `open` that succeeded.
    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason);

    /// Handles the result of a probe: whether it was answered in time, as [`Effect::Probe`] defines it. The
    /// broker does not close a connection that did not answer.
    fn probe_result(&mut self, _cx: &mut Context, _conn: ConnectionId, _alive: bool) {}

    /// Returns the bytes that the realm stores for clients, excluding outboxes; above all what it remembers of
    /// those that are gone. Called after each other call, so it must not iterate.
    fn stored_bytes(&self) -> usize {
        0
    }

    /// Returns the part of [`Realm::stored_bytes`] that is stored because of a connection, and is freed, or
    /// can be shed, once it is closed.
    fn stored_bytes_of(&self, _conn: ConnectionId) -> usize {
        0
    }

    /// Returns the figures that an operator is shown. Called once a second.
    fn figures(&self) -> Figures;

    /// Returns what a client is known by, as far as the protocol has it and the client has said it. Never a secret.
    fn identity(&self, _conn: ConnectionId) -> Identity {
        Identity::default()
    }

    /// Gives up stored data of this kind, oldest first, until `bytes` of [`Realm::stored_bytes`] are freed or
    /// no more is left of it. Returns the bytes that were freed. Called when memory is short.
    fn shed(&mut self, _cx: &mut Context, _retention: Retention, _bytes: usize) -> usize {
        0
    }

    /// Handles the passing of time; called once a second.
    fn tick(&mut self, _cx: &mut Context) {}

    /// Frees what collections without an entry keep, of all that live as long as the realm
    /// (`base/spare.rs`). Called once a second, after `tick`. Implementations name all fields of the realm, so that
    /// the compiler asks about each new one.
    fn free_spare(&mut self) {}

    /// Handles shutdown. Frames sent during this call are the last before the Close frame.
    fn stop(&mut self, _cx: &mut Context) {}
}
