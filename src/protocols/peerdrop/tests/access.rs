//! Access tokens, on a realm without sockets: who may create a session, who may join one, and until when. The table in
//! `document.rs` names the tests; those that need sockets are in `tests/access/peerdrop.rs`.

use super::document::{SECOND, guess_wrong_times};
use crate::protocols::peerdrop::*;
use crate::realm::{Access, TokenError};
use crate::testing::harness::{RealmHarness, START, access, no_lines};
use serde_json::{Value, json};

fn harness() -> RealmHarness<PeerDrop> {
    RealmHarness::new(json!({}))
}

/// Returns what a client shows whose token has these claims, to a listener that demands one.
fn with(claims: Value) -> Access {
    access(true, Some(claims))
}

/// Returns the seconds since the Unix epoch, this many after the start of a harness.
fn after_start(seconds: i64) -> i64 {
    i64::try_from(START.as_secs()).unwrap() + seconds
}

fn unauthorized(conn: u64) -> [String; 1] {
    [format!("{conn} x 4401 unauthorized")]
}

/// Opens a connection that creates a session with this token. Returns the code.
fn create(harness: &mut RealmHarness<PeerDrop>, conn: u64, access: Access) -> String {
    let lines = harness.open_with(conn, "/ws/chat", access);
    let code = lines[0].strip_prefix(&format!("{conn} < "));
    code.expect("the first frame is a code").to_owned()
}

fn joins(code: &str, conn: u64, creator: u64) -> [String; 2] {
    [
        format!("{conn} < {code}"),
        format!("{creator} < the other guy joined"),
    ]
}

#[test]
fn clients_with_tokens_create_and_join_whoever_they_are() {
    let mut harness = harness();
    let code = create(&mut harness, 1, with(json!({"sub": "ann", "name": "Ann"})));
    // The code is all that the protocol knows of an identity.
    for (conn, claims) in [(2, json!({"sub": "ann"})), (4, json!({}))] {
        let code = create(&mut harness, conn + 10, with(json!({"sub": "ann"})));
        let lines = harness.open_with(conn, &format!("/ws/chat/{code}"), with(claims));
        assert_eq!(lines, joins(&code, conn, conn + 10));
    }
    let lines = harness.open_with(3, &format!("/ws/chat/{code}"), with(json!({"sub": "ben"})));
    assert_eq!(lines, joins(&code, 3, 1));
    assert_eq!(harness.send(3, "hello"), ["1 < hello"]);
}

#[test]
fn a_client_without_a_token_is_closed_where_one_is_demanded() {
    let mut harness = harness();
    let code = create(&mut harness, 1, with(json!({})));
    for (conn, path) in [(2, "/ws/chat".to_owned()), (3, format!("/ws/chat/{code}"))] {
        let lines = harness.open_with(conn, &path, access(true, None));
        assert_eq!(lines, unauthorized(conn));
    }
    assert_eq!(harness.send(1, "anybody?"), no_lines(), "nobody has joined");
}

#[test]
fn a_client_whose_token_is_refused_is_closed_whether_or_not_one_is_demanded() {
    let mut harness = harness();
    let problems = [
        TokenError::TooLong,
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Signature,
        TokenError::Audience,
        TokenError::Ambiguous,
    ];
    for (conn, problem) in (1..).zip(problems) {
        for (conn, is_required) in [(2 * conn, true), (2 * conn + 1, false)] {
            let access = Access {
                token: Some(Err(problem)),
                ..access(is_required, None)
            };
            assert_eq!(
                harness.open_with(conn, "/ws/chat", access),
                unauthorized(conn)
            );
        }
    }
}

#[test]
fn a_token_holds_from_a_minute_before_nbf_until_a_minute_after_exp() {
    let mut harness = harness();
    for (conn, claims) in [
        (1, json!({"nbf": after_start(61)})),
        (2, json!({"exp": after_start(-60)})),
    ] {
        let lines = harness.open_with(conn, "/ws/chat", with(claims));
        assert_eq!(lines, unauthorized(conn));
    }
    let claims = json!({"nbf": after_start(60), "exp": after_start(-59)});
    let lines = harness.open_with(3, "/ws/chat", with(claims));
    assert_eq!(lines[1], format!("3 ~ expires at {}", after_start(1)));
}

#[test]
fn roles_say_who_may_create_and_who_may_join() {
    let mut harness = harness();
    let code = create(&mut harness, 1, with(json!({})));
    let join = format!("/ws/chat/{code}");
    for (conn, path, roles) in [
        (2, "/ws/chat", json!(["join"])),
        (3, "/ws/chat", json!([])),
        (4, &join, json!(["create"])),
        (5, &join, json!(["Join", "host"])),
        (6, &join, json!([])),
    ] {
        let lines = harness.open_with(conn, path, with(json!({"roles": roles})));
        assert_eq!(lines, unauthorized(conn), "{roles}");
    }
    let lines = harness.open_with(7, &join, with(json!({"roles": ["join"]})));
    assert_eq!(lines, joins(&code, 7, 1));
    create(&mut harness, 8, with(json!({"roles": ["create"]})));
    create(&mut harness, 9, with(json!({"roles": ["join", "create"]})));
}

#[test]
fn a_client_that_may_not_join_learns_nothing_of_a_code_and_guesses_nothing() {
    let mut harness = harness();
    for guess in 0..10 {
        let creator = with(json!({"roles": ["create"]}));
        for (conn, access) in [(2 * guess, access(true, None)), (2 * guess + 1, creator)] {
            let lines = harness.open_with(conn, "/ws/chat/WRONG2", access);
            assert_eq!(lines, unauthorized(conn));
        }
    }
    let code = create(&mut harness, 100, with(json!({})));
    let lines = harness.open_with(101, &format!("/ws/chat/{code}"), with(json!({})));
    assert_eq!(lines, joins(&code, 101, 100));
    // Nor whether its address guesses too often.
    guess_wrong_times(&mut harness, "127.0.0.1", 10);
    let lines = harness.open_with(102, "/ws/chat/WRONG2", access(true, None));
    assert_eq!(lines, unauthorized(102));
    assert_eq!(harness.realm.figures().rate_limited, 0);
}

#[test]
fn without_demand_clients_without_a_token_create_and_join() {
    let mut harness = harness();
    let code = create(&mut harness, 1, access(false, None));
    let lines = harness.open_with(2, &format!("/ws/chat/{code}"), access(false, None));
    assert_eq!(lines, joins(&code, 2, 1));
}

#[test]
fn a_join_that_waits_ends_with_its_token() {
    let mut harness = RealmHarness::<PeerDrop>::new(json!({"total_wrong_codes_per_minute": 1}));
    guess_wrong_times(&mut harness, "192.0.2.1", 2);
    let claims = json!({"exp": after_start(0)});
    let lines = harness.open_with(1, "/ws/chat/WRONG2", with(claims));
    assert_eq!(lines, [format!("1 ~ expires at {}", after_start(60))]);
    let reason = DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED);
    harness.disconnect(1, reason);
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn the_end_of_a_token_ends_the_session() {
    let mut harness = harness();
    let claims = json!({"exp": after_start(0)});
    let code = create(&mut harness, 1, with(claims));
    harness.open_with(2, &format!("/ws/chat/{code}"), with(json!({})));
    let reason = DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED);
    assert_eq!(harness.disconnect(1, reason), ["2 x 1000 peer left"]);
}
