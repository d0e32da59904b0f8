//! The changes of the users online, gathered until the next broadcast of PRESENCE.

use super::messages::UserEntry;
use crate::base::spare::FreeSpare;
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
    pub(super) fn is_transient(&self) -> bool {
        !self.online && !self.was_online
    }

    /// Returns the entry of its user in a PRESENCE.
    pub(super) fn entry(&self, user_id: Uuid) -> UserEntry<'_> {
        UserEntry {
            user_id,
            display_name: &self.name,
            online: self.online,
        }
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

impl FreeSpare for PresenceChanges {
    fn free_spare(&mut self) {
        let Self {
            changes,
            version: _,
            last_broadcast: _,
        } = self;
        changes.free_spare();
    }
}
