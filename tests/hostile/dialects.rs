//! What hostile clients of a protocol send, from the file `tests/hostile.txt` of its folder.
//!
//! Lines that begin with `#` are comments. `floods: MESSAGE` is a message that the server answers, however often a client
//! that has only connected sends it. `settings: JSON` are settings of the listener under which the dialects' messages,
//! one after the other, are within its limits on rates. Each dialect in which the protocol reads JSON follows after a line `== NAME`, with
//! these lines. `VALUE` stands for any hostile value; `$name` for one value throughout the file.
//!
//! | line | meaning |
//! | --- | --- |
//! | `Ann connects to …`, `Ann> …`, `Ann< …` | how a client connects and registers, as in `common/transcript.rs` |
//! | `asks: MESSAGE` | a valid message that the server answers |
//! | `answered: PART` | a part of this answer that no other message contains |
//! | `error: PART` | a part of each error; missing if the protocol has no errors |
//! | `others: PART` | a part of messages that other clients may cause at any time |
//! | `rejects: MESSAGE` | a message that no hostile value makes valid |
//! | `accepts numbers: MESSAGE` | the same, but that the server accepts a number, however large |
//! | `accepts: MESSAGE` | a message whose value the server ignores or forwards unread |
//! | `rejects first: MESSAGE` | one that a client sends before it has registered |

use super::Server;
use crate::common::transcript::{Action, Conversation, Matching, Values, lines, parse};
use crate::common::{Client, protocol_file};
use serde_json::{Value, json};
use switchboard::protocols::PROTOCOLS;

/// Placeholder for a value in the messages.
pub const VALUE: &str = "VALUE";

/// The hostile values that a field accepts.
#[derive(Clone, Copy, PartialEq)]
pub enum Accepts {
    Nothing,
    Numbers,
    /// The server ignores the field or forwards it unread.
    Anything,
}

/// A protocol's file.
pub struct Hostile {
    pub protocol: &'static str,
    pub floods: Vec<String>,
    /// Settings under which the messages of the dialects are within the limits on rates.
    pub settings: Value,
    pub dialects: Vec<Dialect>,
}

/// A dialect in which a protocol reads JSON.
#[derive(Default)]
pub struct Dialect {
    /// Protocol and dialect, for assertion messages.
    pub name: String,
    /// How a client connects and registers.
    registration: Vec<String>,
    /// A valid message that the server answers.
    pub question: String,
    /// A part of the answer to `question` that no other message contains.
    pub answer: String,
    /// A part of each error, or empty if the protocol has no errors.
    pub error: String,
    /// Parts of messages that other clients may cause at any time.
    pub others: Vec<String>,
    /// Messages with the placeholder [`VALUE`], and the hostile values that the server accepts there.
    pub templates: Vec<(String, Accepts)>,
    /// Messages of clients that have not registered, with the placeholder.
    pub first_messages: Vec<String>,
}

impl Hostile {
    /// Reads the files of all protocols.
    pub fn all() -> impl Iterator<Item = Self> {
        PROTOCOLS.iter().map(|protocol| Self::read(protocol.name))
    }

    fn read(protocol: &'static str) -> Self {
        let text = protocol_file(
            protocol,
            "tests/hostile.txt",
            "what hostile clients send, in the form that tests/hostile/dialects.rs describes: for each dialect in \
             which the protocol reads JSON, how a client registers, and messages with VALUE in each of their \
             fields; a message that is answered however often it is sent; or a comment why there is none",
        );
        assert!(
            !text.trim().is_empty(),
            "{protocol}: hostile.txt does not say why it is empty"
        );
        let (mut floods, mut dialects) = (Vec::new(), Vec::<Dialect>::new());
        let mut settings = json!({});
        for line in lines(&text) {
            if let Some(name) = line.strip_prefix("== ") {
                let name = format!("{protocol}, {name}");
                dialects.push(Dialect {
                    name,
                    ..Dialect::default()
                });
            } else if let Some(message) = line.strip_prefix("floods: ") {
                floods.push(message.to_owned());
            } else if let Some(json) = line.strip_prefix("settings: ") {
                let json = serde_json::from_str(json);
                settings = json.unwrap_or_else(|error| panic!("{protocol}: {line:?}: {error}"));
            } else {
                let dialect = dialects.last_mut();
                dialect
                    .unwrap_or_else(|| panic!("{protocol}: {line:?} is in no dialect"))
                    .add(line);
            }
        }
        for Dialect {
            name,
            question,
            answer,
            templates,
            ..
        } in &dialects
        {
            let is_complete = !(question.is_empty() || answer.is_empty() || templates.is_empty());
            assert!(
                is_complete,
                "{name}: hostile.txt lacks asks, answered or rejects"
            );
        }
        Self {
            protocol,
            floods,
            settings,
            dialects,
        }
    }

    /// Connects and registers a client in each of the dialects.
    pub fn connect(mut self, server: &Server) -> Vec<(Client, Dialect)> {
        let address = server.address(self.protocol);
        let connect = |target: &str| Client::connect(address, target);
        let mut conversation = Conversation::new(Matching::FirstWithFields, connect);
        let clients = self.dialects.iter().map(|dialect| {
            dialect
                .registration
                .iter()
                .for_each(|line| conversation.act(line));
            conversation.take(dialect.client())
        });
        let clients: Vec<Client> = clients.collect();
        for dialect in &mut self.dialects {
            dialect.fill(&mut conversation.values);
        }
        clients.into_iter().zip(self.dialects).collect()
    }
}

impl Dialect {
    /// Adds a line of the file.
    fn add(&mut self, line: &str) {
        let Some((key, rest)) = line.split_once(": ") else {
            return self.registration.push(line.to_owned());
        };
        let rest = rest.to_owned();
        match key {
            "asks" => self.question = rest,
            "answered" => self.answer = rest,
            "error" => self.error = rest,
            "others" => self.others.push(rest),
            "rejects" => self.templates.push((rest, Accepts::Nothing)),
            "accepts numbers" => self.templates.push((rest, Accepts::Numbers)),
            "accepts" => self.templates.push((rest, Accepts::Anything)),
            "rejects first" => self.first_messages.push(rest),
            _ => self.registration.push(line.to_owned()),
        }
    }

    /// Returns the name of the client that registers.
    fn client(&self) -> &str {
        let is_connection = |line: &&String| matches!(parse(line).1, Action::ConnectsTo(_));
        let connection = self.registration.iter().find(is_connection);
        parse(connection.unwrap_or_else(|| panic!("{}: no client connects", self.name))).0
    }

    /// Replaces names by their values.
    fn fill(&mut self, values: &mut Values) {
        self.question = values.fill(&self.question);
        for (message, _) in &mut self.templates {
            *message = values.fill(message);
        }
    }
}
