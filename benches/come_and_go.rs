//! FastChat users who all come and go within a short time: what it costs to tell everybody.
//!
//! `cargo bench --bench come_and_go -- [USERS [SECONDS [ROUNDS]]]`, by default 2,000 users in 10 s,
//! once. Each
//! comes at a moment of its own in the first half and goes at one in the second; in between it
//! reads what it is sent. The figures are printed, and nothing is asserted but that everybody got
//! in and nobody was closed. It takes a minute more, to see what memory is left when all are forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[path = "../tests/common/daemon.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod daemon;

/// How long to wait for the daemon.
const DEADLINE: Duration = Duration::from_secs(60);

use async_std::net::TcpStream;
use async_std::task;
use async_tungstenite::client_async;
use async_tungstenite::tungstenite::Message;
use daemon::{Daemon, memory};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What one user was sent.
#[derive(Default)]
struct Received {
    frames: u64,
    bytes: u64,
}

/// One user's whole visit.
async fn visit(address: SocketAddr, comes: Duration, goes: Duration) -> Received {
    let start = Instant::now();
    task::sleep(comes).await;
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{address}/ws"), tcp)
        .await
        .unwrap();
    let data = json!({"user_id": Uuid::new_v4(), "display_name": "Somebody Or Other"});
    let hello = json!({"type": "HELLO", "data": data}).to_string();
    socket.send(Message::text(hello)).await.unwrap();
    let ack = socket.next().await.unwrap().unwrap();
    let mut received = Received {
        frames: 1,
        bytes: ack.len() as u64,
    };
    let stay = goes.saturating_sub(start.elapsed());
    let reading = async {
        while let Some(message) = socket.next().await {
            received.frames += 1;
            received.bytes += message.unwrap().len() as u64;
        }
        panic!("closed by the daemon");
    };
    let _ = async_std::future::timeout(stay, reading).await;
    socket.close(None).await.unwrap();
    received
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let users: u64 = numbers.next().unwrap_or(2000);
    let span = Duration::from_secs(numbers.next().unwrap_or(10));
    let rounds = numbers.next().unwrap_or(1);
    let listener = json!({"protocol": "fastchat", "max_connections": 0});
    let daemon = Daemon::as_configured(json!({"log": "info", "listeners": [listener]}));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("resident: {:.1} MiB before", mib(daemon.resident()));
    for _ in 0..rounds {
        let (start, busy) = (Instant::now(), daemon.cpu());
        let half = span / 2;
        let visits = (0..users).map(|user| {
            // Evenly spread, and those who come first go in no order that follows from that.
            let share = |number: u64| half * (number % users) as u32 / users as u32;
            visit(daemon.address(), share(user), half + share(user * 7919))
        });
        let received = task::block_on(join_all(visits.map(task::spawn)));
        let time = start.elapsed().as_secs_f64();
        let frames: u64 = received.iter().map(|received| received.frames).sum();
        let bytes: u64 = received.iter().map(|received| received.bytes).sum();
        println!(
            "{users} users came and went in {time:.1} s: {frames} frames to them, {:.1} MB; \
             CPU {:.2} s; resident: {:.1} MiB, {:.1} at most",
            bytes as f64 / 1e6,
            (daemon.cpu() - busy).as_secs_f64(),
            mib(daemon.resident()),
            mib(memory(daemon.pid(), "VmHWM:").unwrap())
        );
    }
    // By then the users and their chats are forgotten.
    std::thread::sleep(Duration::from_secs(65));
    println!("a minute later: {:.1} MiB", mib(daemon.resident()));
}
