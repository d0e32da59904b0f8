//! The broker's own writes: while a connection's task has nothing to write, the broker writes what it has queued to the
//! socket itself, and the task is not woken for it.
//!
//! The broker writes with the outbox locked. A task that has something to write takes the outbox's frames first, and the
//! broker writes none until the task says that it is idle. So the two never write at the same time.

use super::{State, lock};
use crate::base::coalesce::with_coalesced;
use crate::broker::SocketStatus;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// A socket that takes bytes without waiting.
pub(crate) trait Sink: Send + Sync {
    /// Writes as much of the pieces as the socket takes, `Pending` if that is nothing.
    ///
    /// # Errors
    /// Those of send(2).
    fn write(&self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
}

/// What the broker writes to a connection's socket with.
pub(crate) struct DirectWriter {
    sink: Arc<dyn Sink>,
    status: Arc<SocketStatus>,
}

impl DirectWriter {
    pub(crate) fn new(sink: Arc<dyn Sink>, status: Arc<SocketStatus>) -> Self {
        Self { sink, status }
    }
}

impl State {
    /// Returns whether the broker may write what it queues. A task that must do something else is to do all.
    pub(super) fn can_write_directly(&self) -> bool {
        self.is_task_idle
            && self.direct_writer.is_some()
            && self.close.is_none()
            && self.notify.is_none()
    }

    /// Writes the queued frames with one system call. Returns whether the socket has taken all of them.
    fn write(&mut self) -> bool {
        let Some(DirectWriter { sink, status }) = &self.direct_writer else {
            return false;
        };
        let pieces = self.queue.iter().flat_map(|frame| frame.pieces(0));
        let written = with_coalesced(pieces, |pieces| status.write(|| sink.write(pieces)));
        // An error is left to the task, which meets it again.
        let Poll::Ready(Ok(mut bytes)) = written else {
            return false;
        };
        let (mut messages, mut freed) = (0, 0);
        while let Some(frame) = self.queue.front().filter(|frame| frame.len() <= bytes) {
            bytes -= frame.len();
            freed += frame.len();
            messages += frame.messages();
            self.queue.pop_front();
        }
        status.traffic.counts.messages_out.add(messages as u64);
        self.written = bytes;
        self.release(messages, freed);
        self.queue.is_empty()
    }
}

/// Writes what is queued in an outbox. Returns the waker of the connection's task if something is left to do for it.
pub(super) fn write(outbox: &Mutex<State>) -> Option<Waker> {
    let mut state = lock(outbox);
    state.is_write_due = false;
    if state.queue.is_empty() {
        return None;
    }
    if state.can_write_directly() && state.write() {
        state.free_large_queue();
        return None;
    }
    state.is_task_idle = false;
    state.waker.take()
}

#[cfg(test)]
mod tests {
    use super::super::{Outbox, OutboxReceiver, PingReason, Wakeups, outbox};
    use super::*;
    use crate::base::close::CloseReason;
    use crate::base::frame::Frame;
    use crate::base::memory_budget::MemoryBudget;
    use crate::broker::{Clock, CloseOrder};
    use futures::task::noop_waker_ref;
    use std::collections::VecDeque;
    use std::task::Context;

    /// A socket that takes this many bytes, and records the writes.
    #[derive(Default)]
    struct MockSink {
        capacity: Mutex<usize>,
        is_broken: bool,
        writes: Mutex<Vec<Vec<u8>>>,
    }

    impl Sink for MockSink {
        fn write(&self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            if self.is_broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let mut bytes: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.iter().copied())
                .collect();
            let mut capacity = self.capacity.lock().unwrap();
            if *capacity == 0 {
                return Poll::Pending;
            }
            bytes.truncate(*capacity);
            *capacity -= bytes.len();
            let length = bytes.len();
            self.writes.lock().unwrap().push(bytes);
            Poll::Ready(Ok(length))
        }
    }

    /// Both ends of an outbox whose task is idle, and what is behind it.
    struct Pair {
        outbox: Outbox,
        receiver: OutboxReceiver,
        sink: Arc<MockSink>,
        status: Arc<SocketStatus>,
        wakeups: Wakeups,
    }

    impl Pair {
        fn new(sink: MockSink) -> Self {
            let budget = MemoryBudget::new(0);
            let (outbox, receiver) = outbox(1 << 20, &budget);
            let status = SocketStatus::new(&Arc::new(Clock::new()), &budget, &Arc::default());
            let (sink, status) = (Arc::new(sink), Arc::new(status));
            let writer = DirectWriter::new(Arc::clone(&sink) as _, Arc::clone(&status));
            receiver.set_direct_writer(writer);
            let pair = Self {
                outbox,
                receiver,
                sink,
                status,
                wakeups: Wakeups::default(),
            };
            pair.take();
            pair.receiver.set_task_idle();
            pair
        }

        /// A pair whose socket takes this many bytes.
        fn with_capacity(bytes: usize) -> Self {
            Self::new(MockSink {
                capacity: bytes.into(),
                ..MockSink::default()
            })
        }

        fn push(&mut self, text: &str) {
            let frame = Frame::text(text.to_owned());
            assert!(self.outbox.push(frame, &mut self.wakeups).is_ok());
        }

        /// Takes what is left for the task: the bytes of these frames, and how many of them are written.
        fn take(&self) -> (usize, usize) {
            let mut frames = VecDeque::new();
            let mut cx = Context::from_waker(noop_waker_ref());
            let directives = self.receiver.take(&mut cx, &mut frames);
            (frames.iter().map(Frame::len).sum(), directives.written)
        }

        /// Ends a batch. Returns what the broker has written in it, write by write.
        fn end_batch(&mut self) -> Vec<Vec<u8>> {
            self.wakeups.wake_all();
            self.wakeups.write_first(usize::MAX);
            std::mem::take(&mut self.sink.writes.lock().unwrap())
        }
    }

    #[test]
    fn what_is_queued_in_a_batch_leaves_in_one_write_without_the_task() {
        let mut pair = Pair::with_capacity(1000);
        pair.push("one");
        pair.push("two");
        assert_eq!(pair.wakeups.woken(), 0);
        assert_eq!(pair.end_batch(), [b"\x81\x03one\x81\x03two"]);
        assert_eq!((pair.outbox.queued_bytes(), pair.take()), (0, (0, 0)));
        let counts = pair.status.traffic.counts.get();
        assert_eq!((counts.messages_out, counts.bytes_out), (2, 10));
    }

    #[test]
    fn what_the_socket_does_not_take_is_left_to_the_task_from_the_next_byte_on() {
        let mut pair = Pair::with_capacity(7);
        pair.push("one");
        pair.push("two");
        assert_eq!(pair.end_batch(), [b"\x81\x03one\x81\x03"]);
        // The capacity of the first is free, and that of the second is not.
        assert_eq!(pair.status.traffic.counts.get().messages_out, 1);
        assert!(pair.outbox.queued_bytes() >= 5);
        pair.push("three");
        *pair.sink.capacity.lock().unwrap() = 1000;
        assert!(pair.end_batch().is_empty(), "the task goes on");
        assert_eq!(pair.take(), (12, 2));
        // Until it says that it is idle, the task may have something left.
        pair.push("four");
        assert!(pair.end_batch().is_empty());
        pair.receiver.set_task_idle();
        assert_eq!(pair.take(), (6, 0));
        pair.receiver.set_task_idle();
        pair.push("five");
        assert_eq!(pair.end_batch(), [b"\x81\x04five"]);
    }

    #[test]
    fn a_socket_that_takes_nothing_counts_as_blocked() {
        let mut pair = Pair::with_capacity(0);
        pair.push("one");
        assert!(pair.end_batch().is_empty());
        assert!(pair.status.is_write_blocked());
        assert_eq!(pair.take(), (5, 0));
    }

    #[test]
    fn a_broken_socket_is_left_to_the_task() {
        let mut pair = Pair::new(MockSink {
            is_broken: true,
            ..MockSink::default()
        });
        pair.push("one");
        assert!(pair.end_batch().is_empty());
        assert_eq!(pair.take(), (5, 0));
    }

    #[test]
    fn while_the_task_has_something_to_write_the_broker_writes_nothing() {
        let mut pair = Pair::with_capacity(1000);
        // It has taken a frame, which it has not written yet.
        pair.push("one");
        assert_eq!(pair.take(), (5, 0));
        pair.push("two");
        assert!(pair.end_batch().is_empty());
        // It has a control frame to write, and claims the socket with what is queued.
        let mut pair = Pair::with_capacity(1000);
        pair.push("one");
        let mut frames = VecDeque::new();
        assert_eq!(pair.receiver.claim_socket(&mut frames), 0);
        assert_eq!(frames.len(), 1);
        pair.push("two");
        assert!(pair.end_batch().is_empty());
    }

    #[test]
    fn a_close_is_the_tasks_with_all_that_is_queued_before_it() {
        let mut pair = Pair::with_capacity(1000);
        pair.push("one");
        let close = CloseOrder::Graceful(CloseReason::GOODBYE);
        pair.outbox.close(close, &mut pair.wakeups);
        assert_eq!(pair.wakeups.woken(), 1);
        assert!(pair.end_batch().is_empty());
        assert_eq!(pair.take(), (5, 0));
    }

    #[test]
    fn a_frame_that_is_written_in_part_stays_when_a_close_discards_the_others() {
        let mut pair = Pair::with_capacity(7);
        for text in ["one", "two", "three"] {
            pair.push(text);
        }
        pair.end_batch();
        let close = CloseOrder::Graceful(CloseReason::TOO_SLOW);
        pair.outbox.close(close, &mut pair.wakeups);
        assert_eq!(pair.take(), (5, 2));
    }

    #[test]
    fn a_ping_wakes_the_task_and_data_is_still_written() {
        let mut pair = Pair::with_capacity(1000);
        pair.outbox.ping(PingReason::Silence, &mut pair.wakeups);
        pair.push("one");
        assert_eq!(pair.wakeups.woken(), 1);
        assert_eq!(pair.end_batch(), [b"\x81\x03one"]);
    }

    #[test]
    fn nothing_is_written_once_the_task_has_stopped_that_or_has_ended() {
        let mut pair = Pair::with_capacity(1000);
        pair.push("one");
        pair.receiver.drop_direct_writer();
        // Even if the task has nothing to write later.
        pair.receiver.set_task_idle();
        assert!(pair.end_batch().is_empty());
        pair.push("two");
        assert!(pair.end_batch().is_empty());
        assert_eq!(Arc::strong_count(&pair.sink), 1);
        let mut pair = Pair::with_capacity(1000);
        pair.push("one");
        drop(std::mem::replace(
            &mut pair.receiver,
            outbox(0, &MemoryBudget::new(0)).1,
        ));
        assert!(pair.end_batch().is_empty());
        assert_eq!(Arc::strong_count(&pair.sink), 1, "the socket is closed");
    }
}
