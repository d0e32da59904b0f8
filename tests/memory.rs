//! Clients that together make the daemon hold more than its `memory_budget`. The clients that hold most are
//! closed, and no others. When all have left, the memory goes back to the system.

use crate::common::{
    Client, Daemon, handshake, masked_frame, read_head, request_target, tcp, wait_until,
};
use crate::peerdrop::pair;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use switchboard::protocols::PROTOCOLS;
use switchboard::sys::open_files;

const MIB: usize = 1 << 20;

/// Resident memory allowed above the budget, in bytes: what the allocator keeps, and the buffers of
/// connections that are being closed.
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

/// Returns the first fragment of a text message, or a later one, but not the last: its FIN bit is not set.
fn fragment(is_first: bool, size: usize) -> Vec<u8> {
    let mut frame = vec![u8::from(is_first), 0x80 | 127];
    frame.extend((size as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.resize(frame.len() + size, b'x');
    frame
}

#[test]
fn the_client_with_the_largest_incomplete_message_is_closed_first() {
    let daemon = daemon("peerdrop", 16 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let mut small: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = Client::connect(daemon.address(), "/ws/chat");
            client.receive_text();
            client.send_raw(&fragment(true, MIB));
            client.ping();
            client
        })
        .collect();
    let mut large = Client::connect(daemon.address(), "/ws/chat");
    large.receive_text();
    large.send_raw(&fragment(true, 12 * MIB));
    assert_eq!(large.expect_close(), short_of_memory());
    daemon.wait_for_log("memory_budget is used up");
    small.iter_mut().for_each(Client::ping);
    one.send("still there?");
    assert_eq!(other.receive_text(), "still there?");
}

#[test]
fn incomplete_messages_of_many_clients_stay_within_the_memory_budget() {
    let daemon = daemon("peerdrop", 16 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let before = daemon.resident();
    let mut peak = 0;
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = Client::connect(daemon.address(), "/ws/chat");
        client.receive_text();
        for number in 0..8 {
            client.send_raw(&fragment(number == 0, MIB));
            peak = daemon.resident().max(peak);
        }
        clients.push(client);
        let text = number.to_string();
        one.send(text.clone());
        assert_eq!(other.receive_text(), text);
    }
    let grown = peak.saturating_sub(before);
    assert!(grown < 16 * MIB as u64 + SLACK, "grew by {grown} bytes");
    drop(clients);
    wait_until("memory is free again", || {
        daemon.resident() < before + SLACK
    });
}

#[test]
fn messages_queued_for_clients_that_read_nothing_stay_within_the_memory_budget() {
    const MESSAGE: usize = 8 * MIB;
    let daemon = daemon("peerdrop", 20 * MIB);
    let (mut one, mut other) = pair(&daemon);
    let before = daemon.resident();
    let mut pairs = Vec::new();
    for _ in 0..10 {
        let (mut sender, recipient) = pair(&daemon);
        set_socket_recv_buffer_size(&recipient.socket.get_ref().0, 64 * 1024).unwrap();
        sender.send("x".repeat(MESSAGE));
        pairs.push((sender, recipient));
        one.send("still there?");
        assert_eq!(other.receive_text(), "still there?");
    }
    let grown = daemon.resident().saturating_sub(before);
    assert!(grown < 20 * MIB as u64 + SLACK, "grew by {grown} bytes");
    // Either both peers of a pair are connected, or the reading one was closed, and then the other one, too.
    let mut delivered = 0;
    for (mut sender, mut recipient) in pairs {
        if recipient
            .socket
            .read()
            .is_ok_and(|message| message.is_text())
        {
            delivered += 1;
            recipient.send("thanks");
            assert_eq!(sender.receive_text(), "thanks");
        } else {
            assert_eq!(sender.expect_close().1, "peer left");
        }
    }
    assert!(
        (1..=2).contains(&delivered),
        "{delivered} messages were delivered"
    );
}

#[test]
fn a_closing_connection_that_holds_much_is_aborted_before_any_other_is_closed() {
    let daemon = Daemon::start(json!({
        "memory_budget": 16 * MIB,
        "listeners": [{"protocol": "peerdrop"}],
    }));
    let (mut sender, mut recipient) = pair(&daemon);
    set_socket_recv_buffer_size(&recipient.socket.get_ref().0, 64 * 1024).unwrap();
    sender.send("x".repeat(12 * MIB));
    sender.ping();
    // This client reads nothing. The server's Close frame has to wait for the large message.
    recipient.send_frame(0x8, &1000_u16.to_be_bytes());
    assert_eq!(sender.expect_close().1, "peer left");
    let mut next = Client::connect(daemon.address(), "/ws/chat");
    next.receive_text();
    next.send_raw(&fragment(true, 12 * MIB));
    next.ping();
}

#[test]
fn a_client_that_goes_on_sending_after_its_close_frame_holds_no_memory() {
    let daemon = Daemon::start(json!({
        "memory_budget": 16 * MIB,
        "listeners": [{"protocol": "peerdrop"}],
    }));
    let (mut one, mut other) = pair(&daemon);
    let (leaver, mut sender) = pair(&daemon);
    let message = fragment(true, 15 * MIB);
    sender.send_raw(&message[..4000]);
    leaver.abort();
    daemon.wait_for_log("peer left");
    sender.send_raw(&message[4000..]);
    let mut last = Client::connect(daemon.address(), "/ws/chat");
    last.receive_text();
    last.send_raw(&fragment(true, 7 * MIB));
    last.ping();
    one.send("still there?");
    assert_eq!(other.receive_text(), "still there?");
}

/// Clients of a storm, and bytes of a message that each sends without finishing it.
const STORM: (u64, usize) = (1500, 4000);

/// Resident memory that may remain of a storm. Less than its messages, so that a heap which is kept does not pass.
const REMAINDER: u64 = 4 << 20;

#[test]
fn after_a_storm_the_memory_goes_back_to_the_system() {
    open_files::raise_limit();
    let (clients, unfinished) = STORM;
    for protocol in PROTOCOLS {
        // Without a budget nobody is evicted, so all of the memory has to come back.
        let daemon = daemon(protocol.name, 0);
        let before = daemon.resident();
        let storm: Vec<TcpStream> = (0..clients)
            .map(|_| {
                let mut stream = tcp(daemon.address());
                let handshake = handshake(&request_target(protocol.name));
                stream.write_all(handshake.as_bytes()).unwrap();
                stream.write_all(&fragment(true, unfinished)).unwrap();
                stream
            })
            .collect();
        let all_received = before + clients * unfinished as u64;
        wait_until("all unfinished messages are received", || {
            daemon.resident() > all_received
        });
        drop(storm);
        wait_until("the memory is back", || {
            daemon.resident() < before + REMAINDER
        });
    }
}

#[test]
fn a_queued_message_does_not_keep_the_read_buffer_alive() {
    let daemon = daemon("peerdrop", 16 * MIB);
    // What is queued is read into a buffer of 64 KiB, as it follows large fragments.
    let mut fragment = masked_frame(0x2, &[0; 20_000]);
    fragment[0] &= 0x7f;
    let last_fragment = masked_frame(0x0, &[0; 20_000]);
    let queued = masked_frame(0x1, &[b'x'; 4100]);
    let ignored = masked_frame(0x2, &[0; 4000]).repeat(10);
    let round = [fragment, last_fragment, queued, ignored].concat();
    let before = daemon.resident();
    let pairs: Vec<_> = (0..5)
        .map(|_| {
            let (mut sender, recipient) = pair(&daemon);
            set_socket_recv_buffer_size(&recipient.socket.get_ref().0, 64 * 1024).unwrap();
            let stream = &sender.socket.get_ref().0;
            // A write that times out means that the server has paused the sender. If it happens earlier
            // on a slow machine, that does no harm.
            stream
                .set_write_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let socket = sender.socket.get_mut();
            while socket.write_all(&round).is_ok() {}
            (sender, recipient)
        })
        .collect();
    let grown = daemon.resident().saturating_sub(before);
    // An outbox of 1 MiB for each pair, and about as much again beside it.
    assert!(grown < 10 * MIB as u64 + SLACK, "grew by {grown} bytes");
    drop(pairs);
}

#[test]
fn large_unfinished_request_heads_leave_memory_for_usual_ones() {
    let daemon = daemon("peerdrop", MIB);
    // Large heads may use an eighth of the budget, which is enough for 21 of these.
    let head = format!("GET /ws/chat HTTP/1.1\r\nX: {}", "x".repeat(8000));
    let clients: Vec<_> = (0..30)
        .map(|_| {
            let mut stream = tcp(daemon.address());
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let is_rejected = |stream: &TcpStream| {
        let mut response = [0; 12];
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut response).is_ok() && response == *b"HTTP/1.1 503"
    };
    wait_until("a large head is rejected", || {
        clients.iter().any(is_rejected)
    });
    let (mut one, mut other) = pair(&daemon);
    one.send("still there?");
    assert_eq!(other.receive_text(), "still there?");
}

#[test]
fn handshakes_that_wait_or_were_rejected_take_no_memory_from_requests() {
    // The budget for requests is an eighth: 128 KiB, of which heads take what is above 2 KiB.
    let daemon = daemon("peerjs", 1 << 20);
    let padded = |path: &str, size: usize| {
        let padding = format!("\r\nX-Padding: {}\r\n\r\n", "x".repeat(size));
        handshake(path).replacen("\r\n\r\n", &padding, 1)
    };
    // Rejected by the realm; none of them closes its connection.
    let rejected = (0..12).map(|_| {
        let mut stream = tcp(daemon.address());
        stream
            .write_all(padded("/nope", 14_000).as_bytes())
            .unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 404 "));
        stream
    });
    let _rejected: Vec<TcpStream> = rejected.collect();
    let target = "/peerjs?key=peerjs&id=ann&token=t";
    let mut honest = tcp(daemon.address());
    honest.write_all(padded(target, 8000).as_bytes()).unwrap();
    assert!(read_head(&mut honest).starts_with("HTTP/1.1 101 "));
}

#[test]
fn the_client_with_the_most_stored_messages_is_closed_first() {
    let daemon = Daemon::start(json!({
        "memory_budget": 4 * MIB,
        "listeners": [{"protocol": "peerjs"}],
    }));
    let mut senders = ["ann", "bob", "cat"].map(|id| crate::peerjs::enter(&daemon, id));
    let payload = "x".repeat(MIB / 2);
    let message = json!({"type": "OFFER", "dst": "absent", "payload": payload}).to_string();
    for (sender, messages) in senders.iter_mut().zip([4, 2, 3]) {
        (0..messages).for_each(|_| sender.send(message.clone()));
        sender.ping();
    }
    assert_eq!(senders[0].expect_close(), short_of_memory());
    let mut absent = crate::peerjs::enter(&daemon, "absent");
    let stored: Vec<String> = (0..5)
        .map(|_| absent.receive_json()["src"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(stored, ["bob", "bob", "cat", "cat", "cat"]);
}

/// Connects clients that each send so much of a message and no more.
fn beginnings(daemon: &Daemon, clients: usize, size: usize) -> Vec<Client> {
    let begin = |_| {
        let mut client = Client::connect(daemon.address(), "/ws/chat");
        client.receive_text();
        client.send_raw(&fragment(true, size));
        client
    };
    (0..clients).map(begin).collect()
}

#[test]
fn the_first_bytes_of_unfinished_messages_count() {
    let daemon = daemon("peerdrop", MIB);
    // Each is less than what a message may take that is handled at once.
    let _clients = beginnings(&daemon, 600, 2000);
    daemon.wait_for_log("memory_budget is used up");
}

#[test]
fn a_usual_message_arrives_however_many_clients_hold_a_little() {
    let daemon = daemon("peerdrop", 2 * MIB);
    let (mut sender, mut recipient) = pair(&daemon);
    let message = "x".repeat(100_000);
    let mut clients = Vec::new();
    for _ in 0..15 {
        clients.extend(beginnings(&daemon, 100, 2000));
        sender.send(message.clone());
        assert_eq!(recipient.receive_text(), message);
    }
    daemon.wait_for_log("memory_budget is used up");
}

#[test]
fn the_kernel_holds_little_for_a_client_that_does_not_read() {
    let daemon = daemon("peerdrop", 64 * MIB);
    let (sender, recipient) = pair(&daemon);
    for client in [&sender, &recipient] {
        set_socket_recv_buffer_size(&client.socket.get_ref().0, 64 * 1024).unwrap();
        set_socket_send_buffer_size(&client.socket.get_ref().0, 64 * 1024).unwrap();
    }
    let mut stream = sender.socket.get_ref().0.try_clone().unwrap();
    // A pause that is taken for the end of what is accepted does no harm.
    let timeout = Some(Duration::from_secs(1));
    stream.set_write_timeout(timeout).unwrap();
    let message = masked_frame(0x1, &[b'x'; 60_000]);
    let (mut bytes, mut written) = (0, 0);
    while let Ok(count) = stream.write(&message[written..]) {
        bytes += count;
        written = (written + count) % message.len();
    }
    // The outbox of 1 MiB, twice a quarter MiB in the kernel (at most double), and what is on its way between.
    assert!(bytes < 4 * MIB, "{bytes} bytes were accepted");
}
