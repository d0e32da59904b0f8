//! From accept to the 101 response, or to a plain HTTP response: the limits that a client must be within, and
//! the realm's decision. The checks of the request itself are in `http/checks.rs`.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::broker::{Event, HttpEvent, OpenEvent, SocketStatus, outbox};
use crate::net::client_ip;
use crate::net::connection::{Connection, Parts};
use crate::net::connection_limits::SubnetPermit;
use crate::net::http::checks::{RequestKind, check, landing, upgrade_required};
use crate::net::http::connection::HttpConnection;
use crate::net::http::cors::allowed_methods;
use crate::net::http::request::{RequestError, RequestHead, WrongProtocol};
use crate::net::http::response::Response;
use crate::net::listener::{ListenerState, Permits};
use crate::net::notice_log::Notice;
use crate::net::socket::ClientSocket;
use crate::realm::{ConnectRequest, ConnectionId, HttpReply, Method, Rejection, Request};
use async_std::future::timeout;
use async_std::net::TcpStream;
use async_std::task::yield_now;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{AsyncWriteExt, SinkExt};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A client that has passed all checks, those of the realm included.
pub(crate) struct AdmittedClient {
    pub(crate) connection: Connection,
    pub(crate) address: IpAddr,
    /// Permit to hold until the connection has ended.
    pub(crate) subnet_permit: Option<SubnetPermit>,
}

/// Answers plain requests until an opening handshake is admitted; the caller sends the 101 response. `None`
/// if the client is not admitted: its response is then sent and its socket closed.
pub(crate) async fn admit_client(
    tcp: TcpStream,
    peer: IpAddr,
    listener: &ListenerState,
    permits: &Permits,
) -> Option<AdmittedClient> {
    let server = &listener.server;
    let status = Arc::new(SocketStatus::new(&server.clock, &server.budget));
    let socket = ClientSocket::new(tcp, Arc::clone(&status));
    let http = HttpConnection::new(socket, peer, listener);
    let Handshake {
        socket,
        head,
        upgrade_response,
        already_read,
        address,
        subnet_permit,
    } = serve_requests(http, permits).await?;

    let conn = ConnectionId(server.next_id.fetch_add(1, Ordering::Relaxed));
    let (outbox, outbox_receiver) = outbox(listener.outbox_size(), &server.budget);
    let (reply_to, reply) = oneshot::channel();
    let mut inbox = listener.event_sender();
    let event = OpenEvent {
        listener_index: listener.index,
        conn,
        request: connect_request(&head, address),
        outbox,
        status,
        reply_to,
    };
    // If the broker is gone, the reply is cancelled.
    let _ = inbox.send(Event::Open(Box::new(event))).await;
    let Some(decision) = wait_for_decision(&socket, reply).await else {
        let event = Event::Disconnected(conn, DisconnectReason::Lost);
        // Fails only if the broker is gone.
        let _ = inbox.send(event).await;
        return None;
    };
    let rejection = match decision {
        Ok(Ok(())) => None,
        Ok(Err(rejection)) => Some(Response::new(rejection.status, rejection.text)),
        Err(oneshot::Canceled) => Some(shutting_down()),
    };
    if let Some(response) = rejection {
        let http = HttpConnection::new(socket, address, listener);
        http.respond_and_close(Some(&head), response).await;
        return None;
    }
    let connection = Connection::new(Parts {
        conn,
        socket,
        upgrade_response,
        already_read,
        outbox_receiver,
        inbox,
        protocol: listener.protocol,
        max_message_size: listener.settings.max_message_size,
        close_timeout: listener.settings.close_timeout,
    });
    Some(AdmittedClient {
        connection,
        address,
        subnet_permit,
    })
}

/// The broker's decision about a handshake; cancelled if the broker is stopping or gone.
type Decision = Result<Result<(), Rejection>, oneshot::Canceled>;

/// Waits for the decision. It may be deferred, so `None` is returned if the client disconnects first. One that has
/// only closed its sending direction is served all the same if the decision is not deferred.
async fn wait_for_decision(
    socket: &ClientSocket,
    mut reply: oneshot::Receiver<Result<(), Rejection>>,
) -> Option<Decision> {
    match select(&mut reply, pin!(socket.disconnected())).await {
        Either::Left((decision, _)) => Some(decision),
        Either::Right(_) => timeout(DISCONNECT_GRACE, reply).await.ok(),
    }
}

/// Time for a decision that is not deferred.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);

/// A valid opening handshake.
struct Handshake {
    socket: ClientSocket,
    head: RequestHead,
    /// The 101 response, to be sent if the broker admits the client.
    upgrade_response: Vec<u8>,
    already_read: Vec<u8>,
    address: IpAddr,
    subnet_permit: Option<SubnetPermit>,
}

/// Answers requests until one is a valid opening handshake. Where a protocol has an HTTP API, a
/// connection may carry many requests (RFC 9112 section 9.3.2).
async fn serve_requests(mut http: HttpConnection<'_>, permits: &Permits) -> Option<Handshake> {
    let (peer, listener) = (http.address, http.listener);
    let trusted_proxies = &listener.settings.trusted_proxies;
    let behind_proxy = client_ip::is_trusted(peer, trusted_proxies);
    let mut subnet_permit = None;
    if !behind_proxy {
        subnet_permit = listener.subnet_limit.try_acquire(SubnetKey::of(peer));
        // No header can change this address, so the response does not wait for a request: a client
        // gains nothing by sending none.
        if subnet_permit.is_none() {
            http.respond_and_close(None, too_many_connections()).await;
            return None;
        }
    }
    loop {
        let head = match http.read_head().await {
            Ok(head) => head,
            Err(RequestError::Rejected(response)) => {
                http.respond_and_close(None, response).await;
                return None;
            }
            Err(RequestError::WrongProtocol(wrong)) => {
                log_wrong_protocol(wrong, peer, listener);
                return None;
            }
            Err(RequestError::NoResponse) => return None,
        };
        let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
        http.address = client_ip::client(peer, &forwarded_for, trusted_proxies);
        if !behind_proxy && head.first("X-Forwarded-For").is_some() {
            log_untrusted_forwarding(peer, listener);
        }
        if behind_proxy {
            subnet_permit = listener
                .subnet_limit
                .try_acquire(SubnetKey::of(http.address));
        }
        let capacity = check_capacity(permits, subnet_permit.as_ref());
        match handle_request(&mut http, &head, capacity).await {
            Outcome::Upgrade(upgrade_response) => {
                if head.is_http_1_0() {
                    listener.log_old_handshake(http.address);
                }
                return Some(Handshake {
                    socket: http.socket,
                    head,
                    upgrade_response,
                    already_read: http.already_read,
                    address: http.address,
                    subnet_permit,
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
            Outcome::KeepAlive(response) => http.respond(&head, response).await.ok()?,
            Outcome::NoResponse => return None,
        }
        if behind_proxy {
            // The proxy may send another client's request next.
            subnet_permit = None;
            http.address = peer;
        }
        yield_now().await;
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
        Err(response) => (response, matches!(head.body_length(), Ok(0))),
    };
    // After an unread body or a failed handshake, the next bytes may be the rest of it instead of a request.
    let can_keep_alive = is_body_read && !head.wants_upgrade();
    if protocol.has_http_api() && can_keep_alive && head.wants_keep_alive() {
        Outcome::KeepAlive(response)
    } else {
        Outcome::Close(response)
    }
}

/// The limit that a client is above.
enum AtCapacity {
    /// `max_connections` of the listener or the process.
    Server,
    /// `max_connections_per_ip`.
    Subnet,
}

/// Checks `max_connections` before `max_connections_per_ip`, so that a full server answers all clients alike.
///
/// # Errors
/// The first of these limits that the client is above.
fn check_capacity(
    permits: &Permits,
    subnet_permit: Option<&SubnetPermit>,
) -> Result<(), AtCapacity> {
    match (permits, subnet_permit) {
        (Permits::ServerFull { .. }, _) => Err(AtCapacity::Server),
        (_, None) => Err(AtCapacity::Subnet),
        _ => Ok(()),
    }
}

/// Has the realm answer a plain request.
async fn query_realm(
    head: &RequestHead,
    body: Vec<u8>,
    address: IpAddr,
    listener: &ListenerState,
) -> Response {
    let (reply_to, reply) = oneshot::channel();
    let event = HttpEvent {
        listener_index: listener.index,
        request: Request {
            connect: connect_request(head, address),
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
        Ok(HttpReply::UpgradeRequired { target }) => upgrade_required(head, &target),
        Ok(HttpReply::Rejected(rejection)) => {
            let response = Response::new(rejection.status, rejection.text);
            match rejection.status {
                // The protocol does not define this path.
                404 => landing(head, listener).unwrap_or(response),
                405 => response.with_header("Allow", allowed_methods(listener.protocol)),
                _ => response,
            }
        }
        Err(oneshot::Canceled) => shutting_down(),
    }
}

fn connect_request(head: &RequestHead, address: IpAddr) -> ConnectRequest {
    ConnectRequest {
        path: head.path.clone(),
        query: head.query.clone(),
        address,
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
    let _ = timeout(listener.settings.close_timeout, send).await;
}

/// Logs that a client speaks TLS or HTTP/2, and what would be right.
fn log_wrong_protocol(wrong: WrongProtocol, peer: IpAddr, listener: &ListenerState) {
    let (name, advice) = match wrong {
        WrongProtocol::Tls => (
            "TLS",
            "speak plain ws:// or http:// to it, or put a proxy in front that ends TLS",
        ),
        WrongProtocol::Http2 => (
            "HTTP/2",
            "speak HTTP/1.1 to it; a proxy in front may speak HTTP/2 to its clients",
        ),
    };
    listener.log_notice(Notice::WrongProtocol(wrong), peer, || {
        format!("it speaks {name} to a port for plain HTTP/1.1 and ws://; {advice}")
    });
}

/// Logs that a peer names a client's address and is not believed, and what would be right if it is a proxy.
fn log_untrusted_forwarding(peer: IpAddr, listener: &ListenerState) {
    listener.log_notice(Notice::UntrustedForwarding, peer, || {
        format!(
            "its X-Forwarded-For is ignored, and limits count all its clients as one address; if it is \
             your proxy, write \"trusted_proxies\": [\"{}\"] for this listener",
            peer.to_canonical()
        )
    });
}

fn server_full() -> Response {
    Response::unavailable(503, "the server is full, try again later")
        .with_log_reason("the server is full (max_connections)".to_owned())
}

fn too_many_connections() -> Response {
    Response::unavailable(429, "too many connections from your address")
        .with_log_reason("the address has max_connections_per_ip connections".to_owned())
}

fn shutting_down() -> Response {
    Response::new(503, "the server is shutting down")
}
