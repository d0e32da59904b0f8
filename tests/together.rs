//! All protocols at once in one daemon: each works, and none sees another's traffic.

use crate::common::{Daemon, Pair};
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use switchboard::protocols::PROTOCOLS;

#[test]
fn each_protocol_works_and_none_sees_anothers_traffic() {
    // Nobody is in a hurry: each waits for all the others.
    let patient = |name: &str| match name {
        "fastchat" => json!({"protocol": name, "ping_after": 0, "hello_timeout": 0}),
        "loudsync" => json!({
            "protocol": name, "ping_after": 0, "join_timeout": 0, "heartbeat_timeout": 3600,
        }),
        _ => json!({"protocol": name, "ping_after": 0}),
    };
    let listeners: Vec<Value> = PROTOCOLS.iter().map(|it| patient(it.name)).collect();
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
