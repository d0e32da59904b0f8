//! Which pages may read answers, and the answer to OPTIONS (CORS protocol of the Fetch standard).

use super::request::RequestHead;
use super::response::Response;
use crate::net::listener::ListenerState;
use crate::protocols::Protocol;
use crate::realm::Method;

/// The methods that there are, for people and for browsers.
pub(crate) fn methods(protocol: &Protocol) -> &'static str {
    if protocol.methods.contains(&Method::Post) {
        "GET, HEAD, POST, OPTIONS"
    } else {
        "GET, HEAD, OPTIONS"
    }
}

/// The answer to OPTIONS, which may be a browser that asks what a page may do (CORS preflight).
pub(crate) fn options(head: &RequestHead, listener: &ListenerState) -> Response {
    let methods = methods(listener.protocol);
    let answer = Response::new(204, "").with("Allow", methods);
    if !listener.protocol.answers_requests() {
        return answer;
    }
    let wanted = head.first("Access-Control-Request-Headers");
    answer
        .with("Access-Control-Allow-Methods", methods)
        .with("Access-Control-Allow-Headers", wanted.unwrap_or("*"))
}

pub(crate) fn lets_in(head: &RequestHead, listener: &ListenerState) -> bool {
    let origins = &listener.settings.origins;
    origins.let_in(head.first("Origin"), head.first("Host"))
}

/// Lets pages of origins that may connect read an answer, where there is an HTTP API for them (CORS
/// protocol of the Fetch standard). Without a head it is not known whose page it is, and the answer
/// has no secrets.
pub(crate) fn with_cors(
    answer: Response,
    head: Option<&RequestHead>,
    listener: &ListenerState,
) -> Response {
    if !listener.protocol.answers_requests() {
        return answer;
    }
    let answer = answer.with("Vary", "Origin");
    if head.is_some_and(|head| !lets_in(head, listener)) {
        return answer;
    }
    let origin = head.and_then(|head| head.first("Origin"));
    answer.with("Access-Control-Allow-Origin", origin.unwrap_or("*"))
}
