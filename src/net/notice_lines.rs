//! The log lines of a listener about clients, which name it as all its lines do.

use crate::base::ip::ClientAddress;
use crate::config::Address;
use crate::net::notice_log::{Notice, NoticeLog};
use crate::sys::log_fields::{self, field, text};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// Logs what happens to the clients of one listener.
#[derive(Clone)]
pub(crate) struct NoticeLines {
    /// What was logged a moment ago.
    pub(crate) log: Arc<NoticeLog>,
    /// The name of the protocol, which is the listener's name in the log.
    pub(crate) protocol: &'static str,
    /// The address of the listener.
    pub(crate) listener: Arc<Address>,
}

impl NoticeLines {
    /// Logs what happened to a client, unless the same happened to another one a moment ago. `details` must be one line, in
    /// which text of the client is escaped and cut.
    pub(crate) fn log(
        &self,
        notice: Notice,
        address: Option<ClientAddress>,
        details: impl FnOnce() -> String,
    ) {
        let Some(unlogged) = self.log.record(notice, Instant::now()) else {
            return;
        };
        let (name, listener, details) = (self.protocol, &self.listener, details());
        let client = ClientName(address);
        let more = match unlogged {
            0 => String::new(),
            unlogged => format!(" ({unlogged} more before)"),
        };
        let fields = [
            field("protocol", name),
            text("listener", listener),
            address
                .as_ref()
                .and_then(|address| text("address", address)),
            notice.status().and_then(|status| field("code", status)),
            text("reason", &details),
        ];
        // What is before the details is chosen by the server alone: the filter for fail2ban relies on it
        // (`systemd/examples/fail2ban`).
        log_fields::log(
            notice.level(),
            &fields,
            format_args!("{name} on {listener}: {client} is {notice}: {details}{more}"),
        );
    }

    /// Logs the number of notices without a line of their own, of the kinds whose time is over at `now`,
    /// or of all if that is `None`.
    pub(crate) fn log_counts(&self, now: Option<Instant>) {
        let (name, address) = (self.protocol, &self.listener);
        for (notice, count) in self.log.take_counts(now) {
            let more = notice.more(count);
            log::log!(notice.level(), "{name} on {address}: {more}");
        }
    }
}

/// Displays a client as the log names it.
pub(crate) struct ClientName(pub(crate) Option<ClientAddress>);

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("a client"),
        }
    }
}
