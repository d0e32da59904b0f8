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
const JOINED: &str = "the other guy joined";

/// The letters of a code: none that is read or spoken as another (rulings, "PeerDrop").
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// How many addresses' wrong guesses are remembered. Beyond it those are forgotten that are not
/// refused, and if there are still too many, all: whoever has so many addresses needs no second
/// guess from any.
const GUESSERS: usize = 10_000;

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
    peer: Option<ConnectionId>,
}

impl Session {
    fn other_than(&self, conn: ConnectionId) -> Option<ConnectionId> {
        if conn == self.creator {
            self.peer
        } else {
            Some(self.creator)
        }
    }
}

#[derive(Default)]
struct Guesser {
    wrong: SlidingWindow,
    refused_until: Duration,
}

/// The sessions of one listener.
pub struct PeerDrop {
    options: Options,
    sessions: HashMap<String, Session>,
    /// The code of the session that each connection is in.
    codes: HashMap<ConnectionId, String>,
    guessers: HashMap<SubnetKey, Guesser>,
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
            codes: HashMap::new(),
            guessers: HashMap::new(),
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
        hello: ConnectRequest,
    ) -> Result<(), Rejection> {
        match code_in(&hello.path) {
            None => self.create(cx, conn),
            Some(code) => match self.join(cx, conn, code, hello.address) {
                Ok(()) => {}
                Err(refused) => cx.close(conn, refused),
            },
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, text: Utf8Bytes) {
        let session = self
            .codes
            .get(&conn)
            .and_then(|code| self.sessions.get(code));
        // Nobody there yet: "no offline message queue" ("Limitations").
        if let Some(other) = session.and_then(|session| session.other_than(conn)) {
            cx.send(other, Frame::text(text));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _how: DisconnectReason) {
        // Those who were refused are in no session, and who is left alone is told only once.
        let Some(code) = self.codes.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.remove(&code) else {
            return;
        };
        if let Some(other) = session.other_than(conn) {
            self.codes.remove(&other);
            cx.close(other, CloseReason::PeerLeft);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.guessers
            .retain(|_, guesser| guesser.refused_until > cx.now || guesser.wrong.count(cx.now) > 0);
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
        self.codes.insert(conn, code.clone());
        self.sessions.insert(
            code,
            Session {
                creator: conn,
                peer: None,
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
        let subscriber = SubnetKey::of(address);
        if self
            .guessers
            .get(&subscriber)
            .is_some_and(|guesser| cx.now < guesser.refused_until)
        {
            return Err(CloseReason::TooManyGuesses);
        }
        let code = code.to_ascii_uppercase();
        let Some(session) = self.sessions.get_mut(&code) else {
            self.count_wrong_guess(cx.now, subscriber);
            return Err(CloseReason::UnknownSession);
        };
        if session.peer.is_some() {
            return Err(CloseReason::SessionFull);
        }
        session.peer = Some(conn);
        cx.send(conn, Frame::text(code.clone()));
        cx.send(session.creator, Frame::text(Utf8Bytes::from_static(JOINED)));
        self.codes.insert(conn, code);
        Ok(())
    }

    fn count_wrong_guess(&mut self, now: Duration, subscriber: SubnetKey) {
        let limit = self.options.wrong_codes_per_minute;
        if limit == 0 {
            return;
        }
        if self.guessers.len() >= GUESSERS && !self.guessers.contains_key(&subscriber) {
            self.guessers
                .retain(|_, guesser| guesser.refused_until > now);
            if self.guessers.len() >= GUESSERS {
                self.guessers.clear();
            }
        }
        let guesser = self.guessers.entry(subscriber).or_default();
        // Never refused: at the limit it begins anew.
        let _ = guesser.wrong.take(now, limit);
        if guesser.wrong.count(now) >= limit as usize {
            *guesser = Guesser {
                refused_until: now + SPAN,
                ..Guesser::default()
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
