//! What happens when the process is above its `memory_budget` (rulings, "memory"). First goes what no document
//! promises to keep, then the connections of those that hold more than a fair share, then what is promised for
//! a time, last who has proven an identity.

use super::fair_share::choose;
use super::memory::holdings;
use super::outbox::CloseOrder;
use super::{BYTES_PER_UNIT, Broker, Now};
use crate::base::close::CloseReason;
use crate::realm::{ConnectionId, Retention};

/// Bytes shed beyond the excess. Small, since shedding takes the broker's time; it is repeated when needed.
const SHED_BYTES: usize = 64 * 1024;

impl Broker {
    /// Gets the process back within its budget, as far as it can. Does nothing within the budget. Returns the
    /// units of work.
    pub(super) fn reclaim_memory(&mut self, now: Now) -> usize {
        if !self.memory.must_reclaim() || self.stopping {
            return 0;
        }
        self.memory.abort_closing(&mut self.wakeups);
        let mut work = 1 + self.shed(now, Retention::BestEffort);
        if self.memory.excess() > 0 {
            work += self.evict_beyond_fair_share(now);
        }
        work += self.shed(now, Retention::Promised);
        work += self.shed(now, Retention::Identity);
        self.memory.reclaim_ended();
        work
    }

    /// Has the realms give up stored data of this kind while the process is above its budget; first the one
    /// that stores most. Returns the units of work.
    fn shed(&mut self, now: Now, retention: Retention) -> usize {
        let (mut work, mut freed) = (0, 0);
        for listener in self.memory.listeners_by_stored_bytes() {
            let excess = self.memory.excess();
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

    /// Closes connections of the addresses that hold more than a fair share, until enough of the budget is free,
    /// counting the memory that they are about to release. Returns the units of work.
    fn evict_beyond_fair_share(&mut self, now: Now) -> usize {
        let holdings = holdings(&self.connections, &self.slots);
        let held = holdings.iter().map(|holding| holding.bytes).sum();
        let goal = self.memory.eviction_goal(held);
        let chosen = choose(holdings, goal.available, goal.excess);
        if chosen.is_empty() {
            return 1;
        }
        let bytes: usize = chosen.iter().map(|holding| holding.bytes).sum();
        log::warn!(
            "memory_budget is used up: closing {} connections of the addresses that hold the most, \
             {bytes} of {} bytes",
            chosen.len(),
            self.memory.remaining(),
        );
        for holding in &chosen {
            self.evict(holding.conn, holding.bytes);
        }
        chosen.len() + self.deliver_pending_closes(now)
    }

    /// Closes a connection that holds this many bytes, and counts them as about to be released. One that is
    /// already closing is aborted.
    fn evict(&mut self, conn: ConnectionId, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        self.memory.count_as_releasing(connection, bytes);
        if connection.closing {
            // The Close frame waits behind the queued frames, which is what takes the memory.
            connection
                .outbox
                .close(CloseOrder::Abort, &mut self.wakeups);
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
    use crate::broker::memory::{MIN_EVICTED_BYTES, MIN_TRACKED_BYTES, RETRY_DIVISOR};
    use crate::broker::outbox::OutboxReceiver;
    use crate::broker::tests::harness::{Action, BrokerHarness, MockRealm, drain, send};
    use crate::broker::{Event, MessageProgress};
    use crate::realm::{Command, Commands, SlowConsumerPolicy};

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
    fn a_connection_that_is_about_to_release_its_memory_is_not_evicted_again() {
        let (mut harness, _clients) = harness(3);
        receive(&harness, 1, 50_000);
        receive(&harness, 2, 40_000);
        assert_eq!(evict(&mut harness), [evicted(1)]);
        receive(&harness, 3, 45_000);
        assert_eq!(evict(&mut harness), [evicted(3)], "1 is still the largest");
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
        let holdings = |broker: &Broker| holdings(&broker.connections, &broker.slots);
        assert_eq!(holdings(&harness.broker).len(), 0);
        receive(&harness, 2, 1);
        assert_eq!(holdings(&harness.broker)[0].conn, ConnectionId(2));
    }

    #[test]
    fn half_of_the_budget_is_for_connections_whatever_else_takes_memory() {
        let (mut harness, _clients) = harness(2);
        // Memory that the broker cannot attribute to a connection.
        let _unattributed = MemoryReservation::new(harness.broker.memory.budget(), BUDGET);
        receive(&harness, 1, 20_000);
        receive(&harness, 2, 14_000);
        assert_eq!(evict(&mut harness), [""; 0]);
        receive(&harness, 2, 3000);
        assert_eq!(evict(&mut harness), [evicted(1)]);
    }

    #[test]
    fn after_an_attempt_in_vain_the_next_one_waits_for_a_second_or_for_more() {
        let (mut harness, _clients) = harness(1);
        let _unattributed = MemoryReservation::new(harness.broker.memory.budget(), BUDGET + 1);
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
    fn first_goes_what_nobody_promises_then_connections_then_what_is_promised_last_identities() {
        let realm = MockRealm::remembering([10_000, 50_000, BUDGET + 10_000]);
        let (mut harness, _clients) = harness_with_realm(2, realm);
        // Has the broker ask what is stored.
        harness.tick_at(1);
        harness.take_log();
        receive(&harness, 2, 40_000);
        let shed = |what: &str| format!("shed {what}");
        let expected = [
            shed("BestEffort"),
            evicted(2),
            shed("Promised"),
            shed("Identity"),
        ];
        assert_eq!(evict(&mut harness), expected);
        assert_eq!(harness.broker.memory.excess(), 0);
    }

    #[test]
    fn no_connection_is_closed_while_there_is_something_that_nobody_promises() {
        let realm = MockRealm::remembering([BUDGET, 0, 0]);
        let (mut harness, _clients) = harness_with_realm(1, realm);
        harness.tick_at(1);
        harness.take_log();
        receive(&harness, 1, BUDGET - 1000);
        assert_eq!(evict(&mut harness), ["shed BestEffort"]);
        assert!(!harness.broker.memory.budget().is_exceeded());
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
            commands: Commands::One(Command::new(command)),
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
    fn an_evicted_connection_that_still_holds_much_in_its_closing_handshake_is_aborted_next() {
        let (mut harness, clients) = harness(2);
        receive(&harness, 1, BUDGET + 1);
        assert_eq!(evict(&mut harness), [evicted(1)]);
        harness.disconnect(1, DisconnectReason::Closed(CloseReason::SHORT_OF_MEMORY));
        drain(&clients[0]);
        assert_eq!(evict(&mut harness), [""; 0]);
        assert_eq!(drain(&clients[0]).directives.close, Some(CloseOrder::Abort));
    }

    #[test]
    fn a_closing_handshake_that_is_over_holds_nothing_after_the_next_second() {
        let (mut harness, clients) = harness(1);
        receive(&harness, 1, MIN_TRACKED_BYTES);
        harness.disconnect(1, DisconnectReason::ClosedByClient(None));
        harness.tick_at(1);
        let reserved = |harness: &BrokerHarness| harness.broker.memory.budget().reserved();
        assert_eq!(reserved(&harness), MIN_TRACKED_BYTES);
        drop(clients);
        harness.tick_at(2);
        assert_eq!(reserved(&harness), 0);
    }

    #[test]
    fn a_closing_handshake_that_holds_little_is_not_aborted() {
        for (bytes, aborted) in [(MIN_TRACKED_BYTES - 1, false), (MIN_TRACKED_BYTES, true)] {
            let (mut harness, clients) = harness(2);
            receive(&harness, 1, bytes);
            harness.disconnect(1, DisconnectReason::ClosedByClient(None));
            drain(&clients[0]);
            receive(&harness, 2, BUDGET + 1);
            evict(&mut harness);
            let abort = aborted.then_some(CloseOrder::Abort);
            assert_eq!(drain(&clients[0]).directives.close, abort, "{bytes} bytes");
        }
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
