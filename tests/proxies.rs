//! PROXY headers: whose connection it is, as a trusted proxy says before the first request.

use crate::common::{Client, Daemon, HANDSHAKE, merge, read_head, receive_http, tcp, tcp_from};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

/// An address of this machine that no listener here trusts.
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

/// Starts a listener that expects PROXY headers of 127.0.0.1.
fn daemon_of(protocol: &str, settings: Value) -> Daemon {
    let mut all = json!({"proxy_protocol": true, "trusted_proxies": ["127.0.0.1", "10.0.0.0/8"]});
    let others = settings.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(others);
    // At debug, a connection has a line when it opens.
    let listener = merge(json!({"protocol": protocol}), &all);
    Daemon::start(json!({"log": "debug", "listeners": [listener]}))
}

fn daemon(settings: Value) -> Daemon {
    daemon_of("workspace", settings)
}

/// Returns a header of version 1.
fn v1(source: &str) -> Vec<u8> {
    let (family, destination) = match source.contains(':') {
        true => ("TCP6", "2001:db8::2"),
        false => ("TCP4", "192.0.2.2"),
    };
    format!("PROXY {family} {source} {destination} 56324 443\r\n").into_bytes()
}

/// Returns a header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [signature, &[command, family][..], &length, body].concat()
}

/// Addresses and ports of version 2, from 192.0.2.1.
const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

/// Opens a connection and sends bytes.
fn send(address: SocketAddr, parts: &[&[u8]]) -> TcpStream {
    let mut stream = tcp(address);
    stream.write_all(&parts.concat()).unwrap();
    stream
}

/// Sends a PROXY header and a handshake with these headers. Returns the log line about the open connection.
fn opened(daemon: &Daemon, header: &[u8], headers: &str) -> String {
    let handshake = HANDSHAKE.replacen("\r\n\r\n", &format!("\r\n{headers}\r\n"), 1);
    let mut stream = send(daemon.address(), &[header, handshake.as_bytes()]);
    let response = read_head(&mut stream);
    assert!(response.starts_with("HTTP/1.1 101"), "{response}");
    daemon.wait_for_log(": opened from ")
}

/// Asserts that the server closes a connection without a response.
fn assert_closed(mut stream: TcpStream) {
    let mut response = Vec::new();
    if let Err(error) = stream.read_to_end(&mut response) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(response, b"");
}

/// Sends bytes, of which the server need not read all, and asserts that it closes the connection.
fn assert_refused(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
    assert_closed(stream);
}

/// Returns the lines that the daemon logs until it has stopped.
fn rest_of_log(daemon: &Daemon) -> Vec<String> {
    daemon.signal(Signal::TERM);
    std::iter::from_fn(|| daemon.next_log_line()).collect()
}

#[test]
fn a_trusted_proxy_names_the_client_in_either_version() {
    let daemon = daemon(json!({}));
    let tlvs = [&IPV4[..], &[4, 0x0f, 0], &[0; 0xf00]].concat();
    let mut ipv6 = vec![0x20, 1, 0xd, 0xb8];
    ipv6.resize(36, 1);
    for (header, client) in [
        (v1("192.0.2.7"), "192.0.2.7"),
        (v1("2001:db8::7"), "2001:db8::7"),
        (v1("::ffff:192.0.2.8"), "192.0.2.8"),
        (v2(0x21, 0x11, &IPV4), "192.0.2.1"),
        (v2(0x21, 0x11, &tlvs), "192.0.2.1"),
        (v2(0x21, 0x21, &ipv6), "2001:db8:101:101:101:101:101:101"),
    ] {
        let line = opened(&daemon, &header, "");
        assert!(line.ends_with(&format!("opened from {client}")), "{line}");
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let daemon = daemon(json!({}));
    for header in [
        v1("192.0.2.7"),
        v2(0x21, 0x11, &[&IPV4[..], &[4, 0, 1, 0]].concat()),
    ] {
        let mut stream = tcp(daemon.address());
        for byte in [&header, HANDSHAKE.as_bytes()].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 101"));
        daemon.wait_for_log("opened from 192.0.2.");
    }
}

#[test]
fn a_header_without_an_address_leaves_that_of_the_proxy_and_no_other_is_believed() {
    let daemon = daemon(json!({}));
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 6.6.6.6 6.6.6.6 1 1\r\n".to_vec(),
        v2(0x20, 0, &[]),
        v2(0x20, 0x11, &IPV4),
        v2(0x21, 0, &[]),
    ] {
        let line = opened(&daemon, &header, "X-Forwarded-For: 6.6.6.6\r\n");
        assert!(line.ends_with("opened from 127.0.0.1"), "{line}");
    }
    // A health check with a request, and one without a byte.
    let check = [&v2(0x20, 0, &[])[..], b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
    assert!(receive_http(send(daemon.address(), &[&check])).starts_with("HTTP/1.1 200"));
    drop(tcp(daemon.address()));
    let log = rest_of_log(&daemon);
    let is_noticed = |line: &String| line.contains("refused") || line.contains("not trusted");
    assert!(!log.iter().any(is_noticed), "{log:#?}");
}

#[test]
fn a_stranger_is_served_without_a_header_and_refused_with_one() {
    let daemon = daemon(json!({}));
    let mut bystander = Client::connect_from(STRANGER, daemon.address(), "/ws?username=Ann");
    bystander.receive_json();
    let line = daemon.wait_for_log(": opened from ");
    assert!(line.ends_with("opened from 127.0.0.2"), "{line}");
    let megabyte = [&b"PROXY TCP4 "[..], &[b'1'; 1 << 20]].concat();
    let binary = [v2(0x21, 0x11, &[0; 0xffff]), vec![0; 1 << 20]].concat();
    let cut = &v2(0x21, 0x11, &IPV4)[..13];
    for bytes in [
        &v1("6.6.6.6")[..],
        &v2(0x21, 0x11, &IPV4),
        &megabyte,
        &binary,
        cut,
    ] {
        assert_refused(tcp_from(STRANGER, daemon.address()), bytes);
    }
    let line = daemon.wait_for_log("127.0.0.2 is refused for an unexpected PROXY header");
    assert!(
        line.contains("add \"127.0.0.2\" to \"trusted_proxies\""),
        "{line}"
    );
    bystander.send(r#"{"type":"message:send","text":"still here"}"#);
    assert!(bystander.receive_text().contains("still here"));
    drop(bystander);
    let log = rest_of_log(&daemon);
    assert!(
        log.iter().any(|line| line.contains("4 more were refused")),
        "{log:#?}"
    );
}

#[test]
fn a_listener_that_expects_no_header_says_what_to_set() {
    let daemon = Daemon::start_protocol("workspace", json!({}));
    // The signature has an empty line, which may come alone.
    for bytes in [v1("192.0.2.7"), v2(0x21, 0x11, &IPV4)] {
        for size in [1, bytes.len()] {
            let mut stream = tcp(daemon.address());
            for piece in bytes.chunks(size) {
                let _ = stream.write_all(piece);
            }
            assert_closed(stream);
        }
    }
    let line = daemon.wait_for_log("is refused for an unexpected PROXY header");
    for part in [
        "\"proxy_protocol\": true",
        "\"trusted_proxies\": [\"127.0.0.1\"]",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let log = rest_of_log(&daemon);
    assert!(
        log.iter().any(|line| line.contains("3 more were refused")),
        "{log:#?}"
    );
}

#[test]
fn a_trusted_proxy_that_sends_no_valid_header_is_refused_with_the_reason() {
    let request = HANDSHAKE.as_bytes();
    let megabyte = [&b"PROXY TCP4 "[..], &[b'1'; 1 << 20]].concat();
    let long = v2(0x21, 0x11, &[0; 5000]);
    for (bytes, reason) in [
        (request, "send-proxy-v2"),
        (b"\x16\x03\x01", "send-proxy-v2"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.2 56324\r\n", "two ports"),
        (&megabyte, "longer than 107 bytes"),
        (&long, "more than 4096 bytes"),
    ] {
        let daemon = daemon(json!({}));
        let mut bystander = Client::connect_from(STRANGER, daemon.address(), "/ws?username=Ann");
        bystander.receive_json();
        assert_refused(tcp(daemon.address()), bytes);
        let line = daemon.wait_for_log("127.0.0.1 is refused for its PROXY header");
        assert!(line.contains(reason), "{line}");
        bystander.send(r#"{"type":"message:send","text":"still here"}"#);
        assert!(bystander.receive_text().contains("still here"));
    }
}

#[test]
fn a_header_that_is_cut_or_late_is_logged() {
    let header = v1("192.0.2.7");
    let tlvs = v2(0x21, 0x11, &[&IPV4[..], &[4, 1, 0], &[0; 256]].concat());
    for header in [&header[..], &tlvs] {
        for length in [1, 16, header.len() - 1] {
            let daemon = daemon(json!({}));
            let stream = send(daemon.address(), &[&header[..length]]);
            stream.shutdown(Shutdown::Write).unwrap();
            assert_closed(stream);
            daemon.wait_for_log("is refused for its PROXY header: the connection ended within it");
        }
    }
    for (bytes, part) in [
        (&b""[..], "no whole PROXY header came"),
        (&header[..9], "no whole PROXY header came"),
        (&tlvs[..40], "no whole PROXY header came"),
        (&header, "no whole request came"),
    ] {
        let daemon = daemon(json!({"handshake_timeout": 0.1}));
        assert_closed(send(daemon.address(), &[bytes]));
        let line = daemon.wait_for_log("is refused for its silence");
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn limits_per_address_count_the_client_of_the_header() {
    let daemon = daemon(json!({"max_connections_per_ip": 1}));
    let connect = |source| {
        let mut stream = send(daemon.address(), &[&v1(source), HANDSHAKE.as_bytes()]);
        (read_head(&mut stream), stream)
    };
    let (first, _first) = connect("192.0.2.1");
    assert!(first.starts_with("HTTP/1.1 101"), "{first}");
    let (second, _) = connect("192.0.2.1");
    assert!(second.starts_with("HTTP/1.1 429"), "{second}");
    let (other, _other) = connect("192.0.2.2");
    assert!(other.starts_with("HTTP/1.1 101"), "{other}");
    // As of clients without a proxy, the response does not wait for a request.
    let mut silent = send(daemon.address(), &[&v1("192.0.2.2")]);
    assert!(read_head(&mut silent).starts_with("HTTP/1.1 429"));
}

#[test]
fn a_forwarded_header_is_believed_if_the_address_of_the_proxy_header_is_trusted() {
    let daemon = daemon(json!({}));
    let forwarded = "X-Forwarded-For: 192.0.2.9\r\n";
    let line = opened(&daemon, &v1("10.0.0.7"), forwarded);
    assert!(line.ends_with("opened from 192.0.2.9"), "{line}");
    // A proxy that says the same in both ways is no reason for a line in the log.
    let line = opened(&daemon, &v1("192.0.2.9"), forwarded);
    assert!(line.ends_with("opened from 192.0.2.9"), "{line}");
    let log = rest_of_log(&daemon);
    let lines: Vec<_> = log
        .iter()
        .filter(|line| line.contains("X-Forwarded-For"))
        .collect();
    assert_eq!(lines.len(), 0, "{log:#?}");
}

#[test]
fn a_proxy_behind_a_balancer_that_is_not_trusted_is_noticed() {
    let daemon = daemon(json!({}));
    let request = b"GET /ws HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n";
    receive_http(send(daemon.address(), &[&v1("192.0.2.8"), request]));
    let line = daemon.wait_for_log("192.0.2.8 is not trusted as a proxy");
    assert!(
        line.contains("add \"192.0.2.8\" to \"trusted_proxies\""),
        "{line}"
    );
}

#[test]
fn a_header_holds_for_all_requests_of_its_connection_and_a_second_one_is_refused() {
    let daemon = daemon_of("peerjs", json!({"max_connections_per_ip": 1}));
    let request = b"GET /peerjs/id HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut stream = send(daemon.address(), &[&v1("192.0.2.1"), request, request]);
    let mut id = [0; 36];
    for _ in 0..3 {
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200"));
        stream.read_exact(&mut id).unwrap();
        stream.write_all(request).unwrap();
    }
    let other = receive_http(send(daemon.address(), &[&v1("192.0.2.1"), request]));
    assert!(other.starts_with("HTTP/1.1 429"), "{other}");
    let second = [v1("192.0.2.3"), v1("192.0.2.4")].concat();
    assert_refused(tcp(daemon.address()), &second);
    let line = daemon.wait_for_log("192.0.2.3 is refused for an unexpected PROXY header");
    assert!(line.contains("accept-proxy"), "{line}");
}
