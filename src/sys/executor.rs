//! The executor: threads that run tasks.
//!
//! Each thread has tasks of its own and takes none of another: the task of a connection stays where its socket is
//! watched, and is run without a word to another thread. The tasks of the server, the broker's among them, are on the
//! first thread.

use async_executor::StaticExecutor;
pub use async_executor::Task;
use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The threads, from the first to the last.
static THREADS: OnceLock<Box<[StaticExecutor]>> = OnceLock::new();

/// Number of connections so far, each of which is on the next thread.
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Index of this thread among those of the executor.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// Starts `threads` executor threads; 0: one for each core, at most 4. Must be called before other threads are started:
/// where the address space is limited, malloc has a heap only for the first ones, and maps each block of the others
/// alone. Does nothing if they run already.
pub fn start(threads: usize) {
    let mut is_first = false;
    let started = THREADS.get_or_init(|| {
        is_first = true;
        let threads = 0..count(threads);
        threads.map(|_| StaticExecutor::new()).collect()
    });
    if !is_first {
        return;
    }
    for (index, executor) in started.iter().enumerate() {
        let thread = std::thread::Builder::new().name("executor".to_owned());
        thread
            .spawn(move || run(index, executor))
            .expect("the system starts a thread for the executor");
        // Once a task has run, the thread has its heap.
        futures::executor::block_on(executor.spawn(async {}));
    }
}

/// Returns the number of executor threads for the setting `threads`.
pub(crate) fn count(threads: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    if threads == 0 { cores() } else { threads }
}

/// Runs the tasks of one thread, for ever.
fn run(index: usize, executor: &'static StaticExecutor) {
    CURRENT.set(index);
    loop {
        // A task that panics passes that on to who awaits it. Should a waker panic, the others go on.
        let run = AssertUnwindSafe(|| async_io::block_on(executor.run(pending::<()>())));
        let _ = catch_unwind(run);
    }
}

/// Returns the executor of a thread. Without [`start`], as in tests, there is one thread for each core.
fn executor(index: usize) -> &'static StaticExecutor {
    start(0);
    let threads = THREADS.get().expect("the threads are started");
    threads
        .get(index % threads.len())
        .expect("the index is below the length")
}

/// Spawns a task on the thread of the caller, or on the first one if the caller is not on a thread of the executor. The
/// task is cancelled when the handle is dropped, unless it is detached.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    executor(CURRENT.get()).spawn(future)
}

/// Spawns the task of a connection, each on the next thread.
pub(crate) fn spawn_connection(future: impl Future<Output = ()> + Send + 'static) {
    let index = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
    executor(index).spawn(future).detach();
}
