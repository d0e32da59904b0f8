//! Measures what it costs to fill a Workspace room, and what it costs the clients of another listener.
//!
//! `cargo bench --bench join_storm -- [--steady] [MEMBERS...]`, by default 1000 2000 4000 8000. For each number a
//! fresh daemon is started, with a Workspace and a PeerJS listener. Two PeerJS clients relay messages as fast as
//! they can the whole time; their rate is measured for [`QUIET`] first, then while all members connect: at once,
//! or with `--steady` one after another and without the relay, so that the CPU time is that of the joins. A
//! member is in the room when it has received its `connected`, and reads everything until all are. The figures
//! are printed; nothing is asserted but that every member gets in.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;

/// How long to wait for a member.
const DEADLINE: Duration = Duration::from_secs(120);

/// How long the rate of the relay is measured before the members connect.
const QUIET: Duration = Duration::from_secs(2);

/// Messages of the relay that may be on their way.
const IN_FLIGHT: u64 = 256;

use async_std::io::{ReadExt, WriteExt};
use async_std::net::TcpStream;
use async_std::task;
use common::daemon::{Daemon, memory, merge};
use common::websocket::request;
use futures::future::join_all;
use serde_json::json;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the tasks of one run share.
#[derive(Default)]
struct Shared {
    /// Members that have received their `connected`.
    admitted: AtomicU64,
    bytes: AtomicU64,
    /// Messages that the receiver of the relay has got.
    relayed: AtomicU64,
    finished: AtomicBool,
}

/// Connects a member and reads until the run has finished.
async fn run_member(shared: Arc<Shared>, address: SocketAddr, number: u64) {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = request(&format!("/ws?username=member{number}"));
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 2048];
    let mut head = Vec::new();
    let mut is_admitted = false;
    while let Ok(Ok(length)) = async_std::future::timeout(DEADLINE, tcp.read(&mut buffer)).await {
        shared.bytes.fetch_add(length as u64, Ordering::Relaxed);
        if shared.finished.load(Ordering::Relaxed) {
            return;
        }
        assert!(length > 0, "member {number} was closed by the daemon");
        if !is_admitted {
            head.extend_from_slice(&buffer[..length]);
            is_admitted = head.windows(11).any(|part| part == b"\"connected\"");
            if is_admitted {
                assert!(head.starts_with(b"HTTP/1.1 101 "));
                head = Vec::new();
                shared.admitted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Returns a connection to PeerJS, which has received its OPEN.
fn connect_peer(address: SocketAddr, id: &str) -> std::net::TcpStream {
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    tcp.set_nodelay(true).unwrap();
    let request = request(&format!("/peerjs?key=peerjs&id={id}&token=t"));
    tcp.write_all(request.as_bytes()).unwrap();
    let mut received = Vec::new();
    let mut byte = [0];
    while !received.ends_with(b"\"OPEN\"}") {
        tcp.read_exact(&mut byte).unwrap();
        received.push(byte[0]);
    }
    tcp
}

/// Relays messages from one client to another until the run has finished.
fn start_relay(shared: &Arc<Shared>, address: SocketAddr) -> [thread::JoinHandle<()>; 2] {
    let mut receiver = connect_peer(address, "b");
    let mut sender = connect_peer(address, "a");
    let text = br#"{"type":"OFFER","dst":"b","payload":{}}"#;
    // Masked with zeros.
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text);
    let batch = frame.repeat(64);
    let sent = Arc::clone(shared);
    let sending = thread::spawn(move || {
        let mut count = 0;
        while !sent.finished.load(Ordering::Relaxed) {
            if count >= sent.relayed.load(Ordering::Relaxed) + IN_FLIGHT {
                thread::sleep(Duration::from_micros(100));
                continue;
            }
            count += 64;
            let written = sender.write_all(&batch);
            assert!(written.is_ok() || sent.finished.load(Ordering::Relaxed));
        }
    });
    let received = Arc::clone(shared);
    let receiving = thread::spawn(move || {
        receiver
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let mut buffer = vec![0; 65536];
        while !received.finished.load(Ordering::Relaxed) {
            let Ok(length) = receiver.read(&mut buffer) else {
                continue;
            };
            let is_closed = length == 0 && !received.finished.load(Ordering::Relaxed);
            assert!(!is_closed, "the relay was closed by the daemon");
            // The first byte of a frame (0x81) is no ASCII and so in no text.
            let frames = buffer[..length].iter().filter(|&&byte| byte == 0x81);
            received
                .relayed
                .fetch_add(frames.count() as u64, Ordering::Relaxed);
        }
    });
    [sending, receiving]
}

/// Fills a room and prints the figures.
fn measure(members: u64, is_steady: bool) {
    let listener = |protocol: &str| {
        let settings = json!({"protocol": protocol, "max_connections": 0, "ping_after": 0});
        merge(settings, &json!({"handshake_timeout": 600}))
    };
    let config = json!({"log": "info", "max_connections": 0, "memory_budget": 0,
                        "listeners": [listener("workspace"), listener("peerjs")]});
    let daemon = Daemon::start_as_configured(config);
    let shared = Arc::new(Shared::default());
    let relay = (!is_steady).then(|| start_relay(&shared, daemon.addresses[1]));
    let rate = |since: Instant, before: u64| {
        let relayed = shared.relayed.load(Ordering::Relaxed) - before;
        relayed as f64 / since.elapsed().as_secs_f64()
    };
    let start = Instant::now();
    thread::sleep(QUIET);
    let quiet = rate(start, 0);

    let (start, cpu) = (Instant::now(), daemon.cpu());
    let relayed = shared.relayed.load(Ordering::Relaxed);
    let run = |number| {
        let member = task::spawn(run_member(Arc::clone(&shared), daemon.addresses[0], number));
        while is_steady && shared.admitted.load(Ordering::Relaxed) <= number {
            assert!(start.elapsed() < DEADLINE, "member {number} waits");
            thread::sleep(Duration::from_micros(100));
        }
        member
    };
    let tasks: Vec<_> = (0..members).map(run).collect();
    while shared.admitted.load(Ordering::Relaxed) < members && start.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(5));
    }
    let time = start.elapsed().as_secs_f64();
    let admitted = shared.admitted.load(Ordering::Relaxed);
    let relayed = rate(start, relayed);
    let cpu = (daemon.cpu() - cpu).as_secs_f64();
    let peak = memory(daemon.pid(), "VmHWM:").unwrap() as f64 / f64::from(1 << 20);
    let received = shared.bytes.load(Ordering::Relaxed) as f64 / 1e6;
    println!(
        "{admitted} of {members} members joined in {time:.1} s: CPU {cpu:.2} s; {received:.1} MB to them; \
         relay beside it: {quiet:.0} messages a second before, {relayed:.0} while they join; \
         resident at most {peak:.1} MiB"
    );
    shared.finished.store(true, Ordering::Relaxed);
    drop(daemon);
    relay
        .into_iter()
        .flatten()
        .for_each(|part| drop(part.join()));
    task::block_on(join_all(tasks));
}

fn main() {
    let numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let mut members: Vec<u64> = numbers.collect();
    if members.is_empty() {
        members = vec![1000, 2000, 4000, 8000];
    }
    let is_steady = std::env::args().any(|argument| argument == "--steady");
    members
        .into_iter()
        .for_each(|members| measure(members, is_steady));
}
