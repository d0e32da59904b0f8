//! The headers that let web pages read responses (the CORS protocol of the Fetch standard), and OPTIONS.

use super::access::{is_host_allowed, is_origin_allowed};
use super::request::RequestHead;
use super::response::Response;
use crate::net::listener::ListenerState;
use crate::realm::Method;
use crate::realm::Protocol;

/// Returns the methods that a protocol's listener accepts, as the `Allow` header has them.
pub(crate) fn allowed_methods(protocol: &Protocol) -> &'static str {
    if protocol.methods.contains(&Method::Post) {
        "GET, HEAD, POST, OPTIONS"
    } else {
        "GET, HEAD, OPTIONS"
    }
}

/// Returns the response to OPTIONS, which may be a browser's CORS preflight.
pub(crate) fn options_response(head: &RequestHead, listener: &ListenerState) -> Response {
    let methods = allowed_methods(listener.protocol);
    let response = Response::new(204, "").with_header("Allow", methods);
    if !listener.protocol.has_http_api() {
        return response;
    }
    let requested = head.first("Access-Control-Request-Headers");
    response
        .with_header("Access-Control-Allow-Methods", methods)
        .with_header("Access-Control-Allow-Headers", requested.unwrap_or("*"))
}

/// Adds the headers that let pages of allowed origins read a response, where the protocol has an HTTP
/// API for them. Without a `head` the origin is unknown; such a response holds no secrets, so that any
/// page may read it.
pub(crate) fn with_cors_headers(
    response: Response,
    head: Option<&RequestHead>,
    listener: &ListenerState,
) -> Response {
    if !listener.protocol.has_http_api() {
        return response;
    }
    let response = response.with_header("Vary", "Origin");
    let is_allowed =
        |head: &RequestHead| is_host_allowed(head, listener) && is_origin_allowed(head, listener);
    if head.is_some_and(|head| !is_allowed(head)) {
        return response;
    }
    let origin = head.and_then(|head| head.first("Origin"));
    response.with_header("Access-Control-Allow-Origin", origin.unwrap_or("*"))
}
