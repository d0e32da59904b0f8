//! Limits on the number of connections, and the permits that an accepted connection holds. A permit is freed by
//! dropping it.

use crate::base::ip::{ClientAddress, SubnetKey};
use crate::base::spare::FreeSpare;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A limit on connections, whatever their address.
pub(crate) struct ConnectionLimit {
    /// `usize::MAX`: no limit.
    limit: AtomicUsize,
    in_use: AtomicUsize,
}

impl ConnectionLimit {
    /// Creates a limit; 0: no limit.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let created = Arc::new(Self {
            limit: AtomicUsize::new(0),
            in_use: AtomicUsize::new(0),
        });
        created.set(limit);
        created
    }

    /// Changes the limit; 0: no limit. Permits that are above it stay.
    pub(crate) fn set(&self, limit: usize) {
        let limit = if limit == 0 { usize::MAX } else { limit };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns the limit; `usize::MAX`: none.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Acquires a permit, unless the limit is reached.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit();
        let one_more = |in_use| (in_use < limit).then_some(in_use + 1);
        self.in_use
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        Some(Permit(Arc::clone(self)))
    }

    /// Returns the number of permits that are in use.
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }
}

/// A permit of a [`ConnectionLimit`].
pub(crate) struct Permit(Arc<ConnectionLimit>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A limit on connections from each subnet. Subnets without a connection take no memory.
pub(crate) struct PerSubnetLimit {
    /// 0: no limit, and nothing is counted.
    limit: AtomicUsize,
    in_use: Mutex<HashMap<SubnetKey, usize>>,
}

impl PerSubnetLimit {
    /// Creates a limit; 0: no limit.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicUsize::new(limit),
            in_use: Mutex::default(),
        })
    }

    /// Changes the limit; 0: no limit. Permits that are above it stay. Those that were acquired without a limit are not
    /// counted afterwards either.
    pub(crate) fn set(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Acquires a permit for a subnet, unless its limit is reached.
    pub(crate) fn try_acquire(self: &Arc<Self>, subnet: SubnetKey) -> Option<SubnetPermit> {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Some(SubnetPermit(None));
        }
        let mut in_use = self.lock();
        let count = in_use.entry(subnet).or_default();
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(SubnetPermit(Some(Box::new((subnet, Arc::clone(self))))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SubnetKey, usize>> {
        // No code that holds the lock can panic in the middle of a change.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit of a [`PerSubnetLimit`]; `None`: one that is not counted, as all are by default.
pub(crate) struct SubnetPermit(Option<Box<(SubnetKey, Arc<PerSubnetLimit>)>>);

impl Drop for SubnetPermit {
    fn drop(&mut self) {
        let Some((subnet, limit)) = self.0.as_deref() else {
            return;
        };
        let mut in_use = limit.lock();
        match in_use.get_mut(subnet) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                in_use.remove(subnet);
                in_use.free_spare();
            }
        }
    }
}

/// The permits of an accepted connection. They are freed when its socket is closed and not earlier,
/// since open sockets are what they limit.
pub(crate) struct Permits {
    accepted: AcceptPermits,
    /// Permit of the client's subnet, once its address is known and if the subnet's limit allows it.
    subnet: Option<SubnetPermit>,
    /// Permit of a client whose first request is not answered yet.
    unanswered: Option<Permit>,
}

/// The permits by which a connection was accepted.
enum AcceptPermits {
    /// The connection is within `max_connections` of the process and of the listener.
    Granted { _process: Permit, _listener: Permit },
    /// The connection is above `max_connections`, or from a banned address, and is rejected.
    ToReject { _permit: Permit },
}

/// The limit that a client is above.
pub(crate) enum AtCapacity {
    /// `max_connections` of the listener or the process.
    Server,
    /// `max_connections_per_ip`.
    Subnet,
}

impl Permits {
    /// Acquires the permits for a new connection, or the permit to reject it if the process or the listener is
    /// full. `None` if no rejection permit is left either. `unanswered` counts the clients without an answer.
    pub(crate) fn try_acquire(
        process: &Arc<ConnectionLimit>,
        listener: &Arc<ConnectionLimit>,
        rejections: &Arc<ConnectionLimit>,
        unanswered: &Arc<ConnectionLimit>,
    ) -> Option<Self> {
        let accepted = match (process.try_acquire(), listener.try_acquire()) {
            (Some(process), Some(listener)) => AcceptPermits::Granted {
                _process: process,
                _listener: listener,
            },
            _ => return Self::to_reject(rejections, unanswered),
        };
        Some(Self {
            accepted,
            subnet: None,
            unanswered: unanswered.try_acquire(),
        })
    }

    /// Acquires the permit to reject a connection. `None` if none is left.
    pub(crate) fn to_reject(
        rejections: &Arc<ConnectionLimit>,
        unanswered: &Arc<ConnectionLimit>,
    ) -> Option<Self> {
        let accepted = AcceptPermits::ToReject {
            _permit: rejections.try_acquire()?,
        };
        Some(Self {
            accepted,
            subnet: None,
            unanswered: unanswered.try_acquire(),
        })
    }

    /// Records that the client has an answer to its first request.
    pub(crate) fn set_answered(&mut self) {
        self.unanswered = None;
    }

    /// Acquires a permit for the subnet of a client, and returns whether its limit allows it.
    pub(crate) fn acquire_subnet(
        &mut self,
        limit: &Arc<PerSubnetLimit>,
        client: ClientAddress,
    ) -> bool {
        self.subnet = limit.try_acquire(SubnetKey::of(client));
        self.subnet.is_some()
    }

    /// Frees the permit for the subnet.
    pub(crate) fn release_subnet(&mut self) {
        self.subnet = None;
    }

    /// Checks `max_connections` before `max_connections_per_ip`, so that a full server answers all clients alike.
    ///
    /// # Errors
    /// The first of these limits that the client is above.
    pub(crate) fn check(&self) -> Result<(), AtCapacity> {
        match (&self.accepted, &self.subnet) {
            (AcceptPermits::ToReject { .. }, _) => Err(AtCapacity::Server),
            (_, None) => Err(AtCapacity::Subnet),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn a_permit_can_be_acquired_again_once_it_is_dropped() {
        let limit = ConnectionLimit::new(2);
        let first = limit.try_acquire();
        let second = limit.try_acquire();
        assert!(first.is_some() && second.is_some() && limit.try_acquire().is_none());
        drop(first);
        let third = limit.try_acquire();
        assert!(third.is_some() && limit.try_acquire().is_none());
    }

    #[test]
    fn a_limit_that_is_changed_holds_for_the_next_permits_and_takes_none_back() {
        let limit = ConnectionLimit::new(2);
        let permits = [limit.try_acquire(), limit.try_acquire()];
        limit.set(1);
        let [first, second] = permits.map(Option::unwrap);
        drop(first);
        assert!(limit.try_acquire().is_none());
        drop(second);
        assert!(limit.try_acquire().is_some());
        limit.set(0);
        assert!((0..10).all(|_| limit.try_acquire().is_some()));
    }

    #[test]
    fn subnets_are_counted_from_the_time_on_at_which_they_have_a_limit() {
        let limit = PerSubnetLimit::new(0);
        let subnet = SubnetKey::of(IpAddr::from([192, 0, 2, 1]));
        let uncounted = limit.try_acquire(subnet);
        limit.set(1);
        let counted = limit.try_acquire(subnet);
        assert!(counted.is_some() && limit.try_acquire(subnet).is_none());
        drop(uncounted);
        assert!(limit.try_acquire(subnet).is_none());
        limit.set(0);
        drop(counted);
        assert!(limit.lock().is_empty());
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
        let subnet = SubnetKey::of(IpAddr::from([127, 0, 0, 1]));
        let permits: Vec<_> = (0..10_000).map(|_| limit.try_acquire(subnet)).collect();
        assert!(permits.iter().all(Option::is_some));
        assert!(limit.lock().is_empty());
    }

    #[test]
    fn each_subnet_has_its_own_limit_and_is_forgotten_with_its_last_permit() {
        let limit = PerSubnetLimit::new(2);
        let [one, other] = [1, 2].map(|last| SubnetKey::of(IpAddr::from([192, 0, 2, last])));
        let first = limit.try_acquire(one);
        let second = limit.try_acquire(one);
        assert!(first.is_some() && second.is_some() && limit.try_acquire(one).is_none());
        let others = limit.try_acquire(other);
        assert!(others.is_some());
        drop(first);
        let third = limit.try_acquire(one);
        assert!(third.is_some());
        drop((second, others, third));
        assert!(limit.lock().is_empty());
    }
}
