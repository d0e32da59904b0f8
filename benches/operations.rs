//! Takes 1,000 connected clients through what an operator does: reloads, restarts with sockets that systemd holds, and
//! a stop.
//!
//! `cargo bench --bench operations -- [CLIENTS]`. The clients are PeerDrop pairs; each sends a message to the other and
//! gets it back, all the time. It is asserted that no client of an unchanged listener is closed by a reload or loses a
//! message, that no connect is refused during a restart, and that a stop tells every client and ends within 5 s.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;

use async_std::net::TcpStream;
use async_std::task::{self, JoinHandle};
use async_tungstenite::WebSocketStream;
use async_tungstenite::client_async;
use async_tungstenite::tungstenite::Message;
use common::daemon::{Daemon, program};
use futures::StreamExt;
use futures::future::join_all;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reloads of a changed file.
const RELOADS: usize = 20;

/// Restarts with sockets that systemd holds.
const RESTARTS: usize = 5;

/// Clients that connect again and again during the restarts.
const CONNECTING: usize = 50;

/// Time between two messages of a pair.
const PAUSE: Duration = Duration::from_millis(200);

/// A stop takes no longer (rulings, "shutdown").
const MAX_STOP: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TcpStream>;

/// A pair that is connected.
struct Pair {
    first: Socket,
    second: Socket,
}

/// How a pair ended.
struct End {
    round_trips: Vec<Duration>,
    /// The codes with which the daemon closed its connections.
    codes: Vec<u16>,
}

async fn connect(address: SocketAddr, path: &str) -> Socket {
    let tcp = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/ws/chat{path}");
    client_async(url, tcp).await.unwrap().0
}

/// Returns the next text, or the code with which the daemon closes the connection; 1006 without one.
async fn next_text(socket: &mut Socket) -> Result<String, u16> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
            Some(Ok(Message::Close(Some(close)))) => return Err(close.code.into()),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(1006),
        }
    }
}

/// Sends a text to one client, and waits until the other has it.
async fn pass(from: &mut Socket, to: &mut Socket, sent: &str) -> Result<(), u16> {
    // A failure shows in what is read.
    let _ = from.send(Message::text(sent)).await;
    let received = next_text(to).await?;
    assert_eq!(received, sent);
    Ok(())
}

impl Pair {
    async fn connect(address: SocketAddr) -> Self {
        let mut first = connect(address, "").await;
        let code = next_text(&mut first).await.unwrap();
        let mut second = connect(address, &format!("/{code}")).await;
        assert_eq!(next_text(&mut second).await, Ok(code));
        assert_eq!(next_text(&mut first).await.unwrap(), "the other guy joined");
        Self { first, second }
    }

    /// Sends a message to the other client and back until the daemon closes the pair, or `done` is set.
    async fn run(mut self, done: Arc<AtomicBool>) -> End {
        let mut round_trips = Vec::new();
        let mut codes = Vec::new();
        while codes.is_empty() && !done.load(Ordering::Relaxed) {
            let (start, text) = (Instant::now(), round_trips.len().to_string());
            let there = pass(&mut self.first, &mut self.second, &text).await;
            let back = match there {
                Ok(()) => pass(&mut self.second, &mut self.first, &text).await,
                Err(code) => Err(code),
            };
            match back {
                Ok(()) => round_trips.push(start.elapsed()),
                Err(code) => {
                    codes.push(code);
                    let other = if there.is_ok() {
                        &mut self.second
                    } else {
                        &mut self.first
                    };
                    let closed = loop {
                        if let Err(code) = next_text(other).await {
                            break code;
                        }
                    };
                    codes.push(closed);
                }
            }
            task::sleep(PAUSE.saturating_sub(start.elapsed())).await;
        }
        End { round_trips, codes }
    }
}

/// The pairs of a scenario, while they run.
struct Pairs {
    tasks: Vec<JoinHandle<End>>,
    done: Arc<AtomicBool>,
}

impl Pairs {
    /// Connects as many clients, and starts to pass messages between them.
    async fn start(address: SocketAddr, clients: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..clients / 2 {
            let pair = Pair::connect(address).await;
            tasks.push(task::spawn(pair.run(Arc::clone(&done))));
        }
        Self { tasks, done }
    }

    /// Returns how the pairs ended.
    async fn end(self) -> (Vec<Duration>, Vec<u16>) {
        let (mut round_trips, mut codes) = (Vec::new(), Vec::new());
        for end in join_all(self.tasks).await {
            round_trips.extend(end.round_trips);
            codes.extend(end.codes);
        }
        round_trips.sort();
        (round_trips, codes)
    }
}

fn percentiles(sorted: &[Duration]) -> String {
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!(
        "{} round trips: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        sorted.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Reloads a changed file again and again while clients are connected.
async fn reload(clients: usize) {
    let config = |limit: usize, other: bool| {
        let mut listeners = vec![json!({"protocol": "peerdrop", "max_connections": limit})];
        if other {
            listeners.push(json!({"protocol": "workspace"}));
        }
        json!({"log": "info", "max_connections": 0, "listeners": listeners})
    };
    let daemon = Daemon::start_as_configured(config(0, false));
    let file: Value =
        serde_json::from_str(&std::fs::read_to_string(daemon.config()).unwrap()).unwrap();
    let pairs = Pairs::start(daemon.address(), clients).await;
    for number in 1..=RELOADS {
        let mut changed = file.clone();
        changed["listeners"][0]["max_connections"] = json!(100_000 + number);
        if number % 2 == 1 {
            let other = json!({"protocol": "workspace", "address": "127.0.0.1:0"});
            changed["listeners"].as_array_mut().unwrap().push(other);
        }
        std::fs::write(daemon.config(), changed.to_string()).unwrap();
        daemon.signal(Signal::HUP);
        daemon.wait_for_log("reloaded");
    }
    pairs.done.store(true, Ordering::Relaxed);
    let (round_trips, codes) = pairs.end().await;
    println!(
        "reload: {clients} clients through {RELOADS} reloads: {} closed; {}",
        codes.len(),
        percentiles(&round_trips)
    );
    assert!(codes.is_empty(), "closed with {codes:?}");
}

/// Stops the daemon while clients are connected.
async fn stop(clients: usize) {
    let listener = json!({"protocol": "peerdrop", "max_connections": 0});
    let daemon = Daemon::start_as_configured(
        json!({"log": "info", "max_connections": 0, "listeners": [listener]}),
    );
    let pairs = Pairs::start(daemon.address(), clients).await;
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.wait_for_exit();
    let time = start.elapsed();
    let (_, codes) = pairs.end().await;
    let told = codes.iter().filter(|&&code| code == 1001).count();
    println!(
        "stop: {told} of {clients} clients were told 1001; {status} after {:.2} s",
        time.as_secs_f64()
    );
    assert!(
        told == clients && status.success() && time < MAX_STOP,
        "{codes:?}"
    );
}

/// What became of the connects during the restarts.
#[derive(Default)]
struct Connects {
    served: AtomicU64,
    /// Accepted, and closed before the handshake was complete.
    cut_off: AtomicU64,
    refused: AtomicU64,
}

impl Connects {
    /// Connects again and again until `done` is set.
    async fn run(self: Arc<Self>, address: SocketAddr, done: Arc<AtomicBool>) {
        while !done.load(Ordering::Relaxed) {
            let counter = match TcpStream::connect(address).await {
                Err(_) => &self.refused,
                Ok(tcp) => match client_async(format!("ws://{address}/ws/chat"), tcp).await {
                    Ok(_) => &self.served,
                    Err(_) => &self.cut_off,
                },
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Starts the daemon with a socket, as systemd does.
fn start_with(socket: &TcpListener) -> Daemon {
    let mut launcher = Command::new("sh");
    let script = format!(
        "exec 3<&{}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=peerdrop; exec \"$0\" \"$@\"",
        socket.as_raw_fd()
    );
    launcher.arg("-c").arg(script).arg(program().get_program());
    let listener =
        json!({"protocol": "peerdrop", "address": "systemd:peerdrop", "max_connections": 0});
    let config = json!({"log": "info", "max_connections": 0, "listeners": [listener]});
    Daemon::launch(launcher, config)
}

/// Restarts the daemon again and again, while its socket stays open and clients connect.
async fn restart(clients: usize) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&socket, 4096).unwrap();
    fcntl_setfd(&socket, FdFlags::empty()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut daemon = start_with(&socket);
    let connects = Arc::new(Connects::default());
    let done = Arc::new(AtomicBool::new(false));
    let connecting: Vec<JoinHandle<()>> = (0..CONNECTING)
        .map(|_| task::spawn(Arc::clone(&connects).run(address, Arc::clone(&done))))
        .collect();
    let mut told = 0;
    for _ in 0..RESTARTS {
        let pairs = Pairs::start(address, clients).await;
        daemon.signal(Signal::TERM);
        assert!(daemon.wait_for_exit().success());
        daemon = start_with(&socket);
        let (_, codes) = pairs.end().await;
        told += codes.iter().filter(|&&code| code == 1001).count();
    }
    done.store(true, Ordering::Relaxed);
    join_all(connecting).await;
    let [served, cut_off, refused] = [&connects.served, &connects.cut_off, &connects.refused]
        .map(|it| it.load(Ordering::Relaxed));
    println!(
        "restart: {RESTARTS} restarts with {clients} clients, of which {told} were told 1001; meanwhile {served} connects were \
         served, {cut_off} cut off in their handshake, {refused} refused"
    );
    assert!(told == RESTARTS * clients && refused == 0);
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let clients: usize = numbers.next().unwrap_or(1000);
    task::block_on(async {
        reload(clients).await;
        restart(clients).await;
        stop(clients).await;
    });
}
