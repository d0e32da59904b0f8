//! Which comings and goings are announced, and when: within a budget of deliveries a second, since an
//! announcement costs as many deliveries as the room has members, and filling a room would cost their square.
//!
//! A change waits, oldest first, while the budget is used up, or while its name was announced within the last
//! [`interval`](Announcements::new). A coming and a going of the same name that both wait cancel each other.

use crate::base::spare::FreeSpare;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of goings that wait before comings wait for them. Names that are gone are remembered for their
/// going, and without a limit a small room would announce, and so remember, any number of names.
const MAX_WAITING_GOINGS: usize = 10_000;

/// Maximum number of names remembered only because their going was announced within the interval. Above it, a name
/// is forgotten early, and may be announced again sooner.
const MAX_RESTING: usize = 10_000;

/// Approximate memory of a name that is gone, in addition to its texts: entries of two maps.
const BYTES_PER_NAME: usize = 200;

/// The state of the announcements of one room.
pub(super) struct Announcements {
    /// Deliveries a second; 0: no limit.
    budget: u64,
    /// Time between two announcements of a name.
    interval: Duration,
    /// Deliveries that count against the budget of `second`; more than that if an announcement went above it, which
    /// the following seconds pay for.
    used: u64,
    second: u64,
    names: BTreeMap<Arc<str>, Name>,
    /// Comings that wait for the budget only, by age.
    ready_comings: BTreeMap<u64, Arc<str>>,
    /// Goings that wait for the budget only, by age.
    ready_goings: BTreeMap<u64, Arc<str>>,
    /// Names that were announced within the interval, and what ends with it: a change that waits, or the name.
    resting: BTreeSet<(Duration, Arc<str>)>,
    next_age: u64,
    /// Number of names that are gone, and whose going waits.
    goings: usize,
    /// Memory of the names that are gone.
    bytes: usize,
}

/// A name that is online, or was announced and is gone.
#[derive(Default)]
struct Name {
    /// Whether the other users have been told that it is online.
    is_announced: bool,
    announced_at: Option<Duration>,
    /// Age of the change that waits.
    waiting: Option<u64>,
    /// The user, if it is gone: its id and name. Boxed, as most are online.
    gone: Option<Box<Gone>>,
    is_online: bool,
}

/// A user that is gone, as the other users know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) id: Box<str>,
    pub(super) name: String,
}

/// An announcement that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The user with this key has come online and still is.
    Online(Arc<str>),
    /// This user is gone.
    Offline(Gone),
}

impl Announcements {
    pub(super) fn new(budget: u32, interval: Duration) -> Self {
        Self {
            budget: budget.into(),
            interval,
            used: 0,
            second: 0,
            names: BTreeMap::new(),
            ready_comings: BTreeMap::new(),
            ready_goings: BTreeMap::new(),
            resting: BTreeSet::new(),
            next_age: 0,
            goings: 0,
            bytes: 0,
        }
    }

    /// Changes the limits. A name that rests already does so for the interval before.
    pub(super) fn set_limits(&mut self, budget: u32, interval: Duration) {
        self.budget = budget.into();
        self.interval = interval;
    }

    /// Returns the user of a name that is gone without the other users having been told: for them it still is the
    /// same when it comes back.
    pub(super) fn gone(&self, key: &str) -> Option<&Gone> {
        self.names.get(key).and_then(|name| name.gone.as_deref())
    }

    /// Records that a user has come online.
    pub(super) fn come(&mut self, now: Duration, key: &Arc<str>) {
        let name = self.names.entry(Arc::clone(key)).or_default();
        name.is_online = true;
        if let Some(gone) = name.gone.take() {
            self.goings -= 1;
            self.bytes -= size_of_gone(key, &gone);
        }
        if name.is_announced {
            self.cancel(key);
        } else {
            self.wait(now, key);
        }
    }

    /// Records that a user has gone offline.
    pub(super) fn go(&mut self, now: Duration, key: &Arc<str>, user: Gone) {
        let Some(name) = self.names.get_mut(key) else {
            return;
        };
        name.is_online = false;
        if name.is_announced {
            self.goings += 1;
            self.bytes += size_of_gone(key, &user);
            name.gone = Some(Box::new(user));
            self.wait(now, key);
        } else {
            self.cancel(key);
            self.forget_unless_resting(now, key);
        }
    }

    /// Records that a user who is online has let the others know it itself, which is as good as the announcement.
    pub(super) fn reveal(&mut self, key: &str) {
        if let Some(name) = self.names.get_mut(key) {
            name.is_announced = true;
            self.cancel(key);
        }
    }

    /// Lets the current change of a name wait.
    fn wait(&mut self, now: Duration, key: &Arc<str>) {
        let Some(name) = self.names.get_mut(key) else {
            return;
        };
        name.waiting = Some(self.next_age);
        self.next_age += 1;
        match name.announced_at.map(|at| at + self.interval) {
            Some(until) if until > now => {
                self.resting.insert((until, Arc::clone(key)));
            }
            _ => self.make_ready(Arc::clone(key)),
        }
    }

    /// Lets the change of a name, if one waits, wait for the budget only.
    fn make_ready(&mut self, key: Arc<str>) {
        let name = self.names.get(&key);
        let change = name.and_then(|name| name.waiting.map(|age| (age, name.is_online)));
        match change {
            Some((age, true)) => self.ready_comings.insert(age, key),
            Some((age, false)) => self.ready_goings.insert(age, key),
            None => None,
        };
    }

    /// Removes the change of a name that waits, as the opposite one has followed.
    fn cancel(&mut self, key: &str) {
        let name = self.names.get_mut(key);
        if let Some(age) = name.and_then(|name| name.waiting.take()) {
            self.ready_comings.remove(&age);
            self.ready_goings.remove(&age);
        }
    }

    /// Forgets a name that is neither online nor believed to be, unless its interval is not over.
    fn forget_unless_resting(&mut self, now: Duration, key: &Arc<str>) {
        let Some(name) = self.names.get(key) else {
            return;
        };
        if name.is_online || name.is_announced {
            return;
        }
        let until = name.announced_at.map(|at| at + self.interval);
        match until.filter(|&until| until > now) {
            Some(until) if self.resting.len() < MAX_RESTING => {
                self.resting.insert((until, Arc::clone(key)));
            }
            _ => {
                self.names.remove(key);
            }
        }
    }

    /// Ends the intervals that are over.
    fn end_intervals(&mut self, now: Duration) {
        while self.resting.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, key)) = self.resting.pop_first() else {
                return;
            };
            self.forget_unless_resting(now, &key);
            self.make_ready(key);
        }
    }

    /// Returns whether the budget of this second allows any more deliveries.
    pub(super) fn has_budget(&mut self, now: Duration) -> bool {
        let passed = now.as_secs().saturating_sub(self.second);
        self.second += passed;
        self.used = self.used.saturating_sub(passed.saturating_mul(self.budget));
        self.budget == 0 || self.used < self.budget
    }

    /// Counts deliveries against the budget.
    pub(super) fn charge(&mut self, deliveries: u64) {
        if self.budget > 0 {
            self.used += deliveries;
        }
    }

    /// Removes and returns the oldest announcement that is due, which the caller makes and charges. In an empty
    /// room, where nobody is told, it begins no interval.
    pub(super) fn pop_due(&mut self, now: Duration, is_room_empty: bool) -> Option<Due> {
        self.end_intervals(now);
        if !self.has_budget(now) {
            return None;
        }
        let coming = self.ready_comings.first_entry();
        let coming = coming.filter(|_| self.goings < MAX_WAITING_GOINGS);
        let going = self.ready_goings.first_entry();
        let oldest = match (coming, going) {
            (Some(coming), Some(going)) if coming.key() < going.key() => coming,
            (_, Some(going)) => going,
            (coming, None) => coming?,
        };
        let key = oldest.remove();
        let name = self.names.get_mut(&key)?;
        name.waiting = None;
        if !is_room_empty {
            name.announced_at = Some(now);
        }
        name.is_announced = name.is_online;
        let Some(gone) = name.gone.take() else {
            return Some(Due::Online(key));
        };
        self.goings -= 1;
        self.bytes -= size_of_gone(&key, &gone);
        self.forget_unless_resting(now, &key);
        Some(Due::Offline(*gone))
    }

    /// Returns the memory of names that are gone, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.resting.len() * BYTES_PER_NAME
    }

    /// Returns whether any change waits.
    #[cfg(any(test, fuzzing))]
    pub(super) fn has_waiting(&self) -> bool {
        self.names.values().any(|name| name.waiting.is_some())
    }

    /// Returns whether nothing waits and no name is remembered.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        let nothing_waits = self.ready_comings.is_empty()
            && self.ready_goings.is_empty()
            && self.resting.is_empty();
        nothing_waits && self.names.is_empty() && self.goings == 0 && self.bytes == 0
    }
}

/// Returns the approximate memory of a user that is gone, in bytes.
fn size_of_gone(key: &str, gone: &Gone) -> usize {
    BYTES_PER_NAME + 2 * key.len() + gone.id.len() + gone.name.len()
}

impl FreeSpare for Announcements {
    fn free_spare(&mut self) {
        let Self {
            names,
            ready_comings,
            ready_goings,
            resting,
            budget: _,
            interval: _,
            used: _,
            second: _,
            next_age: _,
            goings: _,
            bytes: _,
        } = self;
        names.free_spare();
        ready_comings.free_spare();
        ready_goings.free_spare();
        resting.free_spare();
    }
}
