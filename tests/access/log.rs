//! No access token is ever in the log, or in what the status port says, however a client sends it. Why one is refused is.

use crate::common::tokens::{HS256, OTHER_SECRET, access, seconds_from_now, sign, token};
use crate::common::{Client, Daemon, http, merge, tcp};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use switchboard::protocols::PROTOCOLS;

/// Characters of a token that are a part of it: fewer may stand elsewhere by chance.
const PART: usize = 10;

/// The targets at which clients connect, each with the protocol.
const TARGETS: [(&str, &str); 5] = [
    ("peerdrop", "/ws/chat?"),
    ("fastchat", "/ws?"),
    ("workspace", "/ws?username=ann&"),
    ("loudsync", "/?"),
    ("peerjs", "/peerjs?key=peerjs&"),
];

/// Starts a daemon that logs all that it can, and reads tokens.
fn start(format: &str, is_required: bool) -> Daemon {
    let access = access(&json!({"required": is_required}));
    let listener = |(protocol, _): (&str, &str)| {
        merge(
            json!({"protocol": protocol, "trace_messages": true}),
            &access,
        )
    };
    let listeners: Vec<Value> = TARGETS.into_iter().map(listener).collect();
    Daemon::start(json!({
        "log": "debug", "log_format": format, "status": "127.0.0.1:0", "listeners": listeners,
    }))
}

/// The messages in which a client may send a token, one cut by the trace within it.
fn messages(token: &str) -> Vec<String> {
    let id = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
    let device = json!({"id": "mac", "name": "Mac", "type": "host"});
    let behind = |length: usize| format!("{}{token}", " ".repeat(length));
    vec![
        json!({"type": "HELLO", "data": {"user_id": id, "display_name": "Ann", "token": token}}).to_string(),
        json!({"type": "HELLO", "user_id": token, "token": token}).to_string(),
        json!({"type": "join", "timestamp": 1, "sessionId": "s", "deviceInfo": device, "token": token}).to_string(),
        json!({"type": "auth", "token": token}).to_string(),
        json!({"type": "OFFER", "dst": "bob", "payload": token}).to_string(),
        json!({"type": token}).to_string(),
        behind(0),
        behind(190),
        behind(197),
    ]
}

/// Sends a token in each way to one listener.
fn send_everywhere(address: SocketAddr, target: &str, token: &str, other: &str) {
    let in_query = |name: &str| format!("{target}{name}={token}");
    let bearer = format!("Bearer {token}");
    let header = ("authorization", bearer.as_str());
    for (target, headers) in [
        (in_query("access_token"), &[][..]),
        (format!("{}&token={other}", in_query("access_token")), &[]),
        (format!("{target}id=ann&token={token}"), &[]),
        (format!("{target}id={token}&token=made-up"), &[]),
        (format!("{target}username={token}"), &[]),
        (format!("{target}id=ann&token=made-up"), &[header][..]),
        (format!("/{token}"), &[]),
        (format!("/ws/chat/{token}"), &[]),
        (format!("/{token}?{token}"), &[("origin", token)]),
    ] {
        let Ok(mut client) = Client::try_connect(address, &target, headers) else {
            continue;
        };
        for message in messages(token) {
            // It may be closed.
            let _ = client.socket.send(message.clone().into());
            let _ = client.socket.send(message.into_bytes().into());
        }
        let _ = client.socket.close(None);
        // Then the server has read all of them.
        while client.socket.read().is_ok() {}
    }
    for head in [
        format!("GET /{token} HTTP/1.1\r\nHost: h"),
        format!("GET /presence/{token}?access_token={token} HTTP/1.1\r\nHost: h"),
        format!("GET / HTTP/1.1\r\nHost: {token}"),
        format!("{token} / HTTP/1.1\r\nHost: h"),
        format!("GET / {token}\r\nHost: h"),
        format!(
            "OPTIONS /peerjs/peers HTTP/1.1\r\nHost: h\r\nOrigin: {token}\r\nAuthorization: {bearer}"
        ),
    ] {
        http(address, &format!("{head}\r\nConnection: close\r\n\r\n"));
    }
    // A client that sends its token alone is no HTTP at all.
    let _ = tcp(address).write_all(token.as_bytes());
}

/// Asserts that no part of a token stands anywhere in a text: as it is, in small letters, or in hexadecimal digits.
#[track_caller]
fn assert_lacks(text: &str, token: &str) {
    let parts = token.as_bytes().windows(PART).flat_map(|part| {
        let plain = String::from_utf8(part.to_ascii_lowercase()).unwrap();
        [plain, HEXLOWER.encode(part)]
    });
    let parts: Vec<String> = parts.collect();
    for line in text.to_lowercase().lines() {
        let digits = line.replace(' ', "");
        let part = parts
            .iter()
            .find(|part| line.contains(*part) || digits.contains(*part));
        assert_eq!(part, None, "{line}");
    }
}

fn assert_logs_no_token(format: &str, is_required: bool) {
    assert_eq!(
        TARGETS.map(|(protocol, _)| protocol).to_vec(),
        PROTOCOLS.iter().map(|it| it.name).collect::<Vec<_>>()
    );
    let mut daemon = start(format, is_required);
    let good = token(&json!({"sub": "ann", "name": "Ann", "exp": 4_000_000_000_u64}));
    let claims = json!({"sub": "ben", "exp": 1_000_000_000});
    let wrong = sign(HS256, claims, OTHER_SECRET);
    for (address, (_, target)) in daemon.addresses.clone().into_iter().zip(TARGETS) {
        send_everywhere(address, target, &good, &wrong);
        send_everywhere(address, target, &wrong, &good);
    }
    let status = daemon.status.unwrap();
    let mut texts: Vec<String> = ["/", "/status", "/metrics"]
        .map(|path| {
            http(
                status,
                &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            )
        })
        .into();
    let log = daemon.stop_and_read_log().join("\n");
    for sign in [
        "received",
        "sent",
        "is refused with 4",
        "host \\\"***\\\"",
        "***",
    ] {
        let sign = if format == "json" {
            sign.to_owned()
        } else {
            sign.replace('\\', "")
        };
        assert!(log.contains(&sign), "the log lacks {sign}");
    }
    texts.push(log);
    for text in &texts {
        assert_lacks(text, &good);
        assert_lacks(text, &wrong);
    }
}

#[test]
fn a_text_log_has_no_token() {
    assert_logs_no_token("text", true);
}

#[test]
fn a_json_log_has_no_token() {
    assert_logs_no_token("json", false);
}

#[test]
fn a_journal_has_no_token() {
    assert_logs_no_token("journal", true);
}

/// Returns the lines that say why a token is refused, each without the name of its listener.
fn refusals(mut daemon: Daemon, protocol: &str) -> Vec<String> {
    let listener = format!("{protocol} on {}: ", daemon.address());
    let log = daemon.stop_and_read_log();
    let lines = log.iter().filter_map(|line| {
        let (_, line) = line.split_once(&listener)?;
        line.contains("for a token").then(|| line.to_owned())
    });
    lines.collect()
}

#[test]
fn why_the_token_of_a_request_is_refused_is_logged_once_for_each_reason() {
    let daemon = Daemon::start_protocol("peerjs", access(&json!({"audience": "calls"})));
    let claims = json!({"sub": "ann", "aud": "calls"});
    let with = |more: Value| token(&merge(claims.clone(), &more));
    let wrong = [
        sign(HS256, &claims, OTHER_SECRET),
        sign(r#"{"alg":"none"}"#, &claims, OTHER_SECRET),
        with(json!({"aud": "mail"})),
        with(json!({"exp": seconds_from_now(-61)})),
        with(json!({"nbf": seconds_from_now(3600)})),
        "a.b.c".to_owned(),
    ];
    for token in wrong.iter().chain(&wrong) {
        let target = format!("/peerjs?key=peerjs&id=ann&token={token}");
        let mut client = Client::connect(daemon.address(), &target);
        assert_eq!(client.receive_json()["type"], "ERROR");
        assert_eq!(client.expect_close().0, 4401);
    }
    // Neither a good token nor none is logged.
    let target = format!("/peerjs?key=peerjs&id=ann&token={}", with(json!({})));
    let mut ann = Client::connect(daemon.address(), &target);
    assert_eq!(ann.receive_json()["type"], "OPEN");
    let mut ben = Client::connect(daemon.address(), "/peerjs?key=peerjs&id=ben&token=made-up");
    assert_eq!(ben.receive_json()["type"], "ERROR");
    ann.close();
    ben.close();

    let more = format!(
        "; \"switchboard token --check --listener peerjs={}\" says more of a token",
        daemon.address()
    );
    let lines = refusals(daemon, "peerjs");
    let (first, counts) = lines.split_at(wrong.len());
    for (line, reason) in first.iter().zip([
        "is not signed with this listener's secret: give its issuer the secret of this listener, byte for byte",
        "is not signed with HS256, or has \"crit\": ",
        "is for another audience: let its issuer write \"audience\" of this listener's",
        "has expired: the client needs a new one; if it is new, compare the clocks",
        "is not valid yet: compare the clocks of this machine and of the issuer",
        "is no JSON Web Token, or whose claims have wrong types: ",
    ]) {
        let expected = format!("127.0.0.1 is refused for a token that {reason}");
        assert!(line.starts_with(&expected), "{line} is not {expected}");
        assert!(line.ends_with(&more), "{line} lacks {more}");
    }
    assert_eq!(counts.len(), wrong.len(), "{counts:?}");
    assert_eq!(
        counts[0],
        "1 more was refused for a token that is not signed with this listener's secret"
    );
}

#[test]
fn why_the_token_of_a_message_is_refused_is_logged_too() {
    let daemon = Daemon::start_protocol("fastchat", access(&json!({})));
    let mut client = Client::connect(daemon.address(), "/ws");
    let token = sign(HS256, json!({"sub": "ann"}), OTHER_SECRET);
    let hello = json!({"type": "HELLO", "data": {"display_name": "Ann", "token": token}});
    client.send(hello.to_string());
    assert_eq!(client.receive_json()["type"], "ERROR");
    client.close();
    let lines = refusals(daemon, "fastchat");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let expected = "a client is refused for a token that is not signed with this listener's secret: give its issuer";
    assert!(lines[0].starts_with(expected), "{lines:?}");
}
