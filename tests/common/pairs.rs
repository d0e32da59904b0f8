//! Pairs of clients that have met, for each protocol, and the messages that they exchange. All ids are
//! random, so that several pairs, and other clients, can use one listener.

use super::Client;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;

/// Two clients that have met.
pub struct Pair {
    pub one: Client,
    pub other: Client,
    encode: Encode,
    /// Returns the text in a message that the recipient receives.
    decode: fn(&str) -> Option<String>,
    /// Types of the messages that the sender receives after each of its own, in this order.
    sender_receives: &'static [&'static str],
    /// Encodes a text from the recipient to the sender; none where the protocol has no such message.
    encode_answer: Option<Encode>,
}

/// Returns the message that carries a text to the other client.
type Encode = Box<dyn Fn(&str) -> String>;

/// Returns an id or name that no other client has.
fn random_id() -> String {
    Uuid::new_v4().to_string()
}

impl Pair {
    /// Connects a pair of this protocol to a listener, from an address of this machine, and lets the two
    /// meet.
    pub fn of(protocol: &str, address: SocketAddr, from: IpAddr) -> Self {
        let connect = |target: &str| Client::connect_from(from, address, target);
        match protocol {
            "peerdrop" => Self::of_peerdrop(connect),
            "fastchat" => Self::of_fastchat(connect),
            "workspace" => Self::of_workspace(connect),
            "loudsync" => Self::of_loudsync(connect),
            "peerjs" => Self::of_peerjs(connect),
            other => panic!("unknown protocol {other:?}: add its pair here"),
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
            encode: Box::new(str::to_owned),
            decode: |text| Some(text.to_owned()),
            sender_receives: &[],
            encode_answer: Some(Box::new(str::to_owned)),
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
        let bob = random_id();
        let mut one = enter(&random_id());
        let mut other = enter(&bob);
        let data = json!({"target_user_id": bob});
        one.says(json!({"type": "OPEN_CHAT", "data": data}).to_string());
        for client in [&mut one, &mut other] {
            client.until_type("CHAT_OPENED");
        }
        Self {
            one,
            other,
            encode: Box::new(move |text| {
                let data = json!({"to": bob, "content": text});
                json!({"type": "MSG", "data": data}).to_string()
            }),
            decode: |message| field(message, "/data/content"),
            sender_receives: &["MSG_ACK"],
            encode_answer: None,
        }
    }

    fn of_workspace(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |name: &str| {
            let mut client = connect(&format!("/ws?username={name}"));
            client.until_type("connected");
            client
        };
        let [ann, bob] = [random_id(), random_id()];
        let mut one = enter(&ann);
        let other = enter(&bob);
        one.until(|message| message.contains(&bob).then_some(()));
        Self {
            one,
            other,
            encode: Box::new(|text| json!({"type": "message:send", "text": text}).to_string()),
            decode: |message| field(message, "/data/text"),
            sender_receives: &["message:new"],
            encode_answer: None,
        }
    }

    /// LOUDSYNC has no messages between members. The text is the name of a new member, which the host
    /// receives.
    fn of_loudsync(connect: impl Fn(&str) -> Client) -> Self {
        let session = random_id();
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
            encode: Box::new(move |text| join(text, "client")),
            decode: |message| field(message, "/member/name"),
            sender_receives: &["welcome", "member_list"],
            encode_answer: None,
        }
    }

    fn of_peerjs(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |id: &str| {
            let mut client = connect(&format!("/peerjs?key=peerjs&id={id}&token=t"));
            client.until_type("OPEN");
            client
        };
        let [one, other] = [random_id(), random_id()];
        let (first, second) = (enter(&one), enter(&other));
        let message = |kind: &'static str, dst: String| -> Encode {
            Box::new(move |text| json!({"type": kind, "dst": dst, "payload": text}).to_string())
        };
        Self {
            one: first,
            other: second,
            encode: message("OFFER", other),
            decode: |message| field(message, "/payload"),
            sender_receives: &[],
            encode_answer: Some(message("ANSWER", one)),
        }
    }

    /// Sends a text from the sender to the recipient.
    pub fn says(&mut self, text: &str) {
        let message = (self.encode)(text);
        self.one.says(message);
    }

    /// Waits until the recipient has received the text, and the sender what the protocol sends in return.
    pub fn hears(&mut self, text: &str) {
        let matches = |message: &str| (self.decode)(message).filter(|it| it == text);
        self.other.until(matches);
        for kind in self.sender_receives {
            self.one.until_type(kind);
        }
    }

    /// Sends a text from the recipient to the sender, and waits until it is received. Does nothing where the
    /// protocol has no such message.
    pub fn answers(&mut self, text: &str) {
        if let Some(encode) = &self.encode_answer {
            self.other.says(encode(text));
            let matches = |message: &str| (self.decode)(message).filter(|it| it == text);
            self.one.until(matches);
        }
    }

    /// Closes both with code 1000, so that the server keeps nothing of them.
    pub fn leaves(self) {
        self.one.leaves_for_good();
        self.other.leaves_for_good();
    }
}

/// Returns the string at a JSON pointer of a message.
fn field(message: &str, pointer: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    Some(message.pointer(pointer)?.as_str()?.to_owned())
}
