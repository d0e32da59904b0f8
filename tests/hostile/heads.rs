//! Attacks with HTTP request heads: malformed, too large, sent too slowly or without end, ambiguous
//! (request smuggling), or with wrong handshake headers. The server must answer with an error status or
//! close, and must never treat the bytes behind a rejected head as another request.

use super::{Server, send_until_closed};
use crate::common::{handshake, http, read_head, receive_http, request_target, tcp};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

/// Returns the status of a response, and asserts that it is the only one.
fn only_status(responses: &str) -> u16 {
    let statuses: Vec<&str> = responses.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(statuses.len(), 1, "{responses}");
    statuses[0][..3].parse().unwrap()
}

/// Sends bytes and the end of the stream. Returns everything that the server sends.
fn responses_to(address: SocketAddr, bytes: &str) -> String {
    let mut stream = tcp(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    receive_http(stream)
}

#[test]
fn a_client_whose_head_takes_too_long_is_disconnected_while_others_are_served() {
    // The timeout is long, so that healthy clients send their requests in time on a slow machine.
    let server = Server::with_settings(json!({"handshake_timeout": 20}));
    thread::scope(|scope| {
        let mut slow = Vec::new();
        let mut silent = Vec::new();
        for (protocol, address) in server.endpoints() {
            silent.push(tcp(address));
            let mut stream = tcp(address);
            stream.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
            silent.push(stream);
            let head = handshake(&request_target(protocol));
            slow.push(scope.spawn(move || is_closed_early(address, head.as_bytes())));
        }
        server.assert_serves();
        for stream in silent {
            assert_eq!(receive_http(stream), "");
        }
        for client in slow {
            assert!(client.join().unwrap(), "the server took the whole head");
        }
    });
    server.assert_survives("one byte of a head per second, or none", "disconnected");
}

/// Sends one byte per second. Returns whether the server closed the connection before the last one.
fn is_closed_early(address: SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = tcp(address);
    // The pause is a read that times out after a second.
    let pause = Duration::from_secs(1);
    stream.set_read_timeout(Some(pause)).unwrap();
    bytes
        .iter()
        .any(|byte| stream.write_all(&[*byte]).is_err() || has_ended(stream.read(&mut [0])))
}

/// Returns whether a read found the end of the connection. Asserts that it found no response.
fn has_ended(read: std::io::Result<usize>) -> bool {
    match read {
        Ok(bytes) => {
            assert_eq!(bytes, 0, "unexpected response");
            true
        }
        Err(error) => !matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
        ),
    }
}

#[test]
fn a_malformed_or_too_large_head_is_rejected() {
    let server = Server::start();
    let mut seed = 1_u64;
    let mut garbage = || {
        // The linear congruential generator of Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005);
        seed = seed.wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    let garbage: Vec<u8> = (0..100_000).map(|_| garbage()).collect();
    let terminated = [b"\x01\x02\x03 garbage\r\n\r\n", &garbage[..]].concat();
    let head_with = |header: &str| {
        let headers = header.repeat(10_000);
        format!("GET /ws HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes()
    };
    for (case, bytes, expected) in [
        ("100,000 bytes of garbage", garbage, 431),
        ("a garbage line, an empty line, garbage", terminated, 400),
        ("10,000 headers", head_with("X-Header: value\r\n"), 431),
        ("10,000 headers without a value", head_with("a:\r\n"), 431),
    ] {
        for (protocol, address) in server.endpoints() {
            let mut stream = tcp(address);
            // The server may respond and close before it has read everything.
            let _ = stream.write_all(&bytes);
            assert_eq!(
                only_status(&receive_http(stream)),
                expected,
                "{protocol}: {case}"
            );
        }
        server.assert_survives(case, &format!("status {expected}"));
    }
}

#[test]
fn a_client_that_sends_an_endless_head_is_rejected_and_disconnected() {
    let server = Server::with_settings(json!({"close_timeout": 1}));
    thread::scope(|scope| {
        for (_, address) in server.endpoints() {
            let mut stream = tcp(address);
            stream.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
            let mut response = stream.try_clone().unwrap();
            scope.spawn(move || send_until_closed(&mut stream, b"X-Header: value\r\n"));
            // Reads at once: when the server closes, a reset may discard the response.
            scope.spawn(move || {
                let mut status = [0; 13];
                response.read_exact(&mut status).unwrap();
                assert_eq!(&status, b"HTTP/1.1 431 ");
            });
        }
    });
    server.assert_survives("an endless head", "status 431, then disconnected");
}

#[test]
fn an_ambiguous_head_is_rejected_and_bytes_behind_it_are_not_answered() {
    let server = Server::start();
    let second = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", second.len());
    // PeerJS and FastChat answer both requests of a pipeline that is valid.
    for (protocol, path) in [("peerjs", "/"), ("fastchat", "/presence/online")] {
        let first = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let responses = http(server.address(protocol), &format!("{first}{second}"));
        assert_eq!(responses.matches("HTTP/1.1 ").count(), 2, "{responses}");
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (case, headers) in [
        ("a GET or handshake with a body", length.clone()),
        (
            "two different Content-Lengths",
            format!("Content-Length: 0\r\n{length}"),
        ),
        ("the same Content-Length twice", length.repeat(2)),
        (
            "two Content-Lengths in one header",
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
        ("Transfer-Encoding: chunked", format!("{chunked}\r\n0\r\n")),
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
        ("a bare LF before the empty line", "X: a\n\n".to_owned()),
        ("a bare CR", "X: a\rY: b\r\n".to_owned()),
        (
            "a space before the colon",
            "Content-Length : 5\r\n".to_owned(),
        ),
        ("a NUL", "X: a\0b\r\n".to_owned()),
        ("a header without a name", ": b\r\n".to_owned()),
        ("a header without a colon", "Nonsense\r\n".to_owned()),
        ("a second Host header", "Host: other\r\n".to_owned()),
    ] {
        let mut statuses = Vec::new();
        for (protocol, address) in server.endpoints() {
            let plain = handshake("/presence/online");
            let plain = plain.split_once("Upgrade").unwrap().0;
            let upgrade = handshake(&request_target(protocol));
            let upgrade = upgrade.strip_suffix("\r\n").unwrap();
            let post = plain.replacen("GET", "POST", 1);
            let post = post.replacen("online", "heartbeat", 1);
            for head in [plain, upgrade, &post] {
                let response = responses_to(address, &format!("{head}{headers}\r\n{second}"));
                let status = only_status(&response);
                // FastChat's POST takes a body, so there the connection may stay open.
                let has_body = protocol == "fastchat"
                    && head == post
                    && case == "a GET or handshake with a body";
                assert!(
                    (400..500).contains(&status),
                    "{protocol}, {case}: {response}"
                );
                assert!(
                    has_body || response.contains("Connection: close"),
                    "{response}"
                );
                statuses.push(status);
            }
        }
        statuses.sort_unstable();
        statuses.dedup();
        server.assert_survives(case, &format!("status {statuses:?}"));
    }
}

#[test]
fn a_handshake_with_a_wrong_missing_or_repeated_header_is_rejected() {
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
        ("HTTP/1.1", "HTTP/1.2", 400),
        ("HTTP/1.1", "HTTP/2.0", 400),
        ("HTTP/1.1", "HTTP/0.9", 400),
        ("GET", "POST", 405),
    ] {
        for (protocol, address) in server.endpoints() {
            let head = handshake(&request_target(protocol));
            assert!(head.contains(from));
            // Frames of a client that does not wait for the 101 are not read as a request either.
            let bytes = format!("{}\x01\x01", head.replacen(from, to, 1));
            let response = responses_to(address, &bytes);
            assert_eq!(
                only_status(&response),
                expected,
                "{protocol}: {to:?} for {from:?}"
            );
        }
        let (from, to) = (from.trim_end(), to.trim_end());
        let case = if to.is_empty() {
            format!("a handshake without {from:?}")
        } else {
            format!("a handshake with {to:?} instead of {from:?}")
        };
        server.assert_survives(&case, &format!("status {expected}"));
    }
    // The values of these two are lists, which may be split over several headers.
    for header in [upgrade, connection] {
        for (protocol, address) in server.endpoints() {
            let head = handshake(&request_target(protocol)).replacen(header, &header.repeat(2), 1);
            let mut stream = tcp(address);
            stream.write_all(head.as_bytes()).unwrap();
            let response = read_head(&mut stream);
            assert!(
                response.starts_with("HTTP/1.1 101 "),
                "{protocol}: {response}"
            );
        }
        server.assert_survives(
            &format!("a handshake with {:?} twice", header.trim_end()),
            "status 101",
        );
    }
}

#[test]
fn an_odd_handshake_is_accepted_and_writes_nothing_into_the_response() {
    let server = Server::start();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let upgrade = "Upgrade: websocket\r\n";
    let many = format!(
        "Sec-WebSocket-Protocol: {}\r\n{upgrade}",
        "a,".repeat(7_000)
    );
    let repeated = format!("{}{upgrade}", "Sec-WebSocket-Protocol: b\r\n".repeat(90));
    let no_tokens = format!("Sec-WebSocket-Protocol: a b, \"c\", <d>, \u{e9}\r\n{upgrade}");
    for (case, from, to, answered) in [
        ("HTTP/1.0", "HTTP/1.1", "HTTP/1.0", None),
        (
            "a key with spare bits",
            key,
            "dGhlIHNhbXBsZSBub25jZ/==",
            None,
        ),
        ("14,000 bytes of subprotocols", upgrade, &*many, Some("a")),
        (
            "90 headers with subprotocols",
            upgrade,
            &*repeated,
            Some("b"),
        ),
        (
            "subprotocols that are no tokens",
            upgrade,
            &*no_tokens,
            None,
        ),
    ] {
        for (protocol, address) in server.endpoints() {
            let head = handshake(&request_target(protocol));
            assert!(head.contains(from));
            let mut stream = tcp(address);
            stream
                .write_all(head.replacen(from, to, 1).as_bytes())
                .unwrap();
            let response = read_head(&mut stream);
            assert!(
                response.starts_with("HTTP/1.1 101 "),
                "{protocol}, {case}: {response}"
            );
            let lines: Vec<&str> = response.lines().collect();
            assert_eq!(
                lines.len(),
                5 + usize::from(answered.is_some()),
                "{response}"
            );
            let subprotocol = lines[4].strip_prefix("Sec-WebSocket-Protocol: ");
            assert_eq!(subprotocol, answered, "{protocol}, {case}: {response}");
        }
        server.assert_survives(case, "status 101");
    }
}

#[test]
fn a_page_that_names_a_host_or_an_origin_that_is_none_is_rejected() {
    let server = Server::with_settings(json!({"origins": ["same-host", "https://*.a.example"]}));
    let long = "a".repeat(10_000);
    let host = "Host: localhost\r\n";
    for name in [
        "evil.example",
        "evil.example/.localhost",
        "evil.example\\.localhost",
        "evil.example#.localhost",
        "evil.example/.a.example",
        "evil.example:80@localhost",
        "localhost:80:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "[::1",
        "[::1]evil.example",
        "*.a.example",
        ".a.example",
        "a.example",
        ",a.a.example",
        "evil.example\t.localhost",
        "m\u{fc}nchen.a.example",
        &long,
    ] {
        for header in [
            format!("Host: {name}\r\n"),
            format!("{host}Origin: https://{name}\r\n"),
            format!("{host}Origin: x://{name}\r\n"),
        ] {
            for (protocol, address) in server.endpoints() {
                let request = handshake(&request_target(protocol)).replacen(host, &header, 1);
                let response = responses_to(address, &request);
                assert_eq!(only_status(&response), 403, "{protocol}: {header:.80}");
            }
        }
    }
    server.assert_survives("hosts and origins that are none", "status 403");
}
