//! What the document and the rulings demand of PeerDrop, each rule at the desk.

use crate::protocols::peerdrop::*;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

fn harness() -> RealmHarness<PeerDrop> {
    RealmHarness::new(json!({}))
}

/// A desk at which 1 has created a session and 2 has joined it.
fn pair() -> RealmHarness<PeerDrop> {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.opens(2, &format!("/ws/chat/{code}"));
    harness
}

fn create(harness: &mut RealmHarness<PeerDrop>, conn: u64) -> String {
    let lines = harness.opens(conn, "/ws/chat");
    let code = lines[0]
        .strip_prefix(&format!("{conn} < "))
        .expect("a code");
    assert_eq!(lines.len(), 1, "the code and nothing else");
    code.to_owned()
}

fn guess_wrong(harness: &mut RealmHarness<PeerDrop>, conn: u64, address: &str) -> Vec<String> {
    harness.opens_from(conn, "/ws/chat/WRONG2", address)
}

#[test]
fn the_creators_first_frame_is_the_code() {
    let code = create(&mut harness(), 1);
    assert_eq!(code.len(), 6);
    assert!(
        code.bytes().all(|letter| ALPHABET.contains(&letter)),
        "{code}"
    );
}

#[test]
fn a_code_is_as_long_as_configured() {
    assert_eq!(
        create(&mut RealmHarness::new(json!({"code_length": 12})), 1).len(),
        12
    );
    for length in [3, 13] {
        let wrong = Options {
            code_length: length,
            ..Options::default()
        };
        assert!(matches!(PeerDrop::new(wrong), Err(("code_length", _))));
    }
}

#[test]
fn a_code_in_use_is_not_given_again() {
    let mut harness = harness();
    let first = create(&mut harness, 1);
    harness.repeat_the_last_id();
    assert_ne!(create(&mut harness, 2), first);
}

#[test]
fn the_joiner_gets_the_code_then_the_creator_hears_of_it() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let lines = harness.opens(2, &format!("/ws/chat/{code}"));
    assert_eq!(
        lines,
        [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
    );
}

#[test]
fn codes_are_matched_without_regard_to_case() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let lines = harness.opens(2, &format!("/ws/chat/{}", code.to_lowercase()));
    assert_eq!(
        lines,
        [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
    );
}

#[test]
fn texts_go_to_the_other_one_as_they_came_in_both_directions() {
    let mut harness = pair();
    for text in ["Hello!", "", PEER_JOINED, "<b>\u{7}\r\n", " {\"type\": 1} "] {
        assert_eq!(harness.says(1, text), [format!("2 < {text}")]);
        assert_eq!(harness.says(2, text), [format!("1 < {text}")]);
    }
}

#[test]
fn what_the_creator_sends_before_there_is_a_peer_is_dropped() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    assert_eq!(harness.says(1, "anybody there?"), no_lines());
    let lines = harness.opens(2, &format!("/ws/chat/{code}"));
    assert_eq!(
        lines,
        [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
    );
}

#[test]
fn binary_frames_are_ignored() {
    assert!(PeerDrop::decode(&mut (), Message::Binary(vec![1, 2, 3].into())).is_none());
}

#[test]
fn when_either_side_goes_in_whatever_way_the_other_is_closed() {
    for (leaver, other) in [(1, 2), (2, 1)] {
        for how in [
            DisconnectReason::Left(Some(1000)),
            DisconnectReason::Lost,
            DisconnectReason::Silent,
        ] {
            assert_eq!(
                pair().leaves(leaver, how),
                [format!("{other} x 1000 peer left")]
            );
        }
    }
}

#[test]
fn a_session_ends_with_its_members_and_its_code_is_dead() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.opens(2, &format!("/ws/chat/{code}"));
    harness.leaves(2, DisconnectReason::Lost);
    assert_eq!(
        harness.opens(3, &format!("/ws/chat/{code}")),
        ["3 x 4404 no such session"]
    );
    assert!(harness.realm.sessions.is_empty() && harness.realm.code_by_connection.is_empty());
}

#[test]
fn a_session_that_nobody_joined_ends_with_its_creator() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.waits(1000 * MINUTE);
    assert_eq!(harness.leaves(1, DisconnectReason::Left(None)), no_lines());
    assert_eq!(
        harness.opens(2, &format!("/ws/chat/{code}")),
        ["2 x 4404 no such session"]
    );
}

#[test]
fn a_session_that_nobody_joins_lives_as_long_as_its_creator() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    assert_eq!(harness.waits(1000 * MINUTE), no_lines());
    assert_eq!(harness.opens(2, &format!("/ws/chat/{code}")).len(), 2);
}

#[test]
fn an_unknown_code_is_refused() {
    for path in [
        "/ws/chat/AAAAAA",
        "/ws/chat/x",
        "/ws/chat/%41",
        "/ws/chat/ABC1234567",
    ] {
        assert_eq!(harness().opens(1, path), ["1 x 4404 no such session"]);
    }
}

#[test]
fn a_third_peer_is_refused_and_disturbs_nobody() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.opens(2, &format!("/ws/chat/{code}"));
    assert_eq!(
        harness.opens(3, &format!("/ws/chat/{code}")),
        ["3 x 4409 session is full"]
    );
    assert_eq!(harness.says(1, "still here"), ["2 < still here"]);
    assert_eq!(harness.says(2, "me too"), ["1 < me too"]);
}

#[test]
fn sessions_do_not_hear_each_other() {
    let mut harness = pair();
    let code = create(&mut harness, 3);
    harness.opens(4, &format!("/ws/chat/{code}"));
    assert_eq!(harness.says(3, "for 4 alone"), ["4 < for 4 alone"]);
    assert_eq!(
        harness.leaves(4, DisconnectReason::Lost),
        ["3 x 1000 peer left"]
    );
    assert_eq!(harness.says(1, "for 2 alone"), ["2 < for 2 alone"]);
}

#[test]
fn an_address_that_guesses_wrong_ten_times_is_refused_for_a_minute() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let right = format!("/ws/chat/{code}");
    for guess in 10..20 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
    }
    let refused = ["20 x 4429 too many wrong codes, wait a minute"];
    assert_eq!(harness.opens_from(20, &right, "192.0.2.1"), refused);
    harness.waits(MINUTE - Duration::from_millis(1));
    assert_eq!(guess_wrong(&mut harness, 20, "192.0.2.1"), refused);
    harness.waits(Duration::from_millis(1));
    assert_eq!(harness.opens_from(21, &right, "192.0.2.1").len(), 2);
}

#[test]
fn ten_wrong_guesses_in_more_than_a_minute_are_forgiven() {
    let mut harness = harness();
    for guess in 10..100 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
        harness.waits(Duration::from_millis(6700));
    }
}

#[test]
fn other_addresses_are_not_refused_with_it_and_creating_is_not_guessing() {
    let mut harness = harness();
    for guess in 10..21 {
        guess_wrong(&mut harness, guess, "192.0.2.1");
    }
    let code = create(&mut harness, 1);
    assert_eq!(
        harness
            .opens_from(2, &format!("/ws/chat/{code}"), "192.0.2.2")
            .len(),
        2
    );
    let lines = harness.opens_from(3, "/ws/chat", "192.0.2.1");
    assert!(lines[0].starts_with("3 < "), "{lines:?}");
}

#[test]
fn without_a_limit_anybody_may_guess_for_ever() {
    let mut harness = RealmHarness::<PeerDrop>::new(json!({"wrong_codes_per_minute": 0}));
    for guess in 1..1000 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
    }
}

#[test]
fn guesses_are_not_remembered_without_bound_nor_for_ever() {
    let mut harness = harness();
    for guess in 0..3 * MAX_TRACKED_SUBNETS as u64 {
        let address = format!("198.{}.{}.{}", guess >> 16, (guess >> 8) & 255, guess & 255);
        guess_wrong(&mut harness, guess, &address);
        assert!(harness.realm.guesses_by_subnet.len() <= MAX_TRACKED_SUBNETS);
    }
    harness.waits(2 * MINUTE);
    assert!(harness.realm.guesses_by_subnet.is_empty());
}

#[test]
fn it_serves_two_shapes_of_path_and_no_other() {
    for path in ["/ws/chat", "/ws/chat/ABC123", "/ws/chat/x"] {
        assert!(PeerDrop::matches_path(path), "{path}");
    }
    for path in [
        "/",
        "/ws",
        "/ws/chat/",
        "/ws/chat/ABC123/",
        "/ws/chatter",
        "/WS/CHAT",
    ] {
        assert!(!PeerDrop::matches_path(path), "{path}");
    }
}
