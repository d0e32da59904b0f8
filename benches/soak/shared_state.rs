//! What all share: the clock, chance, the daemon's state as its tormentors know it, and the
//! moments of quiet in which nobody begins anything.

use crate::report::Report;
use async_std::task;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long anything may take that must come. Far more than it takes anywhere.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often is looked for what gives no sign of its own.
pub const GLANCE: Duration = Duration::from_millis(200);

/// The five, in the order of the daemon's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    PeerDrop,
    FastChat,
    Workspace,
    Loudsync,
    PeerJs,
}

impl Protocol {
    pub const ALL: [Self; 5] = [
        Self::PeerDrop,
        Self::FastChat,
        Self::Workspace,
        Self::Loudsync,
        Self::PeerJs,
    ];

    /// As the configuration names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerDrop => "peerdrop",
            Self::FastChat => "fastchat",
            Self::Workspace => "workspace",
            Self::Loudsync => "loudsync",
            Self::PeerJs => "peerjs",
        }
    }
}

/// What is being done to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing; it has to keep its promises.
    Up,
    /// It stands still for a while, and keeps them later.
    Halted,
    /// It has been asked to stop, and says goodbye.
    Stopping,
    /// It has been killed, or has ended.
    Down,
}

/// A number for each event that matters, in the order of events.
pub type Ticket = u64;

/// What all share.
pub struct World {
    pub report: Report,
    /// How many clients of each protocol there are.
    pub size: usize,
    /// No faults that take long: there is no time for them.
    pub brief: bool,
    start: Instant,
    seed: u64,
    phase: Cell<Phase>,
    /// Which of the daemons this is, one after the other.
    generation: Cell<u64>,
    addresses: RefCell<Vec<SocketAddr>>,
    tickets: Cell<Ticket>,
    quiet: Cell<bool>,
    busy: Cell<usize>,
    connected: Cell<usize>,
    /// When this program was last found to have had no turn for so long that clients may have
    /// been taken for dead.
    stalled: Cell<Option<Instant>>,
    /// Somebody fills a connection whose reader reads nothing.
    flooding: Cell<bool>,
}

impl World {
    pub fn new(size: usize, seed: u64, brief: bool) -> Rc<Self> {
        Rc::new(Self {
            report: Report::default(),
            size,
            brief,
            start: Instant::now(),
            seed,
            phase: Cell::new(Phase::Down),
            generation: Cell::new(0),
            addresses: RefCell::default(),
            tickets: Cell::new(0),
            quiet: Cell::new(false),
            busy: Cell::new(0),
            connected: Cell::new(0),
            stalled: Cell::new(None),
            flooding: Cell::new(false),
        })
    }

    /// Chance for one of the clients, the same in each run with the same seed.
    pub fn chance(&self, protocol: Protocol, index: usize) -> Chance {
        let mut chance = Chance(self.seed ^ ((protocol as u64 + 1) << 32) ^ index as u64);
        // So that neighbours do not begin alike.
        chance.number();
        chance
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        self.tickets.get()
    }

    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// A new daemon is there.
    pub fn begin(&self, addresses: Vec<SocketAddr>) {
        *self.addresses.borrow_mut() = addresses;
        self.generation.set(self.generation.get() + 1);
        self.phase.set(Phase::Up);
    }

    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether it is the same daemon as it was, and nobody has done anything to it.
    pub fn is_well_since(&self, generation: u64) -> bool {
        self.generation.get() == generation && matches!(self.phase.get(), Phase::Up | Phase::Halted)
    }

    pub fn address(&self, protocol: Protocol) -> SocketAddr {
        self.addresses.borrow()[protocol as usize]
    }

    /// Whether nobody may begin anything.
    pub fn is_quiet(&self) -> bool {
        self.quiet.get()
    }

    pub fn set_quiet(&self, quiet: bool) {
        self.quiet.set(quiet);
    }

    /// Waits until things may begin.
    pub async fn stirs(&self) {
        while self.is_quiet() || self.phase() != Phase::Up {
            task::sleep(GLANCE).await;
        }
    }

    /// Somebody comes or goes, for as long as this lives.
    pub fn busy(self: &Rc<Self>) -> Counted {
        Counted::new(self, |world| &world.busy)
    }

    /// How many come or go.
    pub fn busy_count(&self) -> usize {
        self.busy.get()
    }

    /// Somebody is connected, for as long as this lives.
    pub fn connected(self: &Rc<Self>) -> Counted {
        Counted::new(self, |world| &world.connected)
    }

    pub fn connected_count(&self) -> usize {
        self.connected.get()
    }

    /// This program had no turn for a while.
    pub fn stalls(&self) {
        self.stalled.set(Some(Instant::now()));
    }

    /// Whether that was of late.
    pub fn has_stalled(&self) -> bool {
        let at = self.stalled.get();
        at.is_some_and(|at| at.elapsed() < DEADLINE)
    }

    /// Whether one may flood now: one at a time, so that the daemon's memory tells something.
    pub fn may_flood(&self) -> bool {
        !self.flooding.replace(true)
    }

    pub fn floods_no_more(&self) {
        self.flooding.set(false);
    }
}

/// One more of something, as long as it lives.
pub struct Counted {
    world: Rc<World>,
    counter: fn(&World) -> &Cell<usize>,
}

impl Counted {
    fn new(world: &Rc<World>, counter: fn(&World) -> &Cell<usize>) -> Self {
        counter(world).set(counter(world).get() + 1);
        Self {
            world: Rc::clone(world),
            counter,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counter = (self.counter)(&self.world);
        counter.set(counter.get() - 1);
    }
}

/// Chance: SplitMix64.
pub struct Chance(u64);

impl Chance {
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below this, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A time between these, in seconds.
    pub fn seconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least * 1000 + self.number() % ((most - least) * 1000))
    }
}

/// A text of which each letter follows from who says it and how many it has said before.
pub fn text(who: usize, number: u64, letters: usize) -> String {
    let mut text = format!("{who}.{number} ");
    let mut chance = Chance::of((who as u64) << 40 ^ number);
    const LETTERS: [char; 8] = ['a', 'e', ' ', 'ß', 'n', '字', '"', '\\'];
    text.extend((0..letters).map(|_| LETTERS[chance.below(LETTERS.len())]));
    // What stands at an end might be trimmed.
    text.push('.');
    text
}

/// Who says a [`text`], and its number.
pub fn origin(text: &str) -> Option<(usize, u64)> {
    let (who, rest) = text.split_once('.')?;
    let (number, _) = rest.split_once(' ')?;
    Some((who.parse().ok()?, number.parse().ok()?))
}
