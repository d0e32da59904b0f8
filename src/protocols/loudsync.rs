//! LOUDSYNC: a host opens a session, devices join it, and everybody in it knows who is there and
//! how well connected.
//!
//! A member is a device. Its place outlives a broken connection for as long as its last heartbeat
//! is good, and a session lives as long as its host's place does.

mod session;
mod wire;

use crate::close::{Close, Ending};
use crate::doorstep::Doorstep;
use crate::frame::Frame;
use crate::json::Malformed;
use crate::realm::{ConnectionId, Context, Defaults, Hello, Message, Realm, Refusal, WhenFull};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use session::{Member, Session};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Code, Departure, Details, Outgoing, Role};
pub use wire::{Command, Join, Kick, Mistake};

/// The major version of the protocol ("Version History").
const VERSION: u64 = 1;

/// The fewest members that a session may be limited to (rulings).
const FEWEST_MEMBERS: u32 = 2;

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
    /// Sessions; 0: no limit.
    max_sessions: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            join_timeout: 15,
            takeover_timeout: 2,
            heartbeat_timeout: 15,
            max_members: 10,
            max_sessions: 5000,
        }
    }
}

/// The sessions of one listener.
pub struct Loudsync {
    options: Options,
    doorstep: Doorstep<Join>,
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
    const WHEN_FULL: WhenFull = WhenFull::CloseReader;

    type Options = Options;
    type Command = Command;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        let least = [
            ("takeover_timeout", options.takeover_timeout, 1, "seconds"),
            ("heartbeat_timeout", options.heartbeat_timeout, 1, "seconds"),
            (
                "max_members",
                options.max_members,
                FEWEST_MEMBERS,
                "members",
            ),
        ];
        for (key, value, least, unit) in least {
            if value < least {
                return Err((key, format!("{value} is less than {least} {unit}")));
            }
        }
        Ok(Self {
            doorstep: Doorstep::new(Duration::from_secs(options.join_timeout.into())),
            options,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
        })
    }

    /// Any (rulings).
    fn serves(_: &str) -> bool {
        true
    }

    fn decode(message: Message) -> Option<Command> {
        Some(wire::read(message).unwrap_or_else(Command::Wrong))
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, _: Hello) -> Result<(), Refusal> {
        self.doorstep.arrive(cx.now, who);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: Command) {
        let done = match self.connections.get(&who).cloned() {
            Some(session) => self.obey(cx, who, &session, command),
            None => self.admit(cx, who, command),
        };
        if let Err(mistake) = done {
            tell_mistake(cx, who, &mistake);
        }
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending) {
        self.doorstep.leave(who);
        match how {
            // "A clean Close" (rulings).
            Ending::Left(None | Some(1000 | 1001)) => self.depart(cx, who, Departure::Left),
            // "For what it did" (rulings).
            Ending::Closed(
                Close::ProtocolError | Close::InvalidUtf8 | Close::TooBig | Close::TooSlow,
            ) => self.depart(cx, who, Departure::Error),
            _ => {
                if let Some(session) = self.disconnect(who) {
                    session.tell(cx, &session.list(cx));
                }
                self.try_again(cx, who);
            }
        }
    }

    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool) {
        if alive {
            for (claimant, _) in self.doorstep.claimants(who) {
                let message = "this device is connected";
                refuse(cx, claimant, &Mistake::new(Code::AlreadyJoined, message));
            }
        } else if self.doorstep.is_claimed(who) {
            cx.close(who, Close::Replaced);
            self.disconnect(who);
            self.try_again(cx, who);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        for who in self.doorstep.overdue(cx.now) {
            cx.close(who, Close::NotIntroduced);
        }
        let timeout = Duration::from_secs(self.options.heartbeat_timeout.into());
        let is_due = |member: &Member| member.heartbeat + timeout <= cx.now;
        let due = self.sessions.iter();
        let due = due.filter(|(_, session)| session.members().any(is_due));
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for session in due {
            self.time_out(cx, &session, timeout);
        }
    }

    fn stop(&mut self, cx: &mut Context) {
        for session in self.sessions.values() {
            let (timestamp, reason) = (cx.epoch_millis(), "Server is going away");
            session.tell(cx, &Outgoing::SessionClosed { timestamp, reason });
        }
    }
}

impl Loudsync {
    /// Does what somebody wants who is in no session.
    fn admit(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        command: Command,
    ) -> Result<(), Mistake> {
        match command {
            Command::Join(_) if self.doorstep.is_claimant(who) => Err(join_again()),
            Command::Join(join) => {
                self.check_max_members(&join)?;
                self.join(cx, who, join);
                Ok(())
            }
            Command::Ping(timestamp) => {
                pong(cx, who, &timestamp);
                Ok(())
            }
            Command::Wrong(mistake) => Err(mistake),
            _ => Err(Mistake::new(Code::Unauthorized, "join comes first")),
        }
    }

    fn check_max_members(&self, join: &Join) -> Result<(), Malformed> {
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
        Err(Malformed::field("maxMembers", problem))
    }

    /// Lets somebody into a session, or says why not, and goodbye.
    fn join(&mut self, cx: &mut Context, who: ConnectionId, join: Join) {
        if let Err(mistake) = self.try_to_join(cx, who, join) {
            refuse(cx, who, &mistake);
        }
    }

    fn try_to_join(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        join: Join,
    ) -> Result<(), Mistake> {
        if let Some(version) = join.version.filter(|version| *version != VERSION) {
            let message = format!("version {version} is not spoken here, but {VERSION}");
            return Err(Mistake::new(Code::VersionMismatch, message));
        }
        let Some(session) = self.sessions.get_mut(&join.session_id) else {
            return self.create(cx, who, join);
        };
        if matches!(join.role, Role::Host { .. }) && session.host.device != join.device {
            let message = "this session has a host, and it is not this device";
            return Err(Mistake::new(Code::Unauthorized, message));
        }
        let same_device = |member: &&mut Member| member.device == join.device;
        let member = session.members_mut().find(same_device);
        let owner = member.as_ref().and_then(|member| member.connection);
        match (member, owner) {
            (Some(_), Some(owner)) => {
                let patience = Duration::from_secs(self.options.takeover_timeout.into());
                cx.probe(owner, patience);
                self.doorstep.claim(who, owner, join);
                return Ok(());
            }
            (Some(member), None) => {
                member.connection = Some(who);
                member.name = join.name;
                member.heartbeat = cx.now;
                session.welcome(cx, who, &join.session_id);
                session.tell(cx, &session.list(cx));
            }
            (None, _) => {
                session.has_room()?;
                let id = new_id(cx, "client", |id| session.members().any(|it| it.id == id));
                let member = Member::new(cx, who, id, join.device, join.name);
                let timestamp = cx.epoch_millis();
                let news = Outgoing::MemberJoined {
                    timestamp,
                    member: member.info(cx, false),
                };
                session.tell(cx, &news);
                session.guests.push(member);
                session.welcome(cx, who, &join.session_id);
                tell(cx, who, &session.list(cx));
            }
        }
        self.seat(who, join.session_id);
        Ok(())
    }

    fn create(&mut self, cx: &mut Context, who: ConnectionId, join: Join) -> Result<(), Mistake> {
        let Role::Host {
            session_name,
            max_members,
        } = join.role
        else {
            let message = "there is no session of this id";
            return Err(Mistake::new(Code::SessionNotFound, message));
        };
        let max_sessions = self.options.max_sessions;
        if max_sessions > 0 && self.sessions.len() >= max_sessions as usize {
            return Err(Mistake {
                code: Code::SessionFull,
                message: format!("this server has all the sessions it may have ({max_sessions})"),
                details: Some(Details::Sessions { max_sessions }),
            });
        }
        let id = new_id(cx, "host", |_| false);
        let session = Session {
            name: session_name.unwrap_or_else(|| join.name.clone()),
            max_members: max_members.unwrap_or(self.options.max_members) as usize,
            host: Member::new(cx, who, id, join.device, join.name),
            guests: Vec::new(),
        };
        session.welcome(cx, who, &join.session_id);
        tell(cx, who, &session.list(cx));
        self.sessions.insert(join.session_id.clone(), session);
        self.seat(who, join.session_id);
        Ok(())
    }

    /// Somebody has come in from the doorstep.
    fn seat(&mut self, who: ConnectionId, session: String) {
        self.doorstep.leave(who);
        self.connections.insert(who, session);
    }

    /// Does what a member wants.
    fn obey(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        session: &str,
        command: Command,
    ) -> Result<(), Mistake> {
        match command {
            Command::Leave => {
                cx.close(who, Close::Goodbye);
                self.depart(cx, who, Departure::Left);
            }
            Command::Heartbeat => {
                if let Some(member) = self.member(session, who) {
                    member.heartbeat = cx.now;
                }
            }
            Command::List => {
                if let Some(session) = self.sessions.get(session) {
                    tell(cx, who, &session.list(cx));
                }
            }
            Command::Kick(kick) => return self.kick(cx, who, session, kick),
            Command::Join(_) => return Err(join_again()),
            Command::Ping(timestamp) => pong(cx, who, &timestamp),
            Command::Wrong(mistake) => return Err(mistake),
        }
        Ok(())
    }

    fn kick(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        session: &str,
        kick: Kick,
    ) -> Result<(), Mistake> {
        let Some(session) = self.sessions.get_mut(session) else {
            return Ok(());
        };
        if session.host.connection != Some(who) {
            let message = "only the host may remove members";
            return Err(Mistake::new(Code::Unauthorized, message));
        }
        let at = session.guests.iter().position(|it| it.id == kick.member_id);
        let Some(at) = at else {
            let problem = if session.host.id == kick.member_id {
                "is the host itself, which ends the session by leave"
            } else {
                "is nobody's in this session"
            };
            return Err(Malformed::field("memberId", problem).into());
        };
        let member = session.guests.remove(at);
        session.tell_left(cx, &member, Departure::Kicked);
        if let Some(connection) = member.connection {
            let reason = kick.reason.as_deref();
            let kicked = Outgoing::Kicked {
                timestamp: cx.epoch_millis(),
                reason: reason.unwrap_or("Host removed you from the session"),
            };
            tell(cx, connection, &kicked);
            cx.close(connection, Close::Kicked);
            self.connections.remove(&connection);
            self.try_again(cx, connection);
        }
        Ok(())
    }

    /// A member goes for good, and its session with it if that is the host.
    fn depart(&mut self, cx: &mut Context, who: ConnectionId, reason: Departure) {
        if let Some(id) = self.connections.remove(&who) {
            if let Some(session) = self.sessions.get_mut(&id) {
                let at = session
                    .guests
                    .iter()
                    .position(|it| it.connection == Some(who));
                if let Some(at) = at {
                    let member = session.guests.remove(at);
                    session.tell_left(cx, &member, reason);
                } else {
                    self.end(cx, &id, "Host ended the session");
                }
            }
        }
        self.try_again(cx, who);
    }

    /// A member's connection is not that any more; the member is awaited.
    fn disconnect(&mut self, who: ConnectionId) -> Option<&Session> {
        let id = self.connections.remove(&who)?;
        self.member(&id, who)?.connection = None;
        self.sessions.get(&id)
    }

    fn member(&mut self, session: &str, who: ConnectionId) -> Option<&mut Member> {
        let mut members = self.sessions.get_mut(session)?.members_mut();
        members.find(|member| member.connection == Some(who))
    }

    /// Removes the members of a session who sent no heartbeat.
    fn time_out(&mut self, cx: &mut Context, id: &str, timeout: Duration) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let is_due = |member: &Member| member.heartbeat + timeout <= cx.now;
        let host_is_due = is_due(&session.host);
        let (due, guests) = std::mem::take(&mut session.guests)
            .into_iter()
            .partition::<Vec<Member>, _>(is_due);
        session.guests = guests;
        let host = Some(&session.host).filter(|_| host_is_due);
        let closed: Vec<ConnectionId> = due
            .iter()
            .chain(host)
            .filter_map(|it| it.connection)
            .collect();
        for &connection in &closed {
            cx.close(connection, Close::Idle);
            self.connections.remove(&connection);
        }
        if host_is_due {
            self.end(cx, id, "Host lost its connection");
        } else {
            for member in &due {
                session.tell_left(cx, member, Departure::Timeout);
            }
        }
        for connection in closed {
            self.try_again(cx, connection);
        }
    }

    /// Ends a session, and tells those who are in it still.
    fn end(&mut self, cx: &mut Context, id: &str, reason: &str) {
        let Some(session) = self.sessions.remove(id) else {
            return;
        };
        let timestamp = cx.epoch_millis();
        let closed = Frame::json(&Outgoing::SessionClosed { timestamp, reason });
        let mut told: Vec<ConnectionId> = session
            .members()
            .filter_map(|member| member.connection)
            .collect();
        // Not those who are being closed for another reason.
        told.retain(|connection| self.connections.remove(connection).is_some());
        for &connection in &told {
            cx.send(connection, closed.clone());
            cx.close(connection, Close::SessionClosed);
        }
        for connection in told {
            self.try_again(cx, connection);
        }
    }

    /// Whoever waits for a connection's place may try again, now that it may be free.
    fn try_again(&mut self, cx: &mut Context, owner: ConnectionId) {
        for (claimant, join) in self.doorstep.claimants(owner) {
            self.join(cx, claimant, join);
        }
    }

    /// Whether nothing is kept of anybody.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.doorstep.is_empty() && self.connections.is_empty() && self.sessions.is_empty()
    }
}

/// A new id for a member, one that is not `taken`.
fn new_id(cx: &mut Context, prefix: &str, taken: impl Fn(&str) -> bool) -> String {
    loop {
        let id = format!("{prefix}-{}", cx.letters(ID_LETTERS, ID_LENGTH));
        if !taken(&id) {
            return id;
        }
    }
}

fn tell(cx: &mut Context, to: ConnectionId, message: &Outgoing) {
    cx.send(to, Frame::json(message));
}

fn tell_mistake(cx: &mut Context, to: ConnectionId, mistake: &Mistake) {
    let error = Outgoing::Error {
        timestamp: cx.epoch_millis(),
        code: mistake.code,
        message: &mistake.message,
        details: mistake.details.as_ref(),
    };
    tell(cx, to, &error);
}

fn pong(cx: &mut Context, to: ConnectionId, timestamp: &RawValue) {
    tell(cx, to, &Outgoing::Pong { timestamp });
}

/// Says why somebody may not join, and goodbye.
fn refuse(cx: &mut Context, who: ConnectionId, mistake: &Mistake) {
    tell_mistake(cx, who, mistake);
    cx.close(who, Close::JoinRefused);
}

fn join_again() -> Mistake {
    Mistake::new(Code::AlreadyJoined, "this connection has joined already")
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
