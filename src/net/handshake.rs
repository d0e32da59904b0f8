//! From accept to the 101 response, or to a plain HTTP response: the checks that a client must pass
//! before it is admitted.

use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::broker::{Event, HttpEvent, OpenEvent, SocketStatus, outbox};
use crate::net::client_ip;
use crate::net::connection::{Connection, Parts};
use crate::net::connection_limits::SubnetPermit;
use crate::net::http::connection::HttpConnection;
#[cfg(any(test, fuzzing))]
use crate::net::http::cors::with_cors_headers;
use crate::net::http::cors::{allowed_methods, is_origin_allowed, options_response};
use crate::net::http::request::{RequestError, RequestHead};
use crate::net::http::response::Response;
use crate::net::listener::{ListenerState, Permits};
use crate::net::socket::ClientSocket;
use crate::realm::{ConnectRequest, ConnectionId, HttpReply, Method, Request};
use async_std::future::timeout;
use async_std::net::TcpStream;
use async_std::task::yield_now;
use futures::channel::oneshot;
use futures::{AsyncWriteExt, SinkExt};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    let (outbox, outbox_receiver) = outbox(listener.settings.outbox_size, &server.budget);
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
    let rejection = match reply.await {
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
                log::debug!(
                    "{}: cannot read a request of {peer}",
                    listener.protocol_name()
                );
                http.respond_and_close(None, response).await;
                return None;
            }
            Err(RequestError::NoResponse) => return None,
        };
        let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
        http.address = client_ip::client(peer, &forwarded_for, trusted_proxies);
        if behind_proxy {
            subnet_permit = listener
                .subnet_limit
                .try_acquire(SubnetKey::of(http.address));
        }
        let capacity = check_capacity(permits, subnet_permit.as_ref());
        match handle_request(&mut http, &head, capacity).await {
            Outcome::Upgrade(upgrade_response) => {
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
            Err(RequestError::NoResponse) => return Outcome::NoResponse,
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

/// A valid request.
enum RequestKind {
    /// A WebSocket's opening handshake, with the response that completes it.
    Upgrade(Vec<u8>),
    /// A request for the realm, with a body of this length in bytes.
    Http { body_length: usize },
}

/// Checks a request: first the path, then the method and the body, then whether the listener answers plain
/// requests at all, then the origin, and the headers of the handshake last. The response to a request
/// with several problems names the first of them.
///
/// # Errors
/// The response, if the request is invalid or can be answered without the realm.
fn check(head: &RequestHead, listener: &ListenerState) -> Result<RequestKind, Response> {
    let protocol = listener.protocol;
    if !(protocol.matches_path)(&head.path) {
        let text = format!(
            "nothing here; connect to {} at {}",
            protocol.name, protocol.endpoint
        );
        return Err(Response::new(404, text));
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
        return Err(upgrade_required(head, protocol.endpoint));
    }
    if !is_origin_allowed(head, listener) {
        let text = "this origin is not allowed; see \"origins\" in the configuration";
        return Err(Response::new(403, text));
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
            if rejection.status == 405 {
                response.with_header("Allow", allowed_methods(listener.protocol))
            } else {
                response
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
    let name = listener.protocol_name();
    log::debug!("{name}: {address} is rejected: the server is full");
    let message = listener.protocol.full_message.map(Frame::text);
    let close = Frame::close(CloseReason::TooManyConnections);
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

fn server_full() -> Response {
    Response::unavailable(503, "the server is full, try again later")
}

fn too_many_connections() -> Response {
    Response::unavailable(429, "too many connections from your address")
}

fn shutting_down() -> Response {
    Response::new(503, "the server is shutting down")
}

fn upgrade_required(head: &RequestHead, target: &str) -> Response {
    let text = format!(
        "connect with a WebSocket client, for example: wscat -c 'ws://{}{target}'",
        head.first("Host").unwrap_or("localhost"),
    );
    Response::new(426, text).with_header("Upgrade", "websocket")
}
