//! The checks of a request before its realm sees it, and the responses to requests that are answered without
//! the realm.

#[cfg(any(test, fuzzing))]
use super::cors::with_cors_headers;
use super::cors::{
    allowed_methods, host_refused, is_host_allowed, is_origin_allowed, options_response,
    origin_refused,
};
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
}

/// Checks a request: first the host, then the path, then the method and the body, then whether the listener
/// answers plain requests at all, then the origin, and the headers of the handshake last. The response to a
/// request with several problems names the first of them.
///
/// # Errors
/// The response, if the request is invalid or can be answered without the realm.
pub(crate) fn check(head: &RequestHead, listener: &ListenerState) -> Result<RequestKind, Response> {
    let protocol = listener.protocol;
    if !is_host_allowed(head, listener) {
        return Err(host_refused(head, listener));
    }
    let is_in_protocol = (protocol.matches_path)(&head.path);
    if !(is_in_protocol && protocol.has_http_api()) {
        if let Some(response) = landing(head, listener) {
            return Err(response);
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
        "OPTIONS" => return Err(options_response(head, listener)),
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
        return Err(upgrade_required(head, &listener.endpoint));
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
    let response = check(head, listener).err()?;
    Some(with_cors_headers(response, Some(head), listener))
}

fn nothing_here(listener: &ListenerState) -> Response {
    let text = format!(
        "nothing here; connect to {} at {}",
        listener.protocol.name, listener.endpoint
    );
    Response::new(404, text)
}

/// Returns the response to a plain `GET /` that the protocol does not define: what this is, for people and for
/// proxies that check whether the server is well. `None` for every other request.
pub(crate) fn landing(head: &RequestHead, listener: &ListenerState) -> Option<Response> {
    let is_get = matches!(head.method.as_str(), "GET" | "HEAD");
    let is_handshake = head.wants_upgrade() || head.has_websocket_key();
    if !is_get || head.path != "/" || is_handshake || head.has_body() {
        return None;
    }
    if listener.settings.landing_page == Some(false) {
        return Some(nothing_here(listener));
    }
    let text = format!(
        "switchboard serves {} here; {}",
        listener.protocol.name,
        how_to_connect(head, &listener.endpoint)
    );
    Some(Response::new(200, text))
}

/// Returns the response to a plain request where only a WebSocket is served.
pub(crate) fn upgrade_required(head: &RequestHead, target: &str) -> Response {
    Response::new(426, how_to_connect(head, target)).with_header("Upgrade", "websocket")
}

fn how_to_connect(head: &RequestHead, target: &str) -> String {
    format!(
        "connect with a WebSocket client, for example: wscat -c 'ws://{}{target}'",
        head.first("Host").unwrap_or("localhost"),
    )
}
