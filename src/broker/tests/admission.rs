//! Deferred opens: handshakes that wait for their realm's decision.

use super::harness::{Action, BrokerHarness, MockRealm, REJECTION, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::outbox::OutboxReceiver;
use crate::broker::{CloseOrder, Event};
use crate::realm::Rejection;
use crate::realm::SlowConsumerPolicy::Disconnect;
use futures::channel::oneshot;

type Reply = oneshot::Receiver<Result<(), Rejection>>;

/// A broker with connection 1, and connection 2, whose open is deferred.
fn harness() -> (BrokerHarness, OutboxReceiver, OutboxReceiver, Reply) {
    let mut harness = BrokerHarness::with_realm(Disconnect, MockRealm::deferring(&[2]));
    let first = harness.connect(1);
    let (second, mut reply) = harness.start_open(2);
    assert_eq!(reply.try_recv(), Ok(None), "the handshake waits");
    harness.take_log();
    (harness, first, second, reply)
}

#[test]
fn a_deferred_open_that_is_admitted_is_followed_by_one_close() {
    let (mut harness, _first, second, mut reply) = harness();
    let mut actions = vec![send(2, &"x".repeat(60)); 3];
    actions.push(Action::Admit(2));
    harness.command(1, actions);
    assert_eq!(reply.try_recv(), Ok(Some(Ok(()))));
    let drained = drain(&second);
    assert_eq!(drained.texts.len(), 3, "they count as frames of the open");
    assert!(!drained.directives.pause_reading);
    harness.command(2, vec![Action::Admit(2), Action::Reject(2)]);
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        harness.take_log(),
        ["command 1", "command 2", "close 2 lost"]
    );
}

#[test]
fn a_deferred_open_that_is_rejected_is_followed_by_no_close() {
    let (mut harness, _first, _second, mut reply) = harness();
    harness.command(
        1,
        vec![Action::Reject(2), send(2, "nobody"), Action::Admit(2)],
    );
    assert_eq!(reply.try_recv(), Ok(Some(Err(REJECTION))));
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(harness.take_log(), ["command 1"]);
}

#[test]
fn a_client_that_disconnects_before_the_decision_is_closed_once() {
    let (mut harness, _first, _second, _reply) = harness();
    harness.disconnect(2, DisconnectReason::Lost);
    harness.command(1, vec![Action::Admit(2), Action::Reject(2)]);
    assert_eq!(harness.take_log(), ["close 2 lost", "command 1"]);
}

#[test]
fn a_deferred_open_that_is_closed_completes_its_handshake_first() {
    let (mut harness, _first, second, mut reply) = harness();
    harness.command(1, vec![Action::Close(2, CloseReason::GOODBYE)]);
    assert_eq!(reply.try_recv(), Ok(Some(Ok(()))));
    let close = Some(CloseOrder::Graceful(CloseReason::GOODBYE));
    assert_eq!(drain(&second).directives.close, close);
    assert_eq!(harness.take_log(), ["command 1", "close 2 goodbye"]);
}

#[test]
fn the_silence_of_a_client_whose_open_is_deferred_does_not_count() {
    let (mut harness, _first, second, mut reply) = harness();
    // It would be sent a Ping after 15 s, and be dropped after 20 s.
    for second in 1..=29 {
        harness.status(1).set_last_activity(second as u32);
        harness.tick_at(second);
    }
    assert_eq!(reply.try_recv(), Ok(None));
    harness.command(1, vec![Action::Admit(2)]);
    harness.status(2).set_last_activity(29);
    (30..=43).for_each(|second| harness.tick_at(second));
    assert_eq!(drain(&second).directives, Default::default());
}

#[test]
fn a_realm_that_never_decides_has_30_s() {
    let (mut harness, _first, _second, mut reply) = harness();
    harness.tick_at(29);
    assert_eq!(reply.try_recv(), Ok(None));
    harness.tick_at(30);
    let rejection = reply.try_recv().unwrap().unwrap().unwrap_err();
    assert_eq!(rejection.status, 503);
    let log = harness.take_log();
    assert_eq!(
        log.iter()
            .filter(|line| line.starts_with("close 2"))
            .count(),
        1
    );
}

#[test]
fn a_stop_ends_the_wait() {
    let (mut harness, _first, _second, mut reply) = harness();
    harness.handle(Event::Stop);
    assert_eq!(reply.try_recv(), Err(oneshot::Canceled));
    assert_eq!(harness.take_log(), ["stop"]);
}
