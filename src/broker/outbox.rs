//! The outbox of a client: a queue of frames, bounded in bytes, and the broker's directives for the
//! connection.
//!
//! The broker holds one end, [`Outbox`], and never waits; the connection holds the other,
//! [`OutboxReceiver`], and is woken. Wakers are returned to the broker, which calls them once per
//! batch, so that all frames of a batch leave in one flush.

mod direct;
mod wakeups;

use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::base::spare::FreeSpare;
pub(crate) use direct::{DirectWriter, Sink};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
pub(crate) use wakeups::Wakeups;

/// Bytes that a queued message costs in addition to its own: its slot in the queue and its share of the
/// allocation. Counting them bounds the queue for empty messages, too.
const FRAME_OVERHEAD: usize = 32;

/// Number of queued messages whose slots are not counted in the memory budget, so that a few messages cost no write to
/// memory that all connections share.
const UNCOUNTED_MESSAGES: usize = 64;

/// Largest capacity in frames that an empty queue keeps, until [`Outbox::free_spare`] frees it: that of a batch in a busy
/// room. A larger one is freed at once, so that a storm of joins does not leave one with each of thousands of clients.
const RETAINED_FRAMES: usize = 16;

/// Returns what a frame counts against a limit: as much as its messages would in frames of their own.
fn cost(frame: &Frame) -> usize {
    frame.len() + frame.messages() * FRAME_OVERHEAD
}

/// Multiple of the limit at which a client counts as slow even if its task was not scheduled.
/// Several senders may go above the limit before the task runs, but not without bound.
const HARD_LIMIT_FACTOR: usize = 4;

/// An order of the broker to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseOrder {
    /// With a Close frame, sent after the queued frames unless the reason discards them.
    Graceful(CloseReason),
    /// At once, without a Close frame.
    Abort,
}

/// The reason for a Ping, in ascending priority. Pending requests are merged; the highest reason wins. The connection
/// treats the first two alike, and the broker's tests tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PingReason {
    /// To measure the round trip.
    MeasureRtt,
    /// The client has been silent.
    Silence,
    /// A realm probes the client: the connection must report the next message to the broker.
    Probe,
}

/// The moment at which the connection notifies the broker about its outbox. The senders of frames above the
/// limit are paused until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotifyWhen {
    /// Once it has written as much as its socket accepts.
    Flushed,
    /// Once at most half of the limit is in use.
    LowWatermark,
}

struct State {
    queue: VecDeque<Frame>,
    /// Number of messages that were pushed and are not yet written to the socket.
    messages: usize,
    /// Memory reserved for the queue slots of messages above [`UNCOUNTED_MESSAGES`].
    slot_memory: MemoryReservation,
    /// Cost of the frames that were pushed and are not yet written to the socket.
    bytes: usize,
    /// Bytes exempt from `limit`: the initial frames, or one frame larger than the limit (with
    /// `push_relayed`, larger than half the limit). Without the exemption nothing else could be queued until
    /// they are written.
    exempt_bytes: usize,
    /// This client's share of `bytes`: a frame that is queued for several clients counts in part for
    /// each. An estimate.
    share: usize,
    /// Limit of `bytes - exempt_bytes`; `push_past_limit` may exceed it.
    limit: usize,
    ping: Option<PingReason>,
    reading_paused: bool,
    notify: Option<NotifyWhen>,
    close: Option<CloseOrder>,
    waker: Option<Waker>,
    /// What the broker writes to the socket with.
    direct_writer: Option<DirectWriter>,
    /// Whether the connection's task has nothing to write, so that the broker may.
    is_task_idle: bool,
    /// Whether the broker is to write at the end of its batch.
    is_write_due: bool,
    /// Bytes that the broker has written of the first queued frame.
    written: usize,
}

impl State {
    fn new(limit: usize, budget: &Arc<MemoryBudget>) -> Self {
        Self {
            queue: VecDeque::new(),
            messages: 0,
            slot_memory: MemoryReservation::new(budget, 0),
            bytes: 0,
            exempt_bytes: 0,
            share: 0,
            limit,
            ping: None,
            reading_paused: false,
            notify: None,
            close: None,
            waker: None,
            direct_writer: None,
            is_task_idle: false,
            is_write_due: false,
            written: 0,
        }
    }

    fn add(&mut self, frame: Frame) {
        frame.reserve(self.slot_memory.budget());
        self.bytes += cost(&frame);
        self.share += frame.bytes_per_holder() + frame.messages() * FRAME_OVERHEAD;
        self.set_messages(self.messages + frame.messages());
        self.queue.push_back(frame);
    }

    fn set_messages(&mut self, messages: usize) {
        self.messages = messages;
        self.slot_memory
            .set(messages.saturating_sub(UNCOUNTED_MESSAGES) * FRAME_OVERHEAD);
    }

    /// Moves the queued frames to the end of `frames`, and returns how many bytes of them are written.
    fn take_queue(&mut self, frames: &mut VecDeque<Frame>) -> usize {
        // An empty queue stays here: the broker writes what comes next, which needs its block.
        if frames.is_empty() && !self.queue.is_empty() {
            std::mem::swap(&mut self.queue, frames);
        } else {
            frames.append(&mut self.queue);
        }
        self.free_large_queue();
        std::mem::take(&mut self.written)
    }

    /// Frees the block of an empty queue if it is larger than is kept.
    fn free_large_queue(&mut self) {
        if self.queue.capacity() > RETAINED_FRAMES {
            self.queue = VecDeque::new();
        }
    }

    /// Frees the capacity of messages of `bytes` bytes in total.
    fn release(&mut self, messages: usize, bytes: usize) {
        let freed = bytes + messages * FRAME_OVERHEAD;
        let before = self.bytes;
        self.bytes = self.bytes.saturating_sub(freed);
        self.share = match self.bytes {
            0 => 0,
            // In proportion: by how many clients each of the frames is shared is not recorded.
            left => {
                let share = (self.share as u64).saturating_mul(left as u64) / before as u64;
                usize::try_from(share).unwrap_or(usize::MAX)
            }
        };
        self.exempt_bytes = self.exempt_bytes.saturating_sub(freed);
        self.set_messages(self.messages.saturating_sub(messages));
    }

    /// Returns the bytes that count against the limit.
    fn counted_bytes(&self) -> usize {
        self.bytes - self.exempt_bytes
    }

    /// Returns the bytes that will be queued, and those of them that will count against the limit, once these frames
    /// are pushed with [`Outbox::push`].
    fn bytes_after<'a>(&self, frames: impl Iterator<Item = &'a Frame>) -> (usize, usize) {
        let (mut bytes, mut exempt) = (self.bytes, self.exempt_bytes);
        for frame in frames {
            if bytes == 0 && cost(frame) > self.limit {
                exempt = cost(frame);
            }
            bytes += cost(frame);
        }
        (bytes, bytes - exempt)
    }
}

/// Creates an outbox of `limit` bytes and returns its two ends. Queued frames are also counted in
/// `budget`.
pub(crate) fn outbox(limit: usize, budget: &Arc<MemoryBudget>) -> (Outbox, OutboxReceiver) {
    let shared = Arc::new(Mutex::new(State::new(limit, budget)));
    (Outbox(Arc::clone(&shared)), OutboxReceiver(shared))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code that holds the lock can panic in the middle of a change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The broker's end of an outbox.
pub(crate) struct Outbox(Arc<Mutex<State>>);

impl Outbox {
    /// Queues a frame if the limit allows it. A single frame always fits an empty outbox.
    ///
    /// # Errors
    /// The frame, if the outbox is full.
    pub(crate) fn push(&self, frame: Frame, wakeups: &mut Wakeups) -> Result<(), Frame> {
        self.push_within(1, frame, wakeups)
    }

    /// Queues a frame from another client if half of the limit allows it. The other half is reserved
    /// for the server's own frames.
    ///
    /// # Errors
    /// The frame, if that half is full.
    pub(crate) fn push_relayed(&self, frame: Frame, wakeups: &mut Wakeups) -> Result<(), Frame> {
        self.push_within(2, frame, wakeups)
    }

    /// Queues a frame of several messages if the limit allows it, and returns whether it does. There is no exemption
    /// for an empty outbox, so that the messages are queued together only if they would be one by one.
    pub(crate) fn push_joined(&self, frame: &Frame, wakeups: &mut Wakeups) -> bool {
        let mut state = lock(&self.0);
        let fits = state.counted_bytes() + cost(frame) <= state.limit;
        if fits {
            state.add(frame.clone());
            self.announce(&mut state, wakeups);
        }
        fits
    }

    /// Returns whether [`Outbox::push_relayed`] of this frame would succeed after these other frames.
    pub(crate) fn has_capacity_for_relayed<'a>(
        &self,
        frame: &Frame,
        before: impl Iterator<Item = &'a Frame>,
    ) -> bool {
        let state = lock(&self.0);
        let (bytes, counted) = state.bytes_after(before);
        bytes == 0 || counted + cost(frame) <= state.limit / 2
    }

    /// Queues a frame if the limit divided by `divisor` allows it, or the outbox is empty.
    fn push_within(
        &self,
        divisor: usize,
        frame: Frame,
        wakeups: &mut Wakeups,
    ) -> Result<(), Frame> {
        let mut state = lock(&self.0);
        if state.counted_bytes() + cost(&frame) > state.limit / divisor {
            if state.bytes > 0 {
                return Err(frame);
            }
            state.exempt_bytes = cost(&frame);
        }
        state.add(frame);
        self.announce(&mut state, wakeups);
        Ok(())
    }

    /// Queues a frame above the limit. The connection will notify the broker as `notify` says; the
    /// caller must pause the frame's sender until then.
    pub(crate) fn push_past_limit(&self, frame: Frame, notify: NotifyWhen, wakeups: &mut Wakeups) {
        let mut state = lock(&self.0);
        state.notify = Some(notify);
        state.add(frame);
        self.announce(&mut state, wakeups);
    }

    /// Queues a frame for a client that is just connecting and has had no chance to read yet. It is
    /// exempt from the limit.
    pub(crate) fn push_initial(&self, frame: Frame, wakeups: &mut Wakeups) {
        let mut state = lock(&self.0);
        state.add(frame);
        self.announce(&mut state, wakeups);
        state.exempt_bytes = state.bytes;
    }

    /// Has the broker write a frame that was just queued at the end of its batch, or wakes the connection's task.
    fn announce(&self, state: &mut State, wakeups: &mut Wakeups) {
        if !state.can_write_directly() {
            wakeups.wake(state.waker.take());
        } else if !std::mem::replace(&mut state.is_write_due, true) {
            wakeups.write_later(Arc::clone(&self.0));
        }
    }

    /// Frees what the queue keeps for its next frames while it is empty.
    pub(crate) fn free_spare(&self) {
        lock(&self.0).queue.free_spare();
    }

    /// Returns the number of frames for which the queue has room without allocating.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        lock(&self.0).queue.capacity()
    }

    /// Returns the bytes that are queued, or taken and not yet written, as they count against the limit.
    pub(crate) fn queued_bytes(&self) -> usize {
        lock(&self.0).bytes
    }

    /// Returns the bytes that closing this connection would free: its own frames, and its share of
    /// frames that are queued for several clients. An estimate.
    pub(crate) fn share(&self) -> usize {
        lock(&self.0).share
    }

    /// Returns whether the connection has ended and dropped its end.
    ///
    /// The reference count tells: only [`outbox`] makes references, one for each end, no end can be cloned, and
    /// the state holds none to itself. So a 1 is final. A third one is among the [`Wakeups`] of the current batch, and a
    /// count may be a moment old: then the connection counts as open until the next look.
    pub(crate) fn is_disconnected(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Returns whether [`HARD_LIMIT_FACTOR`] times the limit is queued once these frames are pushed.
    pub(crate) fn exceeds_hard_limit<'a>(&self, before: impl Iterator<Item = &'a Frame>) -> bool {
        let state = lock(&self.0);
        let (_, counted) = state.bytes_after(before);
        counted / HARD_LIMIT_FACTOR >= state.limit
    }

    /// Requests a Ping, to be sent ahead of the queued frames.
    pub(crate) fn ping(&self, reason: PingReason, wakeups: &mut Wakeups) {
        let mut state = lock(&self.0);
        state.ping = state.ping.max(Some(reason));
        wakeups.wake(state.waker.take());
    }

    /// Makes the connection pause or resume reading from its client.
    pub(crate) fn set_reading_paused(&self, paused: bool, wakeups: &mut Wakeups) {
        let mut state = lock(&self.0);
        state.reading_paused = paused;
        wakeups.wake(state.waker.take());
    }

    /// Closes the connection. The first order stays in effect, but a [`CloseOrder::Abort`] replaces it.
    /// Resumes reading.
    pub(crate) fn close(&self, order: CloseOrder, wakeups: &mut Wakeups) {
        let mut state = lock(&self.0);
        if state.close.is_none() || order == CloseOrder::Abort {
            state.close = Some(order);
        }
        state.reading_paused = false;
        let discards_queue = match order {
            CloseOrder::Abort => true,
            CloseOrder::Graceful(reason) => reason.discards_outbox(),
        };
        if discards_queue {
            // What is written in part must be finished before a Close frame.
            let partial = state.queue.pop_front().filter(|_| state.written > 0);
            state.queue = partial.into_iter().collect();
        }
        wakeups.wake(state.waker.take());
    }
}

/// Instructions of the broker to a connection, in addition to the queued frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// Send a Ping.
    pub(crate) ping: Option<PingReason>,
    /// Do not read from the client.
    pub(crate) pause_reading: bool,
    /// Notify the broker once as much is written as the socket accepts.
    pub(crate) notify: bool,
    /// End the connection.
    pub(crate) close: Option<CloseOrder>,
    /// Bytes that the broker has written of the first frame that was queued.
    pub(crate) written: usize,
}

/// The connection's end of an outbox.
pub(crate) struct OutboxReceiver(Arc<Mutex<State>>);

impl OutboxReceiver {
    /// Moves all queued frames to the end of `frames` and returns the broker's directives. The task of
    /// `cx` is woken on the next change.
    pub(crate) fn take(&self, cx: &mut Context<'_>, frames: &mut VecDeque<Frame>) -> Directives {
        let mut state = lock(&self.0);
        // Until the task has written these, the broker must not write others.
        state.is_task_idle &= state.queue.is_empty();
        let written = state.take_queue(frames);
        if !state
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            state.waker = Some(cx.waker().clone());
        }
        Directives {
            ping: state.ping.take(),
            pause_reading: state.reading_paused,
            notify: state
                .notify
                .take_if(|notify| *notify == NotifyWhen::Flushed)
                .is_some(),
            close: state.close,
            written,
        }
    }

    /// Has the broker write to the socket whenever the connection's task has nothing to write.
    pub(crate) fn set_direct_writer(&self, writer: DirectWriter) {
        lock(&self.0).direct_writer = Some(writer);
    }

    /// Records that the connection's task has nothing to write.
    pub(crate) fn set_task_idle(&self) {
        lock(&self.0).is_task_idle = true;
    }

    /// Has the broker write nothing until the task is idle again. Moves what is queued to the end of `frames`, and returns
    /// how many bytes of it are written.
    pub(crate) fn claim_socket(&self, frames: &mut VecDeque<Frame>) -> usize {
        let mut state = lock(&self.0);
        state.is_task_idle = false;
        state.take_queue(frames)
    }

    /// Has the broker write nothing any more.
    pub(crate) fn drop_direct_writer(&self) {
        let writer = lock(&self.0).direct_writer.take();
        // After the lock is free again: it may be the last reference to the socket.
        drop(writer);
    }

    /// Returns whether the broker has ordered [`CloseOrder::Abort`], which also cuts a closing
    /// handshake short. The task of `cx` is woken if it does so later.
    pub(crate) fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.0);
        state.waker = Some(cx.waker().clone());
        state.close == Some(CloseOrder::Abort)
    }

    /// Frees the capacity of `messages` messages of `bytes` bytes in total, which were taken and are now
    /// written or dropped. Returns whether the connection must notify the broker that the outbox is
    /// down to [`NotifyWhen::LowWatermark`].
    #[must_use]
    pub(crate) fn release(&self, messages: usize, bytes: usize) -> bool {
        let mut state = lock(&self.0);
        state.release(messages, bytes);
        let is_low = state.bytes <= state.limit / 2;
        state
            .notify
            .take_if(|notify| is_low && *notify == NotifyWhen::LowWatermark)
            .is_some()
    }
}

/// The socket is closed with the connection's task, however long the broker keeps its end.
impl Drop for OutboxReceiver {
    fn drop(&mut self) {
        self.drop_direct_writer();
    }
}

#[cfg(test)]
mod tests;
