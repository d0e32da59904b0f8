//! The transcripts in the protocols' pages are true: each is acted out against the daemon.
//!
//! A transcript is a code block that is marked `transcript`. Its lines, each with the name of a client:
//!
//! ```text
//! Ann connects to /ws/chat       opens a WebSocket
//! Ann< XYZ789                    the next message that Ann gets
//! Ann> Hello!                    a message that Ann sends
//! Ann disconnects                with Close 1000
//! Ann is closed: 1000 peer left  by the server, with this code and reason
//! ```
//!
//! What the server makes up (ids, codes, times) differs from the page. The first time such a value is met, the page's
//! value stands for the real one from then on, also in what clients send.

use crate::common::{Client, Daemon};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Acts out every transcript of a page; each one on a listener without time-outs.
fn act_out(page: &str, listener: Value) {
    let blocks: Vec<&str> = page
        .split("```transcript\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "the page has no transcript");
    for block in blocks {
        let mut scene = Scene {
            daemon: Daemon::with(listener.clone()),
            clients: BTreeMap::new(),
            real: BTreeMap::new(),
        };
        for line in block.lines() {
            println!("{line}");
            scene.act(line);
        }
    }
}

/// One transcript under way.
struct Scene {
    daemon: Daemon,
    clients: BTreeMap<String, Client>,
    /// What the page's made-up values stand for.
    real: BTreeMap<String, String>,
}

impl Scene {
    fn act(&mut self, line: &str) {
        let end = line.find(['>', '<', ' ']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if let Some(text) = rest.strip_prefix("> ") {
            let text = self.with_real_values(text);
            self.client(name).says(text);
        } else if let Some(page) = rest.strip_prefix("< ") {
            let got = self.client(name).text();
            self.compare(page, &got);
        } else if let Some(target) = rest.strip_prefix(" connects to ") {
            let target = self.with_real_values(target);
            let client = Client::connect(self.daemon.address(), &target);
            self.clients.insert(name.to_owned(), client);
        } else if rest == " disconnects" {
            self.clients.remove(name).unwrap().leaves();
        } else if let Some(close) = rest.strip_prefix(" is closed: ") {
            let (code, reason) = self.client(name).closed();
            assert_eq!(format!("{code} {reason}"), close);
        } else {
            panic!("not a line of a transcript: {line:?}");
        }
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let client = self.clients.get_mut(name);
        client.unwrap_or_else(|| panic!("{name:?} has not connected"))
    }

    fn with_real_values(&self, text: &str) -> String {
        let replace = |text: String, (page, real): (&String, &String)| text.replace(page, real);
        self.real.iter().fold(text.to_owned(), replace)
    }

    fn compare(&mut self, page: &str, got: &str) {
        match (serde_json::from_str(page), serde_json::from_str(got)) {
            (Ok(page), Ok(got)) => self.compare_values("", &page, &got),
            _ => self.compare_texts(page, got),
        }
    }

    fn compare_values(&mut self, key: &str, page: &Value, got: &Value) {
        match (page, got) {
            (Value::Object(page), Value::Object(got)) => {
                // Whether a round trip has been measured by now is a matter of time.
                let keys = |of: &Map<String, Value>| -> Vec<String> {
                    of.keys().filter(|key| *key != "latency").cloned().collect()
                };
                assert_eq!(keys(page), keys(got));
                for key in keys(page) {
                    self.compare_values(&key, &page[&key], &got[&key]);
                }
            }
            (Value::Array(page), Value::Array(got)) => {
                assert_eq!(page.len(), got.len(), "{page:?} {got:?}");
                for (page, got) in page.iter().zip(got) {
                    self.compare_values(key, page, got);
                }
            }
            (Value::String(page), Value::String(got)) => self.compare_texts(page, got),
            (Value::Number(page), Value::Number(got)) if is_time(page) => assert!(is_time(got)),
            _ => assert_eq!(page, got, "{key}"),
        }
    }

    fn compare_texts(&mut self, page: &str, got: &str) {
        if let Some(real) = self.real.get(page) {
            assert_eq!(real, got, "{page} stood for another value before");
        } else if page != got {
            assert!(made_up(page).is_some(), "{page:?} is not {got:?}");
            assert_eq!(made_up(page), made_up(got), "{page:?} is not {got:?}");
            if made_up(page) != Some("time") {
                self.real.insert(page.to_owned(), got.to_owned());
            }
        }
    }
}

/// Milliseconds since the epoch, in this century.
fn is_time(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|millis| millis > 1 << 40)
}

/// The kind of a value that a server makes up, if it looks like one.
fn made_up(text: &str) -> Option<&'static str> {
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
