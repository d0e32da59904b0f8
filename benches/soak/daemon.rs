//! The daemon that is tormented: started again and again on the same ports, its log in one file.

use crate::process::{cpu, memory, program, temporary_file};
use crate::shared_state::{DEADLINE, GLANCE, Protocol};
use async_std::task;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Instant;

pub struct Daemon {
    child: Child,
    config: PathBuf,
    /// In the order of [`Protocol::ALL`].
    pub addresses: Vec<SocketAddr>,
    pub log: PathBuf,
}

impl Daemon {
    /// Starts the first one, on ports that are free.
    pub async fn start(seed: u64) -> Self {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let listeners: Vec<TcpListener> = Protocol::ALL.iter().map(|_| listen()).collect();
        let addresses = listeners.iter().map(|it| it.local_addr().expect("bound"));
        let addresses: Vec<SocketAddr> = addresses.collect();
        drop(listeners);
        let config = temporary_file(&settings(&addresses).to_string());
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("soak-{seed}.log"));
        File::create(&log).expect("a file for the log");
        let child = launch(&config, &log).await;
        Self {
            child,
            config,
            addresses,
            log,
        }
    }

    /// Starts it again, after its end.
    pub async fn start_again(&mut self) {
        self.child = launch(&self.config, &self.log).await;
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is there");
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it was started here")
    }

    /// Waits for its end; none if it does not come.
    pub async fn ends(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            task::sleep(GLANCE / 10).await;
        }
        None
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        memory(Pid::from_child(&self.child), "VmRSS:").unwrap_or_default()
    }

    /// User and system time, in seconds.
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

/// Defaults but for what 2,000 clients of one address and one process need.
fn settings(addresses: &[SocketAddr]) -> Value {
    let listener = |(protocol, address): (Protocol, &SocketAddr)| {
        let mut settings = json!({"protocol": protocol.name(), "address": address});
        if protocol == Protocol::PeerDrop {
            // All come from one address, and some with the code of a session that just ended.
            settings["wrong_codes_per_minute"] = json!(0);
        }
        settings
    };
    let listeners = Protocol::ALL.into_iter().zip(addresses).map(listener);
    // All clients are one busy process: it may take a while until each has said goodbye.
    json!({
        "log": "info",
        "shutdown_timeout": 30,
        "listeners": listeners.collect::<Vec<Value>>(),
    })
}

async fn launch(config: &PathBuf, log: &PathBuf) -> Child {
    let output = OpenOptions::new().append(true).open(log);
    let before = std::fs::metadata(log).expect("the log is there").len();
    let written = || {
        let mut file = File::open(log).expect("the log is there");
        file.seek(SeekFrom::Start(before)).expect("a file");
        std::io::read_to_string(file).expect("a log in UTF-8")
    };
    let mut child = program()
        .arg("--config")
        .arg(config)
        .stdout(output.expect("the log is there"))
        .spawn()
        .expect("the daemon was built");
    let deadline = Instant::now() + DEADLINE;
    while !written().contains("ready in") {
        let ended = child.try_wait().expect("it was started here");
        assert!(ended.is_none(), "the daemon does not start: {}", written());
        assert!(Instant::now() < deadline, "the daemon is not ready");
        task::sleep(GLANCE / 10).await;
    }
    child
}
