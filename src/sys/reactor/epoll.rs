//! A thread's own epoll instance.
//!
//! A socket is registered once and for edges (epoll(7), "Level-triggered and edge-triggered"): an event says that more
//! can be read or written than before. So a read that leaves room in its buffer has emptied the socket, and neither it
//! nor a write is followed by another system call.

use async_executor::StaticExecutor;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use slab::Slab;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// Time for which tasks run before sockets are looked at: a message that comes while others flood the server waits no
/// longer. A look takes less than a hundredth of it.
const TIME_FOR_TASKS: Duration = Duration::from_micros(100);

/// Events that are taken with one system call.
const MAX_EVENTS: usize = 256;

/// The key of the thread's own wake-ups.
const WAKEUP: u64 = u64::MAX;

/// What has happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its sending direction, or the connection is broken: no more edges tell of it.
    pub(crate) hung_up: bool,
}

/// What wants to know of a socket's events.
pub(crate) trait Source: Send + Sync {
    /// Handles an event, which may be one of another socket that had the same key before: what it says must be taken
    /// as a hint.
    fn ready(&self, readiness: Readiness);
}

/// The epoll instance of one thread.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    sources: Mutex<Slab<Arc<dyn Source>>>,
    wakeup: Arc<Wakeup>,
}

/// Ends the waiting of a thread.
struct Wakeup {
    /// Whether a task was woken.
    is_notified: AtomicBool,
    /// Whether the thread waits, or is about to.
    is_waiting: AtomicBool,
    /// Registered for edges, so each write wakes the thread and nothing has to be read from it.
    eventfd: OwnedFd,
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The thread first says that it waits, then looks whether it is notified; this is the other way round. As all
        // threads see these in one order, one of the two sees the other.
        let is_first = !self.is_notified.swap(true, Ordering::SeqCst);
        if is_first && self.is_waiting.load(Ordering::SeqCst) {
            // Fails only after 2^64 - 2 wake-ups.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

impl Reactor {
    /// Creates an epoll instance without sockets.
    ///
    /// # Errors
    /// Those of epoll_create(2) and eventfd(2): too many open files.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &eventfd, epoll::EventData::new_u64(WAKEUP), flags)?;
        Ok(Self {
            epoll,
            sources: Mutex::default(),
            wakeup: Arc::new(Wakeup {
                is_notified: AtomicBool::new(false),
                is_waiting: AtomicBool::new(false),
                eventfd,
            }),
        })
    }

    /// Has a source told of a socket's events until the socket is closed. The registration must be dropped after that.
    ///
    /// # Errors
    /// Those of epoll_ctl(2): the system has no memory for it, or the user has too many watches.
    pub(crate) fn register(
        &'static self,
        socket: impl AsFd,
        source: Arc<dyn Source>,
    ) -> io::Result<Registration> {
        let registration = Registration {
            reactor: self,
            key: self.sources().insert(source),
        };
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        let key = epoll::EventData::new_u64(registration.key as u64);
        epoll::add(&self.epoll, socket, key, flags)?;
        Ok(registration)
    }

    fn sources(&self) -> MutexGuard<'_, Slab<Arc<dyn Source>>> {
        // No code that holds the lock can panic in the middle of a change.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the tasks of an executor on the current thread, for ever. This must be the only thread that waits in this
    /// instance.
    pub(crate) fn run(&self, executor: &StaticExecutor) {
        let waker = Waker::from(Arc::clone(&self.wakeup));
        let mut cx = Context::from_waker(&waker);
        let mut events = Vec::with_capacity(MAX_EVENTS);
        loop {
            if run_tasks(executor) {
                self.take_events(&mut events, false);
            } else {
                // It registers the waker, unless a task has been woken since.
                let mut tick = pin!(executor.tick());
                self.wakeup.is_notified.store(false, Ordering::SeqCst);
                if tick.as_mut().poll(&mut cx).is_pending() {
                    self.wait(&mut events);
                }
            }
            events.drain(..).for_each(|event| self.dispatch(&event));
        }
    }

    /// Waits for an event, or until the waker is called.
    fn wait(&self, events: &mut Vec<epoll::Event>) {
        self.wakeup.is_waiting.store(true, Ordering::SeqCst);
        let may_block = !self.wakeup.is_notified.load(Ordering::SeqCst);
        self.take_events(events, may_block);
        // What is woken from here on is run anyway.
        self.wakeup.is_waiting.store(false, Ordering::SeqCst);
    }

    /// Takes the events that there are, or waits for one.
    fn take_events(&self, events: &mut Vec<epoll::Event>, may_block: bool) {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spare = rustix::buffer::spare_capacity(events);
        // Fails only if a signal came first.
        let _ = epoll::wait(&self.epoll, spare, (!may_block).then_some(&at_once));
    }

    /// Tells the source of an event.
    fn dispatch(&self, event: &epoll::Event) {
        // What is registered is below 2^64 - 1.
        let key = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
        // Not in the call, as the lock would be held then.
        let source = self.sources().get(key).cloned();
        let Some(source) = source else {
            return;
        };
        let flags = event.flags;
        let hung_up = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        source.ready(Readiness {
            readable: flags.contains(epoll::EventFlags::IN),
            writable: flags.contains(epoll::EventFlags::OUT),
            hung_up: flags.intersects(hung_up),
        });
    }
}

/// Runs tasks until none is left or the time for them is over. Returns whether there may be more.
fn run_tasks(executor: &StaticExecutor) -> bool {
    let start = Instant::now();
    while executor.try_tick() {
        if start.elapsed() >= TIME_FOR_TASKS {
            return true;
        }
    }
    false
}

/// A socket's place in a [`Reactor`].
pub(crate) struct Registration {
    reactor: &'static Reactor,
    key: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut sources = self.reactor.sources();
        let source = sources.try_remove(self.key);
        if sources.is_empty() {
            // What a storm has allocated would keep the memory below it.
            *sources = Slab::new();
        }
        drop(sources);
        // The last reference to the source is dropped after the lock is free again.
        drop(source);
    }
}
