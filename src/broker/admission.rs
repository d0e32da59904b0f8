//! Whether a client is admitted. A realm decides about the open of a connection at once, or defers it, because
//! it has to probe other connections first; the client waits for the response to its handshake meanwhile.

use super::connections::Connection;
use super::{Broker, Now, OpenEvent};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Recipients, Rejection};
use futures::channel::oneshot;
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest time for a realm to decide about a deferred open. Probes take at most half of it; this bounds the
/// handshake if a realm should never decide.
const MAX_DEFERRED: Duration = Duration::from_secs(30);

/// The response after [`MAX_DEFERRED`].
const UNDECIDED: Rejection = Rejection {
    status: 503,
    text: "the server could not decide in time, try again later",
};

/// Opens that await a decision.
#[derive(Default)]
pub(super) struct Admission {
    /// The connection whose `open` is running.
    opening: Option<ConnectionId>,
    /// Handshakes that wait for their realm's decision.
    deferred: BTreeMap<ConnectionId, DeferredOpen>,
}

/// A handshake that waits for its realm's decision.
struct DeferredOpen {
    /// `None` while the realm's `open` runs.
    reply_to: Option<oneshot::Sender<Result<(), Rejection>>>,
    deadline: Duration,
}

impl Admission {
    /// Returns whether the client has had no chance to read yet: frames to it are exempt from its outbox's limit.
    pub(super) fn is_undecided(&self, conn: ConnectionId) -> bool {
        self.opening == Some(conn) || self.deferred.contains_key(&conn)
    }

    /// Returns whether one of these clients waits for its realm's decision.
    pub(super) fn has_deferred(&self, clients: &Recipients) -> bool {
        if self.deferred.len() < clients.len() {
            self.deferred.keys().any(|&conn| clients.contains(conn))
        } else {
            clients.iter().any(|conn| self.deferred.contains_key(&conn))
        }
    }

    /// Removes a connection that has ended.
    pub(super) fn remove(&mut self, conn: ConnectionId) {
        self.deferred.remove(&conn);
    }

    /// Drops the deferred open of a connection, which makes its handshake respond that the server is shutting down.
    /// Returns whether there was one.
    pub(super) fn drop_deferred(&mut self, conn: ConnectionId) -> bool {
        self.deferred.remove(&conn).is_some()
    }

    /// Drops all deferred opens, which makes their handshakes respond that the server is shutting down.
    pub(super) fn stop(&mut self) {
        self.deferred.clear();
    }
}

impl FreeSpare for Admission {
    fn free_spare(&mut self) {
        let Self {
            opening: _,
            deferred,
        } = self;
        deferred.free_spare();
    }
}

impl Broker {
    /// Inserts a connection, has the realm admit or reject it, and replies to its handshake, unless the realm
    /// defers that. A rejected one is removed again. Returns the units of work, as do all handlers of events.
    pub(super) fn open(&mut self, now: Now, event: OpenEvent) -> usize {
        let OpenEvent {
            listener_index,
            conn,
            request,
            outbox,
            status,
            reply_to,
        } = event;
        let Some(slot) = self.slots.get(listener_index).filter(|_| !self.stopping) else {
            // Dropping `reply_to` makes the handshake respond that the server is shutting down.
            return 1;
        };
        let keepalive = slot.checks.keepalive;
        let connection = Connection::new(now, listener_index, request.address, outbox, status);
        self.connections.insert(conn, Box::new(connection));
        let mut result = Ok(());
        self.admission.opening = Some(conn);
        let work = self.run_realm(now, listener_index, None, |realm, cx| {
            result = realm.open(cx, conn, request);
        });
        self.admission.opening = None;
        if let (Ok(()), Some(deferred)) = (result, self.admission.deferred.get_mut(&conn)) {
            deferred.reply_to = Some(reply_to);
            return work;
        }
        if result.is_err() {
            self.admission.deferred.remove(&conn);
            self.remove_connection(conn);
        }
        self.count_accepted(conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.measure_rtt(now, keepalive, &mut self.wakeups);
        }
        // The handshake waits for this. If the client is gone by then, `Disconnected` will follow.
        let _ = reply_to.send(result);
        work
    }

    /// Defers the open that is running. The connection counts as paused until it is admitted, so that its
    /// silence means nothing.
    pub(super) fn defer(&mut self, now: Now, conn: ConnectionId) {
        if self.admission.opening != Some(conn) || self.admission.deferred.contains_key(&conn) {
            return;
        }
        let deferred = DeferredOpen {
            reply_to: None,
            deadline: now.monotonic + MAX_DEFERRED,
        };
        self.admission.deferred.insert(conn, deferred);
        self.add_pause(conn);
    }

    /// Admits a connection whose open is deferred; does nothing for any other.
    pub(super) fn admit(&mut self, conn: ConnectionId) {
        if let Some(deferred) = self.admission.deferred.remove(&conn) {
            self.remove_pause(conn);
            self.count_accepted(conn);
            // Fails only if the client is gone; then `Disconnected` follows.
            let _ = deferred.reply_to.map(|reply_to| reply_to.send(Ok(())));
        }
    }

    /// Counts a connection that the realm has admitted, if it is still there.
    fn count_accepted(&mut self, conn: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        connection.is_admitted = true;
        if let Some(counters) = self.slots.counters(connection.listener_index) {
            counters.record_accepted();
        }
    }

    /// Rejects a connection whose open is deferred, and removes it; does nothing for any other.
    pub(super) fn reject(&mut self, conn: ConnectionId, rejection: Rejection) {
        if let Some(deferred) = self.admission.deferred.remove(&conn) {
            self.remove_connection(conn);
            // Fails only if the client is gone.
            let _ = deferred
                .reply_to
                .map(|reply_to| reply_to.send(Err(rejection)));
        }
    }

    /// Rejects the opens that have been deferred for too long. Returns the units of work.
    pub(super) fn expire_deferred(&mut self, now: Now) -> usize {
        let expired = self.admission.deferred.iter();
        let expired = expired.filter(|(_, deferred)| deferred.deadline <= now.monotonic);
        let expired: Vec<ConnectionId> = expired.map(|(&conn, _)| conn).collect();
        let mut work = 0;
        for conn in expired {
            let listener_index = self.connections.get(&conn).map(|it| it.listener_index);
            self.reject(conn, UNDECIDED);
            if let Some(listener_index) = listener_index {
                let reason = DisconnectReason::Closed(CloseReason::TIMED_OUT);
                work += self.run_realm(now, listener_index, None, |realm, cx| {
                    realm.close(cx, conn, reason);
                });
            }
        }
        work
    }
}
