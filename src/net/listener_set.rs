//! The listeners that are served, which a reload changes.

use crate::net::listener::ListenerState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// A listener that is served, with the settings that hold for those who connect now.
pub(crate) struct ListenerHandle {
    current: RwLock<Arc<ListenerState>>,
    /// Whether the address is bound. It is not while another program has it.
    is_bound: AtomicBool,
}

impl ListenerHandle {
    pub(crate) fn new(state: ListenerState, is_bound: bool) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(Arc::new(state)),
            is_bound: AtomicBool::new(is_bound),
        })
    }

    /// Returns the listener as it is now.
    pub(crate) fn current(&self) -> Arc<ListenerState> {
        // No code that holds the lock can panic.
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the listener for those who connect from now on.
    pub(crate) fn replace(&self, state: ListenerState) {
        let current = self.current.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
    }

    /// Records that the address is bound.
    pub(crate) fn set_bound(&self) {
        self.is_bound.store(true, Ordering::Relaxed);
    }

    /// Returns whether clients can connect.
    pub(crate) fn is_bound(&self) -> bool {
        self.is_bound.load(Ordering::Relaxed)
    }
}

/// The listeners that are served now, in the order of the configuration.
#[derive(Default)]
pub(crate) struct ListenerSet(RwLock<Vec<Arc<ListenerHandle>>>);

impl ListenerSet {
    /// Returns the listeners as they are now.
    pub(crate) fn current(&self) -> Vec<Arc<ListenerState>> {
        self.handles().iter().map(|it| it.current()).collect()
    }

    /// Returns their handles.
    pub(crate) fn handles(&self) -> Vec<Arc<ListenerHandle>> {
        let handles = self.0.read();
        handles.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all.
    pub(crate) fn set(&self, handles: Vec<Arc<ListenerHandle>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = handles;
    }
}
