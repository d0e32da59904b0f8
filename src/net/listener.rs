//! The state that the tasks of one listener share.
//!
//! The settings of a listener do not change under a client: each reload makes a new [`ListenerState`], which the accept
//! loop takes for the clients that connect from then on. What counts clients is common to all of them
//! ([`ListenerShared`]).

use crate::base::ip::ClientAddress;
use crate::broker::{EventSender, ListenerCounters, ListenerKey};
use crate::config::{Address, Hosts, Listener, ListenerSettings, TlsSettings};
use crate::net::access::CurrentAccess;
use crate::net::bind::is_loopback;
use crate::net::connection_limits::{ConnectionLimit, PerSubnetLimit, Permits};
use crate::net::current::Current;
use crate::net::http::try_page::ListenerTryPage;
use crate::net::listener_tokens::ListenerTokens;
use crate::net::notice_lines::{ClientName, NoticeLines};
use crate::net::notice_log::{Notice, NoticeLog};
use crate::net::server_state::ServerState;
use crate::realm::Protocol;
use async_std::channel::Receiver;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

/// Bytes that a protocol adds to a message that it passes on, at most: names, ids and time stamps.
const MESSAGE_OVERHEAD: usize = 4 << 10;

/// What stays the same while the settings of a listener change.
pub(crate) struct ListenerShared {
    /// The listener in the broker.
    pub(crate) key: ListenerKey,
    /// The channel to the broker.
    pub(crate) lane: EventSender,
    /// Channel without messages that closes when the listener is removed.
    pub(crate) stopping: Receiver<Infallible>,
    /// `max_connections` of the listener.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// `max_connections_per_ip` of the listener, for each [`SubnetKey`](crate::base::ip::SubnetKey): one IPv4 address,
    /// or one /64 network of IPv6.
    pub(crate) subnet_limit: Arc<PerSubnetLimit>,
    /// `access` of the listener.
    pub(crate) access: Arc<CurrentAccess>,
    /// `tls` of the listener, as its files are now.
    pub(crate) tls: Current<TlsSettings>,
    notices: Arc<NoticeLog>,
}

impl ListenerShared {
    /// Creates what is common to all states of a new listener.
    pub(crate) fn new(
        key: ListenerKey,
        lane: EventSender,
        stopping: Receiver<Infallible>,
        settings: &ListenerSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            key,
            lane,
            stopping,
            connection_limit: ConnectionLimit::new(settings.max_connections),
            subnet_limit: PerSubnetLimit::new(settings.max_connections_per_ip),
            access: CurrentAccess::new(settings.access.as_ref()),
            tls: Current::new(settings.tls.as_ref()),
            notices: Arc::default(),
        })
    }

    /// Changes what holds for all connections: the limits of their number, above which no other is admitted and none is
    /// closed, the secrets of their tokens, and what the next ones are met with: TLS or not, and which certificate.
    pub(crate) fn apply(&self, settings: &ListenerSettings) {
        self.access.set(settings.access.as_ref());
        self.tls.set(settings.tls.as_ref());
        self.connection_limit.set(settings.max_connections);
        self.subnet_limit.set(settings.max_connections_per_ip);
    }
}

/// A listener with settings that do not change.
pub(crate) struct ListenerState {
    pub(crate) server: Arc<ServerState>,
    pub(crate) shared: Arc<ListenerShared>,
    /// The address, with the port that the sockets have.
    pub(crate) address: Arc<Address>,
    pub(crate) protocol: &'static Protocol,
    /// Path that a client connects to.
    pub(crate) endpoint: String,
    /// Hosts that requests must name; `None`: any.
    pub(crate) checked_hosts: Option<Hosts>,
    pub(crate) settings: ListenerSettings,
    /// The page for browsers on which people try the protocol, if it is served.
    pub(crate) try_page: Option<ListenerTryPage>,
    /// The reader of its clients' access tokens, which outlives these settings in their connections.
    pub(crate) tokens: Arc<ListenerTokens>,
    lines: NoticeLines,
}

impl ListenerState {
    pub(crate) fn new(
        server: Arc<ServerState>,
        shared: Arc<ListenerShared>,
        config: Listener,
        address: Arc<Address>,
    ) -> Self {
        let is_loopback = is_loopback(&address);
        let (endpoint, checked_hosts) = (config.endpoint(), config.checked_hosts(is_loopback));
        let is_page_served = config.serves_try_page(is_loopback);
        let try_page = ListenerTryPage::of(config.protocol, &config.options);
        let try_page = try_page.filter(|_| is_page_served);
        let lines = NoticeLines {
            log: Arc::clone(&shared.notices),
            protocol: config.protocol.name,
            listener: Arc::clone(&address),
        };
        let tokens = ListenerTokens {
            access: Arc::clone(&shared.access),
            lines: lines.clone(),
        };
        Self {
            server,
            shared,
            address,
            tokens: Arc::new(tokens),
            lines,
            protocol: config.protocol,
            endpoint,
            checked_hosts,
            try_page,
            settings: config.settings,
        }
    }

    /// Returns the index of the listener in the broker.
    pub(crate) fn index(&self) -> usize {
        self.shared.key.index()
    }

    /// Returns a new sender of this listener's events to the broker. Each task has its own.
    pub(crate) fn event_sender(&self) -> EventSender {
        self.shared.lane.clone()
    }

    /// Returns the name of the protocol, which is the listener's name in the log.
    pub(crate) fn protocol_name(&self) -> &'static str {
        self.protocol.name
    }

    /// Counts what happened to a client, and logs it, unless the same happened to another one a moment ago. `details`
    /// must be one line, in which text of the client is escaped and cut.
    pub(crate) fn log_notice(
        &self,
        notice: Notice,
        client: ClientAddress,
        details: impl FnOnce() -> String,
    ) {
        if let Some(refusal) = notice.refusal() {
            self.counters().record_refused(refusal);
        }
        let address = self.logged_address(client);
        self.lines.log(notice, address, details);
    }

    /// Logs once a minute that a handshake came over HTTP/1.0.
    pub(crate) fn log_old_handshake(&self, client: ClientAddress) {
        if self.shared.notices.record_old_handshake(Instant::now()) {
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
        self.lines.log_counts(now);
    }

    /// Returns the address of a client for the log; `None` without `log_addresses`.
    pub(crate) fn logged_address(&self, client: ClientAddress) -> Option<ClientAddress> {
        self.server.logged_address(client)
    }

    /// Returns what is counted of the listener.
    pub(crate) fn counters(&self) -> &ListenerCounters {
        self.shared.key.counters()
    }

    /// Returns the limit of an outbox in bytes.
    pub(crate) fn outbox_size(&self) -> usize {
        outbox_size(self.protocol, &self.settings)
    }

    /// Returns whether the operator has banned a client with this address.
    pub(crate) fn is_banned(&self, client: ClientAddress) -> bool {
        self.server.bans.contains(client)
    }

    /// Acquires the permits for a new connection, or the permit to reject it with an error if the server is
    /// full, or the peer is banned: such a one takes no place of others. `None` if no rejection permit is left either.
    pub(crate) fn acquire_permits(&self, is_banned: bool) -> Option<Permits> {
        let server = &self.server;
        if is_banned {
            return Permits::to_reject(&server.rejection_limit, &server.unanswered);
        }
        Permits::try_acquire(
            &server.connection_limit,
            &self.shared.connection_limit,
            &server.rejection_limit,
            &server.unanswered,
        )
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
