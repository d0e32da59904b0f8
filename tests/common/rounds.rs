//! Messages that are sent in rounds: the next ones only after all recipients have received the last. So the daemon does
//! the same in each round, however busy the machine is.

use super::{Client, masked_frame, read_frame};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Clients between which messages are sent in rounds.
pub struct Rounds {
    sender: TcpStream,
    recipients: Vec<TcpStream>,
    /// What the sender sends in a round, with one system call.
    sent: Vec<u8>,
    /// What a recipient receives in a round. The length is the same in each.
    received: Vec<u8>,
    /// Messages that are delivered in a round.
    pub deliveries: usize,
}

impl Rounds {
    /// Returns the settings of a listener for [`Rounds::relay`].
    pub fn relay_listener() -> Value {
        json!({"protocol": "peerjs", "address": "127.0.0.1:0", "ping_after": 0})
    }

    /// Connects two clients of PeerJS. In each round one sends the other this many messages of `bytes` bytes.
    pub fn relay(address: SocketAddr, messages: usize, bytes: usize) -> Self {
        let connect = |id: &str| {
            let target = format!("/peerjs?key=peerjs&id={id}&token=t");
            let mut client = Client::connect(address, &target);
            client.receive_type("OPEN");
            client.into_stream()
        };
        let offer = json!({"type": "OFFER", "dst": "bob", "payload": "x".repeat(bytes)});
        Self::new(
            connect("ann"),
            vec![connect("bob")],
            &offer.to_string(),
            messages,
        )
    }

    /// Returns the settings of a listener for [`Rounds::fan_out`].
    pub fn fan_out_listener() -> Value {
        json!({
            "protocol": "workspace",
            "address": "127.0.0.1:0",
            "ping_after": 0,
            "idle_timeout": 0,
            "messages_per_minute": 1_000_000,
        })
    }

    /// Connects clients of Workspace. In each round one sends all of them, itself among them, this many messages.
    pub fn fan_out(address: SocketAddr, recipients: usize, messages: usize) -> Self {
        let connect = |index| Client::connect(address, &format!("/ws?username=user{index}"));
        let mut clients: Vec<Client> = (0..recipients).map(connect).collect();
        // The last one's arrival is announced to all others before its first message.
        for client in clients.iter_mut().rev() {
            client.drain_texts();
        }
        let recipients: Vec<_> = clients.into_iter().map(Client::into_stream).collect();
        let sender = recipients[0].try_clone().unwrap();
        let message = json!({"type": "message:send", "text": "hello to all of you"});
        Self::new(sender, recipients, &message.to_string(), messages)
    }

    /// Sends the messages of a first round, from which it is known how much a recipient receives.
    fn new(
        mut sender: TcpStream,
        mut recipients: Vec<TcpStream>,
        text: &str,
        messages: usize,
    ) -> Self {
        let sent = masked_frame(0x1, text.as_bytes()).repeat(messages);
        sender.write_all(&sent).unwrap();
        let mut length = 0;
        for recipient in &mut recipients {
            // More than 125 bytes, so that the header has 4.
            let frames = (0..messages).map(|_| 4 + read_frame(recipient).1.len());
            length = frames.sum();
        }
        Self {
            sender,
            sent,
            received: vec![0; length],
            deliveries: messages * recipients.len(),
            recipients,
        }
    }

    /// Sends and receives the messages of this many rounds. Allocates nothing.
    pub fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.sender.write_all(&self.sent).unwrap();
            for recipient in &mut self.recipients {
                recipient.read_exact(&mut self.received).unwrap();
            }
        }
    }
}
