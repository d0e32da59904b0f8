//! The daemon as a child process.

use super::DEADLINE;
use super::protocol_files::protocol_file;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use signal_hook::consts::SIGHUP;
use signal_hook::flag::register_conditional_shutdown;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Once};
use std::thread;
use std::time::Duration;

/// Returns a command for the program under test, with no configuration from the environment.
pub fn program() -> Command {
    command(env!("CARGO_BIN_EXE_switchboard"))
}

/// Returns such a command for any build of the program.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    unignore_hangup();
    let mut program = Command::new(program);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("SWITCHBOARD_")) {
        program.env_remove(name);
    }
    program
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM")
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("RUNTIME_DIRECTORY")
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    program
}

/// Lets programs that are started have SIGHUP, which they ignore if this process does, as under `nohup`. A signal with a
/// handler is none that they ignore.
fn unignore_hangup() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        let ends = Arc::new(AtomicBool::new(true));
        register_conditional_shutdown(SIGHUP, 1, ends).unwrap();
    });
}

/// Returns the environment that the systemd unit sets. Without the unit's settings of malloc, not all freed memory
/// goes back to the system.
fn unit_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let unit = include_str!("../../systemd/switchboard.service");
    let settings = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="));
    settings.map(|setting| setting.split_once('=').unwrap())
}

/// Runs the program until it exits.
pub fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// Opens a terminal. Returns its controlling end, and the one that programs have.
pub fn open_terminal() -> (File, File) {
    // Programs must not have the controlling end, which they would keep open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let programs_end = File::options()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (terminal.into(), programs_end)
}

/// Runs a command at a terminal: its standard error is one.
pub fn run_at_terminal(mut command: Command) -> Output {
    let (mut terminal, stderr) = open_terminal();
    let child = command
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    // Closes this process's copy of the terminal, so that reading ends with the program.
    drop(command);
    let mut stderr = Vec::new();
    // At the end of a terminal there is an error (EIO).
    let _ = terminal.read_to_end(&mut stderr);
    let output = child.wait_with_output().unwrap();
    Output { stderr, ..output }
}

/// A path whose file is removed on drop.
pub struct TemporaryPath(pub PathBuf);

impl Deref for TemporaryPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for TemporaryPath {
    fn as_ref(&self) -> &Path {
        self
    }
}

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Returns a path of a socket at which there is nothing.
pub fn socket_path() -> TemporaryPath {
    TemporaryPath(new_path("sock"))
}

/// Returns a path in the directory for temporary files at which there is nothing.
fn new_path(extension: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "switchboard-{}-{}.{extension}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    std::env::temp_dir().join(name)
}

/// Creates a file with this content in the directory for temporary files. The caller may remove it.
pub fn temporary_file(content: &str) -> PathBuf {
    let path = new_path("json");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(content.as_bytes())
        .unwrap();
    path
}

/// Creates a file that its owner alone can read, as one with secrets should be.
pub fn private_file(content: &str) -> TemporaryPath {
    let path = TemporaryPath(temporary_file(content));
    std::fs::set_permissions(&*path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Returns `settings` with `others` added; where both have a key, `others` replaces it.
pub fn merge(mut settings: Value, others: &Value) -> Value {
    let others = others.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(others);
    settings
}

/// Returns settings of a listener of this protocol under which no time-out ends within a test. On a
/// loaded machine a test may not be scheduled for longer than any time-out that users would want, and
/// its clients would be closed. A test of a time-out sets that one. Those of the protocol are in its folder.
fn long_timeouts(protocol: &str) -> Value {
    let own = protocol_file(
        &protocol.to_lowercase(),
        "tests/timeouts.json",
        "the options under which no time-out of the protocol ends within a test, and none makes a test wait, such as \
         {\"hello_timeout\": 0}; {} if it has no time-outs",
    );
    let own = serde_json::from_str(&own).expect("timeouts.json is JSON");
    let all = json!({"handshake_timeout": LONG, "ping_after": 0, "message_timeout": 0, "close_timeout": LONG});
    merge(all, &own)
}

/// Longer than any test runs, in seconds: for time-outs that cannot be switched off.
const LONG: u32 = 3600;

/// Returns this configuration with long time-outs where it names none (see [`long_timeouts`]).
fn with_long_timeouts(config: &Value) -> Value {
    let mut config = merge(json!({"shutdown_timeout": LONG}), config);
    for listener in config["listeners"].as_array_mut().unwrap() {
        *listener = merge(
            long_timeouts(listener["protocol"].as_str().unwrap()),
            listener,
        );
    }
    config
}

/// Returns this configuration with an address and a host where a listener names none, and without a status port if it
/// names none.
fn for_tests(mut config: Value) -> Value {
    for listener in config["listeners"].as_array_mut().unwrap() {
        if listener.get("address").is_none() {
            listener["address"] = json!("127.0.0.1:0");
        }
        #[cfg(feature = "tls")]
        super::tls::encrypt_listener(listener);
        // The name of the daemon in requests that tests write by hand.
        if listener.get("hosts").is_none() {
            listener["hosts"] = json!(["h"]);
        }
    }
    // Many daemons run at the same time.
    if config.get("status").is_none() {
        config["status"] = Value::Null;
    }
    config
}

/// Returns the address of a listener that this line of the log says.
pub fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, url) = line.split_once("listens on ws")?;
    let address = url.trim_start_matches('s').strip_prefix("://")?;
    let address = address.split('/').next().unwrap();
    // Both stand for several addresses.
    let address = address
        .replace("localhost", "127.0.0.1")
        .replace('*', "127.0.0.1");
    Some(address.parse().unwrap())
}

/// A running daemon, killed on drop.
pub struct Daemon {
    child: Child,
    log: Receiver<String>,
    /// The lines of the log until the daemon was ready.
    pub start_of_log: Vec<String>,
    /// The address of the status port, if the configuration has one.
    pub status: Option<SocketAddr>,
    /// The addresses of the listeners, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    config: PathBuf,
}

impl Daemon {
    /// Starts a daemon with one listener.
    pub fn start_listener(listener: Value) -> Self {
        Self::start(json!({"listeners": [listener]}))
    }

    /// Starts a daemon with one listener of this protocol and these settings.
    pub fn start_protocol(protocol: &str, mut settings: Value) -> Self {
        settings["protocol"] = json!(protocol);
        Self::start_listener(settings)
    }

    /// Starts a daemon with this configuration. A listener without an address gets a port that the
    /// system chooses; time-outs that the configuration does not name are long (see [`long_timeouts`]).
    pub fn start(config: Value) -> Self {
        Self::start_as_configured(with_long_timeouts(&config))
    }

    /// Does the same through a launcher, a program whose arguments are the daemon's program and its
    /// arguments.
    pub fn start_with_launcher(mut launcher: Command, config: Value) -> Self {
        launcher.arg(program().get_program());
        Self::launch(launcher, with_long_timeouts(&config))
    }

    /// Starts a daemon with the default time-outs where the configuration names none, for benchmarks.
    pub fn start_as_configured(config: Value) -> Self {
        Self::launch(program(), config)
    }

    /// Starts a daemon with the default time-outs by this program, which is given the arguments.
    pub fn launch(mut program: Command, config: Value) -> Self {
        let path = temporary_file(&for_tests(config).to_string());
        let mut child = program
            .envs(unit_environment())
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
            start_of_log: Vec::new(),
            addresses: Vec::new(),
            status: None,
            config: path,
        };
        loop {
            let line = daemon.expect_log_line();
            daemon.start_of_log.push(line.clone());
            if let Some((_, address)) = line.split_once("status on http://") {
                daemon.status = address.split('/').next().unwrap().parse().ok();
            } else if let Some(address) = listening_address(&line) {
                #[cfg(feature = "tls")]
                let address = super::tls::address_for_clients(&line, address);
                daemon.addresses.push(address);
            // Not "already in use".
            } else if line.contains("ready in ") && line.contains(" connections, because of ") {
                return daemon;
            }
        }
    }

    /// Returns the address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn expect_log_line(&self) -> String {
        self.log.recv_timeout(DEADLINE).expect("a line of the log")
    }

    /// Returns the next line of the log, or none if the process has exited.
    pub fn next_log_line(&self) -> Option<String> {
        match self.log.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the daemon does not exit"),
        }
    }

    /// Stops the daemon. Returns the whole log, without the lines that were waited for.
    pub fn stop_and_read_log(&mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let mut log = std::mem::take(&mut self.start_of_log);
        log.extend(std::iter::from_fn(|| self.next_log_line()));
        log
    }

    /// Writes another configuration, with what [`Daemon::start`] adds to it.
    pub fn rewrite_config(&self, config: &Value) {
        let config = for_tests(with_long_timeouts(config));
        std::fs::write(&self.config, config.to_string()).unwrap();
    }

    /// Has the daemon reload another configuration. Returns the lines of the log up to the one that says what has
    /// changed.
    pub fn reload(&self, config: &Value) -> Vec<String> {
        self.rewrite_config(config);
        self.signal(Signal::HUP);
        self.log_until("reloaded: ")
    }

    /// Returns the lines of the log up to the next one that contains `part`.
    pub fn log_until(&self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.expect_log_line();
            let is_last = line.contains(part);
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }

    /// Returns the path of the configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns whether the process has exited.
    pub fn has_exited(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line of the log that contains `part`, and returns it.
    pub fn wait_for_log(&self, part: &str) -> String {
        std::iter::repeat_with(|| self.expect_log_line())
            .find(|line| line.contains(part))
            .unwrap()
    }

    /// Closes the reading end of the pipe to which the log is written, after the next line at the latest.
    pub fn close_log(&mut self) {
        self.log = channel().1;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until the process has exited.
    pub fn wait_for_exit(mut self) -> ExitStatus {
        let (exited, exit) = channel();
        thread::scope(|scope| {
            let child = &mut self.child;
            let pid = Pid::from_child(child);
            scope.spawn(move || exited.send(child.wait().unwrap()));
            exit.recv_timeout(DEADLINE).unwrap_or_else(|_| {
                let _ = kill_process(pid, Signal::KILL);
                panic!("the daemon does not exit")
            })
        })
    }

    /// Returns the number of sockets that the daemon has open.
    pub fn open_sockets(&self) -> usize {
        let files = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        let files = std::fs::read_dir(files).unwrap();
        // A file that has been closed since the listing has no target.
        let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    }

    /// Returns the resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS:").unwrap()
    }

    /// Returns the user and system time.
    pub fn cpu(&self) -> Duration {
        cpu(self.pid()).unwrap()
    }
}

/// Returns a memory figure of a process, in bytes, or none if it has exited: `VmRSS:` is the resident memory,
/// `VmHWM:` its peak.
pub fn memory(pid: Pid, which: &str) -> Option<u64> {
    let pid = pid.as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(which))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Returns the user and system time of a process, or none if it has exited.
pub fn cpu(pid: Pid) -> Option<Duration> {
    let pid = pid.as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, which precedes the fields, may contain spaces and parentheses.
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
