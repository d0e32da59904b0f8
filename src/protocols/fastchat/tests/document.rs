//! The rules of the protocol document and the rulings, each with the test that holds it.
//!
//! These tests drive the realm alone, without sockets. Tests that need sockets are in
//! `tests/fastchat.rs`; tests of random sequences are in `model.rs`.
//!
//! | rule | test |
//! | --- | --- |
//! | URL `ws://localhost:8000/ws` | `the_endpoint_is_ws_on_port_8000` |
//! | messages are JSON, `{"type", "data"}` | `an_invalid_message_gets_a_validation_error_that_names_the_field` |
//! | a missing `data` is `{}`, unknown fields are ignored | `a_missing_data_is_an_empty_object_and_unknown_fields_are_ignored` |
//! | a binary message is invalid | `a_binary_message_gets_a_validation_error` |
//! | HELLO, HELLO_ACK, PRESENCE: "Connection Establishment" | `hello_is_acknowledged_and_followed_by_the_presence_list` |
//! | HELLO comes first: anything else is `UNAUTHORIZED` | `any_other_message_before_hello_is_unauthorized` |
//! | no HELLO within 10 s: `UNAUTHORIZED`, Close 4401 | `a_client_that_sends_no_hello_is_closed_after_10_seconds` |
//! | time in which the server does not read a connection does not count | `a_client_that_the_server_does_not_read_is_not_too_late` |
//! | an invalid HELLO does not count as one | `an_invalid_hello_does_not_extend_the_time_limit` |
//! | a second HELLO: `VALIDATION` | `a_second_hello_gets_a_validation_error` |
//! | "User ID Format: UUID v4", lower case in answers | `a_user_id_must_be_a_uuid_of_version_4` |
//! | "Display Name: 3-50 characters", after sanitizing and trimming | `a_sanitized_display_name_must_have_3_to_50_characters` |
//! | from names, invisible characters are removed | `a_sanitized_display_name_must_have_3_to_50_characters` |
//! | HELLO as a connected user: its connection is probed | `a_hello_for_a_connected_user_probes_its_connection` |
//! | it answers: `UNAUTHORIZED` and Close 4409 for the claimant | `a_connection_that_answers_the_probe_stays_and_the_claimant_is_closed` |
//! | it does not answer: Close 4409, and the claimant takes over | `a_connection_that_does_not_answer_the_probe_is_replaced` |
//! | the same over sockets | `a_live_connection_is_not_displaced`, `a_dead_connection_is_replaced` |
//! | it disconnects during the probe: the claimant takes over | `a_connection_that_disconnects_during_the_probe_is_replaced` |
//! | the claimant disconnects during the probe: nothing changes | `a_connection_without_a_claimant_stays_whatever_the_probe_says` |
//! | several claimants | `of_several_claimants_the_first_is_registered_and_then_probed_for_the_others` |
//! | a claimant has sent its HELLO | `a_claimant_may_wait_past_the_hello_timeout_but_send_nothing` |
//! | PRESENCE lists all users online, the receiver included | `hello_is_acknowledged_and_followed_by_the_presence_list` |
//! | it goes to all users on each change | `all_users_are_sent_a_new_user` |
//! | disconnected users are listed once more, `online: false` | `all_users_are_sent_a_disconnected_user_once` |
//! | changes within a second are gathered | `changes_within_a_second_are_sent_as_one_presence` |
//! | above `presence_list_up_to`: only the changes | `above_presence_list_up_to_only_a_new_user_is_sent_the_list` |
//! | above it: one list for all new users of a second | `above_presence_list_up_to_users_that_connect_within_a_second_share_a_list` |
//! | a user that came and left between two broadcasts is not sent | `a_user_online_for_less_than_a_second_is_sent_only_to_clients_that_saw_it` |
//! | OPEN_CHAT: "Chat Session Opening" | `both_users_are_sent_chat_opened_with_the_other_as_target` |
//! | the names are those of HELLO | `both_users_are_sent_chat_opened_with_the_other_as_target` |
//! | target not online: `USER_NOT_FOUND` | `a_chat_with_an_offline_user_is_user_not_found` |
//! | a chat with oneself: `VALIDATION` | `a_chat_with_oneself_is_a_validation_error` |
//! | one chat per pair; opened again: the same one, to the opener alone | `opening_an_open_chat_repeats_chat_opened_to_the_opener_alone` |
//! | a chat ends 60 s after one user disconnected | `a_chat_ends_a_minute_after_one_user_disconnected` |
//! | whichever of the two that is | `a_chat_ends_when_either_user_is_no_longer_remembered` |
//! | a user that reconnects before finds it open | `a_user_that_reconnects_within_a_minute_keeps_its_chats` |
//! | the number of chats is bounded | `a_user_may_open_at_most_chats_per_user_chats` |
//! | its error carries `retry_after_ms` | `the_error_for_too_many_chats_says_when_the_first_of_them_can_end` |
//! | 30 OPEN_CHAT in a minute, apart from those for an open chat | `at_most_30_chats_a_minute_are_opened` |
//! | CHAT_OPENED to the target is delivered like a MSG: `MESSAGE_FAILED`, and no chat | `an_open_chat_whose_chat_opened_does_not_fit_the_outbox_fails_and_closes_nothing` |
//! | the same over sockets | `a_slow_reader_is_not_closed_for_being_asked_into_chats` |
//! | MSG: "Message Exchange", its fields | `a_message_is_delivered_and_acknowledged` |
//! | `message_id` is the sender's or a UUID | `a_message_id_is_the_senders_or_a_new_uuid` |
//! | `message_id` has 1 to 64 characters | `a_message_id_must_have_1_to_64_characters_and_no_tags` |
//! | content has 1 to 1000 characters after sanitizing | `sanitized_content_must_have_1_to_1000_characters` |
//! | "HTML/script tags are stripped" | `content_is_sanitized` |
//! | the order of MSG's checks | `the_checks_of_a_message_have_the_documented_order` |
//! | the target is not online: `MESSAGE_FAILED` | `a_message_to_a_user_that_has_just_disconnected_fails` |
//! | MSG_ACK `delivered` once the message is in the outbox | `a_message_that_does_not_fit_the_outbox_fails` |
//! | the target's MSG_ACK is accepted in silence | `a_msg_ack_from_a_client_has_no_effect` |
//! | TYPING to the partner of the chat used last | `typing_goes_to_the_partner_of_the_last_used_chat` |
//! | what others do never changes that | `once_a_user_has_used_a_chat_others_do_not_change_where_its_typing_goes` |
//! | while it has used none: to the first user that opened one | `typing_of_a_user_that_has_used_no_chat_goes_to_the_first_that_opened_one` |
//! | `to` names another partner | `typing_may_name_another_partner` |
//! | no chat: `CHAT_NOT_OPENED` | `typing_without_a_chat_is_chat_not_opened` |
//! | TYPING equal to the last one is neither sent nor counted | `only_changes_of_typing_are_sent_and_counted` |
//! | a `false` that ends a `true` is always sent | `the_end_of_typing_is_sent_even_above_the_rate` |
//! | TYPING to an offline partner counts as not sent | `typing_to_an_offline_partner_is_sent_after_it_reconnects` |
//! | a `false` goes to the user that was sent the `true` | `the_end_of_typing_goes_to_the_user_that_was_sent_its_start` |
//! | on its current connection | `the_end_of_typing_reaches_a_partner_that_has_reconnected` |
//! | a user that disconnects stops typing | `a_user_that_disconnects_stops_typing` |
//! | PING, PONG: "Heartbeat Mechanism" | `a_ping_is_answered_with_a_timestamp` |
//! | "Messages per minute: 60" | `at_most_60_messages_a_minute_are_delivered` |
//! | "Typing indicators: 10 per minute" | `at_most_10_typings_a_minute_are_sent` |
//! | 60 PING in a minute | `at_most_60_pings_a_minute_are_answered` |
//! | rates are kept across a reconnect | `a_rate_limit_is_kept_across_a_reconnect` |
//! | only valid messages count | `an_invalid_message_does_not_count_for_the_rate` |
//! | `details` names the field, and the `message_id` | `an_error_names_the_field_and_the_message_id` |
//! | "Configurable allowed origins", on by default | `a_page_of_another_origin_is_rejected` |
//! | the document's client and examples work as printed | `the_documents_examples_work_as_printed` |
//! | what is stored of users is counted, and of chats to their opener | `what_is_stored_of_users_is_counted`, `a_chat_counts_for_the_user_that_opened_it` |
//! | when memory is short, first go rates, last chats | `when_memory_is_short_rates_are_forgotten_before_chats` |
//! | nothing is stored for ever | `nothing_is_stored_after_all_users_have_been_away_for_a_minute` |
//! | options can change while it runs | `changed_options_hold_and_users_chats_and_rates_stay` |
//! | what an operator is shown | `the_figures_are_the_users_those_who_have_gone_their_chats_and_the_refused_messages` |

use crate::base::close::CloseReason;
use crate::protocols::fastchat::*;
use crate::realm::Message;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::{Value, json};

const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";
const CID: &str = "cccccccc-3333-4333-8333-cccccccccccc";
const DAN: &str = "dddddddd-4444-4444-8444-dddddddddddd";
const EVE: &str = "eeeeeeee-5555-4555-8555-eeeeeeeeeeee";

const SECOND: Duration = Duration::from_secs(1);

fn harness() -> RealmHarness<FastChat> {
    RealmHarness::new(json!({}))
}

fn message(kind: &str, data: Value) -> String {
    json!({"type": kind, "data": data}).to_string()
}

fn hello(id: &str, name: &str) -> String {
    message("HELLO", json!({"user_id": id, "display_name": name}))
}

fn msg(to: &str, content: &str) -> String {
    message(
        "MSG",
        json!({"to": to, "content": content, "message_id": "m1"}),
    )
}

fn open_chat(with: &str) -> String {
    message(
        "OPEN_CHAT",
        json!({"target_user_id": with, "target_display_name": "Any name"}),
    )
}

fn typing(is_typing: bool) -> String {
    message("TYPING", json!({"is_typing": is_typing}))
}

/// Connects and sends HELLO, then waits a second, so that all users have been sent the change.
fn enters(harness: &mut RealmHarness<FastChat>, conn: u64, id: &str, name: &str) {
    harness.open(conn, "/ws");
    harness.send(conn, &hello(id, name));
    harness.advance(SECOND);
}

/// A realm with Ann on connection 1, Bob on 2 and Cid on 3, without chats.
fn three() -> RealmHarness<FastChat> {
    let mut harness = harness();
    for (conn, id, name) in [(1, ANN, "Ann"), (2, BOB, "Bob"), (3, CID, "Cid")] {
        enters(&mut harness, conn, id, name);
    }
    harness
}

/// The same, with a chat that Ann has opened with Bob.
fn chat() -> RealmHarness<FastChat> {
    let mut harness = three();
    harness.send(1, &open_chat(BOB));
    harness
}

/// Splits a line into the connection it is sent to, the type and the data.
fn parts(line: &str) -> (u64, String, Value) {
    let (conn, json) = line
        .split_once(" < ")
        .unwrap_or_else(|| panic!("not a message: {line}"));
    let mut message: Value = serde_json::from_str(json).unwrap();
    let kind = message["type"].as_str().unwrap().to_owned();
    assert_eq!(message.as_object().unwrap().len(), 2, "{line}");
    (conn.parse().unwrap(), kind, message["data"].take())
}

/// The connections and types of the messages sent, in order.
fn kinds(lines: &[String]) -> Vec<(u64, String)> {
    lines
        .iter()
        .map(|line| parts(line))
        .map(|(conn, kind, _)| (conn, kind))
        .collect()
}

fn to(conn: u64, kind: &str) -> (u64, String) {
    (conn, kind.to_owned())
}

/// The data of the error sent to a connection, which must be the only effect.
fn error(lines: &[String], conn: u64) -> Value {
    assert_eq!(kinds(lines), [to(conn, "ERROR")], "{lines:?}");
    let (_, _, data) = parts(&lines[0]);
    assert!(
        data["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    assert!(data["details"].is_object());
    data
}

fn code(lines: &[String], conn: u64) -> String {
    error(lines, conn)["code"].as_str().unwrap().to_owned()
}

/// The connection and the names of a PRESENCE; names of offline users begin with a minus.
fn presence(line: &str) -> (u64, Vec<String>) {
    let (conn, kind, data) = parts(line);
    assert_eq!(kind, "PRESENCE");
    let name = |user: &Value| {
        let name = user["display_name"].as_str().unwrap();
        let sign = if user["online"].as_bool().unwrap() {
            ""
        } else {
            "-"
        };
        format!("{sign}{name}")
    };
    (
        conn,
        data["users"].as_array().unwrap().iter().map(name).collect(),
    )
}

fn names(conn: u64, names: &[&str]) -> (u64, Vec<String>) {
    (conn, names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn the_endpoint_is_ws_on_port_8000() {
    assert_eq!((PROTOCOL.listener_defaults)()["address"], "localhost:8000");
    assert_eq!((PROTOCOL.endpoint)(&SettingMap::new()), "/ws");
    assert_eq!(
        PROTOCOL.slow_consumer_policy,
        SlowConsumerPolicy::Disconnect
    );
    assert!((PROTOCOL.matches_path)("/ws"));
    assert!(
        !["/", "/ws/", "/ws/chat", "/WS"]
            .iter()
            .any(|path| (PROTOCOL.matches_path)(path))
    );
}

#[test]
fn hello_is_acknowledged_and_followed_by_the_presence_list() {
    let mut harness = harness();
    assert_eq!(harness.open(1, "/ws"), no_lines());
    let lines = harness.send(1, &hello(ANN, "Ann Lee"));
    let ack =
        format!(r#"1 < {{"type":"HELLO_ACK","data":{{"user_id":"{ANN}","status":"connected"}}}}"#);
    let list = format!(
        r#"1 < {{"type":"PRESENCE","data":{{"users":[{{"user_id":"{ANN}","display_name":"Ann Lee","online":true}}]}}}}"#
    );
    assert_eq!(lines, [ack, list]);
    harness.open(2, "/ws");
    let lines = harness.send(2, &hello(BOB, "Bob"));
    assert_eq!(presence(&lines[1]), names(2, &["Ann Lee", "Bob"]));
}

#[test]
fn any_other_message_before_hello_is_unauthorized() {
    for text in [
        open_chat(BOB),
        msg(BOB, "hi"),
        typing(true),
        message("PING", json!({})),
        message("MSG_ACK", json!({})),
        message("Hello", json!({})),
        "hello".to_owned(),
    ] {
        let mut harness = harness();
        harness.open(1, "/ws");
        let error = error(&harness.send(1, &text), 1);
        assert_eq!(error["code"], "UNAUTHORIZED", "{text}");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .starts_with("send HELLO first")
        );
        let field = if text.contains("Hello") {
            json!("type")
        } else {
            Value::Null
        };
        assert_eq!(error["details"]["field"], field);
        assert_eq!(
            harness.send(1, &hello(ANN, "Ann")).len(),
            2,
            "a HELLO is still accepted"
        );
    }
}

#[test]
fn a_client_that_sends_no_hello_is_closed_after_10_seconds() {
    let mut harness = harness();
    harness.open(1, "/ws");
    harness.open(2, "/ws");
    harness.send(2, &hello(BOB, "Bob"));
    assert_eq!(harness.advance(Duration::from_millis(9999)), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(code(&lines[..1], 1), "UNAUTHORIZED");
    assert_eq!(lines[1..], ["1 x 4401 no HELLO or JOIN in time"]);
}

#[test]
fn a_client_that_the_server_does_not_read_is_not_too_late() {
    let mut harness = harness();
    harness.open(1, "/ws");
    assert_eq!(harness.advance_unread(1, 10 * SECOND), no_lines());
    assert_eq!(harness.advance(9 * SECOND), no_lines());
    assert_eq!(harness.advance(SECOND).len(), 2);
}

#[test]
fn an_invalid_hello_does_not_extend_the_time_limit() {
    let mut harness = harness();
    harness.open(1, "/ws");
    harness.advance(9 * SECOND);
    assert_eq!(
        code(&harness.send(1, &hello("test-123", "Ann")), 1),
        "VALIDATION"
    );
    assert_eq!(harness.advance(SECOND).len(), 2);
    let mut unlimited = RealmHarness::<FastChat>::new(json!({"hello_timeout": 0}));
    unlimited.open(1, "/ws");
    assert_eq!(unlimited.advance(1000 * SECOND), no_lines());
}

#[test]
fn a_second_hello_gets_a_validation_error() {
    let mut harness = three();
    assert_eq!(
        error(&harness.send(1, &hello(ANN, "Ann")), 1)["details"],
        json!({"field": "type"})
    );
    assert_eq!(code(&harness.send(1, &hello(ANN, "Ann")), 1), "VALIDATION");
    assert_eq!(code(&harness.send(1, &hello("", "")), 1), "VALIDATION");
}

#[test]
fn a_user_id_must_be_a_uuid_of_version_4() {
    for wrong in [
        "",
        "test-123",
        "aaaaaaaa-1111-1111-8111-aaaaaaaaaaaa",
        "aaaaaaaa-1111-4111-c111-aaaaaaaaaaaa",
        "aaaaaaaa111141118111aaaaaaaaaaaa",
        "{aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa}",
        "urn:uuid:aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa",
    ] {
        let mut harness = harness();
        harness.open(1, "/ws");
        let error = error(&harness.send(1, &hello(wrong, "Ann")), 1);
        assert_eq!(error["code"], "VALIDATION", "{wrong}");
        assert_eq!(error["details"]["field"], "user_id");
    }
    let mut harness = harness();
    harness.open(1, "/ws");
    let lines = harness.send(1, &hello(&ANN.to_uppercase(), "Ann"));
    assert_eq!(parts(&lines[0]).2["user_id"], ANN);
    harness.open(2, "/ws");
    assert_eq!(
        harness.send(2, &hello(ANN, "Ann")),
        ["1 ? 5 s"],
        "the id is the same user in either case"
    );
}

#[test]
fn a_sanitized_display_name_must_have_3_to_50_characters() {
    for (given, name) in [
        ("Ann".to_owned(), Some("Ann")),
        ("äöü".to_owned(), Some("äöü")),
        ("ü".repeat(50), Some(&*"ü".repeat(50))),
        ("ü".repeat(51), None),
        ("An".to_owned(), None),
        ("  An \n".to_owned(), None),
        ("<b>An</b>".to_owned(), None),
        (" <i>Ann</i>\u{7} ".to_owned(), Some("Ann")),
        (
            "\u{202e}A\u{200b}n\u{ad}n\u{2066}\u{e0041}".to_owned(),
            Some("Ann"),
        ),
        (
            "\u{200d}A\u{200d}n\u{200c}n\u{200c}".to_owned(),
            Some("A\u{200d}n\u{200c}n"),
        ),
        ("An\u{3164}".to_owned(), None),
        ("\u{200b}\u{200e}\u{feff}".to_owned(), None),
        (format!("  {}  ", "x".repeat(50)), Some(&*"x".repeat(50))),
    ] {
        let mut harness = harness();
        harness.open(1, "/ws");
        let lines = harness.send(1, &hello(ANN, &given));
        match name {
            Some(name) => assert_eq!(presence(&lines[1]), names(1, &[name]), "{given}"),
            None => {
                let error = error(&lines, 1);
                assert_eq!(error["code"], "VALIDATION", "{given}");
                assert_eq!(error["details"]["field"], "display_name");
            }
        }
    }
}

#[test]
fn a_hello_for_a_connected_user_probes_its_connection() {
    let mut harness = three();
    harness.open(4, "/ws");
    assert_eq!(harness.send(4, &hello(ANN, "Impostor")), ["1 ? 5 s"]);
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn a_connection_that_answers_the_probe_stays_and_the_claimant_is_closed() {
    let mut harness = three();
    harness.open(4, "/ws");
    harness.send(4, &hello(ANN, "Impostor"));
    let lines = harness.answer_probe(1);
    let error = error(&lines[..1], 4);
    assert_eq!(error["code"], "UNAUTHORIZED");
    assert_eq!(error["message"], "user is connected");
    assert_eq!(lines[1..], ["4 x 4409 user is connected"]);
    assert_eq!(kinds(&harness.send(1, &open_chat(BOB))).len(), 2);
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn a_connection_that_does_not_answer_the_probe_is_replaced() {
    let mut harness = chat();
    harness.open(4, "/ws");
    harness.send(4, &hello(ANN, "Ann Lee"));
    let lines = harness.fail_probe(1);
    assert_eq!(lines[0], "1 x 4409 connected again elsewhere");
    assert_eq!(kinds(&lines[1..3]), [to(4, "HELLO_ACK"), to(4, "PRESENCE")]);
    // The user was online all the time, but has another name.
    assert_eq!(presence(&lines[3]), names(2, &["Ann Lee", "Bob", "Cid"]));
    assert_eq!(presence(&lines[4]), names(3, &["Ann Lee", "Bob", "Cid"]));
    assert_eq!(kinds(&harness.send(4, &msg(BOB, "hi")))[0], to(2, "MSG"));
}

#[test]
fn a_connection_that_disconnects_during_the_probe_is_replaced() {
    for how in [
        DisconnectReason::Lost,
        DisconnectReason::ClosedByClient(Some(1000)),
        DisconnectReason::Unresponsive,
    ] {
        let mut harness = three();
        harness.open(4, "/ws");
        harness.send(4, &hello(ANN, "Ann"));
        let lines = harness.disconnect(1, how);
        assert_eq!(kinds(&lines[..2]), [to(4, "HELLO_ACK"), to(4, "PRESENCE")]);
    }
}

#[test]
fn of_several_claimants_the_first_is_registered_and_then_probed_for_the_others() {
    let mut harness = three();
    for conn in [4, 5, 6] {
        harness.open(conn, "/ws");
        harness.send(conn, &hello(ANN, "Ann"));
    }
    harness.disconnect(5, DisconnectReason::Lost);
    let lines = harness.fail_probe(1);
    assert_eq!(lines[0], "1 x 4409 connected again elsewhere");
    assert_eq!(kinds(&lines[1..3]), [to(4, "HELLO_ACK"), to(4, "PRESENCE")]);
    assert_eq!(lines[3], "4 ? 5 s");
    assert_eq!(harness.answer_probe(4)[1], "6 x 4409 user is connected");
}

#[test]
fn a_claimant_may_wait_past_the_hello_timeout_but_send_nothing() {
    let mut harness = three();
    harness.open(4, "/ws");
    harness.advance(8 * SECOND);
    harness.send(4, &hello(ANN, "Ann"));
    assert_eq!(code(&harness.send(4, &hello(CID, "Cid")), 4), "VALIDATION");
    assert_eq!(
        code(&harness.send(4, &message("PING", json!({}))), 4),
        "UNAUTHORIZED"
    );
    assert_eq!(harness.advance(4 * SECOND), no_lines());
    assert_eq!(kinds(&harness.fail_probe(1)[1..2]), [to(4, "HELLO_ACK")]);
}

#[test]
fn all_users_are_sent_a_new_user() {
    let mut harness = three();
    harness.open(4, "/ws");
    let lines = harness.send(4, &hello(DAN, "Dan"));
    let all = ["Ann", "Bob", "Cid", "Dan"];
    assert_eq!(presence(&lines[1]), names(4, &all));
    let others: Vec<_> = lines[2..].iter().map(|line| presence(line)).collect();
    assert_eq!(others, [1, 2, 3].map(|conn| names(conn, &all)));
    assert_eq!(
        harness.advance(SECOND),
        no_lines(),
        "the new user has its list already"
    );
}

#[test]
fn all_users_are_sent_a_disconnected_user_once() {
    for how in [
        DisconnectReason::Lost,
        DisconnectReason::ClosedByClient(None),
        DisconnectReason::Unresponsive,
        DisconnectReason::Closed(CloseReason::TOO_SLOW),
    ] {
        let mut harness = three();
        let lines = harness.disconnect(1, how);
        let sent: Vec<_> = lines.iter().map(|line| presence(line)).collect();
        assert_eq!(
            sent,
            [2, 3].map(|conn| names(conn, &["Bob", "Cid", "-Ann"]))
        );
        harness.advance(SECOND);
        let lines = harness.disconnect(2, how);
        assert_eq!(presence(&lines[0]), names(3, &["Cid", "-Bob"]));
    }
}

#[test]
fn changes_within_a_second_are_sent_as_one_presence() {
    let mut harness = three();
    assert_eq!(
        harness.disconnect(3, DisconnectReason::Lost).len(),
        2,
        "the first change is sent at once"
    );
    assert_eq!(harness.disconnect(2, DisconnectReason::Lost), no_lines());
    harness.open(4, "/ws");
    assert_eq!(
        kinds(&harness.send(4, &hello(CID, "Cid"))),
        [to(4, "HELLO_ACK"), to(4, "PRESENCE")]
    );
    assert_eq!(harness.advance(Duration::from_millis(999)), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    let sent: Vec<_> = lines.iter().map(|line| presence(line)).collect();
    assert_eq!(
        sent,
        [names(1, &["Ann", "Cid", "-Bob"])],
        "4 has seen all of it in its list"
    );
}

#[test]
fn above_presence_list_up_to_only_a_new_user_is_sent_the_list() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"presence_list_up_to": 2}));
    for (conn, id, name) in [(1, ANN, "Ann"), (2, BOB, "Bob")] {
        enters(&mut harness, conn, id, name);
    }
    harness.open(3, "/ws");
    let lines = harness.send(3, &hello(CID, "Cid"));
    assert_eq!(kinds(&lines[..1]), [to(3, "HELLO_ACK")]);
    let mut sent: Vec<_> = lines[1..].iter().map(|line| presence(line)).collect();
    sent.sort();
    let all = ["Ann", "Bob", "Cid"];
    assert_eq!(
        sent,
        [names(1, &["Cid"]), names(2, &["Cid"]), names(3, &all)]
    );
    harness.advance(SECOND);
    let lines = harness.disconnect(3, DisconnectReason::Lost);
    assert_eq!(
        presence(&lines[0]),
        names(1, &["Ann", "Bob", "-Cid"]),
        "the whole list again"
    );
    let mut always = RealmHarness::<FastChat>::new(json!({"presence_list_up_to": 0}));
    enters(&mut always, 1, ANN, "Ann");
    always.open(2, "/ws");
    let lines = always.send(2, &hello(BOB, "Bob"));
    assert_eq!(presence(&lines[2]), names(1, &["Ann", "Bob"]));
}

#[test]
fn above_presence_list_up_to_users_that_connect_within_a_second_share_a_list() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"presence_list_up_to": 1}));
    enters(&mut harness, 1, ANN, "Ann");
    harness.open(2, "/ws");
    assert_eq!(
        harness.send(2, &hello(BOB, "Bob")).len(),
        3,
        "the first change is sent at once"
    );
    harness.open(3, "/ws");
    assert_eq!(
        kinds(&harness.send(3, &hello(CID, "Cid"))),
        [to(3, "HELLO_ACK")]
    );
    harness.open(4, "/ws");
    assert_eq!(
        kinds(&harness.send(4, &hello(DAN, "Dan"))),
        [to(4, "HELLO_ACK")]
    );
    let mut sent: Vec<_> = harness
        .advance(SECOND)
        .iter()
        .map(|line| presence(line))
        .collect();
    sent.sort();
    let all = ["Ann", "Bob", "Cid", "Dan"];
    let new = ["Cid", "Dan"];
    assert_eq!(
        sent,
        [
            names(1, &new),
            names(2, &new),
            names(3, &all),
            names(4, &all)
        ]
    );
}

#[test]
fn a_user_online_for_less_than_a_second_is_sent_only_to_clients_that_saw_it() {
    let mut harness = three();
    harness.disconnect(3, DisconnectReason::Lost);
    harness.open(4, "/ws");
    harness.send(4, &hello(DAN, "Dan"));
    harness.open(5, "/ws");
    let lines = harness.send(5, &hello(CID, "Cid"));
    assert_eq!(presence(&lines[1]), names(5, &["Ann", "Bob", "Cid", "Dan"]));
    harness.disconnect(4, DisconnectReason::Lost);
    let mut sent: Vec<_> = harness
        .advance(SECOND)
        .iter()
        .map(|line| presence(line))
        .collect();
    sent.sort();
    let all = ["Ann", "Bob", "Cid"];
    let saw_it = ["Ann", "Bob", "Cid", "-Dan"];
    assert_eq!(sent, [names(1, &all), names(2, &all), names(5, &saw_it)]);
    // If there is no other change, nothing is sent.
    harness.advance(SECOND);
    harness.disconnect(5, DisconnectReason::Lost);
    harness.open(6, "/ws");
    harness.send(6, &hello(DAN, "Dan"));
    harness.disconnect(6, DisconnectReason::Lost);
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn both_users_are_sent_chat_opened_with_the_other_as_target() {
    let mut harness = three();
    let lines = harness.send(2, &open_chat(ANN));
    assert_eq!(kinds(&lines), [to(2, "CHAT_OPENED"), to(1, "CHAT_OPENED")]);
    let [opener, target] = [0, 1].map(|at| parts(&lines[at]).2);
    let id = opener["chat_id"].as_str().unwrap();
    assert!(Uuid::try_parse(id).is_ok());
    let expected = |target: &str, name: &str| {
        json!({
            "chat_id": id, "participants": [BOB, ANN],
            "target_user_id": target, "target_display_name": name,
        })
    };
    assert_eq!(
        (opener.clone(), target),
        (expected(ANN, "Ann"), expected(BOB, "Bob"))
    );
}

#[test]
fn opening_an_open_chat_repeats_chat_opened_to_the_opener_alone() {
    let mut harness = three();
    let id = |line: &str| parts(line).2["chat_id"].clone();
    let first = id(&harness.send(1, &open_chat(BOB))[0]);
    for (conn, target) in [(1, BOB), (2, ANN), (1, BOB)] {
        let lines = harness.send(conn, &open_chat(target));
        assert_eq!(kinds(&lines), [to(conn, "CHAT_OPENED")]);
        assert_eq!(id(&lines[0]), first);
        assert_eq!(parts(&lines[0]).2["target_user_id"], target);
    }
    assert_ne!(id(&harness.send(1, &open_chat(CID))[0]), first);
}

#[test]
fn a_chat_with_an_offline_user_is_user_not_found() {
    let mut harness = three();
    harness.disconnect(2, DisconnectReason::Lost);
    for absent in [BOB, DAN] {
        let error = error(&harness.send(1, &open_chat(absent)), 1);
        assert_eq!(error["code"], "USER_NOT_FOUND");
        assert_eq!(error["details"]["field"], "target_user_id");
    }
}

#[test]
fn a_chat_with_oneself_is_a_validation_error() {
    let mut harness = three();
    let error = error(&harness.send(1, &open_chat(&ANN.to_uppercase())), 1);
    assert_eq!(error["code"], "VALIDATION");
    assert_eq!(error["details"]["field"], "target_user_id");
}

#[test]
fn a_chat_ends_a_minute_after_one_user_disconnected() {
    let mut harness = chat();
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(Duration::from_millis(59_999));
    assert_eq!(code(&harness.send(1, &msg(BOB, "hi")), 1), "MESSAGE_FAILED");
    harness.advance(Duration::from_millis(1));
    assert_eq!(code(&harness.send(1, &msg(BOB, "hi")), 1), "USER_NOT_FOUND");
    assert_eq!(code(&harness.send(1, &typing(true)), 1), "CHAT_NOT_OPENED");
    enters(&mut harness, 4, BOB, "Bob");
    assert_eq!(
        code(&harness.send(1, &msg(BOB, "hi")), 1),
        "CHAT_NOT_OPENED"
    );
    assert_eq!(
        code(&harness.send(4, &msg(ANN, "hi")), 4),
        "CHAT_NOT_OPENED"
    );
}

#[test]
fn a_user_that_reconnects_within_a_minute_keeps_its_chats() {
    let mut harness = chat();
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(59 * SECOND);
    enters(&mut harness, 4, ANN, "Ann");
    harness.advance(10 * SECOND);
    assert_eq!(
        kinds(&harness.send(4, &msg(BOB, "hi"))),
        [to(2, "MSG"), to(4, "MSG_ACK")]
    );
    assert_eq!(
        kinds(&harness.send(2, &msg(ANN, "hi"))),
        [to(4, "MSG"), to(2, "MSG_ACK")]
    );
    assert_eq!(kinds(&harness.send(4, &typing(true))), [to(2, "TYPING")]);
    // Both may disconnect, as long as neither is away for a minute.
    harness.disconnect(2, DisconnectReason::Lost);
    harness.disconnect(4, DisconnectReason::Lost);
    harness.advance(59 * SECOND);
    enters(&mut harness, 5, ANN, "Ann");
    harness.open(6, "/ws");
    harness.send(6, &hello(BOB, "Bob"));
    assert_eq!(
        code(&harness.send(5, &msg(BOB, "hi")), 5),
        "CHAT_NOT_OPENED",
        "Bob was away for a minute"
    );
}

#[test]
fn a_user_may_open_at_most_chats_per_user_chats() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"chats_per_user": 1}));
    for (conn, id, name) in [(1, ANN, "Ann"), (2, BOB, "Bob"), (3, CID, "Cid")] {
        enters(&mut harness, conn, id, name);
    }
    harness.send(1, &open_chat(BOB));
    let error = error(&harness.send(1, &open_chat(CID)), 1);
    assert_eq!(error["code"], "RATE_LIMITED");
    assert_eq!(
        error["details"],
        json!({"field": "target_user_id", "retry_after_ms": 60_000})
    );
    assert_eq!(
        harness.send(1, &open_chat(BOB)).len(),
        1,
        "a chat that is open does not count again"
    );
    assert_eq!(
        harness.send(3, &open_chat(ANN)).len(),
        2,
        "a chat opened by its partner does not count for Ann"
    );
    assert_eq!(harness.send(2, &open_chat(CID)).len(), 2, "nor for Bob");
}

#[test]
fn a_message_is_delivered_and_acknowledged() {
    let mut harness = chat();
    let lines = harness.send(1, &msg(&BOB.to_uppercase(), "Hello!"));
    let message = json!({
        "from": ANN, "to": BOB, "content": "Hello!", "message_id": "m1",
        "timestamp": "2026-01-16T10:00:03.000Z",
    });
    let ack = json!({"message_id": "m1", "status": "delivered"});
    assert_eq!(parts(&lines[0]), (2, "MSG".to_owned(), message));
    assert_eq!(parts(&lines[1]), (1, "MSG_ACK".to_owned(), ack));
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_message_id_is_the_senders_or_a_new_uuid() {
    let mut harness = chat();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let lines = harness.send(1, &message("MSG", json!({"to": BOB, "content": "hi"})));
        let [sent, acknowledged] = [0, 1].map(|at| parts(&lines[at]).2["message_id"].clone());
        assert_eq!(sent, acknowledged);
        assert!(Uuid::try_parse(sent.as_str().unwrap()).is_ok());
        ids.push(sent);
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_message_id_must_have_1_to_64_characters_and_no_tags() {
    let mut harness = chat();
    let mut send = |id: Value| {
        harness.send(
            1,
            &message("MSG", json!({"to": BOB, "content": "hi", "message_id": id})),
        )
    };
    for good in ["a", "ü".repeat(64).as_str(), "1 < 2"] {
        assert_eq!(parts(&send(json!(good))[1]).2["message_id"], good);
    }
    for bad in [
        json!(""),
        json!("x".repeat(65)),
        json!("<b>"),
        json!("a\u{7}"),
        json!(7),
    ] {
        let error = error(&send(bad.clone()), 1);
        assert_eq!(error["code"], "VALIDATION", "{bad}");
        assert_eq!(error["details"], json!({"field": "message_id"}));
    }
}

#[test]
fn sanitized_content_must_have_1_to_1000_characters() {
    let mut harness = chat();
    let longest = "ü".repeat(1000);
    for good in ["x", " ", &longest, &format!("<b>{longest}</b>")] {
        assert_eq!(harness.send(1, &msg(BOB, good)).len(), 2);
    }
    for bad in ["", "<b></b>", "\u{7}", &"ü".repeat(1001)] {
        let error = error(&harness.send(1, &msg(BOB, bad)), 1);
        assert_eq!(error["code"], "VALIDATION");
        assert_eq!(
            error["details"],
            json!({"field": "content", "message_id": "m1"})
        );
    }
}

#[test]
fn content_is_sanitized() {
    let mut harness = chat();
    let lines = harness.send(
        1,
        &msg(
            BOB,
            "<scr<script>ipt>1 < 2 <img src=x onerror=y>\u{7}'; DROP TABLE",
        ),
    );
    assert_eq!(parts(&lines[0]).2["content"], "ipt>1 < 2 '; DROP TABLE");
}

#[test]
fn the_checks_of_a_message_have_the_documented_order() {
    let mut harness = chat();
    let unknown = DAN;
    assert_eq!(
        code(&harness.send(1, &msg(unknown, "hi")), 1),
        "USER_NOT_FOUND"
    );
    assert_eq!(
        code(&harness.send(1, &msg(CID, "hi")), 1),
        "CHAT_NOT_OPENED"
    );
    assert_eq!(
        code(&harness.send(1, &msg(ANN, "hi")), 1),
        "CHAT_NOT_OPENED"
    );
    harness.disconnect(3, DisconnectReason::Lost);
    assert_eq!(
        code(&harness.send(1, &msg(CID, "hi")), 1),
        "CHAT_NOT_OPENED"
    );
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(code(&harness.send(1, &msg(BOB, "hi")), 1), "MESSAGE_FAILED");
    // The rate is checked before the target, the content before both.
    for _ in 5..60 {
        assert_eq!(code(&harness.send(1, &msg(BOB, "hi")), 1), "MESSAGE_FAILED");
    }
    assert_eq!(
        code(&harness.send(1, &msg(unknown, "hi")), 1),
        "RATE_LIMITED"
    );
    assert_eq!(code(&harness.send(1, &msg(unknown, "")), 1), "VALIDATION");
}

#[test]
fn a_message_to_a_user_that_has_just_disconnected_fails() {
    let mut harness = chat();
    harness.disconnect(2, DisconnectReason::Lost);
    let error = error(&harness.send(1, &msg(BOB, "hi")), 1);
    assert_eq!(error["code"], "MESSAGE_FAILED");
    assert_eq!(error["details"], json!({"field": "to", "message_id": "m1"}));
}

#[test]
fn a_message_that_does_not_fit_the_outbox_fails() {
    let mut harness = chat();
    harness.fill_outbox(2);
    let error = error(&harness.send(1, &msg(BOB, "hi")), 1);
    assert_eq!(error["code"], "MESSAGE_FAILED");
    assert_eq!(error["details"], json!({"field": "to", "message_id": "m1"}));
}

#[test]
fn a_msg_ack_from_a_client_has_no_effect() {
    let mut harness = chat();
    harness.send(1, &msg(BOB, "hi"));
    let ack = message(
        "MSG_ACK",
        json!({"message_id": "m1", "status": "delivered"}),
    );
    assert_eq!(harness.send(2, &ack), no_lines());
}

#[test]
fn typing_goes_to_the_partner_of_the_last_used_chat() {
    let mut harness = three();
    let last_partner = |harness: &mut RealmHarness<FastChat>| {
        let on = harness.send(1, &typing(true));
        assert_eq!(parts(&on[0]).2, json!({"user_id": ANN, "is_typing": true}));
        let off = harness.send(1, &typing(false));
        assert_eq!(
            parts(&off[0]).2,
            json!({"user_id": ANN, "is_typing": false})
        );
        assert_eq!(parts(&on[0]).0, parts(&off[0]).0);
        parts(&on[0]).0
    };
    harness.send(1, &open_chat(BOB));
    assert_eq!(last_partner(&mut harness), 2, "opened");
    harness.send(1, &open_chat(CID));
    assert_eq!(last_partner(&mut harness), 3, "opened");
    harness.send(1, &open_chat(BOB));
    assert_eq!(last_partner(&mut harness), 2, "opened again");
    harness.send(1, &msg(CID, "hi"));
    assert_eq!(last_partner(&mut harness), 3, "sent a message");
    harness.send(1, &open_chat(DAN));
    assert_eq!(last_partner(&mut harness), 3, "an OPEN_CHAT that failed");
}

#[test]
fn once_a_user_has_used_a_chat_others_do_not_change_where_its_typing_goes() {
    let mut harness = chat();
    enters(&mut harness, 4, DAN, "Dan");
    for (conn, id) in [(3, CID), (4, DAN)] {
        harness.send(conn, &open_chat(ANN));
        harness.send(conn, &msg(ANN, "hi"));
        // Connection 1 has opened the chat with Bob, 2 has written in it.
        harness.send(2, &msg(ANN, "hi"));
        harness.send(conn, &open_chat(BOB));
        harness.send(conn, &msg(BOB, "hi"));
        for (sender, recipient) in [(1, 2), (2, 1)] {
            assert_eq!(
                kinds(&harness.send(sender, &typing(true))),
                [to(recipient, "TYPING")],
                "and not {id}"
            );
            harness.send(sender, &typing(false));
        }
    }
    // Nor do they when that chat has ended.
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    harness.send(3, &msg(ANN, "hi"));
    assert_eq!(code(&harness.send(1, &typing(true)), 1), "CHAT_NOT_OPENED");
}

#[test]
fn typing_of_a_user_that_has_used_no_chat_goes_to_the_first_that_opened_one() {
    let mut harness = three();
    enters(&mut harness, 4, DAN, "Dan");
    for conn in [3, 1, 4] {
        harness.send(conn, &open_chat(BOB));
        harness.send(conn, &msg(BOB, "hi"));
        assert_eq!(
            kinds(&harness.send(2, &typing(true))),
            match conn {
                3 => vec![to(3, "TYPING")],
                _ => vec![],
            }
        );
    }
    harness.send(2, &typing(false));
    // When that user is no longer remembered: the first of the others.
    harness.disconnect(3, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    enters(&mut harness, 5, CID, "Cid");
    harness.send(5, &open_chat(BOB));
    assert_eq!(kinds(&harness.send(2, &typing(true))), [to(1, "TYPING")]);
    harness.send(2, &typing(false));
    harness.disconnect(1, DisconnectReason::Lost);
    harness.disconnect(4, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    assert_eq!(kinds(&harness.send(2, &typing(true))), [to(5, "TYPING")]);
}

#[test]
fn an_open_chat_whose_chat_opened_does_not_fit_the_outbox_fails_and_closes_nothing() {
    let mut harness = three();
    harness.fill_outbox(2);
    let error = error(&harness.send(1, &open_chat(BOB)), 1);
    assert_eq!(error["code"], "MESSAGE_FAILED");
    assert_eq!(error["details"], json!({"field": "target_user_id"}));
    let lines = harness.send(1, &msg(BOB, "hi"));
    assert_eq!(code(&lines, 1), "CHAT_NOT_OPENED", "no chat was opened");
    // A chat that is open does not need the other user's outbox.
    let mut harness = chat();
    harness.fill_outbox(2);
    assert_eq!(
        kinds(&harness.send(1, &open_chat(BOB))),
        [to(1, "CHAT_OPENED")]
    );
}

#[test]
fn at_most_30_chats_a_minute_are_opened() {
    let mut harness = three();
    for count in 0..30 {
        // The attempts count, too, but not those for a chat that is open.
        assert_eq!(code(&harness.send(1, &open_chat(DAN)), 1), "USER_NOT_FOUND");
        assert_eq!(code(&harness.send(1, &open_chat(ANN)), 1), "VALIDATION");
        if count == 0 {
            harness.send(3, &open_chat(ANN));
        }
        assert_eq!(harness.send(1, &open_chat(CID)).len(), 1);
        harness.advance(SECOND);
    }
    let limited = error(&harness.send(1, &open_chat(BOB)), 1);
    assert_eq!(limited["code"], "RATE_LIMITED");
    assert_eq!(limited["details"], json!({"retry_after_ms": 30_000}));
    assert_eq!(
        kinds(&harness.send(1, &open_chat(CID))),
        [to(1, "CHAT_OPENED")]
    );
    harness.disconnect(3, DisconnectReason::Lost);
    assert_eq!(code(&harness.send(1, &open_chat(CID)), 1), "USER_NOT_FOUND");
    assert_eq!(
        harness.send(2, &open_chat(ANN)).len(),
        2,
        "each user has its own limit"
    );
    // The limit is kept across a reconnect.
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(29 * SECOND);
    harness.open(4, "/ws");
    harness.send(4, &hello(ANN, "Ann"));
    assert_eq!(code(&harness.send(4, &open_chat(DAN)), 4), "RATE_LIMITED");
    harness.advance(SECOND);
    assert_eq!(code(&harness.send(4, &open_chat(DAN)), 4), "USER_NOT_FOUND");
}

#[test]
fn the_error_for_too_many_chats_says_when_the_first_of_them_can_end() {
    let mut harness = RealmHarness::<FastChat>::new(json!({"chats_per_user": 2}));
    for (conn, id, name) in [
        (1, ANN, "Ann"),
        (2, BOB, "Bob"),
        (3, CID, "Cid"),
        (4, DAN, "Dan"),
    ] {
        enters(&mut harness, conn, id, name);
    }
    harness.send(1, &open_chat(BOB));
    harness.send(1, &open_chat(CID));
    harness.send(4, &open_chat(ANN));
    enters(&mut harness, 5, EVE, "Eve");
    let wait = |harness: &mut RealmHarness<FastChat>| {
        let lines = harness.send(1, &open_chat(EVE));
        error(&lines, 1)["details"]["retry_after_ms"].clone()
    };
    assert_eq!(wait(&mut harness), 60_000, "if one of them disconnects now");
    harness.disconnect(4, DisconnectReason::Lost);
    harness.advance(10 * SECOND);
    assert_eq!(
        wait(&mut harness),
        60_000,
        "a chat that another user opened does not count"
    );
    harness.disconnect(3, DisconnectReason::Lost);
    harness.advance(10 * SECOND);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(10 * SECOND);
    assert_eq!(wait(&mut harness), 40_000);
    // The chat has ended by then, whether or not the realm has noticed.
    harness.now += 40 * SECOND;
    let lines = harness.send(1, &open_chat(EVE));
    assert_eq!(kinds(&lines), [to(1, "CHAT_OPENED"), to(5, "CHAT_OPENED")]);
}

#[test]
fn the_end_of_typing_reaches_a_partner_that_has_reconnected() {
    let mut harness = chat();
    harness.send(1, &typing(true));
    harness.disconnect(2, DisconnectReason::Lost);
    enters(&mut harness, 4, BOB, "Bob");
    let lines = harness.send(1, &typing(false));
    assert_eq!(parts(&lines[0]).0, 4);
    assert_eq!(parts(&lines[0]).2["is_typing"], false);
}

#[test]
fn a_connection_without_a_claimant_stays_whatever_the_probe_says() {
    let mut harness = three();
    harness.open(4, "/ws");
    harness.send(4, &hello(ANN, "Ann"));
    harness.disconnect(4, DisconnectReason::Lost);
    assert_eq!(harness.fail_probe(1), no_lines());
}

#[test]
fn a_chat_ends_when_either_user_is_no_longer_remembered() {
    // Bob's state is dropped first, while Ann is offline, too.
    let mut harness = chat();
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(30 * SECOND);
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(30 * SECOND);
    enters(&mut harness, 4, ANN, "Ann");
    enters(&mut harness, 5, BOB, "Bob");
    assert_eq!(
        code(&harness.send(4, &msg(BOB, "hi")), 4),
        "CHAT_NOT_OPENED"
    );
    assert_eq!(harness.send(4, &open_chat(BOB)).len(), 2, "a new chat");
    // The oldest entry is dropped when too many users disconnect within a minute.
    harness.disconnect(5, DisconnectReason::Lost);
    harness.advance(SECOND);
    for conn in 0..crate::toolkit::recently_gone::MAX_RECENTLY_GONE as u64 {
        harness.open(100 + conn, "/ws");
        let id = Uuid::from_u128(0x1111_1111_1111_4111_8111_0000_0000_0000 + u128::from(conn));
        harness.send(100 + conn, &hello(&id.to_string(), "Another user"));
        harness.disconnect(100 + conn, DisconnectReason::Lost);
    }
    assert_eq!(code(&harness.send(4, &msg(BOB, "hi")), 4), "USER_NOT_FOUND");
    enters(&mut harness, 6, BOB, "Bob");
    assert_eq!(
        code(&harness.send(4, &msg(BOB, "hi")), 4),
        "CHAT_NOT_OPENED"
    );
}

#[test]
fn typing_may_name_another_partner() {
    let mut harness = chat();
    harness.send(1, &open_chat(CID));
    let typing = |to: Value, on: bool| message("TYPING", json!({"to": to, "is_typing": on}));
    assert_eq!(
        kinds(&harness.send(1, &typing(json!(BOB), true))),
        [to(2, "TYPING")]
    );
    let error = error(&harness.send(1, &typing(json!("Bob"), true)), 1);
    assert_eq!(
        (&error["code"], &error["details"]["field"]),
        (&json!("VALIDATION"), &json!("to"))
    );
}

#[test]
fn typing_without_a_chat_is_chat_not_opened() {
    let mut harness = three();
    for on in [true, false] {
        assert_eq!(code(&harness.send(1, &typing(on)), 1), "CHAT_NOT_OPENED");
    }
    harness.send(1, &open_chat(BOB));
    let to_cid = message("TYPING", json!({"to": CID, "is_typing": true}));
    let error = error(&harness.send(1, &to_cid), 1);
    assert_eq!(
        (&error["code"], &error["details"]["field"]),
        (&json!("CHAT_NOT_OPENED"), &json!("to"))
    );
}

#[test]
fn only_changes_of_typing_are_sent_and_counted() {
    let mut harness = chat();
    for (on, count) in [(false, 0), (true, 1), (true, 0), (false, 1), (false, 0)] {
        assert_eq!(harness.send(1, &typing(on)).len(), count);
    }
    // Messages that are not sent do not count.
    for _ in 0..100 {
        assert_eq!(harness.send(1, &typing(false)), no_lines());
    }
    assert_eq!(harness.send(1, &typing(true)).len(), 1);
}

#[test]
fn typing_to_an_offline_partner_is_sent_after_it_reconnects() {
    let mut harness = chat();
    harness.send(1, &typing(true));
    harness.disconnect(2, DisconnectReason::Lost);
    for _ in 0..20 {
        assert_eq!(
            harness.send(1, &typing(true)),
            no_lines(),
            "it is neither sent nor counted"
        );
    }
    enters(&mut harness, 4, BOB, "Bob");
    assert_eq!(kinds(&harness.send(1, &typing(true))), [to(4, "TYPING")]);
}

#[test]
fn the_end_of_typing_is_sent_even_above_the_rate() {
    let mut harness = chat();
    for count in 0..9 {
        assert_eq!(harness.send(1, &typing(count % 2 == 0)).len(), 1);
    }
    harness.send(1, &typing(false));
    assert_eq!(code(&harness.send(1, &typing(true)), 1), "RATE_LIMITED");
    harness.advance(60 * SECOND);
    for count in 0..10 {
        let to = if count % 2 == 0 { BOB } else { CID };
        harness.send(1, &open_chat(to));
        assert_ne!(harness.send(1, &typing(true)), no_lines());
    }
    assert_eq!(
        kinds(&harness.send(1, &typing(false))),
        [to(3, "TYPING")],
        "the eleventh within a minute"
    );
}

#[test]
fn the_end_of_typing_goes_to_the_user_that_was_sent_its_start() {
    let mut harness = chat();
    harness.send(1, &typing(true));
    harness.send(3, &open_chat(ANN));
    harness.send(3, &msg(ANN, "hi"));
    assert_eq!(kinds(&harness.send(1, &typing(false))), [to(2, "TYPING")]);
    // TYPING in another chat ends it in the first one.
    harness.send(1, &open_chat(BOB));
    harness.send(1, &typing(true));
    harness.send(1, &msg(CID, "hi"));
    let lines = harness.send(1, &typing(true));
    let sent = [0, 1].map(|at| {
        (
            parts(&lines[at]).0,
            parts(&lines[at]).2["is_typing"].clone(),
        )
    });
    assert_eq!(sent, [(2, json!(false)), (3, json!(true))]);
}

#[test]
fn a_user_that_disconnects_stops_typing() {
    let mut harness = chat();
    harness.send(1, &typing(true));
    let lines = harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(
        parts(&lines[0]),
        (
            2,
            "TYPING".to_owned(),
            json!({"user_id": ANN, "is_typing": false})
        )
    );
    // Nothing is sent if the partner is no longer remembered.
    let mut harness = chat();
    harness.send(1, &open_chat(CID));
    harness.send(1, &msg(BOB, "hi"));
    harness.send(1, &typing(true));
    harness.disconnect(2, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    harness.send(1, &open_chat(CID));
    assert_eq!(harness.send(1, &typing(false)), no_lines());
}

#[test]
fn a_ping_is_answered_with_a_timestamp() {
    let mut harness = three();
    let lines = harness.send(1, r#"{"type":"PING"}"#);
    assert_eq!(
        lines,
        [r#"1 < {"type":"PONG","data":{"timestamp":"2026-01-16T10:00:03.000Z"}}"#]
    );
}

#[test]
fn at_most_60_messages_a_minute_are_delivered() {
    let mut harness = chat();
    for _ in 0..60 {
        assert_eq!(harness.send(1, &msg(BOB, "hi")).len(), 2);
        harness.advance(SECOND / 2);
    }
    let error = error(&harness.send(1, &msg(BOB, "hi")), 1);
    assert_eq!(error["code"], "RATE_LIMITED");
    assert_eq!(
        error["details"],
        json!({"message_id": "m1", "retry_after_ms": 30_000})
    );
    assert_eq!(
        harness.send(2, &msg(ANN, "hi")).len(),
        2,
        "each user has its own limit"
    );
    harness.advance(30 * SECOND);
    assert_eq!(harness.send(1, &msg(BOB, "hi")).len(), 2);
}

#[test]
fn at_most_10_typings_a_minute_are_sent() {
    let mut harness = chat();
    for count in 0..10 {
        assert_eq!(harness.send(1, &typing(count % 2 == 0)).len(), 1);
    }
    let error = error(&harness.send(1, &typing(true)), 1);
    assert_eq!(error["code"], "RATE_LIMITED");
    assert_eq!(error["details"]["retry_after_ms"], 60_000);
    harness.advance(Duration::from_micros(59_998_500));
    let again = self::error(&harness.send(1, &typing(true)), 1);
    assert_eq!(again["details"]["retry_after_ms"], 2, "rounded up");
    harness.advance(Duration::from_millis(2));
    assert_eq!(harness.send(1, &typing(true)).len(), 1);
}

#[test]
fn at_most_60_pings_a_minute_are_answered() {
    let mut harness = three();
    let ping = message("PING", json!({}));
    for _ in 0..60 {
        assert_eq!(kinds(&harness.send(1, &ping)), [to(1, "PONG")]);
    }
    let error = error(&harness.send(1, &ping), 1);
    assert_eq!(error["code"], "RATE_LIMITED");
    assert_eq!(error["details"]["retry_after_ms"], 60_000);
}

#[test]
fn a_rate_limit_is_kept_across_a_reconnect() {
    let mut harness = chat();
    for _ in 0..60 {
        harness.send(1, &msg(BOB, "hi"));
    }
    harness.disconnect(1, DisconnectReason::ClosedByClient(None));
    harness.advance(58 * SECOND);
    enters(&mut harness, 4, ANN, "Ann");
    assert_eq!(code(&harness.send(4, &msg(BOB, "hi")), 4), "RATE_LIMITED");
    harness.advance(SECOND);
    assert_eq!(harness.send(4, &msg(BOB, "hi")).len(), 2);
}

#[test]
fn an_invalid_message_does_not_count_for_the_rate() {
    let mut harness = chat();
    for _ in 0..100 {
        assert_eq!(code(&harness.send(1, &msg(BOB, "")), 1), "VALIDATION");
    }
    assert_eq!(harness.send(1, &msg(BOB, "hi")).len(), 2);
}

#[test]
fn an_invalid_message_gets_a_validation_error_that_names_the_field() {
    let mut harness = chat();
    for (text, field) in [
        ("", Value::Null),
        ("hello", Value::Null),
        ("{", Value::Null),
        ("[]", Value::Null),
        (r#"["PING",{}]"#, Value::Null),
        (r#"{"type":"PING","type":"PING"}"#, Value::Null),
        ("{}", json!("type")),
        (r#"{"type":7}"#, json!("type")),
        (r#"{"type":"PONG"}"#, json!("type")),
        (r#"{"type":"ping"}"#, json!("type")),
        (r#"{"type":"MSG","data":[]}"#, json!("data")),
        (r#"{"type":"MSG","data":"x"}"#, json!("data")),
        (r#"{"type":"MSG","data":{"to":1,"to":2}}"#, json!("data")),
        (r#"{"type":"MSG"}"#, json!("to")),
        (
            r#"{"type":"MSG","data":{"to":"you","content":"x"}}"#,
            json!("to"),
        ),
        (
            r#"{"type":"OPEN_CHAT","data":null}"#,
            json!("target_user_id"),
        ),
        (r#"{"type":"TYPING"}"#, json!("is_typing")),
        (
            r#"{"type":"TYPING","data":{"is_typing":1}}"#,
            json!("is_typing"),
        ),
    ] {
        let error = error(&harness.send(1, text), 1);
        assert_eq!(error["code"], "VALIDATION", "{text}");
        assert_eq!(error["details"]["field"], field, "{text}");
    }
}

#[test]
fn an_error_names_the_field_and_the_message_id() {
    let mut harness = chat();
    let text = message(
        "MSG",
        json!({"to": "you", "content": "x", "message_id": "m7"}),
    );
    let error = error(&harness.send(1, &text), 1);
    assert_eq!(error["details"], json!({"field": "to", "message_id": "m7"}));
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("must be a UUID, for example")
    );
}

#[test]
fn a_missing_data_is_an_empty_object_and_unknown_fields_are_ignored() {
    let mut harness = chat();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!(r#"{{"more":{deep},"type":"PING","data":{{"x":{deep},"to":5}}}}"#);
    assert_eq!(kinds(&harness.send(1, &text)), [to(1, "PONG")]);
    assert_eq!(
        kinds(&harness.send(1, r#"{"type":"PING","data":null}"#)),
        [to(1, "PONG")]
    );
}

#[test]
fn a_binary_message_gets_a_validation_error() {
    let mut harness = chat();
    let ping = Message::Binary(br#"{"type":"PING"}"#.to_vec().into());
    assert_eq!(code(&harness.send_message(1, ping), 1), "VALIDATION");
}

#[test]
fn nothing_is_stored_after_all_users_have_been_away_for_a_minute() {
    let mut harness = chat();
    harness.send(1, &typing(true));
    harness.send(1, &msg(BOB, "hi"));
    harness.open(4, "/ws");
    harness.send(4, &hello(ANN, "Ann"));
    harness.open(5, "/ws");
    for conn in [5, 4, 3, 2, 1] {
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    harness.advance(60 * SECOND);
    assert!(harness.realm.is_empty());
}

#[test]
fn options_out_of_range_are_named() {
    for (key, wrong) in [
        ("takeover_timeout", json!(0)),
        ("absence", json!(59)),
        ("message_length", json!(0)),
        ("display_name_length", json!(2)),
    ] {
        let options = json!({key: wrong});
        assert_eq!(RealmHarness::<FastChat>::invalid_option(options), key);
    }
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("../../../../tests/fastchat.rs"),
    ]);
}

#[test]
fn what_is_stored_of_users_is_counted() {
    let mut harness = chat();
    harness.send(1, &msg(BOB, "hi"));
    harness.advance(SECOND);
    let online = harness.realm.stored_bytes();
    // Each side of a chat has a map of its own.
    assert!(online > 2 * 11 * size_of::<(Uuid, Uuid)>(), "{online}");
    harness.disconnect(1, DisconnectReason::Lost);
    let gone = harness.realm.stored_bytes();
    assert!(
        gone > online,
        "its place among those who are gone counts, too"
    );
    enters(&mut harness, 4, ANN, "Ann");
    assert!(harness.realm.stored_bytes() <= online);
    harness.disconnect(4, DisconnectReason::Lost);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.disconnect(3, DisconnectReason::Lost);
    harness.advance(60 * SECOND);
    assert_eq!(harness.realm.stored_bytes(), 0);
}

#[test]
fn a_chat_counts_for_the_user_that_opened_it() {
    let mut harness = chat();
    let bytes_of = |harness: &RealmHarness<FastChat>, conn| {
        let conn = ConnectionId(conn);
        harness.realm.stored_bytes_of(conn)
    };
    assert!(bytes_of(&harness, 1) > 0);
    assert_eq!(bytes_of(&harness, 2), 0, "who was asked pays nothing");
    harness.send(2, &msg(ANN, "hi"));
    assert!(bytes_of(&harness, 2) > 0, "its rate");
}

#[test]
fn when_memory_is_short_rates_are_forgotten_before_chats() {
    let mut harness = chat();
    for _ in 0..60 {
        harness.send(1, &msg(BOB, "hi"));
    }
    harness.disconnect(1, DisconnectReason::Lost);
    harness.disconnect(3, DisconnectReason::Lost);
    let (freed, lines) = harness.shed(Retention::BestEffort, usize::MAX);
    assert!(freed > 0 && lines.is_empty());
    assert!(
        !harness.realm.gone.contains(&CID.parse().unwrap()),
        "it had no chat"
    );
    enters(&mut harness, 4, ANN, "Ann");
    let acknowledged = kinds(&harness.send(4, &msg(BOB, "hi")));
    assert_eq!(
        acknowledged,
        [to(2, "MSG"), to(4, "MSG_ACK")],
        "the chat is there"
    );
    harness.disconnect(4, DisconnectReason::Lost);
    let before = harness.realm.stored_bytes();
    let (freed, _) = harness.shed(Retention::Promised, 1);
    assert!(harness.realm.stored_bytes() <= before - freed);
    assert_eq!(code(&harness.send(2, &msg(ANN, "hi")), 2), "USER_NOT_FOUND");
}

#[test]
fn changed_options_hold_and_users_chats_and_rates_stay() {
    let mut harness = three();
    harness.send(1, &open_chat(BOB));
    for _ in 0..3 {
        harness.send(1, &msg(BOB, "hello"));
    }
    harness.open(4, "/ws");
    let options = json!({"messages_per_minute": 3, "message_length": 3, "hello_timeout": 1});
    assert_eq!(harness.reconfigure(options.clone()), no_lines());
    let lines = harness.send(1, &msg(BOB, "hi"));
    assert!(lines[0].contains("RATE_LIMITED"), "{lines:?}");
    let lines = harness.send(2, &msg(ANN, "four"));
    assert!(lines[0].contains("VALIDATION"), "{lines:?}");
    let lines = harness.send(2, &msg(ANN, "hi"));
    assert!(lines[0].starts_with("1 < "), "the chat is open: {lines:?}");
    let lines = harness.advance(SECOND);
    assert!(
        lines.iter().any(|line| line.starts_with("4 x 4401 ")),
        "{lines:?}"
    );
    // A limit that is lifted lets more pass at once.
    let mut options = options;
    options["messages_per_minute"] = json!(0);
    harness.reconfigure(options);
    assert!(harness.send(1, &msg(BOB, "hi"))[0].starts_with("2 < "));
}

#[test]
fn the_figures_are_the_users_those_who_have_gone_their_chats_and_the_refused_messages() {
    let figures = |harness: &RealmHarness<FastChat>| {
        let Figures {
            sizes,
            rate_limited,
        } = harness.realm.figures();
        let names = ["users", "users_gone", "unregistered", "chats"];
        assert!(sizes.iter().map(|(name, _)| *name).eq(names));
        let sizes: Vec<usize> = sizes.iter().map(|(_, size)| *size).collect();
        (sizes, rate_limited)
    };
    let mut harness = chat();
    harness.open(4, "/ws");
    assert_eq!(figures(&harness), (vec![3, 0, 1, 1], 0));
    for _ in 0..62 {
        harness.send(1, &message("PING", json!({})));
    }
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(figures(&harness), (vec![2, 1, 1, 1], 2));
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(figures(&harness).0, [1, 2, 1, 1]);
    harness.advance(60 * SECOND);
    assert_eq!(figures(&harness).0, [1, 0, 0, 0]);
}
