//! Two clients of one protocol who have met, and what they say to each other: one pair for each
//! protocol, whoever else is there.

use super::Client;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;

/// Two clients who have met.
pub struct Pair {
    pub one: Client,
    pub other: Client,
    say: Say,
    hear: fn(&str) -> Option<String>,
    echoes: &'static [&'static str],
    answer: Option<Say>,
}

/// What somebody says for somebody else to get a text.
type Say = Box<dyn Fn(&str) -> String>;

/// An id that nobody has.
fn fresh() -> String {
    Uuid::new_v4().to_string()
}

impl Pair {
    /// A pair of this protocol, which is spoken at this address, from an address of this machine.
    pub fn of(protocol: &str, address: SocketAddr, from: IpAddr) -> Self {
        let connect = |target: &str| Client::connect_from(from, address, target);
        match protocol {
            "peerdrop" => Self::of_peerdrop(connect),
            "fastchat" => Self::of_fastchat(connect),
            "workspace" => Self::of_workspace(connect),
            "loudsync" => Self::of_loudsync(connect),
            "peerjs" => Self::of_peerjs(connect),
            other => panic!("nobody here speaks {other}"),
        }
    }

    fn of_peerdrop(connect: impl Fn(&str) -> Client) -> Self {
        let mut one = connect("/ws/chat");
        let code = one.text();
        let mut other = connect(&format!("/ws/chat/{code}"));
        assert_eq!(other.text(), code);
        assert_eq!(one.text(), "the other guy joined");
        Self {
            one,
            other,
            say: Box::new(str::to_owned),
            hear: |text| Some(text.to_owned()),
            echoes: &[],
            answer: Some(Box::new(str::to_owned)),
        }
    }

    fn of_fastchat(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |id: &str| {
            let mut client = connect("/ws");
            let data = json!({"user_id": id, "display_name": "Name"});
            client.says(json!({"type": "HELLO", "data": data}).to_string());
            client.until_type("HELLO_ACK");
            client
        };
        let bob = fresh();
        let mut one = enter(&fresh());
        let mut other = enter(&bob);
        let data = json!({"target_user_id": bob});
        one.says(json!({"type": "OPEN_CHAT", "data": data}).to_string());
        for client in [&mut one, &mut other] {
            client.until_type("CHAT_OPENED");
        }
        Self {
            one,
            other,
            say: Box::new(move |text| {
                let data = json!({"to": bob, "content": text});
                json!({"type": "MSG", "data": data}).to_string()
            }),
            hear: |message| field(message, "/data/content"),
            echoes: &["MSG_ACK"],
            answer: None,
        }
    }

    fn of_workspace(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |name: &str| {
            let mut client = connect(&format!("/ws?username={name}"));
            client.until_type("connected");
            client
        };
        let [ann, bob] = [fresh(), fresh()];
        let mut one = enter(&ann);
        let other = enter(&bob);
        one.until(|message| message.contains(&bob).then_some(()));
        Self {
            one,
            other,
            say: Box::new(|text| json!({"type": "message:send", "text": text}).to_string()),
            hear: |message| field(message, "/data/text"),
            echoes: &["message:new"],
            answer: None,
        }
    }

    /// Members say nothing to each other; a newcomer's name has to do.
    fn of_loudsync(connect: impl Fn(&str) -> Client) -> Self {
        let session = fresh();
        let join = move |name: &str, kind: &str| {
            let info = json!({"id": name, "name": name, "type": kind});
            let join = json!({"type": "join", "timestamp": 1});
            super::with(join, &json!({"sessionId": session, "deviceInfo": info})).to_string()
        };
        let mut host = connect("/");
        host.says(join("mac", "host"));
        host.until_type("member_list");
        Self {
            other: host,
            one: connect("/"),
            say: Box::new(move |text| join(text, "client")),
            hear: |message| field(message, "/member/name"),
            echoes: &["welcome", "member_list"],
            answer: None,
        }
    }

    fn of_peerjs(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |id: &str| {
            let mut client = connect(&format!("/peerjs?key=peerjs&id={id}&token=t"));
            client.until_type("OPEN");
            client
        };
        let [one, other] = [fresh(), fresh()];
        let (first, second) = (enter(&one), enter(&other));
        let message = |kind: &'static str, dst: String| -> Say {
            Box::new(move |text| json!({"type": kind, "dst": dst, "payload": text}).to_string())
        };
        Self {
            one: first,
            other: second,
            say: message("OFFER", other),
            hear: |message| field(message, "/payload"),
            echoes: &[],
            answer: Some(message("ANSWER", one)),
        }
    }

    /// One says it.
    pub fn says(&mut self, text: &str) {
        let message = (self.say)(text);
        self.one.says(message);
    }

    /// The other gets it, and one hears of that as the protocol demands.
    pub fn hears(&mut self, text: &str) {
        let is_it = |message: &str| (self.hear)(message).filter(|it| it == text);
        self.other.until(is_it);
        for kind in self.echoes {
            self.one.until_type(kind);
        }
    }

    /// Where the other can answer, it does.
    pub fn answers(&mut self, text: &str) {
        if let Some(answer) = &self.answer {
            self.other.says(answer(text));
            let is_it = |message: &str| (self.hear)(message).filter(|it| it == text);
            self.one.until(is_it);
        }
    }

    /// Both go, so that nothing is left of them.
    pub fn leaves(self) {
        self.one.leaves_for_good();
        self.other.leaves_for_good();
    }
}

fn field(message: &str, pointer: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    Some(message.pointer(pointer)?.as_str()?.to_owned())
}
