//! Notification of systemd (sd_notify(3)).

use sd_notify::NotifyState;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// How long a notification may take. It waits while the queue of its receiver is full.
const PATIENCE: Duration = Duration::from_millis(500);

/// Notifies systemd of a state, if `NOTIFY_SOCKET` is set. Waits only for a moment until it is taken.
pub(crate) fn notify(state: NotifyState<'static>) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let (sent, result) = channel();
    let send = move || {
        let _ = sent.send(sd_notify::notify(&[state]));
    };
    if let Err(error) = thread::Builder::new().spawn(send) {
        log::warn!("cannot notify systemd: {error}");
        return;
    }
    match result.recv_timeout(PATIENCE) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::warn!("cannot notify systemd: {error}"),
        Err(_) => log::warn!("systemd takes no notification"),
    }
}
