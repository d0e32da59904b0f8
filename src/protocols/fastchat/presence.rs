//! What has changed in who is online, gathered until it is time to tell it.

use super::FastChat;
use super::messages::{ServerMessage, UserEntry};
use crate::realm::Context;
use crate::toolkit::dialect::Broadcast;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Changes within this time of the last telling are gathered into one (rulings).
pub(super) const BROADCAST_INTERVAL: Duration = Duration::from_secs(1);

/// What has become of a user since the last telling.
pub(super) struct Change {
    pub(super) name: String,
    pub(super) online: bool,
    /// It was online at the last telling.
    was_online: bool,
}

impl Change {
    /// It came and went, and nobody knows of it but those who came meanwhile.
    pub(super) fn is_transient(&self) -> bool {
        !self.online && !self.was_online
    }
}

/// By user.
pub(super) type Changes = BTreeMap<Uuid, Change>;

/// What is not told yet.
#[derive(Default)]
pub(super) struct PresenceChanges {
    changes: Changes,
    /// Of changes, told or not.
    version: u64,
    /// When the last telling was, and the version then.
    last_broadcast: Option<(Duration, u64)>,
}

impl PresenceChanges {
    /// Somebody came or went.
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

    /// How many changes there have been so far, told or not.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// What is to be told now, if it is time for it, and the version at the last telling.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<(Changes, u64)> {
        let (at, version) = self.last_broadcast.unzip();
        if self.changes.is_empty() || at.is_some_and(|at| now < at + BROADCAST_INTERVAL) {
            return None;
        }
        self.last_broadcast = Some((now, self.version));
        Some((
            std::mem::take(&mut self.changes),
            version.unwrap_or_default(),
        ))
    }

    /// Whether there is nothing to tell.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl FastChat {
    /// Whether everybody can be told the whole list at each change.
    pub(super) fn is_list_short(&self) -> bool {
        let up_to = self.options.presence_list_up_to as usize;
        up_to == 0 || self.users.len() <= up_to
    }

    /// The list of everybody online, with these besides.
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

    /// Tells everybody who does not know yet who came and who went, if it is time for it.
    pub(super) fn broadcast_presence(&mut self, cx: &mut Context) {
        let Some((changes, before)) = self.presence_changes.take_due(cx.now) else {
            return;
        };
        let is_list_short = self.is_list_short();
        let news = |wanted: fn(&Change) -> bool| {
            let changes = changes.iter().filter(|(_, change)| wanted(change));
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
        let list = LazyCell::new(|| self.presence_list([]));
        let all = LazyCell::new(|| news(|_| true));
        let lasting = LazyCell::new(|| news(|change| !change.is_transient()));
        let mut list = Broadcast::new(&list);
        let mut all = Broadcast::new(&all);
        let mut lasting = Broadcast::new(&lasting);
        let now = self.presence_changes.version();
        for user in self.users.values() {
            let to = user.recipient;
            let _ = match user.seen_version {
                None => list.send_to(cx, to),
                Some(told) if told == now => continue,
                // Its list may have had somebody in it who came and went.
                Some(told) if told > before => all.send_to(cx, to),
                Some(_) => lasting.send_to(cx, to),
            };
        }
        for user in self.users.values_mut() {
            user.seen_version = Some(now);
        }
    }
}
