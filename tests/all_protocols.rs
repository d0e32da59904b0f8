//! All protocols in one daemon at once.

use crate::common::{Daemon, Pair, request_target};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use switchboard::protocols::PROTOCOLS;

#[test]
fn each_protocol_works_and_receives_no_message_of_another() {
    let listeners: Vec<Value> = PROTOCOLS
        .iter()
        .map(|protocol| json!({"protocol": protocol.name}))
        .collect();
    let daemon = Daemon::start(json!({"listeners": listeners}));
    let pair = |index: usize| {
        let localhost = Ipv4Addr::LOCALHOST.into();
        Pair::connect(PROTOCOLS[index].name, daemon.addresses[index], localhost)
    };
    let mut pairs: Vec<Pair> = (0..PROTOCOLS.len()).map(pair).collect();
    // All senders send before any client reads, so that a message to the wrong pair would be received.
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.send(&format!("from {index}"));
    }
    for (index, pair) in pairs.iter_mut().enumerate() {
        pair.expect_received(&format!("from {index}"));
    }
    // No client has received a text of another pair.
    for pair in &mut pairs {
        for client in [&mut pair.sender, &mut pair.recipient] {
            let texts = client.drain_texts();
            assert!(
                !texts.iter().any(|text| text.contains("from ")),
                "{texts:?}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "src/protocols/sixth/tests/pair.transcript")]
fn where_a_protocol_has_no_pair_the_failure_names_the_file_to_write() {
    request_target("sixth");
}
