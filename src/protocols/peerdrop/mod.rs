//! PeerDrop: two strangers paired by a short code, and then everything that one says is passed
//! to the other as it came.
//!
//! The protocol has no message types: the first frame to a client is the session's code, the
//! next one to its creator says that the peer is there, and all else is theirs.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, SlowConsumerPolicy,
};
use crate::toolkit::rate_limit::{SPAN, SlidingWindow};
use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// What the creator is told when the peer joins ("Receiving Messages", 2).
const PEER_JOINED: &str = "the other guy joined";

/// The letters of a code: none that is read or spoken as another (rulings, "PeerDrop").
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// How many addresses' wrong guesses are remembered. Beyond it those are forgotten that are not
/// refused, and if there are still too many, all: whoever has so many addresses needs no second
/// guess from any.
const MAX_TRACKED_SUBNETS: usize = 10_000;

/// What the configuration may say about a PeerDrop listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Letters in a code: 4 to 12.
    code_length: u8,
    /// Wrong codes a minute from one address before it is refused for a minute; 0: no limit.
    wrong_codes_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code_length: 6,
            wrong_codes_per_minute: 10,
        }
    }
}

/// Two connections, or one that waits for the other.
struct Session {
    creator: ConnectionId,
    joiner: Option<ConnectionId>,
}

impl Session {
    fn peer_of(&self, conn: ConnectionId) -> Option<ConnectionId> {
        if conn == self.creator {
            self.joiner
        } else {
            Some(self.creator)
        }
    }
}

#[derive(Default)]
struct WrongGuesses {
    recent: SlidingWindow,
    refused_until: Duration,
}

/// The sessions of one listener.
pub struct PeerDrop {
    options: Options,
    sessions: HashMap<String, Session>,
    /// The code of the session that each connection is in.
    code_by_connection: HashMap<ConnectionId, String>,
    guesses_by_subnet: HashMap<SubnetKey, WrongGuesses>,
}

impl Realm for PeerDrop {
    const NAME: &'static str = "peerdrop";
    const ENDPOINT: &'static str = "/ws/chat";
    const DEFAULTS: Defaults = Defaults {
        port: 9081,
        origins: &["*"],
        handshake_timeout: 10,
        max_message_size: 64 << 20,
        ping_every: 0,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Backpressure;

    type Options = Options;
    /// A text for the other one.
    type Reader = ();
    type Command = Utf8Bytes;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if !(4..=12).contains(&options.code_length) {
            let problem = format!("{} is not from 4 to 12 letters", options.code_length);
            return Err(("code_length", problem));
        }
        Ok(Self {
            options,
            sessions: HashMap::new(),
            code_by_connection: HashMap::new(),
            guesses_by_subnet: HashMap::new(),
        })
    }

    fn matches_path(path: &str) -> bool {
        path == Self::ENDPOINT || code_in(path).is_some()
    }

    fn decode((): &mut (), message: Message) -> Option<Utf8Bytes> {
        match message {
            Message::Text(text) => Some(text),
            // "Text only" ("Limitations"); ignored (rulings).
            Message::Binary(_) => None,
        }
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        match code_in(&request.path) {
            None => self.create(cx, conn),
            Some(code) => match self.join(cx, conn, code, request.address) {
                Ok(()) => {}
                Err(reason) => cx.close(conn, reason),
            },
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, text: Utf8Bytes) {
        let session = self
            .code_by_connection
            .get(&conn)
            .and_then(|code| self.sessions.get(code));
        // Nobody there yet: "no offline message queue" ("Limitations").
        if let Some(other) = session.and_then(|session| session.peer_of(conn)) {
            cx.send(other, Frame::text(text));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _how: DisconnectReason) {
        // Those who were refused are in no session, and who is left alone is told only once.
        let Some(code) = self.code_by_connection.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.remove(&code) else {
            return;
        };
        if let Some(other) = session.peer_of(conn) {
            self.code_by_connection.remove(&other);
            cx.close(other, CloseReason::PeerLeft);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.guesses_by_subnet.retain(|_, guesses| {
            guesses.refused_until > cx.now || guesses.recent.count(cx.now) > 0
        });
    }
}

impl PeerDrop {
    fn create(&mut self, cx: &mut Context, conn: ConnectionId) {
        // Four letters make a million codes, far more than a machine holds connections.
        let code = loop {
            let code = cx.random_string(ALPHABET, usize::from(self.options.code_length));
            if !self.sessions.contains_key(&code) {
                break code;
            }
        };
        cx.send(conn, Frame::text(code.clone()));
        self.code_by_connection.insert(conn, code.clone());
        self.sessions.insert(
            code,
            Session {
                creator: conn,
                joiner: None,
            },
        );
    }

    fn join(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        code: &str,
        address: IpAddr,
    ) -> Result<(), CloseReason> {
        let subnet = SubnetKey::of(address);
        if self
            .guesses_by_subnet
            .get(&subnet)
            .is_some_and(|guesses| cx.now < guesses.refused_until)
        {
            return Err(CloseReason::TooManyGuesses);
        }
        let code = code.to_ascii_uppercase();
        let Some(session) = self.sessions.get_mut(&code) else {
            self.record_wrong_guess(cx.now, subnet);
            return Err(CloseReason::UnknownSession);
        };
        if session.joiner.is_some() {
            return Err(CloseReason::SessionFull);
        }
        session.joiner = Some(conn);
        cx.send(conn, Frame::text(code.clone()));
        cx.send(
            session.creator,
            Frame::text(Utf8Bytes::from_static(PEER_JOINED)),
        );
        self.code_by_connection.insert(conn, code);
        Ok(())
    }

    fn record_wrong_guess(&mut self, now: Duration, subnet: SubnetKey) {
        let limit = self.options.wrong_codes_per_minute;
        if limit == 0 {
            return;
        }
        if self.guesses_by_subnet.len() >= MAX_TRACKED_SUBNETS
            && !self.guesses_by_subnet.contains_key(&subnet)
        {
            self.guesses_by_subnet
                .retain(|_, guesses| guesses.refused_until > now);
            if self.guesses_by_subnet.len() >= MAX_TRACKED_SUBNETS {
                self.guesses_by_subnet.clear();
            }
        }
        let guesses = self.guesses_by_subnet.entry(subnet).or_default();
        // Never refused: at the limit it begins anew.
        let _ = guesses.recent.take(now, limit);
        if guesses.recent.count(now) >= limit as usize {
            *guesses = WrongGuesses {
                refused_until: now + SPAN,
                ..WrongGuesses::default()
            };
        }
    }
}

/// The code in `/ws/chat/{code}`.
fn code_in(path: &str) -> Option<&str> {
    path.strip_prefix("/ws/chat/")
        .filter(|code| !code.is_empty() && !code.contains('/'))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
