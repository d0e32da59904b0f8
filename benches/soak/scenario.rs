//! The timeline of a run: when clients act freely, when the quiescent points are, when the daemon is
//! restarted, and what is judged at the end.

use crate::checks::{NO_GROWTH, Violation};
use crate::common::daemon::cpu;
use crate::connection::{Connection, Event};
use crate::daemon::Daemon;
use crate::expectations::peerjs::PeerJsExpectations;
use crate::expectations::{Expectations, Visitor};
use crate::random::Random;
use crate::report::mib;
use crate::shared_state::{DEADLINE, POLL_INTERVAL, Protocol, SharedState};
use async_std::task;
use rustix::process::{Signal, getpid};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long connecting and disconnecting clients may take before a quiescent point. A silent client is
/// dropped only after a while, and others may wait for it.
const SETTLE_TIME: Duration = Duration::from_secs(180);

/// The time between two quiescent points.
const QUIESCENCE_INTERVAL: Duration = Duration::from_secs(150);

/// How long a daemon must have been running for its memory to be judged. Before that it has not seen
/// every kind of load, above all no flood.
const WARM_UP: Duration = Duration::from_secs(300);

/// If this program was not scheduled for that long, the daemon may drop its clients as silent.
const STALL: Duration = Duration::from_secs(3);

/// Samples of the resident memory, one a poll, of which the median counts.
const SAMPLES: usize = 150;

/// Growth above the middle of the run, in bytes, that is a leak if it is also more than a quarter.
const LEAK: u64 = 4 << 20;

/// A run.
pub struct Scenario {
    pub shared: Rc<SharedState>,
    pub daemon: Daemon,
    pub expectations: Vec<(Protocol, Rc<RefCell<dyn Expectations>>)>,
    /// Those of PeerJS, once more.
    pub peerjs: Rc<RefCell<PeerJsExpectations>>,
    pub random: Random,
    /// How long the run is to take.
    length: Duration,
    /// The CPU time of the daemon processes before this one, in seconds.
    pub cpu_before: f64,
    /// When progress was printed last.
    printed_at: Duration,
    /// The newest samples of the daemon's resident memory in bytes, the newest last.
    pub resident: VecDeque<u64>,
    /// When this daemon process was started.
    pub started_at: Duration,
    /// In the middle of the run the daemon had been running for [`WARM_UP`].
    is_warm: bool,
    /// The daemon ended by itself.
    has_ended: bool,
}

impl Scenario {
    pub fn new(
        shared: &Rc<SharedState>,
        daemon: Daemon,
        expectations: Vec<(Protocol, Rc<RefCell<dyn Expectations>>)>,
        peerjs: Rc<RefCell<PeerJsExpectations>>,
        length: Duration,
        seed: u64,
    ) -> Self {
        Self {
            shared: Rc::clone(shared),
            daemon,
            expectations,
            peerjs,
            random: Random::from_seed(seed),
            length,
            cpu_before: 0.0,
            printed_at: Duration::ZERO,
            resident: VecDeque::new(),
            started_at: Duration::ZERO,
            is_warm: false,
            has_ended: false,
        }
    }

    /// Runs from beginning to end. In the first half the daemon is stopped and killed, and restarted;
    /// in the second half it runs through, and its memory in the middle and at the end is compared.
    pub async fn run(&mut self) {
        self.wait_for_clients().await;
        let resident = self.daemon.resident();
        self.shared.report.memory("with all connected", resident);
        let rest = self.length.saturating_sub(self.shared.elapsed());
        let start = self.shared.elapsed();
        let restarts: &[Signal] = if self.shared.is_smoke_test {
            &[]
        } else {
            &[Signal::TERM, Signal::KILL, Signal::TERM, Signal::KILL]
        };
        for (eighths, signal) in (1..).zip(restarts) {
            self.run_until(start + rest * eighths / 8).await;
            self.check_quiescent_point().await;
            if self.has_ended || self.is_over() {
                break;
            }
            self.restart_daemon(*signal).await;
            self.wait_for_clients().await;
        }
        self.run_until(start + rest * 5 / 8).await;
        self.record_memory("in the middle");
        self.is_warm = self.shared.elapsed() > self.started_at + WARM_UP;
        self.run_until(self.length).await;
        self.check_quiescent_point().await;
        self.record_memory("at the end");
        self.finish().await;
    }

    fn is_over(&self) -> bool {
        self.shared.elapsed() >= self.length
    }

    /// Waits until almost all clients are connected.
    async fn wait_for_clients(&mut self) {
        let all = self.shared.clients_per_protocol * Protocol::all().len();
        let deadline = Instant::now() + DEADLINE.min(self.length);
        while self.shared.connected_count() < all * 97 / 100 && Instant::now() < deadline {
            self.poll().await;
        }
    }

    /// Lets the clients act until a time of the run, with quiescent points and faults in between.
    async fn run_until(&mut self, until: Duration) {
        let mut next_check = self.shared.elapsed() + QUIESCENCE_INTERVAL;
        while self.shared.elapsed() < until && !self.has_ended {
            self.poll().await;
            let now = self.shared.elapsed();
            if now > next_check && now + QUIESCENCE_INTERVAL / 2 < until {
                self.check_quiescent_point().await;
                next_check = self.shared.elapsed() + QUIESCENCE_INTERVAL;
            }
            if !self.shared.is_smoke_test && self.random.one_in(200) {
                self.suspend_daemon().await;
            }
            if self.random.one_in(40) {
                self.try_taken_id().await;
            }
        }
    }

    /// Waits for one interval, looks after the daemon, and prints progress when that is due.
    async fn poll(&mut self) {
        let before = Instant::now();
        task::sleep(POLL_INTERVAL).await;
        if before.elapsed() > STALL {
            let report = &self.shared.report;
            report.fault("this program was not scheduled for seconds");
            self.shared.record_stall();
        }
        if let Some(status) = self.daemon.exit_status() {
            self.has_ended = true;
            self.violation("the daemon runs until it is stopped", &status.to_string());
        }
        // A single sample would depend on whether a large message was in flight.
        let is_smoke_test = self.shared.is_smoke_test;
        let samples = if is_smoke_test { 10 } else { SAMPLES };
        self.resident.push_back(self.daemon.resident());
        let surplus = self.resident.len().saturating_sub(samples);
        self.resident.drain(..surplus);
        let interval = Duration::from_secs(if is_smoke_test { 5 } else { 60 });
        if self.shared.elapsed() >= self.printed_at + interval {
            self.printed_at = self.shared.elapsed();
            self.print_progress();
        }
    }

    fn print_progress(&self) {
        println!(
            "{:>5.0} s: {} connected; {}; daemon: {:.1} MiB, {:.1} s CPU; clients: {:.1} s CPU",
            self.shared.elapsed().as_secs_f64(),
            self.shared.connected_count(),
            self.shared.report.summary(),
            mib(self.daemon.resident()),
            self.cpu_before + self.daemon.cpu(),
            cpu(getpid()).unwrap_or_default().as_secs_f64(),
        );
    }

    /// Records the median of the newest samples of the daemon's memory.
    fn record_memory(&self, when: &'static str) {
        let mut resident: Vec<u64> = self.resident.iter().copied().collect();
        resident.sort_unstable();
        let median = resident.get(resident.len() / 2).copied();
        let bytes = median.unwrap_or_else(|| self.daemon.resident());
        self.shared.report.memory(when, bytes);
    }

    /// Brings about a quiescent point, and checks there that everything due has arrived.
    async fn check_quiescent_point(&mut self) {
        self.shared.set_quiet(true);
        let deadline = Instant::now() + SETTLE_TIME;
        while self.shared.transition_count() > 0 && Instant::now() < deadline && !self.has_ended {
            self.poll().await;
        }
        let unsettled = self.shared.transition_count();
        if unsettled > 0 {
            let seen = format!("{unsettled} clients are still connecting or disconnecting");
            self.violation("clients finish connecting and disconnecting", &seen);
        }
        let deadline = Instant::now() + DEADLINE;
        while self.has_violations() && Instant::now() < deadline && !self.has_ended {
            self.poll().await;
        }
        for (protocol, expectations) in &self.expectations {
            for (check, seen) in expectations.borrow().violations() {
                let at = self.shared.elapsed();
                let report = &self.shared.report;
                report.violation(at, check, protocol.name(), &seen);
            }
        }
        self.check_visitors().await;
        let report = &self.shared.report;
        for (_, expectations) in &self.expectations {
            for (check, times) in expectations.borrow_mut().start_anew() {
                (0..times).for_each(|_| report.checked(check));
            }
        }
        report.checked("quiescent points");
        self.shared.set_quiet(false);
    }

    fn has_violations(&self) -> bool {
        let mut all = self.expectations.iter();
        all.any(|(_, expectations)| !expectations.borrow().violations().is_empty())
    }

    /// Has a visitor connect where the first message tells it how many users are online.
    async fn check_visitors(&self) {
        for (protocol, expectations) in &self.expectations {
            let Some(visitor) = expectations.borrow().visitor() else {
                continue;
            };
            let check = "a new client is told how many users are online";
            self.shared.report.checked(check);
            if let Err(seen) = self.connect_visitor(*protocol, &visitor).await {
                self.violation(check, &seen);
            }
        }
    }

    async fn connect_visitor(&self, protocol: Protocol, visitor: &Visitor) -> Result<(), String> {
        let mut connection = Connection::open(&self.shared, protocol, &visitor.target).await?;
        match connection.next(Instant::now() + DEADLINE).await {
            Event::Text(text) if text.contains(&visitor.expected) => Ok(()),
            Event::Text(text) => Err(format!("{text} instead of {}", visitor.expected)),
            Event::Ended(end) => Err(format!("{end:?}")),
            Event::Timeout => Err("no message".to_owned()),
        }
    }

    /// Stops the daemon, judges its memory and prints the report.
    async fn finish(&mut self) {
        if !self.has_ended {
            self.print_progress();
            self.stop_daemon(Signal::TERM).await;
        }
        if let Err((check, seen)) = self.check_memory() {
            self.violation(check, &seen);
        }
        println!("\n{}", self.shared.report.table());
        println!("the daemon's log is {}", self.daemon.log.display());
    }

    fn check_memory(&self) -> Result<(), Violation> {
        let report = &self.shared.report;
        let middle = report.memory_at("in the middle");
        let end = report.memory_at("at the end");
        let is_judged = self.is_warm && !self.has_ended;
        if let (Some(middle), Some(end), true) = (middle, end, is_judged) {
            report.checked(NO_GROWTH);
            if end > middle + middle / 4 && end > middle + LEAK {
                let seen = format!("{:.1} MiB, then {:.1} MiB", mib(middle), mib(end));
                return Err((NO_GROWTH, seen));
            }
        }
        Ok(())
    }

    pub fn violation(&self, check: &'static str, seen: &str) {
        let at = self.shared.elapsed();
        self.shared.report.violation(at, check, "scenario", seen);
    }
}
