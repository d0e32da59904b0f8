//! A session and its members: who is in it, and what they are told of each other.

use super::tell;
use super::wire::{
    Code, ConnectionStatus, Departure, Details, MemberInfo, Mistake, Outgoing, SessionInfo,
};
use crate::frame::Frame;
use crate::rate::Window;
use crate::realm::{ConnectionId, Context};
use std::time::Duration;

/// Of so many changes a minute everybody is told at once; further ones are gathered into a list a
/// second. Otherwise one device that joins and leaves, or is lost and comes back, thousands of
/// times would flood the others.
const CHANGES_AT_ONCE: u32 = 60;

/// A session, as long as its host has its place in it.
pub(super) struct Session {
    pub(super) name: String,
    /// The host among them.
    pub(super) max_members: usize,
    pub(super) host: Member,
    /// In order of joining.
    pub(super) guests: Vec<Member>,
    /// When everybody was told of a change.
    changes: Window,
    /// Everybody is to be sent a list at the next opportunity.
    is_list_due: bool,
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
    pub(super) connection: Option<ConnectionId>,
}

impl Session {
    /// A session whose host has just joined.
    pub(super) fn new(name: String, max_members: usize, host: Member) -> Self {
        Self {
            name,
            max_members,
            host,
            guests: Vec::new(),
            changes: Window::default(),
            is_list_due: false,
        }
    }

    /// Whether everybody may be told of a change now. If not, they get a list soon.
    fn may_tell(&mut self, cx: &Context) -> bool {
        self.is_list_due |= self.changes.take(cx.now, CHANGES_AT_ONCE).is_err();
        !self.is_list_due
    }

    /// Everybody is to have a fresh list, but for whoever has one already.
    pub(super) fn spread_list(&mut self, cx: &mut Context, but: Option<ConnectionId>) {
        if self.may_tell(cx) {
            self.tell_but(cx, but, &self.list(cx));
        }
    }

    /// Somebody joins, whom nobody has been told of.
    pub(super) fn add(&mut self, cx: &mut Context, member: Member) {
        if self.may_tell(cx) {
            let joined = Outgoing::MemberJoined {
                timestamp: cx.epoch_millis(),
                member: member.info(cx, false),
            };
            self.tell(cx, &joined);
        }
        self.guests.push(member);
    }

    /// Sends the list that could not be sent at once.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.is_list_due) {
            self.tell(cx, &self.list(cx));
        }
    }

    /// All members, the host first: in order of joining.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.host).chain(&self.guests)
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        std::iter::once(&mut self.host).chain(&mut self.guests)
    }

    /// Whether another may join.
    ///
    /// # Errors
    /// The session is full.
    pub(super) fn has_room(&self) -> Result<(), Mistake> {
        let (max_members, current_members) = (self.max_members, self.members().count());
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
    pub(super) fn tell(&self, cx: &mut Context, message: &Outgoing) {
        self.tell_but(cx, None, message);
    }

    fn tell_but(&self, cx: &mut Context, but: Option<ConnectionId>, message: &Outgoing) {
        let frame = Frame::json(message);
        let connections = self.members().filter_map(|member| member.connection);
        for connection in connections.filter(|connection| but != Some(*connection)) {
            cx.send(connection, frame.clone());
        }
    }

    /// Somebody is no member any more.
    pub(super) fn tell_left(&mut self, cx: &mut Context, member: &Member, reason: Departure) {
        if !self.may_tell(cx) {
            return;
        }
        let left = Outgoing::MemberLeft {
            timestamp: cx.epoch_millis(),
            member_id: &member.id,
            reason,
        };
        self.tell(cx, &left);
    }

    /// Tells a member where it is.
    pub(super) fn welcome(&self, cx: &mut Context, to: ConnectionId, client_id: &str, id: &str) {
        let welcome = Outgoing::Welcome {
            timestamp: cx.epoch_millis(),
            client_id,
            session_info: SessionInfo {
                id,
                name: &self.name,
                host_id: &self.host.id,
            },
        };
        tell(cx, to, &welcome);
    }

    pub(super) fn list(&self, cx: &Context) -> Outgoing<'_> {
        let guests = self.guests.iter().map(|guest| guest.info(cx, false));
        Outgoing::MemberList {
            timestamp: cx.epoch_millis(),
            members: std::iter::once(self.host.info(cx, true))
                .chain(guests)
                .collect(),
        }
    }
}

impl Member {
    /// Whether it has sent no heartbeat for so long.
    pub(super) fn is_due(&self, now: Duration, timeout: Duration) -> bool {
        self.heartbeat + timeout <= now
    }

    pub(super) fn new(
        cx: &Context,
        who: ConnectionId,
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
            connection: Some(who),
        }
    }

    pub(super) fn info(&self, cx: &Context, is_host: bool) -> MemberInfo<'_> {
        let round_trip = self
            .connection
            .and_then(|connection| cx.round_trip(connection));
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
            latency: round_trip.and_then(millis),
        }
    }
}
