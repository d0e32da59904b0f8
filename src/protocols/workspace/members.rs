//! Who is in a Workspace room, and what is said to all of them.

use super::messages::{Dialect, ErrorReply, Presence, ServerMessage, Status, Typing};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::{Broadcast, Recipient};
use crate::toolkit::rate_limit::SlidingWindow;
use std::collections::BTreeMap;
use std::time::Duration;

/// Up to this many users are named in a count of users; more would fill outboxes.
const MAX_LISTED_USERS: usize = 200;

/// The connections of a room.
pub(super) type Members = BTreeMap<ConnectionId, Member>;

/// One connection.
pub(super) struct Member {
    pub(super) recipient: Recipient<Dialect>,
    /// The key of its user.
    pub(super) user: String,
    pub(super) typing: bool,
    /// When it said or was told something last.
    pub(super) last_activity: Duration,
    pub(super) renames: SlidingWindow,
}

/// Somebody with a name, connected at least once.
pub(super) struct User {
    /// The name in lower case.
    pub(super) key: String,
    /// The name as the first of the connections wrote it.
    pub(super) name: String,
    /// `userId` on the wire.
    pub(super) id: String,
    pub(super) connections: u32,
    /// How many of them are typing.
    pub(super) typing_connections: u32,
    pub(super) limits: RateLimits,
}

#[derive(Default)]
pub(super) struct RateLimits {
    pub(super) messages: SlidingWindow,
    pub(super) signals: SlidingWindow,
}

impl RateLimits {
    /// Counts a `presence:update` or `typing:indicator`.
    pub(super) fn count_signal(&mut self, now: Duration, limit: u32) -> Result<(), ErrorReply> {
        let counted = self.signals.take(now, limit);
        let what = "presence updates and typing indicators";
        counted.map_err(|wait| ErrorReply::rate_limited(what, wait))
    }

    /// Whether anything was counted in the last minute.
    pub(super) fn has_recent_events(&mut self, now: Duration) -> bool {
        self.messages.count(now) + self.signals.count(now) > 0
    }
}

/// Who is there: how many, and the names of the first of them in alphabetical order.
pub(super) fn user_count_message(users: &BTreeMap<String, User>) -> ServerMessage<'_> {
    let names = users.values().map(|user| user.name.as_str());
    ServerMessage::UserCount {
        count: users.len(),
        users: names.take(MAX_LISTED_USERS).collect(),
    }
}

/// Sends a message to everybody, or to everybody else than a user. Where somebody's dialect has no
/// such message, that is nothing, and keeps nobody from being idle.
pub(super) fn broadcast(
    members: &mut Members,
    cx: &mut Context,
    except: Option<&User>,
    message: &ServerMessage,
) {
    let mut broadcast = Broadcast::new(message);
    for member in members.values_mut() {
        let is_recipient = except.is_none_or(|user| user.key != member.user);
        if is_recipient && broadcast.send_to(cx, member.recipient) {
            member.last_activity = cx.now;
        }
    }
}

pub(super) fn broadcast_presence(
    members: &mut Members,
    cx: &mut Context,
    user: &User,
    status: Status,
) {
    let data = Presence {
        user_id: &user.id,
        username: &user.name,
        status,
    };
    broadcast(members, cx, Some(user), &ServerMessage::Presence { data });
}

/// Notes whether a connection is typing, and tells the others if that changes whether its user
/// is.
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
    if std::mem::replace(&mut member.typing, is_typing) == is_typing {
        return;
    }
    let before = user.typing_connections;
    user.typing_connections = if is_typing { before + 1 } else { before - 1 };
    if (before == 0) != (user.typing_connections == 0) {
        broadcast_typing(members, cx, user);
    }
}

pub(super) fn broadcast_typing(members: &mut Members, cx: &mut Context, user: &User) {
    let is_typing = user.typing_connections > 0;
    let data = Typing {
        user_id: &user.id,
        username: &user.name,
        is_typing,
    };
    broadcast(members, cx, Some(user), &ServerMessage::Typing { data });
}
