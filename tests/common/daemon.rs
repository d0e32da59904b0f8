//! The daemon as a process.

use super::DEADLINE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// The program under test.
pub fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    program
        .env_remove("SWITCHBOARD_CONFIG")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    program
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// A file with this content, for as long as the test runs and a while longer.
pub fn temporary_file(content: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "switchboard-{}-{}.json",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::File::create(&path)
        .unwrap()
        .write_all(content.as_bytes())
        .unwrap();
    path
}

/// These settings, and others in addition or instead.
pub fn with(mut settings: Value, others: &Value) -> Value {
    let others = others.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(others);
    settings
}

/// Settings with which a listener of this protocol waits for its clients as long as they take. On a
/// loaded machine a test may be kept from its turn for longer than any time-out that users would want,
/// and then its clients would be closed. A test that is about a time-out sets that one.
fn patience(protocol: &str) -> Value {
    let own = match protocol {
        "fastchat" => json!({"hello_timeout": 0, "takeover_timeout": LONG}),
        "workspace" => json!({"idle_timeout": 0}),
        "loudsync" => json!({
            "join_timeout": 0, "heartbeat_timeout": LONG, "takeover_timeout": LONG,
        }),
        "peerjs" => json!({"alive_timeout": 0, "expire_timeout": LONG}),
        _ => json!({}),
    };
    let all = json!({"handshake_timeout": LONG, "ping_after": 0, "close_timeout": LONG});
    with(all, &own)
}

/// Longer than any test runs, in seconds, for time-outs that cannot be without a limit.
const LONG: u32 = 3600;

/// This configuration, in which time-outs that it does not name are without end (see [`patience`]).
fn patient(config: &Value) -> Value {
    let mut config = with(json!({"shutdown_timeout": LONG}), config);
    for listener in config["listeners"].as_array_mut().unwrap() {
        *listener = with(patience(listener["protocol"].as_str().unwrap()), listener);
    }
    config
}

/// A running daemon, ended with the test.
pub struct Daemon {
    child: Child,
    log: Receiver<String>,
    /// Where the listeners listen, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    config: PathBuf,
}

impl Daemon {
    /// A daemon with one listener.
    pub fn with(listener: Value) -> Self {
        Self::start(json!({"listeners": [listener]}))
    }

    /// A daemon with one listener of this protocol, and what is to be other than the defaults.
    pub fn of(protocol: &str, mut settings: Value) -> Self {
        settings["protocol"] = json!(protocol);
        Self::with(settings)
    }

    /// A daemon with this configuration. Listeners that name no address get a port from the
    /// system, and time-outs that the configuration does not name are without end (see [`patience`]).
    pub fn start(config: Value) -> Self {
        Self::as_configured(patient(&config))
    }

    /// The same, started by another program, which is given the daemon's and its arguments.
    pub fn start_by(mut launcher: Command, config: Value) -> Self {
        launcher.arg(program().get_program());
        Self::launch(launcher, patient(&config))
    }

    /// One with the time-outs that users have, as a benchmark wants it.
    pub fn as_configured(config: Value) -> Self {
        Self::launch(program(), config)
    }

    fn launch(mut program: Command, mut config: Value) -> Self {
        for listener in config["listeners"].as_array_mut().unwrap() {
            if listener.get("address").is_none() {
                listener["address"] = json!("127.0.0.1:0");
            }
        }
        let path = temporary_file(&config.to_string());
        let mut child = program
            .arg("--config")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| lines.send(line))
        });
        let mut daemon = Self {
            child,
            log,
            addresses: Vec::new(),
            config: path,
        };
        loop {
            let line = daemon.next_line();
            if let Some((_, address)) = line.split_once("listens on ws://") {
                let address = address.split('/').next().unwrap();
                daemon.addresses.push(address.parse().unwrap());
            } else if line.contains("ready in") {
                return daemon;
            }
        }
    }

    /// Where the only listener, or the first, listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn next_line(&self) -> String {
        self.log.recv_timeout(DEADLINE).expect("a line of the log")
    }

    /// The next line of the log, or none when the process has ended.
    pub fn next_line_if_any(&self) -> Option<String> {
        match self.log.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the daemon does not end"),
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line of the log that contains this, and returns it.
    pub fn logs(&self, part: &str) -> String {
        std::iter::repeat_with(|| self.next_line())
            .find(|line| line.contains(part))
            .unwrap()
    }

    /// Nobody reads the log any more.
    pub fn close_log(&mut self) {
        self.log = channel().1;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until the process has ended.
    pub fn ends(mut self) -> ExitStatus {
        let (done, end) = channel();
        thread::scope(|scope| {
            let child = &mut self.child;
            let pid = Pid::from_child(child);
            scope.spawn(move || done.send(child.wait().unwrap()));
            end.recv_timeout(DEADLINE).unwrap_or_else(|_| {
                let _ = kill_process(pid, Signal::KILL);
                panic!("the daemon does not end")
            })
        })
    }

    /// How many sockets the daemon has open.
    pub fn sockets(&self) -> usize {
        let files = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        let files = std::fs::read_dir(files).unwrap();
        // A file that is closed meanwhile is not there.
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS:").unwrap()
    }

    /// User and system time.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid()).unwrap()
    }
}

/// Memory of a process that is there, in bytes: `VmRSS:` is what is resident, `VmHWM:` what ever was at
/// the most.
pub fn memory(pid: Pid, which: &str) -> Option<u64> {
    let pid = pid.as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(which))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// User and system time of a process that is there.
pub fn cpu(pid: Pid) -> Option<Duration> {
    let pid = pid.as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields = fields.split(' ').skip(11).take(2);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // The kernel counts in hundredths of a second.
    (ticks.len() == 2).then(|| Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}
