//! Memory of received data that is not yet handled, counted in the memory budget.

use crate::broker::SocketStatus;

/// Bytes that a connection may hold uncounted in addition to the small read buffer, until its task waits again.
/// Small messages, which are handled at once, need no counting. What is held longer is counted from the first
/// byte: many connections with a little each hold much.
const UNCOUNTED_BYTES: usize = 2 * 1024;

/// Number of times that a connection's task yields before it reads again while the memory budget is exceeded.
/// Enough for evicted connections to free memory; bounded, so that reading does not stall if none can be evicted.
const MAX_YIELDS: u32 = 16;

/// The part of a connection's reservation, [`SocketStatus::receive_memory`], that the broker does not know of yet.
#[derive(Default)]
pub(super) struct ReceiveMemory {
    /// Bytes of the decoded messages that are not yet sent to the broker.
    decoded_bytes: usize,
    /// Bytes that are reserved and not passed to the broker with a command.
    reserved_bytes: usize,
    /// Number of times that the task has yielded since the budget was exceeded.
    yields: u32,
}

impl ReceiveMemory {
    /// Counts a message that was decoded into a command.
    pub(super) fn add_decoded(&mut self, bytes: usize) {
        self.decoded_bytes += bytes;
    }

    /// Returns the bytes that are reserved for decoded messages. From now on the broker holds these messages, and
    /// releases the bytes.
    pub(super) fn pass_on_decoded(&mut self) -> usize {
        let bytes = std::mem::take(&mut self.decoded_bytes).min(self.reserved_bytes);
        self.reserved_bytes -= bytes;
        bytes
    }

    /// Reserves memory for the received data that this connection holds, `buffered_bytes` beside the decoded
    /// messages, unless it is little enough to be handled at once. Returns whether more is reserved than before
    /// and the budget is exceeded: then nothing more must be read before the broker has been notified.
    #[must_use]
    pub(super) fn reserve(&mut self, buffered_bytes: usize, status: &SocketStatus) -> bool {
        self.reserve_above(UNCOUNTED_BYTES, buffered_bytes, status)
    }

    /// Does what [`ReceiveMemory::reserve`] does from the first byte on, before the task waits.
    #[must_use]
    pub(super) fn reserve_all(&mut self, buffered_bytes: usize, status: &SocketStatus) -> bool {
        self.reserve_above(0, buffered_bytes, status)
    }

    fn reserve_above(
        &mut self,
        uncounted_bytes: usize,
        buffered_bytes: usize,
        status: &SocketStatus,
    ) -> bool {
        let held = buffered_bytes + self.decoded_bytes;
        let reserved = if held > uncounted_bytes { held } else { 0 };
        let before = std::mem::replace(&mut self.reserved_bytes, reserved);
        let receive_memory = &status.receive_memory;
        receive_memory.grow(reserved.saturating_sub(before));
        receive_memory.shrink(before.saturating_sub(reserved));
        reserved > before && receive_memory.budget().is_exceeded()
    }

    /// Releases the memory that is reserved for received data.
    pub(super) fn release(&mut self, status: &SocketStatus) {
        let reserved = std::mem::take(&mut self.reserved_bytes);
        status.receive_memory.shrink(reserved);
    }

    /// Counts yields anew, since the budget is not exceeded.
    pub(super) fn reset_yields(&mut self) {
        self.yields = 0;
    }

    /// Returns whether the task has yielded since the budget was exceeded.
    pub(super) fn has_yielded(&self) -> bool {
        self.yields > 0
    }

    /// Counts one more yield, if the task must yield again before it reads although the budget is exceeded, and
    /// returns whether it must.
    pub(super) fn count_yield(&mut self) -> bool {
        self.yields = (self.yields + 1) % (MAX_YIELDS + 1);
        self.has_yielded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory_budget::MemoryBudget;
    use crate::broker::Clock;
    use std::sync::Arc;

    fn status(budget: usize) -> SocketStatus {
        let (clock, budget) = (Arc::new(Clock::new()), MemoryBudget::new(budget));
        SocketStatus::new(&clock, &budget, &Arc::default())
    }

    #[test]
    fn a_little_is_reserved_only_while_the_task_waits_and_then_from_the_first_byte_on() {
        let (mut memory, status) = (ReceiveMemory::default(), status(0));
        memory.add_decoded(UNCOUNTED_BYTES - 10);
        assert!(!memory.reserve(10, &status) && memory.reserved_bytes == 0);
        assert!(!memory.reserve(11, &status));
        assert_eq!(status.receive_memory.bytes(), UNCOUNTED_BYTES + 1);
        assert!(!memory.reserve(10, &status) && memory.reserved_bytes == 0);
        assert!(!memory.reserve_all(10, &status));
        assert_eq!(status.receive_memory.bytes(), UNCOUNTED_BYTES);
        memory.release(&status);
        assert_eq!(status.receive_memory.bytes(), 0);
    }

    #[test]
    fn what_is_reserved_for_decoded_messages_passes_to_the_broker() {
        let (mut memory, status) = (ReceiveMemory::default(), status(0));
        memory.add_decoded(100);
        assert_eq!(memory.pass_on_decoded(), 0, "nothing is reserved yet");
        memory.add_decoded(5000);
        assert!(!memory.reserve(3000, &status));
        assert_eq!(memory.pass_on_decoded(), 5000);
        memory.release(&status);
        assert_eq!(status.receive_memory.bytes(), 5000);
    }

    #[test]
    fn a_reservation_that_grows_above_the_budget_is_told_once() {
        let (mut memory, status) = (ReceiveMemory::default(), status(10_000));
        assert!(!memory.reserve(10_000, &status));
        assert!(memory.reserve(10_001, &status));
        assert!(!memory.reserve(10_001, &status));
    }

    #[test]
    fn a_task_yields_16_times_before_it_reads_above_the_budget() {
        let mut memory = ReceiveMemory::default();
        for _ in 0..2 {
            assert!(!memory.has_yielded());
            let yields = (0..).take_while(|_| memory.count_yield()).count();
            assert_eq!(yields, 16);
        }
        assert!(memory.count_yield());
        memory.reset_yields();
        assert!(!memory.has_yielded());
    }
}
