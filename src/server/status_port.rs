//! The status port: without it the listeners are served all the same.

use super::binding::RETRY_INTERVAL;
use crate::config::Address;
use crate::net::bind::{Bound, bind, remedy};
use crate::status::{self, Routes};
use async_std::task;
use std::future::pending;

/// The status port, and its sockets if they are bound.
pub(super) struct StatusPort {
    address: Option<Address>,
    bound: Option<Bound>,
}

impl StatusPort {
    /// Binds the status port, if the daemon has one. An address that is taken is a warning.
    pub(super) fn bind(address: Option<Address>) -> Self {
        let bound = address.as_ref().and_then(|address| match bind(address) {
            Ok(bound) => {
                log_status_port(&bound);
                Some(bound)
            }
            Err(error) => {
                let remedy = remedy(&error, address);
                log::warn!("status: cannot listen on {address}: {error}{remedy}; it is tried again each second");
                None
            }
        });
        Self { address, bound }
    }

    /// Creates the token of a port that is bound.
    pub(super) fn create_token(&self, routes: &Routes) {
        if let Some(bound) = &self.bound {
            routes.moderation.create_token(&bound.address);
        }
    }

    /// Answers requests until the future is dropped.
    pub(super) async fn serve(self, routes: &Routes) {
        let Some(address) = self.address else {
            return pending().await;
        };
        let bound = match self.bound {
            Some(bound) => bound,
            None => {
                let bound = bind_when_free(&address).await;
                routes.moderation.create_token(&bound.address);
                bound
            }
        };
        status::serve(bound.sockets, routes).await;
    }
}

async fn bind_when_free(address: &Address) -> Bound {
    loop {
        task::sleep(RETRY_INTERVAL).await;
        if let Ok(bound) = bind(address) {
            log_status_port(&bound);
            return bound;
        }
    }
}

fn log_status_port(bound: &Bound) {
    log::info!("status on {}", bound.address.url("http", "/"));
}
