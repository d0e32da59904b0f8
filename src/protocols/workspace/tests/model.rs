//! Workspace with random clients of both dialects.
//!
//! Checked after every step:
//!
//! - a `message:new` goes to each connection of the room once, with an id above all before it;
//! - `presence:update` and `typing:indicator` never go to connections of their own user;
//! - a `userId` belongs to one user and is not used again;
//! - a user has at most three connections, and `connectedUsers` counts users;
//! - the announcements that a connection has received add up to the users that are online and typing;
//! - connections of the Electron dialect receive no presence and no typing, and only they receive
//!   `userCount` and `auth:ack`;
//! - after a quiet time the last `userCount` is right;
//! - a minute after the last connection has closed, nothing is stored.

use crate::protocols::workspace::*;
use crate::realm::Message;
use crate::testing::Input;
use crate::testing::model::{DISCONNECTS, Line, ModelClients, STEPS, parse_line};
use crate::toolkit::jwt::sign;
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// Number that selects one of the open connections.
type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    /// Connects as one of six users; the last two come without a username.
    Connect(usize),
    /// Connects with this query.
    ConnectWith(String),
    Send(Pick, String),
    Typing(Pick, bool),
    Auth(Pick, usize),
    Disconnect(Pick, usize),
    FillOutbox(Pick),
    /// Milliseconds.
    Wait(u64),
}

impl Step {
    /// Reads the next step from the fuzzer's input.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Connect(input.below(6)?),
                b'q' => Self::ConnectWith(input.text()?),
                b's' => Self::Send(input.below(8)?, input.text()?),
                b't' => Self::Typing(input.below(8)?, input.flag()?),
                b'u' => Self::Auth(input.below(8)?, input.below(5)?),
                b'l' => Self::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
                b'f' => Self::FillOutbox(input.below(8)?),
                b'w' => Self::Wait(input.millis()?),
                _ => continue,
            });
        }
    }
}

#[cfg(test)]
fn step() -> impl Strategy<Value = Step> {
    let conn = 0..8usize;
    let texts = [
        r#"{"type":"message:send","text":"hello"}"#,
        r#"{"type":"presence:update","status":"away"}"#,
        r#"{"type":"message","text":"hello","replyTo":"msg_1"}"#,
        r#"{"type":"message"}"#,
        "nonsense",
    ];
    prop_oneof![
        6 => (0..6usize).prop_map(Step::Connect),
        6 => (conn.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(conn, text)| Step::Send(conn, text.to_owned())),
        6 => (conn.clone(), any::<bool>()).prop_map(|(conn, on)| Step::Typing(conn, on)),
        6 => (conn.clone(), 0..5usize).prop_map(|(conn, name)| Step::Auth(conn, name)),
        3 => (conn.clone(), 0..DISCONNECTS.len()).prop_map(|(conn, ending)| Step::Disconnect(conn, ending)),
        1 => conn.prop_map(Step::FillOutbox),
        2 => prop_oneof![0..3000u64, 0..400_000u64].prop_map(Step::Wait),
    ]
}

/// The state of a user according to the announcements that one connection has received.
#[derive(Clone, Copy, Default)]
struct SeenUser {
    is_offline: bool,
    is_typing: bool,
}

struct Model {
    clients: ModelClients<Workspace>,
    /// `userId` by connection.
    users: HashMap<u64, String>,
    /// Connections that have said that they are typing.
    typing: BTreeSet<u64>,
    /// Other users by connection and `userId`, as announced to that connection.
    seen: HashMap<u64, HashMap<String, SeenUser>>,
    /// Username by `userId`, also of users that are gone.
    names: HashMap<String, String>,
    /// Connections whose dialect is decided, and whether it is the Electron dialect.
    electron: HashMap<u64, bool>,
    /// The last `userCount` by connection.
    counts: HashMap<u64, Value>,
    last_message: String,
    /// Decoders in the same state as those of the connections, to decode the messages sent.
    decoders: HashMap<u64, Decoder>,
}

impl Model {
    fn new() -> Self {
        Self {
            clients: ModelClients::new(
                json!({"messages_per_minute": 20, "signals_per_minute": 20}),
            ),
            users: HashMap::new(),
            typing: BTreeSet::new(),
            seen: HashMap::new(),
            names: HashMap::new(),
            electron: HashMap::new(),
            counts: HashMap::new(),
            last_message: String::new(),
            decoders: HashMap::new(),
        }
    }

    fn run(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.apply(step);
            self.check();
        }
        self.finish();
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect(name) => {
                let target = format!("/ws?username=user{name}");
                // Electron clients connect without a username.
                let target = if name < 4 { &target } else { "/ws" };
                self.connect(target);
            }
            Step::ConnectWith(query) => self.connect(&format!("/ws?{query}")),
            Step::Send(conn, text) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.send(conn, &text);
                }
            }
            Step::Typing(conn, on) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    let text = json!({"type": "typing:indicator", "isTyping": on}).to_string();
                    self.send(conn, &text);
                }
            }
            Step::Auth(conn, name) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    let claims = json!({"username": format!("user{name}")}).to_string();
                    // The last of the five names comes without a valid token.
                    let token = if name < 4 {
                        sign("{}", &claims, b"")
                    } else {
                        claims
                    };
                    let text = json!({"type": "auth", "token": token}).to_string();
                    self.send(conn, &text);
                }
            }
            Step::Disconnect(conn, ending) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.disconnect(conn, DISCONNECTS[ending]);
                }
            }
            Step::FillOutbox(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.fill_outbox(conn);
                }
            }
            Step::Wait(millis) => {
                let lines = self.clients.advance(Duration::from_millis(millis));
                self.receive(&lines);
            }
        }
    }

    fn connect(&mut self, target: &str) {
        if let Some(lines) = self.clients.open(target) {
            self.receive(&lines);
        }
    }

    fn send(&mut self, conn: u64, text: &str) {
        let lines = self.clients.send(conn, text);
        let decoder = self.decoders.entry(conn).or_default();
        let incoming = decoder.decode(Message::Text(text.into()));
        if let Some(decided) = decoder.dialect() {
            let is_electron = decided == messages::Dialect::Electron;
            if !self.electron.contains_key(&conn) && is_electron {
                // From now on the connection receives no presence and no typing.
                self.seen.insert(conn, HashMap::new());
            }
            assert_eq!(
                *self.electron.entry(conn).or_insert(is_electron),
                is_electron
            );
        }
        // A rejected message changes nothing.
        let is_rejected = lines.iter().any(|line| line.contains("RATE_LIMITED"));
        match incoming.message {
            ClientMessage::Typing(true) if !is_rejected => {
                self.typing.insert(conn);
            }
            ClientMessage::Typing(false) if !is_rejected => {
                self.typing.remove(&conn);
            }
            _ => {}
        }
        self.receive(&lines);
        if let ClientMessage::Presence(Status::Offline) = incoming.message {
            // The user claims to be offline but is connected.
            if let Some(user) = self.users.get(&conn) {
                let seen = self
                    .seen
                    .values_mut()
                    .filter_map(|users| users.get_mut(user));
                seen.for_each(|user| user.is_offline = false);
            }
        }
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        self.remove(conn);
        let lines = self.clients.disconnect(conn, reason);
        self.receive(&lines);
    }

    fn remove(&mut self, conn: u64) {
        self.users.remove(&conn);
        self.typing.remove(&conn);
        self.seen.remove(&conn);
        self.electron.remove(&conn);
        self.counts.remove(&conn);
    }

    fn receive(&mut self, lines: &[String]) {
        let mut messages = 0;
        let before = self.users.len();
        for line in lines {
            match parse_line(line) {
                (_, Line::Probed) => panic!("{line}"),
                (conn, Line::Closed) => self.remove(conn),
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += usize::from(message["type"] == "message:new");
                    self.receive_message(conn, &message);
                }
            }
        }
        if messages > 0 {
            let closed = before - self.users.len();
            assert_eq!(
                messages + closed,
                before,
                "each connection must get it once: {lines:?}"
            );
        }
    }

    fn receive_message(&mut self, conn: u64, message: &Value) {
        let data = &message["data"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let is_electron = self.electron.get(&conn) == Some(&true);
        match message["type"].as_str().unwrap() {
            "connected" => {
                let (id, name) = (text(&message["userId"]), text(&message["username"]));
                let known = self.names.entry(id.clone()).or_insert(name.clone());
                assert_eq!(*known, name, "{id} must not be used again");
                self.users.insert(conn, id);
                self.seen.insert(conn, HashMap::new());
                let users: BTreeSet<&String> = self.users.values().collect();
                assert_eq!(message["connectedUsers"], users.len());
            }
            "message:new" => {
                // All ids have the same number of digits, so they are in the order of their numbers.
                let id = text(&data["id"]);
                assert!(id >= self.last_message, "{id} after {}", self.last_message);
                self.last_message = id;
            }
            "auth:ack" => {
                assert!(is_electron && message["ok"] == true);
                let realm = &self.clients.harness.realm;
                let user = &realm.users[&realm.members[&ConnectionId(conn)].user];
                let known = self
                    .names
                    .entry(user.id.clone())
                    .or_insert(user.name.clone());
                assert_eq!(*known, user.name, "{} must not be used again", user.id);
                self.users.insert(conn, user.id.clone());
            }
            "userCount" => {
                assert!(is_electron);
                self.counts.insert(conn, message.clone());
            }
            message_type @ ("presence:update" | "typing:indicator") => {
                assert!(!is_electron, "{conn} must not get {message_type}");
                let user = text(&data["userId"]);
                assert_ne!(
                    self.users[&conn], user,
                    "{conn} must not be notified of its own user"
                );
                let seen = self.seen.get_mut(&conn).unwrap().entry(user).or_default();
                if message_type == "typing:indicator" {
                    let is_typing = data["isTyping"].as_bool().unwrap();
                    assert!(is_typing || seen.is_typing || !seen.is_offline);
                    seen.is_typing = is_typing;
                } else {
                    seen.is_offline = data["status"] == "offline";
                }
            }
            "error" => {}
            other => panic!("{other}"),
        }
    }

    /// Checks that the announcements add up to the users that are online and typing.
    fn check(&self) {
        // Number of connections, and whether one of them is typing, by `userId`.
        let mut users: HashMap<&String, (usize, bool)> = HashMap::new();
        for (conn, user) in &self.users {
            let (connections, is_typing) = users.entry(user).or_default();
            *connections += 1;
            *is_typing |= self.typing.contains(conn);
        }
        assert!(users.values().all(|(connections, _)| *connections <= 3));
        for (conn, seen) in &self.seen {
            for (user, seen) in seen {
                let actual = users.get(user);
                assert_eq!(
                    seen.is_offline,
                    actual.is_none(),
                    "{user} as announced to {conn}"
                );
                assert!(
                    !seen.is_typing || actual.is_some_and(|(_, is_typing)| *is_typing),
                    "{user} is not typing, but {conn} was notified so"
                );
            }
        }
    }

    fn finish(mut self) {
        // The second wait is for users that the first one closed as idle.
        for _ in 0..2 {
            let lines = self.clients.advance(USER_COUNT_INTERVAL);
            self.receive(&lines);
        }
        let ids: BTreeSet<&String> = self.users.values().collect();
        let mut names: Vec<&String> = ids.into_iter().map(|id| &self.names[id]).collect();
        names.sort_by_key(|name| name.to_lowercase());
        let count = json!({"type": "userCount", "count": names.len(), "users": names});
        for (conn, _) in self
            .electron
            .iter()
            .filter(|(_, is_electron)| **is_electron)
        {
            assert_eq!(self.counts[conn], count, "as sent to {conn}");
        }
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.clients.advance(WINDOW);
        let Workspace {
            members,
            users,
            recently_gone,
            ..
        } = &self.clients.harness.realm;
        assert!(members.is_empty() && users.is_empty() && recently_gone.is_empty());
    }
}

/// Runs the steps that the fuzzer's input encodes.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    Model::new().run(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn rules_hold_for_random_clients(steps in prop::collection::vec(step(), 1..150)) {
        Model::new().run(steps);
    }
}
