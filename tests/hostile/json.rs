//! Attacks with JSON: deep nesting, numbers out of range, lone surrogates, repeated keys, malformed texts
//! and a megabyte of markup, in each field of each protocol that reads JSON and in each dialect. The
//! server must reject it with a short error, or forward it unchanged, and the connection must stay usable.

use super::dialects::{Accepts, Dialect, Hostile, VALUE};
use super::{LARGE_MESSAGE_SLACK, Server};
use crate::common::tokens::{SECRET, sign};
use crate::common::{Client, http};
use serde_json::{Value, json};
use uuid::Uuid;

/// A registered client of a protocol in one of its dialects.
struct JsonClient {
    client: Client,
    dialect: Dialect,
}

/// Returns hostile values: a description, the JSON text, and whether it is a number.
fn values() -> Vec<(&'static str, String, bool)> {
    const DEEP: usize = 100_000;
    let digits = "9".repeat(400);
    let object = [r#"{"a":"#.repeat(DEEP), "1".to_owned(), "}".repeat(DEEP)].concat();
    let number = |name, value: &str| (name, value.to_owned(), true);
    let other = |name, value: &str| (name, value.to_owned(), false);
    vec![
        other(
            "arrays 100,000 deep",
            &["[".repeat(DEEP), "]".repeat(DEEP)].concat(),
        ),
        other("objects 100,000 deep", &object),
        other("a lone high surrogate", r#""\ud800""#),
        other("a lone low surrogate", r#""\udc00""#),
        other("surrogates in the wrong order", r#""\udc00\ud800""#),
        other("a high surrogate before a letter", r#""\ud800x""#),
        number("1e999", "1e999"),
        number("-1e999", "-1e999"),
        number("1e-999", "1e-999"),
        number("2^70", "1180591620717411303424"),
        number("-2^70", "-1180591620717411303424"),
        number("-0", "-0"),
        number("-0.0", "-0.0"),
        number("400 digits", &digits),
        number("an exponent of 400 digits", &format!("1e{digits}")),
    ]
}

/// Returns messages that are not JSON, or not an object with each key once, with their descriptions.
fn invalid_messages() -> Vec<(&'static str, String)> {
    vec![
        ("100,000 unclosed arrays", "[".repeat(100_000)),
        ("100,000 unclosed objects", r#"{"type":"#.repeat(100_000)),
        (
            "arrays 100,000 deep",
            ["[".repeat(100_000), "]".repeat(100_000)].concat(),
        ),
        (
            "a key twice with different values",
            r#"{"type":"MSG","type":"PING","timestamp":1}"#.to_owned(),
        ),
        (
            "a key twice with the same value",
            r#"{"type":"x","type":"x","timestamp":1}"#.to_owned(),
        ),
        (
            "a key twice, once escaped",
            r#"{"type":"x","t\u0079pe":"x","timestamp":1}"#.to_owned(),
        ),
        (
            "a type with a lone surrogate",
            r#"{"type":"\ud800","timestamp":1}"#.to_owned(),
        ),
        ("NaN", r#"{"type":"ping","timestamp":NaN}"#.to_owned()),
        (
            "Infinity",
            r#"{"type":"ping","timestamp":-Infinity}"#.to_owned(),
        ),
        (
            "a hexadecimal number",
            r#"{"type":"ping","timestamp":0x10}"#.to_owned(),
        ),
        (
            "a number with a leading zero",
            r#"{"type":"ping","timestamp":01}"#.to_owned(),
        ),
        (
            "a trailing comma",
            r#"{"type":"ping","timestamp":1,}"#.to_owned(),
        ),
        (
            "a byte order mark before the object",
            "\u{feff}{\"type\":\"ping\",\"timestamp\":1}".to_owned(),
        ),
        (
            "a NUL after the object",
            "{\"type\":\"ping\",\"timestamp\":1}\0".to_owned(),
        ),
    ]
}

/// Connects and registers a client of each protocol that uses JSON, in each of its dialects.
fn json_clients(server: &Server) -> Vec<JsonClient> {
    let clients = Hostile::all().flat_map(|hostile| hostile.connect(server));
    let clients = clients.map(|(client, dialect)| JsonClient { client, dialect });
    clients.collect()
}

impl JsonClient {
    /// Sends a message, then the question. Returns what the server sent before the answer, which shows that
    /// the connection is still usable. Messages that other clients cause are left out.
    fn replies_to(&mut self, message: &str) -> Vec<String> {
        let Dialect {
            question,
            answer,
            others,
            ..
        } = &self.dialect;
        self.client.skipped_texts.clear();
        self.client.send(message);
        self.client.send(question.as_str());
        self.client
            .receive_until(|text| text.contains(answer).then_some(()));
        let mut replies = std::mem::take(&mut self.client.skipped_texts);
        replies.retain(|text| !others.iter().any(|part| text.contains(part)));
        replies
    }

    /// Asserts that the server answers a message with one error, or ignores it if the protocol has no
    /// errors.
    fn assert_rejects(&mut self, message: &str, why: &str) {
        let replies = self.replies_to(message);
        let Dialect { error, name, .. } = &self.dialect;
        let expected = usize::from(!error.is_empty());
        assert_eq!(replies.len(), expected, "{name}, {why}: {replies:.300?}");
        for text in replies {
            assert!(text.contains(error), "{name}, {why}: {text:.300}");
            // Whatever the message contained, the error is valid JSON and short.
            let _: Value = serde_json::from_str(&text).unwrap();
            assert!(text.len() < 1000, "{name}, {why}: {text:.300}");
        }
    }
}

/// Starts a server whose limits on sizes and rates admit the messages of these tests.
fn start_server() -> Server {
    let common = json!({"max_message_size": 4 << 20, "outbox_size": 4 << 20});
    let overrides = Hostile::all().map(|hostile| (hostile.protocol, hostile.settings));
    Server::with_overrides(&common, &overrides.collect::<Vec<_>>())
}

#[test]
fn hostile_values_are_rejected_or_forwarded_unchanged() {
    for (what, value, is_number) in values() {
        let server = start_server();
        let mut clients = json_clients(&server);
        for client in &mut clients {
            for (message, accepted) in std::mem::take(&mut client.dialect.templates) {
                let why = format!("{what} in {message}");
                let message = message.replace(VALUE, &value);
                if accepted == Accepts::Nothing || accepted == Accepts::Numbers && !is_number {
                    client.assert_rejects(&message, &why);
                    continue;
                }
                let replies = client.replies_to(&message);
                assert!(
                    replies.len() <= 1,
                    "{}, {why}: {replies:.300?}",
                    client.dialect.name
                );
                // A value that is sent back is the same byte for byte.
                for text in replies {
                    assert!(
                        text.contains(&value),
                        "{}, {why}: {text:.300}",
                        client.dialect.name
                    );
                }
            }
        }
        drop(clients);
        server.assert_survives_within(
            LARGE_MESSAGE_SLACK,
            &format!("JSON: {what} in each field"),
            "rejected, or forwarded unchanged",
        );
    }
}

#[test]
fn a_message_that_is_not_json_or_repeats_a_key_is_rejected() {
    for (why, message) in invalid_messages() {
        let server = start_server();
        let mut clients = json_clients(&server);
        for client in &mut clients {
            client.assert_rejects(&message, why);
        }
        drop(clients);
        server.assert_survives_within(LARGE_MESSAGE_SLACK, &format!("JSON: {why}"), "rejected");
    }
}

#[test]
fn hostile_values_in_first_messages_tokens_and_bodies_are_rejected() {
    let server = start_server();
    for hostile in Hostile::all() {
        for Dialect {
            name,
            error,
            first_messages,
            ..
        } in hostile.dialects
        {
            for message in first_messages {
                for (what, value, _) in values() {
                    let mut client = server.connect(hostile.protocol);
                    client.send(message.replace(VALUE, &value));
                    let is_error = |text: &str| text.contains(&error).then(|| text.to_owned());
                    let error = client.receive_until(is_error);
                    assert!(error.len() < 1000, "{name}, {what}: {error:.300}");
                    client.close_normally();
                }
                server.assert_survives_within(
                    LARGE_MESSAGE_SLACK,
                    &format!("JSON: hostile values in {message}"),
                    "rejected",
                );
            }
        }
    }
    for (what, value, _) in values() {
        // The token of `auth` is a JWT, so it contains JSON, too.
        let claims = format!(r#"{{"username":{value}}}"#);
        let token = sign("{}", claims, SECRET);
        let mut client = server.connect("workspace");
        client.send(json!({"type": "auth", "token": token}).to_string());
        // Without `access` a token that cannot be read counts as none, so either answer is right.
        let response = client.receive_until(|text| {
            let is_answer = text.contains("auth:ack") || text.contains("INVALID_MESSAGE");
            is_answer.then(|| text.to_owned())
        });
        assert!(response.len() < 1000, "{what}: {response:.300}");
        assert!(
            client
                .drain_texts()
                .iter()
                .all(|text| !text.contains("\\u")),
            "{what}"
        );
        client.close_normally();
        let body = format!(r#"{{"display_name":"Ann","user_id":{value}}}"#);
        let head = "POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
        let length = body.len();
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        let response = http(server.address("fastchat"), &request);
        let expected = if length > 4096 { "413" } else { "400" };
        assert!(
            response.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{what}: {response}"
        );
    }
    server.assert_survives_within(
        LARGE_MESSAGE_SLACK,
        "JSON: hostile values in tokens and HTTP bodies",
        "rejected",
    );
}

#[test]
fn a_megabyte_of_markup_is_sanitized_without_a_tag_left() {
    let overrides = [
        (
            "workspace",
            json!({"messages_per_minute": 0, "text_per_minute": 0, "large_text_per_second": 0}),
        ),
        (
            "fastchat",
            json!({"messages_per_minute": 0, "message_length": 100_000}),
        ),
    ];
    let server = Server::with_overrides(&json!({}), &overrides);
    let mut member = server.connect("workspace");
    member.receive_type("connected");
    let ids = [Uuid::new_v4().to_string(), Uuid::new_v4().to_string()];
    let [mut ann, mut bob] = ids.clone().map(|id| {
        let mut client = server.connect("fastchat");
        let user = json!({"user_id": id, "display_name": "Name"});
        client.send(json!({"type": "HELLO", "data": user}).to_string());
        client.receive_type("HELLO_ACK");
        client
    });
    ann.send(json!({"type": "OPEN_CHAT", "data": {"target_user_id": ids[1]}}).to_string());
    ann.receive_type("CHAT_OPENED");
    for piece in [
        "<scr<script>",
        "<scr<script>ipt>",
        "<",
        "<<",
        "<\u{0}b",
        "<<b>b>",
        "</",
        "<!--",
        "<a<",
        ">",
        "<ä>",
        "a<3 ",
    ] {
        let markup = |size: usize| {
            // The limit is on the JSON text, in which an escaped character takes up to six bytes.
            let escaped = serde_json::to_string(piece).unwrap().len() - 2;
            format!("x{}img src=x onerror=y", piece.repeat(size / escaped))
        };
        let message = json!({"type": "message:send", "text": markup((1 << 20) - 100)});
        let message = message.to_string();
        // Twice, so that memory kept of each message would exceed the slack.
        for _ in 0..2 {
            member.send(message.as_str());
            let broadcast = member.receive_type("message:new");
            assert_no_tag(broadcast["data"]["text"].as_str().unwrap(), piece);
        }
        let data = json!({"to": ids[1], "content": markup((64 << 10) - 200)});
        ann.send(json!({"type": "MSG", "data": data}).to_string());
        ann.receive_type("MSG_ACK");
        let received = bob.receive_type("MSG");
        assert_no_tag(received["data"]["content"].as_str().unwrap(), piece);
    }
    drop((member, ann, bob));
    server.assert_survives_within(
        LARGE_MESSAGE_SLACK,
        "a megabyte of markup such as <scr<script>",
        "no tag left",
    );
}

/// Asserts that a browser would find no tag in a sanitized text. `piece` is the markup that was repeated.
fn assert_no_tag(text: &str, piece: &str) {
    let mut previous = ' ';
    for c in text.chars() {
        let opens = c.is_alphabetic() || matches!(c, '/' | '!' | '?');
        assert!(previous != '<' || !opens, "{piece:?} leaves <{c}");
        previous = c;
    }
}
