//! The members of a room, their users, and messages to all of them.

use super::messages::{Dialect, ErrorReply, Presence, ServerMessage, Status, Typing};
use super::options::Options;
use super::text_window::TextWindow;
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::{Broadcast, Recipient};
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::rate_limit::SlidingWindow;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most usernames in a `userCount`. A longer list would fill outboxes, as it is sent on each change.
const MAX_LISTED_USERS: usize = 200;

/// The members of a room: one per connection.
pub(super) type Members = BTreeMap<ConnectionId, Member>;

/// The users of a room, by [`User::key`].
pub(super) type Users = BTreeMap<String, User>;

/// A connection.
pub(super) struct Member {
    pub(super) recipient: Recipient<Dialect>,
    /// Key of its user.
    pub(super) user: String,
    pub(super) is_typing: bool,
    /// Time of the last message from or to the connection.
    pub(super) last_activity: Duration,
    /// Memory of its large text that waits to enter the room.
    pub(super) waiting_bytes: usize,
    /// Changes of its username.
    pub(super) renames: SlidingWindow,
}

/// A username and its connections, of which there is at least one.
pub(super) struct User {
    /// The name as names are compared: [`name_key`](crate::toolkit::sanitize::name_key).
    pub(super) key: String,
    /// The name as its first connection wrote it.
    pub(super) name: String,
    /// `userId` in messages.
    pub(super) id: String,
    /// Its connections, in the order in which they came.
    pub(super) connections: Vec<ConnectionId>,
    /// Number of connections that are typing. The user is typing if there is one.
    pub(super) typing_connections: u32,
    pub(super) rate_limits: RateLimits,
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

/// Sends a message to all members but those of the user with the key `except`. A member whose dialect has no such
/// message is sent nothing, which does not count as activity either. Returns the number of members that are sent it.
pub(super) fn broadcast(
    members: &mut Members,
    cx: &mut Context,
    except: Option<&str>,
    message: &ServerMessage,
) -> u64 {
    let mut broadcast = Broadcast::new(message);
    let mut deliveries = 0;
    for member in members.values_mut() {
        let is_recipient = except.is_none_or(|key| key != member.user);
        if is_recipient && broadcast.send_to(cx, member.recipient) {
            member.last_activity = cx.now;
            deliveries += 1;
        }
    }
    deliveries
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
    broadcast(members, cx, Some(&user.key), &message)
}

/// Sends whether a user is typing to all other users.
pub(super) fn broadcast_typing(members: &mut Members, cx: &mut Context, user: &User) {
    let data = Typing {
        user_id: &user.id,
        username: &user.name,
        is_typing: user.typing_connections > 0,
    };
    broadcast(
        members,
        cx,
        Some(&user.key),
        &ServerMessage::Typing { data },
    );
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
    let Some(member) = members.get_mut(&conn) else {
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
