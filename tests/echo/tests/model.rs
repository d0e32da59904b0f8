//! Echo under random stories of several clients.
//!
//! - a text goes back to its sender, unchanged and once, and to no other client;
//! - a client is closed exactly at the text after its last echo;
//! - when all clients have disconnected, the realm holds nothing.

use crate::protocols::echo::*;
use crate::realm::Access;
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, Model, ModelClients};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::json;

/// Few enough that a short story reaches it.
const MAX_ECHOES: u32 = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Connect,
    Send(usize, String),
    Disconnect(usize, usize),
}

/// The realm, and the number of echoes that each open connection has had.
pub(crate) struct World {
    clients: ModelClients<Echo>,
    echoes: BTreeMap<u64, u32>,
}

impl Model for World {
    type Step = Step;

    /// | step | what happens |
    /// | --- | --- |
    /// | `o` | a client connects |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        Some(match letter {
            b'o' => Step::Connect,
            b's' => Step::Send(input.below(8)?, input.text()?),
            b'l' => Step::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
            _ => return None,
        })
    }

    #[cfg(test)]
    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Connect),
            4 => (0..8usize, "\\PC{0,8}").prop_map(|(conn, text)| Step::Send(conn, text)),
            1 => (0..8usize, 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
        ]
    }

    fn new(_: usize) -> Self {
        Self {
            clients: ModelClients::new(json!({"max_echoes": MAX_ECHOES})),
            echoes: BTreeMap::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect => {
                let lines = self
                    .clients
                    .open_with("/echo", "127.0.0.1", Access::default())
                    .unwrap();
                assert!(lines.is_empty(), "{lines:?}");
                self.echoes.insert(self.clients.count, 0);
            }
            Step::Send(pick, text) => {
                let Some(conn) = self.clients.pick_open(pick) else {
                    return;
                };
                let lines = self.clients.send(conn, &text);
                let echoes = self.echoes.get_mut(&conn).unwrap();
                *echoes += 1;
                if *echoes <= MAX_ECHOES {
                    assert_eq!(lines, [format!("{conn} < {text}")]);
                } else {
                    assert_eq!(lines, [format!("{conn} x 4429 enough echoes")]);
                    self.echoes.remove(&conn);
                }
            }
            Step::Disconnect(pick, how) => {
                if let Some(conn) = self.clients.pick_open(pick) {
                    let lines = self.clients.disconnect(conn, DISCONNECTS[how]);
                    assert!(lines.is_empty(), "{lines:?}");
                    self.echoes.remove(&conn);
                }
            }
        }
    }

    fn check_invariants(&self) {
        let open = self.clients.harness.open_connections();
        assert!(open.eq(self.echoes.keys().copied()));
    }

    fn finish(mut self) {
        while self.clients.pick_open(0).is_some() {
            self.apply(Step::Disconnect(0, 1));
        }
        assert!(self.clients.harness.realm.echoes.is_empty());
    }
}
