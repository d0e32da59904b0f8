//! The broker's inbox: a lane for the events of each listener, and one for those of the server. Lanes are added for new
//! listeners, and are removed when all their senders are dropped.
//!
//! The broker takes from the lanes in turn, so that each listener gets a fair share of its time (rulings,
//! "turns"): a flood of expensive events on one listener delays the events of another by no more than a visit
//! to its lane and the event that goes beyond it. What a visit used too much, later ones get less, as long as
//! other lanes have events (deficit round robin, Shreedhar and Varghese 1995).

use super::event::{Event, EventReceiver};
use futures::channel::mpsc;
use futures::stream::{FusedStream, Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Time of the broker that a lane gets in each visit.
const SHARE: i64 = 250_000;

/// The most time in nanoseconds that a lane can owe: a single event that takes longer is not held against its
/// listener for ever.
const MAX_DEBT: i64 = 100 * SHARE;

/// Sends events to one lane. Each clone has one slot, and so at most one event in the lane.
pub(crate) type EventSender = mpsc::Sender<Event>;

/// The broker's inbox.
pub(crate) struct Inbox {
    lanes: Vec<Lane>,
    /// Index of the lane of the last event, or of the next one after [`Inbox::advance_to_event`].
    current: usize,
}

/// The events of one listener, or of the server.
struct Lane {
    events: EventReceiver,
    /// The next event, if it was taken to see whether there is one.
    next: Option<Event>,
    /// Nanoseconds left in this visit; below 0, what the lane has used too much.
    balance: i64,
}

impl Lane {
    fn new(events: EventReceiver) -> Self {
        Self {
            events,
            next: None,
            balance: 0,
        }
    }

    /// Takes the next event to `next`, and returns whether there is one.
    fn has_event(&mut self) -> bool {
        if self.next.is_none() && !self.events.is_terminated() {
            self.next = self.events.try_recv().ok();
        }
        self.next.is_some()
    }
}

/// Creates the channel of a lane, in which each sender has one slot.
pub(crate) fn lane() -> (EventSender, EventReceiver) {
    mpsc::channel(0)
}

/// Creates an inbox with the lane of the server. Returns it with the sender of that.
pub(crate) fn inbox() -> (EventSender, Inbox) {
    let (server, events) = lane();
    let inbox = Inbox {
        lanes: vec![Lane::new(events)],
        current: 0,
    };
    (server, inbox)
}

impl Inbox {
    /// Adds lanes, and removes those whose senders are gone.
    pub(crate) fn add(&mut self, lanes: impl IntoIterator<Item = EventReceiver>) {
        self.lanes
            .retain(|lane| lane.next.is_some() || !lane.events.is_terminated());
        self.lanes.extend(lanes.into_iter().map(Lane::new));
        self.current = 0;
    }

    /// Returns whether there is an event now.
    pub(crate) fn has_event(&mut self) -> bool {
        self.lanes.iter_mut().any(Lane::has_event)
    }

    /// Returns the next event, if there is one now.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        if !self.advance_to_event() {
            return None;
        }
        self.lanes.get_mut(self.current)?.next.take()
    }

    /// Makes the lane of the next event the current one, and returns whether there is an event now.
    pub(crate) fn advance_to_event(&mut self) -> bool {
        loop {
            let mut least_debt = None;
            // The current lane comes first with what is left of its share, and last with another one.
            for _ in 0..=self.lanes.len() {
                let Some(lane) = self.lanes.get_mut(self.current) else {
                    return false;
                };
                if !lane.has_event() {
                    lane.balance = lane.balance.min(0);
                } else if lane.balance > 0 {
                    return true;
                } else {
                    let debt = -lane.balance;
                    least_debt = Some(least_debt.map_or(debt, |least: i64| least.min(debt)));
                }
                self.advance();
            }
            // All lanes with events owe time. The visits until the first of them has paid are skipped.
            let Some(debt) = least_debt else {
                return false;
            };
            let waiting = self.lanes.iter_mut().filter(|lane| lane.next.is_some());
            waiting.for_each(|lane| lane.balance += debt);
        }
    }

    /// Goes on to the next lane, which gets its share.
    fn advance(&mut self) {
        self.current = (self.current + 1) % self.lanes.len();
        if let Some(lane) = self.lanes.get_mut(self.current) {
            lane.balance = (lane.balance + SHARE).min(SHARE);
        }
    }

    /// Returns the index of the lane of the last event, or of the next one after [`Inbox::advance_to_event`]. Until the
    /// next [`Inbox::add`] it is that lane's.
    pub(crate) fn lane(&self) -> usize {
        self.current
    }

    /// Charges a lane for the time that its events took.
    pub(crate) fn charge(&mut self, lane: usize, time: Duration) {
        let nanos = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.balance = lane.balance.saturating_sub(nanos).max(-MAX_DEBT);
        }
    }
}

/// Ends when all senders are dropped.
impl Stream for Inbox {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(event) = self.try_next() {
            return Poll::Ready(Some(event));
        }
        // No event waits, so no lane owes anything to another.
        let mut is_open = false;
        for lane in &mut self.lanes {
            lane.balance = 0;
            if lane.events.is_terminated() {
                continue;
            }
            match lane.events.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => lane.next = Some(event),
                Poll::Ready(None) => {}
                Poll::Pending => is_open = true,
            }
        }
        match self.try_next() {
            Some(event) => Poll::Ready(Some(event)),
            None if is_open => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::realm::ConnectionId;
    use futures::executor::block_on;

    /// An inbox with that many lanes beside the server's. Returns their senders, the server's, and the inbox.
    fn inbox(lanes: usize) -> (Vec<EventSender>, EventSender, Inbox) {
        let (server, mut inbox) = super::inbox();
        let (senders, lanes): (Vec<_>, Vec<_>) = (0..lanes).map(|_| lane()).unzip();
        inbox.add(lanes);
        (senders, server, inbox)
    }

    const EVENT_TIME: Duration = Duration::from_nanos(SHARE as u64 / 10);

    /// Sends as many events through a lane, as that many connections. Their ids begin at `first`.
    fn send(sender: &EventSender, first: u64, count: u64) {
        for id in first..first + count {
            let event = Event::OutboxDrained(ConnectionId(id));
            sender.clone().try_send(event).unwrap();
        }
    }

    fn id(event: Option<Event>) -> Option<u64> {
        match event {
            Some(Event::OutboxDrained(ConnectionId(id))) => Some(id),
            Some(_) => panic!("not sent"),
            None => None,
        }
    }

    #[test]
    fn a_connection_has_one_slot_in_the_inbox() {
        let (mut senders, _server, mut events) = inbox(1);
        let mut one = senders.pop().unwrap();
        let mut other = one.clone();
        assert!(one.try_send(Event::Tick).is_ok());
        assert!(
            one.try_send(Event::Tick).is_err(),
            "the first was not taken"
        );
        assert!(
            other.try_send(Event::Tick).is_ok(),
            "each sender has a slot"
        );
        assert!(events.try_next().is_some());
        assert!(one.try_send(Event::Tick).is_ok());
    }

    #[test]
    fn the_events_of_a_lane_keep_their_order() {
        let (senders, _server, mut inbox) = inbox(1);
        send(&senders[0], 1, 3);
        let taken = [(); 4].map(|()| id(inbox.try_next()));
        assert_eq!(taken, [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_flood_in_one_lane_delays_another_by_one_visit() {
        let (senders, server, mut inbox) = inbox(2);
        send(&senders[0], 0, 1000);
        assert_eq!(id(inbox.try_next()), Some(0));
        inbox.charge(inbox.lane(), EVENT_TIME);
        send(&senders[1], 2000, 1);
        send(&server, 3000, 1);
        let mut taken = Vec::new();
        for _ in 0..12 {
            taken.extend(id(inbox.try_next()));
            inbox.charge(inbox.lane(), EVENT_TIME);
        }
        assert!(taken.contains(&2000) && taken.contains(&3000), "{taken:?}");
    }

    #[test]
    fn lanes_get_equal_time_and_not_equal_numbers_of_events() {
        let (senders, _server, mut inbox) = inbox(2);
        send(&senders[0], 0, 1000);
        send(&senders[1], 1000, 1000);
        let (mut expensive, mut cheap) = (Duration::ZERO, Duration::ZERO);
        while cheap < EVENT_TIME * 500 {
            let (spent, time) = match id(inbox.try_next()) {
                // One of these takes as long as 50 of the others.
                Some(0..1000) => (&mut expensive, EVENT_TIME * 50),
                _ => (&mut cheap, EVENT_TIME),
            };
            *spent += time;
            inbox.charge(inbox.lane(), time);
        }
        let ratio = expensive.as_secs_f64() / cheap.as_secs_f64();
        assert!((0.8..1.25).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_lane_is_not_held_back_when_no_other_has_events() {
        let (senders, _server, mut inbox) = inbox(3);
        send(&senders[1], 0, 2);
        assert_eq!(id(inbox.try_next()), Some(0));
        inbox.charge(inbox.lane(), Duration::from_secs(3600));
        assert_eq!(id(inbox.try_next()), Some(1));
        inbox.charge(inbox.lane(), Duration::from_secs(3600));
        assert_eq!(id(inbox.try_next()), None);
    }

    #[test]
    fn a_lane_that_is_added_is_served_and_one_whose_senders_are_gone_is_removed_once_it_is_empty() {
        let (mut senders, _server, mut inbox) = inbox(2);
        send(&senders[0], 1, 1);
        drop(senders.remove(0));
        let (sender, added) = lane();
        inbox.add([added]);
        assert_eq!(inbox.lanes.len(), 4, "an event waits in the first");
        send(&sender, 2, 1);
        let mut taken = [(); 3].map(|()| id(inbox.try_next()));
        taken.sort_unstable();
        assert_eq!(taken, [None, Some(1), Some(2)]);
        inbox.add([]);
        assert_eq!(inbox.lanes.len(), 3);
        send(&senders[0], 3, 1);
        assert_eq!(id(inbox.try_next()), Some(3));
    }

    #[test]
    fn the_inbox_ends_when_all_senders_are_dropped() {
        let (senders, server, mut inbox) = inbox(2);
        send(&senders[1], 7, 1);
        drop(senders);
        send(&server, 8, 1);
        drop(server);
        let mut taken = [block_on(inbox.next()), block_on(inbox.next())].map(id);
        taken.sort_unstable();
        assert_eq!(taken, [Some(7), Some(8)]);
        assert!(block_on(inbox.next()).is_none());
    }
}
