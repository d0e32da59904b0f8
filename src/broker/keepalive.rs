//! Who is still there (rulings, "liveness"): a decision made once a second for each connection.

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
pub(crate) fn judge(
    now: Duration,
    heard: Duration,
    pinged: Option<Duration>,
    patience: Patience,
) -> Verdict {
    match pinged.filter(|&pinged| heard < pinged) {
        Some(pinged) if now >= pinged + patience.pong_timeout => Verdict::Silent,
        Some(_) => Verdict::Wait,
        None if patience.ping_after.is_zero() || now < heard + patience.ping_after => {
            Verdict::Alive
        }
        None => Verdict::Ping,
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
