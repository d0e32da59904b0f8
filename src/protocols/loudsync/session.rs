//! A session and its members, and the messages that the members receive about each other.

use super::codec::Recipient;
use super::messages::{
    ConnectionStatus, Details, ErrorCode, ErrorReply, Join, LeaveReason, MemberInfo, RecipientIds,
    ServerMessage, SessionInfo,
};
use super::static_sessions::StaticSession;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::Broadcast;
use crate::toolkit::heap_bytes::{HeapBytes, allocation};
use crate::toolkit::rate_limit::SlidingWindow;
use std::time::Duration;

/// Changes per minute that a session announces at once. Above the limit, changes are gathered
/// into one list a second. Without it, one device that joins and leaves, or is lost and returns,
/// thousands of times would flood the other members.
const MAX_CHANGES_PER_MINUTE: u32 = 60;

/// Members up to which that limit holds. In a larger session no change is announced at once (rulings): the cost
/// of announcing each to all members grows with the square of their number.
const SMALL_SESSION: usize = 32;

/// Number of guests up to which the list of guests has no spare places. Most sessions have fewer, and a `Vec` begins with
/// four places.
const FEW_GUESTS: usize = 4;

/// Memory of a session besides its name and its members: its place in the tree of sessions, twice its size
/// since the nodes are not full, and its ID there.
const SESSION_BYTES: usize = 2 * size_of::<(String, Session)>() + allocation(64);

/// A session. It exists for as long as its host device has its place, or always if its host is from the
/// configuration.
pub(super) struct Session {
    pub(super) name: String,
    /// Maximum of members, the host included.
    pub(super) max_members: usize,
    pub(super) host: Host,
    /// All members but the host, in order of joining.
    pub(super) guests: Vec<Member>,
    /// The changes of the last minute that were announced at once.
    changes: SlidingWindow,
    /// Whether the next tick sends all members the list.
    list_pending: bool,
}

/// The host of a session.
pub(super) enum Host {
    /// The device that opened the session.
    Device(Member),
    /// A name from the configuration, which no device ever takes. Clients look for the host in the list
    /// and show it, so the list has it as a connected member.
    Configured { id: String, name: String },
}

/// A device in a session.
pub(super) struct Member {
    /// The client ID, which other members are shown.
    pub(super) id: String,
    /// The device ID, a secret: a device that has it can take the member's place.
    pub(super) device_id: String,
    pub(super) name: String,
    /// Milliseconds since the epoch.
    pub(super) joined_at: u64,
    /// Time of the last heartbeat, or of the JOIN if there was none since.
    pub(super) last_heartbeat: Duration,
    /// Whether the member's client has, or had, a token that says that it is this device.
    pub(super) is_proven: bool,
    /// The member's connection; none while the member is reconnecting.
    pub(super) recipient: Option<Recipient>,
}

impl Host {
    /// Returns its client ID.
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

    /// Returns the host device, or none if the host is from the configuration.
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
                // `cx.now` is the time since the daemon started, and with it the session.
                joined_at: millis_ago(cx, cx.now),
                last_seen: cx.epoch_millis(),
                latency: None,
            },
        }
    }
}

/// Returns the time that is `ago` before now, in milliseconds since the epoch.
fn millis_ago(cx: &Context, ago: Duration) -> u64 {
    let millis = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    cx.epoch_millis().saturating_sub(millis)
}

impl Session {
    /// Returns a session from the configuration. `max_members` is its default.
    pub(super) fn from_config(session: &StaticSession, max_members: u32) -> Self {
        let host = Host::Configured {
            id: session.host_id.clone(),
            name: session.host_name.clone(),
        };
        let max_members = session.max_members.unwrap_or(max_members) as usize;
        Self::with_host(host, session.name.clone(), max_members)
    }

    /// Returns a session that a host device opens.
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

    /// Changes a session from the configuration to `new`, which is another one without members. Its members stay, also
    /// above a lower maximum, and are sent the list if they see another host.
    pub(super) fn replace_config(&mut self, cx: &mut Context, new: Self) {
        let sees_change = (self.host.id(), self.host.name()) != (new.host.id(), new.host.name());
        self.name = new.name;
        self.max_members = new.max_members;
        self.host = new.host;
        if sees_change {
            self.broadcast_list(cx, None);
        }
    }

    /// Records a change, after which the session has this many members. Returns whether to announce it at once;
    /// if not, the next tick sends the list.
    fn record_change(&mut self, cx: &Context, member_count: usize) -> bool {
        let may_announce = member_count <= SMALL_SESSION
            && self
                .changes
                .try_record(cx.now, MAX_CHANGES_PER_MINUTE)
                .is_ok();
        self.list_pending |= !may_announce;
        !self.list_pending
    }

    /// Returns the number of members, the host included, also one from the configuration.
    fn member_count(&self) -> usize {
        1 + self.guests.len()
    }

    /// Sends the list to all members except one that has it already.
    pub(super) fn broadcast_list(&mut self, cx: &mut Context, except: Option<ConnectionId>) {
        if self.record_change(cx, self.member_count()) {
            self.broadcast_except(cx, except, &self.list(cx));
        }
    }

    /// Adds a guest, and announces it to the other members.
    pub(super) fn add(&mut self, cx: &mut Context, member: Member) {
        if self.record_change(cx, self.member_count() + 1) {
            let joined = ServerMessage::MemberJoined {
                timestamp: cx.epoch_millis(),
                member: member.info(cx, false),
            };
            self.broadcast(cx, &joined);
        }
        if self.guests.len() < FEW_GUESTS {
            self.guests.reserve_exact(1);
        }
        self.guests.push(member);
    }

    /// Removes and returns the first guest that `matches`.
    pub(super) fn take_guest(&mut self, matches: impl Fn(&Member) -> bool) -> Option<Member> {
        let index = self.guests.iter().position(matches)?;
        Some(self.guests.remove(index))
    }

    /// Sends all members the list if a change was not announced at once.
    pub(super) fn tick(&mut self, cx: &mut Context) {
        if std::mem::take(&mut self.list_pending) {
            self.broadcast(cx, &self.list(cx));
        }
    }

    /// Returns all members that are devices, in order of joining: the host first.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.host.member().into_iter().chain(&self.guests)
    }

    /// Returns the same as [`Self::members`], to change them.
    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.host.member_mut().into_iter().chain(&mut self.guests)
    }

    /// Returns the memory of the session and its members, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members().map(Member::bytes).sum::<usize>();
        SESSION_BYTES + self.name.heap_bytes() + self.changes.heap_bytes() + members
    }

    /// Returns whether a connection is the host's.
    pub(super) fn is_hosted_by(&self, conn: ConnectionId) -> bool {
        self.host.member().is_some_and(|host| host.is_on(conn))
    }

    /// Returns whether a client ID is in use.
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.host.id() == id || self.guests.iter().any(|guest| guest.id == id)
    }

    /// Checks that another device may join.
    ///
    /// # Errors
    /// The session is full.
    pub(super) fn check_capacity(&self) -> Result<(), ErrorReply> {
        let (max_members, current_members) = (self.max_members, self.member_count());
        if current_members < max_members {
            return Ok(());
        }
        Err(ErrorReply {
            code: ErrorCode::SessionFull,
            // As the document's example has it ("ERROR").
            message: format!("Session has reached maximum capacity ({max_members} members)"),
            details: Some(Details::Full {
                max_members,
                current_members,
            }),
        })
    }

    /// Sends a message to every connected member.
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
        let is_included = |member: &&Member| except.is_none_or(|except| !member.is_on(except));
        for member in self.members().filter(is_included) {
            member.join_broadcast(cx, message, &mut broadcast);
        }
        broadcast.send(cx);
    }

    /// Announces that a device, already removed, is no longer a member.
    pub(super) fn broadcast_left(
        &mut self,
        cx: &mut Context,
        member: &Member,
        reason: LeaveReason,
    ) {
        if !self.record_change(cx, self.member_count()) {
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

    /// Sends the welcome and the list to the member on a connection. `id` is the session's ID.
    pub(super) fn welcome(&self, cx: &mut Context, conn: ConnectionId, id: &str) {
        self.send_welcome(cx, conn, id);
        self.send_list(cx, conn);
    }

    /// Sends the welcome to the member on a connection. `id` is the session's ID.
    pub(super) fn send_welcome(&self, cx: &mut Context, conn: ConnectionId, id: &str) {
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
        member.send(cx, &welcome);
    }

    /// Sends the list to the member on a connection.
    pub(super) fn send_list(&self, cx: &mut Context, conn: ConnectionId) {
        if let Some(member) = self.members().find(|member| member.is_on(conn)) {
            member.send(cx, &self.list(cx));
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
    /// Returns a member that has just joined.
    pub(super) fn new(cx: &Context, recipient: Recipient, id: String, join: &Join) -> Self {
        Self {
            id,
            device_id: join.device_id.clone(),
            name: join.device_name.clone(),
            is_proven: join.is_proven,
            joined_at: cx.epoch_millis(),
            last_heartbeat: cx.now,
            recipient: Some(recipient),
        }
    }

    /// Returns the member's memory, in bytes. A list of members has twice the capacity it needs at most.
    fn bytes(&self) -> usize {
        let texts = [&self.id, &self.device_id, &self.name];
        2 * size_of::<Self>() + texts.iter().map(|text| text.heap_bytes()).sum::<usize>()
    }

    /// Returns whether its last heartbeat is at least `timeout` ago, time in which the server did not read
    /// its connection apart.
    pub(super) fn has_timed_out(&self, cx: &Context, timeout: Duration) -> bool {
        let since = self.recipient.map_or(self.last_heartbeat, |recipient| {
            cx.silent_since(recipient.connection, self.last_heartbeat)
        });
        since + timeout <= cx.now
    }

    /// Returns whether this is its connection.
    pub(super) fn is_on(&self, conn: ConnectionId) -> bool {
        self.recipient
            .is_some_and(|recipient| recipient.connection == conn)
    }

    /// Sends it a message, if it is connected.
    pub(super) fn send(&self, cx: &mut Context, message: &ServerMessage) {
        let mut broadcast = Broadcast::new(message);
        self.join_broadcast(cx, message, &mut broadcast);
        broadcast.send(cx);
    }

    /// Sends it a message that other members get as well, if its dialect requires a personalized one; otherwise adds it
    /// to the recipients of the shared one.
    fn join_broadcast<'a>(
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
            None => broadcast.add(recipient),
        }
    }

    fn info(&self, cx: &Context, is_host: bool) -> MemberInfo<'_> {
        let rtt = self
            .recipient
            .and_then(|recipient| cx.rtt(recipient.connection));
        // Rounded to the nearest millisecond.
        let to_millis = |rtt: Duration| u64::try_from((rtt.as_micros() + 500) / 1000).ok();
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
            latency: rtt.and_then(to_millis),
        }
    }
}
