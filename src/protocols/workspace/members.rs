//! The members of a room, their users, and messages to all of them.

use super::messages::{Dialect, ErrorReply, Presence, ServerMessage, Status, Typing};
use super::options::Options;
use super::standing::Standing;
use super::text_window::TextWindow;
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::{Encode, Recipient};
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::rate_limit::SlidingWindow;
use crate::toolkit::recipient_lists::RecipientLists;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Most usernames in a `userCount`. A longer list would fill outboxes, as it is sent on each change.
const MAX_LISTED_USERS: usize = 200;

/// The members of a room: one per connection.
#[derive(Default)]
pub(super) struct Members {
    /// Boxed, as the nodes of the map are almost half empty: connections come in ascending order.
    by_connection: BTreeMap<ConnectionId, Box<Member>>,
    lists: RecipientLists<Dialect>,
    /// Number of broadcasts so far.
    broadcasts: u64,
    /// The last broadcast in each dialect.
    last_broadcasts: Vec<(Dialect, LastBroadcast)>,
}

/// The last broadcast in a dialect. It is activity of all members but those that it excepted, and is not recorded with
/// each of them.
#[derive(Clone, Copy)]
struct LastBroadcast {
    number: u64,
    at: Duration,
}

/// The users of a room, by [`User::key`]. Boxed, as the nodes of the map are up to half empty.
pub(super) type Users = BTreeMap<Arc<str>, Box<User>>;

/// A connection.
pub(super) struct Member {
    recipient: Recipient<Dialect>,
    /// Key of its user.
    pub(super) user: Arc<str>,
    pub(super) standing: Standing,
    pub(super) is_typing: bool,
    /// Time of the last message from the connection, or to it alone; see [`Members::last_activity`].
    last_activity: Duration,
    /// The last broadcast that excepted it.
    last_missed: u64,
    /// Memory of its large text that waits to enter the room.
    pub(super) waiting_bytes: usize,
    /// Changes of its username.
    pub(super) renames: SlidingWindow,
}

impl Member {
    /// Creates the member of a connection that joins as the user with this key.
    pub(super) fn new(
        now: Duration,
        recipient: Recipient<Dialect>,
        user: Arc<str>,
        standing: Standing,
    ) -> Self {
        Self {
            recipient,
            user,
            standing,
            is_typing: false,
            last_activity: now,
            last_missed: 0,
            waiting_bytes: 0,
            renames: SlidingWindow::default(),
        }
    }

    /// Returns its connection and dialect.
    pub(super) fn recipient(&self) -> Recipient<Dialect> {
        self.recipient
    }
}

/// Returns a connection that has not sent a message yet.
pub(super) fn newcomer(conn: ConnectionId) -> Recipient<Dialect> {
    Recipient {
        connection: conn,
        dialect: Dialect::default(),
    }
}

impl Members {
    pub(super) fn get(&self, conn: ConnectionId) -> Option<&Member> {
        self.by_connection.get(&conn).map(|member| &**member)
    }

    pub(super) fn get_mut(&mut self, conn: ConnectionId) -> Option<&mut Member> {
        self.by_connection
            .get_mut(&conn)
            .map(|member| &mut **member)
    }

    pub(super) fn insert(&mut self, member: Member) {
        self.lists.invalidate();
        let conn = member.recipient.connection;
        self.by_connection.insert(conn, Box::new(member));
    }

    pub(super) fn remove(&mut self, conn: ConnectionId) -> Option<Member> {
        self.lists.invalidate();
        self.by_connection.remove(&conn).map(|member| *member)
    }

    pub(super) fn len(&self) -> usize {
        self.by_connection.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_connection.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_connection.values().map(|member| &**member)
    }

    /// Records a message of a member in this dialect. Returns the member as it was before; `None` if there is none on
    /// this connection.
    pub(super) fn record_message(
        &mut self,
        now: Duration,
        conn: ConnectionId,
        dialect: Dialect,
    ) -> Option<Recipient<Dialect>> {
        let member = self.by_connection.get_mut(&conn)?;
        let before = member.recipient;
        member.last_activity = now;
        member.recipient.dialect = dialect;
        if before.dialect != dialect {
            self.lists.invalidate();
        }
        Some(before)
    }

    /// Returns the time of the last message from or to a member.
    pub(super) fn last_activity(&self, member: &Member) -> Duration {
        let mut last = self.last_broadcasts.iter();
        let last = last.find(|(dialect, _)| *dialect == member.recipient.dialect);
        let last = last.filter(|(_, last)| last.number != member.last_missed);
        last.map_or(member.last_activity, |(_, last)| {
            member.last_activity.max(last.at)
        })
    }

    /// Sends a message to all members but those on the connections `except`. A member whose dialect has no such
    /// message is sent nothing, which does not count as activity either. Returns the number of members that are sent
    /// it.
    pub(super) fn broadcast(
        &mut self,
        cx: &mut Context,
        except: &[ConnectionId],
        message: &ServerMessage,
    ) -> u64 {
        let members = self.by_connection.values();
        let recipients = members.map(|member| member.recipient());
        let lists = self.lists.get(recipients).iter();
        let mut sent_in = Vec::new();
        let mut deliveries = 0;
        for (dialect, list) in lists {
            let frames = message.encode(*dialect);
            if frames.is_empty() {
                continue;
            }
            for frame in frames {
                cx.broadcast(list, except, frame);
            }
            let excepted = except.iter().filter(|&&conn| list.contains(conn));
            deliveries += list.len() - excepted.count();
            sent_in.push(*dialect);
        }
        self.record_broadcast(cx.now, &sent_in, except);
        deliveries as u64
    }

    /// Records a broadcast in these dialects.
    fn record_broadcast(&mut self, now: Duration, dialects: &[Dialect], except: &[ConnectionId]) {
        self.broadcasts += 1;
        for &conn in except {
            let member = self.by_connection.get(&conn);
            let Some(member) = member.filter(|it| dialects.contains(&it.recipient.dialect)) else {
                continue;
            };
            let last_activity = self.last_activity(member);
            if let Some(member) = self.by_connection.get_mut(&conn) {
                member.last_activity = last_activity;
                member.last_missed = self.broadcasts;
            }
        }
        let last = LastBroadcast {
            number: self.broadcasts,
            at: now,
        };
        let is_other = |(dialect, _): &(Dialect, _)| !dialects.contains(dialect);
        self.last_broadcasts.retain(is_other);
        let sent = dialects.iter().map(|&dialect| (dialect, last));
        self.last_broadcasts.extend(sent);
    }
}

impl FreeSpare for Members {
    fn free_spare(&mut self) {
        let Self {
            by_connection,
            last_broadcasts,
            // Dropped with the last member.
            lists: _,
            broadcasts: _,
        } = self;
        by_connection.free_spare();
        if by_connection.is_empty() {
            last_broadcasts.clear();
        }
        last_broadcasts.free_spare();
    }
}

/// A username and its connections, of which there is at least one.
pub(super) struct User {
    /// The name as names are compared: [`name_key`](crate::toolkit::sanitize::name_key). Shared by all that have it.
    pub(super) key: Arc<str>,
    /// The name as its first connection wrote it.
    pub(super) name: String,
    /// `userId` in messages.
    pub(super) id: Box<str>,
    /// Its connections, in the order in which they came.
    pub(super) connections: Vec<ConnectionId>,
    /// Number of connections that are typing. The user is typing if there is one.
    pub(super) typing_connections: u32,
    pub(super) rate_limits: RateLimits,
}

impl User {
    /// Returns whether it is typing, as the others are told it.
    pub(super) fn typing(&self) -> Typing<'_> {
        Typing {
            user_id: &self.id,
            username: &self.name,
            is_typing: self.typing_connections > 0,
        }
    }
}

/// The rates of a user over all its connections.
#[derive(Default)]
pub(super) struct RateLimits {
    pub(super) messages: SlidingWindow,
    /// `presence:update` and `typing:indicator` together.
    pub(super) signals: SlidingWindow,
    pub(super) texts: TextWindow,
}

impl RateLimits {
    /// Counts a chat message with a text of `bytes` bytes.
    ///
    /// # Errors
    /// It is above a limit. Then nothing is counted.
    pub(super) fn count_message(
        &mut self,
        now: Duration,
        bytes: usize,
        options: &Options,
    ) -> Result<(), ErrorReply> {
        let limit = options.text_per_minute;
        let checked = self.texts.check(now, bytes, limit);
        checked.map_err(|wait| ErrorReply::too_much_text(limit, wait))?;
        let limit = options.messages_per_minute;
        let counted = self.messages.try_record(now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("messages", limit, wait))?;
        self.texts.record(now, bytes);
        Ok(())
    }

    /// Counts a `presence:update` or `typing:indicator`.
    ///
    /// # Errors
    /// There were `limit` in the last minute.
    pub(super) fn count_signal(&mut self, now: Duration, limit: u32) -> Result<(), ErrorReply> {
        let counted = self.signals.try_record(now, limit);
        let what = "presence updates and typing indicators";
        counted.map_err(|wait| ErrorReply::rate_limited(what, limit, wait))
    }

    /// Frees what is not needed while the user is offline.
    pub(super) fn compact(&mut self, now: Duration) {
        self.messages.compact(now);
        self.signals.compact(now);
        self.texts.compact(now);
    }

    /// Returns whether anything was counted in the last minute.
    pub(super) fn has_recent_events(&mut self, now: Duration) -> bool {
        self.messages.count(now) + self.signals.count(now) + self.texts.count(now) > 0
    }
}

impl HeapBytes for RateLimits {
    fn heap_bytes(&self) -> usize {
        self.messages.heap_bytes() + self.signals.heap_bytes() + self.texts.heap_bytes()
    }
}

/// Returns a `userCount` with the number of users and the first names in alphabetical order.
pub(super) fn user_count_message(users: &Users) -> ServerMessage<'_> {
    let names = users.values().map(|user| user.name.as_str());
    ServerMessage::UserCount {
        count: users.len(),
        users: names.take(MAX_LISTED_USERS).collect(),
    }
}

/// Sends a user's status to all other users. Returns the number of members that are sent it.
pub(super) fn broadcast_presence(
    members: &mut Members,
    cx: &mut Context,
    user: &User,
    status: Status,
) -> u64 {
    let data = Presence {
        user_id: &user.id,
        username: &user.name,
        status,
    };
    let message = ServerMessage::Presence { data };
    members.broadcast(cx, &user.connections, &message)
}

/// Sends whether a user is typing to all other users.
pub(super) fn broadcast_typing(members: &mut Members, cx: &mut Context, user: &User) {
    let data = user.typing();
    members.broadcast(cx, &user.connections, &ServerMessage::Typing { data });
}

/// Sets whether a connection is typing, and notifies the other users if its user starts or stops
/// typing with it.
pub(super) fn set_typing(
    members: &mut Members,
    cx: &mut Context,
    user: &mut User,
    conn: ConnectionId,
    is_typing: bool,
) {
    let Some(member) = members.get_mut(conn) else {
        return;
    };
    if std::mem::replace(&mut member.is_typing, is_typing) == is_typing {
        return;
    }
    let before = user.typing_connections;
    user.typing_connections = if is_typing { before + 1 } else { before - 1 };
    if (before == 0) != (user.typing_connections == 0) {
        broadcast_typing(members, cx, user);
    }
}
