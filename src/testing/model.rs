//! A crowd of clients at a realm's desk, for random walks: they are picked by numbers that mean
//! nothing, so that any list of numbers is a story.

use crate::base::close::DisconnectReason;
use crate::realm::Realm;
use crate::testing::harness::RealmHarness;
use std::collections::BTreeSet;
use std::time::Duration;

/// The crowd and its desk.
pub(crate) struct ModelClients<R: Realm> {
    pub(crate) harness: RealmHarness<R>,
    /// Connections so far, numbered from 1.
    pub(crate) count: u64,
    /// Who has been asked for a sign of life and has not answered.
    asked: BTreeSet<u64>,
}

/// What happened to a client.
#[derive(Debug)]
pub(crate) enum Fate<'a> {
    /// It got a text.
    Text(&'a str),
    /// It was closed.
    Closed,
    /// It was asked for a sign of life.
    Asked,
}

/// Takes a line of the desk apart.
pub(crate) fn fate(line: &str) -> (u64, Fate<'_>) {
    let (conn, what) = line.split_once(' ').unwrap();
    let fate = match what.split_once(' ').unwrap() {
        ("<", text) => Fate::Text(text),
        ("x", _) => Fate::Closed,
        ("?", _) => Fate::Asked,
        _ => panic!("{line}"),
    };
    (conn.parse().unwrap(), fate)
}

/// The most steps of a story.
pub(crate) const STEPS: usize = 300;

/// How a client goes.
pub(crate) const ENDINGS: [DisconnectReason; 4] = [
    DisconnectReason::Left(Some(1000)),
    DisconnectReason::Lost,
    DisconnectReason::Silent,
    DisconnectReason::Closed(crate::base::close::CloseReason::ProtocolError),
];

impl<R: Realm> ModelClients<R> {
    pub(crate) fn new(options: serde_json::Value) -> Self {
        Self {
            harness: RealmHarness::new(options),
            count: 0,
            asked: BTreeSet::new(),
        }
    }

    /// One of those who are connected.
    pub(crate) fn someone(&self, pick: usize) -> Option<u64> {
        let open: Vec<u64> = self.harness.open().collect();
        (!open.is_empty()).then(|| open[pick % open.len()])
    }

    /// Somebody comes; unless it is refused by an HTTP status.
    pub(crate) fn opens(&mut self, target: &str) -> Option<Vec<String>> {
        self.count += 1;
        let lines = self.harness.tries_to_open(self.count, target, "127.0.0.1");
        lines.ok().map(|lines| self.noted(lines))
    }

    /// Somebody says something.
    pub(crate) fn says(&mut self, conn: u64, text: &str) -> Vec<String> {
        let lines = self.harness.says(conn, text);
        self.noted(lines)
    }

    /// Somebody goes.
    pub(crate) fn leaves(&mut self, conn: u64, how: DisconnectReason) -> Vec<String> {
        self.asked.remove(&conn);
        let lines = self.harness.leaves(conn, how);
        self.noted(lines)
    }

    /// One of those who have been asked for a sign of life gives one, or does not.
    pub(crate) fn answers(&mut self, pick: usize, alive: bool) -> Vec<String> {
        let conn = self
            .asked
            .iter()
            .copied()
            .nth(pick % self.asked.len().max(1));
        let Some(conn) = conn else {
            return Vec::new();
        };
        self.asked.remove(&conn);
        let lines = if alive {
            self.harness.answers(conn)
        } else {
            self.harness.is_silent(conn)
        };
        self.noted(lines)
    }

    /// Time passes.
    pub(crate) fn waits(&mut self, time: Duration) -> Vec<String> {
        let lines = self.harness.waits(time);
        self.noted(lines)
    }

    fn noted(&mut self, lines: Vec<String>) -> Vec<String> {
        for line in &lines {
            match fate(line) {
                (conn, Fate::Asked) => {
                    self.asked.insert(conn);
                }
                (conn, Fate::Closed) => {
                    self.asked.remove(&conn);
                }
                (_, Fate::Text(_)) => {}
            }
        }
        lines
    }
}
