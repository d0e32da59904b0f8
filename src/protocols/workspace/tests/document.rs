//! Rules of the document, the rulings and the Electron dialect, each tested on the realm alone.
//!
//! The table names the tests of each rule. Tests that need sockets are in `tests/workspace.rs`, tests of
//! tokens alone in `toolkit/jwt.rs`, and the model with random clients in `model.rs`.
//!
//! | rule | tests |
//! | --- | --- |
//! | path `/ws` | `only_the_path_ws_is_served` |
//! | `connected` first, its fields | `connected_comes_first_and_has_the_documents_fields` |
//! | `connectedUsers` counts users | `connected_users_counts_users_and_not_connections` |
//! | `userId` is unique and increasing | `user_ids_are_unique_and_increasing_even_within_a_millisecond` |
//! | a user is a name, compared without regard to case | `a_user_has_one_id_and_one_name_on_all_its_connections` |
//! | `username` is decoded, sanitized, trimmed, cut | `a_username_is_decoded_sanitized_trimmed_and_cut` |
//! | invisible characters and bidirectional marks are removed from names, and names compared without any | `a_name_is_what_a_reader_sees_of_it`, `invisible_characters_are_removed_from_names`, `joiners_stay_in_names_between_two_visible_characters_only` |
//! | a missing or empty one becomes `User_` and 6 characters | `a_connection_without_a_username_is_a_user_of_its_own`, `a_generated_username_that_is_in_use_is_not_used_again` |
//! | at the fourth, those of the three that have been silent for 5 s are probed (5 s) | `a_fourth_connection_waits_until_those_that_are_silent_are_probed`, `a_user_may_have_any_other_number_of_connections` |
//! | the longest silent of those that give no sign makes place | `the_longest_silent_of_those_that_give_no_sign_makes_place` |
//! | if there is none, HTTP 429 | `a_connection_that_gives_a_sign_keeps_its_place_and_the_newcomer_gets_429`, `a_connection_that_gives_a_sign_after_its_probe_keeps_its_place` |
//! | the wait ends with a free place, or with the client | `a_place_that_becomes_free_ends_the_wait`, `a_client_that_goes_while_it_waits_displaces_nobody` |
//! | several wait in their order, and not without limit | `those_that_wait_get_places_in_the_order_in_which_they_came`, `at_most_as_many_wait_as_the_user_may_have_connections` |
//! | the same over sockets | `a_phone_takes_the_place_of_its_own_dead_connection`, `a_client_that_waits_and_goes_leaves_nothing_behind` |
//! | Electron: the same for `auth` | `auth_with_a_full_name_waits_for_the_silent_ones_too`, `auth_again_while_it_waits_is_one_claim`, `auth_with_a_full_name_whose_connections_all_give_a_sign_is_rejected` |
//! | "Maximum concurrent connections per user: 3", then HTTP 429 | `a_fourth_connection_of_a_user_is_rejected_in_the_handshake`, `without_a_limit_a_user_may_have_any_number_of_connections`, `a_fourth_connection_of_a_user_gets_429` |
//! | `message:new` goes to all, including the sender | `a_message_goes_to_all_connections_including_the_sender` |
//! | message ids are unique and increasing | `message_ids_are_unique_and_increasing` |
//! | "Sanitize message content before broadcasting" | `message_content_is_sanitized` |
//! | `presence:update` goes to all other users | `a_presence_update_goes_to_all_other_users` |
//! | `online` on a user's first connection | `a_users_first_connection_is_announced_as_online` |
//! | `offline` at the end of its last | `the_end_of_a_users_last_connection_is_announced_as_offline` |
//! | `typing:indicator` goes to all other users when it changes | `typing_goes_to_all_other_users_and_only_when_it_changes`, `a_user_is_typing_as_long_as_one_of_its_connections_is` |
//! | a user that disconnects while typing stops typing | `a_user_that_disconnects_while_typing_stops_typing` |
//! | `INVALID_JSON` | `text_that_is_not_json_gets_an_error_and_is_not_broadcast` |
//! | `UNKNOWN_TYPE` | `an_unknown_type_gets_an_error` |
//! | `INVALID_MESSAGE` | `an_invalid_message_gets_an_error`, `a_binary_message_gets_an_error` |
//! | unknown fields are ignored | `unknown_fields_are_ignored` |
//! | "100 messages per minute per user" | `a_user_may_send_100_messages_a_minute_over_all_its_connections` |
//! | three times as many for presence and typing | `presence_and_typing_have_a_limit_of_their_own_of_300_a_minute` |
//! | 1 MiB of text a minute for a username | `a_user_may_send_1_mib_of_text_a_minute_over_all_its_connections`, `the_limit_of_text_is_a_sliding_one`, `a_text_that_is_refused_counts_neither_as_message_nor_as_text` |
//! | a first message may be as large as messages are | `a_first_text_may_be_as_large_as_messages_are` |
//! | large text enters the room one after another, 192 KiB a second | `large_texts_enter_one_after_another_at_192_kib_a_second`, `a_text_of_16_kib_is_not_large`, `without_a_pace_large_texts_enter_at_once` |
//! | its sender is not read meanwhile | `the_sender_of_a_large_text_is_not_read_until_it_has_entered`, `what_a_sender_says_after_its_large_text_comes_after_it` |
//! | which is no idleness | `a_sender_whose_large_text_waits_is_not_idle` |
//! | a sender that goes takes its text with it | `a_large_text_goes_with_its_sender` |
//! | large texts that wait count as memory | `a_large_text_that_waits_is_counted_as_memory_of_its_sender` |
//! | a reader of 2 Mbit/s stays | `an_outbox_holds_outbox_size_and_on_workspace_two_of_the_largest_messages`, `a_reader_of_2_mbit_s_stays_while_others_send_what_they_may` |
//! | 20,000 deliveries a second for announcements, oldest first | `a_room_of_100_hears_200_comings_a_second_oldest_first`, `a_room_of_10_000_hears_two_a_second`, `what_exceeds_the_budget_is_paid_by_the_following_seconds`, `without_a_budget_all_changes_are_announced_at_once` |
//! | a coming and a going that both wait cancel each other | `a_coming_and_a_going_that_both_wait_cancel_each_other`, `a_user_that_returns_before_its_going_was_announced_is_the_same` |
//! | a name that was announced in the last 10 s waits | `a_name_is_announced_once_in_10_s` |
//! | `online` only of who is still there, `offline` only of who was announced | `a_user_that_was_never_announced_goes_in_silence`, `the_model_holds_whatever_clients_do` |
//! | the answer to a handshake never waits, `connectedUsers` is right | `the_answer_to_a_handshake_never_waits` |
//! | what a user says itself is always passed on | `what_a_user_says_itself_is_passed_on_whatever_waits` |
//! | names that wait are bounded and forgotten | `names_that_are_gone_are_bounded`, `nothing_is_kept_of_a_user_a_minute_after_it_disconnected` |
//! | only valid messages count | `only_valid_messages_count_against_the_limit` |
//! | limits outlive a connection | `reconnecting_does_not_reset_a_limit` |
//! | what is remembered of users is little, and counted | `what_is_remembered_of_a_user_is_little_and_counted` |
//! | when memory is short, the users gone longest are forgotten first | `when_memory_is_short_the_users_gone_longest_are_forgotten_first` |
//! | they are kept for a minute | `nothing_is_kept_of_a_user_a_minute_after_it_disconnected` |
//! | "Close idle connections after 5 minutes" | `a_connection_is_closed_after_five_minutes_without_a_message_in_either_direction`, `active_connections_are_told_that_idle_users_went_offline`, `an_invalid_message_counts_as_activity`, `what_only_other_users_are_sent_is_no_activity_of_a_connection`, `without_an_idle_timeout_no_connection_is_closed` |
//! | time in which the server does not read a connection is no idleness of it | `a_connection_that_the_server_does_not_read_is_not_idle` |
//! | "Validate all incoming messages" | `no_text_makes_decoding_panic`, `no_json_makes_decoding_panic` |
//! | the first message decides the dialect | `the_first_message_decides_the_dialect_for_the_connections_life` |
//! | a type of the other dialect: `UNKNOWN_TYPE` | `the_first_message_decides_the_dialect_for_the_connections_life` |
//! | an invalid first message: the dialect of its type | `a_malformed_first_message_has_the_dialect_of_its_type` |
//! | the document's dialect when in doubt | `a_message_of_neither_dialect_does_not_decide_the_dialect`, `a_connection_that_has_sent_no_message_gets_the_documents_messages` |
//! | both dialects share a room | `both_dialects_share_the_room_each_with_its_own_messages` |
//! | the same over sockets | `an_electron_client_joins_chats_and_leaves` |
//! | Electron: no `presence:update`, no `typing:indicator` | `electron_clients_get_no_presence_and_no_typing` |
//! | Electron: `message` is `message:send` | `messages_of_both_dialects_obey_the_same_rules` |
//! | Electron: `replyTo` is passed on | `both_dialects_share_the_room_each_with_its_own_messages`, `a_reply_to_is_passed_on_if_it_is_valid` |
//! | Electron: `auth` without `access`: the token's name | `without_access_the_username_in_a_token_is_not_verified` |
//! | Electron: an unreadable token changes nothing | `without_access_an_unreadable_token_is_acknowledged_and_changes_nothing` |
//! | Electron: it is sanitized, trimmed and cut | `the_username_in_a_token_is_sanitized_trimmed_and_cut` |
//! | Electron: a token has a limit | `a_token_has_at_most_8_kib` |
//! | a token in the request: its `sub`, else `username`, from the start | `a_client_with_a_token_in_its_request_has_the_name_in_it_from_the_start`, `a_token_that_names_no_user_admits_under_the_name_that_was_asked_for` |
//! | a name in a token holds as it stands or not at all | `a_name_in_a_token_that_is_no_username_as_it_stands_is_refused` |
//! | a refused token: `UNAUTHORIZED`, then 4401 | `a_token_in_the_request_that_is_refused_refuses_the_client`, `auth_with_a_token_that_is_refused_closes_a_client_that_is_not_in` |
//! | the same for who is in by a token | `a_refused_token_closes_a_client_that_is_in_by_one` |
//! | but who came in without one stays as it is | `a_refused_token_changes_nothing_for_a_client_that_came_in_without_one` |
//! | an `auth` without a token | `auth_without_a_token_is_answered_with_what_to_send` |
//! | until `auth`, where a token is demanded: `connected` and nothing else | `until_auth_a_client_gets_connected_and_nothing_else`, `until_auth_a_client_can_send_nothing_else`, `auth_with_a_token_lets_a_client_in`, `a_client_that_waits_for_a_place_with_its_token_is_no_member_before` |
//! | 4401 after 30 s | `a_client_that_sends_no_token_in_30_s_is_closed` |
//! | audience, algorithm, length, times with 60 s of leeway | `a_token_for_another_audience_or_of_another_algorithm_is_refused`, `a_token_of_8_kib_is_read_and_a_longer_one_refused`, `a_token_is_valid_from_a_minute_before_nbf_until_a_minute_after_exp` |
//! | a fresh token of the same user moves the end of the connection | `auth_renews_a_token_of_the_same_user`, `a_client_of_the_documents_dialect_renews_its_token_by_auth_too` |
//! | two that disagree: refused | `auth_with_a_token_of_another_user_is_refused_on_a_connection_with_a_token` |
//! | without a token nobody takes a name that a token holder has or had | `without_a_token_nobody_takes_the_name_of_a_token_holder`, `those_who_wait_for_a_place_of_the_name_are_refused_when_a_token_holder_comes`, `names_that_token_holders_had_are_counted_and_go_last` |
//! | a token holder takes over from those without at once (4409), and is never displaced by one | `a_token_holder_takes_over_from_those_without_at_once`, `a_token_in_auth_takes_over_too`, `a_token_holder_is_displaced_only_by_another_and_only_when_silent` |
//! | who becomes another user is told that it has stopped typing | `a_client_that_becomes_a_user_who_is_typing_is_told_that_the_other_stops` |
//! | limits are a token holder's own | `what_others_have_said_under_a_name_does_not_count_for_its_token_holder` |
//! | a reload may stop tokens | `a_stranger_whose_listener_stops_demanding_tokens_comes_in_by_any_auth`, `a_token_holder_whose_listener_stops_reading_tokens_keeps_its_name` |
//! | the same over sockets | `where_tokens_are_demanded_a_client_comes_in_with_one_as_the_user_in_it`, `where_tokens_are_demanded_a_client_with_another_or_two_is_refused`, `a_connection_ends_with_its_token`, `where_tokens_are_read_a_holder_takes_its_name_from_those_without` |
//! | Electron: `auth` is repeated until it is acknowledged | `auth_again_with_the_same_name_is_acknowledged_and_changes_nothing` |
//! | Electron: a new name: one user goes offline, another online | `auth_with_another_name_takes_one_user_offline_and_another_online`, `auth_with_the_name_of_a_connected_user_joins_that_user` |
//! | Electron: a name with 3 connections: `TOO_MANY_CONNECTIONS` | `auth_with_a_name_that_has_three_connections_is_rejected` |
//! | Electron: rate limits belong to the name | `rate_limits_are_those_of_the_connections_current_name` |
//! | Electron: new names do not lift all limits | `a_connection_changes_its_name_at_most_five_times_a_minute` |
//! | Electron: the old user stops typing | `a_user_whose_connection_changes_its_name_while_typing_stops_typing` |
//! | Electron: `userCount` on each change | `user_count_goes_to_electron_clients_only_on_each_change` |
//! | Electron: and after the first message | `the_first_electron_message_of_a_connection_is_answered_with_a_user_count` |
//! | Electron: changes within a second are gathered | `changes_within_a_second_are_gathered_into_one_user_count` |
//! | Electron: `users` is bounded | `a_user_count_lists_200_users_and_counts_all` |
//! | Electron: only messages that it is sent are activity | `a_message_that_a_dialect_does_not_have_is_no_activity` |
//! | Electron: nothing is kept of old names | `nothing_is_kept_of_a_former_username` |
//! | options can change while it runs | `changed_options_hold_and_the_room_stays`, `a_larger_budget_lets_what_waits_be_announced_at_once` |
//! | what an operator is shown | `the_figures_are_the_members_their_users_those_who_have_gone_and_the_refused_messages` |

use crate::protocols::workspace::identity::USERNAME_ALPHABET;
use crate::protocols::workspace::*;
use crate::realm::Message;
use crate::testing::harness::{RealmHarness, no_lines, no_tokens};
use crate::toolkit::jwt::{Secret, sign_parts};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Returns a room in which all comings and goings are announced at once. The tests of announcements are in
/// `announcements.rs`.
pub(super) fn harness() -> RealmHarness<Workspace> {
    RealmHarness::new(json!({"announcement_interval": 0}))
}

/// Returns a room in which connections 1, 2 and so on have these usernames.
pub(super) fn room(names: &[&str]) -> RealmHarness<Workspace> {
    let mut harness = harness();
    for (index, name) in names.iter().enumerate() {
        harness.open(index as u64 + 1, &format!("/ws?username={name}"));
    }
    harness
}

/// Parses a line of the harness that is a message to `conn`.
pub(super) fn to(conn: u64, line: &str) -> Value {
    let json = line
        .strip_prefix(&format!("{conn} < "))
        .unwrap_or_else(|| panic!("not to {conn}: {line}"));
    serde_json::from_str(json).unwrap()
}

/// Opens a connection and returns its `connected`.
pub(super) fn connect(harness: &mut RealmHarness<Workspace>, conn: u64, name: &str) -> Value {
    to(
        conn,
        &harness.open(conn, &format!("/ws?username={name}"))[0],
    )
}

/// Sends an invalid message and returns the error; checks that nothing else is sent to anyone.
pub(super) fn error(harness: &mut RealmHarness<Workspace>, conn: u64, text: &str) -> Value {
    let lines = harness.send(conn, text);
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

/// Returns the code of the error that connection 1 gets, at any time.
pub(super) fn error_code(harness: &mut RealmHarness<Workspace>, text: &str) -> Value {
    to(1, &harness.send(1, text)[0])["code"].clone()
}

pub(super) fn presence(conn: u64, id: u64, name: &str, status: &str) -> String {
    let data = json!({"userId": user_id(id), "username": name, "status": status});
    line(conn, "presence:update", data)
}

pub(super) fn typing(conn: u64, id: u64, name: &str, is_typing: bool) -> String {
    let data = json!({"userId": user_id(id), "username": name, "isTyping": is_typing});
    line(conn, "typing:indicator", data)
}

/// Returns the id of the nth user (from 1) that connected in the first millisecond.
pub(super) fn user_id(nth: u64) -> String {
    format!("ws_user_{}", 1_768_557_600_000 + nth - 1)
}

/// Returns the line of a presence or typing message, with its fields in the order in which they are sent.
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

pub(super) const SEND: &str = r#"{"type":"message:send","text":"Hello everyone!"}"#;
pub(super) const AWAY: &str = r#"{"type":"presence:update","status":"away"}"#;
pub(super) const TYPING: &str = r#"{"type":"typing:indicator","isTyping":true}"#;
pub(super) const NOT_TYPING: &str = r#"{"type":"typing:indicator","isTyping":false}"#;

#[test]
fn connected_comes_first_and_has_the_documents_fields() {
    let lines = harness().open(1, "/ws?username=john_doe");
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
    assert_eq!(connect(&mut harness, 4, "c")["connectedUsers"], 3);
    assert_eq!(connect(&mut harness, 5, "A")["connectedUsers"], 3);
}

#[test]
fn user_ids_are_unique_and_increasing_even_within_a_millisecond() {
    let mut harness = harness();
    assert_eq!(
        connect(&mut harness, 1, "a")["userId"],
        "ws_user_1768557600000"
    );
    assert_eq!(
        connect(&mut harness, 2, "b")["userId"],
        "ws_user_1768557600001"
    );
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        connect(&mut harness, 3, "b")["userId"],
        "ws_user_1768557600002"
    );
    harness.advance(MINUTE);
    assert_eq!(
        connect(&mut harness, 4, "c")["userId"],
        "ws_user_1768557660000"
    );
}

#[test]
fn a_user_has_one_id_and_one_name_on_all_its_connections() {
    let mut harness = harness();
    let first = connect(&mut harness, 1, "Ann");
    let second = connect(&mut harness, 2, "ANN");
    assert_eq!(
        (&first["userId"], &first["username"]),
        (&second["userId"], &second["username"])
    );
}

#[test]
fn a_username_is_decoded_sanitized_trimmed_and_cut() {
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
            connect(&mut harness(), 1, given)["username"],
            name,
            "{given}"
        );
    }
}

#[test]
fn a_name_is_what_a_reader_sees_of_it() {
    let mut harness = harness();
    assert_eq!(
        connect(&mut harness, 1, "%E2%80%AEann%E2%80%8B")["username"],
        "ann"
    );
    assert_eq!(
        connect(&mut harness, 2, "a%C2%ADn%09n")["connectedUsers"],
        1
    );
    // A joiner between two visible characters stays in a name, and makes no other name of it.
    assert_eq!(
        connect(&mut harness, 3, "a%E2%80%8Dnn")["connectedUsers"],
        1
    );
    assert_eq!(
        connect(&mut harness, 4, "x%E2%80%8Dy")["username"],
        "x\u{200d}y"
    );
    assert_eq!(connect(&mut harness, 5, "XY")["username"], "x\u{200d}y");
    for nothing in ["%E2%80%8B", "%EF%B8%8F", "%E3%85%A4"] {
        let connected = connect(&mut self::harness(), 1, nothing);
        assert!(connected["username"].as_str().unwrap().starts_with("User_"));
    }
}

#[test]
fn a_connection_without_a_username_is_a_user_of_its_own() {
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
        let connected = to(conn, &harness.open(conn, target)[0]);
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
fn a_generated_username_that_is_in_use_is_not_used_again() {
    let mut harness = harness();
    harness.open(1, "/ws");
    harness.repeat_last_id();
    assert_eq!(to(2, &harness.open(2, "/ws")[0])["connectedUsers"], 2);
}

#[test]
fn a_fourth_connection_of_a_user_is_rejected_in_the_handshake() {
    let mut harness = room(&["ann", "Ann", "ANN"]);
    let rejection = harness
        .try_open(4, "/ws?username=aNN", "127.0.0.1")
        .unwrap_err();
    assert_eq!(rejection.status, 429);
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(connect(&mut harness, 4, "ann")["connectedUsers"], 1);
}

#[test]
fn without_a_limit_a_user_may_have_any_number_of_connections() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"max_connections_per_user": 0}));
    for conn in 1..100 {
        connect(&mut harness, conn, "ann");
    }
}

#[test]
fn a_message_goes_to_all_connections_including_the_sender() {
    let mut harness = room(&["john_doe", "b", "b"]);
    let lines = harness.send(1, SEND);
    let message = r#"{"type":"message:new","data":{"id":"msg_1768557600000","userId":"ws_user_1768557600000","username":"john_doe","text":"Hello everyone!","createdAt":"2026-01-16T10:00:00.000Z"}}"#;
    assert_eq!(lines, [1, 2, 3].map(|conn| format!("{conn} < {message}")));
}

#[test]
fn message_ids_are_unique_and_increasing() {
    let mut harness = room(&["a"]);
    let id = |harness: &mut RealmHarness<Workspace>| {
        to(1, &harness.send(1, SEND)[0])["data"]["id"].clone()
    };
    assert_eq!(id(&mut harness), "msg_1768557600000");
    assert_eq!(id(&mut harness), "msg_1768557600001");
    harness.advance(Duration::from_secs(1));
    assert_eq!(id(&mut harness), "msg_1768557601000");
}

#[test]
fn message_content_is_sanitized() {
    let mut harness = room(&["a"]);
    let lines = harness.send(
        1,
        r#"{"type":"message:send","text":"<scr<script>ipt>1 < 2 \u0007<b>"}"#,
    );
    assert_eq!(to(1, &lines[0])["data"]["text"], "ipt>1 < 2 ");
}

#[test]
fn a_presence_update_goes_to_all_other_users() {
    let mut harness = room(&["a", "b", "a", "c"]);
    for status in ["online", "away", "busy", "offline"] {
        let lines = harness.send(
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
fn a_users_first_connection_is_announced_as_online() {
    let mut harness = room(&["a"]);
    assert_eq!(
        harness.open(2, "/ws?username=b")[1..],
        [presence(1, 2, "b", "online")]
    );
    assert_eq!(harness.open(3, "/ws?username=b")[1..], no_lines());
}

#[test]
fn the_end_of_a_users_last_connection_is_announced_as_offline() {
    for how in [
        DisconnectReason::ClosedByClient(Some(1001)),
        DisconnectReason::Lost,
        DisconnectReason::Unresponsive,
        DisconnectReason::Closed(CloseReason::TOO_SLOW),
    ] {
        let mut harness = room(&["a", "b", "b"]);
        assert_eq!(harness.disconnect(2, how), no_lines());
        assert_eq!(harness.disconnect(3, how), [presence(1, 2, "b", "offline")]);
    }
}

#[test]
fn typing_goes_to_all_other_users_and_only_when_it_changes() {
    let mut harness = room(&["a", "b", "a"]);
    assert_eq!(harness.send(1, TYPING), [typing(2, 1, "a", true)]);
    assert_eq!(harness.send(1, TYPING), no_lines());
    assert_eq!(harness.send(1, NOT_TYPING), [typing(2, 1, "a", false)]);
    assert_eq!(harness.send(1, NOT_TYPING), no_lines());
}

#[test]
fn a_user_is_typing_as_long_as_one_of_its_connections_is() {
    let mut harness = room(&["a", "b", "a"]);
    assert_eq!(harness.send(1, TYPING), [typing(2, 1, "a", true)]);
    assert_eq!(harness.send(3, TYPING), no_lines());
    assert_eq!(harness.send(1, NOT_TYPING), no_lines());
    assert_eq!(harness.send(3, NOT_TYPING), [typing(2, 1, "a", false)]);
}

#[test]
fn a_user_that_disconnects_while_typing_stops_typing() {
    let mut harness = room(&["a", "b"]);
    harness.send(2, TYPING);
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        lines,
        [typing(1, 2, "b", false), presence(1, 2, "b", "offline")]
    );
    let mut harness = room(&["a", "b", "b"]);
    harness.send(2, TYPING);
    assert_eq!(
        harness.disconnect(2, DisconnectReason::Lost),
        [typing(1, 2, "b", false)]
    );
}

#[test]
fn text_that_is_not_json_gets_an_error_and_is_not_broadcast() {
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
fn an_unknown_type_gets_an_error() {
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
fn an_invalid_message_gets_an_error() {
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
    let lines = harness.send_message(1, Message::Binary(SEND.as_bytes().to_vec().into()));
    assert_eq!(to(1, &lines[0])["code"], "INVALID_MESSAGE");
}

#[test]
fn unknown_fields_are_ignored() {
    let mut harness = room(&["a"]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"extra":{deep},"type":"message:send","text":"x","status":5}}"#);
    assert_eq!(to(1, &harness.send(1, &text)[0])["type"], "message:new");
}

#[test]
fn a_user_may_send_100_messages_a_minute_over_all_its_connections() {
    let mut harness = room(&["a", "A"]);
    for sent in 0..100 {
        assert_eq!(harness.send(1 + sent % 2, SEND).len(), 2);
    }
    let rejected = error(&mut harness, 1, SEND);
    assert_eq!(
        (&rejected["code"], &rejected["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(60_000))
    );
    assert_eq!(
        harness.send(2, AWAY),
        no_lines(),
        "presence has a limit of its own"
    );
    harness.advance(MINUTE);
    assert_eq!(harness.send(2, SEND).len(), 2);
}

#[test]
fn presence_and_typing_have_a_limit_of_their_own_of_300_a_minute() {
    let mut harness = room(&["a"]);
    for _ in 0..150 {
        assert_eq!(harness.send(1, AWAY), no_lines());
        assert_eq!(harness.send(1, TYPING), no_lines());
    }
    assert_eq!(error(&mut harness, 1, AWAY)["code"], "RATE_LIMITED");
    assert_eq!(error(&mut harness, 1, NOT_TYPING)["code"], "RATE_LIMITED");
    assert_eq!(harness.send(1, SEND).len(), 1);
}

#[test]
fn only_valid_messages_count_against_the_limit() {
    let mut harness = room(&["a"]);
    for _ in 0..200 {
        error(&mut harness, 1, r#"{"type":"message:send","text":""}"#);
    }
    assert_eq!(to(1, &harness.send(1, SEND)[0])["type"], "message:new");
}

#[test]
fn reconnecting_does_not_reset_a_limit() {
    let mut harness = room(&["a", "b"]);
    for _ in 0..100 {
        harness.send(1, SEND);
    }
    harness.disconnect(1, DisconnectReason::ClosedByClient(None));
    harness.open(3, "/ws?username=A");
    assert_eq!(error(&mut harness, 3, SEND)["code"], "RATE_LIMITED");
    harness.disconnect(3, DisconnectReason::Lost);
    harness.advance(MINUTE);
    harness.open(4, "/ws?username=a");
    assert_eq!(harness.send(4, SEND).len(), 2);
}

#[test]
fn nothing_is_kept_of_a_user_a_minute_after_it_disconnected() {
    let mut harness = harness();
    for conn in 0..1000 {
        harness.open(conn, &format!("/ws?username=u{conn}"));
        harness.send(conn, SEND);
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    harness.advance(MINUTE);
    let Workspace {
        members,
        users,
        recently_gone,
        ..
    } = &*harness.realm;
    assert!(members.is_empty() && users.is_empty());
    assert!(recently_gone.is_empty());
}

#[test]
fn a_connection_is_closed_after_five_minutes_without_a_message_in_either_direction() {
    let mut harness = room(&["a", "b"]);
    harness.advance(2 * MINUTE);
    harness.send(1, AWAY);
    harness.advance(3 * MINUTE);
    assert_eq!(
        harness.advance(2 * MINUTE - Duration::from_millis(1)),
        no_lines()
    );
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, ["1 x 4408 timed out", "2 x 4408 timed out"]);
    assert!(harness.realm.members.is_empty() && harness.realm.users.is_empty());
}

#[test]
fn what_only_other_users_are_sent_is_no_activity_of_a_connection() {
    let mut harness = room(&["a", "b", "a"]);
    harness.advance(2 * MINUTE);
    harness.send(2, SEND);
    harness.advance(2 * MINUTE);
    harness.send(1, TYPING);
    assert_eq!(harness.advance(MINUTE), no_lines());
    harness.send(1, NOT_TYPING);
    assert_eq!(
        harness.advance(2 * MINUTE - Duration::from_millis(1)),
        no_lines()
    );
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, ["3 x 4408 timed out"]);
}

#[test]
fn active_connections_are_told_that_idle_users_went_offline() {
    let mut harness = room(&["a"]);
    harness.advance(MINUTE);
    harness.open(2, "/ws?username=b");
    harness.advance(4 * MINUTE);
    harness.open(3, "/ws?username=c");
    assert_eq!(harness.advance(4 * MINUTE), no_lines());
    // Connections 1 and 2 have received nothing since 3 connected; 3 stays active.
    harness.send(3, "nonsense");
    let lines = harness.advance(MINUTE);
    let [a, b] = [(1, "a"), (60_001, "b")].map(|(id, name)| presence(3, id, name, "offline"));
    assert_eq!(lines, ["1 x 4408 timed out", "2 x 4408 timed out", &a, &b]);
}

#[test]
fn a_connection_that_the_server_does_not_read_is_not_idle() {
    let mut harness = room(&["a"]);
    assert_eq!(harness.advance_unread(1, 5 * MINUTE), no_lines());
    assert_eq!(harness.advance(4 * MINUTE), no_lines());
    assert_eq!(harness.advance(MINUTE), ["1 x 4408 timed out"]);
}

#[test]
fn an_invalid_message_counts_as_activity() {
    let mut harness = room(&["a"]);
    harness.advance(4 * MINUTE);
    harness.send(1, "nonsense");
    assert_eq!(harness.advance(4 * MINUTE), no_lines());
}

#[test]
fn without_an_idle_timeout_no_connection_is_closed() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"idle_timeout": 0}));
    harness.open(1, "/ws");
    assert_eq!(harness.advance(1000 * MINUTE), no_lines());
}

#[test]
fn only_the_path_ws_is_served() {
    assert!((PROTOCOL.matches_path)("/ws"));
    for path in ["/", "/ws/", "/ws/chat", "/WS"] {
        assert!(!(PROTOCOL.matches_path)(path), "{path}");
    }
}

/// A chat message in the Electron dialect.
pub(super) const MESSAGE: &str = r#"{"type":"message","text":"Hello everyone!"}"#;

/// Returns a token with this header and this payload.
pub(super) fn sign(header: &str, payload: &str, secret: &[u8]) -> String {
    sign_parts(header, payload, &Secret::new(secret))
}

pub(super) const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

pub(super) fn auth(token: &str) -> String {
    json!({"type": "auth", "token": token}).to_string()
}

/// Returns an `auth` whose token has this username and is signed with another secret than the server's.
pub(super) fn auth_as(name: &str) -> String {
    let payload = json!({ "username": name }).to_string();
    auth(&sign(HS256, &payload, b"some secret"))
}

pub(super) fn acknowledged(conn: u64) -> String {
    format!(r#"{conn} < {{"type":"auth:ack","ok":true}}"#)
}

pub(super) fn user_count(conn: u64, names: &[&str]) -> String {
    let (count, names) = (names.len(), json!(names));
    format!(r#"{conn} < {{"type":"userCount","count":{count},"users":{names}}}"#)
}

/// Sends messages on a new connection and returns the `code` or else the `type` of each response.
fn responses(texts: &[&str]) -> Vec<String> {
    let mut harness = room(&["a"]);
    let mut respond = |text: &&str| {
        let lines = harness.send(1, text);
        let message = to(1, &lines[0]);
        let code_or_type = message.get("code").unwrap_or(&message["type"]);
        code_or_type.as_str().unwrap().to_owned()
    };
    texts.iter().map(&mut respond).collect()
}

/// Returns a room in which Electron clients 1, 2 and so on have these names by `auth`, after their
/// `userCount`.
fn chat(names: &[&str]) -> RealmHarness<Workspace> {
    let mut harness = harness();
    for (index, name) in names.iter().enumerate() {
        connect_electron(&mut harness, index as u64 + 1, name);
    }
    settle(&mut harness);
    harness
}

/// Waits until all changes are broadcast and the next `userCount` goes out at once.
pub(super) fn settle(harness: &mut RealmHarness<Workspace>) {
    harness.advance(USER_COUNT_INTERVAL);
    harness.advance(USER_COUNT_INTERVAL);
}

/// Connects an Electron client without a name and sends its `auth`; returns the lines after that.
fn connect_electron(harness: &mut RealmHarness<Workspace>, conn: u64, name: &str) -> Vec<String> {
    harness.open(conn, "/ws");
    harness.send(conn, &auth_as(name))
}

/// Returns the username on the messages of an Electron client.
pub(super) fn name_of(harness: &mut RealmHarness<Workspace>, conn: u64) -> String {
    let lines = harness.send(conn, MESSAGE);
    let mine = lines
        .iter()
        .find(|line| line.starts_with(&format!("{conn} < ")));
    let message = to(conn, mine.unwrap());
    assert_eq!(message["type"], "message:new");
    message["data"]["username"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_message_decides_the_dialect_for_the_connections_life() {
    for electron in [MESSAGE.to_owned(), auth_as("b")] {
        let received = responses(&[&electron, SEND, AWAY, TYPING, MESSAGE]);
        let unknown = "UNKNOWN_TYPE";
        assert_eq!(received[1..], [unknown, unknown, unknown, "message:new"]);
    }
    for document in [SEND, AWAY, TYPING] {
        let mut harness = room(&["a"]);
        harness.send(1, document);
        for electron in [MESSAGE.to_owned(), auth_as("b")] {
            assert_eq!(error(&mut harness, 1, &electron)["code"], "UNKNOWN_TYPE");
        }
        assert_eq!(to(1, &harness.send(1, SEND)[0])["type"], "message:new");
    }
}

#[test]
fn a_malformed_first_message_has_the_dialect_of_its_type() {
    for electron in [
        r#"{"type":"message"}"#,
        r#"{"type":"message","text":""}"#,
        r#"{"type":"message","text":"a","text":"b"}"#,
        r#"{"type":"auth","token":7}"#,
    ] {
        let received = responses(&[electron, SEND, MESSAGE]);
        assert_eq!(received, ["INVALID_MESSAGE", "UNKNOWN_TYPE", "message:new"]);
    }
    for document in [
        r#"{"type":"message:send"}"#,
        r#"{"type":"presence:update","status":"asleep"}"#,
        r#"{"type":"typing:indicator","isTyping":7,"isTyping":8}"#,
    ] {
        let received = responses(&[document, MESSAGE, SEND]);
        assert_eq!(received, ["INVALID_MESSAGE", "UNKNOWN_TYPE", "message:new"]);
    }
}

#[test]
fn a_message_of_neither_dialect_does_not_decide_the_dialect() {
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
            responses(&[neither, MESSAGE, SEND]),
            [code, new, "UNKNOWN_TYPE"]
        );
        assert_eq!(
            responses(&[neither, SEND, MESSAGE]),
            [code, new, "UNKNOWN_TYPE"]
        );
    }
    let mut harness = room(&["a"]);
    let binary = Message::Binary(MESSAGE.as_bytes().to_vec().into());
    assert_eq!(
        to(1, &harness.send_message(1, binary)[0])["code"],
        "INVALID_MESSAGE"
    );
    assert_eq!(harness.send(1, SEND).len(), 1);
}

#[test]
fn a_connection_that_has_sent_no_message_gets_the_documents_messages() {
    let mut harness = room(&["a", "b"]);
    assert_eq!(harness.send(1, AWAY), [presence(2, 1, "a", "away")]);
    harness.send(2, "nonsense");
    assert_eq!(harness.send(1, TYPING), [typing(2, 1, "a", true)]);
    assert_eq!(harness.open(3, "/ws?username=c").len(), 3);
}

#[test]
fn both_dialects_share_the_room_each_with_its_own_messages() {
    let mut harness = room(&["doc", "app"]);
    harness.send(1, SEND);
    settle(&mut harness);
    let message = r#"{"type":"message","text":"<b>Hi</b>","replyTo":"msg_1768557600000"}"#;
    let new = |conn, reply: &str| {
        format!(
            r#"{conn} < {{"type":"message:new","data":{{"id":"msg_1768557602000","userId":"ws_user_1768557600001","username":"app","text":"Hi","createdAt":"2026-01-16T10:00:02.000Z"{reply}}}}}"#
        )
    };
    assert_eq!(
        harness.send(2, message),
        [
            new(1, ""),
            new(2, r#","replyTo":"msg_1768557600000""#),
            user_count(2, &["app", "doc"]),
        ]
    );
    let lines = harness.send(1, r#"{"type":"message:send","text":"Hi","replyTo":"x"}"#);
    let [to_doc, to_app] = [1, 2].map(|conn| to(conn, &lines[conn as usize - 1]));
    assert_eq!(to_doc, to_app, "the document's dialect has no replyTo");
    assert!(to_doc["data"]["text"] == "Hi" && to_doc["data"].get("replyTo").is_none());
    let lines = harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(lines, [user_count(2, &["app"])]);
}

#[test]
fn electron_clients_get_no_presence_and_no_typing() {
    let mut harness = room(&["doc"]);
    connect_electron(&mut harness, 2, "app");
    settle(&mut harness);
    for signal in [AWAY, TYPING, NOT_TYPING] {
        assert_eq!(harness.send(1, signal), no_lines());
    }
    harness.open(3, "/ws?username=other");
    assert_eq!(harness.send(1, TYPING), [typing(3, 1, "doc", true)]);
}

#[test]
fn a_reply_to_is_passed_on_if_it_is_valid() {
    let mut harness = room(&["a"]);
    harness.send(1, MESSAGE);
    let longest = "x".repeat(64);
    for (given, passed_on) in [
        (json!("msg_1"), Some("msg_1")),
        (json!(longest), Some(&*longest)),
        (json!(null), None),
        (json!(""), None),
    ] {
        let message = json!({"type": "message", "text": "x", "replyTo": given}).to_string();
        let data = &to(1, &harness.send(1, &message)[0])["data"];
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
fn messages_of_both_dialects_obey_the_same_rules() {
    let mut harness = room(&["a", "a"]);
    harness.send(2, MESSAGE);
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
        assert_eq!(harness.send(conn, text).len(), 2);
    }
    assert_eq!(error(&mut harness, 2, MESSAGE)["code"], "RATE_LIMITED");
    assert_eq!(error(&mut harness, 1, SEND)["retryAfterMs"], 60_000);
}

#[test]
fn without_access_the_username_in_a_token_is_not_verified() {
    let expired = sign(HS256, r#"{"username":"ann","exp":1}"#, b"other");
    let unsigned = sign(r#"{"alg":"none"}"#, r#"{"username":"ann"}"#, b"");
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    for token in [expired, unsigned] {
        let mut harness = harness();
        harness.open(1, "/ws");
        let lines = harness.send(1, &auth(&token));
        assert_eq!(lines, [acknowledged(1), user_count(1, &["ann"])]);
        assert_eq!(name_of(&mut harness, 1), "ann");
    }
}

#[test]
fn without_access_an_unreadable_token_is_acknowledged_and_changes_nothing() {
    let mut harness = harness();
    let connected = to(1, &harness.open(1, "/ws")[0]);
    let name = connected["username"].as_str().unwrap();
    let lines = harness.send(1, r#"{"type":"auth"}"#);
    assert_eq!(lines, [acknowledged(1), user_count(1, &[name])]);
    for text in [
        r#"{"type":"auth","token":null}"#.to_owned(),
        auth(""),
        auth("not a token"),
        auth("a.b.c"),
        auth(&sign(HS256, r#"{"sub":"ann"}"#, b"x")),
        auth(&sign(HS256, r#"{"username":7}"#, b"x")),
        auth_as(" <b> "),
    ] {
        assert_eq!(harness.send(1, &text), [acknowledged(1)], "{text}");
    }
    assert_eq!(name_of(&mut harness, 1), name);
    harness.open(2, "/ws?username=bob");
    harness.send(2, &auth("not a token"));
    assert_eq!(name_of(&mut harness, 2), "bob");
}

#[test]
fn the_username_in_a_token_is_sanitized_trimmed_and_cut() {
    for (given, name) in [
        ("  <b>ann</b>\u{7} ", "ann"),
        (&"ü".repeat(70), &"ü".repeat(64)),
        (&format!("{} x", "y".repeat(63)), &"y".repeat(63)),
    ] {
        assert_eq!(name_of(&mut chat(&[given]), 1), name);
    }
}

#[test]
fn a_token_has_at_most_8_kib() {
    let mut harness = chat(&["ann"]);
    assert_eq!(harness.send(1, &auth(&"x".repeat(8192))), [acknowledged(1)]);
    let long = auth(&"x".repeat(8193));
    assert_eq!(error_code(&mut harness, &long), "INVALID_MESSAGE");
}

#[test]
fn auth_again_with_the_same_name_is_acknowledged_and_changes_nothing() {
    let mut harness = chat(&["ann", "bob"]);
    for again in ["ann", "ANN", " ann "] {
        for _ in 0..15 {
            assert_eq!(harness.send(1, &auth_as(again)), [acknowledged(1)]);
        }
    }
    assert_eq!(harness.advance(USER_COUNT_INTERVAL), no_lines());
    assert_eq!(name_of(&mut harness, 1), "ann");
}

#[test]
fn auth_with_another_name_takes_one_user_offline_and_another_online() {
    let mut harness = room(&["doc"]);
    let generated = to(2, &harness.open(2, "/ws")[0])["username"].clone();
    let generated = generated.as_str().unwrap();
    assert_eq!(
        harness.send(2, &auth_as("ann")),
        [
            presence(1, 2, generated, "offline"),
            presence(1, 3, "ann", "online"),
            acknowledged(2),
            user_count(2, &["ann", "doc"]),
        ]
    );
    settle(&mut harness);
    assert_eq!(
        harness.send(2, &auth_as("bob")),
        [
            presence(1, 3, "ann", "offline"),
            presence(1, 2001, "bob", "online"),
            acknowledged(2),
            user_count(2, &["bob", "doc"]),
        ]
    );
    let message = to(2, &harness.send(2, MESSAGE)[1]);
    assert_eq!(message["data"]["userId"], user_id(2001));
}

#[test]
fn auth_with_the_name_of_a_connected_user_joins_that_user() {
    let mut harness = room(&["Ann", "bob", "bob"]);
    assert_eq!(
        harness.send(3, &auth_as("ANN")),
        [acknowledged(3), user_count(3, &["Ann", "bob"])]
    );
    let message = &to(3, &harness.send(3, MESSAGE)[2])["data"];
    assert_eq!(
        (&message["userId"], &message["username"]),
        (&json!(user_id(1)), &json!("Ann"))
    );
    harness.send(2, AWAY);
    let lines = harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(lines, no_lines(), "Ann has another connection");
    assert_eq!(
        harness.disconnect(3, DisconnectReason::Lost),
        [presence(2, 1, "Ann", "offline")]
    );
}

#[test]
fn auth_with_a_name_that_has_three_connections_is_rejected() {
    let mut harness = room(&["ann", "Ann", "ANN", "bob"]);
    harness.send(4, MESSAGE);
    let full = error(&mut harness, 4, &auth_as("ann"));
    assert_eq!(full["code"], "TOO_MANY_CONNECTIONS");
    assert_eq!(name_of(&mut harness, 4), "bob");
    harness.send(1, MESSAGE);
    assert_eq!(
        harness.send(1, &auth_as("ann")),
        [acknowledged(1)],
        "the connection is one of the three"
    );
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        harness.send(4, &auth_as("ann")).last(),
        Some(&acknowledged(4))
    );
    let mut harness = RealmHarness::<Workspace>::new(json!({"max_connections_per_user": 0}));
    for conn in 1..10 {
        let lines = connect_electron(&mut harness, conn, "ann");
        assert!(lines.contains(&acknowledged(conn)));
    }
}

#[test]
fn rate_limits_are_those_of_the_connections_current_name() {
    let mut harness = chat(&["ann"]);
    for _ in 0..100 {
        harness.send(1, MESSAGE);
    }
    assert_eq!(error_code(&mut harness, MESSAGE), "RATE_LIMITED");
    harness.send(1, &auth_as("bob"));
    assert_eq!(name_of(&mut harness, 1), "bob");
    harness.send(1, &auth_as("ann"));
    assert_eq!(error_code(&mut harness, MESSAGE), "RATE_LIMITED");
}

#[test]
fn a_user_whose_connection_changes_its_name_while_typing_stops_typing() {
    let mut harness = room(&["a", "b"]);
    harness.send(1, TYPING);
    let lines = harness.command(
        1,
        Command::new(Incoming {
            dialect: Dialect::Electron,
            message: ClientMessage::Auth(Auth::Claimed(Some("c".to_owned()))),
        }),
    );
    let (a, c) = (
        presence(2, 1, "a", "offline"),
        presence(2, 3, "c", "online"),
    );
    let [acknowledged, count] = [acknowledged(1), user_count(1, &["b", "c"])];
    assert_eq!(lines, [typing(2, 1, "a", false), a, c, acknowledged, count]);
    assert_eq!(
        harness.disconnect(1, DisconnectReason::Lost),
        [presence(2, 3, "c", "offline")]
    );
}

#[test]
fn a_connection_changes_its_name_at_most_five_times_a_minute() {
    let mut harness = chat(&["0"]);
    for name in ["1", "2", "3", "4"] {
        assert!(harness.send(1, &auth_as(name)).contains(&acknowledged(1)));
    }
    let rejected = to(1, &harness.send(1, &auth_as("5"))[0]);
    assert_eq!(
        (&rejected["code"], &rejected["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(58_000))
    );
    assert_eq!(name_of(&mut harness, 1), "4");
    assert!(
        harness.send(1, &auth_as("4")).contains(&acknowledged(1)),
        "no change"
    );
    harness.advance(MINUTE);
    assert!(harness.send(1, &auth_as("5")).contains(&acknowledged(1)));
}

#[test]
fn user_count_goes_to_electron_clients_only_on_each_change() {
    let mut harness = room(&["doc"]);
    assert_eq!(
        connect_electron(&mut harness, 2, "app").last(),
        Some(&user_count(2, &["app", "doc"]))
    );
    settle(&mut harness);
    let lines = harness.open(3, "/ws?username=other");
    assert_eq!(lines.last(), Some(&user_count(2, &["app", "doc", "other"])));
    assert_eq!(lines.len(), 3);
    settle(&mut harness);
    assert_eq!(harness.open(4, "/ws?username=other").len(), 1, "no change");
    harness.disconnect(4, DisconnectReason::Lost);
    let other = presence(1, 2001, "other", "offline");
    assert_eq!(
        harness.disconnect(3, DisconnectReason::Lost),
        [other, user_count(2, &["app", "doc"])]
    );
}

#[test]
fn the_first_electron_message_of_a_connection_is_answered_with_a_user_count() {
    let mut harness = room(&["ann", "bob"]);
    assert_eq!(
        harness.send(1, MESSAGE).last(),
        Some(&user_count(1, &["ann", "bob"]))
    );
    let lines = harness.send(2, r#"{"type":"message"}"#);
    assert_eq!(lines[1..], [user_count(2, &["ann", "bob"])]);
    assert_eq!(harness.send(1, MESSAGE).len(), 2, "once");
}

#[test]
fn changes_within_a_second_are_gathered_into_one_user_count() {
    let mut harness = chat(&["a"]);
    assert_eq!(
        harness.open(2, "/ws?username=b")[1..],
        [user_count(1, &["a", "b"])]
    );
    for (conn, name) in [(3, "c"), (4, "d")] {
        let lines = harness.open(conn, &format!("/ws?username={name}"));
        assert!(!lines.iter().any(|line| line.contains("userCount")));
    }
    harness.disconnect(2, DisconnectReason::Lost);
    let early = USER_COUNT_INTERVAL - Duration::from_millis(1);
    assert_eq!(harness.advance(early), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, [user_count(1, &["a", "c", "d"])]);
    assert_eq!(harness.advance(USER_COUNT_INTERVAL), no_lines());
}

#[test]
fn a_user_count_lists_200_users_and_counts_all() {
    let mut harness = harness();
    for conn in 0..250 {
        harness.open(conn, &format!("/ws?username=user{conn:03}"));
    }
    settle(&mut harness);
    let count = to(0, harness.send(0, MESSAGE).last().unwrap());
    assert_eq!(count["count"], 250);
    let users = count["users"].as_array().unwrap();
    assert_eq!(users.len(), 200);
    assert_eq!(
        (&users[0], &users[199]),
        (&json!("user000"), &json!("user199"))
    );
}

#[test]
fn a_message_that_a_dialect_does_not_have_is_no_activity() {
    let mut harness = room(&["doc", "app", "other"]);
    settle(&mut harness);
    harness.send(2, MESSAGE);
    for _ in 0..4 {
        harness.advance(MINUTE);
        harness.send(1, AWAY);
    }
    assert_eq!(harness.advance(MINUTE)[0], "2 x 4408 timed out");
    let mut harness = chat(&["app"]);
    harness.advance(4 * MINUTE);
    harness.open(2, "/ws?username=other");
    assert_eq!(
        harness.advance(4 * MINUTE),
        no_lines(),
        "userCount is a message"
    );
}

#[test]
fn nothing_is_kept_of_a_former_username() {
    let mut harness = harness();
    for conn in 0..1000 {
        connect_electron(&mut harness, conn, &format!("u{conn}"));
        harness.send(conn, MESSAGE);
        harness.send(conn, &auth_as(&format!("v{conn}")));
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    harness.advance(MINUTE);
    assert!(harness.realm.members.is_empty() && harness.realm.users.is_empty());
    assert!(harness.realm.recently_gone.is_empty());
}

#[test]
fn options_out_of_range_are_named() {
    for username_length in [11, 257] {
        let options = json!({"username_length": username_length});
        assert_eq!(
            RealmHarness::<Workspace>::invalid_option(options),
            "username_length"
        );
    }
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("../../../../tests/workspace.rs"),
        include_str!("../../../../tests/access/workspace.rs"),
        include_str!("../../../toolkit/sanitize.rs"),
        include_str!("../../../net/listener.rs"),
        include_str!("access.rs"),
        include_str!("announcements.rs"),
        include_str!("../../../testing/mod.rs"),
        include_str!("takeovers.rs"),
        include_str!("texts.rs"),
    ]);
}

proptest! {
    #[test]
    fn no_text_makes_decoding_panic(text in "\\PC{0,100}") {
        Decoder::new(&no_tokens()).decode(Message::Text(text.into()));
    }

    #[test]
    fn no_json_makes_decoding_panic(
        kind in "(message:send|presence:update|typing:indicator|auth|message|[a-z:]{0,12})",
        field in "(text|status|isTyping|type|token|replyTo|[a-z]{0,5})",
        value in "(true|null|-?[0-9]{1,30}(e[0-9]{1,3})?|\"[a-z<>]{0,9}\"|\\[\\]|\\{\\})",
    ) {
        let text = format!(r#"{{"type":"{kind}","{field}":{value}}}"#);
        Decoder::new(&no_tokens()).decode(Message::Text(text.into()));
    }
}

/// Has a user say all that it may in a minute, and disconnect.
fn speak_and_leave(harness: &mut RealmHarness<Workspace>, conn: u64, name: &str) {
    harness.open(conn, &format!("/ws?username={name}"));
    for _ in 0..100 {
        harness.send(conn, SEND);
    }
    for number in 0..300 {
        let is_typing = number % 2 == 0;
        let typing = json!({"type": "typing:indicator", "isTyping": is_typing});
        harness.send(conn, &typing.to_string());
    }
    harness.advance(Duration::from_secs(1));
    harness.disconnect(conn, DisconnectReason::Lost);
}

#[test]
fn what_is_remembered_of_a_user_is_little_and_counted() {
    let mut harness = harness();
    assert_eq!(harness.realm.stored_bytes(), 0);
    harness.open(1, "/ws?username=online");
    harness.send(1, SEND);
    harness.advance(Duration::from_secs(1));
    let online = harness.realm.stored_bytes();
    assert!(online > 0);
    assert_eq!(harness.realm.stored_bytes_of(ConnectionId(1)), online);
    for conn in 10..20 {
        speak_and_leave(&mut harness, conn, &conn.to_string());
    }
    // Two bytes for each of 400 events, and the name with its places.
    let each = (harness.realm.stored_bytes() - online) / 10;
    assert!((800..1500).contains(&each), "{each} bytes");
    harness.advance(MINUTE);
    assert_eq!(harness.realm.stored_bytes(), online);
}

#[test]
fn when_memory_is_short_the_users_gone_longest_are_forgotten_first() {
    let mut harness = harness();
    speak_and_leave(&mut harness, 1, "one");
    speak_and_leave(&mut harness, 2, "two");
    let before = harness.realm.stored_bytes();
    let (freed, lines) = harness.shed(Retention::BestEffort, 1);
    assert_eq!(harness.realm.stored_bytes(), before - freed);
    assert!(freed > 0 && lines.is_empty());
    harness.open(3, "/ws?username=two");
    let answer = to(3, &harness.send(3, SEND)[0]);
    assert_eq!(answer["code"], "RATE_LIMITED");
    harness.open(4, "/ws?username=one");
    assert_eq!(harness.send(4, SEND).len(), 2);
    // The document promises nothing else to those who are gone.
    assert_eq!(harness.shed(Retention::Promised, usize::MAX).0, 0);
}

#[test]
fn changed_options_hold_and_the_room_stays() {
    let mut harness = harness();
    harness.open(1, "/ws?username=ann");
    harness.open(2, "/ws?username=bob");
    harness.advance(Duration::from_secs(1));
    assert_eq!(harness.send(1, SEND).len(), 2);
    let options =
        json!({"messages_per_minute": 1, "max_connections_per_user": 1, "idle_timeout": 5});
    assert_eq!(harness.reconfigure(options), no_lines());
    assert!(harness.send(1, SEND)[0].contains("RATE_LIMITED"));
    assert_eq!(harness.send(2, SEND).len(), 2, "both are there");
    let rejected = harness.try_open(3, "/ws?username=ann", "127.0.0.1");
    assert_eq!(rejected.unwrap_err().status, 429);
    let lines = harness.advance(Duration::from_secs(5));
    assert!(
        lines.contains(&"1 x 4408 timed out".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_larger_budget_lets_what_waits_be_announced_at_once() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"announcements_per_second": 1}));
    for conn in 1..=4 {
        harness.open(conn, &format!("/ws?username=user{conn}"));
    }
    let lines = harness.reconfigure(json!({"announcements_per_second": 0}));
    assert!(lines.iter().any(|line| line.contains("user4")), "{lines:?}");
}

#[test]
fn the_figures_are_the_members_their_users_those_who_have_gone_and_the_refused_messages() {
    let mut harness = harness();
    for (conn, name) in [(1, "ann"), (2, "ann"), (3, "bob")] {
        harness.open(conn, &format!("/ws?username={name}"));
    }
    for _ in 0..103 {
        harness.send(1, SEND);
    }
    // Whoever has said nothing is not remembered.
    harness.send(3, SEND);
    harness.disconnect(3, DisconnectReason::Lost);
    let expected = Figures {
        sizes: vec![
            ("members", 2),
            ("users", 1),
            ("users_gone", 1),
            ("claims", 0),
            ("waiting_texts", 0),
            ("unauthenticated", 0),
        ],
        rate_limited: 3,
    };
    assert_eq!(harness.realm.figures(), expected);
}
