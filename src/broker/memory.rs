//! What the broker keeps about memory, and its answers: how much is held, by whom, how much of it is about to be
//! released, and whether some has to be reclaimed.
//!
//! Everything that clients can make the process hold is reserved in one [`MemoryBudget`] by what holds it:
//!
//! | what | reserved by |
//! | --- | --- |
//! | received bytes that are not yet handled | [`SocketStatus::receive_memory`](super::SocketStatus) |
//! | a frame, once for all its recipients | [`Frame::reserve`], when an outbox takes it |
//! | the slots of a long outbox | `slot_memory` in `outbox.rs` |
//! | what a realm stores, for connections and for those who have gone | [`Memory::set_stored`], after each call |
//!
//! A connection accounts for what it has received, for its share of the frames that are queued for it, and for
//! what its realm stores for it. The sum is derived when it is asked for ([`holdings`]), since that is only when
//! memory is short. Which connections are then closed is decided in `fair_share.rs`, and done in `eviction.rs`.
//!
//! [`Frame::reserve`]: crate::base::frame::Frame::reserve

use super::connections::{Connection, ConnectionTable};
use super::outbox::{CloseOrder, Wakeups};
use super::slots::Slots;
use crate::base::ip::SubnetKey;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::base::spare::FreeSpare;
use crate::realm::ConnectionId;
use std::cmp::Reverse;
use std::sync::Arc;

/// Eviction frees 1/`FREE_DIVISOR` of the budget, so that the next one is not due at once, and a client that
/// wants to cause it has to send that much again.
const FREE_DIVISOR: usize = 8;

/// Bytes that a closing connection must hold to be tracked. Its usage cannot grow while it closes, and
/// aborting it for less is not worthwhile.
pub(super) const MIN_TRACKED_BYTES: usize = 16 * 1024;

/// Bytes that a connection must hold to be evicted. Closing it for less frees nothing worth mentioning. Even with
/// 25,000 such connections this is little.
pub(super) const MIN_EVICTED_BYTES: usize = 256;

/// After a failed attempt to reclaim memory the next one waits for a second, or until 1/`RETRY_DIVISOR` of the
/// limit is held in addition. Each attempt looks at all connections.
pub(super) const RETRY_DIVISOR: usize = 64;

/// The broker's account of memory. Nothing else computes with these counts.
pub(super) struct Memory {
    /// The sum of all that is held, and its limit.
    budget: Arc<MemoryBudget>,
    /// The part of `budget` that is about to be released. A sum without a limit, in which each connection that
    /// was evicted or aborted has a reservation until the broker drops it.
    releasing: Arc<MemoryBudget>,
    /// What each realm stores, by listener index.
    stored: Vec<MemoryReservation>,
    /// Connections that are closed for their realm and still hold much for the closing handshake.
    #[allow(clippy::vec_box, reason = "they come in boxes from the table")]
    closing: Vec<Box<Connection>>,
    /// Bytes that remained when nothing more could be reclaimed, in this second.
    reclaim_failed_at: Option<usize>,
}

/// What a connection holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    /// The client's address. Its connections count together, or a client could hold more with more of them.
    pub(super) address: SubnetKey,
    pub(super) conn: ConnectionId,
    pub(super) bytes: usize,
    /// Second since which it has held them, about.
    pub(super) since: u32,
}

/// What an eviction is to achieve.
pub(super) struct EvictionGoal {
    /// Bytes that connections may hold together afterwards.
    pub(super) available: usize,
    /// Bytes to free, if connections hold that much beyond their shares.
    pub(super) excess: usize,
}

impl Memory {
    /// Creates the account of a broker without listeners.
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        Self {
            stored: Vec::new(),
            releasing: MemoryBudget::new(0),
            closing: Vec::new(),
            reclaim_failed_at: None,
            budget,
        }
    }

    /// Adds the account of a listener. That of a removed one with the same index is empty.
    pub(super) fn add_listener(&mut self, listener_index: usize) {
        if self.stored.len() == listener_index {
            self.stored.push(MemoryReservation::new(&self.budget, 0));
        }
    }

    /// Records how many bytes a realm stores.
    pub(super) fn set_stored(&mut self, listener_index: usize, bytes: usize) {
        if let Some(stored) = self.stored.get_mut(listener_index) {
            stored.set(bytes);
        }
    }

    /// Returns the listeners, first the one whose realm stores most.
    pub(super) fn listeners_by_stored_bytes(&self) -> Vec<usize> {
        let mut listeners: Vec<usize> = (0..self.stored.len()).collect();
        listeners.sort_by_key(|&index| Reverse(self.stored.get(index).map(|it| it.bytes())));
        listeners
    }

    /// Returns the bytes that are held and not about to be released.
    pub(super) fn remaining(&self) -> usize {
        let releasing = self.releasing.reserved();
        self.budget.reserved().saturating_sub(releasing)
    }

    /// Returns how far [`Memory::remaining`] is above the limit, in bytes.
    pub(super) fn excess(&self) -> usize {
        self.remaining().saturating_sub(self.budget.limit())
    }

    /// Returns whether memory must be reclaimed now. Called after each batch.
    pub(super) fn must_reclaim(&self) -> bool {
        let retry_at = |failed_at| failed_at + self.budget.limit() / RETRY_DIVISOR;
        self.budget.is_exceeded()
            && self
                .reclaim_failed_at
                .is_none_or(|failed_at| self.remaining() >= retry_at(failed_at))
    }

    /// Records the end of an attempt to reclaim memory, successful or not.
    pub(super) fn reclaim_ended(&mut self) {
        self.reclaim_failed_at = (self.excess() > 0).then(|| self.remaining());
    }

    /// Begins a second, in which reclaiming may be tried again.
    pub(super) fn begin_second(&mut self) {
        self.reap_closed();
        self.reclaim_failed_at = None;
    }

    /// Returns what an eviction is to achieve if connections hold `held` bytes: 1/[`FREE_DIVISOR`] of the budget
    /// is to be free, counting what is about to be released.
    pub(super) fn eviction_goal(&self, held: usize) -> EvictionGoal {
        let (limit, remaining) = (self.budget.limit(), self.remaining());
        let target = limit - limit / FREE_DIVISOR;
        // What else takes memory must not get all connections closed: half is for these in any case.
        let available = target.saturating_sub(remaining.saturating_sub(held));
        EvictionGoal {
            available: available.max(target / 2),
            excess: remaining.saturating_sub(target),
        }
    }

    /// Counts `bytes` as about to be released by a connection, until the connection is dropped.
    pub(super) fn count_as_releasing(&self, connection: &mut Connection, bytes: usize) {
        connection.releasing = Some(MemoryReservation::new(&self.releasing, bytes));
    }

    /// Keeps a connection that is closed for its realm until the end of its closing handshake, if it holds much.
    /// What it was expected to release when it was evicted is not counted as that any longer: the closing
    /// handshake may last, and can be aborted.
    pub(super) fn track_closing(&mut self, mut connection: Box<Connection>) {
        connection.releasing = None;
        if connection.held_bytes() >= MIN_TRACKED_BYTES {
            self.closing.push(connection);
        }
    }

    /// Drops the connections whose closing handshake is over.
    fn reap_closed(&mut self) {
        self.closing
            .retain(|connection| !connection.outbox.is_disconnected());
    }

    /// Aborts all closing handshakes that are tracked, if too much is held without those that are over.
    pub(super) fn abort_closing(&mut self, wakeups: &mut Wakeups) {
        self.reap_closed();
        if self.excess() == 0 {
            return;
        }
        let mut closing = std::mem::take(&mut self.closing);
        for connection in &mut closing {
            if connection.releasing.is_none() {
                let bytes = connection.held_bytes();
                self.count_as_releasing(connection, bytes);
                connection.outbox.close(CloseOrder::Abort, wakeups);
            }
        }
        self.closing = closing;
    }

    /// Returns the budget, for tests that hold memory without a connection.
    #[cfg(test)]
    pub(super) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }
}

impl FreeSpare for Memory {
    fn free_spare(&mut self) {
        let Self {
            closing,
            budget: _,
            releasing: _,
            stored: _,
            reclaim_failed_at: _,
        } = self;
        closing.free_spare();
    }
}

impl Connection {
    /// Returns the bytes that the connection itself holds: what it has received, and its share of what is queued
    /// for it.
    fn held_bytes(&self) -> usize {
        self.status.receive_memory.bytes() + self.outbox.share()
    }
}

/// Returns what each connection accounts for, with what its realm stores for it, of those that can be evicted:
/// they hold at least [`MIN_EVICTED_BYTES`], and are not about to release it.
pub(super) fn holdings(connections: &ConnectionTable, slots: &Slots) -> Vec<Holding> {
    connections
        .iter()
        .filter(|(_, connection)| connection.releasing.is_none())
        .map(|(&conn, connection)| {
            let slot = slots.get(connection.listener_index);
            let stored_bytes = slot.map_or(0, |slot| slot.realm.stored_bytes_of(conn));
            Holding {
                address: SubnetKey::of(connection.address),
                conn,
                bytes: connection.held_bytes() + stored_bytes,
                since: connection.status.held_since(),
            }
        })
        .filter(|holding| holding.bytes >= MIN_EVICTED_BYTES)
        .collect()
}
