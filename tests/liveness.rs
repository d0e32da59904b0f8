//! Who is still there, and who only seems to be.

use crate::common::{Client, DEADLINE, Daemon, masked_frame};
use crate::fastchat::{enter, hello, next};
use crate::peerdrop::pair;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::io::Write;
use std::thread;
use std::time::Instant;

#[test]
fn a_client_that_does_not_answer_a_ping_is_dropped_and_its_peer_is_told() {
    // Time enough for the pair to meet, and for the peer, which answers, to have its turn.
    let daemon = Daemon::of("peerdrop", json!({"ping_after": 1, "pong_timeout": 20}));
    // It reads nothing, and so answers nothing, as when its cable is pulled.
    let (silent, mut peer) = pair(&daemon);
    assert_eq!(peer.closed(), (1000, "peer left".to_owned()));
    daemon.logs("silent");
    drop(silent);
}

#[test]
fn a_client_that_answers_pings_may_be_silent_otherwise() {
    // A Ping is sent only where the last one was answered, so that three of them say enough, however long
    // an answer may take.
    let daemon = Daemon::of("peerdrop", json!({"ping_after": 1, "pong_timeout": 3600}));
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
        "ping_after": 1, "pong_timeout": 5, "takeover_timeout": 1,
        "messages_per_minute": 0, "typing_per_minute": 0, "message_length": 30_000,
    });
    let daemon = Daemon::of("fastchat", settings);
    let [ann, bob] = [
        "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa",
        "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb",
    ];
    let mut deaf = enter(&daemon, ann, "Ann");
    set_socket_recv_buffer_size(&deaf.socket.get_ref().0, 64 * 1024).unwrap();
    let mut other = enter(&daemon, bob, "Bob");
    let open = json!({"type": "OPEN_CHAT", "data": {"target_user_id": ann}});
    other.says(open.to_string());
    next(&mut other, "CHAT_OPENED");
    // Until its socket and its outbox take no more. However long that takes, the client is alive: it
    // says that it types, and the other hears of it.
    let data = json!({"to": ann, "content": "x".repeat(30_000)});
    let msg = json!({"type": "MSG", "data": data}).to_string();
    let mut answer = json!({"type": "MSG_ACK"});
    let mut is_typing = false;
    while answer["type"] == "MSG_ACK" {
        is_typing = !is_typing;
        let data = json!({"is_typing": is_typing});
        deaf.says(json!({"type": "TYPING", "data": data}).to_string());
        assert_eq!(next(&mut other, "TYPING")["is_typing"], is_typing);
        other.says(msg.as_str());
        answer = other.json();
    }
    assert_eq!(answer["data"]["code"], "MESSAGE_FAILED");
    // It gives no sign of life while it is asked, and many afterwards. On a loaded machine its socket may
    // take the last of what fits only now, and that is a sign of life; then the question is repeated.
    let since = Instant::now();
    let _again = loop {
        let mut again = Client::connect(daemon.address(), "/ws");
        again.says(hello(ann, "Ann"));
        let answer = again.json();
        if answer["type"] == "HELLO_ACK" {
            break again;
        }
        assert_eq!(answer["data"]["message"], "user is connected");
        assert!(since.elapsed() < DEADLINE, "it lives on");
    };
    let flood = thread::spawn(move || {
        let stream = &mut deaf.socket.get_mut().0;
        while stream.write_all(&masked_frame(0x1, b"here I am")).is_ok() {}
    });
    daemon.logs("fastchat #1: silent");
    flood.join().unwrap();
}
