//! Each demand of Echo's page, with the test that holds it.
//!
//! | demand | test |
//! | --- | --- |
//! | each text is sent back, to nobody else | `a_text_is_sent_back_to_its_sender_alone` |
//! | a binary message is ignored | `a_binary_message_is_ignored` |
//! | after `max_echoes` the connection is closed | `a_connection_has_so_many_echoes_and_is_closed_at_the_next_text` |
//! | options can change while it runs | `a_changed_option_holds_for_connections_that_there_are` |
//! | what an operator is shown | `the_figures_are_the_clients_and_those_who_had_enough` |

use crate::protocols::echo::*;
use crate::testing::harness::{RealmHarness, no_lines};
use crate::testing::spec_table::assert_tested;
use serde_json::json;

#[test]
fn every_rule_has_a_test() {
    assert_tested(&[include_str!("document.rs")]);
}

#[test]
fn a_text_is_sent_back_to_its_sender_alone() {
    let mut harness: RealmHarness<Echo> = RealmHarness::new(json!({}));
    harness.open(1, "/echo");
    harness.open(2, "/echo");
    assert_eq!(harness.send(2, "hello"), ["2 < hello"]);
}

#[test]
fn a_binary_message_is_ignored() {
    let mut harness: RealmHarness<Echo> = RealmHarness::new(json!({}));
    harness.open(1, "/echo");
    let binary = Message::Binary(vec![1].into());
    assert_eq!(harness.send_message(1, binary), no_lines());
}

#[test]
fn a_connection_has_so_many_echoes_and_is_closed_at_the_next_text() {
    let mut harness: RealmHarness<Echo> = RealmHarness::new(json!({"max_echoes": 1}));
    for conn in [1, 2] {
        harness.open(conn, "/echo");
        assert_eq!(harness.send(conn, "one"), [format!("{conn} < one")]);
    }
    assert_eq!(harness.send(1, "two"), ["1 x 4429 enough echoes"]);
}

#[test]
fn options_out_of_range_are_named() {
    let options = json!({"max_echoes": 0});
    assert_eq!(RealmHarness::<Echo>::invalid_option(options), "max_echoes");
}

#[test]
fn a_changed_option_holds_for_connections_that_there_are() {
    let mut harness: RealmHarness<Echo> = RealmHarness::new(json!({"max_echoes": 1}));
    harness.open(1, "/echo");
    harness.send(1, "one");
    assert_eq!(harness.reconfigure(json!({"max_echoes": 2})), no_lines());
    assert_eq!(harness.send(1, "two"), ["1 < two"]);
    assert_eq!(harness.send(1, "three"), ["1 x 4429 enough echoes"]);
}

#[test]
fn the_figures_are_the_clients_and_those_who_had_enough() {
    let mut harness: RealmHarness<Echo> = RealmHarness::new(json!({"max_echoes": 1}));
    for conn in [1, 2, 3] {
        harness.open(conn, "/echo");
    }
    for _ in 0..2 {
        harness.send(1, "hello");
    }
    let expected = Figures {
        sizes: vec![("clients", 2)],
        rate_limited: 1,
    };
    assert_eq!(harness.realm.figures(), expected);
}
