//! What has changed in who is online, gathered until it is time to tell it.

use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Changes within this time of the last telling are gathered into one (rulings).
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// By user: its name, and whether it is online now.
pub(super) type Changes = BTreeMap<Uuid, (String, bool)>;

/// What is not told yet.
#[derive(Default)]
pub(super) struct News {
    changes: Changes,
    count: u64,
    last_told: Option<Duration>,
}

impl News {
    /// Somebody came or went.
    pub(super) fn add(&mut self, user: Uuid, name: String, online: bool) {
        self.count += 1;
        self.changes.insert(user, (name, online));
    }

    /// How many changes there have been so far, told or not.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What is to be told now, if it is time for it.
    pub(super) fn due(&mut self, now: Duration) -> Option<Changes> {
        if self.changes.is_empty() || self.last_told.is_some_and(|told| now < told + INTERVAL) {
            return None;
        }
        self.last_told = Some(now);
        Some(std::mem::take(&mut self.changes))
    }

    /// Whether there is nothing to tell.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
