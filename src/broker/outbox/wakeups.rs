//! What the broker does for connections at the end of a batch.

use super::State;
use super::direct::write;
use crate::base::spare::FreeSpare;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// Connections whose outboxes have something new: tasks to wake, and sockets to write to. So all frames of a batch leave
/// in one write.
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

    /// Writes to a connection's socket at the end of the batch.
    pub(super) fn write_later(&mut self, outbox: Arc<Mutex<State>>) {
        self.due.push_back(outbox);
    }

    /// Wakes all tasks.
    pub(crate) fn wake_all(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }

    /// Returns whether nothing is left to write.
    pub(crate) fn is_written(&self) -> bool {
        self.due.is_empty()
    }

    /// Writes to at most `count` sockets. Where a socket does not take all, the connection's task is woken for the rest.
    pub(crate) fn write_some(&mut self, count: usize) {
        for outbox in self.due.drain(..count.min(self.due.len())) {
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
