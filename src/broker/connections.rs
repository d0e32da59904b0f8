//! The connections in the broker, and what is checked of each once a second.

use super::broadcasts::Broadcasts;
use super::keepalive::{KeepaliveConfig, Liveness, Verdict};
use super::outbox::{CloseOrder, Outbox, PingReason, Wakeups};
use super::socket_status::SocketStatus;
use super::{Broker, Now};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::ClientAddress;
use crate::base::memory_budget::MemoryReservation;
use crate::realm::{ConnectionId, Connections};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

/// A connection from its opening handshake to its [`Event::Disconnected`](super::Event).
pub(super) struct Connection {
    /// Index of the listener, which a [`ListenerKey`](super::ListenerKey) keeps.
    pub(super) listener_index: usize,
    /// The client's address.
    pub(super) address: ClientAddress,
    /// The second in which the client was admitted, since the daemon started.
    pub(super) since: u32,
    /// The queue of frames to the client, and of the broker's directives to the connection's task.
    pub(super) outbox: Outbox,
    /// What the connection's task lets the broker know of its socket.
    pub(super) status: Arc<SocketStatus>,
    /// The Pings and probes that the client has not answered.
    pub(super) liveness: Liveness,
    /// Number of reasons this connection is paused for: full outboxes, its realm, a deferred open. While it is
    /// above 0, the connection is not read from.
    pub(super) pause_count: usize,
    /// Connections that are paused because they sent to this one while its outbox was full. May
    /// hold one more than once.
    pub(super) paused_senders: Vec<ConnectionId>,
    /// Whether the realm has admitted the client.
    pub(super) is_admitted: bool,
    /// Whether the close of the connection is reported to the realm, or queued to be.
    pub(super) closing: bool,
    /// Bytes that this connection held when it was evicted, or aborted in its closing handshake: they count as
    /// about to be released (see [`Memory`](super::memory::Memory)). `None` if it was not.
    pub(super) releasing: Option<MemoryReservation>,
}

impl Connection {
    /// Creates a connection that is just opening.
    pub(super) fn new(
        now: Now,
        listener_index: usize,
        address: ClientAddress,
        outbox: Outbox,
        status: Arc<SocketStatus>,
    ) -> Self {
        Self {
            listener_index,
            address,
            since: u32::try_from(now.monotonic.as_secs()).unwrap_or(u32::MAX),
            outbox,
            status,
            liveness: Liveness::new(now),
            pause_count: 0,
            paused_senders: Vec::new(),
            is_admitted: false,
            closing: false,
            releasing: None,
        }
    }

    /// Returns whether what is queued for the connection may still reach its client.
    pub(super) fn is_open(&self) -> bool {
        !self.closing && !self.outbox.is_disconnected()
    }

    /// Returns whether the outbox is full only because the connection's task has not been
    /// scheduled. Its socket would accept more, so the client is not slow.
    pub(super) fn is_unscheduled(&self) -> bool {
        self.is_unscheduled_after(iter::empty())
    }

    /// Returns the same for when these frames are queued, too.
    fn is_unscheduled_after<'a>(&self, frames: impl Iterator<Item = &'a Frame>) -> bool {
        !self.status.is_write_blocked() && !self.outbox.exceeds_hard_limit(frames)
    }

    /// Sends a Ping that measures the round trip if one is due.
    pub(super) fn measure_rtt(
        &mut self,
        now: Now,
        keepalive: KeepaliveConfig,
        wakeups: &mut Wakeups,
    ) {
        if self.liveness.take_due_rtt_ping(now, keepalive) {
            self.outbox.ping(PingReason::MeasureRtt, wakeups);
        }
    }

    /// Returns whether the client's silence means nothing, since the server does not read from it at present. A
    /// client whose socket accepts no bytes has no such excuse: it gives no sign of life by being paused.
    ///
    /// Whether something waits to be read does not matter here, as it does in
    /// [`Connection::is_message_held_up`]: a paused client that has nothing to say must not be sent a Ping, since
    /// nobody would read its Pong.
    fn is_silence_excused(&self) -> bool {
        let is_paused = self.pause_count > 0 || self.status.is_unread();
        is_paused && !self.closing && !self.status.is_write_blocked()
    }

    /// Returns whether received bytes of the message have waited unread for more than a second, for whatever
    /// reason: a pause, the memory budget, or the turns of other connections.
    ///
    /// What counts is what waits to be read, and not, as in [`Connection::is_silence_excused`], that the client is
    /// paused.
    /// If nothing waits, the message stands still because of its client, paused or not. And a connection whose
    /// task waits for its turn is not paused, but is not read either.
    fn is_message_held_up(&self, second: Duration) -> bool {
        let last_read = self.status.last_activity();
        self.status.is_readable() && last_read + Duration::from_secs(1) < second
    }

    /// Returns whether an unfinished message has made no progress for the listener's `message_timeout`. Called
    /// once a second.
    fn is_message_overdue(&self, second: Duration, timeout: Duration) -> bool {
        let unfinished = &self.status.unfinished;
        let is_checked = !self.closing && !timeout.is_zero();
        is_checked && unfinished.check(second, timeout, self.is_message_held_up(second))
    }
}

impl Broker {
    /// Removes a connection, and returns it.
    pub(super) fn remove_connection(&mut self, conn: ConnectionId) -> Option<Box<Connection>> {
        self.expiries.remove(conn);
        self.connections.remove(&conn)
    }

    /// Checks all connections, once a second: closes those whose message does not end, sends the Pings that are
    /// due, drops those that are silent, and frees what empty outboxes keep. Returns the probes whose time is up, each
    /// with whether the client is alive.
    pub(super) fn check_connections(&mut self, now: Now) -> Vec<(ConnectionId, bool)> {
        let mut overdue = Vec::new();
        let mut unresponsive = Vec::new();
        let mut probe_results = Vec::new();
        for (&conn, connection) in &mut self.connections {
            connection.outbox.free_spare();
            let Some(slot) = self.slots.get(connection.listener_index) else {
                continue;
            };
            if connection.is_message_overdue(now.whole_seconds(), slot.checks.message_timeout) {
                overdue.push(conn);
            }
            if connection.is_silence_excused() {
                connection.liveness.restart(now);
                continue;
            }
            let keepalive = slot.checks.keepalive;
            connection.measure_rtt(now, keepalive, &mut self.wakeups);
            let Connection {
                liveness,
                outbox,
                status,
                ..
            } = &mut **connection;
            if let Some(alive) = liveness.take_probe_result(now, status) {
                probe_results.push((conn, alive));
            }
            match liveness.check(now, status, keepalive) {
                Verdict::Alive | Verdict::Wait => {}
                Verdict::Ping => outbox.ping(PingReason::Silence, &mut self.wakeups),
                Verdict::Unresponsive => {
                    outbox.close(CloseOrder::Abort, &mut self.wakeups);
                    unresponsive.push(conn);
                }
            }
        }
        for conn in overdue {
            self.close(conn, CloseReason::UNFINISHED_MESSAGE);
        }
        for conn in unresponsive {
            self.mark_closing(conn, DisconnectReason::Unresponsive);
        }
        probe_results
    }
}

/// The connections by id. Boxed, as a third of a table's places is empty on average.
pub(super) type ConnectionTable =
    HashMap<ConnectionId, Box<Connection>, BuildHasherDefault<ConnectionIdHasher>>;

/// What realms have access to: the connections, and what waits to be queued for them.
pub(super) struct ConnectionFacts<'a> {
    pub(super) connections: &'a ConnectionTable,
    pub(super) broadcasts: &'a Broadcasts,
}

impl Connections for ConnectionFacts<'_> {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.connections
            .get(&conn)
            .and_then(|connection| connection.status.rtt())
    }

    fn last_activity(&self, conn: ConnectionId) -> Option<Duration> {
        let connection = self.connections.get(&conn);
        let connection = connection.filter(|it| it.pause_count == 0)?;
        Some(connection.status.last_activity())
    }

    fn can_deliver(&self, conn: ConnectionId, frame: &Frame) -> bool {
        self.connections.get(&conn).is_some_and(|connection| {
            let before = || self.broadcasts.frames_for(conn);
            let has_capacity = connection.outbox.has_capacity_for_relayed(frame, before());
            !connection.closing && (has_capacity || connection.is_unscheduled_after(before()))
        })
    }

    fn read_since(&self, conn: ConnectionId) -> Duration {
        self.connections
            .get(&conn)
            .map_or(Duration::ZERO, |connection| {
                connection.liveness.read_since()
            })
    }
}

/// A hasher that multiplies once (Fibonacci hashing). Connection ids are sequence numbers of
/// this server, so no client can choose them to collide.
#[derive(Default)]
pub(super) struct ConnectionIdHasher(u64);

impl Hasher for ConnectionIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spare::FreeSpare;

    #[test]
    fn a_table_is_small_again_after_its_entries_were_removed() {
        // In an almost full table, removed entries leave marks, which its capacity does not count.
        let mut table: HashMap<ConnectionId, (), BuildHasherDefault<ConnectionIdHasher>> =
            (0..56).map(|conn| (ConnectionId(conn), ())).collect();
        for conn in 0..54 {
            table.remove(&ConnectionId(conn));
        }
        table.free_spare();
        // Fills a small table, and not yet one of 64 places.
        table.extend((100..110).map(|conn| (ConnectionId(conn), ())));
        assert!(table.capacity() < 20, "{} places", table.capacity());
    }
}
