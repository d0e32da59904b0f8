//! The connections as the broker knows them: a number, an outbox, and how they fare.

use super::Now;
use super::keepalive::KeepaliveConfig;
use super::outbox::{Outbox, Ping};
use super::socket_status::SocketStatus;
use crate::realm::{ConnectionId, Connections};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub(super) struct Connection {
    pub(super) listener: usize,
    pub(super) outbox: Outbox,
    pub(super) status: Arc<SocketStatus>,
    /// When it was sent a Ping, to the second.
    pub(super) pinged: Option<Duration>,
    /// When its round trip is to be measured next, if that is wanted.
    pub(super) next_ping: Duration,
    /// Its realm waits for a sign of life.
    pub(super) probe: Option<Probe>,
    /// For the sake of how many others it is not read from.
    pub(super) paused_by: usize,
    /// Who is held for the sake of this one.
    pub(super) paused_senders: Vec<ConnectionId>,
    /// Its realm has been told that it is gone.
    pub(super) closing: bool,
    /// What it held when it was closed for that, in bytes.
    pub(super) releasing: Option<usize>,
}

impl Connection {
    /// Whether its outbox is full only because its task has not had its turn. Its socket would
    /// take more, so it is not slow.
    pub(super) fn is_unscheduled(&self) -> bool {
        !self.status.is_blocked() && !self.outbox.exceeds_hard_limit()
    }

    /// Sends a Ping for the round trip, when it is time for one.
    pub(super) fn measure(
        &mut self,
        now: Now,
        keepalive: KeepaliveConfig,
        wakers: &mut Vec<Waker>,
    ) {
        if !keepalive.ping_every.is_zero() && now.monotonic >= self.next_ping {
            self.next_ping = now.monotonic + keepalive.ping_every;
            self.outbox.ping(Ping::RoundTrip, wakers);
        }
    }
}

/// A realm's question whether a connection is alive.
#[derive(Clone, Copy)]
pub(super) struct Probe {
    /// When it was asked, to the second.
    pub(super) asked: Duration,
    pub(super) until: Duration,
}

pub(super) type Table = HashMap<ConnectionId, Connection, BuildHasherDefault<IdHasher>>;

impl Connections for Table {
    fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.get(&conn)
            .and_then(|connection| connection.status.rtt())
    }
}

/// Connection ids are numbers of our own making, one after the other: nobody can choose them so
/// that they collide, and one multiplication spreads them over a table.
#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
