//! Memory of received data that is not yet handled, counted in the memory budget.

use super::pump::Pump;
use super::read_buffer::ReadBufferSize;
use std::task::Context;

/// Bytes that a connection may hold uncounted in addition to the small read buffer, until its task waits again.
/// Small messages, which are handled at once, need no counting. What is held longer is counted from the first
/// byte: many connections with a little each hold much.
const UNCOUNTED_BYTES: usize = 2 * 1024;

/// Number of times that this task yields before it reads again while the memory budget is exceeded. Enough
/// for evicted connections to free memory; bounded, so that reading does not stall if none can be evicted.
const MAX_YIELDS: u32 = 16;

impl Pump {
    /// Reserves memory for the received data that this connection holds, unless it is little enough to be
    /// handled at once. If that exceeds the budget, nothing more is read before the broker has been
    /// notified.
    pub(super) fn update_reservation(&mut self) {
        self.reserve_above(UNCOUNTED_BYTES);
    }

    /// Reserves memory for all received data that this connection holds besides its small read buffer, before
    /// its task waits.
    pub(super) fn reserve_all(&mut self) {
        self.reserve_above(0);
    }

    fn reserve_above(&mut self, uncounted_bytes: usize) {
        let writer = self.websocket.get_ref();
        let buffered = if self.replacement.is_some() {
            // The buffer is empty, and what was read into it is in the decoded messages. Counting it, too,
            // would evict a client for a single message larger than half the budget.
            0
        } else {
            writer.tracker.buffered_bytes(self.buffer_size.bytes()) - ReadBufferSize::Small.bytes()
        };
        let held = buffered + self.decoded_bytes;
        let reserved = if held > uncounted_bytes { held } else { 0 };
        let receive_memory = &writer.socket.status().receive_memory;
        receive_memory.grow(reserved.saturating_sub(self.reserved_bytes));
        receive_memory.shrink(self.reserved_bytes.saturating_sub(reserved));
        self.budget_exceeded |=
            reserved > self.reserved_bytes && receive_memory.budget().is_exceeded();
        self.reserved_bytes = reserved;
    }

    /// Releases the memory that is reserved for received data.
    pub(super) fn release_reservation(&mut self) {
        let reserved = std::mem::take(&mut self.reserved_bytes);
        let status = self.websocket.get_ref().socket.status();
        status.receive_memory.shrink(reserved);
    }

    /// Returns whether to read now. While the budget is exceeded, first notifies the broker, and then yields
    /// to the connections that it evicts: otherwise all connections would read on before any memory is
    /// freed. If the result is `false`, the task of `cx` is woken later.
    pub(super) fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let status = self.websocket.get_ref().socket.status();
        if !status.receive_memory.budget().is_exceeded() {
            self.yields = 0;
            return true;
        }
        if self.yields == 0 {
            self.budget_exceeded = true;
        }
        // The channel has capacity for the next event once the broker has taken the last one.
        if !self.send_events(cx) || self.inbox.poll_ready(cx).is_pending() {
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
}
