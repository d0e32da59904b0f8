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

use super::*;
use crate::protocols::crowd::{Crowd, ENDINGS, Fate, fate};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

type Pick = usize;

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
    Say(Pick, &'static str),
    Answer(Pick, bool),
    Full(Pick),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (who, user) = (0..8usize, 0..4usize);
    let texts = [
        r#"{"type":"PING"}"#,
        r#"{"type":"PONG"}"#,
        r#"{"type":"MSG_ACK","data":{"message_id":"x"}}"#,
        "nonsense",
        "{}",
    ];
    prop_oneof![
        4 => Just(Step::Open),
        6 => (who.clone(), user.clone(), any::<bool>())
            .prop_map(|(who, user, is_flat)| Step::Hello(who, user, is_flat)),
        2 => (who.clone(), 0..ENDINGS.len()).prop_map(|(who, how)| Step::Leave(who, how)),
        4 => (who.clone(), user.clone()).prop_map(|(who, with)| Step::OpenChat(who, with)),
        6 => (who.clone(), prop::option::of(user.clone()))
            .prop_map(|(who, to)| Step::Msg(who, to)),
        4 => (who.clone(), prop::option::of(user), any::<bool>())
            .prop_map(|(who, to, on)| Step::Typing(who, to, on)),
        1 => (who.clone(), prop::sample::select(texts.to_vec()))
            .prop_map(|(who, text)| Step::Say(who, text)),
        4 => (who.clone(), any::<bool>()).prop_map(|(who, alive)| Step::Answer(who, alive)),
        1 => who.prop_map(Step::Full),
        4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(Step::Wait),
    ]
}

/// The id of a user, by its number.
fn id(user: usize) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_0000 + user as u128)
}

/// What the clients know.
struct World {
    crowd: Crowd<FastChat>,
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
    sent: u64,
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                let lines = self.crowd.opens("/ws").unwrap();
                self.look(&lines, None);
            }
            Step::Hello(pick, user, is_flat) => {
                if let Some(who) = self.crowd.someone(pick) {
                    self.dialects.entry(who).or_insert(is_flat);
                    let data = json!({"user_id": id(user), "display_name": format!("user {user}")});
                    self.says_in_its_dialect(pick, "HELLO", data);
                }
            }
            Step::OpenChat(who, with) => {
                let asker = self.crowd.someone(who);
                if let Some(asker) = asker.and_then(|asker| self.users.get(&asker)) {
                    let pair = BTreeSet::from([asker.to_string(), id(with).to_string()]);
                    self.asked.insert(pair);
                }
                self.says_in_its_dialect(who, "OPEN_CHAT", json!({"target_user_id": id(with)}));
            }
            Step::Msg(who, to) => {
                self.sent += 1;
                let mut data = json!({"content": self.sent.to_string()});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.says_in_its_dialect(who, "MSG", data);
            }
            Step::Typing(who, to, on) => {
                let mut data = json!({"is_typing": on});
                if let Some(to) = to {
                    data["to"] = json!(id(to));
                }
                self.says_in_its_dialect(who, "TYPING", data);
            }
            Step::Say(who, text) => self.says(who, text),
            Step::Leave(who, how) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.leaves(who, ENDINGS[how]);
                }
            }
            Step::Answer(who, alive) => {
                let lines = self.crowd.answers(who, alive);
                self.look(&lines, None);
            }
            Step::Full(who) => {
                if let Some(who) = self.crowd.someone(who) {
                    self.crowd.desk.is_full(who);
                }
            }
            Step::Wait(millis) => self.waits(Duration::from_millis(millis)),
        }
    }

    fn says_in_its_dialect(&mut self, pick: Pick, kind: &str, mut data: Value) {
        let who = self.crowd.someone(pick);
        let is_flat = who.is_some_and(|who| self.dialects.get(&who) == Some(&true));
        let message = if is_flat {
            data["type"] = json!(kind);
            data
        } else {
            json!({"type": kind, "data": data})
        };
        self.says(pick, &message.to_string());
    }

    fn says(&mut self, who: Pick, text: &str) {
        if let Some(who) = self.crowd.someone(who) {
            let lines = self.crowd.says(who, text);
            self.look(&lines, Some(who));
        }
    }

    fn leaves(&mut self, who: u64, how: Ending) {
        self.users.remove(&who);
        let lines = self.crowd.leaves(who, how);
        self.look(&lines, None);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.crowd.waits(time);
        self.look(&lines, None);
    }

    /// Checks what happened after `sender` said something, or by itself.
    fn look(&mut self, lines: &[String], sender: Option<u64>) {
        let mut messages = 0;
        for line in lines {
            match fate(line) {
                (who, Fate::Asked) => assert!(self.users.contains_key(&who), "a stranger: {line}"),
                (who, Fate::Closed) => {
                    self.users.remove(&who);
                }
                (who, Fate::Text(text)) => {
                    let message: Value = serde_json::from_str(text).unwrap();
                    messages += u32::from(message["type"] == "MSG");
                    self.reads(who, &message, sender);
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

    fn reads(&mut self, who: u64, message: &Value, sender: Option<u64>) {
        let is_flat = message.get("data").is_none();
        let data = if is_flat { message } else { &message["data"] };
        if let Some(expected) = self.dialects.get(&who) {
            assert_eq!(is_flat, *expected, "{message}");
        }
        let me = || self.users[&who].to_string();
        match message["type"].as_str().unwrap() {
            "HELLO_ACK" => {
                let user = data["user_id"].as_str().unwrap().parse().unwrap();
                assert_eq!(self.users.insert(who, user), None);
                self.seen.insert(who, BTreeSet::new());
            }
            "PRESENCE" => {
                let seen = self.seen.get_mut(&who).expect("who got a HELLO_ACK");
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
                assert_eq!(data["content"], self.sent.to_string());
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
            self.waits(news::INTERVAL);
        }
        let online: BTreeSet<String> = self.users.values().map(Uuid::to_string).collect();
        for who in self.users.keys() {
            assert_eq!(self.seen[who], online, "as {who} sees it");
        }
        while let Some(who) = self.crowd.someone(0) {
            self.leaves(who, Ending::Lost);
        }
        self.waits(SPAN);
        assert!(self.crowd.desk.realm.is_empty());
    }
}

proptest! {
    #[test]
    fn whatever_clients_do(
        steps in prop::collection::vec(step(), 1..150),
        list_up_to in 0..4u32,
    ) {
        let mut world = World {
            crowd: Crowd::new(json!({
                "presence_list_up_to": list_up_to, "chats_per_user": 2, "messages_per_minute": 20,
            })),
            dialects: HashMap::new(),
            users: HashMap::new(),
            seen: HashMap::new(),
            asked: BTreeSet::new(),
            chats: HashMap::new(),
            sent: 0,
        };
        for step in &steps {
            world.take(step);
        }
        world.ends();
    }
}
