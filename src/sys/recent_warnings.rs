//! The last warnings and errors of the log, for people who look at the status port and not at the log.
//!
//! femme cannot be wrapped by another logger: it installs itself, and a process has one. So the warnings are read
//! from the lines of the log, in whatever format they are, on the thread that takes them (`log_writer.rs`).

use super::log_format::{self, LineFormat};
use log::Level;
use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Warnings that are kept.
const MAX_WARNINGS: usize = 100;

/// Longest message in bytes; a longer one is cut.
const MAX_MESSAGE: usize = 512;

/// What follows the beginning of a message that is cut.
const CUT: &str = "…";

static RECENT: LazyLock<RecentWarnings> = LazyLock::new(RecentWarnings::new);

/// A warning or an error of the log.
pub(crate) struct Warning {
    pub(crate) time: SystemTime,
    pub(crate) level: Level,
    pub(crate) message: String,
}

/// Allocates the memory for all warnings. Allocated during a storm, it would keep the memory below it.
pub(super) fn allocate() {
    LazyLock::force(&RECENT);
}

/// Keeps a line of the log if it is a warning or an error.
pub(super) fn record(format: LineFormat, line: &[u8]) {
    let line = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    if let Some((level, message)) = log_format::read_warning(format, &line) {
        RECENT.push(SystemTime::now(), level, &message);
    }
}

/// Returns the last warnings and errors, oldest first.
pub(crate) fn recent() -> Vec<Warning> {
    RECENT.all()
}

/// A ring that holds the last warnings and never allocates again.
struct RecentWarnings(Mutex<Ring>);

struct Ring {
    entries: VecDeque<Entry>,
    /// The messages of the entries, one after the other.
    bytes: VecDeque<u8>,
}

struct Entry {
    time: SystemTime,
    level: Level,
    /// Bytes of the message.
    length: usize,
}

impl RecentWarnings {
    fn new() -> Self {
        Self(Mutex::new(Ring {
            entries: VecDeque::with_capacity(MAX_WARNINGS),
            bytes: VecDeque::with_capacity(MAX_WARNINGS * MAX_MESSAGE),
        }))
    }

    fn push(&self, time: SystemTime, level: Level, message: &str) {
        let (message, end) = cut(message);
        let mut ring = self.lock();
        if ring.entries.len() == MAX_WARNINGS {
            let oldest = ring.entries.pop_front().map_or(0, |oldest| oldest.length);
            ring.bytes.drain(..oldest);
        }
        ring.entries.push_back(Entry {
            // A clock before the epoch has no RFC 3339 time.
            time: time.max(UNIX_EPOCH),
            level,
            length: message.len() + end.len(),
        });
        ring.bytes.extend(message.as_bytes());
        ring.bytes.extend(end.as_bytes());
    }

    fn all(&self) -> Vec<Warning> {
        let ring = self.lock();
        let mut bytes = ring.bytes.iter().copied();
        let warning = |entry: &Entry| {
            let message: Vec<u8> = bytes.by_ref().take(entry.length).collect();
            Warning {
                time: entry.time,
                level: entry.level,
                message: String::from_utf8_lossy(&message).into_owned(),
            }
        };
        ring.entries.iter().map(warning).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // No code that holds the lock can panic in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the beginning of a message that is kept, and what follows it.
fn cut(message: &str) -> (&str, &'static str) {
    if message.len() <= MAX_MESSAGE {
        return (message, "");
    }
    let fits = |end: &usize| *end <= MAX_MESSAGE - CUT.len();
    let ends = message.char_indices().map(|(end, _)| end);
    let end = ends.take_while(fits).last().unwrap_or(0);
    (message.get(..end).unwrap_or_default(), CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &RecentWarnings, message: &str) {
        ring.push(UNIX_EPOCH, Level::Warn, message);
    }

    fn messages(ring: &RecentWarnings) -> Vec<String> {
        let all = ring.all().into_iter();
        all.map(|warning| warning.message).collect()
    }

    #[test]
    fn the_last_hundred_are_kept_oldest_first() {
        let ring = RecentWarnings::new();
        (0..250).for_each(|number| push(&ring, &format!("warning {number}")));
        let expected: Vec<String> = (150..250)
            .map(|number| format!("warning {number}"))
            .collect();
        assert_eq!(messages(&ring), expected);
    }

    #[test]
    fn a_storm_of_long_warnings_does_not_grow_the_memory() {
        let ring = RecentWarnings::new();
        let capacity = |ring: &RecentWarnings| {
            let ring = ring.lock();
            (ring.entries.capacity(), ring.bytes.capacity())
        };
        let before = capacity(&ring);
        (0..1000).for_each(|_| push(&ring, &"é".repeat(100_000)));
        assert_eq!(capacity(&ring), before);
        assert_eq!(messages(&ring).len(), MAX_WARNINGS);
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let ring = RecentWarnings::new();
        let fits = "x".repeat(MAX_MESSAGE);
        push(&ring, &fits);
        push(&ring, &"é".repeat(MAX_MESSAGE));
        push(&ring, &"€".repeat(MAX_MESSAGE));
        let kept = messages(&ring);
        assert_eq!(kept[0], fits);
        assert_eq!(kept[1], "é".repeat(254) + CUT);
        assert_eq!(kept[2], "€".repeat(169) + CUT);
    }

    #[test]
    fn a_warning_has_its_time_and_its_level() {
        let ring = RecentWarnings::new();
        let time = UNIX_EPOCH + std::time::Duration::from_secs(5);
        ring.push(time, Level::Error, "late");
        ring.push(
            UNIX_EPOCH - std::time::Duration::from_secs(5),
            Level::Warn,
            "early",
        );
        let all = ring.all();
        assert_eq!((all[0].time, all[0].level), (time, Level::Error));
        assert_eq!((all[1].time, all[1].level), (UNIX_EPOCH, Level::Warn));
    }
}
