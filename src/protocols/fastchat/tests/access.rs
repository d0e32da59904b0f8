//! The rules for access tokens, each with the test that holds it. Tests that need sockets are in
//! `tests/access/fastchat.rs`.
//!
//! | rule | test |
//! | --- | --- |
//! | a token in HELLO or in the request admits, and its `sub` is the user | `a_token_in_hello_or_in_the_request_makes_its_subject_the_user` |
//! | the same in the flat dialect | `a_token_in_a_flat_hello_makes_its_subject_the_user` |
//! | none where one is demanded: `UNAUTHORIZED`, Close 4401 | `a_client_without_a_token_is_refused_at_hello_where_one_is_demanded` |
//! | wrong, expired, early, `none`, RS256, HS512, too long, no token at all | `each_bad_token_in_hello_is_refused` |
//! | for another audience | `a_token_for_another_audience_is_refused` |
//! | one of the request at once | `a_bad_token_of_the_request_is_refused_at_once` |
//! | 8 KiB | `a_token_of_8_kib_is_read` |
//! | two that disagree | `two_tokens_that_disagree_are_refused` |
//! | a `sub` that is no UUID of version 4 becomes one | `a_subject_that_is_no_uuid_of_version_4_becomes_one` |
//! | HELLO's `user_id` is absent, equal or replaced in HELLO_ACK | `the_user_id_of_hello_is_absent_equal_or_replaced` |
//! | a HELLO may have nothing but a token, or nothing at all | `a_hello_needs_nothing_that_its_token_says` |
//! | a token without `sub` | `a_token_without_a_subject_admits_whoever_the_client_says_it_is` |
//! | `name` is the display name | `the_name_of_a_token_goes_before_that_of_hello` |
//! | a connection ends with its token | `a_connection_ends_when_its_token_does` |
//! | a second HELLO with a fresh one: HELLO_ACK alone | `a_second_hello_with_a_fresh_token_is_acknowledged_and_changes_only_the_end` |
//! | without one the rulings' error; with a bad one or another's: refused | `a_second_hello_without_a_fresh_token_of_the_same_user_renews_nothing` |
//! | a client without a token may show its own later | `a_second_hello_can_prove_who_a_client_is` |
//! | a token holder takes over from one without at once | `a_client_with_a_token_takes_over_from_one_without_at_once` |
//! | and gets nothing of what was the other's | `a_client_with_a_token_gets_nothing_of_what_one_without_had` |
//! | before those who wait for the same user | `a_client_with_a_token_goes_before_those_who_wait_without` |
//! | it is never displaced by one | `a_client_without_a_token_cannot_be_a_user_that_has_or_had_one` |
//! | as long as the listener reads tokens | `once_no_tokens_are_read_a_user_who_had_one_and_has_gone_needs_none` |
//! | of two holders the usual rule decides | `of_two_clients_with_tokens_of_one_user_the_probe_decides` |
//! | one that waits ends with its token, too | `a_client_that_waits_for_a_probe_ends_with_its_token` |
//! | `/presence/…`: 401, and why | `the_presence_endpoints_need_a_token_where_one_is_demanded` |
//! | a listener that reads no tokens | `without_access_a_token_is_a_field_like_any_other` |
//! | what is kept is counted, and who a user has proven to be goes last | `what_is_kept_of_tokens_is_counted_and_goes_last` |
//! | the same over sockets | `where_a_token_is_demanded_only_one_admits_and_only_as_its_subject`, `a_connection_ends_with_its_token_unless_a_fresh_one_came_before`, `where_a_token_is_not_demanded_one_protects_its_user` |

use crate::base::close::{CloseReason, DisconnectReason};
use crate::protocols::fastchat::FastChat;
use crate::protocols::fastchat::identity::user_id_of;
use crate::realm::{Claims, ConnectionId, HttpReply, MAX_TOKEN_LENGTH, Realm, Retention};
use crate::testing::harness::{
    RealmHarness, START, access, no_lines, no_tokens, sent_of_type, test_tokens, token,
};
use crate::toolkit::jwt::{Secret, Verifier, sign, sign_parts};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const ANN: &str = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
const BOB: &str = "bbbbbbbb-2222-4222-8222-bbbbbbbbbbbb";
/// The user of a token with the `sub` `ann`, without an audience.
const ANN_BY_NAME: &str = "5c1fd932-2071-4815-9134-7ca3c2e2c089";

/// Seconds since the Unix epoch at which a harness starts.
fn now() -> u64 {
    START.as_secs()
}

/// A realm of a listener that reads tokens.
fn harness() -> RealmHarness<FastChat> {
    let mut harness = RealmHarness::new(json!({}));
    harness.tokens = test_tokens();
    harness
}

fn message(kind: &str, data: &Value) -> String {
    json!({"type": kind, "data": data}).to_string()
}

fn hello(id: &str, name: &str) -> String {
    message("HELLO", &json!({"user_id": id, "display_name": name}))
}

/// A HELLO of Ann with a token.
fn hello_with(token: &str) -> String {
    let data = json!({"user_id": ANN, "display_name": "Ann Lee", "token": token});
    message("HELLO", &data)
}

/// Connects to a listener that demands a token, or does not, and sends a message.
fn enter(
    harness: &mut RealmHarness<FastChat>,
    conn: u64,
    required: bool,
    hello: &str,
) -> Vec<String> {
    assert_eq!(
        harness.open_with(conn, "/ws", access(required, None)),
        no_lines()
    );
    harness.send(conn, hello)
}

/// Connects with a token of a subject.
fn enter_as(harness: &mut RealmHarness<FastChat>, conn: u64, subject: &str) -> Vec<String> {
    let hello = hello_with(&token(&json!({"sub": subject})));
    enter(harness, conn, false, &hello)
}

/// The user id in the HELLO_ACK that a connection was sent.
fn acknowledged(lines: &[String], conn: u64) -> String {
    match &sent_of_type(lines, conn, "HELLO_ACK")[..] {
        [ack] => {
            let data = if ack["data"].is_object() {
                &ack["data"]
            } else {
                ack
            };
            data["user_id"].as_str().unwrap().to_owned()
        }
        _ => panic!("{lines:?}"),
    }
}

/// Asserts that a connection was refused with `UNAUTHORIZED` and nothing else happened. Returns the text of the error.
fn assert_refused(lines: &[String], conn: u64) -> String {
    let errors = sent_of_type(lines, conn, "ERROR");
    assert!(lines.len() == 2 && errors.len() == 1, "{lines:?}");
    assert_eq!(errors[0]["data"]["code"], "UNAUTHORIZED");
    assert_eq!(lines[1], format!("{conn} x 4401 unauthorized"));
    errors[0]["data"]["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_in_hello_or_in_the_request_makes_its_subject_the_user() {
    let mut harness = harness();
    let lines = enter(
        &mut harness,
        1,
        true,
        &hello_with(&token(&json!({"sub": ANN}))),
    );
    assert_eq!(acknowledged(&lines, 1), ANN);
    assert_eq!(sent_of_type(&lines, 1, "PRESENCE").len(), 1);
    let shown = access(true, Some(json!({"sub": BOB})));
    assert_eq!(harness.open_with(2, "/ws", shown.clone()), no_lines());
    assert_eq!(acknowledged(&harness.send(2, &hello(BOB, "Bob")), 2), BOB);
    // In both places, the same.
    harness.disconnect(2, DisconnectReason::Lost);
    harness.open_with(3, "/ws", shown);
    let lines = harness.send(3, &hello_with(&token(&json!({"sub": BOB}))));
    assert_eq!(acknowledged(&lines, 3), BOB);
}

#[test]
fn a_token_in_a_flat_hello_makes_its_subject_the_user() {
    let mut harness = harness();
    let flat = |token: &str| {
        json!({"type": "HELLO", "user_id": BOB, "display_name": "Ann", "token": token}).to_string()
    };
    let lines = enter(&mut harness, 1, true, &flat(&token(&json!({"sub": ANN}))));
    assert_eq!(acknowledged(&lines, 1), ANN);
    let lines = enter(&mut harness, 2, true, &flat("none"));
    assert_eq!(
        sent_of_type(&lines, 2, "ERROR")[0]["error_code"],
        "UNAUTHORIZED"
    );
    assert_eq!(lines[1], "2 x 4401 unauthorized");
}

#[test]
fn a_client_without_a_token_is_refused_at_hello_where_one_is_demanded() {
    let mut harness = harness();
    let text = assert_refused(&enter(&mut harness, 1, true, &hello(ANN, "Ann")), 1);
    assert!(text.contains("\"token\" in HELLO"), "{text}");
    assert!(harness.realm.is_empty());
    let lines = enter(&mut harness, 2, false, &hello(ANN, "Ann"));
    assert_eq!(acknowledged(&lines, 2), ANN);
}

#[test]
fn each_bad_token_in_hello_is_refused() {
    let mut harness = harness();
    let other = Secret::new(b"another secret");
    let ann = json!({"sub": ANN});
    let with_header = |header: &str| sign_parts(header, &ann.to_string(), &other);
    let bad = [
        (sign(&ann, &other), "not signed with this server's secret"),
        (token(&json!({"sub": ANN, "exp": now() - 60})), "expired"),
        (
            token(&json!({"sub": ANN, "nbf": now() + 61})),
            "not valid yet",
        ),
        (with_header(r#"{"alg":"none"}"#), "HS256"),
        (with_header(r#"{"alg":"RS256"}"#), "HS256"),
        (with_header(r#"{"alg":"HS512"}"#), "HS256"),
        (
            token(&json!({"sub": ANN, "x": "x".repeat(MAX_TOKEN_LENGTH)})),
            "8192 bytes",
        ),
        (token(&json!({"sub": 7})), "claims have their types"),
        ("made-up".to_owned(), "JSON Web Token"),
    ];
    for (conn, (bad, reason)) in (1..).zip(bad) {
        for required in [true, false] {
            let conn = 2 * conn + u64::from(required);
            let text = assert_refused(
                &enter(&mut harness, conn, required, &hello_with(&bad)),
                conn,
            );
            assert!(text.contains(reason) && !text.contains(&bad), "{text}");
        }
    }
    let number = message(
        "HELLO",
        &json!({"user_id": ANN, "display_name": "Ann", "token": 7}),
    );
    assert_refused(&enter(&mut harness, 100, false, &number), 100);
    assert!(harness.realm.is_empty());
}

/// A reader of the tokens that [`for_audience`] makes.
fn tokens_of_audience(audience: &str) -> Arc<Verifier> {
    Arc::new(Verifier {
        secrets: vec![Secret::new(b"secret")],
        audience: Some(audience.into()),
    })
}

/// A HELLO with a token for an audience.
fn for_audience(audience: &str) -> String {
    hello_with(&sign(
        &json!({"sub": "ann", "aud": audience}),
        &Secret::new(b"secret"),
    ))
}

#[test]
fn a_token_for_another_audience_is_refused() {
    let mut harness = harness();
    harness.tokens = tokens_of_audience("chat");
    let text = assert_refused(&enter(&mut harness, 1, true, &for_audience("mail")), 1);
    assert!(text.contains("audience"), "{text}");
    let lines = enter(&mut harness, 2, true, &for_audience("chat"));
    assert_eq!(
        acknowledged(&lines, 2),
        "b5fbeae5-7d24-4d32-ac51-63309408670f"
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
            assert_refused(&harness.open_with(conn, "/ws", shown), conn);
        }
    }
    assert!(harness.realm.is_empty());
}

#[test]
fn a_token_of_8_kib_is_read() {
    let padded = |length: usize| token(&json!({"sub": ANN, "x": "x".repeat(length)}));
    let lengths = (6000..).take_while(|&length| padded(length).len() <= MAX_TOKEN_LENGTH);
    let longest = padded(lengths.last().unwrap());
    assert!(longest.len() > MAX_TOKEN_LENGTH - 3);
    let lines = enter(&mut harness(), 1, true, &hello_with(&longest));
    assert_eq!(acknowledged(&lines, 1), ANN);
}

#[test]
fn two_tokens_that_disagree_are_refused() {
    let mut harness = harness();
    for (conn, other) in [(1, json!({"sub": BOB})), (2, json!({}))] {
        harness.open_with(conn, "/ws", access(true, Some(json!({"sub": ANN}))));
        let text = assert_refused(&harness.send(conn, &hello_with(&token(&other))), conn);
        assert!(text.contains("disagree"), "{text}");
    }
}

#[test]
fn a_subject_that_is_no_uuid_of_version_4_becomes_one() {
    let id = |audience: Option<&str>, subject: &str| {
        let claims = Claims {
            subject: Some(subject.to_owned()),
            audience: audience.map(Arc::from),
            ..Claims::default()
        };
        user_id_of(&claims).unwrap().to_string()
    };
    assert_eq!(id(None, &ANN.to_uppercase()), ANN);
    assert_eq!(id(Some("chat"), ANN), ANN);
    // In Python: uuid.UUID(bytes=sha256(audience + b"\0" + sub).digest()[:16], version=4).
    assert_eq!(id(None, "ann"), ANN_BY_NAME);
    assert_eq!(id(Some("a"), "bc"), "40bb547d-936b-4d31-b18e-e37ac8799e7e");
    assert_eq!(id(Some("ab"), "c"), "6c032e63-1d39-414d-85af-f7e319546af7");
    let of_version_1 = "bbbbbbbb-2222-1222-8222-bbbbbbbbbbbb";
    for other in [of_version_1, &ANN.replace('-', ""), ""] {
        let made = id(None, other);
        assert!(made != other && made.as_bytes()[14] == b'4', "{made}");
    }
    let lines = enter_as(&mut harness(), 1, "ann");
    assert_eq!(acknowledged(&lines, 1), ANN_BY_NAME);
}

#[test]
fn the_user_id_of_hello_is_absent_equal_or_replaced() {
    let mut harness = harness();
    let token = token(&json!({"sub": "ann"}));
    for (conn, id) in (1..).zip([
        json!(null),
        json!("ann"),
        json!(ANN_BY_NAME),
        json!(BOB),
        json!(7),
    ]) {
        let mut data = json!({"user_id": id, "display_name": "Ann", "token": token});
        let lines = enter(&mut harness, 2 * conn, true, &message("HELLO", &data));
        assert_eq!(acknowledged(&lines, 2 * conn), ANN_BY_NAME);
        harness.disconnect(2 * conn, DisconnectReason::Lost);
        data["type"] = json!("HELLO");
        let lines = enter(&mut harness, 2 * conn + 1, true, &data.to_string());
        assert_eq!(acknowledged(&lines, 2 * conn + 1), ANN_BY_NAME);
        harness.disconnect(2 * conn + 1, DisconnectReason::Lost);
    }
}

#[test]
fn a_hello_needs_nothing_that_its_token_says() {
    let mut harness = harness();
    let claims = json!({"sub": ANN, "name": "Ann"});
    let flat = json!({"type": "HELLO", "token": token(&claims)}).to_string();
    let lines = enter(&mut harness, 1, true, &flat);
    assert_eq!(sent_of_type(&lines, 1, "HELLO_ACK")[0]["user_id"], ANN);
    harness.disconnect(1, DisconnectReason::Lost);
    for (conn, hello) in [
        (2, r#"{"type":"HELLO"}"#),
        (3, r#"{"type":"HELLO","data":{}}"#),
    ] {
        harness.open_with(conn, "/ws", access(true, Some(claims.clone())));
        let lines = harness.send(conn, hello);
        assert_eq!(
            sent_of_type(&lines, conn, "HELLO_ACK")[0]["data"]["user_id"],
            ANN
        );
        // It has fixed the dialect.
        let lines = harness.send(conn, r#"{"type":"MSG","content":"hi"}"#);
        assert_eq!(
            sent_of_type(&lines, conn, "ERROR")[0]["data"]["code"],
            "VALIDATION"
        );
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    // The token says no name.
    let lines = enter(
        &mut harness,
        4,
        true,
        &message("HELLO", &json!({"token": token(&json!({"sub": ANN}))})),
    );
    let error = &sent_of_type(&lines, 4, "ERROR")[0]["data"];
    assert_eq!(
        (&error["code"], &error["details"]["field"]),
        (&json!("VALIDATION"), &json!("display_name"))
    );
    assert_eq!(lines.len(), 1);
    let lines = harness.send(4, &hello_with(&token(&json!({"sub": ANN}))));
    assert_eq!(acknowledged(&lines, 4), ANN);
}

#[test]
fn a_token_without_a_subject_admits_whoever_the_client_says_it_is() {
    let mut harness = harness();
    let any = token(&json!({"exp": now() + 100}));
    let lines = enter(&mut harness, 1, true, &hello_with(&any));
    assert_eq!(lines[0], format!("1 ~ expires at {}", now() + 160));
    assert_eq!(acknowledged(&lines, 1), ANN);
    let nameless = message("HELLO", &json!({"display_name": "Ann", "token": any}));
    let lines = enter(&mut harness, 2, true, &nameless);
    assert_eq!(
        sent_of_type(&lines, 2, "ERROR")[0]["data"]["details"]["field"],
        "user_id"
    );
    // It proves nothing: who has a token of the user is the user.
    let lines = enter_as(&mut harness, 3, ANN);
    assert_eq!(acknowledged(&lines, 3), ANN);
    assert!(lines.contains(&"1 x 4409 connected again elsewhere".to_owned()));
    assert_refused(&enter(&mut harness, 4, true, &hello_with(&any)), 4);
}

#[test]
fn the_name_of_a_token_goes_before_that_of_hello() {
    let mut harness = harness();
    let mut conn = 0;
    let mut named = |name: &str, flat: bool| {
        conn += 1;
        let token = token(&json!({"sub": ANN, "name": name}));
        let mut hello = json!({"display_name": "Hello's name", "token": token});
        if flat {
            hello["type"] = json!("HELLO");
        } else {
            hello = json!({"type": "HELLO", "data": hello});
        }
        let lines = enter(&mut harness, conn, true, &hello.to_string());
        harness.disconnect(conn, DisconnectReason::Lost);
        harness.advance(SECOND);
        let presence = &sent_of_type(&lines, conn, "PRESENCE")[0];
        let users = if flat {
            &presence["users"]
        } else {
            &presence["data"]["users"]
        };
        users[0]["display_name"].as_str().unwrap().to_owned()
    };
    assert_eq!(named("Ann Lee", false), "Ann Lee");
    assert_eq!(named("<b>Al</b>\u{200b}", false), "Al");
    let long = "x".repeat(49) + " " + &"y".repeat(200);
    assert_eq!(named(&long, false), "x".repeat(49));
    assert_eq!(named(&long, true).len(), 100);
    assert_eq!(named("<b></b> ", false), "Hello's name");
}

#[test]
fn a_connection_ends_when_its_token_does() {
    let mut harness = harness();
    let ends = json!({"sub": ANN, "exp": now() + 100});
    let lines = enter(&mut harness, 1, true, &hello_with(&token(&ends)));
    assert_eq!(lines[0], format!("1 ~ expires at {}", now() + 160));
    harness.disconnect(1, DisconnectReason::Lost);
    harness.open_with(2, "/ws", access(true, Some(ends)));
    let lines = harness.send(2, &hello(ANN, "Ann"));
    assert_eq!(lines[0], format!("2 ~ expires at {}", now() + 160));
    let lines = enter_as(&mut harness, 3, "bob");
    assert!(!lines.iter().any(|line| line.contains('~')), "{lines:?}");
    // It ends although it was valid when the client connected.
    harness.open_with(
        4,
        "/ws",
        access(true, Some(json!({"sub": "cid", "exp": now() - 55}))),
    );
    harness.advance(5 * SECOND);
    assert_refused(&harness.send(4, &hello(ANN, "Ann")), 4);
}

#[test]
fn a_second_hello_with_a_fresh_token_is_acknowledged_and_changes_only_the_end() {
    let mut harness = harness();
    let fresh = |exp: u64| hello_with(&token(&json!({"sub": "ann", "name": "Other", "exp": exp})));
    enter_as(&mut harness, 1, "ann");
    enter_as(&mut harness, 2, "bob");
    harness.advance(SECOND);
    let ack = format!(
        r#"{{"type":"HELLO_ACK","data":{{"user_id":"{ANN_BY_NAME}","status":"connected"}}}}"#
    );
    let lines = harness.send(1, &fresh(now() + 100));
    assert_eq!(
        lines,
        [
            format!("1 ~ expires at {}", now() + 160),
            format!("1 < {ack}")
        ]
    );
    let lines = harness.send(
        1,
        &message("HELLO", &json!({"token": token(&json!({"sub": "ann"}))})),
    );
    assert_eq!(
        lines,
        ["1 ~ never expires".to_owned(), format!("1 < {ack}")]
    );
    assert_eq!(harness.advance(SECOND), no_lines());
}

#[test]
fn a_second_hello_without_a_fresh_token_of_the_same_user_renews_nothing() {
    let mut harness = harness();
    enter_as(&mut harness, 1, "ann");
    let lines = harness.send(1, &hello(ANN_BY_NAME, "Ann"));
    assert_eq!(
        sent_of_type(&lines, 1, "ERROR")[0]["data"]["code"],
        "VALIDATION"
    );
    assert_eq!(lines.len(), 1);
    let bad = [
        json!({"sub": "bob"}),
        json!({}),
        json!({"sub": "ann", "exp": now() - 60}),
    ];
    harness.disconnect(1, DisconnectReason::Lost);
    for (conn, claims) in (2..).zip(bad) {
        enter_as(&mut harness, conn, "ann");
        let lines = harness.send(conn, &hello_with(&token(&claims)));
        assert_refused(&lines, conn);
    }
}

#[test]
fn a_second_hello_can_prove_who_a_client_is() {
    let mut harness = harness();
    enter(&mut harness, 1, false, &hello(ANN, "Ann"));
    let lines = harness.send(1, &hello_with(&token(&json!({"sub": ANN}))));
    assert_eq!(acknowledged(&lines, 1), ANN);
    assert_refused(&enter(&mut harness, 2, false, &hello(ANN, "Ann")), 2);
}

#[test]
fn a_client_with_a_token_takes_over_from_one_without_at_once() {
    let mut harness = harness();
    enter(&mut harness, 1, false, &hello(ANN, "Ann"));
    harness.advance(SECOND);
    let lines = enter_as(&mut harness, 2, ANN);
    assert_eq!(lines[0], "1 x 4409 connected again elsewhere");
    assert_eq!(acknowledged(&lines, 2), ANN);
}

#[test]
fn a_client_with_a_token_gets_nothing_of_what_one_without_had() {
    let mut harness = harness();
    enter(&mut harness, 1, false, &hello(ANN, "Ann"));
    enter_as(&mut harness, 2, BOB);
    harness.send(2, &message("OPEN_CHAT", &json!({"target_user_id": ANN})));
    enter_as(&mut harness, 3, ANN);
    let msg = message("MSG", &json!({"to": ANN, "content": "for whom I know"}));
    let lines = harness.send(2, &msg);
    assert_eq!(
        sent_of_type(&lines, 2, "ERROR")[0]["data"]["code"],
        "CHAT_NOT_OPENED"
    );
    assert_eq!(lines.len(), 1);
    // What it has itself it keeps.
    harness.send(2, &message("OPEN_CHAT", &json!({"target_user_id": ANN})));
    harness.disconnect(3, DisconnectReason::Lost);
    enter_as(&mut harness, 4, ANN);
    assert_eq!(sent_of_type(&harness.send(2, &msg), 4, "MSG").len(), 1);
}

#[test]
fn a_client_with_a_token_goes_before_those_who_wait_without() {
    let mut harness = harness();
    enter(&mut harness, 1, false, &hello(ANN, "Ann"));
    assert_eq!(
        enter(&mut harness, 2, false, &hello(ANN, "Ann")),
        ["1 ? 5 s"]
    );
    let lines = enter_as(&mut harness, 3, ANN);
    assert_eq!(lines[0], "1 x 4409 connected again elsewhere");
    assert_eq!(acknowledged(&lines, 3), ANN);
    assert!(
        lines.contains(&"2 x 4401 unauthorized".to_owned()),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("3 x")),
        "{lines:?}"
    );
}

#[test]
fn a_client_without_a_token_cannot_be_a_user_that_has_or_had_one() {
    let mut harness = harness();
    enter_as(&mut harness, 1, ANN);
    let text = assert_refused(&enter(&mut harness, 2, false, &hello(ANN, "Ann")), 2);
    assert!(text.contains("has an access token"), "{text}");
    harness.disconnect(1, DisconnectReason::Lost);
    for conn in 3..6 {
        assert_refused(&enter(&mut harness, conn, false, &hello(ANN, "Ann")), conn);
        harness.advance(60 * SECOND);
    }
    let lines = enter(&mut harness, 6, false, &hello(BOB, "Bob"));
    assert_eq!(acknowledged(&lines, 6), BOB);
}

#[test]
fn once_no_tokens_are_read_a_user_who_had_one_and_has_gone_needs_none() {
    let mut harness = harness();
    enter_as(&mut harness, 1, ANN);
    harness.disconnect(1, DisconnectReason::Lost);
    harness.tokens = no_tokens();
    harness.open(2, "/ws");
    let lines = harness.send(2, &hello(ANN, "Ann"));
    assert_eq!(acknowledged(&lines, 2), ANN);
}

#[test]
fn of_two_clients_with_tokens_of_one_user_the_probe_decides() {
    let mut harness = harness();
    enter_as(&mut harness, 1, ANN);
    assert_eq!(enter_as(&mut harness, 2, ANN), ["1 ? 5 s"]);
    let lines = harness.answer_probe(1);
    assert_eq!(lines[1], "2 x 4409 user is connected");
    assert_eq!(enter_as(&mut harness, 3, ANN), ["1 ? 5 s"]);
    let lines = harness.fail_probe(1);
    assert_eq!(lines[0], "1 x 4409 connected again elsewhere");
    assert_eq!(acknowledged(&lines, 3), ANN);
}

#[test]
fn a_client_that_waits_for_a_probe_ends_with_its_token() {
    let mut harness = harness();
    enter_as(&mut harness, 1, ANN);
    let ending = token(&json!({"sub": ANN, "exp": now() + 3}));
    let lines = enter(&mut harness, 2, false, &hello_with(&ending));
    assert_eq!(
        lines,
        [&format!("2 ~ expires at {}", now() + 63), "1 ? 5 s"]
    );
    let ended = DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED);
    assert_eq!(harness.disconnect(2, ended), no_lines());
    assert_eq!(harness.fail_probe(1), no_lines(), "nobody waits");
}

#[test]
fn the_presence_endpoints_need_a_token_where_one_is_demanded() {
    let mut harness = harness();
    let answer = |reply: HttpReply| match reply {
        HttpReply::Ok { .. } => (200, ""),
        HttpReply::Rejected(rejection) => (rejection.status, rejection.text),
        HttpReply::UpgradeRequired { .. } => (426, ""),
    };
    let expired = json!({"exp": now() - 60});
    let early = json!({"nbf": now() + 61});
    for (shown, (status, reason)) in [
        (access(true, None), (401, "a token is needed")),
        (
            access(true, Some(expired.clone())),
            (401, "the token has expired"),
        ),
        (access(false, Some(expired)), (401, "the token has expired")),
        (access(true, Some(early)), (401, "not valid yet")),
        (
            access(true, Some(json!({"sub": 7}))),
            (401, "have their types"),
        ),
        (access(true, Some(json!({}))), (200, "")),
        (access(false, None), (200, "")),
    ] {
        let reply = answer(harness.get_with("/presence/online", shown));
        assert!(reply.0 == status && reply.1.contains(reason), "{reply:?}");
    }
    let mut status = |path| answer(harness.get_with(path, access(true, None))).0;
    assert_eq!(status("/ws"), 426);
    assert_eq!(status("/presence/heartbeat"), 405);
}

#[test]
fn without_access_a_token_is_a_field_like_any_other() {
    let mut harness = RealmHarness::<FastChat>::new(json!({}));
    harness.open(1, "/ws");
    let twice = r#"{"type":"HELLO","token":"a","token":7}"#;
    let errors = ["{\"type\":\"HELLO\"}", twice].map(|hello| harness.send(1, hello));
    assert_eq!(errors[0], errors[1]);
    let lines = harness.send(1, &hello_with("any"));
    assert_eq!(acknowledged(&lines, 1), ANN);
    let lines = harness.send(1, &hello_with("any"));
    assert_eq!(
        sent_of_type(&lines, 1, "ERROR")[0]["data"]["code"],
        "VALIDATION"
    );
    assert!(!harness.realm.is_proven(&ANN.parse().unwrap()));
}

#[test]
fn what_is_kept_of_tokens_is_counted_and_goes_last() {
    let mut harness = harness();
    let stored = |harness: &RealmHarness<FastChat>| harness.realm.stored_bytes();
    let long = json!({"sub": "ann", "name": "x".repeat(4000)});
    harness.open_with(1, "/ws", access(true, Some(long)));
    assert!(stored(&harness) > 4000);
    assert_eq!(
        harness.realm.stored_bytes_of(ConnectionId(1)),
        stored(&harness)
    );
    harness.send(1, &hello(ANN, "Ann"));
    harness.advance(SECOND);
    assert_eq!(stored(&harness), 0);
    harness.disconnect(1, DisconnectReason::Lost);
    let is_proven =
        |harness: &RealmHarness<FastChat>| harness.realm.is_proven(&ANN_BY_NAME.parse().unwrap());
    harness.advance(120 * SECOND);
    assert!(is_proven(&harness) && stored(&harness) > 0);
    harness.shed(Retention::BestEffort, usize::MAX);
    assert!(is_proven(&harness));
    enter_as(&mut harness, 2, BOB);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.shed(Retention::Promised, usize::MAX);
    assert!(is_proven(&harness));
    let (freed, _) = harness.shed(Retention::Identity, usize::MAX);
    assert!(freed > 0 && !is_proven(&harness));
    assert_eq!(stored(&harness), 0);
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("access.rs"),
        include_str!("../../../../tests/access/fastchat.rs"),
    ]);
}
