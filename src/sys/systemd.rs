//! Notification of systemd (sd_notify(3)).

/// Notifies systemd of a state, if `NOTIFY_SOCKET` is set.
pub(crate) fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        log::warn!("cannot notify systemd: {error}");
    }
}
