//! When comings and goings are announced.

use super::document::{AWAY, SEND, TYPING, connect, presence, typing};
use crate::protocols::workspace::*;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::json;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Returns an empty room with the default budget and interval.
fn harness() -> RealmHarness<Workspace> {
    RealmHarness::new(json!({"idle_timeout": 0, "max_connections_per_user": 0}))
}

/// Returns a room with this budget in which connections 1, 2 and so on of one user listen.
fn listeners(count: u64, budget: u64) -> RealmHarness<Workspace> {
    let options = json!({
        "idle_timeout": 0, "max_connections_per_user": 0, "announcements_per_second": budget,
    });
    let mut harness = RealmHarness::new(options);
    for conn in 1..=count {
        harness.open(conn, "/ws?username=listener");
    }
    harness.advance(s(100));
    harness
}

/// Connects the users `from..to`, and returns the names of which connection 1 was told that they are online.
fn connect_users(
    harness: &mut RealmHarness<Workspace>,
    users: std::ops::Range<u64>,
) -> Vec<String> {
    let open = |user| harness.open(100_000 + user, &format!("/ws?username=u{user}"));
    names(&users.flat_map(open).collect::<Vec<_>>(), "online")
}

/// Returns the names of which connection 1 was told this status.
fn names(lines: &[String], status: &str) -> Vec<String> {
    let mine = lines.iter().filter(|line| line.starts_with("1 < "));
    let mine = mine.filter(|line| line.ends_with(&format!("\"status\":\"{status}\"}}}}")));
    mine.map(|line| {
        line.split("\"username\":\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    })
    .collect()
}

fn users(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|user| format!("u{user}")).collect()
}

#[test]
fn a_room_of_100_hears_200_comings_a_second_oldest_first() {
    let mut harness = listeners(100, 20_000);
    // The first goes to 100 connections, the 100th to 199: so it is less than 200 in this second.
    let told = connect_users(&mut harness, 0..300);
    let count = told.len() as u64;
    assert_eq!(told, users(0..count));
    let deliveries: u64 = (0..count).map(|user| 100 + user).sum();
    assert!(
        (20_000..20_400).contains(&deliveries),
        "{deliveries} for {count}"
    );
    let mut harness = listeners(100, 20_000);
    let going = connect_users(&mut harness, 0..100);
    assert_eq!(going.len(), 100);
    // They go again, and the room has 100 connections in the end.
    harness.advance(s(10));
    for user in (0..100).rev() {
        harness.disconnect(100_000 + user, DisconnectReason::Lost);
    }
    let mut told = connect_users(&mut harness, 100..101);
    told.extend((0..5).flat_map(|_| names(&harness.advance(s(1)), "online")));
    assert_eq!(told, users(100..101), "after the goings before it");
}

#[test]
fn a_room_of_10_000_hears_two_a_second() {
    let mut harness = listeners(10_000, 20_000);
    assert_eq!(connect_users(&mut harness, 0..10), users(0..2));
    for second in 1..5 {
        let told = names(&harness.advance(s(1)), "online");
        assert_eq!(told, users(2 * second..2 * second + 2));
    }
    assert_eq!(harness.advance(s(1)), no_lines());
}

#[test]
fn what_exceeds_the_budget_is_paid_by_the_following_seconds() {
    let mut harness = listeners(100, 40);
    assert_eq!(connect_users(&mut harness, 0..3), users(0..1));
    for expected in [vec![], users(1..2), vec![], vec![], users(2..3)] {
        assert_eq!(names(&harness.advance(s(1)), "online"), expected);
    }
}

#[test]
fn without_a_budget_all_changes_are_announced_at_once() {
    let mut harness = listeners(300, 0);
    assert_eq!(connect_users(&mut harness, 0..300), users(0..300));
}

#[test]
fn a_coming_and_a_going_that_both_wait_cancel_each_other() {
    let mut harness = listeners(100, 1);
    assert_eq!(connect_users(&mut harness, 0..4), users(0..1));
    harness.disconnect(100_001, DisconnectReason::Lost);
    assert_eq!(
        harness.disconnect(100_000, DisconnectReason::Lost),
        no_lines()
    );
    connect_users(&mut harness, 0..1);
    let lines = harness.advance(s(1000));
    assert_eq!(
        names(&lines, "online"),
        users(2..3),
        "u1 has never been there"
    );
    let lines = harness.advance(s(1000));
    assert_eq!(names(&lines, "online"), users(3..4));
    assert_eq!(harness.advance(s(1000)), no_lines(), "u0 has never gone");
}

#[test]
fn a_user_that_returns_before_its_going_was_announced_is_the_same() {
    let mut harness = harness();
    harness.open(1, "/ws?username=a");
    let before = connect(&mut harness, 2, "Bob");
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(connect(&mut harness, 3, "c")["connectedUsers"], 2);
    let after = connect(&mut harness, 4, "BOB");
    assert_eq!(
        (&after["userId"], &after["username"]),
        (&before["userId"], &before["username"])
    );
    assert_eq!(after["connectedUsers"], 3);
    harness.advance(s(10));
    harness.disconnect(4, DisconnectReason::Lost);
    let other = connect(&mut harness, 5, "BOB");
    assert_ne!(other["userId"], before["userId"]);
    assert_eq!(other["username"], "BOB");
}

#[test]
fn a_name_is_announced_once_in_10_s() {
    let mut harness = harness();
    harness.open(1, "/ws?username=a");
    assert_eq!(
        harness.open(2, "/ws?username=b")[1..],
        [presence(1, 2, "b", "online")]
    );
    for conn in 3..100 {
        assert_eq!(
            harness.disconnect(conn - 1, DisconnectReason::Lost),
            no_lines()
        );
        assert_eq!(harness.open(conn, "/ws?username=B").len(), 1);
    }
    harness.disconnect(99, DisconnectReason::Lost);
    assert_eq!(harness.advance(Duration::from_millis(9_999)), no_lines());
    assert_eq!(
        harness.advance(Duration::from_millis(1)),
        [presence(1, 2, "b", "offline")]
    );
    // A going is an announcement, too.
    assert_eq!(harness.open(100, "/ws?username=b").len(), 1);
    assert_eq!(harness.advance(Duration::from_millis(9_999)), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, [presence(1, 10_001, "b", "online")]);
}

#[test]
fn a_user_that_was_never_announced_goes_in_silence() {
    let mut harness = listeners(100, 1);
    assert_eq!(connect_users(&mut harness, 0..2), users(0..1));
    assert_eq!(
        harness.disconnect(100_001, DisconnectReason::Lost),
        no_lines()
    );
    assert_eq!(harness.advance(s(1000)), no_lines());
    harness.disconnect(100_000, DisconnectReason::Lost);
    harness.advance(s(1000));
    for conn in 1..=100 {
        harness.disconnect(conn, DisconnectReason::Lost);
    }
    harness.advance(s(1000));
    assert!(harness.realm.announcements.is_empty());
}

#[test]
fn the_answer_to_a_handshake_never_waits() {
    let mut harness = listeners(100, 1);
    for user in 0..1000 {
        let lines = harness.open(200 + user, &format!("/ws?username=n{user}"));
        let count = format!("\"connectedUsers\":{}", user + 2);
        assert!(lines[0].starts_with(&format!("{} < {{\"type\":\"connected\"", 200 + user)));
        assert!(lines[0].contains(&count), "{}", lines[0]);
        assert!(
            user == 0 || lines.len() == 1,
            "filling a room costs each newcomer the same"
        );
    }
    (0..500).for_each(|user| drop(harness.disconnect(200 + user, DisconnectReason::Lost)));
    assert_eq!(connect(&mut harness, 5000, "x")["connectedUsers"], 502);
}

#[test]
fn what_a_user_says_itself_is_passed_on_whatever_waits() {
    let mut harness = listeners(2, 1);
    connect_users(&mut harness, 0..3);
    let conn = 100_002;
    let mine = |lines: Vec<String>| {
        lines
            .into_iter()
            .filter(|line| line.starts_with("1 < "))
            .count()
    };
    assert_eq!(mine(harness.send(conn, AWAY)), 1);
    assert_eq!(mine(harness.send(conn, TYPING)), 1);
    assert_eq!(mine(harness.send(conn, SEND)), 1);
    assert_eq!(
        mine(harness.disconnect(conn, DisconnectReason::Lost)),
        1,
        "it stops typing"
    );
    let mut harness = self::harness();
    harness.open(1, "/ws?username=a");
    harness.open(2, "/ws?username=b");
    harness.send(2, TYPING);
    let lines = harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(lines, [typing(1, 2, "b", false)]);
}

#[test]
fn names_that_are_gone_are_bounded() {
    let mut harness = listeners(1, 0);
    for user in 0..25_000 {
        harness.open(200_000, &format!("/ws?username=n{user}"));
        harness.disconnect(200_000, DisconnectReason::Lost);
    }
    assert!(
        harness.realm.stored_bytes() < 5 << 20,
        "{}",
        harness.realm.stored_bytes()
    );
    // The rest came and went before there was place for its announcement.
    let lines = harness.advance(s(10));
    assert_eq!(lines.len(), 10_000);
    harness.advance(s(10));
    harness.disconnect(1, DisconnectReason::Lost);
    harness.advance(s(10));
    assert_eq!(harness.realm.stored_bytes(), 0);
    assert!(harness.realm.announcements.is_empty());
}

#[test]
fn the_names_of_an_empty_room_are_forgotten_when_their_interval_is_over() {
    let mut harness = listeners(1, 0);
    assert_eq!(connect_users(&mut harness, 0..50).len(), 50);
    harness.disconnect(1, DisconnectReason::Lost);
    for user in 0..50 {
        harness.disconnect(100_000 + user, DisconnectReason::Lost);
    }
    harness.advance(s(9));
    assert!(!harness.realm.announcements.is_empty());
    harness.advance(s(1));
    assert!(harness.realm.announcements.is_empty());
}

#[test]
fn a_newcomer_to_an_empty_room_hears_of_nobody_who_left_before() {
    let mut harness = harness();
    harness.open(1, "/ws?username=ann");
    harness.advance(s(11));
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(harness.open(2, "/ws?username=bob").len(), 1, "connected");
    assert_eq!(harness.advance(s(1)), no_lines());
}
