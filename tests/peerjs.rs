//! PeerJS over sockets. The rules of its document are tested on a realm without sockets, in
//! `src/protocols/peerjs/tests`; here is what needs sockets.

use crate::common::{Client, Daemon, http, read_head, tcp, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// The headers, and the empty line after them, that make a request a WebSocket handshake.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn daemon(settings: Value) -> Daemon {
    Daemon::start_protocol("peerjs", settings)
}

/// Connects with this id, also as the token, and reads OPEN.
pub fn enter(daemon: &Daemon, id: &str) -> Client {
    let target = format!("/peerjs?key=peerjs&id={id}&token={id}");
    let mut client = Client::connect(daemon.address(), &target);
    assert_eq!(client.receive_text(), r#"{"type":"OPEN"}"#);
    client
}

/// Sends a request as a browser does, on a connection that may have carried others.
fn send_request(stream: &mut TcpStream, method: &str, path: &str) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// Returns the head and the body of the next response.
fn read_response(stream: &mut TcpStream, has_body: bool) -> (String, String) {
    let head = read_head(stream);
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if has_body { length } else { 0 }];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn the_http_api_answers_a_browser() {
    let daemon = daemon(json!({"allow_discovery": true}));
    let _peer = enter(&daemon, "alice");
    let mut stream = tcp(daemon.address());
    for (method, path, status, body) in [
        ("GET", "/", "200 OK", "PeerJS Server"),
        ("GET", "/peerjs/peers?ts=1", "200 OK", r#"["alice"]"#),
        ("HEAD", "/peerjs/id", "200 OK", ""),
        ("GET", "/other/id", "404 Not Found", "not found"),
        (
            "GET",
            "/peerjs",
            "426 Upgrade Required",
            "wscat -c 'ws://h/peerjs?key=peerjs&id=ID&token=TOKEN'",
        ),
        ("OPTIONS", "/peerjs/id", "204 No Content", ""),
        ("POST", "/peerjs/id", "405 Method Not Allowed", "one of GET"),
        ("GET", "/peerjs/id", "200 OK", "-"),
    ] {
        // All requests are on one connection.
        send_request(&mut stream, method, path);
        let (head, response) = read_response(&mut stream, method != "HEAD");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{method} {path}: {head}"
        );
        assert!(response.contains(body), "{method} {path}: {response}");
        for header in [
            "Access-Control-Allow-Origin: https://a.example",
            "Vary: Origin",
            "Connection: keep-alive",
        ] {
            assert!(head.contains(header), "{method} {path}: {head}");
        }
        assert_eq!(
            head.contains("Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"),
            method == "OPTIONS"
        );
        let json = path == "/" || path.contains("peers");
        let media_type = if json {
            "application/json"
        } else {
            "text/plain"
        };
        let header = format!("Content-Type: {media_type}; charset=utf-8\r\n");
        assert_eq!(
            head.contains(&header),
            method != "OPTIONS",
            "{path}: {head}"
        );
    }
    stream
        .write_all(
            b"OPTIONS / HTTP/1.1\r\nHost: h\r\nAccess-Control-Request-Headers: x-a, x-b\r\n\r\n",
        )
        .unwrap();
    let (head, _) = read_response(&mut stream, false);
    assert!(
        head.contains("Access-Control-Allow-Headers: x-a, x-b\r\n"),
        "{head}"
    );
    send_request(&mut stream, "HEAD", "/");
    let (head, _) = read_response(&mut stream, false);
    assert!(!head.contains("Content-Length: 0\r\n"), "{head}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let daemon = daemon(json!({}));
    let mut stream = tcp(daemon.address());
    let one = "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{one}{one}{last}").as_bytes())
        .unwrap();
    let ids = [
        read_response(&mut stream, true).1,
        read_response(&mut stream, true).1,
    ];
    assert_ne!(ids[0], ids[1]);
    let (head, body) = read_response(&mut stream, true);
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(
        head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
        "{head}"
    );
    assert!(body.contains("PeerJS Server"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // The last request may be a WebSocket handshake.
    let mut stream = tcp(daemon.address());
    let upgrade = "GET /peerjs?key=peerjs&id=a&token=t HTTP/1.1\r\nHost: h\r\n";
    stream
        .write_all(format!("{one}{upgrade}{UPGRADE}").as_bytes())
        .unwrap();
    read_response(&mut stream, true);
    let (head, _) = read_response(&mut stream, false);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn a_request_body_closes_the_connection_and_is_not_read_as_a_request() {
    let daemon = daemon(json!({}));
    let smuggled = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let request = format!(
        "GET /peerjs/id HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let responses = http(daemon.address(), &request);
    assert!(responses.starts_with("HTTP/1.1 400 "), "{responses}");
    assert_eq!(responses.matches("HTTP/1.1 ").count(), 1);
}

#[test]
fn a_page_of_another_origin_gets_no_cors_headers() {
    let daemon = daemon(json!({"origins": ["https://b.example"]}));
    for (method, status) in [("GET", "403"), ("OPTIONS", "204")] {
        let mut stream = tcp(daemon.address());
        send_request(&mut stream, method, "/peerjs/id");
        let (head, _) = read_response(&mut stream, true);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(!head.contains("Access-Control-Allow-Origin"), "{head}");
        assert!(
            head.contains("\r\nVary: Origin\r\n"),
            "a cache could keep the response for other origins: {head}"
        );
    }
}

#[test]
fn nothing_is_read_after_a_request_that_closes_the_connection() {
    let daemon = daemon(json!({}));
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned(),
            200,
        ),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            200,
        ),
        (
            "GET /peerjs HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            400,
        ),
        (
            format!("HEAD /peerjs HTTP/1.1\r\nHost: h\r\n{UPGRADE}"),
            426,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            405,
        ),
    ] {
        // The second request is not answered.
        let responses = http(
            daemon.address(),
            &format!("{request}GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        assert!(
            responses.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {responses}"
        );
        assert!(
            responses.contains("\r\nConnection: close"),
            "{request}: {responses}"
        );
        assert_eq!(
            responses.matches("HTTP/1.1 ").count(),
            1,
            "{request}: {responses}"
        );
    }
}

#[test]
fn a_message_that_cannot_be_decoded_is_logged() {
    let listener = json!({"protocol": "peerjs"});
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    let mut a = enter(&daemon, "a");
    a.send("nonsense");
    let line = daemon.wait_for_log("ignored a message");
    assert!(
        line.contains("peerjs #1") && !line.contains("nonsense"),
        "{line}"
    );
    a.expect_no_message();
}

#[test]
fn every_response_has_cors_headers() {
    let daemon = daemon(json!({}));
    let origin = "Origin: https://a.example\r\n";
    let headers = format!("HTTP/1.1\r\nHost: h\r\n{origin}");
    let large = "x".repeat(17_000);
    for (request, status) in [
        (
            format!("GET /nowhere {headers}Connection: close\r\n\r\n"),
            404,
        ),
        (
            format!("GET /peerjs {headers}Upgrade: websocket\r\n\r\n"),
            400,
        ),
        (
            format!(
                "GET /nowhere {headers}{}\r\n",
                &UPGRADE[..UPGRADE.len() - 2]
            ),
            404,
        ),
        (format!("POST / {headers}Content-Length: 1\r\n\r\nx"), 405),
        (format!("GET / {headers}Content-Length: 1\r\n\r\nx"), 400),
        (format!("GET / HTTP/3.0\r\n{origin}\r\n"), 400),
        (format!("GET /{large} {headers}\r\n"), 431),
    ] {
        let response = http(daemon.address(), &request);
        let context = format!("{request:.80}: {response}");
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{context}"
        );
        assert!(
            response.contains("\r\nAccess-Control-Allow-Origin: "),
            "{context}"
        );
        assert!(response.contains("\r\nVary: Origin\r\n"), "{context}");
    }
}

#[test]
fn a_connection_of_a_proxy_carries_requests_of_many_clients() {
    let daemon = daemon(json!({
        "trusted_proxies": ["127.0.0.1"], "max_connections_per_ip": 1,
    }));
    let mut stream = tcp(daemon.address());
    let mut request_from = |client: &str| {
        let request =
            format!("GET /peerjs/id HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        read_response(&mut stream, true).0
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        assert!(request_from(client).starts_with("HTTP/1.1 200 "));
    }
    // The client of a plain request holds a permit only until its response, although the connection
    // stays open.
    let connect = |client: &str| {
        let target = format!("/peerjs?key=peerjs&id={client}&token=t");
        Client::try_connect(daemon.address(), &target, &[("x-forwarded-for", client)])
    };
    // The permit of the last request is freed a moment after its response.
    let mut connected = None;
    wait_until("a client of the same address is admitted", || {
        connected = connect("192.0.2.2").ok();
        connected.is_some()
    });
    assert_eq!(connect("192.0.2.2").err(), Some(429));
    assert!(request_from("192.0.2.2").starts_with("HTTP/1.1 429 "));
}

#[test]
fn a_client_above_max_connections_gets_the_error_of_the_concurrent_limit() {
    let daemon = daemon(json!({"max_connections": 1}));
    let first = enter(&daemon, "a");
    let mut second = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=b&token=t");
    let text = "Server has reached its concurrent user limit";
    assert_eq!(
        second.receive_json(),
        json!({"type": "ERROR", "payload": {"msg": text}})
    );
    assert_eq!(
        second.expect_close(),
        (4429, "too many connections".to_owned())
    );
    let response = http(daemon.address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nRetry-After: "), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
    first.close();
}

#[test]
fn a_list_larger_than_the_socket_buffer_is_sent_whole() {
    let daemon = daemon(json!({"allow_discovery": true}));
    let ids: Vec<String> = (0..100).map(|number| format!("{number:0>256}")).collect();
    let _peers: Vec<Client> = ids.iter().map(|id| enter(&daemon, id)).collect();
    let mut stream = tcp(daemon.address());
    // Responses wait until the client reads, and each request until the responses before it are written.
    for _ in 0..200 {
        send_request(&mut stream, "GET", "/peerjs/peers");
    }
    for _ in 0..200 {
        let (_, list) = read_response(&mut stream, true);
        assert_eq!(serde_json::from_str::<Vec<String>>(&list).unwrap(), ids);
    }
}

#[test]
fn a_client_receives_all_messages_stored_for_it() {
    let daemon = daemon(json!({}));
    let (mut a, mut b) = (enter(&daemon, "a"), enter(&daemon, "b"));
    // All of them together are larger than an outbox usually may be.
    let large = "x".repeat(1 << 20);
    for sender in [&mut a, &mut b] {
        for number in 0..3 {
            let payload = format!(r#"{{"number":{number},"x":"{large}"}}"#);
            sender.send(format!(
                r#"{{"type":"OFFER","dst":"c","payload":{payload}}}"#
            ));
        }
        sender.ping();
    }
    let mut c = enter(&daemon, "c");
    for source in ["a", "b"] {
        for number in 0..3 {
            let offer = c.receive_json();
            assert_eq!(
                (&offer["src"], &offer["payload"]["number"]),
                (&json!(source), &json!(number))
            );
        }
    }
    c.expect_no_message();
}

#[test]
fn two_clients_exchange_messages_of_any_size() {
    let daemon = daemon(json!({}));
    let (mut a, mut b) = (enter(&daemon, "a"), enter(&daemon, "b"));
    let large = "x".repeat(1 << 20);
    let offer = format!(r#"{{"type":"OFFER","payload":{{"sdp":"{large}"}},"dst":"b"}}"#);
    a.send(offer);
    let forwarded =
        format!(r#"{{"type":"OFFER","src":"a","dst":"b","payload":{{"sdp":"{large}"}}}}"#);
    assert!(b.receive_text() == forwarded);
    // A binary message is read as text, as the npm package `peer` reads it.
    b.send_frame(0x2, br#"{"type":"ANSWER","payload":1,"dst":"a"}"#);
    assert_eq!(
        a.receive_text(),
        r#"{"type":"ANSWER","src":"b","dst":"a","payload":1}"#
    );
    a.send(r#"{"type":"OFFER","payload":2,"dst":"c"}"#);
    a.ping();
    let mut c = enter(&daemon, "c");
    assert_eq!(
        c.receive_text(),
        r#"{"type":"OFFER","src":"a","dst":"c","payload":2}"#
    );
    a.send(r#"{"type":"LEAVE"}"#);
    assert_eq!(a.expect_close(), (1000, "goodbye".to_owned()));
}

#[test]
fn a_message_for_an_absent_client_expires() {
    let daemon = daemon(json!({"expire_timeout": 1}));
    let mut a = enter(&daemon, "a");
    a.send(r#"{"type":"OFFER","dst":"absent"}"#);
    assert_eq!(
        a.receive_text(),
        r#"{"type":"EXPIRE","src":"absent","dst":"a"}"#
    );
}

#[test]
fn an_id_in_use_is_rejected_with_another_token_and_taken_over_with_the_same() {
    let daemon = daemon(json!({}));
    let mut first = enter(&daemon, "a");
    let mut other = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=a&token=other");
    assert_eq!(other.receive_json()["type"], "ID-TAKEN");
    assert_eq!(other.expect_close(), (4409, "ID is taken".to_owned()));
    let _second = enter(&daemon, "a");
    assert_eq!(
        first.expect_close(),
        (4409, "connected again elsewhere".to_owned())
    );
}

#[test]
fn a_client_that_answers_no_ping_loses_its_id_to_another_token() {
    let daemon = daemon(json!({"silent_after": 1, "takeover_timeout": 1}));
    // Answers no Ping before it reads.
    let mut silent = enter(&daemon, "a");
    let mut other = enter(&daemon, "b");
    // Until the first one has been silent for a second, its id is taken.
    let mut newcomer = loop {
        let mut newcomer = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=a&token=new");
        match newcomer.receive_json()["type"].as_str() {
            Some("OPEN") => break newcomer,
            other => assert_eq!(other, Some("ID-TAKEN")),
        }
    };
    assert_eq!(silent.expect_close(), (4408, "timed out".to_owned()));
    other.send(r#"{"type":"OFFER","dst":"a","payload":1}"#);
    assert_eq!(newcomer.receive_json()["src"], "b");
}

#[test]
fn the_fourth_takeover_in_a_row_gets_id_taken_if_the_holder_is_alive() {
    let daemon = daemon(json!({"takeover_timeout": 3600}));
    let mut holder = enter(&daemon, "a");
    for _ in 0..3 {
        let next = enter(&daemon, "a");
        assert_eq!(holder.expect_close().0, 4409);
        holder = next;
    }
    let mut newcomer = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=a&token=a");
    holder.send(r#"{"type":"HEARTBEAT"}"#);
    assert_eq!(newcomer.receive_json()["type"], "ID-TAKEN");
    assert_eq!(newcomer.expect_close(), (4409, "ID is taken".to_owned()));
    holder.send(r#"{"type":"OFFER","dst":"a","payload":"still here"}"#);
    assert_eq!(holder.receive_json()["payload"], "still here");
}

#[test]
fn a_destination_that_stops_reading_brings_one_expire() {
    // What is sent here is handled long before the first of it expires, on a busy machine, too: an offer after that would
    // begin a new call.
    let daemon = daemon(json!({"expire_timeout": 3, "outbox_size": 64 * 1024}));
    let (mut a, stuck) = (enter(&daemon, "a"), enter(&daemon, "stuck"));
    set_socket_recv_buffer_size(&stuck.socket.get_ref().0, 64 * 1024).unwrap();
    let large = "x".repeat(100_000);
    for _ in 0..30 {
        a.send(format!(
            r#"{{"type":"OFFER","dst":"stuck","payload":"{large}"}}"#
        ));
    }
    assert_eq!(
        a.receive_text(),
        r#"{"type":"EXPIRE","src":"stuck","dst":"a"}"#
    );
    a.expect_no_message();
}
