//! Which pages may read answers, and the answer to OPTIONS (CORS protocol of the Fetch standard).

use super::request::Head;
use super::response::Answer;
use crate::net::listener::Port;
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
pub(crate) fn options(head: &Head, port: &Port) -> Answer {
    let methods = methods(port.protocol);
    let answer = Answer::new(204, "").with("Allow", methods);
    if !port.protocol.answers_requests() {
        return answer;
    }
    let wanted = head.first("Access-Control-Request-Headers");
    answer
        .with("Access-Control-Allow-Methods", methods)
        .with("Access-Control-Allow-Headers", wanted.unwrap_or("*"))
}

pub(crate) fn lets_in(head: &Head, port: &Port) -> bool {
    let origins = &port.settings.origins;
    origins.let_in(head.first("Origin"), head.first("Host"))
}

/// Lets pages of origins that may connect read an answer, where there is an HTTP API for them (CORS
/// protocol of the Fetch standard). Without a head it is not known whose page it is, and the answer
/// has no secrets.
pub(crate) fn with_cors(answer: Answer, head: Option<&Head>, port: &Port) -> Answer {
    if !port.protocol.answers_requests() {
        return answer;
    }
    let answer = answer.with("Vary", "Origin");
    if head.is_some_and(|head| !lets_in(head, port)) {
        return answer;
    }
    let origin = head.and_then(|head| head.first("Origin"));
    answer.with("Access-Control-Allow-Origin", origin.unwrap_or("*"))
}
