//! HTTP as far as it comes before a WebSocket, or instead of one.

pub(crate) mod cors;
pub(crate) mod request;
pub(crate) mod response;
