//! FastChat over sockets. The rules of its document are tested on a realm without sockets, in
//! `src/protocols/fastchat/tests`; here is what needs sockets.

use crate::common::{Client, Daemon, http, receive_http, tcp};
use serde_json::{Value, json};
use std::io::{Read, Write};

pub const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
pub const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";

pub fn daemon(settings: Value) -> Daemon {
    Daemon::start_protocol("fastchat", settings)
}

/// Returns a HELLO.
pub fn hello(id: &str, name: &str) -> String {
    json!({"type": "HELLO", "data": {"user_id": id, "display_name": name}}).to_string()
}

/// Returns the data of the next message, which must have this type.
pub fn next(client: &mut Client, kind: &str) -> Value {
    let mut message = client.receive_json();
    assert_eq!(message["type"], kind, "{message}");
    message["data"].take()
}

/// Connects, sends HELLO, and reads the HELLO_ACK and the user list.
pub fn enter(daemon: &Daemon, id: &str, name: &str) -> Client {
    let mut client = Client::connect(daemon.address(), "/ws");
    client.send(hello(id, name));
    assert_eq!(next(&mut client, "HELLO_ACK")["status"], "connected");
    next(&mut client, "PRESENCE");
    client
}

#[test]
fn two_clients_chat_until_one_disconnects() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann Lee");
    let mut bob = enter(&daemon, BOB, "Bob");
    let presence = next(&mut ann, "PRESENCE");
    assert_eq!(presence["users"].as_array().unwrap().len(), 2);
    ann.send(json!({"type": "OPEN_CHAT", "data": {"target_user_id": BOB}}).to_string());
    assert_eq!(next(&mut ann, "CHAT_OPENED")["target_display_name"], "Bob");
    assert_eq!(
        next(&mut bob, "CHAT_OPENED")["target_display_name"],
        "Ann Lee"
    );
    bob.send(json!({"type": "TYPING", "data": {"is_typing": true}}).to_string());
    assert_eq!(
        next(&mut ann, "TYPING"),
        json!({"user_id": BOB, "is_typing": true})
    );
    let data = json!({"to": ANN, "content": "Hello!", "message_id": "1"});
    bob.send(json!({"type": "MSG", "data": data}).to_string());
    assert_eq!(next(&mut ann, "MSG")["content"], "Hello!");
    assert_eq!(
        next(&mut bob, "MSG_ACK"),
        json!({"message_id": "1", "status": "delivered"})
    );
    ann.send(r#"{"type":"MSG_ACK","data":{"message_id":"1","status":"delivered"}}"#);
    bob.close();
    assert_eq!(
        next(&mut ann, "TYPING"),
        json!({"user_id": BOB, "is_typing": false})
    );
    let bob = next(&mut ann, "PRESENCE")["users"][1].take();
    assert_eq!(
        bob,
        json!({"user_id": BOB, "display_name": "Bob", "online": false})
    );
}

#[test]
fn a_live_connection_is_not_displaced() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann");
    let mut impostor = Client::connect(daemon.address(), "/ws");
    impostor.send(hello(ANN, "Impostor"));
    // Reading the probe, a Ping, queues the Pong.
    assert!(ann.socket.read().unwrap().is_ping());
    ann.socket.flush().unwrap();
    assert_eq!(next(&mut impostor, "ERROR")["code"], "UNAUTHORIZED");
    assert_eq!(
        impostor.expect_close(),
        (4409, "user is connected".to_owned())
    );
    ann.send(r#"{"type":"PING"}"#);
    next(&mut ann, "PONG");
}

#[test]
fn a_message_answers_a_probe_as_a_pong_does() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann");
    let mut impostor = Client::connect(daemon.address(), "/ws");
    impostor.send(hello(ANN, "Impostor"));
    assert!(ann.socket.read().unwrap().is_ping());
    // Written past the WebSocket library, so that the Pong stays queued in it.
    ann.send_frame(0x1, br#"{"type":"MSG_ACK"}"#);
    assert_eq!(next(&mut impostor, "ERROR")["code"], "UNAUTHORIZED");
}

#[test]
fn a_dead_connection_is_replaced() {
    let daemon = daemon(json!({"takeover_timeout": 1}));
    // This client reads nothing, and so answers no Ping, as after its cable is pulled.
    let mut dead = enter(&daemon, ANN, "Ann");
    let mut ann = enter(&daemon, ANN, "Ann");
    assert_eq!(
        dead.expect_close(),
        (4409, "connected again elsewhere".to_owned())
    );
    ann.send(r#"{"type":"PING"}"#);
    next(&mut ann, "PONG");
}

#[test]
fn a_client_that_sends_no_hello_gets_an_error_and_is_closed() {
    let daemon = daemon(json!({"hello_timeout": 1}));
    let mut client = Client::connect(daemon.address(), "/ws");
    assert_eq!(next(&mut client, "ERROR")["code"], "UNAUTHORIZED");
    assert_eq!(
        client.expect_close(),
        (4401, "no HELLO or JOIN in time".to_owned())
    );
}

#[test]
fn a_page_of_another_origin_is_rejected() {
    let with_defaults = daemon(json!({}));
    let rejection = |daemon: &Daemon, origin| {
        Client::try_connect(daemon.address(), "/ws", &[("origin", origin)]).err()
    };
    assert_eq!(rejection(&with_defaults, "https://evil.example"), Some(403));
    assert_eq!(rejection(&with_defaults, "null"), Some(403));
    assert_eq!(rejection(&with_defaults, "http://localhost:3000"), None);
    let with_origin = daemon(json!({"origins": ["https://chat.example"]}));
    assert_eq!(rejection(&with_origin, "https://chat.example"), None);
    assert_eq!(rejection(&with_origin, "http://localhost:3000"), Some(403));
}

#[test]
fn a_slow_reader_is_not_closed_for_being_asked_into_chats() {
    let settings = json!({
        "outbox_size": 64 << 10, "message_length": 60_000, "messages_per_minute": 0,
        // The reader does not read for as long as the test needs.
        "ping_after": 0,
    });
    let daemon = daemon(settings);
    let mut slow = enter(&daemon, BOB, "Bob");
    let mut ann = enter(&daemon, ANN, "Ann");
    let open_chat = json!({"type": "OPEN_CHAT", "data": {"target_user_id": BOB}}).to_string();
    ann.send(&*open_chat);
    ann.receive_type("CHAT_OPENED");
    // Fills the half of the outbox that is for other clients.
    let mut fill = |length: usize| loop {
        let data = json!({"to": BOB, "content": "x".repeat(length)});
        ann.send(json!({"type": "MSG", "data": data}).to_string());
        let answer =
            ann.receive_until(|text| (!text.contains("PRESENCE")).then(|| text.to_owned()));
        if answer.contains("MESSAGE_FAILED") {
            break;
        }
    };
    let mut asks = |number: u32| {
        fill(30_000);
        fill(1);
        let mut eve = enter(
            &daemon,
            &format!("eeeeeeee-3333-4333-8333-{number:012}"),
            "Eve",
        );
        eve.send(&*open_chat);
        let answer =
            eve.receive_until(|text| (!text.contains("PRESENCE")).then(|| text.to_owned()));
        (eve, answer)
    };
    // The reader's socket may have taken more meanwhile: then the next one asks.
    let mut eve = (0..10)
        .map(&mut asks)
        .find(|(_, answer)| answer.contains("MESSAGE_FAILED"))
        .unwrap()
        .0;
    eve.send(json!({"type": "MSG", "data": {"to": BOB, "content": "x"}}).to_string());
    assert_eq!(eve.receive_type("ERROR")["data"]["code"], "CHAT_NOT_OPENED");
    slow.send(r#"{"type":"PING"}"#);
    slow.receive_type("PONG");
    eve.send(&*open_chat);
    eve.receive_type("CHAT_OPENED");
    let opened = slow.receive_type("CHAT_OPENED");
    assert_eq!(opened["data"]["target_display_name"], "Eve");
}

/// The client of "Client Implementation" and the lines of "Example Test Messages", with UUIDs as
/// ids.
#[test]
fn the_documents_examples_work_as_printed() {
    let daemon = daemon(json!({}));
    let page = [("origin", "http://localhost:8000")];
    let mut browser = Client::try_connect(daemon.address(), "/ws", &page)
        .ok()
        .unwrap();
    browser.send(format!(
        r#"{{"type":"HELLO","data":{{"user_id":"{ANN}","display_name":"User Name"}}}}"#
    ));
    next(&mut browser, "HELLO_ACK");
    assert_eq!(
        next(&mut browser, "PRESENCE")["users"][0]["display_name"],
        "User Name"
    );
    let mut first = Client::connect(daemon.address(), "/ws");
    first.send(format!(
        r#"{{"type":"HELLO","data":{{"user_id":"{BOB}","display_name":"Test User"}}}}"#
    ));
    next(&mut first, "HELLO_ACK");
    // The document sends this on another connection, which has not sent HELLO.
    let mut second = Client::connect(daemon.address(), "/ws");
    second.send(r#"{"type":"MSG","data":{"to":"user-456","content":"Hello!"}}"#);
    assert_eq!(next(&mut second, "ERROR")["code"], "UNAUTHORIZED");
}

#[test]
fn a_message_has_at_most_64_kib() {
    let daemon = daemon(json!({}));
    let mut client = enter(&daemon, ANN, "Ann");
    let ping = |size: usize| {
        let frame = r#"{"type":"PING","more":""}"#.len();
        format!(r#"{{"type":"PING","more":"{}"}}"#, "x".repeat(size - frame))
    };
    client.send(ping(64 << 10));
    next(&mut client, "PONG");
    client.send(ping((64 << 10) + 1));
    assert_eq!(client.expect_close(), (1009, "message too big".to_owned()));
}

#[test]
fn a_flat_client_chats_with_a_client_of_the_document() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann Lee");
    let mut flat = Client::connect(daemon.address(), "/ws");
    flat.send(json!({"type": "HELLO", "user_id": BOB, "display_name": "B"}).to_string());
    assert_eq!(flat.receive_json()["message"], "connected");
    assert_eq!(flat.receive_json()["action"], "update");
    next(&mut ann, "PRESENCE");
    flat.send(json!({"type": "OPEN_CHAT", "target_user_id": ANN}).to_string());
    assert_eq!(flat.receive_json()["target_display_name"], "Ann Lee");
    assert_eq!(next(&mut ann, "CHAT_OPENED")["target_display_name"], "B");
    flat.send(json!({"type": "MSG", "content": "Hello!"}).to_string());
    assert_eq!(next(&mut ann, "MSG")["content"], "Hello!");
    assert_eq!(flat.receive_json()["type"], "MSG_ACK");
    let data = json!({"to": BOB, "content": "Hello back!"});
    ann.send(json!({"type": "MSG", "data": data}).to_string());
    assert_eq!(flat.receive_json()["sender_name"], "Ann Lee");
    flat.send(json!({"type": "MSG"}).to_string());
    assert_eq!(flat.receive_json()["error_code"], "VALIDATION");
    flat.close();
    next(&mut ann, "MSG_ACK");
    let users = next(&mut ann, "PRESENCE")["users"].take();
    assert!(
        users
            .as_array()
            .unwrap()
            .iter()
            .any(|user| user["online"] == false)
    );
}

#[test]
fn the_presence_endpoints_answer_the_front_end() {
    let daemon = daemon(json!({}));
    let _ann = enter(&daemon, ANN, "Ann Lee");
    let request = |line: &str, rest: &str| {
        let origin = "Origin: http://localhost:3000";
        let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{origin}\r\nConnection: close\r\n");
        let response = http(daemon.address(), &format!("{head}{rest}"));
        assert!(
            response.contains("\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n"),
            "{response}"
        );
        response
    };
    let response = request("GET /presence/online?exclude_user_id=x", "\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.contains("Ann Lee") && response.ends_with("\"count\":1}"),
        "{response}"
    );
    let preflight = "Access-Control-Request-Method: POST\r\n\
        Access-Control-Request-Headers: content-type\r\n\r\n";
    let response = request("OPTIONS /presence/heartbeat", preflight);
    assert!(response.starts_with("HTTP/1.1 204 "), "{response}");
    assert!(response.contains("\r\nAccess-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"));
    assert!(response.contains("\r\nAccess-Control-Allow-Headers: content-type\r\n"));
    let body = json!({"user_id": ANN, "display_name": "Ann Lee"}).to_string();
    let length = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let response = request("POST /presence/heartbeat", &format!("{length}{body}"));
    assert!(response.contains("\"status\":\"online\""), "{response}");
    for (line, rest, status) in [
        (
            "POST /presence/heartbeat",
            "Content-Length: 2\r\n\r\n{}",
            "400",
        ),
        (
            "POST /presence/heartbeat",
            "Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "400",
        ),
        (
            "POST /presence/heartbeat",
            "Content-Length: 99999\r\n\r\n{}",
            "413",
        ),
        (
            "POST /presence/heartbeat",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "411",
        ),
        ("GET /presence/heartbeat", "\r\n", "405"),
        ("GET /presence/online", "Content-Length: 2\r\n\r\n{}", "400"),
        ("GET /presence", "\r\n", "404"),
        ("DELETE /presence/online", "\r\n", "405"),
    ] {
        let response = request(line, rest);
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {response}"
        );
        assert_eq!(
            response.contains("\r\nAllow: "),
            status == "405",
            "{response}"
        );
    }
    let expects = format!("Expect: 100-continue\r\n{length}");
    let mut stream = tcp(daemon.address());
    let head =
        format!("POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{expects}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert!(receive_http(stream).starts_with("HTTP/1.1 200 OK\r\n"));
    // The bytes after a body are the next request.
    let mut stream = tcp(daemon.address());
    let first = format!("POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\n{length}{body}");
    let second = "GET /presence/online HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{first}{second}").as_bytes())
        .unwrap();
    let responses = receive_http(stream);
    assert_eq!(
        responses.matches("HTTP/1.1 200 OK\r\n").count(),
        2,
        "{responses}"
    );
    // WebSockets are accepted at the listener's own path only.
    let other_path = Client::try_connect(daemon.address(), "/presence/online", &[]);
    assert_eq!(other_path.err(), Some(404));
}
