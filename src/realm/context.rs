//! The environment of a realm during one call: time, ids, round-trip times, and the list of effects.

use super::{ConnectionId, Effect, Recipients, Rejection};
use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// The facts about connections that a realm has access to.
pub trait Connections {
    /// Returns the last round-trip time measured with a Ping; `None` before the first measurement (see the
    /// listener's `ping_every`).
    fn rtt(&self, conn: ConnectionId) -> Option<Duration>;

    /// Returns the time of the last sign of life of a client, on the clock of [`Context::now`] and rounded down
    /// to seconds; `None` while the server does not read from it.
    fn last_activity(&self, _conn: ConnectionId) -> Option<Duration> {
        None
    }

    /// Returns whether a connection's outbox has capacity for a frame that is delivered: see
    /// [`Context::deliver`].
    fn can_deliver(&self, _conn: ConnectionId, _frame: &Frame) -> bool {
        true
    }

    /// Returns the time since which the server has read from a connection without a pause, on the clock of
    /// [`Context::now`]; zero if it never paused.
    fn read_since(&self, _conn: ConnectionId) -> Duration {
        Duration::ZERO
    }
}

/// The source of ids, and the only source of randomness of a realm.
pub trait Ids {
    /// Returns a new random UUID (version 4); in the daemon from the operating system's random source.
    fn uuid(&mut self) -> Uuid;
}

/// The environment of a realm during one call.
pub struct Context<'a> {
    /// Monotonic time since the daemon started, for measuring.
    pub now: Duration,
    /// Wall-clock time: only for time stamps that are shown, and for comparison with dates from elsewhere.
    pub wall: SystemTime,
    connections: &'a dyn Connections,
    ids: &'a mut dyn Ids,
    effects: &'a mut Vec<Effect>,
}

impl<'a> Context<'a> {
    /// Creates a context; the realm's effects are appended to `effects`.
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

    /// Sends a frame to all of these connections but those in `except`.
    pub fn broadcast(&mut self, to: &Recipients, except: &[ConnectionId], frame: Frame) {
        let mut except: Box<[ConnectionId]> = except.into();
        except.sort_unstable();
        self.effects.push(Effect::Broadcast {
            to: to.clone(),
            except,
            frame,
        });
    }

    /// Sends a frame to a connection if its outbox has capacity. Such frames may use only half of the outbox, so
    /// that the server's own frames find the other half free. A recipient without capacity is not closed, so a
    /// few senders cannot get it disconnected by writing to it.
    ///
    /// A call may deliver one frame to each connection: capacity is that at the beginning of the call.
    ///
    /// # Errors
    /// The frame: the recipient is closed, or its outbox has no capacity.
    pub fn deliver(&mut self, to: ConnectionId, frame: Frame) -> Result<(), Frame> {
        if !self.can_deliver(to, &frame) {
            return Err(frame);
        }
        self.effects.push(Effect::Deliver(to, frame));
        Ok(())
    }

    /// Requests a probe of a connection and returns at once;
    /// [`Realm::probe_result`](super::Realm::probe_result) receives the result, at the latest about a second
    /// after `timeout`: see [`Effect::Probe`].
    pub fn probe(&mut self, conn: ConnectionId, timeout: Duration) {
        self.effects.push(Effect::Probe(conn, timeout));
    }

    /// Defers the decision about the connection whose `open` is running: the response to its handshake waits for
    /// [`Context::admit`] or [`Context::reject`].
    pub fn defer(&mut self, conn: ConnectionId) {
        self.effects.push(Effect::Defer(conn));
    }

    /// Admits a connection whose `open` was deferred. Frames already sent to it follow the handshake whatever
    /// their size.
    pub fn admit(&mut self, conn: ConnectionId) {
        self.effects.push(Effect::Admit(conn));
    }

    /// Rejects a connection whose `open` was deferred and has returned.
    /// [`Realm::close`](super::Realm::close) does not follow.
    pub fn reject(&mut self, conn: ConnectionId, rejection: Rejection) {
        self.effects.push(Effect::Reject(conn, rejection));
    }

    /// Stops reading from a connection. The realm receives no command of it until
    /// [`Context::resume_reading`]; those that arrive all the same are held.
    pub fn pause_reading(&mut self, conn: ConnectionId) {
        self.effects.push(Effect::PauseReading(conn));
    }

    /// Reads from a connection again after [`Context::pause_reading`].
    pub fn resume_reading(&mut self, conn: ConnectionId) {
        self.effects.push(Effect::ResumeReading(conn));
    }

    /// Returns how long a client has given no sign of life, in whole seconds: neither a message nor a Pong, nor
    /// has its socket taken bytes again. Time in which the server did not read from it does not count; zero
    /// while it does not, or if the client is not connected.
    pub fn silence(&self, conn: ConnectionId) -> Duration {
        let last_activity = self.connections.last_activity(conn);
        last_activity.map_or(Duration::ZERO, |at| {
            self.now.saturating_sub(self.silent_since(conn, at))
        })
    }

    /// Returns the last round-trip time measured with a Ping to a connection.
    pub fn rtt(&self, conn: ConnectionId) -> Option<Duration> {
        self.connections.rtt(conn)
    }

    /// Returns whether [`Context::deliver`] of this frame would succeed, for realms that must know before they
    /// do something else.
    pub fn can_deliver(&self, conn: ConnectionId, frame: &Frame) -> bool {
        self.connections.can_deliver(conn, frame)
    }

    /// Returns the later of `since` and the time since which the server has read from a connection without
    /// a pause: from then on the client's silence counts. The server pauses reading for slow recipients and
    /// for memory, and a client must not be closed for that.
    pub fn silent_since(&self, conn: ConnectionId, since: Duration) -> Duration {
        since.max(self.connections.read_since(conn))
    }

    /// Returns a new random UUID (version 4).
    pub fn uuid(&mut self) -> Uuid {
        self.ids.uuid()
    }

    /// Has a connection end with its client's token, at this time since the Unix epoch (see
    /// [`Claims::end`](super::Claims::end)); `None`: the token, and so the connection, has no end. A later call takes the
    /// place of an earlier one.
    pub fn expire_at(&mut self, conn: ConnectionId, end: Option<Duration>) {
        self.effects.push(Effect::ExpireAt(conn, end));
    }

    /// Closes a connection after the frames already sent to it.
    pub fn close(&mut self, conn: ConnectionId, reason: CloseReason) {
        self.effects.push(Effect::Close(conn, reason));
    }

    /// Returns `count` (at most 15) random characters of an alphabet of ASCII characters. All are equally
    /// likely if the length of the alphabet is a power of two up to 64; with another length, the first ones
    /// are more likely.
    pub fn random_string(&mut self, alphabet: &[u8], count: usize) -> String {
        // Six bits of a random UUID are fixed (RFC 9562 section 5.4): the upper four of byte 6, which
        // therefore lacks the six random bits that a character needs and is left out, and the upper two of
        // byte 8, which the mask 0x3f removes. The six bits that remain are 64 equally likely values, of
        // which each character of an alphabet of 2, 4, 8, 16, 32 or 64 has the same number.
        let bytes = self.ids.uuid().into_bytes();
        bytes
            .iter()
            .enumerate()
            .filter(|&(index, _)| index != 6)
            .take(count)
            .filter_map(|(_, &byte)| alphabet.get(usize::from(byte & 0x3f) % alphabet.len()))
            .map(|&letter| char::from(letter))
            .collect()
    }

    /// Returns the wall-clock time in milliseconds since the Unix epoch.
    pub fn epoch_millis(&self) -> u64 {
        let since = self
            .wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns the wall-clock time as ISO 8601 in UTC with milliseconds and `Z`, as the documents that
    /// show such time stamps have them (rulings, "time stamps").
    pub fn timestamp(&self) -> String {
        humantime::format_rfc3339_millis(self.wall).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoConnections;

    impl Connections for NoConnections {
        fn rtt(&self, _: ConnectionId) -> Option<Duration> {
            None
        }
    }

    struct FixedId(Uuid);

    impl Ids for FixedId {
        fn uuid(&mut self) -> Uuid {
            self.0
        }
    }

    fn random_string(bytes: [u8; 16], alphabet: &[u8], count: usize) -> String {
        let mut ids = FixedId(Uuid::from_bytes(bytes));
        let wall = SystemTime::UNIX_EPOCH;
        Context::new(
            Duration::ZERO,
            wall,
            &NoConnections,
            &mut ids,
            &mut Vec::new(),
        )
        .random_string(alphabet, count)
    }

    #[test]
    fn only_the_random_bits_of_a_uuid_decide_the_characters() {
        // The fixed bits of a random UUID (RFC 9562 section 5.4) change nothing.
        let mut bytes = [0; 16];
        let without = random_string(bytes, b"ab", 15);
        assert_eq!(without, "a".repeat(15));
        bytes[6] = 0x40;
        bytes[8] = 0x80;
        assert_eq!(random_string(bytes, b"ab", 15), without);
    }

    #[test]
    fn every_character_of_an_alphabet_of_32_is_used() {
        let alphabet = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let all: String = (0..32)
            .map(|bits| random_string([bits; 16], alphabet, 1))
            .collect();
        assert_eq!(all.as_bytes(), alphabet);
    }

    #[test]
    fn time_is_formatted_as_in_the_documents() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(1_768_557_600_007);
        let (mut ids, mut effects) = (FixedId(Uuid::nil()), Vec::new());
        let cx = Context::new(Duration::ZERO, wall, &NoConnections, &mut ids, &mut effects);
        assert_eq!(cx.timestamp(), "2026-01-16T10:00:00.007Z");
        assert_eq!(cx.epoch_millis(), 1_768_557_600_007);
    }
}
