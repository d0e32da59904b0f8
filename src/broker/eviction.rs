//! What the broker does when clients make the process hold more than its budget.

use super::connections::Connection;
use super::{Broker, Now};
use crate::base::close::CloseReason;
use crate::broker::outbox::{CloseOrder, Outbox};
use crate::broker::socket_status::SocketStatus;
use crate::realm::ConnectionId;
use std::sync::Arc;

/// So many parts of the budget there are, and one of them is free when room has been made: so the
/// next time is not at once, and whoever fills it has to bring that much.
const PARTS: usize = 8;

/// Goodbyes that hold less than this are not worth remembering, in bytes: they cannot hold more later.
const WORTHWHILE: usize = 16 * 1024;

/// Whoever holds less than this is not closed for it, in bytes: that would free nothing to speak of.
const LEAST: usize = 2 * 1024;

/// A connection that says goodbye.
pub(super) struct ClosingConnection {
    outbox: Outbox,
    status: Arc<SocketStatus>,
    /// What it held when it was cut for that, in bytes.
    releasing: Option<usize>,
}

fn usage(outbox: &Outbox, status: &SocketStatus) -> usize {
    status.receive_memory.bytes() + outbox.share()
}

impl Broker {
    /// Remembers a connection for as long as its goodbyes take, if that is much to hold.
    pub(super) fn track_closing(&mut self, connection: Connection) {
        let Connection { outbox, status, .. } = connection;
        if usage(&outbox, &status) >= WORTHWHILE {
            self.closing_connections.push(ClosingConnection {
                outbox,
                status,
                releasing: None,
            });
        }
    }

    /// Forgets those who have said goodbye.
    pub(super) fn reap_closed(&mut self) {
        let releasing = &mut self.releasing;
        self.closing_connections.retain(|closing_connections| {
            let is_gone = closing_connections.outbox.is_orphaned();
            if is_gone {
                *releasing -= closing_connections.releasing.unwrap_or_default();
            }
            !is_gone
        });
    }

    /// Cuts the goodbyes of those who are gone for the realms.
    fn abort_closing(&mut self) {
        for closing_connections in self
            .closing_connections
            .iter_mut()
            .filter(|it| it.releasing.is_none())
        {
            let bytes = usage(&closing_connections.outbox, &closing_connections.status);
            closing_connections.releasing = Some(bytes);
            self.releasing += bytes;
            closing_connections
                .outbox
                .end(CloseOrder::Abort, &mut self.wakers);
        }
    }

    /// What is held and not about to be given back, in bytes.
    fn left(&self) -> usize {
        self.budget.reserved().saturating_sub(self.releasing)
    }

    /// Closes those who hold most, until what the others hold leaves room. How much work that was.
    pub(super) fn evict_largest(&mut self, now: Now) -> usize {
        if !self.budget.is_exceeded() || self.stopping {
            return 0;
        }
        self.reap_closed();
        if self.left() > self.budget.limit() {
            self.abort_closing();
        }
        let left = self.left();
        if left <= self.budget.limit() {
            return 1;
        }
        let wanted = self.budget.limit() - self.budget.limit() / PARTS;
        let mut excess = left - wanted;
        let (closed, before) = (self.usage_by_connection(), self.releasing);
        let mut count = 0;
        for (bytes, conn) in closed {
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
            "memory_budget is used up: closes the {count} clients that hold most, {} bytes of {left}",
            self.releasing - before,
        );
        count + self.deliver_pending_closes(now)
    }

    /// Who holds how many bytes, the biggest holder first, without those who have been closed for it.
    fn usage_by_connection(&self) -> Vec<(usize, ConnectionId)> {
        let mut usage_by_connection: Vec<(usize, ConnectionId)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.releasing.is_none())
            .map(|(&conn, connection)| {
                let stored_bytes = self.slots.get(connection.listener);
                let stored_bytes = stored_bytes.map_or(0, |slot| slot.realm.stored_bytes_of(conn));
                (
                    usage(&connection.outbox, &connection.status) + stored_bytes,
                    conn,
                )
            })
            .filter(|(bytes, _)| *bytes >= LEAST)
            .collect();
        usage_by_connection.sort_unstable_by(|one, other| other.cmp(one));
        usage_by_connection
    }

    fn evict(&mut self, conn: ConnectionId, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        connection.releasing = Some(bytes);
        self.releasing += bytes;
        if connection.closing {
            // It has been told why, and takes its time.
            connection.outbox.end(CloseOrder::Abort, &mut self.wakers);
        } else {
            self.close(conn, CloseReason::ShortOfMemory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::DisconnectReason;
    use crate::broker::outbox::OutboxReceiver;
    use crate::broker::tests::{BrokerHarness, MockRealm, Order, send, take};
    use crate::broker::{Event, SlowConsumerPolicy};

    const BUDGET: usize = 80_000;

    /// A broker with that budget, and so many who are connected.
    fn harness(clients: u64) -> (BrokerHarness, Vec<OutboxReceiver>) {
        let mut harness = BrokerHarness::within(
            BUDGET,
            SlowConsumerPolicy::Backpressure,
            MockRealm::default(),
        );
        let clients = (1..=clients).map(|conn| harness.open(conn).0).collect();
        harness.log();
        (harness, clients)
    }

    /// Somebody has sent a part of a message.
    fn receives(harness: &BrokerHarness, conn: u64, bytes: usize) {
        let connection = &harness.broker.connections[&ConnectionId(conn)];
        connection.status.receive_memory.grow(bytes);
    }

    /// Who is closed, in this order.
    fn closed(harness: &mut BrokerHarness) -> Vec<String> {
        harness.tell(Event::BudgetExceeded);
        harness.evict_largest();
        harness.log()
    }

    fn short_of_memory(conn: u64) -> String {
        format!("close {conn} {}", CloseReason::ShortOfMemory.reason())
    }

    #[test]
    fn nobody_is_closed_for_what_the_budget_has_room_for() {
        let (mut harness, _clients) = harness(2);
        receives(&harness, 1, BUDGET / 2);
        receives(&harness, 2, BUDGET / 2);
        assert_eq!(closed(&mut harness), [""; 0]);
    }

    #[test]
    fn the_biggest_holder_is_closed_first_and_no_more_than_leaves_an_eighth_free() {
        let (mut harness, clients) = harness(4);
        for (conn, bytes) in [(1, 21_000), (2, 30_000), (3, 25_000), (4, 20_000)] {
            receives(&harness, conn, bytes);
        }
        // Of 96,000 at most 70,000 are to stay.
        assert_eq!(closed(&mut harness), [short_of_memory(2)]);
        let end = Some(CloseOrder::Graceful(CloseReason::ShortOfMemory));
        assert_eq!(take(&clients[1]).1.end, end);
        assert_eq!(closed(&mut harness), [""; 0], "what it held is on its way");
        receives(&harness, 1, 15_000);
        assert_eq!(closed(&mut harness), [short_of_memory(1)]);
    }

    #[test]
    fn what_counts_is_what_they_sent_what_waits_for_them_and_what_is_kept_of_them() {
        let realm = MockRealm::that_keeps(30_000);
        let mut harness = BrokerHarness::within(BUDGET, SlowConsumerPolicy::Backpressure, realm);
        let clients: Vec<_> = (1..=3).map(|conn| harness.open(conn).0).collect();
        receives(&harness, 2, 29_000);
        harness.command(1, vec![send(3, &"x".repeat(28_000))]);
        harness.log();
        assert_eq!(closed(&mut harness), [short_of_memory(1)]);
        receives(&harness, 3, 1000);
        receives(&harness, 2, 30_000);
        assert_eq!(closed(&mut harness), [short_of_memory(2)]);
        receives(&harness, 3, 60_000);
        assert_eq!(closed(&mut harness), [short_of_memory(3)]);
        drop(clients);
    }

    #[test]
    fn what_many_wait_for_is_there_once() {
        let (mut harness, _clients) = harness(100);
        let text = "x".repeat(40_000);
        harness.command(1, (1..=100).map(|to| send(to, &text)).collect());
        harness.log();
        assert_eq!(closed(&mut harness).len(), 99, "these were 100 frames");
        let (mut harness, _clients) = self::harness(100);
        harness.command(1, vec![Order::Spread(text)]);
        harness.log();
        assert_eq!(closed(&mut harness), [""; 0]);
        // And whoever waits for it does not hold more than one who holds a tenth of it alone.
        receives(&harness, 7, 4000);
        receives(&harness, 8, 38_000);
        assert_eq!(closed(&mut harness), [short_of_memory(8)]);
    }

    #[test]
    fn whoever_holds_next_to_nothing_is_not_closed_for_what_others_hold() {
        let (mut harness, clients) = harness(3);
        harness.command(3, vec![send(1, "a few octets")]);
        receives(&harness, 2, LEAST - 1);
        // Nobody's any more, as far as the broker knows.
        let elsewhere =
            crate::base::memory_budget::MemoryReservation::new(&harness.broker.budget, BUDGET);
        harness.log();
        assert_eq!(closed(&mut harness), [""; 0]);
        receives(&harness, 2, 1);
        assert_eq!(closed(&mut harness), [short_of_memory(2)]);
        drop((clients, elsewhere));
    }

    #[test]
    fn what_is_given_back_is_free() {
        let (mut harness, _clients) = harness(2);
        receives(&harness, 1, BUDGET + 1);
        assert_eq!(closed(&mut harness), [short_of_memory(1)]);
        let ending = DisconnectReason::Closed(CloseReason::ShortOfMemory);
        harness.tell(Event::Ended(ConnectionId(1), ending));
        receives(&harness, 2, BUDGET);
        assert_eq!(closed(&mut harness), [""; 0]);
        receives(&harness, 2, 1);
        assert_eq!(closed(&mut harness), [short_of_memory(2)]);
    }

    #[test]
    fn a_message_on_its_way_to_the_realm_is_its_senders_until_it_is_done() {
        let (mut harness, _clients) = harness(2);
        receives(&harness, 1, BUDGET);
        let command = vec![send(2, &"x".repeat(1000))];
        harness.tell(Event::Commands {
            conn: ConnectionId(1),
            commands: vec![Box::new(command)],
            charged: BUDGET,
        });
        harness.log();
        assert_eq!(closed(&mut harness), [""; 0]);
    }

    #[test]
    fn whoever_is_being_closed_and_takes_its_time_is_cut() {
        let (mut harness, clients) = harness(2);
        harness.command(1, vec![send(2, &"x".repeat(BUDGET))]);
        harness.command(1, vec![Order::Close(2, CloseReason::PeerLeft)]);
        harness.log();
        receives(&harness, 1, 1000);
        assert_eq!(closed(&mut harness), [""; 0], "its realm knows already");
        assert_eq!(take(&clients[1]).1.end, Some(CloseOrder::Abort));
    }

    #[test]
    fn goodbyes_are_cut_before_anybody_is_closed() {
        let (mut harness, clients) = harness(2);
        harness.command(2, vec![send(1, &"x".repeat(BUDGET / 2))]);
        harness.tell(Event::Ended(ConnectionId(1), DisconnectReason::Left(None)));
        harness.log();
        receives(&harness, 2, BUDGET * 3 / 4);
        assert_eq!(closed(&mut harness), [""; 0]);
        assert_eq!(take(&clients[0]).1.end, Some(CloseOrder::Abort));
        drop(clients);
        assert_eq!(closed(&mut harness), [""; 0]);
        receives(&harness, 2, BUDGET / 2);
        assert_eq!(
            closed(&mut harness),
            [short_of_memory(2)],
            "nothing else can be given back"
        );
    }

    #[test]
    fn who_is_about_to_stop_closes_nobody_for_it() {
        let (mut harness, _clients) = harness(1);
        harness.tell(Event::Stop);
        harness.log();
        receives(&harness, 1, BUDGET + 1);
        assert_eq!(closed(&mut harness), [""; 0]);
    }
}
