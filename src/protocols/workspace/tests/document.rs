//! What the document and the rulings demand of Workspace, each rule at the desk.
//!
//! The document's sentences, those of the rulings, and what the newer client sends and understands,
//! with the test that holds each. Tests that need sockets stand in `tests/workspace.rs`, tests of
//! tokens by themselves in `jwt.rs`, random walks in `walk.rs`.
//!
//! | demand | test |
//! | --- | --- |
//! | path `/ws` | `it_serves_one_path` |
//! | `connected` first, its fields | `connected_comes_first_and_has_the_documents_fields` |
//! | `connectedUsers` counts users | `connected_users_counts_users_and_not_connections` |
//! | `userId` is unique and increasing | `user_ids_are_unique_and_increasing_even_within_a_millisecond` |
//! | a user is a name, in whatever case | `a_user_has_one_id_and_one_name_on_all_its_connections` |
//! | `username` is decoded, sanitised, trimmed, cut | `a_username_is_decoded_sanitised_trimmed_and_cut` |
//! | a missing or empty one becomes `User_` and 6 letters | `who_gives_no_name_is_a_user_of_its_own`, `a_made_up_name_that_is_taken_is_not_used` |
//! | "Maximum concurrent connections per user: 3", then HTTP 429 | `a_fourth_connection_of_a_user_is_refused_in_the_handshake`, `without_a_limit_a_user_may_have_any_number_of_connections`, `a_fourth_connection_of_a_user_never_opens` |
//! | `message:new` goes to everybody, the sender included | `a_message_goes_to_everybody_the_sender_included` |
//! | message ids are unique and increasing | `message_ids_are_unique_and_increasing` |
//! | "Sanitize message content before broadcasting" | `message_content_is_sanitised` |
//! | `presence:update` goes to everybody else | `a_presence_update_goes_to_all_other_users` |
//! | `online` on a user's first connection | `the_others_hear_when_a_user_comes_with_its_first_connection` |
//! | `offline` on the end of its last | `the_others_hear_when_a_user_goes_with_its_last_connection` |
//! | `typing:indicator` goes to everybody else when it changes | `typing_goes_to_all_other_users_and_only_when_it_changes`, `a_user_types_as_long_as_one_of_its_connections_does` |
//! | who leaves while typing stops typing | `a_user_who_leaves_while_typing_stops_typing` |
//! | `INVALID_JSON` | `what_is_no_json_is_answered_and_nobody_else_hears_of_it` |
//! | `UNKNOWN_TYPE` | `an_unknown_type_is_answered` |
//! | `INVALID_MESSAGE` | `a_message_that_makes_no_sense_is_answered`, `a_binary_message_is_answered` |
//! | unknown fields are ignored | `unknown_fields_are_ignored` |
//! | "100 messages per minute per user" | `a_user_may_send_100_messages_a_minute_over_all_its_connections` |
//! | three times that for presence and typing | `signals_have_a_limit_of_their_own_three_times_that` |
//! | only what passed validation counts | `only_what_passed_validation_counts` |
//! | limits outlive a connection | `going_and_coming_back_does_not_lift_a_limit` |
//! | for a minute, of so many | `those_who_are_gone_are_not_remembered_for_ever` |
//! | "Close idle connections after 5 minutes" | `a_connection_is_closed_after_five_minutes_without_a_message_in_either_direction`, `those_who_are_not_idle_hear_of_those_who_are`, `even_a_message_that_is_wrong_is_one`, `without_a_limit_nobody_is_idle` |
//! | "Validate all incoming messages" | `no_text_makes_decoding_panic`, `no_json_makes_decoding_panic` |
//! | the first message decides the dialect | `the_first_message_decides_the_dialect_for_the_connections_life` |
//! | who mixes dialects: `UNKNOWN_TYPE` | `the_first_message_decides_the_dialect_for_the_connections_life` |
//! | a malformed one: the dialect whose shape it has | `a_malformed_first_message_has_the_dialect_of_its_type` |
//! | the document's when in doubt | `what_is_a_message_of_neither_dialect_decides_nothing`, `who_has_not_spoken_is_spoken_to_as_the_document_says` |
//! | both dialects in one room, each answered in its own | `both_dialects_meet_in_the_room_each_in_its_own_words` |
//! | the same over sockets | `a_newer_client_joins_talks_errs_and_leaves` |
//! | newer: no `presence:update`, no `typing:indicator` | `newer_clients_are_told_of_no_presence_and_no_typing` |
//! | newer: `message` is `message:send` | `a_message_in_either_dialect_is_held_to_the_same_rules` |
//! | newer: `replyTo` is passed on | `both_dialects_meet_in_the_room_each_in_its_own_words`, `an_answer_names_what_it_answers_or_nothing` |
//! | newer: `auth` without a secret: the token's name | `without_a_secret_the_name_in_a_token_is_taken_as_it_stands` |
//! | newer: what is unreadable keeps the made-up name | `without_a_secret_what_cannot_be_read_keeps_the_name_and_is_acknowledged` |
//! | newer: sanitised, trimmed, cut like any name | `the_name_in_a_token_is_made_fit_like_any` |
//! | newer: `auth` with a secret: a token that it signed | `with_a_secret_a_token_that_it_signed_gives_the_name`, `a_token_is_as_good_as_the_time_of_day_says` |
//! | newer: a bad token: `UNAUTHORIZED`, no `auth:ack` | `with_a_secret_a_bad_token_is_unauthorized_and_changes_nothing` |
//! | newer: a token is bounded | `a_token_has_8_kib_at_the_most` |
//! | newer: `auth` is repeated until it is acknowledged | `auth_again_with_the_same_name_is_acknowledged_and_changes_nothing` |
//! | newer: a new name: one user goes, another comes | `auth_with_another_name_is_one_user_going_and_another_coming`, `a_connection_becomes_one_of_the_user_whose_name_it_gets` |
//! | newer: a name with 3 connections: `TOO_MANY_CONNECTIONS` | `a_name_that_has_three_connections_is_full` |
//! | newer: limits belong to the name | `limits_are_those_of_the_name_that_a_connection_has` |
//! | newer: nor is there an end of limits by new names | `nobody_changes_its_name_more_than_five_times_a_minute` |
//! | newer: the old user stops typing | `who_becomes_another_user_while_typing_stops_typing` |
//! | newer: `userCount` on each change | `user_count_goes_on_each_change_to_newer_clients_only` |
//! | newer: and at the beginning | `who_begins_to_speak_the_newer_dialect_is_told_who_is_there` |
//! | newer: changes within a second are gathered | `changes_of_the_count_within_a_second_are_gathered` |
//! | newer: `users` is bounded | `a_count_names_200_users_and_counts_all` |
//! | newer: idle is what it is told itself | `what_a_connection_is_not_told_does_not_keep_it_from_being_idle` |
//! | newer: nothing is kept of old names | `of_who_changed_its_name_nothing_is_kept` |

use crate::protocols::workspace::identity::USERNAME_ALPHABET;
use crate::protocols::workspace::*;
use crate::testing::harness::{RealmHarness, no_lines};
use crate::toolkit::jwt::signed;
use proptest::prelude::*;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn harness() -> RealmHarness<Workspace> {
    RealmHarness::new(json!({}))
}

/// A desk with these users, connections 1 and so on.
fn room(names: &[&str]) -> RealmHarness<Workspace> {
    let mut harness = harness();
    for (at, name) in names.iter().enumerate() {
        harness.opens(at as u64 + 1, &format!("/ws?username={name}"));
    }
    harness
}

/// Takes a line to one connection apart.
fn to(conn: u64, line: &str) -> Value {
    let json = line
        .strip_prefix(&format!("{conn} < "))
        .unwrap_or_else(|| panic!("not to {conn}: {line}"));
    serde_json::from_str(json).unwrap()
}

/// The `connected` that somebody gets on coming in.
fn enters(harness: &mut RealmHarness<Workspace>, conn: u64, name: &str) -> Value {
    to(
        conn,
        &harness.opens(conn, &format!("/ws?username={name}"))[0],
    )
}

/// The error that somebody gets for a message, and nobody else gets anything.
fn error(harness: &mut RealmHarness<Workspace>, conn: u64, text: &str) -> Value {
    let lines = harness.says(conn, text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let error = to(conn, &lines[0]);
    assert_eq!(error["type"], "error");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert_eq!(error["timestamp"], "2026-01-16T10:00:00.000Z");
    error
}

/// The code of the error that 1 gets, at whatever time.
fn error_code(harness: &mut RealmHarness<Workspace>, text: &str) -> Value {
    to(1, &harness.says(1, text)[0])["code"].clone()
}

fn presence(conn: u64, id: u64, name: &str, status: &str) -> String {
    let data = json!({"userId": user_id(id), "username": name, "status": status});
    line(conn, "presence:update", data)
}

fn typing(conn: u64, id: u64, name: &str, is_typing: bool) -> String {
    let data = json!({"userId": user_id(id), "username": name, "isTyping": is_typing});
    line(conn, "typing:indicator", data)
}

/// The id of the nth user who came at the desk's first moment.
fn user_id(nth: u64) -> String {
    format!("ws_user_{}", 1_768_557_600_000 + nth - 1)
}

/// A line with its fields in the order in which they are sent.
fn line(conn: u64, kind: &str, data: Value) -> String {
    let state = if kind == "presence:update" {
        "status"
    } else {
        "isTyping"
    };
    let (id, name, state_value) = (&data["userId"], &data["username"], &data[state]);
    format!(
        r#"{conn} < {{"type":"{kind}","data":{{"userId":{id},"username":{name},"{state}":{state_value}}}}}"#
    )
}

const SEND: &str = r#"{"type":"message:send","text":"Hello everyone!"}"#;
const AWAY: &str = r#"{"type":"presence:update","status":"away"}"#;
const TYPES: &str = r#"{"type":"typing:indicator","isTyping":true}"#;
const RESTS: &str = r#"{"type":"typing:indicator","isTyping":false}"#;

#[test]
fn connected_comes_first_and_has_the_documents_fields() {
    let lines = harness().opens(1, "/ws?username=john_doe");
    assert_eq!(
        lines,
        [
            r#"1 < {"type":"connected","userId":"ws_user_1768557600000","username":"john_doe","timestamp":"2026-01-16T10:00:00.000Z","connectedUsers":1}"#
        ]
    );
}

#[test]
fn connected_users_counts_users_and_not_connections() {
    let mut harness = room(&["a", "b", "b"]);
    assert_eq!(enters(&mut harness, 4, "c")["connectedUsers"], 3);
    assert_eq!(enters(&mut harness, 5, "A")["connectedUsers"], 3);
}

#[test]
fn user_ids_are_unique_and_increasing_even_within_a_millisecond() {
    let mut harness = harness();
    assert_eq!(
        enters(&mut harness, 1, "a")["userId"],
        "ws_user_1768557600000"
    );
    assert_eq!(
        enters(&mut harness, 2, "b")["userId"],
        "ws_user_1768557600001"
    );
    harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(
        enters(&mut harness, 3, "b")["userId"],
        "ws_user_1768557600002"
    );
    harness.waits(MINUTE);
    assert_eq!(
        enters(&mut harness, 4, "c")["userId"],
        "ws_user_1768557660000"
    );
}

#[test]
fn a_user_has_one_id_and_one_name_on_all_its_connections() {
    let mut harness = harness();
    let first = enters(&mut harness, 1, "Ann");
    let second = enters(&mut harness, 2, "ANN");
    assert_eq!(
        (&first["userId"], &first["username"]),
        (&second["userId"], &second["username"])
    );
}

#[test]
fn a_username_is_decoded_sanitised_trimmed_and_cut() {
    for (given, name) in [
        ("john+doe", "john doe"),
        ("J%C3%BCrgen%20%26%20Co", "Jürgen & Co"),
        ("%3Cb%3Ebold%3C%2Fb%3E", "bold"),
        ("++spaces++", "spaces"),
        (&"ü".repeat(70), &"ü".repeat(64)),
        (&format!("{}+x", "y".repeat(63)), &"y".repeat(63)),
        ("a%07b", "ab"),
    ] {
        assert_eq!(
            enters(&mut harness(), 1, given)["username"],
            name,
            "{given}"
        );
    }
}

#[test]
fn who_gives_no_name_is_a_user_of_its_own() {
    let mut harness = harness();
    let mut names = Vec::new();
    for (conn, target) in [
        "/ws",
        "/ws?username=",
        "/ws?username=+",
        "/ws?username=%3Cb%3E",
    ]
    .iter()
    .enumerate()
    {
        let conn = conn as u64 + 1;
        let connected = to(conn, &harness.opens(conn, target)[0]);
        assert_eq!(connected["connectedUsers"], conn);
        let name = connected["username"].as_str().unwrap().to_owned();
        let letters = name.strip_prefix("User_").unwrap();
        assert!(
            letters.len() == 6
                && letters
                    .bytes()
                    .all(|letter| USERNAME_ALPHABET.contains(&letter))
        );
        assert!(!names.contains(&name));
        names.push(name);
    }
}

#[test]
fn a_made_up_name_that_is_taken_is_not_used() {
    let mut harness = harness();
    harness.opens(1, "/ws");
    harness.repeat_the_last_id();
    assert_eq!(to(2, &harness.opens(2, "/ws")[0])["connectedUsers"], 2);
}

#[test]
fn a_fourth_connection_of_a_user_is_refused_in_the_handshake() {
    let mut harness = room(&["ann", "Ann", "ANN"]);
    let refusal = harness
        .tries_to_open(4, "/ws?username=aNN", "127.0.0.1")
        .unwrap_err();
    assert_eq!(refusal.status, 429);
    harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(enters(&mut harness, 4, "ann")["connectedUsers"], 1);
}

#[test]
fn without_a_limit_a_user_may_have_any_number_of_connections() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"max_connections_per_user": 0}));
    for conn in 1..100 {
        enters(&mut harness, conn, "ann");
    }
}

#[test]
fn a_message_goes_to_everybody_the_sender_included() {
    let mut harness = room(&["john_doe", "b", "b"]);
    let lines = harness.says(1, SEND);
    let message = r#"{"type":"message:new","data":{"id":"msg_1768557600000","userId":"ws_user_1768557600000","username":"john_doe","text":"Hello everyone!","createdAt":"2026-01-16T10:00:00.000Z"}}"#;
    assert_eq!(lines, [1, 2, 3].map(|conn| format!("{conn} < {message}")));
}

#[test]
fn message_ids_are_unique_and_increasing() {
    let mut harness = room(&["a"]);
    let id = |harness: &mut RealmHarness<Workspace>| {
        to(1, &harness.says(1, SEND)[0])["data"]["id"].clone()
    };
    assert_eq!(id(&mut harness), "msg_1768557600000");
    assert_eq!(id(&mut harness), "msg_1768557600001");
    harness.waits(Duration::from_secs(1));
    assert_eq!(id(&mut harness), "msg_1768557601000");
}

#[test]
fn message_content_is_sanitised() {
    let mut harness = room(&["a"]);
    let lines = harness.says(
        1,
        r#"{"type":"message:send","text":"<scr<script>ipt>1 < 2 \u0007<b>"}"#,
    );
    assert_eq!(to(1, &lines[0])["data"]["text"], "ipt>1 < 2 ");
}

#[test]
fn a_presence_update_goes_to_all_other_users() {
    let mut harness = room(&["a", "b", "a", "c"]);
    for status in ["online", "away", "busy", "offline"] {
        let lines = harness.says(
            1,
            &format!(r#"{{"type":"presence:update","status":"{status}"}}"#),
        );
        assert_eq!(
            lines,
            [presence(2, 1, "a", status), presence(4, 1, "a", status)]
        );
    }
}

#[test]
fn the_others_hear_when_a_user_comes_with_its_first_connection() {
    let mut harness = room(&["a"]);
    assert_eq!(
        harness.opens(2, "/ws?username=b")[1..],
        [presence(1, 2, "b", "online")]
    );
    assert_eq!(harness.opens(3, "/ws?username=b")[1..], no_lines());
}

#[test]
fn the_others_hear_when_a_user_goes_with_its_last_connection() {
    for how in [
        DisconnectReason::Left(Some(1001)),
        DisconnectReason::Lost,
        DisconnectReason::Silent,
        DisconnectReason::Closed(CloseReason::TooSlow),
    ] {
        let mut harness = room(&["a", "b", "b"]);
        assert_eq!(harness.leaves(2, how), no_lines());
        assert_eq!(harness.leaves(3, how), [presence(1, 2, "b", "offline")]);
    }
}

#[test]
fn typing_goes_to_all_other_users_and_only_when_it_changes() {
    let mut harness = room(&["a", "b", "a"]);
    assert_eq!(harness.says(1, TYPES), [typing(2, 1, "a", true)]);
    assert_eq!(harness.says(1, TYPES), no_lines());
    assert_eq!(harness.says(1, RESTS), [typing(2, 1, "a", false)]);
    assert_eq!(harness.says(1, RESTS), no_lines());
}

#[test]
fn a_user_types_as_long_as_one_of_its_connections_does() {
    let mut harness = room(&["a", "b", "a"]);
    assert_eq!(harness.says(1, TYPES), [typing(2, 1, "a", true)]);
    assert_eq!(harness.says(3, TYPES), no_lines());
    assert_eq!(harness.says(1, RESTS), no_lines());
    assert_eq!(harness.says(3, RESTS), [typing(2, 1, "a", false)]);
}

#[test]
fn a_user_who_leaves_while_typing_stops_typing() {
    let mut harness = room(&["a", "b"]);
    harness.says(2, TYPES);
    let lines = harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(
        lines,
        [typing(1, 2, "b", false), presence(1, 2, "b", "offline")]
    );
    let mut harness = room(&["a", "b", "b"]);
    harness.says(2, TYPES);
    assert_eq!(
        harness.leaves(2, DisconnectReason::Lost),
        [typing(1, 2, "b", false)]
    );
}

#[test]
fn what_is_no_json_is_answered_and_nobody_else_hears_of_it() {
    let mut harness = room(&["a", "b"]);
    for text in [
        "",
        "hello",
        "{",
        r#"{"type":"message:send","text":"\ud800"#,
        "{} {}",
    ] {
        assert_eq!(
            error(&mut harness, 1, text)["code"],
            "INVALID_JSON",
            "{text}"
        );
    }
}

#[test]
fn an_unknown_type_is_answered() {
    let mut harness = room(&["a", "b"]);
    for text in [
        r#"{"type":"message:new"}"#,
        r#"{"type":""}"#,
        r#"{"type":"MESSAGE:SEND","text":"x"}"#,
    ] {
        assert_eq!(
            error(&mut harness, 1, text)["code"],
            "UNKNOWN_TYPE",
            "{text}"
        );
    }
}

#[test]
fn a_message_that_makes_no_sense_is_answered() {
    let mut harness = room(&["a", "b"]);
    for text in [
        "[]",
        r#"["message:send","hi",null,true]"#,
        r#"  ["message:send","hi",null,true]"#,
        r#""message:send""#,
        "7",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"message:send"}"#,
        r#"{"type":"message:send","text":null}"#,
        r#"{"type":"message:send","text":["x"]}"#,
        r#"{"type":"message:send","text":""}"#,
        r#"{"type":"message:send","text":" \n "}"#,
        r#"{"type":"message:send","text":"<b></b>"}"#,
        r#"{"type":"message:send","text":"\ud800"}"#,
        r#"{"type":"message:send","text":"a","text":"b"}"#,
        r#"{"type":"presence:update","status":"asleep"}"#,
        r#"{"type":"presence:update"}"#,
        r#"{"type":"typing:indicator","isTyping":"yes"}"#,
        r#"{"type":"typing:indicator"}"#,
    ] {
        assert_eq!(
            error(&mut harness, 1, text)["code"],
            "INVALID_MESSAGE",
            "{text}"
        );
    }
    let lines = harness.sends(1, Message::Binary(SEND.as_bytes().to_vec().into()));
    assert_eq!(to(1, &lines[0])["code"], "INVALID_MESSAGE");
}

#[test]
fn unknown_fields_are_ignored() {
    let mut harness = room(&["a"]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"extra":{deep},"type":"message:send","text":"x","status":5}}"#);
    assert_eq!(to(1, &harness.says(1, &text)[0])["type"], "message:new");
}

#[test]
fn a_user_may_send_100_messages_a_minute_over_all_its_connections() {
    let mut harness = room(&["a", "A"]);
    for sent in 0..100 {
        assert_eq!(harness.says(1 + sent % 2, SEND).len(), 2);
    }
    let refused = error(&mut harness, 1, SEND);
    assert_eq!(
        (&refused["code"], &refused["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(60_000))
    );
    assert_eq!(
        harness.says(2, AWAY),
        no_lines(),
        "signals have a limit of their own"
    );
    harness.waits(MINUTE);
    assert_eq!(harness.says(2, SEND).len(), 2);
}

#[test]
fn signals_have_a_limit_of_their_own_three_times_that() {
    let mut harness = room(&["a"]);
    for _ in 0..150 {
        assert_eq!(harness.says(1, AWAY), no_lines());
        assert_eq!(harness.says(1, TYPES), no_lines());
    }
    assert_eq!(error(&mut harness, 1, AWAY)["code"], "RATE_LIMITED");
    assert_eq!(error(&mut harness, 1, RESTS)["code"], "RATE_LIMITED");
    assert_eq!(harness.says(1, SEND).len(), 1);
}

#[test]
fn only_what_passed_validation_counts() {
    let mut harness = room(&["a"]);
    for _ in 0..200 {
        error(&mut harness, 1, r#"{"type":"message:send","text":""}"#);
    }
    assert_eq!(to(1, &harness.says(1, SEND)[0])["type"], "message:new");
}

#[test]
fn going_and_coming_back_does_not_lift_a_limit() {
    let mut harness = room(&["a", "b"]);
    for _ in 0..100 {
        harness.says(1, SEND);
    }
    harness.leaves(1, DisconnectReason::Left(None));
    harness.opens(3, "/ws?username=A");
    assert_eq!(error(&mut harness, 3, SEND)["code"], "RATE_LIMITED");
    harness.leaves(3, DisconnectReason::Lost);
    harness.waits(MINUTE);
    harness.opens(4, "/ws?username=a");
    assert_eq!(harness.says(4, SEND).len(), 2);
}

#[test]
fn those_who_are_gone_are_not_remembered_for_ever() {
    let mut harness = harness();
    for conn in 0..1000 {
        harness.opens(conn, &format!("/ws?username=u{conn}"));
        harness.says(conn, SEND);
        harness.leaves(conn, DisconnectReason::Lost);
    }
    harness.waits(MINUTE);
    let Workspace {
        members,
        users,
        recently_gone,
        ..
    } = &harness.realm;
    assert!(members.is_empty() && users.is_empty());
    assert!(recently_gone.is_empty());
}

#[test]
fn a_connection_is_closed_after_five_minutes_without_a_message_in_either_direction() {
    let mut harness = room(&["a", "b"]);
    harness.waits(2 * MINUTE);
    harness.says(1, AWAY);
    harness.waits(3 * MINUTE);
    assert_eq!(
        harness.waits(2 * MINUTE - Duration::from_millis(1)),
        no_lines()
    );
    let lines = harness.waits(Duration::from_millis(1));
    assert_eq!(lines, ["1 x 4408 timed out", "2 x 4408 timed out"]);
    assert!(harness.realm.members.is_empty() && harness.realm.users.is_empty());
}

#[test]
fn those_who_are_not_idle_hear_of_those_who_are() {
    let mut harness = room(&["a"]);
    harness.waits(MINUTE);
    harness.opens(2, "/ws?username=b");
    harness.waits(4 * MINUTE);
    harness.opens(3, "/ws?username=c");
    assert_eq!(harness.waits(4 * MINUTE), no_lines());
    // The others have heard nothing since the newcomer came.
    harness.says(3, "nonsense");
    let lines = harness.waits(MINUTE);
    let [a, b] = [(1, "a"), (60_001, "b")].map(|(id, name)| presence(3, id, name, "offline"));
    assert_eq!(lines, ["1 x 4408 timed out", &a, "2 x 4408 timed out", &b]);
}

#[test]
fn even_a_message_that_is_wrong_is_one() {
    let mut harness = room(&["a"]);
    harness.waits(4 * MINUTE);
    harness.says(1, "nonsense");
    assert_eq!(harness.waits(4 * MINUTE), no_lines());
}

#[test]
fn without_a_limit_nobody_is_idle() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"idle_timeout": 0}));
    harness.opens(1, "/ws");
    assert_eq!(harness.waits(1000 * MINUTE), no_lines());
}

#[test]
fn it_serves_one_path() {
    assert!(Workspace::matches_path("/ws"));
    for path in ["/", "/ws/", "/ws/chat", "/WS"] {
        assert!(!Workspace::matches_path(path), "{path}");
    }
}

/// The newer client's messages.
const MESSAGE: &str = r#"{"type":"message","text":"Hello everyone!"}"#;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn auth(token: &str) -> String {
    json!({"type": "auth", "token": token}).to_string()
}

/// An `auth` whose token has this name in it, and a signature of a secret of its own.
fn auth_as(name: &str) -> String {
    let payload = json!({ "username": name }).to_string();
    auth(&signed(HS256, &payload, b"some secret"))
}

fn acknowledged(conn: u64) -> String {
    format!(r#"{conn} < {{"type":"auth:ack","ok":true}}"#)
}

fn user_count(conn: u64, names: &[&str]) -> String {
    let (count, names) = (names.len(), json!(names));
    format!(r#"{conn} < {{"type":"userCount","count":{count},"users":{names}}}"#)
}

/// What becomes of a first message, and of what is said after it: the code, or the type.
fn answers(texts: &[&str]) -> Vec<String> {
    let mut harness = room(&["a"]);
    let mut answer = |text: &&str| {
        let lines = harness.says(1, text);
        let message = to(1, &lines[0]);
        let said = message.get("code").unwrap_or(&message["type"]);
        said.as_str().unwrap().to_owned()
    };
    texts.iter().map(&mut answer).collect()
}

/// A desk at which 1, 2 and so on have these names by `auth`, and all has become quiet.
fn chat(names: &[&str]) -> RealmHarness<Workspace> {
    let mut harness = harness();
    for (at, name) in names.iter().enumerate() {
        joins(&mut harness, at as u64 + 1, name);
    }
    settles(&mut harness);
    harness
}

/// All changes are told, and the next will be told at once.
fn settles(harness: &mut RealmHarness<Workspace>) {
    harness.waits(USER_COUNT_INTERVAL);
    harness.waits(USER_COUNT_INTERVAL);
}

/// A newer client comes, without a name, and gets one. What happens at its `auth`.
fn joins(harness: &mut RealmHarness<Workspace>, conn: u64, name: &str) -> Vec<String> {
    harness.opens(conn, "/ws");
    harness.says(conn, &auth_as(name))
}

/// The name that a newer client's messages come from.
fn name_of(harness: &mut RealmHarness<Workspace>, conn: u64) -> String {
    let lines = harness.says(conn, MESSAGE);
    let mine = lines
        .iter()
        .find(|line| line.starts_with(&format!("{conn} < ")));
    let message = to(conn, mine.unwrap());
    assert_eq!(message["type"], "message:new");
    message["data"]["username"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_message_decides_the_dialect_for_the_connections_life() {
    for newer in [MESSAGE.to_owned(), auth_as("b")] {
        let said = answers(&[&newer, SEND, AWAY, TYPES, MESSAGE]);
        let unknown = "UNKNOWN_TYPE";
        assert_eq!(said[1..], [unknown, unknown, unknown, "message:new"]);
    }
    for documents in [SEND, AWAY, TYPES] {
        let mut harness = room(&["a"]);
        harness.says(1, documents);
        for newer in [MESSAGE.to_owned(), auth_as("b")] {
            assert_eq!(error(&mut harness, 1, &newer)["code"], "UNKNOWN_TYPE");
        }
        assert_eq!(to(1, &harness.says(1, SEND)[0])["type"], "message:new");
    }
}

#[test]
fn a_malformed_first_message_has_the_dialect_of_its_type() {
    for newer in [
        r#"{"type":"message"}"#,
        r#"{"type":"message","text":""}"#,
        r#"{"type":"message","text":"a","text":"b"}"#,
        r#"{"type":"auth","token":7}"#,
    ] {
        let said = answers(&[newer, SEND, MESSAGE]);
        assert_eq!(said, ["INVALID_MESSAGE", "UNKNOWN_TYPE", "message:new"]);
    }
    for documents in [
        r#"{"type":"message:send"}"#,
        r#"{"type":"presence:update","status":"asleep"}"#,
        r#"{"type":"typing:indicator","isTyping":7,"isTyping":8}"#,
    ] {
        let said = answers(&[documents, MESSAGE, SEND]);
        assert_eq!(said, ["INVALID_MESSAGE", "UNKNOWN_TYPE", "message:new"]);
    }
}

#[test]
fn what_is_a_message_of_neither_dialect_decides_nothing() {
    for (neither, code) in [
        ("nonsense", "INVALID_JSON"),
        (r#"{"type":"message""#, "INVALID_JSON"),
        (r#"["message"]"#, "INVALID_MESSAGE"),
        (r#"{"type":7,"text":"x"}"#, "INVALID_MESSAGE"),
        (r#"{"type":"message","type":"message"}"#, "INVALID_MESSAGE"),
        (r#"{"type":"Message","text":"x"}"#, "UNKNOWN_TYPE"),
    ] {
        let new = "message:new";
        assert_eq!(
            answers(&[neither, MESSAGE, SEND]),
            [code, new, "UNKNOWN_TYPE"]
        );
        assert_eq!(
            answers(&[neither, SEND, MESSAGE]),
            [code, new, "UNKNOWN_TYPE"]
        );
    }
    let mut harness = room(&["a"]);
    let binary = Message::Binary(MESSAGE.as_bytes().to_vec().into());
    assert_eq!(
        to(1, &harness.sends(1, binary)[0])["code"],
        "INVALID_MESSAGE"
    );
    assert_eq!(harness.says(1, SEND).len(), 1);
}

#[test]
fn who_has_not_spoken_is_spoken_to_as_the_document_says() {
    let mut harness = room(&["a", "b"]);
    assert_eq!(harness.says(1, AWAY), [presence(2, 1, "a", "away")]);
    harness.says(2, "nonsense");
    assert_eq!(harness.says(1, TYPES), [typing(2, 1, "a", true)]);
    assert_eq!(harness.opens(3, "/ws?username=c").len(), 3);
}

#[test]
fn both_dialects_meet_in_the_room_each_in_its_own_words() {
    let mut harness = room(&["old", "new"]);
    harness.says(1, SEND);
    settles(&mut harness);
    let message = r#"{"type":"message","text":"<b>Hi</b>","replyTo":"msg_1768557600000"}"#;
    let new = |conn, reply: &str| {
        format!(
            r#"{conn} < {{"type":"message:new","data":{{"id":"msg_1768557602000","userId":"ws_user_1768557600001","username":"new","text":"Hi","createdAt":"2026-01-16T10:00:02.000Z"{reply}}}}}"#
        )
    };
    assert_eq!(
        harness.says(2, message),
        [
            new(1, ""),
            new(2, r#","replyTo":"msg_1768557600000""#),
            user_count(2, &["new", "old"]),
        ]
    );
    let lines = harness.says(1, r#"{"type":"message:send","text":"Hi","replyTo":"x"}"#);
    let [old, new] = [1, 2].map(|conn| to(conn, &lines[conn as usize - 1]));
    assert_eq!(old, new, "the document has no replyTo");
    assert!(old["data"]["text"] == "Hi" && old["data"].get("replyTo").is_none());
    let lines = harness.leaves(1, DisconnectReason::Lost);
    assert_eq!(lines, [user_count(2, &["new"])]);
}

#[test]
fn newer_clients_are_told_of_no_presence_and_no_typing() {
    let mut harness = room(&["old"]);
    joins(&mut harness, 2, "new");
    settles(&mut harness);
    for signal in [AWAY, TYPES, RESTS] {
        assert_eq!(harness.says(1, signal), no_lines());
    }
    harness.opens(3, "/ws?username=other");
    assert_eq!(harness.says(1, TYPES), [typing(3, 1, "old", true)]);
}

#[test]
fn an_answer_names_what_it_answers_or_nothing() {
    let mut harness = room(&["a"]);
    harness.says(1, MESSAGE);
    let longest = "x".repeat(64);
    for (given, passed_on) in [
        (json!("msg_1"), Some("msg_1")),
        (json!(longest), Some(&*longest)),
        (json!(null), None),
        (json!(""), None),
    ] {
        let message = json!({"type": "message", "text": "x", "replyTo": given}).to_string();
        let data = &to(1, &harness.says(1, &message)[0])["data"];
        assert_eq!(data.get("replyTo").and_then(Value::as_str), passed_on);
    }
    for given in [
        json!(7),
        json!({"id": "x"}),
        json!("<b>"),
        json!("x".repeat(65)),
    ] {
        let message = json!({"type": "message", "text": "x", "replyTo": given}).to_string();
        assert_eq!(error(&mut harness, 1, &message)["code"], "INVALID_MESSAGE");
    }
}

#[test]
fn a_message_in_either_dialect_is_held_to_the_same_rules() {
    let mut harness = room(&["a", "a"]);
    harness.says(2, MESSAGE);
    for text in [
        r#"{"type":"message","text":" <b> "}"#,
        r#"{"type":"message","text":7}"#,
    ] {
        assert_eq!(error(&mut harness, 2, text)["code"], "INVALID_MESSAGE");
    }
    for sent in 1..100 {
        let (conn, text) = if sent % 2 == 0 {
            (1, SEND)
        } else {
            (2, MESSAGE)
        };
        assert_eq!(harness.says(conn, text).len(), 2);
    }
    assert_eq!(error(&mut harness, 2, MESSAGE)["code"], "RATE_LIMITED");
    assert_eq!(error(&mut harness, 1, SEND)["retryAfterMs"], 60_000);
}

#[test]
fn without_a_secret_the_name_in_a_token_is_taken_as_it_stands() {
    let expired = signed(HS256, r#"{"username":"ann","exp":1}"#, b"whoever");
    let unsigned = signed(r#"{"alg":"none"}"#, r#"{"username":"ann"}"#, b"");
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    for token in [expired, unsigned] {
        let mut harness = harness();
        harness.opens(1, "/ws");
        let lines = harness.says(1, &auth(&token));
        assert_eq!(lines, [acknowledged(1), user_count(1, &["ann"])]);
        assert_eq!(name_of(&mut harness, 1), "ann");
    }
}

#[test]
fn without_a_secret_what_cannot_be_read_keeps_the_name_and_is_acknowledged() {
    let mut harness = harness();
    let connected = to(1, &harness.opens(1, "/ws")[0]);
    let name = connected["username"].as_str().unwrap();
    let lines = harness.says(1, r#"{"type":"auth"}"#);
    assert_eq!(lines, [acknowledged(1), user_count(1, &[name])]);
    for text in [
        r#"{"type":"auth","token":null}"#.to_owned(),
        auth(""),
        auth("not a token"),
        auth("a.b.c"),
        auth(&signed(HS256, r#"{"sub":"ann"}"#, b"x")),
        auth(&signed(HS256, r#"{"username":7}"#, b"x")),
        auth_as(" <b> "),
    ] {
        assert_eq!(harness.says(1, &text), [acknowledged(1)], "{text}");
    }
    assert_eq!(name_of(&mut harness, 1), name);
    harness.opens(2, "/ws?username=bob");
    harness.says(2, &auth("not a token"));
    assert_eq!(name_of(&mut harness, 2), "bob");
}

#[test]
fn the_name_in_a_token_is_made_fit_like_any() {
    for (given, name) in [
        ("  <b>ann</b>\u{7} ", "ann"),
        (&"ü".repeat(70), &"ü".repeat(64)),
        (&format!("{} x", "y".repeat(63)), &"y".repeat(63)),
    ] {
        assert_eq!(name_of(&mut chat(&[given]), 1), name);
    }
}

#[test]
fn a_token_has_8_kib_at_the_most() {
    let mut harness = chat(&["ann"]);
    assert_eq!(harness.says(1, &auth(&"x".repeat(8192))), [acknowledged(1)]);
    let long = auth(&"x".repeat(8193));
    assert_eq!(error_code(&mut harness, &long), "INVALID_MESSAGE");
}

/// A desk with a secret, and a newer client that has spoken but said no name.
fn guarded() -> RealmHarness<Workspace> {
    let mut harness = RealmHarness::new(json!({"auth_secret": "hush"}));
    harness.opens(1, "/ws?username=ann");
    harness.says(1, MESSAGE);
    harness
}

#[test]
fn with_a_secret_a_token_that_it_signed_gives_the_name() {
    let mut harness = guarded();
    let now = 1_768_557_600;
    let payload = json!({"username": "bob", "nbf": now, "exp": now + 60}).to_string();
    let bob = auth(&signed(HS256, &payload, b"hush"));
    assert_eq!(harness.says(1, &bob), [acknowledged(1)]);
    assert_eq!(
        harness.waits(USER_COUNT_INTERVAL),
        [user_count(1, &["bob"])]
    );
    assert_eq!(name_of(&mut harness, 1), "bob");
}

#[test]
fn with_a_secret_a_bad_token_is_unauthorized_and_changes_nothing() {
    let mut harness = guarded();
    let bob = r#"{"username":"bob"}"#;
    let good = signed(HS256, bob, b"hush");
    let [header, _, signature] =
        <[&str; 3]>::try_from(good.split('.').collect::<Vec<_>>()).unwrap();
    let claims = |claims: &str| signed(HS256, claims, b"hush");
    let other = claims(r#"{"username":"eve"}"#);
    let eve = other.split('.').nth(1).unwrap();
    for (what, token) in [
        ("no token", String::new()),
        ("garbage", "garbage".to_owned()),
        ("another secret", signed(HS256, bob, b"hush hush")),
        ("a changed payload", format!("{header}.{eve}.{signature}")),
        ("no signature", format!("{header}.{eve}.")),
        (
            "another algorithm",
            signed(r#"{"alg":"HS512"}"#, bob, b"hush"),
        ),
        ("no algorithm", signed(r#"{"alg":"none"}"#, bob, b"hush")),
        ("expired", claims(r#"{"username":"bob","exp":1768557600}"#)),
        (
            "not yet valid",
            claims(r#"{"username":"bob","nbf":1768557601}"#),
        ),
        ("no username", claims(r#"{"sub":"bob"}"#)),
        ("an empty username", claims(r#"{"username":"<b>"}"#)),
        ("no text for a username", claims(r#"{"username":7}"#)),
    ] {
        let error = error(&mut harness, 1, &auth(&token));
        assert_eq!(error["code"], "UNAUTHORIZED", "{what}");
        assert!(!error.to_string().contains("hush"), "{what}");
    }
    assert_eq!(
        error(&mut harness, 1, r#"{"type":"auth"}"#)["code"],
        "UNAUTHORIZED"
    );
    assert_eq!(harness.waits(USER_COUNT_INTERVAL), no_lines());
    assert_eq!(name_of(&mut harness, 1), "ann");
}

#[test]
fn a_token_is_as_good_as_the_time_of_day_says() {
    let mut harness = guarded();
    let payload = r#"{"username":"bob","nbf":1768557601,"exp":1768557602}"#;
    let bob = auth(&signed(HS256, payload, b"hush"));
    assert_eq!(error(&mut harness, 1, &bob)["code"], "UNAUTHORIZED");
    harness.waits(Duration::from_secs(1));
    assert_eq!(harness.says(1, &bob)[0], acknowledged(1));
    harness.waits(Duration::from_secs(1));
    assert_eq!(to(1, &harness.says(1, &bob)[0])["code"], "UNAUTHORIZED");
    assert_eq!(name_of(&mut harness, 1), "bob");
}

#[test]
fn auth_again_with_the_same_name_is_acknowledged_and_changes_nothing() {
    let mut harness = chat(&["ann", "bob"]);
    for again in ["ann", "ANN", " ann "] {
        for _ in 0..15 {
            assert_eq!(harness.says(1, &auth_as(again)), [acknowledged(1)]);
        }
    }
    assert_eq!(harness.waits(USER_COUNT_INTERVAL), no_lines());
    assert_eq!(name_of(&mut harness, 1), "ann");
}

#[test]
fn auth_with_another_name_is_one_user_going_and_another_coming() {
    let mut harness = room(&["old"]);
    let made_up = to(2, &harness.opens(2, "/ws")[0])["username"].clone();
    let made_up = made_up.as_str().unwrap();
    assert_eq!(
        harness.says(2, &auth_as("ann")),
        [
            presence(1, 2, made_up, "offline"),
            presence(1, 3, "ann", "online"),
            acknowledged(2),
            user_count(2, &["ann", "old"]),
        ]
    );
    settles(&mut harness);
    assert_eq!(
        harness.says(2, &auth_as("bob")),
        [
            presence(1, 3, "ann", "offline"),
            presence(1, 2001, "bob", "online"),
            acknowledged(2),
            user_count(2, &["bob", "old"]),
        ]
    );
    let message = to(2, &harness.says(2, MESSAGE)[1]);
    assert_eq!(message["data"]["userId"], user_id(2001));
}

#[test]
fn a_connection_becomes_one_of_the_user_whose_name_it_gets() {
    let mut harness = room(&["Ann", "bob", "bob"]);
    assert_eq!(
        harness.says(3, &auth_as("ANN")),
        [acknowledged(3), user_count(3, &["Ann", "bob"])]
    );
    let message = &to(3, &harness.says(3, MESSAGE)[2])["data"];
    assert_eq!(
        (&message["userId"], &message["username"]),
        (&json!(user_id(1)), &json!("Ann"))
    );
    harness.says(2, AWAY);
    let lines = harness.leaves(1, DisconnectReason::Lost);
    assert_eq!(lines, no_lines(), "Ann is still there");
    assert_eq!(
        harness.leaves(3, DisconnectReason::Lost),
        [presence(2, 1, "Ann", "offline")]
    );
}

#[test]
fn a_name_that_has_three_connections_is_full() {
    let mut harness = room(&["ann", "Ann", "ANN", "bob"]);
    harness.says(4, MESSAGE);
    let full = error(&mut harness, 4, &auth_as("ann"));
    assert_eq!(full["code"], "TOO_MANY_CONNECTIONS");
    assert_eq!(name_of(&mut harness, 4), "bob");
    harness.says(1, MESSAGE);
    assert_eq!(
        harness.says(1, &auth_as("ann")),
        [acknowledged(1)],
        "it is one of the three"
    );
    harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(
        harness.says(4, &auth_as("ann")).last(),
        Some(&acknowledged(4))
    );
    let mut harness = RealmHarness::<Workspace>::new(json!({"max_connections_per_user": 0}));
    for conn in 1..10 {
        let lines = joins(&mut harness, conn, "ann");
        assert!(lines.contains(&acknowledged(conn)));
    }
}

#[test]
fn limits_are_those_of_the_name_that_a_connection_has() {
    let mut harness = chat(&["ann"]);
    for _ in 0..100 {
        harness.says(1, MESSAGE);
    }
    assert_eq!(error_code(&mut harness, MESSAGE), "RATE_LIMITED");
    harness.says(1, &auth_as("bob"));
    assert_eq!(name_of(&mut harness, 1), "bob");
    harness.says(1, &auth_as("ann"));
    assert_eq!(error_code(&mut harness, MESSAGE), "RATE_LIMITED");
}

#[test]
fn who_becomes_another_user_while_typing_stops_typing() {
    let mut harness = room(&["a", "b"]);
    harness.says(1, TYPES);
    let lines = harness.wants(
        1,
        Incoming {
            dialect: Dialect::Electron,
            message: ClientMessage::Auth(Some(signed(HS256, r#"{"username":"c"}"#, b""))),
        },
    );
    let (a, c) = (
        presence(2, 1, "a", "offline"),
        presence(2, 3, "c", "online"),
    );
    let [acknowledged, count] = [acknowledged(1), user_count(1, &["b", "c"])];
    assert_eq!(lines, [typing(2, 1, "a", false), a, c, acknowledged, count]);
    assert_eq!(
        harness.leaves(1, DisconnectReason::Lost),
        [presence(2, 3, "c", "offline")]
    );
}

#[test]
fn nobody_changes_its_name_more_than_five_times_a_minute() {
    let mut harness = chat(&["0"]);
    for name in ["1", "2", "3", "4"] {
        assert!(harness.says(1, &auth_as(name)).contains(&acknowledged(1)));
    }
    let refused = to(1, &harness.says(1, &auth_as("5"))[0]);
    assert_eq!(
        (&refused["code"], &refused["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(58_000))
    );
    assert_eq!(name_of(&mut harness, 1), "4");
    assert!(
        harness.says(1, &auth_as("4")).contains(&acknowledged(1)),
        "no change"
    );
    harness.waits(MINUTE);
    assert!(harness.says(1, &auth_as("5")).contains(&acknowledged(1)));
}

#[test]
fn user_count_goes_on_each_change_to_newer_clients_only() {
    let mut harness = room(&["old"]);
    assert_eq!(
        joins(&mut harness, 2, "new").last(),
        Some(&user_count(2, &["new", "old"]))
    );
    settles(&mut harness);
    let lines = harness.opens(3, "/ws?username=other");
    assert_eq!(lines.last(), Some(&user_count(2, &["new", "old", "other"])));
    assert_eq!(lines.len(), 3);
    settles(&mut harness);
    assert_eq!(harness.opens(4, "/ws?username=other").len(), 1, "no change");
    harness.leaves(4, DisconnectReason::Lost);
    let other = presence(1, 2001, "other", "offline");
    assert_eq!(
        harness.leaves(3, DisconnectReason::Lost),
        [other, user_count(2, &["new", "old"])]
    );
}

#[test]
fn who_begins_to_speak_the_newer_dialect_is_told_who_is_there() {
    let mut harness = room(&["ann", "bob"]);
    assert_eq!(
        harness.says(1, MESSAGE).last(),
        Some(&user_count(1, &["ann", "bob"]))
    );
    let lines = harness.says(2, r#"{"type":"message"}"#);
    assert_eq!(lines[1..], [user_count(2, &["ann", "bob"])]);
    assert_eq!(harness.says(1, MESSAGE).len(), 2, "once");
}

#[test]
fn changes_of_the_count_within_a_second_are_gathered() {
    let mut harness = chat(&["a"]);
    assert_eq!(
        harness.opens(2, "/ws?username=b")[1..],
        [user_count(1, &["a", "b"])]
    );
    for (conn, name) in [(3, "c"), (4, "d")] {
        let lines = harness.opens(conn, &format!("/ws?username={name}"));
        assert!(!lines.iter().any(|line| line.contains("userCount")));
    }
    harness.leaves(2, DisconnectReason::Lost);
    let early = USER_COUNT_INTERVAL - Duration::from_millis(1);
    assert_eq!(harness.waits(early), no_lines());
    let lines = harness.waits(Duration::from_millis(1));
    assert_eq!(lines, [user_count(1, &["a", "c", "d"])]);
    assert_eq!(harness.waits(USER_COUNT_INTERVAL), no_lines());
}

#[test]
fn a_count_names_200_users_and_counts_all() {
    let mut harness = harness();
    for conn in 0..250 {
        harness.opens(conn, &format!("/ws?username=user{conn:03}"));
    }
    settles(&mut harness);
    let count = to(0, harness.says(0, MESSAGE).last().unwrap());
    assert_eq!(count["count"], 250);
    let users = count["users"].as_array().unwrap();
    assert_eq!(users.len(), 200);
    assert_eq!(
        (&users[0], &users[199]),
        (&json!("user000"), &json!("user199"))
    );
}

#[test]
fn what_a_connection_is_not_told_does_not_keep_it_from_being_idle() {
    let mut harness = room(&["old", "new", "other"]);
    settles(&mut harness);
    harness.says(2, MESSAGE);
    for _ in 0..4 {
        harness.waits(MINUTE);
        harness.says(1, AWAY);
    }
    assert_eq!(harness.waits(MINUTE)[0], "2 x 4408 timed out");
    let mut harness = chat(&["new"]);
    harness.waits(4 * MINUTE);
    harness.opens(2, "/ws?username=other");
    assert_eq!(
        harness.waits(4 * MINUTE),
        no_lines(),
        "userCount is a message"
    );
}

#[test]
fn of_who_changed_its_name_nothing_is_kept() {
    let mut harness = harness();
    for conn in 0..1000 {
        joins(&mut harness, conn, &format!("u{conn}"));
        harness.says(conn, MESSAGE);
        harness.says(conn, &auth_as(&format!("v{conn}")));
        harness.leaves(conn, DisconnectReason::Lost);
    }
    harness.waits(MINUTE);
    assert!(harness.realm.members.is_empty() && harness.realm.users.is_empty());
    assert!(harness.realm.recently_gone.is_empty());
}

#[test]
fn options_out_of_range_are_named() {
    for username_length in [11, 257] {
        let wrong = Options {
            username_length,
            ..Options::default()
        };
        assert!(matches!(Workspace::new(wrong), Err(("username_length", _))));
    }
}

#[test]
fn the_table_of_demands_is_true() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("../../../../tests/workspace.rs"),
    ]);
}

proptest! {
    #[test]
    fn no_text_makes_decoding_panic(text in "\\PC{0,100}") {
        Workspace::decode(&mut Reader::default(), Message::Text(text.into()));
    }

    #[test]
    fn no_json_makes_decoding_panic(
        kind in "(message:send|presence:update|typing:indicator|auth|message|[a-z:]{0,12})",
        field in "(text|status|isTyping|type|token|replyTo|[a-z]{0,5})",
        value in "(true|null|-?[0-9]{1,30}(e[0-9]{1,3})?|\"[a-z<>]{0,9}\"|\\[\\]|\\{\\})",
    ) {
        Workspace::decode(
            &mut Reader::default(),
            Message::Text(format!(r#"{{"type":"{kind}","{field}":{value}}}"#).into()),
        );
    }
}
