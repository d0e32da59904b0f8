//! The state that the tasks of all listeners share, and that of one listener.

use crate::base::memory_budget::MemoryBudget;
use crate::broker::Event;
use crate::config::{Listener, Settings};
use crate::net::connection_limits::{ConnectionLimit, PerSubnetLimit, Permit};
use crate::protocols::Protocol;
use futures::channel::{mpsc, oneshot};
use futures::future::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Number of clients that are told at the same time that the server is full. More are closed without
/// a response.
pub(crate) const MAX_REJECTING: usize = 32;

/// State shared by all listeners.
pub(crate) struct ServerState {
    pub(crate) started: Instant,
    /// The channel to the broker; each task sends through a clone of its own.
    pub(crate) inbox: mpsc::Sender<Event>,
    /// Id of the next connection.
    pub(crate) next_id: AtomicU64,
    /// `max_connections` of the process.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    pub(crate) budget: Arc<MemoryBudget>,
    /// Budget for large HTTP requests. It is apart from `budget` because they come from clients that
    /// have no connection yet, which eviction could close.
    pub(crate) request_budget: Arc<MemoryBudget>,
    /// Limits the clients that are being told that the server is full.
    pub(crate) rejection_limit: Arc<ConnectionLimit>,
    /// Completes when the daemon stops.
    pub(crate) stopping: Shared<oneshot::Receiver<()>>,
    /// Closes its channel when the last task that serves a client has ended.
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
    /// `max_connections_per_ip` of the listener.
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

    /// Returns the listener's name in the log.
    pub(crate) fn protocol_name(&self) -> &'static str {
        self.protocol.name
    }

    /// Acquires the permits for a new connection, or one to tell it that the server is full. `None` if
    /// even that is not to be had.
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
    /// The connection is within `max_connections`.
    Granted { _process: Permit, _listener: Permit },
    /// It is not, and only stays to be told so.
    ServerFull { _permit: Permit },
}
