//! What happens each second: the broker's tick, the word to systemd that the daemon is well, and a look at certificates.

use super::certificates::Certificates;
use crate::base::memory_budget::MemoryBudget;
use crate::broker::{Event, EventSender, Pulse};
use crate::net::connection::replace_readers;
use crate::net::listener_set::{ListenerHandle, ListenerSet};
use crate::status::DaemonState;
use crate::sys::executor;
use crate::sys::systemd::{Notifier, StateChange};
use async_std::task;
use futures::SinkExt;
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Seconds between two looks at the files of certificates.
const CERTIFICATE_INTERVAL: u64 = 2;

/// Looks after the broker, and tells systemd how the daemon is.
pub(super) struct Watch {
    notifier: Notifier,
    pulse: Arc<Pulse>,
    budget: Arc<MemoryBudget>,
    listeners: Arc<ListenerSet>,
    /// Number of the broker's last second that systemd was told of.
    ticks: Cell<u64>,
    /// Whether the last reload has changed nothing because of an error.
    is_reload_refused: Cell<bool>,
}

impl Watch {
    /// Starts to notify systemd, if it wants that.
    pub(super) fn start(
        pulse: Arc<Pulse>,
        budget: Arc<MemoryBudget>,
        listeners: Arc<ListenerSet>,
    ) -> Self {
        Self {
            notifier: Notifier::start(),
            pulse,
            budget,
            listeners,
            ticks: Cell::new(0),
            is_reload_refused: Cell::new(false),
        }
    }

    /// Notifies systemd of a state.
    pub(super) fn notify(&self, change: StateChange) {
        self.notifier.notify(change);
    }

    /// Records how the last reload ended, for the status.
    pub(super) fn set_reload_refused(&self, is_refused: bool) {
        self.is_reload_refused.set(is_refused);
    }

    /// Sends the broker an [`Event::Tick`] each second, and an [`Event::Refresh`] over the lane of each listener. Tells
    /// systemd that the daemon is well if the broker has handled the last one. Records the history of `daemon`, replaces
    /// what a storm may have left in use, and looks every other second whether certificates have changed.
    pub(super) async fn tick(&self, mut broker: EventSender, daemon: &DaemonState) -> Infallible {
        let mut certificates = Certificates::default();
        let mut seconds = 0_u64;
        loop {
            task::sleep(Duration::from_secs(1)).await;
            let ticks = self.pulse.ticks();
            if ticks > self.ticks.replace(ticks) {
                self.notifier.beat(|| self.status());
            }
            daemon.record_second();
            // Here nothing is allocated in the heap of a thread that serves clients.
            replace_readers();
            executor::renew_queues();
            for listener in self.listeners.current() {
                // Fails if the broker has panicked, too, which ends the caller.
                let _ = listener.event_sender().try_send(Event::Refresh);
            }
            self.pulse.record_sent();
            let _ = broker.send(Event::Tick).await;
            seconds += 1;
            if seconds % CERTIFICATE_INTERVAL == 0 {
                certificates.look(&self.listeners.current(), Instant::now());
            }
        }
    }

    /// Returns a line for `systemctl status`.
    fn status(&self) -> String {
        let listeners = self.listeners.current().into_iter();
        let connections: u64 = listeners.map(|it| it.counters().connections()).sum();
        let held = self.budget.reserved() >> 20;
        let limit = self.budget.finite_limit();
        let limit = limit.map_or(String::new(), |limit| format!(" of {} MiB", limit >> 20));
        let handles = self.listeners.handles();
        let waiting = handles.iter().filter(|handle| !handle.is_bound());
        let waiting: String = waiting.map(|handle| waits_for(handle)).collect();
        let refused = if self.is_reload_refused.get() {
            "; the last reload was refused, see the log"
        } else {
            ""
        };
        format!("{connections} connections, {held} MiB{limit}{waiting}{refused}")
    }
}

/// Returns that the address of a listener is taken.
fn waits_for(handle: &ListenerHandle) -> String {
    let listener = handle.current();
    let (name, address) = (listener.protocol_name(), &listener.address);
    format!("; {name} waits for {address}")
}
