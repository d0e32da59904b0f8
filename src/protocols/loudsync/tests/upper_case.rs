//! Each demand on LOUDSYNC's upper-case dialect, with the test that holds it.
//!
//! `document.rs` tests which client is sent which message; these tests are about its JSON.
//!
//! | demand | test |
//! | --- | --- |
//! | the first message decides the dialect, for the connection's life | `the_first_message_with_a_type_decides_the_dialect` |
//! | an invalid one is answered in the dialect whose shape it has | `an_invalid_first_message_is_answered_in_its_own_dialect` |
//! | a connection that mixes dialects | `a_client_that_mixes_dialects_is_answered_in_its_first` |
//! | JOIN's fields | `a_join_needs_a_session_and_a_device` |
//! | JOIN's `version` | `an_upper_case_join_for_another_major_version_is_rejected` |
//! | `timestamp` is required, `messageId` is not | `every_message_needs_a_timestamp_and_may_have_an_id` |
//! | an invalid field is named | `the_text_of_an_error_names_the_field` |
//! | a binary message | `a_binary_message_is_an_error_in_the_dialect_of_the_connection` |
//! | WELCOME, MEMBER_LIST | `a_client_that_joins_gets_a_welcome_and_the_list` |
//! | MEMBER_JOINED | `a_new_member_is_announced_to_each_other_member_in_its_dialect` |
//! | LEAVE, MEMBER_LEFT | `a_leave_removes_the_connections_own_member_whatever_device_it_names` |
//! | HEARTBEAT | `a_heartbeat_keeps_the_connections_own_member_whatever_device_it_names` |
//! | PING, PONG | `a_ping_is_answered_with_both_timestamps`, `a_pong_is_ignored` |
//! | the list on request | `the_upper_case_list_is_sent_on_request` |
//! | KICKED | `a_kicked_client_is_told_the_reason` |
//! | its client is always a guest | `an_upper_case_client_is_always_a_guest` |
//! | SESSION_CLOSED | `the_end_of_a_session_is_announced_in_both_dialects` |
//! | ERROR's codes in upper case | `every_error_code_is_in_upper_case` |
//! | a takeover keeps its dialect | `a_takeover_is_rejected_in_the_dialect_of_its_client` |
//! | a device may return in another dialect | `a_device_may_return_in_another_dialect` |
//! | `lastSeen`, `latency`, `address`, `connectionStatus` | `a_member_has_its_last_heartbeat_its_latency_and_no_address` |
//! | a device is shown its own device ID for itself, and no other device's | `a_device_is_shown_its_own_device_id_and_no_other` |
//! | one frame per dialect in use, and one for each recipient that is named | `a_message_is_encoded_once_per_dialect_and_again_for_a_recipient_that_it_names` |
//! | the same over sockets | `an_upper_case_client_joins_and_leaves` |

use super::document::{
    SECOND, bare, client_id, harness, join as document_join, kick, message as document, parse_line,
    party, summaries, wait_with_heartbeats,
};
use crate::base::close::DisconnectReason;
use crate::base::frame::Frame;
use crate::protocols::loudsync::codec_upper_case;
use crate::protocols::loudsync::messages::{ErrorCode, LeaveReason, RecipientIds, ServerMessage};
use crate::protocols::loudsync::{Dialect, Loudsync};
use crate::realm;
use crate::testing::harness::{RealmHarness, no_lines};
use crate::toolkit::dialect::Encode;
use serde_json::{Value, json};
use std::time::Duration;

const NOW: u64 = 1_768_557_600_000;

/// Returns a message of this dialect.
fn upper(kind: &str, payload: Value) -> String {
    json!({"type": kind, "timestamp": 1_706_889_600_000_u64, "payload": payload}).to_string()
}

fn join(session: &str, device: &str) -> String {
    let payload = json!({
        "sessionId": session, "deviceId": device, "deviceName": format!("{device}'s name"),
        "version": "1.0.0",
    });
    upper("JOIN", payload)
}

/// Returns the party with a guest of this dialect: connection 4 with the device `tv`.
fn mixed_party() -> RealmHarness<Loudsync> {
    let mut harness = party();
    harness.open(4, "/");
    harness.send(4, &join("party", "tv"));
    harness
}

/// Returns the first message to a client of this dialect: its type and its payload.
fn message_to(lines: &[String], conn: u64) -> (String, Value) {
    let line = lines
        .iter()
        .find(|line| line.starts_with(&format!("{conn} < ")))
        .unwrap_or_else(|| panic!("nothing for {conn}: {lines:?}"));
    let (_, mut message) = parse_line(line);
    let fields: Vec<&String> = message.as_object().unwrap().keys().collect();
    assert_eq!(fields.len(), 3, "type, timestamp, payload: {line}");
    let kind = message["type"].as_str().unwrap().to_owned();
    (kind, message["payload"].take())
}

/// Returns the first message to a client of this dialect, which must be an error: its code and its text.
fn error(lines: &[String], conn: u64) -> (String, String) {
    let (kind, payload) = message_to(lines, conn);
    assert_eq!(kind, "ERROR", "{lines:?}");
    assert_eq!(payload.as_object().unwrap().len(), 2, "code and message");
    let text = |key: &str| payload[key].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

fn ids(members: &Value) -> Vec<&str> {
    let members = members.as_array().unwrap().iter();
    members.map(|it| it["id"].as_str().unwrap()).collect()
}

#[test]
fn the_first_message_with_a_type_decides_the_dialect() {
    let undecided = [
        "nonsense",
        "[]",
        "{}",
        r#"{"timestamp":1}"#,
        r#"{"type":7,"timestamp":1}"#,
        r#"{"type":null,"timestamp":1}"#,
        r#"{"type":"Join","timestamp":1}"#,
        r#"{"type":"","timestamp":1}"#,
        r#"{"type":"_","timestamp":1}"#,
        r#"{"type":"JOIN","type":"join","timestamp":1}"#,
        r#"{"type":"JOIN","#,
    ];
    for (text, kind) in [
        (bare("leave"), "error"),
        (bare("nothing"), "error"),
        (upper("LEAVE", json!({})), "ERROR"),
        (upper("NOTHING", json!({})), "ERROR"),
    ] {
        let mut harness = harness();
        harness.open(1, "/");
        for text in undecided {
            assert_eq!(summaries(&harness.send(1, text)), ["1 < error"], "{text}");
        }
        assert_eq!(summaries(&harness.send(1, &text)), [format!("1 < {kind}")]);
        for text in undecided {
            assert_eq!(summaries(&harness.send(1, text)), [format!("1 < {kind}")]);
        }
    }
}

#[test]
fn an_invalid_first_message_is_answered_in_its_own_dialect() {
    for (text, kind) in [
        (r#"{"type":"JOIN"}"#, "ERROR"),
        (r#"{"type":"JOIN","timestamp":"1"}"#, "ERROR"),
        (r#"{"type":"JOIN","timestamp":1,"payload":7}"#, "ERROR"),
        (r#"{"type":"JOIN","timestamp":1,"timestamp":1}"#, "ERROR"),
        (r#"{"type":"join"}"#, "error"),
        (r#"{"type":"join","timestamp":1,"payload":{}}"#, "error"),
    ] {
        let mut harness = party();
        harness.open(4, "/");
        let lines = harness.send(4, text);
        assert_eq!(summaries(&lines), [format!("4 < {kind}")], "{text}");
        // The connection stays open, in that dialect.
        let (welcome, join) = if kind == "ERROR" {
            ("WELCOME", join("party", "tv"))
        } else {
            ("welcome", document_join("party", "tv", "client"))
        };
        let lines = summaries(&harness.send(4, &join));
        assert!(lines.contains(&format!("4 < {welcome}")), "{lines:?}");
    }
}

#[test]
fn a_client_that_mixes_dialects_is_answered_in_its_first() {
    let mut harness = mixed_party();
    for text in [
        bare("ping"),
        bare("member_list"),
        document_join("party", "tv", "client"),
    ] {
        let (code, message) = error(&harness.send(4, &text), 4);
        assert_eq!(code, "INVALID_MESSAGE");
        assert!(message.contains("\"type\""), "{message}");
    }
    for text in [upper("PING", json!({"timestamp": 1})), join("party", "x")] {
        let lines = harness.send(2, &text);
        assert_eq!(parse_line(&lines[0]).1["code"], "invalid_message");
    }
    // Both connections still work.
    assert_eq!(
        message_to(&harness.send(4, &upper("PING", json!({"timestamp": 1}))), 4).0,
        "PONG"
    );
    assert_eq!(summaries(&harness.send(2, &bare("ping"))), ["2 < pong"]);
}

#[test]
fn a_join_needs_a_session_and_a_device() {
    let good = json!({"sessionId": "party", "deviceId": "tv", "deviceName": "TV"});
    for (field, wrong) in [
        ("sessionId", json!(null)),
        ("sessionId", json!(7)),
        ("deviceId", json!(null)),
        ("deviceId", json!("")),
        ("deviceId", json!("x".repeat(129))),
        ("deviceName", json!(null)),
        ("deviceName", json!("")),
        ("deviceName", json!("ü".repeat(101))),
        ("version", json!("new")),
    ] {
        let mut harness = party();
        harness.open(4, "/");
        let mut payload = good.clone();
        payload[field] = wrong;
        let lines = harness.send(4, &upper("JOIN", payload));
        let (code, message) = error(&lines, 4);
        assert_eq!((&*code, lines.len()), ("INVALID_MESSAGE", 1));
        assert!(
            message.starts_with(&format!("\"payload.{field}\" ")),
            "{message}"
        );
        // The client may try again. `version` is optional.
        assert_eq!(
            message_to(&harness.send(4, &upper("JOIN", good.clone())), 4).0,
            "WELCOME"
        );
    }
}

#[test]
fn an_upper_case_join_for_another_major_version_is_rejected() {
    for (version, good) in [
        ("1.0.0", true),
        ("1.9", true),
        ("2.0.0", false),
        ("0.9", false),
    ] {
        let mut harness = party();
        harness.open(4, "/");
        let mut payload = json!({"version": version});
        if good {
            payload["sessionId"] = json!("party");
            payload["deviceId"] = json!("tv");
            payload["deviceName"] = json!("TV");
        }
        let lines = harness.send(4, &upper("JOIN", payload));
        if good {
            assert_eq!(message_to(&lines, 4).0, "WELCOME");
        } else {
            assert_eq!(error(&lines, 4).0, "VERSION_MISMATCH");
            assert_eq!(lines[1..], ["4 x 1000 join refused"]);
        }
    }
}

#[test]
fn every_message_needs_a_timestamp_and_may_have_an_id() {
    let mut harness = mixed_party();
    for text in [
        r#"{"type":"HEARTBEAT","payload":{}}"#,
        r#"{"type":"HEARTBEAT","timestamp":"1","payload":{"timestamp":1}}"#,
        r#"{"type":"PONG","timestamp":null,"payload":{"timestamp":1}}"#,
    ] {
        let (code, message) = error(&harness.send(4, text), 4);
        assert_eq!(code, "INVALID_MESSAGE");
        assert!(message.starts_with("\"timestamp\" "), "{message}");
    }
    let text = r#"{"type":"PING","timestamp":1,"messageId":"msg_1","payload":{"timestamp":2},"more":[[]]}"#;
    let pong = format!(
        r#"4 < {{"type":"PONG","timestamp":{NOW},"payload":{{"timestamp":{NOW},"pingTimestamp":2}}}}"#
    );
    assert_eq!(harness.send(4, text), [pong]);
}

#[test]
fn the_text_of_an_error_names_the_field() {
    let mut harness = mixed_party();
    for (text, field) in [
        (upper("NOTHING", json!({})), "type"),
        (upper("KICK", json!({"memberId": "x"})), "type"),
        (upper("HEARTBEAT", json!([])), "payload"),
        (upper("HEARTBEAT", json!("x")), "payload"),
        (upper("PING", json!({})), "payload.timestamp"),
        (
            upper("PING", json!({"timestamp": "1"})),
            "payload.timestamp",
        ),
        (upper("LEAVE", json!({"reason": 7})), "payload.reason"),
        (
            upper("LEAVE", json!({"reason": "x".repeat(201)})),
            "payload.reason",
        ),
    ] {
        let lines = harness.send(4, &text);
        let (code, message) = error(&lines, 4);
        assert_eq!((&*code, lines.len()), ("INVALID_MESSAGE", 1), "{text}");
        assert!(message.starts_with(&format!("\"{field}\" ")), "{message}");
    }
}

#[test]
fn a_binary_message_is_an_error_in_the_dialect_of_the_connection() {
    let mut harness = mixed_party();
    let ping = upper("PING", json!({"timestamp": 1}));
    let lines = harness.send_message(4, realm::Message::Binary(ping.into_bytes().into()));
    assert_eq!(error(&lines, 4).0, "INVALID_MESSAGE");
    // A binary message does not decide the dialect.
    harness.open(5, "/");
    let ping = upper("PING", json!({"timestamp": 1}));
    let lines = harness.send_message(5, realm::Message::Binary(ping.into_bytes().into()));
    assert_eq!(summaries(&lines), ["5 < error"]);
}

#[test]
fn a_client_that_joins_gets_a_welcome_and_the_list() {
    let mut harness = party();
    let host = client_id(&mut harness, 1, 0);
    let [phone, pad] = [1, 2].map(|at| client_id(&mut harness, 1, at));
    harness.advance(SECOND);
    harness.open(4, "/");
    let lines = harness.send(4, &join("party", "tv"));
    let own: Vec<&String> = lines.iter().filter(|line| line.starts_with('4')).collect();
    let at = NOW + 1000;
    let welcome = json!({"type": "WELCOME", "timestamp": at, "payload": {
        "sessionId": "party", "sessionName": "mac's name", "hostId": host,
        "hostName": "mac's name", "yourDeviceId": "tv", "connectedAt": at,
    }});
    let member = |id: &str, name: &str, role: &str, joined: u64| {
        json!({
            "id": id, "name": format!("{name}'s name"), "role": role,
            "connectionStatus": "connected", "joinedAt": joined, "lastSeen": joined,
            "address": "", "latency": null,
        })
    };
    let members = json!([
        member(&host, "mac", "host", NOW),
        member(&phone, "phone", "client", NOW),
        member(&pad, "pad", "client", NOW),
        member("tv", "tv", "client", at),
    ]);
    let list = json!({"type": "MEMBER_LIST", "timestamp": at, "payload": {
        "members": members, "totalCount": 4,
    }});
    assert_eq!(own.len(), 2);
    assert_eq!(parse_line(own[0]).1, welcome);
    assert_eq!(parse_line(own[1]).1, list);
}

#[test]
fn a_new_member_is_announced_to_each_other_member_in_its_dialect() {
    let mut harness = mixed_party();
    harness.open(5, "/");
    let lines = harness.send(5, &join("party", "watch"));
    let expected = [
        "1 < member_joined",
        "2 < member_joined",
        "3 < member_joined",
    ];
    assert_eq!(summaries(&lines)[..3], expected);
    let joined = parse_line(&lines[0]).1["member"].clone();
    let id = client_id(&mut harness, 1, 4);
    let document = json!({
        "id": id, "name": "watch's name", "isHost": false, "connectionStatus": "connected",
        "joinedAt": NOW,
    });
    assert_eq!(joined, document);
    let (kind, payload) = message_to(&lines, 4);
    let member = json!({
        "id": id, "name": "watch's name", "role": "client", "connectionStatus": "connected",
        "joinedAt": NOW, "lastSeen": NOW, "address": "", "latency": null,
    });
    assert_eq!(
        (&*kind, payload),
        ("MEMBER_JOINED", json!({"member": member}))
    );
    // A new member of the document's dialect is announced in the same way.
    harness.open(6, "/");
    let lines = harness.send(6, &document_join("party", "radio", "client"));
    assert_eq!(message_to(&lines, 4).1["member"]["name"], "radio's name");
    assert!(summaries(&lines).contains(&"5 < MEMBER_JOINED".to_owned()));
}

#[test]
fn a_leave_removes_the_connections_own_member_whatever_device_it_names() {
    let mut harness = mixed_party();
    harness.open(5, "/");
    harness.send(5, &join("party", "watch"));
    let [phone, tv] = [1, 3].map(|at| client_id(&mut harness, 1, at));
    let leave = json!({"deviceId": "watch", "reason": "User left"});
    let lines = harness.send(4, &upper("LEAVE", leave));
    let expected = [
        "4 x 1000 goodbye",
        "1 < member_left",
        "2 < member_left",
        "3 < member_left",
        "5 < MEMBER_LEFT",
    ];
    assert_eq!(summaries(&lines), expected);
    assert_eq!(parse_line(&lines[1]).1["memberId"], tv);
    let left = json!({"deviceId": tv, "deviceName": "tv's name", "reason": "left"});
    assert_eq!(message_to(&lines, 5).1, left);
    let lines = harness.send(2, &bare("leave"));
    let left = json!({"deviceId": phone, "deviceName": "phone's name", "reason": "left"});
    assert_eq!(message_to(&lines, 5), ("MEMBER_LEFT".to_owned(), left));
    // The payload is optional.
    let lines = harness.send(5, r#"{"type":"LEAVE","timestamp":1}"#);
    assert_eq!(lines[0], "5 x 1000 goodbye");
}

#[test]
fn a_heartbeat_keeps_the_connections_own_member_whatever_device_it_names() {
    let mut harness = mixed_party();
    let heartbeat = upper("HEARTBEAT", json!({"deviceId": "pad", "timestamp": 1}));
    for _ in 0..20 {
        assert_eq!(harness.send(4, &heartbeat), no_lines());
        wait_with_heartbeats(&mut harness, SECOND, &[1, 2]);
    }
    let open: Vec<u64> = harness.open_connections().collect();
    assert_eq!(
        open,
        [1, 2, 4],
        "3 sent no heartbeat, and a heartbeat of 4 is not counted for it"
    );
    let lines = wait_with_heartbeats(&mut harness, 15 * SECOND, &[1, 2]);
    assert_eq!(lines[0], "4 x 4408 timed out");
    assert_eq!(parse_line(&lines[1]).1["reason"], "timeout");
}

#[test]
fn a_ping_is_answered_with_both_timestamps() {
    let mut harness = mixed_party();
    harness.open(5, "/");
    // Also before joining.
    for conn in [4, 5] {
        for timestamp in ["1706889650000", "-1", "1706889650000.25", "1e3"] {
            let ping =
                format!(r#"{{"type":"PING","timestamp":7,"payload":{{"timestamp":{timestamp}}}}}"#);
            let pong = format!(
                r#"{conn} < {{"type":"PONG","timestamp":{NOW},"payload":{{"timestamp":{NOW},"pingTimestamp":{timestamp}}}}}"#
            );
            assert_eq!(harness.send(conn, &ping), [pong]);
        }
    }
}

#[test]
fn a_pong_is_ignored() {
    let mut harness = mixed_party();
    harness.open(5, "/");
    for conn in [4, 5] {
        let pong = json!({"timestamp": 2, "pingTimestamp": 1});
        assert_eq!(harness.send(conn, &upper("PONG", pong)), no_lines());
    }
    // The document's dialect has no pong from clients.
    let lines = harness.send(2, &bare("pong"));
    assert_eq!(parse_line(&lines[0]).1["code"], "invalid_message");
}

#[test]
fn the_upper_case_list_is_sent_on_request() {
    let mut harness = mixed_party();
    let (kind, payload) = message_to(&harness.send(4, &upper("MEMBER_LIST", json!({}))), 4);
    assert_eq!((&*kind, &payload["totalCount"]), ("MEMBER_LIST", &json!(4)));
}

#[test]
fn a_kicked_client_is_told_the_reason() {
    let mut harness = mixed_party();
    let tv = client_id(&mut harness, 1, 3);
    let text = document("kick", json!({"memberId": tv, "reason": "too loud"}));
    let lines = harness.send(1, &text);
    assert_eq!(
        message_to(&lines, 4),
        ("KICKED".to_owned(), json!({"reason": "too loud"}))
    );
    assert!(lines.contains(&"4 x 4403 removed by the host".to_owned()));
    // Other clients of the dialect are notified which member was kicked.
    harness.open(5, "/");
    harness.send(5, &join("party", "watch"));
    let phone = client_id(&mut harness, 1, 1);
    let (kind, payload) = message_to(&harness.send(1, &kick(&phone)), 5);
    let left = json!({"deviceId": phone, "deviceName": "phone's name", "reason": "kicked"});
    assert_eq!((&*kind, payload), ("MEMBER_LEFT", left));
}

#[test]
fn an_upper_case_client_is_always_a_guest() {
    let mut harness = harness();
    harness.open(1, "/");
    let payload = json!({
        "sessionId": "new", "deviceId": "tv", "deviceName": "TV", "type": "host", "role": "host",
    });
    let lines = harness.send(1, &upper("JOIN", payload));
    assert_eq!(error(&lines, 1).0, "SESSION_NOT_FOUND");
    assert_eq!(lines[1..], ["1 x 1000 join refused"]);
    // The host's device cannot return as the host in this dialect, whether it is connected or lost.
    let mut harness = mixed_party();
    for conn in [5, 6] {
        harness.open(conn, "/");
        let lines = harness.send(conn, &join("party", "mac"));
        assert_eq!(error(&lines, conn).0, "UNAUTHORIZED");
        assert_eq!(lines[1..], [format!("{conn} x 1000 join refused")]);
        if conn == 5 {
            harness.disconnect(1, DisconnectReason::Lost);
        }
    }
}

#[test]
fn the_end_of_a_session_is_announced_in_both_dialects() {
    let mut harness = mixed_party();
    let lines = harness.send(1, &bare("leave"));
    let closed = json!({"reason": "Host ended the session"});
    assert_eq!(message_to(&lines, 4), ("SESSION_CLOSED".to_owned(), closed));
    assert_eq!(summaries(&lines)[1], "2 < session_closed");
    assert!(lines.contains(&"4 x 1000 session closed".to_owned()));
    let mut harness = mixed_party();
    let closed = json!({"reason": "Server is going away"});
    assert_eq!(
        message_to(&harness.stop(), 4),
        ("SESSION_CLOSED".to_owned(), closed)
    );
}

#[test]
fn every_error_code_is_in_upper_case() {
    for (code, text) in [
        (ErrorCode::SessionNotFound, "SESSION_NOT_FOUND"),
        (ErrorCode::SessionFull, "SESSION_FULL"),
        (ErrorCode::AlreadyJoined, "ALREADY_JOINED"),
        (ErrorCode::InvalidMessage, "INVALID_MESSAGE"),
        (ErrorCode::Unauthorized, "UNAUTHORIZED"),
        (ErrorCode::VersionMismatch, "VERSION_MISMATCH"),
    ] {
        assert_eq!(codec_upper_case::error_code(code), text);
        let document = serde_json::to_value(code).unwrap();
        assert_eq!(document.as_str().unwrap().to_uppercase(), text);
    }
    let mut harness = mixed_party();
    assert_eq!(
        error(&harness.send(4, &join("party", "tv")), 4).0,
        "ALREADY_JOINED"
    );
    harness.open(5, "/");
    let lines = harness.send(5, &upper("HEARTBEAT", json!({})));
    assert_eq!((&*error(&lines, 5).0, lines.len()), ("UNAUTHORIZED", 1));
    for conn in 10..16 {
        harness.open(conn, "/");
        harness.send(conn, &join("party", &format!("d{conn}")));
    }
    let lines = harness.send(5, &join("party", "late"));
    let full = "Session has reached maximum capacity (10 members)";
    assert_eq!(
        error(&lines, 5),
        ("SESSION_FULL".to_owned(), full.to_owned())
    );
    assert_eq!(lines[1..], ["5 x 1000 join refused"]);
}

#[test]
fn a_takeover_is_rejected_in_the_dialect_of_its_client() {
    let mut harness = mixed_party();
    for (conn, text) in [
        (5, join("party", "phone")),
        (6, document_join("party", "phone", "client")),
    ] {
        harness.open(conn, "/");
        assert_eq!(harness.send(conn, &text), ["2 ? 2 s"]);
    }
    assert_eq!(
        error(&harness.send(5, &join("party", "phone")), 5).0,
        "ALREADY_JOINED"
    );
    let lines = harness.answer_probe(2);
    assert_eq!(error(&lines, 5).0, "ALREADY_JOINED");
    let expected = [
        "5 < ERROR",
        "5 x 1000 join refused",
        "6 < error",
        "6 x 1000 join refused",
    ];
    assert_eq!(summaries(&lines), expected);
}

#[test]
fn a_device_may_return_in_another_dialect() {
    let mut harness = mixed_party();
    let before: Vec<String> = (0..4).map(|at| client_id(&mut harness, 1, at)).collect();
    // One device was lost, and the connection of the other is dead.
    harness.disconnect(2, DisconnectReason::Lost);
    harness.open(5, "/");
    let lines = harness.send(5, &join("party", "phone"));
    let expected = [
        "5 < WELCOME",
        "5 < MEMBER_LIST",
        "4 < MEMBER_LIST",
        "1 < member_list",
        "3 < member_list",
    ];
    assert_eq!(summaries(&lines), expected);
    harness.open(6, "/");
    harness.send(6, &document_join("party", "tv", "client"));
    let lines = harness.fail_probe(4);
    let expected = [
        "4 x 4409 connected again elsewhere",
        "6 < welcome",
        "6 < member_list",
        "5 < MEMBER_LIST",
        "1 < member_list",
        "3 < member_list",
    ];
    assert_eq!(summaries(&lines), expected);
    let after: Vec<String> = (0..4).map(|at| client_id(&mut harness, 1, at)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_member_has_its_last_heartbeat_its_latency_and_no_address() {
    let mut harness = mixed_party();
    let ask = upper("MEMBER_LIST", json!({}));
    let heartbeat = upper("HEARTBEAT", json!({}));
    harness.advance(Duration::from_millis(2500));
    harness.send(4, &heartbeat);
    harness.send(2, &bare("heartbeat"));
    harness.advance(Duration::from_millis(1500));
    // A ping does not count as a heartbeat.
    harness.send(4, &upper("PING", json!({"timestamp": 1})));
    harness.set_rtt(2, Duration::from_micros(23_400));
    harness.disconnect(3, DisconnectReason::Lost);
    let members = message_to(&harness.send(4, &ask), 4).1["members"].take();
    let shown = |key: &str| -> Vec<Value> {
        let members = members.as_array().unwrap().iter();
        members.map(|it| it[key].clone()).collect()
    };
    assert_eq!(
        json!(shown("lastSeen")),
        json!([NOW, NOW + 2500, NOW, NOW + 2500])
    );
    assert_eq!(json!(shown("joinedAt")), json!([NOW, NOW, NOW, NOW]));
    assert_eq!(json!(shown("latency")), json!([null, 23, null, null]));
    assert_eq!(json!(shown("address")), json!(["", "", "", ""]));
    let status = ["connected", "connected", "reconnecting", "connected"];
    assert_eq!(json!(shown("connectionStatus")), json!(status));
}

#[test]
fn a_device_is_shown_its_own_device_id_and_no_other() {
    let mut harness = mixed_party();
    harness.open(5, "/");
    harness.send(5, &join("party", "watch"));
    let known: Vec<String> = (0..5).map(|at| client_id(&mut harness, 1, at)).collect();
    // A change for which all members get the list.
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    let list = |conn| message_to(&lines, conn).1["members"].take();
    let [for_tv, for_watch] = [list(4), list(5)];
    assert_eq!(
        ids(&for_tv),
        [&known[0], &known[1], &known[2], "tv", &known[4]]
    );
    assert_eq!(
        ids(&for_watch),
        [&known[0], &known[1], &known[2], &known[3], "watch"]
    );
    let all = lines.concat();
    assert!(
        !all.contains("\"phone\"") && !all.contains("\"mac\""),
        "{all}"
    );
}

#[test]
fn a_message_is_encoded_once_per_dialect_and_again_for_a_recipient_that_it_names() {
    let left = ServerMessage::MemberLeft {
        timestamp: 1,
        member_id: "client-1",
        member_name: "Phone",
        reason: LeaveReason::Left,
    };
    let own = |client_id| RecipientIds {
        client_id,
        device_id: "phone",
    };
    for dialect in [Dialect::Document, Dialect::UpperCase] {
        let other = left.personalized(dialect, own("client-2"));
        assert!(other.is_none(), "all other recipients share one frame");
        let shared = left.encode(dialect).iter().find_map(Frame::as_text);
        assert!(shared.unwrap().contains("client-1"));
    }
    assert!(
        left.personalized(Dialect::Document, own("client-1"))
            .is_none()
    );
    let personalized = left
        .personalized(Dialect::UpperCase, own("client-1"))
        .unwrap();
    let expected = json!({"type": "MEMBER_LEFT", "timestamp": 1, "payload": {
        "deviceId": "phone", "deviceName": "Phone", "reason": "left",
    }});
    let decoded: Value = serde_json::from_str(&personalized.as_text().unwrap()).unwrap();
    assert_eq!(decoded, expected);
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("upper_case.rs"),
        include_str!("../../../../tests/loudsync.rs"),
    ]);
}
