//! The broker's own writes: while a connection's task has nothing to write, the broker writes what it has queued to the
//! socket itself, and the task is not woken for it.
//!
//! The broker writes with the outbox locked. A task that has something to write takes the outbox's frames first, and the
//! broker writes none until the task says that it is idle. So the two never write at the same time.

use super::{State, lock};
use crate::base::coalesce::with_coalesced;
use crate::base::frame::RETAINED_FRAMES;
use crate::broker::SocketStatus;
use std::collections::VecDeque;
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
        if state.queue.capacity() > RETAINED_FRAMES {
            state.queue = VecDeque::new();
        }
        return None;
    }
    state.is_task_idle = false;
    state.waker.take()
}
