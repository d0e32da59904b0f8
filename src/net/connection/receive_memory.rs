//! What a connection has received and not handed over, counted against the budget.

use super::pump::Pump;
use super::read_buffer::{LARGE_BUFFER, SMALL_BUFFER};
use std::task::Context;

/// What a connection may have besides the small buffer without its being counted, in bytes: so that
/// small messages, which are done at once, cost no counting.
const UNCOUNTED: usize = 2 * 1024;

/// So often others have their turn before anything is read while more is held than may be: enough for
/// those who are closed for it, and no stand-still where nobody can be.
const TURNS_TO_GIVE: u32 = 16;

impl Pump {
    /// Counts what was received and not handed over against the budget, beyond what any connection
    /// may have. Where that is too much, nothing more is read before the broker knows.
    pub(super) fn charge(&mut self) {
        let wire = self.socket.get_ref();
        let buffer = if self.large_buffer {
            LARGE_BUFFER
        } else {
            SMALL_BUFFER
        };
        let here = wire.boundary.kept(buffer) - SMALL_BUFFER + self.decoded;
        let charged = if here > UNCOUNTED { here } else { 0 };
        let incoming = &wire.stream.pulse().incoming;
        incoming.grow(charged.saturating_sub(self.charged));
        incoming.shrink(self.charged.saturating_sub(charged));
        self.overdrawn = charged > self.charged && incoming.budget().is_overdrawn();
        self.charged = charged;
    }

    /// Whether the budget has room for what may be read now. Where it has none, the broker has its
    /// turn first, and those whom it closes have theirs: else all connections would read before
    /// anything is given back.
    pub(super) fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let pulse = self.socket.get_ref().stream.pulse();
        if !pulse.incoming.budget().is_overdrawn() {
            self.turns_given = 0;
            return true;
        }
        if self.turns_given == 0 {
            self.overdrawn = true;
        }
        // The place for the next event is free once the last one has been taken.
        if !self.tell_broker(cx) || self.inbox.poll_ready(cx).is_pending() {
            return false;
        }
        if self.turns_given < TURNS_TO_GIVE {
            self.turns_given += 1;
            cx.waker().wake_by_ref();
            return false;
        }
        self.turns_given = 0;
        true
    }

    pub(super) fn uncharge(&mut self) {
        let charged = std::mem::take(&mut self.charged);
        self.socket
            .get_ref()
            .stream
            .pulse()
            .incoming
            .shrink(charged);
    }
}
