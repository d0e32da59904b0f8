//! What the broker does for connections at the end of a lane's turn.

use super::State;
use super::direct::write;
use crate::base::spare::FreeSpare;
use std::collections::VecDeque;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Connections whose outboxes have something new: tasks to wake, and sockets to write to. So all frames of a turn for a
/// client leave in one write.
#[derive(Default)]
pub(crate) struct Wakeups {
    wakers: Vec<Waker>,
    due: VecDeque<Arc<Mutex<State>>>,
}

impl Wakeups {
    /// Wakes a task at the end of the batch, if it has not been woken before.
    pub(super) fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// Writes to a connection's socket at the end of the turn.
    pub(super) fn write_later(&mut self, outbox: Arc<Mutex<State>>) {
        self.due.push_back(outbox);
    }

    /// Wakes all tasks.
    pub(crate) fn wake_all(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Returns the number of sockets to write to.
    pub(crate) fn due(&self) -> usize {
        self.due.len()
    }

    /// Writes to at most `count` sockets.
    pub(crate) fn write_first(&mut self, count: usize) {
        self.write(..count.min(self.due.len()));
    }

    /// Writes to the sockets that were added after the first `count`.
    pub(crate) fn write_after(&mut self, count: usize) {
        self.write(count..);
    }

    /// Writes to these sockets. Where one does not take all, the connection's task is woken for the rest.
    fn write(&mut self, range: impl RangeBounds<usize>) {
        for outbox in self.due.drain(range) {
            if let Some(waker) = write(&outbox) {
                waker.wake();
            }
        }
    }

    /// Returns the number of tasks to wake.
    #[cfg(test)]
    pub(crate) fn woken(&self) -> usize {
        self.wakers.len()
    }
}

impl FreeSpare for Wakeups {
    fn free_spare(&mut self) {
        let Self { wakers, due } = self;
        wakers.free_spare();
        due.free_spare();
    }
}
