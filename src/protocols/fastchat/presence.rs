//! PRESENCE: the changes of the users online, gathered until the next broadcast, and the broadcast.

use super::FastChat;
use super::messages::{ServerMessage, UserEntry};
use crate::base::spare::FreeSpare;
use crate::realm::Context;
use crate::toolkit::dialect::Broadcast;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// The least time between two broadcasts; changes in between are gathered into one (rulings). Each broadcast
/// goes to all users, so that its cost grows with the square of their number.
pub(super) const BROADCAST_INTERVAL: Duration = Duration::from_secs(1);

/// The net change of one user since the last broadcast.
pub(super) struct Change {
    name: String,
    online: bool,
    /// Whether the user was online at the last broadcast.
    was_online: bool,
}

impl Change {
    /// Returns whether the user connected and disconnected since the last broadcast. Only clients
    /// that got their list in between have seen it.
    fn is_transient(&self) -> bool {
        !self.online && !self.was_online
    }
}

/// Changes by user.
pub(super) type Changes = BTreeMap<Uuid, Change>;

/// The changes since the last broadcast.
#[derive(Default)]
pub(super) struct PresenceChanges {
    changes: Changes,
    /// The number of changes since the start, broadcast or not.
    version: u64,
    /// The time of the last broadcast, and the version then.
    last_broadcast: Option<(Duration, u64)>,
}

impl PresenceChanges {
    /// Records that a user connected or disconnected.
    pub(super) fn record(&mut self, user: Uuid, name: String, online: bool) {
        self.version += 1;
        let before = self.changes.get(&user);
        let was_online = before.map_or(!online, |before| before.was_online);
        let change = Change {
            name,
            online,
            was_online,
        };
        self.changes.insert(user, change);
    }

    /// Returns the number of changes since the start, broadcast or not.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// Takes the changes to broadcast, if a broadcast is due, with the version of the last one.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<(Changes, u64)> {
        let (at, version) = self.last_broadcast.unzip();
        if self.changes.is_empty() || at.is_some_and(|at| now < at + BROADCAST_INTERVAL) {
            return None;
        }
        self.last_broadcast = Some((now, self.version));
        let changes = std::mem::take(&mut self.changes);
        Some((changes, version.unwrap_or_default()))
    }

    /// Returns whether there is nothing to broadcast.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl FastChat {
    /// Returns whether a change is sent to all users as the whole list. Above
    /// `presence_list_up_to` users that would cost users times users entries.
    pub(super) fn is_list_short(&self) -> bool {
        let up_to = self.options.presence_list_up_to as usize;
        up_to == 0 || self.users.len() <= up_to
    }

    /// Returns the list of all users online, followed by `others`.
    pub(super) fn presence_list<'a>(
        &'a self,
        others: impl IntoIterator<Item = UserEntry<'a>>,
    ) -> ServerMessage<'a> {
        let online = self.users.iter().map(|(&user_id, user)| UserEntry {
            user_id,
            display_name: &user.name,
            online: true,
        });
        ServerMessage::PresenceList {
            users: online.chain(others).collect(),
        }
    }

    /// Sends the changes that are due to all users that have not seen them yet.
    pub(super) fn broadcast_presence(&mut self, cx: &mut Context) {
        let Some((changes, last_version)) = self.presence_changes.take_due(cx.now) else {
            return;
        };
        let is_list_short = self.is_list_short();
        let message = |filter: fn(&Change) -> bool| {
            let changes = changes.iter().filter(|(_, change)| filter(change));
            let entries: Vec<UserEntry> = changes
                .map(|(&user_id, change)| UserEntry {
                    user_id,
                    display_name: &change.name,
                    online: change.online,
                })
                .collect();
            (!entries.is_empty()).then(|| {
                if is_list_short {
                    self.presence_list(entries.into_iter().filter(|entry| !entry.online))
                } else {
                    ServerMessage::PresenceUpdate { users: entries }
                }
            })
        };
        let first_list = LazyCell::new(|| self.presence_list([]));
        let all = LazyCell::new(|| message(|_| true));
        let lasting = LazyCell::new(|| message(|change| !change.is_transient()));
        let mut first_list = Broadcast::new(&first_list);
        let mut all = Broadcast::new(&all);
        let mut lasting = Broadcast::new(&lasting);
        let version = self.presence_changes.version();
        for user in self.users.values() {
            let to = user.recipient;
            let _ = match user.seen_version {
                None => first_list.send_to(cx, to),
                Some(seen) if seen == version => continue,
                // Its list was sent between the broadcasts, so it may have a transient user in it.
                Some(seen) if seen > last_version => all.send_to(cx, to),
                Some(_) => lasting.send_to(cx, to),
            };
        }
        for user in self.users.values_mut() {
            user.seen_version = Some(version);
        }
    }
}

impl FreeSpare for PresenceChanges {
    fn free_spare(&mut self) {
        self.changes.free_spare();
    }
}
