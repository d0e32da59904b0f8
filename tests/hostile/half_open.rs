//! Clients of whom nothing is heard any more, and those who go without a word.

use super::{Server, read_until_closed, target};
use crate::common::{handshake, masked_frame, read_head, tcp};
use rustix::net::sockopt::set_socket_linger;
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn who_falls_silent_is_dropped_wherever_it_stops() {
    // Time enough for the healthy clients, which answer, to have their turn.
    let server = Server::with_settings(json!({"ping_after": 1, "pong_timeout": 20}));
    let half_a_message = &masked_frame(0x1, &[b'x'; 100])[..50];
    let half_a_close = &masked_frame(0x8, &[b'x'; 100])[..50];
    let half_a_head = &masked_frame(0x1, &[b'x'; 1000])[..3];
    let mut silent = Vec::new();
    for (protocol, _) in server.endpoints() {
        for last_bytes in [&[][..], half_a_message, half_a_close, half_a_head] {
            let mut stream = server.connect_raw(protocol);
            stream.write_all(last_bytes).unwrap();
            silent.push(stream);
        }
    }
    server.assert_serves();
    for mut stream in silent {
        // It hears what is said, and says nothing.
        read_until_closed(&mut stream);
    }
    server.assert_survives("silence after the handshake, or within a frame", "dropped");
}

/// What a connection costs at the most between its request and the end of it. The C library may keep
/// that for each of those who were there at once.
const CONNECTION: u64 = 12 << 10;

#[test]
fn a_storm_of_five_thousand_resets_hinders_nobody() {
    let server = Server::start();
    for number in 0..1000 {
        for (protocol, address) in server.endpoints() {
            reset(address, protocol, ResetAt::Request);
        }
        if number == 500 {
            server.assert_serves();
        }
    }
    let case = "5,000 connections reset faster than they are noticed";
    server.assert_survives_within(5000 * CONNECTION, case, "forgotten");
}

#[test]
fn five_thousand_connections_that_are_reset_leave_nothing_behind() {
    let server = Server::start();
    let endpoints: Vec<(&str, SocketAddr)> = server.endpoints().collect();
    for (case, reset_at) in [
        ("before the handshake", ResetAt::Connect),
        ("within the handshake", ResetAt::HalfRequest),
        ("after the handshake", ResetAt::Handshake),
    ] {
        for number in 0..5000 {
            let (protocol, address) = endpoints[number % endpoints.len()];
            reset(address, protocol, reset_at);
            // Meanwhile, too; and then all connections before have been accepted, and their ends are
            // waited for. Where thousands are to be noticed, the C library keeps some of the memory
            // that they need at once.
            if number % 250 == 249 {
                server.assert_serves();
                server.wait_for_connections(0);
            }
        }
        server.assert_survives(&format!("5,000 connections reset {case}"), "forgotten");
    }
}

/// How far a client comes before it resets its connection.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum ResetAt {
    Connect,
    HalfRequest,
    Request,
    Handshake,
}

fn reset(address: SocketAddr, protocol: &str, reset_at: ResetAt) {
    let mut stream = tcp(address);
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    let head = handshake(&target(protocol));
    let until = match reset_at {
        ResetAt::Connect => 0,
        ResetAt::HalfRequest => head.len() / 2,
        ResetAt::Request | ResetAt::Handshake => head.len(),
    };
    stream.write_all(&head.as_bytes()[..until]).unwrap();
    if reset_at == ResetAt::Handshake {
        read_head(&mut stream);
    }
}
