//! Broadcasts PRESENCE: chooses for each user the whole list, the net changes, or all changes.

use super::messages::{ServerMessage, UserEntry};
use super::presence::{Change, Changes};
use super::{FastChat, User};
use crate::realm::Context;
use crate::toolkit::dialect::Broadcast;
use std::cell::LazyCell;

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
        let version = self.presence_changes.version();
        let broadcast = PresenceBroadcast {
            realm: self,
            changes,
            last_version,
            version,
        };
        broadcast.send(cx);
        for user in self.users.values_mut() {
            user.seen_version = Some(version);
        }
    }
}

/// One broadcast of PRESENCE.
struct PresenceBroadcast<'a> {
    realm: &'a FastChat,
    /// What changed since the last broadcast.
    changes: Changes,
    /// The version of the presence changes at the last broadcast.
    last_version: u64,
    /// Their version now.
    version: u64,
}

/// What a user has to be sent at a broadcast, so that it knows who is online.
enum Need {
    /// The list of all users: it has had none yet.
    FirstList,
    /// The net changes since the last broadcast, which it was sent.
    LastingChanges,
    /// All changes since the last broadcast: its first list was sent after that, so there may be a user in it that
    /// connected and disconnected in between.
    AllChanges,
    /// Nothing: its first list was sent after the last change.
    Nothing,
}

impl PresenceBroadcast<'_> {
    /// Sends each user what it needs. A message is made when the first user needs it.
    fn send(&self, cx: &mut Context) {
        let first_list = LazyCell::new(|| self.realm.presence_list([]));
        let all = LazyCell::new(|| self.message(|_| true));
        let lasting = LazyCell::new(|| self.message(|change| !change.is_transient()));
        let mut first_list = Broadcast::new(&first_list);
        let mut all = Broadcast::new(&all);
        let mut lasting = Broadcast::new(&lasting);
        for user in self.realm.users.values() {
            match self.need_of(user) {
                Need::FirstList => first_list.add(user.recipient),
                Need::LastingChanges => lasting.add(user.recipient),
                Need::AllChanges => all.add(user.recipient),
                Need::Nothing => {}
            }
        }
        first_list.send(cx);
        lasting.send(cx);
        all.send(cx);
    }

    fn need_of(&self, user: &User) -> Need {
        match user.seen_version {
            None => Need::FirstList,
            Some(seen) if seen == self.version => Need::Nothing,
            Some(seen) if seen > self.last_version => Need::AllChanges,
            Some(_) => Need::LastingChanges,
        }
    }

    /// Returns the PRESENCE with these changes: the whole list, with the users that have disconnected, while it is
    /// short, otherwise only the changes. `None` if there are none.
    fn message(&self, is_included: fn(&Change) -> bool) -> Option<ServerMessage<'_>> {
        let changes = self
            .changes
            .iter()
            .filter(|(_, change)| is_included(change));
        let entries: Vec<UserEntry> = changes.map(|(&id, change)| change.entry(id)).collect();
        if entries.is_empty() {
            return None;
        }
        Some(if self.realm.is_list_short() {
            let gone = entries.into_iter().filter(|entry| !entry.online);
            self.realm.presence_list(gone)
        } else {
            ServerMessage::PresenceUpdate { users: entries }
        })
    }
}
