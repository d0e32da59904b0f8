//! PeerDrop under random sequences of steps by several clients.
//!
//! Invariants that are checked after each step:
//!
//! - a text reaches the peer of its sender, unchanged and once, and no other client;
//! - a code admits one peer to one session, and none after the end of the session;
//! - no two live sessions have the same code;
//! - when a client disconnects, its peer is closed, and no other client;
//! - a join is rejected, waits or is looked up as a plain list of all wrong codes says;
//! - a minute after all clients have disconnected, the realm holds no state.

use crate::protocols::peerdrop::wrong_codes::MINUTE;
use crate::protocols::peerdrop::*;
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, Model, ModelClients};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

/// Selects a connection, a code or an address, modulo their number.
type Pick = usize;

/// The addresses of clients, each with the networks that it counts in: an IPv4 address, or a /64, a /56 and a
/// /48.
const ADDRESSES: [(&str, &[&str]); 8] = [
    ("192.0.2.1", &["192.0.2.1"]),
    ("192.0.2.2", &["192.0.2.2"]),
    ("2001:db8:0:100::1", &["0:100/64", "0:100/56", "0:/48"]),
    ("2001:db8:0:100::2", &["0:100/64", "0:100/56", "0:/48"]),
    ("2001:db8:0:101::1", &["0:101/64", "0:100/56", "0:/48"]),
    ("2001:db8:0:102::1", &["0:102/64", "0:100/56", "0:/48"]),
    ("2001:db8:0:200::1", &["0:200/64", "0:200/56", "0:/48"]),
    ("2001:db8:1:100::1", &["1:100/64", "1:100/56", "1:/48"]),
];

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create,
    Join(Pick),
    JoinWrong,
    /// The address of the clients that connect from now on.
    Address(Pick),
    Send(Pick, String),
    SendBinary(Pick),
    /// A disconnection in one of the [`DISCONNECTS`].
    Disconnect(Pick, usize),
    /// Milliseconds.
    Wait(u64),
}

/// The limits of a realm.
#[derive(Clone, Copy)]
struct Limits {
    per_address: usize,
    /// 0: no limit.
    total: usize,
    waiting: usize,
    waiting_per_ip: usize,
}

/// Limits that short stories reach: in the first realm those of large networks, in the second those of all
/// clients together.
const LIMITS: [Limits; 2] = [
    Limits {
        per_address: 1,
        total: 0,
        waiting: 1,
        waiting_per_ip: 1,
    },
    Limits {
        per_address: 3,
        total: 4,
        waiting: 4,
        waiting_per_ip: 2,
    },
];

/// A client that waits for the answer to its join.
struct Waiting {
    conn: u64,
    code: String,
    address: usize,
    asked_at: Duration,
}

/// The realm, and the model's view of it.
pub(crate) struct World {
    clients: ModelClients<PeerDrop>,
    limits: Limits,
    /// The address of the clients that connect next.
    address: usize,
    /// All codes issued so far, with their creators.
    codes: Vec<(String, u64)>,
    /// Peer of each connection in a pair.
    peers: BTreeMap<u64, u64>,
    /// All wrong codes so far: when, and from which address.
    wrong_codes: Vec<(Duration, usize)>,
    /// Networks that were rejected, and until when.
    rejected: Vec<(&'static str, Duration)>,
    waiting: Vec<Waiting>,
}

impl Model for World {
    type Step = Step;

    const REALMS: usize = LIMITS.len();

    /// | step | what happens |
    /// | --- | --- |
    /// | `o` | a client connects and creates a session |
    /// | `j` number | a client connects with this code, of all that were ever given |
    /// | `x` | a client connects with a wrong code |
    /// | `a` number | clients connect from this address from now on, of 8 |
    /// | `b` client | a binary message |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        Some(match letter {
            b'o' => Step::Create,
            b'j' => Step::Join(input.below(8)?),
            b'x' => Step::JoinWrong,
            b'a' => Step::Address(input.below(ADDRESSES.len())?),
            b's' => Step::Send(input.below(8)?, input.text()?),
            b'b' => Step::SendBinary(input.below(8)?),
            b'l' => Step::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
            b'w' => Step::Wait(input.millis()?),
            _ => return None,
        })
    }

    #[cfg(test)]
    fn step() -> impl Strategy<Value = Step> {
        let conn = 0..8usize;
        prop_oneof![
            4 => Just(Step::Create),
            5 => conn.clone().prop_map(Step::Join),
            5 => Just(Step::JoinWrong),
            3 => conn.clone().prop_map(Step::Address),
            8 => (conn.clone(), "\\PC{0,8}").prop_map(|(conn, text)| Step::Send(conn, text)),
            1 => conn.clone().prop_map(Step::SendBinary),
            2 => (conn, 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
            1 => (0..100_000u64).prop_map(Step::Wait),
            2 => (0..2000u64).prop_map(Step::Wait),
        ]
    }

    fn new(realm: usize) -> Self {
        let limits = LIMITS[realm];
        Self {
            clients: ModelClients::new(json!({
                "wrong_codes_per_minute": limits.per_address,
                "total_wrong_codes_per_minute": limits.total,
                "max_waiting_joins": limits.waiting,
                "max_waiting_joins_per_ip": limits.waiting_per_ip,
            })),
            limits,
            address: 0,
            codes: Vec::new(),
            peers: BTreeMap::new(),
            wrong_codes: Vec::new(),
            rejected: Vec::new(),
            waiting: Vec::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Create => self.create(),
            Step::Join(pick) => {
                let pick = pick % self.codes.len().max(1);
                if let Some((code, _)) = self.codes.get(pick).cloned() {
                    self.join(&code);
                }
            }
            Step::JoinWrong => self.join("ZZZZZZ"),
            Step::Address(pick) => self.address = pick % ADDRESSES.len(),
            Step::Send(pick, text) => {
                if let Some(conn) = self.clients.pick_open(pick) {
                    let peer = self.peers.get(&conn);
                    let expected: Vec<_> = peer
                        .map(|peer| format!("{peer} < {text}"))
                        .into_iter()
                        .collect();
                    assert_eq!(self.clients.send(conn, &text), expected);
                }
            }
            Step::SendBinary(pick) => {
                if let Some(conn) = self.clients.pick_open(pick) {
                    let message = Message::Binary(vec![b'x'].into());
                    assert_eq!(
                        self.clients.harness.send_message(conn, message),
                        Vec::<String>::new()
                    );
                }
            }
            Step::Disconnect(pick, how) => {
                if let Some(conn) = self.clients.pick_open(pick) {
                    self.disconnect(conn, DISCONNECTS[how]);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
    }

    fn finish(mut self) {
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.clients.advance(MINUTE);
        let realm = &self.clients.harness.realm;
        assert!(realm.sessions.is_empty() && realm.code_by_connection.is_empty());
        assert_eq!(realm.stored_bytes(), 0);
    }
}

impl World {
    fn now(&self) -> Duration {
        self.clients.harness.now
    }

    fn is_open(&self, conn: u64) -> bool {
        self.clients
            .harness
            .open_connections()
            .any(|open| open == conn)
    }

    /// Opens a connection from the current address.
    fn open(&mut self, path: &str) -> (u64, Vec<String>) {
        self.clients.count += 1;
        let (conn, address) = (self.clients.count, ADDRESSES[self.address].0);
        (conn, self.clients.harness.open_from(conn, path, address))
    }

    fn create(&mut self) {
        let (conn, lines) = self.open("/ws/chat");
        let code = lines[0].strip_prefix(&format!("{conn} < ")).unwrap();
        assert_eq!(lines.len(), 1);
        assert_eq!(self.creator_of(code), None, "the code is in use");
        self.codes.push((code.to_owned(), conn));
    }

    /// Returns the creator of the live session with this code.
    fn creator_of(&self, code: &str) -> Option<u64> {
        let mut sessions = self.codes.iter().filter(|(other, _)| other == code);
        sessions
            .find(|(_, creator)| self.is_open(*creator))
            .map(|(_, creator)| *creator)
    }

    fn join(&mut self, code: &str) {
        let (conn, lines) = self.open(&format!("/ws/chat/{code}"));
        let address = self.address;
        let of_address = self.waiting.iter().filter(|waiting| {
            // The last but one is the /56.
            let [one, other] = [waiting.address, address].map(|address| ADDRESSES[address].1);
            one.iter().rev().nth(1).or(one.first()) == other.iter().rev().nth(1).or(other.first())
        });
        let expected = if self.is_rejected(address) {
            vec![rejection(conn)]
        } else if !self.is_above_total() {
            self.look_up(conn, code, address)
        } else if self.waiting.len() >= self.limits.waiting
            || of_address.count() >= self.limits.waiting_per_ip
        {
            vec![rejection(conn)]
        } else {
            self.waiting.push(Waiting {
                conn,
                code: code.to_owned(),
                address,
                asked_at: self.now(),
            });
            Vec::new()
        };
        assert_eq!(lines, expected);
    }

    fn is_rejected(&self, address: usize) -> bool {
        let is_current = |(network, until): &(&str, Duration)| {
            ADDRESSES[address].1.contains(network) && self.now() < *until
        };
        self.rejected.iter().any(is_current)
    }

    fn is_above_total(&self) -> bool {
        let recent = self.wrong_codes_where(|_| true);
        self.limits.total > 0 && recent > self.limits.total
    }

    /// Returns the number of wrong codes of the last minute from such addresses.
    fn wrong_codes_where(&self, is_such: impl Fn(usize) -> bool) -> usize {
        let is_recent = |(at, address): &&(Duration, usize)| {
            self.now() < *at + Duration::from_secs(60) && is_such(*address)
        };
        self.wrong_codes.iter().filter(is_recent).count()
    }

    /// Returns the lines that answer a code.
    fn look_up(&mut self, conn: u64, code: &str, address: usize) -> Vec<String> {
        match self.creator_of(code) {
            Some(creator) if !self.peers.contains_key(&creator) => {
                self.peers.extend([(conn, creator), (creator, conn)]);
                vec![
                    format!("{conn} < {code}"),
                    format!("{creator} < {PEER_JOINED}"),
                ]
            }
            Some(_) => vec![format!("{conn} x 4409 session is full")],
            None => {
                self.wrong_codes.push((self.now(), address));
                for (network, factor) in ADDRESSES[address].1.iter().zip([1, 4, 16]) {
                    let count = self.wrong_codes_where(|it| ADDRESSES[it].1.contains(network));
                    if count >= factor * self.limits.per_address {
                        let until = self.now() + Duration::from_secs(60);
                        self.rejected.push((network, until));
                    }
                }
                vec![format!("{conn} x 4404 no such session")]
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let lines = self.clients.advance(time);
        let mut expected = Vec::new();
        for join in std::mem::take(&mut self.waiting) {
            if self.now() < join.asked_at + Duration::from_secs(1) {
                self.waiting.push(join);
            } else if self.is_rejected(join.address) {
                expected.push(rejection(join.conn));
            } else {
                expected.extend(self.look_up(join.conn, &join.code, join.address));
            }
        }
        assert_eq!(lines, expected);
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        let peer = self.peers.remove(&conn);
        let expected: Vec<_> = peer
            .map(|peer| format!("{peer} x 1000 peer left"))
            .into_iter()
            .collect();
        assert_eq!(self.clients.disconnect(conn, reason), expected);
        self.waiting.retain(|waiting| waiting.conn != conn);
        if let Some(peer) = peer {
            self.peers.remove(&peer);
        }
    }
}

fn rejection(conn: u64) -> String {
    format!("{conn} x 4429 too many wrong codes, wait a minute")
}
