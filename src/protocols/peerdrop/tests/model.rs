//! PeerDrop under clients that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - a text goes to the other one of the pair, as it came, once, and to nobody else;
//! - a code opens one session to one peer, and none after its end;
//! - no two live sessions have the same code;
//! - when one of a pair goes, the other is closed, and nobody else;
//! - once all are gone and a minute has passed, nothing is kept of anybody.

use crate::protocols::peerdrop::*;
use crate::testing::Input;
use crate::testing::model::{ENDINGS, ModelClients, STEPS};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::json;

type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    Create,
    Join(Pick),
    Say(Pick, String),
    /// What is no text.
    Show(Pick),
    Leave(Pick, usize),
    Wait(u64),
}

impl Step {
    /// The next step of a story.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Create,
                b'j' => Self::Join(input.below(8)?),
                b's' => Self::Say(input.below(8)?, input.text()?),
                b'b' => Self::Show(input.below(8)?),
                b'l' => Self::Leave(input.below(8)?, input.below(ENDINGS.len())?),
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
        8 => (conn.clone(), "\\PC{0,8}").prop_map(|(conn, text)| Step::Say(conn, text)),
        1 => conn.clone().prop_map(Step::Show),
        2 => (conn, 0..ENDINGS.len()).prop_map(|(conn, how)| Step::Leave(conn, how)),
        1 => (0..100_000u64).prop_map(Step::Wait),
    ]
}

struct World {
    clients: ModelClients<PeerDrop>,
    /// Every code that was ever given, with its creator.
    codes: Vec<(String, u64)>,
    /// Who has whom.
    peers: HashMap<u64, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            clients: ModelClients::new(json!({"wrong_codes_per_minute": 3})),
            codes: Vec::new(),
            peers: HashMap::new(),
        }
    }

    fn goes_through(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.take(&step);
        }
        self.ends();
    }

    fn is_open(&self, conn: u64) -> bool {
        self.clients.harness.open().any(|open| open == conn)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create => {
                let lines = self.clients.opens("/ws/chat").unwrap();
                let conn = self.clients.count;
                let code = lines[0].strip_prefix(&format!("{conn} < ")).unwrap();
                assert_eq!(lines.len(), 1);
                let mut others = self.codes.iter().filter(|(other, _)| other == code);
                assert!(!others.any(|(_, creator)| self.is_open(*creator)));
                self.codes.push((code.to_owned(), conn));
            }
            Step::Join(pick) => {
                let pick = pick % self.codes.len().max(1);
                let Some((code, creator)) = self.codes.get(pick).cloned() else {
                    return;
                };
                let waits = self.is_open(creator) && !self.peers.contains_key(&creator);
                let lines = self.clients.opens(&format!("/ws/chat/{code}")).unwrap();
                let conn = self.clients.count;
                if self.is_open(conn) {
                    assert!(waits, "let in where nobody waits");
                    assert_eq!(
                        lines,
                        [
                            format!("{conn} < {code}"),
                            format!("{creator} < {PEER_JOINED}")
                        ]
                    );
                    self.peers.extend([(conn, creator), (creator, conn)]);
                } else {
                    assert_eq!(lines.len(), 1, "nobody else hears of it");
                }
            }
            Step::Say(pick, text) => {
                if let Some(conn) = self.clients.someone(*pick) {
                    let peer = self.peers.get(&conn);
                    let expected: Vec<_> = peer
                        .map(|peer| format!("{peer} < {text}"))
                        .into_iter()
                        .collect();
                    assert_eq!(self.clients.says(conn, text), expected);
                }
            }
            Step::Show(pick) => {
                if let Some(conn) = self.clients.someone(*pick) {
                    let shown = Message::Binary(vec![b'x'].into());
                    assert_eq!(
                        self.clients.harness.sends(conn, shown),
                        Vec::<String>::new()
                    );
                }
            }
            Step::Leave(pick, how) => {
                if let Some(conn) = self.clients.someone(*pick) {
                    self.leaves(conn, ENDINGS[*how]);
                }
            }
            Step::Wait(millis) => {
                let lines = self.clients.waits(Duration::from_millis(*millis));
                assert!(lines.is_empty(), "{lines:?}");
            }
        }
    }

    fn leaves(&mut self, conn: u64, how: DisconnectReason) {
        let peer = self.peers.remove(&conn);
        let expected: Vec<_> = peer
            .map(|peer| format!("{peer} x 1000 peer left"))
            .into_iter()
            .collect();
        assert_eq!(self.clients.leaves(conn, how), expected);
        if let Some(peer) = peer {
            self.peers.remove(&peer);
        }
    }

    fn ends(mut self) {
        while let Some(conn) = self.clients.someone(0) {
            self.leaves(conn, DisconnectReason::Lost);
        }
        self.clients.waits(SPAN);
        let PeerDrop {
            sessions,
            code_by_connection,
            guesses_by_subnet,
            ..
        } = &self.clients.harness.realm;
        assert!(
            sessions.is_empty() && code_by_connection.is_empty() && guesses_by_subnet.is_empty()
        );
    }
}

/// Acts a story.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new().goes_through(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..150)) {
        World::new().goes_through(steps);
    }
}
