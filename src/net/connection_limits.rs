//! Who may come in: places, so many and no more, given back by being dropped.

use crate::base::ip::Subscriber;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number of places.
pub(crate) struct Places {
    /// 0: no limit.
    limit: usize,
    taken: AtomicUsize,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: AtomicUsize::new(0),
        })
    }

    /// Takes a place if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        let limit = if self.limit == 0 {
            usize::MAX
        } else {
            self.limit
        };
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Place(Arc::clone(self)))
    }
}

/// One of them.
pub(crate) struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A number of places for each subscriber. Remembers only those who have one.
pub(crate) struct PlacesPerSubscriber {
    /// 0: no limit, and nothing is counted.
    limit: usize,
    taken: Mutex<HashMap<Subscriber, usize>>,
}

impl PlacesPerSubscriber {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: Mutex::default(),
        })
    }

    /// Takes a place for a subscriber if it has one left.
    pub(crate) fn take(self: &Arc<Self>, who: Subscriber) -> Option<SubscriberPlace> {
        if self.limit > 0 {
            let mut taken = self.lock();
            let count = taken.entry(who).or_default();
            if *count >= self.limit {
                return None;
            }
            *count += 1;
        }
        Some(SubscriberPlace {
            who,
            places: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subscriber, usize>> {
        // Counting cannot panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of a subscriber's places.
pub(crate) struct SubscriberPlace {
    who: Subscriber,
    places: Arc<PlacesPerSubscriber>,
}

impl Drop for SubscriberPlace {
    fn drop(&mut self) {
        if self.places.limit > 0 {
            let mut taken = self.places.lock();
            match taken.get_mut(&self.who) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    taken.remove(&self.who);
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
        let places = Places::new(2);
        let first = places.take();
        let second = places.take();
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        let third = places.take();
        assert!(third.is_some() && places.take().is_none());
    }

    #[test]
    fn zero_is_no_limit() {
        let places = Places::new(0);
        assert!(
            (0..10_000)
                .map(|_| places.take())
                .all(|place| place.is_some())
        );
        let places = PlacesPerSubscriber::new(0);
        let who = Subscriber::of([127, 0, 0, 1].into());
        let taken: Vec<_> = (0..10_000).map(|_| places.take(who)).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(places.lock().is_empty());
    }

    #[test]
    fn a_subscriber_has_its_own_places_and_leaves_nothing_behind() {
        let places = PlacesPerSubscriber::new(2);
        let [one, other] = [1, 2].map(|last| Subscriber::of([192, 0, 2, last].into()));
        let first = places.take(one);
        let second = places.take(one);
        assert!(first.is_some() && second.is_some() && places.take(one).is_none());
        let others = places.take(other);
        assert!(others.is_some());
        drop(first);
        let again = places.take(one);
        assert!(again.is_some());
        drop((second, others, again));
        assert!(places.lock().is_empty());
    }
}
