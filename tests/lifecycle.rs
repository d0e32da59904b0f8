//! Start and stop: ports, log levels, limits of the process, systemd, signals and the exit status.

use crate::common::{
    Client, DEADLINE, Daemon, HANDSHAKE, http, notification, notify_socket, program,
    run_at_terminal, temporary_file, wait_until,
};
use rustix::process::{Pid, Resource, Signal, getrlimit, kill_process, prlimit};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// Starts a daemon with a PeerDrop and a Workspace listener.
fn two_listeners() -> Daemon {
    Daemon::start(json!({"listeners": [{"protocol": "peerdrop"}, {"protocol": "workspace"}]}))
}

#[test]
fn a_port_in_use_is_one_line_at_a_terminal_and_no_listener_starts() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = other.local_addr().unwrap();
    // The system chooses the other port: one that was free a moment ago may be in use by now.
    let config = json!({"listeners": [
        {"protocol": "peerdrop", "address": "127.0.0.1:0"},
        {"protocol": "workspace", "address": in_use},
    ]});
    let file = temporary_file(&config.to_string());
    let mut command = program();
    command.arg("--config").arg(&file);
    let output = run_at_terminal(command);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains(&format!(
            "listeners[1] (workspace) cannot listen on {in_use}: "
        )),
        "{error}"
    );
}

#[test]
fn a_port_in_use_is_tried_again_while_the_others_are_served() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = other.local_addr().unwrap();
    let config = json!({"log": "info", "listeners": [
        {"protocol": "peerdrop", "address": "127.0.0.1:0"},
        {"protocol": "workspace", "address": in_use},
    ]});
    let (socket, path) = notify_socket("taken");
    let mut env = Command::new("env");
    env.arg(format!("NOTIFY_SOCKET={}", path.display()));
    let daemon = Daemon::start_with_launcher(env, config);
    assert_eq!(notification(&socket).trim(), "READY=1");
    let mut creator = Client::connect(daemon.addresses[0], "/ws/chat");
    assert_eq!(creator.receive_text().len(), 6);
    let status = loop {
        let status = notification(&socket);
        if status.contains("1 connections") {
            break status;
        }
    };
    assert!(
        status
            .trim()
            .ends_with(&format!("; workspace waits for {in_use}")),
        "{status}"
    );
    drop(other);
    daemon.wait_for_log(&format!("workspace  listens on ws://{in_use}/ws"));
    Client::connect(in_use, "/ws?username=ann").receive_text();
    let _ = std::fs::remove_file(&path);
}

#[test]
fn systemd_is_told_that_the_daemon_is_well_while_the_broker_works() {
    let (socket, path) = notify_socket("watchdog");
    let mut env = Command::new("env");
    env.arg(format!("NOTIFY_SOCKET={}", path.display()));
    env.arg("WATCHDOG_USEC=30000000");
    let _daemon =
        Daemon::start_with_launcher(env, json!({"listeners": [{"protocol": "workspace"}]}));
    assert_eq!(notification(&socket).trim(), "READY=1");
    let first = notification(&socket);
    assert!(
        first.contains("WATCHDOG=1") && first.contains("STATUS=0 connections, 0 MiB"),
        "{first}"
    );
    // The status is the same, and not said again.
    assert_eq!(notification(&socket).trim(), "WATCHDOG=1");
    let _ = std::fs::remove_file(&path);
}

/// Runs a daemon with these arguments, this value of `RUST_LOG` and this `log` in its configuration
/// until it is ready. Returns its whole log.
fn log_of(arguments: &[&str], rust_log: &str, log: Option<&str>) -> String {
    let listener = json!({"protocol": "workspace", "address": "127.0.0.1:0"});
    let file = temporary_file(&json!({"log": log, "listeners": [listener]}).to_string());
    let (socket, path) = notify_socket("ready");
    let mut daemon = program();
    daemon.arg("--config").arg(&file).args(arguments);
    daemon.env("RUST_LOG", rust_log).env("NOTIFY_SOCKET", &path);
    let daemon = daemon.stdout(Stdio::piped()).spawn().unwrap();
    // systemd is notified at every log level.
    notification(&socket);
    kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
    let _ = (std::fs::remove_file(&path), std::fs::remove_file(&file));
    String::from_utf8(daemon.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn the_log_level_comes_from_the_arguments_then_the_configuration_then_the_environment() {
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
fn listeners_are_counted_against_the_open_files_limit() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 202 && exec "$0" "$@""#]);
    // Of 202 descriptors 100 are the listeners', 64 are reserved, and two are the thread's.
    let listeners: Vec<_> = (0..100).map(|_| json!({"protocol": "peerdrop"})).collect();
    let daemon = Daemon::start_with_launcher(shell, json!({"threads": 1, "listeners": listeners}));
    let connect = |number: usize| {
        let address = daemon.addresses[number % daemon.addresses.len()];
        Client::try_connect(address, "/ws/chat", &[])
    };
    let clients: Vec<_> = (0..36).map(connect).collect();
    assert!(clients.iter().all(Result::is_ok));
    // The clients above the limit are told so, each of them.
    let rejected = (0..20).map(connect).filter_map(Result::err);
    assert_eq!(rejected.filter(|status| *status == 503).count(), 20);
    daemon.signal(Signal::TERM);
    drop(clients);
    let log: Vec<String> = std::iter::from_fn(|| daemon.next_log_line()).collect();
    let complaint = log.iter().find(|line| line.contains("cannot accept"));
    assert_eq!(complaint, None);
}

#[test]
fn the_ready_line_says_how_many_connections_there_may_be_and_what_decided() {
    let ready = |limit: &str, max_connections: usize| {
        let file = temporary_file(
            &json!({
                "max_connections": max_connections, "threads": 1, "status": "127.0.0.1:0",
                "listeners": [{"protocol": "workspace", "address": "127.0.0.1:0"}],
            })
            .to_string(),
        );
        let (socket, path) = notify_socket("capacity");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!(r#"{limit} && exec "$0" "$@""#)]);
        shell
            .arg(program().get_program())
            .arg("--config")
            .arg(&file);
        shell.env("NOTIFY_SOCKET", &path).stdout(Stdio::piped());
        let daemon = shell.spawn().unwrap();
        notification(&socket);
        kill_process(Pid::from_child(&daemon), Signal::TERM).unwrap();
        let _ = (std::fs::remove_file(&path), std::fs::remove_file(&file));
        String::from_utf8(daemon.wait_with_output().unwrap().stdout).unwrap()
    };
    // 64 descriptors for rejections, the runtime and the log, two for the thread, as many as 64 for the status port, and
    // two sockets.
    let log = ready("ulimit -n 232", 0);
    let text = "at most 100 connections, because of the open-files limit";
    assert!(log.contains(text), "{log}");
    let log = ready("ulimit -n 232", 99);
    let text = "at most 99 connections, because of max_connections";
    assert!(log.contains(text), "{log}");
    let log = ready("ulimit -n 232", 101);
    let text = "max_connections is 101, but the open-files limit allows 100";
    assert!(log.contains(text), "{log}");
    // 192 MiB, without 64 for each of two threads, a quarter of the rest as budget, and 8: in pieces of 16 KiB.
    let log = ready("ulimit -v 196608", 0);
    let text = "at most 2560 connections, because of the memory of the address-space limit";
    assert!(log.contains(text), "{log}");
    let log = ready("ulimit -v 196608", 2561);
    let text = "the memory of the address-space limit suffices for about 2560";
    assert!(log.contains(text), "{log}");
}

#[test]
fn a_limited_address_space_suffices_for_the_connections_that_it_is_said_to() {
    let mut shell = Command::new("sh");
    // For the program without optimizations, which is 9 MB larger; a release starts with 140000.
    shell.args(["-c", r#"ulimit -v 170000 && exec "$0" "$@""#]);
    let config = json!({"threads": 1, "listeners": [{"protocol": "peerdrop"}]});
    let daemon = Daemon::start_with_launcher(shell, config);
    let connect = |_| Client::connect(daemon.address(), "/ws/chat");
    let clients: Vec<_> = (0..1000).map(connect).collect();
    for mut client in clients {
        client.receive_text();
        client.ping();
    }
}

/// A configuration that can be read once, as of `<(…)`, suffices: the program reads it once and executes nothing.
#[test]
fn a_configuration_from_a_pipe_is_served() {
    for file in ["/dev/stdin", "/dev/fd/7"] {
        let number = if file == "/dev/stdin" { 0 } else { 7 };
        // A here-document as short as this is a pipe.
        let script = format!("exec \"$0\" --config {file} {number}<<END\n$(cat \"$2\")\nEND\n");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        let config = json!({"listeners": [{"protocol": "workspace"}]});
        let daemon = Daemon::start_with_launcher(shell, config);
        let mut client = Client::connect(daemon.address(), "/ws");
        assert_eq!(client.receive_json()["type"], "connected");
    }
}

/// Without them a storm of connections or of large messages would be held for good, or cost twice the time.
#[test]
fn the_unit_sets_what_gives_memory_back() {
    let unit = include_str!("../systemd/switchboard.service");
    for setting in [
        "MALLOC_TRIM_THRESHOLD_=262144",
        "MALLOC_MMAP_THRESHOLD_=1048576",
        "GLIBC_TUNABLES=glibc.malloc.mxfast=0:glibc.malloc.tcache_count=0",
    ] {
        assert!(
            unit.contains(&format!("\nEnvironment={setting}\n")),
            "{setting}"
        );
    }
}

#[test]
fn the_daemon_starts_through_the_dynamic_loader() {
    let mapped = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut files = mapped
        .lines()
        .filter_map(|line| line.split(' ').next_back());
    let is_loader = |file: &&str| file.rsplit('/').next().unwrap().starts_with("ld-");
    // A program that is linked statically has none.
    if let Some(loader) = files.find(is_loader) {
        let config = json!({"listeners": [{"protocol": "workspace"}]});
        let daemon = Daemon::start_with_launcher(Command::new(loader), config);
        let mut client = Client::connect(daemon.address(), "/ws");
        assert_eq!(client.receive_json()["type"], "connected");
    }
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_limit() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -S -n 256 && exec "$0" "$@""#]);
    let daemon =
        Daemon::start_with_launcher(shell, json!({"listeners": [{"protocol": "workspace"}]}));
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
        // A thread that has ended since the listing has no name.
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect::<Vec<_>>()
    };
    // A thread sets its name when it first runs.
    let threads = || names().iter().filter(|name| *name == "executor").count();
    wait_until("all threads have started", || {
        threads() == 3 && names().len() >= 7
    });
    assert_eq!(
        names().len(),
        7,
        "expected main, three executors, one of the runtime and two of the log: {:?}",
        names()
    );
}

#[test]
fn systemd_is_notified_when_the_daemon_is_ready_and_when_it_stops() {
    let (socket, path) = notify_socket("notify");
    let mut env = Command::new("env");
    env.arg(format!("NOTIFY_SOCKET={}", path.display()));
    let daemon =
        Daemon::start_with_launcher(env, json!({"listeners": [{"protocol": "workspace"}]}));
    assert_eq!(notification(&socket).trim(), "READY=1");
    daemon.signal(Signal::TERM);
    assert_eq!(notification(&socket).trim(), "STOPPING=1");
    let _ = std::fs::remove_file(&path);
}

#[test]
fn the_log_has_addresses_and_counts_but_no_message_text() {
    let listener = json!({"protocol": "workspace", "trusted_proxies": ["127.0.0.1"]});
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [listener]}));
    let headers = [("x-forwarded-for", "192.0.2.7")];
    let client = Client::try_connect(daemon.address(), "/ws?username=Marker", &headers);
    let mut client = client.ok().unwrap();
    client.receive_text();
    client.send(r#"{"type":"message:send","text":"Marker"}"#);
    client.receive_text();
    client.send("Marker");
    client.receive_text();
    daemon.signal(Signal::TERM);
    client.expect_close();
    // The daemon exits when the client has closed its socket.
    drop(client);
    let log: Vec<String> = std::iter::from_fn(|| daemon.next_log_line()).collect();
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
fn sigterm_and_sigint_close_every_connection_with_1001_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let daemon = two_listeners();
        let mut peerdrop = Client::connect(daemon.addresses[0], "/ws/chat");
        let mut workspace = Client::connect(daemon.addresses[1], "/ws");
        peerdrop.receive_text();
        workspace.receive_text();
        daemon.signal(signal);
        assert_eq!(
            peerdrop.expect_close(),
            (1001, "server going away".to_owned())
        );
        assert_eq!(
            workspace.expect_close(),
            (1001, "server going away".to_owned())
        );
        drop((peerdrop, workspace));
        daemon.wait_for_log("2 server going away");
        assert_eq!(daemon.wait_for_exit().code(), Some(0));
    }
}

#[test]
fn a_client_that_does_not_answer_its_close_frame_delays_the_exit_by_at_most_shutdown_timeout() {
    let config = json!({"shutdown_timeout": 0.1, "listeners": [{"protocol": "workspace", "close_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let mut client = Client::connect(daemon.address(), "/ws");
    client.receive_text();
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("are cut off");
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_exits_at_once() {
    let config = json!({"shutdown_timeout": 1000, "listeners": [{"protocol": "workspace", "close_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let mut client = Client::connect(daemon.address(), "/ws");
    client.receive_text();
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("closing all connections");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(1));
}

#[test]
fn an_unfinished_handshake_does_not_delay_the_exit() {
    let config = json!({"shutdown_timeout": 1000, "listeners": [{"protocol": "workspace", "handshake_timeout": 1000}]});
    let daemon = Daemon::start(config);
    let _silent = TcpStream::connect(daemon.address()).unwrap();
    // Connections are accepted in order, so the first one has been accepted when this one gets its response.
    http(daemon.address(), "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn the_daemon_exits_if_its_log_has_no_reader() {
    let mut daemon = two_listeners();
    daemon.close_log();
    // Each connection logs a line or two. A failed write must end the process, and not one connection
    // after another.
    wait_until("the daemon exits", || {
        let _ = TcpStream::connect(daemon.addresses[1]).and_then(|mut stream| {
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.write_all(HANDSHAKE.as_bytes())?;
            stream.read(&mut [0; 100])
        });
        daemon.has_exited()
    });
    assert_eq!(daemon.wait_for_exit().code(), Some(1));
}
