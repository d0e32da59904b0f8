//! The state that the tasks of all listeners share ([`ServerState`]), that of one listener
//! ([`ListenerState`]), and the permits that an accepted connection needs.

use crate::base::memory_budget::MemoryBudget;
use crate::broker::{Clock, EventSender};
use crate::config::{Listener, Settings};
use crate::net::connection_limits::{ConnectionLimit, PerSubnetLimit, Permit};
use crate::protocols::Protocol;
use futures::channel::{mpsc, oneshot};
use futures::future::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Number of clients above `max_connections` that are sent an error at the same time. Further ones are closed
/// without a response.
pub(crate) const MAX_REJECTING: usize = 32;

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
    /// Future that completes when the daemon stops.
    pub(crate) stopping: Shared<oneshot::Receiver<()>>,
    /// Sender whose channel closes when the last task that serves a client has ended and dropped it.
    pub(crate) _task_guard: mpsc::Sender<()>,
}

/// State of one listener.
pub(crate) struct ListenerState {
    pub(crate) server: Arc<ServerState>,
    /// Index in the configuration.
    pub(crate) index: usize,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: &'static Protocol,
    pub(crate) settings: Settings,
    /// `max_connections` of the listener.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    /// `max_connections_per_ip` of the listener, for each [`SubnetKey`](crate::base::ip::SubnetKey): one IPv4
    /// address, or one /64 network of IPv6.
    pub(crate) subnet_limit: Arc<PerSubnetLimit>,
}

impl ListenerState {
    pub(crate) fn new(
        server: Arc<ServerState>,
        index: usize,
        config: Listener,
        address: SocketAddr,
    ) -> Self {
        let settings = config.settings;
        Self {
            server,
            index,
            address,
            protocol: config.protocol,
            connection_limit: ConnectionLimit::new(settings.max_connections),
            subnet_limit: PerSubnetLimit::new(settings.max_connections_per_ip),
            settings,
        }
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

    /// Acquires the permits for a new connection, or the permit to reject it with an error if the server is
    /// full. `None` if no rejection permit is left either.
    pub(crate) fn acquire_permits(&self) -> Option<Permits> {
        match (
            self.server.connection_limit.try_acquire(),
            self.connection_limit.try_acquire(),
        ) {
            (Some(process), Some(listener)) => Some(Permits::Granted {
                _process: process,
                _listener: listener,
            }),
            _ => self
                .server
                .rejection_limit
                .try_acquire()
                .map(|permit| Permits::ServerFull { _permit: permit }),
        }
    }
}

/// The permits of an accepted connection. They are freed when its socket is closed and not earlier,
/// since open sockets are what they limit.
pub(crate) enum Permits {
    /// The connection is within `max_connections` of the process and of the listener.
    Granted { _process: Permit, _listener: Permit },
    /// The connection is above `max_connections` and is rejected.
    ServerFull { _permit: Permit },
}
