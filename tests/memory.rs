//! Clients that together make the daemon hold more than its `memory_budget`: those who hold most are
//! closed, and nobody else.

use crate::common::{Client, Daemon, masked_frame, tcp, wait_until};
use crate::peerdrop::pair;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// What the allocator may keep, and what buffers of those who are being closed take.
const SLACK: u64 = 8 << 20;

fn daemon(protocol: &str, memory_budget: usize) -> Daemon {
    Daemon::start(json!({
        "memory_budget": memory_budget,
        "listeners": [{"protocol": protocol}],
    }))
}

fn short_of_memory() -> (u16, String) {
    (1013, "server is short of memory".to_owned())
}

/// A fragment of a text message, the first of it or a later one; not its last.
fn fragment(is_first: bool, size: usize) -> Vec<u8> {
    let mut frame = vec![u8::from(is_first), 0x80 | 127];
    frame.extend((size as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + size, b'x');
    frame
}

#[test]
fn whoever_has_sent_the_largest_part_of_a_message_is_closed_first() {
    let daemon = daemon("peerdrop", 16 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let mut small: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::connect(daemon.address(), "/ws/chat");
            client.text();
            client.sends_raw(&fragment(true, MIB));
            client.pings();
            client
        })
        .collect();
    let mut large = Client::connect(daemon.address(), "/ws/chat");
    large.text();
    large.sends_raw(&fragment(true, 12 * MIB));
    assert_eq!(large.closed(), short_of_memory());
    daemon.logs("memory_budget is used up");
    small.iter_mut().for_each(Client::pings);
    one.says("still there?");
    assert_eq!(other.text(), "still there?");
}

#[test]
fn many_parts_of_large_messages_take_no_more_memory_than_there_may_be() {
    let daemon = daemon("peerdrop", 16 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let before = daemon.resident();
    let mut most = 0;
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = Client::connect(daemon.address(), "/ws/chat");
        client.text();
        for part in 0..8 {
            client.sends_raw(&fragment(part == 0, MIB));
            most = daemon.resident().max(most);
        }
        clients.push(client);
        let text = number.to_string();
        one.says(text.clone());
        assert_eq!(other.text(), text);
    }
    let grown = most.saturating_sub(before);
    assert!(grown < 16 * MIB as u64 + SLACK, "grew by {grown} bytes");
    drop(clients);
    wait_until("memory is free again", || {
        daemon.resident() < before + SLACK
    });
}

#[test]
fn so_it_is_with_what_waits_for_clients_that_read_nothing() {
    const MESSAGE: usize = 8 * MIB;
    let daemon = daemon("peerdrop", 20 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let before = daemon.resident();
    let mut pairs = Vec::new();
    for _ in 0..10 {
        let (mut sender, reader) = pair(&daemon);
        set_socket_recv_buffer_size(&reader.socket.get_ref().0, 64 * 1024).unwrap();
        sender.says("x".repeat(MESSAGE));
        pairs.push((sender, reader));
        one.says("still there?");
        assert_eq!(other.text(), "still there?");
    }
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 20 * MIB as u64 + SLACK, "grew by {grown} bytes");
    // Of each pair both are there, or neither.
    let mut served = 0;
    for (mut sender, mut reader) in pairs {
        if reader.socket.read().is_ok_and(|message| message.is_text()) {
            served += 1;
            reader.says("thanks");
            assert_eq!(sender.text(), "thanks");
        } else {
            assert_eq!(sender.closed().1, "peer left");
        }
    }
    assert!((1..=2).contains(&served), "{served} were served");
}

#[test]
fn whoever_says_goodbye_and_holds_much_is_cut_before_anybody_is_closed() {
    let daemon = Daemon::start(json!({
        "memory_budget": 16 * MIB,
        "listeners": [{"protocol": "peerdrop"}],
    }));
    let (mut sender, mut reader) = pair(&daemon);
    set_socket_recv_buffer_size(&reader.socket.get_ref().0, 64 * 1024).unwrap();
    sender.says("x".repeat(12 * MIB));
    sender.pings();
    // It takes nothing of the message, which must come before the answer to this.
    reader.sends_frame(0x8, &1000_u16.to_be_bytes());
    assert_eq!(sender.closed().1, "peer left");
    let mut other = Client::connect(daemon.address(), "/ws/chat");
    other.text();
    other.sends_raw(&fragment(true, 12 * MIB));
    other.pings();
}

#[test]
fn whoever_is_told_goodbye_and_goes_on_sending_holds_nothing() {
    let daemon = Daemon::start(json!({
        "memory_budget": 16 * MIB,
        "listeners": [{"protocol": "peerdrop"}],
    }));
    let (mut one, mut other) = pair(&daemon);
    let (leaver, mut sender) = pair(&daemon);
    let message = fragment(true, 15 * MIB);
    sender.sends_raw(&message[..4000]);
    leaver.vanishes();
    daemon.logs("peer left");
    sender.sends_raw(&message[4000..]);
    let mut last = Client::connect(daemon.address(), "/ws/chat");
    last.text();
    last.sends_raw(&fragment(true, 7 * MIB));
    last.pings();
    one.says("still there?");
    assert_eq!(other.text(), "still there?");
}

#[test]
fn what_waits_does_not_keep_the_buffer_that_it_came_in() {
    let daemon = daemon("peerdrop", 16 * MIB);
    // Once this has come the buffer is a large one, and as long as one comes now and then.
    let large = masked_frame(0x2, &[0; 20_000]);
    let ignored = masked_frame(0x2, &[0; 1000]).repeat(58);
    let waits = masked_frame(0x1, &[b'x'; 4100]);
    let round = [&large, &waits, &ignored].map(Vec::as_slice).concat();
    let before = daemon.resident();
    let pairs: Vec<_> = (0..5)
        .map(|_| {
            let (mut sender, reader) = pair(&daemon);
            set_socket_recv_buffer_size(&reader.socket.get_ref().0, 64 * 1024).unwrap();
            let stream = &sender.socket.get_ref().0;
            // A pause that is taken for the end of what is read does no harm.
            stream
                .set_write_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let socket = sender.socket.get_mut();
            while socket.write_all(&round).is_ok() {}
            (sender, reader)
        })
        .collect();
    let grown = daemon.resident().saturating_sub(before);
    // An outbox of 1 MiB each, and what is next to it.
    assert!(grown < 10 * MIB as u64 + SLACK, "grew by {grown} bytes");
    drop(pairs);
}

#[test]
fn large_requests_that_do_not_end_leave_room_for_usual_ones() {
    let daemon = daemon("peerdrop", MIB);
    // An eighth of it is room for 21 of these.
    let head = format!("GET /ws/chat HTTP/1.1\r\nX: {}", "x".repeat(8000));
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let mut stream = tcp(daemon.address());
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let is_refused = |stream: &TcpStream| {
        let mut answer = [0; 12];
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut answer).is_ok() && answer == *b"HTTP/1.1 503"
    };
    wait_until("there is no more room for these", || {
        clients.iter().any(is_refused)
    });
    let (mut one, mut other) = pair(&daemon);
    one.says("still there?");
    assert_eq!(other.text(), "still there?");
}

#[test]
fn and_with_what_is_stored_for_peers_that_are_not_there() {
    let daemon = Daemon::start(json!({
        "memory_budget": 4 * MIB,
        "listeners": [{"protocol": "peerjs"}],
    }));
    let mut sources = ["ann", "bob", "cat"].map(|id| crate::peerjs::enter(&daemon, id));
    let payload = "x".repeat(MIB / 2);
    let message = json!({"type": "OFFER", "dst": "nobody", "payload": payload}).to_string();
    for (source, messages) in sources.iter_mut().zip([4, 2, 3]) {
        (0..messages).for_each(|_| source.says(message.clone()));
        source.pings();
    }
    assert_eq!(sources[0].closed(), short_of_memory());
    let mut nobody = crate::peerjs::enter(&daemon, "nobody");
    let from: Vec<String> = (0..5)
        .map(|_| nobody.json()["src"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(from, ["bob", "bob", "cat", "cat", "cat"]);
}
