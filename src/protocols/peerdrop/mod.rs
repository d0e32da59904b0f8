//! PeerDrop: pairs two clients by a short code and relays text messages between them, unchanged.
//!
//! The protocol has no message types. The first frame to a client is the code of its session. The
//! next frame to the client that created the session says that the peer has joined. All other frames
//! are relayed.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, SlowConsumerPolicy,
};
use crate::toolkit::rate_limit::{SlidingWindow, WINDOW};
use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Text for the creator of a session when the peer joins ("Receiving Messages", 2).
const PEER_JOINED: &str = "the other guy joined";

/// Characters of a code. People read codes aloud and type them, so those that are easily taken for another (I
/// and 1, O and 0) are left out (rulings, "PeerDrop").
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Number of subnets whose wrong codes are kept. At this limit the subnets that are not rejected are
/// dropped, and if all are rejected, every one: an attacker with that many addresses does not need a
/// second guess from any of them.
const MAX_TRACKED_SUBNETS: usize = 10_000;

/// Options of a PeerDrop listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Number of characters in a code: 4 to 12.
    code_length: u8,
    /// Wrong codes per minute from one subnet, after which it is rejected for a minute; 0: no limit.
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

/// A session of two connections, or of one that waits for its peer.
struct Session {
    creator: ConnectionId,
    joiner: Option<ConnectionId>,
}

impl Session {
    /// Returns the other connection of the session, if there is one.
    fn peer_of(&self, conn: ConnectionId) -> Option<ConnectionId> {
        if conn == self.creator {
            self.joiner
        } else {
            Some(self.creator)
        }
    }
}

/// Wrong codes from one subnet.
#[derive(Default)]
struct WrongCodes {
    recent: SlidingWindow,
    rejected_until: Duration,
}

/// The sessions of one listener.
pub struct PeerDrop {
    options: Options,
    /// Sessions by code.
    sessions: BTreeMap<String, Session>,
    /// Code of the session that each connection is in. A connection that was rejected has none.
    code_by_connection: BTreeMap<ConnectionId, String>,
    wrong_codes_by_subnet: BTreeMap<SubnetKey, WrongCodes>,
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
        message_timeout: 30,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Backpressure;

    type Options = Options;
    type Decoder = ();
    /// A text for the peer.
    type Command = Utf8Bytes;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        let length = options.code_length;
        if !(4..=12).contains(&length) {
            let problem = format!("must be 4 to 12 characters, not {length}");
            return Err(("code_length", problem));
        }
        Ok(Self {
            options,
            sessions: BTreeMap::new(),
            code_by_connection: BTreeMap::new(),
            wrong_codes_by_subnet: BTreeMap::new(),
        })
    }

    fn matches_path(path: &str) -> bool {
        path == Self::ENDPOINT || code_in(path).is_some()
    }

    fn decode((): &mut (), message: Message) -> Option<Utf8Bytes> {
        match message {
            Message::Text(text) => Some(text),
            // "Text only" ("Limitations"). Ignored, since the protocol has no error message (rulings,
            // "PeerDrop").
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
            Some(code) => {
                if let Err(reason) = self.join(cx, conn, code, request.address) {
                    cx.close(conn, reason);
                }
            }
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, text: Utf8Bytes) {
        let session = self
            .code_by_connection
            .get(&conn)
            .and_then(|code| self.sessions.get(code));
        // Dropped while there is no peer: "No offline message queue" ("Limitations").
        if let Some(peer) = session.and_then(|session| session.peer_of(conn)) {
            cx.send(peer, Frame::text(text));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _how: DisconnectReason) {
        let Some(code) = self.code_by_connection.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.remove(&code) else {
            return;
        };
        if let Some(peer) = session.peer_of(conn) {
            self.code_by_connection.remove(&peer);
            cx.close(peer, CloseReason::PeerLeft);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.wrong_codes_by_subnet.retain(|_, wrong_codes| {
            wrong_codes.rejected_until > cx.now || wrong_codes.recent.count(cx.now) > 0
        });
    }
}

impl PeerDrop {
    /// Creates a session for a connection and sends its code.
    fn create(&mut self, cx: &mut Context, conn: ConnectionId) {
        // Even at the shortest length there are a million codes, far more than a machine can hold
        // connections, so that an unused one is found soon.
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

    /// Joins a connection to the session with this code.
    ///
    /// # Errors
    /// The reason to close the connection: the subnet is rejected, or the code is unknown or used by
    /// two already.
    fn join(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        code: &str,
        address: IpAddr,
    ) -> Result<(), CloseReason> {
        let subnet = SubnetKey::of(address);
        if self
            .wrong_codes_by_subnet
            .get(&subnet)
            .is_some_and(|wrong_codes| cx.now < wrong_codes.rejected_until)
        {
            return Err(CloseReason::TooManyGuesses);
        }
        let code = code.to_ascii_uppercase();
        let Some(session) = self.sessions.get_mut(&code) else {
            self.record_wrong_code(cx.now, subnet);
            return Err(CloseReason::SessionNotFound);
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

    /// Counts a wrong code from a subnet, and rejects the subnet for a minute when it reaches the limit.
    fn record_wrong_code(&mut self, now: Duration, subnet: SubnetKey) {
        let limit = self.options.wrong_codes_per_minute;
        if limit == 0 {
            return;
        }
        if self.wrong_codes_by_subnet.len() >= MAX_TRACKED_SUBNETS
            && !self.wrong_codes_by_subnet.contains_key(&subnet)
        {
            self.wrong_codes_by_subnet
                .retain(|_, wrong_codes| wrong_codes.rejected_until > now);
            if self.wrong_codes_by_subnet.len() >= MAX_TRACKED_SUBNETS {
                self.wrong_codes_by_subnet.clear();
            }
        }
        let wrong_codes = self.wrong_codes_by_subnet.entry(subnet).or_default();
        // Cannot fail: the window is emptied below as soon as it is full.
        let _ = wrong_codes.recent.try_record(now, limit);
        if wrong_codes.recent.count(now) >= limit as usize {
            *wrong_codes = WrongCodes {
                rejected_until: now + WINDOW,
                ..WrongCodes::default()
            };
        }
    }
}

/// Returns the code in `/ws/chat/{code}`.
fn code_in(path: &str) -> Option<&str> {
    path.strip_prefix("/ws/chat/")
        .filter(|code| !code.is_empty() && !code.contains('/'))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
