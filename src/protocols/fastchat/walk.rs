//! FastChat under clients that do whatever comes to their minds.
//!
//! What holds at every step, whatever they do:
//!
//! - a message goes to whom it names, from whom it names, once, and only within a chat of the two;
//! - TYPING goes only to somebody with whom its user has a chat;
//! - a chat's id is that of one pair, and no other pair ever gets it;
//! - a user has one connection at a time;
//! - who is asked for a sign of life is a user;
//! - once it is quiet, all that PRESENCE told anybody adds up to who is online;
//! - once all are gone for a minute, nothing is kept of anybody.

use super::*;
use crate::desk::Desk;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

#[derive(Clone, Debug)]
enum Step {
    Open,
    Hello {
        who: usize,
        user: usize,
    },
    Leave {
        who: usize,
        clean: bool,
    },
    OpenChat {
        who: usize,
        with: usize,
    },
    Msg {
        who: usize,
        to: usize,
    },
    Typing {
        who: usize,
        to: Option<usize>,
        on: bool,
    },
    Say {
        who: usize,
        text: &'static str,
    },
    Answer {
        who: usize,
    },
    Silent {
        who: usize,
    },
    Full {
        who: usize,
    },
    Wait {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (who, user) = (0..8usize, 0..4usize);
    let says = prop::sample::select(
        &[
            r#"{"type":"PING"}"#,
            r#"{"type":"MSG_ACK","data":{"message_id":"x"}}"#,
            "nonsense",
            "{}",
        ][..],
    );
    prop_oneof![
        4 => Just(Step::Open),
        6 => (who.clone(), user.clone()).prop_map(|(who, user)| Step::Hello { who, user }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, clean)| Step::Leave { who, clean }),
        4 => (who.clone(), user.clone()).prop_map(|(who, with)| Step::OpenChat { who, with }),
        6 => (who.clone(), user.clone()).prop_map(|(who, to)| Step::Msg { who, to }),
        4 => (who.clone(), prop::option::of(user), any::<bool>())
            .prop_map(|(who, to, on)| Step::Typing { who, to, on }),
        1 => (who.clone(), says).prop_map(|(who, text)| Step::Say { who, text }),
        2 => who.clone().prop_map(|who| Step::Answer { who }),
        2 => who.clone().prop_map(|who| Step::Silent { who }),
        1 => who.prop_map(|who| Step::Full { who }),
        4 => prop_oneof![0..3000u64, 0..70_000u64].prop_map(|millis| Step::Wait { millis }),
    ]
}

/// The id of a user, by its number.
fn id(user: usize) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4111_8111_1111_1111_0000 + user as u128)
}

/// What the clients know.
struct World {
    desk: Desk<FastChat>,
    next: u64,
    /// Who got HELLO_ACK as whom, and is there still.
    users: HashMap<u64, Uuid>,
    /// Who has been asked for a sign of life.
    asked: BTreeSet<u64>,
    /// What PRESENCE told each, put together.
    seen: HashMap<u64, BTreeSet<String>>,
    /// The pair of each chat that was ever opened.
    chats: HashMap<String, BTreeSet<String>>,
    sent: u64,
}

impl World {
    fn new(options: Value) -> Self {
        Self {
            desk: Desk::new(options),
            next: 0,
            users: HashMap::new(),
            asked: BTreeSet::new(),
            seen: HashMap::new(),
            chats: HashMap::new(),
            sent: 0,
        }
    }

    /// One of those who are connected.
    fn someone(&self, who: usize) -> Option<u64> {
        let open: Vec<u64> = self.desk.open().collect();
        (!open.is_empty()).then(|| open[who % open.len()])
    }

    /// One of those who have been asked for a sign of life.
    fn asked(&mut self, who: usize) -> Option<u64> {
        let asked = self
            .asked
            .iter()
            .copied()
            .nth(who % self.asked.len().max(1))?;
        self.asked.remove(&asked);
        Some(asked)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open => {
                self.next += 1;
                let lines = self.desk.opens(self.next, "/ws");
                self.look(&lines, None);
            }
            Step::Hello { who, user } => {
                let data = json!({"user_id": id(user), "display_name": format!("user {user}")});
                self.says(who, "HELLO", data);
            }
            Step::OpenChat { who, with } => {
                self.says(who, "OPEN_CHAT", json!({"target_user_id": id(with)}));
            }
            Step::Msg { who, to } => {
                self.sent += 1;
                let content = self.sent.to_string();
                self.says(who, "MSG", json!({"to": id(to), "content": content}));
            }
            Step::Typing { who, to, on } => {
                self.says(who, "TYPING", json!({"to": to.map(id), "is_typing": on}));
            }
            Step::Say { who, text } => {
                if let Some(who) = self.someone(who) {
                    let lines = self.desk.says(who, text);
                    self.look(&lines, Some(who));
                }
            }
            Step::Leave { who, clean } => {
                if let Some(who) = self.someone(who) {
                    self.leaves(
                        who,
                        if clean {
                            Ending::Left(Some(1000))
                        } else {
                            Ending::Lost
                        },
                    );
                }
            }
            Step::Answer { who } => {
                if let Some(who) = self.asked(who) {
                    let lines = self.desk.answers(who);
                    self.look(&lines, None);
                }
            }
            Step::Silent { who } => {
                if let Some(who) = self.asked(who) {
                    let lines = self.desk.is_silent(who);
                    self.look(&lines, None);
                }
            }
            Step::Full { who } => {
                if let Some(who) = self.someone(who) {
                    self.desk.is_full(who);
                }
            }
            Step::Wait { millis } => self.waits(Duration::from_millis(millis)),
        }
    }

    fn says(&mut self, who: usize, kind: &str, data: Value) {
        if let Some(who) = self.someone(who) {
            let text = json!({"type": kind, "data": data}).to_string();
            let lines = self.desk.says(who, &text);
            self.look(&lines, Some(who));
        }
    }

    fn leaves(&mut self, who: u64, how: Ending) {
        self.users.remove(&who);
        self.asked.remove(&who);
        let lines = self.desk.leaves(who, how);
        self.look(&lines, None);
    }

    fn waits(&mut self, time: Duration) {
        let lines = self.desk.waits(time);
        self.look(&lines, None);
    }

    /// Checks what happened after `sender` said something, or by itself.
    fn look(&mut self, lines: &[String], sender: Option<u64>) {
        let mut messages = 0;
        for line in lines {
            let (who, what) = line.split_once(' ').unwrap();
            let who: u64 = who.parse().unwrap();
            if what.starts_with('?') {
                assert!(self.users.contains_key(&who), "a stranger is asked: {line}");
                self.asked.insert(who);
            } else if what.starts_with('x') {
                self.users.remove(&who);
                self.asked.remove(&who);
            } else {
                let message: Value = serde_json::from_str(&what[2..]).unwrap();
                messages += u32::from(message["type"] == "MSG");
                self.reads(who, &message, sender);
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
        let data = &message["data"];
        let me = || self.users[&who].to_string();
        match message["type"].as_str().unwrap() {
            "HELLO_ACK" => {
                let user = data["user_id"].as_str().unwrap().parse().unwrap();
                assert_eq!(self.users.insert(who, user), None);
                self.seen.insert(who, BTreeSet::new());
            }
            "PRESENCE" => {
                let seen = self.seen.get_mut(&who).expect("who got a HELLO_ACK");
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
                let pair: BTreeSet<String> = data["participants"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|id| id.as_str().unwrap().to_owned())
                    .collect();
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
                assert_eq!((&data["to"], &data["from"]), (&json!(me()), &json!(sender)));
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
        assert!(self.chats.values().any(|chat| *chat == pair), "{pair:?}");
    }

    /// Once it is quiet, everybody knows who is there; and once all are gone, nothing is left.
    fn ends(mut self) {
        for _ in 0..2 {
            self.waits(NEWS_INTERVAL);
        }
        let online: BTreeSet<String> = self.users.values().map(Uuid::to_string).collect();
        for who in self.users.keys() {
            assert_eq!(self.seen[who], online, "as {who} sees it");
        }
        while let Some(who) = self.someone(0) {
            self.leaves(who, Ending::Lost);
        }
        self.waits(SPAN);
        assert!(self.desk.realm.is_empty());
    }
}

proptest! {
    #[test]
    fn whatever_clients_do(
        steps in prop::collection::vec(step(), 1..150),
        list_up_to in 0..4u32,
    ) {
        let options = json!({
            "presence_list_up_to": list_up_to, "chats_per_user": 2, "messages_per_minute": 20,
        });
        let mut world = World::new(options);
        for step in &steps {
            world.take(step);
        }
        world.ends();
    }
}
