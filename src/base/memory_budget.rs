//! Accounting of the memory that clients make the process use, with one limit for all of them.
//!
//! A [`MemoryReservation`] covers what single clients can make large: received bytes that are not yet passed
//! on, frames in outboxes (once, however many recipients they have), the entries of long outboxes, large
//! HTTP requests, and the data that a realm reports as stored. The fixed memory of a connection, such as its
//! small read buffer, is not counted: the connection limits bound it. The broker checks the sum and evicts
//! connections when the budget is exceeded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of all reservations, and its limit.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// Limit of the sum, in bytes; `usize::MAX`: none.
    limit: AtomicUsize,
    reserved: AtomicUsize,
}

impl MemoryBudget {
    /// Creates a budget of `limit` bytes; 0: no limit.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let budget = Arc::new(Self {
            limit: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
        });
        budget.set_limit(limit);
        budget
    }

    /// Changes the limit, in bytes; 0: no limit. If more is reserved, the broker evicts until it is not.
    pub(crate) fn set_limit(&self, limit: usize) {
        let limit = if limit == 0 { usize::MAX } else { limit };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the limit in bytes; `usize::MAX` if there is none.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns the limit in bytes, if there is one.
    pub(crate) fn finite_limit(&self) -> Option<usize> {
        let limit = self.limit();
        (limit < usize::MAX).then_some(limit)
    }

    /// Returns the sum of all reservations, in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// Returns whether more than the limit is reserved.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.reserved() > self.limit()
    }
}

/// Bytes reserved in a [`MemoryBudget`]; released at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    bytes: AtomicUsize,
}

impl MemoryReservation {
    /// Reserves `bytes`. This does not fail, even if it exceeds the budget.
    pub(crate) fn new(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        let reservation = Self {
            budget: Arc::clone(budget),
            bytes: AtomicUsize::new(0),
        };
        reservation.grow(bytes);
        reservation
    }

    /// Returns the size of this reservation in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Reserves `bytes` more.
    pub(crate) fn grow(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.budget.reserved.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Releases `bytes`, at most the size of this reservation.
    pub(crate) fn shrink(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.reserved.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Changes the size to `bytes`. Takes `&mut self` because two concurrent calls would not add up.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = self.bytes();
        self.grow(bytes.saturating_sub(before));
        self.shrink(before.saturating_sub(bytes));
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.shrink(self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_sum_of_all_reservations() {
        let budget = MemoryBudget::new(100);
        let mut one = MemoryReservation::new(&budget, 60);
        let other = MemoryReservation::new(&budget, 0);
        other.grow(50);
        assert_eq!(budget.reserved(), 110);
        assert!(budget.is_exceeded());
        other.shrink(10);
        assert!(!budget.is_exceeded(), "the limit itself may be reserved");
        one.set(5);
        assert_eq!((one.bytes(), budget.reserved()), (5, 45));
        one.set(6);
        drop(other);
        assert_eq!(budget.reserved(), 6);
        drop(one);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn a_limit_that_is_changed_holds_for_what_is_reserved_already() {
        let budget = MemoryBudget::new(0);
        let _reservation = MemoryReservation::new(&budget, 60);
        budget.set_limit(50);
        assert!(budget.is_exceeded());
        budget.set_limit(60);
        assert!(!budget.is_exceeded());
        budget.set_limit(0);
        assert_eq!((budget.limit(), budget.is_exceeded()), (usize::MAX, false));
    }

    #[test]
    fn zero_is_no_limit() {
        let budget = MemoryBudget::new(0);
        let _all = MemoryReservation::new(&budget, usize::MAX);
        assert!(!budget.is_exceeded());
    }
}
