//! The daemon under test as a process, which is started several times with one configuration and one log.

use crate::clients;
use crate::common::daemon::{cpu, memory, program, temporary_file};
use crate::shared_state::{DEADLINE, POLL_INTERVAL, Protocol};
use async_std::task;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Instant;

/// The daemon process, killed on drop.
pub struct Daemon {
    child: Child,
    config: PathBuf,
    /// Where it listens, in the order of [`Protocol::all`].
    pub addresses: Vec<SocketAddr>,
    /// The file that has its log, which is kept.
    pub log: PathBuf,
}

impl Daemon {
    /// Starts the daemon on free ports, and waits until it is ready.
    pub async fn start(seed: u64) -> Self {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let listeners: Vec<TcpListener> = Protocol::all().map(|_| listen()).collect();
        let addresses = listeners.iter().map(|it| it.local_addr().expect("bound"));
        let addresses: Vec<SocketAddr> = addresses.collect();
        drop(listeners);
        let config = temporary_file(&configuration(&addresses).to_string());
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{seed}.log"));
        File::create(&log).expect("the log can be created");
        let child = launch(&config, &log).await;
        Self {
            child,
            config,
            addresses,
            log,
        }
    }

    /// Starts the daemon again after it has exited, on the same ports.
    pub async fn start_again(&mut self) {
        self.child = launch(&self.config, &self.log).await;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process exists");
    }

    /// Returns the exit status, if the daemon has exited.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of this process")
    }

    /// Waits for the daemon to exit. Returns none if it does not in time.
    pub async fn wait_for_exit(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status() {
                return Some(status);
            }
            task::sleep(POLL_INTERVAL / 10).await;
        }
        None
    }

    /// Returns the resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        memory(Pid::from_child(&self.child), "VmRSS:").unwrap_or_default()
    }

    /// Returns the user and system time, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu(Pid::from_child(&self.child))
            .unwrap_or_default()
            .as_secs_f64()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

/// Returns the configuration: the defaults, but for what thousands of clients of one address need.
fn configuration(addresses: &[SocketAddr]) -> Value {
    let listener = |(protocol, address): (Protocol, &SocketAddr)| {
        let mut settings = json!({"protocol": protocol.name(), "address": address});
        if protocol == clients::peerdrop::PROTOCOL {
            // All clients have one address, and some use the code of a session that has just ended.
            settings["wrong_codes_per_minute"] = json!(0);
            settings["total_wrong_codes_per_minute"] = json!(0);
        }
        if protocol == clients::workspace::PROTOCOL {
            // What is due at a quiescent point must not wait for a budget, and a client that the machine does not
            // run for 5 s must not lose its place.
            settings["announcements_per_second"] = json!(0);
            settings["announcement_interval"] = json!(0);
            settings["takeover_after"] = json!(3600);
        }
        settings
    };
    let listeners = Protocol::all().zip(addresses).map(listener);
    // All clients are in one busy process, and need a while to answer their Close frames.
    json!({
        "log": "info",
        "shutdown_timeout": 30,
        "listeners": listeners.collect::<Vec<Value>>(),
    })
}

/// Starts the process, and waits for the line in its log that says it is ready.
async fn launch(config: &PathBuf, log: &PathBuf) -> Child {
    let output = OpenOptions::new().append(true).open(log);
    let before = std::fs::metadata(log).expect("the log exists").len();
    let written = || {
        let mut file = File::open(log).expect("the log exists");
        file.seek(SeekFrom::Start(before)).expect("a regular file");
        std::io::read_to_string(file).expect("a log in UTF-8")
    };
    let mut child = program()
        .arg("--config")
        .arg(config)
        .stdout(output.expect("the log exists"))
        .spawn()
        .expect("cargo has built the daemon");
    let deadline = Instant::now() + DEADLINE;
    while !written().contains("ready in") {
        let exited = child.try_wait().expect("a child of this process");
        assert!(exited.is_none(), "the daemon does not start: {}", written());
        assert!(Instant::now() < deadline, "the daemon is not ready in time");
        task::sleep(POLL_INTERVAL / 10).await;
    }
    child
}
