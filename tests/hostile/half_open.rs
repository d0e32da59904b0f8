//! Half-open connections: clients that fall silent without closing, and clients that reset their
//! connection at any stage, thousands of times. The server must notice, close and free all of them.

use super::{Server, read_until_closed};
use crate::common::{handshake, masked_frame, read_head, request_target, tcp};
use rustix::net::sockopt::set_socket_linger;
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn a_client_that_falls_silent_is_dropped_even_within_a_frame() {
    // The Pong timeout is long, so that healthy clients answer in time on a slow machine.
    let server = Server::with_settings(json!({"ping_after": 1, "pong_timeout": 20}));
    let half_message = &masked_frame(0x1, &[b'x'; 100])[..50];
    let half_close = &masked_frame(0x8, &[b'x'; 100])[..50];
    let half_header = &masked_frame(0x1, &[b'x'; 1000])[..3];
    let mut silent = Vec::new();
    for (protocol, _) in server.endpoints() {
        for last_bytes in [&[][..], half_message, half_close, half_header] {
            let mut stream = server.connect_raw(protocol);
            stream.write_all(last_bytes).unwrap();
            silent.push(stream);
        }
    }
    server.assert_serves();
    for mut stream in silent {
        // The client reads everything, including the server's Ping, and sends nothing.
        read_until_closed(&mut stream);
    }
    server.assert_survives("silence after the handshake or within a frame", "dropped");
}

/// Bytes that a connection holds at most between its request and its end. The C library may keep that
/// much for each connection that was open at the same time.
const CONNECTION_MEMORY: u64 = 12 << 10;

#[test]
fn five_thousand_resets_in_a_row_do_not_disturb_other_clients() {
    let server = Server::start();
    let endpoints: Vec<(&str, SocketAddr)> = server.endpoints().collect();
    for (number, (protocol, address)) in endpoints.iter().cycle().take(5000).enumerate() {
        reset(*address, protocol, ResetAt::Request);
        if number == 2500 {
            server.assert_serves();
        }
    }
    let case = "5,000 connections reset faster than the server notices";
    server.assert_survives_within(5000 * CONNECTION_MEMORY, case, "freed");
}

#[test]
fn five_thousand_connections_that_are_reset_leave_no_socket_and_no_memory() {
    let server = Server::start();
    let endpoints: Vec<(&str, SocketAddr)> = server.endpoints().collect();
    for (case, reset_at) in [
        ("before the handshake", ResetAt::Connect),
        ("within the request head", ResetAt::HalfRequest),
        ("after the handshake", ResetAt::Handshake),
    ] {
        for number in 0..5000 {
            let (protocol, address) = endpoints[number % endpoints.len()];
            reset(address, protocol, reset_at);
            // Healthy clients are served in between. The server accepts in order, so by then it has
            // accepted all earlier connections, and the test waits until it has closed them: if thousands
            // were open at once, the C library would keep some of the memory that they need together.
            if number % 250 == 249 {
                server.assert_serves();
                server.wait_for_connections(0);
            }
        }
        server.assert_survives(&format!("5,000 connections reset {case}"), "freed");
    }
}

/// Stage at which a client resets its connection.
#[derive(Clone, Copy, PartialEq)]
enum ResetAt {
    /// After connecting, before it sends anything.
    Connect,
    /// After half of the request head.
    HalfRequest,
    /// After the request head, without waiting for the response.
    Request,
    /// After the response.
    Handshake,
}

/// Connects, and resets the connection at a stage.
fn reset(address: SocketAddr, protocol: &str, reset_at: ResetAt) {
    let mut stream = tcp(address);
    // Without lingering, closing the socket resets the connection.
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    let head = handshake(&request_target(protocol));
    let sent = match reset_at {
        ResetAt::Connect => 0,
        ResetAt::HalfRequest => head.len() / 2,
        ResetAt::Request | ResetAt::Handshake => head.len(),
    };
    stream.write_all(&head.as_bytes()[..sent]).unwrap();
    if reset_at == ResetAt::Handshake {
        read_head(&mut stream);
    }
}
