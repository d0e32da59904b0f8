//! What the status port knows of the daemon. Nothing of it asks the broker, which may be busy or hang.

use super::history::History;
use crate::broker::{ListenerCounters, Pulse};
use crate::net::listener::ListenerState;
use crate::net::listener_set::ListenerSet;
use crate::net::server_state::ServerState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// What all responses are made of.
pub(crate) struct DaemonState {
    pub(super) pulse: Arc<Pulse>,
    pub(super) server: Arc<ServerState>,
    pub(super) started_at: SystemTime,
    /// The same moment, by which the uptime is measured.
    pub(super) started: Instant,
    set: Arc<ListenerSet>,
    /// The listeners of `set` when it was last looked at.
    watched: Mutex<Vec<WatchedListener>>,
}

/// A listener and its last minutes.
pub(super) struct WatchedListener {
    pub(super) state: Arc<ListenerState>,
    /// Whether clients can connect.
    pub(super) is_bound: bool,
    pub(super) history: History,
}

impl WatchedListener {
    pub(super) fn counters(&self) -> &ListenerCounters {
        self.state.counters()
    }

    /// Returns the end of the validity of its certificate, if it has one.
    pub(super) fn certificate_end(&self) -> Option<SystemTime> {
        self.state.shared.tls.get().map(|tls| tls.not_after())
    }
}

impl DaemonState {
    /// Creates the state of a daemon that starts now.
    pub(crate) fn new(pulse: Arc<Pulse>, server: Arc<ServerState>, set: Arc<ListenerSet>) -> Self {
        Self {
            pulse,
            server,
            started_at: SystemTime::now(),
            started: Instant::now(),
            set,
            watched: Mutex::default(),
        }
    }

    /// Appends a second to the history of each listener.
    pub(crate) fn record_second(&self) {
        for listener in self.listeners().iter_mut() {
            listener.history.record_second(listener.state.counters());
        }
    }

    /// Returns the listeners as they are now, in the order of the configuration. One that has changed its settings
    /// keeps its history.
    pub(super) fn listeners(&self) -> MutexGuard<'_, Vec<WatchedListener>> {
        // No code that holds the lock can panic in the middle of a change.
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *watched);
        for handle in self.set.handles() {
            let state = handle.current();
            let mut known = before.iter();
            let known = known.position(|it| Arc::ptr_eq(&it.state.shared, &state.shared));
            watched.push(WatchedListener {
                is_bound: handle.is_bound(),
                history: match known {
                    Some(index) => before.swap_remove(index).history,
                    None => History::new(),
                },
                state,
            });
        }
        watched
    }
}
