//! What a connection has received and not handed over, counted against the budget.

use super::pump::Pump;
use super::read_buffer::{LARGE_BUFFER, SMALL_BUFFER};
use std::task::Context;

/// What a connection may have besides the small buffer without its being counted, in bytes: so that
/// small messages, which are done at once, cost no counting.
const UNCOUNTED: usize = 2 * 1024;

/// So often others have their turn before anything is read while more is held than may be: enough for
/// those who are closed for it, and no stand-still where nobody can be.
const MAX_YIELDS: u32 = 16;

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
        let here = wire.frames.buffered_bytes(buffer) - SMALL_BUFFER + self.decoded;
        let charged = if here > UNCOUNTED { here } else { 0 };
        let receive_memory = &wire.stream.status().receive_memory;
        receive_memory.grow(charged.saturating_sub(self.charged));
        receive_memory.shrink(self.charged.saturating_sub(charged));
        self.budget_exceeded = charged > self.charged && receive_memory.budget().is_exceeded();
        self.charged = charged;
    }

    /// Whether the budget has room for what may be read now. Where it has none, the broker has its
    /// turn first, and those whom it closes have theirs: else all connections would read before
    /// anything is given back.
    pub(super) fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let status = self.socket.get_ref().stream.status();
        if !status.receive_memory.budget().is_exceeded() {
            self.yields = 0;
            return true;
        }
        if self.yields == 0 {
            self.budget_exceeded = true;
        }
        // The place for the next event is free once the last one has been taken.
        if !self.tell_broker(cx) || self.inbox.poll_ready(cx).is_pending() {
            return false;
        }
        if self.yields < MAX_YIELDS {
            self.yields += 1;
            cx.waker().wake_by_ref();
            return false;
        }
        self.yields = 0;
        true
    }

    pub(super) fn uncharge(&mut self) {
        let charged = std::mem::take(&mut self.charged);
        self.socket
            .get_ref()
            .stream
            .status()
            .receive_memory
            .shrink(charged);
    }
}
