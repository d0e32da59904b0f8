//! Clients that read more slowly than other clients send to them: backpressure and closing with 1013.

use crate::common::{Client, DEADLINE, Daemon};
use crate::peerdrop::pair;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::time::Duration;

/// The size of one message, in bytes.
const MESSAGE: usize = 64 * 1024;

#[test]
fn a_peerdrop_sender_is_paused_while_its_peer_does_not_read_and_no_message_is_lost() {
    const MESSAGES: usize = 600;
    let daemon = Daemon::start_protocol("peerdrop", json!({}));
    let (mut sender, mut recipient) = pair(&daemon);
    let message = |number: usize| format!("{number:08}{}", "x".repeat(MESSAGE - 8));
    let before = daemon.resident();
    sender
        .socket
        .get_mut()
        .0
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut number = 0;
    // A write that times out means that the server has paused the sender. On a slow machine this may
    // happen earlier, which does no harm.
    while number < MESSAGES && sender.socket.send(message(number).into()).is_ok() {
        number += 1;
    }
    assert!(
        number < MESSAGES,
        "the sender is not paused: 40 MB were accepted for a peer that reads nothing"
    );
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sender
                .socket
                .get_mut()
                .0
                .set_write_timeout(Some(DEADLINE))
                .unwrap();
            // The message whose write timed out is still in the client's buffer.
            sender.socket.flush().unwrap();
            (number + 1..MESSAGES).for_each(|number| sender.send(message(number)));
        });
        for number in 0..MESSAGES {
            assert!(
                recipient.receive_text() == message(number),
                "message {number} is not the one that was sent"
            );
        }
    });
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
}

#[test]
fn a_sender_receives_messages_of_its_peer_whether_it_is_paused_or_not() {
    let daemon = Daemon::start_listener(json!({"protocol": "peerdrop", "outbox_size": 1024}));
    let (mut sender, mut recipient) = pair(&daemon);
    for number in 0..200 {
        sender.send("x".repeat(10_000));
        recipient.send(number.to_string());
        assert_eq!(sender.receive_text(), number.to_string());
        assert_eq!(recipient.receive_text().len(), 10_000);
    }
}

#[test]
fn a_paused_sender_is_closed_when_its_peer_disconnects() {
    let daemon = Daemon::start_protocol("peerdrop", json!({}));
    let (mut sender, recipient) = pair(&daemon);
    sender
        .socket
        .get_mut()
        .0
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    while sender.socket.send("x".repeat(MESSAGE).into()).is_ok() {}
    recipient.abort();
    daemon.wait_for_log("peer left");
}

#[test]
fn a_workspace_client_that_reads_nothing_is_closed_and_the_others_receive_every_message() {
    const MESSAGES: usize = 150;
    let daemon = Daemon::start_listener(json!({
        "protocol": "workspace", "messages_per_minute": 0, "text_per_minute": 0,
        "large_text_per_second": 0,
    }));
    let enter = |name: &str| {
        let mut client = Client::connect(daemon.address(), &format!("/ws?username={name}"));
        assert_eq!(client.receive_json()["type"], "connected");
        client
    };
    let mut sender = enter("sender");
    let mut readers: Vec<Client> = (0..5)
        .map(|number| enter(&format!("reader{number}")))
        .collect();
    let mut silent = enter("silent");
    // The messages must not all fit into the buffers of the system.
    set_socket_recv_buffer_size(&silent.socket.get_ref().0, 64 * 1024).unwrap();
    for number in 0..MESSAGES {
        let text = format!("{number} {}", "x".repeat(MESSAGE));
        sender.send(json!({"type": "message:send", "text": text}).to_string());
        for reader in readers.iter_mut().chain([&mut sender]) {
            assert!(next_text(reader).starts_with(&format!("{number} ")));
        }
    }
    // When the client reads at last, it receives the messages sent until then, whole, and the Close frame.
    let mut received = 0;
    let close = loop {
        match silent.socket.read().expect("messages, then a Close frame") {
            async_tungstenite::tungstenite::Message::Text(_) => received += 1,
            async_tungstenite::tungstenite::Message::Close(close) => break close.unwrap(),
            _ => {}
        }
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1013, "too slow")
    );
    assert!(
        received < MESSAGES,
        "the client received every message before it was closed"
    );
    daemon.wait_for_log("too slow");
}

/// Returns the text of the next chat message and what follows it, without the cost of parsing JSON.
fn next_text(client: &mut Client) -> String {
    loop {
        let message = client.receive_text();
        if let Some((_, text)) = message.split_once(r#""text":""#) {
            return text.to_owned();
        }
    }
}
