//! The state that the tasks of all listeners share.

use crate::base::ip::{ClientAddress, Network};
use crate::base::memory_budget::MemoryBudget;
use crate::broker::Clock;
use crate::config::Config;
use crate::net::bans::Bans;
use crate::net::connection_limits::ConnectionLimit;
use crate::sys::limits::Limits;
use futures::channel::mpsc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of clients above `max_connections` that are sent an error at the same time. Further ones are closed
/// without a response.
pub(crate) const MAX_REJECTING: usize = 32;

/// The memory budget divided by this is a further budget, for large requests. A request takes at most 20 KiB,
/// so with the fallback budget 800 of the largest fit.
const REQUEST_BUDGET_DIVISOR: usize = 8;

/// State shared by all listeners.
pub(crate) struct ServerState {
    pub(crate) clock: Arc<Clock>,
    /// Id of the next connection.
    pub(crate) next_id: AtomicU64,
    /// `max_connections` of the process.
    pub(crate) connection_limit: Arc<ConnectionLimit>,
    pub(crate) budget: Arc<MemoryBudget>,
    /// Budget for large HTTP requests. It is separate from `budget` because these clients have no connection
    /// in the broker yet that eviction could close.
    pub(crate) request_budget: Arc<MemoryBudget>,
    pub(crate) bans: Bans,
    /// Limit of the clients that are being rejected because the server is full, or because they are banned:
    /// [`MAX_REJECTING`].
    pub(crate) rejection_limit: Arc<ConnectionLimit>,
    /// Counts the clients whose first request is not answered yet, without a limit.
    pub(crate) unanswered: Arc<ConnectionLimit>,
    /// The settings `log_connections` and `log_addresses`.
    log_connections: AtomicBool,
    log_addresses: AtomicBool,
    /// Sender whose channel closes when the last task that serves a client has ended and dropped it.
    _task_guard: mpsc::Sender<()>,
}

impl ServerState {
    /// Creates the state of a server without limits.
    pub(crate) fn new(clock: Arc<Clock>, task_guard: mpsc::Sender<()>) -> Self {
        Self {
            clock,
            next_id: AtomicU64::new(1),
            connection_limit: ConnectionLimit::new(0),
            budget: MemoryBudget::new(0),
            request_budget: MemoryBudget::new(0),
            rejection_limit: ConnectionLimit::new(MAX_REJECTING),
            unanswered: ConnectionLimit::new(0),
            bans: Bans::default(),
            log_connections: AtomicBool::new(true),
            log_addresses: AtomicBool::new(true),
            _task_guard: task_guard,
        }
    }

    /// Applies the settings of the process, and the limits that follow from the configuration.
    pub(crate) fn apply(&self, config: &Config, limits: &Limits) {
        self.bans.configure(config);
        self.connection_limit.set(limits.capacity.connections);
        self.budget.set_limit(limits.memory_budget);
        let for_requests = limits.memory_budget / REQUEST_BUDGET_DIVISOR;
        self.request_budget.set_limit(for_requests);
        let store = |setting: &AtomicBool, value| setting.store(value, Ordering::Relaxed);
        store(&self.log_connections, config.process.log_connections);
        store(&self.log_addresses, config.process.log_addresses);
    }

    /// Returns the address of a client for the log; `None` without `log_addresses`.
    pub(crate) fn logged_address(&self, client: ClientAddress) -> Option<ClientAddress> {
        let is_logged = self.log_addresses.load(Ordering::Relaxed);
        is_logged.then_some(client)
    }

    /// Returns a network for the log, in which it has no name without `log_addresses`.
    pub(crate) fn logged_network(&self, network: Network) -> String {
        match self.log_addresses.load(Ordering::Relaxed) {
            true => network.to_string(),
            false => "a network".to_owned(),
        }
    }

    /// Returns the setting `log_connections`.
    pub(crate) fn logs_connections(&self) -> bool {
        self.log_connections.load(Ordering::Relaxed)
    }
}
