//! A setting of a listener as it is now, also for those who connected before it has changed.

use std::sync::{Arc, PoisonError, RwLock};

/// The present value of a setting, which may be `null`.
pub(crate) struct Current<T>(RwLock<Option<Arc<T>>>);

impl<T: Clone> Current<T> {
    pub(crate) fn new(value: Option<&T>) -> Self {
        Self(RwLock::new(value.cloned().map(Arc::new)))
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: Option<&T>) {
        let current = self.0.write();
        *current.unwrap_or_else(PoisonError::into_inner) = value.cloned().map(Arc::new);
    }

    /// Returns the value.
    pub(crate) fn get(&self) -> Option<Arc<T>> {
        // No code that holds the lock can panic.
        let current = self.0.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
