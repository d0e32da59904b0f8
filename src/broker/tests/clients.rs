//! What an operator asks about clients.

use super::harness::{BrokerHarness, MockRealm, drain};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::{Client, CloseOrder, Event, OperatorRequest};
use crate::realm::{ConnectionId, SlowConsumerPolicy::Disconnect};
use futures::channel::oneshot;
use std::time::{Duration, SystemTime};

const REMOVED: Option<CloseOrder> = Some(CloseOrder::Graceful(CloseReason::REMOVED));

/// Asks the broker, and returns its reply.
fn ask<T>(
    harness: &mut BrokerHarness,
    request: impl FnOnce(oneshot::Sender<T>) -> OperatorRequest,
) -> T {
    let (reply_to, mut reply) = oneshot::channel();
    harness.handle(Event::Operator(Box::new(request(reply_to))));
    reply.try_recv().unwrap().unwrap()
}

fn list(harness: &mut BrokerHarness) -> Vec<u64> {
    let mut ids = ask(harness, OperatorRequest::List);
    ids.sort_unstable();
    ids.iter().map(|id| id.0).collect()
}

fn describe(harness: &mut BrokerHarness, conns: &[u64]) -> Vec<Client> {
    let conns = conns.iter().copied().map(ConnectionId).collect();
    ask(harness, |reply| OperatorRequest::Describe(conns, reply))
}

fn close(harness: &mut BrokerHarness, conns: &[u64]) -> usize {
    let conns = conns.iter().copied().map(ConnectionId).collect();
    ask(harness, |reply| {
        OperatorRequest::Close(conns, CloseReason::REMOVED, reply)
    })
}

#[test]
fn a_client_is_described_with_its_whole_address_its_traffic_and_its_beginning() {
    let mut harness = BrokerHarness::new(Disconnect);
    harness.now = Duration::from_secs(7);
    let address = "2001:db8::7".parse().unwrap();
    let _receiver = harness.open_from(address, 1);
    harness.status(1).traffic.counts.bytes_in.add(10);
    harness.status(1).traffic.counts.bytes_out.add(20);
    harness.now = Duration::from_secs(9);
    let clients = describe(&mut harness, &[1, 2]);
    let [client] = &clients[..] else {
        panic!("{clients:?}")
    };
    assert_eq!(
        (client.conn, client.address),
        (ConnectionId(1), address.into())
    );
    assert_eq!((client.bytes_in, client.bytes_out), (10, 20));
    assert_eq!(client.protocol, "mock");
    // The harness's wall clock stands at the epoch.
    assert_eq!(
        client.since,
        SystemTime::UNIX_EPOCH - Duration::from_secs(2)
    );
}

#[test]
fn those_that_are_closed_are_told_to_their_realm_once_and_no_others_are() {
    let mut harness = BrokerHarness::new(Disconnect);
    let [one, other] = [1, 2].map(|conn| harness.connect(conn));
    harness.take_log();
    assert_eq!(close(&mut harness, &[1, 99]), 1);
    assert_eq!(harness.take_log(), ["close 1 removed by the operator"]);
    assert_eq!(drain(&one).directives.close, REMOVED);
    assert_eq!(drain(&other).directives.close, None);
    assert_eq!(close(&mut harness, &[1]), 0, "it is closing already");
    assert_eq!(describe(&mut harness, &[1]), []);
    harness.disconnect(1, DisconnectReason::Closed(CloseReason::REMOVED));
    assert_eq!(harness.take_log(), [""; 0]);
    assert_eq!(list(&mut harness), [2]);
}

#[test]
fn a_client_whose_open_is_deferred_is_admitted_to_be_told_that_it_is_closed() {
    let realm = MockRealm::deferring(&[1]);
    let mut harness = BrokerHarness::with_realm(Disconnect, realm);
    let (receiver, mut reply) = harness.start_open(1);
    assert_eq!(list(&mut harness), [1]);
    assert_eq!(close(&mut harness, &[1]), 1);
    assert_eq!(reply.try_recv().unwrap(), Some(Ok(())));
    assert_eq!(drain(&receiver).directives.close, REMOVED);
}

#[test]
fn nobody_is_closed_again_after_a_stop() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    harness.handle(Event::Stop);
    harness.take_log();
    assert_eq!(close(&mut harness, &[1]), 0);
    assert_eq!(harness.take_log(), [""; 0]);
}
