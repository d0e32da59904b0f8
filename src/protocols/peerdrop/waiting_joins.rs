//! Joins that wait to be looked up while all clients together try too many wrong codes (rulings,
//! "PeerDrop").
//!
//! Right and wrong codes wait equally long, so that the wait says nothing about a code.

use super::wrong_codes::Network;
use crate::base::ip::ClientAddress;
use crate::base::spare::FreeSpare;
use crate::realm::ConnectionId;
use std::collections::VecDeque;
use std::time::Duration;

/// The time after which a join that has to wait is looked up (rulings), at the next tick.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// Prefix length of the IPv6 networks that count as one address: mostly what one household has (rulings).
const PREFIX: u8 = 56;

/// A client that asked to join and has no answer yet.
pub(super) struct WaitingJoin {
    pub(super) conn: ConnectionId,
    pub(super) code: String,
    pub(super) address: ClientAddress,
    asked_at: Duration,
}

/// The joins that wait, in the order in which they were asked for.
pub(super) struct WaitingJoins {
    joins: VecDeque<WaitingJoin>,
    max_joins: usize,
    /// Maximum of one IPv4 address or IPv6 /56.
    max_per_ip: usize,
}

impl WaitingJoins {
    pub(super) fn new(max_joins: u32, max_per_ip: u32) -> Self {
        Self {
            joins: VecDeque::new(),
            max_joins: max_joins as usize,
            max_per_ip: max_per_ip as usize,
        }
    }

    /// Changes the limits. The joins that wait already stay.
    pub(super) fn set_limits(&mut self, max_joins: u32, max_per_ip: u32) {
        self.max_joins = max_joins as usize;
        self.max_per_ip = max_per_ip as usize;
    }

    /// Inserts a join. Returns whether there was a place for it.
    pub(super) fn try_insert(
        &mut self,
        now: Duration,
        conn: ConnectionId,
        code: String,
        address: ClientAddress,
    ) -> bool {
        let network = Network::of(address, PREFIX);
        let is_same = |join: &&WaitingJoin| Network::of(join.address, PREFIX) == network;
        let has_place = self.joins.len() < self.max_joins
            && self.joins.iter().filter(is_same).count() < self.max_per_ip;
        if has_place {
            self.joins.push_back(WaitingJoin {
                conn,
                code,
                address,
                asked_at: now,
            });
        }
        has_place
    }

    /// Removes the join of a connection that has closed.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        self.joins.retain(|join| join.conn != conn);
        self.release();
    }

    /// Removes and returns the next join that has waited long enough.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<WaitingJoin> {
        let is_due = self.joins.front()?.asked_at + WAIT <= now;
        let due = if is_due { self.joins.pop_front() } else { None };
        self.release();
        due
    }

    /// Returns the memory of the list when it is empty.
    fn release(&mut self) {
        if self.joins.is_empty() {
            self.joins = VecDeque::new();
        }
    }

    /// Returns the number of joins that wait.
    pub(super) fn len(&self) -> usize {
        self.joins.len()
    }

    /// Returns the memory of the joins, in bytes. The longest code has 12 bytes, which the allocator rounds up.
    pub(super) fn bytes(&self) -> usize {
        self.joins.capacity() * size_of::<WaitingJoin>() + self.joins.len() * 32
    }
}

impl FreeSpare for WaitingJoins {
    fn free_spare(&mut self) {
        let Self {
            joins,
            max_joins: _,
            max_per_ip: _,
        } = self;
        joins.free_spare();
    }
}
