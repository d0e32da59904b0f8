//! The responses that the server gives without a realm, beside those of the checks.

use super::request::RequestHead;
use super::response::Response;
use crate::base::host::parse_authority;
use crate::config::Address;
use crate::net::listener::ListenerState;

/// Returns the response to a request whose path the protocol does not define.
pub(crate) fn nothing_here(listener: &ListenerState) -> Response {
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
        how_to_connect(head, &listener.endpoint, listener)
    );
    Some(Response::new(200, text))
}

/// Returns the response to a plain request where only a WebSocket is served.
pub(crate) fn upgrade_required(
    head: &RequestHead,
    target: &str,
    listener: &ListenerState,
) -> Response {
    Response::new(426, how_to_connect(head, target, listener)).with_header("Upgrade", "websocket")
}

/// Returns an example of a client. Behind a proxy the Host header is what clients connect to; whoever asks a Unix
/// socket itself (`curl --unix-socket`) has none, or a loopback name.
fn how_to_connect(head: &RequestHead, target: &str, listener: &ListenerState) -> String {
    let host = head.first("Host").unwrap_or("localhost");
    let is_loopback = parse_authority(host).is_some_and(|(host, _)| host.is_loopback());
    let url = match &*listener.address {
        address @ Address::Unix(_) if is_loopback => address.url("ws", target),
        _ => format!("ws://{host}{target}"),
    };
    format!("connect with a WebSocket client, for example: wscat -c '{url}'")
}

/// Returns the response to a client above `max_connections`.
pub(crate) fn server_full() -> Response {
    Response::unavailable(503, "the server is full, try again later")
        .with_log_reason("the server is full (max_connections)".to_owned())
}

/// Returns the response to a client whose address the operator has banned. It is a status and not a Close frame,
/// as for an origin that is refused: it costs least, and a client that is told so without a handshake does not take
/// itself to be connected for a moment, after which many try again without end.
pub(crate) fn banned() -> Response {
    Response::new(403, "your address is banned from this server")
        .with_log_reason("its address is banned".to_owned())
}

/// Returns the response to a client above `max_connections_per_ip`.
pub(crate) fn too_many_connections() -> Response {
    Response::unavailable(429, "too many connections from your address")
        .with_log_reason("the address has max_connections_per_ip connections".to_owned())
}

/// Returns the response to a client that connects while the server shuts down.
pub(crate) fn shutting_down() -> Response {
    Response::new(503, "the server is shutting down")
}
