//! What systemd is told of the daemon (sd_notify(3)).

/// Tells systemd of a state, where it wants to know.
pub(crate) fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("systemd cannot be told: {error}");
    }
}
