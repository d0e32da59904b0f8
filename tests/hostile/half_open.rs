//! Clients of whom nothing is heard any more, and those who go without a word.

use super::{House, reads_until_cut_off, target};
use crate::common::{handshake, masked_frame, read_head, tcp};
use rustix::net::sockopt::set_socket_linger;
use serde_json::json;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn who_falls_silent_is_dropped_wherever_it_stops() {
    // Time enough for the healthy clients, which answer, to have their turn.
    let house = House::with(json!({"ping_after": 1, "pong_timeout": 20}));
    let half_a_message = &masked_frame(0x1, &[b'x'; 100])[..50];
    let half_a_close = &masked_frame(0x8, &[b'x'; 100])[..50];
    let half_a_head = &masked_frame(0x1, &[b'x'; 1000])[..3];
    let mut silent = Vec::new();
    for (protocol, _) in house.doors() {
        for last_words in [&[][..], half_a_message, half_a_close, half_a_head] {
            let mut stream = house.enter_raw(protocol);
            stream.write_all(last_words).unwrap();
            silent.push(stream);
        }
    }
    house.serves();
    for mut stream in silent {
        // It hears what is said, and says nothing.
        reads_until_cut_off(&mut stream);
    }
    house.withstands("silence after the handshake, or within a frame", "dropped");
}

/// What a connection costs at the most between its request and the end of it. The C library may keep
/// that for each of those who were there at once.
const CONNECTION: u64 = 12 << 10;

#[test]
fn a_storm_of_five_thousand_resets_hinders_nobody() {
    let house = House::new();
    for number in 0..1000 {
        for (protocol, address) in house.doors() {
            reset(address, protocol, Stop::Asked);
        }
        if number == 500 {
            house.serves();
        }
    }
    let case = "5,000 connections reset faster than they are noticed";
    house.withstands_with(5000 * CONNECTION, case, "forgotten");
}

#[test]
fn five_thousand_connections_that_are_reset_leave_nothing_behind() {
    let house = House::new();
    let doors: Vec<(&str, SocketAddr)> = house.doors().collect();
    for (case, stop) in [
        ("before the handshake", Stop::Connected),
        ("within the handshake", Stop::HalfAHead),
        ("after the handshake", Stop::In),
    ] {
        for number in 0..5000 {
            let (protocol, address) = doors[number % doors.len()];
            reset(address, protocol, stop);
            // Meanwhile, too; and then all connections before have been accepted, and their ends are
            // waited for. Where thousands are to be noticed, the C library keeps some of the memory
            // that they need at once.
            if number % 250 == 249 {
                house.serves();
                house.sees_off_all_but(0);
            }
        }
        house.withstands(&format!("5,000 connections reset {case}"), "forgotten");
    }
}

/// How far a client comes before it resets its connection.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Stop {
    Connected,
    HalfAHead,
    Asked,
    In,
}

fn reset(address: SocketAddr, protocol: &str, stop: Stop) {
    let mut stream = tcp(address);
    set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    let head = handshake(&target(protocol));
    let until = match stop {
        Stop::Connected => 0,
        Stop::HalfAHead => head.len() / 2,
        Stop::Asked | Stop::In => head.len(),
    };
    stream.write_all(&head.as_bytes()[..until]).unwrap();
    if stop == Stop::In {
        read_head(&mut stream);
    }
}
