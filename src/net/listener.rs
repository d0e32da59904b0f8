//! What the tasks of all listeners share, and what those of one do.

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

/// How many clients are told at a time that there is no room; more are cut off without a word.
pub(crate) const MAX_REJECTING: usize = 32;

/// What all ports have in common.
pub(crate) struct ServerState {
    pub(crate) started: Instant,
    /// How the broker is told; everybody sends from a clone.
    pub(crate) inbox: mpsc::Sender<Event>,
    /// The number of the next connection.
    pub(crate) connections: AtomicU64,
    pub(crate) permits: Arc<ConnectionLimit>,
    pub(crate) budget: Arc<MemoryBudget>,
    /// For large requests: they come before anybody is let in, or instead.
    pub(crate) requests: Arc<MemoryBudget>,
    /// For those who are told that there is none.
    pub(crate) rejecting: Arc<ConnectionLimit>,
    /// Ends when the daemon stops.
    pub(crate) stopping: Shared<oneshot::Receiver<()>>,
    /// Dropped with the last task that serves a client.
    pub(crate) _all_gone: mpsc::Sender<()>,
}

/// A port and what is spoken there.
pub(crate) struct ListenerState {
    pub(crate) server: Arc<ServerState>,
    /// Its place in the configuration.
    pub(crate) index: usize,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: &'static Protocol,
    pub(crate) settings: Settings,
    pub(crate) permits: Arc<ConnectionLimit>,
    pub(crate) subnets: Arc<PerSubnetLimit>,
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
            permits: ConnectionLimit::new(settings.max_connections),
            subnets: PerSubnetLimit::new(settings.max_connections_per_ip),
            settings,
        }
    }

    /// What it is called in the log.
    pub(crate) fn name(&self) -> &'static str {
        self.protocol.name
    }

    pub(crate) fn admit(&self) -> Option<Admission> {
        match (
            self.server.permits.try_acquire(),
            self.permits.try_acquire(),
        ) {
            (Some(process), Some(listener)) => Some(Admission::Admitted {
                _process: process,
                _listener: listener,
            }),
            _ => self
                .server
                .rejecting
                .try_acquire()
                .map(|permit| Admission::Full { _permit: permit }),
        }
    }
}

/// A client's places, or the one that it has until it has been told that there are none. They are
/// free again when its socket is closed and not before, since that is what they are counted for.
pub(crate) enum Admission {
    Admitted { _process: Permit, _listener: Permit },
    Full { _permit: Permit },
}
