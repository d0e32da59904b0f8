//! Measures what it costs to tell all FastChat users which users are online, while all of them connect
//! and disconnect within a short time.
//!
//! `cargo bench --bench come_and_go -- [USERS [SECONDS [ROUNDS]]]`, by default 2,000 users in 10 s,
//! one round. Each user connects at a time of its own in the first half of the round, disconnects at
//! one in the second half, and reads everything in between. The figures are printed; nothing is
//! asserted but that each user is admitted and that the daemon closes none of them. After the last round
//! the benchmark waits for 65 s, after which the daemon has forgotten all users, and prints its memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;

/// After this time the daemon has forgotten users that are gone, and their chats.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(65);

use async_std::net::TcpStream;
use async_std::task;
use async_tungstenite::client_async;
use async_tungstenite::tungstenite::Message;
use common::daemon::{Daemon, memory};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What one user received.
#[derive(Default)]
struct Received {
    frames: u64,
    bytes: u64,
}

/// Connects a user after a delay, and disconnects it at another time. Both count from now.
async fn run_user(address: SocketAddr, connect_at: Duration, leave_at: Duration) -> Received {
    let start = Instant::now();
    task::sleep(connect_at).await;
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = client_async(format!("ws://{address}/ws"), tcp)
        .await
        .unwrap();
    let data = json!({"user_id": Uuid::new_v4(), "display_name": "Alexandra Example"});
    let hello = json!({"type": "HELLO", "data": data}).to_string();
    socket.send(Message::text(hello)).await.unwrap();
    let ack = socket.next().await.unwrap().unwrap();
    let mut received = Received {
        frames: 1,
        bytes: ack.len() as u64,
    };
    let rest = leave_at.saturating_sub(start.elapsed());
    let reading = async {
        while let Some(message) = socket.next().await {
            received.frames += 1;
            received.bytes += message.unwrap().len() as u64;
        }
        panic!("closed by the daemon");
    };
    let _ = async_std::future::timeout(rest, reading).await;
    socket.close(None).await.unwrap();
    received
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let users: u64 = numbers.next().unwrap_or(2000);
    let span = Duration::from_secs(numbers.next().unwrap_or(10));
    let rounds = numbers.next().unwrap_or(1);
    let listener = json!({"protocol": "fastchat", "max_connections": 0});
    let daemon = Daemon::start_as_configured(json!({"log": "info", "listeners": [listener]}));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("resident: {:.1} MiB before", mib(daemon.resident()));
    for _ in 0..rounds {
        let (start, cpu_before) = (Instant::now(), daemon.cpu());
        let half = span / 2;
        let tasks = (0..users).map(|user| {
            // Both times are evenly spread. The factor is a prime, so that users do not leave in the
            // order in which they connected.
            let share = |number: u64| half * (number % users) as u32 / users as u32;
            run_user(daemon.address(), share(user), half + share(user * 7919))
        });
        let received = task::block_on(join_all(tasks.map(task::spawn)));
        let time = start.elapsed().as_secs_f64();
        let frames: u64 = received.iter().map(|received| received.frames).sum();
        let bytes: u64 = received.iter().map(|received| received.bytes).sum();
        println!(
            "{users} users connected and disconnected in {time:.1} s: {frames} frames to them, \
             {:.1} MB; CPU {:.2} s; resident: {:.1} MiB, at most {:.1} MiB",
            bytes as f64 / 1e6,
            (daemon.cpu() - cpu_before).as_secs_f64(),
            mib(daemon.resident()),
            mib(memory(daemon.pid(), "VmHWM:").unwrap())
        );
    }
    std::thread::sleep(FORGOTTEN_AFTER);
    println!(
        "resident: {:.1} MiB after {} s without users",
        mib(daemon.resident()),
        FORGOTTEN_AFTER.as_secs()
    );
}
