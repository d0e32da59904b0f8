//! Plain HTTP responses (RFC 9112 section 6, RFC 9110).

use crate::realm::Body;
use std::fmt::{self, Write};

/// A plain response: a status and a body, which is one line of text unless `content_type` says
/// otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    content_type: &'static str,
    body: Body,
    /// Whether the connection stays open for another request.
    keep_alive: bool,
    headers: Vec<(&'static str, String)>,
    /// What the log says of a refusal beside the status: what was refused, and the setting that admits it.
    pub(crate) log_reason: Option<String>,
}

impl Response {
    /// Creates a response with one line of text.
    pub(crate) fn new(status: u16, text: impl fmt::Display) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n").into(),
            keep_alive: false,
            headers: Vec::new(),
            log_reason: None,
        }
    }

    /// Creates a response of status 200 with this body.
    pub(crate) fn ok(content_type: &'static str, body: Body) -> Self {
        Self {
            content_type,
            body,
            ..Self::new(200, "")
        }
    }

    /// Creates a response that asks the client to try again later.
    pub(crate) fn unavailable(status: u16, text: &str) -> Self {
        // In seconds, and a guess: how soon the limit is no longer reached is unknown. A constant does not
        // spread the retries; it keeps clients from retrying at once.
        Self::new(status, text).with_header("Retry-After", "10")
    }

    /// Sets what the log says beside the status. The client does not see it.
    pub(crate) fn with_log_reason(mut self, reason: String) -> Self {
        self.log_reason = Some(reason);
        self
    }

    /// Returns the line of text.
    pub(crate) fn text(&self) -> String {
        self.body.to_string().trim_end().to_owned()
    }

    /// Announces that the connection stays open.
    pub(crate) fn keep_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }

    /// Adds a header.
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Returns the head and the pieces of the body as they go over the wire, for a request with this method.
    /// The response to HEAD has no body.
    pub(crate) fn encode(&self, method: &str) -> (String, Vec<&str>) {
        let sends_body = method != "HEAD" && self.has_body();
        let body = self.body.pieces().filter(|_| sends_body).collect();
        (self.head(), body)
    }

    fn has_body(&self) -> bool {
        self.status != 204
    }

    fn head(&self) -> String {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\n",
            self.status,
            reason_phrase(self.status)
        );
        let mut header = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("writing to a String cannot fail");
        };
        if self.has_body() {
            header("Content-Type", self.content_type);
            header("Content-Length", &self.body.len().to_string());
        }
        let upgrades = self.headers.iter().any(|(name, _)| *name == "Upgrade");
        let connection = if self.keep_alive {
            "keep-alive"
        } else {
            "close"
        };
        if upgrades {
            header("Connection", &format!("{connection}, Upgrade"));
        } else {
            header("Connection", connection);
        }
        self.headers
            .iter()
            .for_each(|(name, value)| header(name, value));
        head.push_str("\r\n");
        head
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_a_length_and_one_line_of_text() {
        let response = Response::new(404, "nothing here");
        let (head, body) = response.encode("GET");
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(head.contains("\r\nContent-Length: 13\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
        assert_eq!(body, ["nothing here\n"]);
    }

    #[test]
    fn a_response_to_head_has_the_length_of_the_body_but_no_body() {
        let response = Response::new(404, "nothing here");
        assert_eq!(response.encode("HEAD"), (response.encode("GET").0, vec![]));
    }

    #[test]
    fn a_204_response_has_neither_body_nor_length() {
        let response = Response::new(204, "");
        let (head, body) = response.encode("OPTIONS");
        assert!(!head.contains("Content-"), "{head}");
        assert_eq!(body, [""; 0]);
    }
}
