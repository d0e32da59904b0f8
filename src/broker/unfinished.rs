//! Messages that have begun and do not end (rulings, "unfinished messages"): thousands of small beginnings would
//! hold memory for ever. `Broker::check_connections` closes their connections.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Bytes of an unfinished message, or its rest, that must come within the `message_timeout`.
pub(crate) const MIN_PROGRESS_BYTES: usize = 1024;

/// How a message that is being received stands after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageProgress {
    /// No message has begun, or it is whole.
    Finished,
    /// A message has begun since the last read.
    Begun,
    /// At least [`MIN_PROGRESS_BYTES`] have come since the last progress.
    Advanced,
    /// Less has come.
    Unchanged,
}

/// No message is unfinished.
const FINISHED: u32 = u32::MAX;

/// When an unfinished message began and when it last made progress. Written by the connection, read by the
/// broker. Both are seconds since the daemon started, or [`FINISHED`].
pub(crate) struct UnfinishedMessage {
    begun: AtomicU32,
    advanced: AtomicU32,
}

impl Default for UnfinishedMessage {
    fn default() -> Self {
        Self {
            begun: AtomicU32::new(FINISHED),
            advanced: AtomicU32::new(FINISHED),
        }
    }
}

impl UnfinishedMessage {
    /// Records how the message stands. `second` returns the current second.
    pub(crate) fn record(&self, progress: MessageProgress, second: impl FnOnce() -> u32) {
        match progress {
            MessageProgress::Finished => {
                self.begun.store(FINISHED, Ordering::Relaxed);
                self.advanced.store(FINISHED, Ordering::Relaxed);
            }
            MessageProgress::Begun => {
                let second = second();
                self.begun.store(second, Ordering::Relaxed);
                self.advanced.store(second, Ordering::Relaxed);
            }
            MessageProgress::Advanced => self.advanced.store(second(), Ordering::Relaxed),
            MessageProgress::Unchanged => {}
        }
    }

    /// Returns the second in which the message began, if one is unfinished.
    pub(crate) fn begun(&self) -> Option<u32> {
        Some(self.begun.load(Ordering::Relaxed)).filter(|&second| second != FINISHED)
    }

    /// Returns whether a message is unfinished and has made no progress for `timeout`. Called once a second. A
    /// second in which received bytes waited unread (`is_held_up`) does not count. Times are rounded down, so one
    /// more whole second must have passed.
    pub(super) fn check(&self, second: Duration, timeout: Duration, is_held_up: bool) -> bool {
        let advanced = self.advanced.load(Ordering::Relaxed);
        if advanced == FINISHED {
            return false;
        }
        if is_held_up {
            // If the connection records progress at the same time, that is later than this.
            let _ = self.advanced.compare_exchange(
                advanced,
                advanced + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            return false;
        }
        second > Duration::from_secs(advanced.into()) + timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::CloseReason;
    use crate::broker::outbox::{CloseOrder, OutboxReceiver};
    use crate::broker::tests::harness::{BrokerHarness, drain};
    use crate::realm::SlowConsumerPolicy;

    /// A broker with one connection, which is read whenever something comes.
    fn harness() -> (BrokerHarness, OutboxReceiver) {
        let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
        harness.checks().keepalive.ping_after = Duration::ZERO;
        let receiver = harness.connect(1);
        harness.status(1).set_readable(false);
        harness.take_log();
        (harness, receiver)
    }

    fn record(harness: &BrokerHarness, second: u32, progress: MessageProgress) {
        let status = harness.status(1);
        status.unfinished.record(progress, || second);
        status.set_last_activity(second);
    }

    /// Ticks once a second until the connection is closed, and returns that second.
    fn closed_at(harness: &mut BrokerHarness, from: u64, until: u64) -> Option<u64> {
        (from..=until).find(|&second| {
            harness.tick_at(second);
            let log = harness.take_log();
            log.iter().any(|line| line == "close 1 unfinished message")
        })
    }

    #[test]
    fn a_message_that_stands_still_for_30_seconds_ends_its_connection() {
        let (mut harness, receiver) = harness();
        record(&harness, 10, MessageProgress::Begun);
        assert_eq!(closed_at(&mut harness, 11, 60), Some(41));
        let close = Some(CloseOrder::Graceful(CloseReason::UNFINISHED_MESSAGE));
        assert_eq!(drain(&receiver).directives.close, close);
    }

    #[test]
    fn a_message_that_advances_or_ends_does_not() {
        let (mut harness, _receiver) = harness();
        record(&harness, 0, MessageProgress::Begun);
        for second in [25, 50] {
            record(&harness, second, MessageProgress::Advanced);
            assert_eq!(
                closed_at(&mut harness, second.into(), u64::from(second) + 25),
                None
            );
        }
        record(&harness, 75, MessageProgress::Finished);
        assert_eq!(closed_at(&mut harness, 76, 500), None);
        record(&harness, 500, MessageProgress::Begun);
        // Less than what counts as progress.
        record(&harness, 520, MessageProgress::Unchanged);
        assert_eq!(closed_at(&mut harness, 521, 600), Some(531));
    }

    #[test]
    fn time_in_which_the_server_does_not_read_does_not_count() {
        let (mut harness, _receiver) = harness();
        record(&harness, 0, MessageProgress::Begun);
        harness.status(1).set_readable(true);
        assert_eq!(closed_at(&mut harness, 1, 100), None);
        harness.status(1).set_readable(false);
        // The first two seconds counted: the connection had been read in them.
        assert_eq!(closed_at(&mut harness, 101, 200), Some(130));
    }

    #[test]
    fn a_connection_that_is_read_all_the_time_has_no_excuse() {
        let (mut harness, _receiver) = harness();
        record(&harness, 0, MessageProgress::Begun);
        harness.status(1).set_readable(true);
        let closed = (1..100).find(|&second| {
            record(&harness, second, MessageProgress::Unchanged);
            closed_at(&mut harness, second.into(), second.into()).is_some()
        });
        assert_eq!(closed, Some(31));
    }

    #[test]
    fn a_pause_is_no_excuse_if_nothing_of_the_message_waits_to_be_read() {
        let (mut harness, _receiver) = harness();
        record(&harness, 0, MessageProgress::Begun);
        harness.status(1).set_unread(true);
        assert_eq!(closed_at(&mut harness, 1, 100), Some(31));
    }

    #[test]
    fn without_a_message_timeout_no_connection_is_closed() {
        let (mut harness, _receiver) = harness();
        harness.checks().message_timeout = Duration::ZERO;
        record(&harness, 0, MessageProgress::Begun);
        assert_eq!(closed_at(&mut harness, 1, 1000), None);
    }
}
