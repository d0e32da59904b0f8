//! Each demand on sessions from the configuration, with the test that holds it.
//!
//! | demand | test |
//! | --- | --- |
//! | guests of both dialects join it | `guests_of_both_dialects_meet_in_a_static_session` |
//! | its host is in the list, always connected | `the_configured_host_is_listed_as_connected` |
//! | it never ends | `a_static_session_never_ends` |
//! | a host's JOIN: `unauthorized` | `no_device_can_host_a_static_session` |
//! | no member is kicked from it | `no_member_of_a_static_session_can_kick` |
//! | `max_members`, its host included | `the_configured_host_counts_towards_max_members` |
//! | the ID of its host is no other member's | `no_guest_gets_the_id_of_the_configured_host` |
//! | `max_sessions` counts only sessions that hosts open | `static_sessions_do_not_count_towards_max_sessions` |
//! | `session_closed` when the daemon stops | `a_shutdown_closes_static_sessions` |
//! | an error names its place in the configuration | `an_error_in_a_static_session_names_its_place` |
//! | a change of `sessions` opens and ends them | `sessions_that_are_added_open_and_those_that_are_left_out_end` |
//! | one that stays keeps its members | `a_session_that_stays_keeps_its_members_and_shows_them_its_new_host` |
//! | one of a host with the same ID ends | `a_session_of_a_host_ends_when_the_configuration_has_its_id` |

use super::document::{
    SECOND, bare, error_code, join, kick, parse_line, summaries, wait_with_heartbeats,
};
use crate::base::close::DisconnectReason;
use crate::config::Config;
use crate::protocols::loudsync::Loudsync;
use crate::testing::harness::{RealmHarness, START, no_lines};
use serde_json::{Value, json};

fn lobby() -> Value {
    json!({"id": "lobby", "name": "The Lobby", "host_id": "dj", "host_name": "DJ"})
}

/// Returns a realm with these options and the session `lobby`.
fn harness_with(mut options: Value) -> RealmHarness<Loudsync> {
    options["sessions"] = json!([lobby()]);
    RealmHarness::new(options)
}

fn upper(kind: &str, payload: Value) -> String {
    json!({"type": kind, "timestamp": 1, "payload": payload}).to_string()
}

fn upper_join(device: &str) -> String {
    let payload = json!({"sessionId": "lobby", "deviceId": device, "deviceName": device});
    upper("JOIN", payload)
}

#[test]
fn guests_of_both_dialects_meet_in_a_static_session() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    harness.open(2, "/");
    let lines = harness.send(1, &join("lobby", "phone", "client"));
    assert_eq!(summaries(&lines), ["1 < welcome", "1 < member_list"]);
    let welcome = parse_line(&lines[0]).1;
    let session = json!({"id": "lobby", "name": "The Lobby", "hostId": "dj"});
    assert_eq!(welcome["sessionInfo"], session);
    let lines = harness.send(2, &upper_join("tv"));
    let expected = ["1 < member_joined", "2 < WELCOME", "2 < MEMBER_LIST"];
    assert_eq!(summaries(&lines), expected);
    let now = START.as_millis() as u64;
    let welcome = json!({
        "sessionId": "lobby", "sessionName": "The Lobby", "hostId": "dj", "hostName": "DJ",
        "yourDeviceId": "tv", "connectedAt": now,
    });
    assert_eq!(parse_line(&lines[1]).1["payload"], welcome);
}

#[test]
fn the_configured_host_is_listed_as_connected() {
    let mut harness = harness_with(json!({}));
    let start = START.as_millis() as u64;
    harness.advance(10 * SECOND);
    harness.open(1, "/");
    harness.open(2, "/");
    let lines = harness.send(1, &join("lobby", "phone", "client"));
    let host = json!({
        "id": "dj", "name": "DJ", "isHost": true, "connectionStatus": "connected",
        "joinedAt": start,
    });
    let members = parse_line(&lines[1]).1["members"].clone();
    assert_eq!((&members[0], members.as_array().unwrap().len()), (&host, 2));
    let lines = harness.send(2, &upper_join("tv"));
    let list = parse_line(&lines[2]).1["payload"].clone();
    let host = json!({
        "id": "dj", "name": "DJ", "role": "host", "connectionStatus": "connected",
        "joinedAt": start, "lastSeen": start + 10_000, "address": "", "latency": null,
    });
    assert_eq!(
        (&list["members"][0], &list["totalCount"]),
        (&host, &json!(3))
    );
}

#[test]
fn a_static_session_never_ends() {
    let mut harness = harness_with(json!({}));
    for (conn, how) in [
        (1, DisconnectReason::Lost),
        (2, DisconnectReason::ClosedByClient(Some(1000))),
    ] {
        assert_eq!(
            wait_with_heartbeats(&mut harness, 100 * SECOND, &[]),
            no_lines()
        );
        harness.open(conn, "/");
        assert_eq!(
            harness.send(conn, &join("lobby", "phone", "client")).len(),
            2
        );
        wait_with_heartbeats(&mut harness, 100 * SECOND, &[conn]);
        harness.disconnect(conn, how);
    }
    wait_with_heartbeats(&mut harness, 100 * SECOND, &[]);
    assert!(harness.realm.is_empty());
    // A guest that sends no heartbeat times out, and the session goes on.
    harness.open(3, "/");
    harness.open(4, "/");
    harness.send(3, &join("lobby", "phone", "client"));
    harness.send(4, &join("lobby", "pad", "client"));
    let lines = wait_with_heartbeats(&mut harness, 20 * SECOND, &[4]);
    assert_eq!(summaries(&lines), ["3 x 4408 timed out", "4 < member_left"]);
    assert_eq!(
        parse_line(&harness.send(4, &bare("member_list"))[0]).1["members"][0]["id"],
        "dj"
    );
}

#[test]
fn no_device_can_host_a_static_session() {
    let mut harness = harness_with(json!({}));
    for (conn, device) in [(1, "mac"), (2, "dj")] {
        harness.open(conn, "/");
        let lines = harness.send(conn, &join("lobby", device, "host"));
        assert_eq!(error_code(&lines, conn), "unauthorized");
        assert_eq!(lines[1..], [format!("{conn} x 1000 join refused")]);
    }
}

#[test]
fn no_member_of_a_static_session_can_kick() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    harness.send(1, &join("lobby", "dj", "client"));
    assert_eq!(error_code(&harness.send(1, &kick("dj")), 1), "unauthorized");
}

#[test]
fn the_configured_host_counts_towards_max_members() {
    for (own, limit) in [(json!(null), 4), (json!(3), 3)] {
        let mut session = lobby();
        session["max_members"] = own;
        let mut harness =
            RealmHarness::<Loudsync>::new(json!({"max_members": 4, "sessions": [session]}));
        for conn in 1..=limit {
            harness.open(conn, "/");
            let lines = harness.send(conn, &join("lobby", &format!("d{conn}"), "client"));
            if conn < limit {
                assert!(summaries(&lines).contains(&format!("{conn} < welcome")));
            } else {
                let error = parse_line(&lines[0]).1;
                let details = json!({"maxMembers": limit, "currentMembers": limit});
                assert_eq!(error["details"], details);
            }
        }
    }
}

#[test]
fn no_guest_gets_the_id_of_the_configured_host() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    let lines = harness.send(1, &join("lobby", "phone", "client"));
    let drawn = parse_line(&lines[0]).1["clientId"].clone();
    let mut session = lobby();
    session["host_id"] = drawn.clone();
    let mut harness = RealmHarness::<Loudsync>::new(json!({"sessions": [session]}));
    harness.open(1, "/");
    let lines = harness.send(1, &join("lobby", "phone", "client"));
    assert_ne!(parse_line(&lines[0]).1["clientId"], drawn);
}

#[test]
fn static_sessions_do_not_count_towards_max_sessions() {
    let mut harness = harness_with(json!({"max_sessions": 1}));
    (1..=3).for_each(|conn| {
        harness.open(conn, "/");
    });
    assert_eq!(harness.send(1, &join("a", "mac", "host")).len(), 2);
    assert_eq!(
        error_code(&harness.send(2, &join("b", "mac", "host")), 2),
        "session_full"
    );
    harness.disconnect(1, DisconnectReason::Lost);
    // The abandoned session is closed, and the static one, which is empty, is not.
    assert_eq!(harness.send(3, &join("b", "mac", "host")).len(), 2);
    assert!(harness.realm.sessions.keys().eq(["b", "lobby"]));
}

#[test]
fn a_shutdown_closes_static_sessions() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    harness.send(1, &join("lobby", "phone", "client"));
    assert_eq!(summaries(&harness.stop()), ["1 < session_closed"]);
}

#[test]
fn an_error_in_a_static_session_names_its_place() {
    let with = |key: &str, value: Value| {
        let mut session = lobby();
        session[key] = value;
        session
    };
    let without = |key: &str| {
        let mut session = lobby();
        session.as_object_mut().unwrap().remove(key);
        session
    };
    let id = "must be 1 to 64 letters, digits, \"-\" or \"_\"";
    for (sessions, problem) in [
        (
            json!([7]),
            "sessions[0]: invalid type: integer `7`".to_owned(),
        ),
        (
            json!([with("id", json!(""))]),
            format!("sessions[0].id: \"\" {id}"),
        ),
        (
            json!([with("id", json!("a b"))]),
            format!("sessions[0].id: \"a b\" {id}"),
        ),
        (
            json!([with("id", json!("x".repeat(65)))]),
            format!("sessions[0].id: \"{}\"… {id}", "x".repeat(64)),
        ),
        (
            json!([lobby(), with("name", json!(""))]),
            "sessions[1].name: \"\" must be 1 to 100 characters long".to_owned(),
        ),
        (
            json!([with("host_name", json!(7))]),
            "sessions[0].host_name: invalid type: integer `7`".to_owned(),
        ),
        (
            json!([with("host_id", json!(""))]),
            "sessions[0].host_id: \"\" must be 1 to 128 characters long".to_owned(),
        ),
        (
            json!([without("id")]),
            "sessions[0]: missing field `id`".to_owned(),
        ),
        (
            json!([without("name")]),
            "sessions[0]: missing field `name`".to_owned(),
        ),
        (
            json!([without("host_id")]),
            "sessions[0]: missing field `host_id`".to_owned(),
        ),
        (
            json!([without("host_name")]),
            "sessions[0]: missing field `host_name`".to_owned(),
        ),
        (
            json!([with("hostId", json!("dj"))]),
            "sessions[0].hostId: unknown field `hostId`, expected one of".to_owned(),
        ),
        (
            json!([lobby(), lobby()]),
            "sessions[1].id: must be unique, and \"lobby\" is that of sessions[0], too".to_owned(),
        ),
        (
            json!([with("max_members", json!(1))]),
            "sessions[0].max_members: must be 2 to 10 (max_members), not 1".to_owned(),
        ),
        (
            json!([with("max_members", json!(11))]),
            "sessions[0].max_members: must be 2 to 10 (max_members), not 11".to_owned(),
        ),
        (
            json!([with("max_members", json!(-2))]),
            "sessions[0].max_members: invalid value: integer `-2`".to_owned(),
        ),
    ] {
        let config = json!({"listeners": [{"protocol": "loudsync", "sessions": sessions}]});
        let problems = Config::from_json(&config.to_string()).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let place = format!("listeners[0].{problem}");
        assert!(problems[0].starts_with(&place), "{problems:?}, not {place}");
    }
    for good in [
        json!([]),
        json!([lobby(), with("id", json!("b"))]),
        json!([with("max_members", json!(2))]),
    ] {
        let config = json!({"listeners": [{"protocol": "loudsync", "sessions": good}]});
        let config = Config::from_json(&config.to_string()).unwrap();
        // Printed, it is a valid configuration again.
        Config::from_json(&config.to_json()).unwrap();
    }
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[include_str!("static_sessions.rs")]);
}

#[test]
fn sessions_that_are_added_open_and_those_that_are_left_out_end() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    harness.open(2, "/");
    harness.send(1, &join("lobby", "phone", "client"));
    let mut bar = lobby();
    bar["id"] = json!("bar");
    let lines = harness.reconfigure(json!({"sessions": [bar]}));
    assert_eq!(
        summaries(&lines),
        ["1 < session_closed", "1 x 1000 session closed"]
    );
    let lines = harness.send(2, &join("bar", "pad", "client"));
    assert_eq!(summaries(&lines), ["2 < welcome", "2 < member_list"]);
    let lines = harness.reconfigure(json!({}));
    assert_eq!(
        summaries(&lines),
        ["2 < session_closed", "2 x 1000 session closed"]
    );
}

#[test]
fn a_session_that_stays_keeps_its_members_and_shows_them_its_new_host() {
    let mut harness = harness_with(json!({}));
    harness.open(1, "/");
    harness.open(2, "/");
    harness.send(1, &join("lobby", "phone", "client"));
    let mut changed = lobby();
    changed["name"] = json!("Lounge");
    changed["max_members"] = json!(2);
    let options = json!({ "sessions": [changed] });
    assert_eq!(harness.reconfigure(options.clone()), no_lines());
    assert_eq!(harness.reconfigure(options), no_lines());
    let lines = harness.send(2, &join("lobby", "pad", "client"));
    assert_eq!(error_code(&lines, 2), "session_full");
    changed = lobby();
    changed["host_name"] = json!("VJ");
    let lines = harness.reconfigure(json!({ "sessions": [changed] }));
    assert_eq!(summaries(&lines), ["1 < member_list"]);
    assert_eq!(parse_line(&lines[0]).1["members"][0]["name"], "VJ");
}

#[test]
fn a_session_of_a_host_ends_when_the_configuration_has_its_id() {
    let mut harness = RealmHarness::<Loudsync>::new(json!({}));
    harness.open(1, "/");
    harness.open(2, "/");
    harness.send(1, &join("lobby", "mac", "host"));
    let lines = harness.reconfigure(json!({"sessions": [lobby()]}));
    assert_eq!(
        summaries(&lines),
        ["1 < session_closed", "1 x 1000 session closed"]
    );
    let lines = harness.send(2, &join("lobby", "phone", "client"));
    assert_eq!(summaries(&lines), ["2 < welcome", "2 < member_list"]);
}
