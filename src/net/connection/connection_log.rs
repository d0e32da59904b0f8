//! The lines of the log about one connection: how it ended, and its messages where the listener traces them.

use crate::base::close::DisconnectReason;
use crate::base::frame::Frame;
use crate::base::ip::ClientAddress;
use crate::base::log_escape::{Excerpt, Quoted};
use crate::broker::Traffic;
use crate::config::Address;
use crate::net::server_state::ServerState;
use crate::realm::{ConnectionId, Message, Protocol};
use crate::sys::log_fields::{self, field, text};
use crate::sys::log_tokens;
use log::Level;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Characters of an id in a field, at most.
const MAX_ID: usize = 64;

/// Characters of a text message that are logged, at most.
const MAX_TRACED_CHARS: usize = 200;

/// Bytes of a binary message that are logged, at most.
const MAX_TRACED_BYTES: usize = 32;

/// Bytes of a message that have what is logged of it: a character of UTF-8 has at most 4.
const TRACE_PREFIX: usize = 4 * MAX_TRACED_CHARS;

/// What the log says of a connection beside its end.
pub(crate) struct ConnectionLog {
    /// Knows `log_connections` and `log_addresses`, which a reload may change.
    pub(crate) server: Arc<ServerState>,
    pub(crate) protocol: &'static Protocol,
    pub(crate) listener: Arc<Address>,
    pub(crate) conn: ConnectionId,
    pub(crate) address: ClientAddress,
    /// The id that the client chose, where the protocol has one.
    pub(crate) id: Option<Box<str>>,
    /// Whether messages are logged: `trace_messages`.
    pub(crate) traces_messages: bool,
}

impl ConnectionLog {
    /// Logs the beginning of the connection, at `debug`.
    pub(crate) fn log_open(&self) {
        if self.server.logs_connections() {
            let address = self.server.logged_address(self.address);
            let from = address.map(|address| format!(" from {address}"));
            let from = from.unwrap_or_default();
            log::debug!("{} #{}: opened{from}", self.protocol.name, self.conn.0);
        }
    }

    /// Logs that the protocol ignores a message, at `debug`.
    pub(super) fn log_ignored(&self) {
        log::debug!("{} #{}: ignored a message", self.protocol.name, self.conn.0);
    }

    /// Logs how the connection ended, after this time. What is before the client's address in the line is chosen by the
    /// server alone: the filter for fail2ban relies on it (`systemd/examples/fail2ban`).
    pub(super) fn log_end(&self, reason: DisconnectReason, time: Duration, traffic: Traffic) {
        if !self.server.logs_connections() {
            return;
        }
        let address = self.server.logged_address(self.address);
        let seconds = time.as_secs_f64();
        let code = match reason {
            DisconnectReason::Closed(close) => Some(close.code()),
            DisconnectReason::ClosedByClient(code) => code,
            DisconnectReason::Lost | DisconnectReason::Unresponsive => None,
        };
        let id = self.id.as_deref().map(|text| Excerpt {
            text,
            limit: MAX_ID,
        });
        let fields = [
            field("protocol", self.protocol.name),
            text("listener", &self.listener),
            field("connection", self.conn.0),
            address
                .as_ref()
                .and_then(|address| text("address", address)),
            id.as_ref().and_then(|id| text("id", id)),
            code.and_then(|code| field("code", code)),
            field("reason", reason.name()),
            field("seconds", (seconds * 1e3).round() / 1e3),
            field("messages_in", traffic.messages_in),
            field("messages_out", traffic.messages_out),
            field("bytes_in", traffic.bytes_in),
            field("bytes_out", traffic.bytes_out),
        ];
        let from = address.map(|address| format!("from {address}, "));
        let id = self.id.as_deref().map(|id| format!(", id {}", Quoted(id)));
        log_fields::log(
            Level::Info,
            &fields,
            format_args!(
                "{} #{}: {reason}; {}{seconds:.1} s, {} messages ({} bytes) in, {} ({} bytes) out{}",
                self.protocol.name,
                self.conn.0,
                from.unwrap_or_default(),
                traffic.messages_in,
                traffic.bytes_in,
                traffic.messages_out,
                traffic.bytes_out,
                id.unwrap_or_default(),
            ),
        );
    }

    /// Logs a message of the client.
    #[cold]
    pub(super) fn trace_received(&self, message: &Message) {
        let (is_text, bytes) = match message {
            Message::Text(text) => (true, text.as_bytes()),
            Message::Binary(bytes) => (false, &**bytes),
        };
        let prefix = bytes.get(..TRACE_PREFIX).unwrap_or(bytes);
        self.trace("received", is_text, bytes.len(), prefix);
    }

    /// Logs the messages of a frame to the client.
    #[cold]
    pub(super) fn trace_sent(&self, frame: &Frame) {
        for payload in frame.payload_prefixes(TRACE_PREFIX) {
            self.trace("sent", payload.is_text, payload.length, &payload.prefix);
        }
    }

    fn trace(&self, direction: &'static str, is_text: bool, length: usize, prefix: &[u8]) {
        let fields = [
            field("protocol", self.protocol.name),
            text("listener", &self.listener),
            field("connection", self.conn.0),
            field("direction", direction),
            field("bytes", length as u64),
        ];
        let (kind, content) = if is_text {
            // The prefix may end within a character, which is then behind those that are logged.
            let text = &String::from_utf8_lossy(prefix);
            let limit = MAX_TRACED_CHARS;
            ("text", Excerpt { text, limit }.to_string())
        } else {
            ("binary", hex(prefix, length))
        };
        log_fields::log(
            Level::Info,
            &fields,
            format_args!(
                "{} #{}: {direction} {length} bytes of {kind}: {content}",
                self.protocol.name, self.conn.0
            ),
        );
    }
}

/// Returns the first bytes of a message of this length in hexadecimal, up to an access token: the log would not know it
/// as one in these digits.
fn hex(prefix: &[u8], length: usize) -> String {
    let token = log_tokens::find(prefix).map(|token| token.start);
    let token = token.filter(|start| *start < MAX_TRACED_BYTES);
    let mut hex = String::new();
    for byte in prefix.iter().take(token.unwrap_or(MAX_TRACED_BYTES)) {
        let _: fmt::Result = write!(hex, "{byte:02x} ");
    }
    if token.is_some() {
        hex.push_str(log_tokens::REPLACEMENT);
    } else if length > MAX_TRACED_BYTES {
        hex.push('…');
    }
    hex.truncate(hex.trim_end().len());
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hex_of_a_message_is_cut() {
        assert_eq!(hex(&[], 0), "");
        assert_eq!(hex(&[0, 255, 26], 3), "00 ff 1a");
        let long = hex(&[7; 100], 100);
        assert_eq!(long, format!("{}…", "07 ".repeat(MAX_TRACED_BYTES)));
    }

    #[test]
    fn the_hex_of_a_message_ends_where_a_token_begins() {
        let token = "eyJhbGciOiJI.eyJzdWIi.x";
        assert_eq!(hex(token.as_bytes(), token.len()), "***");
        let within = format!("\x01\"{token}\"");
        assert_eq!(hex(within.as_bytes(), within.len()), "01 22 ***");
        let behind = format!("{}{token}", "\x07".repeat(MAX_TRACED_BYTES));
        let expected = format!("{}…", "07 ".repeat(MAX_TRACED_BYTES));
        assert_eq!(hex(behind.as_bytes(), behind.len()), expected);
    }
}
