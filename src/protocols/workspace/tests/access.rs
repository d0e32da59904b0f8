//! Access tokens: who comes in, and as whom. Tests that need sockets are in `tests/access/workspace.rs`.
//!
//! A `demanding` room demands a token, an `open` one reads those that it is sent.

use super::document::{
    AWAY, HS256, MESSAGE, MINUTE, SEND, TYPING, acknowledged, auth, error, error_code, harness,
    name_of, presence, settle, sign, to, typing, user_count, user_id,
};
use crate::protocols::workspace::*;
use crate::realm::{Access, TokenError};
use crate::testing::harness::{RealmHarness, access, no_lines, no_tokens, test_tokens, token};
use crate::toolkit::jwt::{Secret, Verifier};
use serde_json::{Value, json};
use std::sync::Arc;

/// The second at which a harness starts.
const NOW: u64 = 1_768_557_600;

const UNAUTHORIZED: &str = "x 4401 unauthorized";
const REPLACED: &str = "x 4409 connected again elsewhere";

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a room that reads tokens.
fn tokens() -> RealmHarness<Workspace> {
    let mut harness = harness();
    harness.tokens = test_tokens();
    harness
}

/// Opens a connection with this token in its request, where one is demanded or not.
fn open(
    harness: &mut RealmHarness<Workspace>,
    is_required: bool,
    conn: u64,
    name: &str,
    claims: Option<Value>,
) -> Vec<String> {
    let target = format!("/ws?username={name}");
    harness.open_with(conn, &target, access(is_required, claims))
}

/// Returns an open room in which connection 1 is Ann, who has a token.
fn with_ann() -> RealmHarness<Workspace> {
    let mut harness = tokens();
    let ann = Some(json!({"sub": "ann"}));
    let lines = open(&mut harness, false, 1, "", ann);
    assert_eq!(name(&lines, 1), "ann");
    harness
}

/// Returns a demanding room in which connection 1 is Ann, and connection 2 has not sent a token.
fn with_stranger() -> RealmHarness<Workspace> {
    let mut harness = tokens();
    open(&mut harness, true, 1, "", Some(json!({"sub": "ann"})));
    let lines = open(&mut harness, true, 2, "bob", None);
    assert_eq!(lines.len(), 1, "{lines:?}");
    settle(&mut harness);
    harness
}

/// Returns the name in the `connected` among these lines.
fn name(lines: &[String], conn: u64) -> String {
    let mut lines = lines.iter().filter(|line| line.contains(r#""connected""#));
    let connected = to(conn, lines.next().expect("a connected"));
    connected["username"].as_str().unwrap().to_owned()
}

/// Asserts that these lines refuse a connection with an error that has this in its text, and do nothing else.
#[track_caller]
fn assert_refused(lines: &[String], conn: u64, text: &str) {
    let [reply, close] = lines else {
        panic!("{lines:?}");
    };
    let reply = to(conn, reply);
    assert_eq!(
        (&reply["type"], &reply["code"]),
        (&json!("error"), &json!("UNAUTHORIZED"))
    );
    let message = reply["message"].as_str().unwrap();
    assert!(message.contains(text), "{message}");
    assert_eq!(*close, format!("{conn} {UNAUTHORIZED}"));
}

#[test]
fn a_client_with_a_token_in_its_request_has_the_name_in_it_from_the_start() {
    for is_required in [true, false] {
        let mut harness = tokens();
        let ann = json!({"sub": "ann", "username": "other", "name": "Ann Other", "roles": []});
        let lines = open(&mut harness, is_required, 1, "eve", Some(ann));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "1 ~ never expires");
        let connected = to(1, &lines[1]);
        assert_eq!(connected["username"], "ann");
        assert_eq!(connected["connectedUsers"], 1);
        let message = to(1, &harness.send(1, SEND)[0]);
        assert_eq!(message["data"]["username"], "ann");
        // The published client's tokens have this.
        let bob = json!({"username": "bob"});
        assert_eq!(
            name(&open(&mut harness, is_required, 2, "", Some(bob)), 2),
            "bob"
        );
    }
}

#[test]
fn a_token_that_names_no_user_admits_under_the_name_that_was_asked_for() {
    let mut harness = tokens();
    let nameless = || Some(json!({"exp": NOW + 10}));
    let lines = open(&mut harness, true, 1, "zoe", nameless());
    assert_eq!(lines[0], format!("1 ~ expires at {}", NOW + 70));
    assert_eq!(name(&lines, 1), "zoe");
    assert!(name(&open(&mut harness, true, 2, "", nameless()), 2).starts_with("User_"));
    // But not under that of a token holder.
    let ann = || Some(json!({"sub": "ann"}));
    open(&mut harness, true, 3, "", ann());
    let lines = open(&mut harness, true, 4, "Ann", nameless());
    assert_refused(&lines, 4, "belongs to a client with a token");
    harness.disconnect(3, DisconnectReason::Lost);
    let lines = open(&mut harness, true, 6, "Ann", nameless());
    assert_refused(&lines, 6, "belongs to a client with a token");
    // Nor does it keep a name that a token is for.
    let lines = open(&mut harness, true, 5, "", Some(json!({"sub": "zoe"})));
    assert_eq!(lines[0], format!("1 {REPLACED}"));
}

#[test]
fn a_token_in_the_request_that_is_refused_refuses_the_client() {
    let refused = |access: Access, text: &str| {
        let mut harness = tokens();
        let lines = harness.open_with(1, "/ws?username=ann", access);
        assert_refused(&lines, 1, text);
        assert!(harness.realm.users.is_empty() && harness.realm.unauthenticated.is_empty());
    };
    for is_required in [true, false] {
        let with = |claims| access(is_required, Some(claims));
        refused(with(json!({"sub": "ann", "exp": NOW - 60})), "has expired");
        refused(
            with(json!({"sub": "ann", "nbf": NOW + 61})),
            "not valid yet",
        );
        for problem in [
            TokenError::Signature,
            TokenError::Audience,
            TokenError::Ambiguous,
            TokenError::TooLong,
        ] {
            let shown = Access {
                token: Some(Err(problem)),
                ..access(is_required, None)
            };
            refused(shown, &problem.to_string());
        }
    }
}

#[test]
fn a_name_in_a_token_that_is_no_username_as_it_stands_is_refused() {
    // Otherwise two names of the issuer could be one here.
    for claims in [
        json!({"username": ""}),
        json!({"sub": "ann "}),
        json!({"sub": "<b>ann"}),
        json!({"sub": "a\u{200b}nn"}),
        // These stay in names, which are compared without them.
        json!({"sub": "a\u{200d}nn"}),
        json!({"sub": "ann\u{fe0f}"}),
        json!({"username": "x".repeat(65)}),
    ] {
        let lines = open(&mut tokens(), true, 1, "", Some(claims));
        assert_refused(&lines, 1, "no username; must have 1 to 64 characters");
    }
    for name_of_user in ["a|b@c.example", "Jürgen Ö", "<3", &"x".repeat(64)] {
        let claims = json!({"sub": name_of_user});
        let lines = open(&mut tokens(), true, 1, "", Some(claims));
        assert_eq!(name(&lines, 1), name_of_user);
    }
}

#[test]
fn until_auth_a_client_gets_connected_and_nothing_else() {
    let mut harness = tokens();
    open(&mut harness, true, 1, "", Some(json!({"sub": "ann"})));
    let lines = open(&mut harness, true, 2, "bob", None);
    assert_eq!(lines.len(), 1, "it is told to nobody");
    let connected = to(2, &lines[0]);
    assert_eq!(
        (&connected["type"], &connected["username"]),
        (&json!("connected"), &json!("bob"))
    );
    assert_eq!(
        connected["connectedUsers"], 0,
        "nor is it told who is there"
    );
    settle(&mut harness);
    for lines in [
        harness.send(1, SEND),
        harness.send(1, AWAY),
        harness.send(1, TYPING),
        open(&mut harness, true, 3, "", Some(json!({"sub": "carol"}))),
        harness.disconnect(3, DisconnectReason::Lost),
        harness.advance(s(2)),
    ] {
        assert!(
            !lines.iter().any(|line| line.starts_with("2 ")),
            "{lines:?}"
        );
    }
    assert_eq!(harness.realm.users.len(), 1);
    assert_eq!(harness.realm.identity(ConnectionId(2)), Identity::default());
    assert_eq!(harness.disconnect(2, DisconnectReason::Lost), no_lines());
}

#[test]
fn until_auth_a_client_can_send_nothing_else() {
    for text in [
        SEND,
        AWAY,
        TYPING,
        "nonsense",
        r#"{"type":"auth","token":7}"#,
    ] {
        let mut harness = with_stranger();
        let lines = harness.send(2, text);
        assert_eq!(lines.len(), 1, "{text}: {lines:?}");
        assert_eq!(to(2, &lines[0])["code"], "UNAUTHORIZED", "{text}");
        // It is not closed for it, and may send its token yet.
        let lines = harness.send(2, &auth(&token(&json!({"sub": "bob"}))));
        assert!(lines.contains(&acknowledged(2)), "{text}: {lines:?}");
        assert_eq!(harness.realm.users.len(), 2);
    }
}

#[test]
fn auth_with_a_token_lets_a_client_in() {
    let mut harness = with_stranger();
    let bob = token(&json!({"sub": "bob", "exp": NOW + 60}));
    let lines = harness.send(2, &auth(&bob));
    let [expiry, online, ack, count] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(*expiry, format!("2 ~ expires at {}", NOW + 120));
    assert_eq!(*ack, acknowledged(2));
    assert!(online.starts_with(r#"1 < {"type":"presence:update""#) && online.contains("online"));
    assert_eq!(*count, user_count(2, &["ann", "bob"]));
    assert_eq!(harness.send(2, MESSAGE).len(), 2);
    assert_eq!(name_of(&mut harness, 2), "bob");
    // And by a token that names no user, under the name that it asked for.
    let mut harness = with_stranger();
    let lines = harness.send(2, &auth(&token(&json!({}))));
    assert!(lines.contains(&acknowledged(2)));
    assert_eq!(name_of(&mut harness, 2), "bob");
}

#[test]
fn auth_with_a_token_that_is_refused_closes_a_client_that_is_not_in() {
    let ann = json!({"sub": "ann"});
    let [header, payload, signature] = {
        let token = token(&ann);
        let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        <[String; 3]>::try_from(parts).unwrap()
    };
    let eve = token(&json!({"sub": "eve"}));
    let eve = eve.split('.').nth(1).unwrap();
    for (token, text) in [
        (String::new(), "must be a JSON Web Token"),
        ("garbage".to_owned(), "must be a JSON Web Token"),
        (
            sign(HS256, &ann.to_string(), b"another secret"),
            "not signed with this server's secret",
        ),
        (
            format!("{header}.{eve}.{signature}"),
            "not signed with this server's secret",
        ),
        (
            format!("{header}.{payload}."),
            "not signed with this server's secret",
        ),
        (
            token(&json!({"sub": "ann", "exp": NOW - 60})),
            "has expired",
        ),
        (
            token(&json!({"sub": "ann", "nbf": NOW + 70})),
            "not valid yet",
        ),
        (
            token(&json!({"sub": "ann", "exp": "soon"})),
            "whose claims have their types",
        ),
        ("x".repeat(8193), "at most 8192 bytes"),
    ] {
        let mut harness = with_stranger();
        assert_refused(&harness.send(2, &auth(&token)), 2, text);
        assert!(harness.realm.unauthenticated.is_empty());
    }
}

/// Returns an open room whose secret is `hush` and whose audience is `chat`, with the Electron client `ann`.
fn for_audience() -> RealmHarness<Workspace> {
    let mut harness = harness();
    harness.tokens = Arc::new(Verifier {
        secrets: vec![Secret::new(b"hush")],
        audience: Some("chat".into()),
    });
    harness.open(1, "/ws?username=ann");
    harness.send(1, MESSAGE);
    settle(&mut harness);
    harness
}

#[test]
fn a_token_for_another_audience_or_of_another_algorithm_is_refused() {
    let bob = r#"{"sub":"bob","aud":"chat"}"#;
    let token = |alg: &str| sign(&format!(r#"{{"alg":"{alg}"}}"#), bob, b"hush");
    let mut harness = for_audience();
    for refused in [
        token("none"),
        token("RS256"),
        token("HS512"),
        sign(HS256, r#"{"sub":"bob"}"#, b"hush"),
        sign(HS256, r#"{"sub":"bob","aud":"mail"}"#, b"hush"),
    ] {
        assert_eq!(error_code(&mut harness, &auth(&refused)), "UNAUTHORIZED");
    }
    assert!(
        harness
            .send(1, &auth(&token("HS256")))
            .contains(&acknowledged(1))
    );
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_refused() {
    let of_length = |length: usize| {
        let padding = |count: usize| json!({"sub": "bob", "jti": "x".repeat(count)});
        let base = token(&padding(6)).len();
        // Three bytes of the payload are four of the token.
        let token = token(&padding(6 + (length - base) / 4 * 3));
        (token.len(), token)
    };
    let (length, longest) = of_length(8192);
    assert!((8189..=8192).contains(&length), "{length}");
    let mut harness = with_stranger();
    assert!(harness.send(2, &auth(&longest)).contains(&acknowledged(2)));
    let (length, longer) = of_length(8196);
    assert!(length > 8192);
    assert_refused(
        &with_stranger().send(2, &auth(&longer)),
        2,
        "at most 8192 bytes",
    );
}

#[test]
fn a_token_is_valid_from_a_minute_before_nbf_until_a_minute_after_exp() {
    let bob = auth(&token(
        &json!({"sub": "bob", "nbf": NOW + 61, "exp": NOW + 62}),
    ));
    for (after, is_valid) in [(0, false), (1, true), (121, true), (122, false)] {
        let mut harness = tokens();
        harness.open(1, "/ws");
        harness.send(1, MESSAGE);
        harness.advance(s(after));
        let answer = harness.send(1, &bob);
        assert_eq!(
            answer.contains(&acknowledged(1)),
            is_valid,
            "{after}: {answer:?}"
        );
        assert_eq!(
            answer.concat().contains("UNAUTHORIZED"),
            !is_valid,
            "{after}"
        );
    }
}

#[test]
fn a_client_that_sends_no_token_in_30_s_is_closed() {
    let mut harness = with_stranger();
    // Its other messages gain no time.
    harness.send(2, SEND);
    let since_it_came = harness.now;
    assert_eq!(
        harness.advance(s(30) - since_it_came - Duration::from_millis(1)),
        no_lines()
    );
    assert_eq!(
        harness.advance(Duration::from_millis(1)),
        [format!("2 {UNAUTHORIZED}")]
    );
    assert!(harness.realm.unauthenticated.is_empty());
    // Time in which the server does not read from it does not count.
    let mut harness = tokens();
    open(&mut harness, true, 1, "", None);
    assert_eq!(harness.advance_unread(1, MINUTE), no_lines());
    assert_eq!(harness.advance(s(30)), [format!("1 {UNAUTHORIZED}")]);
}

#[test]
fn auth_without_a_token_is_answered_with_what_to_send() {
    let needed = "a token is needed: send \"auth\" with a \"token\"";
    for nothing in [r#"{"type":"auth"}"#, r#"{"type":"auth","token":null}"#] {
        // A client that is in has not shown a wrong token, and stays, whatever it came with.
        let mut harness = with_ann();
        open(&mut harness, false, 2, "bob", None);
        for (conn, name) in [(1, "ann"), (2, "bob")] {
            harness.send(conn, MESSAGE);
            settle(&mut harness);
            let lines = harness.send(conn, nothing);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(to(conn, &lines[0])["code"], "UNAUTHORIZED");
            assert_eq!(to(conn, &lines[0])["message"], needed);
            assert_eq!(name_of(&mut harness, conn), name);
        }
        assert_refused(&with_stranger().send(2, nothing), 2, needed);
    }
}

#[test]
fn a_refused_token_changes_nothing_for_a_client_that_came_in_without_one() {
    let mut harness = tokens();
    open(&mut harness, false, 1, "bob", None);
    harness.send(1, MESSAGE);
    settle(&mut harness);
    for refused in refused_tokens() {
        let lines = harness.send(1, &auth(&refused));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(to(1, &lines[0])["code"], "UNAUTHORIZED");
    }
    assert_eq!(name_of(&mut harness, 1), "bob");
}

#[test]
fn a_refused_token_closes_a_client_that_is_in_by_one() {
    for own in [json!({"sub": "ann"}), json!({})] {
        for refused in refused_tokens() {
            let mut harness = tokens();
            open(&mut harness, false, 1, "ann", Some(own.clone()));
            open(&mut harness, false, 2, "bob", None);
            harness.send(1, AWAY);
            settle(&mut harness);
            let lines = harness.send(1, &auth(&refused));
            assert_refused(&lines[..2], 1, "token");
            assert_eq!(lines[2..], [presence(2, 1, "ann", "offline")]);
            assert_eq!(harness.realm.users.len(), 1);
        }
    }
    // It is the same if it has not sent anything before, or came in without a token and has sent one since.
    let mut harness = with_ann();
    assert_refused(&harness.send(1, &auth("garbage")), 1, "JSON Web Token");
    open(&mut harness, false, 2, "bob", None);
    let bob = auth(&token(&json!({"sub": "bob"})));
    assert!(harness.send(2, &bob).contains(&acknowledged(2)));
    assert_refused(&harness.send(2, &auth("garbage")), 2, "JSON Web Token");
}

/// Returns tokens that are refused whoever sends them.
fn refused_tokens() -> [String; 4] {
    [
        String::new(),
        "garbage".to_owned(),
        token(&json!({"sub": "ann", "exp": 1})),
        token(&json!({"sub": "ann "})),
    ]
}

#[test]
fn auth_renews_a_token_of_the_same_user() {
    let mut harness = tokens();
    let until = |exp: u64| json!({"sub": "ann", "exp": exp});
    open(&mut harness, true, 1, "", Some(until(NOW + 10)));
    harness.send(1, MESSAGE);
    settle(&mut harness);
    let lines = harness.send(1, &auth(&token(&until(NOW + 600))));
    assert_eq!(
        lines,
        [format!("1 ~ expires at {}", NOW + 660), acknowledged(1)]
    );
    let endless = auth(&token(&json!({"sub": "ann"})));
    assert_eq!(
        harness.send(1, &endless),
        ["1 ~ never expires".to_owned(), acknowledged(1)]
    );
    // Fifteen times in a row, as the published client does until it is answered: no change of the name.
    for _ in 0..15 {
        assert!(harness.send(1, &endless).contains(&acknowledged(1)));
    }
}

#[test]
fn auth_with_a_token_of_another_user_is_refused_on_a_connection_with_a_token() {
    for (own, others) in [
        (
            json!({"sub": "ann"}),
            [json!({"sub": "bob"}), json!({"username": "bob"}), json!({})],
        ),
        (
            json!({}),
            [
                json!({"sub": "bob"}),
                json!({"username": "ann"}),
                json!({"sub": "ann"}),
            ],
        ),
    ] {
        for other in others {
            let mut harness = tokens();
            open(&mut harness, true, 1, "ann", Some(own.clone()));
            harness.send(1, MESSAGE);
            settle(&mut harness);
            let lines = harness.send(1, &auth(&token(&other)));
            assert_refused(&lines, 1, "not for the user of this connection");
        }
    }
}

#[test]
fn a_client_of_the_documents_dialect_renews_its_token_by_auth_too() {
    let mut harness = tokens();
    open(
        &mut harness,
        true,
        1,
        "",
        Some(json!({"sub": "ann", "exp": NOW + 10})),
    );
    harness.send(1, AWAY);
    let fresh = auth(&token(&json!({"sub": "ann", "exp": NOW + 600})));
    let lines = harness.send(1, &fresh);
    assert_eq!(
        lines,
        [format!("1 ~ expires at {}", NOW + 660), acknowledged(1)]
    );
    // It stays in its dialect, which has no such message without tokens.
    assert_eq!(error(&mut harness, 1, MESSAGE)["code"], "UNKNOWN_TYPE");
    let mut harness = harness_without_tokens();
    assert_eq!(error(&mut harness, 1, &fresh)["code"], "UNKNOWN_TYPE");
    // A stranger of this dialect comes in by it.
    let mut harness = with_stranger();
    harness.send(2, SEND);
    let lines = harness.send(2, &auth(&token(&json!({"sub": "bob"}))));
    assert!(lines.contains(&acknowledged(2)) && !lines.concat().contains("userCount"));
}

fn harness_without_tokens() -> RealmHarness<Workspace> {
    let mut harness = harness();
    harness.open(1, "/ws?username=ann");
    harness.send(1, AWAY);
    harness
}

#[test]
fn without_a_token_nobody_takes_the_name_of_a_token_holder() {
    let mut harness = with_ann();
    for (conn, written) in [(2, "ann"), (3, "ANN"), (4, "a%E2%80%8Bnn")] {
        let lines = open(&mut harness, false, conn, written, None);
        assert_refused(&lines, conn, "belongs to a client with a token");
    }
    // Nor once it has gone.
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(60 * MINUTE);
    let lines = open(&mut harness, false, 5, "ann", None);
    assert_refused(&lines, 5, "belongs to a client with a token");
    assert_eq!(name(&open(&mut harness, false, 6, "zoe", None), 6), "zoe");
    // Nor by an unverified token, once the listener reads none any more.
    harness.tokens = no_tokens();
    open(&mut harness, false, 7, "carol", None);
    let claimed = sign(HS256, r#"{"username":"ann"}"#, b"");
    let lines = harness.send(7, &auth(&claimed));
    assert_eq!(to(7, &lines[0])["code"], "UNAUTHORIZED");
    assert_eq!(name_of(&mut harness, 7), "carol");
}

#[test]
fn once_no_tokens_are_read_the_name_of_a_token_holder_that_has_gone_is_free() {
    let mut harness = with_ann();
    harness.tokens = no_tokens();
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(name(&harness.open(2, "/ws?username=ann"), 2), "ann");
}

#[test]
fn a_token_holder_takes_over_from_those_without_at_once() {
    let mut harness = tokens();
    for conn in 1..=3 {
        open(&mut harness, false, conn, "Ann", None);
    }
    open(&mut harness, false, 9, "bob", None);
    settle(&mut harness);
    // They have all the connections of the name, and none is probed.
    let lines = open(&mut harness, false, 4, "", Some(json!({"sub": "ann"})));
    for (line, conn) in lines.iter().zip(1..=3) {
        assert_eq!(*line, format!("{conn} {REPLACED}"));
    }
    assert_eq!(
        name(&lines, 4),
        "ann",
        "the name is written as in the token"
    );
    assert!(
        !lines.iter().any(|line| line.starts_with("9 ")),
        "the name stays online: {lines:?}"
    );
    // Another connection with a token is beside it, as ever.
    let lines = open(&mut harness, false, 5, "", Some(json!({"sub": "ANN"})));
    assert_eq!(name(&lines, 5), "ann");
    assert!(!lines.concat().contains(" x "), "{lines:?}");
}

#[test]
fn a_token_in_auth_takes_over_too() {
    let mut harness = tokens();
    for (conn, written) in [(1, "ann"), (2, "bob"), (3, "ANN")] {
        open(&mut harness, false, conn, written, None);
        harness.send(conn, MESSAGE);
    }
    settle(&mut harness);
    let ann = auth(&token(&json!({"sub": "Ann"})));
    let lines = harness.send(2, &ann);
    assert!(lines.contains(&format!("1 {REPLACED}")) && lines.contains(&format!("3 {REPLACED}")));
    assert!(lines.contains(&acknowledged(2)), "{lines:?}");
    assert_eq!(name_of(&mut harness, 2), "Ann");
    // A client that has the name already keeps its connection, and loses those of others.
    let mut harness = tokens();
    for (conn, written) in [(1, "ANN"), (2, "ann")] {
        open(&mut harness, false, conn, written, None);
    }
    harness.send(2, MESSAGE);
    settle(&mut harness);
    let lines = harness.send(2, &ann);
    assert_eq!(
        lines,
        [
            format!("1 {REPLACED}"),
            "2 ~ never expires".to_owned(),
            acknowledged(2),
            user_count(2, &["Ann"])
        ]
    );
    assert_eq!(name_of(&mut harness, 2), "Ann");
}

#[test]
fn a_token_holder_is_displaced_only_by_another_and_only_when_silent() {
    let mut harness = RealmHarness::<Workspace>::new(
        json!({"max_connections_per_user": 1, "announcement_interval": 0}),
    );
    harness.tokens = test_tokens();
    let ann = || Some(json!({"sub": "ann"}));
    open(&mut harness, false, 1, "", ann());
    harness.advance(s(10));
    assert_refused(&open(&mut harness, false, 2, "ann", None), 2, "belongs to");
    // One that waits ends with its token, too: it must not displace anybody afterwards.
    let ending = json!({"sub": "ann", "exp": NOW + 3600});
    let lines = open(&mut harness, false, 3, "", Some(ending));
    let end = format!("3 ~ expires at {}", NOW + 3660);
    assert_eq!(lines, ["3 ~ deferred", "1 ? 5 s", &end]);
    let lines = harness.fail_probe(1);
    assert_eq!(lines[0], format!("1 {REPLACED}"));
    assert_eq!(name(&lines, 3), "ann");
    assert_eq!(lines.last().unwrap(), "3 ~ admitted");
}

#[test]
fn those_who_wait_for_a_place_of_the_name_are_refused_when_a_token_holder_comes() {
    let mut harness = RealmHarness::<Workspace>::new(
        json!({"max_connections_per_user": 2, "announcement_interval": 0}),
    );
    open(&mut harness, false, 1, "ann", None);
    open(&mut harness, false, 2, "ann", None);
    open(&mut harness, false, 3, "bob", None);
    harness.send(3, MESSAGE);
    harness.advance(s(10));
    assert_eq!(open(&mut harness, false, 4, "ann", None)[0], "4 ~ deferred");
    let claimed = auth(&sign(HS256, r#"{"username":"ann"}"#, b""));
    assert!(
        harness
            .send(3, &claimed)
            .iter()
            .all(|line| line.contains(" ? "))
    );
    let lines = open(&mut harness, false, 5, "", Some(json!({"sub": "ann"})));
    assert_eq!(
        lines[..2],
        [format!("1 {REPLACED}"), format!("2 {REPLACED}")]
    );
    assert_refused(&lines[2..4], 4, "has taken this username");
    assert_eq!(to(3, &lines[4])["code"], "UNAUTHORIZED");
    assert_eq!(name(&lines, 5), "ann");
    assert_eq!(name_of(&mut harness, 3), "bob");
    assert!(harness.realm.claims.is_empty());
}

#[test]
fn a_client_that_waits_for_a_place_with_its_token_is_no_member_before() {
    let mut harness =
        RealmHarness::<Workspace>::new(json!({"max_connections_per_user": 1, "idle_timeout": 0}));
    harness.tokens = test_tokens();
    open(&mut harness, true, 1, "", Some(json!({"sub": "ann"})));
    harness.advance(s(10));
    open(&mut harness, true, 2, "", None);
    let ann = auth(&token(&json!({"sub": "ann"})));
    assert_eq!(harness.send(2, &ann), ["1 ? 5 s"]);
    assert_eq!(harness.send(2, &ann), no_lines(), "once");
    assert!(
        !harness
            .send(1, SEND)
            .iter()
            .any(|line| line.starts_with("2 "))
    );
    // The time for its token does not run while it waits.
    assert!(
        !harness
            .advance(s(30))
            .contains(&format!("2 {UNAUTHORIZED}"))
    );
    let lines = harness.answer_probe(1);
    assert_eq!(to(2, &lines[0])["code"], "TOO_MANY_CONNECTIONS");
    // It may try again, for as long as it may be here.
    harness.disconnect(1, DisconnectReason::Lost);
    let lines = harness.send(2, &ann);
    assert!(lines.contains(&acknowledged(2)), "{lines:?}");
    assert_eq!(lines.last().unwrap(), &user_count(2, &["ann"]));
}

#[test]
fn what_others_have_said_under_a_name_does_not_count_for_its_token_holder() {
    let mut harness = tokens();
    open(&mut harness, false, 1, "ann", None);
    for _ in 0..101 {
        harness.send(1, SEND);
    }
    open(&mut harness, false, 2, "", Some(json!({"sub": "ann"})));
    assert!(harness.send(2, SEND)[0].contains("message:new"));
    // What the user itself has said does, on whatever connection.
    for _ in 0..98 {
        harness.send(2, SEND);
    }
    harness.disconnect(2, DisconnectReason::Lost);
    open(&mut harness, false, 3, "", Some(json!({"sub": "ann"})));
    assert!(harness.send(3, SEND)[0].contains("message:new"));
    assert!(harness.send(3, SEND)[0].contains("RATE_LIMITED"));
    // The same for a connection that gets its token later.
    for conn in [4, 5] {
        open(&mut harness, false, conn, "bob", None);
    }
    for _ in 0..101 {
        harness.send(4, SEND);
    }
    harness.send(5, &auth(&token(&json!({"sub": "bob"}))));
    assert!(harness.send(5, MESSAGE)[0].contains("message:new"));
}

#[test]
fn names_that_token_holders_had_are_counted_and_go_last() {
    let mut harness = with_ann();
    assert_eq!(
        harness.realm.stored_bytes(),
        0,
        "one that is here is no more than others"
    );
    harness.disconnect(1, DisconnectReason::Lost);
    let bytes = harness.realm.stored_bytes();
    assert!(bytes > 0);
    assert_eq!(harness.shed(Retention::BestEffort, usize::MAX).0, 0);
    assert_eq!(harness.shed(Retention::Promised, usize::MAX).0, 0);
    assert_eq!(harness.shed(Retention::Identity, usize::MAX).0, bytes);
    assert_eq!(harness.realm.stored_bytes(), 0);
    assert_eq!(name(&open(&mut harness, false, 2, "ann", None), 2), "ann");
}

#[test]
fn a_client_that_has_not_authenticated_is_shown_to_the_operator_as_a_number_only() {
    let harness = with_stranger();
    let sizes = harness.realm.figures().sizes;
    assert!(sizes.contains(&("members", 1)) && sizes.contains(&("unauthenticated", 1)));
}

#[test]
fn a_stranger_whose_listener_stops_demanding_tokens_comes_in_by_any_auth() {
    let mut harness = tokens();
    harness.tokens = no_tokens();
    open(&mut harness, true, 1, "bob", None);
    assert!(harness.send(1, &auth("")).contains(&acknowledged(1)));
    assert_eq!(name_of(&mut harness, 1), "bob");
}

#[test]
fn a_token_holder_whose_listener_stops_reading_tokens_keeps_its_name() {
    let mut harness = with_ann();
    harness.tokens = no_tokens();
    harness.send(1, MESSAGE);
    settle(&mut harness);
    let as_user = |name: &str| auth(&sign(HS256, &json!({"username": name}).to_string(), b""));
    let refused = harness.send(1, &as_user("bob"));
    assert_eq!(to(1, &refused[0])["code"], "UNAUTHORIZED");
    assert_eq!(harness.send(1, &as_user("ann")), [acknowledged(1)]);
    assert_refused(&open(&mut harness, false, 2, "ann", None), 2, "belongs to");
}

#[test]
fn a_client_that_becomes_a_user_who_is_typing_is_told_that_the_other_stops() {
    // Under the name of a token holder, of whom it becomes another connection, and of one without.
    for claims in [Some(json!({"sub": "ann"})), None] {
        let mut harness = tokens();
        open(&mut harness, false, 1, "ann", claims);
        open(&mut harness, false, 2, "bob", None);
        harness.send(2, AWAY);
        assert_eq!(harness.send(1, TYPING), [typing(2, 1, "ann", true)]);
        let lines = harness.send(2, &auth(&token(&json!({"sub": "ann"}))));
        assert!(lines.contains(&typing(2, 1, "ann", false)), "{lines:?}");
        assert!(lines.contains(&acknowledged(2)));
    }
}

#[test]
fn the_others_see_a_token_holder_come_and_go_as_any_user() {
    let mut harness = tokens();
    open(&mut harness, false, 1, "bob", None);
    let lines = open(&mut harness, false, 2, "", Some(json!({"sub": "ann"})));
    assert_eq!(lines.last().unwrap(), &presence(1, 2, "ann", "online"));
    assert!(lines[1].contains(&user_id(2)));
    let lines = harness.disconnect(2, DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED));
    assert_eq!(lines, [presence(1, 2, "ann", "offline")]);
}
