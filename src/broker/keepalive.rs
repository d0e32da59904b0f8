//! Keep-alive (rulings, "liveness"): decides whether to send a Ping to a client or to drop its connection, when
//! `Broker::check_connections` asks once a second; and answers realms that probe a connection.

use super::outbox::PingReason;
use super::socket_status::SocketStatus;
use super::{Broker, Now};
use crate::realm::ConnectionId;
use std::time::Duration;

/// Longest time to answer a keep-alive Ping, unless `pong_timeout` is longer (rulings, "liveness").
pub(crate) const MAX_PONG_TIME: Duration = Duration::from_secs(120);

/// Longest time to answer a probe, unless the realm's timeout is longer: another client waits for it.
const MAX_PROBE_TIME: Duration = Duration::from_secs(15);

/// The times of a listener's keep-alive, from its configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeepaliveConfig {
    /// Silence after which a Ping is sent; 0: never.
    pub(crate) ping_after: Duration,
    /// Time after the Ping in which something must be received, or the connection is dropped; extended by
    /// [`SocketStatus::time_to_answer`](super::SocketStatus::time_to_answer).
    pub(crate) pong_timeout: Duration,
    /// Interval of additional Pings, which measure the round trip; 0: never.
    pub(crate) ping_every: Duration,
}

/// The action that a check of a connection calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: there was activity since the last Ping.
    Alive,
    /// Send a Ping.
    Ping,
    /// Nothing yet: a Ping is unanswered, and its time is not up.
    Wait,
    /// Drop the connection.
    Unresponsive,
}

/// Decides about a connection with the given `last_activity`, or the later time from which its silence
/// counts. `ping` is the unanswered keep-alive Ping, if there is one. All times are on the daemon's clock,
/// rounded down to seconds.
fn check(
    now: Duration,
    last_activity: Duration,
    ping: Option<UnansweredPing>,
    config: KeepaliveConfig,
) -> Verdict {
    match ping.filter(|ping| last_activity < ping.sent_at) {
        Some(ping) if now >= ping.sent_at + ping.timeout => Verdict::Unresponsive,
        Some(_) => Verdict::Wait,
        None if config.ping_after.is_zero() || now < last_activity + config.ping_after => {
            Verdict::Alive
        }
        None => Verdict::Ping,
    }
}

/// What the keep-alive knows of a connection.
pub(super) struct Liveness {
    /// The unanswered keep-alive Ping, if there is one. Activity is noticed by the next check. Boxed, as few connections
    /// have one at a time.
    ping: Option<Box<UnansweredPing>>,
    /// Time at which the server was last found not to read from this connection, rounded down to seconds:
    /// the client's silence is measured from there, if it is later than the last activity.
    read_since: Duration,
    /// Time of the next Ping that measures the round trip, if the listener's `ping_every` is not 0.
    next_rtt_ping: Duration,
    /// A probe of the realm that is not yet answered. Boxed, as few connections have one.
    probe: Option<Box<Probe>>,
}

/// A keep-alive Ping that is not yet answered.
#[derive(Clone, Copy, Debug)]
struct UnansweredPing {
    /// Time at which the Ping was sent, rounded down to seconds.
    sent_at: Duration,
    /// Time in which something must be received.
    timeout: Duration,
}

/// A probe of a connection for its realm: [`Effect::Probe`](crate::realm::Effect::Probe).
#[derive(Clone, Copy)]
struct Probe {
    /// Time at which the Ping was sent, rounded down to seconds.
    sent_at: Duration,
    /// Time in which something must be received. It begins anew while the connection is not read.
    timeout: Duration,
    deadline: Duration,
}

impl Liveness {
    /// Creates the state of a connection that is just opening.
    pub(super) fn new(now: Now) -> Self {
        Self {
            ping: None,
            read_since: now.whole_seconds(),
            next_rtt_ping: now.monotonic,
            probe: None,
        }
    }

    /// Returns the time from which the client's silence is measured, if it is later than the last activity.
    pub(super) fn read_since(&self) -> Duration {
        self.read_since
    }

    /// Restarts all deadlines, because the server is not reading from the client.
    pub(super) fn restart(&mut self, now: Now) {
        self.ping = None;
        self.read_since = now.whole_seconds();
        if let Some(probe) = &mut self.probe {
            probe.deadline = now.monotonic + probe.timeout;
        }
    }

    /// Gives up the Ping at the end of a pause: the client's answer may have arrived in the meantime.
    /// [`Liveness::restart`] has moved the time from which its silence counts.
    pub(super) fn resume(&mut self) {
        self.ping = None;
    }

    /// Returns whether a Ping that measures the round trip is to be sent now. If so, the next one is due after
    /// `ping_every`.
    pub(super) fn take_due_rtt_ping(&mut self, now: Now, config: KeepaliveConfig) -> bool {
        let is_due = !config.ping_every.is_zero() && now.monotonic >= self.next_rtt_ping;
        if is_due {
            self.next_rtt_ping = now.monotonic + config.ping_every;
        }
        is_due
    }

    /// Returns the action that the client's silence calls for.
    pub(super) fn check(
        &mut self,
        now: Now,
        status: &SocketStatus,
        config: KeepaliveConfig,
    ) -> Verdict {
        let second = now.whole_seconds();
        let last_activity = status.last_activity().max(self.read_since);
        let ping = self.ping.as_deref().copied();
        let verdict = check(second, last_activity, ping, config);
        match verdict {
            Verdict::Alive => self.ping = None,
            Verdict::Ping => {
                self.ping = Some(Box::new(UnansweredPing {
                    sent_at: second,
                    timeout: status.time_to_answer(config.pong_timeout, MAX_PONG_TIME),
                }));
            }
            Verdict::Wait | Verdict::Unresponsive => {}
        }
        verdict
    }

    /// Begins a probe, unless one is unanswered. Returns whether a Ping is to be sent for it.
    fn begin_probe(&mut self, now: Now, status: &SocketStatus, timeout: Duration) -> bool {
        if self.probe.is_some() {
            return false;
        }
        let timeout = status.time_to_answer(timeout, MAX_PROBE_TIME);
        self.probe = Some(Box::new(Probe {
            sent_at: now.whole_seconds(),
            timeout,
            deadline: now.monotonic + timeout,
        }));
        true
    }

    /// Takes the probe if its time is up, and returns whether the client is alive.
    pub(super) fn take_probe_result(&mut self, now: Now, status: &SocketStatus) -> Option<bool> {
        let is_over = |probe: &mut Box<Probe>| now.monotonic >= probe.deadline;
        let probe = self.probe.take_if(is_over)?;
        // Both times are whole seconds: activity in the same second may precede the probe, so it does not count.
        Some(status.last_activity() > probe.sent_at)
    }
}

impl Broker {
    /// Handles the first message after a probe, which answers it (see
    /// [`Effect::Probe`](crate::realm::Effect)). Returns the units of work.
    pub(super) fn probe_answered(&mut self, now: Now, conn: ConnectionId) -> usize {
        let connection = self.connections.get_mut(&conn);
        // No probe is left if the answer arrives just after the deadline.
        if connection.is_some_and(|it| it.liveness.probe.take().is_some()) {
            self.probe_result(now, conn, true)
        } else {
            1
        }
    }

    /// Reports the result of a probe to its realm, unless the connection is closed by now. Returns the
    /// units of work.
    pub(super) fn probe_result(&mut self, now: Now, conn: ConnectionId, alive: bool) -> usize {
        let Some(connection) = self.connections.get(&conn).filter(|it| !it.closing) else {
            return 1;
        };
        let listener_index = connection.listener_index;
        self.run_realm(now, listener_index, None, |realm, cx| {
            realm.probe_result(cx, conn, alive);
        })
    }

    /// Sends a probe to a client that must be answered within `timeout`, which is extended by what is on its
    /// way before it, unless one is already unanswered.
    pub(super) fn probe(&mut self, now: Now, conn: ConnectionId, timeout: Duration) {
        let connection = self.connections.get_mut(&conn);
        let Some(connection) = connection.filter(|it| !it.closing) else {
            return;
        };
        let status = &connection.status;
        if connection.liveness.begin_probe(now, status, timeout) {
            connection.outbox.ping(PingReason::Probe, &mut self.wakeups);
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

    /// A Ping at second 115 that must be answered within 5 s.
    const PING: Option<UnansweredPing> = Some(UnansweredPing {
        sent_at: s(115),
        timeout: s(5),
    });

    #[test]
    fn a_client_with_recent_activity_is_alive() {
        assert_eq!(check(s(114), s(100), None, CONFIG), Verdict::Alive);
        assert_eq!(check(s(130), s(116), PING, CONFIG), Verdict::Alive);
    }

    #[test]
    fn a_ping_is_sent_after_15_seconds_of_silence() {
        assert_eq!(check(s(115), s(100), None, CONFIG), Verdict::Ping);
        assert_eq!(check(s(131), s(116), PING, CONFIG), Verdict::Ping);
    }

    #[test]
    fn a_ping_that_is_unanswered_for_5_seconds_is_a_timeout() {
        assert_eq!(check(s(119), s(100), PING, CONFIG), Verdict::Wait);
        assert_eq!(check(s(120), s(100), PING, CONFIG), Verdict::Unresponsive);
    }

    #[test]
    fn activity_in_the_second_of_the_ping_answers_it() {
        assert_eq!(check(s(120), s(115), PING, CONFIG), Verdict::Alive);
    }

    #[test]
    fn no_ping_is_sent_if_ping_after_is_0() {
        let never = KeepaliveConfig {
            ping_after: s(0),
            ..CONFIG
        };
        assert_eq!(check(s(1_000_000), s(0), None, never), Verdict::Alive);
    }
}
