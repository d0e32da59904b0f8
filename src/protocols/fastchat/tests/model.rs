//! FastChat under random sequences of steps by clients of both dialects.
//!
//! What holds after every step:
//!
//! - A MSG goes once to the user that it names, or to one user if it names none, with its sender's id, and
//!   only if one of the two has sent OPEN_CHAT for the other.
//! - TYPING goes only to a user that has a chat with its sender.
//! - A chat id belongs to one pair of users.
//! - A user has one connection at a time.
//! - Only connections of registered users are probed, and those with a token of the user only for others with one.
//! - A user that a client has proven to be with a token is from then on no client without one.
//! - A second HELLO_ACK is for a token of the same user.
//! - When there are no more changes, the PRESENCE messages that a client was sent add up to the users online.
//! - A client is answered in the dialect of its HELLO.
//! - When all clients have been away for a minute, nothing is stored about any of them, but for who has
//!   proven to be whom.

use crate::protocols::fastchat::*;
use crate::realm::Message;
use crate::testing::Input;
use crate::testing::harness::{access, test_tokens, token};
use crate::testing::model::{DISCONNECTS, Line, Model, ModelClients, parse_line};
use crate::toolkit::rate_limit::WINDOW;
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

type Pick = usize;

/// Number of users with known ids.
const USERS: usize = 4;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Connect,
    /// The connection, the user, whether in the flat dialect, and whether with a token of the user.
    Hello(Pick, usize, bool, bool),
    Disconnect(Pick, usize),
    OpenChat(Pick, usize),
    /// The connection and the recipient; `None`: a MSG without `to`.
    Msg(Pick, Option<usize>),
    Typing(Pick, Option<usize>, bool),
    Send(Pick, String),
    /// GET /presence/online with this query, which may exclude a user.
    GetOnline(String),
    /// POST /presence/heartbeat with this body, valid or not.
    PostHeartbeat(String),
    ProbeResult(Pick, bool),
    FillOutbox(Pick),
    Wait(u64),
}

/// Returns the id of a user.
fn id(user: usize) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_0000 + user as u128)
}

/// The realm, its clients, and the clients' view of it.
pub(crate) struct World {
    clients: ModelClients<FastChat>,
    /// The connections that have sent HELLO, and whether in the flat dialect.
    dialects: HashMap<u64, bool>,
    /// The connections whose HELLO, accepted or not decided about yet, had a token.
    with_token: BTreeSet<u64>,
    /// The connections whose HELLO is not decided about yet.
    waiting: BTreeSet<u64>,
    /// The users of tokens that were accepted.
    proven: BTreeSet<Uuid>,
    /// The user of each connection that was sent HELLO_ACK and is open.
    users: HashMap<u64, Uuid>,
    /// The users online according to the PRESENCE messages that each connection was sent.
    seen: HashMap<u64, BTreeSet<String>>,
    /// The pairs of users of which one has sent OPEN_CHAT. The chat may exist although both connections
    /// were lost before CHAT_OPENED.
    opened_pairs: BTreeSet<BTreeSet<String>>,
    /// The pair of users of each chat id.
    chats: HashMap<String, BTreeSet<String>>,
    /// Number of MSG steps so far; the content of the next message.
    sent_count: u64,
    /// A second decoder for each connection: the expected dialect of the answers.
    decoders: HashMap<u64, Decoder>,
    /// The content of the last MSG, sanitized.
    content: String,
}

impl Model for World {
    type Step = Step;

    /// One for each value of `presence_list_up_to`, from 0 (no limit) on.
    const REALMS: usize = 4;

    /// | step | what happens |
    /// | --- | --- |
    /// | `a` client yes/no | a client that was probed, counted among those, answers or does not |
    /// | `o` | a client connects |
    /// | `h` client user flat | HELLO as user 0 to 3, in the flat dialect or not |
    /// | `i` client user flat | the same with a token of the user |
    /// | `c` client user | OPEN_CHAT |
    /// | `m` client user | MSG; user 4: without `to` |
    /// | `t` client user yes/no | TYPING; user 4: without `to` |
    /// | `g` query | GET /presence/online |
    /// | `p` body | POST /presence/heartbeat |
    /// | `f` client | the client's outbox is full from now on |
    fn read(letter: u8, input: &mut Input) -> Option<Step> {
        let user = |input: &mut Input| -> Option<Option<usize>> {
            // One in five messages has no `to`.
            Some(input.below(USERS + 1)?).map(|user| (user < USERS).then_some(user))
        };
        Some(match letter {
            b'o' => Step::Connect,
            b'h' | b'i' => Step::Hello(
                input.below(8)?,
                input.below(USERS)?,
                input.flag()?,
                letter == b'i',
            ),
            b'l' => Step::Disconnect(input.below(8)?, input.below(DISCONNECTS.len())?),
            b'c' => Step::OpenChat(input.below(8)?, input.below(USERS)?),
            b'm' => Step::Msg(input.below(8)?, user(input)?),
            b't' => Step::Typing(input.below(8)?, user(input)?, input.flag()?),
            b's' => Step::Send(input.below(8)?, input.text()?),
            b'g' => Step::GetOnline(input.text()?),
            b'p' => Step::PostHeartbeat(input.text()?),
            b'a' => Step::ProbeResult(input.below(8)?, input.flag()?),
            b'f' => Step::FillOutbox(input.below(8)?),
            b'w' => Step::Wait(input.millis()?),
            _ => return None,
        })
    }

    #[cfg(test)]
    fn step() -> impl Strategy<Value = Step> {
        let (conn, user) = (0..8usize, 0..USERS);
        let texts = [
            r#"{"type":"PING"}"#,
            r#"{"type":"PONG"}"#,
            r#"{"type":"MSG_ACK","data":{"message_id":"x"}}"#,
            "nonsense",
            "{}",
        ];
        prop_oneof![
            4 => Just(Step::Connect),
            6 => (conn.clone(), user.clone(), any::<bool>(), prop::bool::weighted(0.2))
                .prop_map(|(conn, user, is_flat, has_token)| Step::Hello(conn, user, is_flat, has_token)),
            2 => (conn.clone(), 0..DISCONNECTS.len()).prop_map(|(conn, how)| Step::Disconnect(conn, how)),
            4 => (conn.clone(), user.clone()).prop_map(|(conn, with)| Step::OpenChat(conn, with)),
            6 => (conn.clone(), prop::option::of(user.clone()))
                .prop_map(|(conn, to)| Step::Msg(conn, to)),
            4 => (conn.clone(), prop::option::of(user), any::<bool>())
                .prop_map(|(conn, to, on)| Step::Typing(conn, to, on)),
            1 => (conn.clone(), prop::sample::select(texts.to_vec()))
                .prop_map(|(conn, text)| Step::Send(conn, text.to_owned())),
            1 => prop::option::of(0..USERS).prop_map(|excluded| {
                let query = |user| format!("exclude_user_id={}", id(user));
                Step::GetOnline(excluded.map(query).unwrap_or_default())
            }),
            4 => (conn.clone(), any::<bool>()).prop_map(|(conn, alive)| Step::ProbeResult(conn, alive)),
            1 => conn.prop_map(Step::FillOutbox),
            4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
        ]
    }

    fn new(list_up_to: usize) -> Self {
        let mut clients = ModelClients::new(json!({
            "presence_list_up_to": list_up_to, "chats_per_user": 2, "messages_per_minute": 20,
            "open_chats_per_minute": 5,
        }));
        clients.harness.tokens = test_tokens();
        Self {
            clients,
            dialects: HashMap::new(),
            with_token: BTreeSet::new(),
            waiting: BTreeSet::new(),
            proven: BTreeSet::new(),
            users: HashMap::new(),
            seen: HashMap::new(),
            opened_pairs: BTreeSet::new(),
            chats: HashMap::new(),
            sent_count: 0,
            decoders: HashMap::new(),
            content: String::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Connect => {
                let none = access(false, None);
                let lines = self.clients.open_with("/ws", "127.0.0.1", none).unwrap();
                self.check(&lines, None);
            }
            Step::Hello(pick, user, is_flat, has_token) => {
                if let Some(conn) = self.clients.pick_open(pick) {
                    self.dialects.entry(conn).or_insert(is_flat);
                    let mut data =
                        json!({"user_id": id(user), "display_name": format!("user {user}")});
                    if has_token {
                        data["token"] = json!(token(&json!({"sub": id(user)})));
                    }
                    self.send_in_dialect(pick, "HELLO", data);
                }
            }
            Step::OpenChat(conn, with) => {
                self.send_in_dialect(conn, "OPEN_CHAT", json!({"target_user_id": id(with)}));
            }
            Step::Msg(conn, to) => {
                self.sent_count += 1;
                let mut data = json!({"content": self.sent_count.to_string()});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.send_in_dialect(conn, "MSG", data);
            }
            Step::Typing(conn, to, on) => {
                let mut data = json!({"is_typing": on});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.send_in_dialect(conn, "TYPING", data);
            }
            Step::Send(conn, text) => self.send(conn, &text),
            Step::GetOnline(query) => self.get_online(&query),
            Step::PostHeartbeat(body) => {
                if let HttpReply::Ok { body, .. } =
                    self.clients.harness.post("/presence/heartbeat", &body)
                {
                    let seen: Value = serde_json::from_str(&body.to_string()).unwrap();
                    let is_here = self.users.values().any(|user| seen["id"] == json!(user));
                    assert_eq!(seen["status"] == "online", is_here, "{seen}");
                }
            }
            Step::Disconnect(conn, how) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.disconnect(conn, DISCONNECTS[how]);
                }
            }
            Step::ProbeResult(conn, alive) => {
                let lines = self.clients.resolve_probe(conn, alive);
                self.check(&lines, None);
            }
            Step::FillOutbox(conn) => {
                if let Some(conn) = self.clients.pick_open(conn) {
                    self.clients.harness.fill_outbox(conn);
                }
            }
            Step::Wait(millis) => self.wait(Duration::from_millis(millis)),
        }
    }

    /// Waits until all changes are sent and checks what the clients have seen; then closes all connections
    /// and checks that nothing is stored.
    fn finish(mut self) {
        // A client whose outbox is full is closed by a broadcast, which is another change.
        for _ in 0..2 + self.users.len() {
            self.wait(presence::BROADCAST_INTERVAL);
        }
        let online: BTreeSet<String> = self.users.values().map(Uuid::to_string).collect();
        for conn in self.users.keys() {
            assert_eq!(self.seen[conn], online, "as seen by {conn}");
        }
        while let Some(conn) = self.clients.pick_open(0) {
            self.disconnect(conn, DisconnectReason::Lost);
        }
        self.wait(WINDOW);
        assert!(self.clients.harness.realm.is_empty());
    }
}

impl World {
    /// Records whether a HELLO has a token, if it is the one that decides about its connection, or proves the user
    /// that the connection has.
    fn record_hello(&mut self, conn: u64, hello: &messages::Hello) {
        let proven = hello
            .token
            .as_ref()
            .and_then(|token| token.as_ref().as_ref().ok());
        let proven = proven.and_then(identity::user_id_of);
        match self.users.get(&conn) {
            Some(user) if Some(*user) == proven => {
                self.with_token.insert(conn);
            }
            None if !self.waiting.contains(&conn) && proven.is_some() => {
                self.with_token.insert(conn);
            }
            None if !self.waiting.contains(&conn) => {
                self.with_token.remove(&conn);
            }
            _ => {}
        }
    }

    /// Sends a message in the dialect that the connection's HELLO had.
    fn send_in_dialect(&mut self, pick: Pick, kind: &str, mut data: Value) {
        let conn = self.clients.pick_open(pick);
        let is_flat = conn.is_some_and(|conn| self.dialects.get(&conn) == Some(&true));
        let message = if is_flat {
            data["type"] = json!(kind);
            data
        } else {
            json!({"type": kind, "data": data})
        };
        self.send(pick, &message.to_string());
    }

    fn send(&mut self, conn: Pick, text: &str) {
        let Some(conn) = self.clients.pick_open(conn) else {
            return;
        };
        let decoder = self
            .decoders
            .entry(conn)
            .or_insert_with(|| Decoder::new(&test_tokens()));
        let incoming = decoder.decode(&Message::Text(text.into()));
        let is_flat = incoming.dialect == Dialect::Flat;
        if decoder.dialect().is_some() {
            // A HELLO step fixed the dialect that it was meant to.
            assert_eq!(*self.dialects.entry(conn).or_insert(is_flat), is_flat);
        }
        match (incoming.message, self.users.get(&conn)) {
            (ClientMessage::OpenChat(Ok(target)), Some(asker)) => {
                let pair = BTreeSet::from([asker.to_string(), target.to_string()]);
                self.opened_pairs.insert(pair);
            }
            (ClientMessage::Msg(msg), _) => self.content = msg.content,
            (ClientMessage::Hello(Ok(hello)), _) => self.record_hello(conn, &hello),
            _ => {}
        }
        let lines = self.clients.send(conn, text);
        let is_unanswered = lines.iter().all(|line| parse_line(line).0 != conn);
        if is_unanswered && !self.users.contains_key(&conn) {
            self.waiting.insert(conn);
        }
        self.check(&lines, Some(conn));
    }

    /// Checks the list of users online over HTTP.
    fn get_online(&mut self, query: &str) {
        let target = format!("/presence/online?{query}");
        let HttpReply::Ok { body, .. } = self.clients.harness.get(&target) else {
            panic!("{target}");
        };
        let list: Value = serde_json::from_str(&body.to_string()).unwrap();
        let listed = list["users"].as_array().unwrap();
        assert_eq!(list["count"], listed.len());
        let listed: BTreeSet<&str> = listed.iter().map(|it| it["id"].as_str().unwrap()).collect();
        let parameters = form_urlencoded::parse(query.as_bytes());
        let excluded = parameters.filter(|(key, _)| key == "exclude_user_id");
        let excluded = excluded
            .last()
            .and_then(|(_, id)| Uuid::try_parse(&id).ok());
        let online = self.users.values().filter(|user| Some(**user) != excluded);
        let online: BTreeSet<String> = online.map(Uuid::to_string).collect();
        assert!(
            listed.iter().eq(online.iter()),
            "{listed:?}, not {online:?}"
        );
    }

    fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        self.users.remove(&conn);
        let lines = self.clients.disconnect(conn, reason);
        self.check(&lines, None);
    }

    fn wait(&mut self, time: Duration) {
        let lines = self.clients.advance(time);
        self.check(&lines, None);
    }

    /// Checks the effects of a message of `sender`, or of another step.
    fn check(&mut self, lines: &[String], sender: Option<u64>) {
        let mut messages = 0;
        for line in lines {
            match parse_line(line) {
                (conn, Line::Probed) => {
                    assert!(self.users.contains_key(&conn), "not registered: {line}");
                    let has_token = |conn| self.with_token.contains(&conn);
                    assert!(!has_token(conn) || sender.is_none_or(has_token), "{line}");
                }
                (_, Line::Other(change)) => assert_eq!(change, "never expires"),
                (conn, Line::Closed) => {
                    self.users.remove(&conn);
                }
                (conn, Line::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += u32::from(message["type"] == "MSG");
                    self.check_message(conn, &message, sender);
                }
            }
        }
        assert!(messages <= 1, "{lines:?}");
        let distinct: BTreeSet<&Uuid> = self.users.values().collect();
        assert_eq!(
            distinct.len(),
            self.users.len(),
            "a user is connected twice"
        );
    }

    /// Checks a message that a connection was sent.
    fn check_message(&mut self, conn: u64, message: &Value, sender: Option<u64>) {
        let is_flat = message.get("data").is_none();
        let data = if is_flat { message } else { &message["data"] };
        if let Some(expected) = self.dialects.get(&conn) {
            assert_eq!(is_flat, *expected, "{message}");
        }
        let me = || self.users[&conn].to_string();
        match message["type"].as_str().unwrap() {
            "HELLO_ACK" => {
                let user = data["user_id"].as_str().unwrap().parse().unwrap();
                self.waiting.remove(&conn);
                if self.with_token.contains(&conn) {
                    self.proven.insert(user);
                } else {
                    assert!(!self.proven.contains(&user), "{message}");
                }
                match self.users.insert(conn, user) {
                    None => {
                        self.seen.insert(conn, BTreeSet::new());
                    }
                    // The HELLO_ACK of a renewed token.
                    Some(before) => assert!(before == user && sender == Some(conn)),
                }
            }
            "PRESENCE" => {
                let seen = self
                    .seen
                    .get_mut(&conn)
                    .expect("PRESENCE follows HELLO_ACK");
                if data["action"] == "update" {
                    seen.clear();
                }
                for user in data["users"].as_array().unwrap() {
                    let id = user["user_id"].as_str().unwrap();
                    if user["online"].as_bool().unwrap() {
                        seen.insert(id.to_owned());
                    } else {
                        seen.remove(id);
                    }
                }
            }
            "CHAT_OPENED" => {
                let pair: BTreeSet<String> =
                    serde_json::from_value(data["participants"].clone()).unwrap();
                assert!(pair.len() == 2 && pair.contains(&me()));
                assert!(pair.contains(data["target_user_id"].as_str().unwrap()));
                let chat = data["chat_id"].as_str().unwrap().to_owned();
                assert_eq!(
                    self.chats.entry(chat).or_insert_with(|| pair.clone()),
                    &pair
                );
            }
            "MSG" => {
                let sender = self.users[&sender.expect("a MSG has a sender")].to_string();
                if is_flat {
                    assert_eq!(data["sender_id"], sender);
                } else {
                    assert_eq!((&data["to"], &data["from"]), (&json!(me()), &json!(sender)));
                }
                assert_eq!(data["content"], self.content);
                self.assert_chat(&me(), &sender);
            }
            "TYPING" => self.assert_chat(&me(), data["user_id"].as_str().unwrap()),
            "ERROR" | "MSG_ACK" | "PONG" => {}
            other => panic!("{other}"),
        }
    }

    /// Asserts that one of two users has sent OPEN_CHAT for the other.
    fn assert_chat(&self, one: &str, other: &str) {
        let pair = BTreeSet::from([one.to_owned(), other.to_owned()]);
        assert!(self.opened_pairs.contains(&pair), "{pair:?}");
    }
}
