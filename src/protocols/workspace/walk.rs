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

use super::*;
use crate::jwt::signed;
use crate::protocols::crowd::{Crowd, ENDINGS, Fate, fate};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

type Pick = usize;

#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Say(Pick, &'static str),
    Typing(Pick, bool),
    Auth(Pick, usize),
    Leave(Pick, usize),
    Full(Pick),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    let texts = [
        r#"{"type":"message:send","text":"hello"}"#,
        r#"{"type":"presence:update","status":"away"}"#,
        r#"{"type":"message","text":"hello","replyTo":"msg_1"}"#,
        r#"{"type":"message"}"#,
        "nonsense",
    ];
    prop_oneof![
        6 => (0..6usize).prop_map(Step::Open),
        6 => (who.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(who, text)| Step::Say(who, text)),
        6 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Step::Typing(who, on)),
        6 => (who.clone(), 0..5usize).prop_map(|(who, name)| Step::Auth(who, name)),
        3 => (who.clone(), 0..ENDINGS.len()).prop_map(|(who, how)| Step::Leave(who, how)),
        1 => who.prop_map(Step::Full),
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
    crowd: Crowd<Workspace>,
    /// The `userId` of each connection.
    users: HashMap<u64, String>,
    /// Who types, as far as they said.
    typing: BTreeSet<u64>,
    /// What each connection was told of each other user.
    seen: HashMap<u64, HashMap<String, Seen>>,
    names: HashMap<String, String>,
    /// Who has spoken, and whether that was the newer dialect.
    newer: HashMap<u64, bool>,
    /// The last `userCount` of each connection.
    counts: HashMap<u64, Value>,
    last_message: String,
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open(name) => {
                let target = format!("/ws?username=user{name}");
                // Newer clients come without a name.
                let target = if name < 4 { &target } else { "/ws" };
                if let Some(lines) = self.crowd.opens(target) {
                    self.look(&lines);
                }
            }
            Step::Say(who, text) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.says(who, text);
                }
            }
            Step::Typing(who, on) => {
                if let Some(who) = self.crowd.someone(who) {
                    let text = json!({"type": "typing:indicator", "isTyping": on}).to_string();
                    let lines = self.crowd.says(who, &text);
                    self.notes_dialect(who, &text);
                    // One that was refused changes nothing.
                    let refused = ["RATE_LIMITED", "UNKNOWN_TYPE"];
                    let is_refused = |line: &String| refused.iter().any(|code| line.contains(code));
                    if !lines.iter().any(is_refused) {
                        if on {
                            self.typing.insert(who);
                        } else {
                            self.typing.remove(&who);
                        }
                    }
                    self.look(&lines);
                }
            }
            Step::Auth(who, name) => {
                if let Some(who) = self.crowd.someone(who) {
                    let claims = json!({"username": format!("user{name}")}).to_string();
                    // One name in five stands in no token.
                    let token = if name < 4 {
                        signed("{}", &claims, b"")
                    } else {
                        claims
                    };
                    let text = json!({"type": "auth", "token": token}).to_string();
                    self.says(who, &text);
                }
            }
            Step::Leave(who, how) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.leaves(who, ENDINGS[how]);
                }
            }
            Step::Full(who) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.crowd.desk.is_full(who);
                }
            }
            Step::Wait(millis) => {
                let lines = self.crowd.waits(Duration::from_millis(millis));
                self.look(&lines);
            }
        }
    }

    fn says(&mut self, who: u64, text: &str) {
        let lines = self.crowd.says(who, text);
        self.notes_dialect(who, text);
        self.look(&lines);
    }

    fn notes_dialect(&mut self, who: u64, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        if let Some(kind) = message["type"].as_str() {
            let is_newer = ["auth", "message"].contains(&kind);
            if !self.newer.contains_key(&who) && is_newer {
                // From now on it hears nothing of presence and typing.
                self.seen.insert(who, HashMap::new());
            }
            self.newer.entry(who).or_insert(is_newer);
        }
    }

    fn leaves(&mut self, who: u64, how: Ending) {
        self.forget(who);
        let lines = self.crowd.leaves(who, how);
        self.look(&lines);
    }

    fn forget(&mut self, who: u64) {
        self.users.remove(&who);
        self.typing.remove(&who);
        self.seen.remove(&who);
        self.newer.remove(&who);
        self.counts.remove(&who);
    }

    fn look(&mut self, lines: &[String]) {
        let mut messages = 0;
        let before = self.users.len();
        for line in lines {
            match fate(line) {
                (_, Fate::Asked) => panic!("{line}"),
                (who, Fate::Closed) => self.forget(who),
                (who, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += usize::from(message["type"] == "message:new");
                    self.reads(who, &message);
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

    fn reads(&mut self, who: u64, message: &Value) {
        let data = &message["data"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let is_newer = self.newer.get(&who) == Some(&true);
        match message["type"].as_str().unwrap() {
            "connected" => {
                let (id, name) = (text(&message["userId"]), text(&message["username"]));
                let known = self.names.entry(id.clone()).or_insert(name.clone());
                assert_eq!(*known, name, "{id} is used again");
                self.users.insert(who, id);
                self.seen.insert(who, HashMap::new());
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
                assert!(is_newer && message["ok"] == true);
                let realm = &self.crowd.desk.realm;
                let user = &realm.users[&realm.members[&ConnectionId(who)].user];
                let known = self
                    .names
                    .entry(user.id.clone())
                    .or_insert(user.name.clone());
                assert_eq!(*known, user.name, "{} is used again", user.id);
                self.users.insert(who, user.id.clone());
            }
            "userCount" => {
                assert!(is_newer);
                self.counts.insert(who, message.clone());
            }
            kind @ ("presence:update" | "typing:indicator") => {
                assert!(!is_newer, "{who} does not know {kind}");
                let user = text(&data["userId"]);
                assert_ne!(self.users[&who], user, "told of itself");
                let seen = self.seen.get_mut(&who).unwrap().entry(user).or_default();
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
        for user in self.users.values() {
            let connections = self.users.values().filter(|other| *other == user);
            assert!(connections.count() <= 3);
        }
        for (who, seen) in &self.seen {
            for (user, seen) in seen {
                let mut connections = self.users.iter().filter(|(_, other)| *other == user);
                let here = connections.clone().count() > 0;
                assert_eq!(seen.gone, !here, "{user} as {who} sees it");
                let types = connections.any(|(connection, _)| self.typing.contains(connection));
                assert!(
                    types || !seen.types,
                    "{user} does not type, but {who} sees it"
                );
            }
        }
    }

    fn ends(mut self) {
        // The second time for those whom the first found idle.
        for _ in 0..2 {
            let lines = self.crowd.waits(INTERVAL);
            self.look(&lines);
        }
        let ids: BTreeSet<&String> = self.users.values().collect();
        let mut names: Vec<&String> = ids.into_iter().map(|id| &self.names[id]).collect();
        names.sort_by_key(|name| name.to_lowercase());
        let count = json!({"type": "userCount", "count": names.len(), "users": names});
        for (who, _) in self.newer.iter().filter(|(_, is_newer)| **is_newer) {
            assert_eq!(self.counts[who], count, "as {who} sees it");
        }
        while let Some(who) = self.crowd.someone(0) {
            self.leaves(who, Ending::Lost);
        }
        self.crowd.waits(SPAN);
        let Workspace {
            members,
            users,
            gone,
            ..
        } = &self.crowd.desk.realm;
        assert!(members.is_empty() && users.is_empty() && gone.is_empty());
    }
}

proptest! {
    #[test]
    fn whatever_clients_do(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World {
            crowd: Crowd::new(json!({"messages_per_minute": 20, "signals_per_minute": 20})),
            users: HashMap::new(),
            typing: BTreeSet::new(),
            seen: HashMap::new(),
            names: HashMap::new(),
            newer: HashMap::new(),
            counts: HashMap::new(),
            last_message: String::new(),
        };
        for step in &steps {
            world.take(step);
            world.agrees();
        }
        world.ends();
    }
}
