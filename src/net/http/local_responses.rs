//! The responses that the server gives without a realm, beside those of the checks.

use super::request::RequestHead;
use super::response::Response;
use super::try_page::TokenField;
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

/// Returns the response to a plain `GET /` that the protocol does not define, and to a request for the page on which
/// people try it: that page for browsers, if the listener has it, and what this is in a line, for people and for proxies
/// that check whether the server is well. `None` for every other request.
pub(crate) fn landing(head: &RequestHead, listener: &ListenerState) -> Option<Response> {
    let is_get = matches!(head.method.as_str(), "GET" | "HEAD");
    let is_handshake = head.wants_upgrade() || head.has_websocket_key();
    if !is_get || is_handshake || head.has_body() {
        return None;
    }
    let page = listener.try_page.as_ref();
    if let Some(page) = page.filter(|page| page.is_at(&head.path)) {
        let response = if accepts_html(head) {
            page.response(head.first("Host"), token_field(listener))
        } else {
            landing_line(head, listener)
        };
        return Some(response.with_header("Vary", "Accept"));
    }
    match listener.settings.landing_page {
        _ if head.path != "/" => None,
        Some(false) => Some(nothing_here(listener)),
        _ => Some(landing_line(head, listener)),
    }
}

/// Returns whether a request asks for HTML, as browsers do for what they show (RFC 9110 section 12.5.1).
fn accepts_html(head: &RequestHead) -> bool {
    let mut ranges = head.all("Accept").flat_map(|header| header.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case("text/html"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        is_html && weight.unwrap_or(1.0) > 0.0
    })
}

/// Returns what the page says about access tokens.
fn token_field(listener: &ListenerState) -> TokenField {
    match listener.shared.access.is_required() {
        None => TokenField::Absent,
        Some(false) => TokenField::Optional,
        Some(true) => TokenField::Required,
    }
}

/// Returns what this is in a line.
fn landing_line(head: &RequestHead, listener: &ListenerState) -> Response {
    let text = format!(
        "switchboard serves {} here; {}",
        listener.protocol.name,
        how_to_connect(head, &listener.endpoint, listener)
    );
    Response::new(200, text)
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
    let scheme = listener.settings.scheme();
    let url = match &*listener.address {
        address @ Address::Unix(_) if is_loopback => address.url(scheme, target),
        _ => format!("{scheme}://{host}{target}"),
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
