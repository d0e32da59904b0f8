//! FastChat's published page and the server, side by side, under random sequences of steps by three users.
//!
//! The page selects a user at the click, before the answer to its OPEN_CHAT. It switches to the other user of
//! each CHAT_OPENED that it is sent, asked for or not. It keeps its selection when it reloads or reconnects,
//! without OPEN_CHAT. A MSG makes it switch only while it shows no user. Its messages name no recipient.
//!
//! A page that has lost its connection is sent nothing and sends nothing until it has connected again; the
//! server may take the old connection for alive all the while. (A click that is lost on the way is not in the
//! model: the server cannot know about it.)
//!
//! In half of the stories the third user has a client of the document's dialect.
//!
//! What holds after every step:
//!
//! - A MSG or TYPING without `to` goes only to the user that its page showed when it was sent.
//! - It does go there if the last OPEN_CHAT of that page succeeded, and both users are connected and have a chat.
//! - A page that shows a user, or may show one, is sent no CHAT_OPENED that it has not asked for.
//! - Once a user has used a chat, its TYPING in the document's dialect goes only to users that it has chosen.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::protocols::fastchat::FastChat;
use crate::testing::harness::RealmHarness;
use crate::testing::model::{Line, parse_line};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Number of users that connect.
const USERS: usize = 3;

/// Number of users that a page can select: the last of them never connects.
const SELECTABLE: usize = USERS + 1;

/// The default of `absence`.
const ABSENCE: Duration = Duration::from_secs(60);

/// The ways in which a page leaves. It has received all that the server has sent.
const LEAVES: [DisconnectReason; 4] = [
    DisconnectReason::ClosedByClient(Some(1001)),
    DisconnectReason::Lost,
    DisconnectReason::Unresponsive,
    DisconnectReason::Closed(CloseReason::PROTOCOL_ERROR),
];

#[derive(Clone, Debug)]
enum Step {
    /// A user's page connects and sends HELLO.
    Connect(usize),
    /// It leaves, as it does for a reload.
    Disconnect(usize, usize),
    /// It loses its connection, and the server does not notice.
    LoseConnection(usize),
    /// The server notices one of the lost connections.
    NoticeLoss(usize),
    /// One of the pending probes ends.
    ProbeResult(usize),
    /// A user clicks on another one.
    Click(usize, usize),
    /// A user writes to the user that its page shows.
    Write(usize),
    Type(usize, bool),
    FillOutbox(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    prop_oneof![
        6 => user.clone().prop_map(Step::Connect),
        2 => (user.clone(), 0..LEAVES.len()).prop_map(|(user, how)| Step::Disconnect(user, how)),
        1 => user.clone().prop_map(Step::LoseConnection),
        1 => any::<usize>().prop_map(Step::NoticeLoss),
        2 => any::<usize>().prop_map(Step::ProbeResult),
        6 => (user.clone(), 0..SELECTABLE).prop_map(|(user, other)| Step::Click(user, other)),
        6 => user.clone().prop_map(Step::Write),
        3 => (user.clone(), any::<bool>()).prop_map(|(user, on)| Step::Type(user, on)),
        1 => user.prop_map(Step::FillOutbox),
        2 => prop_oneof![0..3_000u64, 0..70_000u64].prop_map(Step::Wait),
    ]
}

fn id(user: usize) -> String {
    format!("aaaaaaaa-1111-4111-8111-00000000000{user}")
}

fn index(id: &Value) -> usize {
    let id = id.as_str().unwrap();
    (0..SELECTABLE).find(|&user| self::id(user) == id).unwrap()
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// A user and its client.
#[derive(Default)]
struct Client {
    /// Whether it is the page, and not a client of the document's dialect.
    is_page: bool,
    /// The connection, unless it is lost.
    conn: Option<u64>,
    /// The user that the page shows. In the document's dialect: the user that its messages name.
    shows: Option<usize>,
    /// Whether that user is known to the server, since the last OPEN_CHAT was answered by CHAT_OPENED.
    is_known: bool,
    /// Whether the server must take the page for one that shows a user.
    has_partner: bool,
    /// Whether an OPEN_CHAT failed before the client was registered.
    failed_early: bool,
    /// Whether the user has used a chat for certain.
    has_used: bool,
    /// The users that it has opened a chat with or written to, successfully or not.
    chosen: BTreeSet<usize>,
    /// The time since which it has no connection at the server.
    gone_at: Option<Duration>,
}

/// A message that is being handled, and its sender.
#[derive(Clone, Copy)]
struct Sent {
    user: usize,
    action: Action,
    /// The user that the page showed.
    shown: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    Click,
    Write,
    Type,
}

struct Model {
    harness: RealmHarness<FastChat>,
    clients: Vec<Client>,
    /// Number of connections so far.
    count: u64,
    /// The user of each connection that is open at the server.
    users: BTreeMap<u64, usize>,
    /// The connection of each user that was sent HELLO_ACK, until it is closed.
    registered: BTreeMap<usize, u64>,
    full: BTreeSet<u64>,
    probed: BTreeSet<u64>,
    /// The pairs of users that have an open chat, as far as the clients have seen.
    chats: BTreeSet<(usize, usize)>,
    /// The recipients of the message that is being handled.
    reached: Vec<usize>,
}

impl Model {
    fn new(has_document_client: bool) -> Self {
        let client = |user| Client {
            is_page: !(has_document_client && user == USERS - 1),
            ..Client::default()
        };
        Self {
            harness: RealmHarness::new(json!({
                "messages_per_minute": 0, "typing_per_minute": 0, "chats_per_user": 1,
                "open_chats_per_minute": 3,
            })),
            clients: (0..USERS).map(client).collect(),
            count: 0,
            users: BTreeMap::new(),
            registered: BTreeMap::new(),
            full: BTreeSet::new(),
            probed: BTreeSet::new(),
            chats: BTreeSet::new(),
            reached: Vec::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect(user) => self.connect(user),
            Step::Disconnect(user, how) => {
                if let Some(conn) = self.clients[user].conn {
                    self.disconnect(conn, LEAVES[how]);
                }
            }
            Step::LoseConnection(user) => self.clients[user].conn = None,
            Step::NoticeLoss(pick) => {
                let lost: Vec<u64> = self.users.keys().copied().collect();
                let lost: Vec<u64> = lost
                    .into_iter()
                    .filter(|conn| self.is_lost(*conn))
                    .collect();
                if let Some(&conn) = lost.get(pick % lost.len().max(1)) {
                    self.disconnect(conn, DisconnectReason::Unresponsive);
                }
            }
            Step::ProbeResult(pick) => {
                let conn = self
                    .probed
                    .iter()
                    .copied()
                    .nth(pick % self.probed.len().max(1));
                if let Some(conn) = conn {
                    self.probed.remove(&conn);
                    let lines = if self.is_lost(conn) {
                        self.harness.fail_probe(conn)
                    } else {
                        self.harness.answer_probe(conn)
                    };
                    self.check(&lines, None);
                }
            }
            Step::Click(user, other) => self.click(user, other),
            Step::Write(user) => self.write(user),
            Step::Type(user, on) => {
                self.send(user, Action::Type, "TYPING", json!({"is_typing": on}));
            }
            Step::FillOutbox(user) => {
                if let Some(conn) = self.clients[user].conn {
                    self.harness.fill_outbox(conn);
                    self.full.insert(conn);
                }
            }
            Step::Wait(millis) => {
                let lines = self.harness.advance(Duration::from_millis(millis));
                self.check(&lines, None);
                self.forget_absent();
            }
        }
    }

    /// Returns whether a connection is open at the server, but not at the client.
    fn is_lost(&self, conn: u64) -> bool {
        self.clients[self.users[&conn]].conn != Some(conn)
    }

    fn connect(&mut self, user: usize) {
        if self.clients[user].conn.is_some() {
            return;
        }
        self.count += 1;
        let conn = self.count;
        self.clients[user].conn = Some(conn);
        self.users.insert(conn, user);
        self.harness.open(conn, "/ws");
        let name = format!("user {user}");
        let hello = json!({"user_id": id(user), "display_name": name});
        let hello = self.message(user, "HELLO", hello);
        let lines = self.harness.send(conn, &hello);
        self.check(&lines, None);
    }

    /// Returns a message in a user's dialect.
    fn message(&self, user: usize, kind: &str, mut fields: Value) -> String {
        if self.clients[user].is_page {
            fields["type"] = json!(kind);
            fields.to_string()
        } else {
            json!({"type": kind, "data": fields}).to_string()
        }
    }

    /// Sends a message, if the user is connected. Returns whether it is.
    fn send(&mut self, user: usize, action: Action, kind: &str, fields: Value) -> bool {
        let Some(conn) = self.clients[user].conn else {
            return false;
        };
        let message = self.message(user, kind, fields);
        let sent = Sent {
            user,
            action,
            shown: self.clients[user].shows,
        };
        self.reached.clear();
        let lines = self.harness.send(conn, &message);
        self.check(&lines, Some(sent));
        true
    }

    fn click(&mut self, user: usize, other: usize) {
        if self.clients[user].conn.is_none() {
            return;
        }
        let client = &mut self.clients[user];
        client.shows = Some(other);
        client.is_known = false;
        client.chosen.insert(other);
        self.send(
            user,
            Action::Click,
            "OPEN_CHAT",
            json!({"target_user_id": id(other)}),
        );
    }

    fn write(&mut self, user: usize) {
        let shown = self.clients[user].shows;
        let mut fields = json!({"content": "words"});
        if !self.clients[user].is_page {
            let Some(shown) = shown else {
                return;
            };
            fields["to"] = json!(id(shown));
        }
        self.clients[user].chosen.extend(shown);
        let must_reach = shown.filter(|&shown| self.can_reach(user, shown));
        if self.send(user, Action::Write, "MSG", fields) && must_reach.is_some() {
            assert_eq!(self.reached, Vec::from_iter(must_reach));
        }
    }

    /// Returns whether the words of a user must reach another one.
    fn can_reach(&self, user: usize, other: usize) -> bool {
        let connection = |user: usize| self.registered.get(&user).copied();
        let client = &self.clients[user];
        client.is_known
            && client
                .conn
                .is_some_and(|conn| connection(user) == Some(conn))
            && self.chats.contains(&pair(user, other))
            && connection(other).is_some_and(|conn| !self.full.contains(&conn))
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        let lines = self.harness.disconnect(conn, reason);
        self.forget_connection(conn);
        self.check(&lines, None);
    }

    /// Takes note of a connection that is closed at the server.
    fn forget_connection(&mut self, conn: u64) {
        self.probed.remove(&conn);
        let user = self.users.remove(&conn).unwrap();
        let client = &mut self.clients[user];
        client.conn.take_if(|open| *open == conn);
        if self.registered.get(&user) == Some(&conn) {
            self.registered.remove(&user);
            client.gone_at = Some(self.harness.now);
        }
    }

    /// Takes note of the users that the server has forgotten.
    fn forget_absent(&mut self) {
        for (user, client) in self.clients.iter_mut().enumerate() {
            if client
                .gone_at
                .is_some_and(|gone_at| gone_at + ABSENCE <= self.harness.now)
            {
                client.gone_at = None;
                client.is_known = false;
                client.has_partner = false;
                client.failed_early = false;
                client.has_used = false;
                client.chosen.clear();
                self.chats
                    .retain(|&(one, other)| one != user && other != user);
            }
        }
    }

    /// Checks the effects of a message, or of another step.
    fn check(&mut self, lines: &[String], sent: Option<Sent>) {
        for line in lines {
            match parse_line(line) {
                (conn, Line::Probed) => {
                    self.probed.insert(conn);
                }
                (_, Line::Other(_)) => panic!("{line}"),
                (conn, Line::Closed) => self.forget_connection(conn),
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    self.check_message(conn, &message, sent);
                }
            }
        }
    }

    /// Checks a message that a connection was sent, and lets the client handle it.
    fn check_message(&mut self, conn: u64, message: &Value, sent: Option<Sent>) {
        let user = self.users[&conn];
        let is_lost = self.is_lost(conn);
        let client = &mut self.clients[user];
        let fields = if client.is_page {
            message
        } else {
            &message["data"]
        };
        let is_answer = |action| sent.is_some_and(|it| it.user == user && it.action == action);
        match message["type"].as_str().unwrap() {
            "HELLO_ACK" => {
                self.registered.insert(user, conn);
                client.gone_at = None;
                client.has_partner |= std::mem::take(&mut client.failed_early);
            }
            "CHAT_OPENED" => {
                let other = index(&fields["target_user_id"]);
                self.chats.insert(pair(user, other));
                if is_answer(Action::Click) {
                    client.is_known = true;
                    client.has_used = true;
                } else {
                    assert!(!(client.is_page && client.has_partner), "turned: {message}");
                }
                client.has_partner = true;
                if !is_lost && (client.is_page || client.shows.is_none()) {
                    client.shows = Some(other);
                }
            }
            "MSG" => {
                let sent = sent.unwrap();
                assert_eq!(
                    (sent.action == Action::Write, sent.shown),
                    (true, Some(user))
                );
                self.reached.push(user);
                if !is_lost && client.shows.is_none() {
                    client.shows = Some(sent.user);
                }
            }
            "TYPING" if fields["is_typing"] == true => {
                let sent = sent.unwrap();
                let sender = &self.clients[sent.user];
                assert!(sent.action == Action::Type && index(&fields["user_id"]) == sent.user);
                if sender.is_page {
                    assert_eq!(sent.shown, Some(user));
                } else {
                    assert!(!sender.has_used || sender.chosen.contains(&user));
                }
            }
            "MSG_ACK" => client.has_used = true,
            "ERROR" if is_answer(Action::Click) => {
                if self.registered.get(&user) == Some(&conn) {
                    client.has_partner = true;
                } else {
                    client.failed_early = true;
                }
            }
            "TYPING" | "ERROR" | "PRESENCE" => {}
            other => panic!("{other}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn words_reach_only_the_user_that_the_page_shows(
        steps in prop::collection::vec(step(), 1..120),
        has_document_client in any::<bool>(),
    ) {
        let mut model = Model::new(has_document_client);
        for step in steps {
            model.apply(step);
        }
    }
}
