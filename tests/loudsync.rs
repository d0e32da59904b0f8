//! LOUDSYNC as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{
    Client, DEADLINE, Daemon, HANDSHAKE, masked_frame, read_frame, read_head, tcp,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

fn daemon(settings: Value) -> Daemon {
    Daemon::of("loudsync", settings)
}

fn join(device: &str, kind: &str) -> String {
    let info = json!({"id": device, "name": device, "type": kind});
    json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info}).to_string()
}

fn bare(kind: &str) -> String {
    json!({"type": kind, "timestamp": 1_706_889_650_000_u64}).to_string()
}

/// The next message, which is of this type.
pub fn next(client: &mut Client, kind: &str) -> Value {
    let message = client.json();
    assert_eq!(message["type"], kind, "{message}");
    message
}

/// Joins the session `party`; the welcome and the list have been read.
pub fn enter(daemon: &Daemon, device: &str, kind: &str) -> Client {
    let mut client = Client::connect(daemon.address(), "/");
    client.says(join(device, kind));
    next(&mut client, "welcome");
    next(&mut client, "member_list");
    client
}

#[test]
fn a_party_over_sockets() {
    let daemon = daemon(json!({}));
    let mut host = enter(&daemon, "mac", "host");
    let mut phone = enter(&daemon, "phone", "client");
    let mut pad = enter(&daemon, "pad", "client");
    let id = next(&mut host, "member_joined")["member"]["id"].clone();
    next(&mut host, "member_joined");
    next(&mut phone, "member_joined");
    phone.says(bare("ping"));
    assert_eq!(next(&mut phone, "pong")["timestamp"], 1_706_889_650_000_u64);
    host.says(json!({"type": "kick", "timestamp": 1, "memberId": id}).to_string());
    next(&mut phone, "kicked");
    assert_eq!(phone.closed(), (4403, "removed by the host".to_owned()));
    assert_eq!(next(&mut pad, "member_left")["reason"], "kicked");
    next(&mut host, "member_left");
    pad.vanishes();
    let list = next(&mut host, "member_list");
    assert_eq!(list["members"][1]["connectionStatus"], "reconnecting");
    let mut pad = enter(&daemon, "pad", "client");
    next(&mut host, "member_list");
    host.says(bare("leave"));
    assert_eq!(host.closed(), (1000, "goodbye".to_owned()));
    next(&mut pad, "session_closed");
    assert_eq!(pad.closed(), (1000, "session closed".to_owned()));
}

/// The next message in capitals, which is of this type: its payload.
fn next_payload(client: &mut Client, kind: &str) -> Value {
    next(client, kind)["payload"].take()
}

#[test]
fn a_guest_who_speaks_in_capitals_over_sockets() {
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
    tv.says(join("party"));
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
    tv.says(upper(
        "HEARTBEAT",
        json!({"deviceId": "tv", "timestamp": 1}),
    ));
    tv.says(upper("PING", json!({"timestamp": 1_706_889_650_000_u64})));
    let pong = next_payload(&mut tv, "PONG");
    assert_eq!(pong["pingTimestamp"], 1_706_889_650_000_u64);
    tv.says(upper("NONSENSE", json!({})));
    assert_eq!(next_payload(&mut tv, "ERROR")["code"], "INVALID_MESSAGE");
    tv.says(upper(
        "LEAVE",
        json!({"deviceId": "tv", "reason": "User left"}),
    ));
    assert_eq!(tv.closed(), (1000, "goodbye".to_owned()));
    let left = next(&mut host, "member_left");
    assert_eq!(
        (&left["memberId"], &left["reason"]),
        (&joined["member"]["id"], &json!("left"))
    );
    // A session that is there without a host.
    let mut tv = Client::connect(daemon.address(), "/");
    tv.says(join("lobby"));
    assert_eq!(next_payload(&mut tv, "WELCOME")["hostName"], "DJ");
    assert_eq!(
        next_payload(&mut tv, "MEMBER_LIST")["members"][0]["role"],
        "host"
    );
}

#[test]
fn the_round_trip_of_a_ping_becomes_a_members_latency() {
    let daemon = daemon(json!({}));
    let mut host = enter(&daemon, "mac", "host");
    let deadline = Instant::now() + DEADLINE;
    // Reading the list answers the Ping that came before it.
    loop {
        host.says(bare("member_list"));
        let latency = next(&mut host, "member_list")["members"][0]["latency"].clone();
        if latency.is_u64() {
            break;
        }
        assert_eq!(latency, Value::Null);
        assert!(Instant::now() < deadline, "no latency");
    }
}

/// A host that answers nothing by itself, and its first frames.
fn raw_host(daemon: &Daemon, frames: &[Vec<u8>]) -> TcpStream {
    let mut host = tcp(daemon.address());
    let bytes = [HANDSHAKE.as_bytes(), &frames.concat()].concat();
    host.write_all(&bytes).unwrap();
    read_head(&mut host);
    host
}

/// The next text that contains this.
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
fn a_pong_that_answers_no_ping_measures_nothing() {
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
fn a_sign_of_life_counts_whatever_else_was_asked_meanwhile() {
    let daemon = daemon(json!({"ping_every": 1}));
    let mut host = raw_host(
        &daemon,
        &[masked_frame(0x1, join("mac", "host").as_bytes())],
    );
    raw_text(&mut host, "member_list");
    let mut phone = enter(&daemon, "phone", "client");
    let mut again = Client::connect(daemon.address(), "/");
    again.says(join("mac", "host"));
    again.pings();
    // The host hears of this after the question, however many Pings for the round trip came before.
    phone.says(bare("leave"));
    raw_text(&mut host, "member_left");
    // The first of these may be the question; the second is one for the round trip that came after it.
    for _ in 0..2 {
        while read_frame(&mut host).0 != 0x9 {}
    }
    host.write_all(&masked_frame(0x1, bare("heartbeat").as_bytes()))
        .unwrap();
    assert_eq!(next(&mut again, "error")["code"], "already_joined");
}

#[test]
fn a_device_is_not_let_in_twice() {
    // There is no Ping but the question.
    let daemon = daemon(json!({"ping_every": 0}));
    let mut host = enter(&daemon, "mac", "host");
    let mut again = Client::connect(daemon.address(), "/");
    again.says(join("mac", "host"));
    // Reading answers it.
    assert!(host.socket.read().unwrap().is_ping());
    host.socket.flush().unwrap();
    assert_eq!(next(&mut again, "error")["code"], "already_joined");
    assert_eq!(again.closed(), (1000, "join refused".to_owned()));
}

#[test]
fn a_device_is_let_in_again_when_its_connection_is_dead() {
    // There is no Ping but the question: the daemon might read the answer to an earlier one only after
    // that, and take it for the answer.
    let daemon = daemon(json!({"takeover_timeout": 1, "ping_every": 0}));
    // It reads nothing from here on, and so answers nothing.
    let mut dead = enter(&daemon, "mac", "host");
    let mut again = enter(&daemon, "mac", "host");
    assert_eq!(
        dead.closed(),
        (4409, "connected again elsewhere".to_owned())
    );
    again.says(bare("member_list"));
    let list = next(&mut again, "member_list");
    assert_eq!(list["members"].as_array().unwrap().len(), 1);
}

#[test]
fn who_sends_no_heartbeat_or_never_joins_is_closed() {
    // In a daemon each, so that the other time-out cannot come first.
    let of_members = daemon(json!({"heartbeat_timeout": 1}));
    let mut host = enter(&of_members, "mac", "host");
    assert_eq!(host.closed(), (4408, "timed out".to_owned()));
    let of_strangers = daemon(json!({"join_timeout": 1}));
    let mut stranger = Client::connect(of_strangers.address(), "/any/path");
    assert_eq!(
        stranger.closed(),
        (4401, "no HELLO or JOIN in time".to_owned())
    );
}

#[test]
fn at_a_stop_sessions_are_closed_first() {
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
        assert_eq!(client.closed(), (1001, "server going away".to_owned()));
    }
    // The daemon ends when the clients' sockets are closed.
    drop((host, phone));
    assert!(daemon.ends().success());
}
