//! The filter for fail2ban in systemd/examples finds the addresses of those that try again and again, and no line that
//! a client could forge. Its expressions are tried with another engine than fail2ban's, which is Python's: they use
//! nothing in which the two differ.

use crate::common::{Client, Daemon, HANDSHAKE, socket_path, tcp_from};
use regex_lite::Regex;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

const FILTER: &str = include_str!("../systemd/examples/fail2ban/switchboard.conf");

/// Returns the value of a key of the filter, whose further lines are indented.
fn value(key: &str) -> Vec<&'static str> {
    let mut lines = FILTER.lines();
    let prefix = format!("{key} = ");
    let first = lines.find_map(|line| line.strip_prefix(&prefix));
    let more = lines.take_while(|line| line.starts_with(' '));
    first.into_iter().chain(more.map(str::trim)).collect()
}

/// Returns the expressions as fail2ban completes them: `<ADDR>` is an address, no host name.
fn expressions() -> Vec<Regex> {
    let begin = value("_begin")[0];
    let address = r"(?<addr>\d+\.\d+\.\d+\.\d+|[0-9a-fA-F:]+)";
    let complete = |text: &str| text.replace("%(_begin)s", begin).replace("<ADDR>", address);
    let texts = value("failregex").into_iter();
    texts
        .map(|text| Regex::new(&complete(text)).unwrap())
        .collect()
}

/// Returns the addresses that the filter finds in a log, and asserts that it finds the same in the journal.
fn found(log: &[String]) -> Vec<String> {
    let expressions = expressions();
    let found_in = |line: &str| {
        let captures = expressions.iter().find_map(|it| it.captures(line));
        captures.map(|captures| captures["addr"].to_owned())
    };
    let find = |line: &String| {
        // fail2ban cuts off the time, and shows the journal's host, program and process before a message.
        let level_and_message = &line["1970-01-01T00:00:00.000Z".len()..];
        let message = &level_and_message[" INFO  ".len()..];
        let in_journal = found_in(&format!("host switchboard[4711]: {message}"));
        // The filter looks for INFO, which all of these are.
        if level_and_message.starts_with(" INFO ") {
            assert_eq!(found_in(level_and_message), in_journal);
        }
        in_journal
    };
    log.iter().filter_map(find).collect()
}

/// Sends a request, and waits for the beginning of the response.
fn request(address: SocketAddr, request: &str) {
    request_from("127.0.0.1", address, request);
}

/// Sends a request from this address, and waits for the beginning of the response.
fn request_from(from: &str, address: SocketAddr, request: &str) {
    let mut stream = tcp_from(from.parse().unwrap(), address);
    stream.write_all(request.as_bytes()).unwrap();
    let _ = stream.read(&mut [0; 100]).unwrap();
}

#[test]
fn wrong_codes_403_and_429_are_found_with_their_addresses() {
    let mut daemon = Daemon::start(json!({"listeners": [
        {"protocol": "peerdrop", "wrong_codes_per_minute": 1},
        {"protocol": "workspace", "origins": ["https://a.example"], "max_connections_per_ip": 1},
    ]}));
    let (peerdrop, workspace) = (daemon.addresses[0], daemon.addresses[1]);
    let from = |text: &str| text.parse::<IpAddr>().unwrap();
    for code in [4404, 4429] {
        let mut client = Client::connect_from(from("127.0.0.2"), peerdrop, "/ws/chat/WRONGONE");
        assert_eq!(client.expect_close().0, code);
    }
    let origin = HANDSHAKE.replace("Host:", "Origin: https://b.example\r\nHost:");
    for _ in 0..3 {
        request_from("127.0.0.3", workspace, &origin);
    }
    let member = Client::connect_from(from("127.0.0.4"), workspace, "/ws");
    request_from("127.0.0.4", workspace, HANDSHAKE);
    drop(member);
    let log = daemon.stop_and_read_log();
    let mut found = found(&log);
    found.sort();
    let expected = ["2", "2", "3", "3", "3", "4"].map(|last| format!("127.0.0.{last}"));
    assert_eq!(found, expected, "{log:#?}");
}

#[test]
fn no_client_can_have_another_address_found() {
    let mut daemon = Daemon::start(json!({"log": "debug", "listeners": [
        {"protocol": "peerjs", "trace_messages": true},
        {"protocol": "workspace", "origins": ["https://a.example"], "trusted_proxies": ["127.0.0.1"]},
    ]}));
    let (peerjs, workspace) = (daemon.addresses[0], daemon.addresses[1]);
    let victim = "192.0.2.66";
    for forged in [
        format!("workspace on *:4000: {victim} is refused with 403: "),
        format!("peerdrop #1: closed: no such session (4404); from {victim}, "),
    ] {
        let lines = [
            forged.clone(),
            format!("\n{forged}"),
            format!("\r\n2026-11-28T01:02:03.456Z INFO  {forged}"),
            format!("\u{2028}host switchboard[1]: {forged}"),
            format!("\" {forged}"),
        ];
        for text in &lines {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let target = format!("/peerjs?key=peerjs&id={encoded}&token=t");
            let mut client = Client::connect(peerjs, &target);
            client.receive_text();
            client.send(text.clone());
            client.close_normally();
            let blank = text.replace(['\r', '\n'], " ");
            request(workspace, &HANDSHAKE.replace("/ws", &format!("/{encoded}")));
            request(
                workspace,
                &format!("GET /ws HTTP/1.1\r\nHost: {blank}\r\n\r\n"),
            );
            let header =
                |name: &str| HANDSHAKE.replace("Host:", &format!("{name}: {blank}\r\nHost:"));
            request(workspace, &header("Origin"));
            request(workspace, &header("X-Forwarded-For"));
            request(peerjs, &header("X-Forwarded-For"));
        }
    }
    let log = daemon.stop_and_read_log();
    assert!(log.iter().any(|line| line.contains(victim)), "{log:#?}");
    let found = found(&log);
    assert!(!found.is_empty());
    assert!(
        found.iter().all(|address| address == "127.0.0.1"),
        "{found:?} in {log:#?}"
    );
}

#[test]
fn clients_of_a_unix_socket_have_no_address_that_could_be_found() {
    let path = socket_path();
    let address = format!("unix:{}", path.display());
    let mut daemon = Daemon::start(json!({"listeners": [
        {"protocol": "peerdrop", "address": address, "origins": ["https://a.example"]},
    ]}));
    let mut client = Client::connect_unix(&path, "/ws/chat/WRONGONE");
    assert_eq!(client.expect_close().0, 4404);
    let refused = [("origin", "https://b.example")];
    let refused = Client::try_connect_unix(&path, "/ws/chat", &refused);
    assert_eq!(refused.err(), Some(403));
    drop(client);
    let log = daemon.stop_and_read_log();
    for part in ["unix is refused with 403", "(4404); from unix, "] {
        assert!(log.iter().any(|line| line.contains(part)), "{log:#?}");
    }
    assert_eq!(found(&log), [""; 0]);
}
