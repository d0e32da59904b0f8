//! Sessions of the configuration, each rule at the desk.
//!
//! | demand | test |
//! | --- | --- |
//! | guests of either dialect join it | `guests_of_both_dialects_meet_without_a_host` |
//! | its host stands in the list, always connected | `the_host_that_is_named_stands_in_the_list` |
//! | it lives for ever | `it_outlives_everybody_and_every_time_out` |
//! | a host's JOIN: `unauthorized` | `no_device_is_its_host` |
//! | nobody is kicked from it | `nobody_is_the_host_who_kicks` |
//! | `max_members`, its host among them | `it_is_full_with_its_host_counted` |
//! | its id is no other member's | `no_guest_gets_the_hosts_id` |
//! | `max_sessions` is for those that hosts make | `it_takes_no_hosts_session_its_place` |
//! | `session_closed` when the daemon stops | `at_a_stop_its_guests_are_told` |
//! | mistakes are named with their place | `every_mistake_is_named_with_its_place` |

use super::document::{SECOND, bare, code, join, kick, kinds, parts, waits};
use crate::base::close::DisconnectReason;
use crate::config::Config;
use crate::protocols::loudsync::Loudsync;
use crate::testing::harness::{RealmHarness, START, no_lines};
use serde_json::{Value, json};

fn lobby() -> Value {
    json!({"id": "lobby", "name": "The Lobby", "host_id": "dj", "host_name": "DJ"})
}

/// With `lobby`, and more options.
fn desk_with(mut options: Value) -> RealmHarness<Loudsync> {
    options["sessions"] = json!([lobby()]);
    RealmHarness::new(options)
}

fn capitals(kind: &str, payload: Value) -> String {
    json!({"type": kind, "timestamp": 1, "payload": payload}).to_string()
}

fn join_in_capitals(device: &str) -> String {
    let payload = json!({"sessionId": "lobby", "deviceId": device, "deviceName": device});
    capitals("JOIN", payload)
}

#[test]
fn guests_of_both_dialects_meet_without_a_host() {
    let mut harness = desk_with(json!({}));
    harness.opens(1, "/");
    harness.opens(2, "/");
    let lines = harness.says(1, &join("lobby", "phone", "client"));
    assert_eq!(kinds(&lines), ["1 < welcome", "1 < member_list"]);
    let welcome = parts(&lines[0]).1;
    let session = json!({"id": "lobby", "name": "The Lobby", "hostId": "dj"});
    assert_eq!(welcome["sessionInfo"], session);
    let lines = harness.says(2, &join_in_capitals("tv"));
    let expected = ["1 < member_joined", "2 < WELCOME", "2 < MEMBER_LIST"];
    assert_eq!(kinds(&lines), expected);
    let now = START.as_millis() as u64;
    let welcome = json!({
        "sessionId": "lobby", "sessionName": "The Lobby", "hostId": "dj", "hostName": "DJ",
        "yourDeviceId": "tv", "connectedAt": now,
    });
    assert_eq!(parts(&lines[1]).1["payload"], welcome);
}

#[test]
fn the_host_that_is_named_stands_in_the_list() {
    let mut harness = desk_with(json!({}));
    let start = START.as_millis() as u64;
    harness.waits(10 * SECOND);
    harness.opens(1, "/");
    harness.opens(2, "/");
    let lines = harness.says(1, &join("lobby", "phone", "client"));
    let host = json!({
        "id": "dj", "name": "DJ", "isHost": true, "connectionStatus": "connected",
        "joinedAt": start,
    });
    let members = parts(&lines[1]).1["members"].clone();
    assert_eq!((&members[0], members.as_array().unwrap().len()), (&host, 2));
    let lines = harness.says(2, &join_in_capitals("tv"));
    let list = parts(&lines[2]).1["payload"].clone();
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
fn it_outlives_everybody_and_every_time_out() {
    let mut harness = desk_with(json!({}));
    for (conn, how) in [
        (1, DisconnectReason::Lost),
        (2, DisconnectReason::Left(Some(1000))),
    ] {
        assert_eq!(waits(&mut harness, 100 * SECOND, &[]), no_lines());
        harness.opens(conn, "/");
        assert_eq!(
            harness.says(conn, &join("lobby", "phone", "client")).len(),
            2
        );
        waits(&mut harness, 100 * SECOND, &[conn]);
        harness.leaves(conn, how);
    }
    waits(&mut harness, 100 * SECOND, &[]);
    assert!(harness.realm.is_empty());
    // Who sends no heartbeat goes, and the others hear of that alone.
    harness.opens(3, "/");
    harness.opens(4, "/");
    harness.says(3, &join("lobby", "phone", "client"));
    harness.says(4, &join("lobby", "pad", "client"));
    let lines = waits(&mut harness, 20 * SECOND, &[4]);
    assert_eq!(kinds(&lines), ["3 x 4408 timed out", "4 < member_left"]);
    assert_eq!(
        parts(&harness.says(4, &bare("member_list"))[0]).1["members"][0]["id"],
        "dj"
    );
}

#[test]
fn no_device_is_its_host() {
    let mut harness = desk_with(json!({}));
    for (conn, device) in [(1, "mac"), (2, "dj")] {
        harness.opens(conn, "/");
        let lines = harness.says(conn, &join("lobby", device, "host"));
        assert_eq!(code(&lines, conn), "unauthorized");
        assert_eq!(lines[1..], [format!("{conn} x 1000 join refused")]);
    }
}

#[test]
fn nobody_is_the_host_who_kicks() {
    let mut harness = desk_with(json!({}));
    harness.opens(1, "/");
    harness.says(1, &join("lobby", "dj", "client"));
    assert_eq!(code(&harness.says(1, &kick("dj")), 1), "unauthorized");
}

#[test]
fn it_is_full_with_its_host_counted() {
    for (own, limit) in [(json!(null), 4), (json!(3), 3)] {
        let mut session = lobby();
        session["max_members"] = own;
        let mut harness =
            RealmHarness::<Loudsync>::new(json!({"max_members": 4, "sessions": [session]}));
        for conn in 1..=limit {
            harness.opens(conn, "/");
            let lines = harness.says(conn, &join("lobby", &format!("d{conn}"), "client"));
            if conn < limit {
                assert!(kinds(&lines).contains(&format!("{conn} < welcome")));
            } else {
                let error = parts(&lines[0]).1;
                let details = json!({"maxMembers": limit, "currentMembers": limit});
                assert_eq!(error["details"], details);
            }
        }
    }
}

#[test]
fn no_guest_gets_the_hosts_id() {
    let mut harness = desk_with(json!({}));
    harness.opens(1, "/");
    let lines = harness.says(1, &join("lobby", "phone", "client"));
    let drawn = parts(&lines[0]).1["clientId"].clone();
    let mut session = lobby();
    session["host_id"] = drawn.clone();
    let mut harness = RealmHarness::<Loudsync>::new(json!({"sessions": [session]}));
    harness.opens(1, "/");
    let lines = harness.says(1, &join("lobby", "phone", "client"));
    assert_ne!(parts(&lines[0]).1["clientId"], drawn);
}

#[test]
fn it_takes_no_hosts_session_its_place() {
    let mut harness = desk_with(json!({"max_sessions": 1}));
    (1..=3).for_each(|conn| {
        harness.opens(conn, "/");
    });
    assert_eq!(harness.says(1, &join("a", "mac", "host")).len(), 2);
    assert_eq!(
        code(&harness.says(2, &join("b", "mac", "host")), 2),
        "session_full"
    );
    harness.leaves(1, DisconnectReason::Lost);
    // The deserted one makes room, and not the one that has nobody in it.
    assert_eq!(harness.says(3, &join("b", "mac", "host")).len(), 2);
    assert!(harness.realm.sessions.keys().eq(["b", "lobby"]));
}

#[test]
fn at_a_stop_its_guests_are_told() {
    let mut harness = desk_with(json!({}));
    harness.opens(1, "/");
    harness.says(1, &join("lobby", "phone", "client"));
    assert_eq!(kinds(&harness.stops()), ["1 < session_closed"]);
}

#[test]
fn every_mistake_is_named_with_its_place() {
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
    let id = "is not 1 to 64 letters, digits, \"-\" and \"_\"";
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
            "sessions[1].name: \"\" is not 1 to 100 characters long".to_owned(),
        ),
        (
            json!([with("host_name", json!(7))]),
            "sessions[0].host_name: invalid type: integer `7`".to_owned(),
        ),
        (
            json!([with("host_id", json!(""))]),
            "sessions[0].host_id: \"\" is not 1 to 128 characters long".to_owned(),
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
            "sessions: sessions[1].id is \"lobby\", as sessions[0].id is".to_owned(),
        ),
        (
            json!([with("max_members", json!(1))]),
            "sessions: sessions[0].max_members is 1; it is from 2 to max_members, 10".to_owned(),
        ),
        (
            json!([with("max_members", json!(11))]),
            "sessions: sessions[0].max_members is 11; it is from 2 to max_members, 10".to_owned(),
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
        // What is printed of it is a configuration again.
        Config::from_json(&config.to_json()).unwrap();
    }
}

#[test]
fn the_table_of_demands_is_true() {
    crate::testing::spec_table::assert_tested(&[include_str!("static_sessions.rs")]);
}
