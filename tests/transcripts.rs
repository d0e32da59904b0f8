//! Acts out the transcripts on the protocols' pages against the daemon.
//!
//! A transcript is a code block that is marked `transcript`. Its lines, each with the name of a client:
//!
//! ```text
//! Ann connects to /ws/chat       opens a WebSocket
//! Ann< XYZ789                    the next message that Ann receives
//! Ann> Hello!                    a message that Ann sends
//! Ann disconnects                with Close 1000
//! Ann is closed: 1000 peer left  by the server, with this code and reason
//! ```
//!
//! Values that the server generates (ids, codes, times) differ from the page. Where a transcript has
//! such a value for the first time, it stands for the real one from then on, also in messages that
//! clients send.

use crate::common::{Client, Daemon};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Acts out every transcript of a page, each in a daemon of its own with this listener.
fn act_out(page: &str, listener: Value) {
    let blocks: Vec<&str> = page
        .split("```transcript\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "the page has no transcript");
    for block in blocks {
        let mut run = Run {
            daemon: Daemon::start_listener(listener.clone()),
            clients: BTreeMap::new(),
            real_values: BTreeMap::new(),
        };
        for line in block.lines() {
            println!("{line}");
            run.act(line);
        }
    }
}

/// The run of one transcript.
struct Run {
    daemon: Daemon,
    clients: BTreeMap<String, Client>,
    /// The real value for each generated value on the page.
    real_values: BTreeMap<String, String>,
}

impl Run {
    /// Acts out one line.
    fn act(&mut self, line: &str) {
        let end = line.find(['>', '<', ' ']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if let Some(text) = rest.strip_prefix("> ") {
            let text = self.with_real_values(text);
            self.client(name).send(text);
        } else if let Some(page) = rest.strip_prefix("< ") {
            let received = self.client(name).receive_text();
            self.compare(page, &received);
        } else if let Some(target) = rest.strip_prefix(" connects to ") {
            let target = self.with_real_values(target);
            let client = Client::connect(self.daemon.address(), &target);
            self.clients.insert(name.to_owned(), client);
        } else if rest == " disconnects" {
            self.clients.remove(name).unwrap().close();
        } else if let Some(close) = rest.strip_prefix(" is closed: ") {
            let (code, reason) = self.client(name).expect_close();
            assert_eq!(format!("{code} {reason}"), close);
        } else {
            panic!("not a line of a transcript: {line:?}");
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let client = self.clients.get_mut(name);
        client.unwrap_or_else(|| panic!("the transcript has no line in which {name:?} connects"))
    }

    /// Returns a text of the page with real values in place of generated ones.
    fn with_real_values(&self, text: &str) -> String {
        let replace = |text: String, (page, real): (&String, &String)| text.replace(page, real);
        self.real_values.iter().fold(text.to_owned(), replace)
    }

    /// Compares a message on the page with the received one, as JSON if both are.
    fn compare(&mut self, page: &str, received: &str) {
        match (serde_json::from_str(page), serde_json::from_str(received)) {
            (Ok(page), Ok(received)) => self.compare_values("", &page, &received),
            _ => self.compare_texts(page, received),
        }
    }

    fn compare_values(&mut self, key: &str, page: &Value, received: &Value) {
        match (page, received) {
            (Value::Object(page), Value::Object(received)) => {
                // It depends on the machine whether a latency has been measured yet.
                let keys = |object: &Map<String, Value>| -> Vec<String> {
                    object
                        .keys()
                        .filter(|key| *key != "latency")
                        .cloned()
                        .collect()
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

    /// Compares a text on the page with the received one, and records the real value of a generated one.
    fn compare_texts(&mut self, page: &str, received: &str) {
        if let Some(real) = self.real_values.get(page) {
            assert_eq!(real, received, "{page} stood for another value before");
        } else if page != received {
            let kind = generated_kind(page);
            assert!(kind.is_some(), "the page has {page:?}, not {received:?}");
            assert_eq!(
                kind,
                generated_kind(received),
                "{received:?} is a value of another kind than {page:?}"
            );
            if kind != Some("time") {
                self.real_values
                    .insert(page.to_owned(), received.to_owned());
            }
        }
    }
}

/// Returns whether a number can be a time: milliseconds since the epoch, after 2004.
fn is_time(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|millis| millis > 1 << 40)
}

/// Returns the kind of a value that the server generates, judged by its form, or none for other texts.
fn generated_kind(text: &str) -> Option<&'static str> {
    let digits = |text: &str| text.len() > 10 && text.bytes().all(|b| b.is_ascii_digit());
    let random = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let is_code = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    if uuid::Uuid::try_parse(text).is_ok() {
        Some("UUID")
    } else if text.len() == 24 && text.ends_with('Z') {
        Some("time")
    } else if text.strip_prefix("msg_").is_some_and(digits) {
        Some("message id")
    } else if text.strip_prefix("ws_user_").is_some_and(digits) {
        Some("user id")
    } else if text.strip_prefix("User_").is_some_and(random) {
        Some("name")
    } else if text.strip_prefix("host-").is_some_and(random) {
        Some("host id")
    } else if text.strip_prefix("client-").is_some_and(random) {
        Some("client id")
    } else if text.len() == 6 && text.bytes().all(is_code) {
        Some("code")
    } else {
        None
    }
}

#[test]
fn the_transcripts_of_peerdrop_are_true() {
    act_out(
        include_str!("../src/protocols/peerdrop/README.md"),
        json!({"protocol": "peerdrop", "ping_after": 0}),
    );
}

#[test]
fn the_transcripts_of_fastchat_are_true() {
    act_out(
        include_str!("../src/protocols/fastchat/README.md"),
        json!({"protocol": "fastchat", "ping_after": 0, "hello_timeout": 0}),
    );
}

#[test]
fn the_transcripts_of_workspace_are_true() {
    act_out(
        include_str!("../src/protocols/workspace/README.md"),
        json!({"protocol": "workspace", "ping_after": 0}),
    );
}

#[test]
fn the_transcripts_of_loudsync_are_true() {
    act_out(
        include_str!("../src/protocols/loudsync/README.md"),
        json!({"protocol": "loudsync", "ping_after": 0, "join_timeout": 0, "heartbeat_timeout": 3600}),
    );
}

#[test]
fn the_transcripts_of_peerjs_are_true() {
    act_out(
        include_str!("../src/protocols/peerjs/README.md"),
        json!({"protocol": "peerjs", "ping_after": 0, "expire_timeout": 1}),
    );
}
