//! The status port.

use crate::common::{Daemon, http};
use serde_json::json;

fn daemon() -> Daemon {
    let config = json!({"status": "127.0.0.1:0", "listeners": [{"protocol": "peerdrop"}]});
    Daemon::start(config)
}

/// Asks for a path, as `localhost`. Returns the response.
fn get(daemon: &Daemon, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    http(daemon.status.unwrap(), &request)
}

#[test]
fn a_daemon_that_works_is_healthy() {
    let response = get(&daemon(), "/healthz");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nok\n"), "{response}");
}

#[test]
fn a_path_that_does_not_exist_is_404() {
    let response = get(&daemon(), "/nothing");
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
}

#[test]
fn a_page_with_a_strangers_host_is_refused() {
    let daemon = daemon();
    let request = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let response = http(daemon.status.unwrap(), request);
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    assert!(response.contains("evil.example"), "{response}");
}
