//! Attacks on the log and on other clients' screens: names, ids, codes, paths, headers and close reasons
//! with control characters, line ends, terminal escapes, bidirectional or invisible characters. None may
//! forge or garble a line of the log, and no client may receive such a name unsanitized.

use super::{Server, listeners, read_until_closed};
use crate::common::{Client, Daemon, handshake, http, masked_frame, tcp};
use form_urlencoded::byte_serialize;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::Shutdown;
use uuid::Uuid;

/// Returns whether a character must not reach a log or a terminal: control characters (ESC and line ends
/// among them), and characters that change the direction of text or are invisible.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{180e}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffb}'
        )
}

/// Returns hostile names. All begin with "Marker", by which the test finds them in the log.
fn names() -> Vec<String> {
    let long = "long".repeat(1000);
    [
        "two\nlines",
        "two\r\nlines",
        "\u{1b}[2J\u{1b}[31mred\u{7}",
        "\u{9b}31mred",
        "nul\0",
        "\u{202e}right to left\u{202c}",
        "\u{2066}isolated\u{2069}\u{61c}\u{200f}",
        "zero\u{200b}\u{200d}\u{2060}\u{feff}width",
        "line\u{2028}paragraph\u{2029}",
        "invisible \u{115f}\u{1160}\u{3164}\u{ffa0} fillers",
        "<script>alert(1)</script>",
        "\"quoted\", \\ and {json}",
        "INFO workspace #1: opened from 192.0.2.66",
        &long,
    ]
    .map(|name| format!("Marker {name}"))
    .to_vec()
}

/// Percent-encodes a name for a request target.
fn url_encoded(name: &str) -> String {
    byte_serialize(name.as_bytes()).collect()
}

/// Starts a server that logs at level debug, accepts names of 10,000 characters and has PeerJS's id list.
fn start_server() -> Server {
    let overrides = [
        ("fastchat", json!({"display_name_length": 10_000})),
        ("peerjs", json!({"allow_discovery": true})),
    ];
    let listeners = listeners(&json!({}), &overrides);
    let config = json!({"log": "debug", "listeners": listeners});
    Server::from_daemon(Daemon::start(config))
}

#[test]
fn hostile_names_neither_appear_in_the_log_nor_split_its_lines() {
    let server = start_server();
    let peerdrop = server.address("peerdrop");
    let mut clients = Vec::new();
    for name in names() {
        let encoded = url_encoded(&name);
        // Codes and paths, percent-encoded and raw.
        Client::connect(peerdrop, &format!("/ws/chat/{encoded}")).wait_for_close_code();
        for (_, address) in server.endpoints() {
            for path in [&name, &encoded] {
                let request = handshake(&format!("/{path}"));
                let mut stream = tcp(address);
                stream.write_all(request.as_bytes()).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                read_until_closed(&mut stream);
            }
            for header in ["Host", "Origin", "X-Forwarded-For", "User-Agent"] {
                let request = format!(
                    "{} /nowhere HTTP/1.1\r\n{header}: {name}\r\nConnection: close\r\n\r\n",
                    encoded.split('%').next().unwrap()
                );
                http(address, &request);
            }
        }
        for (protocol, _) in server.endpoints() {
            let reason = name.trim_start_matches("Marker").bytes().take(100);
            let payload: Vec<u8> = 1000_u16.to_be_bytes().into_iter().chain(reason).collect();
            let mut stream = server.connect_raw(protocol);
            stream.write_all(&masked_frame(0x8, &payload)).unwrap();
            read_until_closed(&mut stream);
        }
        let mut client = server.connect_to("workspace", &format!("/ws?username={encoded}"));
        let connected = client.receive_type("connected");
        assert_clean(connected["username"].as_str().unwrap());
        clients.push(client);
        let mut client = server.connect("fastchat");
        let user = json!({"user_id": Uuid::new_v4(), "display_name": name});
        client.send(json!({"type": "HELLO", "data": user}).to_string());
        client.receive_type("HELLO_ACK");
        clients.push(client);
        let session = Uuid::new_v4().to_string();
        for (id, device) in [(&name, "a"), (&session, &name)] {
            let mut client = server.connect("loudsync");
            let info = json!({"id": "a", "name": device, "type": "host"});
            let join = json!({"type": "join", "timestamp": 1, "sessionId": id, "deviceInfo": info});
            client.send(join.to_string());
            client.receive_text();
            client.send(json!({"type": name, "timestamp": 1}).to_string());
            let message = client.receive_type("error")["message"].clone();
            // An error that quotes the client's text escapes it like the log.
            assert!(
                !message.as_str().unwrap().contains(is_unsafe),
                "{message:?}"
            );
            clients.push(client);
        }
        if encoded.len() <= 250 {
            let target = format!("/peerjs?key=peerjs&id={encoded}&token={encoded}");
            let mut client = server.connect_to("peerjs", &target);
            client.receive_type("OPEN");
            client.send(json!({"type": name, "dst": name, "payload": name}).to_string());
            clients.push(client);
        }
        for protocol in ["fastchat", "workspace"] {
            let mut client = server.connect(protocol);
            client.send(json!({"type": name}).to_string());
            let error =
                client.receive_until(|text| text.contains("unknown type").then(|| text.to_owned()));
            let error: Value = serde_json::from_str(&error).unwrap();
            let message = error
                .pointer("/message")
                .or(error.pointer("/data/message"))
                .unwrap();
            assert!(!message.as_str().unwrap().contains(is_unsafe), "{error:?}");
            clients.push(client);
        }
    }
    // The names that other clients receive are sanitized.
    let mut last = server.connect("fastchat");
    let user = json!({"user_id": Uuid::new_v4(), "display_name": "Last"});
    last.send(json!({"type": "HELLO", "data": user}).to_string());
    let list = last.receive_type("PRESENCE");
    let users = list["data"]["users"].as_array().unwrap();
    assert!(users.len() > names().len(), "{list}");
    for user in users {
        assert_clean(user["display_name"].as_str().unwrap());
    }
    let mut member = server.connect("workspace");
    member.receive_type("connected");
    member.send(r#"{"type":"auth"}"#);
    let count = member.receive_type("userCount");
    for name in count["users"].as_array().unwrap() {
        assert_clean(name.as_str().unwrap());
    }
    drop((clients, last, member));
    server.assert_survives(
        "hostile names, ids, codes and paths",
        "one clean log line per event",
    );
    server.daemon.signal(Signal::TERM);
    let log: Vec<String> = std::iter::from_fn(|| server.daemon.next_log_line()).collect();
    let (mut opened, mut ended) = (0, 0);
    for line in &log {
        // Time, level, message.
        let (time, message) = line
            .split_at_checked("1970-01-01T00:00:00.000Z INFO  ".len())
            .unwrap();
        assert!(
            time.contains("Z INFO  ") || time.contains("Z DEBUG "),
            "not a line of the daemon: {line:?}"
        );
        // The path of a refused request and a refused host or origin are logged, escaped, since an operator
        // needs them; nothing else that clients choose is.
        let is_refusal = message.contains("is refused with 40") || message.contains(" is 403: ");
        // So is the id of a PeerJS client, behind everything else.
        let (others, _) = message
            .split_once(" bytes) out, id ")
            .unwrap_or((message, ""));
        assert!(is_refusal || !others.contains("Marker"), "{message:?}");
        assert!(!message.contains(is_unsafe), "{message:?}");
        opened += usize::from(message.contains(": opened from 127.0.0."));
        ended += usize::from(message.contains(" in, ") && message.contains(" bytes) out"));
    }
    assert!(
        opened > 10 * names().len(),
        "{opened} connections opened, in a log of {} lines",
        log.len()
    );
    assert_eq!(opened, ended);
}

/// Asserts that a name is sanitized as the rulings demand: no tag, and no control character but tab and
/// newline.
fn assert_clean(name: &str) {
    let is_forbidden = |c: char| c.is_control() && c != '\t' && c != '\n';
    assert!(!name.contains(is_forbidden), "{name:?}");
    assert!(!name.contains("<s") && !name.contains("</"), "{name:?}");
}
