//! JSON that is deep, double, out of range or full of markup, on each protocol that reads any and in
//! each of its dialects.

use super::{House, LARGE};
use crate::common::{Client, http};
use data_encoding::BASE64URL_NOPAD as BASE64URL;
use serde_json::{Value, json};
use uuid::Uuid;

/// Somebody who has said who it is, and how to tell that it is well.
struct Speaker {
    name: &'static str,
    client: Client,
    /// What it asks, and a part of the answer that nothing else has.
    question: String,
    answer: String,
    /// A part of each error.
    error: &'static str,
    /// Messages with a hole for a value, and which values are good there.
    holes: Vec<(String, Good)>,
}

/// Which values are good.
#[derive(Clone, Copy, PartialEq)]
enum Good {
    None,
    Numbers,
    /// In this field nobody looks.
    All,
}

const HOLE: &str = "HOLE";

/// Values, by name, and whether they are numbers.
fn values() -> Vec<(&'static str, String, bool)> {
    const DEEP: usize = 100_000;
    let digits = "9".repeat(400);
    let object = [r#"{"a":"#.repeat(DEEP), "1".to_owned(), "}".repeat(DEEP)].concat();
    let number = |name, value: &str| (name, value.to_owned(), true);
    let other = |name, value: &str| (name, value.to_owned(), false);
    vec![
        other(
            "arrays 100,000 deep",
            &["[".repeat(DEEP), "]".repeat(DEEP)].concat(),
        ),
        other("objects 100,000 deep", &object),
        other("a high surrogate alone", r#""\ud800""#),
        other("a low surrogate alone", r#""\udc00""#),
        other("surrogates in the wrong order", r#""\udc00\ud800""#),
        other("a surrogate with a letter", r#""\ud800x""#),
        number("1e999", "1e999"),
        number("-1e999", "-1e999"),
        number("1e-999", "1e-999"),
        number("2^70", "1180591620717411303424"),
        number("-2^70", "-1180591620717411303424"),
        number("-0", "-0"),
        number("-0.0", "-0.0"),
        number("400 digits", &digits),
        number("an exponent of 400 digits", &format!("1e{digits}")),
    ]
}

/// What is no JSON at all, or no object with each key once.
fn broken() -> Vec<(&'static str, String)> {
    vec![
        ("100,000 arrays that do not end", "[".repeat(100_000)),
        (
            "100,000 objects that do not end",
            r#"{"type":"#.repeat(100_000),
        ),
        (
            "arrays 100,000 deep",
            ["[".repeat(100_000), "]".repeat(100_000)].concat(),
        ),
        (
            "a key twice",
            r#"{"type":"MSG","type":"PING","timestamp":1}"#.to_owned(),
        ),
        (
            "the same type twice",
            r#"{"type":"x","type":"x","timestamp":1}"#.to_owned(),
        ),
        (
            "a key twice in an escape",
            r#"{"type":"x","t\u0079pe":"x","timestamp":1}"#.to_owned(),
        ),
        (
            "a type that is no text",
            r#"{"type":"\ud800","timestamp":1}"#.to_owned(),
        ),
        ("NaN", r#"{"type":"ping","timestamp":NaN}"#.to_owned()),
        (
            "Infinity",
            r#"{"type":"ping","timestamp":-Infinity}"#.to_owned(),
        ),
        (
            "hexadecimal",
            r#"{"type":"ping","timestamp":0x10}"#.to_owned(),
        ),
        (
            "a leading zero",
            r#"{"type":"ping","timestamp":01}"#.to_owned(),
        ),
        (
            "a comma too many",
            r#"{"type":"ping","timestamp":1,}"#.to_owned(),
        ),
        (
            "a byte order mark",
            "\u{feff}{\"type\":\"ping\",\"timestamp\":1}".to_owned(),
        ),
        (
            "a NUL behind it",
            "{\"type\":\"ping\",\"timestamp\":1}\0".to_owned(),
        ),
    ]
}

/// All who speak JSON, in each dialect.
fn speakers(house: &House) -> Vec<Speaker> {
    use Good::{All, None, Numbers};
    let mut speakers = vec![];
    let id = Uuid::new_v4().to_string();
    for (name, hello, holes) in [
        (
            "fastchat",
            json!({"type": "HELLO", "data": {"user_id": id, "display_name": "Ann"}}),
            vec![
                (r#"{"type":HOLE}"#, None),
                (r#"{"type":"MSG","data":HOLE}"#, None),
                (r#"{"type":"MSG","data":{"to":HOLE,"content":"x"}}"#, None),
                (r#"{"type":"MSG","data":{"to":"ID","content":HOLE}}"#, None),
                (
                    r#"{"type":"MSG","data":{"to":"ID","content":"x","message_id":HOLE}}"#,
                    None,
                ),
                (
                    r#"{"type":"OPEN_CHAT","data":{"target_user_id":HOLE}}"#,
                    None,
                ),
                (r#"{"type":"TYPING","data":{"is_typing":HOLE}}"#, None),
                (r#"{"type":"MSG_ACK","data":{"message_id":HOLE}}"#, All),
                (r#"{"type":"MSG_ACK","more":HOLE}"#, All),
            ],
        ),
        (
            "fastchat, flat",
            json!({"type": "HELLO", "display_name": "Bob"}),
            vec![
                (r#"{"type":HOLE,"content":"x"}"#, None),
                (r#"{"type":"MSG","content":HOLE}"#, None),
                (r#"{"type":"MSG","to":HOLE,"content":"x"}"#, None),
                (r#"{"type":"OPEN_CHAT","target_user_id":HOLE}"#, None),
                (r#"{"type":"TYPING","is_typing":HOLE}"#, None),
                (r#"{"type":"MSG_ACK","message_id":HOLE}"#, All),
            ],
        ),
    ] {
        let mut client = house.enter("fastchat");
        client.says(hello.to_string());
        client.until_type("HELLO_ACK");
        let holes = holes
            .into_iter()
            .map(|(hole, good)| (hole.replace("ID", &id), good));
        speakers.push(Speaker {
            name,
            client,
            question: r#"{"type":"PING"}"#.to_owned(),
            answer: r#""type":"PONG""#.to_owned(),
            error: r#""type":"ERROR""#,
            holes: holes.collect(),
        });
    }
    for (name, kind, holes) in [
        (
            "workspace",
            "message:send",
            vec![
                (r#"{"type":HOLE}"#, None),
                (r#"{"type":"message:send","text":HOLE}"#, None),
                (r#"{"type":"presence:update","status":HOLE}"#, None),
                (r#"{"type":"typing:indicator","isTyping":HOLE}"#, None),
            ],
        ),
        (
            "workspace, newer",
            "message",
            vec![
                (r#"{"type":HOLE}"#, None),
                (r#"{"type":"message","text":HOLE}"#, None),
                (r#"{"type":"message","text":"x","replyTo":HOLE}"#, None),
                (r#"{"type":"auth","token":HOLE}"#, None),
            ],
        ),
    ] {
        let mut client = house.enter("workspace");
        client.until_type("connected");
        let answer = format!("well, {name}?");
        let question = json!({"type": kind, "text": answer}).to_string();
        client.says(question.as_str());
        client.until_type("message:new");
        let holes = holes
            .into_iter()
            .map(|(hole, good)| (hole.to_owned(), good));
        speakers.push(Speaker {
            name,
            client,
            question,
            answer,
            error: r#""type":"error""#,
            holes: holes.collect(),
        });
    }
    let join = |device: &str, more: &str| {
        format!(
            r#"{{"type":"join","timestamp":1,"sessionId":"json","deviceInfo":{{"id":"{device}","name":"a","type":"host"}}{more}}}"#
        )
    };
    let info = |field: &str| {
        let fields =
            [("id", r#""a""#), ("name", r#""a""#), ("type", r#""host""#)].map(|(name, value)| {
                format!(r#""{name}":{}"#, if name == field { HOLE } else { value })
            });
        let info = fields.join(",");
        format!(r#"{{"type":"join","timestamp":1,"sessionId":"s","deviceInfo":{{{info}}}}}"#)
    };
    let mut host = house.enter("loudsync");
    host.says(join("host", ""));
    host.until_type("member_list");
    speakers.push(Speaker {
        name: "loudsync",
        client: host,
        question: r#"{"type":"ping","timestamp":12345}"#.to_owned(),
        answer: r#""timestamp":12345"#.to_owned(),
        error: r#""type":"error""#,
        holes: vec![
            (r#"{"type":HOLE,"timestamp":1}"#.to_owned(), None),
            (
                r#"{"type":"heartbeat","timestamp":HOLE}"#.to_owned(),
                Numbers,
            ),
            (r#"{"type":"ping","timestamp":HOLE}"#.to_owned(), Numbers),
            (
                r#"{"type":"kick","timestamp":1,"memberId":HOLE}"#.to_owned(),
                None,
            ),
            (
                r#"{"type":"kick","timestamp":1,"memberId":"x","reason":HOLE}"#.to_owned(),
                None,
            ),
            (join("host", r#","maxMembers":HOLE"#), None),
            (join("host", r#","sessionName":HOLE"#), None),
            (join("host", r#","version":HOLE"#), None),
            (info("id"), None),
            (info("name"), None),
            (info("type"), None),
            (
                r#"{"type":"heartbeat","timestamp":1,"more":HOLE}"#.to_owned(),
                All,
            ),
        ],
    });
    let mut guest = house.enter("loudsync");
    let device = json!({
        "sessionId": "json", "deviceId": "tv", "deviceName": "TV", "version": "1.0.0",
    });
    guest.says(json!({"type": "JOIN", "timestamp": 1, "payload": device}).to_string());
    guest.until_type("MEMBER_LIST");
    speakers.push(Speaker {
        name: "loudsync, capitals",
        client: guest,
        question: r#"{"type":"PING","timestamp":1,"payload":{"timestamp":12345}}"#.to_owned(),
        answer: r#""pingTimestamp":12345"#.to_owned(),
        error: r#""type":"ERROR""#,
        holes: vec![
            (r#"{"type":HOLE,"timestamp":1}"#.to_owned(), None),
            (
                r#"{"type":"HEARTBEAT","timestamp":HOLE}"#.to_owned(),
                Numbers,
            ),
            (
                r#"{"type":"PING","timestamp":1,"payload":HOLE}"#.to_owned(),
                None,
            ),
            (
                r#"{"type":"PING","timestamp":1,"payload":{"timestamp":HOLE}}"#.to_owned(),
                Numbers,
            ),
            (
                r#"{"type":"LEAVE","timestamp":1,"payload":{"reason":HOLE}}"#.to_owned(),
                None,
            ),
            (
                r#"{"type":"JOIN","timestamp":1,"payload":{"sessionId":HOLE}}"#.to_owned(),
                None,
            ),
            (
                r#"{"type":"HEARTBEAT","timestamp":1,"payload":{"more":HOLE}}"#.to_owned(),
                All,
            ),
        ],
    });
    let mut peer = house.enter_at("peerjs", "/peerjs?key=peerjs&id=json&token=t");
    peer.until_type("OPEN");
    speakers.push(Speaker {
        name: "peerjs",
        client: peer,
        question: r#"{"type":"OFFER","dst":"json","payload":"well?"}"#.to_owned(),
        answer: r#""payload":"well?""#.to_owned(),
        // What is wrong is ignored.
        error: "",
        holes: vec![
            (r#"{"type":HOLE,"dst":"json"}"#.to_owned(), None),
            (r#"{"type":"OFFER","dst":HOLE}"#.to_owned(), None),
            (
                r#"{"type":"OFFER","dst":"json","payload":HOLE}"#.to_owned(),
                All,
            ),
        ],
    });
    speakers
}

impl Speaker {
    /// What it is told for a message, before it proves that it is well.
    fn told(&mut self, message: &str) -> Vec<String> {
        self.client.passed_over.clear();
        self.client.says(message);
        self.client.says(self.question.as_str());
        let answer = &self.answer;
        self.client
            .until(|text| text.contains(answer).then_some(()));
        // What others do and ask comes at any time.
        let of_others = [
            "PRESENCE",
            "userCount",
            "presence:update",
            "message:new",
            "member_",
        ];
        let mut told = std::mem::take(&mut self.client.passed_over);
        told.retain(|text| !of_others.iter().any(|part| text.contains(part)));
        told
    }

    /// It is told of a mistake, and of nothing else.
    fn is_told_off_for(&mut self, message: &str, why: &str) {
        let told = self.told(message);
        let expected = usize::from(!self.error.is_empty());
        let name = self.name;
        assert_eq!(told.len(), expected, "{name}, {why}: {told:.300?}");
        for text in told {
            assert!(text.contains(self.error), "{name}, {why}: {text:.300}");
            // Whatever was in it, the answer is JSON, and short.
            let _: Value = serde_json::from_str(&text).unwrap();
            assert!(text.len() < 1000, "{name}, {why}: {text:.300}");
        }
    }
}

/// A house whose guests have room for what they say.
fn house() -> House {
    let room = json!({"max_message_size": 4 << 20, "outbox_size": 4 << 20});
    let special = [
        ("fastchat", json!({"pings_per_minute": 0})),
        (
            "workspace",
            json!({"messages_per_minute": 0, "signals_per_minute": 0}),
        ),
    ];
    House::furnished(&room, &special)
}

#[test]
fn values_that_no_program_expects_are_refused_or_passed_on_as_they_are() {
    for (what, value, is_number) in values() {
        let house = house();
        let mut everybody = speakers(&house);
        for speaker in &mut everybody {
            for (message, good) in std::mem::take(&mut speaker.holes) {
                let why = format!("{what} in {message}");
                let message = message.replace(HOLE, &value);
                if good == Good::None || good == Good::Numbers && !is_number {
                    speaker.is_told_off_for(&message, &why);
                    continue;
                }
                let told = speaker.told(&message);
                assert!(told.len() <= 1, "{}, {why}: {told:.300?}", speaker.name);
                // Octet for octet where it comes back.
                for text in told {
                    assert!(
                        text.contains(&value),
                        "{}, {why}: {text:.300}",
                        speaker.name
                    );
                }
            }
        }
        drop(everybody);
        house.withstands_with(
            LARGE,
            &format!("JSON: {what}, in each field"),
            "refused, or as it was",
        );
    }
}

#[test]
fn what_is_no_json_or_says_things_twice_is_refused() {
    for (why, message) in broken() {
        let house = house();
        let mut everybody = speakers(&house);
        for speaker in &mut everybody {
            speaker.is_told_off_for(&message, why);
        }
        drop(everybody);
        house.withstands_with(LARGE, &format!("JSON: {why}"), "refused");
    }
}

#[test]
fn a_first_message_and_a_body_are_read_with_the_same_care() {
    let house = house();
    for (protocol, message, error) in [
        (
            "fastchat",
            r#"{"type":"HELLO","data":{"user_id":"x","display_name":HOLE}}"#,
            "ERROR",
        ),
        ("fastchat", r#"{"type":"HELLO","data":HOLE}"#, "ERROR"),
        (
            "fastchat",
            r#"{"type":"HELLO","display_name":HOLE}"#,
            "ERROR",
        ),
        (
            "fastchat",
            r#"{"type":"HELLO","user_id":HOLE,"display_name":"Ann"}"#,
            "ERROR",
        ),
        ("workspace", r#"{"type":"auth","token":HOLE}"#, "error"),
        (
            "loudsync",
            r#"{"type":"join","timestamp":1,"sessionId":HOLE}"#,
            "error",
        ),
        (
            "loudsync",
            r#"{"type":"JOIN","timestamp":1,"payload":{"sessionId":HOLE}}"#,
            "ERROR",
        ),
    ] {
        for (what, value, _) in values() {
            let mut client = house.enter(protocol);
            client.says(message.replace(HOLE, &value));
            let told = client.until_type(error).to_string();
            assert!(told.len() < 1000, "{protocol}, {what}: {told:.300}");
            client.leaves_for_good();
        }
        house.withstands_with(
            LARGE,
            &format!("JSON: strange values in {message}"),
            "refused",
        );
    }
    for (what, value, _) in values() {
        // Tokens are JSON, too.
        let claims = format!(r#"{{"username":{value}}}"#);
        let token = ["{}", &claims, ""]
            .map(|part| BASE64URL.encode(part.as_bytes()))
            .join(".");
        let mut client = house.enter("workspace");
        client.says(json!({"type": "auth", "token": token}).to_string());
        // One that says nothing is as good as none, where there is no secret.
        let told = client.until(|text| {
            let is_answer = text.contains("auth:ack") || text.contains("INVALID_MESSAGE");
            is_answer.then(|| text.to_owned())
        });
        assert!(told.len() < 1000, "{what}: {told:.300}");
        assert!(
            client.texts().iter().all(|text| !text.contains("\\u")),
            "{what}"
        );
        client.leaves_for_good();
        let body = format!(r#"{{"display_name":"Ann","user_id":{value}}}"#);
        let head = "POST /presence/heartbeat HTTP/1.1\r\nHost: h\r\nConnection: close\r\n";
        let length = body.len();
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        let answer = http(house.address("fastchat"), &request);
        let expected = if length > 4096 { "413" } else { "400" };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{what}: {answer}"
        );
    }
    house.withstands_with(
        LARGE,
        "JSON: strange values in tokens and bodies",
        "refused",
    );
}

#[test]
fn no_megabyte_of_markup_leaves_a_tag() {
    let special = [
        ("workspace", json!({"messages_per_minute": 0})),
        (
            "fastchat",
            json!({"messages_per_minute": 0, "message_length": 100_000}),
        ),
    ];
    let house = House::furnished(&json!({}), &special);
    let mut room = house.enter("workspace");
    room.until_type("connected");
    let ids = [Uuid::new_v4().to_string(), Uuid::new_v4().to_string()];
    let [mut ann, mut bob] = ids.clone().map(|id| {
        let mut client = house.enter("fastchat");
        let user = json!({"user_id": id, "display_name": "Name"});
        client.says(json!({"type": "HELLO", "data": user}).to_string());
        client.until_type("HELLO_ACK");
        client
    });
    ann.says(json!({"type": "OPEN_CHAT", "data": {"target_user_id": ids[1]}}).to_string());
    ann.until_type("CHAT_OPENED");
    for piece in [
        "<scr<script>",
        "<scr<script>ipt>",
        "<",
        "<<",
        "<\u{0}b",
        "<<b>b>",
        "</",
        "<!--",
        "<a<",
        ">",
        "<ä>",
        "a<3 ",
    ] {
        let markup = |size: usize| {
            // In JSON a character may take six.
            let escaped = serde_json::to_string(piece).unwrap().len() - 2;
            format!("x{}img src=x onerror=y", piece.repeat(size / escaped))
        };
        let message = json!({"type": "message:send", "text": markup((1 << 20) - 100)});
        let message = message.to_string();
        // Twice, so that what is kept of each would be more than the slack.
        for _ in 0..2 {
            room.says(message.as_str());
            let said = room.until_type("message:new");
            assert_has_no_tag(said["data"]["text"].as_str().unwrap(), piece);
        }
        let data = json!({"to": ids[1], "content": markup((64 << 10) - 200)});
        ann.says(json!({"type": "MSG", "data": data}).to_string());
        ann.until_type("MSG_ACK");
        let heard = bob.until_type("MSG");
        assert_has_no_tag(heard["data"]["content"].as_str().unwrap(), piece);
    }
    drop((room, ann, bob));
    house.withstands_with(
        LARGE,
        "a megabyte of <scr<script> and the like",
        "no tag is left",
    );
}

fn assert_has_no_tag(text: &str, piece: &str) {
    let mut before = ' ';
    for c in text.chars() {
        let opens = c.is_alphabetic() || matches!(c, '/' | '!' | '?');
        assert!(before != '<' || !opens, "{piece:?} leaves <{c}");
        before = c;
    }
}
