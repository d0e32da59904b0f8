//! PeerDrop: pairs two clients by a short code and relays text messages between them, unchanged.
//!
//! The protocol has no message types. The first frame to a client is the code of its session. The
//! next frame to the client that created the session says that the peer has joined. All other frames
//! are relayed.

mod close_reasons;
mod options;
mod waiting_joins;
mod wrong_codes;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::ClientAddress;
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Message, Protocol, Realm, Rejection,
    SettingError, SettingMap, SlowConsumerPolicy, TryPage,
};
use async_tungstenite::tungstenite::Utf8Bytes;
use options::MAX_CODE_LENGTH;
pub use options::Options;
use serde_json::json;
use std::collections::BTreeMap;
use waiting_joins::WaitingJoins;
use wrong_codes::WrongCodes;

/// Text for the creator of a session when the peer joins ("Receiving Messages", 2).
const PEER_JOINED: &str = "the other guy joined";

/// Characters of a code. People read codes aloud and type them, so those that are easily taken for another (I
/// and 1, O and 0) are left out (rulings, "PeerDrop").
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

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

/// The sessions of one listener.
pub struct PeerDrop {
    options: Options,
    /// Sessions by code.
    sessions: BTreeMap<String, Session>,
    /// Code of the session that each connection is in. A connection that waits or was rejected has none.
    code_by_connection: BTreeMap<ConnectionId, String>,
    wrong_codes: WrongCodes,
    waiting: WaitingJoins,
    /// Number of connections that were closed for [`close_reasons::TOO_MANY_GUESSES`].
    rate_limited: u64,
}

/// Path that a client connects to.
const ENDPOINT: &str = "/ws/chat";

/// PeerDrop as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "peerdrop",
    endpoint: |_| ENDPOINT.to_owned(),
    listener_defaults: || json!({"address": "localhost:9081", "max_message_size": 64 << 20}),
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Backpressure,
    min_outbox_messages: 0,
    methods: &[],
    full_message: None,
    matches_path: |path| path == ENDPOINT || code_in(path).is_some(),
    client_id: |_| None,
    token_parameter: None,
    try_page: Some(TryPage {
        title: "PeerDrop",
        path: |_| "/".to_owned(),
        html: include_str!("try.html"),
        script: include_str!("try.js"),
        options: &[],
    }),
    new_decoder: |_| {
        Box::new(|message| match message {
            // The frame for the peer, so that the broker does not copy it.
            Message::Text(text) => Some(Command::new(Frame::text(text))),
            // "Text only" ("Limitations"). Ignored, since the protocol has no error message (rulings, "PeerDrop").
            Message::Binary(_) => None,
        })
    },
    new_realm: new_realm::<PeerDrop>,
};

impl Realm for PeerDrop {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Options::from_map(options)?;
        Ok(Self {
            sessions: BTreeMap::new(),
            code_by_connection: BTreeMap::new(),
            wrong_codes: WrongCodes::new(
                options.wrong_codes_per_minute,
                options.total_wrong_codes_per_minute,
                options.max_waiting_joins,
            ),
            waiting: WaitingJoins::new(options.max_waiting_joins, options.max_waiting_joins_per_ip),
            rate_limited: 0,
            options,
        })
    }

    fn reconfigure(
        &mut self,
        _cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        let options = Options::from_map(options)?;
        self.wrong_codes.set_limits(
            options.wrong_codes_per_minute,
            options.total_wrong_codes_per_minute,
            options.max_waiting_joins,
        );
        self.waiting
            .set_limits(options.max_waiting_joins, options.max_waiting_joins_per_ip);
        self.options = options;
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        if let Err(reason) = self.handle_connect(cx, conn, &request) {
            self.refuse(cx, conn, reason);
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let frame: Frame = command.into();
        let session = self
            .code_by_connection
            .get(&conn)
            .and_then(|code| self.sessions.get(code));
        // Dropped while there is no peer, or the client has not joined yet: "No offline message queue"
        // ("Limitations").
        if let Some(peer) = session.and_then(|session| session.peer_of(conn)) {
            cx.send(peer, frame);
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        let Some(code) = self.code_by_connection.remove(&conn) else {
            self.waiting.remove(conn);
            return;
        };
        let Some(session) = self.sessions.remove(&code) else {
            return;
        };
        if let Some(peer) = session.peer_of(conn) {
            self.code_by_connection.remove(&peer);
            cx.close(peer, close_reasons::PEER_LEFT);
        }
    }

    fn stored_bytes(&self) -> usize {
        self.wrong_codes.bytes() + self.waiting.bytes()
    }

    fn figures(&self) -> Figures {
        Figures {
            sizes: vec![
                ("sessions", self.sessions.len()),
                ("waiting_joins", self.waiting.len()),
                ("wrong_codes", self.wrong_codes.len()),
            ],
            rate_limited: self.rate_limited,
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        while let Some(join) = self.waiting.pop_due(cx.now) {
            // Other joins of the address may have been wrong meanwhile.
            let result = if self.wrong_codes.is_rejected(cx.now, join.address) {
                Err(close_reasons::TOO_MANY_GUESSES)
            } else {
                self.look_up(cx, join.conn, join.code, join.address)
            };
            if let Err(reason) = result {
                self.refuse(cx, join.conn, reason);
            }
        }
        self.wrong_codes.tick(cx.now);
    }

    fn free_spare(&mut self) {
        let Self {
            sessions,
            code_by_connection,
            wrong_codes,
            waiting,
            rate_limited: _,
            options: _,
        } = self;
        sessions.free_spare();
        code_by_connection.free_spare();
        wrong_codes.free_spare();
        waiting.free_spare();
    }
}

impl PeerDrop {
    /// Creates a session for a connection, or joins it to one, if its access token lets it, and until that ends.
    ///
    /// # Errors
    /// The reason to close the connection: its token does not let it, or one of those of [`Self::join`].
    fn handle_connect(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: &ConnectRequest,
    ) -> Result<(), CloseReason> {
        let access = request.access.claims(None, cx.wall);
        let access = access.map_err(|_| CloseReason::UNAUTHORIZED)?;
        let code = code_in(&request.path);
        let role = if code.is_some() { "join" } else { "create" };
        if access.as_ref().is_some_and(|access| !access.has_role(role)) {
            return Err(CloseReason::UNAUTHORIZED);
        }
        match code {
            None => self.create(cx, conn),
            Some(code) => self.join(cx, conn, code, request.address)?,
        }
        if let Some(end) = access.and_then(|access| access.end()) {
            cx.expire_at(conn, Some(end));
        }
        Ok(())
    }

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

    /// Looks up a code that a connection wants to join with, or makes it wait while clients try too many wrong
    /// ones.
    ///
    /// # Errors
    /// The reason to close the connection: its address may not join, too many joins wait, or one of those of
    /// [`Self::look_up`].
    fn join(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        code: &str,
        address: ClientAddress,
    ) -> Result<(), CloseReason> {
        if self.wrong_codes.is_rejected(cx.now, address) {
            return Err(close_reasons::TOO_MANY_GUESSES);
        }
        // A longer code is unknown, and not worth keeping. One of another length than new ones may be older than a
        // reload.
        let code = if code.len() <= usize::from(MAX_CODE_LENGTH) {
            code.to_ascii_uppercase()
        } else {
            String::new()
        };
        if !self.wrong_codes.is_above_total(cx.now) {
            return self.look_up(cx, conn, code, address);
        }
        if self.waiting.try_insert(cx.now, conn, code, address) {
            Ok(())
        } else {
            Err(close_reasons::TOO_MANY_GUESSES)
        }
    }

    /// Closes a connection that cannot join.
    fn refuse(&mut self, cx: &mut Context, conn: ConnectionId, reason: CloseReason) {
        self.rate_limited += u64::from(reason == close_reasons::TOO_MANY_GUESSES);
        cx.close(conn, reason);
    }

    /// Joins a connection to the session with this code.
    ///
    /// # Errors
    /// The reason to close the connection: the code is unknown, or used by two already.
    fn look_up(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        code: String,
        address: ClientAddress,
    ) -> Result<(), CloseReason> {
        let Some(session) = self.sessions.get_mut(&code) else {
            self.wrong_codes.record(cx.now, address);
            return Err(close_reasons::SESSION_NOT_FOUND);
        };
        if session.joiner.is_some() {
            return Err(close_reasons::SESSION_FULL);
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
}

/// Returns the code in `/ws/chat/{code}`.
fn code_in(path: &str) -> Option<&str> {
    path.strip_prefix("/ws/chat/")
        .filter(|code| !code.is_empty() && !code.contains('/'))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
