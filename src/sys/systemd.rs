//! Notification of systemd (sd_notify(3)).

use sd_notify::NotifyState;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// How long a notification may take. It waits while the queue of its receiver is full.
const PATIENCE: Duration = Duration::from_millis(500);

/// Returns whether systemd, or another manager of services, wants to be notified.
pub fn wants_notifications() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Notifies systemd of a state, if it wants that. Waits only for a moment until it is taken.
pub(crate) fn notify(state: NotifyState<'static>) {
    if !wants_notifications() {
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

/// A thread that tells systemd again and again that the daemon is well, and how it is. Nothing waits for it.
pub(crate) struct Heartbeat {
    texts: SyncSender<String>,
}

impl Heartbeat {
    /// Starts the thread, if systemd wants notifications.
    pub(crate) fn start() -> Option<Self> {
        if !wants_notifications() {
            return None;
        }
        let has_watchdog = sd_notify::watchdog_enabled().is_some();
        let (texts, waiting) = sync_channel::<String>(1);
        let mut last_text = String::new();
        let run = move || {
            for text in waiting {
                let mut states = Vec::new();
                if has_watchdog {
                    states.push(NotifyState::Watchdog);
                }
                if text != last_text {
                    states.push(NotifyState::Status(&text));
                }
                // What systemd does not take is said anew in a second.
                if states.is_empty() || sd_notify::notify(&states).is_ok() {
                    last_text = text;
                }
            }
        };
        let thread = thread::Builder::new().name("systemd".to_owned());
        match thread.spawn(run) {
            Ok(_) => Some(Self { texts }),
            Err(error) => {
                log::warn!("cannot notify systemd: {error}");
                None
            }
        }
    }

    /// Says that the daemon is well, with a line about its state. Does nothing while systemd has not taken the last
    /// one.
    pub(crate) fn beat(&self, text: String) {
        let _ = self.texts.try_send(text);
    }
}
