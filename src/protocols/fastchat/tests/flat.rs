//! The rules for the flat dialect and the HTTP endpoints, each with the test that holds it.
//!
//! | rule | test |
//! | --- | --- |
//! | HELLO: display_name of 1 to 100 characters, any UUID or none; HELLO_ACK: user_id, message | `hello_needs_a_name_but_no_id` |
//! | PRESENCE: a whole list has the action `update`, and no users that are offline | `a_presence_list_has_the_action_update` |
//! | PRESENCE: changes have the action `connect` or `disconnect` | `presence_changes_have_the_action_connect_or_disconnect` |
//! | OPEN_CHAT, CHAT_OPENED: the same fields | `chat_opened_has_the_documents_fields` |
//! | MSG to the client: sender_id, sender_name; MSG_ACK with a timestamp | `a_message_names_its_sender_and_its_ack_has_a_timestamp` |
//! | MSG and TYPING without `to` go to the partner: that of the last CHAT_OPENED that the user was sent, asked or not | `messages_go_to_the_partner_of_the_last_chat_opened_that_the_user_was_sent` |
//! | in this or an earlier connection | `a_user_that_reconnects_writes_to_its_previous_chat` |
//! | also when that chat has ended | `a_partner_is_kept_after_its_chat_has_ended` |
//! | a MSG never makes a partner | `a_message_never_makes_a_partner` |
//! | after an OPEN_CHAT that failed, for whatever reason, there is none: `CHAT_NOT_OPENED` | `after_a_failed_open_chat_there_is_no_partner` |
//! | until the next CHAT_OPENED that the user asked for | `only_a_chat_opened_that_the_user_asked_for_ends_that` |
//! | a `false` that ends a `true` always passes | `a_false_reaches_the_user_that_was_sent_the_true_after_a_failed_open_chat` |
//! | an OPEN_CHAT during a takeover fails, too | `an_open_chat_that_failed_during_a_takeover_counts` |
//! | a flat client that has a partner is not sent the CHAT_OPENED of a chat that another asks for; the chat is open | `a_page_that_shows_a_user_is_not_sent_the_chat_opened_of_another` |
//! | nor one that may show a user | `a_page_that_may_show_a_user_is_not_sent_the_chat_opened_of_another` |
//! | one with no partner at all is, and has it as partner | `a_page_that_shows_no_user_is_turned_to_the_first_that_asks` |
//! | unless it may not have arrived | `a_chat_opened_that_may_not_have_arrived_makes_no_partner` |
//! | a user that was away for longer than `absence`: `CHAT_NOT_OPENED` | `a_user_without_a_partner_gets_chat_not_opened` |
//! | the other dialect has no page | `a_stay_in_the_other_dialect_leaves_the_partner_as_it_was` |
//! | a reloaded page sends into its previous chat | `a_user_that_reconnects_writes_to_its_previous_chat` |
//! | TYPING to the client: user_id, display_name, is_typing | `typing_has_the_display_name` |
//! | PONG, in both directions | `pongs_are_sent_and_accepted` |
//! | ERROR: error_code, message, details | `an_error_has_an_error_code` |
//! | HELLO fixes the dialect for the connection's life | `hello_fixes_the_dialect_for_the_connections_life` |
//! | before HELLO an error has the dialect whose shape the message has | `before_hello_an_error_has_the_dialect_of_the_message_it_answers` |
//! | users of both dialects share chats, each with its own shapes | `both_dialects_share_chats` |
//! | the error at the end of `hello_timeout` has the client's dialect | `the_hello_timeout_error_is_in_the_clients_dialect` |
//! | a claimant is answered in its own dialect | `a_claimant_is_answered_in_its_own_dialect` |
//! | GET /presence/online | `users_online_are_listed_over_http`, `a_list_is_encoded_once_for_all_requests_whomever_they_exclude`, `an_http_list_is_current`, `slow_http_clients_share_one_list` |
//! | POST /presence/heartbeat, its name cleaned as in HELLO | `an_http_heartbeat_changes_nothing` |
//! | the endpoints over sockets, with preflight requests | `the_presence_endpoints_answer_the_front_end` |
//! | a flat client over a socket | `a_flat_client_chats_with_a_client_of_the_document` |

use crate::base::close::{CloseReason, DisconnectReason};
use crate::protocols::fastchat::FastChat;
use crate::realm::{Body, HttpReply, Message};
use crate::testing::harness::{RealmHarness, no_lines, sent_to};
use crate::toolkit::in_flight::MAX_IN_FLIGHT_BYTES;
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
/// A UUID of version 1, which only the flat dialect allows.
const BOB: &str = "bbbbbbbb-2222-1222-8222-bbbbbbbbbbbb";
const CID: &str = "cccccccc-3333-4333-8333-cccccccccccc";
const EVE: &str = "eeeeeeee-3333-4333-8333-eeeeeeeeeeee";

fn harness() -> RealmHarness<FastChat> {
    RealmHarness::new(json!({}))
}

fn says(harness: &mut RealmHarness<FastChat>, conn: u64, message: &Value) -> Vec<String> {
    harness.send(conn, &message.to_string())
}

/// Connects and sends a flat HELLO, as the front end does.
fn enter(harness: &mut RealmHarness<FastChat>, conn: u64, id: &str, name: &str) -> Vec<String> {
    harness.open(conn, "/ws");
    let hello = json!({"type": "HELLO", "user_id": id, "display_name": name, "session_id": "s"});
    says(harness, conn, &hello)
}

/// Connects and sends a HELLO in the document's dialect.
fn enter_in_document_dialect(
    harness: &mut RealmHarness<FastChat>,
    conn: u64,
    id: &str,
    name: &str,
) -> Vec<String> {
    harness.open(conn, "/ws");
    let data = json!({"user_id": id, "display_name": name});
    says(harness, conn, &json!({"type": "HELLO", "data": data}))
}

/// A realm with Ann on connection 1 and Bob on 2, a chat that Ann has opened, and all changes sent.
fn chat() -> RealmHarness<FastChat> {
    chat_with(json!({}))
}

fn chat_with(options: Value) -> RealmHarness<FastChat> {
    let mut harness = RealmHarness::new(options);
    enter(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    harness.advance(SECOND);
    says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    harness
}

/// A realm with Ann on connection 1 in the document's dialect and Bob on 2.
fn harness_with_document_user() -> RealmHarness<FastChat> {
    let mut harness = harness();
    enter_in_document_dialect(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    harness
}

fn opens(harness: &mut RealmHarness<FastChat>, conn: u64, target: &str) -> Vec<String> {
    says(
        harness,
        conn,
        &json!({"type": "OPEN_CHAT", "target_user_id": target}),
    )
}

/// The connection that a MSG and a TYPING without `to` are sent to.
fn partner(harness: &mut RealmHarness<FastChat>, conn: u64) -> Option<u64> {
    let recipient = |lines: &[String], kind: &str| {
        let line = lines
            .iter()
            .find(|line| line.contains(&format!("\"{kind}\"")));
        line.map(|line| line.split_once(' ').unwrap().0.parse().unwrap())
    };
    let written = says(harness, conn, &json!({"type": "MSG", "content": "x"}));
    let typed = says(harness, conn, &json!({"type": "TYPING", "is_typing": true}));
    says(
        harness,
        conn,
        &json!({"type": "TYPING", "is_typing": false}),
    );
    assert_eq!(recipient(&written, "MSG"), recipient(&typed, "TYPING"));
    recipient(&written, "MSG")
}

/// The code of the error for a MSG without `to`, which must be the only effect.
fn bare_error(harness: &mut RealmHarness<FastChat>, conn: u64) -> Value {
    let lines = says(harness, conn, &json!({"type": "MSG", "content": "x"}));
    assert_eq!(lines.len(), 1, "{lines:?}");
    sent_to(&lines, conn)[0]["error_code"].clone()
}

#[test]
fn hello_needs_a_name_but_no_id() {
    let mut harness = harness();
    let lines = enter(&mut harness, 1, BOB, "A");
    let expected = json!({
        "type": "HELLO_ACK", "user_id": BOB, "message": "connected", "status": "connected",
    });
    assert_eq!(sent_to(&lines, 1)[0], expected);
    harness.open(2, "/ws");
    let long = "x".repeat(100);
    let lines = says(
        &mut harness,
        2,
        &json!({"type": "HELLO", "display_name": long}),
    );
    let id = sent_to(&lines, 2)[0]["user_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(uuid::Uuid::try_parse(&id).is_ok() && id != BOB, "{id}");
    for (name, id) in [
        (String::new(), ANN),
        (format!("{long}x"), ANN),
        (long, "no-uuid"),
    ] {
        let mut harness = self::harness();
        let lines = enter(&mut harness, 3, id, &name);
        assert_eq!(sent_to(&lines, 3)[0]["error_code"], "VALIDATION");
    }
}

#[test]
fn a_presence_list_has_the_action_update() {
    let mut harness = harness();
    let lines = enter(&mut harness, 1, ANN, "Ann");
    let ann = json!({"user_id": ANN, "display_name": "Ann", "online": true});
    let list = json!({"type": "PRESENCE", "action": "update", "users": [ann]});
    assert_eq!(sent_to(&lines, 1)[1], list);
    enter(&mut harness, 2, BOB, "Bob");
    let lines = harness.advance(SECOND);
    assert_eq!(sent_to(&lines, 1)[0]["users"].as_array().unwrap().len(), 2);
    harness.advance(SECOND);
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        sent_to(&lines, 1),
        [list],
        "without the user that disconnected"
    );
}

#[test]
fn presence_changes_have_the_action_connect_or_disconnect() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"presence_list_up_to": 1}));
    enter(&mut harness, 1, ANN, "Ann");
    harness.advance(SECOND);
    enter(&mut harness, 2, BOB, "Bob");
    enter(&mut harness, 3, EVE, "Eve");
    let lines = harness.advance(SECOND);
    let changes: Vec<Value> = sent_to(&lines, 1);
    assert!(
        changes.iter().all(|it| it["action"] == "connect"),
        "{changes:?}"
    );
    harness.advance(SECOND);
    harness.disconnect(2, DisconnectReason::Lost);
    enter(&mut harness, 4, BOB, "Bob");
    harness.disconnect(3, DisconnectReason::Lost);
    let lines = harness.advance(SECOND);
    let bob = json!({"user_id": BOB, "display_name": "Bob", "online": true});
    let eve = json!({"user_id": EVE, "display_name": "Eve", "online": false});
    let expected = [
        json!({"type": "PRESENCE", "action": "connect", "users": [bob]}),
        json!({"type": "PRESENCE", "action": "disconnect", "users": [eve]}),
    ];
    assert_eq!(sent_to(&lines, 1), expected);
}

#[test]
fn chat_opened_has_the_documents_fields() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    let opened = |conn, target: &str, name: &str| {
        let message = sent_to(&lines, conn)[0].clone();
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
fn a_message_names_its_sender_and_its_ack_has_a_timestamp() {
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
    assert_eq!(sent_to(&lines, 2), [expected]);
    let expected = json!({
        "type": "MSG_ACK", "message_id": "m", "status": "delivered",
        "timestamp": "2026-01-16T10:00:01.000Z",
    });
    assert_eq!(sent_to(&lines, 1), [expected]);
}

#[test]
fn messages_go_to_the_partner_of_the_last_chat_opened_that_the_user_was_sent() {
    // Ann has opened the chat, Bob was asked into it.
    let mut harness = chat();
    assert_eq!(partner(&mut harness, 1), Some(2));
    assert_eq!(partner(&mut harness, 2), Some(1));
    enter(&mut harness, 3, EVE, "Eve");
    opens(&mut harness, 1, EVE);
    assert_eq!(partner(&mut harness, 1), Some(3));
    opens(&mut harness, 1, BOB);
    assert_eq!(partner(&mut harness, 1), Some(2), "opened again");
}

#[test]
fn a_message_never_makes_a_partner() {
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    opens(&mut harness, 3, ANN);
    says(&mut harness, 3, &json!({"type": "MSG", "content": "to me"}));
    assert_eq!(partner(&mut harness, 1), Some(2), "received");
    says(
        &mut harness,
        1,
        &json!({"type": "MSG", "to": EVE, "content": "x"}),
    );
    assert_eq!(partner(&mut harness, 1), Some(2), "sent");
}

#[test]
fn a_partner_is_kept_after_its_chat_has_ended() {
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    // Another user that asks meanwhile does not become the partner.
    assert_eq!(sent_to(&opens(&mut harness, 3, ANN), 1), [Value::Null; 0]);
    assert_eq!(bare_error(&mut harness, 1), "USER_NOT_FOUND");
    enter(&mut harness, 4, BOB, "Bob");
    assert_eq!(bare_error(&mut harness, 1), "CHAT_NOT_OPENED");
    // It is the user that the page shows all the while.
    opens(&mut harness, 4, ANN);
    assert_eq!(partner(&mut harness, 1), Some(4));
}

#[test]
fn a_page_that_shows_a_user_is_not_sent_the_chat_opened_of_another() {
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    harness.advance(SECOND);
    for conn in [1, 2] {
        let user = [ANN, BOB][conn as usize - 1];
        let lines = opens(&mut harness, 3, user);
        let id = sent_to(&lines, 3)[0]["chat_id"].clone();
        assert_eq!(lines.len(), 1, "to the asker alone");
        let message = json!({"type": "MSG", "to": user, "content": "x"});
        let lines = says(&mut harness, 3, &message);
        assert_eq!(
            sent_to(&lines, conn)[0]["sender_id"],
            EVE,
            "the chat is open"
        );
        let lines = opens(&mut harness, conn, EVE);
        assert_eq!(
            sent_to(&lines, conn)[0]["chat_id"],
            id,
            "the user clicks on it"
        );
        assert_eq!(lines.len(), 1);
        assert_eq!(partner(&mut harness, conn), Some(3));
    }
}

#[test]
fn a_page_that_may_show_a_user_is_not_sent_the_chat_opened_of_another() {
    let mut harness = chat();
    opens(&mut harness, 1, EVE);
    enter(&mut harness, 3, EVE, "Eve");
    harness.advance(SECOND);
    assert_eq!(opens(&mut harness, 3, ANN).len(), 1, "to the asker alone");
    says(
        &mut harness,
        3,
        &json!({"type": "MSG", "to": ANN, "content": "x"}),
    );
    assert_eq!(bare_error(&mut harness, 1), "CHAT_NOT_OPENED");
}

#[test]
fn a_page_that_shows_no_user_is_turned_to_the_first_that_asks() {
    let mut harness = harness();
    for (conn, id, name) in [(1, ANN, "Ann"), (2, BOB, "Bob"), (3, EVE, "Eve")] {
        enter(&mut harness, conn, id, name);
    }
    harness.advance(SECOND);
    assert_eq!(opens(&mut harness, 2, ANN).len(), 2);
    assert_eq!(opens(&mut harness, 3, ANN).len(), 1);
    assert_eq!(partner(&mut harness, 1), Some(2));
}

#[test]
fn a_user_without_a_partner_gets_chat_not_opened() {
    // One that never had one, and one that was away for too long.
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    enter(&mut harness, 4, ANN, "Ann");
    for conn in [3, 4] {
        assert_eq!(bare_error(&mut harness, conn), "CHAT_NOT_OPENED");
    }
    // What it was shown on a connection of the other dialect is nothing that its page shows.
    let mut harness = harness_with_document_user();
    opens(&mut harness, 2, ANN);
    harness.disconnect(1, DisconnectReason::Lost);
    enter(&mut harness, 3, ANN, "Ann");
    assert_eq!(bare_error(&mut harness, 3), "CHAT_NOT_OPENED");
    harness.disconnect(2, DisconnectReason::Lost);
    enter(&mut harness, 4, BOB, "Bob");
    assert_eq!(partner(&mut harness, 4), Some(3), "Bob's page did ask");
}

#[test]
fn a_stay_in_the_other_dialect_leaves_the_partner_as_it_was() {
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    harness.disconnect(1, DisconnectReason::Lost);
    enter_in_document_dialect(&mut harness, 4, ANN, "Ann");
    harness.advance(SECOND);
    assert_eq!(
        opens(&mut harness, 3, ANN).len(),
        2,
        "this client shows no page"
    );
    let data = json!({"target_user_id": CID});
    says(&mut harness, 4, &json!({"type": "OPEN_CHAT", "data": data}));
    harness.disconnect(4, DisconnectReason::Lost);
    enter(&mut harness, 5, ANN, "Ann");
    assert_eq!(partner(&mut harness, 5), Some(2));
}

#[test]
fn a_user_that_reconnects_writes_to_its_previous_chat() {
    let mut harness = chat();
    harness.disconnect(1, DisconnectReason::ClosedByClient(Some(1001)));
    harness.advance(59 * SECOND);
    enter(&mut harness, 3, ANN, "Ann");
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "again"}));
    assert_eq!(sent_to(&lines, 2)[0]["content"], "again");
    let mut harness = chat();
    harness.disconnect(1, DisconnectReason::ClosedByClient(Some(1001)));
    harness.advance(60 * SECOND);
    enter(&mut harness, 3, ANN, "Ann");
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "again"}));
    assert_eq!(sent_to(&lines, 3)[0]["error_code"], "CHAT_NOT_OPENED");
}

#[test]
fn after_a_failed_open_chat_there_is_no_partner() {
    let one_of_each = json!({"chats_per_user": 1, "open_chats_per_minute": 1});
    let duplicate =
        format!(r#"{{"type":"OPEN_CHAT","target_user_id":"{EVE}","target_user_id":"{EVE}"}}"#);
    let open_chat = |target: &str| json!({"type": "OPEN_CHAT", "target_user_id": target});
    for (options, failing, code) in [
        (json!({}), open_chat(CID).to_string(), "USER_NOT_FOUND"),
        (json!({}), open_chat(ANN).to_string(), "VALIDATION"),
        (json!({}), open_chat("Bob").to_string(), "VALIDATION"),
        (
            json!({}),
            r#"{"type":"OPEN_CHAT"}"#.to_owned(),
            "VALIDATION",
        ),
        (one_of_each, open_chat(EVE).to_string(), "RATE_LIMITED"),
        (
            json!({"chats_per_user": 1}),
            open_chat(EVE).to_string(),
            "RATE_LIMITED",
        ),
        (json!({}), open_chat(EVE).to_string(), "MESSAGE_FAILED"),
        (json!({}), duplicate, "VALIDATION"),
    ] {
        let mut harness = chat_with(options);
        enter(&mut harness, 3, EVE, "Eve");
        harness.fill_outbox(3);
        let lines = harness.send(1, &failing);
        assert_eq!(sent_to(&lines, 1)[0]["error_code"], code, "{failing}");
        assert_eq!(bare_error(&mut harness, 1), "CHAT_NOT_OPENED", "{failing}");
        let typing = json!({"type": "TYPING", "is_typing": true});
        let error = sent_to(&says(&mut harness, 1, &typing), 1)[0].clone();
        assert_eq!(error["error_code"], "CHAT_NOT_OPENED", "{failing}");
        assert_eq!(error["details"], json!({}));
    }
}

#[test]
fn only_a_chat_opened_that_the_user_asked_for_ends_that() {
    let mut harness = chat();
    enter(&mut harness, 3, EVE, "Eve");
    opens(&mut harness, 1, CID);
    says(
        &mut harness,
        2,
        &json!({"type": "MSG", "content": "to Ann"}),
    );
    says(
        &mut harness,
        1,
        &json!({"type": "MSG", "to": BOB, "content": "to Bob"}),
    );
    opens(&mut harness, 3, ANN);
    assert_eq!(bare_error(&mut harness, 1), "CHAT_NOT_OPENED");
    harness.disconnect(1, DisconnectReason::ClosedByClient(Some(1001)));
    enter(&mut harness, 4, ANN, "Ann");
    assert_eq!(bare_error(&mut harness, 4), "CHAT_NOT_OPENED");
    opens(&mut harness, 4, BOB);
    assert_eq!(partner(&mut harness, 4), Some(2));
}

#[test]
fn a_false_reaches_the_user_that_was_sent_the_true_after_a_failed_open_chat() {
    let mut harness = chat();
    let typing = |is_typing| json!({"type": "TYPING", "is_typing": is_typing});
    says(&mut harness, 1, &typing(true));
    opens(&mut harness, 1, CID);
    assert_eq!(
        sent_to(&says(&mut harness, 1, &typing(false)), 2)[0]["is_typing"],
        false
    );
    assert_eq!(
        sent_to(&says(&mut harness, 1, &typing(false)), 1)[0]["error_code"],
        "CHAT_NOT_OPENED"
    );
}

/// The page has selected the user at the click; the takeover is decided after that.
#[test]
fn an_open_chat_that_failed_during_a_takeover_counts() {
    let takeover = || {
        let mut harness = chat();
        enter(&mut harness, 3, EVE, "Eve");
        enter(&mut harness, 4, ANN, "Ann");
        harness
    };
    let mut harness = takeover();
    assert_eq!(
        sent_to(&opens(&mut harness, 4, EVE), 4)[0]["error_code"],
        "UNAUTHORIZED"
    );
    harness.fail_probe(1);
    assert_eq!(bare_error(&mut harness, 4), "CHAT_NOT_OPENED");
    // The same if the page has connected again when it is decided.
    let mut harness = takeover();
    opens(&mut harness, 4, EVE);
    harness.disconnect(4, DisconnectReason::ClosedByClient(Some(1001)));
    enter(&mut harness, 5, ANN, "Ann");
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(bare_error(&mut harness, 5), "CHAT_NOT_OPENED");
    // A claimant that is rejected changes nothing for the user.
    let mut harness = takeover();
    opens(&mut harness, 4, EVE);
    harness.answer_probe(1);
    assert_eq!(partner(&mut harness, 1), Some(2));
    harness.disconnect(1, DisconnectReason::Lost);
    enter(&mut harness, 5, ANN, "Ann");
    assert_eq!(partner(&mut harness, 5), Some(2));
    // Nor does one of the other dialect.
    let mut harness = chat();
    enter_in_document_dialect(&mut harness, 3, ANN, "Ann");
    let data = json!({"target_user_id": EVE});
    says(&mut harness, 3, &json!({"type": "OPEN_CHAT", "data": data}));
    harness.disconnect(1, DisconnectReason::Lost);
    harness.disconnect(3, DisconnectReason::Lost);
    enter(&mut harness, 4, ANN, "Ann");
    assert_eq!(partner(&mut harness, 4), Some(2));
    harness.disconnect(4, DisconnectReason::Lost);
    enter(&mut harness, 5, ANN, "Ann");
    assert_eq!(partner(&mut harness, 5), Some(2));
}

/// A page that did not receive the CHAT_OPENED of another user still shows the user that it showed before.
#[test]
fn a_chat_opened_that_may_not_have_arrived_makes_no_partner() {
    let too_slow = DisconnectReason::Closed(CloseReason::TOO_SLOW);
    for (reason, arrived) in [
        (DisconnectReason::Unresponsive, false),
        (too_slow, false),
        (DisconnectReason::Lost, true),
        (DisconnectReason::ClosedByClient(Some(1001)), true),
    ] {
        let mut harness = chat();
        harness.disconnect(2, reason);
        enter(&mut harness, 3, BOB, "Bob");
        let expected = arrived.then_some(1);
        assert_eq!(partner(&mut harness, 3), expected, "{reason:?}");
        // Nor is it turned to a third user then.
        enter(&mut harness, 4, EVE, "Eve");
        assert_eq!(sent_to(&opens(&mut harness, 4, BOB), 3), [Value::Null; 0]);
    }
    let mut harness = chat();
    says(&mut harness, 2, &json!({"type": "PONG"}));
    harness.disconnect(2, DisconnectReason::Unresponsive);
    enter(&mut harness, 3, BOB, "Bob");
    assert_eq!(partner(&mut harness, 3), Some(1), "it was alive after that");
    let mut harness = chat();
    harness.disconnect(1, DisconnectReason::Unresponsive);
    enter(&mut harness, 3, ANN, "Ann");
    assert_eq!(
        partner(&mut harness, 3),
        Some(2),
        "it has selected the user itself"
    );
}

#[test]
fn the_hello_timeout_error_is_in_the_clients_dialect() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "");
    harness.open(2, "/ws");
    let lines = harness.advance(10 * SECOND);
    assert_eq!(sent_to(&lines, 1)[0]["error_code"], "UNAUTHORIZED");
    assert_eq!(sent_to(&lines, 2)[0]["data"]["code"], "UNAUTHORIZED");
}

#[test]
fn typing_has_the_display_name() {
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
        assert_eq!(sent_to(&lines, 2), [expected]);
    }
}

#[test]
fn pongs_are_sent_and_accepted() {
    let mut harness = chat();
    let lines = says(&mut harness, 1, &json!({"type": "PING"}));
    assert_eq!(sent_to(&lines, 1)[0]["type"], "PONG");
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
        let mut error = sent_to(&lines, 1)[0].clone();
        assert!(error["message"].take().is_string());
        assert_eq!(
            error,
            json!({"type": "ERROR", "error_code": code, "message": null, "details": details})
        );
    }
    let lines = harness.send(1, "nonsense");
    assert_eq!(sent_to(&lines, 1)[0]["error_code"], "VALIDATION");
    let lines = harness.send_message(1, Message::Binary(vec![1].into()));
    assert_eq!(sent_to(&lines, 1)[0]["error_code"], "VALIDATION");
    // A message without a chat counts for the rate as well.
    enter(&mut harness, 3, EVE, "Eve");
    for _ in 0..60 {
        let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "x"}));
        assert_eq!(sent_to(&lines, 3)[0]["error_code"], "CHAT_NOT_OPENED");
    }
    let lines = says(&mut harness, 3, &json!({"type": "MSG", "content": "x"}));
    assert_eq!(sent_to(&lines, 3)[0]["error_code"], "RATE_LIMITED");
}

#[test]
fn hello_fixes_the_dialect_for_the_connections_life() {
    let mut harness = harness();
    enter_in_document_dialect(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    harness.advance(SECOND);
    // The flat fields are ignored, and the error has the document's shape.
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "OPEN_CHAT", "target_user_id": BOB}),
    );
    assert_eq!(sent_to(&lines, 1)[0]["data"]["code"], "VALIDATION");
    let lines = says(&mut harness, 1, &json!({"type": "PONG"}));
    assert_eq!(sent_to(&lines, 1)[0]["data"]["code"], "VALIDATION");
    // The same in the other dialect.
    let data = json!({"target_user_id": ANN});
    let lines = says(&mut harness, 2, &json!({"type": "OPEN_CHAT", "data": data}));
    assert_eq!(sent_to(&lines, 2)[0]["error_code"], "VALIDATION");
    // An invalid HELLO fixes the dialect, too.
    harness.open(3, "/ws");
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
    assert_eq!(sent_to(&lines, 3)[0]["data"]["code"], "VALIDATION");
}

#[test]
fn before_hello_an_error_has_the_dialect_of_the_message_it_answers() {
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
        harness.open(1, "/ws");
        let lines = harness.send(1, text);
        let error = &sent_to(&lines, 1)[0];
        assert_eq!(
            error.get("error_code").is_some(),
            is_flat,
            "{text}: {error}"
        );
        assert_eq!(error.get("data").is_none(), is_flat, "{text}: {error}");
    }
    // Only a HELLO of one of the two shapes fixes the dialect.
    let data = json!({"user_id": ANN, "display_name": "Ann"});
    let document = json!({"type": "HELLO", "data": data});
    let flat = json!({"type": "HELLO", "display_name": "Ann"});
    for message in [
        r#"{"type":"MSG","content":"x"}"#,
        r#"{"type":"HELLO"}"#,
        r#"{"type":"HELLO","content":"x"}"#,
    ] {
        for (hello, is_flat) in [(&document, false), (&flat, true)] {
            let mut harness = harness();
            harness.open(1, "/ws");
            harness.send(1, message);
            let lines = says(&mut harness, 1, hello);
            let ack = &sent_to(&lines, 1)[0];
            assert_eq!(
                (&ack["type"], ack.get("data").is_none()),
                (&json!("HELLO_ACK"), is_flat)
            );
        }
    }
}

#[test]
fn both_dialects_share_chats() {
    let mut harness = harness();
    enter_in_document_dialect(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, BOB, "Bob");
    let lines = harness.advance(SECOND);
    assert_eq!(
        sent_to(&lines, 1)[0]["data"]["users"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        sent_to(&lines, 2),
        [Value::Null; 0],
        "it has this list already"
    );
    // The document's dialect does not allow Bob's id in HELLO, but does as a target.
    let data = json!({"target_user_id": BOB});
    says(&mut harness, 1, &json!({"type": "OPEN_CHAT", "data": data}));
    let data = json!({"to": BOB, "content": "first", "message_id": "m"});
    let lines = says(&mut harness, 1, &json!({"type": "MSG", "data": data}));
    assert_eq!(sent_to(&lines, 2)[0]["sender_name"], "Ann");
    let ack = json!({"message_id": "m", "status": "delivered"});
    assert_eq!(
        sent_to(&lines, 1),
        [json!({"type": "MSG_ACK", "data": ack})]
    );
    enter_in_document_dialect(&mut harness, 3, EVE, "Eve");
    let opens = json!({"type": "OPEN_CHAT", "target_user_id": EVE});
    let lines = says(&mut harness, 2, &opens);
    let (document, flat) = (&sent_to(&lines, 3)[0], &sent_to(&lines, 2)[0]);
    assert_eq!(document["data"]["target_display_name"], "Bob");
    assert_eq!(flat["target_display_name"], "Eve");
    assert_eq!(document["data"]["chat_id"], flat["chat_id"]);
    let lines = says(&mut harness, 2, &json!({"type": "MSG", "content": "hello"}));
    let expected = json!({
        "from": BOB, "to": EVE, "content": "hello",
        "message_id": sent_to(&lines, 2)[0]["message_id"], "timestamp": "2026-01-16T10:00:01.000Z",
    });
    assert_eq!(
        sent_to(&lines, 3),
        [json!({"type": "MSG", "data": expected})]
    );
    let lines = says(
        &mut harness,
        1,
        &json!({"type": "TYPING", "data": {"is_typing": true}}),
    );
    assert_eq!(sent_to(&lines, 2)[0]["display_name"], "Ann");
}

#[test]
fn a_claimant_is_answered_in_its_own_dialect() {
    let mut harness = harness();
    enter_in_document_dialect(&mut harness, 1, ANN, "Ann");
    enter(&mut harness, 2, ANN, "Ann");
    let lines = harness.answer_probe(1);
    assert_eq!(sent_to(&lines, 2)[0]["error_code"], "UNAUTHORIZED");
    enter(&mut harness, 3, ANN, "Ann");
    let lines = harness.fail_probe(1);
    assert_eq!(sent_to(&lines, 3)[0]["message"], "connected");
}

fn body(reply: HttpReply) -> Value {
    match reply {
        HttpReply::Ok { body, .. } => serde_json::from_str(&body.to_string()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn status(reply: &HttpReply) -> u16 {
    match reply {
        HttpReply::Ok { .. } => 200,
        HttpReply::UpgradeRequired { .. } => 426,
        HttpReply::Rejected(rejection) => rejection.status,
    }
}

fn http_user(id: &str, name: &str, status: &str) -> Value {
    json!({
        "id": id, "user_id": id, "display_name": name,
        "last_seen": "2026-01-16T10:00:00.000Z", "status": status,
    })
}

#[test]
fn users_online_are_listed_over_http() {
    let mut harness = harness();
    assert_eq!(
        body(harness.get("/presence/online")),
        json!({"users": [], "count": 0})
    );
    enter(&mut harness, 1, ANN, "Ann");
    enter_in_document_dialect(&mut harness, 2, EVE, "Eve");
    let (ann, eve) = (
        http_user(ANN, "Ann", "online"),
        http_user(EVE, "Eve", "online"),
    );
    for (query, users) in [
        ("", json!([ann, eve])),
        ("?exclude_user_id=no-uuid", json!([ann, eve])),
        (
            "?exclude_user_id=AAAAAAAA-1111-4111-8111-AAAAAAAAAAAA",
            json!([eve]),
        ),
    ] {
        let count = users.as_array().unwrap().len();
        let listed = body(harness.get(&format!("/presence/online{query}")));
        assert_eq!(listed, json!({"users": users, "count": count}), "{query}");
    }
    assert_eq!(status(&harness.get("/ws")), 426);
    let mut text = |path, is_post: bool| {
        let reply = if is_post {
            harness.post(path, "{}")
        } else {
            harness.get(path)
        };
        match reply {
            HttpReply::Rejected(rejection) if rejection.status == 405 => rejection.text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(text("/presence/heartbeat", false), "use POST");
    assert_eq!(text("/presence/online", true), "use GET");
    assert_eq!(text("/ws", true), "use GET, as a WebSocket handshake");
}

#[test]
fn slow_http_clients_share_one_list() {
    let mut harness = harness();
    for conn in 1..=100 {
        harness.open(conn, "/ws");
        let name = format!("{conn:0>100}");
        says(
            &mut harness,
            conn,
            &json!({"type": "HELLO", "display_name": name}),
        );
    }
    // A new list each second, all of them still being read.
    let list = |harness: &mut RealmHarness<FastChat>| match harness.get("/presence/online") {
        HttpReply::Ok { body, .. } => body,
        other => panic!("{other:?}"),
    };
    let mut unread = Vec::new();
    while unread.iter().map(Body::len).sum::<usize>() < MAX_IN_FLIGHT_BYTES + 1000 {
        unread.push(list(&mut harness));
        harness.advance(SECOND);
    }
    let last_seen = |harness: &mut RealmHarness<FastChat>| {
        let list = body(harness.get("/presence/online"));
        assert_eq!(list["count"], 100);
        list["users"][0]["last_seen"].clone()
    };
    let before = last_seen(&mut harness);
    harness.advance(SECOND);
    assert_eq!(last_seen(&mut harness), before, "no new list is made");
    unread.truncate(10);
    assert_ne!(last_seen(&mut harness), before);
}

#[test]
fn a_list_is_encoded_once_for_all_requests_whomever_they_exclude() {
    let mut harness = harness();
    let ids = [ANN, BOB, EVE];
    for (online, id) in ids.iter().enumerate() {
        enter(&mut harness, online as u64 + 1, id, "Name");
        let HttpReply::Ok { body: all, .. } = harness.get("/presence/online") else {
            panic!("no list");
        };
        let text = all.pieces().next().unwrap().as_bytes().as_ptr_range();
        for excluded in &ids[..=online] {
            let target = format!("/presence/online?exclude_user_id={excluded}");
            let HttpReply::Ok { body, .. } = harness.get(&target) else {
                panic!("no list");
            };
            let listed: Value = serde_json::from_str(&body.to_string()).unwrap();
            assert_eq!(listed["count"], online, "{excluded} of {online}");
            let users = listed["users"].as_array().unwrap().iter();
            let others = ids[..=online].iter().filter(|id| *id != excluded);
            assert!(users.map(|user| &user["id"]).eq(others), "{body}");
            let pieces: Vec<&str> = body.pieces().collect();
            let (_count, users) = pieces.split_last().unwrap();
            let is_shared = |piece: &&str| text.contains(&piece.as_ptr());
            assert!(users.iter().all(is_shared), "copied for {excluded}");
        }
    }
}

#[test]
fn an_http_list_is_current() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    assert_eq!(body(harness.get("/presence/online"))["count"], 1);
    enter(&mut harness, 2, BOB, "Bob");
    assert_eq!(body(harness.get("/presence/online"))["count"], 2);
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(body(harness.get("/presence/online"))["count"], 1);
    harness.advance(SECOND);
    let last_seen = body(harness.get("/presence/online"))["users"][0]["last_seen"].take();
    assert_eq!(last_seen, "2026-01-16T10:00:01.000Z");
}

#[test]
fn an_http_heartbeat_changes_nothing() {
    let mut harness = harness();
    enter(&mut harness, 1, ANN, "Ann");
    let mut heartbeat = |id: &str, name: &str| {
        let body = json!({"user_id": id, "display_name": name});
        harness.post("/presence/heartbeat", &body.to_string())
    };
    assert_eq!(
        body(heartbeat(ANN, "Another name")),
        http_user(ANN, "Ann", "online")
    );
    assert_eq!(
        body(heartbeat(BOB, "Bob")),
        http_user(BOB, "Bob", "offline")
    );
    assert_eq!(
        body(heartbeat(BOB, "\u{200b} <b>Bob</b>\n")),
        http_user(BOB, "Bob", "offline"),
        "a name is cleaned as that of a HELLO"
    );
    assert_eq!(status(&heartbeat(BOB, " \u{200b} ")), 400);
    assert_eq!(status(&heartbeat("no-uuid", "Bob")), 400);
    let long = json!({"user_id": BOB, "display_name": "x".repeat(101)}).to_string();
    for invalid in ["", "[]", "{}", "\u{fffd}", r#"{"user_id":7}"#, &long] {
        assert_eq!(
            status(&harness.post("/presence/heartbeat", invalid)),
            400,
            "{invalid}"
        );
    }
    assert_eq!(body(harness.get("/presence/online"))["count"], 1);
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("flat.rs"),
        include_str!("../../../../tests/fastchat.rs"),
    ]);
}
