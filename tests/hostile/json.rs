//! Attacks with JSON: deep nesting, numbers out of range, lone surrogates, repeated keys, malformed texts
//! and a megabyte of markup, in each field of each protocol that reads JSON and in each dialect. The
//! server must reject it with a short error, or forward it unchanged, and the connection must stay usable.

use super::{LARGE_MESSAGE_SLACK, Server};
use crate::common::{Client, http};
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use serde_json::{Value, json};
use uuid::Uuid;

/// A registered client of a protocol in one of its dialects.
struct JsonClient {
    /// Protocol and dialect, for assertion messages.
    name: &'static str,
    client: Client,
    /// A valid message that the server answers.
    question: String,
    /// A part of the answer to `question` that no other message contains.
    answer: String,
    /// A part of each error, or empty if the protocol has no errors.
    error: &'static str,
    /// Messages with the placeholder [`VALUE`], and the hostile values that the server accepts there.
    templates: Vec<(String, Accepts)>,
}

/// The hostile values that a field accepts.
#[derive(Clone, Copy, PartialEq)]
enum Accepts {
    Nothing,
    Numbers,
    /// The server ignores the field or forwards it unread.
    Anything,
}

/// Placeholder for a value in the templates of messages.
const VALUE: &str = "VALUE";

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
    use Accepts::{Anything, Nothing, Numbers};
    let mut clients = vec![];
    let id = Uuid::new_v4().to_string();
    for (name, hello, templates) in [
        (
            "fastchat",
            json!({"type": "HELLO", "data": {"user_id": id, "display_name": "Ann"}}),
            vec![
                (r#"{"type":VALUE}"#, Nothing),
                (r#"{"type":"MSG","data":VALUE}"#, Nothing),
                (
                    r#"{"type":"MSG","data":{"to":VALUE,"content":"x"}}"#,
                    Nothing,
                ),
                (
                    r#"{"type":"MSG","data":{"to":"ID","content":VALUE}}"#,
                    Nothing,
                ),
                (
                    r#"{"type":"MSG","data":{"to":"ID","content":"x","message_id":VALUE}}"#,
                    Nothing,
                ),
                (
                    r#"{"type":"OPEN_CHAT","data":{"target_user_id":VALUE}}"#,
                    Nothing,
                ),
                (r#"{"type":"TYPING","data":{"is_typing":VALUE}}"#, Nothing),
                (
                    r#"{"type":"MSG_ACK","data":{"message_id":VALUE}}"#,
                    Anything,
                ),
                (r#"{"type":"MSG_ACK","more":VALUE}"#, Anything),
            ],
        ),
        (
            "fastchat, flat dialect",
            json!({"type": "HELLO", "display_name": "Bob"}),
            vec![
                (r#"{"type":VALUE,"content":"x"}"#, Nothing),
                (r#"{"type":"MSG","content":VALUE}"#, Nothing),
                (r#"{"type":"MSG","to":VALUE,"content":"x"}"#, Nothing),
                (r#"{"type":"OPEN_CHAT","target_user_id":VALUE}"#, Nothing),
                (r#"{"type":"TYPING","is_typing":VALUE}"#, Nothing),
                (r#"{"type":"MSG_ACK","message_id":VALUE}"#, Anything),
            ],
        ),
    ] {
        let mut client = server.connect("fastchat");
        client.send(hello.to_string());
        client.receive_type("HELLO_ACK");
        let templates = templates
            .into_iter()
            .map(|(template, accepted)| (template.replace("ID", &id), accepted));
        clients.push(JsonClient {
            name,
            client,
            question: r#"{"type":"PING"}"#.to_owned(),
            answer: r#""type":"PONG""#.to_owned(),
            error: r#""type":"ERROR""#,
            templates: templates.collect(),
        });
    }
    for (name, kind, templates) in [
        (
            "workspace",
            "message:send",
            vec![
                (r#"{"type":VALUE}"#, Nothing),
                (r#"{"type":"message:send","text":VALUE}"#, Nothing),
                (r#"{"type":"presence:update","status":VALUE}"#, Nothing),
                (r#"{"type":"typing:indicator","isTyping":VALUE}"#, Nothing),
            ],
        ),
        (
            "workspace, Electron dialect",
            "message",
            vec![
                (r#"{"type":VALUE}"#, Nothing),
                (r#"{"type":"message","text":VALUE}"#, Nothing),
                (r#"{"type":"message","text":"x","replyTo":VALUE}"#, Nothing),
                (r#"{"type":"auth","token":VALUE}"#, Nothing),
            ],
        ),
    ] {
        let mut client = server.connect("workspace");
        client.receive_type("connected");
        let answer = format!("well, {name}?");
        let question = json!({"type": kind, "text": answer}).to_string();
        client.send(question.as_str());
        client.receive_type("message:new");
        let templates = templates
            .into_iter()
            .map(|(template, accepted)| (template.to_owned(), accepted));
        clients.push(JsonClient {
            name,
            client,
            question,
            answer,
            error: r#""type":"error""#,
            templates: templates.collect(),
        });
    }
    let join = |device: &str, more: &str| {
        format!(
            r#"{{"type":"join","timestamp":1,"sessionId":"json","deviceInfo":{{"id":"{device}","name":"a","type":"host"}}{more}}}"#
        )
    };
    let info = |field: &str| {
        let fields =
            [("id", r#""a""#), ("name", r#""a""#), ("type", r#""host""#)].map(|(name, value)| {
                format!(r#""{name}":{}"#, if name == field { VALUE } else { value })
            });
        let info = fields.join(",");
        format!(r#"{{"type":"join","timestamp":1,"sessionId":"s","deviceInfo":{{{info}}}}}"#)
    };
    let mut host = server.connect("loudsync");
    host.send(join("host", ""));
    host.receive_type("member_list");
    clients.push(JsonClient {
        name: "loudsync",
        client: host,
        question: r#"{"type":"ping","timestamp":12345}"#.to_owned(),
        answer: r#""timestamp":12345"#.to_owned(),
        error: r#""type":"error""#,
        templates: vec![
            (r#"{"type":VALUE,"timestamp":1}"#.to_owned(), Nothing),
            (
                r#"{"type":"heartbeat","timestamp":VALUE}"#.to_owned(),
                Numbers,
            ),
            (r#"{"type":"ping","timestamp":VALUE}"#.to_owned(), Numbers),
            (
                r#"{"type":"kick","timestamp":1,"memberId":VALUE}"#.to_owned(),
                Nothing,
            ),
            (
                r#"{"type":"kick","timestamp":1,"memberId":"x","reason":VALUE}"#.to_owned(),
                Nothing,
            ),
            (join("host", r#","maxMembers":VALUE"#), Nothing),
            (join("host", r#","sessionName":VALUE"#), Nothing),
            (join("host", r#","version":VALUE"#), Nothing),
            (info("id"), Nothing),
            (info("name"), Nothing),
            (info("type"), Nothing),
            (
                r#"{"type":"heartbeat","timestamp":1,"more":VALUE}"#.to_owned(),
                Anything,
            ),
        ],
    });
    let mut guest = server.connect("loudsync");
    let device = json!({
        "sessionId": "json", "deviceId": "tv", "deviceName": "TV", "version": "1.0.0",
    });
    guest.send(json!({"type": "JOIN", "timestamp": 1, "payload": device}).to_string());
    guest.receive_type("MEMBER_LIST");
    clients.push(JsonClient {
        name: "loudsync, upper-case dialect",
        client: guest,
        question: r#"{"type":"PING","timestamp":1,"payload":{"timestamp":12345}}"#.to_owned(),
        answer: r#""pingTimestamp":12345"#.to_owned(),
        error: r#""type":"ERROR""#,
        templates: vec![
            (r#"{"type":VALUE,"timestamp":1}"#.to_owned(), Nothing),
            (
                r#"{"type":"HEARTBEAT","timestamp":VALUE}"#.to_owned(),
                Numbers,
            ),
            (
                r#"{"type":"PING","timestamp":1,"payload":VALUE}"#.to_owned(),
                Nothing,
            ),
            (
                r#"{"type":"PING","timestamp":1,"payload":{"timestamp":VALUE}}"#.to_owned(),
                Numbers,
            ),
            (
                r#"{"type":"LEAVE","timestamp":1,"payload":{"reason":VALUE}}"#.to_owned(),
                Nothing,
            ),
            (
                r#"{"type":"JOIN","timestamp":1,"payload":{"sessionId":VALUE}}"#.to_owned(),
                Nothing,
            ),
            (
                r#"{"type":"HEARTBEAT","timestamp":1,"payload":{"more":VALUE}}"#.to_owned(),
                Anything,
            ),
        ],
    });
    let mut peer = server.connect_to("peerjs", "/peerjs?key=peerjs&id=json&token=t");
    peer.receive_type("OPEN");
    clients.push(JsonClient {
        name: "peerjs",
        client: peer,
        question: r#"{"type":"OFFER","dst":"json","payload":"well?"}"#.to_owned(),
        answer: r#""payload":"well?""#.to_owned(),
        // The server ignores invalid messages.
        error: "",
        templates: vec![
            (r#"{"type":VALUE,"dst":"json"}"#.to_owned(), Nothing),
            (r#"{"type":"OFFER","dst":VALUE}"#.to_owned(), Nothing),
            (
                r#"{"type":"OFFER","dst":"json","payload":VALUE}"#.to_owned(),
                Anything,
            ),
        ],
    });
    clients
}

impl JsonClient {
    /// Sends a message, then the question. Returns what the server sent before the answer, which shows that
    /// the connection is still usable. Messages that other clients cause are left out.
    fn replies_to(&mut self, message: &str) -> Vec<String> {
        self.client.skipped_texts.clear();
        self.client.send(message);
        self.client.send(self.question.as_str());
        let answer = &self.answer;
        self.client
            .receive_until(|text| text.contains(answer).then_some(()));
        // Other clients cause these at any time.
        let unrelated = [
            "PRESENCE",
            "userCount",
            "presence:update",
            "message:new",
            "member_",
        ];
        let mut replies = std::mem::take(&mut self.client.skipped_texts);
        replies.retain(|text| !unrelated.iter().any(|part| text.contains(part)));
        replies
    }

    /// Asserts that the server answers a message with one error, or ignores it if the protocol has no
    /// errors.
    fn assert_rejects(&mut self, message: &str, why: &str) {
        let replies = self.replies_to(message);
        let expected = usize::from(!self.error.is_empty());
        let name = self.name;
        assert_eq!(replies.len(), expected, "{name}, {why}: {replies:.300?}");
        for text in replies {
            assert!(text.contains(self.error), "{name}, {why}: {text:.300}");
            // Whatever the message contained, the error is valid JSON and short.
            let _: Value = serde_json::from_str(&text).unwrap();
            assert!(text.len() < 1000, "{name}, {why}: {text:.300}");
        }
    }
}

/// Starts a server whose limits on sizes and rates admit the messages of these tests.
fn start_server() -> Server {
    let common = json!({"max_message_size": 4 << 20, "outbox_size": 4 << 20});
    let overrides = [
        ("fastchat", json!({"pings_per_minute": 0})),
        (
            "workspace",
            json!({"messages_per_minute": 0, "signals_per_minute": 0}),
        ),
    ];
    Server::with_overrides(&common, &overrides)
}

#[test]
fn hostile_values_are_rejected_or_forwarded_unchanged() {
    for (what, value, is_number) in values() {
        let server = start_server();
        let mut clients = json_clients(&server);
        for client in &mut clients {
            for (message, accepted) in std::mem::take(&mut client.templates) {
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
                    client.name
                );
                // A value that is sent back is the same byte for byte.
                for text in replies {
                    assert!(text.contains(&value), "{}, {why}: {text:.300}", client.name);
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
    for (protocol, message, error) in [
        (
            "fastchat",
            r#"{"type":"HELLO","data":{"user_id":"x","display_name":VALUE}}"#,
            "ERROR",
        ),
        ("fastchat", r#"{"type":"HELLO","data":VALUE}"#, "ERROR"),
        (
            "fastchat",
            r#"{"type":"HELLO","display_name":VALUE}"#,
            "ERROR",
        ),
        (
            "fastchat",
            r#"{"type":"HELLO","user_id":VALUE,"display_name":"Ann"}"#,
            "ERROR",
        ),
        ("workspace", r#"{"type":"auth","token":VALUE}"#, "error"),
        (
            "loudsync",
            r#"{"type":"join","timestamp":1,"sessionId":VALUE}"#,
            "error",
        ),
        (
            "loudsync",
            r#"{"type":"JOIN","timestamp":1,"payload":{"sessionId":VALUE}}"#,
            "ERROR",
        ),
    ] {
        for (what, value, _) in values() {
            let mut client = server.connect(protocol);
            client.send(message.replace(VALUE, &value));
            let error = client.receive_type(error).to_string();
            assert!(error.len() < 1000, "{protocol}, {what}: {error:.300}");
            client.close_normally();
        }
        server.assert_survives_within(
            LARGE_MESSAGE_SLACK,
            &format!("JSON: hostile values in {message}"),
            "rejected",
        );
    }
    for (what, value, _) in values() {
        // The token of `auth` is a JWT, so it contains JSON, too.
        let claims = format!(r#"{{"username":{value}}}"#);
        let token = ["{}", &claims, ""]
            .map(|part| BASE64URL.encode(part.as_bytes()))
            .join(".");
        let mut client = server.connect("workspace");
        client.send(json!({"type": "auth", "token": token}).to_string());
        // Without `auth_secret` a token that cannot be read counts as none, so either answer is right.
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
