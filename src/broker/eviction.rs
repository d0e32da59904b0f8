//! What the broker does when clients make the process hold more than its budget.

use super::connections::Connection;
use super::{Broker, Moment};
use crate::base::close::Close;
use crate::broker::outbox::{End, Outbox};
use crate::broker::socket_status::Pulse;
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
pub(super) struct Leaving {
    outbox: Outbox,
    pulse: Arc<Pulse>,
    /// What it held when it was cut for that, in bytes.
    releasing: Option<usize>,
}

fn holds(outbox: &Outbox, pulse: &Pulse) -> usize {
    pulse.incoming.bytes() + outbox.share()
}

impl Broker {
    /// Remembers a connection for as long as its goodbyes take, if that is much to hold.
    pub(super) fn sees_off(&mut self, connection: Connection) {
        let Connection { outbox, pulse, .. } = connection;
        if holds(&outbox, &pulse) >= WORTHWHILE {
            self.leaving.push(Leaving {
                outbox,
                pulse,
                releasing: None,
            });
        }
    }

    /// Forgets those who have said goodbye.
    pub(super) fn forget_the_gone(&mut self) {
        let releasing = &mut self.releasing;
        self.leaving.retain(|leaving| {
            let is_gone = leaving.outbox.is_orphaned();
            if is_gone {
                *releasing -= leaving.releasing.unwrap_or_default();
            }
            !is_gone
        });
    }

    /// Cuts the goodbyes of those who are gone for the realms.
    fn cut_goodbyes(&mut self) {
        for leaving in self.leaving.iter_mut().filter(|it| it.releasing.is_none()) {
            let bytes = holds(&leaving.outbox, &leaving.pulse);
            leaving.releasing = Some(bytes);
            self.releasing += bytes;
            leaving.outbox.end(End::Drop, &mut self.wakers);
        }
    }

    /// What is held and not about to be given back, in bytes.
    fn left(&self) -> usize {
        self.budget.held().saturating_sub(self.releasing)
    }

    /// Closes those who hold most, until what the others hold leaves room. How much work that was.
    pub(super) fn make_room(&mut self, moment: Moment) -> usize {
        if !self.budget.is_overdrawn() || self.stopping {
            return 0;
        }
        self.forget_the_gone();
        if self.left() > self.budget.limit() {
            self.cut_goodbyes();
        }
        let left = self.left();
        if left <= self.budget.limit() {
            return 1;
        }
        let wanted = self.budget.limit() - self.budget.limit() / PARTS;
        let mut excess = left - wanted;
        let (closed, before) = (self.holders(), self.releasing);
        let mut count = 0;
        for (bytes, who) in closed {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            count += 1;
            self.close_for_what_it_holds(who, bytes);
        }
        if count == 0 {
            return 1;
        }
        log::warn!(
            "memory_budget is used up: closes the {count} clients that hold most, {} bytes of {left}",
            self.releasing - before,
        );
        count + self.tell_the_gone(moment)
    }

    /// Who holds how many bytes, the biggest holder first, without those who have been closed for it.
    fn holders(&self) -> Vec<(usize, ConnectionId)> {
        let mut holders: Vec<(usize, ConnectionId)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.releasing.is_none())
            .map(|(&who, connection)| {
                let kept = self.hosts.get(connection.listener);
                let kept = kept.map_or(0, |host| host.realm.kept_of(who));
                (holds(&connection.outbox, &connection.pulse) + kept, who)
            })
            .filter(|(bytes, _)| *bytes >= LEAST)
            .collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        holders
    }

    fn close_for_what_it_holds(&mut self, who: ConnectionId, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&who) else {
            return;
        };
        connection.releasing = Some(bytes);
        self.releasing += bytes;
        if connection.closing {
            // It has been told why, and takes its time.
            connection.outbox.end(End::Drop, &mut self.wakers);
        } else {
            self.close(who, Close::ShortOfMemory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::Ending;
    use crate::broker::outbox::Outgoing;
    use crate::broker::tests::{Order, Puppet, Stage, send, take};
    use crate::broker::{Event, WhenFull};

    const BUDGET: usize = 80_000;

    /// A broker with that budget, and so many who are connected.
    fn stage(clients: u64) -> (Stage, Vec<Outgoing>) {
        let mut stage = Stage::within(BUDGET, WhenFull::HoldSender, Puppet::default());
        let clients = (1..=clients).map(|who| stage.open(who).0).collect();
        stage.diary();
        (stage, clients)
    }

    /// Somebody has sent a part of a message.
    fn receives(stage: &Stage, who: u64, bytes: usize) {
        let connection = &stage.broker.connections[&ConnectionId(who)];
        connection.pulse.incoming.grow(bytes);
    }

    /// Who is closed, in this order.
    fn closed(stage: &mut Stage) -> Vec<String> {
        stage.tell(Event::Overdrawn);
        stage.make_room();
        stage.diary()
    }

    fn short_of_memory(who: u64) -> String {
        format!("close {who} {}", Close::ShortOfMemory.reason())
    }

    #[test]
    fn nobody_is_closed_for_what_the_budget_has_room_for() {
        let (mut stage, _clients) = stage(2);
        receives(&stage, 1, BUDGET / 2);
        receives(&stage, 2, BUDGET / 2);
        assert_eq!(closed(&mut stage), [""; 0]);
    }

    #[test]
    fn the_biggest_holder_is_closed_first_and_no_more_than_leaves_an_eighth_free() {
        let (mut stage, clients) = stage(4);
        for (who, bytes) in [(1, 21_000), (2, 30_000), (3, 25_000), (4, 20_000)] {
            receives(&stage, who, bytes);
        }
        // Of 96,000 at most 70,000 are to stay.
        assert_eq!(closed(&mut stage), [short_of_memory(2)]);
        let end = Some(End::Close(Close::ShortOfMemory));
        assert_eq!(take(&clients[1]).1.end, end);
        assert_eq!(closed(&mut stage), [""; 0], "what it held is on its way");
        receives(&stage, 1, 15_000);
        assert_eq!(closed(&mut stage), [short_of_memory(1)]);
    }

    #[test]
    fn what_counts_is_what_they_sent_what_waits_for_them_and_what_is_kept_of_them() {
        let puppet = Puppet::that_keeps(30_000);
        let mut stage = Stage::within(BUDGET, WhenFull::HoldSender, puppet);
        let clients: Vec<_> = (1..=3).map(|who| stage.open(who).0).collect();
        receives(&stage, 2, 29_000);
        stage.command(1, vec![send(3, &"x".repeat(28_000))]);
        stage.diary();
        assert_eq!(closed(&mut stage), [short_of_memory(1)]);
        receives(&stage, 3, 1000);
        receives(&stage, 2, 30_000);
        assert_eq!(closed(&mut stage), [short_of_memory(2)]);
        receives(&stage, 3, 60_000);
        assert_eq!(closed(&mut stage), [short_of_memory(3)]);
        drop(clients);
    }

    #[test]
    fn what_many_wait_for_is_there_once() {
        let (mut stage, _clients) = stage(100);
        let text = "x".repeat(40_000);
        stage.command(1, (1..=100).map(|to| send(to, &text)).collect());
        stage.diary();
        assert_eq!(closed(&mut stage).len(), 99, "these were 100 frames");
        let (mut stage, _clients) = self::stage(100);
        stage.command(1, vec![Order::Spread(text)]);
        stage.diary();
        assert_eq!(closed(&mut stage), [""; 0]);
        // And whoever waits for it does not hold more than one who holds a tenth of it alone.
        receives(&stage, 7, 4000);
        receives(&stage, 8, 38_000);
        assert_eq!(closed(&mut stage), [short_of_memory(8)]);
    }

    #[test]
    fn whoever_holds_next_to_nothing_is_not_closed_for_what_others_hold() {
        let (mut stage, clients) = stage(3);
        stage.command(3, vec![send(1, "a few octets")]);
        receives(&stage, 2, LEAST - 1);
        // Nobody's any more, as far as the broker knows.
        let elsewhere = crate::base::memory_budget::Charge::new(&stage.broker.budget, BUDGET);
        stage.diary();
        assert_eq!(closed(&mut stage), [""; 0]);
        receives(&stage, 2, 1);
        assert_eq!(closed(&mut stage), [short_of_memory(2)]);
        drop((clients, elsewhere));
    }

    #[test]
    fn what_is_given_back_is_free() {
        let (mut stage, _clients) = stage(2);
        receives(&stage, 1, BUDGET + 1);
        assert_eq!(closed(&mut stage), [short_of_memory(1)]);
        let ending = Ending::Closed(Close::ShortOfMemory);
        stage.tell(Event::Ended(ConnectionId(1), ending));
        receives(&stage, 2, BUDGET);
        assert_eq!(closed(&mut stage), [""; 0]);
        receives(&stage, 2, 1);
        assert_eq!(closed(&mut stage), [short_of_memory(2)]);
    }

    #[test]
    fn a_message_on_its_way_to_the_realm_is_its_senders_until_it_is_done() {
        let (mut stage, _clients) = stage(2);
        receives(&stage, 1, BUDGET);
        let command = vec![send(2, &"x".repeat(1000))];
        stage.tell(Event::Commands {
            who: ConnectionId(1),
            commands: vec![Box::new(command)],
            charged: BUDGET,
        });
        stage.diary();
        assert_eq!(closed(&mut stage), [""; 0]);
    }

    #[test]
    fn whoever_is_being_closed_and_takes_its_time_is_cut() {
        let (mut stage, clients) = stage(2);
        stage.command(1, vec![send(2, &"x".repeat(BUDGET))]);
        stage.command(1, vec![Order::Close(2, Close::PeerLeft)]);
        stage.diary();
        receives(&stage, 1, 1000);
        assert_eq!(closed(&mut stage), [""; 0], "its realm knows already");
        assert_eq!(take(&clients[1]).1.end, Some(End::Drop));
    }

    #[test]
    fn goodbyes_are_cut_before_anybody_is_closed() {
        let (mut stage, clients) = stage(2);
        stage.command(2, vec![send(1, &"x".repeat(BUDGET / 2))]);
        stage.tell(Event::Ended(ConnectionId(1), Ending::Left(None)));
        stage.diary();
        receives(&stage, 2, BUDGET * 3 / 4);
        assert_eq!(closed(&mut stage), [""; 0]);
        assert_eq!(take(&clients[0]).1.end, Some(End::Drop));
        drop(clients);
        assert_eq!(closed(&mut stage), [""; 0]);
        receives(&stage, 2, BUDGET / 2);
        assert_eq!(
            closed(&mut stage),
            [short_of_memory(2)],
            "nothing else can be given back"
        );
    }

    #[test]
    fn who_is_about_to_stop_closes_nobody_for_it() {
        let (mut stage, _clients) = stage(1);
        stage.tell(Event::Stop);
        stage.diary();
        receives(&stage, 1, BUDGET + 1);
        assert_eq!(closed(&mut stage), [""; 0]);
    }
}
