//! The story: when it is quiet and all are asked what they know, and what is done to the daemon.

use crate::clients::peerjs::{self, Exchange};
use crate::connection::{End, Link, News};
use crate::daemon::Daemon;
use crate::expectations::Place;
use crate::process::cpu;
use crate::report::mib;
use crate::shared_state::{Chance, DEADLINE, GLANCE, Phase, Protocol, World};
use async_std::task;
use rustix::process::{Signal, getpid};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Until all are settled: a silent client takes a while to be dropped, and then the next.
const SETTLING: Duration = Duration::from_secs(180);

/// Between two moments of quiet.
const BETWEEN: Duration = Duration::from_secs(150);

/// A daemon that was started of late has not seen yet all that there is, floods above all.
const WARM: Duration = Duration::from_secs(300);

/// A client that had no turn for so long may be taken for dead, which is nobody's fault.
const STALL: Duration = Duration::from_secs(3);

/// So many glances make a figure of memory, the median.
const SAMPLES: usize = 150;

/// More than this above the middle is a leak: a quarter, and as many octets.
const LEAK: u64 = 4 << 20;

pub struct Director {
    pub world: Rc<World>,
    pub daemon: Daemon,
    pub places: Vec<(Protocol, Rc<RefCell<dyn Place>>)>,
    pub exchange: Rc<RefCell<Exchange>>,
    pub chance: Chance,
    /// How long all of it is to take.
    pub length: Duration,
    /// The CPU time of the daemons before this one.
    pub spent: f64,
    pub told: Duration,
    /// The daemon's resident memory of late, the newest last.
    pub resident: VecDeque<u64>,
    /// When this daemon was started.
    pub since: Duration,
    /// In the middle it was there for long enough to need no more than before.
    pub is_warm: bool,
    pub has_ended: bool,
}

impl Director {
    /// The whole story. In its first half the daemon is stopped and killed, and comes again; in
    /// the second it has to live with all that clients do.
    pub async fn directs(&mut self) {
        self.all_come().await;
        self.world
            .report
            .memory("with all connected", self.daemon.resident());
        let rest = self.length.saturating_sub(self.world.elapsed());
        let start = self.world.elapsed();
        let restarts: &[Signal] = if self.world.brief {
            &[]
        } else {
            &[Signal::TERM, Signal::KILL, Signal::TERM, Signal::KILL]
        };
        for (at, signal) in (1..).zip(restarts) {
            self.lasts_until(start + rest * at / 8).await;
            self.has_quiet().await;
            if self.has_ended || self.is_over() {
                break;
            }
            self.restarts(*signal).await;
            self.all_come().await;
        }
        self.lasts_until(start + rest * 5 / 8).await;
        self.remembers("in the middle");
        self.is_warm = self.world.elapsed() > self.since + WARM;
        self.lasts_until(self.length).await;
        self.has_quiet().await;
        self.remembers("at the end");
        self.ends().await;
    }

    fn is_over(&self) -> bool {
        self.world.elapsed() >= self.length
    }

    async fn all_come(&mut self) {
        let all = self.world.size * Protocol::ALL.len();
        let deadline = Instant::now() + DEADLINE.min(self.length);
        while self.world.connected_count() < all * 97 / 100 && Instant::now() < deadline {
            self.glance().await;
        }
    }

    /// Lets life go on, with moments of quiet.
    async fn lasts_until(&mut self, until: Duration) {
        let mut quiet = self.world.elapsed() + BETWEEN;
        while self.world.elapsed() < until && !self.has_ended {
            self.glance().await;
            if self.world.elapsed() > quiet && self.world.elapsed() + BETWEEN / 2 < until {
                self.has_quiet().await;
                quiet = self.world.elapsed() + BETWEEN;
            }
            if !self.world.brief && self.chance.once_in(200) {
                self.halts().await;
            }
            if self.chance.once_in(40) {
                self.sends_impostor().await;
            }
        }
    }

    /// A moment, in which it is looked after the daemon, and told how things are.
    async fn glance(&mut self) {
        let before = Instant::now();
        task::sleep(GLANCE).await;
        if before.elapsed() > STALL {
            self.world
                .report
                .fault("this program had no turn for seconds");
            self.world.stalls();
        }
        if let Some(status) = self.daemon.ended() {
            self.has_ended = true;
            self.broken(
                "the daemon lives until it is told to end",
                &status.to_string(),
            );
        }
        // One large message that is on its way says nothing about the memory that a daemon needs.
        let few = if self.world.brief { 10 } else { SAMPLES };
        self.resident.push_back(self.daemon.resident());
        let surplus = self.resident.len().saturating_sub(few);
        self.resident.drain(..surplus);
        let every = Duration::from_secs(if self.world.brief { 5 } else { 60 });
        if self.world.elapsed() >= self.told + every {
            self.told = self.world.elapsed();
            self.tells();
        }
    }

    fn tells(&self) {
        println!(
            "{:>5.0} s: {} connected; {}; daemon: {:.1} MiB, {:.1} s CPU; clients: {:.1} s CPU",
            self.world.elapsed().as_secs_f64(),
            self.world.connected_count(),
            self.world.report.line(),
            mib(self.daemon.resident()),
            self.spent + self.daemon.cpu(),
            cpu(getpid()).unwrap_or_default().as_secs_f64(),
        );
    }

    fn remembers(&self, when: &'static str) {
        let mut resident: Vec<u64> = self.resident.iter().copied().collect();
        resident.sort_unstable();
        let median = resident.get(resident.len() / 2).copied();
        self.world
            .report
            .memory(when, median.unwrap_or_else(|| self.daemon.resident()));
    }

    /// Nobody begins anything, and all who came or went are done with it; then all must agree.
    async fn has_quiet(&mut self) {
        self.world.set_quiet(true);
        let deadline = Instant::now() + SETTLING;
        while self.world.busy_count() > 0 && Instant::now() < deadline && !self.has_ended {
            self.glance().await;
        }
        if self.world.busy_count() > 0 {
            let seen = format!("{} of them do not", self.world.busy_count());
            self.broken("who comes or goes gets there", &seen);
        }
        let deadline = Instant::now() + DEADLINE;
        while self.disagree() && Instant::now() < deadline && !self.has_ended {
            self.glance().await;
        }
        for (protocol, place) in &self.places {
            for (promise, seen) in place.borrow().disagreements() {
                let at = self.world.elapsed();
                self.world
                    .report
                    .broken(at, promise, protocol.name(), &seen);
            }
        }
        self.receives_visits().await;
        for (_, place) in &self.places {
            for (promise, times) in place.borrow_mut().forget() {
                (0..times).for_each(|_| self.world.report.checked(promise));
            }
        }
        self.world
            .report
            .checked("moments of quiet in which all agree");
        self.world.set_quiet(false);
    }

    fn disagree(&self) -> bool {
        let disagree = |place: &Rc<RefCell<dyn Place>>| !place.borrow().disagreements().is_empty();
        self.places.iter().any(|(_, place)| disagree(place))
    }

    async fn receives_visits(&mut self) {
        for (protocol, place) in &self.places {
            let Some(visit) = place.borrow().visits() else {
                continue;
            };
            let promise = "a visitor is told how many are there";
            self.world.report.checked(promise);
            let seen = match Link::open(&self.world, *protocol, &visit.target).await {
                Err(problem) => problem,
                Ok(mut link) => match link.next(Instant::now() + DEADLINE).await {
                    News::Text(text) if text.contains(&visit.told) => continue,
                    News::Text(text) => format!("{text} instead of {}", visit.told),
                    News::Ended(end) => format!("{end:?}"),
                    News::Time => "nothing".to_owned(),
                },
            };
            self.broken(promise, &seen);
        }
    }

    /// Stops the daemon, or kills it, and starts it again.
    async fn restarts(&mut self, signal: Signal) {
        let is_kill = signal == Signal::KILL;
        let (kind, phase) = if is_kill {
            ("the daemon was killed", Phase::Down)
        } else {
            ("the daemon was stopped", Phase::Stopping)
        };
        self.world.report.fault(kind);
        // Not in a moment of quiet, but in the middle of life.
        task::sleep(self.chance.seconds(3, 8)).await;
        self.stops(signal, phase).await;
        self.daemon.start_again().await;
        self.resident.clear();
        self.since = self.world.elapsed();
        self.world.begin(self.daemon.addresses.clone());
    }

    async fn stops(&mut self, signal: Signal, phase: Phase) {
        let cpu = self.daemon.cpu();
        self.world.set_phase(phase);
        self.daemon.signal(signal);
        let status = self.daemon.ends().await;
        self.spent += cpu;
        if phase == Phase::Stopping {
            let promise = "a daemon that is told to stop does, with status 0";
            self.world.report.checked(promise);
            match status {
                Some(status) if status.success() => {}
                Some(status) => self.broken(promise, &status.to_string()),
                None => self.broken(promise, "it does not end"),
            }
            // All that it said last is still to be read.
            let deadline = Instant::now() + DEADLINE;
            while self.world.connected_count() > 0 && Instant::now() < deadline {
                task::sleep(GLANCE).await;
            }
        }
        self.world.set_phase(Phase::Down);
    }

    async fn halts(&mut self) {
        self.world
            .report
            .fault("the daemon stood still for a while");
        self.world.set_phase(Phase::Halted);
        self.daemon.signal(Signal::STOP);
        task::sleep(self.chance.seconds(1, 3)).await;
        self.daemon.signal(Signal::CONT);
        self.world.set_phase(Phase::Up);
    }

    /// Somebody says to be another, who is there.
    async fn sends_impostor(&mut self) {
        let someone = self.exchange.borrow().someone(&mut self.chance);
        let Some((who, life)) = someone else {
            return;
        };
        let promise = "an id that is taken is nobody else's";
        let target = peerjs::target(who, "another");
        let seen = match Link::open(&self.world, Protocol::PeerJs, &target).await {
            Err(problem) => problem,
            Ok(mut link) => {
                let deadline = Instant::now() + DEADLINE;
                let first = link.next(deadline).await;
                let second = link.next(deadline).await;
                match (first, second) {
                    (News::Text(text), News::Ended(End::Closed(4409, _)))
                        if text.contains("ID-TAKEN") =>
                    {
                        return self.world.report.checked(promise);
                    }
                    (News::Text(text), _) => text.as_str().to_owned(),
                    (News::Ended(end), _) => format!("{end:?}"),
                    (News::Time, _) => "nothing".to_owned(),
                }
            }
        };
        // Otherwise the id may have been free.
        if self.exchange.borrow().life(who) == life {
            self.broken(promise, &seen);
        }
    }

    async fn ends(&mut self) {
        if !self.has_ended {
            self.tells();
            self.stops(Signal::TERM, Phase::Stopping).await;
        }
        let report = &self.world.report;
        let (middle, end) = (
            report.memory_at("in the middle"),
            report.memory_at("at the end"),
        );
        let judges = self.is_warm && !self.has_ended;
        if let (Some(middle), Some(end), true) = (middle, end, judges) {
            report.checked("memory does not grow");
            if end > middle + middle / 4 && end > middle + LEAK {
                let seen = format!("{:.1} MiB, then {:.1} MiB", mib(middle), mib(end));
                self.broken("memory does not grow", &seen);
            }
        }
        println!("\n{}", self.world.report.table());
        println!("the daemon's log is in {}", self.daemon.log.display());
    }

    fn broken(&self, promise: &'static str, seen: &str) {
        let at = self.world.elapsed();
        self.world.report.broken(at, promise, "the director", seen);
    }
}
