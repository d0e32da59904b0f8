//! What TLS costs beside plain connections, in one run: memory of idle connections, CPU for relayed messages, and for
//! handshakes.
//!
//!     cargo bench --features tls --bench tls -- [SECONDS]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[path = "../tests/common/certificate.rs"]
mod certificate;
#[allow(dead_code, reason = "shared with other benchmarks")]
mod common;

use certificate::Certificate;
use common::daemon::{Daemon, memory};
use common::websocket::{request, text_frame};
use futures_rustls::rustls::client::Resumption;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that idle.
const IDLE: usize = 2000;

/// Bytes under way of one pair, about, and the most messages.
const WINDOW: usize = 64 << 10;
const MOST_MESSAGES: usize = 4;

/// A stream of a client.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// How clients connect: with TLS or without.
#[derive(Clone)]
struct Connector(Option<Arc<ClientConfig>>);

impl Connector {
    fn connect(&self, address: SocketAddr) -> Box<dyn Stream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let Some(config) = &self.0 else {
            return Box::new(stream);
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::clone(config), name).unwrap();
        Box::new(StreamOwned::new(session, stream))
    }

    /// Opens a WebSocket.
    fn open(&self, address: SocketAddr, path: &str) -> Box<dyn Stream> {
        let mut stream = self.connect(address);
        stream.write_all(request(path).as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream
    }

    /// Opens a pair of PeerDrop clients that have met.
    fn pair(&self, address: SocketAddr) -> [Box<dyn Stream>; 2] {
        let mut creator = self.open(address, "/ws/chat");
        let code = receive(&mut creator);
        let code = String::from_utf8(code).unwrap();
        let mut joined = self.open(address, &format!("/ws/chat/{code}"));
        receive(&mut joined);
        receive(&mut creator);
        [creator, joined]
    }
}

/// Returns the payload of the next frame.
fn receive(stream: &mut dyn Stream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length).unwrap();
            usize::try_from(u64::from_be_bytes(length)).unwrap()
        }
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    payload
}

fn start(tls: &Value) -> Daemon {
    let listener =
        json!({"protocol": "peerdrop", "tls": tls, "max_connections": 0, "ping_after": 0});
    Daemon::start_as_configured(
        json!({"threads": 1, "log_connections": false, "listeners": [listener]}),
    )
}

/// Returns the bytes of memory that an idle connection takes.
fn idle(daemon: &Daemon, connector: &Connector) -> u64 {
    drop(connector.pair(daemon.address()));
    let resident = || memory(daemon.pid(), "RssAnon:").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let before = resident();
    let pairs: Vec<_> = (0..IDLE / 2)
        .map(|_| connector.pair(daemon.address()))
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let bytes = (resident() - before) / IDLE as u64;
    drop(pairs);
    bytes
}

/// Returns the CPU time of a message of this many bytes from one client to another.
fn relay(daemon: &Daemon, connector: &Connector, bytes: usize, time: Duration) -> Duration {
    let [mut sender, mut recipient] = connector.pair(daemon.address());
    let frame = text_frame("x".repeat(bytes).as_bytes());
    let window = (WINDOW / bytes).clamp(1, MOST_MESSAGES);
    let (start, before, mut count) = (Instant::now(), daemon.cpu(), 0);
    while start.elapsed() < time {
        for _ in 0..window {
            sender.write_all(&frame).unwrap();
        }
        for _ in 0..window {
            assert_eq!(receive(&mut recipient).len(), bytes);
        }
        count += window;
    }
    (daemon.cpu() - before) / u32::try_from(count).unwrap()
}

/// Returns the CPU time of a connection, from accept to its end, with one request.
fn handshake(
    daemon: &Daemon,
    connector: &Connector,
    kind: HandshakeKind,
    time: Duration,
) -> Duration {
    let (start, before, mut count) = (Instant::now(), daemon.cpu(), 0);
    while start.elapsed() < time {
        let mut stream = connector.connect(daemon.address());
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200 OK"), "{kind:?}");
        count += 1;
    }
    (daemon.cpu() - before) / count
}

fn main() {
    common::raise_open_files();
    let seconds = std::env::args()
        .filter_map(|it| it.parse().ok())
        .next_back();
    let time = Duration::from_secs(seconds.unwrap_or(5));
    let certificate = Certificate::new();
    let resuming = certificate.client_config();
    let mut full = ClientConfig::clone(&resuming);
    full.resumption = Resumption::disabled();
    let full = Arc::new(full);
    let daemons = [start(&Value::Null), start(&certificate.setting())];
    let connectors = [Connector(None), Connector(Some(Arc::clone(&full)))];
    let micros = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
    println!("| | plain | TLS |\n| --- | ---: | ---: |");
    let both = || daemons.iter().zip(&connectors);
    let bytes: Vec<String> = both()
        .map(|(daemon, it)| idle(daemon, it).to_string())
        .collect();
    println!("| bytes of an idle connection | {} |", bytes.join(" | "));
    for bytes in [64, 1024, 16 << 10, 1 << 20] {
        let times = both().map(|(daemon, it)| micros(relay(daemon, it, bytes, time)));
        let times: Vec<String> = times.collect();
        println!(
            "| us of CPU for a message of {bytes} bytes | {} |",
            times.join(" | ")
        );
    }
    let plain = handshake(&daemons[0], &connectors[0], HandshakeKind::Full, time);
    for (name, config, kind) in [
        ("a full handshake", full, HandshakeKind::Full),
        ("a resumed handshake", resuming, HandshakeKind::Resumed),
    ] {
        let encrypted = handshake(&daemons[1], &Connector(Some(config)), kind, time);
        println!(
            "| us of CPU for a request with {name} | {} | {} |",
            micros(plain),
            micros(encrypted)
        );
    }
}
