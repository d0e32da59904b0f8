//! The checks of a request before its realm sees it.

use super::access::{host_refused, is_host_allowed, is_origin_allowed, origin_refused};
#[cfg(any(test, fuzzing))]
use super::cors::with_cors_headers;
use super::cors::{allowed_methods, options_response};
use super::local_responses::{landing, nothing_here, upgrade_required};
use super::request::RequestHead;
use super::response::Response;
use crate::net::listener::ListenerState;
use crate::realm::Method;

/// A valid request.
pub(crate) enum RequestKind {
    /// A WebSocket's opening handshake, with the response that completes it.
    Upgrade(Vec<u8>),
    /// A request for the realm, with a body of this length in bytes.
    Http { body_length: usize },
    /// A request that the server answers itself, with this response: OPTIONS, or a request for the landing page.
    Local(Response),
}

/// Checks a request: first the host, then the path, then the method and the body, then whether the listener
/// answers plain requests at all, then the origin, and the headers of the handshake last. The response to a
/// request with several problems names the first of them.
///
/// # Errors
/// The response, if the request is refused.
pub(crate) fn check(head: &RequestHead, listener: &ListenerState) -> Result<RequestKind, Response> {
    let protocol = listener.protocol;
    if !is_host_allowed(head, listener) {
        return Err(host_refused(head, listener));
    }
    let is_in_protocol = (protocol.matches_path)(&head.path);
    if !(is_in_protocol && protocol.has_http_api()) {
        if let Some(response) = landing(head, listener) {
            return Ok(RequestKind::Local(response));
        }
    }
    if !is_in_protocol {
        return Err(nothing_here(listener));
    }
    let methods = allowed_methods(protocol);
    let mut body_length = 0;
    match head.method.as_str() {
        "GET" | "HEAD" => {}
        "POST" if protocol.methods.contains(&Method::Post) => body_length = head.body_length()?,
        "OPTIONS" => return Ok(RequestKind::Local(options_response(head, listener))),
        _ => {
            let text = format!("the method must be one of {methods}");
            return Err(Response::new(405, text).with_header("Allow", methods));
        }
    }
    if head.has_body() && body_length == 0 {
        let text = "malformed request: it must not have a body";
        return Err(Response::new(400, text));
    }
    let wants_websocket = head.method == "GET" && head.wants_upgrade();
    if !wants_websocket && !protocol.has_http_api() {
        return Err(upgrade_required(head, &listener.endpoint, listener));
    }
    if !is_origin_allowed(head, listener) {
        return Err(origin_refused(head));
    }
    if wants_websocket {
        head.upgrade().map(RequestKind::Upgrade)
    } else {
        Ok(RequestKind::Http { body_length })
    }
}

/// Returns the response to a request that is answered without the realm, for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn local_response(head: &RequestHead, listener: &ListenerState) -> Option<Response> {
    match check(head, listener) {
        Ok(RequestKind::Local(response)) | Err(response) => {
            Some(with_cors_headers(response, Some(head), listener))
        }
        Ok(RequestKind::Upgrade(_) | RequestKind::Http { .. }) => None,
    }
}
