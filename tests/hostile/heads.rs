//! Requests that are none, too large, too slow, or two in one.

use super::{Server, send_until_closed, target};
use crate::common::{handshake, http, read_head, receive_http, tcp};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

/// The status of the only answer.
fn status(answers: &str) -> u16 {
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(statuses.len(), 1, "{answers}");
    statuses[0][..3].parse().unwrap()
}

/// All that comes back for octets after which nothing else will come.
fn answers(address: SocketAddr, bytes: &str) -> String {
    let mut stream = tcp(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    receive_http(stream)
}

#[test]
fn a_head_that_takes_too_long_is_cut_off_and_hinders_nobody() {
    // Time enough for the healthy clients to send their requests.
    let server = Server::with_settings(json!({"handshake_timeout": 20}));
    thread::scope(|scope| {
        let mut dribblers = Vec::new();
        let mut silent = Vec::new();
        for (protocol, address) in server.endpoints() {
            silent.push(tcp(address));
            let mut begun = tcp(address);
            begun.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
            silent.push(begun);
            let head = handshake(&target(protocol));
            dribblers.push(scope.spawn(move || dribble(address, head.as_bytes())));
        }
        server.assert_serves();
        for stream in silent {
            assert_eq!(receive_http(stream), "");
        }
        for dribbler in dribblers {
            assert!(dribbler.join().unwrap(), "the whole head was taken");
        }
    });
    server.assert_survives("a head dribbled a byte a second, or not at all", "cut off");
}

/// Sends a byte a second. Says whether it was cut off before the end.
fn dribble(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = tcp(address);
    // To read for a second is the pause.
    let pause = Duration::from_secs(1);
    stream.set_read_timeout(Some(pause)).unwrap();
    bytes
        .iter()
        .any(|byte| stream.write_all(&[*byte]).is_err() || is_over(stream.read(&mut [0])))
}

/// Whether the other side is gone, where nothing else can come.
fn is_over(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(bytes) => {
            assert_eq!(bytes, 0, "there was an answer");
            true
        }
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
        ),
    }
}

#[test]
fn what_is_no_head_or_too_large_is_refused() {
    let server = Server::start();
    let mut seed = 1_u64;
    let mut garbage = || {
        // Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005);
        seed = seed.wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let garbage: Vec<u8> = (0..100_000).map(|_| garbage()).collect();
    let lines = [b"\x16\x03\x01 garbage\r\n\r\n", &garbage[..]].concat();
    let headers = |header: &str| {
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: h\r\n{}\r\n",
            header.repeat(10_000)
        );
        head.into_bytes()
    };
    for (case, bytes, expected) in [
        ("100,000 bytes of garbage", garbage, 431),
        ("garbage with an end", lines, 400),
        ("10,000 headers", headers("X-Header: value\r\n"), 431),
        ("10,000 empty headers", headers("a:\r\n"), 431),
    ] {
        for (protocol, address) in server.endpoints() {
            let mut stream = tcp(address);
            // It may be refused before its end.
            let _ = stream.write_all(&bytes);
            assert_eq!(
                status(&receive_http(stream)),
                expected,
                "{protocol}: {case}"
            );
        }
        server.assert_survives(case, &expected.to_string());
    }
}

#[test]
fn a_head_without_end_is_refused_and_then_cut_off() {
    let server = Server::with_settings(json!({"close_timeout": 1}));
    thread::scope(|scope| {
        for (_, address) in server.endpoints() {
            let mut stream = tcp(address);
            stream.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
            let mut answer = stream.try_clone().unwrap();
            scope.spawn(move || send_until_closed(&mut stream, b"X-Header: value\r\n"));
            // Once it is cut off there may be a reset, after which there is nothing to read.
            scope.spawn(move || {
                let mut status = [0; 13];
                answer.read_exact(&mut status).unwrap();
                assert_eq!(&status, b"HTTP/1.1 431 ");
            });
        }
    });
    server.assert_survives("a head without end", "431, then cut off");
}

#[test]
fn what_could_be_read_as_two_requests_is_refused_and_nothing_behind_it_answered() {
    let server = Server::start();
    let second = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", second.len());
    // Without a trick, PeerJS and FastChat answer both.
    for (protocol, path) in [("peerjs", "/"), ("fastchat", "/presence/online")] {
        let first = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answers = http(server.address(protocol), &format!("{first}{second}"));
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (case, headers) in [
        ("a body on GET", length.clone()),
        (
            "two Content-Lengths",
            format!("Content-Length: 0\r\n{length}"),
        ),
        ("the same Content-Length twice", length.repeat(2)),
        (
            "two Content-Lengths in one",
            "Content-Length: 0, 5\r\n".to_owned(),
        ),
        (
            "a signed Content-Length",
            "Content-Length: +5\r\n".to_owned(),
        ),
        (
            "a negative Content-Length",
            "Content-Length: -1\r\n".to_owned(),
        ),
        (
            "a hexadecimal Content-Length",
            "Content-Length: 0x5\r\n".to_owned(),
        ),
        (
            "a huge Content-Length",
            format!("Content-Length: {}\r\n", "9".repeat(30)),
        ),
        ("chunks", format!("{chunked}\r\n0\r\n")),
        (
            "Content-Length with Transfer-Encoding",
            format!("{length}{chunked}"),
        ),
        (
            "an unknown Transfer-Encoding",
            "Transfer-Encoding: xchunked\r\n".to_owned(),
        ),
        ("a folded line", "X: a\r\n folded\r\n".to_owned()),
        (
            "a folded Transfer-Encoding",
            "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
        ),
        ("a bare LF", "X: a\nY: b\r\n".to_owned()),
        ("a bare LF at the end", "X: a\n\n".to_owned()),
        ("a bare CR", "X: a\rY: b\r\n".to_owned()),
        (
            "a space before the colon",
            "Content-Length : 5\r\n".to_owned(),
        ),
        ("a NUL", "X: a\0b\r\n".to_owned()),
        ("a header without a name", ": b\r\n".to_owned()),
        ("a header without a colon", "Nonsense\r\n".to_owned()),
        ("a second Host", "Host: other\r\n".to_owned()),
    ] {
        let mut statuses = Vec::new();
        for (protocol, address) in server.endpoints() {
            let plain = handshake("/presence/online");
            let plain = plain.split_once("Upgrade").unwrap().0;
            let socket = handshake(&target(protocol));
            let socket = socket.strip_suffix("\r\n").unwrap();
            let post = plain.replacen("GET", "POST", 1);
            let post = post.replacen("online", "heartbeat", 1);
            for head in [plain, socket, &post] {
                let answer = answers(address, &format!("{head}{headers}\r\n{second}"));
                let status = status(&answer);
                // A POST may have a body.
                let is_body = protocol == "fastchat" && head == post && case == "a body on GET";
                assert!((400..500).contains(&status), "{protocol}, {case}: {answer}");
                assert!(is_body || answer.contains("Connection: close"), "{answer}");
                statuses.push(status);
            }
        }
        statuses.sort_unstable();
        statuses.dedup();
        server.assert_survives(case, &format!("{statuses:?}"));
    }
}

#[test]
fn a_handshake_with_a_wrong_missing_or_doubled_header_is_refused() {
    let server = Server::start();
    let upgrade = "Upgrade: websocket\r\n";
    let connection = "Connection: Upgrade\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let host = "Host: localhost\r\n";
    for (from, to, expected) in [
        (upgrade, "", 426),
        (upgrade, "Upgrade: h2c\r\n", 426),
        (upgrade, "Upgrade: websockets\r\n", 426),
        (connection, "", 400),
        (connection, "Connection: close\r\n", 400),
        (connection, "Connection: Upgraded\r\n", 400),
        (version, "", 426),
        (version, "Sec-WebSocket-Version: 8\r\n", 426),
        (
            version,
            &format!("{version}Sec-WebSocket-Version: 8\r\n"),
            426,
        ),
        (version, &version.repeat(2), 426),
        (key, "", 400),
        (key, "Sec-WebSocket-Key: \r\n", 400),
        (key, "Sec-WebSocket-Key: c2hvcnQ=\r\n", 400),
        (key, &key.repeat(2), 400),
        (host, "", 400),
        (host, &host.repeat(2), 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("GET", "POST", 405),
    ] {
        for (protocol, address) in server.endpoints() {
            let head = handshake(&target(protocol));
            assert!(head.contains(from));
            // A frame behind it is no request either.
            let bytes = format!("{}\x01\x01", head.replacen(from, to, 1));
            let answer = answers(address, &bytes);
            assert_eq!(status(&answer), expected, "{protocol}: {to:?} for {from:?}");
        }
        let case = format!(
            "{:?} in a handshake for {:?}",
            to.trim_end(),
            from.trim_end()
        );
        server.assert_survives(&case, &expected.to_string());
    }
    // Both are lists, which may come in several lines.
    for twice in [upgrade, connection] {
        for (protocol, address) in server.endpoints() {
            let head = handshake(&target(protocol)).replacen(twice, &twice.repeat(2), 1);
            let mut stream = tcp(address);
            stream.write_all(head.as_bytes()).unwrap();
            let answer = read_head(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 101 "), "{protocol}: {answer}");
        }
        server.assert_survives(&format!("{:?} twice", twice.trim_end()), "101");
    }
}
