//! LOUDSYNC: a host opens a session, devices join it, and everybody in it knows who is there and
//! how well connected.
//!
//! A member is a device. Its place outlives a broken connection for as long as its last heartbeat
//! is good, and a session lives as long as its host's place does; or for ever, where the
//! configuration has it.
//!
//! Clients speak two dialects, and meet in the same sessions. The rules know none of them.

mod codec;
mod codec_upper_case;
mod messages;
mod session;
mod static_sessions;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::options::check_minimum;
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, SlowConsumerPolicy,
};
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::pending_clients::PendingClients;
use codec::Recipient;
pub use codec::{Dialect, Reader, Said};
use messages::{Code, Departure, Details, Outgoing, Role, VERSION};
pub use messages::{Command, Join, Kick, Mistake};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use session::{Host, Member, Session};
use static_sessions::Configured;
use std::collections::BTreeMap;
use std::time::Duration;

/// The fewest members that a session may be limited to (rulings).
const FEWEST_MEMBERS: u32 = 2;

/// And no more than this: each is told of all others.
const MOST_MEMBERS: u32 = 256;

/// Why a session ends whose host is not there any more.
const HOST_IS_LOST: &str = "Host lost its connection";

/// The random part of a client's id.
const ID_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const ID_LENGTH: usize = 12;

/// What the configuration may say about a LOUDSYNC listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds from the handshake to JOIN; 0: no limit.
    join_timeout: u32,
    /// Seconds that a connection has for a sign of life when its device comes again elsewhere.
    takeover_timeout: u32,
    /// Seconds without a heartbeat ("Timeout Behavior").
    heartbeat_timeout: u32,
    /// Members of a session, its host among them ("Capacity Limits").
    max_members: u32,
    /// Sessions that hosts make; 0: no limit.
    max_sessions: u32,
    /// Sessions that are there without a host's device.
    sessions: Vec<Configured>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            join_timeout: 15,
            takeover_timeout: 2,
            heartbeat_timeout: 15,
            max_members: 10,
            max_sessions: 5000,
            sessions: Vec::new(),
        }
    }
}

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
        check_minimum(&[
            ("takeover_timeout", options.takeover_timeout, 1, "seconds"),
            ("heartbeat_timeout", options.heartbeat_timeout, 1, "seconds"),
            (
                "max_members",
                options.max_members,
                FEWEST_MEMBERS,
                "members",
            ),
        ])?;
        if options.max_members > MOST_MEMBERS {
            let problem = format!(
                "{} is more than {MOST_MEMBERS} members",
                options.max_members
            );
            return Err(("max_members", problem));
        }
        static_sessions::check(&options.sessions, options.max_members)?;
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

    fn check_max_members(&self, join: &Join) -> Result<(), InvalidMessage> {
        let Role::Host {
            max_members: Some(wanted),
            ..
        } = join.role
        else {
            return Ok(());
        };
        let limit = self.options.max_members;
        if (FEWEST_MEMBERS..=limit).contains(&wanted) {
            return Ok(());
        }
        let problem = format!("is {wanted}; it is from {FEWEST_MEMBERS} to {limit}");
        Err(InvalidMessage::field("maxMembers", problem))
    }

    /// Lets somebody into a session, or says why not, and goodbye.
    fn join(&mut self, cx: &mut Context, from: Recipient, join: Join) {
        if let Err(mistake) = self.try_to_join(cx, from, join) {
            refuse(cx, from, &mistake);
        }
    }

    fn try_to_join(
        &mut self,
        cx: &mut Context,
        from: Recipient,
        join: Join,
    ) -> Result<(), Mistake> {
        let Some(session) = self.sessions.get_mut(&join.session_id) else {
            return self.create(cx, from, join);
        };
        check_role(&join, &session.host)?;
        let conn = from.connection;
        let same_device = |member: &&mut Member| member.device == join.device;
        let member = session.members_mut().find(same_device);
        let owner = member.as_ref().and_then(|member| member.connection);
        match (member, owner) {
            (Some(_), Some(owner)) => {
                let patience = Duration::from_secs(self.options.takeover_timeout.into());
                cx.probe(owner.connection, patience);
                self.pending
                    .start_takeover(conn, owner.connection, (from, join));
                return Ok(());
            }
            (Some(member), None) => {
                member.connection = Some(from);
                member.name = join.name;
                member.heartbeat = cx.now;
                session.welcome(cx, conn, &join.session_id);
                session.spread_list(cx, Some(conn));
            }
            (None, _) => {
                session.has_capacity()?;
                let id = new_id(cx, "client", |id| session.has_id(id));
                session.add(cx, Member::new(cx, from, id, join.device, join.name));
                session.welcome(cx, conn, &join.session_id);
            }
        }
        self.seat(conn, join.session_id);
        Ok(())
    }

    fn create(&mut self, cx: &mut Context, from: Recipient, join: Join) -> Result<(), Mistake> {
        let Role::Host {
            session_name,
            max_members,
        } = join.role
        else {
            let message = "there is no session of this id";
            return Err(Mistake::new(Code::SessionNotFound, message));
        };
        let max_sessions = self.options.max_sessions;
        // Those of the configuration are the operator's, and never go.
        let made = self.sessions.len() - self.options.sessions.len();
        let is_full = max_sessions > 0 && made >= max_sessions as usize;
        if is_full && !self.end_deserted_session(cx) {
            return Err(Mistake {
                code: Code::SessionFull,
                message: format!("this server has all the sessions it may have ({max_sessions})"),
                details: Some(Details::Sessions { max_sessions }),
            });
        }
        let id = new_id(cx, "host", |_| false);
        let session = Session::new(
            session_name.unwrap_or_else(|| join.name.clone()),
            max_members.unwrap_or(self.options.max_members) as usize,
            Member::new(cx, from, id, join.device, join.name),
        );
        session.welcome(cx, from.connection, &join.session_id);
        self.sessions.insert(join.session_id.clone(), session);
        self.seat(from.connection, join.session_id);
        Ok(())
    }

    /// Somebody has come in from the doorstep.
    fn seat(&mut self, conn: ConnectionId, session: String) {
        self.pending.remove(conn);
        self.connections.insert(conn, session);
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

    /// Ends the session that has waited longest for somebody to come back, none of its members
    /// being connected. Otherwise who opens sessions and goes would keep all others from it.
    fn end_deserted_session(&mut self, cx: &mut Context) -> bool {
        let is_deserted = |session: &Session| session.members().all(|it| it.connection.is_none());
        // A session whose host is a name waits for nobody.
        let deserted = self.sessions.iter().filter(|(_, it)| is_deserted(it));
        let since = deserted.filter_map(|(id, it)| Some((it.host.member()?.heartbeat, id)));
        let longest = since.min_by_key(|(heartbeat, _)| *heartbeat);
        let Some(id) = longest.map(|(_, id)| id.clone()) else {
            return false;
        };
        self.end(cx, &id, HOST_IS_LOST);
        true
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

/// Only the device that made a session comes to it as its host.
fn check_role(join: &Join, host: &Host) -> Result<(), Mistake> {
    let device = host.member().map(|member| &member.device);
    let is_its_device = device == Some(&join.device);
    let message = match (&join.role, device) {
        (Role::Host { .. }, None) => "this session is the server's own, and no device is its host",
        (Role::Host { .. }, Some(_)) if !is_its_device => {
            "this session has a host, and it is not this device"
        }
        (Role::Guest, _) if is_its_device => "this device is the session's host, and no guest",
        _ => return Ok(()),
    };
    Err(Mistake::new(Code::Unauthorized, message))
}

/// A new id for a member, one that is not `taken`.
fn new_id(cx: &mut Context, prefix: &str, taken: impl Fn(&str) -> bool) -> String {
    loop {
        let id = format!("{prefix}-{}", cx.random_string(ID_LETTERS, ID_LENGTH));
        if !taken(&id) {
            return id;
        }
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
