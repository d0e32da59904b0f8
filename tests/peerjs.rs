//! PeerJS as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{Client, Daemon, http, read_head, tcp, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What makes a request a handshake.
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn daemon(settings: Value) -> Daemon {
    Daemon::of("peerjs", settings)
}

/// Connects under an id, and is told that it is open.
pub fn enter(daemon: &Daemon, id: &str) -> Client {
    let target = format!("/peerjs?key=peerjs&id={id}&token={id}");
    let mut client = Client::connect(daemon.address(), &target);
    assert_eq!(client.text(), r#"{"type":"OPEN"}"#);
    client
}

/// Sends one request as a browser would, on a connection that may have served others.
fn ask(stream: &mut TcpStream, method: &str, path: &str) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
}

/// The next answer: its status line and headers, and its body.
fn answer(stream: &mut TcpStream, has_body: bool) -> (String, String) {
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
fn the_http_api_as_a_browser_sees_it() {
    let daemon = daemon(json!({"allow_discovery": true}));
    let _peer = enter(&daemon, "somebody");
    let mut stream = tcp(daemon.address());
    for (method, path, status, body) in [
        ("GET", "/", "200 OK", "PeerJS Server"),
        ("GET", "/peerjs/peers?ts=1", "200 OK", r#"["somebody"]"#),
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
        // All of it on one connection.
        ask(&mut stream, method, path);
        let (head, told) = answer(&mut stream, method != "HEAD");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{method} {path}: {head}"
        );
        assert!(told.contains(body), "{method} {path}: {told}");
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
    let (head, _) = answer(&mut stream, false);
    assert!(
        head.contains("Access-Control-Allow-Headers: x-a, x-b\r\n"),
        "{head}"
    );
    ask(&mut stream, "HEAD", "/");
    let (head, _) = answer(&mut stream, false);
    assert!(!head.contains("Content-Length: 0\r\n"), "{head}");
}

#[test]
fn requests_may_come_one_behind_the_other() {
    let daemon = daemon(json!({}));
    let mut stream = tcp(daemon.address());
    let one = "GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream
        .write_all(format!("{one}{one}{last}").as_bytes())
        .unwrap();
    let ids = [answer(&mut stream, true).1, answer(&mut stream, true).1];
    assert_ne!(ids[0], ids[1]);
    let (head, body) = answer(&mut stream, true);
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(
        head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
        "{head}"
    );
    assert!(body.contains("PeerJS Server"));
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    // Also the one that becomes a WebSocket.
    let mut stream = tcp(daemon.address());
    let upgrade = "GET /peerjs?key=peerjs&id=a&token=t HTTP/1.1\r\nHost: h\r\n";
    stream
        .write_all(format!("{one}{upgrade}{UPGRADE}").as_bytes())
        .unwrap();
    answer(&mut stream, true);
    let (head, _) = answer(&mut stream, false);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

#[test]
fn a_body_ends_the_connection_so_that_it_is_no_request() {
    let daemon = daemon(json!({}));
    let smuggled = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let request = format!(
        "GET /peerjs/id HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    let answers = http(daemon.address(), &request);
    assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1);
}

#[test]
fn a_foreign_page_gets_nothing() {
    let daemon = daemon(json!({"origins": ["https://b.example"]}));
    for (method, status) in [("GET", "403"), ("OPTIONS", "204")] {
        let mut stream = tcp(daemon.address());
        ask(&mut stream, method, "/peerjs/id");
        let (head, _) = answer(&mut stream, true);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(!head.contains("Access-Control-Allow-Origin"), "{head}");
        assert!(
            head.contains("\r\nVary: Origin\r\n"),
            "no cache may keep it: {head}"
        );
    }
}

#[test]
fn what_ends_a_connection() {
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
        // What follows is not answered.
        let answers = http(
            daemon.address(),
            &format!("{request}GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        );
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answers}"
        );
        assert!(
            answers.contains("\r\nConnection: close"),
            "{request}: {answers}"
        );
        assert_eq!(
            answers.matches("HTTP/1.1 ").count(),
            1,
            "{request}: {answers}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_logged() {
    let listener = json!({"protocol": "peerjs"});
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    let mut a = enter(&daemon, "a");
    a.says("nonsense");
    let line = daemon.logs("ignored a message");
    assert!(
        line.contains("peerjs #1") && !line.contains("nonsense"),
        "{line}"
    );
    a.pings_and_gets_nothing_else();
}

#[test]
fn a_page_can_read_every_answer() {
    let daemon = daemon(json!({}));
    let origin = "Origin: https://a.example\r\n";
    let headers = format!("HTTP/1.1\r\nHost: h\r\n{origin}");
    let large = "x".repeat(9000);
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
        let answer = http(daemon.address(), &request);
        let told = format!("{:.80}: {answer}", request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
        assert!(
            answer.contains("\r\nAccess-Control-Allow-Origin: "),
            "{told}"
        );
        assert!(answer.contains("\r\nVary: Origin\r\n"), "{told}");
    }
}

#[test]
fn a_proxys_connection_carries_requests_of_many() {
    let daemon = daemon(json!({
        "trusted_proxies": ["127.0.0.1"], "max_connections_per_ip": 1,
    }));
    let mut stream = tcp(daemon.address());
    let mut ask_for = |client: &str| {
        let request =
            format!("GET /peerjs/id HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {client}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        answer(&mut stream, true).0
    };
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.2"] {
        assert!(ask_for(client).starts_with("HTTP/1.1 200 "));
    }
    // None of them has a place by the connection that it shares.
    let enters = |client: &str| {
        let target = format!("/peerjs?key=peerjs&id={client}&token=t");
        Client::try_connect(daemon.address(), &target, &[("x-forwarded-for", client)])
    };
    // The last one's is free a moment after its answer.
    let mut entered = None;
    wait_until("let in", || {
        entered = enters("192.0.2.2").ok();
        entered.is_some()
    });
    assert_eq!(enters("192.0.2.2").err(), Some(429));
    assert!(ask_for("192.0.2.2").starts_with("HTTP/1.1 429 "));
}

#[test]
fn beyond_max_connections_it_says_the_same() {
    let daemon = daemon(json!({"max_connections": 1}));
    let first = enter(&daemon, "a");
    let mut second = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=b&token=t");
    let text = "Server has reached its concurrent user limit";
    assert_eq!(
        second.json(),
        json!({"type": "ERROR", "payload": {"msg": text}})
    );
    assert_eq!(second.closed(), (4429, "too many connections".to_owned()));
    let answer = http(daemon.address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    first.leaves();
}

#[test]
fn a_list_larger_than_the_socket_takes_is_sent_whole() {
    let daemon = daemon(json!({"allow_discovery": true}));
    let ids: Vec<String> = (0..100).map(|at| format!("{at:0>256}")).collect();
    let _peers: Vec<Client> = ids.iter().map(|id| enter(&daemon, id)).collect();
    let mut stream = tcp(daemon.address());
    // Answers wait for whoever reads them, and requests for the answers before them.
    for _ in 0..200 {
        ask(&mut stream, "GET", "/peerjs/peers");
    }
    for _ in 0..200 {
        let (_, list) = answer(&mut stream, true);
        assert_eq!(serde_json::from_str::<Vec<String>>(&list).unwrap(), ids);
    }
}

#[test]
fn who_comes_gets_all_that_is_stored_for_it() {
    let daemon = daemon(json!({}));
    let (mut a, mut b) = (enter(&daemon, "a"), enter(&daemon, "b"));
    // More than any outbox may hold otherwise.
    let large = "x".repeat(1 << 20);
    for sender in [&mut a, &mut b] {
        for number in 0..3 {
            let payload = format!(r#"{{"number":{number},"x":"{large}"}}"#);
            sender.says(format!(
                r#"{{"type":"OFFER","dst":"c","payload":{payload}}}"#
            ));
        }
        sender.pings();
    }
    let mut c = enter(&daemon, "c");
    for source in ["a", "b"] {
        for number in 0..3 {
            let offer = c.json();
            assert_eq!(
                (&offer["src"], &offer["payload"]["number"]),
                (&json!(source), &json!(number))
            );
        }
    }
    c.pings_and_gets_nothing_else();
}

#[test]
fn two_peers_exchange_what_they_like() {
    let daemon = daemon(json!({}));
    let (mut a, mut b) = (enter(&daemon, "a"), enter(&daemon, "b"));
    let large = "x".repeat(1 << 20);
    let offer = format!(r#"{{"type":"OFFER","payload":{{"sdp":"{large}"}},"dst":"b"}}"#);
    a.says(offer);
    let passed = format!(r#"{{"type":"OFFER","src":"a","dst":"b","payload":{{"sdp":"{large}"}}}}"#);
    assert!(b.text() == passed);
    // As `peer` reads them.
    b.sends_frame(0x2, br#"{"type":"ANSWER","payload":1,"dst":"a"}"#);
    assert_eq!(
        a.text(),
        r#"{"type":"ANSWER","src":"b","dst":"a","payload":1}"#
    );
    a.says(r#"{"type":"OFFER","payload":2,"dst":"c"}"#);
    a.pings();
    let mut c = enter(&daemon, "c");
    assert_eq!(
        c.text(),
        r#"{"type":"OFFER","src":"a","dst":"c","payload":2}"#
    );
    a.says(r#"{"type":"LEAVE"}"#);
    assert_eq!(a.closed(), (1000, "goodbye".to_owned()));
}

#[test]
fn a_message_for_nobody_expires() {
    let daemon = daemon(json!({"expire_timeout": 1}));
    let mut a = enter(&daemon, "a");
    a.says(r#"{"type":"OFFER","dst":"nobody"}"#);
    assert_eq!(a.text(), r#"{"type":"EXPIRE","src":"nobody","dst":"a"}"#);
}

#[test]
fn an_id_is_taken_or_taken_over() {
    let daemon = daemon(json!({}));
    let mut first = enter(&daemon, "a");
    let mut other = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=a&token=other");
    assert_eq!(other.json()["type"], "ID-TAKEN");
    assert_eq!(other.closed(), (4409, "ID is taken".to_owned()));
    let _second = enter(&daemon, "a");
    assert_eq!(
        first.closed(),
        (4409, "connected again elsewhere".to_owned())
    );
}
