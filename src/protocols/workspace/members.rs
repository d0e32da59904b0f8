//! Who is in a Workspace room, and what is said to all of them.

use super::Options;
use super::messages::{Dialect, Mistake, Outgoing, Presence, Status, Typing};
use crate::realm::{ConnectionId, Context};
use crate::toolkit::dialect::{Broadcast, Recipient};
use crate::toolkit::rate_limit::SlidingWindow;
use std::collections::BTreeMap;
use std::time::Duration;

/// Up to this many users are named in a count of users; more would fill outboxes.
const NAMED: usize = 200;

/// The connections of a room.
pub(super) type Members = BTreeMap<ConnectionId, Member>;

/// One connection.
pub(super) struct Member {
    pub(super) address: Recipient<Dialect>,
    /// The key of its user.
    pub(super) user: String,
    pub(super) typing: bool,
    /// When it said or was told something last.
    pub(super) active: Duration,
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
    pub(super) typing: u32,
    pub(super) limits: Limits,
}

#[derive(Default)]
pub(super) struct Limits {
    pub(super) messages: SlidingWindow,
    pub(super) signals: SlidingWindow,
}

impl Limits {
    /// Counts a `presence:update` or `typing:indicator`.
    pub(super) fn signal(&mut self, now: Duration, options: &Options) -> Result<(), Mistake> {
        let counted = self.signals.take(now, options.signals_per_minute);
        let what = "presence updates and typing indicators";
        counted.map_err(|wait| Mistake::too_often(what, wait))
    }

    /// Whether anything was counted in the last minute.
    pub(super) fn matter(&mut self, now: Duration) -> bool {
        self.messages.count(now) + self.signals.count(now) > 0
    }
}

/// Who is there: how many, and the names of the first of them in alphabetical order.
pub(super) fn user_count(users: &BTreeMap<String, User>) -> Outgoing<'_> {
    let names = users.values().map(|user| user.name.as_str());
    Outgoing::UserCount {
        count: users.len(),
        users: names.take(NAMED).collect(),
    }
}

/// Sends a message to everybody, or to everybody else than a user. Where somebody's dialect has no
/// such message, that is nothing, and keeps nobody from being idle.
pub(super) fn tell(
    members: &mut Members,
    cx: &mut Context,
    but: Option<&User>,
    message: &Outgoing,
) {
    let mut broadcast = Broadcast::new(message);
    for member in members.values_mut() {
        let is_meant = but.is_none_or(|user| user.key != member.user);
        if is_meant && broadcast.send_to(cx, member.address) {
            member.active = cx.now;
        }
    }
}

pub(super) fn tell_presence(members: &mut Members, cx: &mut Context, user: &User, status: Status) {
    let data = Presence {
        user_id: &user.id,
        username: &user.name,
        status,
    };
    tell(members, cx, Some(user), &Outgoing::Presence { data });
}

/// Notes whether a connection is typing, and tells the others if that changes whether its user
/// is.
pub(super) fn change_typing(
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
    let before = user.typing;
    user.typing = if is_typing { before + 1 } else { before - 1 };
    if (before == 0) != (user.typing == 0) {
        tell_typing(members, cx, user);
    }
}

pub(super) fn tell_typing(members: &mut Members, cx: &mut Context, user: &User) {
    let is_typing = user.typing > 0;
    let data = Typing {
        user_id: &user.id,
        username: &user.name,
        is_typing,
    };
    tell(members, cx, Some(user), &Outgoing::Typing { data });
}
