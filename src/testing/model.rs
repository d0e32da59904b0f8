//! Clients of a realm for random walks. A step picks clients by arbitrary numbers, so that any list of
//! numbers is a valid story.

use crate::base::close::DisconnectReason;
use crate::realm::Realm;
use crate::testing::harness::RealmHarness;
use std::collections::BTreeSet;
use std::time::Duration;

/// The clients, and the harness that runs the realm.
pub(crate) struct ModelClients<R: Realm> {
    pub(crate) harness: RealmHarness<R>,
    /// Number of connections so far; they are numbered from 1.
    pub(crate) count: u64,
    /// Connections with a pending probe.
    probed: BTreeSet<u64>,
}

/// An effect on a client, read from a line of the harness.
#[derive(Debug)]
pub(crate) enum Fate<'a> {
    /// A text message was sent to the client.
    Text(&'a str),
    /// The client was closed.
    Closed,
    /// The client was probed.
    Asked,
}

/// Parses a line of the harness into the connection and the effect.
pub(crate) fn fate(line: &str) -> (u64, Fate<'_>) {
    let (conn, effect) = line.split_once(' ').unwrap();
    let fate = match effect.split_once(' ').unwrap() {
        ("<", text) => Fate::Text(text),
        ("x", _) => Fate::Closed,
        ("?", _) => Fate::Asked,
        _ => panic!("{line}"),
    };
    (conn.parse().unwrap(), fate)
}

/// Maximum number of steps in a story.
pub(crate) const STEPS: usize = 300;

/// The ways in which a client disconnects.
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
            probed: BTreeSet::new(),
        }
    }

    /// Picks one of the open connections; `None` if there is none.
    pub(crate) fn someone(&self, pick: usize) -> Option<u64> {
        let open: Vec<u64> = self.harness.open().collect();
        (!open.is_empty()).then(|| open[pick % open.len()])
    }

    /// Opens a connection; `None` if the realm rejects it by an HTTP status.
    pub(crate) fn opens(&mut self, target: &str) -> Option<Vec<String>> {
        self.count += 1;
        let lines = self.harness.tries_to_open(self.count, target, "127.0.0.1");
        lines.ok().map(|lines| self.track_probes(lines))
    }

    /// Sends a text message from a client.
    pub(crate) fn says(&mut self, conn: u64, text: &str) -> Vec<String> {
        let lines = self.harness.says(conn, text);
        self.track_probes(lines)
    }

    /// Ends a connection.
    pub(crate) fn leaves(&mut self, conn: u64, reason: DisconnectReason) -> Vec<String> {
        self.probed.remove(&conn);
        let lines = self.harness.leaves(conn, reason);
        self.track_probes(lines)
    }

    /// Picks one of the pending probes and reports its result.
    pub(crate) fn answers(&mut self, pick: usize, alive: bool) -> Vec<String> {
        let conn = self
            .probed
            .iter()
            .copied()
            .nth(pick % self.probed.len().max(1));
        let Some(conn) = conn else {
            return Vec::new();
        };
        self.probed.remove(&conn);
        let lines = if alive {
            self.harness.answers(conn)
        } else {
            self.harness.is_silent(conn)
        };
        self.track_probes(lines)
    }

    /// Moves the clock.
    pub(crate) fn waits(&mut self, time: Duration) -> Vec<String> {
        let lines = self.harness.waits(time);
        self.track_probes(lines)
    }

    /// Updates the pending probes by the effects in `lines`, which are returned.
    fn track_probes(&mut self, lines: Vec<String>) -> Vec<String> {
        for line in &lines {
            match fate(line) {
                (conn, Fate::Asked) => {
                    self.probed.insert(conn);
                }
                (conn, Fate::Closed) => {
                    self.probed.remove(&conn);
                }
                (_, Fate::Text(_)) => {}
            }
        }
        lines
    }
}
