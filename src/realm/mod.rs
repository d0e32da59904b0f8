//! What a protocol is to the daemon: a pure state machine, told what happened, answering with
//! effects.
//!
//! A [`Realm`] has no socket, task, channel, log, clock or random source of its own. All that
//! comes in comes through its arguments, all that goes out through [`Context`]. That is why each
//! sentence of a protocol document can be a test of three lines, and why a test can let an hour
//! pass in no time.
//!
//! The broker promises a realm: each `open` that succeeds is followed by exactly one `close`; the
//! effects of one call are applied in order and before the next call; effects for a connection
//! that is closed or being closed come to nothing; a realm is never entered while it is at work.
//! When the daemon stops, everybody is closed at once and realms are told nothing more.

pub mod context;
pub(crate) mod erased;
pub(crate) mod options;
pub mod request;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
pub use context::{Connections, Context, Ids};
pub use request::{ConnectRequest, HttpReply, Method, Rejection, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A connection, as long as the daemon runs: the number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A data message from a client (RFC 6455 section 5.6), put together from its fragments.
#[derive(Clone, Debug)]
pub enum Message {
    /// Text; valid UTF-8.
    Text(Utf8Bytes),
    /// Anything.
    Binary(Bytes),
}

impl Message {
    /// Octets of its payload.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What a realm wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame to a connection.
    Send(ConnectionId, Frame),
    /// Send a frame to a connection if there is room, and tell another what became of that.
    /// Nobody is closed for having no room for it: so nobody can be pushed out by what a few
    /// others write to it.
    Deliver(ConnectionId, Frame, Box<Receipt>),
    /// Close a connection, after what was sent to it before. The realm is told by
    /// [`Realm::close`], as for any other end.
    Close(ConnectionId, CloseReason),
    /// Ask a connection for a sign of life, a Ping, and wait so long for one. The realm is told
    /// by [`Realm::probe_result`], unless it is told before that the connection is gone. While a
    /// connection is being asked, asking again changes nothing.
    Probe(ConnectionId, Duration),
}

/// What is said to a sender of what it sent.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The sender.
    pub to: ConnectionId,
    /// For when the frame is in the outbox of whom it is for.
    pub delivered: Option<Frame>,
    /// For when it is not, since that one is closed, or has no room.
    pub failed: Option<Frame>,
}

/// What happens when somebody sends to a connection whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// Whoever reads too slowly is closed with [`CloseReason::TooSlow`]. That is a client whose socket
    /// takes nothing when its outbox is full; as long as only its task has not had its turn, the
    /// sender waits for that, and for no longer.
    Disconnect,
    /// Whoever sends is not read from until there is room: back-pressure from end to end.
    Backpressure,
}

/// What a listener of this protocol has in its configuration unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Defaults {
    /// The port, on 127.0.0.1.
    pub port: u16,
    /// `origins`.
    pub origins: &'static [&'static str],
    /// `handshake_timeout`, in seconds.
    pub handshake_timeout: u64,
    /// `max_message_size`, in bytes.
    pub max_message_size: u64,
    /// `ping_every`, in seconds.
    pub ping_every: u64,
}

/// One protocol on one listener: state and rules. See the [module](self) for the broker's
/// promises.
pub trait Realm: Send + Sized + 'static {
    /// The protocol's name in the configuration and the log.
    const NAME: &'static str;
    /// The path that a client connects to by default, for messages that help.
    const ENDPOINT: &'static str;
    /// Defaults of the listener's configuration.
    const DEFAULTS: Defaults;
    /// The policy for slow readers.
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy;

    /// The plain HTTP requests that are for the realm to answer, by [`Realm::request`], and with
    /// CORS headers, since they come from web pages. If there are none, whoever asks is told what
    /// to connect with.
    const METHODS: &'static [Method] = &[];

    /// What a client is told for whom there is no room (`max_connections`), before it is closed
    /// with [`CloseReason::TooManyConnections`]. A protocol that has no message for that answers with
    /// HTTP 503.
    const FULL: Option<&'static str> = None;

    /// The protocol's own part of the listener's configuration. Each key has a default.
    type Options: Default + Serialize + DeserializeOwned;

    /// What a connection remembers of messages for reading the next ones: the dialect that its
    /// client speaks, where there are several.
    type Reader: Default + Send + 'static;

    /// A client's message, understood; whether it may be done is for [`Realm::command`] to say.
    type Command: Send + 'static;

    /// A realm with nobody in it.
    ///
    /// # Errors
    /// The first option that is out of range: its key, and a sentence that says what would be
    /// right.
    fn new(options: Self::Options) -> Result<Self, (&'static str, String)>;

    /// The path that a client connects to with these options.
    fn endpoint(_options: &Self::Options) -> String {
        Self::ENDPOINT.to_owned()
    }

    /// Whether a request's path leads to this protocol; else the answer is 404.
    fn matches_path(path: &str) -> bool;

    /// Reads a message. Runs in the connection's own task and knows no state but its own; what is malformed
    /// becomes a command, too, so that its answer keeps its place among the others. `None` is a
    /// message that the protocol ignores; that is logged.
    fn decode(reader: &mut Self::Reader, message: Message) -> Option<Self::Command>;

    /// Somebody asks something by one of [`Realm::METHODS`].
    fn request(&mut self, _cx: &mut Context, _request: &Request) -> HttpReply {
        unreachable!("a protocol that answers requests does so here")
    }

    /// Somebody comes in. What is sent to `conn` here goes out right behind the handshake, however
    /// much it is, so the realm bounds it.
    ///
    /// # Errors
    /// A refusal by HTTP status; then no `close` follows.
    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        hello: ConnectRequest,
    ) -> Result<(), Rejection>;

    /// Somebody sent a message.
    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Self::Command);

    /// Somebody is gone, exactly once for each `open` that succeeded.
    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason);

    /// Somebody who was asked for a sign of life by [`Context::probe`] has given one, or has not
    /// in the time that it had. The latter closes nothing by itself.
    fn probe_result(&mut self, _cx: &mut Context, _who: ConnectionId, _alive: bool) {}

    /// What it keeps of clients besides what waits in outboxes, in bytes, where they can make that much.
    fn stored_bytes(&self) -> usize {
        0
    }

    /// How much of that is a connection's, and goes when it goes.
    fn stored_bytes_of(&self, _who: ConnectionId) -> usize {
        0
    }

    /// A second has passed.
    fn tick(&mut self, _cx: &mut Context) {}

    /// The daemon stops. What is sent now is the last that anybody gets before the Close.
    fn stop(&mut self, _cx: &mut Context) {}
}
