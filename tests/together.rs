//! All protocols at once in one daemon: each works, and none sees another's traffic.

use crate::common::{Client, Daemon};
use serde_json::{Value, json};
use switchboard::protocols::PROTOCOLS;

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";

/// Two clients of one protocol who have met, and how one says something to the other.
struct Pair {
    one: Client,
    other: Client,
    /// What one says for the other to get a text.
    say: fn(&str) -> String,
    /// The text in what the other gets.
    hear: fn(&str) -> String,
    /// What one gets itself for it.
    echoes: usize,
}

fn listener(daemon: &Daemon, protocol: &str) -> usize {
    let at = PROTOCOLS.iter().position(|it| it.name == protocol).unwrap();
    assert!(at < daemon.addresses.len());
    at
}

fn peerdrop(daemon: &Daemon) -> Pair {
    let address = daemon.addresses[listener(daemon, "peerdrop")];
    let mut one = Client::connect(address, "/ws/chat");
    let code = one.text();
    let mut other = Client::connect(address, &format!("/ws/chat/{code}"));
    assert_eq!(other.text(), code);
    assert_eq!(one.text(), "the other guy joined");
    Pair {
        one,
        other,
        say: str::to_owned,
        hear: str::to_owned,
        echoes: 0,
    }
}

fn fastchat(daemon: &Daemon) -> Pair {
    let address = daemon.addresses[listener(daemon, "fastchat")];
    let enter = |id, presences: usize| {
        let mut client = Client::connect(address, "/ws");
        let data = json!({"user_id": id, "display_name": "Name"});
        client.says(json!({"type": "HELLO", "data": data}).to_string());
        assert_eq!(client.json()["type"], "HELLO_ACK");
        assert_eq!(
            client.json()["data"]["users"].as_array().unwrap().len(),
            presences
        );
        client
    };
    let mut one = enter(ANN, 1);
    let mut other = enter(BOB, 2);
    assert_eq!(one.json()["type"], "PRESENCE");
    let data = json!({"target_user_id": BOB});
    one.says(json!({"type": "OPEN_CHAT", "data": data}).to_string());
    for client in [&mut one, &mut other] {
        assert_eq!(client.json()["type"], "CHAT_OPENED");
    }
    Pair {
        one,
        other,
        say: |text| {
            let data = json!({"to": BOB, "content": text});
            json!({"type": "MSG", "data": data}).to_string()
        },
        hear: |message| field(message, "/data/content"),
        echoes: 1,
    }
}

fn workspace(daemon: &Daemon) -> Pair {
    let address = daemon.addresses[listener(daemon, "workspace")];
    let enter = |name: &str, users| {
        let mut client = Client::connect(address, &format!("/ws?username={name}"));
        assert_eq!(client.json()["connectedUsers"], users);
        client
    };
    let mut one = enter("ann", 1);
    let other = enter("bob", 2);
    assert_eq!(one.json()["type"], "presence:update");
    Pair {
        one,
        other,
        say: |text| json!({"type": "message:send", "text": text}).to_string(),
        hear: |message| field(message, "/data/text"),
        echoes: 1,
    }
}

/// Members say nothing to each other; a newcomer's name has to do.
fn loudsync(daemon: &Daemon) -> Pair {
    let address = daemon.addresses[listener(daemon, "loudsync")];
    let mut one = Client::connect(address, "/");
    let info = json!({"id": "mac", "name": "mac", "type": "host"});
    let join = json!({"type": "join", "timestamp": 1, "sessionId": "s", "deviceInfo": info});
    one.says(join.to_string());
    assert_eq!(one.json()["type"], "welcome");
    assert_eq!(one.json()["members"].as_array().unwrap().len(), 1);
    Pair {
        other: one,
        one: Client::connect(address, "/"),
        say: |text| {
            let info = json!({"id": text, "name": text, "type": "client"});
            json!({"type": "join", "timestamp": 1, "sessionId": "s", "deviceInfo": info})
                .to_string()
        },
        hear: |message| field(message, "/member/name"),
        echoes: 2,
    }
}

fn peerjs(daemon: &Daemon) -> Pair {
    let address = daemon.addresses[listener(daemon, "peerjs")];
    let enter = |id: &str| {
        let target = format!("/peerjs?key=peerjs&id={id}&token=t");
        let mut client = Client::connect(address, &target);
        assert_eq!(client.json()["type"], "OPEN");
        client
    };
    Pair {
        one: enter("one"),
        other: enter("other"),
        say: |text| json!({"type": "OFFER", "dst": "other", "payload": text}).to_string(),
        hear: |message| field(message, "/payload"),
        echoes: 0,
    }
}

fn field(message: &str, pointer: &str) -> String {
    let message: Value = serde_json::from_str(message).unwrap();
    let field = message
        .pointer(pointer)
        .unwrap_or_else(|| panic!("{message}"));
    field.as_str().unwrap().to_owned()
}

#[test]
fn each_protocol_works_and_none_sees_anothers_traffic() {
    // Nobody is in a hurry: each waits for all the others.
    let patient = |name: &str| match name {
        "fastchat" => json!({"protocol": name, "ping_after": 0, "hello_timeout": 0}),
        "loudsync" => json!({
            "protocol": name, "ping_after": 0, "join_timeout": 0, "heartbeat_timeout": 3600,
        }),
        _ => json!({"protocol": name, "ping_after": 0}),
    };
    let listeners: Vec<Value> = PROTOCOLS.iter().map(|it| patient(it.name)).collect();
    let daemon = Daemon::start(json!({"listeners": listeners}));
    let mut pairs = [
        peerdrop(&daemon),
        fastchat(&daemon),
        workspace(&daemon),
        loudsync(&daemon),
        peerjs(&daemon),
    ];
    assert_eq!(pairs.len(), PROTOCOLS.len(), "a protocol is missing here");
    // All speak before anybody listens, so that each could get what is not for it.
    for (at, pair) in pairs.iter_mut().enumerate() {
        pair.one.says((pair.say)(&format!("from {at}")));
    }
    for (at, pair) in pairs.iter_mut().enumerate() {
        assert_eq!((pair.hear)(&pair.other.text()), format!("from {at}"));
        (0..pair.echoes).for_each(|_| {
            pair.one.text();
        });
    }
    // And that was all: a Pong comes next.
    for pair in &mut pairs {
        for client in [&mut pair.one, &mut pair.other] {
            client.pings_and_gets_nothing_else();
        }
    }
}
