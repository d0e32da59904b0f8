//! Pairs of clients that have met, and the messages that they exchange. How they do it is in the file
//! `tests/pair.transcript` of the protocol's folder, so that all tests that need healthy clients of every
//! protocol find them there. All ids are random, so that several pairs, and other clients, can use one listener.

use super::Client;
use super::protocol_files::pair_transcript;
use super::transcript::{Action, Conversation, Matching, Values, lines, parse};
use std::net::{IpAddr, SocketAddr};

/// Two clients that have met.
pub struct Pair {
    pub sender: Client,
    pub recipient: Client,
    values: Values,
    script: Script,
}

/// A protocol's `pair.transcript`: paragraphs of lines.
struct Script {
    /// How the two connect and meet.
    meeting: Vec<String>,
    /// A message from the sender, and what both receive for it.
    message: Vec<String>,
    /// A message from the recipient to the sender; empty where the protocol has none.
    answer: Vec<String>,
    /// Name of the client that sends the message.
    sender: String,
    /// Name of the other one.
    recipient: String,
}

impl Script {
    /// Reads the file of a protocol.
    fn read(protocol: &str) -> Self {
        let text = pair_transcript(protocol);
        let paragraphs = text.split("\n\n");
        let paragraphs = paragraphs.map(|part| lines(part).map(str::to_owned).collect());
        let paragraphs: Vec<Vec<String>> = paragraphs
            .filter(|part: &Vec<_>| !part.is_empty())
            .collect();
        let (meeting, message, answer) = match paragraphs.as_slice() {
            [meeting, message] => (meeting, message, Vec::new()),
            [meeting, message, answer] => (meeting, message, answer.clone()),
            _ => panic!(
                "the pair of {protocol} has {} paragraphs, not 2 or 3",
                paragraphs.len()
            ),
        };
        let connects = |line: &&String| matches!(parse(line).1, Action::ConnectsTo(_));
        let names = meeting.iter().filter(connects).map(|line| parse(line).0);
        let names: Vec<&str> = names.collect();
        let (sender, action) = parse(&message[0]);
        let is_sent = matches!(action, Action::Sends(text) if text.contains("$text"));
        assert!(
            is_sent,
            "the pair of {protocol}: a message with $text must be sent first"
        );
        let recipient = names.iter().find(|name| **name != sender);
        let is_pair = names.len() == 2 && names.contains(&sender);
        assert!(
            is_pair,
            "the pair of {protocol}: two clients must connect, and one of them must send"
        );
        Self {
            sender: sender.to_owned(),
            recipient: recipient.map(|name| (*name).to_owned()).unwrap(),
            meeting: meeting.clone(),
            message: message.clone(),
            answer,
        }
    }
}

impl Pair {
    /// Connects a pair of this protocol to a listener, from an address of this machine, and lets the two
    /// meet.
    pub fn connect(protocol: &str, address: SocketAddr, from: IpAddr) -> Self {
        Self::connect_by(protocol, |target| {
            Client::connect_from(from, address, target)
        })
    }

    /// Connects a pair of this protocol by a function that connects to a target, and lets the two meet.
    pub fn connect_by(protocol: &str, connect: impl Fn(&str) -> Client) -> Self {
        let script = Script::read(protocol);
        let mut conversation = Conversation::new(Matching::FirstWithFields, connect);
        for line in &script.meeting {
            conversation.act(line);
        }
        Self {
            sender: conversation.take(&script.sender),
            recipient: conversation.take(&script.recipient),
            values: conversation.values,
            script,
        }
    }

    /// Sends a text from the sender to the recipient.
    pub fn send(&mut self, text: &str) {
        self.values.set("$text", text);
        let message = self.script.message[0].clone();
        self.act(&message);
    }

    /// Waits until the recipient has received the text, and the sender what the protocol sends in return.
    pub fn expect_received(&mut self, text: &str) {
        self.values.set("$text", text);
        for line in self.script.message.clone().iter().skip(1) {
            self.act(line);
        }
    }

    /// Sends a text from the recipient to the sender, and waits until it is received. Does nothing where the
    /// protocol has no such message.
    pub fn answer(&mut self, text: &str) {
        self.values.set("$text", text);
        for line in self.script.answer.clone() {
            self.act(&line);
        }
    }

    /// Acts out a line of two clients that have met.
    fn act(&mut self, line: &str) {
        let (name, action) = parse(line);
        let client = if name == self.script.sender {
            &mut self.sender
        } else if name == self.script.recipient {
            &mut self.recipient
        } else {
            panic!("{name:?} is neither of the pair: {line:?}");
        };
        match action {
            Action::Sends(text) => client.send(self.values.fill(text)),
            Action::Receives(text) => self.values.receive(client, text, Matching::FirstWithFields),
            _ => panic!("after the meeting a pair only sends and receives: {line:?}"),
        }
    }

    /// Closes both with code 1000, so that the server keeps nothing of them.
    pub fn close(self) {
        self.sender.close_normally();
        self.recipient.close_normally();
    }
}
