//! What clients make the process hold, all of it together, and the most that it may be.
//!
//! Each thing that a client can make large has a [`MemoryReservation`]: what a connection has received and not
//! handed on, frames that wait (once, however many they wait for), their places in queues, what a
//! realm stores. The broker looks at the sum; what to do when it is too much is for it to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The sum of all charges, and its limit.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    /// In bytes.
    limit: usize,
    reserved: AtomicUsize,
}

impl MemoryBudget {
    /// `limit` in bytes; 0: none.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: if limit == 0 { usize::MAX } else { limit },
            reserved: AtomicUsize::new(0),
        })
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// All that is held, in bytes.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.reserved() > self.limit
    }
}

/// Bytes that are held; given back at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    bytes: AtomicUsize,
}

impl MemoryReservation {
    pub(crate) fn new(budget: &Arc<MemoryBudget>, bytes: usize) -> Self {
        let charge = Self {
            budget: Arc::clone(budget),
            bytes: AtomicUsize::new(0),
        };
        charge.grow(bytes);
        charge
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    pub(crate) fn grow(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.budget.reserved.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(crate) fn shrink(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.reserved.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// For a charge that is changed in one place only.
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
    fn what_is_held_is_the_sum_of_all_charges() {
        let budget = MemoryBudget::new(100);
        let mut one = MemoryReservation::new(&budget, 60);
        let other = MemoryReservation::new(&budget, 0);
        other.grow(50);
        assert_eq!(budget.reserved(), 110);
        assert!(budget.is_exceeded());
        other.shrink(10);
        assert!(!budget.is_exceeded(), "the limit itself may be held");
        one.set(5);
        assert_eq!((one.bytes(), budget.reserved()), (5, 45));
        one.set(6);
        drop(other);
        assert_eq!(budget.reserved(), 6);
        drop(one);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn zero_is_no_limit() {
        let budget = MemoryBudget::new(0);
        let _much = MemoryReservation::new(&budget, usize::MAX);
        assert!(!budget.is_exceeded());
    }
}
