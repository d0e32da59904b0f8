//! Names and ids that would write lines of their own into the log, or turn it round.

use super::{Server, listeners, read_until_closed};
use crate::common::{Client, Daemon, handshake, http, masked_frame, tcp};
use form_urlencoded::byte_serialize;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::Shutdown;
use uuid::Uuid;

/// What no line of a log and no terminal should get: controls, among them ESC and line ends, and what
/// turns the direction of a line or cannot be seen.
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
        "nobody sees \u{115f}\u{1160}\u{3164}\u{ffa0} these",
        "<script>alert(1)</script>",
        "\"quoted\", \\ and {json}",
        "INFO workspace #1: opened from 192.0.2.66",
        &long,
    ]
    .map(|name| format!("Marker {name}"))
    .to_vec()
}

fn url_encoded(name: &str) -> String {
    byte_serialize(name.as_bytes()).collect()
}

/// A server that logs all that it can, and with room for names.
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
fn no_name_gets_into_the_log_or_out_of_its_line() {
    let server = start_server();
    let peerdrop = server.address("peerdrop");
    let mut clients = Vec::new();
    for name in names() {
        let encoded = url_encoded(&name);
        // Codes and paths, escaped and as they are.
        Client::connect(peerdrop, &format!("/ws/chat/{encoded}")).code_of_close();
        for (_, address) in server.endpoints() {
            let raw = handshake(&format!("/{name}"));
            for request in [raw, handshake(&format!("/{encoded}"))] {
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
        let connected = client.until_type("connected");
        assert_clean(connected["username"].as_str().unwrap());
        clients.push(client);
        let mut client = server.connect("fastchat");
        let user = json!({"user_id": Uuid::new_v4(), "display_name": name});
        client.says(json!({"type": "HELLO", "data": user}).to_string());
        client.until_type("HELLO_ACK");
        clients.push(client);
        let session = Uuid::new_v4().to_string();
        for (id, device) in [(&name, "a"), (&session, &name)] {
            let mut client = server.connect("loudsync");
            let info = json!({"id": "a", "name": device, "type": "host"});
            let join = json!({"type": "join", "timestamp": 1, "sessionId": id, "deviceInfo": info});
            client.says(join.to_string());
            client.text();
            client.says(json!({"type": name, "timestamp": 1}).to_string());
            let told = client.until_type("error")["message"].clone();
            // Errors quote what they are about as the log would.
            assert!(!told.as_str().unwrap().contains(is_unsafe), "{told:?}");
            clients.push(client);
        }
        if encoded.len() <= 250 {
            let target = format!("/peerjs?key=peerjs&id={encoded}&token={encoded}");
            let mut client = server.connect_to("peerjs", &target);
            client.until_type("OPEN");
            client.says(json!({"type": name, "dst": name, "payload": name}).to_string());
            clients.push(client);
        }
        for protocol in ["fastchat", "workspace"] {
            let mut client = server.connect(protocol);
            client.says(json!({"type": name}).to_string());
            let told = client.until(|text| text.contains(r#"no type"#).then(|| text.to_owned()));
            let told: Value = serde_json::from_str(&told).unwrap();
            let message = told
                .pointer("/message")
                .or(told.pointer("/data/message"))
                .unwrap();
            assert!(!message.as_str().unwrap().contains(is_unsafe), "{told:?}");
            clients.push(client);
        }
    }
    // What all others see of the users.
    let mut last = server.connect("fastchat");
    let user = json!({"user_id": Uuid::new_v4(), "display_name": "Last"});
    last.says(json!({"type": "HELLO", "data": user}).to_string());
    let list = last.until_type("PRESENCE");
    let users = list["data"]["users"].as_array().unwrap();
    assert!(users.len() > names().len(), "{list}");
    for user in users {
        assert_clean(user["display_name"].as_str().unwrap());
    }
    let mut room = server.connect("workspace");
    room.until_type("connected");
    room.says(r#"{"type":"auth"}"#);
    let count = room.until_type("userCount");
    for name in count["users"].as_array().unwrap() {
        assert_clean(name.as_str().unwrap());
    }
    drop((clients, last, room));
    server.assert_survives(
        "hostile names, ids, codes and paths",
        "one clean line for each event",
    );
    server.daemon.signal(Signal::TERM);
    let log: Vec<String> = std::iter::from_fn(|| server.daemon.next_line_if_any()).collect();
    let (mut opened, mut ended) = (0, 0);
    for line in &log {
        // tungstenite shows Close frames where everything is logged.
        let is_one = ["switchboard", "tungstenite"]
            .iter()
            .any(|it| line.contains(it));
        assert!(is_one, "no line of its own: {line:?}");
        // Before it a build for debugging has the name of a module, in colour.
        let (_, said) = line.split_once("\u{1b}[0m ").unwrap_or(("", line));
        assert!(!said.contains("Marker"), "{said:?}");
        assert!(!said.contains(is_unsafe), "{said:?}");
        opened += usize::from(said.contains(": opened from 127.0.0."));
        ended += usize::from(said.contains(" in, ") && said.contains(" bytes) out"));
    }
    assert!(
        opened > 10 * names().len(),
        "{opened} lines of {}",
        log.len()
    );
    assert_eq!(opened, ended);
}

/// Sanitised as the rulings say: no tag and no control character but tab and newline.
fn assert_clean(name: &str) {
    let is_forbidden = |c: char| c.is_control() && c != '\t' && c != '\n';
    assert!(!name.contains(is_forbidden), "{name:?}");
    assert!(!name.contains("<s") && !name.contains("</"), "{name:?}");
}
