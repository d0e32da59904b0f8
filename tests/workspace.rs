//! Workspace over sockets. The rules of its document are tested on a realm without sockets, in
//! `src/protocols/workspace/tests`; here is what needs sockets.

use crate::common::tokens::{HS256, sign};
use crate::common::{Client, Daemon, handshake, tcp, wait_until};
use serde_json::{Value, json};
use std::io::Write;

fn daemon() -> Daemon {
    Daemon::start_listener(json!({"protocol": "workspace"}))
}

/// Connects under a name, and reads the greeting.
pub fn enter(daemon: &Daemon, name: &str) -> Client {
    let mut client = Client::connect(daemon.address(), &format!("/ws?username={name}"));
    assert_eq!(client.receive_json()["type"], "connected");
    client
}

/// Returns the types and data of the next messages.
fn types_and_data(client: &mut Client, count: usize) -> Vec<(String, Value)> {
    let split = |message: Value| {
        (
            message["type"].as_str().unwrap().to_owned(),
            message["data"].clone(),
        )
    };
    (0..count).map(|_| split(client.receive_json())).collect()
}

/// Returns the next message that is not a `userCount`. One of those may be sent every second.
pub fn skip_counts(client: &mut Client) -> Value {
    loop {
        let message = client.receive_json();
        if message["type"] != "userCount" {
            return message;
        }
    }
}

#[test]
fn two_clients_chat_until_one_disconnects() {
    let daemon = daemon();
    let mut john = enter(&daemon, "john_doe");
    let mut jane = enter(&daemon, "jane%20doe");
    jane.send(r#"{"type":"typing:indicator","isTyping":true}"#);
    jane.send(r#"{"type":"message:send","text":"Hello <b>everyone</b>!"}"#);
    jane.send(r#"{"type":"presence:update","status":"busy"}"#);
    let received = types_and_data(&mut john, 4);
    let types: Vec<&str> = received.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        types,
        [
            "presence:update",
            "typing:indicator",
            "message:new",
            "presence:update"
        ]
    );
    assert!(
        received
            .iter()
            .all(|(_, data)| data["username"] == "jane doe")
    );
    assert_eq!(received[2].1["text"], "Hello everyone!");
    assert_eq!(received[3].1["status"], "busy");
    assert_eq!(jane.receive_json()["type"], "message:new");
    jane.close();
    let received = types_and_data(&mut john, 2);
    assert_eq!(received[0].1["isTyping"], false);
    assert_eq!(received[1].1["status"], "offline");
}

#[test]
fn an_electron_client_joins_chats_and_leaves() {
    let daemon = Daemon::start_listener(json!({"protocol": "workspace", "auth_secret": "secret"}));
    let mut document = enter(&daemon, "bob");
    let mut electron = Client::connect(daemon.address(), "/ws");
    assert_eq!(electron.receive_json()["type"], "connected");
    electron.send(r#"{"type":"auth","token":"nonsense"}"#);
    assert_eq!(skip_counts(&mut electron)["code"], "UNAUTHORIZED");
    let token = sign(HS256, json!({"username": "Ann"}), "secret");
    electron.send(json!({"type": "auth", "token": token}).to_string());
    let ack = json!({"type": "auth:ack", "ok": true});
    assert_eq!(skip_counts(&mut electron), ack);
    let count = json!({"type": "userCount", "count": 2, "users": ["Ann", "bob"]});
    assert_eq!(electron.receive_json(), count);
    electron.send(r#"{"type":"message","text":"Hello","replyTo":"msg_1"}"#);
    let message = electron.receive_json();
    assert_eq!(message["type"], "message:new");
    assert_eq!(
        (&message["data"]["username"], &message["data"]["replyTo"]),
        (&json!("Ann"), &json!("msg_1"))
    );
    let received = types_and_data(&mut document, 4);
    let [statuses, names] =
        ["status", "username"].map(|field| received.iter().map(move |(_, data)| &data[field]));
    let statuses: Vec<&Value> = statuses.take(3).collect();
    assert_eq!(statuses, ["online", "offline", "online"]);
    assert!(names.skip(2).all(|name| name == "Ann"));
    document.send(r#"{"type":"message:send","text":"Hi"}"#);
    assert_eq!(document.receive_json()["data"]["text"], "Hi");
    assert_eq!(electron.receive_json()["data"]["text"], "Hi");
    electron.close();
    let (_, presence) = types_and_data(&mut document, 1).remove(0);
    assert_eq!(
        (&presence["username"], &presence["status"]),
        (&json!("Ann"), &json!("offline"))
    );
}

#[test]
fn errors_keep_their_place_among_the_responses() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    let mut batch = Vec::new();
    for text in [
        "nonsense",
        r#"{"type":"message:send","text":"1"}"#,
        r#"{"type":"x"}"#,
        r#"{"type":"message:send","text":"2"}"#,
    ] {
        batch.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        batch.extend(text.as_bytes());
    }
    client.send_raw(&batch);
    let codes_and_texts: Vec<Value> = (0..4)
        .map(|_| client.receive_json())
        .map(|message| {
            if message["type"] == "error" {
                message["code"].clone()
            } else {
                message["data"]["text"].clone()
            }
        })
        .collect();
    assert_eq!(codes_and_texts, ["INVALID_JSON", "1", "UNKNOWN_TYPE", "2"]);
}

#[test]
fn a_fourth_connection_of_a_user_gets_429() {
    let daemon = daemon();
    let _three: Vec<Client> = ["ann", "Ann", "ANN"]
        .iter()
        .map(|name| enter(&daemon, name))
        .collect();
    let fourth = Client::try_connect(daemon.address(), "/ws?username=ann", &[]);
    assert_eq!(fourth.err(), Some(429));
    enter(&daemon, "bob");
}

#[test]
fn a_phone_takes_the_place_of_its_own_dead_connection() {
    let daemon = Daemon::start_listener(json!({
        "protocol": "workspace", "takeover_after": 0, "takeover_timeout": 1,
    }));
    // Clients that are not read answer no Ping.
    let mut dead: Vec<Client> = (0..3).map(|_| enter(&daemon, "ann")).collect();
    enter(&daemon, "ann");
    let replaced = (4409, "connected again elsewhere".to_owned());
    assert_eq!(dead[0].expect_close(), replaced);
}

#[test]
fn a_client_that_waits_and_goes_leaves_nothing_behind() {
    let daemon = Daemon::start_listener(json!({
        "protocol": "workspace", "takeover_after": 0, "takeover_timeout": 3600,
    }));
    let mut three: Vec<Client> = (0..3).map(|_| enter(&daemon, "ann")).collect();
    let before = daemon.open_sockets();
    let mut waiting = tcp(daemon.address());
    let request = handshake("/ws?username=ann");
    waiting.write_all(request.as_bytes()).unwrap();
    // The connections are probed, so it waits.
    assert!(three[0].socket.read().unwrap().is_ping());
    drop(waiting);
    wait_until("the handshake ends", || daemon.open_sockets() == before);
    three.pop().unwrap().close();
    enter(&daemon, "ann");
}

#[test]
fn an_idle_connection_is_closed() {
    let daemon = Daemon::start_listener(json!({"protocol": "workspace", "idle_timeout": 1}));
    assert_eq!(
        enter(&daemon, "a").expect_close(),
        (4408, "timed out".to_owned())
    );
}

#[test]
fn a_message_has_at_most_1_mib() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    let message = |size: usize| {
        let text = json!({"type": "message:send", "text": "x".repeat(size)}).to_string();
        assert!(text.len() >= size);
        text
    };
    let frame = message(0).len();
    client.send(message((1 << 20) - frame));
    assert_eq!(
        client.receive_json()["data"]["text"]
            .as_str()
            .unwrap()
            .len(),
        (1 << 20) - frame
    );
    client.send(message((1 << 20) - frame + 1));
    assert_eq!(client.expect_close(), (1009, "message too big".to_owned()));
}

#[test]
fn a_binary_message_gets_an_error() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    client.send_frame(0x2, br#"{"type":"message:send","text":"x"}"#);
    assert_eq!(client.receive_json()["code"], "INVALID_MESSAGE");
}

#[test]
fn two_listeners_have_separate_realms() {
    let daemon =
        Daemon::start(json!({"listeners": [{"protocol": "workspace"}, {"protocol": "workspace"}]}));
    let mut here = Client::connect(daemon.addresses[0], "/ws?username=a");
    let mut there = Client::connect(daemon.addresses[1], "/ws?username=a");
    assert_eq!(here.receive_json()["connectedUsers"], 1);
    assert_eq!(there.receive_json()["connectedUsers"], 1);
    here.send(r#"{"type":"message:send","text":"here"}"#);
    assert_eq!(here.receive_json()["data"]["text"], "here");
    there.send(r#"{"type":"message:send","text":"there"}"#);
    assert_eq!(there.receive_json()["data"]["text"], "there");
}
