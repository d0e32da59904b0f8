//! Who is still there (rulings, "liveness"): a decision made once a second for each connection.

use super::connections::{Connection, Probe};
use super::outbox::{End, Ping};
use super::{Broker, Moment};
use crate::base::close::Ending;
use crate::realm::ConnectionId;
use std::time::Duration;

/// How long silence may last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
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
    Silent,
}

/// Judges a connection that was last heard at `heard`, and sent a Ping at `pinged` that it has
/// not been seen to answer. All times since the daemon started, to the second.
fn judge(now: Duration, heard: Duration, pinged: Option<Duration>, patience: Patience) -> Verdict {
    match pinged.filter(|&pinged| heard < pinged) {
        Some(pinged) if now >= pinged + patience.pong_timeout => Verdict::Silent,
        Some(_) => Verdict::Wait,
        None if patience.ping_after.is_zero() || now < heard + patience.ping_after => {
            Verdict::Alive
        }
        None => Verdict::Ping,
    }
}

impl Broker {
    /// Sends Pings that are due, drops connections that are silent, and returns the answers to
    /// probes whose time is up.
    pub(super) fn check_connections(&mut self, moment: Moment) -> Vec<(ConnectionId, bool)> {
        let mut silent = Vec::new();
        let mut probed = Vec::new();
        for (&who, connection) in &mut self.connections {
            if connection.held > 0 && !connection.pulse.is_blocked() {
                // Nobody listens to it, so its silence means nothing.
                connection.pinged = None;
                continue;
            }
            let Some(host) = self.hosts.get(connection.listener) else {
                continue;
            };
            connection.measure(moment, host.patience, &mut self.wakers);
            let heard = connection.pulse.heard();
            if let Some(probe) = connection.probe.take_if(|probe| moment.now >= probe.until) {
                // What was heard in the second of the question may have come before it.
                probed.push((who, heard > probe.asked));
            }
            match judge(moment.seconds(), heard, connection.pinged, host.patience) {
                Verdict::Alive => connection.pinged = None,
                Verdict::Wait => {}
                Verdict::Ping => {
                    connection.pinged = Some(moment.seconds());
                    connection.outbox.ping(Ping::Silence, &mut self.wakers);
                }
                Verdict::Silent => {
                    connection.outbox.end(End::Drop, &mut self.wakers);
                    silent.push(who);
                }
            }
        }
        silent
            .into_iter()
            .for_each(|who| self.mark_closing(who, Ending::Silent));
        probed
    }

    pub(super) fn alive(&mut self, moment: Moment, who: ConnectionId) -> usize {
        let connection = self.connections.get_mut(&who);
        // Its time may have been up just before.
        if connection.is_some_and(|connection| connection.probe.take().is_some()) {
            self.probed(moment, who, true)
        } else {
            1
        }
    }

    /// Tells a realm what became of its question, unless the connection is gone meanwhile.
    pub(super) fn probed(&mut self, moment: Moment, who: ConnectionId, alive: bool) -> usize {
        match self.connections.get(&who) {
            Some(&Connection {
                closing: false,
                listener,
                ..
            }) => self.enter(moment, listener, None, |realm, cx| {
                realm.probed(cx, who, alive);
            }),
            _ => 1,
        }
    }

    pub(super) fn probe(&mut self, moment: Moment, who: ConnectionId, patience: Duration) {
        let connection = self.connections.get_mut(&who);
        if let Some(connection) = connection.filter(|it| !it.closing && it.probe.is_none()) {
            connection.probe = Some(Probe {
                asked: moment.seconds(),
                until: moment.now + patience,
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

    const PATIENCE: Patience = Patience {
        ping_after: s(15),
        pong_timeout: s(5),
        ping_every: s(0),
    };

    #[test]
    fn who_has_been_heard_lately_is_left_alone() {
        assert_eq!(judge(s(114), s(100), None, PATIENCE), Verdict::Alive);
        assert_eq!(
            judge(s(130), s(116), Some(s(115)), PATIENCE),
            Verdict::Alive
        );
    }

    #[test]
    fn silence_of_15_seconds_is_answered_with_a_ping() {
        assert_eq!(judge(s(115), s(100), None, PATIENCE), Verdict::Ping);
        assert_eq!(judge(s(131), s(116), Some(s(115)), PATIENCE), Verdict::Ping);
    }

    #[test]
    fn nothing_within_another_5_seconds_is_the_end() {
        assert_eq!(judge(s(119), s(100), Some(s(115)), PATIENCE), Verdict::Wait);
        assert_eq!(
            judge(s(120), s(100), Some(s(115)), PATIENCE),
            Verdict::Silent
        );
    }

    #[test]
    fn a_sign_of_life_in_the_second_of_the_ping_counts() {
        assert_eq!(
            judge(s(120), s(115), Some(s(115)), PATIENCE),
            Verdict::Alive
        );
    }

    #[test]
    fn without_a_limit_nobody_is_asked() {
        let never = Patience {
            ping_after: s(0),
            ..PATIENCE
        };
        assert_eq!(judge(s(1_000_000), s(0), None, never), Verdict::Alive);
    }
}
