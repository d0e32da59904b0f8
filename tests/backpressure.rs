//! Clients that read more slowly than others write.

use crate::common::{Client, Daemon};
use crate::peerdrop::pair;
use serde_json::json;
use std::time::Duration;

/// What one message of these tests weighs.
const MESSAGE: usize = 64 * 1024;

#[test]
fn a_peerdrop_sender_waits_for_its_peer_and_nothing_is_lost() {
    const MESSAGES: usize = 600;
    let daemon = Daemon::with(json!({"protocol": "peerdrop", "ping_after": 0}));
    let (mut sender, mut reader) = pair(&daemon);
    let message = |number: usize| format!("{number:08}{}", "x".repeat(MESSAGE - 8));
    let before = daemon.resident();
    sender
        .socket
        .get_mut()
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
            sender.socket.get_mut().set_write_timeout(None).unwrap();
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
    let daemon = Daemon::with(json!({"protocol": "peerdrop", "ping_after": 0}));
    let (mut sender, reader) = pair(&daemon);
    sender
        .socket
        .get_mut()
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    while sender.socket.send("x".repeat(MESSAGE).into()).is_ok() {}
    reader.vanishes();
    daemon.logs("peer left");
}
