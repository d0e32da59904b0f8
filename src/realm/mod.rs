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

use crate::base::close::{Close, Ending};
use crate::base::frame::Frame;
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// A connection, as long as the daemon runs: the number is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Who comes in, or asks something: what a realm may know of a request.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The path of the request target, as it was sent.
    pub path: String,
    /// What stands behind the `?`, as it was sent; empty where there is none.
    pub query: String,
    /// The client's address, through trusted proxies.
    pub address: IpAddr,
}

impl Hello {
    /// A parameter of the query, percent-decoded, `+` being a space. The last one of that name.
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }
}

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
            Self::Binary(octets) => octets.len(),
        }
    }
}

/// A handshake refused with an HTTP status instead of a Close frame.
///
/// A browser cannot read the status; so this is for clients that would otherwise come back for
/// ever. Everybody else is let in and closed with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status: one that [`crate::net::http::request`] knows.
    pub status: u16,
    /// One line for whoever looks at the answer.
    pub text: &'static str,
}

/// A plain HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for, and by whom.
    pub hello: Hello,
    /// How; HEAD is GET here.
    pub method: Method,
    /// Of a POST, as it was sent; empty otherwise.
    pub body: Vec<u8>,
}

/// The methods of requests that a realm may answer (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD with it.
    Get,
    /// POST.
    Post,
}

/// A realm's answer to a plain HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// 200.
    Ok {
        /// The media type of the body.
        content_type: &'static str,
        /// All of it; one to HEAD goes without.
        body: Arc<str>,
    },
    /// 426: a WebSocket is there.
    UpgradeRequired {
        /// A request target that a client could connect to, for whoever looks at the answer.
        target: String,
    },
    /// Any other status.
    Refused(Refusal),
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
    Close(ConnectionId, Close),
    /// Ask a connection for a sign of life, a Ping, and wait so long for one. The realm is told
    /// by [`Realm::probed`], unless it is told before that the connection is gone. While a
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

/// What a realm may know of the connections that it has.
pub trait Connections {
    /// The last round trip of a Ping that was measured; none before the first (the listener's
    /// `ping_every`).
    fn round_trip(&self, who: ConnectionId) -> Option<Duration>;
}

/// Fresh ids, and all the randomness there is.
pub trait Ids {
    /// A new random UUID (version 4), from the operating system's random source in the daemon.
    fn uuid(&mut self) -> Uuid;
}

/// What a realm has at hand during one call.
pub struct Context<'a> {
    /// Time since the daemon started; never goes back. For all that is measured.
    pub now: Duration,
    /// The time of day. For what is shown, and for what others have dated; for nothing else.
    pub wall: SystemTime,
    connections: &'a dyn Connections,
    ids: &'a mut dyn Ids,
    effects: &'a mut Vec<Effect>,
}

impl<'a> Context<'a> {
    /// Puts a context together.
    pub fn new(
        now: Duration,
        wall: SystemTime,
        connections: &'a dyn Connections,
        ids: &'a mut dyn Ids,
        effects: &'a mut Vec<Effect>,
    ) -> Self {
        Self {
            now,
            wall,
            connections,
            ids,
            effects,
        }
    }

    /// Sends a frame to a connection.
    pub fn send(&mut self, to: ConnectionId, frame: Frame) {
        self.effects.push(Effect::Send(to, frame));
    }

    /// Sends a frame to a connection, and tells its sender what became of that.
    pub fn deliver(&mut self, to: ConnectionId, frame: Frame, receipt: Receipt) {
        self.effects
            .push(Effect::Deliver(to, frame, Box::new(receipt)));
    }

    /// Asks a connection for a sign of life within `patience`; [`Realm::probed`] has the answer.
    pub fn probe(&mut self, who: ConnectionId, patience: Duration) {
        self.effects.push(Effect::Probe(who, patience));
    }

    /// The last measured round trip of a Ping to a connection.
    pub fn round_trip(&self, who: ConnectionId) -> Option<Duration> {
        self.connections.round_trip(who)
    }

    /// A new random UUID (version 4).
    pub fn uuid(&mut self) -> Uuid {
        self.ids.uuid()
    }

    /// Closes a connection, after what was sent to it before.
    pub fn close(&mut self, who: ConnectionId, why: Close) {
        self.effects.push(Effect::Close(who, why));
    }

    /// `count` random characters (at most 15) out of an alphabet of ASCII characters. All equally
    /// likely when the alphabet's length is a power of two up to 32.
    pub fn letters(&mut self, alphabet: &[u8], count: usize) -> String {
        // Six bits of a random UUID say that it is one; four of them stand in octet 6, which
        // therefore has no five random bits to give.
        let octets = self.ids.uuid().into_bytes();
        octets
            .iter()
            .enumerate()
            .filter(|&(at, _)| at != 6)
            .take(count)
            .filter_map(|(_, &octet)| alphabet.get(usize::from(octet & 0x3f) % alphabet.len()))
            .map(|&letter| char::from(letter))
            .collect()
    }

    /// Milliseconds since the epoch.
    pub fn epoch_millis(&self) -> u64 {
        let since = self
            .wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// ISO 8601 in UTC with milliseconds and `Z` (rulings, "time stamps").
    pub fn timestamp(&self) -> String {
        humantime::format_rfc3339_millis(self.wall).to_string()
    }
}

/// What happens when somebody sends to a connection whose outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Whoever reads too slowly is closed with [`Close::TooSlow`]. That is a client whose socket
    /// takes nothing when its outbox is full; as long as only its task has not had its turn, the
    /// sender waits for that, and for no longer.
    CloseReader,
    /// Whoever sends is not read from until there is room: back-pressure from end to end.
    HoldSender,
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
    const WHEN_FULL: WhenFull;

    /// The plain HTTP requests that are for the realm to answer, by [`Realm::request`], and with
    /// CORS headers, since they come from web pages. If there are none, whoever asks is told what
    /// to connect with.
    const METHODS: &'static [Method] = &[];

    /// What a client is told for whom there is no room (`max_connections`), before it is closed
    /// with [`Close::TooManyConnections`]. A protocol that has no message for that answers with
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
    fn serves(path: &str) -> bool;

    /// Reads a message. Runs in the connection's own task and knows no state but its own; what is malformed
    /// becomes a command, too, so that its answer keeps its place among the others. `None` is a
    /// message that the protocol ignores; that is logged.
    fn decode(reader: &mut Self::Reader, message: Message) -> Option<Self::Command>;

    /// Somebody asks something by one of [`Realm::METHODS`].
    fn request(&mut self, _cx: &mut Context, _request: &Request) -> Reply {
        unreachable!("a protocol that answers requests does so here")
    }

    /// Somebody comes in. What is sent to `who` here goes out right behind the handshake, however
    /// much it is, so the realm bounds it.
    ///
    /// # Errors
    /// A refusal by HTTP status; then no `close` follows.
    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal>;

    /// Somebody sent a message.
    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: Self::Command);

    /// Somebody is gone, exactly once for each `open` that succeeded.
    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending);

    /// Somebody who was asked for a sign of life by [`Context::probe`] has given one, or has not
    /// in the time that it had. The latter closes nothing by itself.
    fn probed(&mut self, _cx: &mut Context, _who: ConnectionId, _alive: bool) {}

    /// What it keeps of clients besides what waits in outboxes, in bytes, where they can make that much.
    fn kept(&self) -> usize {
        0
    }

    /// How much of that is a connection's, and goes when it goes.
    fn kept_of(&self, _who: ConnectionId) -> usize {
        0
    }

    /// A second has passed.
    fn tick(&mut self, _cx: &mut Context) {}

    /// The daemon stops. What is sent now is the last that anybody gets before the Close.
    fn stop(&mut self, _cx: &mut Context) {}
}

/// Checks options that have a least value: key, value, least value, unit.
///
/// # Errors
/// The first that is less, as [`Realm::new`] says it.
pub(crate) fn at_least(
    options: &[(&'static str, u32, u32, &str)],
) -> Result<(), (&'static str, String)> {
    match options.iter().find(|(_, value, least, _)| value < least) {
        Some((key, value, least, unit)) => {
            Err((key, format!("{value} is less than {least} {unit}")))
        }
        None => Ok(()),
    }
}

/// A command whose realm is known only to that realm and its `decode`.
pub(crate) type AnyCommand = Box<dyn Any + Send>;

/// A reader whose realm is known only to its `decode`.
pub(crate) type AnyReader = Box<dyn Any + Send>;

/// A realm of any protocol, as the broker holds it.
pub(crate) trait AnyRealm: Send {
    fn request(&mut self, cx: &mut Context, request: &Request) -> Reply;
    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal>;
    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: AnyCommand);
    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending);
    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool);
    fn kept(&self) -> usize;
    fn kept_of(&self, who: ConnectionId) -> usize;
    fn tick(&mut self, cx: &mut Context);
    fn stop(&mut self, cx: &mut Context);
}

impl<R: Realm> AnyRealm for R {
    fn request(&mut self, cx: &mut Context, request: &Request) -> Reply {
        Realm::request(self, cx, request)
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal> {
        Realm::open(self, cx, who, hello)
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: AnyCommand) {
        let command = command
            .downcast()
            .expect("a connection decodes with the protocol of its own listener");
        Realm::command(self, cx, who, *command);
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending) {
        Realm::close(self, cx, who, how);
    }

    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool) {
        Realm::probed(self, cx, who, alive);
    }

    fn kept(&self) -> usize {
        Realm::kept(self)
    }

    fn kept_of(&self, who: ConnectionId) -> usize {
        Realm::kept_of(self, who)
    }

    fn tick(&mut self, cx: &mut Context) {
        Realm::tick(self, cx);
    }

    fn stop(&mut self, cx: &mut Context) {
        Realm::stop(self, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Connections for Nobody {
        fn round_trip(&self, _: ConnectionId) -> Option<Duration> {
            None
        }
    }

    struct Fixed(Uuid);

    impl Ids for Fixed {
        fn uuid(&mut self) -> Uuid {
            self.0
        }
    }

    fn letters(octets: [u8; 16], alphabet: &[u8], count: usize) -> String {
        let mut ids = Fixed(Uuid::from_bytes(octets));
        let wall = SystemTime::UNIX_EPOCH;
        Context::new(Duration::ZERO, wall, &Nobody, &mut ids, &mut Vec::new())
            .letters(alphabet, count)
    }

    #[test]
    fn letters_come_from_the_random_bits_alone() {
        // The bits that are the same in each random UUID (RFC 9562 section 5.4) change nothing.
        let mut octets = [0; 16];
        let none = letters(octets, b"ab", 15);
        assert_eq!(none, "a".repeat(15));
        octets[6] = 0x40;
        octets[8] = 0x80;
        assert_eq!(letters(octets, b"ab", 15), none);
    }

    #[test]
    fn all_32_letters_can_come() {
        let alphabet = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let all: String = (0..32)
            .map(|bits| letters([bits; 16], alphabet, 1))
            .collect();
        assert_eq!(all.as_bytes(), alphabet);
    }

    #[test]
    fn time_is_shown_as_the_documents_show_it() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_768_557_600_007);
        let (mut ids, mut effects) = (Fixed(Uuid::nil()), Vec::new());
        let cx = Context::new(Duration::ZERO, wall, &Nobody, &mut ids, &mut effects);
        assert_eq!(cx.timestamp(), "2026-01-16T10:00:00.007Z");
        assert_eq!(cx.epoch_millis(), 1_768_557_600_007);
    }

    #[test]
    fn a_parameter_is_decoded_and_the_last_of_its_name() {
        let address = [127, 0, 0, 1].into();
        let query = "a=1&name=other&name=J%C3%BC+x&empty=".to_owned();
        let hello = Hello {
            path: String::new(),
            query,
            address,
        };
        assert_eq!(hello.parameter("name").as_deref(), Some("J\u{fc} x"));
        assert_eq!(hello.parameter("empty").as_deref(), Some(""));
        assert_eq!(hello.parameter("missing"), None);
    }
}
