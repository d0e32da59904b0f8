//! Models: a realm under random stories of several clients, beside a plain view of what it must do. A step picks
//! clients by arbitrary numbers, so that any list of numbers is a valid story.

use crate::base::close::DisconnectReason;
use crate::realm::{Access, Realm};
use crate::testing::Input;
use crate::testing::harness::RealmHarness;
#[cfg(test)]
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

/// The model of a protocol, with its realm. A story runs in [`Model::REALMS`] realms, one after the other.
pub(crate) trait Model: Sized {
    /// What can happen: what a client does, what happens to it, or that time passes.
    type Step: Clone + Debug;

    /// Number of realms that every story runs in, each with limits or options of its own.
    const REALMS: usize = 1;

    /// Reads the arguments of the step with this letter; `None` if no step has it, or if the input ends.
    fn read(letter: u8, input: &mut Input) -> Option<Self::Step>;

    /// Returns any step, those that lead somewhere more often than others.
    #[cfg(test)]
    fn step() -> impl Strategy<Value = Self::Step>;

    /// Creates one of the realms, without clients.
    fn new(realm: usize) -> Self;

    /// Makes a step, and asserts that its effects are right.
    fn apply(&mut self, step: Self::Step);

    /// Asserts what holds after every step.
    fn check_invariants(&self) {}

    /// Ends the story: asserts what holds once nothing is pending any more, closes all connections, and asserts that
    /// nothing is stored.
    fn finish(self);
}

/// Maximum number of steps in a story.
const STEPS: usize = 300;

/// Runs a story in each of the realms.
fn run_story<M: Model>(steps: &[M::Step]) {
    for realm in 0..M::REALMS {
        let mut model = M::new(realm);
        for step in steps {
            model.apply(step.clone());
            model.check_invariants();
        }
        model.finish();
    }
}

/// Runs the story of a fuzzer's input. Letters of no step are skipped.
pub(crate) fn run<M: Model>(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut steps = Vec::new();
    while let Some(letter) = input.byte().filter(|_| steps.len() < STEPS) {
        steps.extend(M::read(letter, &mut input));
    }
    run_story::<M>(&steps);
}

/// Runs random stories. The failure has the shortest one that was found.
#[cfg(test)]
pub(crate) fn assert_holds<M: Model>() {
    let stories = prop::collection::vec(M::step(), 1..200);
    let mut runner = proptest::test_runner::TestRunner::default();
    let result = runner.run(&stories, |steps| {
        run_story::<M>(&steps);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

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
pub(crate) enum Line<'a> {
    /// A text message was sent to the client.
    Text(&'a str),
    /// The client was closed.
    Closed,
    /// The client was probed.
    Probed,
    /// The opening of the client's connection was deferred or decided, or reading from it was paused or resumed: the
    /// text that the harness has after `~`.
    Other(&'a str),
}

/// Parses a line of the harness into the connection and the effect.
pub(crate) fn parse_line(line: &str) -> (u64, Line<'_>) {
    let (conn, effect) = line.split_once(' ').unwrap();
    let line = match effect.split_once(' ').unwrap() {
        ("<", text) => Line::Text(text),
        ("x", _) => Line::Closed,
        ("?", _) => Line::Probed,
        ("~", change) => Line::Other(change),
        _ => panic!("{line}"),
    };
    (conn.parse().unwrap(), line)
}

/// The ways in which a client disconnects.
pub(crate) const DISCONNECTS: [DisconnectReason; 4] = [
    DisconnectReason::ClosedByClient(Some(1000)),
    DisconnectReason::Lost,
    DisconnectReason::Unresponsive,
    DisconnectReason::Closed(crate::base::close::CloseReason::PROTOCOL_ERROR),
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
    pub(crate) fn pick_open(&self, pick: usize) -> Option<u64> {
        let open: Vec<u64> = self.harness.open_connections().collect();
        (!open.is_empty()).then(|| open[pick % open.len()])
    }

    /// Opens a connection from an address, of a client that shows this to a listener that reads tokens; `None` if the
    /// realm rejects it by an HTTP status.
    pub(crate) fn open_with(
        &mut self,
        target: &str,
        address: &str,
        access: Access,
    ) -> Option<Vec<String>> {
        self.count += 1;
        let lines = self
            .harness
            .try_open_with(self.count, target, address, access);
        lines.ok().map(|lines| self.track_probes(lines))
    }

    /// Sends a text message from a client.
    pub(crate) fn send(&mut self, conn: u64, text: &str) -> Vec<String> {
        let lines = self.harness.send(conn, text);
        self.track_probes(lines)
    }

    /// Ends a connection.
    pub(crate) fn disconnect(&mut self, conn: u64, reason: DisconnectReason) -> Vec<String> {
        self.probed.remove(&conn);
        let lines = self.harness.disconnect(conn, reason);
        self.track_probes(lines)
    }

    /// Picks one of the connections with a pending probe; `None` if there is none.
    pub(crate) fn pick_probed(&self, pick: usize) -> Option<u64> {
        let index = pick % self.probed.len().max(1);
        self.probed.iter().copied().nth(index)
    }

    /// Picks one of the pending probes and reports its result.
    pub(crate) fn resolve_probe(&mut self, pick: usize, alive: bool) -> Vec<String> {
        let Some(conn) = self.pick_probed(pick) else {
            return Vec::new();
        };
        self.probed.remove(&conn);
        let lines = if alive {
            self.harness.answer_probe(conn)
        } else {
            self.harness.fail_probe(conn)
        };
        self.track_probes(lines)
    }

    /// Moves the clock.
    pub(crate) fn advance(&mut self, time: Duration) -> Vec<String> {
        let lines = self.harness.advance(time);
        self.track_probes(lines)
    }

    /// Updates the pending probes by the effects in `lines`, which are returned.
    fn track_probes(&mut self, lines: Vec<String>) -> Vec<String> {
        for line in &lines {
            match parse_line(line) {
                (conn, Line::Probed) => {
                    self.probed.insert(conn);
                }
                (conn, Line::Closed) => {
                    self.probed.remove(&conn);
                }
                (_, Line::Text(_) | Line::Other(_)) => {}
            }
        }
        lines
    }
}
