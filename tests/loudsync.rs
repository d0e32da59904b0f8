//! LOUDSYNC over sockets. The rules of its document are tested on a realm without sockets, in
//! `src/protocols/loudsync/tests`; here is what needs sockets.

use crate::common::{
    Client, DEADLINE, Daemon, HANDSHAKE, masked_frame, read_frame, read_head, tcp,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

pub fn daemon(settings: Value) -> Daemon {
    Daemon::start_protocol("loudsync", settings)
}

/// Returns a `join` for the session `party`.
pub fn join(device: &str, kind: &str) -> String {
    let info = json!({"id": device, "name": device, "type": kind});
    json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info}).to_string()
}

/// Returns a message that has only a type and a time.
fn bare(kind: &str) -> String {
    json!({"type": kind, "timestamp": 1_706_889_650_000_u64}).to_string()
}

/// Returns the next message, which must have this type.
pub fn next(client: &mut Client, kind: &str) -> Value {
    let message = client.receive_json();
    assert_eq!(message["type"], kind, "{message}");
    message
}

/// Joins the session `party`, and reads the welcome and the list.
pub fn enter(daemon: &Daemon, device: &str, kind: &str) -> Client {
    let mut client = Client::connect(daemon.address(), "/");
    client.send(join(device, kind));
    next(&mut client, "welcome");
    next(&mut client, "member_list");
    client
}

#[test]
fn members_join_are_kicked_reconnect_and_leave() {
    let daemon = daemon(json!({}));
    let mut host = enter(&daemon, "mac", "host");
    let mut phone = enter(&daemon, "phone", "client");
    let mut pad = enter(&daemon, "pad", "client");
    let id = next(&mut host, "member_joined")["member"]["id"].clone();
    next(&mut host, "member_joined");
    next(&mut phone, "member_joined");
    phone.send(bare("ping"));
    assert_eq!(next(&mut phone, "pong")["timestamp"], 1_706_889_650_000_u64);
    host.send(json!({"type": "kick", "timestamp": 1, "memberId": id}).to_string());
    next(&mut phone, "kicked");
    assert_eq!(
        phone.expect_close(),
        (4403, "removed by the host".to_owned())
    );
    assert_eq!(next(&mut pad, "member_left")["reason"], "kicked");
    next(&mut host, "member_left");
    pad.abort();
    let list = next(&mut host, "member_list");
    assert_eq!(list["members"][1]["connectionStatus"], "reconnecting");
    let mut pad = enter(&daemon, "pad", "client");
    next(&mut host, "member_list");
    host.send(bare("leave"));
    assert_eq!(host.expect_close(), (1000, "goodbye".to_owned()));
    next(&mut pad, "session_closed");
    assert_eq!(pad.expect_close(), (1000, "session closed".to_owned()));
}

/// Returns the payload of the next message of the upper-case dialect, which must have this type.
fn next_payload(client: &mut Client, kind: &str) -> Value {
    next(client, kind)["payload"].take()
}

#[test]
fn an_upper_case_client_joins_and_leaves() {
    let lobby = json!({"id": "lobby", "name": "Lobby", "host_id": "dj", "host_name": "DJ"});
    let daemon = daemon(json!({"sessions": [lobby]}));
    let mut host = enter(&daemon, "mac", "host");
    let mut tv = Client::connect(daemon.address(), "/");
    let upper = |kind: &str, payload: Value| {
        json!({"type": kind, "timestamp": 1, "messageId": "msg_1", "payload": payload}).to_string()
    };
    let join = |session: &str| {
        let device = json!({
            "sessionId": session, "deviceId": "tv", "deviceName": "TV", "version": "1.0.0",
        });
        upper("JOIN", device)
    };
    tv.send(join("party"));
    let welcome = next_payload(&mut tv, "WELCOME");
    assert_eq!(
        (&welcome["yourDeviceId"], &welcome["hostName"]),
        (&json!("tv"), &json!("mac"))
    );
    let list = next_payload(&mut tv, "MEMBER_LIST");
    assert_eq!(
        (&list["totalCount"], &list["members"][1]["id"]),
        (&json!(2), &json!("tv"))
    );
    let joined = next(&mut host, "member_joined");
    assert_ne!(joined["member"]["id"], "tv");
    tv.send(upper(
        "HEARTBEAT",
        json!({"deviceId": "tv", "timestamp": 1}),
    ));
    tv.send(upper("PING", json!({"timestamp": 1_706_889_650_000_u64})));
    let pong = next_payload(&mut tv, "PONG");
    assert_eq!(pong["pingTimestamp"], 1_706_889_650_000_u64);
    tv.send(upper("NONSENSE", json!({})));
    assert_eq!(next_payload(&mut tv, "ERROR")["code"], "INVALID_MESSAGE");
    tv.send(upper(
        "LEAVE",
        json!({"deviceId": "tv", "reason": "User left"}),
    ));
    assert_eq!(tv.expect_close(), (1000, "goodbye".to_owned()));
    let left = next(&mut host, "member_left");
    assert_eq!(
        (&left["memberId"], &left["reason"]),
        (&joined["member"]["id"], &json!("left"))
    );
    // A configured session exists without a host.
    let mut tv = Client::connect(daemon.address(), "/");
    tv.send(join("lobby"));
    assert_eq!(next_payload(&mut tv, "WELCOME")["hostName"], "DJ");
    assert_eq!(
        next_payload(&mut tv, "MEMBER_LIST")["members"][0]["role"],
        "host"
    );
}

#[test]
fn the_round_trip_of_a_ping_is_a_members_latency() {
    let daemon = daemon(json!({}));
    let mut host = enter(&daemon, "mac", "host");
    let deadline = Instant::now() + DEADLINE;
    // Reading the list also reads the Ping before it, and queues the Pong.
    loop {
        host.send(bare("member_list"));
        let latency = next(&mut host, "member_list")["members"][0]["latency"].clone();
        if latency.is_u64() {
            break;
        }
        assert_eq!(latency, Value::Null);
        assert!(Instant::now() < deadline, "the list has no latency");
    }
}

/// Connects a socket that answers no Ping by itself, and sends frames together with the handshake.
fn raw_host(daemon: &Daemon, frames: &[Vec<u8>]) -> TcpStream {
    let mut host = tcp(daemon.address());
    let bytes = [HANDSHAKE.as_bytes(), &frames.concat()].concat();
    host.write_all(&bytes).unwrap();
    read_head(&mut host);
    host
}

/// Skips frames until one contains `part`, and returns it as text.
fn raw_text(host: &mut TcpStream, part: &str) -> String {
    loop {
        let (_, payload) = read_frame(host);
        let text = String::from_utf8_lossy(&payload).into_owned();
        if text.contains(part) {
            return text;
        }
    }
}

#[test]
fn a_pong_without_a_ping_sets_no_latency() {
    let daemon = daemon(json!({}));
    let frames = [
        masked_frame(0xa, &[0; 16]),
        masked_frame(0x1, join("mac", "host").as_bytes()),
        masked_frame(0x1, bare("member_list").as_bytes()),
    ];
    let mut host = raw_host(&daemon, &frames);
    for _ in 0..2 {
        assert!(!raw_text(&mut host, "member_list").contains("latency"));
    }
}

#[test]
fn a_heartbeat_answers_a_probe_although_other_pings_followed_it() {
    let daemon = daemon(json!({"ping_every": 1}));
    let mut host = raw_host(
        &daemon,
        &[masked_frame(0x1, join("mac", "host").as_bytes())],
    );
    raw_text(&mut host, "member_list");
    let mut phone = enter(&daemon, "phone", "client");
    let mut second = Client::connect(daemon.address(), "/");
    second.send(join("mac", "host"));
    second.ping();
    // The host is sent `member_left` after the probe. Pings for the round trip may be before and after
    // the probe.
    phone.send(bare("leave"));
    raw_text(&mut host, "member_left");
    // Of the next two Pings the first may be the probe; the second measures the round trip and was sent
    // after it.
    for _ in 0..2 {
        while read_frame(&mut host).0 != 0x9 {}
    }
    host.write_all(&masked_frame(0x1, bare("heartbeat").as_bytes()))
        .unwrap();
    assert_eq!(next(&mut second, "error")["code"], "already_joined");
}

#[test]
fn a_device_cannot_join_twice() {
    // Without `ping_every` the only Ping is the probe.
    let daemon = daemon(json!({"ping_every": 0}));
    let mut host = enter(&daemon, "mac", "host");
    let mut second = Client::connect(daemon.address(), "/");
    second.send(join("mac", "host"));
    // Reading the probe queues the Pong.
    assert!(host.socket.read().unwrap().is_ping());
    host.socket.flush().unwrap();
    assert_eq!(next(&mut second, "error")["code"], "already_joined");
    assert_eq!(second.expect_close(), (1000, "join refused".to_owned()));
}

#[test]
fn a_device_joins_again_when_its_connection_is_dead() {
    // Without `ping_every` the only Ping is the probe. The server might otherwise read the Pong for an
    // earlier Ping after the probe, and take that for its answer.
    let daemon = daemon(json!({"takeover_timeout": 1, "ping_every": 0}));
    // This client reads nothing from here on, and so does not answer the probe.
    let mut dead = enter(&daemon, "mac", "host");
    let mut second = enter(&daemon, "mac", "host");
    assert_eq!(
        dead.expect_close(),
        (4409, "connected again elsewhere".to_owned())
    );
    second.send(bare("member_list"));
    let list = next(&mut second, "member_list");
    assert_eq!(list["members"].as_array().unwrap().len(), 1);
}

#[test]
fn a_member_without_heartbeats_and_a_client_that_does_not_join_are_closed() {
    // Each time-out has a daemon of its own, so that the other one cannot end first.
    let with_heartbeat = daemon(json!({"heartbeat_timeout": 1}));
    let mut host = enter(&with_heartbeat, "mac", "host");
    assert_eq!(host.expect_close(), (4408, "timed out".to_owned()));
    let with_join = daemon(json!({"join_timeout": 1}));
    let mut unregistered = Client::connect(with_join.address(), "/any/path");
    assert_eq!(
        unregistered.expect_close(),
        (4401, "no HELLO or JOIN in time".to_owned())
    );
}

#[test]
fn a_stop_closes_sessions_before_connections() {
    let daemon = daemon(json!({}));
    let mut host = enter(&daemon, "mac", "host");
    let mut phone = enter(&daemon, "phone", "client");
    next(&mut host, "member_joined");
    daemon.signal(Signal::TERM);
    for client in [&mut host, &mut phone] {
        assert_eq!(
            next(client, "session_closed")["reason"],
            "Server is going away"
        );
        assert_eq!(
            client.expect_close(),
            (1001, "server going away".to_owned())
        );
    }
    // The daemon exits when the clients have closed their sockets.
    drop((host, phone));
    assert!(daemon.wait_for_exit().success());
}
