//! Listeners with TLS.

use crate::common::tls::{Certificate, connect, tunnel};
use crate::common::{Client, Daemon, Pair, http, receive_http, tcp};
use serde_json::json;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use switchboard::protocols::PROTOCOLS;

/// The address that clients connect from.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Starts a daemon with a listener of each protocol, all with this certificate.
fn start_all(certificate: &Certificate) -> Daemon {
    let listeners: Vec<_> = PROTOCOLS
        .iter()
        .map(|protocol| json!({"protocol": protocol.name, "tls": certificate.setting()}))
        .collect();
    Daemon::start(json!({"listeners": listeners}))
}

#[test]
fn pairs_of_all_protocols_talk_over_tls() {
    let certificate = Certificate::new();
    let daemon = start_all(&certificate);
    for (protocol, address) in PROTOCOLS.iter().zip(&daemon.addresses) {
        let address = tunnel(*address, certificate.client_config());
        let mut pair = Pair::connect(protocol.name, address, FROM);
        pair.send("over TLS");
        pair.expect_received("over TLS");
        pair.answer("and back");
        pair.close();
    }
}
