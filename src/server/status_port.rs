//! The status port: without it the listeners are served all the same.

use super::binding::bind_when_free;
use crate::config::Address;
use crate::net::bind::{Bound, bind, remedy};
use crate::status::{self, Routes};
use std::future::pending;

/// The status port of a daemon.
pub(super) enum StatusPort {
    /// The daemon has none.
    Off,
    Bound(Bound),
    /// The address is taken, and is tried again.
    Taken(Address),
}

impl StatusPort {
    /// Binds the status port, if the daemon has one. An address that is taken is a warning.
    pub(super) fn bind(address: Option<Address>) -> Self {
        let Some(address) = address else {
            return Self::Off;
        };
        match bind(&address) {
            Ok(bound) => {
                log_status_port(&bound);
                Self::Bound(bound)
            }
            Err(error) => {
                let remedy = remedy(&error, &address);
                log::warn!(
                    "status: cannot listen on {address}: {error}{remedy}; it is tried again each second"
                );
                Self::Taken(address)
            }
        }
    }

    /// Creates the token of a port that is bound.
    pub(super) fn create_token(&self, routes: &Routes) {
        if let Self::Bound(bound) = self {
            routes.moderation.create_token(&bound.address);
        }
    }

    /// Answers requests until the future is dropped.
    pub(super) async fn serve(self, routes: &Routes) {
        let bound = match self {
            Self::Off => return pending().await,
            Self::Bound(bound) => bound,
            Self::Taken(address) => {
                let bound = bind_when_free(&address).await;
                log_status_port(&bound);
                routes.moderation.create_token(&bound.address);
                bound
            }
        };
        status::serve(bound.sockets, routes).await;
    }
}

fn log_status_port(bound: &Bound) {
    log::info!("status on {}", bound.address.url("http", "/"));
}
