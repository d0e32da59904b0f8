//! Listeners come and go while the daemon runs, and their settings change.

use super::event::{ListenerChange, NewListener};
use super::figures::add_ended;
use super::outbox::CloseOrder;
use super::slots::{ListenerKey, RealmSlot};
use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::realm::ConnectionId;

impl Broker {
    /// Serves a new listener. Returns its key.
    pub(super) fn insert_listener(&mut self, slot: RealmSlot) -> ListenerKey {
        let key = self.slots.insert(slot);
        self.memory.add_listener(key.index());
        key
    }

    /// Serves a new listener. Returns the units of work, as do all handlers of events.
    pub(super) fn add_listener(&mut self, new: NewListener) -> usize {
        let NewListener {
            slot,
            events,
            reply_to,
        } = new;
        self.new_lanes.push(events);
        // Fails only if the server is gone.
        let _ = reply_to.send(self.insert_listener(slot));
        1
    }

    /// Changes the settings of a listener, for its connections, too.
    pub(super) fn change_listener(&mut self, now: Now, change: ListenerChange) -> usize {
        let ListenerChange {
            listener_index,
            checks,
            options,
        } = change;
        if let Some(slot) = self.slots.get_mut(listener_index) {
            slot.checks = checks;
        }
        let Some(options) = options else {
            return 1;
        };
        self.run_realm(now, listener_index, None, |realm, cx| {
            let changed = realm.reconfigure(cx, &options);
            changed.unwrap_or_else(|_| unreachable!("the configuration is validated"));
        })
    }

    /// Stops the realm of a listener and closes its connections, as at the end of the daemon. The realm is not called
    /// again, and its index is free when the last of them has ended.
    pub(super) fn remove_listener(&mut self, now: Now, listener_index: usize) -> usize {
        self.call_realm(now, listener_index, None, |realm, cx| realm.stop(cx));
        self.slots.drain(listener_index);
        self.memory.set_stored(listener_index, 0);
        let connections = self.connections.iter();
        let own = connections.filter(|(_, it)| it.listener_index == listener_index);
        let own: Vec<ConnectionId> = own.map(|(&conn, _)| conn).collect();
        for &conn in &own {
            self.shut_down(conn);
        }
        1 + own.len()
    }

    /// Closes a connection whose realm is stopped, and so is not told of it. A handshake whose open is deferred
    /// responds that the server is shutting down.
    fn shut_down(&mut self, conn: ConnectionId) {
        if self.admission.drop_deferred(conn) {
            self.connections.remove(&conn);
            return;
        }
        self.drop_held(conn);
        self.resume_senders_of(conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.closing = true;
            let order = CloseOrder::Graceful(CloseReason::SHUTTING_DOWN);
            connection.outbox.close(order, &mut self.wakeups);
        }
    }

    /// Frees the indexes of removed listeners to which nothing refers any more, once a second.
    pub(super) fn free_drained(&mut self) {
        let (connections, ended) = (&self.connections, &mut self.ended_before);
        self.slots.free_drained(
            |index| connections.values().any(|it| it.listener_index == index),
            |counters| add_ended(ended, counters),
        );
    }
}
