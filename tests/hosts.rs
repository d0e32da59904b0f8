//! Which hosts a request may name: what keeps pages out that reach the daemon by DNS rebinding.

use crate::common::{Daemon, HANDSHAKE, http, merge, read_head, tcp};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use switchboard::protocols::PROTOCOLS;

/// Starts a daemon of a protocol without the name that tests otherwise give it.
fn start(protocol: &str, mut settings: Value) -> Daemon {
    if settings.get("hosts").is_none() {
        settings["hosts"] = Value::Null;
    }
    Daemon::start_protocol(protocol, settings)
}

/// Returns the status of a WebSocket handshake with Workspace that has these Host and Origin headers.
fn handshake(address: SocketAddr, host: &str, origin: Option<&str>) -> u16 {
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let headers = format!("Host: {host}\r\n{origin}");
    let request = HANDSHAKE.replacen("Host: localhost\r\n", &headers, 1);
    let mut stream = tcp(address);
    stream.write_all(request.as_bytes()).unwrap();
    status(&read_head(&mut stream))
}

fn status(response: &str) -> u16 {
    response["HTTP/1.1 ".len()..][..3].parse().unwrap()
}

#[test]
fn a_page_that_reaches_a_loopback_listener_by_dns_rebinding_is_refused() {
    for origins in [json!(["same-host"]), json!(["*"])] {
        let daemon = start("workspace", json!({"origins": origins}));
        let port = daemon.address().port();
        let host = format!("evil.example:{port}");
        let origin = format!("http://{host}");
        assert_eq!(handshake(daemon.address(), &host, Some(&origin)), 403);
        assert_eq!(handshake(daemon.address(), &host, None), 403);
    }
}

#[test]
fn plain_requests_of_such_a_page_are_refused_too() {
    for protocol in PROTOCOLS {
        let daemon = start(protocol.name, json!({}));
        for path in ["/", "/peerjs/id", "/presence/online", "/ws", "/elsewhere"] {
            for method in ["GET", "HEAD", "POST", "OPTIONS"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
                );
                let response = http(daemon.address(), &request);
                assert_eq!(status(&response), 403, "{} {method} {path}", protocol.name);
                assert!(!response.contains("Access-Control-"), "{response}");
            }
        }
    }
}

#[test]
fn an_ip_address_and_a_loopback_name_are_always_a_host() {
    let daemon = start("workspace", json!({"hosts": []}));
    for host in [
        "localhost",
        "LOCALHOST:4000",
        "app.localhost:4000",
        "127.0.0.1:4000",
        "192.0.2.1",
        "[::1]:4000",
        "[2001:db8::1]",
    ] {
        assert_eq!(handshake(daemon.address(), host, None), 101, "{host}");
    }
    for host in [
        "localhost.evil.example",
        "evil.example/.localhost",
        "127.0.0.1.nip.io",
        "a b",
    ] {
        assert_eq!(handshake(daemon.address(), host, None), 403, "{host}");
    }
}

#[test]
fn hosts_are_admitted_beside_them_and_nothing_else_where_they_are_set() {
    // Not a loopback listener.
    let settings = json!({"address": "*:0", "hosts": ["Chat.Example"]});
    let daemon = start("workspace", settings);
    for (host, expected) in [
        ("chat.example", 101),
        ("chat.example:4000", 101),
        ("chat.example.", 101),
        ("localhost", 101),
        ("evil.example", 403),
        ("a.chat.example", 403),
    ] {
        assert_eq!(handshake(daemon.address(), host, None), expected, "{host}");
    }
}

#[test]
fn every_host_is_admitted_where_a_proxy_is_trusted_or_other_machines_can_connect() {
    for settings in [
        json!({"trusted_proxies": ["127.0.0.1"]}),
        json!({"address": "*:0"}),
    ] {
        let daemon = start("workspace", settings);
        assert_eq!(handshake(daemon.address(), "chat.example", None), 101);
    }
}

#[test]
fn a_request_with_neither_host_nor_origin_is_admitted() {
    let daemon = start("workspace", json!({}));
    let request =
        HANDSHAKE
            .replacen("HTTP/1.1", "HTTP/1.0", 1)
            .replacen("Host: localhost\r\n", "", 1);
    let mut stream = tcp(daemon.address());
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(status(&read_head(&mut stream)), 101);
    let with_origin = request.replacen("\r\n", "\r\nOrigin: http://localhost\r\n", 1);
    assert_eq!(status(&http(daemon.address(), &with_origin)), 403);
}

#[test]
fn the_origin_of_another_page_is_no_loopback_name_whatever_it_looks_like() {
    let daemon = start("workspace", json!({"origins": ["same-host"]}));
    for origin in [
        "http://evil.com/.localhost",
        "http://evil.com/localhost",
        "http://evil.com?.localhost",
        "http://evil.com#.localhost",
        "http://evil.com\\.localhost",
        "http://localhost@evil.com",
        "http://evil.com:80@localhost",
        "http://localhost.evil.com",
        "http://127.0.0.1.evil.com",
        "x://evil.com/.localhost",
        "null",
    ] {
        assert_eq!(
            handshake(daemon.address(), "localhost", Some(origin)),
            403,
            "{origin}"
        );
    }
    for origin in [
        "http://localhost:3000",
        "http://app.localhost",
        "http://[::1]:1",
    ] {
        assert_eq!(
            handshake(daemon.address(), "localhost", Some(origin)),
            101,
            "{origin}"
        );
    }
}

/// Returns the line of the log about a refused handshake with a listener that has this setting.
fn refusal(setting: Value, host: &str, origin: Option<&str>) -> String {
    let listener = merge(json!({"protocol": "workspace", "hosts": null}), &setting);
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    assert_eq!(handshake(daemon.address(), host, origin), 403);
    // The quotes within a line may be escaped.
    daemon.wait_for_log("is not allowed").replace('\\', "")
}

#[test]
fn the_log_says_which_setting_admits_what_was_refused() {
    let line = refusal(json!({}), "chat.example:1", None);
    for part in [
        r#"host "chat.example:1" is not allowed"#,
        r#"write it into "hosts": ["chat.example"]"#,
        r#"that proxy into "trusted_proxies""#,
    ] {
        assert!(line.contains(part), "{line}");
    }
    let origins = json!({"origins": ["https://a.example"]});
    let line = refusal(origins, "localhost", Some("https://B.example:443"));
    for part in [
        r#"origin "https://B.example:443" is not allowed on host "localhost""#,
        r#"write it into "origins": ["https://b.example"]"#,
    ] {
        assert!(line.contains(part), "{line}");
    }
}
