//! Measures how long a bystander waits while other clients attack: the round trip of a message of a PeerDrop
//! pair, from the first to the second and back, on a port that nobody attacks. The daemon has one thread.
//!
//! `cargo bench --bench bystander -- [SECONDS [PROGRAM [ATTACK]]]`, by default 5 s for each attack, the daemon
//! that cargo has built, and all attacks. One row for each attack. Nothing is asserted but that the daemon serves
//! the pair.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;

use common::bystander::{percentile, round_trips};
use common::daemon::{Daemon, command};
use common::websocket::{frame, open, text_frame};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Users in the FastChat room whose list is asked for.
const USERS: usize = 2000;

/// Clients that ask for the list.
const ASKING: usize = 200;

/// Clients of each of the other attacks.
const ATTACKERS: usize = 40;

/// Requests for `/metrics` in a second, and clients that send them.
const METRICS_PER_SECOND: u32 = 10_000;
const SCRAPERS: u32 = 16;

/// Starts the daemon, with a listener each for PeerDrop, FastChat and Workspace.
fn start(program: &str) -> Daemon {
    // Time-outs of clients that only attack or only fill a room are not the subject.
    let listeners = json!([
        {"protocol": "peerdrop", "ping_after": 0},
        {"protocol": "fastchat", "ping_after": 0, "hello_timeout": 0},
        {"protocol": "workspace", "ping_after": 0, "idle_timeout": 0},
    ]);
    let config =
        json!({"threads": 1, "log": "info", "status": "127.0.0.1:0", "listeners": listeners});
    Daemon::launch(command(program), config)
}

/// Connects a WebSocket; what is sent and received on it are raw bytes.
fn connect(address: SocketAddr, target: &str) -> std::io::Result<TcpStream> {
    open(Ipv4Addr::LOCALHOST, address, target)
}

/// Reads and discards until the connection ends.
fn discard(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    while stream.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}

/// Sends the same bytes over and over, and discards what comes back; connects anew whenever the connection
/// ends.
fn flood(address: SocketAddr, target: &str, bytes: &[u8], is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut stream) = connect(address, target) else {
            continue;
        };
        stream
            .set_write_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let reader = stream.try_clone().unwrap();
        let reader = thread::spawn(|| discard(reader));
        while !is_over.load(Ordering::Relaxed) && stream.write_all(bytes).is_ok() {}
        let _ = stream.shutdown(std::net::Shutdown::Both);
        reader.join().unwrap();
    }
}

/// Asks for the list of users without one of them, over and over.
fn ask(address: SocketAddr, excluded: &str, is_over: &AtomicBool) {
    let request = format!(
        "GET /presence/online?exclude_user_id={excluded} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    let mut stream = BufReader::with_capacity(64 << 10, TcpStream::connect(address).unwrap());
    let mut body = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if let Some((_, value)) = line.split_once("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).unwrap();
    }
}

/// Asks for `/metrics` at its part of the rate, each time over a new connection, as the status port has it. A request
/// that is late is sent at once. Counts the responses.
fn scrape(status: SocketAddr, is_over: &AtomicBool, responses: &AtomicU32) {
    let interval = Duration::from_secs(1) * SCRAPERS / METRICS_PER_SECOND;
    let mut due = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += interval;
        let mut stream = TcpStream::connect(status).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200 "));
        responses.fetch_add(1, Ordering::Relaxed);
    }
}

fn user_id(number: usize) -> String {
    format!("aaaaaaaa-0000-4000-8000-{number:012}")
}

/// Fills the room. The users stay for as long as the daemon runs.
fn fill_room(address: SocketAddr) {
    let users: Vec<TcpStream> = (0..USERS)
        .map(|number| {
            let mut user = connect(address, "/ws").unwrap();
            let data = json!({"user_id": user_id(number), "display_name": "Alexandra Example"});
            let hello: Value = json!({"type": "HELLO", "data": data});
            user.write_all(&text_frame(hello.to_string().as_bytes()))
                .unwrap();
            user
        })
        .collect();
    thread::spawn(move || {
        for user in &users {
            user.set_nonblocking(true).unwrap();
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            for mut user in &users {
                while user.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
            }
            thread::sleep(Duration::from_millis(100));
        }
    });
    // The lists of all users are sent within two seconds.
    thread::sleep(Duration::from_secs(5));
}

/// Measures while `attackers` threads run `attack`, and prints a row.
fn row(
    name: &str,
    bystander: SocketAddr,
    time: Duration,
    attackers: usize,
    attack: impl Fn(usize, &AtomicBool) + Send + Sync + 'static,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let attack = Arc::new(attack);
    let threads: Vec<_> = (0..attackers)
        .map(|number| {
            let (is_over, attack) = (Arc::clone(&is_over), Arc::clone(&attack));
            thread::spawn(move || attack(number, &is_over))
        })
        .collect();
    thread::sleep(Duration::from_secs(1));
    let round_trips = round_trips(bystander, time);
    is_over.store(true, Ordering::Relaxed);
    let at = |share: f64| percentile(&round_trips, share);
    println!(
        "| {name} | {} | {:.2} | {:.2} | {:.2} |",
        round_trips.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Prints the row of the clients that ask for `/metrics`, and how many responses they got.
fn metrics_row(status: SocketAddr, bystander: SocketAddr, time: Duration) {
    let responses = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&responses);
    let start = Instant::now();
    row(
        "/metrics 10,000 times a second",
        bystander,
        time,
        SCRAPERS as usize,
        move |_, is_over| scrape(status, is_over, &counted),
    );
    let rate = f64::from(responses.load(Ordering::Relaxed)) / start.elapsed().as_secs_f64();
    println!("\n{rate:.0} responses of /metrics a second\n");
}

fn main() {
    // cargo passes "--bench".
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    let seconds = arguments.next().map_or(5, |it| it.parse().unwrap());
    let time = Duration::from_secs(seconds);
    let program = arguments.next();
    let program = program
        .as_deref()
        .unwrap_or(env!("CARGO_BIN_EXE_switchboard"));
    let only = arguments.next();
    let wants = |name: &str| only.as_deref().is_none_or(|only| only == name);
    println!("| attack | round trips | p50 ms | p99 ms | max ms |");
    println!("| --- | --- | --- | --- | --- |");
    let daemon = start(program);
    let [peerdrop, fastchat, workspace] = daemon.addresses[..] else {
        panic!("three listeners");
    };
    if wants("quiet") {
        row("none", peerdrop, time, 0, |_, _| {});
    }
    if wants("pings") {
        let pings = frame(0x89, b"", 0).repeat(10_000);
        row(
            "40 clients, empty Pings",
            peerdrop,
            time,
            ATTACKERS,
            move |number, is_over| {
                flood(
                    workspace,
                    &format!("/ws?username=ping{number}"),
                    &pings,
                    is_over,
                );
            },
        );
    }
    if wants("keys") {
        let keys: Vec<String> = (0..6200).map(|key| format!("\"{key:05}\":0")).collect();
        let keys = text_frame(format!("{{{}}}", keys.join(",")).as_bytes());
        assert!(keys.len() < 65_536, "{} bytes", keys.len());
        row(
            "40 clients, 64 KiB of keys",
            peerdrop,
            time,
            ATTACKERS,
            move |_, is_over| {
                flood(fastchat, "/ws", &keys, is_over);
            },
        );
    }
    for (name, pattern) in [("tags", "<"), ("opened", "<a")] {
        if wants(name) {
            let length = (1 << 20) - 100;
            let text =
                json!({"type": "message:send", "text": pattern.repeat(length / pattern.len())});
            let message = text_frame(text.to_string().as_bytes());
            let title = format!("40 clients, 1 MiB of `{pattern}`");
            row(&title, peerdrop, time, ATTACKERS, move |number, is_over| {
                flood(
                    workspace,
                    &format!("/ws?username={name}{number}"),
                    &message,
                    is_over,
                );
            });
        }
    }
    if wants("metrics") {
        metrics_row(daemon.status.unwrap(), peerdrop, time);
    }
    if wants("online") {
        fill_room(fastchat);
        row(
            "200 clients, the list of 2,000 users",
            peerdrop,
            time,
            ASKING,
            move |number, is_over| {
                ask(fastchat, &user_id(number), is_over);
            },
        );
    }
}
