//! The figures of a run: messages, checks made and failed, faults, memory.

use crate::shared_state::Protocol;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// How many failures of each check are printed in detail.
const DETAILED: u64 = 5;

/// The most characters of what was seen instead.
const DETAIL_LENGTH: usize = 500;

/// The figures, filled by all tasks.
#[derive(Default)]
pub struct Report(RefCell<Figures>);

#[derive(Default)]
struct Figures {
    /// Messages to other clients.
    sent: BTreeMap<Protocol, u64>,
    /// Messages that arrived and were right.
    received: BTreeMap<Protocol, u64>,
    /// How often each check was made.
    checks: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    /// How often each check failed.
    violations: BTreeMap<&'static str, u64>,
    /// The failures that were printed.
    details: Vec<String>,
    /// The daemon's resident memory at named points of the run, in bytes.
    memory: Vec<(&'static str, u64)>,
}

impl Report {
    /// Counts a message that a client sends to others.
    pub fn sent(&self, protocol: Protocol) {
        *self.0.borrow_mut().sent.entry(protocol).or_default() += 1;
    }

    /// Counts a message that arrived and was right.
    pub fn received(&self, protocol: Protocol) {
        *self.0.borrow_mut().received.entry(protocol).or_default() += 1;
    }

    /// Counts a check, whether it passed or not.
    pub fn checked(&self, check: &'static str) {
        *self.0.borrow_mut().checks.entry(check).or_default() += 1;
    }

    /// Counts a fault: something that was done to a client or to the daemon.
    pub fn fault(&self, kind: &'static str) {
        *self.0.borrow_mut().faults.entry(kind).or_default() += 1;
    }

    /// Counts a failed check, and prints the first ones: when, which client, and what was seen.
    pub fn violation(&self, at: Duration, check: &'static str, client: &str, seen: &str) {
        let mut figures = self.0.borrow_mut();
        let times = figures.violations.entry(check).or_default();
        *times += 1;
        if *times <= DETAILED {
            let seen: String = seen.chars().take(DETAIL_LENGTH).collect();
            let line = format!("{:.1} s: {check}: {client}: {seen}", at.as_secs_f64());
            eprintln!("FAILED {line}");
            figures.details.push(line);
        }
    }

    /// Records the daemon's resident memory at a point of the run.
    pub fn memory(&self, when: &'static str, bytes: u64) {
        self.0.borrow_mut().memory.push((when, bytes));
    }

    /// Returns the memory at a point, if it was recorded.
    pub fn memory_at(&self, when: &str) -> Option<u64> {
        let figures = self.0.borrow();
        let found = figures.memory.iter().find(|(at, _)| *at == when);
        found.map(|(_, bytes)| *bytes)
    }

    /// Returns how many checks failed.
    pub fn failures(&self) -> u64 {
        self.0.borrow().violations.values().sum()
    }

    /// Returns the totals, for a line of progress.
    pub fn summary(&self) -> String {
        let figures = self.0.borrow();
        let sum = |of: &BTreeMap<Protocol, u64>| of.values().sum::<u64>();
        format!(
            "{} messages sent, {} received and checked, {} faults, {} failed checks",
            sum(&figures.sent),
            sum(&figures.received),
            figures.faults.values().sum::<u64>(),
            figures.violations.values().sum::<u64>(),
        )
    }

    /// Returns all figures as text.
    pub fn table(&self) -> String {
        let figures = self.0.borrow();
        let mut table = String::from("protocol       messages sent   received and checked\n");
        for protocol in Protocol::all() {
            let of = |figures: &BTreeMap<Protocol, u64>| {
                figures.get(&protocol).copied().unwrap_or_default()
            };
            let (sent, received) = (of(&figures.sent), of(&figures.received));
            let _ = writeln!(table, "{:<12}{sent:>16}{received:>23}", protocol.name());
        }
        let mut list = |title: &str, entries: &BTreeMap<&'static str, u64>| {
            let _ = writeln!(table, "\n{title}");
            for (name, count) in entries {
                let _ = writeln!(table, "{count:>12}  {name}");
            }
        };
        list("checks made", &figures.checks);
        list("faults injected", &figures.faults);
        list("checks failed", &figures.violations);
        let _ = writeln!(table, "\nresident memory of the daemon");
        for (when, bytes) in &figures.memory {
            let _ = writeln!(table, "{:>8.1} MiB  {when}", mib(*bytes));
        }
        for line in &figures.details {
            let _ = writeln!(table, "failed at {line}");
        }
        table
    }
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
