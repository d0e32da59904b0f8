//! The connections as the broker knows them: a number, an outbox, and how they fare.

use super::Moment;
use super::keepalive::Patience;
use super::outbox::{Outbox, Ping};
use super::socket_status::Pulse;
use crate::realm::{ConnectionId, Connections};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

pub(super) struct Connection {
    pub(super) listener: usize,
    pub(super) outbox: Outbox,
    pub(super) pulse: Arc<Pulse>,
    /// When it was sent a Ping, to the second.
    pub(super) pinged: Option<Duration>,
    /// When its round trip is to be measured next, if that is wanted.
    pub(super) next_ping: Duration,
    /// Its realm waits for a sign of life.
    pub(super) probe: Option<Probe>,
    /// For the sake of how many others it is not read from.
    pub(super) held: usize,
    /// Who is held for the sake of this one.
    pub(super) holds: Vec<ConnectionId>,
    /// Its realm has been told that it is gone.
    pub(super) closing: bool,
    /// What it held when it was closed for that, in bytes.
    pub(super) releasing: Option<usize>,
}

impl Connection {
    /// Whether its outbox is full only because its task has not had its turn. Its socket would
    /// take more, so it is not slow.
    pub(super) fn has_had_no_turn(&self) -> bool {
        !self.pulse.is_blocked() && !self.outbox.is_far_over()
    }

    /// Sends a Ping for the round trip, when it is time for one.
    pub(super) fn measure(&mut self, moment: Moment, patience: Patience, wakers: &mut Vec<Waker>) {
        if !patience.ping_every.is_zero() && moment.now >= self.next_ping {
            self.next_ping = moment.now + patience.ping_every;
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
    fn round_trip(&self, who: ConnectionId) -> Option<Duration> {
        self.get(&who)
            .and_then(|connection| connection.pulse.round_trip())
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

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u64(self.0 ^ u64::from(octet));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
