//! The slots of listeners: each has a realm. An index is reused when nothing refers to it any more.

use super::counters::ListenerCounters;
use super::keepalive::KeepaliveConfig;
use crate::base::spare::FreeSpare;
use crate::config::Address;
use crate::realm::Realm;
use std::sync::Arc;
use std::time::Duration;

/// A listener's realm, and how its connections are treated.
pub(crate) struct RealmSlot {
    /// The protocol's rules, and the state of the listener's clients.
    pub(crate) realm: Box<dyn Realm>,
    /// The listener's address.
    pub(crate) address: Address,
    pub(crate) checks: ConnectionChecks,
}

/// What is checked of each connection of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionChecks {
    /// When silent clients are sent a Ping, and when they are dropped.
    pub(crate) keepalive: KeepaliveConfig,
    /// Time in which an unfinished message must make progress; 0: no limit.
    pub(crate) message_timeout: Duration,
}

/// The index of a listener in the broker, and its counters. The broker reuses the index for another listener when no
/// clone of this is left and the listener is removed.
#[derive(Clone)]
pub(crate) struct ListenerKey(Arc<(usize, ListenerCounters)>);

impl ListenerKey {
    /// Creates the key of an index that nothing refers to.
    pub(crate) fn new(index: usize, counters: ListenerCounters) -> Self {
        Self(Arc::new((index, counters)))
    }

    /// Returns the index.
    pub(crate) fn index(&self) -> usize {
        self.0.0
    }

    /// Returns the counters.
    pub(crate) fn counters(&self) -> &ListenerCounters {
        &self.0.1
    }

    fn is_only_one(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// The place of a listener.
enum Slot {
    Served(RealmSlot, ListenerKey),
    /// The listener is removed: its realm is stopped and gone, and its last connections are closing.
    Draining(ListenerKey),
    Free,
}

/// The slots of all listeners, by index.
#[derive(Default)]
pub(super) struct Slots(Vec<Slot>);

impl Slots {
    /// Returns the slot of a listener that is served.
    pub(super) fn get(&self, listener_index: usize) -> Option<&RealmSlot> {
        match self.0.get(listener_index) {
            Some(Slot::Served(slot, _)) => Some(slot),
            _ => None,
        }
    }

    /// Returns the same to change it.
    pub(super) fn get_mut(&mut self, listener_index: usize) -> Option<&mut RealmSlot> {
        match self.0.get_mut(listener_index) {
            Some(Slot::Served(slot, _)) => Some(slot),
            _ => None,
        }
    }

    /// Returns the counters of a listener, also of one that is removed while its connections are closing.
    pub(super) fn counters(&self, listener_index: usize) -> Option<&ListenerCounters> {
        match self.0.get(listener_index)? {
            Slot::Served(_, key) | Slot::Draining(key) => Some(key.counters()),
            Slot::Free => None,
        }
    }

    /// Returns the number of slots, those that are not served included.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Inserts a listener where an index is free. Returns its key.
    pub(super) fn insert(&mut self, slot: RealmSlot) -> ListenerKey {
        let free = self.0.iter().position(|it| matches!(it, Slot::Free));
        let counters = ListenerCounters::new(slot.realm.as_ref());
        let key = ListenerKey::new(free.unwrap_or(self.0.len()), counters);
        let slot = Slot::Served(slot, key.clone());
        match self.0.get_mut(key.index()) {
            Some(place) => *place = slot,
            None => self.0.push(slot),
        }
        key
    }

    /// Drops the realm of a listener, and keeps its index from being reused.
    pub(super) fn drain(&mut self, listener_index: usize) {
        if let Some(place) = self.0.get_mut(listener_index) {
            if let Slot::Served(_, key) = std::mem::replace(place, Slot::Free) {
                *place = Slot::Draining(key);
            }
        }
    }

    /// Frees the indexes of removed listeners to which nothing refers any more: a task of a listener has a clone of its
    /// key, a connection has its index. What they have counted is passed to `freed`.
    pub(super) fn free_drained(
        &mut self,
        has_connection: impl Fn(usize) -> bool,
        mut freed: impl FnMut(&ListenerCounters),
    ) {
        for (index, slot) in self.0.iter_mut().enumerate() {
            match slot {
                Slot::Draining(key) if key.is_only_one() && !has_connection(index) => {
                    freed(key.counters());
                    *slot = Slot::Free;
                }
                _ => {}
            }
        }
    }
}

impl FreeSpare for Slots {
    fn free_spare(&mut self) {
        for slot in &mut self.0 {
            if let Slot::Served(slot, _) = slot {
                slot.realm.free_spare();
            }
        }
    }
}
