//! A daemon that is operated: by the commands of the program, over its status port.

use super::{Client, Daemon, program};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ids of users of FastChat.
pub const ANN: &str = "11111111-1111-4111-8111-111111111111";
pub const BEN: &str = "22222222-2222-4222-8222-222222222222";

/// A runtime directory, which is removed with all that is in it.
pub struct RuntimeDirectory(pub PathBuf);

impl RuntimeDirectory {
    /// Creates one.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (pid, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("switchboard-run-{pid}-{next}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Starts a daemon with a status port. `variable` names the directory.
    pub fn start(&self, variable: &str, config: &Value) -> Daemon {
        let mut config = config.clone();
        config["status"] = json!("127.0.0.1:0");
        let mut launcher = Command::new("env");
        launcher.arg(format!("{variable}={}", self.0.display()));
        Daemon::start_with_launcher(launcher, config)
    }
}

impl Drop for RuntimeDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon and its operator.
pub struct Operated {
    pub daemon: Daemon,
    pub directory: RuntimeDirectory,
}

impl Operated {
    /// Starts a daemon with these listeners.
    pub fn start(listeners: &Value) -> Self {
        let directory = RuntimeDirectory::new();
        let daemon = directory.start("RUNTIME_DIRECTORY", &json!({"listeners": listeners}));
        Self { daemon, directory }
    }

    /// Starts a daemon with a listener of FastChat.
    pub fn fastchat() -> Self {
        Self::start(&json!([{"protocol": "fastchat"}]))
    }

    /// The address of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// The address of the status port.
    pub fn status(&self) -> SocketAddr {
        self.daemon.status.unwrap()
    }

    /// Runs a command of the operator.
    pub fn command(&self, line: &str) -> Output {
        let variable = ("RUNTIME_DIRECTORY", self.directory.0.as_path());
        operate(self.status(), variable, line)
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn output(&self, line: &str) -> String {
        let output = self.command(line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert_eq!(stderr(&output), "", "{line}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with status 1 and without output, and returns what it says.
    pub fn problem(&self, line: &str) -> String {
        problem(&self.command(line))
    }

    /// The rows of `switchboard clients`, each with its words.
    pub fn clients(&self) -> Vec<Vec<String>> {
        let output = self.output("clients");
        let mut rows: Vec<&str> = output.lines().collect();
        let count = rows.pop().unwrap();
        if !rows.is_empty() {
            rows.remove(0);
        }
        let expected = match rows.len() {
            0 => "nobody is connected".to_owned(),
            1 => "1 client".to_owned(),
            rows => format!("{rows} clients"),
        };
        assert_eq!(count, expected);
        let words = |row: &&str| row.split_whitespace().map(str::to_owned).collect();
        rows.iter().map(words).collect()
    }

    /// The ids and names of the clients.
    pub fn names(&self) -> Vec<String> {
        let rows = self.clients();
        rows.iter().map(|row| row[7..].join(" ")).collect()
    }

    /// The token of the daemon.
    pub fn token(&self) -> String {
        let token = fs::read_to_string(self.directory.0.join("token")).unwrap();
        token.trim().to_owned()
    }
}

/// Runs a command of an operator, about the daemon with this status port.
pub fn operate(status: SocketAddr, (name, value): (&str, &Path), line: &str) -> Output {
    let mut command = program();
    command.args(line.split(' ')).env(name, value);
    command.arg(format!("--set=status={status}"));
    command.output().unwrap()
}

/// Returns what a command has printed as errors.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns what a command says that has failed with status 1.
pub fn problem(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"", "{output:?}");
    let text = stderr(output);
    let text = text.strip_prefix("switchboard: ").unwrap();
    text.trim_end().to_owned()
}

/// Connects to FastChat as a user.
pub fn fastchat(address: SocketAddr, user_id: &str, name: &str) -> Client {
    let mut client = Client::connect(address, "/ws");
    let data = json!({"user_id": user_id, "display_name": name});
    client.send(json!({"type": "HELLO", "data": data}).to_string());
    client.receive_type("HELLO_ACK");
    client
}
