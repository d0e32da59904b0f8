//! LOUDSYNC: a host opens a session, devices join it, and each member is sent the list of members and
//! how well they are connected. README.md in this folder describes the protocol to authors of clients.
//!
//! A member is a device. It keeps its place in the session when its connection is lost, until
//! `heartbeat_timeout` after its last heartbeat. A session ends when its host loses its place, or when all
//! its members are disconnected and a new session needs its place (`max_sessions`). A session from the
//! configuration (`sessions`) never ends. A member that is not the host is a guest.
//!
//! Clients use one of two dialects and meet in the same sessions. The rules in this file,
//! `join.rs` and `session.rs` do not depend on the dialect; only the codecs do.

mod close_reasons;
mod codec;
mod codec_document;
mod codec_upper_case;
mod departures;
mod fields;
mod identity;
mod join;
mod messages;
mod options;
mod proven_devices;
mod reconfigure;
mod session;
mod static_sessions;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Identity, Protocol, Realm, Rejection,
    Retention, SettingError, SettingMap, SlowConsumerPolicy, TryPage,
};
use crate::toolkit::pending_access::PendingAccess;
use crate::toolkit::pending_clients::PendingClients;
use codec::Recipient;
pub use codec::{Decoder, Dialect, Incoming};
use departures::has_lost_place;
use fields::VERSION;
pub use messages::{ClientMessage, ErrorReply, JoinRequest, Kick};
use messages::{ErrorCode, Join, LeaveReason, ServerMessage};
pub use options::Options;
use proven_devices::ProvenDevices;
use serde_json::json;
use serde_json::value::RawValue;
use session::Session;
use std::collections::BTreeMap;

/// The reason in `session_closed` when the host did not end the session itself.
const HOST_LOST: &str = "Host lost its connection";

/// The sessions of one listener.
pub struct Loudsync {
    options: Options,
    /// Connections that have not joined. A pending takeover keeps its recipient and its JOIN.
    pending: PendingClients<(Recipient, Join)>,
    /// What the connections that have not joined have shown with their requests.
    access: PendingAccess,
    /// Devices that clients have proven to be with tokens.
    proven: ProvenDevices,
    /// The session ID of each connection that has joined.
    connections: BTreeMap<ConnectionId, String>,
    /// The sessions by ID.
    sessions: BTreeMap<String, Session>,
    /// Memory of the sessions, counted once a second. In that time no client can open so many that it
    /// matters.
    stored_bytes: usize,
}

/// Path that a client connects to.
const ENDPOINT: &str = "/";

/// LOUDSYNC as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "loudsync",
    endpoint: |_| ENDPOINT.to_owned(),
    listener_defaults: || {
        // Each Ping measures the `latency` of a member.
        json!({"address": "localhost:8080", "ping_every": 5})
    },
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Disconnect,
    min_outbox_messages: 0,
    methods: &[],
    full_message: None,
    // Every path is accepted (rulings), since one listener serves one protocol only.
    matches_path: |_| true,
    client_id: |_| None,
    token_parameter: None,
    try_page: Some(TryPage {
        title: "LOUDSYNC",
        path: |_| "/".to_owned(),
        html: include_str!("try.html"),
        script: include_str!("try.js"),
        options: &["heartbeat_timeout"],
    }),
    new_decoder: |tokens| {
        let mut decoder = Decoder::new(tokens);
        Box::new(move |message| Some(Command::new(decoder.decode(message))))
    },
    new_realm: new_realm::<Loudsync>,
};

impl Realm for Loudsync {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Options::read(options)?;
        let sessions = options.sessions.iter().map(|session| {
            let id = session.id.clone();
            (id, Session::from_config(session, options.max_members))
        });
        Ok(Self {
            pending: PendingClients::new(options.join_timeout.duration()),
            access: PendingAccess::default(),
            proven: ProvenDevices::default(),
            sessions: sessions.collect(),
            options,
            connections: BTreeMap::new(),
            stored_bytes: 0,
        })
    }

    fn reconfigure(
        &mut self,
        cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.set_options(cx, Options::read(options)?);
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
        self.proven.forget_unprovable(&request.access);
        match self.access.insert(conn, request.access, cx.wall) {
            Ok(()) => self.pending.insert(cx.now, conn),
            Err(error) => {
                let client = Recipient {
                    connection: conn,
                    dialect: Dialect::Document,
                };
                identity::refuse_token(cx, client, error);
            }
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let incoming: Incoming = command.into();
        let client = Recipient {
            connection: conn,
            dialect: incoming.dialect,
        };
        let result = match self.connections.get(&conn).cloned() {
            Some(session_id) => self.handle_registered(cx, client, &session_id, incoming.message),
            None => self.handle_pending(cx, client, incoming.message),
        };
        if let Err(error) = result {
            send_error(cx, client, &error);
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason) {
        self.pending.remove(conn);
        self.access.remove(conn);
        self.proven.disconnect(cx.now, conn);
        match reason {
            // LEAVE and a Close frame of a client that meant to leave are `left` (rulings, "a clean Close").
            DisconnectReason::Closed(close_reasons::CLIENT_LEFT)
            | DisconnectReason::ClosedByClient(None | Some(1000 | 1001)) => {
                self.remove_member(cx, conn, LeaveReason::Left);
            }
            DisconnectReason::Closed(CloseReason::REMOVED) => {
                self.remove_member(cx, conn, LeaveReason::Kicked);
            }
            // A connection closed for what the client did, and one evicted for its memory, is `error`
            // (rulings): the member is not expected back.
            DisconnectReason::Closed(
                CloseReason::PROTOCOL_ERROR
                | CloseReason::INVALID_UTF8
                | CloseReason::TOO_BIG
                | CloseReason::TOO_SLOW
                | CloseReason::SHORT_OF_MEMORY,
            ) => self.remove_member(cx, conn, LeaveReason::Error),
            // After any other end the client may reconnect, so its member is `reconnecting` (rulings).
            _ => {
                if let Some(session) = self.detach_member(conn) {
                    session.broadcast_list(cx, None);
                }
            }
        }
        // The place that takeovers waited for may be free now. Clients with tokens go before those without.
        let mut takeovers = self.pending.end_takeovers(conn);
        takeovers.sort_by_key(|(_, (_, join))| !join.is_proven);
        for (_, (client, join)) in takeovers {
            self.join(cx, client, join);
        }
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        if alive {
            let message = "this device is already connected";
            let error = ErrorReply::new(ErrorCode::AlreadyJoined, message);
            self.reject_takeovers(cx, conn, &error);
        } else if self.pending.has_takeover_of(conn) {
            // Detached before it is closed, so that the others are not notified that it was lost: the
            // takeover completes at once.
            self.detach_member(conn);
            cx.close(conn, close_reasons::REPLACED);
        }
    }

    fn stored_bytes(&self) -> usize {
        self.stored_bytes + self.access.bytes() + self.proven.bytes()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        self.access.bytes_of(conn) + self.proven.bytes_of(conn)
    }

    fn figures(&self) -> Figures {
        let members = |session: &Session| session.members().count();
        Figures {
            sizes: vec![
                ("sessions", self.sessions.len()),
                ("members", self.sessions.values().map(members).sum()),
                ("members_connected", self.connections.len()),
                ("unregistered", self.pending.len()),
            ],
            // The document knows no such limit.
            rate_limited: 0,
        }
    }

    fn identity(&self, conn: ConnectionId) -> Identity {
        let session = self.connections.get(&conn);
        let session = session.and_then(|id| self.sessions.get(id));
        let mut members = session.into_iter().flat_map(Session::members);
        let member = members.find(|member| member.is_on(conn));
        Identity {
            name: member.map(|member| member.name.clone()),
            id: member.map(|member| member.id.clone()),
        }
    }

    /// Ends sessions that wait for their members to come back, and at last forgets which devices have proven who they
    /// are.
    fn shed(&mut self, cx: &mut Context, retention: Retention, bytes: usize) -> usize {
        match retention {
            Retention::BestEffort => 0,
            Retention::Promised => self.shed_abandoned(cx, bytes),
            Retention::Identity => self.proven.shed(bytes),
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.stored_bytes = self.sessions.values().map(Session::bytes).sum();
        let silent_since = |conn, since| cx.silent_since(conn, since);
        for conn in self.pending.expired(cx.now, silent_since) {
            cx.close(conn, close_reasons::JOIN_TIMEOUT);
        }
        let timeout = self.options.heartbeat_timeout.duration();
        let has_expired_member = |session: &Session| {
            let mut members = session.members();
            members.any(|member| has_lost_place(&self.pending, cx, member, timeout))
        };
        let affected = self
            .sessions
            .iter()
            .filter(|(_, session)| has_expired_member(session));
        let affected: Vec<String> = affected.map(|(id, _)| id.clone()).collect();
        for session_id in affected {
            self.remove_timed_out(cx, &session_id, timeout);
        }
        for session in self.sessions.values_mut() {
            session.tick(cx);
        }
    }

    fn free_spare(&mut self) {
        let Self {
            pending,
            access,
            proven,
            connections,
            sessions,
            options: _,
            stored_bytes: _,
        } = self;
        pending.free_spare();
        access.free_spare();
        proven.free_spare();
        connections.free_spare();
        sessions.free_spare();
        for session in sessions.values_mut() {
            session.guests.free_spare();
        }
    }

    fn stop(&mut self, cx: &mut Context) {
        for session in self.sessions.values() {
            let (timestamp, reason) = (cx.epoch_millis(), "Server is going away");
            session.broadcast(cx, &ServerMessage::SessionClosed { timestamp, reason });
        }
    }
}

impl Loudsync {
    /// Handles a message from a connection that has not joined a session.
    ///
    /// # Errors
    /// The error to answer with; the connection stays open.
    fn handle_pending(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let is_taking_over = self.pending.is_taking_over(client.connection);
        match message {
            // The first JOIN is still to be answered, and this one must not end it (rulings: "a second JOIN").
            ClientMessage::Join(request) if is_taking_over => {
                return Err(identity::second_join_error(*request));
            }
            ClientMessage::JoinOtherVersion if is_taking_over => return Err(already_joined()),
            ClientMessage::JoinOtherVersion => {
                let text =
                    format!("unsupported protocol version; this server speaks version {VERSION}");
                reject_join(
                    cx,
                    client,
                    &ErrorReply::new(ErrorCode::VersionMismatch, text),
                );
            }
            ClientMessage::Join(request) => return self.handle_join(cx, client, *request),
            ClientMessage::Ping(timestamp) => send_pong(cx, client, &timestamp),
            ClientMessage::Pong => {}
            ClientMessage::Invalid(error) => return Err(error),
            _ => {
                let text = if is_taking_over {
                    "another connection of this device is being checked; try again after the answer"
                } else {
                    "this connection has not joined a session; send join first"
                };
                return Err(ErrorReply::new(ErrorCode::Unauthorized, text));
            }
        }
        Ok(())
    }

    /// Handles a message from a member of a session.
    ///
    /// # Errors
    /// The error to answer with; the connection stays open.
    fn handle_registered(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        session_id: &str,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let conn = client.connection;
        match message {
            ClientMessage::Leave => cx.close(conn, close_reasons::CLIENT_LEFT),
            ClientMessage::Heartbeat => {
                if let Some(member) = self.member_mut(session_id, conn) {
                    member.last_heartbeat = cx.now;
                }
            }
            ClientMessage::MemberList => {
                if let Some(session) = self.sessions.get(session_id) {
                    session.send_list(cx, conn);
                }
            }
            ClientMessage::Kick(kick) => return self.kick(cx, conn, session_id, kick),
            ClientMessage::Join(request) => {
                return self.handle_second_join(cx, client, session_id, *request);
            }
            ClientMessage::JoinOtherVersion => return Err(already_joined()),
            ClientMessage::Ping(timestamp) => send_pong(cx, client, &timestamp),
            ClientMessage::Pong => {}
            ClientMessage::Invalid(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns whether no connection and no member is left.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        let has_no_member = |session: &Session| session.members().next().is_none();
        self.pending.is_empty()
            && self.access.is_empty()
            && self.proven.has_no_connection()
            && self.connections.is_empty()
            && self.sessions.len() == self.options.sessions.len()
            && self.sessions.values().all(has_no_member)
    }
}

fn send_error(cx: &mut Context, client: Recipient, error: &ErrorReply) {
    let error = ServerMessage::Error {
        timestamp: cx.epoch_millis(),
        code: error.code,
        message: &error.message,
        details: error.details.as_ref(),
    };
    client.send(cx, &error);
}

/// Answers a ping with the time stamp that it carried.
fn send_pong(cx: &mut Context, client: Recipient, timestamp: &RawValue) {
    let now = cx.epoch_millis();
    client.send(cx, &ServerMessage::Pong { now, timestamp });
}

/// Sends the reason why a JOIN is rejected, and closes the connection.
fn reject_join(cx: &mut Context, client: Recipient, error: &ErrorReply) {
    send_error(cx, client, error);
    cx.close(client.connection, close_reasons::JOIN_REJECTED);
}

fn already_joined() -> ErrorReply {
    let text = "this connection has already sent join";
    ErrorReply::new(ErrorCode::AlreadyJoined, text)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
