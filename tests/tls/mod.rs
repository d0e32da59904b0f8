//! Listeners with TLS. The rest of the tests run over TLS, too, with `SWITCHBOARD_TESTS_OVER_TLS=1` (tests/README.md).

mod certificates;
mod handshake;
mod hostile;
mod stream;

use crate::common::tls::{Certificate, tunnel};
use crate::common::{Daemon, Pair, http};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use switchboard::protocols::PROTOCOLS;

/// The address that clients connect from.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Starts a daemon with one listener with this certificate. Returns also the address of a tunnel to it.
fn start(protocol: &str, certificate: &Certificate, mut settings: Value) -> (Daemon, SocketAddr) {
    settings["tls"] = certificate.setting();
    let daemon = Daemon::start_protocol(protocol, settings);
    let address = tunnel(daemon.address(), certificate.client_config());
    (daemon, address)
}

#[test]
fn pairs_of_all_protocols_talk_over_tls() {
    let certificate = Certificate::new();
    let listener = |name| json!({"protocol": name, "tls": certificate.setting()});
    let listeners: Vec<_> = PROTOCOLS.iter().map(|it| listener(it.name)).collect();
    let daemon = Daemon::start(json!({"listeners": listeners}));
    for (protocol, address) in PROTOCOLS.iter().zip(&daemon.addresses) {
        let address = tunnel(*address, certificate.client_config());
        let mut pair = Pair::connect(protocol.name, address, FROM);
        pair.send("over TLS");
        pair.expect_received("over TLS");
        pair.answer("and back");
        pair.close();
    }
}

#[test]
fn requests_of_an_http_api_are_answered_over_https_one_after_the_other() {
    let certificate = Certificate::new();
    let (_daemon, address) = start("peerjs", &certificate, json!({}));
    let request = |end: &str| format!("GET /peerjs/id HTTP/1.1\r\nHost: h\r\n{end}\r\n");
    let responses = http(
        address,
        &[request(""), request("Connection: close\r\n")].concat(),
    );
    assert_eq!(
        responses.matches("HTTP/1.1 200 OK").count(),
        2,
        "{responses}"
    );
}

#[test]
fn texts_for_people_say_wss() {
    let certificate = Certificate::new();
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    let log = daemon.start_of_log.join("\n");
    let url = format!("listens on wss://{}/ws/chat", daemon.address());
    assert!(log.contains(&url), "{log}");
    for path in ["/", "/ws/chat"] {
        let response = http(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: h:1\r\n\r\n"),
        );
        assert!(
            response.contains("wscat -c 'wss://h:1/ws/chat'"),
            "{response}"
        );
    }
}
