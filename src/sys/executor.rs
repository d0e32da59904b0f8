//! The executor: threads that run tasks.
//!
//! Each thread has tasks of its own and takes none of another: the task of a connection stays where its socket is
//! watched, and is run without a word to another thread. The tasks of the server, the broker's among them, are on the
//! first thread.

use super::reactor::Reactor;
use async_executor::StaticExecutor;
pub use async_executor::Task;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The threads, from the first to the last.
static THREADS: OnceLock<Box<[Thread]>> = OnceLock::new();

/// Open files of each thread: an epoll instance and what ends the wait in it. With the runtime's reactor there are none.
pub(crate) const FILES_PER_THREAD: usize = 2;

/// Number of connections so far, each of which is on the next thread.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Index of this thread among those of the executor, if it is one of them.
    static CURRENT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// A thread: the tasks that it runs, and what it waits in.
struct Thread {
    executor: StaticExecutor,
    reactor: Reactor,
}

impl Thread {
    fn new() -> Self {
        Self {
            executor: StaticExecutor::new(),
            reactor: Reactor::new().expect("the system has open files left for the executor"),
        }
    }
}

/// Starts `threads` executor threads; 0: one for each core, at most 4. Must be called before other threads are started:
/// where the address space is limited, malloc has a heap only for the first ones, and maps each block of the others
/// alone. Does nothing if they run already.
pub fn start(threads: usize) {
    let mut is_first = false;
    let started = THREADS.get_or_init(|| {
        is_first = true;
        let threads = 0..count(threads);
        threads.map(|_| Thread::new()).collect()
    });
    if !is_first {
        return;
    }
    for (index, thread) in started.iter().enumerate() {
        std::thread::Builder::new()
            .name("executor".to_owned())
            .spawn(move || run(index, thread))
            .expect("the system starts a thread for the executor");
        // Once a task has run, the thread has its heap.
        futures::executor::block_on(thread.executor.spawn(async {}));
    }
}

/// Returns the number of executor threads for the setting `threads`.
pub(crate) fn count(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    if threads == 0 { cores() } else { threads }
}

/// Runs the tasks of one thread, for ever.
fn run(index: usize, thread: &'static Thread) {
    CURRENT.set(Some(index));
    let Thread { executor, reactor } = thread;
    loop {
        // A task that panics passes that on to who awaits it. Should a waker panic, the others go on.
        let run = AssertUnwindSafe(|| reactor.run(executor));
        let _ = catch_unwind(run);
    }
}

/// Returns a thread. Without [`start`], as in tests, there is one for each core.
fn thread(index: usize) -> &'static Thread {
    start(0);
    let threads = THREADS.get().expect("the threads are started");
    threads
        .get(index % threads.len())
        .expect("the index is below the length")
}

/// Returns the current thread, or the first one if that is not one of the executor.
fn current() -> &'static Thread {
    thread(CURRENT.get().unwrap_or(0))
}

/// Spawns a task on the thread of the caller, or on the first one if the caller is not on a thread of the executor. The
/// task is cancelled when the handle is dropped, unless it is detached.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    current().executor.spawn(future)
}

/// Spawns the task of a connection, each on the next thread.
pub(crate) fn spawn_connection(future: impl Future<Output = ()> + Send + 'static) {
    let index = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    thread(index).executor.spawn(future).detach();
}

/// Spawns a task on each thread.
pub(crate) fn spawn_on_each_thread<F: Future<Output = ()> + Send + 'static>(task: impl Fn() -> F) {
    for thread in THREADS.get().into_iter().flatten() {
        thread.executor.spawn(task()).detach();
    }
}

/// Number of tasks for [`renew_queues`]: the 31 places of a block are used up within 8 seconds.
const EMPTY_TASKS: usize = 4;

/// Runs a few empty tasks on each thread. A thread's queue is a list of blocks, of which the last one stays while it is
/// empty: that of a storm would keep the memory below it. Called once a second.
pub(crate) fn renew_queues() {
    for _ in 0..EMPTY_TASKS {
        spawn_on_each_thread(|| async {});
    }
}

/// Returns the reactor in which the current thread waits, or the first one if it is not a thread of the executor.
#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
pub(crate) fn reactor() -> &'static Reactor {
    &current().reactor
}
