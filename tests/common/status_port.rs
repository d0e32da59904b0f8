//! Requests to the status port of a daemon.

use super::{Daemon, http};
use serde_json::Value;
use std::net::SocketAddr;

/// Sends a request, as `localhost`. Returns the response.
pub fn request(status: SocketAddr, line: &str) -> String {
    http(
        status,
        &format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    )
}

/// Asks for a path. Returns the response.
pub fn get(daemon: &Daemon, path: &str) -> String {
    request(daemon.status.unwrap(), &format!("GET {path}"))
}

/// Asks for a path. Returns the body of the response, which must be 200 and of this type.
pub fn get_body(daemon: &Daemon, path: &str, content_type: &str) -> String {
    let response = get(daemon, path);
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let content_type = format!("\r\nContent-Type: {content_type}\r\n");
    let is_right = head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(&content_type);
    assert!(is_right, "{head}");
    body.to_owned()
}

/// Returns `/status`.
pub fn status(daemon: &Daemon) -> Value {
    serde_json::from_str(&get_body(daemon, "/status", "application/json")).unwrap()
}
