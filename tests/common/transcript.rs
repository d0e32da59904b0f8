//! Conversations between clients and a listener, one line for each event, with the name of a client first:
//!
//! ```text
//! Ann connects to /ws/chat       opens a WebSocket
//! Ann< XYZ789                    a message that Ann receives
//! Ann> Hello!                    a message that Ann sends
//! Ann disconnects                with Close 1000
//! Ann is closed: 1000 peer left  by the server, with this code and reason
//! ```
//!
//! Lines that begin with `#` are comments. `$name` stands for one value throughout a conversation: in a message
//! that a client sends, or a target, it is at first a new UUID; as a whole message or JSON string that a client
//! receives, it is at first whatever the server sent.
//!
//! The protocols' pages show such conversations to people, so they have examples in place of values that the
//! server generates (ids, codes, times). Where a page has such a value for the first time, it stands for the
//! real one from then on, also in messages that clients send. A value that looks like the example is one of its kind:
//! a UUID for a UUID, a time for a time, and `msg_0000000000042` for `msg_1768557600001`. Fields that a message has only
//! sometimes are in the file `tests/optional_fields.txt` of the protocol's folder.

use super::Client;
use super::protocol_files::fill_names;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How a received message is found for a line such as `Ann< …`.
#[derive(Clone, Copy, PartialEq)]
pub enum Matching {
    /// It is the next message, which must have the same fields.
    Next,
    /// It is the first message that has the fields of the line, and may have more; others before it are skipped, since
    /// clients of other conversations may have caused them.
    FirstWithFields,
}

/// What happens in a line.
pub enum Action<'a> {
    ConnectsTo(&'a str),
    Sends(&'a str),
    Receives(&'a str),
    Disconnects,
    /// The code and the reason.
    IsClosed(&'a str),
}

/// Splits a line into the name of the client and what happens.
pub fn parse(line: &str) -> (&str, Action<'_>) {
    let end = line.find(['>', '<', ' ']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let action = if let Some(text) = rest.strip_prefix("> ") {
        Action::Sends(text)
    } else if let Some(text) = rest.strip_prefix("< ") {
        Action::Receives(text)
    } else if let Some(target) = rest.strip_prefix(" connects to ") {
        Action::ConnectsTo(target)
    } else if rest == " disconnects" {
        Action::Disconnects
    } else if let Some(close) = rest.strip_prefix(" is closed: ") {
        Action::IsClosed(close)
    } else {
        panic!("not a line of a conversation: {line:?}");
    };
    (name, action)
}

/// Returns the lines of a conversation, without comments and empty lines.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A conversation that is acted out.
pub struct Conversation<'a> {
    connect: Box<dyn Fn(&str) -> Client + 'a>,
    matching: Matching,
    clients: BTreeMap<String, Client>,
    pub values: Values,
}

impl<'a> Conversation<'a> {
    /// Begins a conversation whose clients connect by this function, which takes the target.
    pub fn new(matching: Matching, connect: impl Fn(&str) -> Client + 'a) -> Self {
        Self {
            connect: Box::new(connect),
            matching,
            clients: BTreeMap::new(),
            values: Values::default(),
        }
    }

    /// Acts out one line.
    pub fn act(&mut self, line: &str) {
        let (name, action) = parse(line);
        match action {
            Action::ConnectsTo(target) => {
                let client = (self.connect)(&self.values.fill(target));
                self.clients.insert(name.to_owned(), client);
            }
            Action::Disconnects => self.take(name).close(),
            Action::IsClosed(close) => {
                let (code, reason) = self.client(name).0.expect_close();
                assert_eq!(format!("{code} {reason}"), close);
            }
            Action::Sends(text) => {
                let (client, values) = self.client(name);
                client.send(values.fill(text));
            }
            Action::Receives(text) => {
                let matching = self.matching;
                let (client, values) = self.client(name);
                values.receive(client, text, matching);
            }
        }
    }

    /// Removes a client, which must have connected.
    pub fn take(&mut self, name: &str) -> Client {
        let client = self.clients.remove(name);
        client.unwrap_or_else(|| panic!("there is no line in which {name:?} connects"))
    }

    fn client(&mut self, name: &str) -> (&mut Client, &mut Values) {
        let client = self.clients.get_mut(name);
        let client =
            client.unwrap_or_else(|| panic!("there is no line in which {name:?} connects"));
        (client, &mut self.values)
    }
}

/// The real values of a conversation.
#[derive(Default)]
pub struct Values {
    /// By what stands for them in its lines.
    real: BTreeMap<String, String>,
    /// Fields of messages that [`Matching::Next`] does not compare.
    pub optional_fields: Vec<String>,
}

impl Values {
    /// Sets the value of a name such as `$text`.
    pub fn set(&mut self, name: &str, value: &str) {
        self.real.insert(name.to_owned(), value.to_owned());
    }

    /// Returns a text to send, with real values; a name that is new gets a UUID.
    pub fn fill(&mut self, text: &str) -> String {
        let filled = fill_names(text, &mut self.real);
        let examples = self.real.iter().filter(|(name, _)| !name.starts_with('$'));
        examples.fold(filled, |text, (example, real)| text.replace(example, real))
    }

    /// Receives the message of a line.
    pub fn receive(&mut self, client: &mut Client, line: &str, matching: Matching) {
        match matching {
            Matching::Next => {
                let received = client.receive_text();
                self.compare(line, &received);
            }
            Matching::FirstWithFields => {
                let found = client.receive_until(|received| self.find(line, received));
                self.real.extend(found);
            }
        }
    }

    /// Returns the new values in a received message, if it is one of those that a line accepts.
    fn find(&self, line: &str, received: &str) -> Option<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let is_found = match (serde_json::from_str(line), serde_json::from_str(received)) {
            (Ok(line), Ok(received)) => self.contains(&line, &received, &mut found),
            (Ok(_), Err(_)) => false,
            (Err(_), _) => self.is(line, received, &mut found),
        };
        is_found.then_some(found)
    }

    /// Returns whether a received value has all that the line has.
    fn contains(
        &self,
        line: &Value,
        received: &Value,
        found: &mut BTreeMap<String, String>,
    ) -> bool {
        match (line, received) {
            (Value::Object(line), Value::Object(received)) => line.iter().all(|(key, value)| {
                let received = received.get(key);
                received.is_some_and(|received| self.contains(value, received, found))
            }),
            (Value::Array(line), Value::Array(received)) => {
                let mut both = line.iter().zip(received);
                line.len() == received.len()
                    && both.all(|(line, received)| self.contains(line, received, found))
            }
            (Value::String(line), Value::String(received)) => self.is(line, received, found),
            _ => line == received,
        }
    }

    /// Returns whether a received text is that of the line.
    fn is(&self, line: &str, received: &str, found: &mut BTreeMap<String, String>) -> bool {
        match self.real.get(line).or_else(|| found.get(line)) {
            Some(real) => real == received,
            None if line.starts_with('$') => {
                found.insert(line.to_owned(), received.to_owned());
                true
            }
            None => line == received,
        }
    }

    /// Compares a message of a page with the received one, as JSON if both are.
    fn compare(&mut self, page: &str, received: &str) {
        match (serde_json::from_str(page), serde_json::from_str(received)) {
            (Ok(page), Ok(received)) => self.compare_values("", &page, &received),
            _ => self.compare_texts(page, received),
        }
    }

    fn compare_values(&mut self, key: &str, page: &Value, received: &Value) {
        match (page, received) {
            (Value::Object(page), Value::Object(received)) => {
                let optional = &self.optional_fields;
                let keys = |object: &Map<String, Value>| -> Vec<String> {
                    let keys = object.keys().filter(|key| !optional.contains(key));
                    keys.cloned().collect()
                };
                assert_eq!(keys(page), keys(received));
                for key in keys(page) {
                    self.compare_values(&key, &page[&key], &received[&key]);
                }
            }
            (Value::Array(page), Value::Array(received)) => {
                assert_eq!(page.len(), received.len(), "{page:?} {received:?}");
                for (page, received) in page.iter().zip(received) {
                    self.compare_values(key, page, received);
                }
            }
            (Value::String(page), Value::String(received)) => self.compare_texts(page, received),
            (Value::Number(page), Value::Number(received)) if is_time(page) => {
                assert!(is_time(received), "{key}: {received} is not a time");
            }
            _ => assert_eq!(page, received, "{key}"),
        }
    }

    /// Compares a text of a page with the received one, and records the real value of a generated one.
    fn compare_texts(&mut self, page: &str, received: &str) {
        if let Some(real) = self.real.get(page) {
            assert_eq!(real, received, "{page} stood for another value before");
        } else if page != received {
            assert!(
                is_generated_like(page, received),
                "the page has {page:?}, not {received:?}"
            );
            if !is_time_text(page) {
                self.set(page, received);
            }
        }
    }
}

/// Returns whether a number can be a time: milliseconds since the epoch, after 2004.
fn is_time(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|millis| millis > 1 << 40)
}

/// Returns whether a text can be a value that the server generates, if the page's text is an example of one: a UUID, a
/// time, or an id. An id is at least 6 letters and digits, with a digit in the example, after what may precede them up
/// to a `-` or `_`. All of a kind have the same beginning, the same length and the same kinds of characters.
pub fn is_generated_like(example: &str, text: &str) -> bool {
    if Uuid::try_parse(example).is_ok() {
        return Uuid::try_parse(text).is_ok();
    }
    if is_time_text(example) {
        return is_time_text(text);
    }
    let start = example.rfind(['-', '_']).map_or(0, |at| at + 1);
    let (prefix, random) = example.split_at(start);
    let is_id = random.len() >= 6
        && random.bytes().all(|b| b.is_ascii_alphanumeric())
        && random.bytes().any(|b| b.is_ascii_digit());
    let kinds = [
        u8::is_ascii_digit,
        u8::is_ascii_lowercase,
        u8::is_ascii_uppercase,
    ];
    let has = |text: &str, is_kind: fn(&u8) -> bool| text.bytes().any(|b| is_kind(&b));
    let is_like = |text: &str| {
        text.len() == random.len()
            && text.bytes().all(|b| b.is_ascii_alphanumeric())
            && kinds
                .iter()
                .all(|kind| has(random, *kind) || !has(text, *kind))
    };
    is_id && text.strip_prefix(prefix).is_some_and(is_like)
}

/// Returns whether a text can be a time, such as `2026-01-16T10:00:00.000Z`.
fn is_time_text(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z')
}
