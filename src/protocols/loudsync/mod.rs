//! LOUDSYNC: a host opens a session, devices join it, and everybody in it knows who is there and
//! how well connected.
//!
//! A member is a device. Its place outlives a broken connection for as long as its last heartbeat
//! is good, and a session lives as long as its host's place does; or for ever, where the
//! configuration has it.
//!
//! Clients speak two dialects, and meet in the same sessions. The rules know none of them.

mod codec;
mod codec_document;
mod codec_upper_case;
mod fields;
mod join;
mod messages;
mod options;
mod session;
mod static_sessions;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, SlowConsumerPolicy,
};
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::pending_clients::PendingClients;
use codec::Recipient;
pub use codec::{Dialect, Incoming, Reader};
use fields::VERSION;
pub use messages::{ClientMessage, ErrorReply, Join, Kick};
use messages::{ErrorCode, LeaveReason, ServerMessage};
pub use options::Options;
use serde_json::value::RawValue;
use session::{Member, Session};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a session ends whose host is not there any more.
const HOST_LOST: &str = "Host lost its connection";

/// The sessions of one listener.
pub struct Loudsync {
    options: Options,
    /// Who waits for a place there, with where to answer.
    pending: PendingClients<(Recipient, Join)>,
    /// In which session each member's connection is.
    connections: BTreeMap<ConnectionId, String>,
    sessions: BTreeMap<String, Session>,
}

impl Realm for Loudsync {
    const NAME: &'static str = "loudsync";
    const ENDPOINT: &'static str = "/";
    const DEFAULTS: Defaults = Defaults {
        port: 8080,
        origins: &["*"],
        handshake_timeout: 10,
        max_message_size: 64 << 10,
        // For the members' latency.
        ping_every: 5,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;

    type Options = Options;
    type Reader = Reader;
    type Command = Incoming;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        options.check()?;
        let sessions = options.sessions.iter().map(|session| {
            let id = session.id.clone();
            (id, Session::from_config(session, options.max_members))
        });
        Ok(Self {
            pending: PendingClients::new(Duration::from_secs(options.join_timeout.into())),
            sessions: sessions.collect(),
            options,
            connections: BTreeMap::new(),
        })
    }

    /// Any (rulings).
    fn matches_path(_: &str) -> bool {
        true
    }

    fn decode(reader: &mut Reader, message: Message) -> Option<Incoming> {
        Some(reader.decode(message))
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        _: ConnectRequest,
    ) -> Result<(), Rejection> {
        self.pending.insert(cx.now, conn);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, incoming: Incoming) {
        let client = Recipient {
            connection: conn,
            dialect: incoming.dialect,
        };
        let result = match self.connections.get(&conn).cloned() {
            Some(session) => self.handle(cx, client, &session, incoming.message),
            None => self.handle_pending(cx, client, incoming.message),
        };
        if let Err(error) = result {
            send_error(cx, client, &error);
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason) {
        self.pending.remove(conn);
        match how {
            // LEAVE, and "a clean Close" (rulings).
            DisconnectReason::Closed(CloseReason::Goodbye)
            | DisconnectReason::Left(None | Some(1000 | 1001)) => {
                self.remove_member(cx, conn, LeaveReason::Left);
            }
            // "For what it did" (rulings).
            DisconnectReason::Closed(
                CloseReason::ProtocolError
                | CloseReason::InvalidUtf8
                | CloseReason::TooBig
                | CloseReason::TooSlow
                | CloseReason::ShortOfMemory,
            ) => self.remove_member(cx, conn, LeaveReason::Error),
            _ => {
                if let Some(session) = self.disconnect(conn) {
                    session.broadcast_list(cx, None);
                }
            }
        }
        // Its place may be free now.
        for (_, (claimant, join)) in self.pending.end_takeovers(conn) {
            self.join(cx, claimant, join);
        }
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        if alive {
            let message = "this device is connected";
            self.reject_takeovers(
                cx,
                conn,
                &ErrorReply::new(ErrorCode::AlreadyJoined, message),
            );
        } else if self.pending.has_takeover_of(conn) {
            // So that nobody hears of its loss: the claimant takes its place right away.
            self.disconnect(conn);
            cx.close(conn, CloseReason::Replaced);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        for conn in self.pending.expired(cx.now) {
            cx.close(conn, CloseReason::NotIntroduced);
        }
        let timeout = Duration::from_secs(self.options.heartbeat_timeout.into());
        let due = self.sessions.iter();
        let due = due.filter(|(_, session)| {
            session
                .members()
                .any(|member| member.has_timed_out(cx.now, timeout))
        });
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for session in due {
            self.remove_timed_out(cx, &session, timeout);
        }
        for session in self.sessions.values_mut() {
            session.tick(cx);
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
    /// Does what somebody wants who is in no session.
    fn handle_pending(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        match message {
            ClientMessage::Join(_) if self.pending.is_taking_over(client.connection) => {
                Err(already_joined())
            }
            ClientMessage::JoinOtherVersion => {
                let message = format!("this server speaks version {VERSION}, and no other");
                reject_join(
                    cx,
                    client,
                    &ErrorReply::new(ErrorCode::VersionMismatch, message),
                );
                Ok(())
            }
            ClientMessage::Join(join) => {
                self.check_max_members(&join)?;
                self.join(cx, client, join);
                Ok(())
            }
            ClientMessage::Ping(timestamp) => {
                send_pong(cx, client, &timestamp);
                Ok(())
            }
            ClientMessage::Pong => Ok(()),
            ClientMessage::Invalid(error) => Err(error),
            _ if self.pending.is_taking_over(client.connection) => {
                let message = "wait: the connection that this device has is being asked";
                Err(ErrorReply::new(ErrorCode::Unauthorized, message))
            }
            _ => Err(ErrorReply::new(ErrorCode::Unauthorized, "join comes first")),
        }
    }

    /// Does what a member wants.
    fn handle(
        &mut self,
        cx: &mut Context,
        client: Recipient,
        session: &str,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let conn = client.connection;
        match message {
            ClientMessage::Leave => cx.close(conn, CloseReason::Goodbye),
            ClientMessage::Heartbeat => {
                if let Some(member) = self.member(session, conn) {
                    member.last_heartbeat = cx.now;
                }
            }
            ClientMessage::MemberList => {
                if let Some(session) = self.sessions.get(session) {
                    session.send_list(cx, conn);
                }
            }
            ClientMessage::Kick(kick) => return self.kick(cx, conn, session, kick),
            ClientMessage::Join(_) | ClientMessage::JoinOtherVersion => {
                return Err(already_joined());
            }
            ClientMessage::Ping(timestamp) => send_pong(cx, client, &timestamp),
            ClientMessage::Pong => {}
            ClientMessage::Invalid(error) => return Err(error),
        }
        Ok(())
    }

    fn kick(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        session: &str,
        kick: Kick,
    ) -> Result<(), ErrorReply> {
        let Some(session) = self.sessions.get_mut(session) else {
            return Ok(());
        };
        if !session.is_hosted_by(conn) {
            let message = "only the host may remove members";
            return Err(ErrorReply::new(ErrorCode::Unauthorized, message));
        }
        let at = session.guests.iter().position(|it| it.id == kick.member_id);
        let Some(at) = at else {
            let problem = if session.host.id() == kick.member_id {
                "is the host itself, which ends the session by leave"
            } else {
                "is nobody's in this session"
            };
            return Err(InvalidMessage::field("memberId", problem).into());
        };
        let member = session.guests.remove(at);
        session.broadcast_left(cx, &member, LeaveReason::Kicked);
        if let Some(Recipient { connection, .. }) = member.recipient {
            let reason = kick.reason.as_deref();
            let kicked = ServerMessage::Kicked {
                timestamp: cx.epoch_millis(),
                reason: reason.unwrap_or("Host removed you from the session"),
            };
            member.send_to(cx, &kicked);
            cx.close(connection, CloseReason::Kicked);
            // Whoever says to be the same device is as little wanted.
            let message = "the host has just removed this device";
            let error = ErrorReply::new(ErrorCode::Unauthorized, message);
            self.reject_takeovers(cx, connection, &error);
        }
        Ok(())
    }

    /// A member goes for good, and its session with it if that is the host.
    fn remove_member(&mut self, cx: &mut Context, conn: ConnectionId, reason: LeaveReason) {
        let Some(id) = self.connections.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.is_hosted_by(conn) {
            let reason = match reason {
                LeaveReason::Left => "Host ended the session",
                _ => HOST_LOST,
            };
            self.end(cx, &id, reason);
        } else if let Some(at) = session.guests.iter().position(|it| it.is_on(conn)) {
            let member = session.guests.remove(at);
            session.broadcast_left(cx, &member, reason);
        }
    }

    /// A member's connection is not that any more; the member is awaited.
    fn disconnect(&mut self, conn: ConnectionId) -> Option<&mut Session> {
        let id = self.connections.remove(&conn)?;
        self.member(&id, conn)?.recipient = None;
        self.sessions.get_mut(&id)
    }

    fn member(&mut self, session: &str, conn: ConnectionId) -> Option<&mut Member> {
        let mut members = self.sessions.get_mut(session)?.members_mut();
        members.find(|member| member.is_on(conn))
    }

    /// Removes the members of a session who sent no heartbeat.
    fn remove_timed_out(&mut self, cx: &mut Context, id: &str, timeout: Duration) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let has_timed_out = |member: &Member| member.has_timed_out(cx.now, timeout);
        let (due, guests) = std::mem::take(&mut session.guests)
            .into_iter()
            .partition::<Vec<Member>, _>(has_timed_out);
        session.guests = guests;
        let host = session.host.member().filter(|host| has_timed_out(host));
        for recipient in due.iter().chain(host).filter_map(|it| it.recipient) {
            cx.close(recipient.connection, CloseReason::Idle);
        }
        if host.is_some() {
            self.end(cx, id, HOST_LOST);
        } else {
            for member in &due {
                session.broadcast_left(cx, member, LeaveReason::Timeout);
            }
        }
    }

    /// Ends a session, and tells those who are in it still and are not being closed already.
    fn end(&mut self, cx: &mut Context, id: &str, reason: &str) {
        if let Some(session) = self.sessions.remove(id) {
            let timestamp = cx.epoch_millis();
            session.broadcast(cx, &ServerMessage::SessionClosed { timestamp, reason });
            for recipient in session.members().filter_map(|member| member.recipient) {
                cx.close(recipient.connection, CloseReason::SessionClosed);
            }
        }
    }

    /// Turns those away who wait for a connection's place.
    fn reject_takeovers(&mut self, cx: &mut Context, owner: ConnectionId, why: &ErrorReply) {
        for (_, (claimant, _)) in self.pending.end_takeovers(owner) {
            reject_join(cx, claimant, why);
        }
    }

    /// Whether nothing is kept of anybody.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        let has_nobody = |session: &Session| session.members().next().is_none();
        self.pending.is_empty()
            && self.connections.is_empty()
            && self.sessions.len() == self.options.sessions.len()
            && self.sessions.values().all(has_nobody)
    }
}

fn send_error(cx: &mut Context, to: Recipient, error: &ErrorReply) {
    let error = ServerMessage::Error {
        timestamp: cx.epoch_millis(),
        code: error.code,
        message: &error.message,
        details: error.details.as_ref(),
    };
    to.send_to(cx, &error);
}

fn send_pong(cx: &mut Context, to: Recipient, timestamp: &RawValue) {
    let now = cx.epoch_millis();
    to.send_to(cx, &ServerMessage::Pong { now, timestamp });
}

/// Says why somebody may not join, and goodbye.
fn reject_join(cx: &mut Context, to: Recipient, error: &ErrorReply) {
    send_error(cx, to, error);
    cx.close(to.connection, CloseReason::JoinRefused);
}

fn already_joined() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::AlreadyJoined,
        "this connection has joined already",
    )
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
