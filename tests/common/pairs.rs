//! Pairs of clients that have met, for each protocol, and the messages that they exchange. All ids are
//! random, so that several pairs, and other clients, can use one listener.

use super::Client;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;

/// Two clients that have met.
pub struct Pair {
    pub sender: Client,
    pub recipient: Client,
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
    pub fn connect(protocol: &str, address: SocketAddr, from: IpAddr) -> Self {
        let connect = |target: &str| Client::connect_from(from, address, target);
        match protocol {
            "peerdrop" => Self::connect_peerdrop(connect),
            "fastchat" => Self::connect_fastchat(connect),
            "workspace" => Self::connect_workspace(connect),
            "loudsync" => Self::connect_loudsync(connect),
            "peerjs" => Self::connect_peerjs(connect),
            other => panic!("unknown protocol {other:?}: add its pair here"),
        }
    }

    fn connect_peerdrop(connect: impl Fn(&str) -> Client) -> Self {
        let mut sender = connect("/ws/chat");
        let code = sender.receive_text();
        let mut recipient = connect(&format!("/ws/chat/{code}"));
        assert_eq!(recipient.receive_text(), code);
        assert_eq!(sender.receive_text(), "the other guy joined");
        Self {
            sender,
            recipient,
            encode: Box::new(str::to_owned),
            decode: |text| Some(text.to_owned()),
            sender_receives: &[],
            encode_answer: Some(Box::new(str::to_owned)),
        }
    }

    fn connect_fastchat(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |id: &str| {
            let mut client = connect("/ws");
            let data = json!({"user_id": id, "display_name": "Name"});
            client.send(json!({"type": "HELLO", "data": data}).to_string());
            client.receive_type("HELLO_ACK");
            client
        };
        let bob = random_id();
        let mut sender = enter(&random_id());
        let mut recipient = enter(&bob);
        let data = json!({"target_user_id": bob});
        sender.send(json!({"type": "OPEN_CHAT", "data": data}).to_string());
        for client in [&mut sender, &mut recipient] {
            client.receive_type("CHAT_OPENED");
        }
        Self {
            sender,
            recipient,
            encode: Box::new(move |text| {
                let data = json!({"to": bob, "content": text});
                json!({"type": "MSG", "data": data}).to_string()
            }),
            decode: |message| field(message, "/data/content"),
            sender_receives: &["MSG_ACK"],
            encode_answer: None,
        }
    }

    fn connect_workspace(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |name: &str| {
            let mut client = connect(&format!("/ws?username={name}"));
            client.receive_type("connected");
            client
        };
        let [ann, bob] = [random_id(), random_id()];
        let mut sender = enter(&ann);
        let recipient = enter(&bob);
        sender.receive_until(|message| message.contains(&bob).then_some(()));
        Self {
            sender,
            recipient,
            encode: Box::new(|text| json!({"type": "message:send", "text": text}).to_string()),
            decode: |message| field(message, "/data/text"),
            sender_receives: &["message:new"],
            encode_answer: None,
        }
    }

    /// LOUDSYNC has no messages between members. The text is the name of a new member, which the host
    /// receives.
    fn connect_loudsync(connect: impl Fn(&str) -> Client) -> Self {
        let session = random_id();
        let join = move |name: &str, kind: &str| {
            let info = json!({"id": name, "name": name, "type": kind});
            let join = json!({"type": "join", "timestamp": 1});
            super::merge(join, &json!({"sessionId": session, "deviceInfo": info})).to_string()
        };
        let mut host = connect("/");
        host.send(join("mac", "host"));
        host.receive_type("member_list");
        Self {
            sender: connect("/"),
            recipient: host,
            encode: Box::new(move |text| join(text, "client")),
            decode: |message| field(message, "/member/name"),
            sender_receives: &["welcome", "member_list"],
            encode_answer: None,
        }
    }

    fn connect_peerjs(connect: impl Fn(&str) -> Client) -> Self {
        let enter = |id: &str| {
            let mut client = connect(&format!("/peerjs?key=peerjs&id={id}&token=t"));
            client.receive_type("OPEN");
            client
        };
        let [sender_id, recipient_id] = [random_id(), random_id()];
        let (sender, recipient) = (enter(&sender_id), enter(&recipient_id));
        let message = |kind: &'static str, dst: String| -> Encode {
            Box::new(move |text| json!({"type": kind, "dst": dst, "payload": text}).to_string())
        };
        Self {
            sender,
            recipient,
            encode: message("OFFER", recipient_id),
            decode: |message| field(message, "/payload"),
            sender_receives: &[],
            encode_answer: Some(message("ANSWER", sender_id)),
        }
    }

    /// Sends a text from the sender to the recipient.
    pub fn send(&mut self, text: &str) {
        let message = (self.encode)(text);
        self.sender.send(message);
    }

    /// Waits until the recipient has received the text, and the sender what the protocol sends in return.
    pub fn expect_received(&mut self, text: &str) {
        let matches = |message: &str| (self.decode)(message).filter(|it| it == text);
        self.recipient.receive_until(matches);
        for kind in self.sender_receives {
            self.sender.receive_type(kind);
        }
    }

    /// Sends a text from the recipient to the sender, and waits until it is received. Does nothing where the
    /// protocol has no such message.
    pub fn answer(&mut self, text: &str) {
        if let Some(encode) = &self.encode_answer {
            self.recipient.send(encode(text));
            let matches = |message: &str| (self.decode)(message).filter(|it| it == text);
            self.sender.receive_until(matches);
        }
    }

    /// Closes both with code 1000, so that the server keeps nothing of them.
    pub fn close(self) {
        self.sender.close_normally();
        self.recipient.close_normally();
    }
}

/// Returns the string at a JSON pointer of a message.
fn field(message: &str, pointer: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    Some(message.pointer(pointer)?.as_str()?.to_owned())
}
