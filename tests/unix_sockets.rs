//! Listeners on Unix sockets: their files, and the clients behind them, which have no IP address.

use crate::common::{
    Client, Daemon, HANDSHAKE, Pair, TemporaryPath, program, read_head, receive_http,
    run_at_terminal, socket_path, temporary_file, unix,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use switchboard::protocols::PROTOCOLS;

/// Returns the address of a Unix socket.
fn address(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Starts a listener of this protocol on a new Unix socket, with the log at debug, and returns the socket's path.
fn start(protocol: &str, mut settings: Value) -> (Daemon, TemporaryPath) {
    let path = socket_path();
    settings["protocol"] = json!(protocol);
    settings["address"] = json!(address(&path));
    let daemon = Daemon::start(json!({"log": "debug", "listeners": [settings]}));
    (daemon, path)
}

/// Returns what the daemon prints at a terminal when it starts with a listener on this path, and its exit status.
fn error_at(path: &Path) -> (String, Option<i32>) {
    let listener = json!({"protocol": "workspace", "address": address(path)});
    let file = temporary_file(&json!({"listeners": [listener]}).to_string());
    let mut command = program();
    command.arg("--config").arg(&file);
    let output = run_at_terminal(command);
    let error = String::from_utf8(output.stderr).unwrap();
    (error, output.status.code())
}

fn request(path: &Path, request: &str) -> String {
    let mut stream = unix(path);
    stream.write_all(request.as_bytes()).unwrap();
    receive_http(stream)
}

#[test]
fn each_protocol_is_spoken_on_a_unix_socket() {
    for protocol in PROTOCOLS {
        let (_daemon, path) = start(protocol.name, json!({}));
        let connect = |target: &str| Client::connect_unix(&path, target);
        let mut pair = Pair::connect_by(protocol.name, connect);
        pair.send("hello");
        pair.expect_received("hello");
        pair.answer("well?");
        pair.close();
    }
}

#[test]
fn a_large_message_passes_a_unix_socket() {
    let (_daemon, path) = start("peerdrop", json!({}));
    let connect = |target: &str| Client::connect_unix(&path, target);
    let mut pair = Pair::connect_by("peerdrop", connect);
    let text = "x".repeat(8 << 20);
    std::thread::scope(|scope| {
        scope.spawn(|| pair.sender.send(text.as_str()));
        assert_eq!(pair.recipient.receive_text().len(), text.len());
    });
}

#[test]
fn the_socket_is_for_its_user_and_group_and_is_removed_at_the_stop() {
    let (mut daemon, path) = start("workspace", json!({}));
    let found = fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let log = daemon.stop_and_read_log();
    let url = format!("listens on ws+unix://{}:/ws", path.display());
    assert!(log.iter().any(|line| line.ends_with(&url)), "{log:#?}");
    assert!(fs::symlink_metadata(&path).is_err());
}

#[test]
fn a_socket_that_a_killed_daemon_has_left_is_replaced() {
    let (daemon, path) = start("workspace", json!({}));
    daemon.signal(Signal::KILL);
    daemon.wait_for_exit();
    assert!(fs::symlink_metadata(&path).is_ok());
    let listener = json!({"protocol": "workspace", "address": address(&path)});
    let mut daemon = Daemon::start_listener(listener);
    Client::connect_unix(&path, "/ws").receive_json();
    daemon.stop_and_read_log();
}

#[test]
fn a_socket_on_which_another_program_listens_is_in_use() {
    let (mut daemon, path) = start("workspace", json!({}));
    let (error, status) = error_at(&path);
    assert_eq!(status, Some(1));
    assert!(
        error.contains("listeners[0] (workspace) cannot listen on unix:/")
            && error.contains("ss -lxp"),
        "{error}"
    );
    let listener = json!({"protocol": "workspace", "address": address(&path)});
    let mut other = Daemon::start_listener(listener);
    Client::connect_unix(&path, "/ws").receive_json();
    daemon.stop_and_read_log();
    other.wait_for_log("workspace  listens on ws+unix:///");
    Client::connect_unix(&path, "/ws").receive_json();
    other.stop_and_read_log();
}

#[test]
fn what_is_no_socket_is_an_error_and_stays() {
    let path = temporary_file("precious");
    let (error, status) = error_at(&path);
    assert_eq!(status, Some(1));
    assert!(
        error.contains("something that is not a socket is there, and stays; write another path"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_directory_that_does_not_exist_is_an_error_with_its_remedy() {
    let (error, status) = error_at(Path::new("/nonexistent/switchboard.sock"));
    assert_eq!(status, Some(1));
    assert!(error.contains("RuntimeDirectory="), "{error}");
}

#[test]
fn clients_of_a_unix_socket_count_as_one_address_unless_their_proxy_is_trusted() {
    let forwarded = |client| [("x-forwarded-for", client)];
    let (daemon, path) = start("workspace", json!({"max_connections_per_ip": 1}));
    let _first = Client::connect_unix(&path, "/ws");
    daemon.wait_for_log(": opened from unix");
    let second = Client::try_connect_unix(&path, "/ws", &forwarded("192.0.2.1"));
    assert_eq!(second.err(), Some(429));
    daemon.wait_for_log("unix is refused with 429");

    let settings = json!({"max_connections_per_ip": 1, "trusted_proxies": ["unix"]});
    let (daemon, path) = start("workspace", settings);
    let connect = |client| Client::try_connect_unix(&path, "/ws", &forwarded(client));
    let _first = connect("192.0.2.1").unwrap();
    daemon.wait_for_log(": opened from 192.0.2.1");
    assert_eq!(connect("192.0.2.1").err(), Some(429));
    let _other = connect("192.0.2.2").unwrap();
}

#[test]
fn a_proxy_on_a_unix_socket_that_is_not_trusted_is_told_what_to_write() {
    let (daemon, path) = start("workspace", json!({"trusted_proxies": ["0.0.0.0/0"]}));
    let header = [("x-forwarded-for", "192.0.2.1")];
    let _client = Client::try_connect_unix(&path, "/ws", &header).unwrap();
    let line = daemon.wait_for_log("unix is not trusted as a proxy");
    assert!(line.contains("\"trusted_proxies\": [\"unix\"]"), "{line}");
    daemon.wait_for_log(": opened from unix");
}

#[test]
fn a_proxy_header_names_the_client_of_a_unix_socket() {
    let settings = json!({"proxy_protocol": true, "trusted_proxies": ["unix"]});
    let (daemon, path) = start("workspace", settings);
    for (header, client) in [
        ("PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n", "192.0.2.7"),
        ("PROXY UNKNOWN\r\n", "unix"),
    ] {
        let mut stream = unix(&path);
        stream.write_all(header.as_bytes()).unwrap();
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 101"));
        daemon.wait_for_log(&format!(": opened from {client}"));
    }
}

#[test]
fn any_host_will_do_on_a_unix_socket() {
    let (_daemon, path) = start("workspace", json!({"hosts": null}));
    let host = HANDSHAKE.replace("Host: localhost", "Host: chat.example");
    let mut stream = unix(&path);
    stream.write_all(host.as_bytes()).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101"));
}

#[test]
fn whoever_asks_a_unix_socket_is_told_how_to_connect_to_it() {
    let (_daemon, path) = start("workspace", json!({}));
    let itself = request(&path, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let hint = format!("wscat -c 'ws+unix://{}:/ws'", path.display());
    assert!(itself.contains(&hint), "{itself}");
    let proxied = request(&path, "GET /ws HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(proxied.contains("wscat -c 'ws://h/ws'"), "{proxied}");
}

#[test]
fn the_status_port_may_be_a_unix_socket() {
    let path = socket_path();
    let mut daemon = Daemon::start(json!({
        "status": address(&path),
        "listeners": [{"protocol": "workspace"}],
    }));
    let health = request(&path, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    daemon.stop_and_read_log();
    assert!(fs::symlink_metadata(&path).is_err());
}
