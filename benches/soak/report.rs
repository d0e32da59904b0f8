//! What was seen: messages, promises checked and broken, faults survived, memory and time.

use crate::shared_state::Protocol;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// A promise that is broken so often is told of in detail.
const TOLD: u64 = 5;

/// And with so many characters of what was seen.
const SEEN: usize = 500;

/// All figures.
#[derive(Default)]
pub struct Report(RefCell<Figures>);

#[derive(Default)]
struct Figures {
    sent: BTreeMap<Protocol, u64>,
    checked: BTreeMap<Protocol, u64>,
    /// How often each promise was checked.
    promises: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    told: Vec<String>,
    memory: Vec<(&'static str, u64)>,
}

impl Report {
    /// Somebody says something to others.
    pub fn sent(&self, protocol: Protocol) {
        *self.0.borrow_mut().sent.entry(protocol).or_default() += 1;
    }

    /// Somebody got it, and it was as it should be.
    pub fn received(&self, protocol: Protocol) {
        *self.0.borrow_mut().checked.entry(protocol).or_default() += 1;
    }

    /// A promise was looked at.
    pub fn checked(&self, promise: &'static str) {
        *self.0.borrow_mut().promises.entry(promise).or_default() += 1;
    }

    /// Something was done to a client or to the daemon.
    pub fn fault(&self, kind: &'static str) {
        *self.0.borrow_mut().faults.entry(kind).or_default() += 1;
    }

    /// A promise was broken.
    pub fn broken(&self, at: Duration, promise: &'static str, who: &str, seen: &str) {
        let mut figures = self.0.borrow_mut();
        let times = figures.failures.entry(promise).or_default();
        *times += 1;
        if *times <= TOLD {
            let seen: String = seen.chars().take(SEEN).collect();
            let line = format!("{:.1} s: {promise}: {who}: {seen}", at.as_secs_f64());
            eprintln!("BROKEN {line}");
            figures.told.push(line);
        }
    }

    /// The daemon's resident memory at some point.
    pub fn memory(&self, when: &'static str, bytes: u64) {
        self.0.borrow_mut().memory.push((when, bytes));
    }

    /// What the daemon needed at such a point.
    pub fn memory_at(&self, when: &str) -> Option<u64> {
        let figures = self.0.borrow();
        let found = figures.memory.iter().find(|(at, _)| *at == when);
        found.map(|(_, bytes)| *bytes)
    }

    pub fn failures(&self) -> u64 {
        self.0.borrow().failures.values().sum()
    }

    /// Messages sent and received, and faults.
    pub fn line(&self) -> String {
        let figures = self.0.borrow();
        let sum = |of: &BTreeMap<Protocol, u64>| of.values().sum::<u64>();
        format!(
            "{} messages sent, {} received and checked, {} faults, {} broken promises",
            sum(&figures.sent),
            sum(&figures.checked),
            figures.faults.values().sum::<u64>(),
            figures.failures.values().sum::<u64>(),
        )
    }

    /// All of it.
    pub fn table(&self) -> String {
        let figures = self.0.borrow();
        let mut table = String::from("protocol       messages sent   received and checked\n");
        for protocol in Protocol::ALL {
            let of = |figures: &BTreeMap<Protocol, u64>| {
                figures.get(&protocol).copied().unwrap_or_default()
            };
            let (sent, checked) = (of(&figures.sent), of(&figures.checked));
            let _ = writeln!(table, "{:<12}{sent:>16}{checked:>23}", protocol.name());
        }
        let mut list = |title: &str, entries: &BTreeMap<&'static str, u64>| {
            let _ = writeln!(table, "\n{title}");
            for (what, count) in entries {
                let _ = writeln!(table, "{count:>12}  {what}");
            }
        };
        list("promises checked, times", &figures.promises);
        list("faults survived", &figures.faults);
        list("promises broken", &figures.failures);
        let _ = writeln!(table, "\nmemory of the daemon");
        for (when, bytes) in &figures.memory {
            let _ = writeln!(table, "{:>8.1} MiB  {when}", mib(*bytes));
        }
        for line in &figures.told {
            let _ = writeln!(table, "broken at {line}");
        }
        table
    }
}

pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
