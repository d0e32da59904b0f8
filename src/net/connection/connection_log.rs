//! The lines of the log about one connection.

use crate::base::close::DisconnectReason;
use crate::base::log_escape::{Excerpt, Quoted};
use crate::config::Address;
use crate::realm::ConnectionId;
use crate::sys::log_fields::{self, field, text};
use log::Level;
use std::net::IpAddr;
use std::time::Duration;

/// Characters of an id in a field, at most.
const MAX_ID: usize = 64;

/// What the log says of a connection beside its end.
pub(crate) struct ConnectionLog {
    pub(crate) protocol: &'static str,
    pub(crate) listener: Address,
    pub(crate) conn: ConnectionId,
    /// The client's address; `None` without `log_addresses`.
    pub(crate) address: Option<IpAddr>,
    /// The id that the client chose, where the protocol has one.
    pub(crate) id: Option<Box<str>>,
    /// Whether the end is logged: `log_connections`.
    pub(crate) logs_end: bool,
}

/// What went over a connection.
pub(super) struct Traffic {
    pub(super) time: Duration,
    pub(super) messages_in: u64,
    pub(super) messages_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl ConnectionLog {
    /// Logs the beginning of the connection, at `debug`.
    pub(crate) fn log_open(&self) {
        if self.logs_end {
            let from = self.address.map(|address| format!(" from {address}"));
            let from = from.unwrap_or_default();
            log::debug!("{} #{}: opened{from}", self.protocol, self.conn.0);
        }
    }

    /// Logs that the protocol ignores a message, at `debug`.
    pub(super) fn log_ignored(&self) {
        log::debug!("{} #{}: ignored a message", self.protocol, self.conn.0);
    }

    /// Logs how the connection ended. What is before the client's address in the line is chosen by the server alone: the
    /// filter for fail2ban relies on it (`systemd/examples/fail2ban`).
    pub(super) fn log_end(&self, reason: DisconnectReason, traffic: &Traffic) {
        if !self.logs_end {
            return;
        }
        let seconds = traffic.time.as_secs_f64();
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
            field("protocol", self.protocol),
            text("listener", &self.listener),
            field("connection", self.conn.0),
            self.address
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
        let from = self.address.map(|address| format!("from {address}, "));
        let id = self.id.as_deref().map(|id| format!(", id {}", Quoted(id)));
        log_fields::log(
            Level::Info,
            &fields,
            format_args!(
                "{} #{}: {reason}; {}{seconds:.1} s, {} messages ({} bytes) in, {} ({} bytes) out{}",
                self.protocol,
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
}
