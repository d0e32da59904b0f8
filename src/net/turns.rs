//! Turns of tasks that have more to do than one turn allows.
//!
//! The executor runs tasks in the order in which they were woken. If each task with more to do woke itself at
//! once, hundreds of floods would stand before each task that is woken by a single message, several times on
//! its way through the server. So tasks whose turn has ended wait in a queue of their own, from which a few
//! are woken at a time, behind the tasks that are woken by then. While nothing else is to be done, that costs
//! them nothing.

use async_std::task::yield_now;
use futures::future::poll_fn;
use futures::task::AtomicWaker;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// The least number of tasks that are woken at a time.
const AT_A_TIME: usize = 2;

/// The part of the waiting tasks that is woken at a time, if that is more: so each waits for at most this many
/// rounds, however busy the other tasks are.
const ROUNDS: usize = 64;

/// Capacity of the queue from the start, in tasks. Twice as much is kept, too: the queue doubles when it is full. A
/// larger block is freed, since it may keep the memory below it from going back (see [`crate::base::spare`]).
const RETAINED_CAPACITY: usize = 1024;

thread_local! {
    /// The queue of the connections whose tasks this thread runs.
    static QUEUE: RefCell<Queue> = RefCell::default();
}

#[derive(Default)]
struct Queue {
    /// In the order in which their turns ended; at most two for each connection.
    waiting: VecDeque<Arc<Waiting>>,
    /// Waker of the task that runs [`pace`], while the queue is empty.
    pacer: Option<Waker>,
    /// Whether that task has been started.
    is_paced: bool,
}

/// A task that waits for its next turn.
struct Waiting {
    has_turn: AtomicBool,
    waker: AtomicWaker,
}

/// The turns of one task in one direction.
#[derive(Default)]
pub(crate) struct Turns(Option<Arc<Waiting>>);

impl Turns {
    /// Ends a turn. The task of `cx` is woken for the next one.
    pub(crate) fn end(&mut self, cx: &mut Context<'_>) {
        if self.0.is_some() {
            return;
        }
        let waiting = Arc::new(Waiting {
            has_turn: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        waiting.waker.register(cx.waker());
        let pacer = QUEUE.with_borrow_mut(|queue| {
            queue.is_paced.then(|| {
                queue.waiting.push_back(Arc::clone(&waiting));
                queue.pacer.take()
            })
        });
        let Some(pacer) = pacer else {
            cx.waker().wake_by_ref();
            return;
        };
        if let Some(pacer) = pacer {
            pacer.wake();
        }
        self.0 = Some(waiting);
    }

    /// Returns whether the task may go on. If not, the task of `cx` is woken when it may: a task that is woken
    /// for another reason does not come before its turn.
    pub(crate) fn may_begin(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(waiting) = &self.0 {
            waiting.waker.register(cx.waker());
            if !waiting.has_turn.load(Ordering::Acquire) {
                return false;
            }
            self.0 = None;
        }
        true
    }
}

/// Wakes the waiting tasks of this thread, a few at a time, for ever. Without it, tasks wake themselves.
pub(crate) async fn pace() {
    QUEUE.with_borrow_mut(|queue| {
        queue.waiting.reserve(RETAINED_CAPACITY);
        queue.is_paced = true;
    });
    loop {
        let count = poll_fn(|cx| QUEUE.with_borrow_mut(|queue| queue.poll_count(cx))).await;
        for _ in 0..count {
            let next = QUEUE.with_borrow_mut(|queue| queue.waiting.pop_front());
            if let Some(waiting) = next {
                waiting.has_turn.store(true, Ordering::Release);
                waiting.waker.wake();
            }
        }
        yield_now().await;
    }
}

impl Queue {
    /// Returns the number of tasks to wake now. While none waits, the pacer is woken by the next one.
    fn poll_count(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if !self.waiting.is_empty() {
            return Poll::Ready(AT_A_TIME.max(self.waiting.len() / ROUNDS));
        }
        if self.waiting.capacity() > 2 * RETAINED_CAPACITY {
            // First frees the old block, so that the new one can take its place.
            self.waiting = VecDeque::new();
            self.waiting.reserve(RETAINED_CAPACITY);
        }
        self.pacer = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::executor::spawn;
    use futures::executor::block_on;
    use futures::future::join_all;

    /// Runs to its end on a thread of the executor, with the pacer beside it.
    fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
        block_on(spawn(async {
            spawn(pace()).detach();
            while !QUEUE.with_borrow(|queue| queue.is_paced) {
                yield_now().await;
            }
            future.await
        }))
    }

    /// Ends this many turns, and begins the next ones.
    async fn take_turns(count: usize) {
        let mut turns = Turns::default();
        for _ in 0..count {
            poll_fn(|cx| {
                turns.end(cx);
                Poll::Ready(())
            })
            .await;
            poll_fn(|cx| {
                if turns.may_begin(cx) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }

    #[test]
    fn each_task_gets_its_next_turn() {
        run(async {
            join_all((0..100).map(|_| spawn(take_turns(100)))).await;
        });
    }

    #[test]
    fn a_task_that_has_ended_does_not_hold_up_others() {
        run(async {
            poll_fn(|cx| {
                for _ in 0..100 {
                    Turns::default().end(cx);
                }
                Poll::Ready(())
            })
            .await;
            take_turns(1).await;
        });
    }

    #[test]
    fn a_task_that_is_woken_for_another_reason_waits_for_its_turn() {
        let waiting = Arc::new(Waiting {
            has_turn: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut turns = Turns(Some(Arc::clone(&waiting)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(!turns.may_begin(&mut cx));
        turns.end(&mut cx);
        assert!(!turns.may_begin(&mut cx));
        waiting.has_turn.store(true, Ordering::Release);
        assert!(turns.may_begin(&mut cx) && turns.may_begin(&mut cx));
    }
}
