//! The TLS handshake: versions, resumption, what comes before it, and clients that speak something else.

use super::start;
use crate::common::tls::{Certificate, connect};
use crate::common::{Client, Daemon, http, socket_path, tcp, unix};
use async_std::task;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use futures_rustls::TlsConnector;
use futures_rustls::rustls::crypto::ring;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::version::{TLS12, TLS13};
use futures_rustls::rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde_json::json;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

/// Sends a request over TLS on a connection that exists, and returns the response.
fn request_over(stream: TcpStream, config: Arc<ClientConfig>, request: &str) -> String {
    task::block_on(async {
        let stream = async_std::net::TcpStream::from(stream);
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap();
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        // An end without close_notify would be an error.
        tls.read_to_string(&mut response).await.unwrap();
        response
    })
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn tls_1_2_and_1_3_are_spoken_with_alpn_and_sessions_are_resumed() {
    let certificate = Certificate::new();
    let (daemon, _) = start("peerdrop", &certificate, json!({}));
    for version in [&TLS12, &TLS13] {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der.clone().into()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let config = Arc::new(config);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut tls = connect(daemon.address(), Arc::clone(&config)).unwrap();
            task::block_on(async {
                tls.write_all(REQUEST.as_bytes()).await.unwrap();
                let mut response = String::new();
                tls.read_to_string(&mut response).await.unwrap();
                assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
            });
            let (_, session) = tls.get_ref();
            assert_eq!(session.protocol_version(), Some(version.version));
            assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert_eq!(session.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

#[test]
fn plain_http_gets_400_that_says_what_to_do_and_the_log_says_it_once() {
    let certificate = Certificate::new();
    let (mut daemon, address) = start("peerdrop", &certificate, json!({}));
    for _ in 0..2 {
        let response = http(daemon.address(), REQUEST);
        assert!(
            response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{response}"
        );
        assert!(response.contains("https:// or wss://"), "{response}");
    }
    Client::connect(address, "/ws/chat").close();
    let log = daemon.stop_and_read_log();
    let lines: Vec<&String> = log.iter().filter(|it| it.contains("plain HTTP")).collect();
    assert!(
        lines[0].contains("WARN") && lines[0].contains("wss://"),
        "{log:?}"
    );
    assert!(lines.len() == 2 && lines[1].contains('1'), "{log:?}");
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let certificate = Certificate::new();
    let settings = json!({"proxy_protocol": true, "trusted_proxies": ["127.0.0.1"], "max_connections_per_ip": 1});
    let (daemon, _) = start("peerdrop", &certificate, settings);
    for source in ["192.0.2.7", "192.0.2.8"] {
        let mut stream = tcp(daemon.address());
        write!(stream, "PROXY TCP4 {source} 192.0.2.1 1 2\r\n").unwrap();
        let request = "GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n";
        let response = request_over(stream, certificate.client_config(), request);
        assert!(response.starts_with("HTTP/1.1 404"), "{response}");
        if source == "192.0.2.7" {
            daemon.wait_for_log("192.0.2.7");
        }
    }
}

#[test]
fn a_unix_socket_speaks_tls_too() {
    let certificate = Certificate::new();
    let path = socket_path();
    let address = format!("unix:{}", path.display());
    let listener =
        json!({"protocol": "peerdrop", "address": address, "tls": certificate.setting()});
    let daemon = Daemon::start_listener(listener);
    let response = request_over(unix(&path), certificate.client_config(), REQUEST);
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    drop(daemon);
}

#[test]
fn a_handshake_that_fails_is_logged_once_and_one_that_stalls_ends_with_handshake_timeout() {
    let certificate = Certificate::new();
    let (mut daemon, address) = start("peerdrop", &certificate, json!({"handshake_timeout": 1}));
    for _ in 0..3 {
        let mut stream = tcp(daemon.address());
        stream
            .write_all(b"\x16\x03\x01\x00\x05no tls at all")
            .unwrap();
        crate::common::receive_http(stream);
    }
    let mut stalled = tcp(daemon.address());
    stalled.write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(crate::common::receive_http(stalled), "");
    // Those of health checks are no refusals.
    drop(tcp(daemon.address()));
    Client::connect(address, "/ws/chat").close();
    let log = daemon.stop_and_read_log();
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    for line in [
        "127.0.0.1 is refused for its TLS handshake: ",
        "2 more were refused for their TLS handshakes",
    ] {
        assert_eq!(count(line), 1, "{log:?}");
    }
    assert_eq!(
        count("no whole TLS handshake came within handshake_timeout"),
        1,
        "{log:?}"
    );
}
