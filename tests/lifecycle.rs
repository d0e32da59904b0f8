//! How the daemon starts and ends.

use crate::common::{
    Client, DEADLINE, Daemon, HANDSHAKE, http, program, run, temporary_file, wait_until,
};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, prlimit};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn both() -> Daemon {
    Daemon::start(json!({"listeners": [{"protocol": "peerdrop"}, {"protocol": "workspace"}]}))
}

#[test]
fn a_port_in_use_is_one_clear_line_and_nothing_half_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    // A port that was free a moment ago may be another socket's by now, so the system chooses one.
    let config = json!({"listeners": [
        {"protocol": "peerdrop", "address": "127.0.0.1:0"},
        {"protocol": "workspace", "address": taken.1},
    ]});
    let file = temporary_file(&config.to_string());
    let output = run(&["--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let problem = String::from_utf8(output.stderr).unwrap();
    assert_eq!(problem.lines().count(), 1, "{problem}");
    assert!(
        problem.contains(&format!(
            "listeners[1] (workspace) cannot listen on {}: ",
            taken.1
        )),
        "{problem}"
    );
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(!log.contains("listens on"), "{log}");
}

/// A socket like the one on which systemd is told how a service does, and its path.
fn systemd(name: &str) -> (UnixDatagram, PathBuf) {
    let path = std::env::temp_dir().join(format!("switchboard-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    (socket, path)
}

/// What a daemon with these arguments and this environment logs from its start to its end.
fn log_of(arguments: &[&str], rust_log: &str, log: Option<&str>) -> String {
    let listener = json!({"protocol": "workspace", "address": "127.0.0.1:0"});
    let file = temporary_file(&json!({"log": log, "listeners": [listener]}).to_string());
    let (systemd, path) = systemd("ready");
    let mut daemon = program();
    daemon.arg("--config").arg(&file).args(arguments);
    daemon.env("RUST_LOG", rust_log).env("NOTIFY_SOCKET", &path);
    let daemon = daemon.stdout(Stdio::piped()).spawn().unwrap();
    // It says that it is ready whatever it logs.
    systemd.recv(&mut [0; 100]).unwrap();
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    let _ = (std::fs::remove_file(&path), std::fs::remove_file(&file));
    String::from_utf8(daemon.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn the_log_level_is_that_of_the_arguments_then_the_configuration_then_the_environment() {
    let logs = |arguments: &[&str], rust_log, config| {
        log_of(arguments, rust_log, config).contains("listens on")
    };
    assert!(logs(&["--log", "info"], "error", Some("error")));
    assert!(!logs(&["--log", "error"], "info", Some("info")));
    assert!(logs(&[], "error", Some("info")));
    assert!(!logs(&[], "info", Some("error")));
    assert!(!logs(&[], "error", None));
    let log = log_of(&[], "switchboard=debug", None);
    assert!(
        log.contains("RUST_LOG is ignored") && log.contains("listens on"),
        "{log}"
    );
}

#[test]
fn the_open_files_limit_is_raised_as_far_as_it_goes() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -n 256 && exec "$0" "$@""#]);
    let daemon = Daemon::start_by(shell, json!({"listeners": [{"protocol": "workspace"}]}));
    let ours = getrlimit(Resource::Nofile);
    let limits = prlimit(Some(daemon.pid()), Resource::Nofile, ours).unwrap();
    assert_eq!(limits.maximum, ours.maximum);
    assert_eq!(limits.current, limits.maximum);
}

#[test]
fn there_are_as_many_executor_threads_as_configured() {
    let daemon = Daemon::start(json!({"threads": 3, "listeners": [{"protocol": "workspace"}]}));
    let tasks = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let names = || {
        let tasks = std::fs::read_dir(&tasks).unwrap();
        // A thread that ends meanwhile has no name.
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect::<Vec<_>>()
    };
    // A thread gives itself its name when it first runs.
    let threads = || names().iter().filter(|name| *name == "executor").count();
    wait_until("there are three threads, and all others", || {
        threads() == 3 && names().len() >= 5
    });
    assert_eq!(
        names().len(),
        5,
        "main, three executors, the runtime's own: {:?}",
        names()
    );
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let (systemd, path) = systemd("notify");
    let mut env = Command::new("env");
    env.arg(format!("NOTIFY_SOCKET={}", path.display()));
    let daemon = Daemon::start_by(env, json!({"listeners": [{"protocol": "workspace"}]}));
    let told = || {
        let mut message = [0; 100];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    assert_eq!(told().trim(), "READY=1");
    daemon.signal(Signal::TERM);
    assert_eq!(told().trim(), "STOPPING=1");
    let _ = std::fs::remove_file(&path);
}

#[test]
fn the_log_has_addresses_and_figures_and_never_contents() {
    let listener = json!({"protocol": "workspace", "trusted_proxies": ["127.0.0.1"]});
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    let headers = [("x-forwarded-for", "192.0.2.7")];
    let client = Client::try_connect(daemon.address(), "/ws?username=Marker", &headers);
    let mut client = client.ok().unwrap();
    client.text();
    client.says(r#"{"type":"message:send","text":"Marker"}"#);
    client.text();
    client.says("Marker");
    client.text();
    daemon.signal(Signal::TERM);
    client.closed();
    // The daemon ends when the client's socket is closed.
    drop(client);
    let log: Vec<String> = std::iter::from_fn(|| daemon.next_line_if_any()).collect();
    assert!(
        log.iter()
            .any(|line| line.contains("opened from 192.0.2.7")),
        "{log:#?}"
    );
    assert!(
        log.iter().any(|line| line.contains("2 messages (")),
        "{log:#?}"
    );
    assert!(!log.iter().any(|line| line.contains("Marker")), "{log:#?}");
}

#[test]
fn sigterm_and_sigint_say_goodbye_to_everybody_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = both();
        let mut one = Client::connect(daemon.addresses[0], "/ws/chat");
        let mut other = Client::connect(daemon.addresses[1], "/ws");
        one.text();
        other.text();
        daemon.signal(signal);
        assert_eq!(one.closed(), (1001, "server going away".to_owned()));
        assert_eq!(other.closed(), (1001, "server going away".to_owned()));
        drop((one, other));
        daemon.logs("2 server going away");
        assert_eq!(daemon.ends().code(), Some(0));
    }
}

#[test]
fn who_does_not_answer_a_goodbye_is_not_waited_for_longer_than_configured() {
    let config = json!({"shutdown_timeout": 0.1, "listeners": [{"protocol": "workspace", "close_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let mut deaf = Client::connect(daemon.address(), "/ws");
    deaf.text();
    daemon.signal(Signal::TERM);
    daemon.logs("are cut off");
    assert_eq!(daemon.ends().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let config = json!({"shutdown_timeout": 1000, "listeners": [{"protocol": "workspace", "close_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let mut deaf = Client::connect(daemon.address(), "/ws");
    deaf.text();
    daemon.signal(Signal::TERM);
    daemon.logs("closing all connections");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().code(), Some(1));
}

#[test]
fn a_handshake_under_way_does_not_hold_up_a_stop() {
    let config = json!({"shutdown_timeout": 1000, "listeners": [{"protocol": "workspace", "handshake_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let _silent = TcpStream::connect(daemon.address()).unwrap();
    // Accepted in the order of their coming.
    http(daemon.address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ends().code(), Some(0));
}

#[test]
fn without_a_reader_of_its_log_it_ends_rather_than_dropping_clients_one_by_one() {
    let mut daemon = both();
    daemon.close_log();
    // Each connection is a line or two.
    wait_until("it ends", || {
        let _ = TcpStream::connect(daemon.addresses[1]).and_then(|mut stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.write_all(HANDSHAKE.as_bytes())?;
            stream.read(&mut [0; 100])
        });
        daemon.has_ended()
    });
    assert_eq!(daemon.ends().code(), Some(1));
}
