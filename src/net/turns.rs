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
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The least number of tasks that are woken at a time.
const AT_A_TIME: usize = 2;

/// The part of the waiting tasks that is woken at a time, if that is more: so each waits for at most this many
/// rounds, however busy the other tasks are.
const ROUNDS: usize = 64;

/// Capacity of the queue from the start, in tasks. Twice as much is kept, too: the queue doubles when it is full. A
/// larger block is freed, since it may keep the memory below it from going back (see [`crate::base::spare`]).
const RETAINED_CAPACITY: usize = 1024;

/// The queue of all connections of the process.
static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    pacer: None,
    is_paced: false,
});

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

fn lock() -> MutexGuard<'static, Queue> {
    // No code that holds the lock can panic in the middle of a change.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut queue = lock();
        if !queue.is_paced {
            drop(queue);
            cx.waker().wake_by_ref();
            return;
        }
        let waiting = Arc::new(Waiting {
            has_turn: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        waiting.waker.register(cx.waker());
        queue.waiting.push_back(Arc::clone(&waiting));
        let pacer = queue.pacer.take();
        drop(queue);
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

/// Wakes the waiting tasks, a few at a time, for ever. Without it, tasks wake themselves.
pub(crate) async fn pace() {
    lock().waiting.reserve(RETAINED_CAPACITY);
    lock().is_paced = true;
    loop {
        poll_fn(|cx| {
            let mut queue = lock();
            if queue.waiting.is_empty() {
                if queue.waiting.capacity() > 2 * RETAINED_CAPACITY {
                    // First frees the old block, so that the new one can take its place.
                    queue.waiting = VecDeque::new();
                    queue.waiting.reserve(RETAINED_CAPACITY);
                }
                queue.pacer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let count = AT_A_TIME.max(lock().waiting.len() / ROUNDS);
        for _ in 0..count {
            let next = lock().waiting.pop_front();
            if let Some(waiting) = next {
                waiting.has_turn.store(true, Ordering::Release);
                waiting.waker.wake();
            }
        }
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_std::task;
    use futures::future::join_all;

    /// Runs to its end, with the pacer beside it.
    fn run<T>(future: impl Future<Output = T>) -> T {
        task::spawn(pace());
        task::block_on(async {
            while !lock().is_paced {
                yield_now().await;
            }
            future.await
        })
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
        run(join_all((0..100).map(|_| task::spawn(take_turns(100)))));
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
