//! Attacks with WebSocket frames: frames that break RFC 6455, messages and fragments that never end,
//! closing handshakes that a client does not complete, and the largest message allowed. The server must
//! close with the right code, and must not wait for the client longer than `close_timeout`.

use super::{HEALTHY_IP, Server, send_until_closed};
use crate::common::{Pair, masked_frame, read_frame};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

/// Returns the header of a masked frame with a 64-bit payload length, and no payload.
fn frame_header(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// Reads up to the server's Close frame and returns its code.
fn code_of_close(stream: &mut TcpStream) -> u16 {
    loop {
        if let (0x8, payload) = read_frame(stream) {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

#[test]
fn a_frame_that_breaks_the_rfc_is_answered_with_the_right_close_code() {
    let server = Server::with_settings(json!({"max_message_size": 100_000}));
    let long_control = |opcode| masked_frame(opcode, &[0; 126]);
    let text = |bytes: &[u8]| masked_frame(0x1, bytes);
    let fragmented = |parts: &[&[u8]]| {
        let mut frames: Vec<Vec<u8>> = parts.iter().map(|part| masked_frame(0, part)).collect();
        frames[0][0] = 0x01;
        let last = frames.len() - 1;
        frames[1..last].iter_mut().for_each(|frame| frame[0] = 0x00);
        frames.concat()
    };
    for (case, bytes, code) in [
        ("an unmasked frame", vec![0x81, 0x01, b'x'], 1002),
        ("an unmasked Close", vec![0x88, 0x00], 1002),
        ("the first reserved bit", vec![0xc1, 0x80, 0, 0, 0, 0], 1002),
        (
            "the second reserved bit",
            vec![0xa1, 0x80, 0, 0, 0, 0],
            1002,
        ),
        ("the third reserved bit", vec![0x99, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved data opcode", masked_frame(0x3, b""), 1002),
        ("a reserved control opcode", masked_frame(0xb, b""), 1002),
        (
            "a continuation frame without a message",
            masked_frame(0x0, b""),
            1002,
        ),
        (
            "a text frame within a fragmented message",
            [vec![0x01, 0x80, 0, 0, 0, 0], text(b"x")].concat(),
            1002,
        ),
        ("a fragmented Ping", vec![0x09, 0x80, 0, 0, 0, 0], 1002),
        ("a fragmented Close", vec![0x08, 0x80, 0, 0, 0, 0], 1002),
        ("a Ping of 126 bytes", long_control(0x9), 1002),
        ("a Close of 126 bytes", long_control(0x8), 1002),
        (
            "a Close of 2^63 - 1 bytes",
            frame_header(0x88, u64::MAX >> 1),
            1009,
        ),
        ("a Close of one byte", masked_frame(0x8, &[3]), 1002),
        ("invalid UTF-8", text(&[0xc3, 0x28]), 1007),
        ("an encoded surrogate", text(&[0xed, 0xa0, 0x80]), 1007),
        ("an overlong encoding of a slash", text(&[0xc0, 0xaf]), 1007),
        ("half a code point", text(&[0xf0, 0x9f, 0x98]), 1007),
        (
            "invalid UTF-8 split over two fragments",
            fragmented(&[&[0xc3], &[0x28]]),
            1007,
        ),
        (
            "half a code point split over three fragments",
            fragmented(&[&[0xf0], &[0x9f], &[0x98]]),
            1007,
        ),
        (
            "a message of 2^63 - 1 bytes",
            frame_header(0x81, u64::MAX >> 1),
            1009,
        ),
        (
            "a message of 2^64 - 1 bytes",
            frame_header(0x81, u64::MAX),
            1009,
        ),
        (
            "a message one byte too large",
            frame_header(0x82, 100_001),
            1009,
        ),
        (
            "a fragmented message one byte too large",
            [
                frame_header(0x01, 99_999),
                vec![b'x'; 99_999],
                masked_frame(0, b"xx"),
            ]
            .concat(),
            1009,
        ),
    ] {
        for (protocol, _) in server.endpoints() {
            let mut stream = server.connect_raw(protocol);
            stream.write_all(&bytes).unwrap();
            assert_eq!(code_of_close(&mut stream), code, "{protocol}: {case}");
            // The server closes the connection, and sends nothing after the Close frame.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{protocol}: {case}");
        }
        server.assert_survives(case, &format!("closed with {code}"));
    }
}

#[test]
fn a_code_point_may_be_split_over_fragments() {
    let server = Server::start();
    let mut pair = Pair::connect("peerdrop", server.address("peerdrop"), HEALTHY_IP);
    let text = "aü€😀";
    let last = text.len() - 1;
    for (index, byte) in text.bytes().enumerate() {
        let mut frame = masked_frame(u8::from(index == 0), &[byte]);
        frame[0] &= if index == last { 0xff } else { 0x7f };
        pair.sender.send_raw(&frame);
        pair.sender.send_frame(0x9, b"in between");
    }
    assert_eq!(pair.recipient.receive_text(), text);
    pair.close();
    server.assert_survives("code points split over fragments", "delivered whole");
}

#[test]
fn a_client_that_sends_endless_fragments_is_closed_at_the_message_size_limit() {
    let server = Server::with_settings(json!({"max_message_size": 100_000, "close_timeout": 1}));
    for size in [1, 100, 10_000] {
        let fragment = [frame_header(0x00, size), vec![b'x'; size as usize]].concat();
        let flood = &fragment.repeat(100_000_usize.div_ceil(fragment.len()));
        thread::scope(|scope| {
            for (protocol, _) in server.endpoints() {
                let mut stream = server.connect_raw(protocol);
                let mut sender = stream.try_clone().unwrap();
                scope.spawn(move || {
                    sender.write_all(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
                    send_until_closed(&mut sender, flood);
                });
                scope.spawn(move || assert_eq!(code_of_close(&mut stream), 1009));
            }
        });
        server.assert_survives(
            &format!("endless fragments, {size} bytes each"),
            "closed with 1009",
        );
    }
}

#[test]
fn a_client_that_sends_messages_after_its_close_frame_is_disconnected() {
    let server = Server::with_settings(json!({"close_timeout": 1}));
    let flood = masked_frame(0x1, b"and another thing").repeat(1000);
    thread::scope(|scope| {
        for (protocol, _) in server.endpoints() {
            let mut stream = server.connect_raw(protocol);
            let (mut sender, flood) = (stream.try_clone().unwrap(), &flood);
            scope.spawn(move || {
                let close = masked_frame(0x8, &1000_u16.to_be_bytes());
                sender.write_all(&close).unwrap();
                send_until_closed(&mut sender, flood);
            });
            scope.spawn(move || assert_eq!(code_of_close(&mut stream), 1000));
        }
    });
    server.assert_survives("endless messages after a Close frame", "disconnected");
}

#[test]
fn a_client_that_never_answers_a_close_frame_is_disconnected() {
    let server = Server::with_settings(json!({"close_timeout": 1, "max_message_size": 1000}));
    let rejected_join = r#"{"type":"join","timestamp":1,"sessionId":"nowhere","deviceInfo":{"id":"a","name":"a","type":"client"}}"#;
    let mut closing = Vec::new();
    for (protocol, _) in server.endpoints() {
        let mut stream = server.connect_raw(protocol);
        stream.write_all(&frame_header(0x81, 1001)).unwrap();
        closing.push((stream, 1009));
    }
    for (protocol, target, message, code) in [
        ("peerdrop", "/ws/chat/WRONG2", "", 4404),
        ("loudsync", "/", rejected_join, 1000),
        ("peerjs", "/peerjs", "", 4400),
    ] {
        let mut stream = server.connect_raw_to(protocol, target);
        if !message.is_empty() {
            stream
                .write_all(&masked_frame(0x1, message.as_bytes()))
                .unwrap();
        }
        closing.push((stream, code));
    }
    for (mut stream, code) in closing {
        assert_eq!(code_of_close(&mut stream), code);
        // The client ignores the Close frame and keeps sending.
        let flood = masked_frame(0x9, b"").repeat(1000);
        send_until_closed(&mut stream, &flood);
    }
    server.assert_survives("the server's Close frame is not answered", "disconnected");
}

#[test]
fn memory_comes_back_after_a_message_of_15_mib() {
    let server = Server::start();
    let mut pair = Pair::connect("peerdrop", server.address("peerdrop"), HEALTHY_IP);
    let large = "x".repeat(15 << 20);
    pair.send(&large);
    pair.expect_received(&large);
    // After another message the connections have given up the buffers of the large one.
    pair.send("small");
    pair.expect_received("small");
    server.assert_survives("a message of 15 MiB, sender connected", "delivered");
    pair.close();
}
