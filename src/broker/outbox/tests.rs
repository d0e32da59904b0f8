use super::*;
use std::iter;

/// Both ends of an outbox.
struct Pair {
    outbox: Outbox,
    receiver: OutboxReceiver,
    wakeups: Wakeups,
    taken: VecDeque<Frame>,
}

impl Pair {
    fn new(limit: usize) -> Self {
        let (outbox, receiver) = outbox(limit, &MemoryBudget::new(0));
        Self {
            outbox,
            receiver,
            wakeups: Wakeups::default(),
            taken: VecDeque::new(),
        }
    }

    /// Pushes a frame of this cost, and returns whether it fits.
    fn push(&mut self, cost: usize) -> bool {
        self.outbox.push(frame(cost), &mut self.wakeups).is_ok()
    }

    /// Pushes a relayed frame of this cost, and returns whether it fits.
    fn push_relayed(&mut self, cost: usize) -> bool {
        self.outbox
            .push_relayed(frame(cost), &mut self.wakeups)
            .is_ok()
    }

    /// Pushes a frame of 60 bytes above the limit.
    fn push_past_limit(&mut self, notify: NotifyWhen) {
        self.outbox
            .push_past_limit(frame(60), notify, &mut self.wakeups);
    }

    fn take(&mut self) -> Directives {
        let mut cx = Context::from_waker(Waker::noop());
        self.receiver.take(&mut cx, &mut self.taken)
    }

    /// Releases the first frame that was taken, and returns whether to notify the broker.
    fn release_one(&mut self) -> bool {
        let frame = self.taken.pop_front().unwrap();
        self.receiver.release(1, frame.len())
    }

    fn close(&mut self, order: CloseOrder) {
        self.outbox.close(order, &mut self.wakeups);
    }
}

/// A frame that costs this many bytes in an outbox.
fn frame(cost: usize) -> Frame {
    let frame = Frame::text("x".repeat(cost - FRAME_OVERHEAD - 2));
    assert_eq!(frame.len() + FRAME_OVERHEAD, cost);
    frame
}

#[test]
fn an_outbox_is_bounded_in_bytes() {
    let mut pair = Pair::new(200);
    assert!(pair.push(100));
    assert!(pair.push(100));
    assert!(!pair.push(34));
    pair.take();
    assert_eq!(pair.taken.len(), 2);
}

#[test]
fn relayed_frames_may_fill_half_of_the_limit() {
    let mut pair = Pair::new(200);
    assert!(pair.push_relayed(60));
    assert!(pair.push_relayed(40));
    assert!(!pair.push_relayed(34));
    assert!(pair.push(100));
    let mut empty = Pair::new(50);
    assert!(empty.push_relayed(60));
}

#[test]
fn a_single_frame_always_fits_an_empty_outbox() {
    let mut pair = Pair::new(50);
    assert!(pair.push(150));
}

#[test]
fn a_frame_larger_than_the_limit_is_exempt_from_it() {
    let mut pair = Pair::new(100);
    assert!(pair.push(101));
    assert!(pair.push(100));
    assert!(!pair.push(34));
    pair.take();
    pair.release_one();
    assert!(!pair.push(34), "the second frame is not written yet");
    pair.release_one();
    assert!(pair.push(100));
    assert!(!pair.push(34), "the third frame is not written yet");
}

#[test]
fn initial_frames_are_exempt_from_the_limit() {
    let mut pair = Pair::new(100);
    for _ in 0..10 {
        pair.outbox.push_initial(frame(100), &mut pair.wakeups);
    }
    assert!(!pair.outbox.exceeds_hard_limit(iter::empty()));
    assert!(pair.push(100));
    assert!(!pair.push(34));
    pair.take();
    for _ in 0..11 {
        pair.release_one();
    }
    assert!(pair.push(100));
    assert!(!pair.push(34));
}

#[test]
fn empty_messages_count_against_the_limit() {
    let mut pair = Pair::new(340);
    assert!((0..10).all(|_| pair.push(34)));
    assert!(!pair.push(34));
}

#[test]
fn capacity_is_freed_when_frames_are_written_not_when_they_are_taken() {
    let mut pair = Pair::new(100);
    pair.push(100);
    pair.take();
    assert!(!pair.push(34));
    assert!(!pair.release_one(), "no sender is paused");
    assert!(pair.push(34));
}

#[test]
fn the_broker_is_notified_once_at_the_low_watermark() {
    let mut pair = Pair::new(100);
    assert!(pair.push(60));
    pair.push_past_limit(NotifyWhen::LowWatermark);
    pair.push_past_limit(NotifyWhen::LowWatermark);
    pair.take();
    assert!(!pair.release_one());
    assert!(!pair.release_one());
    assert!(pair.release_one());
    assert!(!pair.receiver.release(0, 0), "only once");
}

#[test]
fn the_broker_is_notified_once_after_a_flush() {
    let mut pair = Pair::new(100);
    assert!(pair.push(90));
    pair.push_past_limit(NotifyWhen::Flushed);
    assert!(pair.take().notify);
    assert!(!pair.take().notify, "only once");
}

#[test]
fn the_hard_limit_is_four_times_the_limit() {
    let mut pair = Pair::new(100);
    for _ in 0..6 {
        assert!(!pair.outbox.exceeds_hard_limit(iter::empty()));
        pair.push_past_limit(NotifyWhen::Flushed);
    }
    pair.push_past_limit(NotifyWhen::Flushed);
    assert!(pair.outbox.exceeds_hard_limit(iter::empty()));
}

#[test]
fn queued_frames_are_reserved_in_the_budget_until_they_are_written() {
    let budget = MemoryBudget::new(0);
    let (outbox, receiver) = outbox(1 << 20, &budget);
    let (mut wakeups, mut taken) = (Wakeups::default(), VecDeque::new());
    let frame = frame(100);
    for _ in 0..UNCOUNTED_MESSAGES + 10 {
        outbox.push(frame.clone(), &mut wakeups).unwrap();
    }
    let all = budget.reserved();
    receiver.take(&mut Context::from_waker(Waker::noop()), &mut taken);
    assert_eq!(budget.reserved(), all);
    let _ = receiver.release(10, 10 * frame.len());
    assert_eq!(budget.reserved(), all - 10 * FRAME_OVERHEAD);
    drop((frame, taken, outbox, receiver));
    assert_eq!(budget.reserved(), 0);
}

#[test]
fn a_frame_queued_for_many_clients_counts_in_part_for_each() {
    let mut pair = Pair::new(1 << 20);
    let shared = Frame::text("x".repeat(10_000));
    let others = vec![shared.clone(); 99];
    pair.outbox.push(shared, &mut pair.wakeups).unwrap();
    assert!((100..300).contains(&pair.outbox.share()));
    drop(others);
    let own = Frame::text("x".repeat(10_000));
    pair.outbox.push(own, &mut pair.wakeups).unwrap();
    assert!((10_000..10_400).contains(&pair.outbox.share()));
    pair.take();
    pair.release_one();
    assert!(pair.outbox.share() < 10_000);
    pair.release_one();
    assert_eq!(pair.outbox.share(), 0);
}

#[test]
fn a_close_follows_the_queued_frames() {
    let mut pair = Pair::new(10_000);
    let order = CloseOrder::Graceful(CloseReason::GOODBYE);
    pair.push(34);
    pair.close(order);
    assert_eq!(pair.take().close, Some(order));
    assert_eq!(pair.taken.len(), 1);
}

#[test]
fn a_close_for_slowness_discards_the_queued_frames() {
    let mut pair = Pair::new(10_000);
    let order = CloseOrder::Graceful(CloseReason::TOO_SLOW);
    pair.push(34);
    pair.close(order);
    assert_eq!(pair.take().close, Some(order));
    assert!(pair.taken.is_empty());
}

#[test]
fn the_first_close_order_stands_unless_a_later_one_is_an_abort() {
    let mut pair = Pair::new(10_000);
    let first = CloseOrder::Graceful(CloseReason::GOODBYE);
    pair.close(first);
    pair.close(CloseOrder::Graceful(CloseReason::SHUTTING_DOWN));
    assert_eq!(pair.take().close, Some(first));
    pair.close(CloseOrder::Abort);
    assert_eq!(pair.take().close, Some(CloseOrder::Abort));
}

#[test]
fn an_abort_wakes_a_connection_that_is_closing() {
    let mut pair = Pair::new(10_000);
    let mut cx = Context::from_waker(Waker::noop());
    pair.close(CloseOrder::Graceful(CloseReason::GOODBYE));
    assert!(!pair.receiver.is_aborted(&mut cx));
    pair.close(CloseOrder::Abort);
    assert_eq!(pair.wakeups.woken(), 1);
    assert!(pair.receiver.is_aborted(&mut cx));
    assert!(!pair.outbox.is_disconnected());
    drop(pair.receiver);
    assert!(pair.outbox.is_disconnected());
}

#[test]
fn several_reasons_make_one_ping_for_the_highest_of_them() {
    let mut pair = Pair::new(10_000);
    for reason in [
        PingReason::Silence,
        PingReason::Probe,
        PingReason::MeasureRtt,
    ] {
        pair.outbox.ping(reason, &mut pair.wakeups);
    }
    assert_eq!(pair.take().ping, Some(PingReason::Probe));
    assert_eq!(pair.take().ping, None);
}

#[test]
fn the_connection_is_woken_once_for_many_frames() {
    let mut pair = Pair::new(10_000);
    pair.take();
    pair.push(34);
    pair.push(34);
    pair.push(34);
    assert_eq!(pair.wakeups.woken(), 1);
    pair.take();
    pair.push(34);
    assert_eq!(pair.wakeups.woken(), 2);
}
