//! Access tokens, on a realm without sockets: who is admitted, under which id and until when, and who takes an id from
//! whom. The table in `document.rs` names the tests; those that need sockets are in `tests/access/peerjs.rs`.

use super::document::{OPEN, SECOND, body, id_taken, offer, status, target};
use crate::base::close::CloseReason;
use crate::protocols::peerjs::*;
use crate::realm::{Access, TokenError};
use crate::testing::harness::{RealmHarness, START, access, no_lines, token};
use crate::toolkit::recently_gone::MAX_RECENTLY_GONE;
use serde_json::{Value, json};

/// Every reason for which a token that is there is refused.
const REFUSALS: [TokenError; 8] = [
    TokenError::TooLong,
    TokenError::Malformed,
    TokenError::Algorithm,
    TokenError::Signature,
    TokenError::Audience,
    TokenError::Expired,
    TokenError::NotYetValid,
    TokenError::Ambiguous,
];

fn harness() -> RealmHarness<PeerJs> {
    RealmHarness::new(json!({"allow_discovery": true}))
}

/// Returns what a client shows whose token has these claims, to a listener that demands one.
fn with(claims: Value) -> Access {
    access(true, Some(claims))
}

/// Returns what a client shows whose token is for this id.
fn of(id: &str) -> Access {
    with(json!({"sub": id}))
}

/// Returns what a client without a token shows.
fn none(is_required: bool) -> Access {
    access(is_required, None)
}

/// Returns what a client shows whose token is refused.
fn refused(is_required: bool, problem: TokenError) -> Access {
    Access {
        token: Some(Err(problem)),
        ..access(is_required, None)
    }
}

/// Returns the seconds since the Unix epoch, this many after the start of a harness.
fn after_start(seconds: i64) -> i64 {
    i64::try_from(START.as_secs()).unwrap() + seconds
}

fn opened(conn: u64) -> String {
    format!("{conn} < {OPEN}")
}

fn displaced(conn: u64) -> String {
    format!("{conn} x 4409 ID is taken")
}

fn replaced(conn: u64) -> String {
    format!("{conn} x 4409 connected again elsewhere")
}

/// Returns the lines of a client that is refused with this text.
fn unauthorized(conn: u64, msg: &str) -> [String; 2] {
    let msg = json!(msg);
    [
        format!(r#"{conn} < {{"type":"ERROR","payload":{{"msg":{msg}}}}}"#),
        format!("{conn} x 4401 unauthorized"),
    ]
}

const NEEDS_TOKEN: &str = "an access token is needed: \"token\" or \"access_token\" in the query, or \
    \"Authorization: Bearer\"";
const OTHER_ID: &str = "the access token is for another id (\"sub\")";

#[test]
fn a_client_with_a_token_of_its_id_is_admitted_until_the_token_ends() {
    let mut harness = harness();
    let lines = harness.open_with(1, &target("ann", "made-up"), of("ann"));
    assert_eq!(lines, [opened(1)]);
    let ending = with(json!({"sub": "ben", "exp": after_start(600)}));
    let lines = harness.open_with(2, &target("ben", "made-up"), ending);
    // With the leeway of a minute.
    let end = format!("2 ~ expires at {}", after_start(660));
    assert_eq!(lines, [opened(2), end]);
    assert_eq!(
        harness.send(1, &offer("ben", "1")),
        [r#"2 < {"type":"OFFER","src":"ann","dst":"ben","payload":1}"#]
    );
}

#[test]
fn a_client_without_a_token_is_refused_where_one_is_demanded() {
    let mut harness = harness();
    for (conn, target) in (1..).zip([&*target("ann", "made-up"), "/peerjs?key=peerjs&id=ann"]) {
        let lines = harness.open_with(conn, target, none(true));
        assert_eq!(lines, unauthorized(conn, NEEDS_TOKEN));
    }
    assert!(harness.realm.is_empty());
}

#[test]
fn a_client_whose_token_is_refused_gets_the_reason_whether_or_not_one_is_demanded() {
    let mut harness = harness();
    for (conn, problem) in (1..).zip(REFUSALS) {
        for (conn, is_required) in [(2 * conn, true), (2 * conn + 1, false)] {
            let access = refused(is_required, problem);
            let lines = harness.open_with(conn, &target("ann", "made-up"), access);
            assert_eq!(lines, unauthorized(conn, problem.text()));
        }
    }
    assert!(harness.realm.is_empty());
}

#[test]
fn a_token_holds_from_a_minute_before_nbf_until_a_minute_after_exp() {
    for (claim, just_good, too_far) in [("nbf", 60, 61), ("exp", -59, -60)] {
        let mut harness = harness();
        let mut connect = |conn, seconds| {
            let claims = json!({"sub": "ann", claim: after_start(seconds)});
            harness.open_with(conn, &target("ann", "made-up"), with(claims))
        };
        assert_eq!(connect(1, just_good)[0], opened(1), "{claim}");
        let problem = if claim == "exp" {
            TokenError::Expired
        } else {
            TokenError::NotYetValid
        };
        assert_eq!(connect(2, too_far), unauthorized(2, problem.text()));
    }
}

#[test]
fn a_token_with_a_subject_admits_only_under_that_id() {
    let mut harness = harness();
    for (conn, id) in (1..).zip(["ben", "Ann", "ann "]) {
        let lines = harness.open_with(conn, &target(id, "made-up"), of("ann"));
        assert_eq!(lines, unauthorized(conn, OTHER_ID), "{id}");
    }
}

#[test]
fn a_client_that_names_no_id_has_that_of_its_token() {
    for query in ["key=peerjs", "key=peerjs&id=&token="] {
        let mut harness = harness();
        let lines = harness.open_with(1, &format!("/peerjs?{query}"), of("ann"));
        assert_eq!(lines, [opened(1)], "{query}");
        let list = harness.get_with("/peerjs/peers", of("ann"));
        assert_eq!(body(list), r#"["ann"]"#);
    }
    let mut harness = harness();
    let anybody = with(json!({}));
    let lines = harness.open_with(1, "/peerjs?key=peerjs&token=made-up", anybody);
    assert!(lines[0].contains("No id, token, or key"), "{lines:?}");
    assert_eq!(lines[1], "1 x 4400 bad parameters");
    let long = "i".repeat(257);
    let lines = harness.open_with(3, "/peerjs?key=peerjs", of(&long));
    assert!(lines[0].contains("longer than 256 bytes"), "{lines:?}");
}

#[test]
fn a_token_without_a_subject_admits_under_any_free_id() {
    let mut harness = harness();
    let jwt = token(&json!({}));
    for (conn, id) in (1..).zip(["ann", "ben"]) {
        let lines = harness.open_with(conn, &target(id, &jwt), with(json!({})));
        assert_eq!(lines, [opened(conn)]);
    }
    // Many may have this token, so it does not show that the client is the same.
    let lines = harness.open_with(3, &target("ann", &jwt), with(json!({})));
    assert_eq!(lines, id_taken(3));
    harness.advance(40 * SECOND);
    let lines = harness.open_with(4, &target("ann", &jwt), with(json!({})));
    assert_eq!(lines, ["1 ? 5 s"]);
    assert_eq!(harness.answer_probe(1), id_taken(4));
}

#[test]
fn a_token_without_a_subject_gets_no_id_that_another_was_for() {
    let mut harness = harness();
    harness.open_with(1, &target("ann", "made-up"), of("ann"));
    let lines = harness.open_with(2, &target("ann", "made-up"), with(json!({})));
    assert_eq!(lines, id_taken(2), "the holder is here");
    harness.disconnect(1, DisconnectReason::Lost);
    let lines = harness.open_with(3, &target("ann", "made-up"), with(json!({})));
    assert_eq!(lines, id_taken(3));
    // Nor what was sent to its holder.
    harness.open_with(4, &target("ben", "made-up"), of("ben"));
    harness.send(4, r#"{"type":"OFFER","dst":"ann","payload":"for ann"}"#);
    let lines = harness.open_with(5, &target("ann", "made-up"), with(json!({})));
    assert_eq!(lines, id_taken(5));
    let lines = harness.open_with(6, &target("ann", "made-up"), of("ann"));
    assert!(
        lines[0] == opened(6) && lines[1].contains("for ann"),
        "{lines:?}"
    );
}

#[test]
fn a_token_without_a_subject_does_not_make_the_ids_forgotten_that_others_were_for() {
    let mut harness = harness();
    harness.open_with(1, &target("ann", "made-up"), of("ann"));
    harness.disconnect(1, DisconnectReason::Lost);
    for conn in 2..2 + MAX_RECENTLY_GONE as u64 + 1 {
        let target = target(&format!("id{conn}"), "made-up");
        assert_eq!(
            harness.open_with(conn, &target, with(json!({}))),
            [opened(conn)]
        );
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    let lines = harness.open_with(1, &target("ann", "made-up"), none(false));
    assert_eq!(lines, id_taken(1));
}

#[test]
fn the_documents_token_beside_one_without_a_subject_takes_the_id_over() {
    let mut harness = harness();
    harness.open_with(1, &target("ann", "made-up"), with(json!({})));
    let lines = harness.open_with(2, &target("ann", "another"), with(json!({})));
    assert_eq!(lines, id_taken(2));
    let lines = harness.open_with(3, &target("ann", "made-up"), with(json!({})));
    assert_eq!(lines, [replaced(1), opened(3)]);
}

#[test]
fn roles_mean_nothing() {
    let claims = json!({"sub": "ann", "roles": []});
    let lines = harness().open_with(1, &target("ann", "made-up"), with(claims));
    assert_eq!(lines, [opened(1)]);
}

#[test]
fn a_renewed_token_keeps_the_id() {
    let mut harness = harness();
    let until = |seconds| with(json!({"sub": "ann", "exp": after_start(seconds)}));
    harness.open_with(1, &target("ann", "made-up"), until(0));
    harness.send(1, &offer("later", "1"));
    let lines = harness.open_with(2, &target("ann", "another"), until(600));
    let end = format!("2 ~ expires at {}", after_start(660));
    assert_eq!(lines, [replaced(1), opened(2), end]);
    let lines = harness.open_with(3, &target("later", "made-up"), of("later"));
    assert_eq!(lines.len(), 2, "a takeover drops nothing: {lines:?}");
}

#[test]
fn takeovers_by_one_subject_that_follow_too_fast_wait_for_a_probe() {
    let mut harness = harness();
    for conn in 1..=4 {
        harness.open_with(conn, &target("ann", "made-up"), of("ann"));
    }
    let ending = with(json!({"sub": "ann", "exp": after_start(1)}));
    let lines = harness.open_with(5, &target("ann", "made-up"), ending);
    // The token may end while the client waits.
    let end = format!("5 ~ expires at {}", after_start(61));
    assert_eq!(lines, ["4 ? 5 s".to_owned(), end]);
    assert_eq!(harness.answer_probe(4), no_lines());
    assert_eq!(harness.advance(2 * SECOND), id_taken(5));
}

#[test]
fn a_client_that_waits_for_an_id_and_gets_it_keeps_the_end_of_its_token() {
    let ending = || with(json!({"sub": "ann", "exp": after_start(600)}));
    let end = format!("5 ~ expires at {}", after_start(660));
    let waits = || {
        let mut harness = harness();
        for conn in 1..=4 {
            harness.open_with(conn, &target("ann", "made-up"), of("ann"));
        }
        let lines = harness.open_with(5, &target("ann", "made-up"), ending());
        assert_eq!(lines, ["4 ? 5 s".to_owned(), end.clone()]);
        harness
    };
    // Neither the probe nor the holder's leaving sets another one.
    assert_eq!(waits().fail_probe(4), [replaced(4), opened(5)]);
    let mut harness = waits();
    assert_eq!(harness.disconnect(4, DisconnectReason::Lost), [opened(5)]);
    // One whose token ends while it waits leaves nothing, and nor does one that is refused at once.
    let mut harness = waits();
    let ended = DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED);
    assert_eq!(harness.disconnect(5, ended), no_lines());
    harness.disconnect(4, DisconnectReason::Lost);
    harness.open_with(6, &target("ann", "made-up"), of("ann"));
    let nameless = with(json!({"exp": after_start(600)}));
    let lines = harness.open_with(7, &target("ann", "made-up"), nameless);
    assert_eq!(lines, id_taken(7));
    harness.disconnect(6, DisconnectReason::Lost);
    assert!(harness.realm.is_empty());
}

#[test]
fn a_token_holder_takes_over_from_a_client_without_a_token_at_once() {
    let mut harness = harness();
    // The same token of the document is no sign of the same client.
    for (id, access) in [("ann", of("ann")), ("ben", with(json!({})))] {
        let [old, new, later] = [1, 2, 3].map(|number| number + 10 * id.len() as u64);
        harness.open_with(old, &target(id, "made-up"), none(false));
        harness.send(old, &offer("later", "1"));
        let lines = harness.open_with(new, &target(id, "made-up"), access);
        assert_eq!(lines, [displaced(old), opened(new)]);
        let lines = harness.open_with(later, &target("later", "t"), none(false));
        assert_eq!(lines, [opened(later)], "what the other has stored is gone");
        for conn in [new, later] {
            harness.disconnect(conn, DisconnectReason::Lost);
        }
    }
}

#[test]
fn a_client_without_a_token_never_gets_the_id_of_a_token_holder() {
    for claims in [json!({"sub": "ann"}), json!({})] {
        let mut harness = harness();
        harness.open_with(1, &target("ann", "made-up"), with(claims.clone()));
        let try_to_take = |harness: &mut RealmHarness<PeerJs>, conn| {
            let lines = harness.open_with(conn, &target("ann", "made-up"), none(false));
            assert_eq!(lines, id_taken(conn));
        };
        try_to_take(&mut harness, 2);
        // Silence is no reason to probe it.
        harness.advance(80 * SECOND);
        try_to_take(&mut harness, 3);
        harness.disconnect(1, DisconnectReason::Closed(CloseReason::TOKEN_EXPIRED));
        try_to_take(&mut harness, 4);
        harness.advance(3600 * SECOND);
        try_to_take(&mut harness, 5);
        let lines = harness.open_with(6, &target("ben", "made-up"), none(false));
        assert_eq!(lines, [opened(6)]);
        let lines = harness.open_with(7, &target("ann", "another"), with(claims));
        assert_eq!(lines, [opened(7)]);
    }
}

#[test]
fn once_no_tokens_are_read_the_id_of_a_token_holder_that_has_gone_is_free() {
    let mut harness = harness();
    harness.open_with(1, &target("ann", "made-up"), of("ann"));
    let lines = harness.open(2, &target("ann", "made-up"));
    assert_eq!(lines, id_taken(2), "the holder is here");
    harness.disconnect(1, DisconnectReason::Lost);
    let lines = harness.open(3, &target("ann", "made-up"));
    assert_eq!(lines, [opened(3)]);
}

#[test]
fn a_token_for_the_id_goes_before_one_without_a_subject() {
    let mut harness = harness();
    harness.open_with(1, &target("ann", "made-up"), with(json!({})));
    let lines = harness.open_with(2, &target("ann", "made-up"), of("ann"));
    assert_eq!(lines, [displaced(1), opened(2)]);
    harness.advance(80 * SECOND);
    let lines = harness.open_with(3, &target("ann", "made-up"), with(json!({})));
    assert_eq!(lines, id_taken(3));
}

#[test]
fn clients_that_wait_without_a_token_get_no_id_of_a_token_holder() {
    let mut harness = harness();
    for conn in 1..=4 {
        harness.open_with(conn, &target("ann", "made-up"), none(false));
    }
    // Two of the same client wait: one is to be refused in two seconds, one is undecided.
    for conn in [5, 6] {
        harness.open_with(conn, &target("ann", "made-up"), none(false));
        if conn == 5 {
            harness.answer_probe(4);
        }
    }
    let lines = harness.open_with(7, &target("ann", "made-up"), of("ann"));
    let refused = id_taken(6);
    assert_eq!(lines, [&[displaced(4), opened(7)], &refused[..]].concat());
    assert_eq!(harness.disconnect(7, DisconnectReason::Lost), no_lines());
    assert_eq!(harness.advance(2 * SECOND), id_taken(5));
    assert!(harness.realm.is_empty());
}

#[test]
fn ids_of_token_holders_are_counted_and_forgotten_last_when_memory_is_short() {
    let mut harness = harness();
    let before = harness.realm.stored_bytes();
    harness.open_with(1, &target("ann", "made-up"), of("ann"));
    harness.disconnect(1, DisconnectReason::Lost);
    assert!(harness.realm.stored_bytes() > before);
    let try_to_take = |harness: &mut RealmHarness<PeerJs>, conn| {
        harness.open_with(conn, &target("ann", "made-up"), none(false))
    };
    harness.open_with(2, &target("ben", "made-up"), none(false));
    harness.send(2, &offer("later", "1"));
    assert_eq!(harness.shed(Retention::BestEffort, usize::MAX).0, 0);
    harness.shed(Retention::Promised, usize::MAX);
    assert_eq!(try_to_take(&mut harness, 3), id_taken(3));
    harness.shed(Retention::Identity, usize::MAX);
    assert_eq!(try_to_take(&mut harness, 4), [opened(4)]);
}

#[test]
fn the_list_of_peers_needs_a_token_where_one_is_demanded() {
    let mut harness = harness();
    for (access, expected) in [
        (none(true), 401),
        (none(false), 200),
        (of("anybody"), 200),
        (with(json!({})), 200),
        (with(json!({"exp": after_start(-60)})), 401),
        (with(json!({"nbf": after_start(61)})), 401),
    ] {
        let reply = harness.get_with("/peerjs/peers", access);
        assert_eq!(status(&reply), expected, "{reply:?}");
    }
    for problem in REFUSALS {
        for is_required in [true, false] {
            let reply = harness.get_with("/peerjs/peers", refused(is_required, problem));
            let expected = Rejection {
                status: 401,
                text: problem.text(),
            };
            assert_eq!(reply, HttpReply::Rejected(expected));
        }
    }
    // A token does not turn it on.
    let mut harness = RealmHarness::<PeerJs>::new(json!({}));
    assert_eq!(status(&harness.get_with("/peerjs/peers", of("ann"))), 401);
}

#[test]
fn ids_and_what_the_server_is_need_no_token() {
    let mut harness = harness();
    for access in [none(true), refused(true, TokenError::Signature)] {
        for target in ["/peerjs/id", "/"] {
            assert_eq!(status(&harness.get_with(target, access.clone())), 200);
        }
    }
}

#[test]
fn an_access_token_may_be_longer_than_the_documents() {
    let mut harness = harness();
    let claims = json!({"sub": "ann", "x": "x".repeat(5000)});
    let long = token(&claims);
    let lines = harness.open_with(1, &target("ann", &long), with(claims));
    assert_eq!(lines, [opened(1)]);
    let lines = harness.open_with(2, &target("ben", &"x".repeat(2049)), of("ben"));
    assert!(lines[0].contains("token longer than 2048"), "{lines:?}");
}

#[test]
fn without_access_a_token_of_any_shape_is_the_documents() {
    let mut harness = harness();
    let [ann, other] = ["ann", "other"].map(|id| token(&json!({"sub": id})));
    assert_eq!(harness.open(1, &target("x", &ann)), [opened(1)]);
    assert_eq!(harness.open(2, &target("x", &other)), id_taken(2));
    let lines = harness.open(3, &target("x", &ann));
    assert_eq!(lines, [replaced(1), opened(3)]);
}
