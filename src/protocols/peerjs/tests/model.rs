//! PeerJS under clients that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - a message goes to the id that it names, under the id that it came from, once;
//! - within a pair messages come in the order in which they were sent;
//! - a message for somebody who is not there is delivered or expires, exactly one of the two, unless
//!   its source goes before; so is one for somebody who has no room for it;
//! - what is stored stays within its bounds: for a destination, of a source, and in all;
//! - an id has one connection at a time, and nobody else's token opens it;
//! - there are no more clients than there may be;
//! - once all are gone, nothing is kept of anybody.

use crate::protocols::peerjs::mailbox::MESSAGE_OVERHEAD;
use crate::protocols::peerjs::*;
use crate::testing::Input;
use crate::testing::model::{ENDINGS, Fate, ModelClients, STEPS, fate};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What is stored at the most. A message costs little more than [`MESSAGE_OVERHEAD`] bytes, and so each
/// bound is met in one of these.
const BOUNDS: [Limits; 2] = [
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

/// Fewer than there are ids.
const MOST_CLIENTS: usize = 4;

const KINDS: [&str; 5] = ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"];

type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    /// As which id, with which token.
    Open(usize, usize),
    Send(Pick, usize, &'static str),
    Say(Pick, String),
    /// All ids.
    List,
    /// Something else by HTTP.
    Ask(String),
    Fill(Pick),
    Leave(Pick, usize),
    Wait(u64),
}

impl Step {
    /// The next step of a story.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Open(input.below(IDS)?, input.below(2)?),
                b'm' => {
                    let (conn, to) = (input.below(6)?, input.below(IDS)?);
                    Self::Send(conn, to, KINDS.get(input.below(KINDS.len())?)?)
                }
                b's' => Self::Say(input.below(6)?, input.text()?),
                b'i' => Self::List,
                b'g' => Self::Ask(input.text()?),
                b'f' => Self::Fill(input.below(6)?),
                b'l' => Self::Leave(input.below(6)?, input.below(ENDINGS.len())?),
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
        12 => (conn.clone(), id, prop::sample::select(&KINDS))
            .prop_map(|(conn, to, kind)| Step::Send(conn, to, kind)),
        1 => (conn.clone(), prop::sample::select(texts))
            .prop_map(|(conn, text)| Step::Say(conn, text.to_owned())),
        1 => Just(Step::List),
        1 => conn.clone().prop_map(Step::Fill),
        2 => (conn, 0..ENDINGS.len()).prop_map(|(conn, how)| Step::Leave(conn, how)),
        4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
    ]
}

/// A message that has been sent.
#[derive(Clone)]
struct Sent {
    from: String,
    to: String,
    at: Duration,
    /// As it is to come.
    text: String,
}

struct World {
    clients: ModelClients<PeerJs>,
    bounds: Limits,
    /// Who has which id.
    ids: HashMap<u64, String>,
    /// Who was opened under an id, with which token.
    owners: HashMap<String, (u64, usize)>,
    /// Who has no room for anything more.
    full: HashSet<u64>,
    /// What is under way, by its number.
    waiting: BTreeMap<u64, Sent>,
    /// The last number that came, by pair.
    last: HashMap<(String, String), u64>,
    count: u64,
}

impl World {
    fn new(bounds: Limits) -> Self {
        Self {
            clients: ModelClients::new(json!({
                "concurrent_limit": MOST_CLIENTS,
                "allow_discovery": true,
                "stored_per_destination": bounds.per_destination,
                "stored_per_source": bounds.per_source,
                "stored_source_size": bounds.source_bytes,
                "stored_size": bounds.bytes,
            })),
            bounds,
            ids: HashMap::new(),
            owners: HashMap::new(),
            full: HashSet::new(),
            waiting: BTreeMap::new(),
            last: HashMap::new(),
            count: 0,
        }
    }

    fn goes_through(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.take(step);
        }
        self.ends();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open(id, token) => {
                let target = format!("/peerjs?key=peerjs&id=id{id}&token=t{token}");
                let lines = self.clients.opens(&target).unwrap();
                let (conn, id) = (self.clients.count, format!("id{id}"));
                let may_enter = match self.owners.get(&id) {
                    Some((_, owners)) => *owners == token,
                    None => self.owners.len() < MOST_CLIENTS,
                };
                let is_open = lines.contains(&format!(r#"{conn} < {{"type":"OPEN"}}"#));
                assert_eq!(may_enter, is_open);
                if is_open {
                    if let Some((old, _)) = self.owners.insert(id.clone(), (conn, token)) {
                        self.ids.remove(&old);
                    }
                    self.ids.insert(conn, id);
                }
                self.look(&lines, None);
            }
            Step::Send(conn, to, kind) => {
                let message =
                    json!({"type": kind, "dst": format!("id{to}"), "payload": self.count});
                self.says(conn, &message.to_string());
            }
            Step::Say(conn, text) => self.says(conn, &text),
            Step::List => {
                let HttpReply::Ok { body, .. } = self.clients.harness.asks("/peerjs/peers") else {
                    panic!("discovery is on");
                };
                let mut ids: Vec<&String> = self.owners.keys().collect();
                ids.sort();
                assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!(ids));
            }
            Step::Ask(target) => {
                self.clients.harness.asks(&target);
            }
            Step::Fill(conn) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.clients.harness.is_full(conn);
                    self.full.insert(conn);
                }
            }
            Step::Leave(conn, how) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.leaves(conn, ENDINGS[how]);
                }
            }
            Step::Wait(millis) => self.waits(Duration::from_millis(millis)),
        }
        self.is_bounded();
    }

    /// What is a message for somebody is under its way from now on.
    fn says(&mut self, conn: Pick, text: &str) {
        let Some(conn) = self.clients.someone(conn) else {
            return;
        };
        let command = codec::decode(&Message::Text(text.into()));
        let Some(ClientMessage::Transmit(message)) = command else {
            let lines = self.clients.says(conn, text);
            self.look(&lines, None);
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
        self.waiting.insert(self.count, sent);
        let lines = self.clients.says(conn, text);
        self.look(&lines, Some(self.count));
        let is_under_way = if message.message_type.is_stored() {
            to.is_some() && self.waiting.contains_key(&self.count)
        } else {
            // It is not kept, nor does it expire.
            self.waiting.remove(&self.count).is_some()
                && to.is_some_and(|to| !self.full.contains(&to))
        };
        assert!(!is_under_way, "not delivered");
    }

    fn is_bounded(&self) {
        let (mut of, mut to) = (HashMap::new(), HashMap::new());
        for sent in self.waiting.values() {
            *of.entry(&sent.from).or_insert(0) += 1;
            *to.entry(&sent.to).or_insert(0) += 1;
        }
        let bounds = self.bounds;
        assert!(to.values().all(|&count| count <= bounds.per_destination));
        assert!(of.values().all(|&count| count <= bounds.per_source));
        assert!(
            of.values()
                .all(|&count| count * MESSAGE_OVERHEAD <= bounds.source_bytes)
        );
        let bytes = self.clients.harness.realm.mailbox.bytes();
        assert!(self.waiting.len() * MESSAGE_OVERHEAD <= bytes && bytes <= bounds.bytes);
    }

    fn leaves(&mut self, conn: u64, how: DisconnectReason) {
        self.goes(conn);
        let lines = self.clients.leaves(conn, how);
        self.look(&lines, None);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.clients.waits(time);
        self.look(&lines, None);
    }

    /// A client is gone, unless another connection has its id.
    fn goes(&mut self, conn: u64) {
        if let Some(id) = self.ids.remove(&conn) {
            self.owners.remove(&id);
            self.waiting.retain(|_, sent| sent.from != id);
        }
    }

    /// Checks what happened when the message of this number was sent, or another thing.
    fn look(&mut self, lines: &[String], sent: Option<u64>) {
        for line in lines {
            match fate(line) {
                (_, Fate::Asked) => panic!("{line}"),
                (conn, Fate::Closed) => self.goes(conn),
                (conn, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    match message["type"].as_str().unwrap() {
                        "OPEN" | "ID-TAKEN" | "ERROR" => {}
                        "EXPIRE" if self.is_servers_own(conn, text) => {
                            self.expires(conn, &message, sent);
                        }
                        _ => self.delivers(conn, text),
                    }
                }
            }
        }
    }

    fn delivers(&mut self, conn: u64, text: &str) {
        let to = &self.ids[&conn];
        let mut waiting = self.waiting.iter();
        let number = waiting.find(|(_, sent)| sent.to == *to && sent.text == text);
        let number = *number.expect("delivered once").0;
        let sent = self.waiting.remove(&number).expect("found");
        let last = self.last.insert((sent.from, sent.to), number);
        assert!(last < Some(number), "out of order");
    }

    /// Whether no client sent that.
    fn is_servers_own(&self, conn: u64, text: &str) -> bool {
        let to = self.ids.get(&conn);
        let mut waiting = self.waiting.values();
        !waiting.any(|sent| Some(&sent.to) == to && sent.text == text)
    }

    fn expires(&mut self, conn: u64, message: &Value, sent: Option<u64>) {
        let text = |key: &str| message[key].as_str().unwrap().to_owned();
        let (from, to) = (text("dst"), text("src"));
        assert_eq!(self.ids[&conn], from);
        let (before, now) = (self.waiting.len(), self.clients.harness.now);
        // Either there was no room for it, or its time is up.
        self.waiting.retain(|number, it| {
            let is_due = it.at + Duration::from_secs(5) <= now || sent == Some(*number);
            !((&it.from, &it.to) == (&from, &to) && is_due)
        });
        assert!(self.waiting.len() < before, "nothing could expire");
    }

    fn ends(mut self) {
        self.waits(Duration::from_secs(6));
        let overdue = self.waiting.len();
        assert_eq!(overdue, 0, "neither delivered nor expired");
        while let Some(conn) = self.clients.someone(0) {
            self.leaves(conn, DisconnectReason::Lost);
        }
        assert!(self.clients.harness.realm.is_empty());
    }
}

/// Acts a story.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let bounds = BOUNDS[input.below(BOUNDS.len()).unwrap_or_default()];
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new(bounds).goes_through(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn whatever_clients_do(
        steps in prop::collection::vec(step(), 1..200),
        bounds in prop::sample::select(&BOUNDS),
    ) {
        World::new(bounds).goes_through(steps);
    }
}
