//! Each demand of PeerDrop's document and of the rulings on it, with the test that holds it.
//!
//! These tests use no sockets; those that do are in `tests/peerdrop.rs`. The table of wrong codes is tested in
//! `wrong_codes.rs`, too, and random sequences of client actions in `model.rs`.
//!
//! | demand | test |
//! | --- | --- |
//! | `/ws/chat` and `/ws/chat/{code}`; a trailing slash is another path | `only_the_two_paths_of_the_document_are_served` |
//! | a code is 6 characters out of 32 | `the_creators_first_frame_is_the_code` |
//! | or `code_length` characters | `a_code_has_the_configured_length` |
//! | never one in use | `a_code_in_use_is_not_issued_again` |
//! | matched without regard to case | `codes_are_case_insensitive` |
//! | an address that guesses wrong 10 times in a minute is refused for the next | `an_address_that_sends_ten_wrong_codes_is_rejected_for_a_minute`, `ten_wrong_guesses_in_more_than_a_minute_are_allowed`, `ipv4_addresses_beside_each_other_do_not_count_together`, `the_clients_of_a_unix_socket_count_together_and_with_no_other` |
//! | the address that a trusted proxy names | `guesses_are_limited_by_the_address_that_a_trusted_proxy_names` |
//! | a /56 after 40 | `a_56_with_40_wrong_codes_is_rejected` |
//! | a /48 after 160 | `a_48_with_160_wrong_codes_is_rejected`, `a_48_is_rejected_whichever_of_its_subnets_guess` |
//! | refused is joining, never creating | `a_rejected_address_can_create_sessions_and_other_addresses_can_join`, `creating_never_waits` |
//! | 0 is no limit | `a_limit_of_zero_allows_any_number_of_wrong_guesses`, `without_a_limit_for_all_clients_no_join_waits` |
//! | the table has a fixed size, and wrong guesses never go | `a_flood_of_wrong_codes_frees_no_rejected_address` |
//! | above 1,000 wrong codes each join is looked up a second later | `above_1000_wrong_codes_a_minute_a_join_right_or_wrong_is_looked_up_a_second_later`, `joins_do_not_wait_any_more_when_the_minute_is_over`, `an_address_whose_waiting_joins_reach_its_limit_is_rejected` |
//! | in the state of that moment | `a_waiting_join_finds_its_session_as_it_is_when_it_is_looked_up`, `texts_of_a_client_whose_join_waits_are_dropped` |
//! | the handshake is completed at once | `a_join_that_waits_is_connected_at_once` |
//! | at most 200 wait | `at_most_200_joins_wait_and_more_are_rejected` |
//! | at most 4 of one address (IPv4, IPv6 /56) | `at_most_4_joins_of_an_address_wait` |
//! | what waits is bounded | `a_long_code_takes_no_memory_while_it_waits` |
//! | the peer receives the code, then the creator `the other guy joined` | `the_joiner_receives_the_code_and_then_the_creator_is_told_of_the_peer` |
//! | every text is relayed as it came | `texts_are_relayed_unchanged_in_both_directions` |
//! | before there is a peer, texts are dropped | `texts_sent_before_the_peer_has_joined_are_dropped` |
//! | when either side goes, the other is closed | `when_a_client_disconnects_in_any_way_its_peer_is_closed` |
//! | and the code is dead | `a_code_is_unknown_once_a_peer_has_disconnected` |
//! | unknown code: 4404 | `an_unknown_code_is_rejected` |
//! | a third peer: 4409 | `a_third_peer_is_rejected_and_the_session_goes_on` |
//! | a session that no client joins lives as long as its creator's connection | `a_session_without_a_peer_does_not_expire`, `a_session_without_a_peer_ends_when_its_creator_disconnects` |
//! | binary frames are ignored | `binary_frames_are_ignored` |
//! | what a peer sent right before it went is delivered | `messages_sent_right_before_a_peer_disconnects_are_delivered_before_the_close` |
//! | two peers in a session, isolated from others | `sessions_are_isolated_from_each_other` |
//! | options can change while it runs | `changed_options_hold_and_sessions_stay_with_their_codes` |
//! | access tokens: with one a client creates or joins, until its end; `sub` and `name` mean nothing | `clients_with_tokens_create_and_join_whoever_they_are`, `a_pair_with_tokens_meets_and_one_without_is_refused`, `a_token_holds_from_a_minute_before_nbf_until_a_minute_after_exp`, `a_join_that_waits_ends_with_its_token`, `the_end_of_a_token_ends_the_session`, `a_session_ends_when_the_token_of_one_of_its_peers_does` |
//! | ... refused: 4401 | `a_client_without_a_token_is_closed_where_one_is_demanded`, `a_client_whose_token_is_refused_is_closed_whether_or_not_one_is_demanded`, `without_demand_clients_without_a_token_create_and_join`, `a_client_without_a_good_token_gets_close_4401` |
//! | ... roles `create` and `join` | `roles_say_who_may_create_and_who_may_join`, `a_client_that_may_not_join_learns_nothing_of_a_code_and_guesses_nothing` |
//! | what an operator is shown | `the_figures_are_the_sessions_the_joins_that_wait_the_wrong_codes_and_who_guessed_too_often` |

use crate::protocols::peerdrop::*;
use crate::testing::harness::{RealmHarness, no_lines, no_tokens};
use serde_json::json;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
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

/// Returns the number of a new connection.
fn next_connection(harness: &RealmHarness<PeerDrop>) -> u64 {
    harness.open_connections().max().unwrap_or(0).max(9999) + 1
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
    assert!((PROTOCOL.new_decoder)(&no_tokens())(Message::Binary(vec![1, 2, 3].into())).is_none());
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

/// Opens connections with unknown codes from an address, each of which must be looked up.
pub(super) fn guess_wrong_times(harness: &mut RealmHarness<PeerDrop>, address: &str, times: usize) {
    for _ in 0..times {
        let conn = next_connection(harness);
        let unknown = [format!("{conn} x 4404 no such session")];
        assert_eq!(guess_wrong(harness, conn, address), unknown, "{address}");
    }
}

/// Returns whether an address may join at all: it does not if it is rejected or has to wait.
fn is_looked_up(harness: &mut RealmHarness<PeerDrop>, address: &str) -> bool {
    let conn = next_connection(harness);
    let code = create(harness, conn);
    let joiner = next_connection(harness);
    let lines = harness.open_from(joiner, &format!("/ws/chat/{code}"), address);
    lines.len() == 2
}

#[test]
fn a_56_with_40_wrong_codes_is_rejected() {
    let mut harness = harness();
    for subnet in 0..4 {
        let address = format!("2001:db8:0:2{subnet:02x}::1");
        guess_wrong_times(&mut harness, &address, if subnet == 3 { 9 } else { 10 });
    }
    // The 40th of the /56 is the first of its /64.
    assert!(is_looked_up(&mut harness, "2001:db8:0:2ff::1"));
    guess_wrong_times(&mut harness, "2001:db8:0:2ff::1", 1);
    for address in [
        "2001:db8:0:2ff::1",
        "2001:db8:0:203::1",
        "2001:db8:0:280::1",
    ] {
        assert!(!is_looked_up(&mut harness, address), "{address}");
    }
    assert!(is_looked_up(&mut harness, "2001:db8:0:300::1"));
    harness.advance(MINUTE);
    assert!(is_looked_up(&mut harness, "2001:db8:0:2ff::1"));
}

#[test]
fn a_48_with_160_wrong_codes_is_rejected() {
    let mut harness = harness();
    for subnet in 1..=4 {
        for host in 0..39 {
            let address = format!("2001:db8:0:{subnet}{host:02x}::1");
            guess_wrong_times(&mut harness, &address, 1);
        }
    }
    guess_wrong_times(&mut harness, "2001:db8:0:500::1", 3);
    assert!(is_looked_up(&mut harness, "2001:db8:0:600::1"));
    guess_wrong_times(&mut harness, "2001:db8:0:500::1", 1);
    for address in [
        "2001:db8:0:500::1",
        "2001:db8:0:100::1",
        "2001:db8:0:ffff::1",
    ] {
        assert!(!is_looked_up(&mut harness, address), "{address}");
    }
    assert!(is_looked_up(&mut harness, "2001:db8:1:100::1"));
    harness.advance(MINUTE);
    assert!(is_looked_up(&mut harness, "2001:db8:0:ffff::1"));
}

#[test]
fn a_48_is_rejected_whichever_of_its_subnets_guess() {
    let mut harness = harness();
    let wrong = |subnet: u32| format!("2001:db8:0:{:x}::1", subnet * 256);
    (0..160).for_each(|subnet| guess_wrong_times(&mut harness, &wrong(subnet), 1));
    // The /48 has 65,536 subnets, of which none has guessed twice.
    for subnet in 0..256 {
        let conn = next_connection(&harness);
        let rejected = [format!("{conn} x 4429 too many wrong codes, wait a minute")];
        assert_eq!(guess_wrong(&mut harness, conn, &wrong(subnet)), rejected);
    }
}

#[test]
fn the_clients_of_a_unix_socket_count_together_and_with_no_other() {
    let mut harness = RealmHarness::new(json!({}));
    guess_wrong_times(&mut harness, "unix", 10);
    assert!(!is_looked_up(&mut harness, "unix"));
    for address in ["127.0.0.1", "::1", "0:2::1"] {
        assert!(is_looked_up(&mut harness, address), "{address}");
    }
}

#[test]
fn ipv4_addresses_beside_each_other_do_not_count_together() {
    let mut harness = harness();
    for host in 0..100 {
        guess_wrong_times(&mut harness, &format!("192.0.2.{host}"), 9);
    }
    assert!(is_looked_up(&mut harness, "192.0.2.1"));
}

#[test]
fn a_flood_of_wrong_codes_frees_no_rejected_address() {
    let mut harness = RealmHarness::<PeerDrop>::new(json!({
        "total_wrong_codes_per_minute": 100, "max_waiting_joins": 20,
    }));
    guess_wrong_times(&mut harness, "192.0.2.1", 10);
    for second in 0..59 {
        for guess in 0..30 {
            let conn = next_connection(&harness);
            let address = format!("198.{second}.{}.{}", guess >> 8, guess & 255);
            guess_wrong(&mut harness, conn, &address);
        }
        assert!(!is_looked_up(&mut harness, "192.0.2.1"));
        harness.advance(SECOND);
    }
    assert!(harness.realm.stored_bytes() > 0);
    harness.advance(2 * MINUTE);
    assert_eq!(harness.realm.stored_bytes(), 0);
}

/// Returns a realm in which joins wait: there were 1,001 wrong codes.
fn harness_above_total() -> RealmHarness<PeerDrop> {
    let mut harness = harness();
    for guess in 0..1001 {
        assert!(is_looked_up_wrong(&mut harness, guess));
    }
    harness
}

/// Returns whether a wrong code from one of many addresses is answered at once.
fn is_looked_up_wrong(harness: &mut RealmHarness<PeerDrop>, number: u32) -> bool {
    let conn = next_connection(harness);
    let address = format!("198.51.{}.{}", number >> 8, number & 255);
    !guess_wrong(harness, conn, &address).is_empty()
}

#[test]
fn above_1000_wrong_codes_a_minute_a_join_right_or_wrong_is_looked_up_a_second_later() {
    let mut harness = harness_above_total();
    let code = create(&mut harness, 1);
    assert_eq!(harness.open(2, &format!("/ws/chat/{code}")), no_lines());
    assert_eq!(guess_wrong(&mut harness, 3, "192.0.2.3"), no_lines());
    assert_eq!(harness.advance(Duration::from_millis(999)), no_lines());
    assert_eq!(
        harness.advance(Duration::from_millis(1)),
        [
            format!("2 < {code}"),
            format!("1 < {PEER_JOINED}"),
            "3 x 4404 no such session".to_owned()
        ]
    );
    assert_eq!(harness.send(2, "hi"), ["1 < hi"]);
}

#[test]
fn joins_do_not_wait_any_more_when_the_minute_is_over() {
    let mut harness = harness_above_total();
    harness.advance(MINUTE - Duration::from_millis(1));
    assert!(!is_looked_up_wrong(&mut harness, 0));
    harness.advance(Duration::from_millis(1));
    assert!(is_looked_up_wrong(&mut harness, 1));
}

#[test]
fn at_most_200_joins_wait_and_more_are_rejected() {
    let mut harness = harness_above_total();
    for number in 0..200 {
        assert!(!is_looked_up_wrong(&mut harness, number));
    }
    let rejected = ["5000 x 4429 too many wrong codes, wait a minute"];
    assert_eq!(guess_wrong(&mut harness, 5000, "192.0.2.1"), rejected);
    assert_eq!(harness.advance(SECOND).len(), 200);
    assert!(!is_looked_up_wrong(&mut harness, 0));
}

#[test]
fn at_most_4_joins_of_an_address_wait() {
    for (address, neighbour, other) in [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        (
            "2001:db8:0:100::1",
            "2001:db8:0:1ff::1",
            "2001:db8:0:200::1",
        ),
    ] {
        let mut harness = harness_above_total();
        for conn in 1..=4 {
            assert_eq!(guess_wrong(&mut harness, conn, address), no_lines());
        }
        let rejected = ["5 x 4429 too many wrong codes, wait a minute"];
        assert_eq!(guess_wrong(&mut harness, 5, neighbour), rejected);
        assert_eq!(guess_wrong(&mut harness, 6, other), no_lines());
        // The place of a client that disconnects is free.
        harness.disconnect(1, DisconnectReason::Lost);
        assert_eq!(guess_wrong(&mut harness, 7, neighbour), no_lines());
    }
}

#[test]
fn creating_never_waits() {
    let mut harness = harness_above_total();
    for conn in 1..=300 {
        create(&mut harness, conn);
    }
}

#[test]
fn an_address_whose_waiting_joins_reach_its_limit_is_rejected() {
    let mut harness = harness();
    guess_wrong_times(&mut harness, "192.0.2.1", 8);
    (0..993).for_each(|number| {
        is_looked_up_wrong(&mut harness, number);
    });
    for conn in 1..=3 {
        assert_eq!(guess_wrong(&mut harness, conn, "192.0.2.1"), no_lines());
    }
    assert_eq!(
        harness.advance(SECOND),
        [
            "1 x 4404 no such session",
            "2 x 4404 no such session",
            "3 x 4429 too many wrong codes, wait a minute"
        ]
    );
}

#[test]
fn a_waiting_join_finds_its_session_as_it_is_when_it_is_looked_up() {
    // The creator has left.
    let mut harness = harness_above_total();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    assert_eq!(harness.disconnect(1, DisconnectReason::Lost), no_lines());
    assert_eq!(harness.advance(SECOND), ["2 x 4404 no such session"]);
    // Another client has joined.
    let mut harness = harness_above_total();
    let code = create(&mut harness, 1);
    harness.open_from(2, &format!("/ws/chat/{code}"), "192.0.2.2");
    harness.open_from(3, &format!("/ws/chat/{code}"), "192.0.2.3");
    let lines = harness.advance(SECOND);
    assert_eq!(lines[2..], ["3 x 4409 session is full"]);
    // The client itself has left.
    let mut harness = harness_above_total();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    assert_eq!(harness.disconnect(2, DisconnectReason::Lost), no_lines());
    assert_eq!(harness.advance(SECOND), no_lines());
    assert_eq!(harness.send(1, "is there a peer?"), no_lines());
}

#[test]
fn texts_of_a_client_whose_join_waits_are_dropped() {
    let mut harness = harness_above_total();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    assert_eq!(harness.send(2, "too early"), no_lines());
    assert_eq!(harness.advance(SECOND).len(), 2);
}

#[test]
fn without_a_limit_for_all_clients_no_join_waits() {
    let mut harness = RealmHarness::<PeerDrop>::new(json!({"total_wrong_codes_per_minute": 0}));
    for number in 0..3000 {
        assert!(is_looked_up_wrong(&mut harness, number));
    }
}

#[test]
fn a_long_code_takes_no_memory_while_it_waits() {
    let mut harness = harness_above_total();
    let before = harness.realm.stored_bytes();
    let path = format!("/ws/chat/{}", "X".repeat(10_000));
    assert_eq!(harness.open(1, &path), no_lines());
    let after = harness.realm.stored_bytes();
    assert!(before < after && after < before + 1000, "{before} {after}");
}

#[test]
fn options_out_of_range_are_named() {
    for (key, wrong) in [
        ("code_length", 3),
        ("code_length", 13),
        ("wrong_codes_per_minute", 1001),
        ("total_wrong_codes_per_minute", 10_001),
        ("max_waiting_joins", 0),
        ("max_waiting_joins", 1001),
        ("max_waiting_joins_per_ip", 0),
        ("max_waiting_joins_per_ip", 1001),
    ] {
        let options = json!({key: wrong});
        assert_eq!(RealmHarness::<PeerDrop>::invalid_option(options), key);
    }
}

#[test]
fn only_the_two_paths_of_the_document_are_served() {
    for path in ["/ws/chat", "/ws/chat/ABC123", "/ws/chat/x"] {
        assert!((PROTOCOL.matches_path)(path), "{path}");
    }
    for path in [
        "/",
        "/ws",
        "/ws/chat/",
        "/ws/chat/ABC123/",
        "/ws/chatter",
        "/WS/CHAT",
    ] {
        assert!(!(PROTOCOL.matches_path)(path), "{path}");
    }
}

#[test]
fn the_figures_are_the_sessions_the_joins_that_wait_the_wrong_codes_and_who_guessed_too_often() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    harness.open(2, &format!("/ws/chat/{code}"));
    create(&mut harness, 3);
    guess_wrong_times(&mut harness, "192.0.2.1", 10);
    for conn in [20, 21] {
        guess_wrong(&mut harness, conn, "192.0.2.1");
    }
    let expected = Figures {
        sizes: vec![("sessions", 2), ("waiting_joins", 0), ("wrong_codes", 10)],
        rate_limited: 2,
    };
    assert_eq!(harness.realm.figures(), expected);
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("access.rs"),
        include_str!("../../../../tests/peerdrop.rs"),
        include_str!("../../../../tests/access/peerdrop.rs"),
    ]);
}

#[test]
fn changed_options_hold_and_sessions_stay_with_their_codes() {
    let mut harness = harness();
    let code = create(&mut harness, 1);
    let options = json!({"code_length": 8, "wrong_codes_per_minute": 2});
    assert_eq!(harness.reconfigure(options), no_lines());
    assert_eq!(create(&mut harness, 2).len(), 8);
    harness.open(3, &format!("/ws/chat/{code}"));
    assert_eq!(harness.send(3, "hello"), ["1 < hello"]);
    for conn in [4, 5] {
        let lines = guess_wrong(&mut harness, conn, "192.0.2.1");
        assert_eq!(lines, [format!("{conn} x 4404 no such session")]);
    }
    let lines = guess_wrong(&mut harness, 6, "192.0.2.1");
    assert!(lines[0].starts_with("6 x 4429 "), "{lines:?}");
    // Who is rejected stays so.
    harness.reconfigure(json!({"wrong_codes_per_minute": 0, "total_wrong_codes_per_minute": 1}));
    let lines = guess_wrong(&mut harness, 7, "192.0.2.1");
    assert!(lines[0].starts_with("7 x 4429 "), "{lines:?}");
    assert_eq!(guess_wrong(&mut harness, 8, "192.0.2.2"), no_lines());
}
