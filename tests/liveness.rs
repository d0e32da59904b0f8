//! Keepalive: Pings, and the clients that do not answer them.

use crate::common::{Client, DEADLINE, Daemon, masked_frame};
use crate::fastchat::{enter, hello, next};
use crate::peerdrop::pair;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::io::Write;
use std::thread;
use std::time::Instant;

#[test]
fn a_client_that_does_not_answer_a_ping_is_dropped_and_its_peer_is_closed() {
    // Long enough for the pair to meet, and for the peer to answer its own Pings on a loaded machine.
    let daemon = Daemon::start_protocol("peerdrop", json!({"ping_after": 1, "pong_timeout": 20}));
    // This client reads nothing, and so answers no Ping, as after its cable is pulled.
    let (silent, mut peer) = pair(&daemon);
    assert_eq!(peer.expect_close(), (1000, "peer left".to_owned()));
    daemon.wait_for_log("silent");
    drop(silent);
}

#[test]
fn a_client_that_answers_pings_need_not_send_anything_else() {
    // A Ping is sent only if the last one was answered, so three Pings show that answers keep a client
    // connected, however long an answer takes.
    let daemon = Daemon::start_protocol("peerdrop", json!({"ping_after": 1, "pong_timeout": 3600}));
    let mut waiting = Client::connect(daemon.address(), "/ws/chat");
    let code = waiting.receive_text();
    wait_for_pings(&mut waiting, 3);
    assert_eq!(
        Client::connect(daemon.address(), &format!("/ws/chat/{code}")).receive_text(),
        code
    );
}

/// Reads this many Pings of a waiting PeerDrop client, and answers them.
fn wait_for_pings(waiting: &mut Client, count: usize) {
    for _ in 0..count {
        let message = waiting.socket.read().unwrap();
        assert!(message.is_ping(), "{message:?}");
        waiting.socket.flush().unwrap();
    }
}

#[test]
fn a_client_that_is_still_receiving_what_was_sent_before_the_ping_is_not_dropped() {
    // 2 s of silence and 2 s for the Pong, and 100 s for what is on its way. A client of the other listener
    // is sent a Ping each second, which tells how much time has passed.
    let config = json!({"listeners": [
        {"protocol": "workspace", "ping_after": 2, "pong_timeout": 2},
        {"protocol": "peerdrop", "ping_after": 1, "pong_timeout": 3600},
    ]});
    let daemon = Daemon::start(config);
    let [workspace, peerdrop] = daemon.addresses[..] else {
        panic!("two listeners");
    };
    let mut waiting = Client::connect(peerdrop, "/ws/chat");
    waiting.receive_text();
    let mut sender = Client::connect(workspace, "/ws?username=sender");
    let mut slow = Client::connect(workspace, "/ws?username=slow");
    let text = "x".repeat(200 << 10);
    sender.send(json!({"type": "message:send", "text": text}).to_string());
    sender.receive_type("message:new");
    sender.close();
    wait_for_pings(&mut waiting, 7);
    assert_eq!(slow.receive_type("message:new")["data"]["text"], text);
    // By now it has answered the Ping that follows.
    slow.ping();
}

#[test]
fn a_closed_client_that_reads_nothing_times_out_although_it_sends() {
    let settings = json!({
        "ping_after": 1, "pong_timeout": 5, "takeover_timeout": 1,
        "messages_per_minute": 0, "typing_per_minute": 0, "message_length": 30_000,
    });
    let daemon = Daemon::start_protocol("fastchat", settings);
    let [ann, bob] = [
        "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa",
        "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb",
    ];
    let mut reads_nothing = enter(&daemon, ann, "Ann");
    set_socket_recv_buffer_size(&reads_nothing.socket.get_ref().0, 64 * 1024).unwrap();
    let mut other = enter(&daemon, bob, "Bob");
    let open = json!({"type": "OPEN_CHAT", "data": {"target_user_id": ann}});
    other.send(open.to_string());
    next(&mut other, "CHAT_OPENED");
    // Fills the socket and the outbox of the client. However long that takes, the client is alive: its
    // TYPING messages arrive.
    let data = json!({"to": ann, "content": "x".repeat(30_000)});
    let msg = json!({"type": "MSG", "data": data}).to_string();
    let mut response = json!({"type": "MSG_ACK"});
    let mut is_typing = false;
    while response["type"] == "MSG_ACK" {
        is_typing = !is_typing;
        let data = json!({"is_typing": is_typing});
        reads_nothing.send(json!({"type": "TYPING", "data": data}).to_string());
        assert_eq!(next(&mut other, "TYPING")["is_typing"], is_typing);
        other.send(msg.as_str());
        response = other.receive_json();
    }
    assert_eq!(response["data"]["code"], "MESSAGE_FAILED");
    // The client shows no activity while it is probed, and much afterwards. On a loaded machine its
    // socket may accept the last bytes only during the probe, which counts as activity; then the
    // takeover is tried again.
    let since = Instant::now();
    let _successor = loop {
        let mut successor = Client::connect(daemon.address(), "/ws");
        successor.send(hello(ann, "Ann"));
        let response = successor.receive_json();
        if response["type"] == "HELLO_ACK" {
            break successor;
        }
        assert_eq!(response["data"]["message"], "user is connected");
        assert!(
            since.elapsed() < DEADLINE,
            "the connection is not taken over"
        );
    };
    let flood = thread::spawn(move || {
        let stream = &mut reads_nothing.socket.get_mut().0;
        while stream.write_all(&masked_frame(0x1, b"here I am")).is_ok() {}
    });
    daemon.wait_for_log("fastchat #1: silent");
    flood.join().unwrap();
}

/// Connects to PeerDrop, and sends a fragment of a message that does not follow.
fn begin_message(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address(), "/ws/chat");
    client.receive_text();
    // FIN is not set.
    let mut fragment = masked_frame(0x1, b"Once upon a time");
    fragment[0] = 0x1;
    client.send_raw(&fragment);
    client
}

#[test]
fn a_message_that_does_not_end_closes_its_connection() {
    let daemon = Daemon::start_protocol("peerdrop", json!({"message_timeout": 1}));
    let mut client = begin_message(&daemon);
    // It gives signs of life, and no more of the message.
    client.ping();
    assert_eq!(
        client.expect_close(),
        (1008, "unfinished message".to_owned())
    );
    let (mut one, mut other) = pair(&daemon);
    one.send("whole");
    assert_eq!(other.receive_text(), "whole");
}

#[test]
fn a_sender_that_is_not_read_from_may_have_an_unfinished_message() {
    let daemon = Daemon::start_protocol("peerdrop", json!({"message_timeout": 1}));
    let (mut sender, mut recipient) = pair(&daemon);
    let (message, count) = ("x".repeat(1_000_000), 20);
    thread::scope(|scope| {
        scope.spawn(|| (0..count).for_each(|_| sender.send(message.clone())));
        // Meanwhile the time has passed several times: for these, which are read from.
        for _ in 0..3 {
            assert_eq!(begin_message(&daemon).expect_close().0, 1008);
        }
        for _ in 0..count {
            assert!(recipient.receive_text() == message);
        }
    });
}
