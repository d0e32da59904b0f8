//! Each demand of the document and of the rulings on LOUDSYNC, with the test that holds it.
//!
//! These tests use no sockets; those that do are in `tests/loudsync.rs`. The upper-case dialect is in
//! `upper_case.rs`, sessions from the configuration are in `static_sessions.rs`, and random sequences of
//! client actions in `model.rs`.
//!
//! | demand | test |
//! | --- | --- |
//! | any path | `any_path_is_accepted` |
//! | every message has `type` and `timestamp`, a number | `every_message_needs_a_type_and_a_timestamp` |
//! | "validates all incoming messages against schema" | `the_error_for_an_invalid_message_names_the_field` |
//! | a binary message is invalid | `a_binary_message_is_an_error` |
//! | the longest allowed names | `the_longest_names_are_accepted` |
//! | unknown fields are ignored | `unknown_fields_are_ignored` |
//! | "Successful Join Flow" | `the_successful_join_flow` |
//! | WELCOME is sent before MEMBER_LIST | `the_welcome_is_sent_before_the_list` |
//! | "Graceful Leave Flow" | `the_graceful_leave_flow` |
//! | "Timeout Disconnect Flow" | `the_timeout_disconnect_flow` |
//! | "Session Closed Flow" | `the_session_closed_flow` |
//! | "Reconnection Logic" | `the_reconnection_flow` |
//! | WELCOME's fields | `a_join_as_host_creates_the_session` |
//! | a host's JOIN creates the session | `a_join_as_host_creates_the_session` |
//! | `sessionId`: 1 to 64 of letters, digits, `-`, `_` | `a_new_session_id_has_1_to_64_letters_digits_hyphens_or_underscores` |
//! | `sessionName`: 1 to 100 characters, default the device's name | `a_session_is_named_by_its_host_or_after_its_device` |
//! | `maxMembers`: 2 to the configured 10 | `a_host_may_limit_its_session_to_2_to_10_members` |
//! | a second host for a live session: `unauthorized` | `a_session_has_one_host` |
//! | "Session ID must exist" | `a_guest_cannot_join_a_session_that_does_not_exist` |
//! | "Session must not be full", details | `a_full_session_rejects_new_members_but_not_returning_ones` |
//! | nor have more members than the host allows | `a_session_has_at_most_as_many_members_as_its_host_allows` |
//! | joining and leaving repeatedly is not a flood | `a_device_that_joins_and_leaves_repeatedly_does_not_flood_the_members`, `a_session_of_more_than_32_members_gets_one_list_a_second` |
//! | an abandoned session locks no other host out | `the_oldest_abandoned_session_is_closed_at_the_limit` |
//! | the number of sessions is limited | `hosts_open_at_most_max_sessions_sessions` |
//! | "Device must not already be connected" | `a_join_of_a_connected_device_is_rejected_if_its_connection_answers` |
//! | its connection is probed first, and closed after 2 s without an answer | `a_device_takes_its_place_over_from_a_dead_connection` |
//! | the same over sockets | `a_device_joins_again_when_its_connection_is_dead`, `a_device_cannot_join_twice` |
//! | whose member keeps its place meanwhile | `a_member_whose_device_joined_in_time_does_not_time_out_during_the_probe` |
//! | the connection leaves meanwhile | `a_device_whose_connection_leaves_during_the_probe_joins_as_a_new_member` |
//! | the connection is lost meanwhile | `a_device_takes_its_place_over_from_a_connection_lost_during_the_probe` |
//! | the session ends meanwhile | `a_takeover_is_rejected_if_the_session_ends` |
//! | the takeover ends meanwhile | `a_silent_connection_stays_if_the_takeover_is_gone` |
//! | this connection has joined, or its JOIN waits for a probe: `already_joined`, stays open | `a_second_join_is_an_error_and_changes_nothing` |
//! | a rejected JOIN closes with 1000, an invalid one does not | `a_rejected_join_closes_the_connection_and_an_invalid_one_does_not` |
//! | anything but JOIN and PING before joining: `unauthorized` | `only_join_and_ping_are_allowed_before_joining` |
//! | `version` with another major than 1: `version_mismatch` | `a_join_for_another_major_version_is_rejected` |
//! | no JOIN within 15 s: 4401 | `a_client_that_does_not_join_within_15_seconds_is_closed` |
//! | `member_list`: all, in order of joining, the newcomer included | `the_list_has_all_members_in_order_of_joining` |
//! | MEMBER_LIST "when requested" | `the_list_is_sent_on_request` |
//! | MemberInfo's fields, `latency` | `latency_is_the_round_trip_that_the_server_measured` |
//! | device IDs are sent to no client | `client_ids_are_random_and_device_ids_are_never_sent` |
//! | LEAVE or a clean Close is `left` | `leave_and_a_clean_close_have_the_same_effect` |
//! | otherwise the member is `reconnecting` | `a_member_whose_connection_is_lost_is_reconnecting` |
//! | the device takes its place again | `the_reconnection_flow` |
//! | with its name and a fresh heartbeat | `a_returning_device_has_its_new_name_and_a_fresh_heartbeat` |
//! | losing the connection repeatedly is not a flood | `a_device_that_is_lost_repeatedly_does_not_flood_the_members` |
//! | or `member_left` `timeout`, 15 s after its last heartbeat | `a_member_that_does_not_return_times_out_15_seconds_after_its_last_heartbeat` |
//! | only `heartbeat` counts | `only_heartbeats_keep_a_member` |
//! | time in which the server does not read a client does not count | `a_client_that_the_server_does_not_read_does_not_time_out` |
//! | heartbeats have no answer | `a_heartbeat_has_no_answer` |
//! | "checked every second" | `heartbeats_are_checked_every_second` |
//! | the host leaves, or does not return: `session_closed`, 1000 | `the_session_closed_flow`, `a_session_ends_when_its_host_times_out` |
//! | a host that returns in time | `a_host_that_returns_in_time_is_the_host_again` |
//! | kick: `kicked`, 4403, `member_left` `kicked` | `a_host_kicks_a_member` |
//! | a pending takeover of its place is rejected | `a_takeover_is_rejected_if_the_member_is_kicked` |
//! | a reconnecting member can be kicked | `a_host_kicks_a_member_that_is_reconnecting` |
//! | only the host kicks | `only_the_host_can_kick` |
//! | the reason that the host gives | `a_reason_has_at_most_200_characters` |
//! | `member_left` `error` | `a_member_closed_for_breaking_the_protocol_leaves_by_error` |
//! | PONG carries the PING's timestamp | `a_pong_has_the_timestamp_of_its_ping` |
//! | `session_closed` before 1001 | `a_shutdown_closes_every_session`, `a_stop_closes_sessions_before_connections` |
//! | a first message of neither dialect is answered in the document's | `the_first_message_with_a_type_decides_the_dialect` |
//! | sessions are counted, and when memory is short, abandoned ones end | `when_memory_is_short_the_oldest_abandoned_sessions_end` |
//! | nothing is kept of a session that has ended | `nothing_is_kept_after_all_clients_have_disconnected` |
//! | options can change while it runs | `changed_options_hold_and_sessions_stay` |
//! | what an operator is shown | `the_figures_are_the_sessions_their_members_and_those_who_have_not_joined` |

use crate::protocols::loudsync::join::ID_ALPHABET;
use crate::protocols::loudsync::*;
use crate::realm::Message;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn harness() -> RealmHarness<Loudsync> {
    RealmHarness::new(json!({}))
}

/// Returns a message with these fields beside its type and time stamp.
pub(super) fn message(kind: &str, fields: Value) -> String {
    let mut message = json!({"type": kind, "timestamp": 1_706_889_600_000_u64});
    let fields = fields.as_object().unwrap().clone();
    message.as_object_mut().unwrap().extend(fields);
    message.to_string()
}

pub(super) fn bare(kind: &str) -> String {
    message(kind, json!({}))
}

pub(super) fn join(session: &str, device: &str, kind: &str) -> String {
    let info = json!({"id": device, "name": format!("{device}'s name"), "type": kind});
    message("join", json!({"sessionId": session, "deviceInfo": info}))
}

/// Returns the same JOIN with more fields.
fn join_with(session: &str, device: &str, kind: &str, more: Value) -> String {
    let mut join: Value = serde_json::from_str(&join(session, device, kind)).unwrap();
    join.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    join.to_string()
}

/// Returns a realm with the session `party`: connection 1 is its host with the device `mac`, 2 and 3 are
/// guests with `phone` and `pad`.
pub(super) fn party() -> RealmHarness<Loudsync> {
    let mut harness = harness();
    for conn in 1..=3 {
        harness.open(conn, "/");
    }
    harness.send(1, &join("party", "mac", "host"));
    harness.send(2, &join("party", "phone", "client"));
    harness.send(3, &join("party", "pad", "client"));
    harness
}

/// Moves the clock by whole seconds, in each of which the `alive` connections send a heartbeat.
pub(super) fn wait_with_heartbeats(
    harness: &mut RealmHarness<Loudsync>,
    time: Duration,
    alive: &[u64],
) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..time.as_secs() {
        for &conn in alive {
            assert_eq!(harness.send(conn, &bare("heartbeat")), no_lines());
        }
        lines.extend(harness.advance(SECOND));
    }
    lines
}

pub(super) fn parse_line(line: &str) -> (u64, Value) {
    let (conn, json) = line
        .split_once(" < ")
        .unwrap_or_else(|| panic!("no message: {line}"));
    let message: Value = serde_json::from_str(json).unwrap();
    assert!(message["timestamp"].is_number(), "{line}");
    (conn.parse().unwrap(), message)
}

/// Returns each message as `2 < welcome`, and other lines unchanged.
pub(super) fn summaries(lines: &[String]) -> Vec<String> {
    let kind = |line: &String| {
        if line.contains(" < ") {
            let (conn, message) = parse_line(line);
            format!("{conn} < {}", message["type"].as_str().unwrap())
        } else {
            line.clone()
        }
    };
    lines.iter().map(kind).collect()
}

/// Returns the first line, which must be an error to `conn`.
pub(super) fn error(lines: &[String], conn: u64) -> Value {
    let (to, error) = parse_line(&lines[0]);
    assert_eq!((to, &error["type"]), (conn, &json!("error")), "{lines:?}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    error
}

pub(super) fn error_code(lines: &[String], conn: u64) -> String {
    error(lines, conn)["code"].as_str().unwrap().to_owned()
}

/// Returns the recipient of a member list and its members as `name status`, the host with a star.
pub(super) fn member_list(line: &str) -> (u64, Vec<String>) {
    let (conn, message) = parse_line(line);
    assert_eq!(message["type"], "member_list");
    let member = |member: &Value| {
        let star = if member["isHost"] == true { "*" } else { "" };
        let text = |key: &str| member[key].as_str().unwrap().to_owned();
        format!("{star}{} {}", text("name"), text("connectionStatus"))
    };
    (
        conn,
        message["members"]
            .as_array()
            .unwrap()
            .iter()
            .map(member)
            .collect(),
    )
}

/// Returns the client ID of the member at an index of the list.
pub(super) fn client_id(harness: &mut RealmHarness<Loudsync>, conn: u64, index: usize) -> String {
    let lines = harness.send(conn, &bare("member_list"));
    parse_line(&lines[0]).1["members"][index]["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

pub(super) fn kick(member: &str) -> String {
    message("kick", json!({"memberId": member}))
}

#[test]
fn any_path_is_accepted() {
    for path in ["/", "/ws", "/any/thing", ""] {
        assert!((PROTOCOL.matches_path)(path));
    }
}

#[test]
fn a_join_as_host_creates_the_session() {
    let mut harness = harness();
    assert_eq!(harness.open(1, "/"), no_lines());
    let lines = harness.send(1, &join("abc123", "mac", "host"));
    assert_eq!(summaries(&lines), ["1 < welcome", "1 < member_list"]);
    let (_, welcome) = parse_line(&lines[0]);
    let id = welcome["clientId"].as_str().unwrap();
    let session = json!({"id": "abc123", "name": "mac's name", "hostId": id});
    let expected = json!({
        "type": "welcome", "timestamp": 1_768_557_600_000_u64, "clientId": id, "sessionInfo": session,
    });
    assert_eq!(welcome, expected);
    let member = json!({
        "id": id, "name": "mac's name", "isHost": true, "connectionStatus": "connected",
        "joinedAt": 1_768_557_600_000_u64,
    });
    assert_eq!(parse_line(&lines[1]).1["members"], json!([member]));
}

#[test]
fn the_successful_join_flow() {
    let mut harness = harness();
    (1..=3).for_each(|conn| {
        harness.open(conn, "/");
    });
    harness.send(1, &join("party", "mac", "host"));
    harness.send(2, &join("party", "phone", "client"));
    harness.advance(SECOND);
    let mut lines = harness.send(3, &join("party", "pad", "client"));
    lines.sort();
    let expected = [
        "1 < member_joined",
        "2 < member_joined",
        "3 < member_list",
        "3 < welcome",
    ];
    assert_eq!(summaries(&lines), expected);
    let joined = parse_line(&lines[0]).1["member"].clone();
    let welcome = parse_line(&lines[3]).1;
    let expected = json!({
        "id": welcome["clientId"], "name": "pad's name", "isHost": false,
        "connectionStatus": "connected", "joinedAt": 1_768_557_601_000_u64,
    });
    assert_eq!(joined, expected);
    assert_eq!(harness.send(3, &bare("heartbeat")), no_lines());
    assert_eq!(summaries(&harness.send(3, &bare("ping"))), ["3 < pong"]);
}

#[test]
fn the_welcome_is_sent_before_the_list() {
    let mut harness = party();
    harness.open(4, "/");
    let lines = summaries(&harness.send(4, &join("party", "tv", "client")));
    let own: Vec<_> = lines.iter().filter(|line| line.starts_with('4')).collect();
    assert_eq!(own, ["4 < welcome", "4 < member_list"]);
}

#[test]
fn the_graceful_leave_flow() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    let lines = harness.send(
        2,
        &message("leave", json!({"reason": "User exited session"})),
    );
    assert_eq!(
        summaries(&lines),
        ["2 x 1000 goodbye", "1 < member_left", "3 < member_left"]
    );
    let left = parse_line(&lines[1]).1;
    let expected = json!({
        "type": "member_left", "timestamp": 1_768_557_600_000_u64, "memberId": id, "reason": "left",
    });
    assert_eq!(left, expected);
}

#[test]
fn the_timeout_disconnect_flow() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[1, 3]),
        no_lines()
    );
    let lines = wait_with_heartbeats(&mut harness, SECOND, &[1, 3]);
    assert_eq!(
        summaries(&lines),
        ["2 x 4408 timed out", "1 < member_left", "3 < member_left"]
    );
    let left = parse_line(&lines[1]).1;
    assert_eq!(
        (&left["memberId"], &left["reason"]),
        (&json!(id), &json!("timeout"))
    );
}

#[test]
fn the_session_closed_flow() {
    let mut harness = party();
    let lines = harness.send(1, &bare("leave"));
    let expected = [
        "1 x 1000 goodbye",
        "2 < session_closed",
        "3 < session_closed",
        "2 x 1000 session closed",
        "3 x 1000 session closed",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(parse_line(&lines[1]).1["reason"], "Host ended the session");
    assert!(harness.realm.sessions.is_empty());
}

#[test]
fn the_reconnection_flow() {
    let mut harness = party();
    let before = harness.send(1, &bare("member_list"));
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    let members = [
        "*mac's name connected",
        "phone's name reconnecting",
        "pad's name connected",
    ];
    assert_eq!(
        member_list(&lines[0]),
        (1, members.map(str::to_owned).to_vec())
    );
    assert_eq!(member_list(&lines[1]).0, 3);
    harness.advance(2 * SECOND);
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "phone", "client"));
    let expected = [
        "4 < welcome",
        "4 < member_list",
        "1 < member_list",
        "3 < member_list",
    ];
    assert_eq!(summaries(&lines), expected);
    // The same IDs and times of joining, all connected.
    assert_eq!(
        parse_line(&before[0]).1["members"],
        parse_line(&lines[1]).1["members"]
    );
    assert_eq!(
        parse_line(&lines[0]).1["clientId"],
        parse_line(&before[0]).1["members"][1]["id"]
    );
}

#[test]
fn a_new_session_id_has_1_to_64_letters_digits_hyphens_or_underscores() {
    let longest = "x".repeat(64);
    for good in ["a", "-", "Az_0-9", &longest] {
        let mut harness = harness();
        harness.open(1, "/");
        assert_eq!(
            harness.send(1, &join(good, "mac", "host")).len(),
            2,
            "{good}"
        );
    }
    for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
        let mut harness = harness();
        harness.open(1, "/");
        let error = error(&harness.send(1, &join(bad, "mac", "host")), 1);
        assert_eq!(error["code"], "invalid_message", "{bad}");
        assert_eq!(error["details"], json!({"field": "sessionId"}));
    }
}

#[test]
fn a_session_is_named_by_its_host_or_after_its_device() {
    let longest = "ü".repeat(100);
    for (given, name) in [
        (json!({}), Some("mac's name")),
        (
            json!({"sessionName": "Rishad's Party"}),
            Some("Rishad's Party"),
        ),
        (json!({"sessionName": longest}), Some(&*longest)),
        (json!({"sessionName": ""}), None),
        (json!({"sessionName": "ü".repeat(101)}), None),
        (json!({"sessionName": 7}), None),
    ] {
        let mut harness = harness();
        harness.open(1, "/");
        let lines = harness.send(1, &join_with("s", "mac", "host", given.clone()));
        match name {
            Some(name) => assert_eq!(parse_line(&lines[0]).1["sessionInfo"]["name"], name),
            None => assert_eq!(
                error(&lines, 1)["details"]["field"],
                "sessionName",
                "{given}"
            ),
        }
    }
}

#[test]
fn a_host_may_limit_its_session_to_2_to_10_members() {
    for (given, good) in [
        (2, true),
        (10, true),
        (1, false),
        (0, false),
        (11, false),
        (-3, false),
    ] {
        let mut harness = harness();
        harness.open(1, "/");
        let lines = harness.send(
            1,
            &join_with("s", "mac", "host", json!({"maxMembers": given})),
        );
        if good {
            assert_eq!(summaries(&lines)[0], "1 < welcome", "{given}");
        } else {
            let error = error(&lines, 1);
            assert_eq!(error["code"], "invalid_message", "{given}");
            assert_eq!(error["details"]["field"], "maxMembers");
            assert_eq!(lines.len(), 1, "the connection stays open");
        }
    }
}

#[test]
fn a_session_has_one_host() {
    let mut harness = party();
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "other", "host"));
    assert_eq!(error_code(&lines, 4), "unauthorized");
    assert_eq!(lines[1..], ["4 x 1000 join refused"]);
    // A guest does not become the host.
    harness.disconnect(2, DisconnectReason::Lost);
    harness.open(5, "/");
    assert_eq!(
        error_code(&harness.send(5, &join("party", "phone", "host")), 5),
        "unauthorized"
    );
    // No other device becomes the host while the host is reconnecting.
    harness.disconnect(1, DisconnectReason::Lost);
    harness.open(6, "/");
    assert_eq!(
        error_code(&harness.send(6, &join("party", "other", "host")), 6),
        "unauthorized"
    );
}

#[test]
fn a_guest_cannot_join_a_session_that_does_not_exist() {
    let mut harness = party();
    for (conn, id) in [(4, "Party"), (5, ""), (6, "no such id!")] {
        harness.open(conn, "/");
        let lines = harness.send(conn, &join(id, "x", "client"));
        assert_eq!(error_code(&lines, conn), "session_not_found");
        assert_eq!(lines[1..], [format!("{conn} x 1000 join refused")]);
    }
}

#[test]
fn a_full_session_rejects_new_members_but_not_returning_ones() {
    let mut harness = harness();
    (1..=11).for_each(|conn| {
        harness.open(conn, "/");
    });
    harness.send(1, &join("s", "mac", "host"));
    for conn in 2..=10 {
        harness.send(conn, &join("s", &format!("d{conn}"), "client"));
    }
    let lines = harness.send(11, &join("s", "late", "client"));
    let error = error(&lines, 11);
    assert_eq!(error["code"], "session_full");
    assert_eq!(
        error["message"],
        "Session has reached maximum capacity (10 members)"
    );
    assert_eq!(
        error["details"],
        json!({"maxMembers": 10, "currentMembers": 10})
    );
    assert_eq!(lines[1..], ["11 x 1000 join refused"]);
    // A reconnecting member keeps its place.
    harness.disconnect(10, DisconnectReason::Lost);
    harness.open(12, "/");
    assert_eq!(
        error_code(&harness.send(12, &join("s", "late", "client")), 12),
        "session_full"
    );
    harness.open(13, "/");
    assert_eq!(
        summaries(&harness.send(13, &join("s", "d10", "client")))[0],
        "13 < welcome"
    );
}

#[test]
fn a_session_has_at_most_as_many_members_as_its_host_allows() {
    let mut harness = harness();
    (1..=3).for_each(|conn| {
        harness.open(conn, "/");
    });
    harness.send(1, &join_with("s", "mac", "host", json!({"maxMembers": 2})));
    harness.send(2, &join("s", "phone", "client"));
    let error = error(&harness.send(3, &join("s", "pad", "client")), 3);
    assert_eq!(
        error["details"],
        json!({"maxMembers": 2, "currentMembers": 2})
    );
}

#[test]
fn hosts_open_at_most_max_sessions_sessions() {
    let mut harness = RealmHarness::<Loudsync>::new(json!({"max_sessions": 1}));
    (1..=3).for_each(|conn| {
        harness.open(conn, "/");
    });
    harness.send(1, &join("a", "mac", "host"));
    let lines = harness.send(2, &join("b", "mac", "host"));
    let error = error(&lines, 2);
    assert_eq!(error["code"], "session_full");
    assert_eq!(error["details"], json!({"maxSessions": 1}));
    harness.send(1, &bare("leave"));
    assert_eq!(
        summaries(&harness.send(3, &join("b", "mac", "host")))[0],
        "3 < welcome"
    );
}

#[test]
fn a_join_of_a_connected_device_is_rejected_if_its_connection_answers() {
    for (device, owner, kind) in [("phone", 2, "client"), ("mac", 1, "host")] {
        let mut harness = party();
        harness.open(4, "/");
        let ask = harness.send(4, &join("party", device, kind));
        assert_eq!(ask, [format!("{owner} ? 2 s")]);
        let lines = harness.answer_probe(owner);
        assert_eq!(error_code(&lines, 4), "already_joined");
        assert_eq!(lines[1..], ["4 x 1000 join refused"]);
        assert_eq!(
            summaries(&harness.send(owner, &bare("ping"))),
            [format!("{owner} < pong")]
        );
    }
}

#[test]
fn a_device_takes_its_place_over_from_a_dead_connection() {
    let mut harness = party();
    let before = client_id(&mut harness, 1, 1);
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let lines = harness.fail_probe(2);
    let expected = [
        "2 x 4409 connected again elsewhere",
        "4 < welcome",
        "4 < member_list",
        "1 < member_list",
        "3 < member_list",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(parse_line(&lines[1]).1["clientId"], before);
}

#[test]
fn a_member_whose_device_joined_in_time_does_not_time_out_during_the_probe() {
    for (device, owner, kind) in [("phone", 2, "client"), ("mac", 1, "host")] {
        let mut harness = party();
        let before = client_id(&mut harness, 3, if owner == 1 { 0 } else { 1 });
        let others: Vec<u64> = (1..=3).filter(|conn| *conn != owner).collect();
        wait_with_heartbeats(&mut harness, 14 * SECOND, &others);
        harness.open(4, "/");
        let probe = [format!("{owner} ? 2 s")];
        assert_eq!(harness.send(4, &join("party", device, kind)), probe);
        assert_eq!(
            wait_with_heartbeats(&mut harness, 2 * SECOND, &others),
            no_lines()
        );
        let lines = harness.fail_probe(owner);
        assert_eq!(parse_line(&lines[1]).1["clientId"], before);
        assert!(!lines.iter().any(|line| line.contains("session_closed")));
    }
    // A connection that answers the probe still owes its heartbeats.
    let mut harness = party();
    wait_with_heartbeats(&mut harness, 14 * SECOND, &[1, 3]);
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    wait_with_heartbeats(&mut harness, 2 * SECOND, &[1, 3]);
    harness.answer_probe(2);
    assert_eq!(
        wait_with_heartbeats(&mut harness, SECOND, &[1, 3])[0],
        "2 x 4408 timed out"
    );
}

#[test]
fn a_device_takes_its_place_over_from_a_connection_lost_during_the_probe() {
    let mut harness = party();
    let before = client_id(&mut harness, 1, 1);
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    let welcome = lines.iter().find(|line| line.contains("welcome")).unwrap();
    assert_eq!(parse_line(welcome).1["clientId"], before);
}

#[test]
fn a_returning_device_has_its_new_name_and_a_fresh_heartbeat() {
    let mut harness = party();
    wait_with_heartbeats(&mut harness, 10 * SECOND, &[1, 3]);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.open(4, "/");
    let info = json!({"id": "phone", "name": "New name", "type": "client"});
    harness.send(
        4,
        &message("join", json!({"sessionId": "party", "deviceInfo": info})),
    );
    let lines = harness.send(1, &bare("member_list"));
    assert_eq!(member_list(&lines[0]).1[1], "New name connected");
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[1, 3]),
        no_lines()
    );
    assert_eq!(
        wait_with_heartbeats(&mut harness, SECOND, &[1, 3])[0],
        "4 x 4408 timed out"
    );
}

#[test]
fn a_device_that_is_lost_repeatedly_does_not_flood_the_members() {
    let mut harness = party();
    let mut lists = 0;
    for conn in 100..200 {
        harness.disconnect(
            if conn == 100 { 3 } else { conn - 1 },
            DisconnectReason::Lost,
        );
        harness.open(conn, "/");
        let lines = harness.send(conn, &join("party", "pad", "client"));
        assert_eq!(
            summaries(&lines)[..2],
            [format!("{conn} < welcome"), format!("{conn} < member_list")]
        );
        lists += lines.iter().filter(|line| line.starts_with("1 < ")).count();
    }
    assert!(lists <= 60, "{lists}");
    // The changes that were not announced follow in one list.
    let lines = harness.advance(SECOND);
    assert_eq!(member_list(&lines[0]).1[2], "pad's name connected");
    assert_eq!(
        summaries(&lines),
        ["1 < member_list", "2 < member_list", "199 < member_list"]
    );
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn a_session_of_more_than_32_members_gets_one_list_a_second() {
    let mut harness =
        RealmHarness::<Loudsync>::new(json!({"max_members": 256, "heartbeat_timeout": 3600}));
    harness.open(1, "/");
    harness.send(1, &join("party", "mac", "host"));
    let mut joins = |conn: u64| {
        harness.open(conn, "/");
        let lines = harness.send(conn, &join("party", &format!("device {conn}"), "client"));
        lines.iter().filter(|line| line.starts_with("1 < ")).count()
    };
    let received: Vec<usize> = (2..=40).map(&mut joins).collect();
    assert!(
        received[..31].iter().all(|&lines| lines == 1),
        "{received:?}"
    );
    assert!(
        received[31..].iter().all(|&lines| lines == 0),
        "{received:?}"
    );
    let lines = harness.advance(SECOND);
    let to_host = lines.iter().find(|line| line.starts_with("1 < ")).unwrap();
    assert_eq!(member_list(to_host).1.len(), 40);
    assert_eq!(lines.len(), 40);
    // Also after a minute without a change none is announced by itself.
    assert_eq!(harness.advance(61 * SECOND), no_lines());
    assert_eq!(harness.send(40, &bare("leave")), ["40 x 1000 goodbye"]);
    assert_eq!(harness.advance(SECOND).len(), 39);
    // With 32 members it is a small session again.
    for conn in 33..40 {
        harness.send(conn, &bare("leave"));
    }
    harness.advance(SECOND);
    let left = harness.send(32, &bare("leave"));
    assert_eq!(summaries(&left)[1], "1 < member_left");
}

#[test]
fn a_device_that_joins_and_leaves_repeatedly_does_not_flood_the_members() {
    let mut harness = party();
    let mut announcements = 0;
    for conn in 100..300 {
        harness.open(conn, "/");
        let lines = harness.send(conn, &join("party", "guest", "client"));
        assert!(
            summaries(&lines).contains(&format!("{conn} < welcome")),
            "it joins all the same"
        );
        let left = harness.send(conn, &bare("leave"));
        announcements += lines
            .iter()
            .chain(&left)
            .filter(|line| line.starts_with("1 < "))
            .count();
    }
    assert!(announcements <= 60, "{announcements}");
    let lines = harness.advance(SECOND);
    assert_eq!(
        summaries(&lines),
        ["1 < member_list", "2 < member_list", "3 < member_list"]
    );
    assert_eq!(member_list(&lines[0]).1.len(), 3);
    // A minute later changes are announced at once again.
    wait_with_heartbeats(&mut harness, 60 * SECOND, &[1, 2, 3]);
    assert_eq!(
        summaries(&harness.send(3, &bare("leave")))[1..],
        ["1 < member_left", "2 < member_left"]
    );
}

#[test]
fn the_oldest_abandoned_session_is_closed_at_the_limit() {
    let mut harness = RealmHarness::<Loudsync>::new(json!({"max_sessions": 2}));
    for (conn, session) in [(1, "a"), (2, "b")] {
        harness.open(conn, "/");
        harness.send(conn, &join(session, "mac", "host"));
        harness.disconnect(conn, DisconnectReason::Lost);
        harness.advance(SECOND);
    }
    for (conn, session, left) in [(3, "c", ["b", "c"]), (4, "d", ["c", "d"])] {
        harness.open(conn, "/");
        assert_eq!(harness.send(conn, &join(session, "mac", "host")).len(), 2);
        assert!(harness.realm.sessions.keys().eq(left.iter()));
    }
}

#[test]
fn a_device_whose_connection_leaves_during_the_probe_joins_as_a_new_member() {
    let mut harness = party();
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let lines = summaries(&harness.disconnect(2, DisconnectReason::ClosedByClient(Some(1000))));
    // The old member has left, so this is a new one.
    assert_eq!(lines[..2], ["1 < member_left", "3 < member_left"]);
    assert!(lines.contains(&"4 < welcome".to_owned()));
    assert!(lines.contains(&"1 < member_joined".to_owned()));
}

#[test]
fn a_takeover_is_rejected_if_the_session_ends() {
    let mut harness = party();
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let lines = harness.send(1, &bare("leave"));
    let received: Vec<&String> = lines.iter().filter(|line| line.starts_with('4')).collect();
    assert_eq!(parse_line(received[0]).1["code"], "session_not_found");
    assert_eq!(received[1], "4 x 1000 join refused");
}

#[test]
fn a_silent_connection_stays_if_the_takeover_is_gone() {
    let mut harness = party();
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    harness.disconnect(4, DisconnectReason::Lost);
    assert_eq!(harness.fail_probe(2), no_lines());
}

#[test]
fn a_second_join_is_an_error_and_changes_nothing() {
    let mut harness = party();
    let lines = harness.send(2, &join("other", "x", "host"));
    assert_eq!(
        (error_code(&lines, 2), lines.len()),
        ("already_joined".to_owned(), 1)
    );
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let other_version = join_with("party", "phone", "client", json!({"version": 2}));
    for (conn, second) in [
        (4, join("party", "phone", "client")),
        (4, join("nowhere", "x", "client")),
        (4, other_version.clone()),
        (2, other_version),
    ] {
        let lines = harness.send(conn, &second);
        assert_eq!(
            (error_code(&lines, conn), lines.len()),
            ("already_joined".to_owned(), 1)
        );
    }
    // The answer to the first JOIN is still to come.
    assert!(summaries(&harness.fail_probe(2)).contains(&"4 < welcome".to_owned()));
}

#[test]
fn a_rejected_join_closes_the_connection_and_an_invalid_one_does_not() {
    let mut harness = party();
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "", "client"));
    assert_eq!(
        (error_code(&lines, 4), lines.len()),
        ("invalid_message".to_owned(), 1)
    );
    let lines = harness.send(4, &join("nowhere", "x", "client"));
    assert_eq!(lines[1..], ["4 x 1000 join refused"]);
}

#[test]
fn only_join_and_ping_are_allowed_before_joining() {
    let mut harness = harness();
    harness.open(1, "/");
    assert_eq!(summaries(&harness.send(1, &bare("ping"))), ["1 < pong"]);
    for text in [
        bare("leave"),
        bare("heartbeat"),
        bare("member_list"),
        kick("x"),
    ] {
        let lines = harness.send(1, &text);
        assert_eq!(
            (error_code(&lines, 1), lines.len()),
            ("unauthorized".to_owned(), 1),
            "{text}"
        );
    }
    assert_eq!(harness.send(1, &join("s", "mac", "host")).len(), 2);
}

#[test]
fn a_join_for_another_major_version_is_rejected() {
    for good in [
        json!("1.0"),
        json!("1"),
        json!("1.7.3"),
        json!(1),
        json!(1.5),
        Value::Null,
    ] {
        let mut harness = harness();
        harness.open(1, "/");
        let lines = harness.send(1, &join_with("s", "mac", "host", json!({"version": good})));
        assert_eq!(summaries(&lines)[0], "1 < welcome", "{good}");
    }
    let beyond = json!("18446744073709551617.0");
    for other in [json!("2.0"), json!(2), json!("0.9"), json!("10"), beyond] {
        let mut harness = harness();
        harness.open(1, "/");
        // The other fields are not checked: that version may define them differently.
        let more = json!({"version": other, "deviceInfo": 7, "maxMembers": 100});
        let lines = harness.send(1, &join_with("s", "mac", "host", more));
        assert_eq!(error_code(&lines, 1), "version_mismatch", "{other}");
        assert_eq!(lines[1..], ["1 x 1000 join refused"]);
    }
    for wrong in [json!("new"), json!([]), json!(""), json!(-1), json!(true)] {
        let mut harness = harness();
        harness.open(1, "/");
        let lines = harness.send(1, &join_with("s", "mac", "host", json!({"version": wrong})));
        assert_eq!(error(&lines, 1)["details"]["field"], "version", "{wrong}");
    }
}

#[test]
fn a_client_that_does_not_join_within_15_seconds_is_closed() {
    let mut harness = harness();
    harness.open(1, "/");
    harness.open(2, "/");
    harness.send(2, &join("s", "mac", "host"));
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[2]),
        no_lines()
    );
    harness.send(1, &bare("ping"));
    assert_eq!(
        wait_with_heartbeats(&mut harness, SECOND, &[2]),
        ["1 x 4401 no HELLO or JOIN in time"]
    );
    let mut without_limit = RealmHarness::<Loudsync>::new(json!({"join_timeout": 0}));
    without_limit.open(1, "/");
    assert_eq!(without_limit.advance(1000 * SECOND), no_lines());
}

#[test]
fn the_list_has_all_members_in_order_of_joining() {
    let mut harness = party();
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "a device that sorts first", "client"));
    let own = lines
        .iter()
        .find(|line| line.contains("member_list"))
        .unwrap();
    let names: Vec<String> = member_list(own).1;
    assert_eq!(names[0], "*mac's name connected");
    assert_eq!(
        names[1..3],
        ["phone's name connected", "pad's name connected"]
    );
    assert_eq!((member_list(own).0, names.len()), (4, 4));
}

#[test]
fn the_list_is_sent_on_request() {
    let mut harness = party();
    let lines = harness.send(2, &bare("member_list"));
    assert_eq!(member_list(&lines[0]).1.len(), 3);
    assert_eq!(summaries(&lines), ["2 < member_list"]);
}

#[test]
fn latency_is_the_round_trip_that_the_server_measured() {
    let mut harness = party();
    let latency = |harness: &mut RealmHarness<Loudsync>| {
        parse_line(&harness.send(1, &bare("member_list"))[0]).1["members"][1]["latency"].clone()
    };
    assert_eq!(latency(&mut harness), Value::Null);
    for (micros, millis) in [(23_400, 23), (31_500, 32), (80, 0), (2_000_000, 2000)] {
        harness.set_rtt(2, Duration::from_micros(micros));
        assert_eq!(latency(&mut harness), json!(millis));
    }
    // A new member is announced with its latency if it was measured before it joined.
    harness.open(4, "/");
    harness.set_rtt(4, Duration::from_millis(31));
    let lines = harness.send(4, &join("party", "tv", "client"));
    let joined = lines
        .iter()
        .find(|line| line.contains("member_joined"))
        .unwrap();
    assert_eq!(parse_line(joined).1["member"]["latency"], 31);
}

#[test]
fn client_ids_are_random_and_device_ids_are_never_sent() {
    let mut harness = harness();
    (1..=2).for_each(|conn| {
        harness.open(conn, "/");
    });
    let device = |id: &str, kind: &str| {
        let info = json!({"id": id, "name": "N", "type": kind});
        message("join", json!({"sessionId": "s", "deviceInfo": info}))
    };
    let mut lines = harness.send(1, &device("secret-1", "host"));
    lines.extend(harness.send(2, &device("secret-2", "client")));
    lines.extend(harness.disconnect(2, DisconnectReason::Lost));
    assert!(
        !lines.iter().any(|line| line.contains("secret")),
        "{lines:?}"
    );
    let ids: Vec<String> = [0, 2, 3]
        .iter()
        .filter_map(|&at| {
            parse_line(&lines[at]).1["clientId"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    for (id, prefix) in ids.iter().zip(["host-", "client-"]) {
        let random = id.strip_prefix(prefix).unwrap();
        assert!(random.len() == 12 && random.bytes().all(|letter| ID_ALPHABET.contains(&letter)));
    }
    assert_eq!(ids.len(), 2);
    // An ID that is drawn twice is not used twice.
    (3..=4).for_each(|conn| {
        harness.open(conn, "/");
    });
    harness.send(3, &device("secret-3", "client"));
    harness.repeat_last_id();
    let lines = harness.send(4, &device("secret-4", "client"));
    let listed = lines
        .iter()
        .find(|line| line.contains("member_list"))
        .unwrap();
    let members = parse_line(listed).1["members"].clone();
    let ids: std::collections::BTreeSet<&str> = members
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn leave_and_a_clean_close_have_the_same_effect() {
    for code in [None, Some(1000), Some(1001)] {
        let mut harness = party();
        let lines = harness.disconnect(2, DisconnectReason::ClosedByClient(code));
        assert_eq!(summaries(&lines), ["1 < member_left", "3 < member_left"]);
        assert_eq!(parse_line(&lines[0]).1["reason"], "left");
        let mut harness = party();
        let lines = harness.disconnect(1, DisconnectReason::ClosedByClient(code));
        assert_eq!(summaries(&lines)[0], "2 < session_closed");
    }
}

#[test]
fn a_member_whose_connection_is_lost_is_reconnecting() {
    for how in [
        DisconnectReason::Lost,
        DisconnectReason::Unresponsive,
        DisconnectReason::ClosedByClient(Some(3000)),
        DisconnectReason::Closed(CloseReason::INTERNAL_ERROR),
    ] {
        let mut harness = party();
        let lines = harness.disconnect(3, how);
        assert_eq!(summaries(&lines), ["1 < member_list", "2 < member_list"]);
        assert_eq!(member_list(&lines[0]).1[2], "pad's name reconnecting");
    }
}

#[test]
fn a_member_that_does_not_return_times_out_15_seconds_after_its_last_heartbeat() {
    let mut harness = party();
    wait_with_heartbeats(&mut harness, 4 * SECOND, &[1, 2, 3]);
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        wait_with_heartbeats(&mut harness, 13 * SECOND, &[1, 3]),
        no_lines()
    );
    let lines = wait_with_heartbeats(&mut harness, SECOND, &[1, 3]);
    assert_eq!(
        summaries(&lines),
        ["1 < member_left", "3 < member_left"],
        "15 s after its heartbeat"
    );
    assert_eq!(parse_line(&lines[0]).1["reason"], "timeout");
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "phone", "client"));
    assert!(
        summaries(&lines).contains(&"1 < member_joined".to_owned()),
        "a new member"
    );
}

#[test]
fn only_heartbeats_keep_a_member() {
    let mut harness = party();
    for _ in 0..14 {
        harness.send(2, &bare("ping"));
        harness.send(2, &bare("member_list"));
        wait_with_heartbeats(&mut harness, SECOND, &[1, 3]);
    }
    assert_eq!(
        wait_with_heartbeats(&mut harness, SECOND, &[1, 3])[0],
        "2 x 4408 timed out"
    );
}

#[test]
fn a_client_that_the_server_does_not_read_does_not_time_out() {
    let mut harness = party();
    harness.open(4, "/");
    for conn in [1, 2, 3, 4] {
        harness.advance_unread(conn, Duration::ZERO);
    }
    for _ in 0..3 {
        harness.send(1, &bare("heartbeat"));
        harness.send(3, &bare("heartbeat"));
        harness.advance_unread(4, Duration::ZERO);
        assert_eq!(harness.advance_unread(2, 5 * SECOND), no_lines());
    }
    harness.advance_unread(4, Duration::ZERO);
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[1, 3]),
        no_lines()
    );
    let lines = wait_with_heartbeats(&mut harness, SECOND, &[1, 3]);
    assert_eq!(
        lines[..2],
        ["4 x 4401 no HELLO or JOIN in time", "2 x 4408 timed out"]
    );
}

#[test]
fn a_heartbeat_has_no_answer() {
    let mut harness = party();
    assert_eq!(harness.send(2, &bare("heartbeat")), no_lines());
    assert_eq!(
        wait_with_heartbeats(&mut harness, 100 * SECOND, &[1, 2, 3]),
        no_lines()
    );
}

#[test]
fn heartbeats_are_checked_every_second() {
    let mut harness = party();
    harness.advance(Duration::from_millis(14_999));
    assert_eq!(harness.realm.sessions.len(), 1);
    assert_eq!(
        harness.advance(Duration::from_millis(1)).len(),
        3,
        "all are closed at once, so no member is notified of another"
    );
    assert!(harness.realm.is_empty());
}

#[test]
fn a_session_ends_when_its_host_times_out() {
    let mut harness = party();
    let lines = harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(member_list(&lines[0]).1[0], "*mac's name reconnecting");
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[2, 3]),
        no_lines()
    );
    let lines = wait_with_heartbeats(&mut harness, SECOND, &[2, 3]);
    let expected = [
        "2 < session_closed",
        "3 < session_closed",
        "2 x 1000 session closed",
        "3 x 1000 session closed",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(
        parse_line(&lines[0]).1["reason"],
        "Host lost its connection"
    );
    // The same for a host that is connected and sends no heartbeats.
    let mut harness = party();
    assert_eq!(
        wait_with_heartbeats(&mut harness, 14 * SECOND, &[2, 3]),
        no_lines()
    );
    assert_eq!(
        summaries(&wait_with_heartbeats(&mut harness, SECOND, &[2, 3]))[..2],
        ["1 x 4408 timed out", "2 < session_closed"]
    );
}

#[test]
fn a_host_that_returns_in_time_is_the_host_again() {
    let mut harness = party();
    harness.disconnect(1, DisconnectReason::Lost);
    harness.open(4, "/");
    let again = join_with(
        "party",
        "mac",
        "host",
        json!({"sessionName": "Other", "maxMembers": 2}),
    );
    let lines = harness.send(4, &again);
    let expected = [
        "4 < welcome",
        "4 < member_list",
        "2 < member_list",
        "3 < member_list",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(
        parse_line(&lines[0]).1["sessionInfo"]["name"],
        "mac's name",
        "the session keeps its name"
    );
    let id = client_id(&mut harness, 4, 1);
    let told = summaries(&harness.send(4, &kick(&id)));
    assert!(told.contains(&"3 < member_left".to_owned()), "{told:?}");
}

#[test]
fn a_host_kicks_a_member() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    let mut lines = harness.send(1, &kick(&id));
    lines.sort();
    let expected = [
        "1 < member_left",
        "2 < kicked",
        "2 x 4403 removed by the host",
        "3 < member_left",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(
        parse_line(&lines[1]).1["reason"],
        "Host removed you from the session"
    );
    assert_eq!(parse_line(&lines[0]).1["reason"], "kicked");
    assert_eq!(parse_line(&lines[0]).1["memberId"], id);
    let id = client_id(&mut harness, 1, 1);
    harness.open(4, "/");
    harness.send(4, &join("party", "tv", "client"));
    let tv = client_id(&mut harness, 1, 2);
    let text = message("kick", json!({"memberId": tv, "reason": ""}));
    let kicked = harness
        .send(1, &text)
        .into_iter()
        .find(|line| line.starts_with("4 <"))
        .unwrap();
    assert_eq!(
        parse_line(&kicked).1["reason"],
        "Host removed you from the session"
    );
    let text = message("kick", json!({"memberId": id, "reason": "too loud"}));
    let kicked = harness
        .send(1, &text)
        .into_iter()
        .find(|line| line.starts_with("3 <"))
        .unwrap();
    assert_eq!(parse_line(&kicked).1["reason"], "too loud");
}

#[test]
fn a_takeover_is_rejected_if_the_member_is_kicked() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    harness.open(4, "/");
    harness.send(4, &join("party", "phone", "client"));
    let lines = harness.send(1, &kick(&id));
    let received: Vec<&String> = lines.iter().filter(|line| line.starts_with('4')).collect();
    assert_eq!(parse_line(received[0]).1["code"], "unauthorized");
    assert_eq!(received[1], "4 x 1000 join refused");
    assert!(!lines.iter().any(|line| line.contains("member_joined")));
}

#[test]
fn a_host_kicks_a_member_that_is_reconnecting() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        summaries(&harness.send(1, &kick(&id))),
        ["1 < member_left", "3 < member_left"]
    );
}

#[test]
fn only_the_host_can_kick() {
    let mut harness = party();
    let [host, phone, pad] = [0, 1, 2].map(|at| client_id(&mut harness, 1, at));
    for id in [&host, &phone, &pad] {
        let lines = harness.send(2, &kick(id));
        assert_eq!(
            (error_code(&lines, 2), lines.len()),
            ("unauthorized".to_owned(), 1)
        );
    }
    for id in [host.as_str(), "client-unknown", ""] {
        let error = error(&harness.send(1, &kick(id)), 1);
        assert_eq!(error["code"], "invalid_message");
        assert_eq!(error["details"], json!({"field": "memberId"}));
    }
    // The host of another session cannot either.
    harness.open(4, "/");
    harness.send(4, &join("other", "mac", "host"));
    assert_eq!(
        error_code(&harness.send(4, &kick(&phone)), 4),
        "invalid_message"
    );
}

#[test]
fn a_reason_has_at_most_200_characters() {
    let mut harness = party();
    let id = client_id(&mut harness, 1, 1);
    let with = |reason: Value| message("kick", json!({"memberId": id, "reason": reason}));
    for wrong in [json!("x".repeat(201)), json!(7)] {
        assert_eq!(
            error(&harness.send(1, &with(wrong)), 1)["details"]["field"],
            "reason"
        );
    }
    let wrong = message("leave", json!({"reason": ["x"]}));
    assert_eq!(
        error(&harness.send(2, &wrong), 2)["details"]["field"],
        "reason"
    );
    let empty = message("leave", json!({"reason": ""}));
    assert_eq!(harness.send(3, &empty)[0], "3 x 1000 goodbye");
    let lines = harness.send(1, &with(json!("ü".repeat(200))));
    assert!(summaries(&lines).contains(&"2 < kicked".to_owned()));
}

#[test]
fn a_member_closed_for_breaking_the_protocol_leaves_by_error() {
    for why in [
        CloseReason::PROTOCOL_ERROR,
        CloseReason::INVALID_UTF8,
        CloseReason::TOO_BIG,
        CloseReason::TOO_SLOW,
        CloseReason::SHORT_OF_MEMORY,
    ] {
        let mut harness = party();
        let lines = harness.disconnect(2, DisconnectReason::Closed(why));
        assert_eq!(summaries(&lines), ["1 < member_left", "3 < member_left"]);
        assert_eq!(parse_line(&lines[0]).1["reason"], "error");
        let mut harness = party();
        let lines = harness.disconnect(1, DisconnectReason::Closed(why));
        assert_eq!(
            parse_line(&lines[0]).1["reason"],
            "Host lost its connection"
        );
    }
}

#[test]
fn a_pong_has_the_timestamp_of_its_ping() {
    let mut harness = party();
    for timestamp in ["1706889650000", "-1", "1706889650000.25", "1e3", "0"] {
        let text = format!(r#"{{"type":"ping","timestamp":{timestamp}}}"#);
        let pong = format!(r#"2 < {{"type":"pong","timestamp":{timestamp}}}"#);
        assert_eq!(harness.send(2, &text), [pong]);
    }
}

#[test]
fn every_message_needs_a_type_and_a_timestamp() {
    let mut harness = party();
    for (text, field) in [
        (r#"{"timestamp":1}"#, "type"),
        (r#"{"type":7,"timestamp":1}"#, "type"),
        (r#"{"type":"JOIN","timestamp":1}"#, "type"),
        (r#"{"type":"welcome","timestamp":1}"#, "type"),
        (r#"{"type":"heartbeat"}"#, "timestamp"),
        (r#"{"type":"heartbeat","timestamp":"1"}"#, "timestamp"),
        (r#"{"type":"heartbeat","timestamp":null}"#, "timestamp"),
        (r#"{"type":"heartbeat","timestamp":[1]}"#, "timestamp"),
    ] {
        let lines = harness.send(2, text);
        let error = error(&lines, 2);
        assert_eq!(error["code"], "invalid_message", "{text}");
        assert_eq!(error["details"], json!({"field": field}), "{text}");
        assert_eq!(lines.len(), 1);
    }
}

#[test]
fn the_error_for_an_invalid_message_names_the_field() {
    let join = |session: Value, info: Value| {
        message("join", json!({"sessionId": session, "deviceInfo": info}))
    };
    let device =
        |id: Value, name: Value, kind: Value| json!({"id": id, "name": name, "type": kind});
    let good = || device(json!("d"), json!("n"), json!("client"));
    let long = "x".repeat(129);
    let long_name = "ü".repeat(101);
    for (text, field) in [
        (join(json!(7), good()), "sessionId"),
        (join(Value::Null, good()), "sessionId"),
        (join(json!("s"), Value::Null), "deviceInfo"),
        (join(json!("s"), json!([])), "deviceInfo"),
        (join(json!("s"), json!("phone")), "deviceInfo"),
        (
            join(json!("s"), device(json!(""), json!("n"), json!("client"))),
            "deviceInfo.id",
        ),
        (
            join(json!("s"), device(json!(long), json!("n"), json!("client"))),
            "deviceInfo.id",
        ),
        (
            join(json!("s"), device(json!(1), json!("n"), json!("client"))),
            "deviceInfo.id",
        ),
        (
            join(json!("s"), device(json!("d"), json!(""), json!("client"))),
            "deviceInfo.name",
        ),
        (
            join(
                json!("s"),
                device(json!("d"), json!(long_name), json!("client")),
            ),
            "deviceInfo.name",
        ),
        (
            join(json!("s"), device(json!("d"), json!("n"), json!("guest"))),
            "deviceInfo.type",
        ),
        (
            join(json!("s"), device(json!("d"), json!("n"), Value::Null)),
            "deviceInfo.type",
        ),
        (message("kick", json!({})), "memberId"),
    ] {
        let mut harness = harness();
        harness.open(1, "/");
        let lines = harness.send(1, &text);
        let error = error(&lines, 1);
        assert_eq!(error["code"], "invalid_message", "{text}");
        assert_eq!(error["details"], json!({"field": field}), "{text}");
        assert_eq!(lines.len(), 1, "the connection stays open");
    }
    let mut harness = harness();
    harness.open(1, "/");
    for text in [
        "",
        "nonsense",
        "[]",
        "{",
        "7",
        r#"{"type":"ping","type":"ping","timestamp":1}"#,
    ] {
        let error = error(&harness.send(1, text), 1);
        assert_eq!(
            (&error["code"], &error["details"]),
            (&json!("invalid_message"), &Value::Null)
        );
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let mut harness = party();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!(r#"{{"more":{deep},"type":"ping","timestamp":1,"memberId":7}}"#);
    assert_eq!(summaries(&harness.send(2, &text)), ["2 < pong"]);
}

#[test]
fn a_binary_message_is_an_error() {
    let mut harness = party();
    let ping = Message::Binary(bare("ping").into_bytes().into());
    assert_eq!(
        error_code(&harness.send_message(2, ping), 2),
        "invalid_message"
    );
}

#[test]
fn a_shutdown_closes_every_session() {
    let mut harness = party();
    harness.open(4, "/");
    harness.open(5, "/");
    harness.send(5, &join("other", "mac", "host"));
    let mut lines = harness.stop();
    lines.sort();
    assert_eq!(
        summaries(&lines),
        [1, 2, 3, 5].map(|conn| format!("{conn} < session_closed"))
    );
    assert_eq!(parse_line(&lines[0]).1["reason"], "Server is going away");
}

#[test]
fn nothing_is_kept_after_all_clients_have_disconnected() {
    let mut harness = party();
    harness.open(4, "/");
    harness.open(5, "/");
    harness.send(5, &join("party", "phone", "client"));
    for conn in [4, 2, 3, 5] {
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(15 * SECOND);
    assert!(harness.realm.is_empty());
}

#[test]
fn options_out_of_range_are_named() {
    for (key, wrong) in [
        ("takeover_timeout", 0),
        ("heartbeat_timeout", 0),
        ("max_members", 1),
        ("max_members", 257),
    ] {
        let options = json!({key: wrong});
        assert_eq!(RealmHarness::<Loudsync>::invalid_option(options), key);
    }
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("upper_case.rs"),
        include_str!("../../../../tests/loudsync.rs"),
    ]);
}

#[test]
fn the_longest_names_are_accepted() {
    let mut harness = harness();
    harness.open(1, "/");
    let info = json!({"id": "ü".repeat(128), "name": "ü".repeat(100), "type": "host"});
    let join = message(
        "join",
        json!({"sessionId": "x".repeat(64), "deviceInfo": info}),
    );
    assert_eq!(summaries(&harness.send(1, &join))[0], "1 < welcome");
    assert_eq!(
        PROTOCOL.slow_consumer_policy,
        SlowConsumerPolicy::Disconnect
    );
}

#[test]
fn when_memory_is_short_the_oldest_abandoned_sessions_end() {
    let mut harness = harness();
    for conn in 1..=4 {
        harness.open(conn, "/");
        harness.send(
            conn,
            &join(&format!("s{conn}"), &format!("d{conn}"), "host"),
        );
        harness.advance(SECOND);
    }
    let all = harness.realm.stored_bytes();
    assert!(all > 4 * size_of::<Session>());
    for conn in [1, 2, 3] {
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    assert_eq!(harness.shed(Retention::BestEffort, usize::MAX).0, 0);
    let (freed, lines) = harness.shed(Retention::Promised, all / 3);
    assert!(freed > all / 3 && lines.is_empty());
    assert_eq!(harness.realm.stored_bytes(), all - freed);
    let left: Vec<&String> = harness.realm.sessions.keys().collect();
    assert_eq!(left, ["s3", "s4"]);
    harness.shed(Retention::Promised, usize::MAX);
    assert_eq!(
        harness.realm.sessions.len(),
        1,
        "a session with a member stays"
    );
}

#[test]
fn changed_options_hold_and_sessions_stay() {
    let mut harness = party();
    harness.open(4, "/");
    let options =
        json!({"max_members": 2, "max_sessions": 1, "join_timeout": 1, "heartbeat_timeout": 5});
    assert_eq!(harness.reconfigure(options), no_lines());
    assert_eq!(
        harness.send(2, &bare("member_list")).len(),
        1,
        "the session has more members than a new one may have"
    );
    let lines = harness.send(4, &join("other", "tv", "host"));
    assert_eq!(error_code(&lines, 4), "session_full");
    harness.open(5, "/");
    let lines = wait_with_heartbeats(&mut harness, SECOND, &[1, 2]);
    assert!(
        lines.iter().any(|line| line.starts_with("5 x 4401 ")),
        "{lines:?}"
    );
    let lines = wait_with_heartbeats(&mut harness, 4 * SECOND, &[1, 2]);
    assert!(
        lines.contains(&"3 x 4408 timed out".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn the_figures_are_the_sessions_their_members_and_those_who_have_not_joined() {
    let mut harness = harness();
    for (conn, kind) in [(1, "host"), (2, "client")] {
        harness.open(conn, "/");
        harness.send(conn, &join("s", &format!("d{conn}"), kind));
    }
    harness.open(3, "/");
    harness.disconnect(2, DisconnectReason::Lost);
    let expected = Figures {
        sizes: vec![
            ("sessions", 1),
            ("members", 2),
            ("members_connected", 1),
            ("unregistered", 1),
        ],
        rate_limited: 0,
    };
    assert_eq!(harness.realm.figures(), expected);
}
