//! The Pings to a client, and what its next message tells: that it is there, and how long a round trip takes.

use crate::base::frame::Frame;
use crate::broker::PingReason;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The Pings of one connection that are not answered yet.
#[derive(Default)]
pub(super) struct Pings {
    /// The last Ping, if it is unanswered: its payload, which a client cannot guess, and the time at which it
    /// was sent.
    last: Option<(Uuid, Instant)>,
    /// The client was probed, and has sent nothing since.
    is_probed: bool,
}

impl Pings {
    /// Returns a new Ping, which replaces the last one as the Ping that measures the round trip. A Ping for a probe
    /// also starts waiting for the next message.
    pub(super) fn ping(&mut self, reason: PingReason) -> Frame {
        let payload = Uuid::new_v4();
        self.last = Some((payload, Instant::now()));
        self.is_probed |= reason == PingReason::Probe;
        Frame::ping(payload.as_bytes())
    }

    /// Records a message of the client. Returns whether it answers a probe.
    #[must_use]
    pub(super) fn record_message(&mut self) -> bool {
        std::mem::take(&mut self.is_probed)
    }

    /// Returns the round trip, if a Pong with this payload answers the last Ping. A client may answer the last of
    /// several Pings only (RFC 6455 section 5.5.3).
    pub(super) fn round_trip(&mut self, payload: &[u8]) -> Option<Duration> {
        let is_last = |(sent, _): &mut (Uuid, Instant)| payload == sent.as_bytes();
        let (_, sent_at) = self.last.take_if(is_last)?;
        Some(sent_at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The payload of an encoded Ping.
    fn payload(ping: &Frame) -> Vec<u8> {
        let bytes: Vec<u8> = ping.pieces(0).flatten().copied().collect();
        bytes[2..].to_vec()
    }

    #[test]
    fn the_first_pong_to_the_last_ping_measures_the_round_trip() {
        let mut pings = Pings::default();
        let [earlier, last] = [(); 2].map(|()| payload(&pings.ping(PingReason::MeasureRtt)));
        assert_eq!(pings.round_trip(&earlier), None);
        assert_eq!(pings.round_trip(b""), None);
        assert!(pings.round_trip(&last).is_some());
        assert_eq!(pings.round_trip(&last), None);
    }

    #[test]
    fn a_message_answers_a_probe_once() {
        let mut pings = Pings::default();
        pings.ping(PingReason::MeasureRtt);
        pings.ping(PingReason::Silence);
        assert!(!pings.record_message());
        pings.ping(PingReason::Probe);
        assert!(pings.record_message());
        assert!(!pings.record_message());
    }
}
