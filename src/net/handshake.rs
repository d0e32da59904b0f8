//! From accept to the 101 response, or to a plain HTTP response: the limits that a client must be within, and
//! the realm's decision. The checks of the request itself are in `http/checks.rs`.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::ClientAddress;
use crate::base::log_escape::Quoted;
use crate::broker::{Event, HttpEvent, OpenEvent, SocketStatus, outbox};
use crate::net::client_ip;
use crate::net::connection::{BrokerLink, Connection, ConnectionLog};
use crate::net::connection_limits::{AtCapacity, Permits};
use crate::net::http::checks::{RequestKind, check};
use crate::net::http::connection::HttpConnection;
use crate::net::http::cors::allowed_methods;
use crate::net::http::local_responses::{
    banned, landing, server_full, shutting_down, too_many_connections, upgrade_required,
};
use crate::net::http::request::{RequestError, RequestHead, WrongProtocol};
use crate::net::http::response::Response;
use crate::net::listener::ListenerState;
use crate::net::notice_log::Notice;
use crate::net::socket::ClientSocket;
use crate::net::stream::AcceptedStream;
use crate::realm::{
    Access, ConnectRequest, ConnectionId, HttpReply, Method, Rejection, Request, TokenReader,
};
use async_std::future::timeout;
use async_std::task::yield_now;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{AsyncWriteExt, SinkExt};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Answers plain requests until an opening handshake is admitted, by the limits and by the realm. Returns the
/// connection, whose first bytes are the 101 response. `None` if the client is not admitted: its response is then
/// sent and its socket closed.
pub(crate) async fn admit_client(
    stream: AcceptedStream,
    peer: ClientAddress,
    listener: &ListenerState,
    permits: &mut Permits,
) -> Option<Connection> {
    let server = &listener.server;
    let traffic = &listener.counters().traffic;
    let status = SocketStatus::new(&server.clock, &server.budget, traffic);
    let socket = match ClientSocket::new(stream, Arc::new(status)) {
        Ok(socket) => socket,
        Err(error) => {
            log::warn!("{}: cannot serve a client: {error}", listener.address);
            return None;
        }
    };
    let mut http = HttpConnection::new(socket, peer, listener);
    http.read_proxy_header().await?;
    if let Err(response) = check_peer(&http, permits) {
        http.refuse(response).await;
        return None;
    }
    #[cfg(feature = "tls")]
    let http = http.start_tls().await?;
    let handshake = serve_requests(http, permits).await?;
    handshake.decide().await
}

/// A valid opening handshake of a client within the limits, which waits for the realm's decision.
struct Handshake<'a> {
    http: HttpConnection<'a>,
    head: RequestHead,
    /// The 101 response, to be sent if the realm admits the client.
    upgrade_response: Vec<u8>,
}

impl Handshake<'_> {
    /// Asks the broker for the realm's decision. Returns the connection, or `None` if the client has disconnected
    /// or is rejected.
    async fn decide(self) -> Option<Connection> {
        let Self {
            mut http,
            head,
            upgrade_response,
        } = self;
        let (listener, server) = (http.listener, &http.listener.server);
        let conn = ConnectionId(server.next_id.fetch_add(1, Ordering::Relaxed));
        let (outbox, outbox_receiver) = outbox(listener.outbox_size(), &server.budget);
        let mut link = BrokerLink::new(conn, listener.event_sender(), outbox_receiver);
        let (reply_to, reply) = oneshot::channel();
        let request = connect_request(&head, http.address, listener);
        let log = connection_log(listener, conn, &request);
        link.open(OpenEvent {
            listener_index: listener.index(),
            conn,
            request,
            outbox,
            status: Arc::clone(http.socket.status()),
            reply_to,
        })
        .await;
        let Some(decision) = wait_for_decision(&mut http.socket, reply).await else {
            link.report_end(DisconnectReason::Lost).await;
            return None;
        };
        let rejection = match decision {
            // The ban came while the realm decided, and may not have found the connection.
            Ok(Ok(())) if listener.is_banned(http.address) => {
                let reason = DisconnectReason::Closed(CloseReason::REMOVED);
                link.report_end(reason).await;
                banned()
            }
            Ok(Ok(())) => {
                log.log_open();
                let tokens: Arc<dyn TokenReader> = Arc::clone(&listener.tokens) as _;
                return Some(Connection::new(
                    http.socket,
                    http.already_read,
                    &upgrade_response,
                    link,
                    (listener.protocol.new_decoder)(&tokens),
                    &listener.settings,
                    log,
                ));
            }
            Ok(Err(rejection)) => Response::new(rejection.status, rejection.text),
            Err(oneshot::Canceled) => shutting_down(),
        };
        http.respond_and_close(Some(&head), rejection).await;
        None
    }
}

/// The broker's decision about a handshake; cancelled if the broker is stopping or gone.
type Decision = Result<Result<(), Rejection>, oneshot::Canceled>;

/// Waits for the decision. It may be deferred, so `None` is returned if the client disconnects first. One that has
/// only closed its sending direction is served all the same if the decision is not deferred.
async fn wait_for_decision(
    socket: &mut ClientSocket,
    mut reply: oneshot::Receiver<Result<(), Rejection>>,
) -> Option<Decision> {
    match select(&mut reply, pin!(socket.disconnected())).await {
        Either::Left((decision, _)) => Some(decision),
        Either::Right(_) => timeout(DISCONNECT_GRACE, reply).await.ok(),
    }
}

/// Time for a decision that is not deferred.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// Answers requests until one is a valid opening handshake. Where a protocol has an HTTP API, a
/// connection may carry many requests (RFC 9112 section 9.3.2).
async fn serve_requests<'a>(
    mut http: HttpConnection<'a>,
    permits: &mut Permits,
) -> Option<Handshake<'a>> {
    let listener = http.listener;
    loop {
        let head = match http.read_head().await {
            Ok(head) => head,
            Err(error) => {
                close_unread(http, error).await;
                return None;
            }
        };
        http.identify_client(&head);
        if listener.is_banned(http.address) {
            http.respond_and_close(Some(&head), banned()).await;
            return None;
        }
        if http.is_proxied {
            permits.acquire_subnet(&listener.shared.subnet_limit, http.address);
        } else {
            log_untrusted_forwarding(&head, &http);
        }
        match handle_request(&mut http, &head, permits.check()).await {
            Outcome::Upgrade(upgrade_response) => {
                if head.is_http_1_0() {
                    listener.log_old_handshake(http.address);
                }
                http.release_memory();
                return Some(Handshake {
                    http,
                    head,
                    upgrade_response,
                });
            }
            Outcome::RejectFull(upgrade_response) => {
                reject_full(http, upgrade_response).await;
                return None;
            }
            Outcome::Close(response) => {
                http.respond_and_close(Some(&head), response).await;
                return None;
            }
            Outcome::KeepAlive(response) => {
                http.respond(&head, response).await.ok()?;
                permits.set_answered();
            }
            Outcome::NoResponse => return None,
        }
        if http.is_proxied {
            // The proxy may send another client's request next.
            permits.release_subnet();
            http.forget_client();
        }
        yield_now().await;
    }
}

/// Checks the address of a client without a proxy, and acquires its permit. No header can change that address, so the
/// response does not wait for a request: the client gains nothing by sending none.
///
/// # Errors
/// The response to a client that is refused.
fn check_peer(http: &HttpConnection<'_>, permits: &mut Permits) -> Result<(), Response> {
    let listener = http.listener;
    if http.is_proxied {
        Ok(())
    } else if listener.is_banned(http.address) {
        Err(banned())
    } else if !permits.acquire_subnet(&listener.shared.subnet_limit, http.address) {
        Err(too_many_connections())
    } else {
        Ok(())
    }
}

/// Closes a connection whose request could not be read, with the response to it, if there is one.
async fn close_unread(http: HttpConnection<'_>, error: RequestError) {
    match error {
        RequestError::Rejected(response) => http.respond_and_close(None, response).await,
        RequestError::WrongProtocol(wrong) => log_wrong_protocol(wrong, &http),
        RequestError::NoResponse => {}
    }
}

/// The consequence of a request.
enum Outcome {
    /// Admit the client and send this response.
    Upgrade(Vec<u8>),
    /// Complete the handshake with this response, send the protocol's message that the server is full, and
    /// close the connection.
    RejectFull(Vec<u8>),
    /// Send a plain response and close the connection.
    Close(Response),
    /// Send a plain response and wait for another request.
    KeepAlive(Response),
    /// Close the connection without a response: see [`RequestError::NoResponse`].
    NoResponse,
}

/// Checks one request, has the realm answer it if it is for the realm, and returns what to do.
///
/// The limits decide before the request does: a client above one of them receives the response about the
/// limit, whether or not its request is valid. If the server is full, that is a message instead of a response
/// where the protocol has one and the handshake is valid.
async fn handle_request(
    http: &mut HttpConnection<'_>,
    head: &RequestHead,
    capacity: Result<(), AtCapacity>,
) -> Outcome {
    let protocol = http.listener.protocol;
    let request = check(head, http.listener);
    match capacity {
        Ok(()) => {}
        Err(AtCapacity::Server) => {
            return match request {
                Ok(RequestKind::Upgrade(upgrade_response)) if protocol.full_message.is_some() => {
                    Outcome::RejectFull(upgrade_response)
                }
                _ => Outcome::Close(server_full()),
            };
        }
        Err(AtCapacity::Subnet) => return Outcome::Close(too_many_connections()),
    }
    let (response, is_body_read) = match request {
        Ok(RequestKind::Upgrade(upgrade_response)) => return Outcome::Upgrade(upgrade_response),
        Ok(RequestKind::Http { body_length }) => match http.read_body(head, body_length).await {
            Ok(body) => {
                let response = query_realm(head, body, http.address, http.listener).await;
                (response, true)
            }
            Err(RequestError::Rejected(response)) => return Outcome::Close(response),
            Err(RequestError::NoResponse | RequestError::WrongProtocol(_)) => {
                return Outcome::NoResponse;
            }
        },
        Ok(RequestKind::Local(response)) | Err(response) => {
            (response, matches!(head.body_length(), Ok(0)))
        }
    };
    // After an unread body or a failed handshake, the next bytes may be the rest of it instead of a request.
    let can_keep_alive = is_body_read && !head.wants_upgrade();
    if protocol.has_http_api() && can_keep_alive && head.wants_keep_alive() {
        Outcome::KeepAlive(response)
    } else {
        Outcome::Close(response)
    }
}

/// Has the realm answer a plain request.
async fn query_realm(
    head: &RequestHead,
    body: Vec<u8>,
    address: ClientAddress,
    listener: &ListenerState,
) -> Response {
    let (reply_to, reply) = oneshot::channel();
    let connect = connect_request(head, address, listener);
    let are_tokens_read = connect.access.are_tokens_read;
    let event = HttpEvent {
        listener_index: listener.index(),
        request: Request {
            connect,
            method: if head.method == "POST" {
                Method::Post
            } else {
                Method::Get
            },
            body,
        },
        reply_to,
    };
    // If the broker is gone, the reply is cancelled.
    let mut inbox = listener.event_sender();
    let _ = inbox.send(Event::Request(Box::new(event))).await;
    match reply.await {
        Ok(HttpReply::Ok { content_type, body }) => Response::ok(content_type, body),
        Ok(HttpReply::UpgradeRequired { target }) => upgrade_required(head, &target, listener),
        Ok(HttpReply::Rejected(rejection)) => {
            let response = Response::new(rejection.status, rejection.text);
            match rejection.status {
                // The protocol does not define this path.
                404 => landing(head, listener).unwrap_or(response),
                // RFC 9110 section 11.6.1, RFC 6750 section 3.
                401 if are_tokens_read => response.with_header("WWW-Authenticate", "Bearer"),
                405 => response.with_header("Allow", allowed_methods(listener.protocol)),
                _ => response,
            }
        }
        Err(oneshot::Canceled) => shutting_down(),
    }
}

fn connect_request(
    head: &RequestHead,
    address: ClientAddress,
    listener: &ListenerState,
) -> ConnectRequest {
    let mut request = ConnectRequest {
        path: head.path.clone(),
        query: head.query.clone(),
        address,
        access: Access::default(),
    };
    let (tokens, logged) = (&listener.tokens, listener.logged_address(address));
    request.access = tokens.of_request(head, &request, listener.protocol, logged);
    request
}

/// Returns what the log says of a connection.
fn connection_log(
    listener: &ListenerState,
    conn: ConnectionId,
    request: &ConnectRequest,
) -> ConnectionLog {
    let id = (listener.protocol.client_id)(request);
    ConnectionLog {
        server: Arc::clone(&listener.server),
        protocol: listener.protocol,
        listener: Arc::clone(&listener.address),
        conn,
        address: request.address,
        id: id.map(|id| Quoted::cut(&id).into()),
        traces_messages: listener.settings.trace_messages,
    }
}

/// Completes the handshake of a client above `max_connections`, sends it the protocol's message about
/// that, and closes it.
async fn reject_full(http: HttpConnection<'_>, upgrade_response: Vec<u8>) {
    let HttpConnection {
        mut socket,
        address,
        listener,
        ..
    } = http;
    listener.log_notice(Notice::Refused(503), address, || {
        "the server is full, as the protocol's message says (max_connections)".to_owned()
    });
    let message = listener.protocol.full_message.map(Frame::text);
    let close = Frame::close(CloseReason::TOO_MANY_CONNECTIONS);
    let mut bytes = upgrade_response;
    for frame in message.iter().chain([&close]) {
        frame.pieces(0).for_each(|piece| bytes.extend(piece));
    }
    let send = async {
        if socket.write_all(&bytes).await.is_ok() {
            socket.linger().await;
        }
    };
    // Pinned, as `timeout` would hold it twice.
    let _ = timeout(listener.settings.close_timeout, pin!(send)).await;
}

/// Logs that a client speaks TLS or HTTP/2, or sends a PROXY header, and what would be right.
fn log_wrong_protocol(wrong: WrongProtocol, http: &HttpConnection<'_>) {
    let to_plain_port =
        |name, advice| format!("it speaks {name} to a port for plain HTTP/1.1 and ws://; {advice}");
    let details = || match wrong {
        WrongProtocol::Tls => to_plain_port(
            "TLS",
            if cfg!(feature = "tls") {
                "speak plain ws:// or http:// to it, or give this listener a certificate (\"tls\")"
            } else {
                "speak plain ws:// or http:// to it, or put a proxy in front that ends TLS"
            },
        ),
        WrongProtocol::Http2 => to_plain_port(
            "HTTP/2",
            "speak HTTP/1.1 to it; a proxy in front may speak HTTP/2 to its clients",
        ),
        WrongProtocol::ProxyHeader => proxy_header_advice(http),
    };
    let notice = Notice::WrongProtocol(wrong);
    http.listener.log_notice(notice, http.address, details);
}

/// Returns what to do about a PROXY header where none is expected.
fn proxy_header_advice(http: &HttpConnection<'_>) -> String {
    let peer = address_in_words(http.listener, http.address);
    if http.has_proxy_header {
        "a second one followed the PROXY header that names this address; if it is a proxy in front of another, let \
         that one accept PROXY headers (HAProxy: accept-proxy, nginx: listen ... proxy_protocol)"
            .to_owned()
    } else if http.listener.settings.proxy_protocol {
        format!(
            "this address is not a trusted proxy's; if it is your proxy, add \"{peer}\" to \"trusted_proxies\" of this \
             listener"
        )
    } else {
        format!(
            "this listener expects none; if it is your proxy, write \"proxy_protocol\": true and \
             \"trusted_proxies\": [\"{peer}\"] for this listener, or let the proxy send none"
        )
    }
}

/// Logs that a peer that is not a trusted proxy names a client's address, and what would be right if it is a proxy.
fn log_untrusted_forwarding(head: &RequestHead, http: &HttpConnection<'_>) {
    let (listener, peer) = (http.listener, http.address);
    let header = listener.settings.forwarded_header;
    if head.first(header.name()).is_none() {
        return;
    }
    let notice = Notice::UntrustedForwarding;
    let address = address_in_words(listener, peer);
    if !http.has_proxy_header {
        return listener.log_notice(notice, peer, || {
            format!(
                "its {} is ignored, and limits count all its clients as one address; if it is your proxy, write \
                 \"trusted_proxies\": [\"{address}\"] for this listener",
                header.name()
            )
        });
    }
    // After a PROXY header without an address, the peer is the trusted proxy; and some proxies name the client twice.
    let is_proxy = client_ip::is_trusted(peer, &listener.settings.trusted_proxies);
    if !is_proxy
        && client_ip::nearest(header, head.all(header.name())).map(ClientAddress::from)
            != Some(peer)
    {
        listener.log_notice(notice, peer, || {
            format!(
                "its {} is ignored, as the PROXY header says that this address is the client; if it is a proxy of \
                 yours, too, add \"{address}\" to \"trusted_proxies\" of this listener",
                header.name()
            )
        });
    }
}

/// Returns an address for advice in the log, or a placeholder where the log has none.
fn address_in_words(listener: &ListenerState, address: ClientAddress) -> String {
    let address = listener.logged_address(address);
    address.map_or("its address".to_owned(), |address| address.to_string())
}
