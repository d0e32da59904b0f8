//! Who is still there, and who only seems to be.

use crate::common::{Client, Daemon, masked_frame};
use crate::fastchat::{enter, next};
use crate::peerdrop::pair;
use serde_json::json;
use std::io::Write;
use std::thread;

fn impatient() -> Daemon {
    Daemon::with(json!({"protocol": "peerdrop", "ping_after": 1, "pong_timeout": 5}))
}

#[test]
fn a_client_that_does_not_answer_a_ping_is_dropped_and_its_peer_is_told() {
    let daemon = impatient();
    // It reads nothing, and so answers nothing, as when its cable is pulled.
    let (silent, mut peer) = pair(&daemon);
    assert_eq!(peer.closed(), (1000, "peer left".to_owned()));
    daemon.logs("silent");
    drop(silent);
}

#[test]
fn a_client_that_answers_pings_may_be_silent_otherwise() {
    let daemon = impatient();
    let mut waiting = Client::connect(daemon.address(), "/ws/chat");
    let code = waiting.text();
    let mut pings = 0;
    while pings < 3 {
        let message = waiting.socket.read().unwrap();
        assert!(message.is_ping(), "{message:?}");
        waiting.socket.flush().unwrap();
        pings += 1;
    }
    assert_eq!(
        Client::connect(daemon.address(), &format!("/ws/chat/{code}")).text(),
        code
    );
}

#[test]
fn who_is_closed_and_takes_nothing_does_not_live_on_by_what_it_sends() {
    let settings = json!({
        "ping_after": 4, "pong_timeout": 1, "takeover_timeout": 1,
        "messages_per_minute": 0, "message_length": 30_000,
    });
    let daemon = Daemon::of("fastchat", settings);
    let [ann, bob] = [
        "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa",
        "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb",
    ];
    let mut deaf = enter(&daemon, ann, "Ann");
    let mut other = enter(&daemon, bob, "Bob");
    let open = json!({"type": "OPEN_CHAT", "data": {"target_user_id": ann}});
    other.says(open.to_string());
    next(&mut other, "CHAT_OPENED");
    // Until its socket and its outbox take no more.
    let data = json!({"to": ann, "content": "x".repeat(30_000)});
    let msg = json!({"type": "MSG", "data": data}).to_string();
    let mut answer = json!({"type": "MSG_ACK"});
    while answer["type"] == "MSG_ACK" {
        other.says(msg.as_str());
        answer = other.json();
    }
    assert_eq!(answer["data"]["code"], "MESSAGE_FAILED");
    // It gives no sign of life while it is asked, and many afterwards.
    let _again = enter(&daemon, ann, "Ann");
    let flood = thread::spawn(move || {
        let stream = &mut deaf.socket.get_mut().0;
        while stream.write_all(&masked_frame(0x1, b"here I am")).is_ok() {}
    });
    daemon.logs("fastchat #1: silent");
    flood.join().unwrap();
}
