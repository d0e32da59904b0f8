//! Open, commands, requests, close and stop: the promises of [`crate::realm`].

use super::harness::{Action, BrokerHarness, MockRealm, REJECTION, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::broker::{BYTES_PER_UNIT, CloseOrder, Event, HttpEvent, inbox, lane};
use crate::realm::{
    Access, ConnectRequest, ConnectionId, Figures, HttpReply, Method, Request,
    SlowConsumerPolicy::{Backpressure, Disconnect},
};
use futures::channel::oneshot;
use futures::executor::block_on;
use std::collections::VecDeque;
use std::task::{Context, Waker};

const SHUTTING_DOWN: Option<CloseOrder> = Some(CloseOrder::Graceful(CloseReason::SHUTTING_DOWN));

#[test]
fn each_open_is_followed_by_one_close_however_the_connection_ends() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receivers: Vec<_> = (1..=4).map(|conn| harness.connect(conn)).collect();
    harness.take_log();
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(harness.take_log(), ["close 1 lost"]);
    harness.command(
        2,
        vec![
            Action::Close(2, CloseReason::TIMED_OUT),
            Action::Close(2, CloseReason::GOODBYE),
        ],
    );
    assert_eq!(harness.take_log(), ["command 2", "close 2 timed out"]);
    harness.disconnect(2, DisconnectReason::Closed(CloseReason::TIMED_OUT));
    assert_eq!(harness.take_log(), [""; 0]);
    harness.block_writes(4);
    harness.command(3, vec![send(4, &"x".repeat(60)), send(4, "one too many")]);
    assert_eq!(harness.take_log(), ["command 3", "close 4 too slow"]);
    harness.disconnect(4, DisconnectReason::Lost);
    assert_eq!(harness.take_log(), [""; 0]);
}

#[test]
fn a_rejected_open_is_followed_by_no_close() {
    let realm = MockRealm::rejecting();
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let (_, reply) = harness.open(1);
    assert_eq!(reply, Some(Err(REJECTION)));
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(harness.take_log(), ["open 1"]);
}

#[test]
fn effects_are_applied_in_order_and_before_the_next_command() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.commands(
        1,
        vec![vec![send(1, "a"), send(1, "b")], vec![send(1, "c")]],
    );
    assert_eq!(drain(&receiver).texts, ["a", "b", "c"]);
}

#[test]
fn commands_after_the_one_that_closes_the_connection_are_dropped() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    harness.commands(
        1,
        vec![
            vec![Action::Close(1, CloseReason::TIMED_OUT)],
            vec![send(1, "too late")],
        ],
    );
    assert_eq!(
        harness.take_log(),
        ["open 1", "command 1", "close 1 timed out"]
    );
}

#[test]
fn a_closed_connection_is_sent_nothing_and_its_commands_are_dropped() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (closed, _other) = (harness.connect(1), harness.connect(2));
    harness.take_log();
    harness.command(
        2,
        vec![
            send(1, "before"),
            Action::Close(1, CloseReason::TIMED_OUT),
            send(1, "after"),
        ],
    );
    let drained = drain(&closed);
    assert_eq!(drained.texts, ["before"]);
    assert_eq!(
        drained.directives.close,
        Some(CloseOrder::Graceful(CloseReason::TIMED_OUT))
    );
    harness.command(1, vec![send(2, "too late")]);
    assert_eq!(harness.take_log(), ["command 2", "close 1 timed out"]);
}

#[test]
fn a_realm_is_told_of_the_closes_it_causes_after_its_call_has_returned() {
    // The close of 1 closes 2, whose close closes 3.
    let realm = MockRealm::closing(&[(1, 2), (2, 3)]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let _receivers: Vec<_> = (1..=3).map(|conn| harness.connect(conn)).collect();
    harness.take_log();
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(
        harness.take_log(),
        ["close 1 lost", "close 2 goodbye", "close 3 goodbye"]
    );
}

#[test]
fn a_new_client_gets_everything_that_open_sends() {
    for policy in [Disconnect, Backpressure] {
        let realm = MockRealm::sending_at_open();
        let mut harness = BrokerHarness::with_realm(policy, realm);
        let drained = drain(&harness.connect(1));
        assert_eq!(drained.texts.len(), 100);
        assert_eq!(drained.directives.close, None);
    }
}

#[test]
fn a_stop_closes_every_connection_and_admits_no_new_one() {
    let realm = MockRealm::closing(&[(1, 2)]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let receivers = [harness.connect(1), harness.connect(2)];
    harness.handle(Event::Stop);
    for receiver in &receivers {
        assert_eq!(drain(receiver).directives.close, SHUTTING_DOWN);
    }
    harness.disconnect(1, DisconnectReason::Closed(CloseReason::SHUTTING_DOWN));
    assert_eq!(harness.take_log(), ["open 1", "open 2", "stop"]);
    assert_eq!(harness.open(3).1, None);
}

#[test]
fn effects_of_stop_are_applied_before_the_connections_are_closed() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (one, _two, three) = (harness.connect(1), harness.connect(2), harness.connect(3));
    harness.take_log();
    harness.handle(Event::Stop);
    let drained = drain(&one);
    assert_eq!(drained.texts, ["last words"]);
    assert_eq!(drained.directives.close, SHUTTING_DOWN);
    assert_eq!(
        drain(&three).directives.close,
        Some(CloseOrder::Graceful(CloseReason::GOODBYE))
    );
    harness.handle(Event::Tick);
    assert_eq!(harness.take_log(), ["stop"]);
}

#[test]
fn a_request_is_answered_by_its_realm_and_a_long_reply_is_more_work() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (reply_to, mut reply) = oneshot::channel();
    let connect_request = ConnectRequest {
        path: "/path".to_owned(),
        query: "x".repeat(5 * BYTES_PER_UNIT),
        address: std::net::IpAddr::from([127, 0, 0, 1]).into(),
        access: Access::default(),
    };
    let event = HttpEvent {
        listener_index: 0,
        request: Request {
            connect: connect_request,
            method: Method::Get,
            body: Vec::new(),
        },
        reply_to,
    };
    assert_eq!(harness.handle(Event::Request(Box::new(event))), 1 + 5);
    assert_eq!(harness.take_log(), ["request /path"]);
    let reply = reply.try_recv().unwrap();
    assert!(matches!(reply, Some(HttpReply::Ok { body, .. }) if body.len() == 5 * BYTES_PER_UNIT));
}

#[test]
fn what_was_accepted_is_either_connected_or_closed_and_what_was_rejected_is_neither() {
    let realm = MockRealm::deferring(&[4, 5, 6]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let _clients = [1, 2, 3, 4, 5, 6].map(|conn| harness.open(conn));
    let counts = |harness: &BrokerHarness| {
        let counters = harness.counters();
        let closed: u64 = counters.closed().map(|(_, count)| count).sum();
        (counters.accepted(), counters.connections(), closed)
    };
    assert_eq!(counts(&harness), (3, 3, 0), "the deferred ones wait");
    harness.command(1, vec![Action::Admit(4), Action::Reject(5)]);
    assert_eq!(counts(&harness), (4, 4, 0));
    // A client that goes before its open is decided was no connection.
    harness.disconnect(6, DisconnectReason::Lost);
    harness.disconnect(5, DisconnectReason::Lost);
    assert_eq!(counts(&harness), (4, 4, 0));
    for conn in [1, 2, 3, 4] {
        harness.disconnect(conn, DisconnectReason::ClosedByClient(Some(1000)));
    }
    assert_eq!(counts(&harness), (4, 0, 4));
}

#[test]
fn each_second_the_broker_publishes_what_only_it_knows() {
    let realm = MockRealm::showing(Figures {
        sizes: vec![("things", 7)],
        rate_limited: 2,
    });
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let receiver = harness.connect(1);
    harness.connect(2);
    harness.command(2, vec![send(1, "hello")]);
    harness.status(1).traffic.counts.messages_in.add(3);
    let published = |harness: &BrokerHarness| {
        let counters = harness.counters();
        let messages = counters.traffic.get().messages_in;
        let sizes: Vec<_> = counters.sizes().collect();
        (
            counters.outbox_bytes() > 0,
            messages,
            counters.rate_limited(),
            sizes,
        )
    };
    assert_eq!(published(&harness), (false, 0, 0, vec![("things", 0)]));
    harness.tick_at(1);
    assert_eq!(published(&harness), (true, 3, 2, vec![("things", 7)]));
    drain(&receiver);
    harness.tick_at(2);
    assert_eq!(published(&harness), (false, 3, 2, vec![("things", 7)]));
}

#[test]
fn an_empty_outbox_keeps_no_memory_for_longer_than_a_second() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.command(1, vec![send(1, "one")]);
    let capacity = |harness: &BrokerHarness| {
        let connection = &harness.broker.connections[&ConnectionId(1)];
        connection.outbox.capacity()
    };
    harness.tick_at(1);
    assert!(capacity(&harness) > 0, "a frame is queued");
    // The block of the queue stays, as the task has one for the frames that it has taken before.
    let mut taken = VecDeque::from([Frame::text("zero")]);
    receiver.take(&mut Context::from_waker(Waker::noop()), &mut taken);
    assert!(taken.len() == 2 && capacity(&harness) > 0);
    harness.tick_at(2);
    assert_eq!(capacity(&harness), 0);
}

#[test]
fn a_connection_that_ended_before_the_count_is_counted_whichever_lane_says_so() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    let (mut server, mut inbox) = inbox();
    let (mut listener, events) = lane();
    inbox.add([events]);
    let (reply_to, mut counts) = oneshot::channel();
    let ended = Event::Disconnected(ConnectionId(1), DisconnectReason::Lost);
    // From then on the lane of the server comes first.
    server.try_send(Event::Refresh).unwrap();
    assert!(inbox.try_next().is_some());
    server.try_send(Event::Count(reply_to)).unwrap();
    listener.try_send(ended).unwrap();
    drop((server, listener));
    block_on(harness.broker.run(inbox));
    let counts = counts.try_recv().unwrap().unwrap();
    assert!(counts.into_iter().eq([("lost", 1)]));
}
