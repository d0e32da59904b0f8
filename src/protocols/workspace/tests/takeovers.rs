//! Another connection of a username that has all its connections.

use super::document::{MESSAGE, SEND};
use super::document::{acknowledged, auth_as, connect, error, name_of, room};
use crate::protocols::workspace::*;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::json;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns a room with connections 1 to 3 of Ann, which came one second after another and have been silent since,
/// the last for 5 s, and connection 9 of Bob.
fn silent_room() -> RealmHarness<Workspace> {
    let mut harness = RealmHarness::new(json!({"announcement_interval": 0, "idle_timeout": 0}));
    harness.open(9, "/ws?username=bob");
    for conn in 1..=3 {
        harness.advance(s(1));
        harness.open(conn, "/ws?username=ann");
    }
    harness.advance(s(5));
    harness
}

/// Opens another connection of Ann.
fn open_ann(harness: &mut RealmHarness<Workspace>, conn: u64) -> Vec<String> {
    harness.open(conn, "/ws?username=ann")
}

const REPLACED: &str = "x 4409 connected again elsewhere";

#[test]
fn a_fourth_connection_waits_until_those_that_are_silent_are_probed() {
    let mut harness = silent_room();
    harness.send(2, SEND);
    assert_eq!(
        open_ann(&mut harness, 4),
        ["4 ~ deferred", "1 ? 5 s", "3 ? 5 s"]
    );
    assert_eq!(harness.answer_probe(1), no_lines());
    let lines = harness.fail_probe(3);
    assert_eq!(lines[0], format!("3 {REPLACED}"));
    assert!(
        lines[1].starts_with(r#"4 < {"type":"connected","#)
            && lines[1].contains(r#""connectedUsers":2"#)
    );
    assert_eq!(lines[2..], ["4 ~ admitted"], "the user was online before");
    assert_eq!(harness.send(4, SEND).len(), 4);
}

#[test]
fn the_longest_silent_of_those_that_give_no_sign_makes_place() {
    let mut harness = silent_room();
    harness.send(1, SEND);
    harness.advance(s(6));
    open_ann(&mut harness, 4);
    assert_eq!(harness.fail_probe(1), no_lines());
    assert_eq!(harness.fail_probe(3), no_lines());
    assert_eq!(harness.fail_probe(2)[0], format!("2 {REPLACED}"));
}

#[test]
fn a_connection_that_gives_a_sign_keeps_its_place_and_the_newcomer_gets_429() {
    let mut harness = silent_room();
    open_ann(&mut harness, 4);
    assert_eq!(harness.answer_probe(1), no_lines());
    assert_eq!(harness.answer_probe(2), no_lines());
    assert_eq!(harness.answer_probe(3), ["4 ~ rejected 429"]);
    assert_eq!(harness.send(9, SEND).len(), 4);
    assert!(harness.realm.claims.is_empty());
}

#[test]
fn a_connection_that_gives_a_sign_after_its_probe_keeps_its_place() {
    let mut harness = silent_room();
    open_ann(&mut harness, 4);
    harness.fail_probe(1);
    harness.send(1, SEND);
    harness.answer_probe(2);
    assert_eq!(harness.answer_probe(3), ["4 ~ rejected 429"]);
}

#[test]
fn a_user_may_have_any_other_number_of_connections() {
    let options = json!({"max_connections_per_user": 1, "takeover_after": 30, "takeover_timeout": 7, "announcement_interval": 0});
    let mut harness = RealmHarness::<Workspace>::new(options);
    let before = connect(&mut harness, 1, "ann");
    harness.advance(s(29));
    assert!(
        harness
            .try_open(2, "/ws?username=ann", "127.0.0.1")
            .is_err()
    );
    harness.advance(s(1));
    assert_eq!(open_ann(&mut harness, 2), ["2 ~ deferred", "1 ? 7 s"]);
    let lines = harness.fail_probe(1);
    assert_eq!(
        (&*lines[0], &*lines[2]),
        (&*format!("1 {REPLACED}"), "2 ~ admitted")
    );
    // The user never went.
    assert_eq!(lines.len(), 3);
    assert!(lines[1].contains(before["userId"].as_str().unwrap()));
}

#[test]
fn a_place_that_becomes_free_ends_the_wait() {
    let mut harness = silent_room();
    harness.send(3, SEND);
    open_ann(&mut harness, 4);
    let lines = harness.disconnect(3, DisconnectReason::Lost);
    assert_eq!(lines.last().unwrap(), "4 ~ admitted");
    assert_eq!(
        harness.fail_probe(1),
        no_lines(),
        "its place is not wanted any more"
    );
    // The same if it was one of those that are probed.
    let mut harness = silent_room();
    open_ann(&mut harness, 4);
    let lines = harness.disconnect(1, DisconnectReason::Unresponsive);
    assert_eq!(lines.last().unwrap(), "4 ~ admitted");
}

#[test]
fn a_client_that_goes_while_it_waits_displaces_nobody() {
    let mut harness = silent_room();
    open_ann(&mut harness, 4);
    assert_eq!(harness.disconnect(4, DisconnectReason::Lost), no_lines());
    for conn in 1..=3 {
        assert_eq!(harness.fail_probe(conn), no_lines());
    }
    assert!(harness.realm.claims.is_empty());
}

#[test]
fn those_that_wait_get_places_in_the_order_in_which_they_came() {
    let mut harness = silent_room();
    harness.send(2, SEND);
    for conn in [5, 4, 6] {
        assert_eq!(
            open_ann(&mut harness, conn)[0],
            format!("{conn} ~ deferred")
        );
    }
    harness.fail_probe(1);
    let lines = harness.fail_probe(3);
    let ends = |text: &str| lines.iter().any(|line| line == text);
    assert!(
        ends("5 ~ admitted") && ends("4 ~ admitted") && ends("6 ~ rejected 429"),
        "{lines:?}"
    );
}

#[test]
fn at_most_as_many_wait_as_the_user_may_have_connections() {
    let mut harness = silent_room();
    for conn in 4..=6 {
        open_ann(&mut harness, conn);
    }
    let rejection = harness
        .try_open(7, "/ws?username=ann", "127.0.0.1")
        .unwrap_err();
    assert_eq!(rejection.status, 429);
}

/// Returns [`silent_room`] in which 9 has an Electron client.
fn electron_room() -> RealmHarness<Workspace> {
    let mut harness = silent_room();
    harness.send(9, MESSAGE);
    harness
}

#[test]
fn auth_with_a_full_name_waits_for_the_silent_ones_too() {
    let mut harness = electron_room();
    assert_eq!(
        harness.send(9, &auth_as("ann")),
        ["1 ? 5 s", "2 ? 5 s", "3 ? 5 s"]
    );
    assert_eq!(
        name_of(&mut harness, 9),
        "bob",
        "it talks on while it waits"
    );
    harness.answer_probe(2);
    harness.answer_probe(3);
    let lines = harness.fail_probe(1);
    assert_eq!(lines[..2], [format!("1 {REPLACED}"), acknowledged(9)]);
    assert_eq!(name_of(&mut harness, 9), "ann");
}

#[test]
fn auth_again_while_it_waits_is_one_claim() {
    let mut harness = electron_room();
    harness.send(9, &auth_as("ann"));
    for _ in 0..15 {
        assert_eq!(harness.send(9, &auth_as("ANN")), no_lines());
    }
    // Another name takes the place of the first.
    assert!(
        harness
            .send(9, &auth_as("carol"))
            .contains(&acknowledged(9))
    );
    for conn in 1..=3 {
        assert_eq!(harness.fail_probe(conn), no_lines());
    }
    assert_eq!(name_of(&mut harness, 9), "carol");
    assert!(harness.realm.claims.is_empty());
}

#[test]
fn auth_with_a_full_name_whose_connections_all_give_a_sign_is_rejected() {
    let mut harness = electron_room();
    harness.send(9, &auth_as("ann"));
    harness.answer_probe(1);
    harness.answer_probe(2);
    let lines = harness.answer_probe(3);
    assert!(
        lines[0].starts_with(r#"9 < {"type":"error","code":"TOO_MANY_CONNECTIONS""#),
        "{lines:?}"
    );
    assert_eq!(name_of(&mut harness, 9), "bob");
    // All three have just given a sign.
    assert_eq!(
        error(&mut room(&["ann", "ann", "ann", "bob"]), 4, "x")["code"],
        "INVALID_JSON"
    );
    assert_eq!(harness.send(9, &auth_as("ann")).len(), 1);
    assert!(harness.realm.claims.is_empty());
}
