//! A session and its members: who is in it, and what they are told of each other.

use super::codec::Recipient;
use super::messages::{
    Code, ConnectionStatus, Departure, Details, MemberInfo, Mistake, Outgoing, Own, SessionInfo,
};
use super::static_sessions::Configured;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::Broadcast;
use crate::toolkit::rate_limit::SlidingWindow;
use std::time::Duration;

/// Of so many changes a minute everybody is told at once; further ones are gathered into a list a
/// second. Otherwise one device that joins and leaves, or is lost and comes back, thousands of
/// times would flood the others.
const CHANGES_AT_ONCE: u32 = 60;

/// In a session of more members than this it is one change: a list costs members times members.
const FEW_MEMBERS: usize = 32;

/// A session, as long as its host has its place in it; for ever where that is no device.
pub(super) struct Session {
    pub(super) name: String,
    /// The host among them.
    pub(super) max_members: usize,
    pub(super) host: Host,
    /// In order of joining.
    pub(super) guests: Vec<Member>,
    /// When everybody was told of a change.
    changes: SlidingWindow,
    /// Everybody is to be sent a list at the next opportunity.
    is_list_due: bool,
}

/// Whose session it is.
pub(super) enum Host {
    /// The device that made it.
    Device(Member),
    /// A name in the configuration, to which no device ever comes. Clients look for a host in the
    /// list, and show the one that they find; so it stands there, and is connected.
    Named { id: String, name: String },
}

/// A device in a session.
pub(super) struct Member {
    /// `clientId` on the wire.
    pub(super) id: String,
    /// `deviceInfo.id`: whoever knows it can take the member's place, so nobody is told.
    pub(super) device: String,
    pub(super) name: String,
    /// Milliseconds since the epoch.
    pub(super) joined_at: u64,
    pub(super) heartbeat: Duration,
    /// None while it is awaited.
    pub(super) connection: Option<Recipient>,
}

impl Host {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Device(member) => &member.id,
            Self::Named { id, .. } => id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Device(member) => &member.name,
            Self::Named { name, .. } => name,
        }
    }

    /// The device; none where it is a name.
    pub(super) const fn member(&self) -> Option<&Member> {
        match self {
            Self::Device(member) => Some(member),
            Self::Named { .. } => None,
        }
    }

    const fn member_mut(&mut self) -> Option<&mut Member> {
        match self {
            Self::Device(member) => Some(member),
            Self::Named { .. } => None,
        }
    }

    fn info(&self, cx: &Context) -> MemberInfo<'_> {
        match self {
            Self::Device(member) => member.info(cx, true),
            Self::Named { id, name } => MemberInfo {
                id,
                name,
                is_host: true,
                connection_status: ConnectionStatus::Connected,
                // As long as the daemon, and always there.
                joined_at: millis_ago(cx, cx.now),
                last_seen: cx.epoch_millis(),
                latency: None,
            },
        }
    }
}

/// Milliseconds since the epoch, so long ago.
fn millis_ago(cx: &Context, time: Duration) -> u64 {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    cx.epoch_millis().saturating_sub(millis)
}

impl Session {
    /// A session that the configuration names.
    pub(super) fn configured(session: &Configured, max_members: u32) -> Self {
        let host = Host::Named {
            id: session.host_id.clone(),
            name: session.host_name.clone(),
        };
        let max_members = session.max_members.unwrap_or(max_members) as usize;
        Self::of(host, session.name.clone(), max_members)
    }

    /// A session whose host has just joined.
    pub(super) fn new(name: String, max_members: usize, host: Member) -> Self {
        Self::of(Host::Device(host), name, max_members)
    }

    fn of(host: Host, name: String, max_members: usize) -> Self {
        Self {
            name,
            max_members,
            host,
            guests: Vec::new(),
            changes: SlidingWindow::default(),
            is_list_due: false,
        }
    }

    /// Whether everybody may be told of a change now. If not, they get a list soon.
    fn may_tell(&mut self, cx: &Context) -> bool {
        let at_once = if self.members().count() <= FEW_MEMBERS {
            CHANGES_AT_ONCE
        } else {
            1
        };
        self.is_list_due |= self.changes.take(cx.now, at_once).is_err();
        !self.is_list_due
    }

    /// Everybody is to have a fresh list, but for whoever has one already.
    pub(super) fn spread_list(&mut self, cx: &mut Context, but: Option<ConnectionId>) {
        if self.may_tell(cx) {
            self.broadcast_except(cx, but, &self.list(cx));
        }
    }

    /// Somebody joins, whom nobody has been told of.
    pub(super) fn add(&mut self, cx: &mut Context, member: Member) {
        if self.may_tell(cx) {
            let joined = Outgoing::MemberJoined {
                timestamp: cx.epoch_millis(),
                member: member.info(cx, false),
            };
            self.broadcast(cx, &joined);
        }
        self.guests.push(member);
    }

    /// Sends the list that could not be sent at once.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.is_list_due) {
            self.broadcast(cx, &self.list(cx));
        }
    }

    /// All members who are devices, the host first: in order of joining.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.host.member().into_iter().chain(&self.guests)
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.host.member_mut().into_iter().chain(&mut self.guests)
    }

    /// Whether somebody is the host.
    pub(super) fn is_hosted_by(&self, conn: ConnectionId) -> bool {
        self.host.member().is_some_and(|host| host.is_at(conn))
    }

    /// Whether an id is a member's.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.host.id() == id || self.guests.iter().any(|guest| guest.id == id)
    }

    /// Whether another may join.
    ///
    /// # Errors
    /// The session is full.
    pub(super) fn has_capacity(&self) -> Result<(), Mistake> {
        let (max_members, current_members) = (self.max_members, 1 + self.guests.len());
        if current_members < max_members {
            return Ok(());
        }
        Err(Mistake {
            code: Code::SessionFull,
            message: format!("Session has reached maximum capacity ({max_members} members)"),
            details: Some(Details::Full {
                max_members,
                current_members,
            }),
        })
    }

    /// Sends a message to every member who is connected.
    pub(super) fn broadcast(&self, cx: &mut Context, message: &Outgoing) {
        self.broadcast_except(cx, None, message);
    }

    fn broadcast_except(&self, cx: &mut Context, but: Option<ConnectionId>, message: &Outgoing) {
        let mut broadcast = Broadcast::new(message);
        let others = |member: &&Member| but.is_none_or(|but| !member.is_at(but));
        for member in self.members().filter(others) {
            member.hear(cx, message, &mut broadcast);
        }
    }

    /// Somebody is no member any more.
    pub(super) fn broadcast_left(&mut self, cx: &mut Context, member: &Member, reason: Departure) {
        if !self.may_tell(cx) {
            return;
        }
        let left = Outgoing::MemberLeft {
            timestamp: cx.epoch_millis(),
            member_id: &member.id,
            name: &member.name,
            reason,
        };
        self.broadcast(cx, &left);
    }

    /// Tells one of the members where it is, and who is there.
    pub(super) fn welcome(&self, cx: &mut Context, conn: ConnectionId, id: &str) {
        let Some(member) = self.members().find(|member| member.is_at(conn)) else {
            return;
        };
        let welcome = Outgoing::Welcome {
            timestamp: cx.epoch_millis(),
            client_id: &member.id,
            session_info: SessionInfo {
                id,
                name: &self.name,
                host_id: self.host.id(),
                host_name: self.host.name(),
            },
        };
        member.send_to(cx, &welcome);
        member.send_to(cx, &self.list(cx));
    }

    /// Tells one of the members who is there.
    pub(super) fn send_list(&self, cx: &mut Context, conn: ConnectionId) {
        if let Some(member) = self.members().find(|member| member.is_at(conn)) {
            member.send_to(cx, &self.list(cx));
        }
    }

    fn list(&self, cx: &Context) -> Outgoing<'_> {
        let guests = self.guests.iter().map(|guest| guest.info(cx, false));
        Outgoing::MemberList {
            timestamp: cx.epoch_millis(),
            members: std::iter::once(self.host.info(cx)).chain(guests).collect(),
        }
    }
}

impl Member {
    /// Whether it has sent no heartbeat for so long.
    pub(super) fn is_due(&self, now: Duration, timeout: Duration) -> bool {
        self.heartbeat + timeout <= now
    }

    /// Whether its connection is this one.
    pub(super) fn is_at(&self, conn: ConnectionId) -> bool {
        self.connection.is_some_and(|at| at.connection == conn)
    }

    /// Sends it a message, if it is connected.
    pub(super) fn send_to(&self, cx: &mut Context, message: &Outgoing) {
        self.hear(cx, message, &mut Broadcast::new(message));
    }

    /// Sends it a message that many get, in words of its own where it stands in it.
    fn hear<'a>(
        &self,
        cx: &mut Context,
        message: &Outgoing<'a>,
        broadcast: &mut Broadcast<'_, Outgoing<'a>>,
    ) {
        let Some(at) = self.connection else {
            return;
        };
        let own = Own {
            client_id: &self.id,
            device: &self.device,
        };
        match message.personal(at.dialect, own) {
            Some(frame) => cx.send(at.connection, frame),
            None => {
                broadcast.send_to(cx, at);
            }
        }
    }

    pub(super) fn new(
        cx: &Context,
        at: Recipient,
        id: String,
        device: String,
        name: String,
    ) -> Self {
        Self {
            id,
            device,
            name,
            joined_at: cx.epoch_millis(),
            heartbeat: cx.now,
            connection: Some(at),
        }
    }

    pub(super) fn info(&self, cx: &Context, is_host: bool) -> MemberInfo<'_> {
        let rtt = self.connection.and_then(|at| cx.rtt(at.connection));
        // To the nearest millisecond.
        let millis = |time: Duration| u64::try_from((time.as_micros() + 500) / 1000).ok();
        MemberInfo {
            id: &self.id,
            name: &self.name,
            is_host,
            connection_status: if self.connection.is_some() {
                ConnectionStatus::Connected
            } else {
                ConnectionStatus::Reconnecting
            },
            joined_at: self.joined_at,
            last_seen: millis_ago(cx, cx.now.saturating_sub(self.heartbeat)),
            latency: rtt.and_then(millis),
        }
    }
}
