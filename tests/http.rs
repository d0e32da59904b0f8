//! Responses of a listener to plain requests, and the connections that it admits and rejects.

use crate::common::{Client, Daemon, HANDSHAKE, http, read_head, receive_http, tcp, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use switchboard::config::Listener;
use switchboard::protocols::PROTOCOLS;
use switchboard::realm::Method;
use switchboard::realm::Protocol;

fn daemon(settings: Value) -> Daemon {
    Daemon::start_protocol("workspace", settings)
}

fn status(response: &str) -> u16 {
    response
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("not an HTTP response: {response:?}"))
        .parse()
        .unwrap()
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn plain_requests_get_a_status_and_one_line_of_help() {
    let daemon = daemon(json!({}));
    for (method, path, expected) in [
        ("GET", "/", 200),
        ("GET", "/ws/", 404),
        ("POST", "/elsewhere", 404),
        ("GET", "/ws", 426),
        ("GET", "/ws?username=a", 426),
        ("OPTIONS", "/ws", 204),
        ("POST", "/ws", 405),
        ("DELETE", "/ws", 405),
        ("NONSENSE", "/ws", 405),
    ] {
        let response = http(daemon.address(), &request(method, path));
        assert_eq!(status(&response), expected, "{method} {path}: {response}");
        if expected != 204 {
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{head}"
            );
            assert_eq!(body.lines().count(), 1, "{body}");
        }
    }
    let response = http(daemon.address(), &request("GET", "/ws"));
    assert!(
        response.contains("wscat -c 'ws://localhost/ws'"),
        "{response}"
    );
}

#[test]
fn a_method_that_is_not_allowed_gets_405_even_with_a_body() {
    let daemon = daemon(json!({}));
    let post = "POST /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let response = http(daemon.address(), post);
    assert_eq!(status(&response), 405);
    assert!(
        response.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"),
        "{response}"
    );
}

#[test]
fn a_response_to_head_has_no_body() {
    let daemon = daemon(json!({}));
    for (path, expected) in [("/", 200), ("/elsewhere", 404), ("/ws", 426)] {
        let response = http(daemon.address(), &request("HEAD", path));
        assert_eq!(status(&response), expected);
        assert!(response.ends_with("\r\n\r\n"), "{response}");
    }
}

#[test]
fn malformed_and_oversized_requests_get_an_error() {
    let daemon = daemon(json!({}));
    for (request, expected) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET /ws HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "GET /ws HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            400,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(17_000)),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "X: y\r\n".repeat(100)
            ),
            431,
        ),
        ("x".repeat(100_000), 431),
    ] {
        assert_eq!(status(&http(daemon.address(), &request)), expected);
    }
    Client::connect(daemon.address(), "/ws").receive_json();
}

#[test]
fn login_cookies_of_the_same_domain_fit_into_a_handshake() {
    let daemon = daemon(json!({}));
    let cookies = "c".repeat(15 * 1024);
    Client::try_connect(daemon.address(), "/ws", &[("cookie", &cookies)]).unwrap();
    let headers: String = (0..94).map(|n| format!("X-{n}: y\r\n")).collect();
    let request = HANDSHAKE.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
    assert_eq!(request.lines().count(), 1 + 99 + 1);
    assert_eq!(upgrade(&daemon, &request).0, 101);
}

/// Sends a handshake. Returns the status and the head of the response.
fn upgrade(daemon: &Daemon, request: &str) -> (u16, String) {
    let mut stream = tcp(daemon.address());
    stream.write_all(request.as_bytes()).unwrap();
    let head = read_head(&mut stream);
    (status(&head), head)
}

#[test]
fn a_handshake_over_http_1_0_is_accepted_and_logged_once_a_minute() {
    let listener = json!({"protocol": "workspace"});
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    for headers in ["Host: localhost\r\n", ""] {
        let request = HANDSHAKE.replacen("HTTP/1.1", "HTTP/1.0", 1);
        let request = request.replacen("Host: localhost\r\n", headers, 1);
        assert_eq!(upgrade(&daemon, &request).0, 101);
    }
    let line = daemon.wait_for_log("over HTTP/1.0");
    assert!(line.contains("proxy_http_version 1.1;"), "{line}");
    // The second of the minute is not logged, and other handshakes never.
    Client::connect(daemon.address(), "/ws?username=last").receive_json();
    for _ in 0..2 {
        let line = daemon.wait_for_log(": opened from");
        assert!(!line.contains("HTTP/1.0"), "{line}");
    }
    daemon.signal(Signal::TERM);
    while let Some(line) = daemon.next_log_line() {
        assert!(!line.contains("over HTTP/1.0"), "{line}");
    }
}

#[test]
fn of_the_subprotocols_that_are_offered_the_first_is_answered() {
    let daemon = daemon(json!({}));
    for (offered, expected) in [
        ("", None),
        ("Sec-WebSocket-Protocol: chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: a.b, chat\r\n", Some("a.b")),
        ("Sec-WebSocket-Protocol: ,, Chat ,x\r\n", Some("Chat")),
        (
            "sec-websocket-protocol: a\r\nSec-WebSocket-Protocol: b\r\n",
            Some("a"),
        ),
        ("Sec-WebSocket-Protocol: \r\n", None),
        // Not a token.
        ("Sec-WebSocket-Protocol: a b\r\n", None),
        ("Sec-WebSocket-Protocol: \"a\", (b), c\r\n", Some("c")),
    ] {
        let request = HANDSHAKE.replacen(
            "Upgrade: websocket",
            &format!("{offered}Upgrade: websocket"),
            1,
        );
        let (status, head) = upgrade(&daemon, &request);
        assert_eq!(status, 101, "{offered}");
        let answered: Vec<&str> = head
            .lines()
            .filter_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "))
            .collect();
        assert_eq!(
            answered,
            expected.into_iter().collect::<Vec<_>>(),
            "{offered}"
        );
    }
    // A client library fails without the answer.
    Client::try_connect(
        daemon.address(),
        "/ws",
        &[("sec-websocket-protocol", "chat")],
    )
    .unwrap();
}

#[test]
fn a_key_is_accepted_whatever_its_spare_bits_say() {
    let daemon = daemon(json!({}));
    for last in "ABCQRgw9+/".chars() {
        let request = HANDSHAKE.replacen("jZQ==", &format!("jZ{last}=="), 1);
        let (status, head) = upgrade(&daemon, &request);
        assert_eq!(status, 101, "{last}");
        assert!(last != 'Q' || head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}

#[test]
fn get_of_the_root_says_what_this_is_and_where_to_connect() {
    let answers_root = |it: &Protocol| it.methods.contains(&Method::Get) && (it.matches_path)("/");
    for protocol in PROTOCOLS.iter().filter(|it| !answers_root(it)) {
        let endpoint = Listener::built_in(protocol).endpoint();
        let protocol = protocol.name;
        let daemon = Daemon::start_protocol(protocol, json!({}));
        for target in ["/", "/?x=y", "http://localhost/"] {
            let request = format!("GET {target} HTTP/1.0\r\nHost: localhost:1\r\n\r\n");
            let response = http(daemon.address(), &request);
            assert_eq!(status(&response), 200, "{protocol} {target}");
            let (_, body) = response.split_once("\r\n\r\n").unwrap();
            assert_eq!(
                body,
                format!(
                    "switchboard serves {protocol} here; connect with a WebSocket client, for example: \
                     wscat -c 'ws://localhost:1{endpoint}'\n"
                )
            );
        }
        let daemon = Daemon::start_protocol(protocol, json!({"landing_page": false}));
        assert_eq!(
            status(&http(
                daemon.address(),
                "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"
            )),
            404,
            "{protocol}"
        );
    }
}

#[test]
fn the_root_of_peerjs_is_the_protocols_own_where_it_defines_one() {
    let get = |daemon: &Daemon| {
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        http(daemon.address(), request)
    };
    let own = Daemon::start_protocol("peerjs", json!({"landing_page": false}));
    assert!(get(&own).contains("PeerJS Server"));
    let below = Daemon::start_protocol("peerjs", json!({"path": "/myapp"}));
    let response = get(&below);
    assert_eq!(status(&response), 200);
    assert!(
        response.contains("wscat -c 'ws://localhost/myapp/peerjs'"),
        "{response}"
    );
    let off = Daemon::start_protocol("peerjs", json!({"path": "/myapp", "landing_page": false}));
    assert_eq!(status(&get(&off)), 404);
}

#[test]
fn frames_sent_together_with_the_handshake_are_not_lost() {
    let daemon = daemon(json!({}));
    let mut stream = tcp(daemon.address());
    let mut bytes = HANDSHAKE.as_bytes().to_vec();
    bytes.extend([0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
    stream.write_all(&bytes).unwrap();
    let mut response = Vec::new();
    while !String::from_utf8_lossy(&response).contains("INVALID_MESSAGE") {
        let mut bytes = [0; 1000];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&response));
        response.extend(&bytes[..count]);
    }
    let response = String::from_utf8_lossy(&response);
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(response.contains(r#""type":"connected""#), "{response}");
}

#[test]
fn only_the_configured_origins_are_admitted() {
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
        json!(["https://good.example:443"]),
        "https://good.example"
    ));
    assert!(allowed(
        json!(["https://*.good.example"]),
        "https://a.b.good.example"
    ));
    assert!(!allowed(
        json!(["https://*.good.example"]),
        "https://evil/.good.example"
    ));
    assert!(allowed(json!(["file://"]), "file://"));
}

#[test]
fn a_connection_above_the_limit_of_a_listener_gets_503() {
    let daemon = daemon(json!({"max_connections": 2}));
    let first = Client::connect(daemon.address(), "/ws");
    let _second = Client::connect(daemon.address(), "/ws");
    let response = http(daemon.address(), HANDSHAKE);
    assert_eq!(status(&response), 503);
    assert!(response.contains("\r\nRetry-After: "), "{response}");
    first.close();
    // The permit of a connection is freed when its socket is closed, which may be a moment later.
    wait_until("another client is admitted", || {
        Client::try_connect(daemon.address(), "/ws", &[]).is_ok()
    });
}

#[test]
fn a_rejected_connection_counts_until_its_socket_is_closed() {
    let daemon = daemon(json!({"max_connections": 1, "close_timeout": 1000}));
    let mut rejected = tcp(daemon.address());
    rejected
        .write_all(request("GET", "/elsewhere").as_bytes())
        .unwrap();
    let response = receive_http(rejected.try_clone().unwrap());
    assert_eq!(status(&response), 404);
    // The client has its response, but keeps its socket open.
    let responses: Vec<(String, TcpStream)> = (0..40)
        .map(|_| {
            let mut stream = tcp(daemon.address());
            // The server may have closed the connection already.
            let _ = stream.write_all(HANDSHAKE.as_bytes());
            (receive_http(stream.try_clone().unwrap()), stream)
        })
        .collect();
    let with_503 = responses
        .iter()
        .filter(|(response, _)| response.starts_with("HTTP/1.1 503 "))
        .count();
    let without_response = responses
        .iter()
        .filter(|(response, _)| response.is_empty())
        .count();
    assert_eq!((with_503, without_response), (32, 8));
    drop(rejected);
}

#[test]
fn a_connection_above_the_limit_of_the_process_gets_503_on_every_listener() {
    let config = json!({"max_connections": 1, "listeners": [{"protocol": "workspace"}, {"protocol": "peerdrop"}]});
    let daemon = Daemon::start(config);
    let _only = Client::connect(daemon.addresses[0], "/ws");
    assert_eq!(
        Client::try_connect(daemon.addresses[1], "/ws/chat", &[]).err(),
        Some(503)
    );
}

#[test]
fn a_connection_above_the_limit_of_its_address_gets_429_and_other_addresses_do_not() {
    let daemon = daemon(json!({"max_connections_per_ip": 1, "trusted_proxies": ["127.0.0.0/8"]}));
    let connect =
        |address| Client::try_connect(daemon.address(), "/ws", &[("x-forwarded-for", address)]);
    let _first = connect("192.0.2.1").ok().unwrap();
    assert_eq!(connect("192.0.2.1").err(), Some(429));
    assert!(connect("192.0.2.2").is_ok());
    let _network = connect("2001:db8::1").ok().unwrap();
    assert_eq!(connect("2001:db8::2").err(), Some(429));
}

#[test]
fn only_the_forwarded_header_of_the_configuration_is_believed() {
    for (chosen, header, value) in [
        ("x-forwarded-for", "x-forwarded-for", "6.6.6.6, 192.0.2.1"),
        (
            "Forwarded",
            "forwarded",
            "for=6.6.6.6, for=\"192.0.2.1:80\"",
        ),
        ("X-Real-IP", "x-real-ip", "192.0.2.1"),
    ] {
        let listener = json!({"protocol": "workspace", "forwarded_header": chosen, "trusted_proxies": ["127.0.0.1"]});
        let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
        // The others are as the client wrote them.
        let others = [
            ("x-forwarded-for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
        ];
        let others = others.into_iter().filter(|(other, _)| *other != header);
        let headers: Vec<_> = others.chain([(header, value)]).collect();
        let _client = Client::try_connect(daemon.address(), "/ws", &headers)
            .ok()
            .unwrap();
        let line = daemon.wait_for_log(": opened from ");
        assert!(line.ends_with("opened from 192.0.2.1"), "{header}: {line}");
    }
}

#[test]
fn a_connection_that_sends_nothing_counts_for_its_address() {
    let daemon = daemon(json!({"max_connections_per_ip": 1}));
    // Each connection has a task of its own, so either may be the one that is rejected.
    let both = [tcp(daemon.address()), tcp(daemon.address())];
    let has_response = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let has_response = stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0);
        stream.set_nonblocking(false).unwrap();
        has_response
    };
    wait_until("one is rejected", || {
        both.iter().any(|stream| has_response(&stream))
    });
    let rejected = both.iter().find(has_response).unwrap();
    let response = receive_http(rejected.try_clone().unwrap());
    assert_eq!(status(&response), 429);
}

#[test]
fn a_forwarded_address_of_an_untrusted_client_is_ignored() {
    let daemon = daemon(json!({"max_connections_per_ip": 1}));
    let connect =
        |address| Client::try_connect(daemon.address(), "/ws", &[("x-forwarded-for", address)]);
    let _first = connect("192.0.2.1").ok().unwrap();
    assert_eq!(connect("192.0.2.2").err(), Some(429));
}
