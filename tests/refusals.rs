//! The log of clients that are refused: the first of a kind in a minute, then a count; escaped, cut, and without what
//! is secret. The clocks of it are tested in `src/net/notice_log.rs`.

use crate::common::{Client, Daemon, HANDSHAKE, http, read_head, tcp};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

fn daemon(protocol: &str, settings: Value) -> Daemon {
    Daemon::start_protocol(protocol, settings)
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Returns the lines that the daemon logs until it has stopped.
fn rest_of_log(daemon: &Daemon) -> Vec<String> {
    daemon.signal(Signal::TERM);
    std::iter::from_fn(|| daemon.next_log_line()).collect()
}

/// Returns the only line that contains `part`.
fn only<'a>(log: &'a [String], part: &str) -> &'a str {
    let lines: Vec<&String> = log.iter().filter(|line| line.contains(part)).collect();
    assert_eq!(lines.len(), 1, "{part}: {log:#?}");
    lines[0]
}

#[test]
fn each_kind_of_refusal_is_logged_once_and_then_counted() {
    let daemon = daemon("workspace", json!({"origins": ["https://a.example"]}));
    let origin = HANDSHAKE.replace("Host:", "Origin: https://b.example\r\nHost:");
    let long = format!("X: {}\r\n", "x".repeat(64 * 1024));
    for _ in 0..3 {
        assert!(http(daemon.address(), &origin).starts_with("HTTP/1.1 403"));
        http(daemon.address(), &get("/nothing?token=secret", ""));
        http(daemon.address(), &get("/ws?token=secret", ""));
        http(daemon.address(), "nonsense\r\n\r\n");
        let mut stream = tcp(daemon.address());
        // It is refused before it is sent whole.
        let _ = stream.write_all(get("/ws", &long).as_bytes());
        let _ = stream.read(&mut [0; 100]);
    }
    let log = rest_of_log(&daemon);
    assert!(!log.iter().any(|line| line.contains("secret")), "{log:#?}");
    // Each of these has a line, for programs that count them by address.
    let refused = log
        .iter()
        .filter(|line| line.contains("is refused with 403"));
    let lines: Vec<&String> = refused.collect();
    assert_eq!(lines.len(), 3, "{log:#?}");
    let line = lines[0];
    assert!(
        line.contains("https://b.example") && line.contains("localhost"),
        "{line}"
    );
    assert!(line.contains("origins"), "{line}");
    let line = only(&log, "is refused with 404");
    assert!(line.contains("/nothing"), "{line}");
    only(&log, "is refused with 426");
    only(&log, "is refused with 400");
    only(&log, "is refused with 431");
    for status in [400, 404, 426, 431] {
        only(&log, &format!("2 more were refused with {status}"));
    }
}

#[test]
fn clients_above_a_limit_are_logged_with_the_setting() {
    let settings = json!({"max_connections": 1});
    let full = daemon("workspace", settings);
    let client = Client::connect(full.address(), "/ws");
    assert_eq!(
        Client::try_connect(full.address(), "/ws", &[]).err(),
        Some(503)
    );
    let line = full.wait_for_log("is refused with 503");
    assert!(line.contains("max_connections"), "{line}");
    drop(client);
    let full = daemon("peerjs", json!({"max_connections": 1}));
    let target = |id| format!("/peerjs?key=peerjs&id={id}&token=secret");
    let _client = Client::connect(full.address(), &target("one"));
    // The protocol says it by a message.
    Client::connect(full.address(), &target("two")).receive_text();
    let line = full.wait_for_log("is refused with 503");
    assert!(line.contains("max_connections"), "{line}");
    let settings = json!({"max_connections_per_ip": 1});
    let limited = daemon("workspace", settings);
    let _client = Client::connect(limited.address(), "/ws");
    let mut stream = tcp(limited.address());
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 429"));
    let line = limited.wait_for_log("is refused with 429");
    assert!(line.contains("max_connections_per_ip"), "{line}");
}

#[test]
fn what_a_client_chose_is_escaped_and_cut() {
    let daemon = daemon("workspace", json!({}));
    let path = format!("/%0a\u{1b}[2J\u{202e}{}", "x".repeat(1000));
    http(daemon.address(), &get(&path, ""));
    let headers = format!("Origin: https://\u{7f}{}\r\n", "y".repeat(1000));
    http(daemon.address(), &get("/ws", &headers));
    for line in rest_of_log(&daemon) {
        assert!(!line.contains("xxxxxxxxxx".repeat(8).as_str()), "{line}");
        assert!(!line.contains("yyyyyyyyyy".repeat(8).as_str()), "{line}");
        assert!(!line.contains(['\u{202e}', '\u{7f}']), "{line}");
        assert!(!line.contains("\u{1b}[2J"), "{line}");
    }
}

/// Sends these first bytes, and asserts that the server closes the connection without a response.
fn assert_closed_at_once(address: SocketAddr, bytes: &[u8]) {
    let mut stream: TcpStream = tcp(address);
    stream.write_all(bytes).unwrap();
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(response, b"");
}

#[test]
fn tls_on_a_plain_port_ends_the_connection_at_once_and_the_log_says_what_to_do() {
    let daemon = daemon("workspace", json!({}));
    // The beginning of a ClientHello, which would be followed by the rest.
    for bytes in [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x16]] {
        assert_closed_at_once(daemon.address(), bytes);
    }
    let line = daemon.wait_for_log("TLS");
    let advice = if cfg!(feature = "tls") {
        "certificate"
    } else {
        "proxy"
    };
    assert!(line.contains("ws://") && line.contains(advice), "{line}");
    only(&rest_of_log(&daemon), "1 more was refused for TLS");
}

#[test]
fn http2_on_a_plain_port_ends_the_connection_at_once_and_the_log_says_what_to_do() {
    let daemon = daemon("workspace", json!({}));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0";
    assert_closed_at_once(daemon.address(), preface);
    let line = daemon.wait_for_log("HTTP/2");
    assert!(line.contains("HTTP/1.1"), "{line}");
}

#[test]
fn a_proxy_that_is_not_trusted_is_logged_once_with_the_setting() {
    let daemon = daemon("workspace", json!({}));
    for address in ["192.0.2.7", "nonsense", ""] {
        let headers = format!("X-Forwarded-For: {address}\r\n");
        http(daemon.address(), &get("/ws", &headers));
    }
    let log = rest_of_log(&daemon);
    let line = only(&log, "X-Forwarded-For");
    assert!(
        line.contains("trusted_proxies") && line.contains("127.0.0.1"),
        "{line}"
    );
    only(&log, "2 more were not trusted");
}

#[test]
fn an_untrusted_proxy_is_noticed_by_the_header_of_the_configuration() {
    let daemon = daemon("workspace", json!({"forwarded_header": "X-Real-IP"}));
    http(
        daemon.address(),
        &get("/ws", "X-Forwarded-For: 192.0.2.7\r\n"),
    );
    http(daemon.address(), &get("/ws", "X-Real-IP: 192.0.2.7\r\n"));
    let log = rest_of_log(&daemon);
    assert!(only(&log, "not trusted").contains("its X-Real-IP is ignored"));
}

#[test]
fn a_trusted_proxy_is_not_logged() {
    let daemon = daemon("workspace", json!({"trusted_proxies": ["127.0.0.1"]}));
    http(
        daemon.address(),
        &get("/ws", "X-Forwarded-For: 192.0.2.7\r\n"),
    );
    let log = rest_of_log(&daemon);
    assert!(
        !log.iter().any(|line| line.contains("X-Forwarded-For")),
        "{log:#?}"
    );
    // The refusal is the client's.
    assert!(only(&log, "is refused with 426").contains("192.0.2.7"));
}

#[test]
fn a_client_that_sends_no_request_is_logged() {
    let daemon = daemon("workspace", json!({"handshake_timeout": 0.1}));
    let mut stream = tcp(daemon.address());
    stream.write_all(b"GET /ws HTTP/1.1\r\n").unwrap();
    let line = daemon.wait_for_log("is refused for its silence");
    assert!(line.contains("handshake_timeout"), "{line}");
}
