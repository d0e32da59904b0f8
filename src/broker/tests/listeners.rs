//! Listeners that come and go while the broker runs, and whose settings change.

use super::harness::{BrokerHarness, CHECKS, MockRealm, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::{
    CloseOrder, Event, ListenerChange, ListenerCounters, ListenerKey, NewListener, RealmSlot, lane,
};
use crate::config::Address;
use crate::realm::SlowConsumerPolicy::Disconnect;
use futures::channel::oneshot;
use serde_json::json;
use std::time::Duration;

const SHUTTING_DOWN: Option<CloseOrder> = Some(CloseOrder::Graceful(CloseReason::SHUTTING_DOWN));

/// Adds a listener as the server does. Returns its key.
fn add(harness: &mut BrokerHarness, realm: MockRealm) -> ListenerKey {
    let (reply_to, mut key) = oneshot::channel();
    let new = NewListener {
        slot: RealmSlot {
            realm: Box::new(realm),
            address: Address::Any(2),
            checks: CHECKS,
        },
        events: lane().1,
        reply_to,
    };
    harness.handle(Event::AddListener(Box::new(new)));
    key.try_recv().unwrap().unwrap()
}

/// Removes the first listener.
fn remove(harness: &mut BrokerHarness) {
    let index = harness.key.index();
    harness.handle(Event::RemoveListener(index));
}

fn change(options: Option<serde_json::Value>) -> Event {
    let options = options.map(|options| options.as_object().unwrap().clone());
    let mut checks = CHECKS;
    checks.keepalive.ping_after = Duration::from_secs(3);
    Event::ChangeListener(Box::new(ListenerChange {
        listener_index: 0,
        checks,
        options,
    }))
}

#[test]
fn a_removed_listeners_realm_is_stopped_and_its_connections_are_closed_and_no_others() {
    let mut harness = BrokerHarness::new(Disconnect);
    let other = MockRealm::default();
    let other_log = other.log();
    let other = add(&mut harness, other);
    let (one, two) = (harness.connect(1), harness.connect_to(&other, 2));
    harness.take_log();
    remove(&mut harness);
    let drained = drain(&one);
    assert_eq!(drained.texts, ["last words"]);
    assert_eq!(drained.directives.close, SHUTTING_DOWN);
    assert_eq!(drain(&two).directives.close, None);
    harness.disconnect(1, DisconnectReason::Closed(CloseReason::SHUTTING_DOWN));
    harness.tick_at(1);
    assert_eq!(harness.take_log(), ["stop"], "it is not called again");
    harness.command(2, vec![send(2, "well")]);
    assert_eq!(drain(&two).texts, ["well"]);
    let log = other_log.lock().unwrap();
    assert_eq!(*log, ["open 2", "tick", "command 2"]);
}

#[test]
fn a_removed_listener_admits_nobody_and_ends_deferred_opens() {
    let realm = MockRealm::deferring(&[1]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let (_receiver, mut deferred) = harness.start_open(1);
    assert_eq!(deferred.try_recv(), Ok(None));
    remove(&mut harness);
    assert!(deferred.try_recv().is_err(), "the handshake is told");
    assert_eq!(harness.open(2).1, None);
    assert_eq!(harness.take_log(), ["open 1", "stop"]);
}

#[test]
fn commands_of_a_removed_listeners_connections_are_dropped() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.take_log();
    remove(&mut harness);
    harness.command(1, vec![send(1, "too late")]);
    assert_eq!(harness.take_log(), ["stop"]);
    assert_eq!(drain(&receiver).texts, ["last words"]);
}

#[test]
fn an_index_is_reused_when_no_connection_and_no_task_of_its_listener_is_left() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    let task = harness.key.clone();
    remove(&mut harness);
    // The harness has a key like the listener's tasks.
    harness.key = add(&mut harness, MockRealm::default());
    assert_eq!(harness.key.index(), 1, "a connection is left, and a task");
    harness.disconnect(1, DisconnectReason::Lost);
    harness.tick_at(1);
    assert_eq!(add(&mut harness, MockRealm::default()).index(), 2, "a task");
    drop(task);
    let next = add(&mut harness, MockRealm::default());
    assert_eq!(next.index(), 3, "looked at once a second");
    harness.tick_at(2);
    assert_eq!(add(&mut harness, MockRealm::rejecting()).index(), 0);
    harness.key = next;
    assert_eq!(harness.open(2).1, Some(Ok(())), "not the rejecting realm");
}

#[test]
fn an_index_is_not_reused_while_a_connection_is_closing() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    remove(&mut harness);
    harness.key = add(&mut harness, MockRealm::default());
    harness.tick_at(1);
    assert_eq!(add(&mut harness, MockRealm::default()).index(), 2);
}

#[test]
fn what_a_removed_realm_stored_is_freed() {
    let realm = MockRealm::remembering([1000, 0, 0]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    harness.tick_at(1);
    assert_eq!(harness.broker.memory.budget().reserved(), 1000);
    remove(&mut harness);
    assert_eq!(harness.broker.memory.budget().reserved(), 0);
}

#[test]
fn a_lower_memory_budget_evicts_at_the_next_batch() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.status(1).receive_memory.grow(100_000);
    harness.reclaim_memory();
    assert_eq!(drain(&receiver).directives.close, None);
    harness.broker.memory.budget().set_limit(80_000);
    harness.reclaim_memory();
    let close = CloseOrder::Graceful(CloseReason::SHORT_OF_MEMORY);
    assert_eq!(drain(&receiver).directives.close, Some(close));
}

#[test]
fn changed_checks_hold_for_connections_that_there_are() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.take_log();
    harness.tick_at(4);
    assert!(drain(&receiver).directives.ping.is_none());
    harness.handle(change(None));
    harness.tick_at(5);
    assert!(drain(&receiver).directives.ping.is_some());
    assert_eq!(
        harness.take_log(),
        ["tick", "tick"],
        "no option has changed"
    );
}

#[test]
fn a_realm_is_reconfigured_and_its_effects_are_applied() {
    let mut harness = BrokerHarness::new(Disconnect);
    let receiver = harness.connect(1);
    harness.take_log();
    harness.handle(change(Some(json!({"a": 1}))));
    assert_eq!(harness.take_log(), ["reconfigure"]);
    assert_eq!(drain(&receiver).texts, [r#"{"a":1}"#]);
}

#[test]
fn the_ends_of_a_removed_listeners_connections_are_counted() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receivers = [harness.connect(1), harness.connect(2)];
    harness.disconnect(1, DisconnectReason::Lost);
    remove(&mut harness);
    let shut_down = DisconnectReason::Closed(CloseReason::SHUTTING_DOWN);
    harness.disconnect(2, shut_down);
    let expected = [DisconnectReason::Lost, shut_down].map(|reason| (reason.name(), 1));
    assert!(harness.broker.disconnect_counts().into_iter().eq(expected));
    // Its index is free then.
    harness.key = ListenerKey::new(7, ListenerCounters::default());
    harness.tick_at(1);
    assert!(harness.broker.disconnect_counts().into_iter().eq(expected));
}
