//! The memory of users' states: what is counted in the memory budget, and what goes first when it is short.

use super::chats::Chat;
use super::{FastChat, UserState};
use crate::realm::{ConnectionId, Context, Retention};
use crate::toolkit::heap_bytes::{HeapBytes, allocation};
use crate::toolkit::rate_limit::SlidingWindow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Chats in a node of the map of a user's chats (the standard library's B-trees have 6 to 11, apart from the
/// root).
const CHATS_PER_NODE: usize = 6;

/// Bytes of such a node, which has room for 11.
const NODE_BYTES: usize = allocation(11 * (size_of::<Uuid>() + size_of::<Chat>()) + 16);

/// Returns the memory of one user's side of its chats.
fn chats_bytes(chats: &BTreeMap<Uuid, Chat>) -> usize {
    chats.len().div_ceil(CHATS_PER_NODE) * NODE_BYTES
}

impl UserState {
    /// Frees what is not needed while the user is offline.
    pub(super) fn compact(&mut self, cx: &Context) {
        for window in self.windows() {
            window.compact(cx.now);
        }
    }

    /// Forgets the rates. Returns whether the user has chats, so that the rest has to be kept.
    fn forget_rates(&mut self) -> bool {
        for window in self.windows() {
            *window = SlidingWindow::default();
        }
        !self.chats.is_empty()
    }

    fn windows(&mut self) -> [&mut SlidingWindow; 4] {
        [
            &mut self.message_rate,
            &mut self.typing_rate,
            &mut self.ping_rate,
            &mut self.open_rate,
        ]
    }
}

impl HeapBytes for UserState {
    fn heap_bytes(&self) -> usize {
        let windows = [
            &self.message_rate,
            &self.typing_rate,
            &self.ping_rate,
            &self.open_rate,
        ]
        .map(SlidingWindow::heap_bytes);
        windows.iter().sum::<usize>() + chats_bytes(&self.chats)
    }
}

impl FastChat {
    /// Counts anew the memory of the states of all users online. Called once a second: a user's rates and
    /// chats cannot grow by much in that time.
    pub(super) fn count_online_bytes(&mut self) {
        let states = self.users.values().map(|user| &user.state);
        self.online_bytes = states.map(UserState::heap_bytes).sum();
    }

    /// Returns the memory of all users' states, of what proves who they are, and of the lists that are being sent.
    pub(super) fn bytes_of_all(&self) -> usize {
        let users = self.gone.bytes() + self.online_bytes + self.proven.bytes();
        users + self.in_flight_lists.bytes() + self.access.bytes()
    }

    /// Returns the memory of a connection's user: of its rates, and of both sides of the chats that it
    /// opened, or of what it has shown before it is registered. Chats that others opened are theirs: nobody must be
    /// closed for being asked.
    pub(super) fn bytes_of(&self, conn: ConnectionId) -> usize {
        let user = self
            .connections
            .get(&conn)
            .and_then(|id| self.users.get(id));
        let Some(user) = user else {
            return self.access.bytes_of(conn);
        };
        let opened = user.state.chats.values().filter(|chat| chat.is_opener);
        let rates = user.state.heap_bytes() - chats_bytes(&user.state.chats);
        rates + 2 * opened.count() * (NODE_BYTES / CHATS_PER_NODE)
    }

    /// Forgets users that are gone: their rates, or the users with their chats, and at last who they have proven to be.
    pub(super) fn shed_gone(&mut self, retention: Retention, bytes: usize) -> usize {
        match retention {
            Retention::BestEffort => self.gone.shed(bytes, UserState::forget_rates),
            Retention::Promised => {
                let before = self.gone.bytes();
                while before - self.gone.bytes() < bytes {
                    let Some((user, state)) = self.gone.pop_oldest() else {
                        break;
                    };
                    self.end_chats(user, state);
                }
                before - self.gone.bytes()
            }
            Retention::Identity => self.proven.shed(bytes),
        }
    }
}
