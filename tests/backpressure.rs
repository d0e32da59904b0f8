//! Clients that read more slowly than others write.

use crate::common::{Client, DEADLINE, Daemon};
use crate::peerdrop::pair;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::time::Duration;

/// What one message of these tests weighs.
const MESSAGE: usize = 64 * 1024;

#[test]
fn a_peerdrop_sender_waits_for_its_peer_and_nothing_is_lost() {
    const MESSAGES: usize = 600;
    let daemon = Daemon::of("peerdrop", json!({}));
    let (mut sender, mut reader) = pair(&daemon);
    let message = |number: usize| format!("{number:08}{}", "x".repeat(MESSAGE - 8));
    let before = daemon.resident();
    sender
        .socket
        .get_mut()
        .0
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut number = 0;
    // A write that does not get through for so long is the sign that it is held. On a slow
    // machine it may come too early, which does no harm.
    while number < MESSAGES && sender.socket.send(message(number).into()).is_ok() {
        number += 1;
    }
    assert!(number < MESSAGES, "40 MB went to a peer that reads nothing");
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
            // The message that did not get through waits in the client.
            sender.socket.flush().unwrap();
            (number + 1..MESSAGES).for_each(|number| sender.says(message(number)));
        });
        for number in 0..MESSAGES {
            assert!(
                reader.text() == message(number),
                "message {number} is not what was sent"
            );
        }
    });
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
}

#[test]
fn held_or_not_a_sender_may_be_answered_by_its_peer() {
    let daemon = Daemon::with(json!({"protocol": "peerdrop", "outbox_size": 1024}));
    let (mut sender, mut reader) = pair(&daemon);
    for number in 0..200 {
        sender.says("x".repeat(10_000));
        reader.says(number.to_string());
        assert_eq!(sender.text(), number.to_string());
        assert_eq!(reader.text().len(), 10_000);
    }
}

#[test]
fn a_peer_that_goes_frees_a_sender_that_is_held() {
    let daemon = Daemon::of("peerdrop", json!({}));
    let (mut sender, reader) = pair(&daemon);
    sender
        .socket
        .get_mut()
        .0
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    while sender.socket.send("x".repeat(MESSAGE).into()).is_ok() {}
    reader.vanishes();
    daemon.logs("peer left");
}

#[test]
fn a_workspace_client_that_reads_nothing_is_closed_and_the_others_miss_nothing() {
    const MESSAGES: usize = 150;
    let daemon = Daemon::with(json!({
        "protocol": "workspace", "messages_per_minute": 0,
    }));
    let enter = |name: &str| {
        let mut client = Client::connect(daemon.address(), &format!("/ws?username={name}"));
        assert_eq!(client.json()["type"], "connected");
        client
    };
    let mut sender = enter("sender");
    let mut readers: Vec<Client> = (0..5).map(|at| enter(&format!("reader{at}"))).collect();
    let mut deaf = enter("deaf");
    // So that not all of it fits into the system's buffers.
    set_socket_recv_buffer_size(&deaf.socket.get_ref().0, 64 * 1024).unwrap();
    for number in 0..MESSAGES {
        let text = format!("{number} {}", "x".repeat(MESSAGE));
        sender.says(json!({"type": "message:send", "text": text}).to_string());
        for reader in readers.iter_mut().chain([&mut sender]) {
            assert!(next_text(reader).starts_with(&format!("{number} ")));
        }
    }
    // Now that it listens it gets what was on its way, whole messages, and why that is all.
    let mut heard = 0;
    let close = loop {
        match deaf.socket.read().expect("messages, then a Close frame") {
            async_tungstenite::tungstenite::Message::Text(_) => heard += 1,
            async_tungstenite::tungstenite::Message::Close(close) => break close.unwrap(),
            _ => {}
        }
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (1013, "too slow")
    );
    assert!(heard < MESSAGES, "it missed nothing");
    daemon.logs("too slow");
}

/// The text of the next message, without the cost of parsing it.
fn next_text(client: &mut Client) -> String {
    loop {
        let message = client.text();
        if let Some((_, text)) = message.split_once(r#""text":""#) {
            return text.to_owned();
        }
    }
}
