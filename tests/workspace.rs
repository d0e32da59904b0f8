//! Workspace as its clients see it. What the document demands of the rules is tested at the desk,
//! beside the rules; here is what takes sockets.

use crate::common::{Client, Daemon};
use serde_json::{Value, json};

fn daemon() -> Daemon {
    Daemon::with(json!({"protocol": "workspace"}))
}

fn enter(daemon: &Daemon, name: &str) -> Client {
    let mut client = Client::connect(daemon.address(), &format!("/ws?username={name}"));
    assert_eq!(client.json()["type"], "connected");
    client
}

fn kinds_and_data(client: &mut Client, count: usize) -> Vec<(String, Value)> {
    let take = |message: Value| {
        (
            message["type"].as_str().unwrap().to_owned(),
            message["data"].clone(),
        )
    };
    (0..count).map(|_| take(client.json())).collect()
}

/// The next message that is no `userCount`, which may come at any second.
fn but_counts(client: &mut Client) -> Value {
    loop {
        let message = client.json();
        if message["type"] != "userCount" {
            return message;
        }
    }
}

#[test]
fn two_browsers_meet_talk_and_part() {
    let daemon = daemon();
    let mut john = enter(&daemon, "john_doe");
    let mut jane = enter(&daemon, "jane%20doe");
    jane.says(r#"{"type":"typing:indicator","isTyping":true}"#);
    jane.says(r#"{"type":"message:send","text":"Hello <b>everyone</b>!"}"#);
    jane.says(r#"{"type":"presence:update","status":"busy"}"#);
    let heard = kinds_and_data(&mut john, 4);
    let kinds: Vec<&str> = heard.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "presence:update",
            "typing:indicator",
            "message:new",
            "presence:update"
        ]
    );
    assert!(heard.iter().all(|(_, data)| data["username"] == "jane doe"));
    assert_eq!(heard[2].1["text"], "Hello everyone!");
    assert_eq!(heard[3].1["status"], "busy");
    assert_eq!(jane.json()["type"], "message:new");
    jane.leaves();
    let heard = kinds_and_data(&mut john, 2);
    assert_eq!(heard[0].1["isTyping"], false);
    assert_eq!(heard[1].1["status"], "offline");
}

#[test]
fn a_newer_client_joins_talks_errs_and_leaves() {
    let daemon = Daemon::with(json!({"protocol": "workspace", "auth_secret": "secret"}));
    let mut old = enter(&daemon, "old");
    let mut new = Client::connect(daemon.address(), "/ws");
    assert_eq!(new.json()["type"], "connected");
    new.says(r#"{"type":"auth","token":"nonsense"}"#);
    assert_eq!(but_counts(&mut new)["code"], "UNAUTHORIZED");
    // {"alg":"HS256","typ":"JWT"}, {"username":"Ann"}, and the signature of "secret".
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VybmFtZSI6IkFubiJ9.vXKa9xT962kHozUTtANHBEFb42OtN_nFTEX4jHgT1I8";
    new.says(json!({"type": "auth", "token": token}).to_string());
    let acknowledged = json!({"type": "auth:ack", "ok": true});
    assert_eq!(but_counts(&mut new), acknowledged);
    let count = json!({"type": "userCount", "count": 2, "users": ["Ann", "old"]});
    assert_eq!(new.json(), count);
    new.says(r#"{"type":"message","text":"Hello","replyTo":"msg_1"}"#);
    let said = new.json();
    assert_eq!(said["type"], "message:new");
    assert_eq!(
        (&said["data"]["username"], &said["data"]["replyTo"]),
        (&json!("Ann"), &json!("msg_1"))
    );
    let heard = kinds_and_data(&mut old, 4);
    let [statuses, names] =
        ["status", "username"].map(|field| heard.iter().map(move |(_, data)| &data[field]));
    let statuses: Vec<&Value> = statuses.take(3).collect();
    assert_eq!(statuses, ["online", "offline", "online"]);
    assert!(names.skip(2).all(|name| name == "Ann"));
    old.says(r#"{"type":"message:send","text":"Hi"}"#);
    assert_eq!(old.json()["data"]["text"], "Hi");
    assert_eq!(new.json()["data"]["text"], "Hi");
    new.leaves();
    let (_, gone) = kinds_and_data(&mut old, 1).remove(0);
    assert_eq!(
        (&gone["username"], &gone["status"]),
        (&json!("Ann"), &json!("offline"))
    );
}

#[test]
fn answers_to_what_is_wrong_keep_their_place_among_the_others() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    let mut batch = Vec::new();
    for text in [
        "nonsense",
        r#"{"type":"message:send","text":"1"}"#,
        r#"{"type":"x"}"#,
        r#"{"type":"message:send","text":"2"}"#,
    ] {
        batch.extend([0x81, 0x80 | text.len() as u8, 0, 0, 0, 0]);
        batch.extend(text.as_bytes());
    }
    client.sends_raw(&batch);
    let codes: Vec<Value> = (0..4)
        .map(|_| client.json())
        .map(|message| {
            if message["type"] == "error" {
                message["code"].clone()
            } else {
                message["data"]["text"].clone()
            }
        })
        .collect();
    assert_eq!(codes, ["INVALID_JSON", "1", "UNKNOWN_TYPE", "2"]);
}

#[test]
fn a_fourth_connection_of_a_user_never_opens() {
    let daemon = daemon();
    let _three: Vec<Client> = ["ann", "Ann", "ANN"]
        .iter()
        .map(|name| enter(&daemon, name))
        .collect();
    let fourth = Client::try_connect(daemon.address(), "/ws?username=ann", &[]);
    assert_eq!(fourth.err(), Some(429));
    enter(&daemon, "bob");
}

#[test]
fn a_connection_in_which_nothing_is_said_is_closed() {
    let daemon = Daemon::with(json!({"protocol": "workspace", "idle_timeout": 1}));
    assert_eq!(enter(&daemon, "a").closed(), (4408, "timed out".to_owned()));
}

#[test]
fn a_message_may_have_a_megabyte_and_not_more() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    let message = |size: usize| {
        let text = json!({"type": "message:send", "text": "x".repeat(size)}).to_string();
        assert!(text.len() >= size);
        text
    };
    let frame = message(0).len();
    client.says(message((1 << 20) - frame));
    assert_eq!(
        client.json()["data"]["text"].as_str().unwrap().len(),
        (1 << 20) - frame
    );
    client.says(message((1 << 20) - frame + 1));
    assert_eq!(client.closed(), (1009, "message too big".to_owned()));
}

#[test]
fn a_binary_message_is_answered() {
    let daemon = daemon();
    let mut client = enter(&daemon, "a");
    client.sends_frame(0x2, br#"{"type":"message:send","text":"x"}"#);
    assert_eq!(client.json()["code"], "INVALID_MESSAGE");
}

#[test]
fn two_listeners_are_two_rooms() {
    let daemon =
        Daemon::start(json!({"listeners": [{"protocol": "workspace"}, {"protocol": "workspace"}]}));
    let mut here = Client::connect(daemon.addresses[0], "/ws?username=a");
    let mut there = Client::connect(daemon.addresses[1], "/ws?username=a");
    assert_eq!(here.json()["connectedUsers"], 1);
    assert_eq!(there.json()["connectedUsers"], 1);
    here.says(r#"{"type":"message:send","text":"here"}"#);
    assert_eq!(here.json()["data"]["text"], "here");
    there.says(r#"{"type":"message:send","text":"there"}"#);
    assert_eq!(there.json()["data"]["text"], "there");
}
