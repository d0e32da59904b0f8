//! FastChat as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{Client, Daemon, http, receive_http, tcp};
use serde_json::{Value, json};
use std::io::{Read, Write};

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";

fn daemon(settings: Value) -> Daemon {
    Daemon::of("fastchat", settings)
}

pub fn hello(id: &str, name: &str) -> String {
    json!({"type": "HELLO", "data": {"user_id": id, "display_name": name}}).to_string()
}

/// The data of the next message, which is of this type.
pub fn next(client: &mut Client, kind: &str) -> Value {
    let mut message = client.json();
    assert_eq!(message["type"], kind, "{message}");
    message["data"].take()
}

/// Connects and says HELLO; the list that comes has been read.
pub fn enter(daemon: &Daemon, id: &str, name: &str) -> Client {
    let mut client = Client::connect(daemon.address(), "/ws");
    client.says(hello(id, name));
    assert_eq!(next(&mut client, "HELLO_ACK")["status"], "connected");
    next(&mut client, "PRESENCE");
    client
}

#[test]
fn two_clients_meet_talk_and_part() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann Lee");
    let mut bob = enter(&daemon, BOB, "Bob");
    let seen = next(&mut ann, "PRESENCE");
    assert_eq!(seen["users"].as_array().unwrap().len(), 2);
    ann.says(json!({"type": "OPEN_CHAT", "data": {"target_user_id": BOB}}).to_string());
    assert_eq!(next(&mut ann, "CHAT_OPENED")["target_display_name"], "Bob");
    assert_eq!(
        next(&mut bob, "CHAT_OPENED")["target_display_name"],
        "Ann Lee"
    );
    bob.says(json!({"type": "TYPING", "data": {"is_typing": true}}).to_string());
    assert_eq!(
        next(&mut ann, "TYPING"),
        json!({"user_id": BOB, "is_typing": true})
    );
    let data = json!({"to": ANN, "content": "Hello!", "message_id": "1"});
    bob.says(json!({"type": "MSG", "data": data}).to_string());
    assert_eq!(next(&mut ann, "MSG")["content"], "Hello!");
    assert_eq!(
        next(&mut bob, "MSG_ACK"),
        json!({"message_id": "1", "status": "delivered"})
    );
    ann.says(r#"{"type":"MSG_ACK","data":{"message_id":"1","status":"delivered"}}"#);
    bob.leaves();
    assert_eq!(
        next(&mut ann, "TYPING"),
        json!({"user_id": BOB, "is_typing": false})
    );
    let gone = next(&mut ann, "PRESENCE")["users"][1].take();
    assert_eq!(
        gone,
        json!({"user_id": BOB, "display_name": "Bob", "online": false})
    );
}

#[test]
fn a_live_user_cannot_be_pushed_out() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann");
    let mut impostor = Client::connect(daemon.address(), "/ws");
    impostor.says(hello(ANN, "Impostor"));
    // Reading answers the server's Ping.
    assert!(ann.socket.read().unwrap().is_ping());
    ann.socket.flush().unwrap();
    assert_eq!(next(&mut impostor, "ERROR")["code"], "UNAUTHORIZED");
    assert_eq!(impostor.closed(), (4409, "user is connected".to_owned()));
    ann.says(r#"{"type":"PING"}"#);
    next(&mut ann, "PONG");
}

#[test]
fn a_message_is_as_good_a_sign_of_life_as_a_pong() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann");
    let mut impostor = Client::connect(daemon.address(), "/ws");
    impostor.says(hello(ANN, "Impostor"));
    assert!(ann.socket.read().unwrap().is_ping());
    // A frame of its own making; the answer to the Ping stays where it is.
    ann.sends_frame(0x1, br#"{"type":"MSG_ACK"}"#);
    assert_eq!(next(&mut impostor, "ERROR")["code"], "UNAUTHORIZED");
}

#[test]
fn a_dead_connection_is_replaced() {
    let daemon = daemon(json!({"takeover_timeout": 1}));
    // It reads nothing, and so answers nothing, as when its cable is pulled.
    let mut dead = enter(&daemon, ANN, "Ann");
    let mut ann = enter(&daemon, ANN, "Ann");
    assert_eq!(
        dead.closed(),
        (4409, "connected again elsewhere".to_owned())
    );
    ann.says(r#"{"type":"PING"}"#);
    next(&mut ann, "PONG");
}

#[test]
fn who_never_says_hello_is_told_so_and_closed() {
    let daemon = daemon(json!({"hello_timeout": 1}));
    let mut client = Client::connect(daemon.address(), "/ws");
    assert_eq!(next(&mut client, "ERROR")["code"], "UNAUTHORIZED");
    assert_eq!(
        client.closed(),
        (4401, "no HELLO or JOIN in time".to_owned())
    );
}

#[test]
fn a_foreign_page_may_not_connect() {
    let foreign = daemon(json!({}));
    let from = |daemon: &Daemon, origin| {
        Client::try_connect(daemon.address(), "/ws", &[("origin", origin)]).err()
    };
    assert_eq!(from(&foreign, "https://evil.example"), Some(403));
    assert_eq!(from(&foreign, "null"), Some(403));
    assert_eq!(from(&foreign, "http://localhost:3000"), None);
    let allowed = daemon(json!({"origins": ["https://chat.example"]}));
    assert_eq!(from(&allowed, "https://chat.example"), None);
    assert_eq!(from(&allowed, "http://localhost:3000"), Some(403));
}

/// The client of "Client Implementation" and the lines of "Example Test Messages", but for the
/// ids: those are UUIDs.
#[test]
fn the_documents_examples_work_as_printed() {
    let daemon = daemon(json!({}));
    let page = [("origin", "http://localhost:8000")];
    let mut browser = Client::try_connect(daemon.address(), "/ws", &page)
        .ok()
        .unwrap();
    browser.says(format!(
        r#"{{"type":"HELLO","data":{{"user_id":"{ANN}","display_name":"User Name"}}}}"#
    ));
    next(&mut browser, "HELLO_ACK");
    assert_eq!(
        next(&mut browser, "PRESENCE")["users"][0]["display_name"],
        "User Name"
    );
    let mut first = Client::connect(daemon.address(), "/ws");
    first.says(format!(
        r#"{{"type":"HELLO","data":{{"user_id":"{BOB}","display_name":"Test User"}}}}"#
    ));
    next(&mut first, "HELLO_ACK");
    // It is a connection of its own, on which nobody has said HELLO.
    let mut second = Client::connect(daemon.address(), "/ws");
    second.says(r#"{"type":"MSG","data":{"to":"user-456","content":"Hello!"}}"#);
    assert_eq!(next(&mut second, "ERROR")["code"], "UNAUTHORIZED");
}

#[test]
fn a_message_may_have_64_kibibytes_and_not_more() {
    let daemon = daemon(json!({}));
    let mut client = enter(&daemon, ANN, "Ann");
    let ping = |size: usize| {
        let frame = r#"{"type":"PING","more":""}"#.len();
        format!(r#"{{"type":"PING","more":"{}"}}"#, "x".repeat(size - frame))
    };
    client.says(ping(64 << 10));
    next(&mut client, "PONG");
    client.says(ping((64 << 10) + 1));
    assert_eq!(client.closed(), (1009, "message too big".to_owned()));
}

#[test]
fn the_published_front_end_talks_with_a_client_of_the_document() {
    let daemon = daemon(json!({}));
    let mut ann = enter(&daemon, ANN, "Ann Lee");
    let mut flat = Client::connect(daemon.address(), "/ws");
    flat.says(json!({"type": "HELLO", "user_id": BOB, "display_name": "B"}).to_string());
    assert_eq!(flat.json()["message"], "connected");
    assert_eq!(flat.json()["action"], "update");
    next(&mut ann, "PRESENCE");
    flat.says(json!({"type": "OPEN_CHAT", "target_user_id": ANN}).to_string());
    assert_eq!(flat.json()["target_display_name"], "Ann Lee");
    assert_eq!(next(&mut ann, "CHAT_OPENED")["target_display_name"], "B");
    flat.says(json!({"type": "MSG", "content": "Hello!"}).to_string());
    assert_eq!(next(&mut ann, "MSG")["content"], "Hello!");
    assert_eq!(flat.json()["type"], "MSG_ACK");
    let data = json!({"to": BOB, "content": "Hello back!"});
    ann.says(json!({"type": "MSG", "data": data}).to_string());
    assert_eq!(flat.json()["sender_name"], "Ann Lee");
    flat.says(json!({"type": "MSG"}).to_string());
    assert_eq!(flat.json()["error_code"], "VALIDATION");
    flat.leaves();
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
fn the_endpoints_of_the_front_end() {
    let daemon = daemon(json!({}));
    let _ann = enter(&daemon, ANN, "Ann Lee");
    let ask = |request: &str, rest: &str| {
        let origin = "Origin: http://localhost:3000";
        let head = format!("{request} HTTP/1.1\r\nHost: h\r\n{origin}\r\nConnection: close\r\n");
        let answer = http(daemon.address(), &format!("{head}{rest}"));
        assert!(
            answer.contains("\r\nAccess-Control-Allow-Origin: http://localhost:3000\r\n"),
            "{answer}"
        );
        answer
    };
    let answer = ask("GET /presence/online?exclude_user_id=x", "\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("Ann Lee") && answer.ends_with("\"count\":1}"),
        "{answer}"
    );
    let wanted = "Access-Control-Request-Method: POST\r\n\
        Access-Control-Request-Headers: content-type\r\n\r\n";
    let answer = ask("OPTIONS /presence/heartbeat", wanted);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(answer.contains("\r\nAccess-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"));
    assert!(answer.contains("\r\nAccess-Control-Allow-Headers: content-type\r\n"));
    let body = json!({"user_id": ANN, "display_name": "Ann Lee"}).to_string();
    let length = format!(
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = ask("POST /presence/heartbeat", &format!("{length}{body}"));
    assert!(answer.contains("\"status\":\"online\""), "{answer}");
    for (request, rest, status) in [
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
        let answer = ask(request, rest);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert_eq!(answer.contains("\r\nAllow: "), status == "405", "{answer}");
    }
    let waits = format!("Expect: 100-continue\r\n{length}");
    let mut stream = tcp(daemon.address());
    let head =
        format!("POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{waits}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    assert!(receive_http(stream).starts_with("HTTP/1.1 200 OK\r\n"));
    // What stands behind a body is the next request.
    let mut stream = tcp(daemon.address());
    let first = format!("POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\n{length}{body}");
    let second = "GET /presence/online HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{first}{second}").as_bytes())
        .unwrap();
    let answers = receive_http(stream);
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK\r\n").count(),
        2,
        "{answers}"
    );
    // And a WebSocket is at its own path alone.
    let elsewhere = Client::try_connect(daemon.address(), "/presence/online", &[]);
    assert_eq!(elsewhere.err(), Some(404));
}
