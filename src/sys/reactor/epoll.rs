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

/// Sockets for which there is room from the start: more than the units' `LimitNOFILE` allows. A list that grows in a
/// storm of clients would hold the memory below it afterwards (mallopt(3), `M_TRIM_THRESHOLD`); this one is large enough
/// to be mapped, and what is not used of it is only address space.
const CAPACITY: usize = 64 * 1024;

/// The key of the thread's own wake-ups.
const WAKEUP: u64 = u64::MAX;

/// What has happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its sending direction, or the connection is broken: no more edges tell of it.
    pub(crate) hung_up: bool,
    /// The peer has sent urgent data, at which a read ends although more follows (tcp(7)).
    pub(crate) urgent: bool,
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
            sources: Mutex::new(Slab::with_capacity(CAPACITY)),
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
            | epoll::EventFlags::PRI
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
            urgent: flags.contains(epoll::EventFlags::PRI),
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

impl Registration {
    /// Ends the registration of a socket that may stay open: of a copy, whose end closes no socket (epoll(7)).
    pub(crate) fn end(self, socket: impl AsFd) {
        // Fails only if the socket is not registered.
        let _ = epoll::delete(&self.reactor.epoll, socket);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The last reference to the source is dropped after the lock is free again.
        let _source = self.reactor.sources().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_executor::Executor;
    use async_std::task::yield_now;
    use futures::executor::block_on;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    /// How long a test waits for what must happen. Far more than any machine needs.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// A source that passes on what it is told.
    struct Told(Sender<Readiness>);

    impl Source for Told {
        fn ready(&self, readiness: Readiness) {
            // Nobody may want to know any more.
            let _ = self.0.send(readiness);
        }
    }

    fn reactor() -> &'static Reactor {
        Box::leak(Box::new(Reactor::new().unwrap()))
    }

    /// Runs to its end on a thread of its own, within the deadline.
    fn run<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = channel();
        thread::spawn(move || done.send(call()));
        is_done.recv_timeout(DEADLINE).expect("it ends")
    }

    /// Takes the events of a reactor, of which there must be one soon.
    fn wait(reactor: &Reactor) -> Vec<epoll::Event> {
        // It does not wait while it is to run something.
        reactor.wakeup.is_notified.store(true, Ordering::SeqCst);
        let start = Instant::now();
        let mut events = Vec::with_capacity(MAX_EVENTS);
        while events.is_empty() {
            assert!(start.elapsed() < DEADLINE, "there is no event");
            reactor.wait(&mut events);
        }
        events
    }

    /// A reactor that runs the tasks of an executor.
    fn running() -> (&'static Reactor, &'static StaticExecutor) {
        let (reactor, executor) = (reactor(), Executor::new().leak());
        thread::spawn(|| reactor.run(executor));
        (reactor, executor)
    }

    #[test]
    fn a_task_from_another_thread_ends_the_wait_whenever_it_comes() {
        run(|| {
            let (_, executor) = running();
            for _ in 0..10_000 {
                block_on(executor.spawn(async {}));
            }
        });
    }

    #[test]
    fn sockets_are_looked_at_while_there_are_always_tasks_to_run() {
        let (reactor, executor) = running();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let busy = async move {
            while !over.load(Ordering::Relaxed) {
                yield_now().await;
            }
        };
        executor.spawn(busy).detach();
        let (_client, server) = UnixStream::pair().unwrap();
        let (told, ready) = channel();
        let _registration = reactor.register(&server, Arc::new(Told(told))).unwrap();
        let readiness = ready.recv_timeout(DEADLINE);
        is_over.store(true, Ordering::Relaxed);
        assert!(readiness.unwrap().writable);
    }

    #[test]
    fn a_source_is_told_of_each_edge_once() {
        let reactor = reactor();
        let (mut client, server) = UnixStream::pair().unwrap();
        let (told, ready) = channel();
        let _registration = reactor.register(&server, Arc::new(Told(told))).unwrap();
        let next = || {
            wait(reactor)
                .iter()
                .for_each(|event| reactor.dispatch(event));
            ready.try_recv().unwrap()
        };
        let first = next();
        assert!(first.writable && !first.readable && !first.hung_up);
        for _ in 0..2 {
            // What came before is not read, and there is one more edge.
            client.write_all(b"x").unwrap();
            assert!(next().readable);
        }
        drop(client);
        assert!(next().hung_up);
        assert!(ready.try_recv().is_err());
    }

    #[test]
    fn an_event_for_a_key_that_is_used_again_is_no_more_than_a_hint() {
        let reactor = reactor();
        let (mut first_client, first) = UnixStream::pair().unwrap();
        let (mut client, second) = UnixStream::pair().unwrap();
        let [(first_told, first_ready), (told, ready)] = [(); 2].map(|()| channel());
        let registration = reactor.register(&first, Arc::new(Told(first_told)));
        first_client.write_all(b"x").unwrap();
        let events = wait(reactor);
        drop((first, registration));
        // Without a source for the key, nobody is told.
        events.iter().for_each(|event| reactor.dispatch(event));
        let _registration = reactor.register(&second, Arc::new(Told(told))).unwrap();
        events.iter().for_each(|event| reactor.dispatch(event));
        assert!(first_ready.try_recv().is_err());
        assert!(ready.try_recv().unwrap().readable, "the key is the same");
        // The second has its own edges all the same.
        client.write_all(b"x").unwrap();
        wait(reactor)
            .iter()
            .for_each(|event| reactor.dispatch(event));
        assert!(ready.try_recv().unwrap().readable);
    }

    #[test]
    fn a_registration_may_be_dropped_while_its_source_is_told() {
        /// A source that drops its registration.
        #[derive(Default)]
        struct Ending(Mutex<Option<Registration>>);

        impl Source for Ending {
            fn ready(&self, _: Readiness) {
                *self.0.lock().unwrap() = None;
            }
        }

        run(|| {
            let reactor = reactor();
            let (_client, server) = UnixStream::pair().unwrap();
            let source = Arc::new(Ending::default());
            let registration = reactor.register(&server, Arc::clone(&source) as _);
            *source.0.lock().unwrap() = registration.ok();
            wait(reactor)
                .iter()
                .for_each(|event| reactor.dispatch(event));
            assert!(reactor.sources().is_empty());
            assert_eq!(Arc::strong_count(&source), 1);
        });
    }
}
