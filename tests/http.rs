//! What a listener answers to requests, and whom it lets in.

use crate::common::{Client, Daemon, HANDSHAKE, http, receive_http, tcp, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

fn daemon(settings: Value) -> Daemon {
    Daemon::of("workspace", settings)
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
        .parse()
        .unwrap()
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn a_plain_request_is_told_what_to_do() {
    let daemon = daemon(json!({}));
    for (method, path, expected) in [
        ("GET", "/", 404),
        ("GET", "/ws/", 404),
        ("POST", "/elsewhere", 404),
        ("GET", "/ws", 426),
        ("GET", "/ws?username=a", 426),
        ("OPTIONS", "/ws", 204),
        ("POST", "/ws", 405),
        ("DELETE", "/ws", 405),
        ("NONSENSE", "/ws", 405),
    ] {
        let answer = http(daemon.address(), &request(method, path));
        assert_eq!(status(&answer), expected, "{method} {path}: {answer}");
        if expected != 204 {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{head}"
            );
            assert_eq!(body.lines().count(), 1, "{body}");
        }
    }
    let answer = http(daemon.address(), &request("GET", "/ws"));
    assert!(answer.contains("wscat -c 'ws://localhost/ws'"), "{answer}");
}

#[test]
fn a_method_that_is_not_allowed_is_told_so_whatever_it_brings() {
    let daemon = daemon(json!({}));
    let post = "POST /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let answer = http(daemon.address(), post);
    assert_eq!(status(&answer), 405);
    assert!(
        answer.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"),
        "{answer}"
    );
}

#[test]
fn an_answer_to_head_has_no_body() {
    let daemon = daemon(json!({}));
    for (path, expected) in [("/", 404), ("/ws", 426)] {
        let answer = http(daemon.address(), &request("HEAD", path));
        assert_eq!(status(&answer), expected);
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn what_is_no_request_or_too_large_is_answered() {
    let daemon = daemon(json!({}));
    for (request, expected) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /ws HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "GET /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            400,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000)),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(65)),
            431,
        ),
        ("x".repeat(100_000), 431),
    ] {
        assert_eq!(status(&http(daemon.address(), &request)), expected);
    }
    Client::connect(daemon.address(), "/ws").json();
}

#[test]
fn frames_sent_right_behind_the_handshake_are_not_lost() {
    let daemon = daemon(json!({}));
    let mut stream = tcp(daemon.address());
    let mut bytes = HANDSHAKE.as_bytes().to_vec();
    bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
    stream.write_all(&bytes).unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("INVALID_MESSAGE") {
        let mut bytes = [0; 1000];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&answer));
        answer.extend(&bytes[..count]);
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains(r#""type":"connected""#), "{answer}");
}

#[test]
fn origins_are_let_in_as_the_configuration_says() {
    let allowed = |origins: Value, origin| {
        let daemon = daemon(json!({"origins": origins}));
        match Client::try_connect(daemon.address(), "/ws", &[("origin", origin)]) {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status, 403);
                assert!(Client::try_connect(daemon.address(), "/ws", &[]).is_ok());
                false
            }
        }
    };
    assert!(allowed(json!(["*"]), "https://anywhere.example"));
    assert!(allowed(json!(["same-host"]), "http://localhost:3000"));
    assert!(allowed(json!(["same-host"]), "http://127.0.0.1"));
    assert!(!allowed(json!(["same-host"]), "https://evil.example"));
    assert!(!allowed(
        json!(["https://good.example"]),
        "https://good.example.evil"
    ));
    assert!(allowed(
        json!(["https://good.example"]),
        "https://good.example"
    ));
}

#[test]
fn beyond_the_connections_of_a_listener_there_is_503() {
    let daemon = daemon(json!({"max_connections": 2}));
    let first = Client::connect(daemon.address(), "/ws");
    let _second = Client::connect(daemon.address(), "/ws");
    let answer = http(daemon.address(), HANDSHAKE);
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    first.leaves();
    // Its place is free again no later than its socket is closed.
    wait_until("there is room", || {
        Client::try_connect(daemon.address(), "/ws", &[]).is_ok()
    });
}

#[test]
fn who_is_refused_counts_until_its_socket_is_closed() {
    let daemon = daemon(json!({"max_connections": 1, "close_timeout": 1000}));
    let mut refused = tcp(daemon.address());
    refused
        .write_all(request("GET", "/elsewhere").as_bytes())
        .unwrap();
    let refused = (receive_http(refused.try_clone().unwrap()), refused);
    assert_eq!(status(&refused.0), 404);
    // Its answer has come, but it does not go.
    let answers: Vec<(String, TcpStream)> = (0..40)
        .map(|_| {
            let mut stream = tcp(daemon.address());
            // It may be cut off already.
            let _ = stream.write_all(HANDSHAKE.as_bytes());
            (receive_http(stream.try_clone().unwrap()), stream)
        })
        .collect();
    let told = answers
        .iter()
        .filter(|(answer, _)| answer.starts_with("HTTP/1.1 503 "))
        .count();
    let cut_off = answers
        .iter()
        .filter(|(answer, _)| answer.is_empty())
        .count();
    assert_eq!((told, cut_off), (32, 8));
}

#[test]
fn beyond_the_connections_of_the_process_there_is_503_on_every_listener() {
    let config = json!({"max_connections": 1, "listeners": [{"protocol": "workspace"}, {"protocol": "peerdrop"}]});
    let daemon = Daemon::start(config);
    let _only = Client::connect(daemon.addresses[0], "/ws");
    assert_eq!(
        Client::try_connect(daemon.addresses[1], "/ws/chat", &[]).err(),
        Some(503)
    );
}

#[test]
fn beyond_the_connections_of_an_address_there_is_429_for_it_alone() {
    let daemon = daemon(json!({"max_connections_per_ip": 1, "trusted_proxies": ["127.0.0.0/8"]}));
    let from =
        |address| Client::try_connect(daemon.address(), "/ws", &[("x-forwarded-for", address)]);
    let _first = from("192.0.2.1").ok().unwrap();
    assert_eq!(from("192.0.2.1").err(), Some(429));
    assert!(from("192.0.2.2").is_ok());
    let _network = from("2001:db8::1").ok().unwrap();
    assert_eq!(from("2001:db8::2").err(), Some(429));
}

#[test]
fn even_those_who_say_nothing_count_for_their_address() {
    let daemon = daemon(json!({"max_connections_per_ip": 1}));
    // Each is served by a task of its own, so either may be the first.
    let both = [tcp(daemon.address()), tcp(daemon.address())];
    let is_answered = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let answered = stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
        stream.set_nonblocking(false).unwrap();
        answered
    };
    wait_until("one is answered", || {
        both.iter().any(|stream| is_answered(&stream))
    });
    let answered = both.iter().find(is_answered).unwrap();
    let answer = receive_http(answered.try_clone().unwrap());
    assert_eq!(status(&answer), 429);
}

#[test]
fn a_strangers_forwarded_address_is_not_believed() {
    let daemon = daemon(json!({"max_connections_per_ip": 1}));
    let from =
        |address| Client::try_connect(daemon.address(), "/ws", &[("x-forwarded-for", address)]);
    let _first = from("192.0.2.1").ok().unwrap();
    assert_eq!(from("192.0.2.2").err(), Some(429));
}
