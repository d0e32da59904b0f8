//! Full outboxes: slow clients, paused senders, and what a realm is told of a delivery.

use super::harness::{Action, BrokerHarness, MockRealm, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::outbox::Directives;
use crate::broker::{CloseOrder, Event};
use crate::realm::ConnectionId;
use crate::realm::SlowConsumerPolicy::{Backpressure, Disconnect};
use std::collections::VecDeque;
use std::task::{Context, Waker};

const TOO_SLOW: Option<CloseOrder> = Some(CloseOrder::Graceful(CloseReason::TOO_SLOW));

#[test]
fn initial_frames_and_a_large_message_leave_capacity_for_more() {
    let realm = MockRealm::sending_at_open();
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let (recipient, _sender) = (harness.connect(1), harness.connect(2));
    harness.block_writes(1);
    harness.command(2, vec![send(1, "sent by the server")]);
    assert_eq!(drain(&recipient).directives.close, None);
    // The same with a message larger than the whole outbox.
    let large = Action::Deliver(1, "x".repeat(1000));
    harness.command(2, vec![large, send(1, "sent by the server")]);
    assert_eq!(drain(&recipient).directives.close, None);
}

#[test]
fn a_slow_client_is_closed_and_no_other() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (slow, fast) = (harness.connect(1), harness.connect(2));
    harness.block_writes(1);
    for _ in 0..3 {
        harness.command(2, vec![send(1, &"x".repeat(60)), send(2, "x")]);
        drain(&fast);
    }
    assert_eq!(drain(&slow).directives.close, TOO_SLOW);
    assert_eq!(drain(&fast).directives, Directives::default());
}

#[test]
fn a_client_whose_task_was_not_scheduled_is_not_slow_and_the_sender_is_paused() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (recipient, sender) = (harness.connect(1), harness.connect(2));
    harness.command(2, vec![send(1, &"x".repeat(60)), send(1, "one too many")]);
    assert!(drain(&sender).directives.pause_reading);
    let drained = drain(&recipient);
    assert_eq!(drained.texts.len(), 2);
    assert!(drained.directives.notify);
    assert_eq!(drained.directives.close, None);
    harness.handle(Event::OutboxDrained(ConnectionId(1)));
    assert!(!drain(&sender).directives.pause_reading);
}

#[test]
fn a_sender_is_paused_until_the_last_of_its_recipients_has_drained() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (_first, _second, sender) = (harness.connect(1), harness.connect(2), harness.connect(3));
    let text = "x".repeat(60);
    let actions = [1, 2, 1, 2].map(|recipient| send(recipient, &text));
    harness.command(3, actions.into());
    harness.handle(Event::OutboxDrained(ConnectionId(1)));
    assert!(drain(&sender).directives.pause_reading);
    harness.handle(Event::OutboxDrained(ConnectionId(2)));
    assert!(!drain(&sender).directives.pause_reading);
}

#[test]
fn a_client_whose_task_is_not_scheduled_is_closed_at_the_hard_limit() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (recipient, _sender) = (harness.connect(1), harness.connect(2));
    for _ in 0..10 {
        harness.command(2, vec![send(1, &"x".repeat(60))]);
    }
    let mut cx = Context::from_waker(Waker::noop());
    let directives = recipient.take(&mut cx, &mut VecDeque::new());
    assert_eq!(directives.close, TOO_SLOW);
}

#[test]
fn with_backpressure_a_sender_is_paused_until_the_outbox_has_capacity() {
    let mut harness = BrokerHarness::new(Backpressure);
    let (sender, recipient) = (harness.connect(1), harness.connect(2));
    harness.command(1, vec![send(2, &"x".repeat(60))]);
    assert!(!drain(&sender).directives.pause_reading);
    harness.command(1, vec![send(2, "one too many, but not lost")]);
    assert!(drain(&sender).directives.pause_reading);
    assert_eq!(drain(&recipient).texts.len(), 2);
    harness.handle(Event::OutboxDrained(ConnectionId(2)));
    assert!(!drain(&sender).directives.pause_reading);
}

#[test]
fn a_paused_sender_is_resumed_when_the_recipient_disconnects_or_is_closed() {
    for is_closed in [false, true] {
        let mut harness = BrokerHarness::new(Backpressure);
        let (sender, _recipient, _third) =
            (harness.connect(1), harness.connect(2), harness.connect(3));
        harness.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
        assert!(drain(&sender).directives.pause_reading);
        if is_closed {
            harness.command(3, vec![Action::Close(2, CloseReason::GOODBYE)]);
        } else {
            harness.disconnect(2, DisconnectReason::Lost);
        }
        let is_paused = drain(&sender).directives.pause_reading;
        assert!(!is_paused, "closed by the realm: {is_closed}");
    }
}

#[test]
fn a_realm_is_told_whether_a_frame_is_delivered() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (sender, recipient) = (harness.connect(1), harness.connect(2));
    harness.command(1, vec![Action::Deliver(2, "x".repeat(60))]);
    assert_eq!(drain(&sender).texts, ["ok"]);
    harness.command(1, vec![Action::Deliver(7, "no such connection".to_owned())]);
    assert_eq!(drain(&sender).texts, ["failed"]);
    harness.command(1, vec![Action::Close(2, CloseReason::TIMED_OUT)]);
    harness.command(1, vec![Action::Deliver(2, "late".to_owned())]);
    assert_eq!(drain(&sender).texts, ["failed"]);
    assert_eq!(drain(&recipient).texts.len(), 1);
}

#[test]
fn delivered_frames_fill_half_of_a_slow_clients_outbox_and_do_not_close_it() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (sender, recipient) = (harness.connect(1), harness.connect(2));
    harness.block_writes(2);
    for receipt in ["ok", "failed", "failed"] {
        harness.command(1, vec![Action::Deliver(2, "x".repeat(20))]);
        assert_eq!(drain(&sender).texts, [receipt]);
    }
    // The other half is for the realm's own frames.
    harness.command(1, vec![send(2, &"y".repeat(20))]);
    let drained = drain(&recipient);
    assert_eq!(drained.texts.len(), 2);
    assert_eq!(drained.directives.close, None);
}

#[test]
fn a_frame_for_which_a_realm_was_told_that_there_is_capacity_closes_nothing() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (_sender, recipient) = (harness.connect(1), harness.connect(2));
    harness.block_writes(2);
    for _ in 0..3 {
        harness.command(1, vec![Action::SendIfDeliverable(2, "x".repeat(20))]);
    }
    harness.command(
        1,
        vec![Action::SendIfDeliverable(
            7,
            "no such connection".to_owned(),
        )],
    );
    let drained = drain(&recipient);
    assert_eq!((drained.texts.len(), drained.directives.close), (1, None));
    let too_large = vec![Action::SendIfDeliverable(2, "x".repeat(1000))];
    harness.command(1, too_large);
    assert_eq!(
        drain(&recipient).texts.len(),
        1,
        "a frame always fits an empty outbox"
    );
}

#[test]
fn a_frame_is_delivered_to_a_client_whose_task_was_not_scheduled_and_the_sender_is_paused() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (sender, recipient) = (harness.connect(1), harness.connect(2));
    let deliver = || vec![Action::Deliver(2, "x".repeat(60))];
    harness.command(1, deliver());
    assert!(!drain(&sender).directives.pause_reading);
    harness.command(1, deliver());
    let drained = drain(&sender);
    assert_eq!(drained.texts, ["ok"]);
    assert!(drained.directives.pause_reading);
    assert_eq!(drain(&recipient).texts.len(), 2);
}

#[test]
fn a_frame_that_a_realm_was_told_is_delivered_is_queued_whatever_has_filled_the_outbox_since() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (sender, recipient) = (harness.connect(1), harness.connect(2));
    harness.block_writes(2);
    let fills_half = send(2, &"x".repeat(20));
    let deliver = Action::Deliver(2, "x".repeat(20));
    harness.command(1, vec![fills_half, deliver]);
    let drained = drain(&sender);
    assert_eq!(drained.texts, ["ok"]);
    assert!(drained.directives.pause_reading);
    let drained = drain(&recipient);
    assert_eq!((drained.texts.len(), drained.directives.close), (2, None));
}

#[test]
fn a_frame_without_a_sender_does_not_close_a_client_whose_task_was_not_scheduled() {
    let mut harness = BrokerHarness::new(Disconnect);
    let recipient = harness.connect(1);
    harness.command(1, vec![send(1, &"x".repeat(60))]);
    // What a realm sends at a stop has no sender that could be paused.
    harness.handle(Event::Stop);
    let drained = drain(&recipient);
    assert_eq!(drained.texts.len(), 2);
    assert_eq!(
        drained.directives.close,
        Some(CloseOrder::Graceful(CloseReason::SHUTTING_DOWN))
    );
}
