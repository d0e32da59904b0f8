//! Attacks the memory of a daemon that has one thread and 128 MB, and prints what it took.
//!
//! `cargo bench --bench memory_attacks -- [ATTACK...]`, by default each of [`ATTACKS`], on a daemon of its own with the
//! default configuration and the environment of the systemd unit. The daemon runs in a control group (cgroup v1 or v2),
//! which takes root; without one its memory is not limited, and this is said. While an attack lasts and after it, a
//! pair of PeerDrop clients from another address exchanges messages.
//!
//! An attack ends; 10 s later memory is measured again. Exit status 1: the daemon did not survive, the pair
//! was closed, or more than [`SLACK`] did not come back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

mod attacks;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;
mod group;

use attacks::{chats, names, parts, sessions, slow};
use common::daemon::{Daemon, memory, program};
use common::websocket::{frame, peerdrop_pair, read_frame, text_frame};
use group::Group;
use serde_json::{Value, json};
use std::io::{Result, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;

/// Memory of the control group.
const LIMIT: usize = 128 << 20;

/// Most that resident memory may have grown from before the attack to [`RECOVERY`] after it.
const SLACK: u64 = 12 << 20;

/// How long memory has to come back.
const RECOVERY: Duration = Duration::from_secs(10);

/// How long an attack lasts.
const DURATION: Duration = Duration::from_secs(20);

/// Addresses of this machine: of the attackers, and of healthy clients.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const HEALTHY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// An attack on a daemon; what it did.
type Attack = fn(&Target) -> String;

const ATTACKS: [(&str, Attack); 6] = [
    ("names", names),
    ("chats", chats),
    ("sessions", sessions),
    ("parts", |target| parts(target, 4000)),
    ("fragments", |target| parts(target, 1)),
    ("slow", slow),
];

/// Listeners of the daemon under attack.
struct Target {
    addresses: Vec<SocketAddr>,
}

impl Target {
    fn address(&self, protocol: &str) -> SocketAddr {
        let index = PROTOCOLS.iter().position(|it| it.name == protocol);
        self.addresses[index.unwrap()]
    }
}

/// Memory of the daemon.
#[derive(Clone, Copy, Default)]
struct Sample {
    resident: u64,
    group: u64,
    sockets: u64,
}

impl Sample {
    fn take(daemon: &Daemon, group: Option<&Group>) -> Option<Self> {
        Some(Self {
            resident: memory(daemon.pid(), "VmRSS:")?,
            group: group.map_or(0, Group::usage),
            sockets: group.map_or(0, Group::sockets),
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            group: self.group.max(other.group),
            sockets: self.sockets.max(other.sockets),
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{:6.1} resident, {:6.1} group, {:6.1} sockets",
            mib(self.resident),
            mib(self.group),
            mib(self.sockets)
        )
    }
}

/// A healthy pair: how many messages arrived, and how long the slowest took; an error where it was closed.
#[derive(Default)]
struct Health {
    messages: u32,
    slowest: Duration,
    error: Option<String>,
}

fn main() {
    common::raise_open_files();
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    println!(
        "MiB; before the attack, at most, and {} s after it",
        RECOVERY.as_secs()
    );
    let mut has_failed = false;
    for (name, attack) in ATTACKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            has_failed |= !run(name, attack);
        }
    }
    std::process::exit(i32::from(has_failed));
}

/// Runs an attack, prints what it took, and returns whether all is well.
fn run(name: &str, attack: Attack) -> bool {
    let group = Group::create(name);
    if group.is_none() {
        println!("{name}: no control group can be made, so memory is not limited");
    }
    let daemon = start(group.as_ref());
    let target = Target {
        addresses: daemon.addresses.clone(),
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let health = Arc::new(Mutex::new(Health::default()));
    let pair = {
        let (is_over, health) = (Arc::clone(&is_over), Arc::clone(&health));
        let address = target.address("peerdrop");
        thread::spawn(move || keep_talking(address, &is_over, &health))
    };
    thread::sleep(Duration::from_secs(1));
    let before = Sample::take(&daemon, group.as_ref()).expect("the daemon has started");
    let mut most = before;
    let report = thread::scope(|scope| {
        let attack = scope.spawn(|| attack(&target));
        while !attack.is_finished() {
            if let Some(sample) = Sample::take(&daemon, group.as_ref()) {
                most = most.max(sample);
            }
            thread::sleep(Duration::from_millis(20));
        }
        attack
            .join()
            .unwrap_or_else(|_| "the attack failed".to_owned())
    });
    thread::sleep(RECOVERY);
    let after = Sample::take(&daemon, group.as_ref());
    is_over.store(true, Ordering::Relaxed);
    let _ = pair.join();
    let health = health.lock().unwrap();
    println!("{name}: {report}");
    println!("  before   {before}");
    println!("  at most  {most}");
    match after {
        Some(after) => println!("  after    {after}"),
        None => println!("  after    THE DAEMON IS DEAD"),
    }
    println!(
        "  pair     {} messages, the slowest took {} ms{}",
        health.messages,
        health.slowest.as_millis(),
        health
            .error
            .as_deref()
            .map_or(String::new(), |error| format!("; FAILED: {error}"))
    );
    let came_back = after.is_some_and(|after| after.resident < before.resident + SLACK);
    if !came_back {
        println!("  MEMORY DID NOT COME BACK");
    }
    came_back && health.error.is_none()
}

/// Starts the daemon in a group, with one thread, the default configuration and the unit's environment.
/// `SWITCHBOARD` may name another program than the one that cargo has built.
fn start(group: Option<&Group>) -> Daemon {
    let mut launcher = Command::new("sh");
    let enter = group.map_or(String::new(), Group::launcher);
    launcher
        .arg("-c")
        .arg(format!("{enter}exec \"${{SWITCHBOARD:-$0}}\" \"$@\""));
    let unit = include_str!("../../systemd/switchboard.service");
    let variables = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    launcher.envs(variables);
    let listeners = PROTOCOLS.iter().map(|it| json!({"protocol": it.name}));
    let listeners: Vec<Value> = listeners.collect();
    // The log says at `info` where the listeners are.
    let config = json!({"log": "info", "threads": 1, "listeners": listeners});
    launcher.arg(program().get_program());
    Daemon::launch(launcher, config)
}

/// Exchanges messages between a PeerDrop pair until `is_over`.
fn keep_talking(address: SocketAddr, is_over: &AtomicBool, health: &Mutex<Health>) {
    let talk = || -> Result<()> {
        let (mut creator, mut joiner) = peerdrop_pair(HEALTHY, address)?;
        while !is_over.load(Ordering::Relaxed) {
            let sent = Instant::now();
            creator.write_all(&text_frame(b"still there?"))?;
            loop {
                match read_frame(&mut joiner)? {
                    (0x1, _) => break,
                    (0x9, payload) => joiner.write_all(&frame(0x8a, &payload, payload.len()))?,
                    (opcode, payload) => {
                        let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                        let message = format!("frame {opcode:x} {reason}");
                        return Err(std::io::Error::other(message));
                    }
                }
            }
            let mut health = health.lock().unwrap();
            health.messages += 1;
            health.slowest = health.slowest.max(sent.elapsed());
            drop(health);
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    };
    if let Err(error) = talk() {
        health.lock().unwrap().error = Some(error.to_string());
    }
}
