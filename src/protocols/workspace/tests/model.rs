//! Workspace with random clients of both dialects, in a room that reads no tokens, in one that reads them, and in one that
//! demands them.
//!
//! Checked after every step:
//!
//! - a `message:new` goes to each connection of the room once, with an id above all before it;
//! - `presence:update` and `typing:indicator` never go to connections of their own user;
//! - a `userId` belongs to one user and is not used again;
//! - a user has at most three connections, and `connectedUsers` counts users;
//! - a connection is displaced only if it has failed its probe, or has no token for its name and a token holder comes;
//! - a name that a token holder has or had is nobody else's;
//! - a client that has not authenticated where it has to is sent its `connected` and errors, and its other messages do nothing;
//! - `online` is announced only of users that are there, `offline` only of users that are gone;
//! - announcements stay within their budget, and those of a name are 10 s apart;
//! - a connection receives that a user is typing only while it is;
//! - connections of the Electron dialect receive no presence and no typing, and only they receive
//!   `userCount` and `auth:ack`.
//!
//! After a quiet time:
//!
//! - what each connection has been told adds up to the users that are online and typing, and nothing is missing;
//! - the last `userCount` is right;
//! - no client waits for a place, and no large text to enter;
//! - a minute and the 10 s of the last announcement after the last connection has closed, nothing is stored.

use crate::protocols::workspace::standing::Standing;
use crate::protocols::workspace::*;
use crate::realm::{Access, Message};
use crate::testing::Input;
use crate::testing::harness::{access, test_tokens, token};
use crate::testing::model::{DISCONNECTS, Line, Model, ModelClients, parse_line};
use crate::toolkit::jwt::{Secret, sign_parts};
use crate::toolkit::sanitize::name_key;
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// Number that selects one of the open connections.
type Pick = usize;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Connects as one of six users; the last two come without a username.
    Connect(usize),
    /// Connects with this query.
    ConnectWith(String),
    /// Connects as one of four users with a token in the request, which the last one has for no user.
    ConnectWithToken(usize),
    Send(Pick, String),
    Typing(Pick, bool),
    Auth(Pick, usize),
    Disconnect(Pick, usize),
    FillOutbox(Pick),
    /// Sends a large text.
    SendLarge(Pick),
    /// Ends a pending probe with this result.
    ProbeResult(Pick, bool),
    /// Milliseconds.
    Wait(u64),
}

/// The state of a user according to what one connection has received.
#[derive(Clone, Copy, Default)]
struct SeenUser {
    /// Whether it is offline, if the connection was told.
    is_offline: Option<bool>,
    is_typing: bool,
}

/// Announcements of presence.
#[derive(Default)]
struct Announced {
    /// Time of the last announcement of a name.
    last: HashMap<String, Duration>,
    /// Deliveries of the current second but for those of the last announcement, and the second.
    deliveries: (u64, u64),
}

/// Deliveries a second in the model.
const BUDGET: u64 = 20;

/// The realm, its clients, and what they were told.
pub(crate) struct World {
    clients: ModelClients<Workspace>,
    announced: Announced,
    /// The newest `userId` when a connection came.
    since: HashMap<u64, String>,
    /// Connections that have failed a probe.
    failed: BTreeSet<u64>,
    /// Connections that wait for a place.
    deferred: BTreeSet<u64>,
    /// Connections that are not read.
    paused: BTreeSet<u64>,
    /// Whether tokens are demanded; `None`: they are not read.
    is_required: Option<bool>,
    /// Connections that have not authenticated where they have to.
    strangers: BTreeSet<u64>,
    /// Connections whose token is for their name.
    holders: BTreeSet<u64>,
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

impl Model for World {
    type Step = Step;

    const REALMS: usize = 3;

    /// | step | what happens |
    /// | --- | --- |
    /// | `o` name | a client connects as `user0` to `user3`; 4 and 5: without a name |
    /// | `q` query | a client connects with this query |
    /// | `t` client yes/no | `typing:indicator` |
    /// | `k` name | a client connects with a token for `user0` to `user2`; 3: for no user |
    /// | `u` client name | `auth` as `user0` to `user3`; 4: with an invalid token |
    /// | `b` client | a large text |
    /// | `a` client yes/no | a client that was probed, counted among those, answers or does not |
    /// | `f` client | the client's outbox is full from now on |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        Some(match letter {
            b'o' => Step::Connect(input.below(6)?),
            b'q' => Step::ConnectWith(input.text()?),
            b'k' => Step::ConnectWithToken(input.below(4)?),
            b's' => Step::Send(input.below(8)?, input.text()?),
            b't' => Step::Typing(input.below(8)?, input.flag()?),
            b'u' => Step::Auth(input.below(8)?, input.below(5)?),
            b'l' => Step::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
            b'f' => Step::FillOutbox(input.below(8)?),
            b'b' => Step::SendLarge(input.below(8)?),
            b'a' => Step::ProbeResult(input.below(8)?, input.flag()?),
            b'w' => Step::Wait(input.millis()?),
            _ => return None,
        })
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
            3 => (0..4usize).prop_map(Step::ConnectWithToken),
            6 => (conn.clone(), prop::sample::select(texts.to_vec()))
                .prop_map(|(conn, text)| Step::Send(conn, text.to_owned())),
            6 => (conn.clone(), any::<bool>()).prop_map(|(conn, on)| Step::Typing(conn, on)),
            6 => (conn.clone(), 0..5usize).prop_map(|(conn, name)| Step::Auth(conn, name)),
            3 => (conn.clone(), 0..DISCONNECTS.len()).prop_map(|(conn, ending)| Step::Disconnect(conn, ending)),
            1 => conn.clone().prop_map(Step::FillOutbox),
            2 => conn.clone().prop_map(Step::SendLarge),
            3 => (conn, any::<bool>()).prop_map(|(conn, alive)| Step::ProbeResult(conn, alive)),
            3 => prop_oneof![0..3000u64, 5000..15_000u64, 0..400_000u64].prop_map(Step::Wait),
        ]
    }

    fn new(realm: usize) -> Self {
        let mut clients = ModelClients::new(json!({
            "messages_per_minute": 20, "signals_per_minute": 20, "text_per_minute": 300,
            "large_text": 20, "large_text_per_second": 100, "announcements_per_second": BUDGET,
        }));
        let is_required = [None, Some(false), Some(true)][realm];
        if is_required.is_some() {
            clients.harness.tokens = test_tokens();
        }
        Self {
            clients,
            is_required,
            strangers: BTreeSet::new(),
            holders: BTreeSet::new(),
            announced: Announced::default(),
            since: HashMap::new(),
            failed: BTreeSet::new(),
            deferred: BTreeSet::new(),
            paused: BTreeSet::new(),
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

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect(name) => {
                let target = format!("/ws?username=user{name}");
                // Electron clients connect without a username.
                let target = if name < 4 { &target } else { "/ws" };
                self.connect(target, None);
            }
            Step::ConnectWith(query) => self.connect(&format!("/ws?{query}"), None),
            Step::ConnectWithToken(name) => {
                let claims = if name < 3 {
                    json!({"sub": format!("user{name}")})
                } else {
                    json!({})
                };
                self.connect("/ws?username=User1", Some(claims));
            }
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
                    let claims = json!({"username": format!("user{name}")});
                    // The last of the five names comes without a valid token.
                    let token = match self.is_required {
                        _ if name == 4 => claims.to_string(),
                        None => sign_parts("{}", &claims.to_string(), &Secret::new(b"")),
                        Some(_) => token(&claims),
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
            Step::SendLarge(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    let message_type = match self.electron.get(&conn) {
                        Some(true) => "message",
                        _ => "message:send",
                    };
                    let text = json!({"type": message_type, "text": "x".repeat(40)});
                    self.send(conn, &text.to_string());
                }
            }
            Step::ProbeResult(pick, alive) => self.probe_result(pick, alive),
            Step::Wait(millis) => {
                let lines = self.clients.advance(Duration::from_millis(millis));
                self.receive(&lines, None);
            }
        }
    }

    /// Checks what holds after every step.
    fn check_invariants(&self) {
        let users = self.online_users();
        assert!(users.values().all(|(connections, _)| *connections <= 3));
        let realm = &self.clients.harness.realm;
        for member in realm.members.iter() {
            let conn = member.recipient().connection.0;
            assert_eq!(
                self.holders.contains(&conn),
                member.standing == Standing::Proven
            );
            let is_holders = realm.is_reserved(&member.user);
            assert_eq!(is_holders, self.holders.contains(&conn), "{}", member.user);
        }
        let strangers = realm.unauthenticated.keys().map(|conn| conn.0);
        assert_eq!(strangers.collect::<BTreeSet<_>>(), self.strangers);
        for (conn, seen) in &self.seen {
            for (user, seen) in seen {
                assert!(
                    !seen.is_typing || users.get(user).is_some_and(|(_, is_typing)| *is_typing),
                    "{user} is not typing, but {conn} was told so"
                );
            }
        }
    }

    fn finish(mut self) {
        self.settle();
        self.check_invariants();
        self.check_announcements();
        // The second wait is for users that the first one closed as idle.
        for _ in 0..2 {
            let lines = self.clients.advance(USER_COUNT_INTERVAL);
            self.receive(&lines, None);
        }
        let ids: BTreeSet<&String> = self.users.values().collect();
        let mut names: Vec<&String> = ids.into_iter().map(|id| &self.names[id]).collect();
        names.sort_by_key(|name| name.to_lowercase());
        let count = json!({"type": "userCount", "count": names.len(), "users": names});
        for (conn, _) in self
            .electron
            .iter()
            .filter(|(conn, is_electron)| **is_electron && self.users.contains_key(conn))
        {
            assert_eq!(self.counts[conn], count, "as sent to {conn}");
        }
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.clients.advance(WINDOW);
        // What was announced by now is remembered for another 10 s.
        self.clients.advance(Duration::from_secs(10));
        // The names of token holders are remembered for longer.
        self.clients.harness.shed(Retention::Identity, usize::MAX);
        let realm = &self.clients.harness.realm;
        assert!(realm.members.is_empty() && realm.users.is_empty() && realm.claims.is_empty());
        assert!(realm.unauthenticated.is_empty());
        assert!(realm.recently_gone.is_empty() && realm.announcements.is_empty());
        assert_eq!(realm.stored_bytes(), 0);
    }
}

impl World {
    fn probe_result(&mut self, pick: usize, alive: bool) {
        let Some(conn) = self.clients.pick_probed(pick) else {
            return;
        };
        if alive {
            self.failed.remove(&conn);
        } else {
            self.failed.insert(conn);
        }
        let lines = self.clients.resolve_probe(pick, alive);
        self.receive(&lines, None);
    }

    fn connect(&mut self, target: &str, claims: Option<Value>) {
        let access = match self.is_required {
            Some(is_required) => access(is_required, claims),
            None => Access::default(),
        };
        if let Some(lines) = self.clients.open_with(target, "127.0.0.1", access) {
            self.receive(&lines, None);
        }
    }

    fn send(&mut self, conn: u64, text: &str) {
        // What a paused client sends is handled later; the order is tested in `texts.rs`.
        if self.deferred.contains(&conn) || self.paused.contains(&conn) {
            return;
        }
        self.failed.remove(&conn);
        let lines = self.clients.send(conn, text);
        let tokens = &self.clients.harness.tokens;
        let decoder = self.decoders.entry(conn);
        let decoder = decoder.or_insert_with(|| Decoder::new(tokens));
        let incoming = decoder.decode(Message::Text(text.into()));
        if let Some(decided) = decoder.dialect() {
            let is_electron = decided == messages::Dialect::Electron;
            if !self.electron.contains_key(&conn) && is_electron && self.users.contains_key(&conn) {
                // From now on the connection receives no presence and no typing.
                self.seen.insert(conn, HashMap::new());
            }
            assert_eq!(
                *self.electron.entry(conn).or_insert(is_electron),
                is_electron
            );
        }
        // A rejected message changes nothing.
        let is_stranger = self.strangers.contains(&conn);
        let is_limited = lines.iter().any(|line| line.contains("RATE_LIMITED"));
        let is_rejected = is_limited || is_stranger;
        let is_auth = matches!(incoming.message, ClientMessage::Auth(_));
        let is_own = |line: &String| parse_line(line).0 == conn;
        assert!(
            !is_stranger || is_auth || lines.iter().all(is_own),
            "{lines:?}"
        );
        match incoming.message {
            ClientMessage::Typing(true) if !is_rejected => {
                self.typing.insert(conn);
            }
            ClientMessage::Typing(false) if !is_rejected => {
                self.typing.remove(&conn);
            }
            _ => {}
        }
        let own_status = match incoming.message {
            ClientMessage::Presence(status) if !is_stranger => Some((conn, status)),
            _ => None,
        };
        self.receive(&lines, own_status);
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        self.remove(conn);
        let lines = self.clients.disconnect(conn, reason);
        self.receive(&lines, None);
    }

    fn remove(&mut self, conn: u64) {
        self.users.remove(&conn);
        self.strangers.remove(&conn);
        self.holders.remove(&conn);
        self.typing.remove(&conn);
        self.seen.remove(&conn);
        self.electron.remove(&conn);
        self.counts.remove(&conn);
        self.failed.remove(&conn);
        self.paused.remove(&conn);
        self.deferred.remove(&conn);
    }

    /// Takes note of what the clients receive. `own_status` is a status that a connection has sent.
    fn receive(&mut self, lines: &[String], own_status: Option<(u64, Status)>) {
        // Connections that have received a message, by its id.
        let mut messages: HashMap<String, BTreeSet<u64>> = HashMap::new();
        let mut announcements: Vec<(String, u64)> = Vec::new();
        let before: BTreeSet<u64> = self.users.keys().copied().collect();
        let any_closed = lines.iter().any(|line| line.contains(" x "));
        // A change of name is announced before it is acknowledged.
        for line in lines.iter().filter(|line| line.contains("auth:ack")) {
            self.rename(parse_line(line).0);
        }
        for line in lines {
            match parse_line(line) {
                (conn, Line::Other(change)) => self.take_note(conn, change),
                (conn, Line::Probed) => assert!(self.users.contains_key(&conn), "{line}"),
                (conn, Line::Closed) => {
                    let is_replaced = line.ends_with("connected again elsewhere");
                    let may_be = self.failed.contains(&conn) || self.has_holders_name(conn);
                    assert!(!is_replaced || may_be, "{line}");
                    self.remove(conn);
                }
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    let data = &message["data"];
                    if message["type"] == "message:new" {
                        let receivers = messages.entry(data["id"].to_string()).or_default();
                        assert!(receivers.insert(conn), "{line} twice");
                    }
                    // Without a connection left it is the announcement that its user is gone.
                    let is_own_status = own_status.is_some_and(|(conn, status)| {
                        let user = self.users.get(&conn);
                        user.is_some_and(|user| data["userId"] == **user)
                            && data["status"] == json!(status)
                    });
                    if message["type"] == "presence:update" && !is_own_status {
                        self.check_announcement(data, any_closed);
                        let what = data.to_string();
                        match announcements.last_mut() {
                            Some((last, deliveries)) if *last == what => *deliveries += 1,
                            _ => announcements.push((what, 1)),
                        }
                    }
                    self.receive_message(conn, &message, is_own_status, any_closed);
                }
            }
        }
        for (id, receivers) in messages {
            let stayed = before.iter().filter(|conn| self.users.contains_key(conn));
            let missing: Vec<&u64> = stayed.filter(|conn| !receivers.contains(conn)).collect();
            assert!(
                missing.is_empty(),
                "{missing:?} did not receive {id}: {lines:?}"
            );
        }
        self.count_announcements(&announcements);
    }

    /// Takes note of an open that is deferred or decided, and of a pause.
    fn take_note(&mut self, conn: u64, change: &str) {
        match change {
            "deferred" => assert!(self.deferred.insert(conn)),
            "admitted" | "rejected 429" => assert!(self.deferred.remove(&conn)),
            "never expires" => {}
            "paused" => assert!(self.paused.insert(conn)),
            "resumed" => assert!(self.paused.remove(&conn)),
            other => panic!("{other}"),
        }
    }

    /// Checks that what is announced of a user is true, unless a connection was closed for a full outbox by an
    /// effect of the same call.
    fn check_announcement(&self, data: &Value, any_closed: bool) {
        let is_there = self.users.values().any(|user| data["userId"] == **user);
        let is_true = (data["status"] == "online") == is_there;
        assert!(is_true || any_closed, "{data}");
    }

    /// Takes note of a connection's new user.
    fn rename(&mut self, conn: u64) {
        let realm = &self.clients.harness.realm;
        // It may have been closed for a full outbox since.
        let Some(member) = realm.members.get(ConnectionId(conn)) else {
            return;
        };
        let user = &realm.users[&member.user];
        let (id, name) = (user.id.to_string(), user.name.clone());
        let newest = format!("ws_user_{}", realm.last_user_id);
        self.take_name(conn, id, name);
        if self.strangers.remove(&conn) {
            self.since.insert(conn, newest);
            self.seen.insert(conn, HashMap::new());
        }
    }

    /// Takes note of the user of a connection.
    fn take_name(&mut self, conn: u64, id: String, name: String) {
        if let Some(known) = self.names.insert(id.clone(), name.clone()) {
            // A token holder who comes to a name writes it in its own way.
            let is_same = known.to_lowercase() == name.to_lowercase();
            assert!(
                is_same && (known == name || self.is_required.is_some()),
                "{id} must not be used again"
            );
        }
        let realm = &self.clients.harness.realm;
        let member = realm.members.get(ConnectionId(conn));
        if member.is_some_and(|member| member.standing == Standing::Proven) {
            self.holders.insert(conn);
        }
        self.users.insert(conn, id);
    }

    /// Returns whether a connection without a token for its name has one that token holders have now.
    fn has_holders_name(&self, conn: u64) -> bool {
        let name = self.users.get(&conn).map(|id| &self.names[id]);
        let realm = &self.clients.harness.realm;
        let is_reserved = name.is_some_and(|name| realm.is_reserved(&name_key(name)));
        is_reserved && !self.holders.contains(&conn)
    }

    /// Checks the time since the last announcement of each name, and the budget.
    fn count_announcements(&mut self, announcements: &[(String, u64)]) {
        let now = self.clients.harness.now;
        let second = now.as_secs();
        let mut deliveries = match self.announced.deliveries {
            (of, deliveries) if of == second => deliveries,
            _ => 0,
        };
        for (data, count) in announcements {
            let data: Value = serde_json::from_str(data).unwrap();
            let name = data["username"].as_str().unwrap().to_lowercase();
            if let Some(last) = self.announced.last.insert(name, now) {
                assert!(now >= last + Duration::from_secs(10), "{data} at {now:?}");
            }
            assert!(deliveries < BUDGET, "{announcements:?}");
            deliveries += count;
        }
        self.announced.deliveries = (second, deliveries);
    }

    fn receive_message(
        &mut self,
        conn: u64,
        message: &Value,
        is_own_status: bool,
        any_closed: bool,
    ) {
        let data = &message["data"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let is_electron = self.electron.get(&conn) == Some(&true);
        let message_type = message["type"].as_str().unwrap();
        let is_greeting = matches!(message_type, "connected" | "error");
        assert!(
            is_greeting || self.users.contains_key(&conn),
            "{conn}: {message}"
        );
        match message_type {
            "connected" => {
                let (id, name) = (text(&message["userId"]), text(&message["username"]));
                let realm = &self.clients.harness.realm;
                if realm.unauthenticated.contains_key(&ConnectionId(conn)) {
                    assert_eq!(message["connectedUsers"], 0);
                    self.strangers.insert(conn);
                    return;
                }
                let newest = realm.last_user_id;
                self.since.insert(conn, format!("ws_user_{newest}"));
                self.take_name(conn, id, name);
                self.seen.insert(conn, HashMap::new());
                let users: BTreeSet<&String> = self.users.values().collect();
                // Others may have been closed for a full outbox by an effect of the same call.
                let is_right = message["connectedUsers"] == users.len();
                assert!(is_right || any_closed, "{message}");
            }
            "message:new" => {
                // All ids have the same number of digits, so they are in the order of their numbers.
                let id = text(&data["id"]);
                assert!(id >= self.last_message, "{id} after {}", self.last_message);
                self.last_message = id;
            }
            "auth:ack" => {
                assert!(message["ok"] == true && (is_electron || self.is_required.is_some()));
            }
            "userCount" => {
                assert!(is_electron);
                self.counts.insert(conn, message.clone());
            }
            message_type @ ("presence:update" | "typing:indicator") => {
                assert!(!is_electron, "{conn} must not get {message_type}");
                let user = text(&data["userId"]);
                // With a token it may become a user who was typing.
                let is_end = message_type == "typing:indicator" && data["isTyping"] == false;
                assert!(
                    self.users[&conn] != user || (is_end && self.is_required.is_some()),
                    "{conn} must not be notified of its own user"
                );
                let seen = self.seen.get_mut(&conn).unwrap().entry(user).or_default();
                if message_type == "typing:indicator" {
                    seen.is_typing = data["isTyping"].as_bool().unwrap();
                } else if !is_own_status {
                    seen.is_offline = Some(data["status"] == "offline");
                } else if data["status"] != "offline" {
                    // A user that claims to be offline is connected all the same.
                    seen.is_offline = Some(false);
                }
            }
            "error" => {}
            other => panic!("{other}"),
        }
    }

    /// Returns the number of connections of each user, and whether one of them is typing, by `userId`.
    fn online_users(&self) -> HashMap<&String, (usize, bool)> {
        let mut users: HashMap<&String, (usize, bool)> = HashMap::new();
        for (conn, user) in &self.users {
            let (connections, is_typing) = users.entry(user).or_default();
            *connections += 1;
            *is_typing |= self.typing.contains(conn);
        }
        users
    }

    /// Checks that what each connection has been told adds up to the users that are online, and that it was told of
    /// all users that came after it.
    fn check_announcements(&self) {
        let users = self.online_users();
        for (conn, seen) in &self.seen {
            for (user, seen) in seen {
                let is_offline = !users.contains_key(user);
                let is_true = seen.is_offline.is_none_or(|seen| seen == is_offline);
                assert!(is_true, "{user} as announced to {conn}");
            }
            let is_document = self.electron.get(conn) != Some(&true);
            let came_later = |user: &String| *user > self.since[conn];
            for user in users.keys().filter(|user| is_document && came_later(user)) {
                let is_own = self.users[conn] == **user;
                let is_told = seen
                    .get(*user)
                    .is_some_and(|seen| seen.is_offline.is_some());
                assert!(is_own || is_told, "{conn} was not told of {user}");
            }
        }
    }

    /// Lets time pass until nothing waits any more.
    fn settle(&mut self) {
        for second in 0..250 {
            self.probe_result(0, second % 2 == 0);
            let lines = self.clients.advance(Duration::from_secs(1));
            self.receive(&lines, None);
            let realm = &self.clients.harness.realm;
            let is_quiet = realm.claims.is_empty() && realm.large_texts.is_empty();
            if is_quiet && !realm.announcements.has_waiting() {
                assert!(self.deferred.is_empty() && self.paused.is_empty());
                return;
            }
        }
        panic!("something still waits");
    }
}
