//! What the tasks of all listeners share, and what those of one do.

use crate::base::memory_budget::Budget;
use crate::broker::Event;
use crate::config::{Listener, Settings};
use crate::net::connection_limits::{Place, Places, PlacesPerSubscriber};
use crate::protocols::Protocol;
use futures::channel::{mpsc, oneshot};
use futures::future::Shared;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// How many clients are told at a time that there is no room; more are cut off without a word.
pub(crate) const TURNED_AWAY_AT_ONCE: usize = 32;

/// What all ports have in common.
pub(crate) struct House {
    pub(crate) started: Instant,
    /// How the broker is told; everybody sends from a clone.
    pub(crate) inbox: mpsc::Sender<Event>,
    /// The number of the next connection.
    pub(crate) connections: AtomicU64,
    pub(crate) places: Arc<Places>,
    pub(crate) budget: Arc<Budget>,
    /// For large requests: they come before anybody is let in, or instead.
    pub(crate) requests: Arc<Budget>,
    /// For those who are told that there is none.
    pub(crate) turned_away: Arc<Places>,
    /// Ends when the daemon stops.
    pub(crate) stopping: Shared<oneshot::Receiver<()>>,
    /// Dropped with the last task that serves a client.
    pub(crate) _everybody_gone: mpsc::Sender<()>,
}

/// A port and what is spoken there.
pub(crate) struct Port {
    pub(crate) house: Arc<House>,
    /// Its place in the configuration.
    pub(crate) listener: usize,
    pub(crate) address: SocketAddr,
    pub(crate) protocol: &'static Protocol,
    pub(crate) settings: Settings,
    pub(crate) places: Arc<Places>,
    pub(crate) subscribers: Arc<PlacesPerSubscriber>,
}

impl Port {
    pub(crate) fn new(
        house: Arc<House>,
        at: usize,
        listener: Listener,
        address: SocketAddr,
    ) -> Self {
        let settings = listener.settings;
        Self {
            house,
            listener: at,
            address,
            protocol: listener.protocol,
            places: Places::new(settings.max_connections),
            subscribers: PlacesPerSubscriber::new(settings.max_connections_per_ip),
            settings,
        }
    }

    /// What it is called in the log.
    pub(crate) fn name(&self) -> &'static str {
        self.protocol.name
    }

    pub(crate) fn admit(&self) -> Option<Admission> {
        match (self.house.places.take(), self.places.take()) {
            (Some(process), Some(listener)) => Some(Admission::Admitted {
                _process: process,
                _listener: listener,
            }),
            _ => self
                .house
                .turned_away
                .take()
                .map(|place| Admission::Full { _place: place }),
        }
    }
}

/// A client's places, or the one that it has until it has been told that there are none. They are
/// free again when its socket is closed and not before, since that is what they are counted for.
pub(crate) enum Admission {
    Admitted { _process: Place, _listener: Place },
    Full { _place: Place },
}
