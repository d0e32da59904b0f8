//! What a line of the log looks like.

use crate::common::Daemon;
use regex_lite::Regex;
use serde_json::{Value, json};
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

#[test]
fn json_is_an_object_for_each_line_with_its_fields() {
    let mut config = workspace();
    config["log_format"] = json!("json");
    let mut daemon = Daemon::start(config);
    let (listener, pid) = (daemon.address().to_string(), daemon.pid());
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    let log: Vec<Value> = daemon.stop_and_read_log().iter().map(parse).collect();
    for record in &log {
        assert!(record["level"].is_u64() && record["time"].is_u64() && record["msg"].is_string());
    }
    assert_eq!(log[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(log[0]["pid"], pid.as_raw_nonzero().get());
    assert!(log[0]["configuration"].is_string());
    assert_eq!(log[1]["protocol"], "workspace");
    assert_eq!(log[1]["listener"], listener);
}
