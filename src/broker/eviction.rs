//! Eviction: closes the connections that hold the most memory when the process is above its
//! `memory_budget` (rulings, "memory").

use super::connections::Connection;
use super::outbox::{CloseOrder, Outbox};
use super::socket_status::SocketStatus;
use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::realm::ConnectionId;
use std::sync::Arc;

/// Eviction frees 1/`FREE_DIVISOR` of the budget, so that the next one is not due at once, and a client that
/// wants to cause it has to send that much again.
const FREE_DIVISOR: usize = 8;

/// Bytes that a closing connection must hold to be tracked. Its usage cannot grow while it closes, and
/// aborting it for less is not worthwhile.
const MIN_TRACKED_BYTES: usize = 16 * 1024;

/// Bytes that a connection must hold to be evicted. Closing it for less frees next to nothing.
const MIN_EVICTED_BYTES: usize = 2 * 1024;

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

    /// Closes the connections that hold the most until 1/[`FREE_DIVISOR`] of the budget is free, counting the
    /// memory that they are about to release. Does nothing within the budget. Returns the units of work.
    pub(super) fn evict_largest(&mut self, now: Now) -> usize {
        if !self.budget.is_exceeded() || self.stopping {
            return 0;
        }
        self.reap_closed();
        if self.remaining_bytes() > self.budget.limit() {
            self.abort_closing();
        }
        let remaining = self.remaining_bytes();
        if remaining <= self.budget.limit() {
            return 1;
        }
        let target = self.budget.limit() - self.budget.limit() / FREE_DIVISOR;
        let mut excess = remaining - target;
        let releasing_before = self.releasing_bytes;
        let mut count = 0;
        for (bytes, conn) in self.usage_by_connection() {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            count += 1;
            self.evict(conn, bytes);
        }
        if count == 0 {
            return 1;
        }
        log::warn!(
            "memory_budget is used up: closing the {count} clients that hold the most, \
             {} of {remaining} bytes",
            self.releasing_bytes - releasing_before,
        );
        count + self.deliver_pending_closes(now)
    }

    /// Returns the connections that can be evicted, each with the bytes it holds, largest first.
    fn usage_by_connection(&self) -> Vec<(usize, ConnectionId)> {
        let mut usage_by_connection: Vec<(usize, ConnectionId)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.releasing_bytes.is_none())
            .map(|(&conn, connection)| {
                let slot = self.slots.get(connection.listener_index);
                let stored_bytes = slot.map_or(0, |slot| slot.realm.stored_bytes_of(conn));
                let usage = usage(&connection.outbox, &connection.status) + stored_bytes;
                (usage, conn)
            })
            .filter(|(bytes, _)| *bytes >= MIN_EVICTED_BYTES)
            .collect();
        usage_by_connection.sort_unstable_by(|one, other| other.cmp(one));
        usage_by_connection
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
            self.close(conn, CloseReason::ShortOfMemory);
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
    use crate::broker::{Event, SlowConsumerPolicy};

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
        harness.evict_largest();
        harness.take_log()
    }

    /// The realm's log line for an evicted connection.
    fn evicted(conn: u64) -> String {
        format!("close {conn} {}", CloseReason::ShortOfMemory.reason())
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
        let close = Some(CloseOrder::Graceful(CloseReason::ShortOfMemory));
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
    fn a_connection_that_holds_less_than_2_kib_is_not_evicted() {
        let (mut harness, clients) = harness(3);
        harness.command(3, vec![send(1, "a few bytes")]);
        receive(&harness, 2, MIN_EVICTED_BYTES - 1);
        // Memory that the broker cannot attribute to a connection.
        let unattributed = MemoryReservation::new(&harness.broker.budget, BUDGET);
        harness.take_log();
        assert_eq!(evict(&mut harness), [""; 0]);
        receive(&harness, 2, 1);
        assert_eq!(evict(&mut harness), [evicted(2)]);
        drop((clients, unattributed));
    }

    #[test]
    fn memory_is_free_again_after_the_disconnect() {
        let (mut harness, _clients) = harness(2);
        receive(&harness, 1, BUDGET + 1);
        assert_eq!(evict(&mut harness), [evicted(1)]);
        let reason = DisconnectReason::Closed(CloseReason::ShortOfMemory);
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
            commands: vec![Box::new(command)],
            reserved_bytes: BUDGET,
        });
        harness.take_log();
        assert_eq!(evict(&mut harness), [""; 0]);
    }

    #[test]
    fn a_connection_that_is_already_closing_is_aborted() {
        let (mut harness, clients) = harness(2);
        harness.command(1, vec![send(2, &"x".repeat(BUDGET))]);
        harness.command(1, vec![Action::Close(2, CloseReason::PeerLeft)]);
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
