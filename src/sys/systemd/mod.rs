//! What systemd tells the daemon and hears of it; nothing where there is no systemd.

#[cfg(not(target_os = "linux"))]
mod missing;
#[cfg(target_os = "linux")]
mod notifier;

#[cfg(not(target_os = "linux"))]
pub use missing::wants_notifications;
#[cfg(not(target_os = "linux"))]
pub(crate) use missing::{Notifier, listen_fds};
#[cfg(target_os = "linux")]
pub use notifier::wants_notifications;
#[cfg(target_os = "linux")]
pub(crate) use notifier::{Notifier, listen_fds};

/// A change of the daemon's state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StateChange {
    Ready,
    Reloading,
    Stopping,
}
