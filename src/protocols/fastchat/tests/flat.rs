//! What the published front end sends and understands, each row at the desk.
//!
//! | demand | test |
//! | --- | --- |
//! | HELLO: display_name of 1 to 100 characters, any UUID or none; HELLO_ACK: user_id, message | `hello_needs_a_name_and_no_id` |
//! | PRESENCE: users and the action `update` for a whole list, which has nobody in it who is gone | `a_list_is_an_update` |
//! | PRESENCE: `connect` and `disconnect` for changes | `changes_are_told_by_what_they_are` |
//! | OPEN_CHAT, CHAT_OPENED: the same fields | `a_chat_is_opened_with_the_same_fields` |
//! | MSG: content alone; to the client sender_id, sender_name; MSG_ACK with a timestamp | `a_message_goes_to_the_chat_used_last` |
//! | a reloaded page sends at once into the chat that it had | `who_comes_back_writes_on_in_its_chat` |
//! | TYPING to the client: user_id, display_name, is_typing | `typing_names_who_types` |
//! | PONG, from both sides | `pongs_are_sent_and_taken` |
//! | ERROR: error_code, message, details | `an_error_has_an_error_code` |
//! | the first message decides the dialect, for the connection's life | `hello_decides_the_dialect_for_good` |
//! | a message that is neither gets its error in the dialect whose shape it has | `before_hello_an_error_has_the_shape_of_what_it_is_about` |
//! | both dialects meet in the same chats, each sees its own shapes | `both_dialects_meet` |
//! | a message that names nobody is for nobody else than whom its sender wanted last | `after_a_chat_that_could_not_be_opened_a_message_goes_to_nobody` |
//! | who has said something is told in its dialect that its time is up | `who_takes_too_long_is_told_in_its_dialect` |
//! | whoever waits for another's sign of life is answered in its own dialect | `a_claimant_is_answered_in_its_own_dialect` |
//! | GET /presence/online | `who_is_online_is_listed_over_http`, `a_list_is_of_those_who_are_there`, `slow_readers_of_lists_share_them` |
//! | POST /presence/heartbeat | `a_heartbeat_over_http_changes_nothing` |
//! | the endpoints over sockets, preflighted | `the_endpoints_of_the_front_end` |
//! | a flat client over a socket | `the_published_front_end_talks_with_a_client_of_the_document` |

use crate::base::close::DisconnectReason;
use crate::protocols::fastchat::FastChat;
use crate::realm::{HttpReply, Message};
use crate::testing::harness::{RealmHarness, no_lines};
use crate::toolkit::response_pool::MAX_IN_FLIGHT_BYTES;
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
/// Of version 1.
const BOB: &str = "bbbbbbbb-2222-1222-8222-bbbbbbbbbbbb";
const EVE: &str = "eeeeeeee-3333-4333-8333-eeeeeeeeeeee";

fn harness() -> RealmHarness<FastChat> {
    RealmHarness::new(json!({}))
}

/// What was sent to somebody.
fn told(lines: &[String], conn: u64) -> Vec<Value> {
    let prefix = format!("{conn} < ");
    let texts = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
    texts
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

fn says(harness: &mut RealmHarness<FastChat>, conn: u64, message: &Value) -> Vec<String> {
    harness.says(conn, &message.to_string())
}

/// Somebody comes and says HELLO as the front end does.
fn enter(harness: &mut RealmHarness<FastChat>, conn: u64, id: &str, name: &str) -> Vec<String> {
    harness.opens(conn, "/ws");
    let hello = json!({"type": "HELLO", "user_id": id, "display_name": name, "session_id": "s"});
    says(harness, conn, &hello)
}

/// The same as the document has it.
fn enter_by_the_document(
    harness: &mut RealmHarness<FastChat>,
    conn: u64,
    id: &str,
    name: &str,
) -> Vec<String> {
    harness.opens(conn, "/ws");
    let data = json!({"user_id": id, "display_name": name});
    says(harness, conn, &json!({"type": "HELLO", "data": data}))
}

/// Ann as 1 and Bob as 2 with a chat that Ann has opened, and all news told.
fn chat() -> RealmHarness<FastChat> {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    harness.waits(SECOND);
    says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    harness
}

#[test]
fn hello_needs_a_name_and_no_id() {
    let mut harness = harness();
    let lines = enter(&mut harness, 1, BOB, "A");
    let expected = json!({
        "type": "HELLO_ACK", "user_id": BOB, "message": "connected", "status": "connected",
    });
    assert_eq!(told(&lines, 1)[0], expected);
    harness.opens(2, "/ws");
    let long = "x".repeat(100);
    let lines = says(
        &mut harness,
        2,
        &json!({"type": "HELLO", "display_name": long}),
    );
    let id = told(&lines, 2)[0]["user_id"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::try_parse(&id).is_ok() && id != BOB, "{id}");
    for (name, id) in [
        (String::new(), ANN),
        (format!("{long}x"), ANN),
        (long, "no-uuid"),
    ] {
        let mut harness = self::harness();
        let lines = enter(&mut harness, 3, id, &name);
        assert_eq!(told(&lines, 3)[0]["error_code"], "VALIDATION");
    }
}

#[test]
fn a_list_is_an_update() {
    let mut harness = harness();
    let lines = enter(&mut harness, 1, ANN, "Ann");
    let ann = json!({"user_id": ANN, "display_name": "Ann", "online": true});
    let list = json!({"type": "PRESENCE", "action": "update", "users": [ann]});
    assert_eq!(told(&lines, 1)[1], list);
    enter(&mut harness, 2, BOB, "Bob");
    let lines = harness.waits(SECOND);
    assert_eq!(told(&lines, 1)[0]["users"].as_array().unwrap().len(), 2);
    harness.waits(SECOND);
    let lines = harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(told(&lines, 1), [list], "nobody who is gone is in it");
}

#[test]
fn changes_are_told_by_what_they_are() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"presence_list_up_to": 1}));
    enter(&mut harness, 1, ANN, "Ann");
    harness.waits(SECOND);
    enter(&mut harness, 2, BOB, "Bob");
    enter(&mut harness, 3, EVE, "Eve");
    let lines = harness.waits(SECOND);
    let changes: Vec<Value> = told(&lines, 1);
    assert!(
        changes.iter().all(|it| it["action"] == "connect"),
        "{changes:?}"
    );
    harness.waits(SECOND);
    harness.leaves(2, DisconnectReason::Lost);
    enter(&mut harness, 4, BOB, "Bob");
    harness.leaves(3, DisconnectReason::Lost);
    let lines = harness.waits(SECOND);
    let bob = json!({"user_id": BOB, "display_name": "Bob", "online": true});
    let eve = json!({"user_id": EVE, "display_name": "Eve", "online": false});
    let expected = [
        json!({"type": "PRESENCE", "action": "connect", "users": [bob]}),
        json!({"type": "PRESENCE", "action": "disconnect", "users": [eve]}),
    ];
    assert_eq!(told(&lines, 1), expected);
}

#[test]
fn a_chat_is_opened_with_the_same_fields() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    let opened = |conn, target: &str, name: &str| {
        let message = told(&lines, conn)[0].clone();
        let expected = json!({
            "type": "CHAT_OPENED", "chat_id": message["chat_id"], "participants": [ANN, BOB],
            "target_user_id": target, "target_display_name": name,
        });
        assert_eq!(message, expected);
    };
    opened(1, BOB, "Bob");
    opened(2, ANN, "Ann");
}

#[test]
fn a_message_goes_to_the_chat_used_last() {
    let mut harness = chat();
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "MSG", "content": "<b>hello</b>", "message_id": "m"}),
    );
    let expected = json!({
        "type": "MSG", "sender_id": ANN, "sender_name": "Ann", "content": "hello",
        "message_id": "m", "timestamp": "2026-01-16T10:00:01.000Z",
    });
    assert_eq!(told(&lines, 2), [expected]);
    let expected = json!({
        "type": "MSG_ACK", "message_id": "m", "status": "delivered",
        "timestamp": "2026-01-16T10:00:01.000Z",
    });
    assert_eq!(told(&lines, 1), [expected]);
    // Bob, who has opened none, was written to.
    let lines = says(
        &mut harness,
        2,
        &json!({"type": "MSG", "content": "hello back"}),
    );
    assert_eq!(told(&lines, 1)[0]["content"], "hello back");
    // Ann turns to Eve, and is turned back by what Bob writes.
    enter(&mut harness, 3, EVE, "Eve");
    says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": EVE}),
    );
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "MSG", "content": "to Eve"}),
    );
    assert_eq!(told(&lines, 3)[0]["content"], "to Eve");
    says(
        &mut harness,
        2,
        &json!({"type": "MSG", "content": "it is me"}),
    );
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "MSG", "content": "to Bob"}),
    );
    assert_eq!(told(&lines, 2)[0]["content"], "to Bob");
}

#[test]
fn who_comes_back_writes_on_in_its_chat() {
    let mut harness = chat();
    harness.leaves(1, DisconnectReason::Left(Some(1001)));
    harness.waits(59 * SECOND);
    enter(&mut harness, 3, ANN, "Ann");
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "again"}));
    assert_eq!(told(&lines, 2)[0]["content"], "again");
    let mut harness = chat();
    harness.leaves(1, DisconnectReason::Left(Some(1001)));
    harness.waits(60 * SECOND);
    enter(&mut harness, 3, ANN, "Ann");
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "again"}));
    assert_eq!(told(&lines, 3)[0]["error_code"], "CHAT_NOT_OPENED");
}

#[test]
fn after_a_chat_that_could_not_be_opened_a_message_goes_to_nobody() {
    let mut harness = chat();
    let opens = json!({"type": "OPEN_CHAT", "target_user_id": EVE});
    let bare = json!({"type": "MSG", "content": "for Eve"});
    says(&mut harness, 1, &opens);
    let lines = says(&mut harness, 1, &bare);
    assert_eq!(told(&lines, 1)[0]["error_code"], "CHAT_NOT_OPENED");
    assert_eq!(told(&lines, 1)[0]["details"], json!({}));
    assert_eq!(told(&lines, 2), [Value::Null; 0]);
    // TYPING goes to the chat used last in any case.
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "TYPING", "is_typing": true}),
    );
    assert_eq!(told(&lines, 2).len(), 1);
    for turn in [
        json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
        json!({"type": "MSG", "to": BOB, "content": "for Bob"}),
    ] {
        says(&mut harness, 1, &opens);
        says(&mut harness, 1, &turn);
        let lines = says(&mut harness, 1, &bare);
        assert_eq!(told(&lines, 2).len(), 1, "{turn}");
    }
    says(&mut harness, 1, &opens);
    says(
        &mut harness,
        2,
        &json!({"type": "MSG", "content": "to Ann"}),
    );
    assert_eq!(told(&says(&mut harness, 1, &bare), 2).len(), 1);
}

#[test]
fn who_takes_too_long_is_told_in_its_dialect() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "");
    harness.opens(2, "/ws");
    let lines = harness.waits(10 * SECOND);
    assert_eq!(told(&lines, 1)[0]["error_code"], "UNAUTHORIZED");
    assert_eq!(told(&lines, 2)[0]["data"]["code"], "UNAUTHORIZED");
}

#[test]
fn typing_names_who_types() {
    let mut harness = chat();
    for is_typing in [true, false] {
        let lines = says(
            &mut harness,
            1,
            &json!({"type": "TYPING", "is_typing": is_typing}),
        );
        let expected = json!({
            "type": "TYPING", "user_id": ANN, "display_name": "Ann", "is_typing": is_typing,
        });
        assert_eq!(told(&lines, 2), [expected]);
    }
}

#[test]
fn pongs_are_sent_and_taken() {
    let mut harness = chat();
    let lines = says(&mut harness, 1, &json!({"type": "PING"}));
    assert_eq!(told(&lines, 1)[0]["type"], "PONG");
    assert_eq!(says(&mut harness, 1, &json!({"type": "PONG"})), no_lines());
    assert_eq!(
        says(
            &mut harness,
            1,
            &json!({"type": "MSG_ACK", "message_id": "m"})
        ),
        no_lines()
    );
}

#[test]
fn an_error_has_an_error_code() {
    let mut harness = chat();
    for (message, code, details) in [
        (
            json!({"type": "MSG"}),
            "VALIDATION",
            json!({"field": "content"}),
        ),
        (
            json!({"type": "MSG", "content": "", "message_id": "m"}),
            "VALIDATION",
            json!({"field": "content", "message_id": "m"}),
        ),
        (
            json!({"type": "OPEN_CHAT", "target_user_id": EVE}),
            "USER_NOT_FOUND",
            json!({"field": "target_user_id"}),
        ),
        (
            json!({"type": "NONSENSE"}),
            "VALIDATION",
            json!({"field": "type"}),
        ),
    ] {
        let lines = says(&mut harness, 1, &message);
        let mut error = told(&lines, 1)[0].clone();
        assert!(error["message"].take().is_string());
        assert_eq!(
            error,
            json!({"type": "ERROR", "error_code": code, "message": null, "details": details})
        );
    }
    let lines = harness.says(1, "nonsense");
    assert_eq!(told(&lines, 1)[0]["error_code"], "VALIDATION");
    let lines = harness.sends(1, Message::Binary(vec![1].into()));
    assert_eq!(told(&lines, 1)[0]["error_code"], "VALIDATION");
    // Without a chat to write in, too: first it is counted.
    enter(&mut harness, 3, EVE, "Eve");
    for _ in 0..60 {
        let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "x"}));
        assert_eq!(told(&lines, 3)[0]["error_code"], "CHAT_NOT_OPENED");
    }
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "x"}));
    assert_eq!(told(&lines, 3)[0]["error_code"], "RATE_LIMITED");
}

#[test]
fn hello_decides_the_dialect_for_good() {
    let mut harness = harness();
    enter_by_the_document(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    harness.waits(SECOND);
    // The flat fields are not read, and the error has the document's shape.
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    assert_eq!(told(&lines, 1)[0]["data"]["code"], "VALIDATION");
    let lines = says(&mut harness, 1, &json!({"type": "PONG"}));
    assert_eq!(told(&lines, 1)[0]["data"]["code"], "VALIDATION");
    // And the other way round.
    let data = json!({"target_user_id": ANN});
    let lines = says(&mut harness, 2, &json!({"type": "OPEN_CHAT", "data": data}));
    assert_eq!(told(&lines, 2)[0]["error_code"], "VALIDATION");
    // A HELLO that was wrong has decided, too.
    harness.opens(3, "/ws");
    says(
        &mut harness,
        3,
        &json!({"type": "HELLO", "data": {"user_id": "wrong"}}),
    );
    let lines = says(
        &mut harness,
        3,
        &json!({"type": "HELLO", "display_name": "Eve"}),
    );
    assert_eq!(told(&lines, 3)[0]["data"]["code"], "VALIDATION");
}

#[test]
fn before_hello_an_error_has_the_shape_of_what_it_is_about() {
    for (text, is_flat) in [
        (r#"{"type":"MSG","content":"x"}"#, true),
        (r#"{"type":"HELLO","display_name":7}"#, true),
        (r#"{"type":"MSG","data":{"content":"x"}}"#, false),
        (r#"{"type":"HELLO","data":{},"display_name":"Ann"}"#, false),
        (r#"{"type":"HELLO"}"#, false),
        (r#"{"type":"HELLO","data":7,"display_name":7}"#, true),
        (r#"{"type":"HELLO","user_id":"x"}"#, true),
        (
            r#"{"type":"HELLO","display_name":"A","display_name":"B"}"#,
            true,
        ),
        (r#"{"type":"OPEN_CHAT","target_user_id":"x"}"#, true),
        (r#"{"type":"MSG","to":"x"}"#, true),
        (r#"{"type":"MSG","message_id":"x"}"#, true),
        (r#"{"type":"TYPING","is_typing":true}"#, true),
        (r#"{"type":"PING"}"#, false),
        ("nonsense", false),
    ] {
        let mut harness = harness();
        harness.opens(1, "/ws");
        let lines = harness.says(1, text);
        let error = &told(&lines, 1)[0];
        assert_eq!(
            error.get("error_code").is_some(),
            is_flat,
            "{text}: {error}"
        );
        assert_eq!(error.get("data").is_none(), is_flat, "{text}: {error}");
    }
    // Nothing but a HELLO of one of the two shapes decides.
    let data = json!({"user_id": ANN, "display_name": "Ann"});
    let document = json!({"type": "HELLO", "data": data});
    let flat = json!({"type": "HELLO", "display_name": "Ann"});
    for undecided in [
        r#"{"type":"MSG","content":"x"}"#,
        r#"{"type":"HELLO"}"#,
        r#"{"type":"HELLO","content":"x"}"#,
    ] {
        for (hello, is_flat) in [(&document, false), (&flat, true)] {
            let mut harness = harness();
            harness.opens(1, "/ws");
            harness.says(1, undecided);
            let lines = says(&mut harness, 1, hello);
            let ack = &told(&lines, 1)[0];
            assert_eq!(
                (&ack["type"], ack.get("data").is_none()),
                (&json!("HELLO_ACK"), is_flat)
            );
        }
    }
}

#[test]
fn both_dialects_meet() {
    let mut harness = harness();
    enter_by_the_document(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    let lines = harness.waits(SECOND);
    assert_eq!(
        told(&lines, 1)[0]["data"]["users"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(told(&lines, 2), [Value::Null; 0], "it has the list");
    // Bob's id is none that the document's client could have itself.
    let data = json!({"target_user_id": BOB});
    says(&mut harness, 1, &json!({"type": "OPEN_CHAT", "data": data}));
    let data = json!({"to": BOB, "content": "first", "message_id": "m"});
    let lines = says(&mut harness, 1, &json!({"type": "MSG", "data": data}));
    assert_eq!(told(&lines, 2)[0]["sender_name"], "Ann");
    let ack = json!({"message_id": "m", "status": "delivered"});
    assert_eq!(told(&lines, 1), [json!({"type": "MSG_ACK", "data": ack})]);
    enter_by_the_document(&mut harness, 3, EVE, "Eve");
    let opens = json!({"type": "OPEN_CHAT", "target_user_id": EVE});
    let lines = says(&mut harness, 2, &opens);
    let (document, flat) = (&told(&lines, 3)[0], &told(&lines, 2)[0]);
    assert_eq!(document["data"]["target_display_name"], "Bob");
    assert_eq!(flat["target_display_name"], "Eve");
    assert_eq!(document["data"]["chat_id"], flat["chat_id"]);
    let lines = says(&mut harness, 2, &json!({"type": "MSG", "content": "hello"}));
    let expected = json!({
        "from": BOB, "to": EVE, "content": "hello",
        "message_id": told(&lines, 2)[0]["message_id"], "timestamp": "2026-01-16T10:00:01.000Z",
    });
    assert_eq!(told(&lines, 3), [json!({"type": "MSG", "data": expected})]);
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "TYPING", "data": {"is_typing": true}}),
    );
    assert_eq!(told(&lines, 2)[0]["display_name"], "Ann");
}

#[test]
fn a_claimant_is_answered_in_its_own_dialect() {
    let mut harness = harness();
    enter_by_the_document(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, ANN, "Ann");
    let lines = harness.answers(1);
    assert_eq!(told(&lines, 2)[0]["error_code"], "UNAUTHORIZED");
    enter(&mut harness, 3, ANN, "Ann");
    let lines = harness.is_silent(1);
    assert_eq!(told(&lines, 3)[0]["message"], "connected");
}

fn body(reply: HttpReply) -> Value {
    match reply {
        HttpReply::Ok { body, .. } => serde_json::from_str(&body).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn status(reply: &HttpReply) -> u16 {
    match reply {
        HttpReply::Ok { .. } => 200,
        HttpReply::UpgradeRequired { .. } => 426,
        HttpReply::Rejected(refusal) => refusal.status,
    }
}

fn seen(id: &str, name: &str, status: &str) -> Value {
    json!({
        "id": id, "user_id": id, "display_name": name,
        "last_seen": "2026-01-16T10:00:00.000Z", "status": status,
    })
}

#[test]
fn who_is_online_is_listed_over_http() {
    let mut harness = harness();
    assert_eq!(
        body(harness.asks("/presence/online")),
        json!({"users": [], "count": 0})
    );
    enter(&mut harness, 1, ANN, "Ann");
    enter_by_the_document(&mut harness, 2, EVE, "Eve");
    let (ann, eve) = (seen(ANN, "Ann", "online"), seen(EVE, "Eve", "online"));
    for (query, users) in [
        ("", json!([ann, eve])),
        ("?exclude_user_id=no-uuid", json!([ann, eve])),
        (
            "?exclude_user_id=AAAAAAAA-1111-4111-8111-AAAAAAAAAAAA",
            json!([eve]),
        ),
    ] {
        let count = users.as_array().unwrap().len();
        let listed = body(harness.asks(&format!("/presence/online{query}")));
        assert_eq!(listed, json!({"users": users, "count": count}), "{query}");
    }
    for (path, expected) in [("/ws", 426), ("/presence/heartbeat", 405)] {
        assert_eq!(status(&harness.asks(path)), expected, "{path}");
    }
    assert_eq!(status(&harness.posts("/presence/online", "{}")), 405);
}

#[test]
fn slow_readers_of_lists_share_them() {
    let mut harness = harness();
    for conn in 1..=100 {
        harness.opens(conn, "/ws");
        let name = format!("{conn:0>100}");
        says(
            &mut harness,
            conn,
            &json!({"type": "HELLO", "display_name": name}),
        );
    }
    let all = harness.asks("/presence/online");
    let users = body(all.clone())["users"].clone();
    let mut held: Vec<HttpReply> = Vec::new();
    let mut count = |harness: &mut RealmHarness<FastChat>, at: usize| {
        let id = users[at % 100]["id"].as_str().unwrap();
        let reply = harness.asks(&format!("/presence/online?exclude_user_id={id}"));
        let count = body(reply.clone())["count"].clone();
        let size = match &reply {
            HttpReply::Ok { body, .. } => body.len(),
            other => panic!("{other:?}"),
        };
        held.push(reply);
        (count, size)
    };
    // That of all is one of them.
    let HttpReply::Ok { body: all, .. } = all else {
        panic!("{all:?}");
    };
    let mut size = all.len();
    while size < MAX_IN_FLIGHT_BYTES {
        let (others, bytes) = count(&mut harness, size);
        assert_eq!(others, 99);
        size += bytes;
    }
    assert_eq!(count(&mut harness, 0).0, 100, "with oneself in it");
    let last_seen = |harness: &mut RealmHarness<FastChat>| {
        let list = body(harness.asks("/presence/online"));
        assert_eq!(list["count"], 100);
        list["users"][0]["last_seen"].clone()
    };
    let before = last_seen(&mut harness);
    harness.waits(SECOND);
    assert_eq!(last_seen(&mut harness), before, "no new one is made");
    held.truncate(10);
    assert_ne!(last_seen(&mut harness), before);
}

#[test]
fn a_list_is_of_those_who_are_there() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    assert_eq!(body(harness.asks("/presence/online"))["count"], 1);
    enter(&mut harness, 2, BOB, "Bob");
    assert_eq!(body(harness.asks("/presence/online"))["count"], 2);
    harness.leaves(1, DisconnectReason::Lost);
    assert_eq!(body(harness.asks("/presence/online"))["count"], 1);
    harness.waits(SECOND);
    let seen = body(harness.asks("/presence/online"))["users"][0]["last_seen"].take();
    assert_eq!(seen, "2026-01-16T10:00:01.000Z");
}

#[test]
fn a_heartbeat_over_http_changes_nothing() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    let mut beats = |id: &str, name: &str| {
        let heartbeat = json!({"user_id": id, "display_name": name});
        harness.posts("/presence/heartbeat", &heartbeat.to_string())
    };
    assert_eq!(body(beats(ANN, "Another name")), seen(ANN, "Ann", "online"));
    assert_eq!(body(beats(BOB, "Bob")), seen(BOB, "Bob", "offline"));
    assert_eq!(status(&beats("no-uuid", "Bob")), 400);
    let long = json!({"user_id": BOB, "display_name": "x".repeat(101)}).to_string();
    for wrong in ["", "[]", "{}", "\u{fffd}", r#"{"user_id":7}"#, &long] {
        assert_eq!(
            status(&harness.posts("/presence/heartbeat", wrong)),
            400,
            "{wrong}"
        );
    }
    assert_eq!(body(harness.asks("/presence/online"))["count"], 1);
}

#[test]
fn the_table_of_demands_is_true() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("flat.rs"),
        include_str!("../../../../tests/fastchat.rs"),
    ]);
}
