//! From accept to 101, or to a plain HTTP answer: what a client must pass before it is let in.

use crate::base::close::CloseReason;
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::base::memory_budget::MemoryReservation;
use crate::broker::SocketStatus;
use crate::broker::outbox;
use crate::broker::{Event, HttpEvent, OpenEvent};
use crate::net::client_ip;
use crate::net::connection::{Connection, Parts};
use crate::net::connection_limits::SubnetPermit;
use crate::net::http::cors::{lets_in, methods, options, with_cors};
use crate::net::http::request::{RequestError, RequestHead, read_body, read_head};
use crate::net::http::response::Response;
use crate::net::listener::{Admission, ListenerState};
use crate::net::socket::ClientSocket;
use crate::realm::{ConnectRequest, ConnectionId, HttpReply, Method, Request};
use async_std::future::timeout;
use async_std::net::TcpStream;
use async_std::task::yield_now;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{AsyncWriteExt, SinkExt};
use std::io::ErrorKind::TimedOut;
use std::io::IoSlice;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long an answer may take as a whole. All ids of a full server are 200 KB: enough for a modem.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);

/// To a client that waits for it before it sends a body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client that has been let in.
pub(crate) struct AcceptedClient {
    pub(crate) connection: Connection,
    pub(crate) address: IpAddr,
    /// To be held on to as long as it is here.
    pub(crate) permit: Option<SubnetPermit>,
}

/// Answers requests, and lets a client in. Whoever is not let in has got its answer and is gone when
/// this returns.
pub(crate) async fn accept_client(
    tcp: TcpStream,
    peer: IpAddr,
    listener: &ListenerState,
    admission: &Admission,
) -> Option<AcceptedClient> {
    let status = Arc::new(SocketStatus::new(
        listener.server.started,
        &listener.server.budget,
    ));
    let stream = ClientSocket::new(tcp, Arc::clone(&status));
    let Handshake {
        stream,
        head,
        switching,
        already_read,
        address,
        permit,
    } = serve_requests(stream, peer, listener, admission).await?;

    let conn = ConnectionId(listener.server.connections.fetch_add(1, Ordering::Relaxed));
    let (outbox, outbox_receiver) = outbox(listener.settings.outbox_size, &listener.server.budget);
    let (reply_to, reply) = oneshot::channel();
    let mut inbox = listener.server.inbox.clone();
    let opening = OpenEvent {
        listener: listener.index,
        conn,
        request: hello(&head, address),
        outbox,
        status,
        reply_to,
    };
    // When the broker is gone, so is the answer.
    let _ = inbox.send(Event::Open(Box::new(opening))).await;
    let refusal = match reply.await {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) => Some(Response::new(refusal.status, refusal.text)),
        Err(oneshot::Canceled) => Some(going_away()),
    };
    if let Some(answer) = refusal {
        log::debug!(
            "{}: {address} is answered {}",
            listener.name(),
            answer.status
        );
        refuse(stream, Some(&head), answer, listener).await;
        return None;
    }
    let connection = Connection::new(Parts {
        conn,
        stream,
        switching,
        already_read,
        outbox_receiver,
        inbox,
        protocol: listener.protocol,
        max_message_size: listener.settings.max_message_size,
        close_timeout: listener.settings.close_timeout,
    });
    Some(AcceptedClient {
        connection,
        address,
        permit,
    })
}

/// An opening handshake that is in order.
struct Handshake {
    stream: ClientSocket,
    head: RequestHead,
    /// What to answer if the broker agrees.
    switching: Vec<u8>,
    already_read: Vec<u8>,
    address: IpAddr,
    permit: Option<SubnetPermit>,
}

/// Answers requests until one is an opening handshake that is in order. Where a protocol has an HTTP
/// API there may be many, one behind the other (RFC 9112 section 9.3.2).
async fn serve_requests(
    mut stream: ClientSocket,
    peer: IpAddr,
    listener: &ListenerState,
    admission: &Admission,
) -> Option<Handshake> {
    let settings = &listener.settings;
    let behind_proxy = client_ip::is_trusted(peer, &settings.trusted_proxies);
    let mut permit = None;
    if !behind_proxy {
        permit = listener.subnets.try_acquire(SubnetKey::of(peer));
        // No header can change that, so nothing needs to be read, and silence wins nothing.
        if permit.is_none() {
            log::debug!("{}: {peer} is answered 429", listener.name());
            refuse(stream, None, too_many(), listener).await;
            return None;
        }
    }
    let mut already_read = Vec::new();
    let mut memory = MemoryReservation::new(&listener.server.requests, 0);
    loop {
        let read = read_head(&mut stream, std::mem::take(&mut already_read), &mut memory);
        let head = match in_time(read, listener).await {
            Ok((head, rest)) => {
                already_read = rest;
                head
            }
            Err(RequestError::Refused(answer)) => {
                log::debug!(
                    "{}: {peer} sent no request that can be read",
                    listener.name()
                );
                refuse(stream, None, answer, listener).await;
                return None;
            }
            Err(RequestError::Gone) => return None,
        };
        let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
        let address = client_ip::client(peer, &forwarded_for, &settings.trusted_proxies);
        if behind_proxy {
            permit = listener.subnets.try_acquire(SubnetKey::of(address));
        }
        let room = room(admission, permit.as_ref());
        // What follows a body that nobody reads, or a handshake that has failed, cannot be told
        // from it.
        let has_no_body = matches!(head.body_length(), Ok(0));
        let mut stays = room.is_ok() && has_no_body && !head.wants_upgrade();
        let answer = match (room, check(&head, listener)) {
            (Ok(()), Ok(RequestKind::Upgrade(switching))) => {
                return Some(Handshake {
                    stream,
                    head,
                    switching,
                    already_read,
                    address,
                    permit,
                });
            }
            (Ok(()), Ok(RequestKind::Http { body })) => {
                if head.expects_continue() && already_read.len() < body {
                    stream.write_all(CONTINUE).await.ok()?;
                }
                let read = read_body(&mut stream, &mut already_read, body, &mut memory);
                let body = match in_time(read, listener).await {
                    Ok(body) => body,
                    Err(RequestError::Refused(answer)) => {
                        refuse(stream, Some(&head), answer, listener).await;
                        return None;
                    }
                    Err(RequestError::Gone) => return None,
                };
                stays = !head.wants_upgrade();
                ask(&head, body, address, listener).await
            }
            (Ok(()), Err(answer)) => answer,
            (Err(AtCapacity::Full), Ok(RequestKind::Upgrade(switching)))
                if listener.protocol.full.is_some() =>
            {
                log::debug!(
                    "{}: {address} is told that there is no room",
                    listener.name()
                );
                reject_full(stream, switching, listener).await;
                return None;
            }
            (Err(AtCapacity::Full), _) => full(),
            (Err(AtCapacity::Address), _) => too_many(),
        };
        log::debug!(
            "{}: {address} is answered {}",
            listener.name(),
            answer.status
        );
        if !(listener.protocol.answers_requests() && stays && head.wants_keep_alive()) {
            refuse(stream, Some(&head), answer, listener).await;
            return None;
        }
        let answer = with_cors(answer.keep_alive(), Some(&head), listener);
        write(&mut stream, &answer, &head.method, listener)
            .await
            .ok()?;
        if behind_proxy {
            // The next request may be another client's.
            permit = None;
        }
        yield_now().await;
    }
}

/// Waits for a part of a request. Who takes too long for it is treated as if it were gone, and so is
/// everybody once the daemon stops.
async fn in_time<T>(
    read: impl Future<Output = Result<T, RequestError>>,
    listener: &ListenerState,
) -> Result<T, RequestError> {
    let read = timeout(listener.settings.handshake_timeout, read);
    match select(pin!(read), listener.server.stopping.clone()).await {
        Either::Left((in_time, _)) => in_time.unwrap_or(Err(RequestError::Gone)),
        Either::Right(_) => Err(RequestError::Gone),
    }
}

fn hello(head: &RequestHead, address: IpAddr) -> ConnectRequest {
    ConnectRequest {
        path: head.path.clone(),
        query: head.query.clone(),
        address,
    }
}

/// Has the realm answer a plain request.
async fn ask(
    head: &RequestHead,
    body: Vec<u8>,
    address: IpAddr,
    listener: &ListenerState,
) -> Response {
    let (reply_to, reply) = oneshot::channel();
    let event = HttpEvent {
        listener: listener.index,
        request: Request {
            hello: hello(head, address),
            method: if head.method == "POST" {
                Method::Post
            } else {
                Method::Get
            },
            body,
        },
        reply_to,
    };
    // When the broker is gone, so is the answer.
    let mut inbox = listener.server.inbox.clone();
    let _ = inbox.send(Event::Request(Box::new(event))).await;
    match reply.await {
        Ok(HttpReply::Ok { content_type, body }) => Response::ok(content_type, body),
        Ok(HttpReply::UpgradeRequired { target }) => upgrade_required(head, &target),
        Ok(HttpReply::Rejected(refusal)) => {
            let answer = Response::new(refusal.status, refusal.text);
            if refusal.status == 405 {
                answer.with("Allow", methods(listener.protocol))
            } else {
                answer
            }
        }
        Err(oneshot::Canceled) => going_away(),
    }
}

/// Why a client finds no place.
enum AtCapacity {
    Full,
    Address,
}

fn room(admission: &Admission, permit: Option<&SubnetPermit>) -> Result<(), AtCapacity> {
    match (admission, permit) {
        (Admission::Full { .. }, _) => Err(AtCapacity::Full),
        (_, None) => Err(AtCapacity::Address),
        _ => Ok(()),
    }
}

fn full() -> Response {
    Response::unavailable(503, "the server is full")
}

fn too_many() -> Response {
    Response::unavailable(429, "too many connections from your address")
}

fn going_away() -> Response {
    Response::new(503, "the server is going away")
}

fn upgrade_required(head: &RequestHead, target: &str) -> Response {
    let text = format!(
        "connect with a WebSocket client, for example: wscat -c 'ws://{}{target}'",
        head.first("Host").unwrap_or("localhost"),
    );
    Response::new(426, text).with("Upgrade", "websocket")
}

/// What a request that is in order asks for.
enum RequestKind {
    /// A WebSocket, with this answer to the handshake.
    Upgrade(Vec<u8>),
    /// Something that the realm knows, with a body of so many bytes.
    Http { body: usize },
}

/// Checks a request.
///
/// # Errors
/// The answer, where it can be given without asking the broker.
fn check(head: &RequestHead, listener: &ListenerState) -> Result<RequestKind, Response> {
    let protocol = listener.protocol;
    if !(protocol.matches_path)(&head.path) {
        let text = format!(
            "nothing here; {} is spoken at {}",
            protocol.name, protocol.endpoint
        );
        return Err(Response::new(404, text));
    }
    let methods = methods(protocol);
    let mut body = 0;
    match head.method.as_str() {
        "GET" | "HEAD" => {}
        "POST" if protocol.methods.contains(&Method::Post) => body = head.body_length()?,
        "OPTIONS" => return Err(options(head, listener)),
        _ => return Err(Response::new(405, format!("only {methods}")).with("Allow", methods)),
    }
    if head.has_body() && body == 0 {
        return Err(Response::new(
            400,
            "malformed request: no request here has a body",
        ));
    }
    let wants_socket = head.method == "GET" && head.wants_upgrade();
    if !wants_socket && !protocol.answers_requests() {
        return Err(upgrade_required(head, protocol.endpoint));
    }
    if !lets_in(head, listener) {
        return Err(Response::new(
            403,
            "this origin may not connect; see \"origins\" in the configuration",
        ));
    }
    if wants_socket {
        head.upgrade().map(RequestKind::Upgrade)
    } else {
        Ok(RequestKind::Http { body })
    }
}

/// What a port answers by itself, for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn first_answer(head: &RequestHead, listener: &ListenerState) -> Option<Response> {
    let answer = check(head, listener).err()?;
    Some(with_cors(answer, Some(head), listener))
}

/// Sends the last answer, and stays until it has been taken, but not for long.
async fn refuse(
    mut stream: ClientSocket,
    head: Option<&RequestHead>,
    answer: Response,
    listener: &ListenerState,
) {
    let answer = with_cors(answer, head, listener);
    let method = head.map_or("", |head| &head.method);
    if write(&mut stream, &answer, method, listener).await.is_ok() {
        let _ = timeout(listener.settings.close_timeout, stream.linger()).await;
    }
}

/// Completes the handshake of a client for whom there is no room, to say so in a way that it
/// understands.
async fn reject_full(mut stream: ClientSocket, mut switching: Vec<u8>, listener: &ListenerState) {
    let told = listener.protocol.full.map(Frame::text);
    for frame in told
        .iter()
        .chain([&Frame::close(CloseReason::TooManyConnections)])
    {
        frame.pieces(0).for_each(|piece| switching.extend(piece));
    }
    let goodbye = async {
        if stream.write_all(&switching).await.is_ok() {
            stream.linger().await;
        }
    };
    let _ = timeout(listener.settings.close_timeout, goodbye).await;
}

/// Sends an answer, to whoever goes on taking of it, and takes it to its end in time.
async fn write(
    stream: &mut ClientSocket,
    answer: &Response,
    method: &str,
    listener: &ListenerState,
) -> std::io::Result<()> {
    let (head, body) = answer.encode(method);
    let (mut head, mut body) = (head.as_bytes(), body.as_bytes());
    let whole = async {
        while !(head.is_empty() && body.is_empty()) {
            let pieces = [IoSlice::new(head), IoSlice::new(body)];
            let piece = timeout(
                listener.settings.close_timeout,
                stream.write_vectored(&pieces),
            );
            let written = piece.await.unwrap_or_else(|_| Err(TimedOut.into()))?;
            let of_head = written.min(head.len());
            head = head.get(of_head..).unwrap_or_default();
            body = body.get(written - of_head..).unwrap_or_default();
        }
        Ok(())
    };
    let in_time = timeout(LONGEST_ANSWER, whole).await;
    in_time.unwrap_or_else(|_| Err(TimedOut.into()))
}
