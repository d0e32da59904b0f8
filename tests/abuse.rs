//! Clients that break the rules: they are told so where possible, and harm nobody.

use crate::common::{Client, Daemon};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

fn daemon() -> Daemon {
    Daemon::with(json!({"protocol": "workspace"}))
}

fn enter(daemon: &Daemon) -> Client {
    let mut client = Client::connect(daemon.address(), "/ws");
    assert_eq!(client.json()["type"], "connected");
    client
}

#[test]
fn frames_that_break_the_rfc_are_answered_with_the_right_code() {
    let daemon = daemon();
    let mut witness = enter(&daemon);
    let long_ping = [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat();
    for (what, octets, code) in [
        ("an unmasked frame", &[0x81, 0x01, b'x'][..], 1002),
        ("a reserved bit", &[0xc1, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved data opcode", &[0x83, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved control opcode", &[0x8b, 0x80, 0, 0, 0, 0], 1002),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented Ping", &[0x09, 0x80, 0, 0, 0, 0], 1002),
        ("a Ping of 126 bytes", &long_ping, 1002),
        ("a Close of one byte", &[0x88, 0x81, 0, 0, 0, 0, 3], 1002),
        ("invalid UTF-8", &[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007),
        (
            "a message of 2^63 bytes",
            &[
                0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
            1009,
        ),
    ] {
        let mut client = enter(&daemon);
        assert_eq!(witness.json()["data"]["status"], "online");
        client.sends_raw(octets);
        assert_eq!(client.closed().0, code, "{what}");
        assert_eq!(witness.json()["data"]["status"], "offline", "{what}");
    }
    witness.pings();
}

#[test]
fn endless_fragments_end_at_the_size_of_a_message() {
    let daemon = Daemon::with(json!({"protocol": "workspace", "max_message_size": 10_000}));
    let mut client = enter(&daemon);
    client.sends_raw(&[0x01, 0x80, 0, 0, 0, 0]);
    for _ in 0..101 {
        client.sends_raw(&[0x00, 0x80 | 100, 0, 0, 0, 0]);
        client.sends_raw(&[b'x'; 100]);
    }
    assert_eq!(client.closed().0, 1009);
}

#[test]
fn a_flood_of_empty_fragments_leaves_others_their_turn_even_on_one_thread() {
    let listeners = json!([{"protocol": "workspace"}]);
    let daemon = Daemon::start(json!({"threads": 1, "listeners": listeners}));
    let mut witness = enter(&daemon);
    let mut flooder = enter(&daemon);
    flooder.sends_raw(&[0x01, 0x80, 0, 0, 0, 0]);
    let flood = [0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopped = &stopped;
        scope.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                flooder.sends_raw(&flood);
            }
        });
        let _at_the_end = StopAtTheEnd(stopped);
        witness.text();
        // Each takes a turn of every task there is.
        (0..50).for_each(|_| witness.pings());
    });
}

/// Stops the flood even when the test fails, which could not end otherwise.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn pings_whose_answers_nobody_reads_cost_no_memory() {
    let daemon = daemon();
    let mut witness = enter(&daemon);
    let mut flooder = enter(&daemon);
    flooder
        .socket
        .get_mut()
        .0
        .set_write_timeout(Some(std::time::Duration::from_secs(1)))
        .unwrap();
    witness.text();
    let before = daemon.resident();
    let mut pings = Vec::new();
    for _ in 0..10_000 {
        pings.extend([0x89, 0xfd, 0, 0, 0, 0]);
        pings.extend([b'x'; 125]);
    }
    // The server stops reading once it cannot write, so that this stops, too, long before the end.
    let mut sent = 0;
    while sent < 1000 && std::io::Write::write_all(flooder.socket.get_mut(), &pings).is_ok() {
        sent += 1;
    }
    assert!(sent < 1000, "1.3 GB of Pings were read");
    witness.pings();
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 2 << 20, "grew by {grown} bytes");
}

#[test]
fn many_clients_that_vanish_leave_the_others_well() {
    let daemon = Daemon::with(json!({"protocol": "peerdrop"}));
    let (mut one, mut other) = crate::peerdrop::pair(&daemon);
    for _ in 0..300 {
        let mut client = Client::connect(daemon.address(), "/ws/chat");
        client.text();
        client.vanishes();
    }
    one.says("still there?");
    assert_eq!(other.text(), "still there?");
}

#[test]
fn memory_comes_back_after_a_large_message() {
    let daemon = Daemon::with(json!({"protocol": "peerdrop"}));
    let (mut one, mut other) = crate::peerdrop::pair(&daemon);
    let before = daemon.resident();
    one.says("x".repeat(15 << 20));
    assert_eq!(other.text().len(), 15 << 20);
    // Once this has come and gone, the large one's buffers are no longer needed.
    one.says("small");
    assert_eq!(other.text(), "small");
    one.pings();
    other.pings();
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 4 << 20, "grew by {grown} bytes");
}
