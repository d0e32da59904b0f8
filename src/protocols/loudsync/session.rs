//! A session and its members: who is in it, and what they are told of each other.

use super::codec::Recipient;
use super::messages::{
    ConnectionStatus, Details, ErrorCode, ErrorReply, LeaveReason, MemberInfo, RecipientIds,
    ServerMessage, SessionInfo,
};
use super::static_sessions::StaticSession;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::Broadcast;
use crate::toolkit::rate_limit::SlidingWindow;
use std::time::Duration;

/// Of so many changes a minute everybody is told at once; further ones are gathered into a list a
/// second. Otherwise one device that joins and leaves, or is lost and comes back, thousands of
/// times would flood the others.
const MAX_CHANGES_PER_MINUTE: u32 = 60;

/// In a session of more members than this it is one change: a list costs members times members.
const SMALL_SESSION: usize = 32;

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
    list_pending: bool,
}

/// Whose session it is.
pub(super) enum Host {
    /// The device that made it.
    Device(Member),
    /// A name in the configuration, to which no device ever comes. Clients look for a host in the
    /// list, and show the one that they find; so it stands there, and is connected.
    Configured { id: String, name: String },
}

/// A device in a session.
pub(super) struct Member {
    /// `clientId` on the wire.
    pub(super) id: String,
    /// `deviceInfo.id`: whoever knows it can take the member's place, so nobody is told.
    pub(super) device_id: String,
    pub(super) name: String,
    /// Milliseconds since the epoch.
    pub(super) joined_at: u64,
    pub(super) last_heartbeat: Duration,
    /// None while it is awaited.
    pub(super) recipient: Option<Recipient>,
}

impl Host {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Device(member) => &member.id,
            Self::Configured { id, .. } => id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Device(member) => &member.name,
            Self::Configured { name, .. } => name,
        }
    }

    /// The device; none where it is a name.
    pub(super) const fn member(&self) -> Option<&Member> {
        match self {
            Self::Device(member) => Some(member),
            Self::Configured { .. } => None,
        }
    }

    const fn member_mut(&mut self) -> Option<&mut Member> {
        match self {
            Self::Device(member) => Some(member),
            Self::Configured { .. } => None,
        }
    }

    fn info(&self, cx: &Context) -> MemberInfo<'_> {
        match self {
            Self::Device(member) => member.info(cx, true),
            Self::Configured { id, name } => MemberInfo {
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
    pub(super) fn from_config(session: &StaticSession, max_members: u32) -> Self {
        let host = Host::Configured {
            id: session.host_id.clone(),
            name: session.host_name.clone(),
        };
        let max_members = session.max_members.unwrap_or(max_members) as usize;
        Self::with_host(host, session.name.clone(), max_members)
    }

    /// A session whose host has just joined.
    pub(super) fn new(name: String, max_members: usize, host: Member) -> Self {
        Self::with_host(Host::Device(host), name, max_members)
    }

    fn with_host(host: Host, name: String, max_members: usize) -> Self {
        Self {
            name,
            max_members,
            host,
            guests: Vec::new(),
            changes: SlidingWindow::default(),
            list_pending: false,
        }
    }

    /// Whether everybody may be told of a change now. If not, they get a list soon.
    fn record_change(&mut self, cx: &Context) -> bool {
        let at_once = if self.members().count() <= SMALL_SESSION {
            MAX_CHANGES_PER_MINUTE
        } else {
            1
        };
        self.list_pending |= self.changes.take(cx.now, at_once).is_err();
        !self.list_pending
    }

    /// Everybody is to have a fresh list, but for whoever has one already.
    pub(super) fn broadcast_list(&mut self, cx: &mut Context, except: Option<ConnectionId>) {
        if self.record_change(cx) {
            self.broadcast_except(cx, except, &self.list(cx));
        }
    }

    /// Somebody joins, whom nobody has been told of.
    pub(super) fn add(&mut self, cx: &mut Context, member: Member) {
        if self.record_change(cx) {
            let joined = ServerMessage::MemberJoined {
                timestamp: cx.epoch_millis(),
                member: member.info(cx, false),
            };
            self.broadcast(cx, &joined);
        }
        self.guests.push(member);
    }

    /// Sends the list that could not be sent at once.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.list_pending) {
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
        self.host.member().is_some_and(|host| host.is_on(conn))
    }

    /// Whether an id is a member's.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.host.id() == id || self.guests.iter().any(|guest| guest.id == id)
    }

    /// Whether another may join.
    ///
    /// # Errors
    /// The session is full.
    pub(super) fn check_capacity(&self) -> Result<(), ErrorReply> {
        let (max_members, current_members) = (self.max_members, 1 + self.guests.len());
        if current_members < max_members {
            return Ok(());
        }
        Err(ErrorReply {
            code: ErrorCode::SessionFull,
            message: format!("Session has reached maximum capacity ({max_members} members)"),
            details: Some(Details::Full {
                max_members,
                current_members,
            }),
        })
    }

    /// Sends a message to every member who is connected.
    pub(super) fn broadcast(&self, cx: &mut Context, message: &ServerMessage) {
        self.broadcast_except(cx, None, message);
    }

    fn broadcast_except(
        &self,
        cx: &mut Context,
        except: Option<ConnectionId>,
        message: &ServerMessage,
    ) {
        let mut broadcast = Broadcast::new(message);
        let others = |member: &&Member| except.is_none_or(|except| !member.is_on(except));
        for member in self.members().filter(others) {
            member.send_broadcast(cx, message, &mut broadcast);
        }
    }

    /// Somebody is no member any more.
    pub(super) fn broadcast_left(
        &mut self,
        cx: &mut Context,
        member: &Member,
        reason: LeaveReason,
    ) {
        if !self.record_change(cx) {
            return;
        }
        let left = ServerMessage::MemberLeft {
            timestamp: cx.epoch_millis(),
            member_id: &member.id,
            member_name: &member.name,
            reason,
        };
        self.broadcast(cx, &left);
    }

    /// Tells one of the members where it is, and who is there.
    pub(super) fn welcome(&self, cx: &mut Context, conn: ConnectionId, id: &str) {
        let Some(member) = self.members().find(|member| member.is_on(conn)) else {
            return;
        };
        let welcome = ServerMessage::Welcome {
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
        if let Some(member) = self.members().find(|member| member.is_on(conn)) {
            member.send_to(cx, &self.list(cx));
        }
    }

    fn list(&self, cx: &Context) -> ServerMessage<'_> {
        let guests = self.guests.iter().map(|guest| guest.info(cx, false));
        ServerMessage::MemberList {
            timestamp: cx.epoch_millis(),
            members: std::iter::once(self.host.info(cx)).chain(guests).collect(),
        }
    }
}

impl Member {
    /// Whether it has sent no heartbeat for so long.
    pub(super) fn has_timed_out(&self, now: Duration, timeout: Duration) -> bool {
        self.last_heartbeat + timeout <= now
    }

    /// Whether its connection is this one.
    pub(super) fn is_on(&self, conn: ConnectionId) -> bool {
        self.recipient
            .is_some_and(|recipient| recipient.connection == conn)
    }

    /// Sends it a message, if it is connected.
    pub(super) fn send_to(&self, cx: &mut Context, message: &ServerMessage) {
        self.send_broadcast(cx, message, &mut Broadcast::new(message));
    }

    /// Sends it a message that many get, in words of its own where it stands in it.
    fn send_broadcast<'a>(
        &self,
        cx: &mut Context,
        message: &ServerMessage<'a>,
        broadcast: &mut Broadcast<'_, ServerMessage<'a>>,
    ) {
        let Some(recipient) = self.recipient else {
            return;
        };
        let ids = RecipientIds {
            client_id: &self.id,
            device_id: &self.device_id,
        };
        match message.personalized(recipient.dialect, ids) {
            Some(frame) => cx.send(recipient.connection, frame),
            None => {
                broadcast.send_to(cx, recipient);
            }
        }
    }

    pub(super) fn new(
        cx: &Context,
        recipient: Recipient,
        id: String,
        device_id: String,
        name: String,
    ) -> Self {
        Self {
            id,
            device_id,
            name,
            joined_at: cx.epoch_millis(),
            last_heartbeat: cx.now,
            recipient: Some(recipient),
        }
    }

    pub(super) fn info(&self, cx: &Context, is_host: bool) -> MemberInfo<'_> {
        let rtt = self
            .recipient
            .and_then(|recipient| cx.rtt(recipient.connection));
        // To the nearest millisecond.
        let millis = |time: Duration| u64::try_from((time.as_micros() + 500) / 1000).ok();
        MemberInfo {
            id: &self.id,
            name: &self.name,
            is_host,
            connection_status: if self.recipient.is_some() {
                ConnectionStatus::Connected
            } else {
                ConnectionStatus::Reconnecting
            },
            joined_at: self.joined_at,
            last_seen: millis_ago(cx, cx.now.saturating_sub(self.last_heartbeat)),
            latency: rtt.and_then(millis),
        }
    }
}
