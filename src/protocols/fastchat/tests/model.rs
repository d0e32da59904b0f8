//! FastChat under clients of both dialects that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - a message goes to whom it names, from whom it names, once, and only if one of the two has asked for a chat;
//! - TYPING goes only to somebody with whom its user has a chat;
//! - a chat's id is that of one pair, and no other pair ever gets it;
//! - a user has one connection at a time;
//! - who is asked for a sign of life is a user;
//! - once it is quiet, all that PRESENCE told anybody adds up to who is online;
//! - whoever has said HELLO is spoken to in the dialect in which it did;
//! - once all are gone for a minute, nothing is kept of anybody.

use crate::protocols::fastchat::*;
use crate::realm::Message;
use crate::testing::Input;
use crate::testing::model::{ENDINGS, Fate, ModelClients, STEPS, fate};
#[cfg(test)]
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

type Pick = usize;

/// From this many users on nobody is told the whole list, at the most.
const LISTS: usize = 4;

/// Users with known ids.
const USERS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// As which user, and whether in the flat dialect.
    Hello(Pick, usize, bool),
    Leave(Pick, usize),
    OpenChat(Pick, usize),
    /// To whom; in the flat dialect it may be nobody in particular.
    Msg(Pick, Option<usize>),
    Typing(Pick, Option<usize>, bool),
    Say(Pick, String),
    /// Who is online, without one of them; or any other query.
    Ask(String),
    /// A heartbeat, or any other body.
    Post(String),
    Answer(Pick, bool),
    Full(Pick),
    Wait(u64),
}

impl Step {
    /// The next step of a story.
    fn read(input: &mut Input) -> Option<Self> {
        let user = |input: &mut Input| -> Option<Option<usize>> {
            // One in five is nobody in particular.
            Some(input.below(USERS + 1)?).map(|user| (user < USERS).then_some(user))
        };
        loop {
            return Some(match input.byte()? {
                b'o' => Self::Open,
                b'h' => Self::Hello(input.below(8)?, input.below(USERS)?, input.flag()?),
                b'l' => Self::Leave(input.below(8)?, input.below(ENDINGS.len())?),
                b'c' => Self::OpenChat(input.below(8)?, input.below(USERS)?),
                b'm' => Self::Msg(input.below(8)?, user(input)?),
                b't' => Self::Typing(input.below(8)?, user(input)?, input.flag()?),
                b's' => Self::Say(input.below(8)?, input.text()?),
                b'g' => Self::Ask(input.text()?),
                b'p' => Self::Post(input.text()?),
                b'a' => Self::Answer(input.below(8)?, input.flag()?),
                b'f' => Self::Full(input.below(8)?),
                b'w' => Self::Wait(input.millis()?),
                _ => continue,
            });
        }
    }
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
        4 => Just(Step::Open),
        6 => (conn.clone(), user.clone(), any::<bool>())
            .prop_map(|(conn, user, is_flat)| Step::Hello(conn, user, is_flat)),
        2 => (conn.clone(), 0..ENDINGS.len()).prop_map(|(conn, how)| Step::Leave(conn, how)),
        4 => (conn.clone(), user.clone()).prop_map(|(conn, with)| Step::OpenChat(conn, with)),
        6 => (conn.clone(), prop::option::of(user.clone()))
            .prop_map(|(conn, to)| Step::Msg(conn, to)),
        4 => (conn.clone(), prop::option::of(user), any::<bool>())
            .prop_map(|(conn, to, on)| Step::Typing(conn, to, on)),
        1 => (conn.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(conn, text)| Step::Say(conn, text.to_owned())),
        1 => prop::option::of(0..USERS).prop_map(|but| {
            Step::Ask(but.map_or_else(String::new, |but| format!("exclude_user_id={}", id(but))))
        }),
        4 => (conn.clone(), any::<bool>()).prop_map(|(conn, alive)| Step::Answer(conn, alive)),
        1 => conn.prop_map(Step::Full),
        4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
    ]
}

/// The id of a user, by its number.
fn id(user: usize) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_0000 + user as u128)
}

/// What the clients know.
struct World {
    clients: ModelClients<FastChat>,
    /// Who has said HELLO, and whether it was in the flat dialect.
    dialects: HashMap<u64, bool>,
    /// Who got HELLO_ACK as whom, and is there still.
    users: HashMap<u64, Uuid>,
    /// What PRESENCE told each, put together.
    seen: HashMap<u64, BTreeSet<String>>,
    /// The pairs of whom one has asked for a chat. It may be there although both lost their connections
    /// before they were told.
    asked: BTreeSet<BTreeSet<String>>,
    /// The pair of each chat that was ever opened.
    chats: HashMap<String, BTreeSet<String>>,
    /// Structured messages so far.
    sent: u64,
    /// Their readers once more: what is said and in which dialect it is to be answered.
    readers: HashMap<u64, Reader>,
    /// What the last message says.
    content: String,
}

impl World {
    fn new(list_up_to: usize) -> Self {
        Self {
            clients: ModelClients::new(json!({
                "presence_list_up_to": list_up_to, "chats_per_user": 2, "messages_per_minute": 20,
            })),
            dialects: HashMap::new(),
            users: HashMap::new(),
            seen: HashMap::new(),
            asked: BTreeSet::new(),
            chats: HashMap::new(),
            sent: 0,
            readers: HashMap::new(),
            content: String::new(),
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
            Step::Open => {
                let lines = self.clients.opens("/ws").unwrap();
                self.look(&lines, None);
            }
            Step::Hello(pick, user, is_flat) => {
                if let Some(conn) = self.clients.someone(pick) {
                    self.dialects.entry(conn).or_insert(is_flat);
                    let data = json!({"user_id": id(user), "display_name": format!("user {user}")});
                    self.says_in_its_dialect(pick, "HELLO", data);
                }
            }
            Step::OpenChat(conn, with) => {
                self.says_in_its_dialect(conn, "OPEN_CHAT", json!({"target_user_id": id(with)}));
            }
            Step::Msg(conn, to) => {
                self.sent += 1;
                let mut data = json!({"content": self.sent.to_string()});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.says_in_its_dialect(conn, "MSG", data);
            }
            Step::Typing(conn, to, on) => {
                let mut data = json!({"is_typing": on});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.says_in_its_dialect(conn, "TYPING", data);
            }
            Step::Say(conn, text) => self.says(conn, &text),
            Step::Ask(query) => self.asks(&query),
            Step::Post(body) => {
                if let HttpReply::Ok { body, .. } =
                    self.clients.harness.posts("/presence/heartbeat", &body)
                {
                    let seen: Value = serde_json::from_str(&body).unwrap();
                    let is_here = self.users.values().any(|user| seen["id"] == json!(user));
                    assert_eq!(seen["status"] == "online", is_here, "{seen}");
                }
            }
            Step::Leave(conn, how) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.leaves(conn, ENDINGS[how]);
                }
            }
            Step::Answer(conn, alive) => {
                let lines = self.clients.answers(conn, alive);
                self.look(&lines, None);
            }
            Step::Full(conn) => {
                if let Some(conn) = self.clients.someone(conn) {
                    self.clients.harness.is_full(conn);
                }
            }
            Step::Wait(millis) => self.waits(Duration::from_millis(millis)),
        }
    }

    fn says_in_its_dialect(&mut self, pick: Pick, kind: &str, mut data: Value) {
        let conn = self.clients.someone(pick);
        let is_flat = conn.is_some_and(|conn| self.dialects.get(&conn) == Some(&true));
        let message = if is_flat {
            data["type"] = json!(kind);
            data
        } else {
            json!({"type": kind, "data": data})
        };
        self.says(pick, &message.to_string());
    }

    fn says(&mut self, conn: Pick, text: &str) {
        let Some(conn) = self.clients.someone(conn) else {
            return;
        };
        let reader = self.readers.entry(conn).or_default();
        let incoming = codec::decode(reader, &Message::Text(text.into()));
        let is_flat = incoming.dialect == Dialect::Flat;
        if reader.dialect().is_some() {
            // What a structured HELLO was meant to decide it did.
            assert_eq!(*self.dialects.entry(conn).or_insert(is_flat), is_flat);
        }
        match (incoming.message, self.users.get(&conn)) {
            (ClientMessage::OpenChat { target }, Some(asker)) => {
                let pair = BTreeSet::from([asker.to_string(), target.to_string()]);
                self.asked.insert(pair);
            }
            (ClientMessage::Msg(msg), _) => self.content = msg.content,
            _ => {}
        }
        let lines = self.clients.says(conn, text);
        self.look(&lines, Some(conn));
    }

    /// Somebody asks who is online.
    fn asks(&mut self, query: &str) {
        let target = format!("/presence/online?{query}");
        let HttpReply::Ok { body, .. } = self.clients.harness.asks(&target) else {
            panic!("{target}");
        };
        let list: Value = serde_json::from_str(&body).unwrap();
        let listed = list["users"].as_array().unwrap();
        assert_eq!(list["count"], listed.len());
        let listed: BTreeSet<&str> = listed.iter().map(|it| it["id"].as_str().unwrap()).collect();
        let parameters = form_urlencoded::parse(query.as_bytes());
        let but = parameters.filter(|(key, _)| key == "exclude_user_id");
        let but = but.last().and_then(|(_, id)| Uuid::try_parse(&id).ok());
        let online = self.users.values().filter(|user| Some(**user) != but);
        let online: BTreeSet<String> = online.map(Uuid::to_string).collect();
        assert!(
            listed.iter().eq(online.iter()),
            "{listed:?}, not {online:?}"
        );
    }

    fn leaves(&mut self, conn: u64, how: DisconnectReason) {
        self.users.remove(&conn);
        let lines = self.clients.leaves(conn, how);
        self.look(&lines, None);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.clients.waits(time);
        self.look(&lines, None);
    }

    /// Checks what happened after `sender` said something, or by itself.
    fn look(&mut self, lines: &[String], sender: Option<u64>) {
        let mut messages = 0;
        for line in lines {
            match fate(line) {
                (conn, Fate::Asked) => {
                    assert!(self.users.contains_key(&conn), "a stranger: {line}")
                }
                (conn, Fate::Closed) => {
                    self.users.remove(&conn);
                }
                (conn, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += u32::from(message["type"] == "MSG");
                    self.reads(conn, &message, sender);
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

    fn reads(&mut self, conn: u64, message: &Value, sender: Option<u64>) {
        let is_flat = message.get("data").is_none();
        let data = if is_flat { message } else { &message["data"] };
        if let Some(expected) = self.dialects.get(&conn) {
            assert_eq!(is_flat, *expected, "{message}");
        }
        let me = || self.users[&conn].to_string();
        match message["type"].as_str().unwrap() {
            "HELLO_ACK" => {
                let user = data["user_id"].as_str().unwrap().parse().unwrap();
                assert_eq!(self.users.insert(conn, user), None);
                self.seen.insert(conn, BTreeSet::new());
            }
            "PRESENCE" => {
                let seen = self.seen.get_mut(&conn).expect("who got a HELLO_ACK");
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
                let sender = self.users[&sender.expect("a message has a sender")].to_string();
                if is_flat {
                    assert_eq!(data["sender_id"], sender);
                } else {
                    assert_eq!((&data["to"], &data["from"]), (&json!(me()), &json!(sender)));
                }
                assert_eq!(data["content"], self.content);
                self.have_a_chat(&me(), &sender);
            }
            "TYPING" => self.have_a_chat(&me(), data["user_id"].as_str().unwrap()),
            "ERROR" | "MSG_ACK" | "PONG" => {}
            other => panic!("{other}"),
        }
    }

    fn have_a_chat(&self, one: &str, other: &str) {
        let pair = BTreeSet::from([one.to_owned(), other.to_owned()]);
        assert!(self.asked.contains(&pair), "{pair:?}");
    }

    /// Once it is quiet, everybody knows who is there; and once all are gone, nothing is left.
    fn ends(mut self) {
        // Who has no room for the news is closed, which is news again.
        for _ in 0..2 + self.users.len() {
            self.waits(presence::BROADCAST_INTERVAL);
        }
        let online: BTreeSet<String> = self.users.values().map(Uuid::to_string).collect();
        for conn in self.users.keys() {
            assert_eq!(self.seen[conn], online, "as {conn} sees it");
        }
        while let Some(conn) = self.clients.someone(0) {
            self.leaves(conn, DisconnectReason::Lost);
        }
        self.waits(SPAN);
        assert!(self.clients.harness.realm.is_empty());
    }
}

/// Acts a story.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let list_up_to = input.below(LISTS).unwrap_or_default();
    let steps = std::iter::from_fn(|| Step::read(&mut input)).take(STEPS);
    World::new(list_up_to).goes_through(steps);
}

#[cfg(test)]
proptest! {
    #[test]
    fn whatever_clients_do(
        steps in prop::collection::vec(step(), 1..150),
        list_up_to in 0..LISTS,
    ) {
        World::new(list_up_to).goes_through(steps);
    }
}
