//! Hostile clients: one daemon runs all protocols, a client attacks it, and afterwards the daemon must
//! serve healthy clients and have given back the memory that the attack took.
//!
//! Each file is about one kind of attack:
//!
//! | file | attack |
//! | --- | --- |
//! | `heads` | HTTP request heads that are malformed, too large, too slow or ambiguous |
//! | `frames` | WebSocket frames that break RFC 6455, messages that never end, unanswered Close frames |
//! | `half_open` | connections that fall silent or are reset |
//! | `floods` | more frames, requests or connections than the daemon can serve |
//! | `json` | JSON that is deeply nested, out of range, duplicated or full of markup |
//! | `names` | names and ids that would forge or garble lines of the log |
//! | `identity` | guessed codes and tokens, and claims to be another user or the host |
//!
//! What attacks on every protocol need of one is in its folder: `pair.transcript` and `hostile.txt` (`dialects`). Some
//! attacks make sense for one protocol only, and name it.
//!
//! Each case prints a row of a table: the case, the outcome, the milliseconds in which the daemon then
//! served a healthy pair of each protocol, and resident memory before and after. To see the table:
//! `cargo test --test daemon hostile -- --nocapture | grep '^| '`. The milliseconds are not asserted,
//! since a loaded machine may be slow. Memory is asserted: it must come back before the deadline.

mod dialects;
mod floods;
mod frames;
mod half_open;
mod heads;
mod identity;
mod json;
mod names;

use crate::common::{
    Client, DEADLINE, Daemon, Pair, handshake, merge, read_head, request_target, tcp, wait_until,
};
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;

/// Address that healthy clients connect from, so that limits per address do not count them with the
/// attackers, which connect from 127.0.0.1.
const HEALTHY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Bytes by which resident memory may exceed the baseline after an attack. The C library keeps the
/// memory freed last in each of its arenas, of which there is one per thread that allocates, and pages
/// of the program are loaded when they first run.
const MEMORY_SLACK: u64 = 4 << 20;

/// [`MEMORY_SLACK`] after messages of about a megabyte. The C library returns the free end of an arena
/// to the system only when it is twice as large as the largest block that it ever mapped on its own.
const LARGE_MESSAGE_SLACK: u64 = 12 << 20;

/// A daemon with a listener of each protocol. Its settings are the defaults, but for those that a
/// test sets and for time-outs, which [`Daemon::start`] switches off or makes very long.
struct Server {
    daemon: Daemon,
    /// Number of sockets that the daemon had open before the first client connected.
    own_sockets: usize,
    /// Resident memory before the attack, in bytes.
    baseline: u64,
}

impl Server {
    /// Starts a daemon with default settings.
    fn start() -> Self {
        Self::with_settings(json!({}))
    }

    /// Starts a daemon whose listeners all have these settings.
    fn with_settings(common: Value) -> Self {
        Self::with_overrides(&common, &[])
    }

    /// Starts a daemon whose listeners all have these settings, and those of the named protocols the
    /// overrides in addition.
    fn with_overrides(common: &Value, overrides: &[(&str, Value)]) -> Self {
        Self::from_daemon(Daemon::start(
            json!({"listeners": listeners(common, overrides)}),
        ))
    }

    /// Wraps a daemon whose listeners are those of [`listeners`], and measures the baseline.
    fn from_daemon(daemon: Daemon) -> Self {
        let mut server = Self {
            own_sockets: daemon.open_sockets(),
            daemon,
            baseline: 0,
        };
        // Afterwards each thread of the daemon has allocated for the first time, and the pages of the
        // program that serve healthy clients are loaded.
        for _ in 0..10 {
            server.assert_serves();
        }
        server.baseline = server.daemon.resident();
        server
    }

    /// Returns the address of a protocol's listener.
    fn address(&self, protocol: &str) -> SocketAddr {
        let index = PROTOCOLS.iter().position(|it| it.name == protocol).unwrap();
        self.daemon.addresses[index]
    }

    /// Returns all protocols with the addresses of their listeners.
    fn endpoints(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let names = PROTOCOLS.iter().map(|it| it.name);
        names.zip(self.daemon.addresses.clone())
    }

    /// Connects a WebSocket client to the usual target of a protocol.
    fn connect(&self, protocol: &str) -> Client {
        self.connect_to(protocol, &request_target(protocol))
    }

    /// Connects a WebSocket client to a target.
    fn connect_to(&self, protocol: &str, target: &str) -> Client {
        Client::connect(self.address(protocol), target)
    }

    /// Connects without a WebSocket library: completes the handshake and returns the socket. Nothing
    /// behind the 101 response has been read.
    fn connect_raw(&self, protocol: &str) -> TcpStream {
        self.connect_raw_to(protocol, &request_target(protocol))
    }

    /// Connects like [`Self::connect_raw`], to a target.
    fn connect_raw_to(&self, protocol: &str, target: &str) -> TcpStream {
        let mut stream = tcp(self.address(protocol));
        stream.write_all(handshake(target).as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }

    /// Asserts that a healthy pair of clients of each protocol can connect, meet, exchange messages and
    /// disconnect. Returns how long that took.
    fn assert_serves(&self) -> Duration {
        let start = Instant::now();
        for (protocol, address) in self.endpoints() {
            let mut pair = Pair::connect(protocol, address, HEALTHY_IP);
            pair.send("well?");
            pair.expect_received("well?");
            pair.answer("well!");
            pair.close();
        }
        start.elapsed()
    }

    /// Waits until exactly this number of connections is open. The daemon learns only some time later
    /// that a client has disconnected.
    fn wait_for_connections(&self, remaining: usize) {
        let expected = self.own_sockets + remaining;
        wait_until(
            "the daemon has closed the sockets of disconnected clients",
            || self.daemon.open_sockets() == expected,
        );
    }

    /// Asserts that the daemon serves healthy clients and has given memory back, and prints the table row
    /// of this case.
    fn assert_survives(&self, case: &str, outcome: &str) {
        self.assert_survives_within(MEMORY_SLACK, case, outcome);
    }

    /// Does the same as [`Self::assert_survives`], where resident memory may exceed the baseline by
    /// `slack` bytes.
    fn assert_survives_within(&self, slack: u64, case: &str, outcome: &str) {
        let served = self.assert_serves();
        let limit = self.baseline + slack;
        let mut resident = 0;
        let what = format!("at most {limit} bytes of resident memory after: {case}");
        wait_until(&what, || {
            resident = self.daemon.resident();
            resident <= limit
        });
        println!(
            "| {case} | {outcome} | {} ms | {} KiB | {} KiB |",
            served.as_millis(),
            self.baseline >> 10,
            resident >> 10
        );
    }
}

/// Returns the configuration of a listener per protocol, in the order of [`PROTOCOLS`], with the settings
/// for all and the overrides for single protocols.
fn listeners(common: &Value, overrides: &[(&str, Value)]) -> Vec<Value> {
    let listener = |name: &str| {
        let settings = merge(json!({"protocol": name}), common);
        let own = overrides.iter().filter(|(protocol, _)| *protocol == name);
        own.fold(settings, |settings, (_, own)| merge(settings, own))
    };
    PROTOCOLS.iter().map(|it| listener(it.name)).collect()
}

/// Sends the same bytes repeatedly until the server has closed the connection.
fn send_until_closed(stream: &mut TcpStream, bytes: &[u8]) {
    let start = Instant::now();
    while stream.write_all(bytes).is_ok() {
        assert!(
            start.elapsed() < DEADLINE,
            "the server does not close the connection"
        );
    }
}

/// Reads and ignores everything until the server has closed the connection.
fn read_until_closed(stream: &mut TcpStream) {
    if let Err(error) = std::io::copy(stream, &mut std::io::sink()) {
        // The socket is reset if the server closed it before it had read everything.
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn healthy_clients_are_served_without_an_attack() {
    let server = Server::start();
    server.assert_survives("no attack", "healthy clients are served");
}
