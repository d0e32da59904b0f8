//! What all client tasks and the scenario share: the protocols, the clock, the phase of the daemon, and
//! whether the clients are to be quiet.

use crate::random::Random;
use crate::report::Report;
use async_std::task;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;

/// How long to wait for anything that must happen. Far longer than it takes on any machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often to look for a change that is not signalled.
pub const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A protocol of the daemon's table, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol(pub &'static str);

impl Protocol {
    /// Returns all protocols, in the order of the table and of the daemon's configuration.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        PROTOCOLS.iter().map(|protocol| Self(protocol.name))
    }

    /// Returns the name in the configuration.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Returns the place in the table.
    fn index(self) -> usize {
        let index = Self::all().position(|protocol| protocol == self);
        index.expect("the clients are those of a protocol in the table")
    }
}

/// The state of the daemon process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Running: all checks apply.
    Up,
    /// Suspended by SIGSTOP for a while: all checks apply, but later.
    Suspended,
    /// Stopping after SIGTERM: it closes its clients.
    Stopping,
    /// Not running.
    Down,
}

/// A number for each event that a check compares, in the order of events; 0 is before all of them.
pub type LogicalTime = u64;

/// The state that all tasks share. They run on one thread.
pub struct SharedState {
    pub report: Report,
    /// How many clients of each protocol there are.
    pub clients_per_protocol: usize,
    /// A run of seconds that only shows that the program works: no fault that takes long is injected.
    pub is_smoke_test: bool,
    start: Instant,
    seed: u64,
    phase: Cell<Phase>,
    /// The number of the daemon process: 1 for the first, one more after each restart.
    generation: Cell<u64>,
    addresses: RefCell<Vec<SocketAddr>>,
    logical_time: Cell<LogicalTime>,
    is_quiet: Cell<bool>,
    transitions: Cell<usize>,
    connected: Cell<usize>,
    /// When this program was last found to have been stalled for so long that the daemon may have
    /// dropped its clients as silent.
    stalled_at: Cell<Option<Instant>>,
    /// A client is sending more than fits to a recipient that does not read.
    is_flooding: Cell<bool>,
}

impl SharedState {
    pub fn new(clients_per_protocol: usize, seed: u64, is_smoke_test: bool) -> Rc<Self> {
        Rc::new(Self {
            report: Report::default(),
            clients_per_protocol,
            is_smoke_test,
            start: Instant::now(),
            seed,
            phase: Cell::new(Phase::Down),
            generation: Cell::new(0),
            addresses: RefCell::default(),
            logical_time: Cell::new(0),
            is_quiet: Cell::new(false),
            transitions: Cell::new(0),
            connected: Cell::new(0),
            stalled_at: Cell::new(None),
            is_flooding: Cell::new(false),
        })
    }

    /// Returns the random numbers of one client, the same in each run with the same seed.
    pub fn random(&self, protocol: Protocol, index: usize) -> Random {
        let seed = self.seed ^ ((protocol.index() as u64 + 1) << 32) ^ index as u64;
        let mut random = Random::from_seed(seed);
        // The first numbers of adjacent seeds are alike.
        random.number();
        random
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Returns the logical time of an event that happens now, later than all before it.
    pub fn next_event(&self) -> LogicalTime {
        self.logical_time.set(self.logical_time.get() + 1);
        self.logical_time.get()
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Records that a new daemon process is ready at these addresses.
    pub fn daemon_started(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.borrow_mut() = addresses;
        self.generation.set(self.generation.get() + 1);
        self.phase.set(Phase::Up);
    }

    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Returns whether the daemon process of this generation still runs and was not told to stop.
    pub fn is_running_since(&self, generation: u64) -> bool {
        let is_running = matches!(self.phase.get(), Phase::Up | Phase::Suspended);
        self.generation.get() == generation && is_running
    }

    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        self.addresses.borrow()[protocol.index()]
    }

    /// Returns whether clients must begin nothing, because a quiescent point is being reached or checked.
    pub fn is_quiet(&self) -> bool {
        self.is_quiet.get()
    }

    pub fn set_quiet(&self, is_quiet: bool) {
        self.is_quiet.set(is_quiet);
    }

    /// Waits until clients may begin things.
    pub async fn wait_until_active(&self) {
        while self.is_quiet() || self.phase() != Phase::Up {
            task::sleep(POLL_INTERVAL).await;
        }
    }

    /// Counts a client as connecting or disconnecting for as long as the guard lives.
    pub fn begin_transition(self: &Rc<Self>) -> CountGuard {
        CountGuard::new(self, |shared| &shared.transitions)
    }

    /// Returns how many clients are connecting or disconnecting.
    pub fn transition_count(&self) -> usize {
        self.transitions.get()
    }

    /// Counts a client as connected for as long as the guard lives.
    pub fn count_connected(self: &Rc<Self>) -> CountGuard {
        CountGuard::new(self, |shared| &shared.connected)
    }

    pub fn connected_count(&self) -> usize {
        self.connected.get()
    }

    /// Records that this program was not scheduled for seconds.
    pub fn record_stall(&self) {
        self.stalled_at.set(Some(Instant::now()));
    }

    /// Returns whether this program was stalled within the last [`DEADLINE`].
    pub fn has_stalled(&self) -> bool {
        let at = self.stalled_at.get();
        at.is_some_and(|at| at.elapsed() < DEADLINE)
    }

    /// Returns whether a client may flood its peer now. There is one flood at a time, so that the
    /// daemon's memory stays comparable between samples.
    pub fn try_begin_flood(&self) -> bool {
        !self.is_flooding.replace(true)
    }

    pub fn end_flood(&self) {
        self.is_flooding.set(false);
    }
}

/// One more in a counter, until it is dropped.
pub struct CountGuard {
    shared: Rc<SharedState>,
    counter: fn(&SharedState) -> &Cell<usize>,
}

impl CountGuard {
    fn new(shared: &Rc<SharedState>, counter: fn(&SharedState) -> &Cell<usize>) -> Self {
        counter(shared).set(counter(shared).get() + 1);
        Self {
            shared: Rc::clone(shared),
            counter,
        }
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        let counter = (self.counter)(&self.shared);
        counter.set(counter.get() - 1);
    }
}
