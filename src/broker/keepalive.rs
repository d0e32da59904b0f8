//! Who is still there (rulings, "liveness"): a decision made once a second for each connection.

use super::connections::{Connection, Probe};
use super::outbox::{CloseOrder, Ping};
use super::{Broker, Now};
use crate::base::close::DisconnectReason;
use crate::realm::ConnectionId;
use std::time::Duration;

/// How long silence may last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepaliveConfig {
    /// A Ping is sent after this long; 0: never.
    pub(crate) ping_after: Duration,
    /// And this much later the connection is dropped.
    pub(crate) pong_timeout: Duration,
    /// Besides, a Ping is sent this often to measure the round trip; 0: never.
    pub(crate) ping_every: Duration,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing; it has been heard since the last Ping.
    Alive,
    /// Send a Ping.
    Ping,
    /// Nothing yet; a Ping is on its way.
    Wait,
    /// Drop it.
    TimedOut,
}

/// Judges a connection that was last heard at `heard`, and sent a Ping at `pinged` that it has
/// not been seen to answer. All times since the daemon started, to the second.
fn check(
    now: Duration,
    heard: Duration,
    pinged: Option<Duration>,
    config: KeepaliveConfig,
) -> Verdict {
    match pinged.filter(|&pinged| heard < pinged) {
        Some(pinged) if now >= pinged + config.pong_timeout => Verdict::TimedOut,
        Some(_) => Verdict::Wait,
        None if config.ping_after.is_zero() || now < heard + config.ping_after => Verdict::Alive,
        None => Verdict::Ping,
    }
}

impl Broker {
    /// Sends Pings that are due, drops connections that are silent, and returns the answers to
    /// probes whose time is up.
    pub(super) fn check_connections(&mut self, now: Now) -> Vec<(ConnectionId, bool)> {
        let mut silent = Vec::new();
        let mut probe_result = Vec::new();
        for (&conn, connection) in &mut self.connections {
            if connection.paused_by > 0 && !connection.status.is_blocked() {
                // Nobody listens to it, so its silence means nothing.
                connection.pinged = None;
                continue;
            }
            let Some(slot) = self.slots.get(connection.listener) else {
                continue;
            };
            connection.measure(now, slot.keepalive, &mut self.wakers);
            let heard = connection.status.last_activity();
            if let Some(probe) = connection
                .probe
                .take_if(|probe| now.monotonic >= probe.until)
            {
                // What was heard in the second of the question may have come before it.
                probe_result.push((conn, heard > probe.asked));
            }
            match check(now.seconds(), heard, connection.pinged, slot.keepalive) {
                Verdict::Alive => connection.pinged = None,
                Verdict::Wait => {}
                Verdict::Ping => {
                    connection.pinged = Some(now.seconds());
                    connection.outbox.ping(Ping::Silence, &mut self.wakers);
                }
                Verdict::TimedOut => {
                    connection.outbox.end(CloseOrder::Abort, &mut self.wakers);
                    silent.push(conn);
                }
            }
        }
        silent
            .into_iter()
            .for_each(|conn| self.mark_closing(conn, DisconnectReason::Silent));
        probe_result
    }

    pub(super) fn alive(&mut self, now: Now, conn: ConnectionId) -> usize {
        let connection = self.connections.get_mut(&conn);
        // Its time may have been up just before.
        if connection.is_some_and(|connection| connection.probe.take().is_some()) {
            self.probe_result(now, conn, true)
        } else {
            1
        }
    }

    /// Tells a realm what became of its question, unless the connection is gone meanwhile.
    pub(super) fn probe_result(&mut self, now: Now, conn: ConnectionId, alive: bool) -> usize {
        match self.connections.get(&conn) {
            Some(&Connection {
                closing: false,
                listener,
                ..
            }) => self.run_realm(now, listener, None, |realm, cx| {
                realm.probe_result(cx, conn, alive);
            }),
            _ => 1,
        }
    }

    pub(super) fn probe(&mut self, now: Now, conn: ConnectionId, patience: Duration) {
        let connection = self.connections.get_mut(&conn);
        if let Some(connection) = connection.filter(|it| !it.closing && it.probe.is_none()) {
            connection.probe = Some(Probe {
                asked: now.seconds(),
                until: now.monotonic + patience,
            });
            connection.outbox.ping(Ping::Probe, &mut self.wakers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const CONFIG: KeepaliveConfig = KeepaliveConfig {
        ping_after: s(15),
        pong_timeout: s(5),
        ping_every: s(0),
    };

    #[test]
    fn who_has_been_heard_lately_is_left_alone() {
        assert_eq!(check(s(114), s(100), None, CONFIG), Verdict::Alive);
        assert_eq!(check(s(130), s(116), Some(s(115)), CONFIG), Verdict::Alive);
    }

    #[test]
    fn silence_of_15_seconds_is_answered_with_a_ping() {
        assert_eq!(check(s(115), s(100), None, CONFIG), Verdict::Ping);
        assert_eq!(check(s(131), s(116), Some(s(115)), CONFIG), Verdict::Ping);
    }

    #[test]
    fn nothing_within_another_5_seconds_is_the_end() {
        assert_eq!(check(s(119), s(100), Some(s(115)), CONFIG), Verdict::Wait);
        assert_eq!(
            check(s(120), s(100), Some(s(115)), CONFIG),
            Verdict::TimedOut
        );
    }

    #[test]
    fn a_sign_of_life_in_the_second_of_the_ping_counts() {
        assert_eq!(check(s(120), s(115), Some(s(115)), CONFIG), Verdict::Alive);
    }

    #[test]
    fn without_a_limit_nobody_is_asked() {
        let never = KeepaliveConfig {
            ping_after: s(0),
            ..CONFIG
        };
        assert_eq!(check(s(1_000_000), s(0), None, never), Verdict::Alive);
    }
}
