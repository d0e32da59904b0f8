//! SIGHUP: the configuration is read again, what it has changed holds, and nobody else notices.

use crate::common::{
    Client, Daemon, listening_address, notification, notify_socket, open_terminal, receive_http,
    tcp,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use switchboard::sys::open_files;

/// Returns a configuration with these listeners.
fn of(listeners: Value) -> Value {
    json!({ "listeners": listeners })
}

fn peerdrop() -> Value {
    json!({"protocol": "peerdrop"})
}

fn workspace() -> Value {
    json!({"protocol": "workspace"})
}

/// Reloads, and returns the last line of the log, which says what has changed, and the address of the listener that has
/// begun last.
fn reload(daemon: &Daemon, config: &Value) -> (String, Option<SocketAddr>) {
    let mut lines = daemon.reload(config);
    let address = lines
        .iter()
        .filter_map(|line| listening_address(line))
        .next_back();
    (lines.pop().unwrap(), address)
}

#[track_caller]
fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Creates a PeerDrop session. Returns its code with the client.
fn create(address: SocketAddr) -> (Client, String) {
    let mut creator = Client::connect(address, "/ws/chat");
    let code = creator.receive_text();
    (creator, code)
}

/// Asserts that two clients of PeerDrop are a pair that has received nothing unexpected.
#[track_caller]
fn assert_relayed(from: &mut Client, to: &mut Client) {
    from.send("still there");
    assert_eq!(to.receive_text(), "still there");
    from.expect_no_message();
    to.expect_no_message();
}

#[test]
fn a_thousand_clients_of_an_unchanged_listener_do_not_notice_twenty_reloads() {
    open_files::raise_limit();
    let daemon = Daemon::start(of(json!([peerdrop(), workspace()])));
    let address = daemon.address();
    let mut pairs: Vec<(Client, Client)> = (0..500)
        .map(|_| {
            let (mut creator, code) = create(address);
            let mut joiner = Client::connect(address, &format!("/ws/chat/{code}"));
            assert_eq!(joiner.receive_text(), code);
            assert_eq!(creator.receive_text(), "the other guy joined");
            (creator, joiner)
        })
        .collect();
    for (round, (creator, joiner)) in (0..20).zip(&mut pairs) {
        // Each other time the second listener is there, and each time it has other settings.
        let second = json!({"protocol": "workspace", "messages_per_minute": round, "max_connections": 10 + round});
        let listeners = match round % 4 {
            0 => json!([peerdrop()]),
            1 => json!([second, peerdrop()]),
            2 => json!([peerdrop(), second]),
            _ => json!([peerdrop(), second, {"protocol": "fastchat"}]),
        };
        reload(&daemon, &of(listeners));
        assert_relayed(joiner, creator);
    }
    for (creator, joiner) in &mut pairs {
        assert_relayed(creator, joiner);
        assert_relayed(joiner, creator);
    }
}

#[test]
fn clients_of_a_removed_listener_get_1001_and_no_one_else_connects_there() {
    let daemon = Daemon::start(of(json!([peerdrop(), workspace()])));
    let [kept, removed] = daemon.addresses[..] else {
        panic!("two listeners");
    };
    let mut gone = Client::connect(removed, "/ws?username=ann");
    gone.receive_text();
    let (mut stays, _) = create(kept);
    let mut reading = tcp(removed);
    reading.write_all(b"GET /ws HT").unwrap();
    let (changed, _) = reload(&daemon, &of(json!([peerdrop()])));
    assert!(
        changed.ends_with(&format!("reloaded: removed workspace on {removed}")),
        "{changed}"
    );
    assert_eq!(gone.wait_for_close_code(), 1001);
    assert_refused(removed);
    // The handshake in progress ends, too: with a reset if its bytes had not been read.
    assert_eq!(receive_http(reading), "");
    stays.expect_no_message();
}

#[test]
fn loudsyncs_sessions_are_closed_before_the_connections_of_a_removed_listener() {
    let daemon = Daemon::start(of(json!([peerdrop(), {"protocol": "loudsync"}])));
    let mut host = Client::connect(daemon.addresses[1], "/");
    let info = json!({"id": "mac", "name": "Mac", "type": "host"});
    let join = json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info});
    host.send(join.to_string());
    host.receive_type("member_list");
    reload(&daemon, &of(json!([peerdrop()])));
    host.receive_type("session_closed");
    assert_eq!(host.wait_for_close_code(), 1001);
}

#[test]
fn a_new_listener_serves() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (changed, address) = reload(&daemon, &of(json!([peerdrop(), workspace()])));
    assert!(
        changed.contains("reloaded: added workspace on 127.0.0.1:0"),
        "{changed}"
    );
    let mut ann = Client::connect(address.unwrap(), "/ws?username=ann");
    assert_eq!(ann.receive_json()["type"], "connected");
    // It can be removed and come again.
    reload(&daemon, &of(json!([peerdrop()])));
    assert_eq!(ann.wait_for_close_code(), 1001);
    let (_, address) = reload(&daemon, &of(json!([workspace(), peerdrop()])));
    let mut ann = Client::connect(address.unwrap(), "/ws?username=ann");
    assert_eq!(ann.receive_json()["type"], "connected");
}

#[test]
fn another_protocol_on_an_address_takes_over_its_port() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (mut creator, _) = create(daemon.address());
    // In the queue of the port before the reload, served after it.
    let (changed, bound) = reload(&daemon, &of(json!([workspace()])));
    let before = format!(
        "reloaded: workspace instead of peerdrop on {}",
        daemon.address()
    );
    assert!(changed.ends_with(&before), "{changed}");
    assert_eq!(bound, None, "nothing is bound anew");
    assert_eq!(creator.expect_close().0, 1001);
    let mut ann = Client::connect(daemon.address(), "/ws?username=ann");
    assert_eq!(ann.receive_json()["type"], "connected");
}

/// Returns a port that is free on all addresses, and that the system gives to no client: other tests have thousands of
/// clients, each with a port on some address.
fn port_of_nobody() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..)
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .unwrap()
}

#[test]
fn a_listener_can_have_the_port_that_another_one_gives_up() {
    let port = port_of_nobody();
    let on = |address: String| of(json!([{"protocol": "peerdrop", "address": address}]));
    let daemon = Daemon::start(on(format!("localhost:{port}")));
    let (mut creator, _) = create(daemon.address());
    let lines = daemon.reload(&on(format!("*:{port}")));
    assert!(
        !lines.iter().any(|line| line.contains("tried again")),
        "{lines:?}"
    );
    assert_eq!(creator.expect_close().0, 1001);
    create(([127, 0, 0, 1], port).into());
    reload(&daemon, &on(format!("127.0.0.1:{port}")));
    create(([127, 0, 0, 1], port).into());
}

#[test]
fn origins_hold_for_those_who_connect_from_then_on() {
    let daemon = Daemon::start(of(json!([workspace()])));
    let connect =
        |origin| Client::try_connect(daemon.address(), "/ws?username=ann", &[("origin", origin)]);
    let mut ann = connect("https://a.example").unwrap();
    let listener = json!({"protocol": "workspace", "origins": ["https://b.example"]});
    let (changed, _) = reload(&daemon, &of(json!([listener])));
    let expected = format!("reloaded: workspace on {}: origins", daemon.address());
    assert!(changed.ends_with(&expected), "{changed}");
    ann.ping();
    assert_eq!(connect("https://a.example").err(), Some(403));
    assert!(connect("https://b.example").is_ok());
}

#[test]
fn limits_of_connections_close_nobody_and_hold_for_those_who_connect_from_then_on() {
    let daemon = Daemon::start(of(json!([workspace()])));
    let connect = || Client::try_connect(daemon.address(), "/ws?username=ann", &[]);
    let (mut first, _second) = (connect().unwrap(), connect().unwrap());
    let listener = json!({"protocol": "workspace", "max_connections": 1});
    reload(&daemon, &of(json!([listener])));
    assert_eq!(connect().err(), Some(503));
    first.ping();
    let listener = json!({"protocol": "workspace", "max_connections_per_ip": 1});
    reload(&daemon, &of(json!([listener])));
    // Those that came without this limit are not counted.
    let _third = connect().unwrap();
    assert_eq!(connect().err(), Some(429));
    first.ping();
}

#[test]
fn limits_of_the_process_change() {
    let config = |connections| json!({"max_connections": connections, "memory_budget": 1 << 20, "listeners": [workspace()]});
    let daemon = Daemon::start(config(1));
    let connect = || Client::try_connect(daemon.address(), "/ws?username=ann", &[]);
    let _first = connect().unwrap();
    assert_eq!(connect().err(), Some(503));
    let (changed, _) = reload(&daemon, &config(2));
    assert!(
        changed.ends_with("reloaded: of the process: max_connections"),
        "{changed}"
    );
    let _second = connect().unwrap();
    assert_eq!(connect().err(), Some(503));
}

#[test]
fn keepalive_changes_for_those_who_are_connected() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (mut creator, _) = create(daemon.address());
    let listener = json!({"protocol": "peerdrop", "ping_after": 0.001, "pong_timeout": 3600});
    reload(&daemon, &of(json!([listener])));
    assert!(creator.socket.read().unwrap().is_ping());
}

#[test]
fn a_changed_option_of_a_protocol_holds_for_those_who_are_connected() {
    let daemon = Daemon::start(of(json!([workspace()])));
    let mut ann = Client::connect(daemon.address(), "/ws?username=ann");
    ann.receive_type("connected");
    let listener = json!({"protocol": "workspace", "messages_per_minute": 1});
    let (changed, _) = reload(&daemon, &of(json!([listener])));
    let name = format!(
        "reloaded: workspace on {}: messages_per_minute",
        daemon.address()
    );
    assert!(changed.ends_with(&name), "{changed}");
    for _ in 0..2 {
        ann.send(r#"{"type":"message:send","text":"hi"}"#);
    }
    ann.receive_type("message:new");
    assert_eq!(ann.receive_type("error")["code"], "RATE_LIMITED");
}

#[test]
fn the_log_level_changes() {
    let config = |level| json!({"log": level, "listeners": [workspace()]});
    let daemon = Daemon::start(config("info"));
    let connect = || Client::connect(daemon.address(), "/ws?username=ann");
    let (changed, _) = reload(&daemon, &config("debug"));
    assert!(
        changed.ends_with("reloaded: of the process: log"),
        "{changed}"
    );
    let first = connect();
    daemon.wait_for_log("workspace #1: opened");
    // The lower level holds after the line that says so, so that of the next reload is waited for.
    reload(&daemon, &config("warn"));
    std::fs::write(daemon.config(), "{").unwrap();
    refused_reload(&daemon);
    first.close_normally();
    // A level that lets it be seen holds before.
    let lines = daemon.reload(&config("debug"));
    assert!(
        lines
            .last()
            .unwrap()
            .ends_with("reloaded: of the process: log"),
        "{lines:?}"
    );
    assert!(
        !lines.iter().any(|line| line.contains("workspace #1: ")),
        "{lines:?}"
    );
    connect().close_normally();
    daemon.wait_for_log("workspace #2: ");
}

#[test]
fn whether_connections_and_addresses_are_logged_changes_for_those_who_are_connected() {
    let config = |connections, addresses| json!({"log_connections": connections, "log_addresses": addresses, "listeners": [workspace()]});
    let daemon = Daemon::start(config(true, true));
    let connect = || {
        let mut client = Client::connect(daemon.address(), "/ws?username=ann");
        client.receive_text();
        client
    };
    let (first, second) = (connect(), connect());
    reload(&daemon, &config(true, false));
    first.close_normally();
    let line = daemon.wait_for_log("workspace #1: ");
    assert!(!line.contains("127.0.0.1"), "{line}");
    reload(&daemon, &config(false, false));
    second.close_normally();
    let lines = daemon.reload(&config(true, true));
    assert!(
        !lines.iter().any(|line| line.contains("workspace #2")),
        "{lines:?}"
    );
}

#[test]
fn what_cannot_change_while_the_daemon_runs_is_named_each_time() {
    let config = |threads, format| json!({"threads": threads, "log_format": format, "listeners": [workspace()]});
    let daemon = Daemon::start(config(1, "text"));
    for _ in 0..2 {
        let lines = daemon.reload(&config(3, "json"));
        let warning = |part| {
            lines
                .iter()
                .any(|line| line.contains("WARN") && line.contains(part))
        };
        assert!(warning(
            "threads cannot change while the daemon runs: it stays 1 until a restart, and is 3 then"
        ));
        assert!(warning("log_format cannot change"), "{lines:?}");
        assert!(
            lines
                .last()
                .unwrap()
                .ends_with("reloaded: nothing has changed"),
            "{lines:?}"
        );
    }
    let lines = daemon.reload(&config(1, "text"));
    assert!(
        !lines.iter().any(|line| line.contains("cannot change")),
        "{lines:?}"
    );
}

/// The end of the log of a reload that changes nothing because of an error.
const REFUSED: &str = "ERROR the reload is refused, and the configuration is unchanged";

/// Has the daemon reload its file as it is, which must be refused. Returns the errors in the log.
fn refused_reload(daemon: &Daemon) -> Vec<String> {
    daemon.signal(Signal::HUP);
    let mut lines = daemon.log_until("the reload is refused");
    assert!(lines.pop().unwrap().ends_with(REFUSED));
    lines.retain(|line| line.contains(" ERROR "));
    lines
}

#[test]
fn a_faulty_file_changes_nothing_and_the_log_has_a_line_for_each_mistake() {
    let daemon = Daemon::start(of(json!([workspace()])));
    let mut ann = Client::connect(daemon.address(), "/ws?username=ann");
    ann.receive_text();
    let text = r#"{"thread": 1, "log": "loud", "listeners": [{"protocol": "peerdrop"}]}"#;
    std::fs::write(daemon.config(), text).unwrap();
    let lines = refused_reload(&daemon);
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, part) in lines
        .iter()
        .zip(["write \"threads\" instead of \"thread\"", "log: "])
    {
        assert!(line.contains(part), "{line}");
        assert!(
            line.contains(&daemon.config().display().to_string()),
            "{line}"
        );
    }
    ann.expect_no_message();
    Client::connect(daemon.address(), "/ws?username=bob").receive_text();
    let (changed, _) = reload(&daemon, &of(json!([workspace()])));
    assert!(
        changed.ends_with("reloaded: nothing has changed"),
        "{changed}"
    );
}

#[test]
fn a_file_that_has_vanished_changes_nothing() {
    let daemon = Daemon::start(of(json!([workspace()])));
    std::fs::remove_file(daemon.config()).unwrap();
    let lines = refused_reload(&daemon);
    assert!(
        lines[0].contains("cannot be read: No such file"),
        "{lines:?}"
    );
    Client::connect(daemon.address(), "/ws?username=ann").receive_text();
    // A directory is no file.
    std::fs::create_dir(daemon.config()).unwrap();
    let lines = refused_reload(&daemon);
    assert!(lines[0].contains("must be a regular file"), "{lines:?}");
    std::fs::remove_dir(daemon.config()).unwrap();
}

#[test]
fn a_file_that_is_no_configuration_by_its_size_alone_is_not_read() {
    let daemon = Daemon::start(of(json!([workspace()])));
    let file = std::fs::File::create(daemon.config()).unwrap();
    file.set_len((1 << 20) + 1).unwrap();
    let lines = refused_reload(&daemon);
    assert!(lines[0].contains("is larger than 1 MiB"), "{lines:?}");
    Client::connect(daemon.address(), "/ws?username=ann").receive_text();
}

#[test]
fn a_file_that_was_a_pipe_cannot_be_read_again() {
    let mut bash = Command::new("bash");
    bash.args(["-c", r#"exec "$0" "$1" <(cat "$2")"#]);
    let daemon = Daemon::start_with_launcher(bash, of(json!([workspace()])));
    let mut ann = Client::connect(daemon.address(), "/ws?username=ann");
    ann.receive_text();
    let lines = refused_reload(&daemon);
    assert!(
        lines[0].contains("cannot be read again, as it was no regular file"),
        "{lines:?}"
    );
    ann.expect_no_message();
}

#[test]
fn a_listener_that_can_never_be_bound_changes_nothing() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (mut creator, _) = create(daemon.address());
    // A link-local address without an interface.
    let faulty = json!({"protocol": "workspace", "address": "[fe80::1]:7999"});
    let new = json!({"protocol": "fastchat"});
    daemon.rewrite_config(&of(json!([new, faulty])));
    let lines = refused_reload(&daemon);
    assert_eq!(lines.len(), 1, "nothing began: {lines:?}");
    assert!(lines[0].contains("listeners[1] (workspace) cannot listen on [fe80::1]:7999"));
    creator.expect_no_message();
}

#[test]
fn a_new_listener_whose_port_is_taken_is_tried_again_while_the_others_change() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let new = json!({"protocol": "workspace", "address": taken});
    let lines = daemon.reload(&of(
        json!([new, {"protocol": "peerdrop", "code_length": 8}]),
    ));
    let error = format!("listeners[0] (workspace) cannot listen on {taken}");
    assert!(lines.iter().any(|line| line.contains(&error)), "{lines:?}");
    assert_eq!(create(daemon.address()).1.len(), 8);
    drop(other);
    daemon.wait_for_log(&format!("workspace  listens on ws://{taken}/ws"));
    Client::connect(taken, "/ws?username=ann").receive_text();
}

#[test]
fn flags_precede_the_file_at_a_reload_too() {
    let mut env = Command::new("env");
    env.arg("SWITCHBOARD_MAX_CONNECTIONS=1");
    let config = |connections| json!({"max_connections": connections, "memory_budget": 1 << 20, "listeners": [workspace()]});
    let daemon = Daemon::start_with_launcher(env, config(2));
    let (changed, _) = reload(&daemon, &config(3));
    assert!(
        changed.ends_with("reloaded: nothing has changed"),
        "{changed}"
    );
}

#[test]
fn a_thousand_signals_are_few_reloads_and_the_last_file_holds() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (mut creator, code) = create(daemon.address());
    let mut joiner = Client::connect(daemon.address(), &format!("/ws/chat/{code}"));
    assert_eq!(joiner.receive_text(), code);
    creator.receive_text();
    for number in 0..1000 {
        daemon.signal(Signal::HUP);
        if number % 100 == 0 {
            assert_relayed(&mut creator, &mut joiner);
        }
    }
    let listener = json!({"protocol": "peerdrop", "code_length": 8});
    daemon.rewrite_config(&of(json!([listener])));
    daemon.signal(Signal::HUP);
    let lines = daemon.log_until("code_length");
    assert!(lines.len() < 500, "{} reloads", lines.len());
    assert_eq!(create(daemon.address()).1.len(), 8);
    assert_relayed(&mut joiner, &mut creator);
}

#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let mut daemon = Daemon::start_with_launcher(Command::new("nohup"), of(json!([peerdrop()])));
    for _ in 0..10 {
        daemon.signal(Signal::HUP);
    }
    create(daemon.address());
    let log = daemon.stop_and_read_log();
    assert!(!log.iter().any(|line| line.contains("reload")), "{log:?}");
    assert!(daemon.wait_for_exit().success());
}

#[test]
fn a_daemon_whose_terminal_is_gone_stops_and_one_at_a_terminal_reloads() {
    let (terminal, programs_end) = open_terminal();
    let mut setsid = Command::new("setsid");
    setsid.arg("--ctty").stdin(programs_end);
    let daemon = Daemon::start_with_launcher(setsid, of(json!([peerdrop()])));
    let (mut creator, _) = create(daemon.address());
    let (changed, _) = reload(&daemon, &of(json!([peerdrop()])));
    assert!(
        changed.ends_with("reloaded: nothing has changed"),
        "{changed}"
    );
    drop(terminal);
    daemon.wait_for_log("the terminal is gone");
    assert_eq!(creator.expect_close().0, 1001);
    drop(creator);
    assert!(daemon.wait_for_exit().success());
}

#[test]
fn systemd_is_told_of_each_reload_and_of_one_that_was_refused() {
    let (socket, path) = notify_socket("reload");
    let mut env = Command::new("env");
    env.arg(format!("NOTIFY_SOCKET={}", path.display()));
    let daemon = Daemon::start_with_launcher(env, of(json!([workspace()])));
    // Signs of life come in between.
    let wait_for = |part: &str| loop {
        let text = notification(&socket);
        if text.contains(part) {
            break text;
        }
    };
    wait_for("READY=1");
    daemon.signal(Signal::HUP);
    let reloading = wait_for("RELOADING=1");
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    wait_for("READY=1");
    std::fs::write(daemon.config(), "{").unwrap();
    daemon.signal(Signal::HUP);
    wait_for("RELOADING=1");
    wait_for("READY=1");
    wait_for("; the last reload was refused, see the log");
    let _ = std::fs::remove_file(&path);
}

#[test]
fn a_stop_during_many_reloads_is_a_stop() {
    let daemon = Daemon::start(of(json!([peerdrop()])));
    let (mut creator, _) = create(daemon.address());
    for _ in 0..100 {
        daemon.signal(Signal::HUP);
    }
    daemon.signal(Signal::TERM);
    assert_eq!(creator.expect_close().0, 1001);
    drop(creator);
    assert!(daemon.wait_for_exit().success());
}
