//! What a realm has at hand during one call: time, ids, round trips, and where its effects go.

use super::{ConnectionId, Effect, Receipt};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// What a realm may know of the connections that it has.
pub trait Connections {
    /// The last round trip of a Ping that was measured; none before the first (the listener's
    /// `ping_every`).
    fn rtt(&self, conn: ConnectionId) -> Option<Duration>;
}

/// Fresh ids, and all the randomness there is.
pub trait Ids {
    /// A new random UUID (version 4), from the operating system's random source in the daemon.
    fn uuid(&mut self) -> Uuid;
}

/// What a realm has at hand during one call.
pub struct Context<'a> {
    /// Time since the daemon started; never goes back. For all that is measured.
    pub now: Duration,
    /// The time of day. For what is shown, and for what others have dated; for nothing else.
    pub wall: SystemTime,
    connections: &'a dyn Connections,
    ids: &'a mut dyn Ids,
    effects: &'a mut Vec<Effect>,
}

impl<'a> Context<'a> {
    /// Puts a context together.
    pub fn new(
        now: Duration,
        wall: SystemTime,
        connections: &'a dyn Connections,
        ids: &'a mut dyn Ids,
        effects: &'a mut Vec<Effect>,
    ) -> Self {
        Self {
            now,
            wall,
            connections,
            ids,
            effects,
        }
    }

    /// Sends a frame to a connection.
    pub fn send(&mut self, to: ConnectionId, frame: Frame) {
        self.effects.push(Effect::Send(to, frame));
    }

    /// Sends a frame to a connection, and tells its sender what became of that.
    pub fn deliver(&mut self, to: ConnectionId, frame: Frame, receipt: Receipt) {
        self.effects
            .push(Effect::Deliver(to, frame, Box::new(receipt)));
    }

    /// Asks a connection for a sign of life within `patience`; [`Realm::probe_result`](super::Realm::probe_result) has the answer.
    pub fn probe(&mut self, conn: ConnectionId, patience: Duration) {
        self.effects.push(Effect::Probe(conn, patience));
    }

    /// The last measured round trip of a Ping to a connection.
    pub fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.connections.rtt(conn)
    }

    /// A new random UUID (version 4).
    pub fn uuid(&mut self) -> Uuid {
        self.ids.uuid()
    }

    /// Closes a connection, after what was sent to it before.
    pub fn close(&mut self, conn: ConnectionId, why: CloseReason) {
        self.effects.push(Effect::Close(conn, why));
    }

    /// `count` random characters (at most 15) out of an alphabet of ASCII characters. All equally
    /// likely when the alphabet's length is a power of two up to 32.
    pub fn random_string(&mut self, alphabet: &[u8], count: usize) -> String {
        // Six bits of a random UUID say that it is one; four of them stand in octet 6, which
        // therefore has no five random bits to give.
        let bytes = self.ids.uuid().into_bytes();
        bytes
            .iter()
            .enumerate()
            .filter(|&(at, _)| at != 6)
            .take(count)
            .filter_map(|(_, &byte)| alphabet.get(usize::from(byte & 0x3f) % alphabet.len()))
            .map(|&letter| char::from(letter))
            .collect()
    }

    /// Milliseconds since the epoch.
    pub fn epoch_millis(&self) -> u64 {
        let since = self
            .wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// ISO 8601 in UTC with milliseconds and `Z` (rulings, "time stamps").
    pub fn timestamp(&self) -> String {
        humantime::format_rfc3339_millis(self.wall).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Connections for Nobody {
        fn rtt(&self, _: ConnectionId) -> Option<Duration> {
            None
        }
    }

    struct Fixed(Uuid);

    impl Ids for Fixed {
        fn uuid(&mut self) -> Uuid {
            self.0
        }
    }

    fn random_string(bytes: [u8; 16], alphabet: &[u8], count: usize) -> String {
        let mut ids = Fixed(Uuid::from_bytes(bytes));
        let wall = SystemTime::UNIX_EPOCH;
        Context::new(Duration::ZERO, wall, &Nobody, &mut ids, &mut Vec::new())
            .random_string(alphabet, count)
    }

    #[test]
    fn letters_come_from_the_random_bits_alone() {
        // The bits that are the same in each random UUID (RFC 9562 section 5.4) change nothing.
        let mut bytes = [0; 16];
        let none = random_string(bytes, b"ab", 15);
        assert_eq!(none, "a".repeat(15));
        bytes[6] = 0x40;
        bytes[8] = 0x80;
        assert_eq!(random_string(bytes, b"ab", 15), none);
    }

    #[test]
    fn all_32_letters_can_come() {
        let alphabet = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let all: String = (0..32)
            .map(|bits| random_string([bits; 16], alphabet, 1))
            .collect();
        assert_eq!(all.as_bytes(), alphabet);
    }

    #[test]
    fn time_is_shown_as_the_documents_show_it() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_768_557_600_007);
        let (mut ids, mut effects) = (Fixed(Uuid::nil()), Vec::new());
        let cx = Context::new(Duration::ZERO, wall, &Nobody, &mut ids, &mut effects);
        assert_eq!(cx.timestamp(), "2026-01-16T10:00:00.007Z");
        assert_eq!(cx.epoch_millis(), 1_768_557_600_007);
    }
}
