//! What has changed in who is online, gathered until it is time to tell it.

use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Changes within this time of the last telling are gathered into one (rulings).
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

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
        if self.changes.is_empty() || at.is_some_and(|at| now < at + INTERVAL) {
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
