//! Who may come in: places, so many and no more, given back by being dropped.

use crate::base::ip::SubnetKey;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number of places.
pub(crate) struct ConnectionLimit {
    /// 0: no limit.
    limit: usize,
    taken: AtomicUsize,
}

impl ConnectionLimit {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: AtomicUsize::new(0),
        })
    }

    /// Takes a place if there is one.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let limit = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Permit(Arc::clone(self)))
    }
}

/// One of them.
pub(crate) struct Permit(Arc<ConnectionLimit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number of places for each subscriber. Remembers only those who have one.
pub(crate) struct PerSubnetLimit {
    /// 0: no limit, and nothing is counted.
    limit: usize,
    taken: Mutex<HashMap<SubnetKey, usize>>,
}

impl PerSubnetLimit {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a subscriber if it has one left.
    pub(crate) fn try_acquire(self: &Arc<Self>, conn: SubnetKey) -> Option<SubnetPermit> {
        if self.limit > 0 {
            let mut taken = self.lock();
            let count = taken.entry(conn).or_default();
            if *count >= self.limit {
                return None;
            }
            *count += 1;
        }
        Some(SubnetPermit {
            conn,
            limit: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SubnetKey, usize>> {
        // Counting cannot panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a subscriber's places.
pub(crate) struct SubnetPermit {
    conn: SubnetKey,
    limit: Arc<PerSubnetLimit>,
}

impl Drop for SubnetPermit {
    fn drop(&mut self) {
        if self.limit.limit > 0 {
            let mut taken = self.limit.lock();
            match taken.get_mut(&self.conn) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    taken.remove(&self.conn);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_no_more() {
        let limit = ConnectionLimit::new(2);
        let first = limit.try_acquire();
        let second = limit.try_acquire();
        assert!(first.is_some() && second.is_some() && limit.try_acquire().is_none());
        drop(first);
        let third = limit.try_acquire();
        assert!(third.is_some() && limit.try_acquire().is_none());
    }

    #[test]
    fn zero_is_no_limit() {
        let limit = ConnectionLimit::new(0);
        assert!(
            (0..10_000)
                .map(|_| limit.try_acquire())
                .all(|permit| permit.is_some())
        );
        let limit = PerSubnetLimit::new(0);
        let conn = SubnetKey::of([127, 0, 0, 1].into());
        let taken: Vec<_> = (0..10_000).map(|_| limit.try_acquire(conn)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(limit.lock().is_empty());
    }

    #[test]
    fn a_subscriber_has_its_own_places_and_leaves_nothing_behind() {
        let limit = PerSubnetLimit::new(2);
        let [one, other] = [1, 2].map(|last| SubnetKey::of([192, 0, 2, last].into()));
        let first = limit.try_acquire(one);
        let second = limit.try_acquire(one);
        assert!(first.is_some() && second.is_some() && limit.try_acquire(one).is_none());
        let others = limit.try_acquire(other);
        assert!(others.is_some());
        drop(first);
        let again = limit.try_acquire(one);
        assert!(again.is_some());
        drop((second, others, again));
        assert!(limit.lock().is_empty());
    }
}
