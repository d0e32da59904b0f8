//! PeerDrop under random sequences of steps by several clients.
//!
//! Invariants that are checked after each step:
//!
//! - a text reaches the peer of its sender, unchanged and once, and no other client;
//! - a code admits one peer to one session, and none after the end of the session;
//! - no two live sessions have the same code;
//! - when a client disconnects, its peer is closed, and no other client;
//! - a minute after all clients have disconnected, the realm holds no state.

use crate::protocols::peerdrop::*;
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, ModelClients, STEPS};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::json;

/// Selects a connection or a code, modulo their number.
type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    Create,
    Join(Pick),
    SendText(Pick, String),
    SendBinary(Pick),
    /// A disconnection in one of the [`DISCONNECTS`].
    Disconnect(Pick, usize),
    /// Milliseconds.
    Wait(u64),
}

impl Step {
    /// Reads the next step of a fuzzer's input.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Create,
                b'j' => Self::Join(input.below(8)?),
                b's' => Self::SendText(input.below(8)?, input.text()?),
                b'b' => Self::SendBinary(input.below(8)?),
                b'l' => Self::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
                b'w' => Self::Wait(input.millis()?),
                _ => continue,
            });
        }
    }
}

#[cfg(test)]
fn step() -> impl Strategy<Value = Step> {
    let conn = 0..8usize;
    prop_oneof![
        4 => Just(Step::Create),
        5 => conn.clone().prop_map(Step::Join),
        8 => (conn.clone(), "\\PC{0,8}").prop_map(|(conn, text)| Step::SendText(conn, text)),
        1 => conn.clone().prop_map(Step::SendBinary),
        2 => (conn, 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
        1 => (0..100_000u64).prop_map(Step::Wait),
    ]
}

/// The realm, and the model's view of it.
struct World {
    clients: ModelClients<PeerDrop>,
    /// All codes issued so far, with their creators.
    codes: Vec<(String, u64)>,
    /// Peer of each connection in a pair.
    peers: BTreeMap<u64, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            clients: ModelClients::new(json!({"wrong_codes_per_minute": 3})),
            codes: Vec::new(),
            peers: BTreeMap::new(),
        }
    }

    fn run_steps(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.apply(&step);
        }
        self.finish();
    }

    fn is_open(&self, conn: u64) -> bool {
        self.clients
            .harness
            .open_connections()
            .any(|open| open == conn)
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create => {
                let lines = self.clients.open("/ws/chat").unwrap();
                let conn = self.clients.count;
                let code = lines[0].strip_prefix(&format!("{conn} < ")).unwrap();
                assert_eq!(lines.len(), 1);
                let mut earlier = self.codes.iter().filter(|(earlier, _)| earlier == code);
                assert!(!earlier.any(|(_, creator)| self.is_open(*creator)));
                self.codes.push((code.to_owned(), conn));
            }
            Step::Join(pick) => {
                let pick = pick % self.codes.len().max(1);
                let Some((code, creator)) = self.codes.get(pick).cloned() else {
                    return;
                };
                let is_waiting = self.is_open(creator) && !self.peers.contains_key(&creator);
                let lines = self.clients.open(&format!("/ws/chat/{code}")).unwrap();
                let conn = self.clients.count;
                if self.is_open(conn) {
                    assert!(
                        is_waiting,
                        "admitted to a session that does not wait for a peer"
                    );
                    assert_eq!(
                        lines,
                        [
                            format!("{conn} < {code}"),
                            format!("{creator} < {PEER_JOINED}")
                        ]
                    );
                    self.peers.extend([(conn, creator), (creator, conn)]);
                } else {
                    assert_eq!(lines.len(), 1, "only the rejected client is affected");
                }
            }
            Step::SendText(pick, text) => {
                if let Some(conn) = self.clients.pick_open(*pick) {
                    let peer = self.peers.get(&conn);
                    let expected: Vec<_> = peer
                        .map(|peer| format!("{peer} < {text}"))
                        .into_iter()
                        .collect();
                    assert_eq!(self.clients.send(conn, text), expected);
                }
            }
            Step::SendBinary(pick) => {
                if let Some(conn) = self.clients.pick_open(*pick) {
                    let message = Message::Binary(vec![b'x'].into());
                    assert_eq!(
                        self.clients.harness.send_message(conn, message),
                        Vec::<String>::new()
                    );
                }
            }
            Step::Disconnect(pick, how) => {
                if let Some(conn) = self.clients.pick_open(*pick) {
                    self.disconnect(conn, DISCONNECTS[*how]);
                }
            }
            Step::Wait(millis) => {
                let lines = self.clients.advance(Duration::from_millis(*millis));
                assert!(lines.is_empty(), "{lines:?}");
            }
        }
    }

    fn disconnect(&mut self, conn: u64, how: DisconnectReason) {
        let peer = self.peers.remove(&conn);
        let expected: Vec<_> = peer
            .map(|peer| format!("{peer} x 1000 peer left"))
            .into_iter()
            .collect();
        assert_eq!(self.clients.disconnect(conn, how), expected);
        if let Some(peer) = peer {
            self.peers.remove(&peer);
        }
    }

    fn finish(mut self) {
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.clients.advance(WINDOW);
        let PeerDrop {
            sessions,
            code_by_connection,
            wrong_codes_by_subnet,
            ..
        } = &self.clients.harness.realm;
        assert!(
            sessions.is_empty()
                && code_by_connection.is_empty()
                && wrong_codes_by_subnet.is_empty()
        );
    }
}

/// Runs the steps of a fuzzer's input.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new().run_steps(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn the_invariants_hold_for_any_steps(steps in prop::collection::vec(step(), 1..150)) {
        World::new().run_steps(steps);
    }
}
