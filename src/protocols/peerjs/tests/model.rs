//! PeerJS under random sequences of steps by several clients.
//!
//! Invariants that are checked after each step:
//!
//! - a message reaches the id that it names once, under the id of its sender;
//! - messages of one pair of ids arrive in the order in which they were sent;
//! - a message to an absent client is either delivered or expires, unless its source disconnects
//!   before; the same holds for a message to a client whose outbox is full;
//! - stored messages stay within the limits for a destination, for a source and in all;
//! - an id has one connection at a time, and only its token can take it over;
//! - there are never more clients than the limit;
//! - once all clients have disconnected, the realm holds no state.

use crate::protocols::peerjs::mailbox::MESSAGE_OVERHEAD;
use crate::protocols::peerjs::*;
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, Line, ModelClients, STEPS, parse_line};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Storage limits. A message costs little more than [`MESSAGE_OVERHEAD`] bytes, so that each limit is
/// reached with one of these.
const LIMITS: [Limits; 2] = [
    Limits {
        per_destination: 4,
        per_source: 5,
        source_bytes: usize::MAX,
        bytes: usize::MAX,
    },
    Limits {
        per_destination: usize::MAX,
        per_source: usize::MAX,
        source_bytes: 4 * MESSAGE_OVERHEAD,
        bytes: 9 * MESSAGE_OVERHEAD,
    },
];

const IDS: usize = 5;

/// Limit of clients, below the number of ids.
const MAX_CLIENTS: usize = 4;

const TYPES: [&str; 5] = ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"];

/// Selects a connection, modulo their number.
type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    /// A connection under an id, with a token.
    Open(usize, usize),
    /// A message to an id, of a type.
    Send(Pick, usize, &'static str),
    /// Any text message.
    SendText(Pick, String),
    /// A request for the list of ids.
    List,
    /// Any other HTTP request.
    Request(String),
    /// Fills the outbox of a connection.
    Fill(Pick),
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
                b'o' => Self::Open(input.below(IDS)?, input.below(2)?),
                b'm' => {
                    let (conn, to) = (input.below(6)?, input.below(IDS)?);
                    Self::Send(conn, to, TYPES.get(input.below(TYPES.len())?)?)
                }
                b's' => Self::SendText(input.below(6)?, input.text()?),
                b'i' => Self::List,
                b'g' => Self::Request(input.text()?),
                b'f' => Self::Fill(input.below(6)?),
                b'l' => Self::Disconnect(input.below(6)?, input.below(DISCONNECTS.len())?),
                b'w' => Self::Wait(input.millis()?),
                _ => continue,
            });
        }
    }
}

#[cfg(test)]
fn step() -> impl Strategy<Value = Step> {
    let (conn, id) = (0..6usize, 0..IDS);
    let texts = vec![r#"{"type":"HEARTBEAT"}"#, r#"{"type":"LEAVE"}"#, "nonsense"];
    prop_oneof![
        5 => (id.clone(), 0..8usize).prop_map(|(id, token)| Step::Open(id, token / 7)),
        12 => (conn.clone(), id, prop::sample::select(&TYPES))
            .prop_map(|(conn, to, message_type)| Step::Send(conn, to, message_type)),
        1 => (conn.clone(), prop::sample::select(texts))
            .prop_map(|(conn, text)| Step::SendText(conn, text.to_owned())),
        1 => Just(Step::List),
        1 => conn.clone().prop_map(Step::Fill),
        2 => (conn, 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
        4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
    ]
}

/// A message that was sent.
#[derive(Clone)]
struct Sent {
    from: String,
    to: String,
    at: Duration,
    /// The text that its destination must receive.
    text: String,
}

/// The realm, and the model's view of it.
struct World {
    clients: ModelClients<PeerJs>,
    limits: Limits,
    /// Id of each connection that has one.
    ids: HashMap<u64, String>,
    /// Connection and token of each id in use.
    owners: HashMap<String, (u64, usize)>,
    /// Connections whose outbox is full.
    full: HashSet<u64>,
    /// Messages that have neither arrived nor expired, by number.
    pending: BTreeMap<u64, Sent>,
    /// Number of the last message that arrived, by sender and destination.
    last_delivered: HashMap<(String, String), u64>,
    /// Number of messages so far.
    count: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            clients: ModelClients::new(json!({
                "concurrent_limit": MAX_CLIENTS,
                "allow_discovery": true,
                "stored_per_destination": limits.per_destination,
                "stored_per_source": limits.per_source,
                "stored_source_size": limits.source_bytes,
                "stored_size": limits.bytes,
            })),
            limits,
            ids: HashMap::new(),
            owners: HashMap::new(),
            full: HashSet::new(),
            pending: BTreeMap::new(),
            last_delivered: HashMap::new(),
            count: 0,
        }
    }

    fn run_steps(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.apply(step);
        }
        self.finish();
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Open(id, token) => {
                let target = format!("/peerjs?key=peerjs&id=id{id}&token=t{token}");
                let lines = self.clients.open(&target).unwrap();
                let (conn, id) = (self.clients.count, format!("id{id}"));
                let is_admissible = match self.owners.get(&id) {
                    Some((_, owner_token)) => *owner_token == token,
                    None => self.owners.len() < MAX_CLIENTS,
                };
                let is_open = lines.contains(&format!(r#"{conn} < {{"type":"OPEN"}}"#));
                assert_eq!(is_admissible, is_open);
                if is_open {
                    if let Some((old, _)) = self.owners.insert(id.clone(), (conn, token)) {
                        self.ids.remove(&old);
                    }
                    self.ids.insert(conn, id);
                }
                self.check(&lines, None);
            }
            Step::Send(conn, to, message_type) => {
                let message =
                    json!({"type": message_type, "dst": format!("id{to}"), "payload": self.count});
                self.send(conn, &message.to_string());
            }
            Step::SendText(conn, text) => self.send(conn, &text),
            Step::List => {
                let HttpReply::Ok { body, .. } = self.clients.harness.get("/peerjs/peers") else {
                    panic!("discovery is on");
                };
                let mut ids: Vec<&String> = self.owners.keys().collect();
                ids.sort();
                assert_eq!(
                    serde_json::from_str::<Value>(&body.to_string()).unwrap(),
                    json!(ids)
                );
            }
            Step::Request(target) => {
                self.clients.harness.get(&target);
            }
            Step::Fill(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.fill_outbox(conn);
                    self.full.insert(conn);
                }
            }
            Step::Disconnect(conn, how) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.disconnect(conn, DISCONNECTS[how]);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
        self.check_limits();
    }

    /// Sends a text. If it is a message to another client, it is pending until it arrives or expires.
    fn send(&mut self, conn: Pick, text: &str) {
        let Some(conn) = self.clients.pick_open(conn) else {
            return;
        };
        let decoded = codec::decode(&Message::Text(text.into()));
        let Some(ClientMessage::Transmit(message)) = decoded else {
            let lines = self.clients.send(conn, text);
            self.check(&lines, None);
            return;
        };
        self.count += 1;
        let from = self.ids[&conn].clone();
        let sent = Sent {
            text: message.to_frame(&from).as_text().unwrap(),
            from,
            to: message.dst,
            at: self.clients.harness.now,
        };
        let to = self.owners.get(&sent.to).map(|(to, _)| *to);
        self.pending.insert(self.count, sent);
        let lines = self.clients.send(conn, text);
        self.check(&lines, Some(self.count));
        let is_still_pending = if message.message_type.is_stored() {
            to.is_some() && self.pending.contains_key(&self.count)
        } else {
            // Neither stored nor answered with EXPIRE.
            self.pending.remove(&self.count).is_some()
                && to.is_some_and(|to| !self.full.contains(&to))
        };
        assert!(!is_still_pending, "not delivered");
    }

    fn check_limits(&self) {
        let (mut by_source, mut by_destination) = (HashMap::new(), HashMap::new());
        for sent in self.pending.values() {
            *by_source.entry(&sent.from).or_insert(0) += 1;
            *by_destination.entry(&sent.to).or_insert(0) += 1;
        }
        let limits = self.limits;
        assert!(
            by_destination
                .values()
                .all(|&count| count <= limits.per_destination)
        );
        assert!(by_source.values().all(|&count| count <= limits.per_source));
        assert!(
            by_source
                .values()
                .all(|&count| count * MESSAGE_OVERHEAD <= limits.source_bytes)
        );
        let bytes = self.clients.harness.realm.mailbox.bytes();
        assert!(self.pending.len() * MESSAGE_OVERHEAD <= bytes && bytes <= limits.bytes);
    }

    fn disconnect(&mut self, conn: u64, how: DisconnectReason) {
        self.remove(conn);
        let lines = self.clients.disconnect(conn, how);
        self.check(&lines, None);
    }

    fn wait(&mut self, time: Duration) {
        let lines = self.clients.advance(time);
        self.check(&lines, None);
    }

    /// Removes a client, unless another connection has taken its id over.
    fn remove(&mut self, conn: u64) {
        if let Some(id) = self.ids.remove(&conn) {
            self.owners.remove(&id);
            self.pending.retain(|_, sent| sent.from != id);
        }
    }

    /// Checks the effects of a step: of sending message number `sent`, or of anything else.
    fn check(&mut self, lines: &[String], sent: Option<u64>) {
        for line in lines {
            match parse_line(line) {
                (_, Line::Probed) => panic!("{line}"),
                (conn, Line::Closed) => self.remove(conn),
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    match message["type"].as_str().unwrap() {
                        "OPEN" | "ID-TAKEN" | "ERROR" => {}
                        "EXPIRE" if self.is_from_server(conn, text) => {
                            self.check_expire(conn, &message, sent);
                        }
                        _ => self.check_delivery(conn, text),
                    }
                }
            }
        }
    }

    fn check_delivery(&mut self, conn: u64, text: &str) {
        let to = &self.ids[&conn];
        let mut pending = self.pending.iter();
        let number = pending.find(|(_, sent)| sent.to == *to && sent.text == text);
        let number = *number.expect("a message is delivered once").0;
        let sent = self.pending.remove(&number).expect("it was found above");
        let previous = self.last_delivered.insert((sent.from, sent.to), number);
        assert!(previous < Some(number), "out of order");
    }

    /// Returns whether a text is from the server and not from a client.
    fn is_from_server(&self, conn: u64, text: &str) -> bool {
        let to = self.ids.get(&conn);
        let mut pending = self.pending.values();
        !pending.any(|sent| Some(&sent.to) == to && sent.text == text)
    }

    fn check_expire(&mut self, conn: u64, expire: &Value, sent: Option<u64>) {
        let text = |key: &str| expire[key].as_str().unwrap().to_owned();
        let (from, to) = (text("dst"), text("src"));
        assert_eq!(self.ids[&conn], from);
        let (before, now) = (self.pending.len(), self.clients.harness.now);
        // Either it exceeded a limit when it was sent, or its time is up.
        self.pending.retain(|number, message| {
            let is_due = message.at + Duration::from_secs(5) <= now || sent == Some(*number);
            !((&message.from, &message.to) == (&from, &to) && is_due)
        });
        assert!(
            self.pending.len() < before,
            "no pending message could expire"
        );
    }

    fn finish(mut self) {
        self.wait(Duration::from_secs(6));
        assert!(self.pending.is_empty(), "neither delivered nor expired");
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        assert!(self.clients.harness.realm.is_empty());
    }
}

/// Runs the steps of a fuzzer's input.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limits = LIMITS[input.below(LIMITS.len()).unwrap_or_default()];
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new(limits).run_steps(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn the_invariants_hold_for_any_steps(
        steps in prop::collection::vec(step(), 1..200),
        limits in prop::sample::select(&LIMITS),
    ) {
        World::new(limits).run_steps(steps);
    }
}
