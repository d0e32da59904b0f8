//! The rules of PeerDrop's document and of the rulings, one test each, on a realm without sockets.

use crate::protocols::peerdrop::*;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

fn harness() -> RealmHarness<PeerDrop> {
    RealmHarness::new(json!({}))
}

/// Returns a realm in which connection 1 has created a session and connection 2 has joined it.
fn pair() -> RealmHarness<PeerDrop> {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    harness
}

/// Opens a connection that creates a session. Returns the code.
fn create(harness: &mut RealmHarness<PeerDrop>, conn: u64) -> String {
    let lines = harness.open(conn, "/ws/chat");
    let code = lines[0]
        .strip_prefix(&format!("{conn} < "))
        .expect("the first frame is a code");
    assert_eq!(lines.len(), 1, "only the code is sent");
    code.to_owned()
}

/// Opens a connection with an unknown code.
fn guess_wrong(harness: &mut RealmHarness<PeerDrop>, conn: u64, address: &str) -> Vec<String> {
    harness.open_from(conn, "/ws/chat/WRONG2", address)
}

#[test]
fn the_creators_first_frame_is_the_code() {
    let code = create(&mut harness(), 1);
    assert_eq!(code.len(), 6);
    assert!(code.bytes().all(|byte| ALPHABET.contains(&byte)), "{code}");
}

#[test]
fn a_code_has_the_configured_length() {
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
fn a_code_in_use_is_not_issued_again() {
    let mut harness = harness();
    let first = create(&mut harness, 1);
    harness.repeat_last_id();
    assert_ne!(create(&mut harness, 2), first);
}

#[test]
fn the_joiner_receives_the_code_and_then_the_creator_is_told_of_the_peer() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let lines = harness.open(2, &format!("/ws/chat/{code}"));
    assert_eq!(
        lines,
        [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
    );
}

#[test]
fn codes_are_case_insensitive() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let lines = harness.open(2, &format!("/ws/chat/{}", code.to_lowercase()));
    assert_eq!(
        lines,
        [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
    );
}

#[test]
fn texts_are_relayed_unchanged_in_both_directions() {
    let mut harness = pair();
    for text in ["Hello!", "", PEER_JOINED, "<b>\u{7}\r\n", " {\"type\": 1} "] {
        assert_eq!(harness.send(1, text), [format!("2 < {text}")]);
        assert_eq!(harness.send(2, text), [format!("1 < {text}")]);
    }
}

#[test]
fn texts_sent_before_the_peer_has_joined_are_dropped() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    assert_eq!(harness.send(1, "too early"), no_lines());
    let lines = harness.open(2, &format!("/ws/chat/{code}"));
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
fn when_a_client_disconnects_in_any_way_its_peer_is_closed() {
    for (leaver, peer) in [(1, 2), (2, 1)] {
        for how in [
            DisconnectReason::ClosedByClient(Some(1000)),
            DisconnectReason::Lost,
            DisconnectReason::Unresponsive,
        ] {
            assert_eq!(
                pair().disconnect(leaver, how),
                [format!("{peer} x 1000 peer left")]
            );
        }
    }
}

#[test]
fn a_code_is_unknown_once_a_peer_has_disconnected() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    harness.disconnect(2, DisconnectReason::Lost);
    assert_eq!(
        harness.open(3, &format!("/ws/chat/{code}")),
        ["3 x 4404 no such session"]
    );
    assert!(harness.realm.sessions.is_empty() && harness.realm.code_by_connection.is_empty());
}

#[test]
fn a_session_without_a_peer_ends_when_its_creator_disconnects() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.advance(1000 * MINUTE);
    assert_eq!(
        harness.disconnect(1, DisconnectReason::ClosedByClient(None)),
        no_lines()
    );
    assert_eq!(
        harness.open(2, &format!("/ws/chat/{code}")),
        ["2 x 4404 no such session"]
    );
}

#[test]
fn a_session_without_a_peer_does_not_expire() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    assert_eq!(harness.advance(1000 * MINUTE), no_lines());
    assert_eq!(harness.open(2, &format!("/ws/chat/{code}")).len(), 2);
}

#[test]
fn an_unknown_code_is_rejected() {
    for path in [
        "/ws/chat/AAAAAA",
        "/ws/chat/x",
        "/ws/chat/%41",
        "/ws/chat/ABC1234567",
    ] {
        assert_eq!(harness().open(1, path), ["1 x 4404 no such session"]);
    }
}

#[test]
fn a_third_peer_is_rejected_and_the_session_goes_on() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    assert_eq!(
        harness.open(3, &format!("/ws/chat/{code}")),
        ["3 x 4409 session is full"]
    );
    assert_eq!(harness.send(1, "still here"), ["2 < still here"]);
    assert_eq!(harness.send(2, "me too"), ["1 < me too"]);
}

#[test]
fn sessions_are_isolated_from_each_other() {
    let mut harness = pair();
    let code = create(&mut harness, 3);
    harness.open(4, &format!("/ws/chat/{code}"));
    assert_eq!(harness.send(3, "for 4 only"), ["4 < for 4 only"]);
    assert_eq!(
        harness.disconnect(4, DisconnectReason::Lost),
        ["3 x 1000 peer left"]
    );
    assert_eq!(harness.send(1, "for 2 only"), ["2 < for 2 only"]);
}

#[test]
fn an_address_that_sends_ten_wrong_codes_is_rejected_for_a_minute() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let right = format!("/ws/chat/{code}");
    for guess in 10..20 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
    }
    let rejected = ["20 x 4429 too many wrong codes, wait a minute"];
    assert_eq!(harness.open_from(20, &right, "192.0.2.1"), rejected);
    harness.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(guess_wrong(&mut harness, 20, "192.0.2.1"), rejected);
    harness.advance(Duration::from_millis(1));
    assert_eq!(harness.open_from(21, &right, "192.0.2.1").len(), 2);
}

#[test]
fn ten_wrong_guesses_in_more_than_a_minute_are_allowed() {
    let mut harness = harness();
    for guess in 10..100 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
        harness.advance(Duration::from_millis(6700));
    }
}

#[test]
fn a_rejected_address_can_create_sessions_and_other_addresses_can_join() {
    let mut harness = harness();
    for guess in 10..21 {
        guess_wrong(&mut harness, guess, "192.0.2.1");
    }
    let code = create(&mut harness, 1);
    assert_eq!(
        harness
            .open_from(2, &format!("/ws/chat/{code}"), "192.0.2.2")
            .len(),
        2
    );
    let lines = harness.open_from(3, "/ws/chat", "192.0.2.1");
    assert!(lines[0].starts_with("3 < "), "{lines:?}");
}

#[test]
fn a_limit_of_zero_allows_any_number_of_wrong_guesses() {
    let mut harness = RealmHarness::<PeerDrop>::new(json!({"wrong_codes_per_minute": 0}));
    for guess in 1..1000 {
        assert_eq!(
            guess_wrong(&mut harness, guess, "192.0.2.1"),
            [format!("{guess} x 4404 no such session")]
        );
    }
}

#[test]
fn tracked_subnets_are_bounded_and_dropped_after_their_minute() {
    let mut harness = harness();
    for guess in 0..3 * MAX_TRACKED_SUBNETS as u64 {
        let address = format!("198.{}.{}.{}", guess >> 16, (guess >> 8) & 255, guess & 255);
        guess_wrong(&mut harness, guess, &address);
        assert!(harness.realm.wrong_codes_by_subnet.len() <= MAX_TRACKED_SUBNETS);
    }
    harness.advance(2 * MINUTE);
    assert!(harness.realm.wrong_codes_by_subnet.is_empty());
}

#[test]
fn only_the_two_paths_of_the_document_are_served() {
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
