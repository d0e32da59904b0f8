//! Workspace under clients of both dialects that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - a message goes to everybody in the room, once, under an id above all before it;
//! - presence and typing go to nobody on their own user's connections;
//! - a `userId` is that of one user, and nobody else ever gets it;
//! - a user has three connections at the most, and `connectedUsers` counts users;
//! - what is told of coming, going and typing adds up to who is there and types;
//! - those who speak the newer dialect are told of no presence and no typing, and nobody else of
//!   `userCount` and `auth:ack`;
//! - once it is quiet, the last `userCount` is who is there;
//! - once all are gone and a minute has passed, nothing is kept of anybody.

use crate::protocols::workspace::*;
use crate::realm::Message;
use crate::testing::Input;
use crate::testing::model::{ENDINGS, Fate, ModelClients, STEPS, fate};
use crate::toolkit::jwt::signed;
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    /// With this query.
    Come(String),
    Say(Pick, String),
    Typing(Pick, bool),
    Auth(Pick, usize),
    Leave(Pick, usize),
    Full(Pick),
    Wait(u64),
}

impl Step {
    /// The next step of a story.
    fn read(input: &mut Input) -> Option<Self> {
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Open(input.below(6)?),
                b'q' => Self::Come(input.text()?),
                b's' => Self::Say(input.below(8)?, input.text()?),
                b't' => Self::Typing(input.below(8)?, input.flag()?),
                b'u' => Self::Auth(input.below(8)?, input.below(5)?),
                b'l' => Self::Leave(input.below(8)?, input.below(ENDINGS.len())?),
                b'f' => Self::Full(input.below(8)?),
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
        6 => (0..6usize).prop_map(Step::Open),
        6 => (conn.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(conn, text)| Step::Say(conn, text.to_owned())),
        6 => (conn.clone(), any::<bool>()).prop_map(|(conn, on)| Step::Typing(conn, on)),
        6 => (conn.clone(), 0..5usize).prop_map(|(conn, name)| Step::Auth(conn, name)),
        3 => (conn.clone(), 0..ENDINGS.len()).prop_map(|(conn, how)| Step::Leave(conn, how)),
        1 => conn.prop_map(Step::Full),
        2 => prop_oneof![0..3000u64, 0..400_000u64].prop_map(Step::Wait),
    ]
}

/// What is told of a user.
#[derive(Clone, Copy, Default)]
struct Seen {
    gone: bool,
    types: bool,
}

struct World {
    clients: ModelClients<Workspace>,
    /// The `userId` of each connection.
    users: HashMap<u64, String>,
    /// Who types, as far as they said.
    typing: BTreeSet<u64>,
    /// What each connection was told of each other user.
    seen: HashMap<u64, HashMap<String, Seen>>,
    names: HashMap<String, String>,
    /// Who has spoken, and whether that was the newer dialect.
    electron: HashMap<u64, bool>,
    /// The last `userCount` of each connection.
    counts: HashMap<u64, Value>,
    last_message: String,
    /// Their readers once more: what is said.
    readers: HashMap<u64, Reader>,
}

impl World {
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
            readers: HashMap::new(),
        }
    }

    fn goes_through(mut self, steps: impl IntoIterator<Item = Step>) {
        for step in steps {
            self.take(step);
            self.agrees();
        }
        self.ends();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Open(name) => {
                let target = format!("/ws?username=user{name}");
                // Newer clients come without a name.
                let target = if name < 4 { &target } else { "/ws" };
                self.comes(target);
            }
            Step::Come(query) => self.comes(&format!("/ws?{query}")),
            Step::Say(conn, text) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.says(conn, &text);
                }
            }
            Step::Typing(conn, on) => {
                if let Some(conn) = self.clients.someone(conn) {
                    let text = json!({"type": "typing:indicator", "isTyping": on}).to_string();
                    self.says(conn, &text);
                }
            }
            Step::Auth(conn, name) => {
                if let Some(conn) = self.clients.someone(conn) {
                    let claims = json!({"username": format!("user{name}")}).to_string();
                    // One name in five stands in no token.
                    let token = if name < 4 {
                        signed("{}", &claims, b"")
                    } else {
                        claims
                    };
                    let text = json!({"type": "auth", "token": token}).to_string();
                    self.says(conn, &text);
                }
            }
            Step::Leave(conn, how) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.leaves(conn, ENDINGS[how]);
                }
            }
            Step::Full(conn) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.clients.harness.is_full(conn);
                }
            }
            Step::Wait(millis) => {
                let lines = self.clients.waits(Duration::from_millis(millis));
                self.look(&lines);
            }
        }
    }

    fn comes(&mut self, target: &str) {
        if let Some(lines) = self.clients.opens(target) {
            self.look(&lines);
        }
    }

    fn says(&mut self, conn: u64, text: &str) {
        let lines = self.clients.says(conn, text);
        let reader = self.readers.entry(conn).or_default();
        let incoming = reader.decode(Message::Text(text.into()));
        if let Some(decided) = reader.dialect() {
            let is_electron = decided == messages::Dialect::Electron;
            if !self.electron.contains_key(&conn) && is_electron {
                // From now on it hears nothing of presence and typing.
                self.seen.insert(conn, HashMap::new());
            }
            assert_eq!(
                *self.electron.entry(conn).or_insert(is_electron),
                is_electron
            );
        }
        // One that was refused changes nothing.
        let is_refused = lines.iter().any(|line| line.contains("RATE_LIMITED"));
        match incoming.message {
            ClientMessage::Typing(true) if !is_refused => {
                self.typing.insert(conn);
            }
            ClientMessage::Typing(false) if !is_refused => {
                self.typing.remove(&conn);
            }
            _ => {}
        }
        self.look(&lines);
        if let ClientMessage::Presence(Status::Offline) = incoming.message {
            // It says so, and is there.
            if let Some(user) = self.users.get(&conn) {
                let told = self.seen.values_mut().filter_map(|seen| seen.get_mut(user));
                told.for_each(|seen| seen.gone = false);
            }
        }
    }

    fn leaves(&mut self, conn: u64, how: DisconnectReason) {
        self.forget(conn);
        let lines = self.clients.leaves(conn, how);
        self.look(&lines);
    }

    fn forget(&mut self, conn: u64) {
        self.users.remove(&conn);
        self.typing.remove(&conn);
        self.seen.remove(&conn);
        self.electron.remove(&conn);
        self.counts.remove(&conn);
    }

    fn look(&mut self, lines: &[String]) {
        let mut messages = 0;
        let before = self.users.len();
        for line in lines {
            match fate(line) {
                (_, Fate::Asked) => panic!("{line}"),
                (conn, Fate::Closed) => self.forget(conn),
                (conn, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += usize::from(message["type"] == "message:new");
                    self.reads(conn, &message);
                }
            }
        }
        if messages > 0 {
            let closed = before - self.users.len();
            assert_eq!(
                messages + closed,
                before,
                "everybody gets it once: {lines:?}"
            );
        }
    }

    fn reads(&mut self, conn: u64, message: &Value) {
        let data = &message["data"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let is_electron = self.electron.get(&conn) == Some(&true);
        match message["type"].as_str().unwrap() {
            "connected" => {
                let (id, name) = (text(&message["userId"]), text(&message["username"]));
                let known = self.names.entry(id.clone()).or_insert(name.clone());
                assert_eq!(*known, name, "{id} is used again");
                self.users.insert(conn, id);
                self.seen.insert(conn, HashMap::new());
                let users: BTreeSet<&String> = self.users.values().collect();
                assert_eq!(message["connectedUsers"], users.len());
            }
            "message:new" => {
                // As long as they have as many digits, ids are in the order of their numbers.
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
                assert_eq!(*known, user.name, "{} is used again", user.id);
                self.users.insert(conn, user.id.clone());
            }
            "userCount" => {
                assert!(is_electron);
                self.counts.insert(conn, message.clone());
            }
            kind @ ("presence:update" | "typing:indicator") => {
                assert!(!is_electron, "{conn} does not know {kind}");
                let user = text(&data["userId"]);
                assert_ne!(self.users[&conn], user, "told of itself");
                let seen = self.seen.get_mut(&conn).unwrap().entry(user).or_default();
                if kind == "typing:indicator" {
                    let types = data["isTyping"].as_bool().unwrap();
                    assert!(types || seen.types || !seen.gone);
                    seen.types = types;
                } else {
                    seen.gone = data["status"] == "offline";
                }
            }
            "error" => {}
            other => panic!("{other}"),
        }
    }

    /// What everybody was told adds up to who is there and types.
    fn agrees(&self) {
        // How many connections each has, and whether one of them types.
        let mut users: HashMap<&String, (usize, bool)> = HashMap::new();
        for (conn, user) in &self.users {
            let (connections, types) = users.entry(user).or_default();
            *connections += 1;
            *types |= self.typing.contains(conn);
        }
        assert!(users.values().all(|(connections, _)| *connections <= 3));
        for (conn, seen) in &self.seen {
            for (user, seen) in seen {
                let here = users.get(user);
                assert_eq!(seen.gone, here.is_none(), "{user} as {conn} sees it");
                assert!(
                    !seen.types || here.is_some_and(|(_, types)| *types),
                    "{user} does not type, but {conn} sees it"
                );
            }
        }
    }

    fn ends(mut self) {
        // The second time for those whom the first found idle.
        for _ in 0..2 {
            let lines = self.clients.waits(USER_COUNT_INTERVAL);
            self.look(&lines);
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
            assert_eq!(self.counts[conn], count, "as {conn} sees it");
        }
        while let Some(conn) = self.clients.someone(0) {
            self.leaves(conn, DisconnectReason::Lost);
        }
        self.clients.waits(SPAN);
        let Workspace {
            members,
            users,
            recently_gone,
            ..
        } = &self.clients.harness.realm;
        assert!(members.is_empty() && users.is_empty() && recently_gone.is_empty());
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
