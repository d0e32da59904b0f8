//! Hostile clients: all protocols run in one daemon, somebody breaks the rules over raw sockets, and
//! everybody else is served as before.
//!
//! Each case prints a row of a table: the case, what became of it, the milliseconds that it then took
//! to serve a healthy pair of each protocol, and resident memory before and after.
//! `cargo test --test daemon hostile -- --nocapture | grep '^| '` shows it. The milliseconds are not
//! asserted, since a loaded machine may be as slow as it likes; memory is, however long it takes.

mod floods;
mod frames;
mod half_open;
mod heads;
mod identity;
mod json;
mod names;

use crate::common::{Client, DEADLINE, Daemon, Pair, handshake, read_head, tcp, wait_until, with};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;
use uuid::Uuid;

/// Where the healthy come from: not from the address of those who misbehave.
const HEALTHY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What resident memory may be more by than before. The C library keeps what was freed last in each
/// of its arenas, of which there is one for each thread that allocates, and the program's pages are
/// loaded when they are first run.
const MEMORY_SLACK: u64 = 4 << 20;

/// The same where messages of about a megabyte came. The library gives back what is free at the end of
/// an arena once that is twice the largest block that it ever got from the system for itself.
const LARGE_MESSAGE_SLACK: u64 = 12 << 20;

/// A daemon in which all protocols run, as a user starts it but for its time-outs.
struct Server {
    daemon: Daemon,
    /// How many sockets it had open before the first client came.
    own_sockets: usize,
    /// Resident memory before anything happened.
    baseline: u64,
}

impl Server {
    fn start() -> Self {
        Self::with_settings(json!({}))
    }

    /// With these settings of every listener.
    fn with_settings(common: Value) -> Self {
        Self::with_overrides(&common, &[])
    }

    /// With these settings of every listener, and others of some.
    fn with_overrides(common: &Value, overrides: &[(&str, Value)]) -> Self {
        Self::from_daemon(Daemon::start(
            json!({"listeners": listeners(common, overrides)}),
        ))
    }

    fn from_daemon(daemon: Daemon) -> Self {
        let mut server = Self {
            own_sockets: daemon.sockets(),
            daemon,
            baseline: 0,
        };
        // Each thread of the daemon allocates for the first time, and each page of the program that
        // serves anybody is loaded.
        for _ in 0..10 {
            server.assert_serves();
        }
        server.baseline = server.daemon.resident();
        server
    }

    /// Where this protocol is spoken.
    fn address(&self, protocol: &str) -> SocketAddr {
        let at = PROTOCOLS.iter().position(|it| it.name == protocol).unwrap();
        self.daemon.addresses[at]
    }

    /// All protocols, and where they are spoken.
    fn endpoints(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let names = PROTOCOLS.iter().map(|it| it.name);
        names.zip(self.daemon.addresses.clone())
    }

    /// Comes in and has read nothing yet.
    fn connect(&self, protocol: &str) -> Client {
        self.connect_to(protocol, &target(protocol))
    }

    /// The same where it asks for something else.
    fn connect_to(&self, protocol: &str, target: &str) -> Client {
        Client::connect(self.address(protocol), target)
    }

    /// Comes in without a WebSocket library, and has read nothing but the answer to its handshake.
    fn connect_raw(&self, protocol: &str) -> TcpStream {
        self.connect_raw_to(protocol, &target(protocol))
    }

    /// The same where it asks for something else.
    fn connect_raw_to(&self, protocol: &str, target: &str) -> TcpStream {
        let mut stream = tcp(self.address(protocol));
        stream.write_all(handshake(target).as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }

    /// Serves a healthy pair of each protocol, who come, meet, talk and go. Says how long it took.
    fn assert_serves(&self) -> Duration {
        let since = Instant::now();
        for (protocol, address) in self.endpoints() {
            let mut pair = Pair::of(protocol, address, HEALTHY_IP);
            pair.says("well?");
            pair.hears("well?");
            pair.answers("well!");
            pair.leaves();
        }
        since.elapsed()
    }

    /// Waits until the daemon has closed the sockets of all clients but those that stay, which are so
    /// many. That a client is gone is not yet known to the daemon.
    fn wait_for_connections(&self, remaining: usize) {
        let expected = self.own_sockets + remaining;
        wait_until("the sockets of those who went are closed", || {
            self.daemon.sockets() == expected
        });
    }

    /// All is as before: everybody is served, and memory is back.
    fn assert_survives(&self, case: &str, outcome: &str) {
        self.assert_survives_within(MEMORY_SLACK, case, outcome);
    }

    /// The same where memory may be more by this.
    fn assert_survives_within(&self, slack: u64, case: &str, outcome: &str) {
        let served = self.assert_serves();
        let most = self.baseline + slack;
        let mut now = 0;
        wait_until(&format!("memory is back after {case}"), || {
            now = self.daemon.resident();
            now <= most
        });
        println!(
            "| {case} | {outcome} | {} ms | {} KiB | {} KiB |",
            served.as_millis(),
            self.baseline >> 10,
            now >> 10
        );
    }
}

/// All listeners, in the order of the protocols, with these settings.
fn listeners(common: &Value, overrides: &[(&str, Value)]) -> Vec<Value> {
    let listener = |name: &str| {
        let settings = with(json!({"protocol": name}), common);
        let own = overrides.iter().filter(|(protocol, _)| *protocol == name);
        own.fold(settings, |settings, (_, own)| with(settings, own))
    };
    PROTOCOLS.iter().map(|it| listener(it.name)).collect()
}

/// What a client of this protocol asks for that nobody knows yet.
fn target(protocol: &str) -> String {
    match protocol {
        "peerdrop" => "/ws/chat".to_owned(),
        "fastchat" | "workspace" => "/ws".to_owned(),
        "loudsync" => "/".to_owned(),
        "peerjs" => format!("/peerjs?key=peerjs&id={}&token=t", Uuid::new_v4()),
        other => panic!("nobody here speaks {other}"),
    }
}

/// Sends the same again and again until it is cut off.
fn send_until_closed(stream: &mut TcpStream, bytes: &[u8]) {
    let since = Instant::now();
    while stream.write_all(bytes).is_ok() {
        assert!(since.elapsed() < DEADLINE, "it may go on for ever");
    }
}

/// Reads until it is cut off, whatever comes.
fn read_until_closed(stream: &mut TcpStream) {
    if let Err(error) = std::io::copy(stream, &mut std::io::sink()) {
        // Who has sent what nobody read sees a reset.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn the_healthy_are_served() {
    let server = Server::start();
    server.assert_survives("nobody hostile", "served");
}
