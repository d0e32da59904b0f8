//! Notification of systemd (sd_notify(3)), by a thread of its own: the queue of the receiver may be full, and then the
//! call waits.

use super::StateChange;
use sd_notify::NotifyState;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

/// How long the daemon waits until a change of its state is taken.
const PATIENCE: Duration = Duration::from_millis(500);

/// Messages that may wait for the thread: a sign of life, and changes of the state.
const MAX_WAITING: usize = 4;

/// Returns whether systemd, or another manager of services, wants to be notified.
pub fn wants_notifications() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Takes the sockets that systemd passes, with their names. No program that this one starts inherits them.
///
/// # Errors
/// The environment names file descriptors that are not open, or makes no sense.
pub(crate) fn listen_fds() -> io::Result<Vec<(Option<String>, OwnedFd)>> {
    // It makes sure that all of them are open, and are closed in other programs.
    let _open = sd_notify::listen_fds()?;
    let passed = sd_listen_fds::get().map_err(io::Error::other)?;
    let passed = passed.into_iter();
    Ok(passed
        .map(|(name, socket)| (name, socket.into_std()))
        .collect())
}

/// What the thread sends.
enum Message {
    /// A state that the daemon has now. The sender hears of the result.
    State(StateChange, Sender<io::Result<()>>),
    /// The daemon is well. A line about it for `systemctl status`.
    Alive(String),
}

/// Notifies systemd, if it wants that.
pub(crate) struct Notifier {
    /// The messages to the thread, if there is one.
    messages: Option<SyncSender<Message>>,
    /// Whether a sign of life waits.
    waits: Arc<AtomicBool>,
}

impl Notifier {
    /// Starts the thread, if systemd wants notifications.
    pub(crate) fn start() -> Self {
        let waits = Arc::default();
        let messages = if wants_notifications() {
            start_thread(Arc::clone(&waits))
        } else {
            None
        };
        Self { messages, waits }
    }

    /// Notifies systemd of a state. Waits only for a moment until that is taken.
    pub(crate) fn notify(&self, change: StateChange) {
        let Some(messages) = &self.messages else {
            return;
        };
        let (sent, result) = channel();
        if messages.try_send(Message::State(change, sent)).is_err() {
            log::warn!("systemd takes no notification");
            return;
        }
        match result.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::warn!("cannot notify systemd: {error}"),
            Err(_) => log::warn!("systemd takes no notification"),
        }
    }

    /// Says that the daemon is well, with a line about it. Waits for nothing, and does nothing while systemd has not
    /// taken the last one.
    pub(crate) fn beat(&self, status: impl FnOnce() -> String) {
        if let Some(messages) = &self.messages {
            if !self.waits.swap(true, Ordering::Relaxed)
                && messages.try_send(Message::Alive(status())).is_err()
            {
                self.waits.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// Starts the thread. It ends when the sender of its messages is dropped.
fn start_thread(waits: Arc<AtomicBool>) -> Option<SyncSender<Message>> {
    let has_watchdog = sd_notify::watchdog_enabled().is_some();
    let (messages, waiting) = sync_channel(MAX_WAITING);
    let run = move || {
        let mut last_status = String::new();
        for message in waiting {
            match message {
                Message::State(change, sent) => {
                    // Fails if the daemon has lost its patience.
                    let _ = sent.send(send(change));
                }
                Message::Alive(status) => {
                    let mut states = Vec::new();
                    if has_watchdog {
                        states.push(NotifyState::Watchdog);
                    }
                    if status != last_status {
                        states.push(NotifyState::Status(&status));
                    }
                    // What systemd does not take is said anew in a second.
                    if states.is_empty() || sd_notify::notify(&states).is_ok() {
                        last_status = status;
                    }
                    waits.store(false, Ordering::Relaxed);
                }
            }
        }
    };
    let thread = thread::Builder::new().name("systemd".to_owned());
    match thread.spawn(run) {
        Ok(_) => Some(messages),
        Err(error) => {
            log::warn!("cannot notify systemd: {error}");
            None
        }
    }
}

/// Sends a change of the state.
fn send(change: StateChange) -> io::Result<()> {
    match change {
        StateChange::Ready => sd_notify::notify(&[NotifyState::Ready]),
        StateChange::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        // By the time systemd knows which READY=1 ends this reload.
        StateChange::Reloading => {
            sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])
        }
    }
}
