//! The page of the status port, and the last warnings on it. What the page does in a browser: `tests/browser/`.

use crate::common::Daemon;
use crate::common::status_port::{get, status};
use serde_json::{Value, json};

/// Starts a daemon with one warning in its log, unless these settings are against it.
fn daemon_with_a_warning(settings: Value) -> Daemon {
    let listener = json!({"protocol": "peerdrop", "trace_messages": true});
    let mut config = json!({"status": "127.0.0.1:0", "listeners": [listener]});
    let settings = settings.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(settings);
    Daemon::start(config)
}

/// Returns the warnings on the status port.
fn warnings(daemon: &Daemon) -> Vec<Value> {
    status(daemon)["warnings"].as_array().unwrap().clone()
}

#[test]
fn the_page_may_load_nothing_and_is_not_stored() {
    let page = get(&daemon_with_a_warning(json!({})), "/");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(body.starts_with("<!doctype html>"), "{body}");
    for header in [
        "Content-Type: text/html; charset=utf-8",
        "Content-Security-Policy: default-src 'none'; script-src 'sha256-",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Referrer-Policy: no-referrer",
    ] {
        assert!(head.contains(&format!("\r\n{header}")), "{header}: {head}");
    }
}

#[test]
fn a_warning_of_the_log_is_on_the_status_port_whatever_the_format() {
    for format in ["text", "journal", "json"] {
        let daemon = daemon_with_a_warning(json!({"log_format": format}));
        let warnings = warnings(&daemon);
        assert_eq!(warnings.len(), 1, "{format}: {warnings:#?}");
        let (warning, message) = (&warnings[0], warnings[0]["message"].as_str().unwrap());
        assert_eq!(warning["level"], "warn");
        assert!(message.starts_with("listeners[0]"), "{format}: {message}");
        assert!(humantime::parse_rfc3339(warning["time"].as_str().unwrap()).is_ok());
    }
}

#[test]
fn what_is_no_warning_is_not_on_the_status_port() {
    let listeners = json!([{"protocol": "peerdrop"}]);
    let daemon = daemon_with_a_warning(json!({"listeners": listeners}));
    assert_eq!(warnings(&daemon), [Value::Null; 0]);
}
