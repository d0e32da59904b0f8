//! Connections that end with their clients' tokens.

use super::harness::{Action, BrokerHarness, MockRealm, drain};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::CloseOrder;
use crate::realm::{ConnectionId, SlowConsumerPolicy::Disconnect};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const EXPIRED: Option<CloseOrder> = Some(CloseOrder::Graceful(CloseReason::TOKEN_EXPIRED));

fn expire_at(harness: &mut BrokerHarness, conn: u64, second: Option<u64>) {
    harness.command(conn, vec![Action::ExpireAt(conn, second)]);
    harness.take_log();
}

#[test]
fn a_connection_is_closed_when_its_token_ends_and_its_realm_told_once() {
    let mut harness = BrokerHarness::new(Disconnect);
    let [first, second] = [1, 2].map(|conn| harness.connect(conn));
    expire_at(&mut harness, 1, Some(1000));
    harness.wall = 999;
    harness.tick_at(1);
    assert_eq!(drain(&first).directives.close, None);
    harness.take_log();
    harness.wall = 1000;
    harness.tick_at(2);
    assert_eq!(drain(&first).directives.close, EXPIRED);
    assert_eq!(drain(&second).directives.close, None);
    assert_eq!(harness.take_log(), ["close 1 token expired", "tick"]);
    harness.tick_at(3);
    assert_eq!(harness.take_log(), ["tick"]);
}

#[test]
fn a_later_end_takes_the_place_of_an_earlier_one() {
    let mut harness = BrokerHarness::new(Disconnect);
    let [first, second] = [1, 2].map(|conn| harness.connect(conn));
    for conn in [1, 2] {
        expire_at(&mut harness, conn, Some(1000));
    }
    expire_at(&mut harness, 1, Some(2000));
    expire_at(&mut harness, 2, None);
    harness.wall = 1999;
    harness.tick_at(1);
    assert_eq!(drain(&first).directives.close, None);
    harness.wall = 2000;
    harness.tick_at(2);
    assert_eq!(drain(&first).directives.close, EXPIRED);
    assert_eq!(drain(&second).directives.close, None);
}

#[test]
fn a_connection_that_has_ended_leaves_nothing() {
    let mut harness = BrokerHarness::new(Disconnect);
    let _receiver = harness.connect(1);
    expire_at(&mut harness, 1, Some(1000));
    harness.disconnect(1, DisconnectReason::Lost);
    // An effect for a connection that is gone.
    harness.broker.expire_at(ConnectionId(1), Some(DAY));
    assert!(harness.broker.expiries.is_empty());
}

#[test]
fn one_whose_open_is_deferred_is_closed_too() {
    let mut harness = BrokerHarness::with_realm(Disconnect, MockRealm::deferring(&[2]));
    let _receiver = harness.connect(1);
    let (waiting, mut reply) = harness.start_open(2);
    harness.command(1, vec![Action::ExpireAt(2, Some(1000))]);
    harness.wall = 1000;
    harness.tick_at(1);
    assert_eq!(reply.try_recv(), Ok(Some(Ok(()))), "a Close frame follows");
    assert_eq!(drain(&waiting).directives.close, EXPIRED);
}
