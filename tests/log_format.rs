//! What a line of the log looks like, what it has of connections and addresses, and the trace of messages.

use crate::common::{Client, Daemon, HANDSHAKE, http, run, temporary_file};
use regex_lite::Regex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;

/// The beginning of a line of text: time and level.
const TEXT: &str = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:ERROR|WARN |INFO |DEBUG) ";

#[track_caller]
fn assert_all_match(log: &[String], expression: &str) {
    let expression = Regex::new(expression).unwrap();
    for line in log {
        assert!(expression.is_match(line), "{line:?}");
    }
}

/// Returns the only line that contains `part`.
#[track_caller]
fn only<'a>(log: &'a [String], part: &str) -> &'a str {
    let lines: Vec<&String> = log.iter().filter(|line| line.contains(part)).collect();
    assert_eq!(lines.len(), 1, "{part}: {log:#?}");
    lines[0]
}

/// Starts a daemon whose standard output is the stream that this value of `JOURNAL_STREAM` names; `$stream` is its
/// device and inode.
fn with_journal_stream(value: &str, config: Value) -> Daemon {
    let mut shell = Command::new("sh");
    let script = format!(
        r#"exec 3>&1; stream=$(stat -L -c %d:%i /proc/self/fd/3); JOURNAL_STREAM={value} exec "$0" "$@" 3>&-"#
    );
    shell.args(["-c", &script]);
    Daemon::start_with_launcher(shell, config)
}

fn workspace() -> Value {
    json!({"listeners": [{"protocol": "workspace"}]})
}

#[test]
fn a_pipe_gets_text_with_the_time_and_the_level() {
    let mut daemon = Daemon::start(workspace());
    let log = daemon.stop_and_read_log();
    assert_all_match(&log, TEXT);
}

#[test]
fn the_first_line_has_the_version_the_configuration_and_the_process_id() {
    let mut daemon = Daemon::start(workspace());
    let (version, pid) = (env!("CARGO_PKG_VERSION"), daemon.pid());
    let file = daemon.config().display().to_string();
    let log = daemon.stop_and_read_log();
    let expected = format!(
        "INFO  switchboard {version} starts; configuration: {file}; pid: {}",
        pid.as_raw_nonzero()
    );
    assert!(log[0].ends_with(&expected), "{log:#?}");
}

#[test]
fn the_ready_line_says_what_its_numbers_are() {
    let mut config = workspace();
    config["memory_budget"] = json!(64 << 20);
    let mut daemon = Daemon::start(config);
    let log = daemon.stop_and_read_log();
    let ready = only(&log, "ready in");
    for part in [
        " ms after the configuration was read; limits: ",
        " connections, because of ",
        "64 MiB of memory for what clients send and are sent (memory_budget)",
    ] {
        assert!(ready.contains(part), "{ready}");
    }
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let mut daemon = with_journal_stream("$stream", workspace());
    let log = daemon.stop_and_read_log();
    assert_all_match(&log, "^<[3467]>[a-z]");
    assert!(only(&log, "ready in").starts_with("<6>"));
}

#[test]
fn warnings_have_the_priority_of_warnings() {
    let listener = json!({"protocol": "peerdrop", "trace_messages": true});
    let mut daemon = with_journal_stream("$stream", json!({"listeners": [listener]}));
    let log = daemon.stop_and_read_log();
    assert!(only(&log, "trace_messages").starts_with("<4>"));
}

#[test]
fn a_journal_stream_that_is_not_standard_output_does_not_count() {
    let mut daemon = with_journal_stream("8:1", workspace());
    assert_all_match(&daemon.stop_and_read_log(), TEXT);
}

#[test]
fn a_format_that_is_configured_does_not_depend_on_the_output() {
    let mut config = workspace();
    config["log_format"] = json!("journal");
    let mut daemon = Daemon::start(config.clone());
    assert_all_match(&daemon.stop_and_read_log(), "^<[3467]>");
    config["log_format"] = json!("text");
    let mut daemon = with_journal_stream("$stream", config);
    assert_all_match(&daemon.stop_and_read_log(), TEXT);
}

/// Returns the objects of a log in JSON.
fn objects(log: &[String]) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    log.iter().map(parse).collect()
}

#[test]
fn json_has_a_field_for_everything_that_a_line_says() {
    let listener = json!({"protocol": "peerjs", "trusted_proxies": ["127.0.0.1"]});
    let config = json!({"log": "debug", "log_format": "json", "listeners": [listener]});
    let mut daemon = Daemon::start(config);
    let headers = [("x-forwarded-for", "192.0.2.7")];
    let target = "/peerjs?key=peerjs&id=an%0an&token=secret";
    let mut client = Client::try_connect(daemon.address(), target, &headers).unwrap();
    client.receive_text();
    client.send(r#"{"type":"HEARTBEAT"}"#);
    client.close_normally();
    http(
        daemon.address(),
        "GET /nothing HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    let (listener, pid) = (daemon.address().to_string(), daemon.pid());
    let log = daemon.stop_and_read_log();
    assert!(!log.iter().any(|line| line.contains("secret")), "{log:#?}");
    let log = objects(&log);
    for record in &log {
        assert!(record["level"].is_u64() && record["time"].is_u64() && record["msg"].is_string());
    }
    assert_eq!(log[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(log[0]["pid"], pid.as_raw_nonzero().get());
    assert!(log[0]["configuration"].is_string());
    let end = log.iter().find(|record| record["connection"] == 1).unwrap();
    assert_eq!(end["level"], 30);
    assert_eq!(end["protocol"], "peerjs");
    assert_eq!(end["listener"], listener);
    assert_eq!(end["address"], "192.0.2.7");
    assert_eq!(end["id"], r"an\u{a}n");
    assert_eq!(end["code"], 1000);
    assert_eq!(end["reason"], "left");
    assert_eq!(
        (&end["messages_in"], &end["messages_out"]),
        (&json!(1), &json!(1))
    );
    assert!(end["seconds"].is_f64() && end["bytes_in"].is_u64() && end["bytes_out"].is_u64());
    let refused = log.iter().find(|record| record["code"] == 404).unwrap();
    assert_eq!(refused["listener"], listener);
    assert_eq!(refused["address"], "127.0.0.1");
    assert_eq!(refused["reason"], r#"path "/nothing""#);
}

/// Has one client connect from 192.0.2.7 through a trusted proxy, and others be refused.
fn visit(address: SocketAddr) {
    let headers = [("x-forwarded-for", "192.0.2.7")];
    let mut client = Client::try_connect(address, "/ws", &headers).unwrap();
    client.receive_text();
    client.close_normally();
    let forwarded = HANDSHAKE.replace("Host:", "X-Forwarded-For: 192.0.2.8\r\nHost:");
    http(
        address,
        &forwarded.replace("Host:", "Origin: https://b.example\r\nHost:"),
    );
    http(address, &forwarded.replace("GET /ws", "GET /nothing"));
    let old = forwarded
        .replace("HTTP/1.1", "HTTP/1.0")
        .replace("/ws", "/none");
    http(address, &old);
}

fn visited(settings: &[(&str, Value)]) -> Vec<String> {
    let listener = json!({
        "protocol": "workspace", "trusted_proxies": ["127.0.0.1"], "origins": ["https://a.example"],
    });
    let mut config = json!({"listeners": [listener]});
    for (key, value) in settings {
        config[key] = value.clone();
    }
    let mut daemon = Daemon::start(config);
    visit(daemon.address());
    daemon.stop_and_read_log()
}

#[test]
fn a_connection_is_one_line_at_its_end() {
    let log = visited(&[]);
    let expression = r"workspace #1: left \(1000\); from 192\.0\.2\.7, \d+\.\d s, 0 messages \(\d+ bytes\) in, 1 \(\d+ bytes\) out$";
    let line = only(&log, "#1");
    assert!(Regex::new(expression).unwrap().is_match(line), "{line}");
}

#[test]
fn without_log_connections_the_refusals_and_the_sums_are_left() {
    let log = visited(&[("log_connections", json!(false)), ("log", json!("debug"))]);
    assert!(!log.iter().any(|line| line.contains('#')), "{log:#?}");
    assert!(only(&log, "refused with 403").contains("192.0.2.8"));
    only(&log, "connections: 1 left");
}

#[test]
fn without_log_addresses_no_line_has_the_address_of_a_client() {
    let log = visited(&[("log_addresses", json!(false)), ("log", json!("debug"))]);
    assert!(
        !log.iter().any(|line| line.contains("192.0.2.")),
        "{log:#?}"
    );
    only(&log, "#1: left (1000); ");
    only(&log, "a client is refused with 403");
    let json = visited(&[
        ("log_addresses", json!(false)),
        ("log_format", json!("json")),
    ]);
    for record in objects(&json) {
        assert_eq!(record.get("address"), None);
    }
}

#[test]
fn without_log_addresses_a_proxy_that_is_not_trusted_is_not_named_either() {
    let config = json!({"log_addresses": false, "listeners": [{"protocol": "workspace", "address": "localhost:0"}]});
    let mut daemon = Daemon::start(config);
    let request = HANDSHAKE.replace("Host:", "X-Forwarded-For: 192.0.2.7\r\nHost:");
    http(daemon.address(), &request.replace("/ws", "/none"));
    let log = daemon.stop_and_read_log();
    let line = only(&log, "X-Forwarded-For");
    assert!(
        line.contains("trusted_proxies") && !line.contains("127.0.0.1"),
        "{line}"
    );
}

#[test]
fn a_trace_has_each_message_in_both_directions_cut() {
    let listener = json!({"protocol": "peerdrop", "trace_messages": true});
    let mut daemon = Daemon::start(json!({"listeners": [listener]}));
    let mut creator = Client::connect(daemon.address(), "/ws/chat");
    let code = creator.receive_text();
    let mut joiner = Client::connect(daemon.address(), &format!("/ws/chat/{code}"));
    joiner.receive_text();
    creator.receive_text();
    let long = format!("one\n\u{1b}\"two\" {}", "é".repeat(1000));
    creator.send(long);
    joiner.receive_text();
    joiner.send_frame(2, &[0xff; 40]);
    joiner.ping();
    drop((creator, joiner));
    let log = daemon.stop_and_read_log();
    only(
        &log,
        &format!("peerdrop #1: sent {} bytes of text: {code}", code.len()),
    );
    let cut = format!(
        r#"2011 bytes of text: one\u{{a}}\u{{1b}}"two" {}…"#,
        "é".repeat(189)
    );
    for line in ["#1: received", "#2: sent"] {
        let line = format!("peerdrop {line} {cut}");
        assert!(only(&log, &line).ends_with(&line), "{log:#?}");
    }
    let binary = format!("#2: received 40 bytes of binary: {}…", "ff ".repeat(32));
    assert!(only(&log, "of binary").ends_with(&binary), "{log:#?}");
}

#[test]
fn a_trace_of_a_listener_that_others_can_reach_is_refused() {
    for (address, write) in [
        ("*:9081", "localhost:9081"),
        ("192.0.2.1:9081", "localhost:9081"),
        ("[::]:9000", "localhost:9000"),
    ] {
        let listener = json!({"protocol": "peerdrop", "address": address, "trace_messages": true});
        let file = temporary_file(&json!({"listeners": [listener]}).to_string());
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        let expected = format!("listeners[0].trace_messages: write \"address\": \"{write}\"");
        assert!(error.contains(&expected), "{error}");
    }
    for address in ["localhost:0", "127.0.0.1:0", "[::1]:0"] {
        let listener = json!({"protocol": "peerdrop", "address": address, "trace_messages": true});
        let file = temporary_file(&json!({"listeners": [listener]}).to_string());
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{address}");
    }
}
