//! Clients that misuse TLS harm no others.

use super::stream::RecordClient;
use super::{FROM, start};
use crate::common::tls::Certificate;
use crate::common::tls::tunnel;
use crate::common::{Daemon, Pair, receive_http, tcp};
use serde_json::json;
use std::io::Write;

/// Asserts that a pair talks.
fn assert_talks(pair: &mut Pair) {
    pair.send("well?");
    pair.expect_received("well?");
}

#[test]
fn half_open_handshakes_keep_nobody_from_talking_or_from_connecting() {
    let certificate = Certificate::new();
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    let half_open: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = tcp(daemon.address());
            let record = [
                &b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb"[..],
                &vec![0; n * 100],
            ]
            .concat();
            stream.write_all(&record).unwrap();
            stream
        })
        .collect();
    assert_talks(&mut pair);
    assert_talks(&mut Pair::connect("peerdrop", address, FROM));
    drop(half_open);
    assert_talks(&mut pair);
}

#[test]
fn a_handshake_above_36_kib_is_refused() {
    let certificate = Certificate::new();
    let (daemon, _) = start("peerdrop", &certificate, json!({}));
    let mut stream = tcp(daemon.address());
    // A ClientHello of 60,000 bytes, in records.
    let mut sent = b"\x01\x00\xea\x60".to_vec();
    sent.resize(48 << 10, 0);
    for part in sent.chunks(8 << 10) {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        // It may be refused by then.
        let _ = stream.write_all(&[&b"\x16\x03\x01"[..], &length, part].concat());
    }
    receive_http(stream);
    let line = daemon.wait_for_log("refused for its TLS handshake");
    assert!(line.contains("more than 36 KiB"), "{line}");
}

#[test]
fn garbage_instead_of_records_ends_its_connection_and_no_other() {
    let certificate = Certificate::new();
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    for garbage in [
        &b"\x17\x03\x03\x00\x20garbage garbage garbage garbage."[..],
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x17\x03\x03\xff\xff",
        &[0x14; 20_000],
        &[0xff; 100_000],
    ] {
        let client = RecordClient::connect(daemon.address(), &certificate, "/ws/chat");
        let mut socket = client.0.sock;
        // The daemon may have closed it in the middle.
        let _ = socket.write_all(garbage);
        receive_http(socket);
        assert_talks(&mut pair);
    }
}

#[test]
fn records_that_are_never_finished_before_a_request_are_limited_by_the_memory_budget() {
    let certificate = Certificate::new();
    let listener = json!({
        "protocol": "peerdrop",
        "tls": certificate.setting(),
        "handshake_timeout": 600,
    });
    let daemon = Daemon::start(json!({"memory_budget": 1 << 20, "listeners": [listener]}));
    let mut clients: Vec<_> = (0..30)
        .map(|_| {
            let mut client = RecordClient::begin(daemon.address(), &certificate);
            let record = client.encrypt(&[b'x'; 16 << 10]);
            // It may be refused by then.
            let _ = client.0.sock.write_all(&record[..16_000]);
            client
        })
        .collect();
    // An eighth of the budget is for requests: ten of these.
    receive_http(clients.pop().unwrap().0.sock);
    drop(clients);
    let address = tunnel(daemon.address(), certificate.client_config());
    assert_talks(&mut Pair::connect("peerdrop", address, FROM));
}
