//! The frames that wait for one client, bounded in bytes, and what else the broker has to say
//! to that client's connection.
//!
//! The broker holds one end, [`Outbox`], and never waits; the connection holds the other,
//! [`OutboxReceiver`], and is woken. Wakers are handed back to the broker, which calls them once per
//! batch of commands, so that many frames meet in one flush.

use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// What a waiting frame costs besides its octets: its place in the queue and its share of the
/// allocation. Counting it bounds the queue for empty messages, too.
const FRAME_OVERHEAD: usize = 32;

fn cost(frame: &Frame) -> usize {
    frame.len() + FRAME_OVERHEAD
}

/// A queue that was longer than this gives its memory back when it has run dry.
const RETAINED_CAPACITY: usize = 64;

/// This many times the limit is too much in any case. Broadcasts from several senders may meet
/// before a connection has its turn, but not without end.
const HARD_LIMIT_FACTOR: usize = 4;

/// How the broker wants a connection to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseOrder {
    /// With a Close frame, after what waits before it.
    Graceful(CloseReason),
    /// At once, without a word.
    Abort,
}

/// Why a client is sent a Ping, the weightiest last: two that meet are one Ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ping {
    /// To measure the round trip.
    RoundTrip,
    /// Nothing has been heard of it.
    Silence,
    /// Somebody waits for its answer: the broker is to be told of the next message.
    Probe,
}

/// When the connection tells the broker about its outbox: those who sent what did not fit are
/// held until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotifyWhen {
    /// When it has written what its socket takes.
    Flushed,
    /// When half of the limit is free again.
    LowWatermark,
}

struct State {
    queue: VecDeque<Frame>,
    /// Frames that were pushed and are not yet written to the socket.
    frames: usize,
    /// For their places, once there are more than every queue may have.
    places: MemoryReservation,
    /// Octets and overhead of what was pushed and is not yet written to the socket.
    bytes: usize,
    /// Of those, what counts for nothing, as it was there first and takes more room than there is:
    /// otherwise nothing else would fit before it is written.
    exempt_bytes: usize,
    /// Its share of what they take, roughly: others may wait for the same frames.
    share: usize,
    limit: usize,
    ping: Option<Ping>,
    pause_reading: bool,
    notify: Option<NotifyWhen>,
    end: Option<CloseOrder>,
    waker: Option<Waker>,
}

impl State {
    fn new(limit: usize, budget: &Arc<MemoryBudget>) -> Self {
        Self {
            queue: VecDeque::new(),
            frames: 0,
            places: MemoryReservation::new(budget, 0),
            bytes: 0,
            exempt_bytes: 0,
            share: 0,
            limit,
            ping: None,
            pause_reading: false,
            notify: None,
            end: None,
            waker: None,
        }
    }

    fn add(&mut self, frame: Frame, wakers: &mut Vec<Waker>) {
        frame.charge(self.places.budget());
        self.bytes += cost(&frame);
        self.share += frame.share() + FRAME_OVERHEAD;
        self.queue.push_back(frame);
        self.count_places(self.frames + 1);
        wakers.extend(self.waker.take());
    }

    fn count_places(&mut self, frames: usize) {
        self.frames = frames;
        self.places
            .set(frames.saturating_sub(RETAINED_CAPACITY) * FRAME_OVERHEAD);
    }

    fn counted_bytes(&self) -> usize {
        self.bytes - self.exempt_bytes
    }
}

/// Makes the two ends. `limit` in bytes; what waits is counted against the budget, too.
pub(crate) fn outbox(limit: usize, budget: &Arc<MemoryBudget>) -> (Outbox, OutboxReceiver) {
    let shared = Arc::new(Mutex::new(State::new(limit, budget)));
    (Outbox(Arc::clone(&shared)), OutboxReceiver(shared))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing between lock and unlock can panic half-way through a change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The broker's end.
pub(crate) struct Outbox(Arc<Mutex<State>>);

impl Outbox {
    /// Adds a frame if there is room for it.
    ///
    /// # Errors
    /// The frame, when there is none.
    pub(crate) fn push(&self, frame: Frame, wakers: &mut Vec<Waker>) -> Result<(), Frame> {
        self.push_into(1, frame, wakers)
    }

    /// Adds a frame if half of the outbox has room for it; the other half is for what the server
    /// has to say itself.
    ///
    /// # Errors
    /// The frame, when there is none.
    pub(crate) fn push_relayed(&self, frame: Frame, wakers: &mut Vec<Waker>) -> Result<(), Frame> {
        self.push_into(2, frame, wakers)
    }

    /// Adds a frame if the first of so many parts of the outbox has room for it.
    fn push_into(&self, parts: usize, frame: Frame, wakers: &mut Vec<Waker>) -> Result<(), Frame> {
        let mut state = lock(&self.0);
        if state.counted_bytes() + cost(&frame) > state.limit / parts {
            // One always fits an empty outbox.
            if state.bytes > 0 {
                return Err(frame);
            }
            state.exempt_bytes = cost(&frame);
        }
        state.add(frame, wakers);
        Ok(())
    }

    /// Adds a frame for which there is no room. The connection will report, and whoever sent it
    /// must be held until then.
    pub(crate) fn push_past_limit(
        &self,
        frame: Frame,
        notify: NotifyWhen,
        wakers: &mut Vec<Waker>,
    ) {
        let mut state = lock(&self.0);
        state.notify = Some(notify);
        state.add(frame, wakers);
    }

    /// Adds a frame for somebody who has had no chance to read anything yet; it counts for nothing.
    pub(crate) fn push_initial(&self, frame: Frame, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.0);
        state.add(frame, wakers);
        state.exempt_bytes = state.bytes;
    }

    /// What would be free without this client, in bytes, roughly.
    pub(crate) fn share(&self) -> usize {
        lock(&self.0).share
    }

    /// Whether the connection is no more.
    pub(crate) fn is_orphaned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Whether so much waits that not even a task that had no turn excuses it.
    pub(crate) fn exceeds_hard_limit(&self) -> bool {
        let state = lock(&self.0);
        state.counted_bytes() / HARD_LIMIT_FACTOR >= state.limit
    }

    /// Asks for a Ping, ahead of what waits.
    pub(crate) fn ping(&self, why: Ping, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.0);
        state.ping = state.ping.max(Some(why));
        wakers.extend(state.waker.take());
    }

    /// Stops the connection from reading, or lets it go on.
    pub(crate) fn pause_reading(&self, pause_reading: bool, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.0);
        state.pause_reading = pause_reading;
        wakers.extend(state.waker.take());
    }

    /// Ends the connection. The first end stands; a later [`CloseOrder::Abort`] still hurries it.
    pub(crate) fn end(&self, end: CloseOrder, wakers: &mut Vec<Waker>) {
        let mut state = lock(&self.0);
        if state.end.is_none() || end == CloseOrder::Abort {
            state.end = Some(end);
        }
        state.pause_reading = false;
        if end == CloseOrder::Abort
            || matches!(end, CloseOrder::Graceful(close) if close.discards_outbox())
        {
            state.queue = VecDeque::new();
        }
        wakers.extend(state.waker.take());
    }
}

/// What [`OutboxReceiver::take`] found besides frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// Send a Ping.
    pub(crate) ping: Option<Ping>,
    /// Do not read from the client.
    pub(crate) pause_reading: bool,
    /// Tell the broker once what there is has been written as far as the socket takes it.
    pub(crate) notify: bool,
    /// End the connection.
    pub(crate) end: Option<CloseOrder>,
}

/// The connection's end.
pub(crate) struct OutboxReceiver(Arc<Mutex<State>>);

impl OutboxReceiver {
    /// Moves all waiting frames to the end of `into`, and says what else there is to do. When
    /// there is nothing new, `cx` is woken once there is.
    pub(crate) fn take(&self, cx: &mut Context<'_>, into: &mut VecDeque<Frame>) -> Directives {
        let mut state = lock(&self.0);
        if into.is_empty() {
            std::mem::swap(&mut state.queue, into);
        } else {
            into.append(&mut state.queue);
        }
        if state.queue.capacity() > RETAINED_CAPACITY {
            state.queue = VecDeque::new();
        }
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        Directives {
            ping: state.ping.take(),
            pause_reading: state.pause_reading,
            notify: state
                .notify
                .take_if(|notify| *notify == NotifyWhen::Flushed)
                .is_some(),
            end: state.end,
        }
    }

    /// Whether the broker wants nothing more of this connection, not even its goodbyes. When it does
    /// later, `cx` is woken.
    pub(crate) fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.0);
        state.waker = Some(cx.waker().clone());
        state.end == Some(CloseOrder::Abort)
    }

    /// Frees the room of `frames` frames of `bytes` octets, now that they are written. The
    /// answer says whether that makes the room for which somebody is held.
    #[must_use]
    pub(crate) fn written(&self, frames: usize, bytes: usize) -> bool {
        let mut state = lock(&self.0);
        let freed = bytes + frames * FRAME_OVERHEAD;
        let before = state.bytes;
        state.bytes = state.bytes.saturating_sub(freed);
        state.share = match state.bytes {
            0 => 0,
            // Which of them are shared by how many is not remembered.
            left => {
                let share = (state.share as u64).saturating_mul(left as u64) / before as u64;
                usize::try_from(share).unwrap_or(usize::MAX)
            }
        };
        state.exempt_bytes = state.exempt_bytes.saturating_sub(freed);
        let left = state.frames.saturating_sub(frames);
        state.count_places(left);
        let room = state.bytes <= state.limit / 2;
        state
            .notify
            .take_if(|notify| room && *notify == NotifyWhen::LowWatermark)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        outbox: Outbox,
        outbox_receiver: OutboxReceiver,
        wakers: Vec<Waker>,
        taken: VecDeque<Frame>,
    }

    impl Pair {
        fn new(limit: usize) -> Self {
            let (outbox, outbox_receiver) = outbox(limit, &MemoryBudget::new(0));
            Self {
                outbox,
                outbox_receiver,
                wakers: Vec::new(),
                taken: VecDeque::new(),
            }
        }

        /// Whether a frame of this cost fits.
        fn push(&mut self, bytes: usize) -> bool {
            self.outbox.push(frame(bytes), &mut self.wakers).is_ok()
        }

        fn push_past_limit(&mut self, notify: NotifyWhen) {
            self.outbox
                .push_past_limit(frame(60), notify, &mut self.wakers);
        }

        fn take(&mut self) -> Directives {
            let mut cx = Context::from_waker(Waker::noop());
            self.outbox_receiver.take(&mut cx, &mut self.taken)
        }

        /// Writes the first of the frames that were taken.
        fn write_one(&mut self) -> bool {
            let frame = self.taken.pop_front().unwrap();
            self.outbox_receiver.written(1, frame.len())
        }
    }

    /// A frame that costs this many bytes in an outbox.
    fn frame(cost: usize) -> Frame {
        let frame = Frame::text("x".repeat(cost - FRAME_OVERHEAD - 2));
        assert_eq!(frame.len() + FRAME_OVERHEAD, cost);
        frame
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let mut pair = Pair::new(200);
        assert!(pair.push(100));
        assert!(pair.push(100));
        assert!(!pair.push(34));
        pair.take();
        assert_eq!(pair.taken.len(), 2);
    }

    #[test]
    fn half_of_it_is_closed_to_some() {
        let mut pair = Pair::new(200);
        let mut push = |bytes| {
            pair.outbox
                .push_relayed(frame(bytes), &mut pair.wakers)
                .is_ok()
        };
        assert!(push(60));
        assert!(push(40));
        assert!(!push(34));
        assert!(pair.push(100));
        let mut empty = Pair::new(50);
        assert!(
            empty
                .outbox
                .push_relayed(frame(60), &mut empty.wakers)
                .is_ok()
        );
    }

    #[test]
    fn one_frame_always_fits_an_empty_one() {
        let mut pair = Pair::new(50);
        assert!(pair.push(150));
    }

    #[test]
    fn a_frame_larger_than_the_limit_takes_nobodys_room() {
        let mut pair = Pair::new(100);
        assert!(pair.push(101));
        assert!(pair.push(100));
        assert!(!pair.push(34));
        pair.take();
        pair.write_one();
        assert!(!pair.push(34), "the other still waits");
        pair.write_one();
        assert!(pair.push(100));
        assert!(!pair.push(34), "now this one does");
    }

    #[test]
    fn what_is_there_first_takes_no_room() {
        let mut pair = Pair::new(100);
        for _ in 0..10 {
            pair.outbox.push_initial(frame(100), &mut pair.wakers);
        }
        assert!(!pair.outbox.exceeds_hard_limit());
        assert!(pair.push(100));
        assert!(!pair.push(34));
        pair.take();
        for _ in 0..11 {
            pair.write_one();
        }
        assert!(pair.push(100));
        assert!(!pair.push(34));
    }

    #[test]
    fn empty_messages_count_too() {
        let mut pair = Pair::new(340);
        assert!((0..10).all(|_| pair.push(34)));
        assert!(!pair.push(34));
    }

    #[test]
    fn room_comes_back_when_frames_are_written_not_when_they_are_taken() {
        let mut pair = Pair::new(100);
        pair.push(100);
        pair.take();
        assert!(!pair.push(34));
        assert!(!pair.write_one(), "nobody is held");
        assert!(pair.push(34));
    }

    #[test]
    fn pushing_over_the_limit_asks_for_a_report_at_half_of_it() {
        let mut pair = Pair::new(100);
        assert!(pair.push(60));
        pair.push_past_limit(NotifyWhen::LowWatermark);
        pair.push_past_limit(NotifyWhen::LowWatermark);
        pair.take();
        assert!(!pair.write_one());
        assert!(!pair.write_one());
        assert!(pair.write_one());
        assert!(!pair.outbox_receiver.written(0, 0), "once is enough");
    }

    #[test]
    fn or_for_one_at_the_connections_next_turn() {
        let mut pair = Pair::new(100);
        assert!(pair.push(90));
        pair.push_past_limit(NotifyWhen::Flushed);
        assert!(pair.take().notify);
        assert!(!pair.take().notify, "once is enough");
    }

    #[test]
    fn it_is_far_over_at_four_times_the_limit() {
        let mut pair = Pair::new(100);
        for _ in 0..6 {
            assert!(!pair.outbox.exceeds_hard_limit());
            pair.push_past_limit(NotifyWhen::Flushed);
        }
        pair.push_past_limit(NotifyWhen::Flushed);
        assert!(pair.outbox.exceeds_hard_limit());
    }

    #[test]
    fn what_waits_is_charged_until_it_is_written() {
        let budget = MemoryBudget::new(0);
        let (outbox, outbox_receiver) = outbox(1 << 20, &budget);
        let (mut wakers, mut taken) = (Vec::new(), VecDeque::new());
        let frame = frame(100);
        for _ in 0..RETAINED_CAPACITY + 10 {
            outbox.push(frame.clone(), &mut wakers).unwrap();
        }
        let all = budget.reserved();
        outbox_receiver.take(&mut Context::from_waker(Waker::noop()), &mut taken);
        assert_eq!(budget.reserved(), all);
        let _ = outbox_receiver.written(10, 10 * frame.len());
        assert_eq!(budget.reserved(), all - 10 * FRAME_OVERHEAD);
        drop((frame, taken, outbox, outbox_receiver));
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn what_others_wait_for_as_well_is_shared() {
        let mut pair = Pair::new(1 << 20);
        let alone = Frame::text("x".repeat(10_000));
        let others = vec![alone.clone(); 99];
        pair.outbox.push(alone, &mut pair.wakers).unwrap();
        assert!((100..300).contains(&pair.outbox.share()));
        drop(others);
        let other = Frame::text("x".repeat(10_000));
        pair.outbox.push(other, &mut pair.wakers).unwrap();
        assert!((10_000..10_400).contains(&pair.outbox.share()));
        pair.take();
        pair.write_one();
        assert!(pair.outbox.share() < 10_000);
        pair.write_one();
        assert_eq!(pair.outbox.share(), 0);
    }

    #[test]
    fn a_close_comes_after_what_waits() {
        let mut pair = Pair::new(10_000);
        pair.push(34);
        pair.outbox.end(
            CloseOrder::Graceful(CloseReason::PeerLeft),
            &mut pair.wakers,
        );
        assert_eq!(
            pair.take().end,
            Some(CloseOrder::Graceful(CloseReason::PeerLeft))
        );
        assert_eq!(pair.taken.len(), 1);
    }

    #[test]
    fn whoever_is_too_slow_loses_what_waits() {
        let mut pair = Pair::new(10_000);
        pair.push(34);
        pair.outbox
            .end(CloseOrder::Graceful(CloseReason::TooSlow), &mut pair.wakers);
        assert_eq!(
            pair.take().end,
            Some(CloseOrder::Graceful(CloseReason::TooSlow))
        );
        assert!(pair.taken.is_empty());
    }

    #[test]
    fn the_first_end_stands_but_a_drop_hurries_it() {
        let mut pair = Pair::new(10_000);
        pair.outbox.end(
            CloseOrder::Graceful(CloseReason::PeerLeft),
            &mut pair.wakers,
        );
        pair.outbox.end(
            CloseOrder::Graceful(CloseReason::ShuttingDown),
            &mut pair.wakers,
        );
        assert_eq!(
            pair.take().end,
            Some(CloseOrder::Graceful(CloseReason::PeerLeft))
        );
        pair.outbox.end(CloseOrder::Abort, &mut pair.wakers);
        assert_eq!(pair.take().end, Some(CloseOrder::Abort));
    }

    #[test]
    fn a_goodbye_may_be_cut_short() {
        let mut pair = Pair::new(10_000);
        let mut cx = Context::from_waker(Waker::noop());
        pair.outbox.end(
            CloseOrder::Graceful(CloseReason::PeerLeft),
            &mut pair.wakers,
        );
        assert!(!pair.outbox_receiver.is_aborted(&mut cx));
        pair.outbox.end(CloseOrder::Abort, &mut pair.wakers);
        assert_eq!(pair.wakers.len(), 1);
        assert!(pair.outbox_receiver.is_aborted(&mut cx));
        assert!(!pair.outbox.is_orphaned());
        drop(pair.outbox_receiver);
        assert!(pair.outbox.is_orphaned());
    }

    #[test]
    fn a_ping_is_ordered_once_and_for_the_weightiest_of_its_reasons() {
        let mut pair = Pair::new(10_000);
        for why in [Ping::Silence, Ping::Probe, Ping::RoundTrip] {
            pair.outbox.ping(why, &mut pair.wakers);
        }
        assert_eq!(pair.take().ping, Some(Ping::Probe));
        assert_eq!(pair.take().ping, None);
    }

    #[test]
    fn the_connection_is_woken_once_for_many_frames() {
        let mut pair = Pair::new(10_000);
        pair.take();
        pair.push(34);
        pair.push(34);
        pair.push(34);
        assert_eq!(pair.wakers.len(), 1);
        pair.take();
        pair.push(34);
        assert_eq!(pair.wakers.len(), 2);
    }
}
