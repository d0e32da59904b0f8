//! The connections in the broker: id, outbox, and liveness.

use super::outbox::Outbox;
use super::socket_status::SocketStatus;
use crate::base::ip::SubnetKey;
use crate::realm::{ConnectionId, Connections};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// A connection from its opening handshake to its [`Event::Disconnected`](super::Event).
pub(super) struct Connection {
    /// Index of the listener in the configuration.
    pub(super) listener_index: usize,
    /// The client's address, as far as it counts for limits.
    pub(super) address: SubnetKey,
    pub(super) outbox: Outbox,
    pub(super) status: Arc<SocketStatus>,
    /// Time at which the unanswered keep-alive Ping was sent, rounded down to seconds, if there is one.
    /// Activity is noticed by the next check.
    pub(super) pinged_at: Option<Duration>,
    /// Time of the next Ping that measures the round trip, if the listener's `ping_every` is not 0.
    pub(super) next_rtt_ping: Duration,
    /// A probe of the realm that is not yet answered.
    pub(super) probe: Option<Probe>,
    /// Number of full outboxes this connection is paused for: while it is above 0, the connection
    /// is not read from.
    pub(super) pause_count: usize,
    /// Connections that are paused because they sent to this one while its outbox was full. May
    /// hold one more than once.
    pub(super) paused_senders: Vec<ConnectionId>,
    /// Whether the close of the connection is reported to the realm, or queued to be.
    pub(super) closing: bool,
    /// Bytes held by this connection when it was evicted; `None` if it was not.
    pub(super) releasing_bytes: Option<usize>,
}

impl Connection {
    /// Returns whether the outbox is full only because the connection's task has not been
    /// scheduled. Its socket would accept more, so the client is not slow.
    pub(super) fn is_unscheduled(&self) -> bool {
        !self.status.is_write_blocked() && !self.outbox.exceeds_hard_limit()
    }
}

/// A probe of a connection for its realm: [`Effect::Probe`](crate::realm::Effect::Probe).
#[derive(Clone, Copy)]
pub(super) struct Probe {
    /// Time at which the Ping was sent, rounded down to seconds.
    pub(super) sent_at: Duration,
    pub(super) deadline: Duration,
}

pub(super) type ConnectionTable =
    HashMap<ConnectionId, Connection, BuildHasherDefault<ConnectionIdHasher>>;

impl Connections for ConnectionTable {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.get(&conn)
            .and_then(|connection| connection.status.rtt())
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
