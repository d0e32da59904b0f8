//! FastChat as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{Client, Daemon, with};
use serde_json::{Value, json};

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";

/// A daemon that has all the time in the world for its clients, unless it is told otherwise.
fn daemon(settings: Value) -> Daemon {
    let patient = json!({"hello_timeout": 0, "takeover_timeout": 3600});
    Daemon::of("fastchat", with(patient, &settings))
}

fn hello(id: &str, name: &str) -> String {
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
