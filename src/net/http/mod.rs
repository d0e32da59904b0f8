//! HTTP/1.1, as far as it is needed before a WebSocket or instead of one.

pub(crate) mod access;
pub(crate) mod checks;
pub(crate) mod connection;
pub(crate) mod cors;
pub(crate) mod local_responses;
pub(crate) mod page;
pub(crate) mod request;
pub(crate) mod response;
#[cfg(feature = "tls")]
mod tls;
pub(crate) mod try_page;
