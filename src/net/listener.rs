//! The state that the tasks of all listeners share ([`ServerState`]), and that of one listener
//! ([`ListenerState`]).

use crate::base::memory_budget::MemoryBudget;
use crate::broker::{Clock, EventSender};
use crate::config::{Address, Hosts, Listener, ListenerSettings};
use crate::net::connection_limits::{ConnectionLimit, PerSubnetLimit, Permits};
use crate::net::notice_log::{Notice, NoticeLog};
use crate::realm::Protocol;
use crate::sys::log_fields::{self, field, text};
use async_std::channel::Receiver;
use futures::channel::mpsc;
use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Number of clients above `max_connections` that are sent an error at the same time. Further ones are closed
/// without a response.
pub(crate) const MAX_REJECTING: usize = 32;

/// Bytes that a protocol adds to a message that it passes on, at most: names, ids and time stamps.
const MESSAGE_OVERHEAD: usize = 4 << 10;

/// State shared by all listeners.
pub(crate) struct ServerState {
    pub(crate) clock: Arc<Clock>,
    /// The channel of each listener to the broker, by index.
    pub(crate) lanes: Vec<EventSender>,
    /// Id of the next connection.
    pub(crate) next_id: AtomicU64,
    /// `max_connections` of the process.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    pub(crate) budget: Arc<MemoryBudget>,
    /// Budget for large HTTP requests. It is separate from `budget` because these clients have no connection
    /// in the broker yet that eviction could close.
    pub(crate) request_budget: Arc<MemoryBudget>,
    /// Limit of the clients that are being rejected because the server is full: [`MAX_REJECTING`].
    pub(crate) rejection_limit: Arc<ConnectionLimit>,
    /// The settings `log_connections` and `log_addresses`.
    pub(crate) log_connections: bool,
    pub(crate) log_addresses: bool,
    /// Channel without messages that closes when the daemon stops.
    pub(crate) stopping: Receiver<Infallible>,
    /// Sender whose channel closes when the last task that serves a client has ended and dropped it.
    pub(crate) _task_guard: mpsc::Sender<()>,
}

/// State of one listener.
pub(crate) struct ListenerState {
    pub(crate) server: Arc<ServerState>,
    /// Index in the configuration.
    pub(crate) index: usize,
    pub(crate) address: Address,
    pub(crate) protocol: &'static Protocol,
    /// Path that a client connects to.
    pub(crate) endpoint: String,
    /// Hosts that requests must name; `None`: any.
    pub(crate) checked_hosts: Option<Hosts>,
    pub(crate) settings: ListenerSettings,
    /// `max_connections` of the listener.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// `max_connections_per_ip` of the listener, for each [`SubnetKey`](crate::base::ip::SubnetKey): one IPv4 address, or one /64 network of
    /// IPv6.
    pub(crate) subnet_limit: Arc<PerSubnetLimit>,
    /// Whether the address is bound. It is not while another program has it.
    is_bound: AtomicBool,
    notices: NoticeLog,
}

impl ListenerState {
    pub(crate) fn new(
        server: Arc<ServerState>,
        index: usize,
        config: Listener,
        address: Address,
        is_bound: bool,
    ) -> Self {
        let (endpoint, checked_hosts) = (config.endpoint(), config.checked_hosts());
        let settings = config.settings;
        Self {
            server,
            index,
            address,
            protocol: config.protocol,
            endpoint,
            checked_hosts,
            connection_limit: ConnectionLimit::new(settings.max_connections),
            subnet_limit: PerSubnetLimit::new(settings.max_connections_per_ip),
            is_bound: AtomicBool::new(is_bound),
            notices: NoticeLog::default(),
            settings,
        }
    }

    /// Records that the address is bound.
    pub(crate) fn set_bound(&self) {
        self.is_bound.store(true, Ordering::Relaxed);
    }

    /// Returns whether clients can connect.
    pub(crate) fn is_bound(&self) -> bool {
        self.is_bound.load(Ordering::Relaxed)
    }

    /// Returns a new sender of this listener's events to the broker. Each task has its own.
    pub(crate) fn event_sender(&self) -> EventSender {
        let lane = self.server.lanes.get(self.index);
        lane.expect("each listener has a lane").clone()
    }

    /// Returns the name of the protocol, which is the listener's name in the log.
    pub(crate) fn protocol_name(&self) -> &'static str {
        self.protocol.name
    }

    /// Logs what happened to a client, unless the same happened to another one a moment ago. `details` must be
    /// one line, in which text of the client is escaped and cut.
    pub(crate) fn log_notice(
        &self,
        notice: Notice,
        client: IpAddr,
        details: impl FnOnce() -> String,
    ) {
        let Some(unlogged) = self.notices.record(notice, Instant::now()) else {
            return;
        };
        let (name, listener, details) = (self.protocol_name(), self.address, details());
        let address = self.logged_address(client);
        let client = ClientName(address);
        let more = match unlogged {
            0 => String::new(),
            unlogged => format!(" ({unlogged} more before)"),
        };
        let fields = [
            field("protocol", name),
            text("listener", &listener),
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

    /// Logs once a minute that a handshake came over HTTP/1.0.
    pub(crate) fn log_old_handshake(&self, client: IpAddr) {
        if self.notices.record_old_handshake(Instant::now()) {
            log::info!(
                "{}: {} connects over HTTP/1.0, which works; a proxy should speak HTTP/1.1 (nginx: \
                 \"proxy_http_version 1.1;\")",
                self.protocol_name(),
                ClientName(self.logged_address(client)),
            );
        }
    }

    /// Logs the number of notices without a line of their own, of the kinds whose time is over at `now`,
    /// or of all if that is `None`.
    pub(crate) fn log_notice_counts(&self, now: Option<Instant>) {
        let (name, address) = (self.protocol_name(), self.address);
        for (notice, count) in self.notices.take_counts(now) {
            log::log!(
                notice.level(),
                "{name} on {address}: {count} more were {notice}"
            );
        }
    }

    /// Returns the address of a client for the log; `None` without `log_addresses`.
    pub(crate) fn logged_address(&self, client: IpAddr) -> Option<IpAddr> {
        self.server.log_addresses.then(|| client.to_canonical())
    }

    /// Returns the limit of an outbox in bytes.
    pub(crate) fn outbox_size(&self) -> usize {
        outbox_size(self.protocol, &self.settings)
    }

    /// Acquires the permits for a new connection, or the permit to reject it with an error if the server is
    /// full. `None` if no rejection permit is left either.
    pub(crate) fn acquire_permits(&self) -> Option<Permits> {
        let server = &self.server;
        Permits::try_acquire(
            &server.connection_limit,
            &self.connection_limit,
            &server.rejection_limit,
        )
    }
}

/// Displays a client as the log names it.
pub(crate) struct ClientName(pub(crate) Option<IpAddr>);

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("a client"),
        }
    }
}

/// Returns the limit of an outbox in bytes: `outbox_size`, and at least as many of the largest messages as the
/// protocol demands.
fn outbox_size(protocol: &Protocol, settings: &ListenerSettings) -> usize {
    let largest = settings.max_message_size + MESSAGE_OVERHEAD;
    let minimum = largest.saturating_mul(protocol.min_outbox_messages);
    settings.outbox_size.max(minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_holds_outbox_size_and_on_workspace_two_of_the_largest_messages() {
        for (name, max_message_size, expected) in [
            ("workspace", 1 << 20, (2 << 20) + 2 * MESSAGE_OVERHEAD),
            ("workspace", 1000, 1 << 20),
            ("fastchat", 1 << 20, 1 << 20),
        ] {
            let protocol = crate::protocols::by_name(name).unwrap();
            let mut settings = Listener::built_in(protocol).settings;
            settings.max_message_size = max_message_size;
            assert_eq!(outbox_size(protocol, &settings), expected, "{name}");
        }
    }
}
