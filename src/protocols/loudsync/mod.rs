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
pub use codec::{Dialect, Reader, Said};
use fields::VERSION;
use messages::{Code, Departure, Outgoing};
pub use messages::{Command, Join, Kick, Mistake};
pub use options::Options;
use serde_json::value::RawValue;
use session::{Member, Session};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a session ends whose host is not there any more.
const HOST_IS_LOST: &str = "Host lost its connection";

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
    type Command = Said;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        options.check()?;
        let sessions = options.sessions.iter().map(|session| {
            let id = session.id.clone();
            (id, Session::configured(session, options.max_members))
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

    fn decode(reader: &mut Reader, message: Message) -> Option<Said> {
        Some(reader.read(message))
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

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, said: Said) {
        let from = Recipient {
            connection: conn,
            dialect: said.dialect,
        };
        let done = match self.connections.get(&conn).cloned() {
            Some(session) => self.obey(cx, from, &session, said.command),
            None => self.admit(cx, from, said.command),
        };
        if let Err(mistake) = done {
            send_error(cx, from, &mistake);
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason) {
        self.pending.remove(conn);
        match how {
            // LEAVE, and "a clean Close" (rulings).
            DisconnectReason::Closed(CloseReason::Goodbye)
            | DisconnectReason::Left(None | Some(1000 | 1001)) => {
                self.depart(cx, conn, Departure::Left);
            }
            // "For what it did" (rulings).
            DisconnectReason::Closed(
                CloseReason::ProtocolError
                | CloseReason::InvalidUtf8
                | CloseReason::TooBig
                | CloseReason::TooSlow
                | CloseReason::ShortOfMemory,
            ) => self.depart(cx, conn, Departure::Error),
            _ => {
                if let Some(session) = self.disconnect(conn) {
                    session.spread_list(cx, None);
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
            self.refuse_claimants(cx, conn, &Mistake::new(Code::AlreadyJoined, message));
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
                .any(|member| member.is_due(cx.now, timeout))
        });
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for session in due {
            self.time_out(cx, &session, timeout);
        }
        for session in self.sessions.values_mut() {
            session.tick(cx);
        }
    }

    fn stop(&mut self, cx: &mut Context) {
        for session in self.sessions.values() {
            let (timestamp, reason) = (cx.epoch_millis(), "Server is going away");
            session.broadcast(cx, &Outgoing::SessionClosed { timestamp, reason });
        }
    }
}

impl Loudsync {
    /// Does what somebody wants who is in no session.
    fn admit(
        &mut self,
        cx: &mut Context,
        from: Recipient,
        command: Command,
    ) -> Result<(), Mistake> {
        match command {
            Command::Join(_) if self.pending.is_taking_over(from.connection) => Err(join_again()),
            Command::JoinOtherVersion => {
                let message = format!("this server speaks version {VERSION}, and no other");
                refuse(cx, from, &Mistake::new(Code::VersionMismatch, message));
                Ok(())
            }
            Command::Join(join) => {
                self.check_max_members(&join)?;
                self.join(cx, from, join);
                Ok(())
            }
            Command::Ping(timestamp) => {
                pong(cx, from, &timestamp);
                Ok(())
            }
            Command::Pong => Ok(()),
            Command::Wrong(mistake) => Err(mistake),
            _ if self.pending.is_taking_over(from.connection) => {
                let message = "wait: the connection that this device has is being asked";
                Err(Mistake::new(Code::Unauthorized, message))
            }
            _ => Err(Mistake::new(Code::Unauthorized, "join comes first")),
        }
    }

    /// Does what a member wants.
    fn obey(
        &mut self,
        cx: &mut Context,
        from: Recipient,
        session: &str,
        command: Command,
    ) -> Result<(), Mistake> {
        let conn = from.connection;
        match command {
            Command::Leave => cx.close(conn, CloseReason::Goodbye),
            Command::Heartbeat => {
                if let Some(member) = self.member(session, conn) {
                    member.heartbeat = cx.now;
                }
            }
            Command::List => {
                if let Some(session) = self.sessions.get(session) {
                    session.send_list(cx, conn);
                }
            }
            Command::Kick(kick) => return self.kick(cx, conn, session, kick),
            Command::Join(_) | Command::JoinOtherVersion => return Err(join_again()),
            Command::Ping(timestamp) => pong(cx, from, &timestamp),
            Command::Pong => {}
            Command::Wrong(mistake) => return Err(mistake),
        }
        Ok(())
    }

    fn kick(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        session: &str,
        kick: Kick,
    ) -> Result<(), Mistake> {
        let Some(session) = self.sessions.get_mut(session) else {
            return Ok(());
        };
        if !session.is_hosted_by(conn) {
            let message = "only the host may remove members";
            return Err(Mistake::new(Code::Unauthorized, message));
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
        session.broadcast_left(cx, &member, Departure::Kicked);
        if let Some(Recipient { connection, .. }) = member.connection {
            let reason = kick.reason.as_deref();
            let kicked = Outgoing::Kicked {
                timestamp: cx.epoch_millis(),
                reason: reason.unwrap_or("Host removed you from the session"),
            };
            member.send_to(cx, &kicked);
            cx.close(connection, CloseReason::Kicked);
            // Whoever says to be the same device is as little wanted.
            let message = "the host has just removed this device";
            let mistake = Mistake::new(Code::Unauthorized, message);
            self.refuse_claimants(cx, connection, &mistake);
        }
        Ok(())
    }

    /// A member goes for good, and its session with it if that is the host.
    fn depart(&mut self, cx: &mut Context, conn: ConnectionId, reason: Departure) {
        let Some(id) = self.connections.remove(&conn) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.is_hosted_by(conn) {
            let reason = match reason {
                Departure::Left => "Host ended the session",
                _ => HOST_IS_LOST,
            };
            self.end(cx, &id, reason);
        } else if let Some(at) = session.guests.iter().position(|it| it.is_at(conn)) {
            let member = session.guests.remove(at);
            session.broadcast_left(cx, &member, reason);
        }
    }

    /// A member's connection is not that any more; the member is awaited.
    fn disconnect(&mut self, conn: ConnectionId) -> Option<&mut Session> {
        let id = self.connections.remove(&conn)?;
        self.member(&id, conn)?.connection = None;
        self.sessions.get_mut(&id)
    }

    fn member(&mut self, session: &str, conn: ConnectionId) -> Option<&mut Member> {
        let mut members = self.sessions.get_mut(session)?.members_mut();
        members.find(|member| member.is_at(conn))
    }

    /// Removes the members of a session who sent no heartbeat.
    fn time_out(&mut self, cx: &mut Context, id: &str, timeout: Duration) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let is_due = |member: &Member| member.is_due(cx.now, timeout);
        let (due, guests) = std::mem::take(&mut session.guests)
            .into_iter()
            .partition::<Vec<Member>, _>(is_due);
        session.guests = guests;
        let host = session.host.member().filter(|host| is_due(host));
        for at in due.iter().chain(host).filter_map(|it| it.connection) {
            cx.close(at.connection, CloseReason::Idle);
        }
        if host.is_some() {
            self.end(cx, id, HOST_IS_LOST);
        } else {
            for member in &due {
                session.broadcast_left(cx, member, Departure::Timeout);
            }
        }
    }

    /// Ends a session, and tells those who are in it still and are not being closed already.
    fn end(&mut self, cx: &mut Context, id: &str, reason: &str) {
        if let Some(session) = self.sessions.remove(id) {
            let timestamp = cx.epoch_millis();
            session.broadcast(cx, &Outgoing::SessionClosed { timestamp, reason });
            for at in session.members().filter_map(|member| member.connection) {
                cx.close(at.connection, CloseReason::SessionClosed);
            }
        }
    }

    /// Turns those away who wait for a connection's place.
    fn refuse_claimants(&mut self, cx: &mut Context, owner: ConnectionId, why: &Mistake) {
        for (_, (claimant, _)) in self.pending.end_takeovers(owner) {
            refuse(cx, claimant, why);
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

fn send_error(cx: &mut Context, to: Recipient, mistake: &Mistake) {
    let error = Outgoing::Error {
        timestamp: cx.epoch_millis(),
        code: mistake.code,
        message: &mistake.message,
        details: mistake.details.as_ref(),
    };
    to.send_to(cx, &error);
}

fn pong(cx: &mut Context, to: Recipient, timestamp: &RawValue) {
    let now = cx.epoch_millis();
    to.send_to(cx, &Outgoing::Pong { now, timestamp });
}

/// Says why somebody may not join, and goodbye.
fn refuse(cx: &mut Context, to: Recipient, mistake: &Mistake) {
    send_error(cx, to, mistake);
    cx.close(to.connection, CloseReason::JoinRefused);
}

fn join_again() -> Mistake {
    Mistake::new(Code::AlreadyJoined, "this connection has joined already")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
