//! Plain HTTP answers (RFC 9112 section 6, RFC 9110).

use std::fmt::{self, Write};
use std::sync::Arc;

/// A plain answer: a status and a body, which is one line of text unless it says otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    content_type: &'static str,
    body: Arc<str>,
    /// Whether the connection stands for another request.
    keep_alive: bool,
    headers: Vec<(&'static str, String)>,
}

impl Response {
    pub(crate) fn new(status: u16, text: impl fmt::Display) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n").into(),
            keep_alive: false,
            headers: Vec::new(),
        }
    }

    /// 200, with this body.
    pub(crate) fn ok(content_type: &'static str, body: Arc<str>) -> Self {
        Self {
            content_type,
            body,
            ..Self::new(200, "")
        }
    }

    /// The connection stands after it.
    pub(crate) fn keep_alive(mut self) -> Self {
        self.keep_alive = true;
        self
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// There is no room just now, for this reason.
    pub(crate) fn unavailable(status: u16, text: &str) -> Self {
        // In seconds: a guess, but one that spreads the tries.
        Self::new(status, text).with("Retry-After", "10")
    }

    /// What goes over the wire: the head, and behind it the body. One to HEAD has none.
    pub(crate) fn encode(&self, method: &str) -> (String, &str) {
        let body = if method == "HEAD" { "" } else { &self.body };
        (self.head(), if self.has_body() { body } else { "" })
    }

    fn has_body(&self) -> bool {
        self.status != 204
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, phrase(self.status));
        let mut header = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("a String takes all");
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

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
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
    fn an_answer_has_a_length_and_one_line() {
        let answer = Response::new(404, "nothing here");
        let (head, body) = answer.encode("GET");
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"));
        assert!(head.contains("\r\nContent-Length: 13\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
        assert_eq!(body, "nothing here\n");
    }

    #[test]
    fn one_to_head_has_no_body_and_its_length() {
        let answer = Response::new(404, "nothing here");
        assert_eq!(answer.encode("HEAD"), (answer.encode("GET").0, ""));
    }

    #[test]
    fn no_content_has_neither_body_nor_length() {
        let answer = Response::new(204, "");
        let (head, body) = answer.encode("OPTIONS");
        assert!(!head.contains("Content-"), "{head}");
        assert_eq!(body, "");
    }
}
