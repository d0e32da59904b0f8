//! A system without systemd.

use super::StateChange;
use rustix::fd::OwnedFd;
use std::io;

/// Returns false: nobody does.
pub fn wants_notifications() -> bool {
    false
}

/// Returns no sockets.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the other implementation can fail"
)]
pub(crate) fn listen_fds() -> io::Result<Vec<(Option<String>, OwnedFd)>> {
    Ok(Vec::new())
}

/// Notifies nobody.
pub(crate) struct Notifier;

impl Notifier {
    pub(crate) fn start() -> Self {
        Self
    }

    #[allow(clippy::unused_self, reason = "the other implementation has state")]
    pub(crate) fn notify(&self, _change: StateChange) {}

    #[allow(clippy::unused_self, reason = "the other implementation has state")]
    pub(crate) fn beat(&self, _status: impl FnOnce() -> String) {}
}
