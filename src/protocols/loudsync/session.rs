//! A session and its members: who is in it, and what they are told of each other.

use super::tell;
use super::wire::{
    Code, ConnectionStatus, Departure, Details, MemberInfo, Mistake, Outgoing, SessionInfo,
};
use crate::frame::Frame;
use crate::realm::{ConnectionId, Context};
use std::time::Duration;

/// A session, as long as its host has its place in it.
pub(super) struct Session {
    pub(super) name: String,
    /// The host among them.
    pub(super) max_members: usize,
    pub(super) host: Member,
    /// In order of joining.
    pub(super) guests: Vec<Member>,
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
    /// All members, the host first: in order of joining.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.host).chain(&self.guests)
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        std::iter::once(&mut self.host).chain(&mut self.guests)
    }

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
        let frame = Frame::json(message);
        for connection in self.members().filter_map(|member| member.connection) {
            cx.send(connection, frame.clone());
        }
    }

    pub(super) fn tell_left(&self, cx: &mut Context, member: &Member, reason: Departure) {
        let left = Outgoing::MemberLeft {
            timestamp: cx.epoch_millis(),
            member_id: &member.id,
            reason,
        };
        self.tell(cx, &left);
    }

    /// Tells the member of a connection where it is.
    pub(super) fn welcome(&self, cx: &mut Context, who: ConnectionId, session_id: &str) {
        let member = self.members().find(|it| it.connection == Some(who));
        let welcome = Outgoing::Welcome {
            timestamp: cx.epoch_millis(),
            client_id: member.map_or("", |member| &member.id),
            session_info: SessionInfo {
                id: session_id,
                name: &self.name,
                host_id: &self.host.id,
            },
        };
        tell(cx, who, &welcome);
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
