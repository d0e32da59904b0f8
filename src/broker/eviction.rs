//! What happens when the process is above its `memory_budget` (rulings, "memory"). First goes what no document
//! promises to keep, then the connections of those that hold more than a fair share, last what is promised for
//! a time.

use super::connections::Connection;
use super::fair_share::{Holding, choose};
use super::outbox::{CloseOrder, Outbox};
use super::socket_status::SocketStatus;
use super::{BYTES_PER_UNIT, Broker, Now};
use crate::base::close::CloseReason;
use crate::realm::{ConnectionId, Retention};
use std::cmp::Reverse;
use std::sync::Arc;

/// Eviction frees 1/`FREE_DIVISOR` of the budget, so that the next one is not due at once, and a client that
/// wants to cause it has to send that much again.
const FREE_DIVISOR: usize = 8;

/// Bytes that a closing connection must hold to be tracked. Its usage cannot grow while it closes, and
/// aborting it for less is not worthwhile.
const MIN_TRACKED_BYTES: usize = 16 * 1024;

/// Bytes that a connection must hold to be evicted. Closing it for less frees nothing worth mentioning; even
/// so much of each of 25,000 connections is little.
const MIN_EVICTED_BYTES: usize = 256;

/// Bytes that realms shed beyond what is above the budget. They shed little at a time, as it takes the broker's
/// turn; more is shed when it is due.
const SHED_BYTES: usize = 64 * 1024;

/// When nothing could be reclaimed, the next attempt waits for the next second, or until the limit divided by
/// this has come in addition. Each attempt looks at all connections.
const RETRY_DIVISOR: usize = 64;

/// A connection in its closing handshake, of which the broker keeps what it needs to abort it.
pub(super) struct ClosingConnection {
    outbox: Outbox,
    status: Arc<SocketStatus>,
    /// Bytes it held when it was aborted; `None` if it was not.
    releasing_bytes: Option<usize>,
}

/// Returns the bytes that a connection holds: what it has received and what is queued for it.
fn usage(outbox: &Outbox, status: &SocketStatus) -> usize {
    status.receive_memory.bytes() + outbox.share()
}

impl Broker {
    /// Keeps track of a connection during its closing handshake if it holds much memory.
    pub(super) fn track_closing(&mut self, connection: Connection) {
        let Connection { outbox, status, .. } = connection;
        if usage(&outbox, &status) >= MIN_TRACKED_BYTES {
            self.closing_connections.push(ClosingConnection {
                outbox,
                status,
                releasing_bytes: None,
            });
        }
    }

    /// Removes the connections whose closing handshake is over.
    pub(super) fn reap_closed(&mut self) {
        let releasing_bytes = &mut self.releasing_bytes;
        self.closing_connections.retain(|closing| {
            let is_closed = closing.outbox.is_disconnected();
            if is_closed {
                *releasing_bytes -= closing.releasing_bytes.unwrap_or_default();
            }
            !is_closed
        });
    }

    /// Aborts all closing handshakes that are tracked.
    fn abort_closing(&mut self) {
        for closing in &mut self.closing_connections {
            if closing.releasing_bytes.is_some() {
                continue;
            }
            let bytes = usage(&closing.outbox, &closing.status);
            closing.releasing_bytes = Some(bytes);
            self.releasing_bytes += bytes;
            closing.outbox.close(CloseOrder::Abort, &mut self.wakers);
        }
    }

    /// Returns the bytes that are reserved and not about to be released.
    fn remaining_bytes(&self) -> usize {
        self.budget.reserved().saturating_sub(self.releasing_bytes)
    }

    /// Gets the process back within its budget, as far as it can. Does nothing within the budget. Returns the
    /// units of work.
    pub(super) fn reclaim_memory(&mut self, now: Now) -> usize {
        if !self.budget.is_exceeded() || self.stopping {
            return 0;
        }
        let limit = self.budget.limit();
        let retry_at = self
            .reclaim_failed_at
            .map(|failed| failed + limit / RETRY_DIVISOR);
        if retry_at.is_some_and(|retry_at| self.remaining_bytes() < retry_at) {
            return 0;
        }
        self.reclaim_failed_at = None;
        self.reap_closed();
        if self.remaining_bytes() > limit {
            self.abort_closing();
        }
        let mut work = 1 + self.shed(now, Retention::BestEffort);
        if self.remaining_bytes() > limit {
            work += self.evict_beyond_fair_share(now);
        }
        work += self.shed(now, Retention::Promised);
        if self.remaining_bytes() > limit {
            self.reclaim_failed_at = Some(self.remaining_bytes());
        }
        work
    }

    /// Has the realms give up stored data of this kind while the process is above its budget; first the one
    /// that stores most. Returns the units of work.
    fn shed(&mut self, now: Now, retention: Retention) -> usize {
        let mut listeners: Vec<usize> = (0..self.slots.len()).collect();
        listeners.sort_by_key(|&index| Reverse(self.stored_bytes.get(index).map(|it| it.bytes())));
        let (mut work, mut freed) = (0, 0);
        for listener in listeners {
            let excess = self.remaining_bytes().saturating_sub(self.budget.limit());
            if excess == 0 {
                break;
            }
            work += self.run_realm(now, listener, None, |realm, cx| {
                freed += realm.shed(cx, retention, excess + SHED_BYTES);
            });
        }
        if freed > 0 {
            log::debug!(
                "memory_budget is used up: {freed} bytes of {retention:?} data are given up"
            );
        }
        work + freed / BYTES_PER_UNIT
    }

    /// Closes connections of the addresses that hold more than a fair share, until 1/[`FREE_DIVISOR`] of the
    /// budget is free, counting the memory that they are about to release. Returns the units of work.
    fn evict_beyond_fair_share(&mut self, now: Now) -> usize {
        let limit = self.budget.limit();
        let target = limit - limit / FREE_DIVISOR;
        let remaining = self.remaining_bytes();
        let holdings = self.holdings();
        let held: usize = holdings.iter().map(|holding| holding.bytes).sum();
        // What else takes memory must not get all connections closed: half is for these in any case.
        let available = target.saturating_sub(remaining.saturating_sub(held));
        let available = available.max(target / 2);
        let chosen = choose(holdings, available, remaining.saturating_sub(target));
        if chosen.is_empty() {
            return 1;
        }
        let bytes: usize = chosen.iter().map(|holding| holding.bytes).sum();
        log::warn!(
            "memory_budget is used up: closing {} connections of the addresses that hold the most, \
             {bytes} of {remaining} bytes",
            chosen.len(),
        );
        for holding in &chosen {
            self.evict(holding.conn, holding.bytes);
        }
        chosen.len() + self.deliver_pending_closes(now)
    }

    /// Returns what the connections hold that can be evicted.
    fn holdings(&self) -> Vec<Holding> {
        let can_be_evicted = |connection: &Connection| connection.releasing_bytes.is_none();
        let connections = self.connections.iter();
        connections
            .filter(|(_, connection)| can_be_evicted(connection))
            .map(|(&conn, connection)| {
                let slot = self.slots.get(connection.listener_index);
                let stored_bytes = slot.map_or(0, |slot| slot.realm.stored_bytes_of(conn));
                Holding {
                    address: connection.address,
                    conn,
                    bytes: usage(&connection.outbox, &connection.status) + stored_bytes,
                    since: connection.status.held_since(),
                }
            })
            .filter(|holding| holding.bytes >= MIN_EVICTED_BYTES)
            .collect()
    }

    /// Closes a connection that holds this many bytes, and counts them as about to be released. One that is
    /// already closing is aborted.
    fn evict(&mut self, conn: ConnectionId, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        connection.releasing_bytes = Some(bytes);
        self.releasing_bytes += bytes;
        if connection.closing {
            // The Close frame waits behind the queued frames, which is what takes the memory.
            connection.outbox.close(CloseOrder::Abort, &mut self.wakers);
        } else {
            self.close(conn, CloseReason::SHORT_OF_MEMORY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::DisconnectReason;
    use crate::base::memory_budget::MemoryReservation;
    use crate::broker::outbox::OutboxReceiver;
    use crate::broker::tests::harness::{Action, BrokerHarness, MockRealm, drain, send};
    use crate::broker::{Event, MessageProgress};
    use crate::realm::{Command, SlowConsumerPolicy};

    const BUDGET: usize = 80_000;

    /// A broker with that budget and this many connections, numbered from 1.
    fn harness(clients: u64) -> (BrokerHarness, Vec<OutboxReceiver>) {
        harness_with_realm(clients, MockRealm::default())
    }

    fn harness_with_realm(clients: u64, realm: MockRealm) -> (BrokerHarness, Vec<OutboxReceiver>) {
        let mut harness =
            BrokerHarness::with_budget(BUDGET, SlowConsumerPolicy::Backpressure, realm);
        let clients = (1..=clients).map(|conn| harness.connect(conn)).collect();
        harness.take_log();
        (harness, clients)
    }

    /// Receives bytes of an unfinished message.
    fn receive(harness: &BrokerHarness, conn: u64, bytes: usize) {
        let connection = &harness.broker.connections[&ConnectionId(conn)];
        connection.status.receive_memory.grow(bytes);
    }

    /// Runs an eviction, and returns the calls of the realm, in order.
    fn evict(harness: &mut BrokerHarness) -> Vec<String> {
        harness.handle(Event::BudgetExceeded);
        let _ = harness.reclaim_memory();
        harness.take_log()
    }

    /// The realm's log line for an evicted connection.
    fn evicted(conn: u64) -> String {
        format!("close {conn} {}", CloseReason::SHORT_OF_MEMORY.reason())
    }

    #[test]
    fn no_connection_is_closed_within_the_budget() {
        let (mut harness, _clients) = harness(2);
        receive(&harness, 1, BUDGET / 2);
        receive(&harness, 2, BUDGET / 2);
        assert_eq!(evict(&mut harness), [""; 0]);
    }

    #[test]
    fn the_largest_are_closed_until_an_eighth_of_the_budget_is_free() {
        let (mut harness, clients) = harness(4);
        for (conn, bytes) in [(1, 21_000), (2, 30_000), (3, 25_000), (4, 20_000)] {
            receive(&harness, conn, bytes);
        }
        // At most 70,000 of the 96,000 bytes may remain.
        assert_eq!(evict(&mut harness), [evicted(2)]);
        let close = Some(CloseOrder::Graceful(CloseReason::SHORT_OF_MEMORY));
        assert_eq!(drain(&clients[1]).directives.close, close);
        assert_eq!(
            evict(&mut harness),
            [""; 0],
            "the memory of connection 2 is about to be released"
        );
        receive(&harness, 1, 15_000);
        assert_eq!(evict(&mut harness), [evicted(1)]);
    }

    #[test]
    fn received_queued_and_stored_bytes_count() {
        let (mut harness, _clients) = harness_with_realm(3, MockRealm::storing(30_000));
        receive(&harness, 2, 29_000);
        harness.command(1, vec![send(3, &"x".repeat(28_000))]);
        harness.take_log();
        assert_eq!(evict(&mut harness), [evicted(1)]);
        receive(&harness, 3, 1000);
        receive(&harness, 2, 30_000);
        assert_eq!(evict(&mut harness), [evicted(2)]);
        receive(&harness, 3, 60_000);
        assert_eq!(evict(&mut harness), [evicted(3)]);
    }

    #[test]
    fn a_frame_queued_for_many_clients_counts_once() {
        let (mut harness, _clients) = harness(100);
        let text = "x".repeat(40_000);
        harness.command(1, (1..=100).map(|to| send(to, &text)).collect());
        harness.take_log();
        assert_eq!(evict(&mut harness).len(), 99, "these were 100 frames");
        let (mut harness, _clients) = self::harness(100);
        harness.command(1, vec![Action::Broadcast(text)]);
        harness.take_log();
        assert_eq!(evict(&mut harness), [""; 0]);
        // A client that waits for it holds less than one that holds a tenth of it alone.
        receive(&harness, 7, 4000);
        receive(&harness, 8, 38_000);
        assert_eq!(evict(&mut harness), [evicted(8)]);
    }

    #[test]
    fn a_connection_that_holds_next_to_nothing_is_not_evicted() {
        let (harness, _clients) = harness(2);
        receive(&harness, 2, MIN_EVICTED_BYTES - 1);
        assert_eq!(harness.broker.holdings().len(), 0);
        receive(&harness, 2, 1);
        assert_eq!(harness.broker.holdings()[0].conn, ConnectionId(2));
    }

    #[test]
    fn half_of_the_budget_is_for_connections_whatever_else_takes_memory() {
        let (mut harness, _clients) = harness(2);
        // Memory that the broker cannot attribute to a connection.
        let _unattributed = MemoryReservation::new(&harness.broker.budget, BUDGET);
        receive(&harness, 1, 20_000);
        receive(&harness, 2, 14_000);
        assert_eq!(evict(&mut harness), [""; 0]);
        receive(&harness, 2, 3000);
        assert_eq!(evict(&mut harness), [evicted(1)]);
    }

    #[test]
    fn after_an_attempt_in_vain_the_next_one_waits_for_a_second_or_for_more() {
        let (mut harness, _clients) = harness(1);
        let _unattributed = MemoryReservation::new(&harness.broker.budget, BUDGET + 1);
        assert!(harness.reclaim_memory() > 0);
        receive(&harness, 1, BUDGET / RETRY_DIVISOR - 1);
        assert_eq!(harness.reclaim_memory(), 0);
        receive(&harness, 1, 1);
        assert!(harness.reclaim_memory() > 0);
        assert_eq!(harness.reclaim_memory(), 0);
        harness.tick_at(1);
        assert!(harness.reclaim_memory() > 0);
    }

    #[test]
    fn first_goes_what_nobody_promises_then_connections_then_what_is_promised() {
        let realm = MockRealm::remembering(10_000, 100_000);
        let (mut harness, _clients) = harness_with_realm(2, realm);
        // Has the broker ask what is stored.
        harness.tick_at(1);
        harness.take_log();
        receive(&harness, 2, 40_000);
        let shed = |what: &str| format!("shed {what}");
        let expected = [shed("BestEffort"), evicted(2), shed("Promised")];
        assert_eq!(evict(&mut harness), expected);
        assert!(harness.broker.remaining_bytes() <= BUDGET);
    }

    #[test]
    fn no_connection_is_closed_while_there_is_something_that_nobody_promises() {
        let realm = MockRealm::remembering(BUDGET, 0);
        let (mut harness, _clients) = harness_with_realm(1, realm);
        harness.tick_at(1);
        harness.take_log();
        receive(&harness, 1, BUDGET - 1000);
        assert_eq!(evict(&mut harness), ["shed BestEffort"]);
        assert!(!harness.broker.budget.is_exceeded());
    }

    #[test]
    fn connections_count_together_by_their_address() {
        let (mut harness, _clients) = harness(3);
        let (_client, _) = harness.open_from([192, 0, 2, 1].into(), 9);
        harness.take_log();
        for conn in 1..=3 {
            receive(&harness, conn, 20_000);
        }
        receive(&harness, 9, 30_000);
        assert_eq!(evict(&mut harness), [evicted(3)]);
    }

    #[test]
    fn a_usual_message_outlives_older_beginnings_of_its_address() {
        let (mut harness, _clients) = harness(100);
        for conn in 1..=99 {
            harness
                .status(conn)
                .unfinished
                .record(MessageProgress::Begun, || 1);
            receive(&harness, conn, 800);
        }
        harness
            .status(100)
            .unfinished
            .record(MessageProgress::Begun, || 2);
        receive(&harness, 100, 5000);
        let evicted = evict(&mut harness);
        assert!(
            !evicted.is_empty() && !evicted.contains(&self::evicted(100)),
            "{evicted:?}"
        );
    }

    #[test]
    fn memory_is_free_again_after_the_disconnect() {
        let (mut harness, _clients) = harness(2);
        receive(&harness, 1, BUDGET + 1);
        assert_eq!(evict(&mut harness), [evicted(1)]);
        let reason = DisconnectReason::Closed(CloseReason::SHORT_OF_MEMORY);
        harness.handle(Event::Disconnected(ConnectionId(1), reason));
        receive(&harness, 2, BUDGET);
        assert_eq!(evict(&mut harness), [""; 0]);
        receive(&harness, 2, 1);
        assert_eq!(evict(&mut harness), [evicted(2)]);
    }

    #[test]
    fn a_commands_memory_is_released_once_the_command_is_handled() {
        let (mut harness, _clients) = harness(2);
        receive(&harness, 1, BUDGET);
        let command = vec![send(2, &"x".repeat(1000))];
        harness.handle(Event::Commands {
            conn: ConnectionId(1),
            commands: vec![Command::new(command)],
            reserved_bytes: BUDGET,
        });
        harness.take_log();
        assert_eq!(evict(&mut harness), [""; 0]);
    }

    #[test]
    fn a_connection_that_is_already_closing_is_aborted() {
        let (mut harness, clients) = harness(2);
        harness.command(1, vec![send(2, &"x".repeat(BUDGET))]);
        harness.command(1, vec![Action::Close(2, CloseReason::GOODBYE)]);
        harness.take_log();
        receive(&harness, 1, 1000);
        assert_eq!(evict(&mut harness), [""; 0], "`close` was called already");
        assert_eq!(drain(&clients[1]).directives.close, Some(CloseOrder::Abort));
    }

    #[test]
    fn closing_handshakes_are_aborted_before_a_connection_is_evicted() {
        let (mut harness, clients) = harness(2);
        harness.command(2, vec![send(1, &"x".repeat(BUDGET / 2))]);
        let left = DisconnectReason::ClosedByClient(None);
        harness.handle(Event::Disconnected(ConnectionId(1), left));
        harness.take_log();
        receive(&harness, 2, BUDGET * 3 / 4);
        assert_eq!(evict(&mut harness), [""; 0]);
        assert_eq!(drain(&clients[0]).directives.close, Some(CloseOrder::Abort));
        drop(clients);
        assert_eq!(evict(&mut harness), [""; 0]);
        receive(&harness, 2, BUDGET / 2);
        assert_eq!(
            evict(&mut harness),
            [evicted(2)],
            "no closing handshake is left to abort"
        );
    }

    #[test]
    fn no_connection_is_evicted_while_the_daemon_stops() {
        let (mut harness, _clients) = harness(1);
        harness.handle(Event::Stop);
        harness.take_log();
        receive(&harness, 1, BUDGET + 1);
        assert_eq!(evict(&mut harness), [""; 0]);
    }
}
