//! What to do about a listener that cannot be bound, and what to say about it.

use crate::config::{Address, Config};
use crate::net::bind::{self, Bound, bind};
use async_std::task;
use std::fmt;
use std::io;
use std::time::Duration;

/// Time between two tries to bind an address that is taken.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The error of a listener that cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// Where the configuration has the listener.
    place: String,
    protocol: &'static str,
    address: Address,
    error: io::Error,
}

impl BindError {
    /// Returns whether it may pass by itself: another program has the address, or this machine does not have it yet.
    pub(super) fn may_pass(&self) -> bool {
        bind::is_taken(&self.error)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            protocol,
            address,
            error,
        } = self;
        write!(
            f,
            "{place} ({protocol}) cannot listen on {address}: {error}{}",
            bind::remedy(error, address)
        )
    }
}

impl std::error::Error for BindError {}

/// What to do about a listener whose error [may pass](BindError::may_pass).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenTaken {
    /// It is an error: somebody sees it.
    Fail,
    /// The others are served, and it is tried again: nobody may be there to start the daemon again.
    Retry,
}

/// Binds the listener of an index.
///
/// # Errors
/// It cannot be bound, with the system's error.
pub(super) fn bind_listener(config: &Config, index: usize) -> Result<Bound, BindError> {
    let listener = config.listeners.get(index);
    let listener = listener.expect("the index is one of the configuration");
    let address = &listener.settings.address;
    bind(address).map_err(|error| BindError {
        place: config.place_of_listener(index),
        protocol: listener.protocol.name,
        address: address.clone(),
        error,
    })
}

/// The sockets of a listener; `None`: its address is taken, and is tried again.
pub(super) type MaybeBound = Option<Bound>;

/// Tries to bind an address that is taken until that succeeds.
pub(super) async fn bind_when_free(address: &Address) -> Bound {
    loop {
        task::sleep(RETRY_INTERVAL).await;
        match bind(address) {
            Ok(bound) => return bound,
            Err(error) => log::debug!("{address} is still not free: {error}"),
        }
    }
}

/// Logs that a listener is tried again because of an error.
pub(super) fn log_retry(error: &BindError) {
    log::error!("{error}; it is tried again each second");
}
