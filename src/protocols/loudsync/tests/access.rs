//! The rules for access tokens, each with the test that holds it. Tests that need sockets are in
//! `tests/access/loudsync.rs`.
//!
//! | rule | test |
//! | --- | --- |
//! | a token in JOIN or in the request admits, and its `sub` is the device ID | `a_token_in_join_or_in_the_request_makes_its_subject_the_device` |
//! | the same in the upper-case dialect, which is told its device ID | `a_token_in_an_upper_case_join_makes_its_subject_the_device` |
//! | none where one is demanded: `unauthorized`, Close 4401 | `a_client_without_a_token_is_refused_at_join_where_one_is_demanded` |
//! | wrong, expired, early, `none`, RS256, HS512, too long, no token at all | `each_bad_token_in_join_is_refused` |
//! | for another audience | `a_token_for_another_audience_is_refused` |
//! | one of the request at once | `a_bad_token_of_the_request_is_refused_at_once` |
//! | 8 KiB | `a_token_of_8_kib_is_read` |
//! | two that disagree | `two_tokens_that_disagree_are_refused` |
//! | JOIN's own device ID is absent or equal, another is refused | `the_device_id_of_join_is_absent_or_that_of_the_token` |
//! | `sub` is a device ID, or the token is refused | `a_subject_that_is_no_device_id_is_refused` |
//! | a token without `sub` | `a_token_without_a_subject_admits_whichever_device_the_client_says_it_is` |
//! | `name` is the device's name | `the_name_of_a_token_goes_before_that_of_join` |
//! | the role `host` | `only_a_token_with_the_role_host_or_without_roles_hosts_a_session` |
//! | a connection ends with its token, and the place is kept | `a_connection_ends_when_its_token_does_and_its_place_is_kept` |
//! | a second JOIN with a fresh one: `welcome` alone | `a_second_join_with_a_fresh_token_is_welcomed_and_changes_only_the_end` |
//! | without one the rulings' error; with a bad one or another's: refused | `a_second_join_without_a_fresh_token_of_the_same_device_renews_nothing` |
//! | a client without a token may show its own later | `a_second_join_can_prove_which_device_a_client_is` |
//! | a token holder takes over from one without at once | `a_client_with_a_token_takes_over_from_one_without_at_once` |
//! | before those who wait for the same place | `a_client_with_a_token_goes_before_those_who_wait_without` |
//! | it is never displaced by one | `a_client_without_a_token_cannot_be_a_device_that_has_or_had_one` |
//! | in no session, as long as it is connected, whatever is remembered | `a_device_with_a_token_is_protected_by_its_connections_whatever_is_remembered` |
//! | in whatever way it has left | `a_device_that_had_a_token_is_remembered_however_it_has_left` |
//! | as long as the listener reads tokens | `once_no_tokens_are_read_a_device_that_had_one_and_has_gone_needs_none` |
//! | of two holders the usual rule decides | `of_two_clients_with_tokens_of_one_device_the_probe_decides` |
//! | one that waits ends with its token, too | `a_client_that_waits_for_a_probe_ends_with_its_token` |
//! | a listener that reads no tokens | `without_access_a_token_is_a_field_like_any_other` |
//! | what is kept is counted, and who has proven to be which device goes last | `what_is_kept_of_tokens_is_counted_and_goes_last` |
//! | the same over sockets | `where_a_token_is_demanded_only_one_admits_and_only_as_its_subject`, `a_connection_ends_with_its_token_unless_a_fresh_one_came_before_and_keeps_its_place`, `where_a_token_is_not_demanded_one_protects_its_device` |

use super::document::{SECOND, bare, join, kick, message};
use crate::base::close::CloseReason;
use crate::protocols::loudsync::*;
use crate::realm::MAX_TOKEN_LENGTH;
use crate::testing::harness::{
    RealmHarness, START, access, no_lines, no_tokens, sent_of_type, test_tokens, token,
};
use crate::toolkit::jwt::{Secret, Verifier, sign, sign_parts};
use serde_json::Value;
use std::sync::Arc;

/// Seconds since the Unix epoch at which a harness starts.
fn now() -> u64 {
    START.as_secs()
}

/// A realm of a listener that reads tokens, in which the session `party` has its host on connection 1.
fn harness() -> RealmHarness<Loudsync> {
    let mut harness = RealmHarness::new(json!({}));
    harness.tokens = test_tokens();
    enter_as(&mut harness, 1, "mac", "host");
    harness
}

/// A JOIN of the session `party` with a token, by a device that says no ID.
fn join_with(kind: &str, token: &str) -> String {
    let info = json!({"name": "Phone", "type": kind});
    message(
        "join",
        json!({"sessionId": "party", "deviceInfo": info, "token": token}),
    )
}

/// Connects to a listener that demands a token, or does not, and sends a message.
fn enter(
    harness: &mut RealmHarness<Loudsync>,
    conn: u64,
    required: bool,
    join: &str,
) -> Vec<String> {
    assert_eq!(
        harness.open_with(conn, "/", access(required, None)),
        no_lines()
    );
    harness.send(conn, join)
}

/// Connects with a token of a subject.
fn enter_as(
    harness: &mut RealmHarness<Loudsync>,
    conn: u64,
    subject: &str,
    kind: &str,
) -> Vec<String> {
    let join = join_with(kind, &token(&json!({"sub": subject})));
    enter(harness, conn, true, &join)
}

/// The client ID in the welcome that a connection was sent.
fn welcomed(lines: &[String], conn: u64) -> String {
    match &sent_of_type(lines, conn, "welcome")[..] {
        [welcome] => welcome["clientId"].as_str().unwrap().to_owned(),
        _ => panic!("{lines:?}"),
    }
}

/// The device ID of the member on a connection.
fn device(harness: &RealmHarness<Loudsync>, conn: u64) -> String {
    let mut members = harness.realm.sessions["party"].members();
    members
        .find(|member| member.is_on(ConnectionId(conn)))
        .unwrap()
        .device_id
        .clone()
}

/// Asserts that a connection was refused with `unauthorized`. Returns the text of the error.
fn assert_refused(lines: &[String], conn: u64) -> String {
    let errors = sent_of_type(lines, conn, "error");
    assert!(errors.len() == 1, "{lines:?}");
    assert_eq!(errors[0]["code"], "unauthorized");
    assert_eq!(lines[1], format!("{conn} x 4401 unauthorized"));
    errors[0]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_in_join_or_in_the_request_makes_its_subject_the_device() {
    let mut harness = harness();
    welcomed(&enter_as(&mut harness, 2, "phone", "client"), 2);
    assert_eq!(device(&harness, 2), "phone");
    harness.open_with(3, "/", access(true, Some(json!({"sub": "pad"}))));
    welcomed(&harness.send(3, &join("party", "pad", "client")), 3);
    assert_eq!(device(&harness, 3), "pad");
    // In both places, the same.
    harness.open_with(4, "/", access(true, Some(json!({"sub": "tv"}))));
    welcomed(
        &harness.send(4, &join_with("client", &token(&json!({"sub": "tv"})))),
        4,
    );
}

#[test]
fn a_token_in_an_upper_case_join_makes_its_subject_the_device() {
    let mut harness = harness();
    let upper = |token: &str| {
        let payload = json!({"sessionId": "party", "deviceName": "TV", "token": token});
        message("JOIN", json!({"payload": payload}))
    };
    let lines = enter(&mut harness, 2, true, &upper(&token(&json!({"sub": "tv"}))));
    let welcome = &sent_of_type(&lines, 2, "WELCOME")[0]["payload"];
    assert_eq!(welcome["yourDeviceId"], "tv");
    let lines = harness.send(2, &upper(&token(&json!({"sub": "tv", "exp": now() + 100}))));
    assert_eq!(lines[0], format!("2 ~ expires at {}", now() + 160));
    assert!(sent_of_type(&lines, 2, "WELCOME").len() == 1 && lines.len() == 2);
    let lines = enter(&mut harness, 3, true, &upper("none"));
    assert_eq!(
        sent_of_type(&lines, 3, "ERROR")[0]["payload"]["code"],
        "UNAUTHORIZED"
    );
    assert_eq!(lines[1], "3 x 4401 unauthorized");
}

#[test]
fn a_client_without_a_token_is_refused_at_join_where_one_is_demanded() {
    let mut harness = harness();
    let text = assert_refused(
        &enter(&mut harness, 2, true, &join("party", "phone", "client")),
        2,
    );
    assert!(text.contains("\"token\" in join"), "{text}");
    welcomed(
        &enter(&mut harness, 3, false, &join("party", "phone", "client")),
        3,
    );
}

#[test]
fn each_bad_token_in_join_is_refused() {
    let mut harness = harness();
    let other = Secret::new(b"another secret");
    let phone = json!({"sub": "phone"});
    let with_header = |header: &str| sign_parts(header, &phone.to_string(), &other);
    let bad = [
        (sign(&phone, &other), "not signed with this server's secret"),
        (
            token(&json!({"sub": "phone", "exp": now() - 60})),
            "expired",
        ),
        (
            token(&json!({"sub": "phone", "nbf": now() + 61})),
            "not valid yet",
        ),
        (with_header(r#"{"alg":"none"}"#), "HS256"),
        (with_header(r#"{"alg":"RS256"}"#), "HS256"),
        (with_header(r#"{"alg":"HS512"}"#), "HS256"),
        (
            token(&json!({"sub": "phone", "x": "x".repeat(MAX_TOKEN_LENGTH)})),
            "8192 bytes",
        ),
        ("made-up".to_owned(), "JSON Web Token"),
    ];
    for (conn, (bad, reason)) in (1..).zip(bad) {
        for required in [true, false] {
            let conn = 2 * conn + u64::from(required);
            let lines = enter(&mut harness, conn, required, &join_with("client", &bad));
            let text = assert_refused(&lines, conn);
            assert!(text.contains(reason) && !text.contains(&bad), "{text}");
        }
    }
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let mut harness = harness();
    harness.tokens = Arc::new(Verifier {
        secrets: vec![Secret::new(b"secret")],
        audience: Some("music".into()),
    });
    let claims = |audience: &str| json!({"sub": "phone", "aud": audience});
    let signed = |audience: &str| sign(&claims(audience), &Secret::new(b"secret"));
    let lines = enter(&mut harness, 2, true, &join_with("client", &signed("mail")));
    assert!(assert_refused(&lines, 2).contains("audience"));
    welcomed(
        &enter(
            &mut harness,
            3,
            true,
            &join_with("client", &signed("music")),
        ),
        3,
    );
}

#[test]
fn a_bad_token_of_the_request_is_refused_at_once() {
    let mut harness = harness();
    for (conn, claims) in [
        (1, json!({"exp": now() - 60})),
        (2, json!({"nbf": now() + 61})),
        (3, json!({"sub": 7})),
    ] {
        for required in [true, false] {
            let conn = 2 * conn + u64::from(required);
            let shown = access(required, Some(claims.clone()));
            assert_refused(&harness.open_with(conn, "/", shown), conn);
        }
    }
    assert!(harness.realm.access.is_empty() && harness.realm.pending.is_empty());
}

#[test]
fn a_token_of_8_kib_is_read() {
    let padded = |length: usize| token(&json!({"sub": "phone", "x": "x".repeat(length)}));
    let lengths = (6000..).take_while(|&length| padded(length).len() <= MAX_TOKEN_LENGTH);
    let longest = padded(lengths.last().unwrap());
    assert!(longest.len() > MAX_TOKEN_LENGTH - 3);
    welcomed(
        &enter(&mut harness(), 2, true, &join_with("client", &longest)),
        2,
    );
}

#[test]
fn two_tokens_that_disagree_are_refused() {
    let mut harness = harness();
    for (conn, other) in [(2, json!({"sub": "pad"})), (3, json!({}))] {
        harness.open_with(conn, "/", access(true, Some(json!({"sub": "phone"}))));
        let text = assert_refused(
            &harness.send(conn, &join_with("client", &token(&other))),
            conn,
        );
        assert!(text.contains("disagree"), "{text}");
    }
}

#[test]
fn the_device_id_of_join_is_absent_or_that_of_the_token() {
    let mut harness = harness();
    let join_as = |device: Value, subject: &str| {
        let info = json!({"id": device, "name": "Phone", "type": "client"});
        let token = token(&json!({"sub": subject}));
        message(
            "join",
            json!({"sessionId": "party", "deviceInfo": info, "token": token}),
        )
    };
    for (conn, device_id, subject) in [(2, json!(null), "a"), (3, json!("b"), "b")] {
        welcomed(
            &enter(&mut harness, conn, true, &join_as(device_id, subject)),
            conn,
        );
        assert_eq!(device(&harness, conn), subject);
    }
    let text = assert_refused(
        &enter(&mut harness, 5, true, &join_as(json!("pad"), "phone")),
        5,
    );
    assert!(text.contains("device ID"), "{text}");
    // One that is no device ID is the error that it is without a token.
    for (conn, device_id) in [(6, json!(7)), (7, json!("x".repeat(129)))] {
        let lines = enter(&mut harness, conn, true, &join_as(device_id, "tv"));
        let error = &sent_of_type(&lines, conn, "error")[0];
        assert_eq!(error["details"]["field"], "deviceInfo.id");
        assert_eq!(lines.len(), 1);
    }
}

#[test]
fn a_subject_that_is_no_device_id_is_refused() {
    let mut harness = harness();
    let (longest, too_long) = ("\u{e9}".repeat(128), "x".repeat(129));
    welcomed(&enter_as(&mut harness, 2, &longest, "client"), 2);
    let text = assert_refused(&enter_as(&mut harness, 3, &too_long, "client"), 3);
    assert!(text.contains("1 to 128 characters"), "{text}");
    // Also in the request, of a guest and of a host.
    for (conn, join) in [
        (4, join("party", "tv", "client")),
        (5, join("other", "tv", "host")),
    ] {
        harness.open_with(conn, "/", access(true, Some(json!({"sub": too_long}))));
        assert_refused(&harness.send(conn, &join), conn);
    }
    assert!(!harness.realm.sessions.contains_key("other"));
}

#[test]
fn a_token_without_a_subject_admits_whichever_device_the_client_says_it_is() {
    let mut harness = harness();
    harness.open_with(2, "/", access(true, Some(json!({"exp": now() + 100}))));
    let lines = harness.send(
        2,
        &join_with("client", &token(&json!({"exp": now() + 100}))),
    );
    assert_eq!(
        sent_of_type(&lines, 2, "error")[0]["details"]["field"],
        "deviceInfo.id"
    );
    assert_eq!(lines.len(), 1);
    let lines = harness.send(2, &join("party", "phone", "client"));
    welcomed(&lines, 2);
    assert!(lines.contains(&format!("2 ~ expires at {}", now() + 160)));
    // It proves nothing: who has a token of the device is the device.
    let lines = enter_as(&mut harness, 3, "phone", "client");
    assert_eq!(lines[0], "2 x 4409 connected again elsewhere");
}

#[test]
fn the_name_of_a_token_goes_before_that_of_join() {
    let mut harness = harness();
    let mut named = |conn: u64, name: &str| {
        let token = token(&json!({"sub": conn.to_string(), "name": name}));
        let lines = enter(&mut harness, conn, true, &join_with("client", &token));
        sent_of_type(&lines, 1, "member_joined")[0]["member"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(named(2, "Ann's phone"), "Ann's phone");
    assert_eq!(named(3, &"x".repeat(200)), "x".repeat(100));
    assert_eq!(named(4, ""), "Phone");
    let info = json!({"type": "client"});
    let token = token(&json!({"sub": "tv", "name": "TV"}));
    let join = message(
        "join",
        json!({"sessionId": "party", "deviceInfo": info, "token": token}),
    );
    welcomed(&enter(&mut harness, 5, true, &join), 5);
}

#[test]
fn only_a_token_with_the_role_host_or_without_roles_hosts_a_session() {
    let mut harness = harness();
    let with_roles =
        |roles: Value| join_with("host", &token(&json!({"sub": "mac", "roles": roles})));
    for (conn, roles) in [(2, json!([])), (3, json!(["guest"]))] {
        let text = assert_refused(
            &enter(&mut harness, conn, true, &with_roles(roles.clone())),
            conn,
        );
        assert!(text.contains("role \"host\""), "{text}");
        // Nor as the client that has the host's device.
        let client = join_with("client", &token(&json!({"sub": "mac", "roles": roles})));
        assert_refused(&enter(&mut harness, conn + 10, true, &client), conn + 10);
    }
    // As a guest it needs no role.
    let guest = join_with("client", &token(&json!({"sub": "phone", "roles": []})));
    welcomed(&enter(&mut harness, 4, true, &guest), 4);
    harness.disconnect(1, DisconnectReason::Lost);
    welcomed(
        &enter(&mut harness, 5, true, &with_roles(json!(["host", "x"]))),
        5,
    );
}

#[test]
fn a_connection_ends_when_its_token_does_and_its_place_is_kept() {
    let mut harness = harness();
    let ends = token(&json!({"sub": "phone", "exp": now() + 100}));
    let lines = enter(&mut harness, 2, true, &join_with("client", &ends));
    let id = welcomed(&lines, 2);
    assert!(
        lines.contains(&format!("2 ~ expires at {}", now() + 160)),
        "{lines:?}"
    );
    let lines = harness.disconnect(2, DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED));
    let members = &sent_of_type(&lines, 1, "member_list")[0]["members"];
    assert_eq!(members[1]["connectionStatus"], "reconnecting");
    assert_eq!(
        welcomed(&enter_as(&mut harness, 3, "phone", "client"), 3),
        id
    );
    let lines = enter_as(&mut harness, 4, "pad", "client");
    assert!(!lines.iter().any(|line| line.contains('~')), "{lines:?}");
    // It ends although it was valid when the client connected.
    harness.open_with(
        5,
        "/",
        access(true, Some(json!({"sub": "tv", "exp": now() - 55}))),
    );
    harness.advance(5 * SECOND);
    assert_refused(&harness.send(5, &join("party", "tv", "client")), 5);
}

#[test]
fn a_second_join_with_a_fresh_token_is_welcomed_and_changes_only_the_end() {
    let mut harness = harness();
    let id = welcomed(&enter_as(&mut harness, 2, "phone", "client"), 2);
    let fresh = json!({"sub": "phone", "name": "Other", "exp": now() + 100});
    let lines = harness.send(2, &join_with("host", &token(&fresh)));
    assert_eq!(lines[0], format!("2 ~ expires at {}", now() + 160));
    assert_eq!(welcomed(&lines, 2), id);
    assert_eq!(lines.len(), 2);
    let lines = harness.send(2, &join_with("client", &token(&json!({"sub": "phone"}))));
    assert_eq!(lines[0], "2 ~ never expires");
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn a_second_join_without_a_fresh_token_of_the_same_device_renews_nothing() {
    let mut harness = harness();
    enter_as(&mut harness, 2, "phone", "client");
    let lines = harness.send(2, &join("party", "phone", "client"));
    assert_eq!(
        sent_of_type(&lines, 2, "error")[0]["code"],
        "already_joined"
    );
    let invalid = message(
        "join",
        json!({"sessionId": "party", "deviceInfo": {"type": "client"}}),
    );
    assert_eq!(
        sent_of_type(&harness.send(2, &invalid), 2, "error")[0]["code"],
        "invalid_message"
    );
    harness.disconnect(2, DisconnectReason::Lost);
    let bad = [
        json!({"sub": "pad"}),
        json!({}),
        json!({"sub": "phone", "exp": now() - 60}),
    ];
    for (conn, claims) in (3..).zip(bad) {
        enter_as(&mut harness, conn, "phone", "client");
        let lines = harness.send(conn, &join_with("client", &token(&claims)));
        assert_refused(&lines, conn);
    }
}

#[test]
fn a_second_join_can_prove_which_device_a_client_is() {
    let mut harness = harness();
    enter(&mut harness, 2, false, &join("party", "phone", "client"));
    let lines = harness.send(2, &join_with("client", &token(&json!({"sub": "phone"}))));
    welcomed(&lines, 2);
    for (conn, session, kind) in [(3, "party", "client"), (4, "other", "host")] {
        harness.shed(Retention::Identity, usize::MAX);
        let again = enter(&mut harness, conn, false, &join(session, "phone", kind));
        assert_refused(&again, conn);
    }
    harness.disconnect(2, DisconnectReason::Closed(CloseReason::REMOVED));
    assert_is_remembered(&mut harness, "phone");
}

#[test]
fn a_client_with_a_token_takes_over_from_one_without_at_once() {
    let mut harness = harness();
    let id = welcomed(
        &enter(&mut harness, 2, false, &join("party", "phone", "client")),
        2,
    );
    let lines = enter_as(&mut harness, 3, "phone", "client");
    assert_eq!(lines[0], "2 x 4409 connected again elsewhere");
    assert_eq!(welcomed(&lines, 3), id);
    assert_eq!(
        sent_of_type(&lines, 1, "member_list").len(),
        1,
        "as after any takeover"
    );
}

#[test]
fn a_client_with_a_token_goes_before_those_who_wait_without() {
    let mut harness = harness();
    let phone = join("party", "phone", "client");
    enter(&mut harness, 2, false, &phone);
    assert_eq!(enter(&mut harness, 3, false, &phone), ["2 ? 2 s"]);
    let lines = enter_as(&mut harness, 4, "phone", "client");
    assert_eq!(lines[0], "2 x 4409 connected again elsewhere");
    welcomed(&lines, 4);
    assert!(
        lines.contains(&"3 x 4401 unauthorized".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_client_without_a_token_cannot_be_a_device_that_has_or_had_one() {
    let mut harness = harness();
    let phone = join("party", "phone", "client");
    enter_as(&mut harness, 2, "phone", "client");
    let text = assert_refused(&enter(&mut harness, 3, false, &phone), 3);
    assert!(text.contains("has an access token"), "{text}");
    harness.disconnect(2, DisconnectReason::Lost);
    for conn in 4..6 {
        assert_refused(&enter(&mut harness, conn, false, &phone), conn);
        harness.advance(20 * SECOND);
    }
    // Nor in a session of its own.
    assert_refused(
        &enter(&mut harness, 6, false, &join("other", "phone", "host")),
        6,
    );
    welcomed(
        &enter(&mut harness, 7, false, &join("other", "pad", "host")),
        7,
    );
}

/// Asserts that a client without a token cannot be a device that is not connected until the server forgets it.
fn assert_is_remembered(harness: &mut RealmHarness<Loudsync>, device: &str) {
    let opens = join("a-session-of-its-own", device, "host");
    assert_refused(&enter(harness, 1000, false, &opens), 1000);
    harness.shed(Retention::Identity, usize::MAX);
    welcomed(&enter(harness, 1001, false, &opens), 1001);
}

#[test]
fn a_device_with_a_token_is_protected_by_its_connections_whatever_is_remembered() {
    let mut harness = harness();
    enter_as(&mut harness, 2, "phone", "client");
    let info = json!({"name": "Phone", "type": "host"});
    let shown = token(&json!({"sub": "phone"}));
    let second = json!({"sessionId": "second", "deviceInfo": info, "token": shown});
    welcomed(&enter(&mut harness, 3, true, &message("join", second)), 3);
    let assert_protected = |harness: &mut RealmHarness<Loudsync>, conn: u64, device: &str| {
        harness.shed(Retention::Identity, usize::MAX);
        for (conn, session, kind) in [(conn, "party", "client"), (conn + 1, "third", "host")] {
            let join = join(session, device, kind);
            assert_refused(&enter(harness, conn, false, &join), conn);
        }
    };
    assert_protected(&mut harness, 10, "phone");
    assert_protected(&mut harness, 12, "mac");
    // It has another connection, whose token is renewed.
    let renewed = token(&json!({"sub": "phone"}));
    welcomed(&harness.send(3, &join_with("host", &renewed)), 3);
    harness.disconnect(2, DisconnectReason::Closed(CloseReason::REMOVED));
    assert_protected(&mut harness, 14, "phone");
    harness.disconnect(3, DisconnectReason::Closed(CloseReason::REMOVED));
    assert_is_remembered(&mut harness, "phone");
}

#[test]
fn a_device_that_had_a_token_is_remembered_however_it_has_left() {
    type Leaving = fn(&mut RealmHarness<Loudsync>, &str);
    let ways: [(&str, Leaving); 9] = [
        ("it leaves", |harness, _| {
            harness.send(2, &bare("leave"));
        }),
        ("it closes", |harness, _| {
            harness.disconnect(2, DisconnectReason::ClosedByClient(Some(1000)));
        }),
        ("the host kicks it", |harness, id| {
            harness.send(1, &kick(id));
        }),
        ("an operator kicks it", |harness, _| {
            harness.disconnect(2, DisconnectReason::Closed(CloseReason::REMOVED));
        }),
        ("it breaks a rule", |harness, _| {
            harness.disconnect(2, DisconnectReason::Closed(CloseReason::PROTOCOL_ERROR));
        }),
        ("it is lost, and its time is over", |harness, _| {
            harness.disconnect(2, DisconnectReason::Lost);
            for _ in 0..9 {
                harness.send(1, &bare("heartbeat"));
                harness.advance(5 * SECOND);
            }
        }),
        ("it sends no heartbeat", |harness, _| {
            for _ in 0..9 {
                harness.send(1, &bare("heartbeat"));
                harness.advance(5 * SECOND);
            }
        }),
        ("the host ends the session", |harness, _| {
            harness.send(1, &bare("leave"));
        }),
        ("a newer connection replaces it and leaves", |harness, _| {
            enter_as(harness, 3, "phone", "client");
            harness.fail_probe(2);
            harness.shed(Retention::Identity, usize::MAX);
            harness.send(3, &bare("leave"));
        }),
    ];
    for (way, leave) in ways {
        let mut harness = harness();
        let id = welcomed(&enter_as(&mut harness, 2, "phone", "client"), 2);
        harness.shed(Retention::Identity, usize::MAX);
        leave(&mut harness, &id);
        let is_open = harness
            .open_connections()
            .any(|conn| conn == 2 || conn == 3);
        assert!(!is_open, "{way}");
        assert_is_remembered(&mut harness, "phone");
    }
    // Nor is the host forgotten when its session ends with it.
    let mut harness = harness();
    harness.shed(Retention::Identity, usize::MAX);
    harness.disconnect(1, DisconnectReason::Closed(CloseReason::TOO_SLOW));
    assert!(harness.realm.sessions.is_empty());
    assert_is_remembered(&mut harness, "mac");
}

#[test]
fn once_no_tokens_are_read_a_device_that_had_one_and_has_gone_needs_none() {
    let mut harness = harness();
    enter_as(&mut harness, 2, "phone", "client");
    harness.disconnect(2, DisconnectReason::Closed(CloseReason::REMOVED));
    harness.tokens = no_tokens();
    harness.open(3, "/");
    welcomed(&harness.send(3, &join("other", "phone", "host")), 3);
}

#[test]
fn of_two_clients_with_tokens_of_one_device_the_probe_decides() {
    let mut harness = harness();
    enter_as(&mut harness, 2, "phone", "client");
    assert_eq!(enter_as(&mut harness, 3, "phone", "client"), ["2 ? 2 s"]);
    let lines = harness.answer_probe(2);
    assert_eq!(
        sent_of_type(&lines, 3, "error")[0]["code"],
        "already_joined"
    );
    assert_eq!(enter_as(&mut harness, 4, "phone", "client"), ["2 ? 2 s"]);
    let lines = harness.fail_probe(2);
    assert_eq!(lines[0], "2 x 4409 connected again elsewhere");
    welcomed(&lines, 4);
}

#[test]
fn a_client_that_waits_for_a_probe_ends_with_its_token() {
    let mut harness = harness();
    enter_as(&mut harness, 2, "phone", "client");
    let ending = token(&json!({"sub": "phone", "exp": now() + 3}));
    let lines = enter(&mut harness, 3, false, &join_with("client", &ending));
    assert_eq!(
        lines,
        ["2 ? 2 s", &format!("3 ~ expires at {}", now() + 63)]
    );
    let ended = DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED);
    assert_eq!(harness.disconnect(3, ended), no_lines());
    assert_eq!(harness.fail_probe(2), no_lines(), "nobody waits");
}

#[test]
fn without_access_a_token_is_a_field_like_any_other() {
    let mut harness = RealmHarness::<Loudsync>::new(json!({}));
    harness.open(1, "/");
    let info = json!({"id": "mac", "name": "Mac", "type": "host"});
    for (conn, token) in [(1, json!("any")), (2, json!(7))] {
        let session = format!("session-{conn}");
        let join = message(
            "join",
            json!({"sessionId": session, "deviceInfo": info, "token": token}),
        );
        if conn > 1 {
            harness.open(conn, "/");
        }
        welcomed(&harness.send(conn, &join), conn);
        let lines = harness.send(conn, &join);
        assert_eq!(
            sent_of_type(&lines, conn, "error")[0]["code"],
            "already_joined"
        );
    }
    assert_eq!(harness.realm.proven.bytes(), 0);
}

#[test]
fn what_is_kept_of_tokens_is_counted_and_goes_last() {
    let mut harness = RealmHarness::<Loudsync>::new(json!({}));
    harness.tokens = test_tokens();
    let stored = |harness: &RealmHarness<Loudsync>| harness.realm.stored_bytes();
    let long = json!({"sub": "mac", "name": "x".repeat(4000)});
    harness.open_with(1, "/", access(true, Some(long)));
    assert!(stored(&harness) > 4000);
    assert_eq!(
        harness.realm.stored_bytes_of(ConnectionId(1)),
        stored(&harness)
    );
    welcomed(&harness.send(1, &join("party", "mac", "host")), 1);
    let proven = stored(&harness);
    assert!(0 < proven && proven < 1000, "{proven}");
    assert_eq!(harness.realm.stored_bytes_of(ConnectionId(1)), proven);
    // As it is connected, its device cannot be forgotten.
    assert_eq!(harness.shed(Retention::Identity, usize::MAX).0, 0);
    harness.disconnect(1, DisconnectReason::Lost);
    let proven = stored(&harness);
    assert!(0 < proven && proven < 1000, "{proven}");
    harness.advance(SECOND);
    // The abandoned session goes first.
    assert!(harness.shed(Retention::BestEffort, usize::MAX).0 == 0);
    harness.shed(Retention::Promised, usize::MAX);
    assert_eq!(stored(&harness), proven);
    assert_refused(
        &enter(&mut harness, 2, false, &join("party", "mac", "host")),
        2,
    );
    assert_eq!(harness.shed(Retention::Identity, usize::MAX).0, proven);
    assert_eq!(stored(&harness), 0);
    welcomed(
        &enter(&mut harness, 3, false, &join("party", "mac", "host")),
        3,
    );
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("access.rs"),
        include_str!("../../../../tests/access/loudsync.rs"),
    ]);
}
