//! Pings, silence and probes.

use super::harness::{Action, BrokerHarness, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::outbox::{Directives, OutboxReceiver};
use crate::broker::{CloseOrder, Event, PingReason};
use crate::realm::ConnectionId;
use crate::realm::SlowConsumerPolicy::{Backpressure, Disconnect};
use std::time::Duration;

/// A broker in which connection 1 is paused because the outbox of connection 2 is full.
fn with_a_paused_client() -> (BrokerHarness, [OutboxReceiver; 2]) {
    let mut harness = BrokerHarness::new(Backpressure);
    let receivers = [harness.connect(1), harness.connect(2)];
    harness.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
    (harness, receivers)
}

#[test]
fn a_silent_client_is_sent_a_ping_and_then_dropped() {
    let mut harness = BrokerHarness::new(Disconnect);
    let silent = harness.connect(1);
    harness.take_log();
    harness.tick_at(15);
    assert_eq!(drain(&silent).directives.ping, Some(PingReason::Silence));
    harness.tick_at(19);
    assert_eq!(drain(&silent).directives, Directives::default());
    harness.tick_at(20);
    assert_eq!(drain(&silent).directives.close, Some(CloseOrder::Abort));
    assert_eq!(
        harness.take_log(),
        ["tick", "tick", "close 1 silent", "tick"]
    );
}

#[test]
fn the_time_for_a_pong_grows_by_a_second_for_each_2_kib_sent_since_the_last_sign_of_life() {
    // (KiB sent before the Ping, second at which the client is dropped)
    for (sent, dropped_at) in [
        (1, 20),
        (2, 21),
        (60, 50),
        (228, 134),
        (230, 135),
        (1 << 20, 135),
    ] {
        let mut harness = BrokerHarness::new(Disconnect);
        let silent = harness.connect(1);
        harness.status(1).record_written(sent << 10);
        harness.tick_at(15);
        assert_eq!(drain(&silent).directives.ping, Some(PingReason::Silence));
        // What is sent after the Ping does not delay the answer to it.
        harness.status(1).record_written(1 << 20);
        harness.tick_at(dropped_at - 1);
        assert_eq!(drain(&silent).directives.close, None, "{sent} KiB");
        harness.tick_at(dropped_at);
        let close = drain(&silent).directives.close;
        assert_eq!(close, Some(CloseOrder::Abort), "{sent} KiB");
    }
}

#[test]
fn a_client_whose_socket_takes_bytes_is_not_silent() {
    let mut harness = BrokerHarness::new(Disconnect);
    let slow = harness.connect(1);
    for second in (0..100).step_by(14) {
        harness.block_writes(1);
        harness.status(1).set_writable();
        harness.status(1).set_last_activity(second);
        harness.tick_at(u64::from(second) + 14);
        assert_eq!(drain(&slow).directives, Directives::default());
    }
}

#[test]
fn the_time_for_a_probe_grows_to_15_seconds_at_most() {
    // (KiB sent before the probe, second at which its result is known)
    for (sent, known_at) in [(0, 5), (2, 6), (18, 14), (20, 15), (1 << 20, 15)] {
        let mut harness = BrokerHarness::new(Disconnect);
        let _receivers = [harness.connect(1), harness.connect(2)];
        harness.status(1).record_written(sent << 10);
        harness.command(2, vec![Action::Probe(1)]);
        harness.take_log();
        harness.tick_at(known_at - 1);
        assert_eq!(harness.take_log(), ["tick"], "{sent} KiB");
        harness.tick_at(known_at);
        assert_eq!(
            harness.take_log(),
            ["probe_result 1 false", "tick"],
            "{sent} KiB"
        );
    }
}

#[test]
fn time_in_which_a_client_is_not_read_is_no_silence() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (unread, _other) = (harness.connect(1), harness.connect(2));
    harness.command(2, vec![Action::Probe(1)]);
    drain(&unread);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.take_log();
    harness.status(1).set_unread(true);
    // Longer than a client may be silent, and longer than it has to answer the probe.
    for second in [10, 20, 30] {
        harness.tick_at(second);
        assert_eq!(drain(&unread).directives, Directives::default());
    }
    harness.status(1).set_unread(false);
    harness.tick_at(34);
    assert_eq!(harness.take_log(), ["tick"; 4]);
    // Since second 30 it is read, and silent.
    harness.tick_at(35);
    assert_eq!(harness.take_log(), ["probe_result 1 false", "tick"]);
    harness.tick_at(44);
    assert_eq!(drain(&unread).directives.ping, None);
    harness.tick_at(45);
    assert_eq!(drain(&unread).directives.ping, Some(PingReason::Silence));
    harness.tick_at(50);
    assert_eq!(drain(&unread).directives.close, Some(CloseOrder::Abort));
}

#[test]
fn a_probe_that_was_sent_to_a_paused_client_is_not_answered_by_the_end_of_the_pause() {
    let (mut harness, _receivers) = with_a_paused_client();
    let _third = harness.connect(3);
    harness.command(3, vec![Action::Probe(1)]);
    harness.take_log();
    harness.tick_at(10);
    harness.handle(Event::OutboxDrained(ConnectionId(2)));
    harness.tick_at(14);
    assert_eq!(harness.take_log(), ["tick", "tick"]);
    harness.tick_at(15);
    assert_eq!(harness.take_log(), ["probe_result 1 false", "tick"]);
}

#[test]
fn a_paused_client_is_not_silent() {
    let (mut harness, [paused, _recipient]) = with_a_paused_client();
    // At second 20 the recipient, which is silent, too, would be dropped.
    for second in [15, 19] {
        harness.tick_at(second);
        let directives = drain(&paused).directives;
        assert_eq!(directives.ping, None, "second {second}");
        assert_ne!(directives.close, Some(CloseOrder::Abort), "second {second}");
    }
}

#[test]
fn a_paused_client_that_accepts_no_bytes_is_dropped() {
    let (mut harness, [paused, _recipient]) = with_a_paused_client();
    harness.block_writes(1);
    harness.tick_at(15);
    harness.tick_at(20);
    assert_eq!(drain(&paused).directives.close, Some(CloseOrder::Abort));
}

#[test]
fn a_probed_client_that_answers_is_alive() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (probed, _other) = (harness.connect(1), harness.connect(2));
    harness.command(2, vec![Action::Probe(1)]);
    assert_eq!(drain(&probed).directives.ping, Some(PingReason::Probe));
    harness.command(2, vec![Action::Probe(1)]);
    assert_eq!(drain(&probed).directives.ping, None, "one probe at a time");
    harness.take_log();
    for _ in 0..2 {
        harness.handle(Event::ProbeAnswered(ConnectionId(1)));
    }
    assert_eq!(harness.take_log(), ["probe_result 1 true"]);
}

#[test]
fn a_probed_client_that_does_not_answer_in_time_is_not_alive() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receivers = [harness.connect(1), harness.connect(2)];
    harness.now = Duration::from_millis(2500);
    harness.command(2, vec![Action::Probe(1)]);
    harness.take_log();
    harness.now = Duration::from_millis(7499);
    harness.handle(Event::Tick);
    assert_eq!(harness.take_log(), ["tick"]);
    harness.now = Duration::from_millis(7500);
    harness.handle(Event::Tick);
    assert_eq!(harness.take_log(), ["probe_result 1 false", "tick"]);
    harness.handle(Event::ProbeAnswered(ConnectionId(1)));
    assert_eq!(harness.take_log(), [""; 0]);
}

#[test]
fn activity_without_a_message_answers_a_probe_unless_it_may_be_older() {
    for (activity_second, alive) in [(1, false), (2, false), (3, true)] {
        let mut harness = BrokerHarness::new(Disconnect);
        let _receivers = [harness.connect(1), harness.connect(2)];
        harness.now = Duration::from_millis(2500);
        harness.command(2, vec![Action::Probe(1)]);
        harness.status(1).set_last_activity(activity_second);
        harness.take_log();
        harness.now = Duration::from_millis(7500);
        harness.handle(Event::Tick);
        assert_eq!(
            harness.take_log(),
            [format!("probe_result 1 {alive}"), "tick".to_owned()]
        );
    }
}

#[test]
fn a_probe_of_a_client_that_disconnects_or_is_closed_has_no_result() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receivers: Vec<_> = (1..=3).map(|conn| harness.connect(conn)).collect();
    let no_such_connection = 9;
    harness.command(
        3,
        vec![
            Action::Probe(1),
            Action::Probe(2),
            Action::Probe(no_such_connection),
        ],
    );
    harness.take_log();
    harness.disconnect(1, DisconnectReason::Lost);
    harness.command(3, vec![Action::Close(2, CloseReason::TIMED_OUT)]);
    harness.handle(Event::ProbeAnswered(ConnectionId(2)));
    harness.tick_at(5);
    assert_eq!(
        harness.take_log(),
        ["close 1 lost", "command 3", "close 2 timed out", "tick"]
    );
}

#[test]
fn round_trips_are_measured_at_the_start_and_then_every_5_seconds() {
    let mut harness = BrokerHarness::new(Disconnect);
    harness.checks().keepalive.ping_every = Duration::from_secs(5);
    let receiver = harness.connect(1);
    let mut pings = vec![(0, drain(&receiver).directives.ping)];
    for second in 1..=11 {
        harness.tick_at(second);
        pings.push((second, drain(&receiver).directives.ping));
    }
    let measured_at: Vec<u64> = pings
        .into_iter()
        .filter(|(_, ping)| *ping == Some(PingReason::MeasureRtt))
        .map(|(second, _)| second)
        .collect();
    assert_eq!(measured_at, [0, 5, 10]);
}
