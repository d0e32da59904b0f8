//! All protocols at once in one daemon: each works, and none sees another's traffic.

use crate::common::{Daemon, Pair};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use switchboard::protocols::PROTOCOLS;

#[test]
fn each_protocol_works_and_none_sees_anothers_traffic() {
    let listener = |name: &str| json!({"protocol": name});
    let listeners: Vec<Value> = PROTOCOLS.iter().map(|it| listener(it.name)).collect();
    let daemon = Daemon::start(json!({"listeners": listeners}));
    let pair = |at: usize| {
        let localhost = Ipv4Addr::LOCALHOST.into();
        Pair::of(PROTOCOLS[at].name, daemon.addresses[at], localhost)
    };
    let mut pairs: Vec<Pair> = (0..PROTOCOLS.len()).map(pair).collect();
    // All speak before anybody listens, so that each could get what is not for it.
    for (at, pair) in pairs.iter_mut().enumerate() {
        pair.says(&format!("from {at}"));
    }
    for (at, pair) in pairs.iter_mut().enumerate() {
        pair.hears(&format!("from {at}"));
    }
    // And that was all that anybody said.
    for pair in &mut pairs {
        for client in [&mut pair.one, &mut pair.other] {
            let texts = client.texts();
            assert!(!texts.iter().any(|it| it.contains("from ")), "{texts:?}");
        }
    }
}
