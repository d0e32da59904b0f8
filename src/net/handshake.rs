//! From accept to 101, or to a plain HTTP answer: what a client must pass before it is let in.

use crate::base::close::Close;
use crate::base::frame::Frame;
use crate::base::ip::Subscriber;
use crate::base::memory_budget::Charge;
use crate::broker::Pulse;
use crate::broker::outbox;
use crate::broker::{Event, Opening, Question};
use crate::net::client_ip;
use crate::net::connection::{Connection, Parts};
use crate::net::connection_limits::SubscriberPlace;
use crate::net::http::cors::{lets_in, methods, options, with_cors};
use crate::net::http::request::{Head, HeadError, read_body, read_head};
use crate::net::http::response::Answer;
use crate::net::listener::{Admission, Port};
use crate::net::socket::Stream;
use crate::realm::{ConnectionId, Hello, Method, Reply, Request};
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
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    pub(crate) address: IpAddr,
    /// To be held on to as long as it is here.
    pub(crate) place: Option<SubscriberPlace>,
}

/// Answers requests, and lets a client in. Whoever is not let in has got its answer and is gone when
/// this returns.
pub(crate) async fn greet(
    tcp: TcpStream,
    peer: IpAddr,
    port: &Port,
    admission: &Admission,
) -> Option<Guest> {
    let pulse = Arc::new(Pulse::new(port.house.started, &port.house.budget));
    let stream = Stream::new(tcp, Arc::clone(&pulse));
    let Handshake {
        stream,
        head,
        switching,
        already_read,
        address,
        place,
    } = serve_requests(stream, peer, port, admission).await?;

    let who = ConnectionId(port.house.connections.fetch_add(1, Ordering::Relaxed));
    let (outbox, outgoing) = outbox(port.settings.outbox_size, &port.house.budget);
    let (answer, answered) = oneshot::channel();
    let mut inbox = port.house.inbox.clone();
    let opening = Opening {
        listener: port.listener,
        who,
        hello: hello(&head, address),
        outbox,
        pulse,
        answer,
    };
    // When the broker is gone, so is the answer.
    let _ = inbox.send(Event::Open(Box::new(opening))).await;
    let refusal = match answered.await {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) => Some(Answer::new(refusal.status, refusal.text)),
        Err(oneshot::Canceled) => Some(going_away()),
    };
    if let Some(answer) = refusal {
        log::debug!("{}: {address} is answered {}", port.name(), answer.status);
        refuse(stream, Some(&head), answer, port).await;
        return None;
    }
    let connection = Connection::new(Parts {
        who,
        stream,
        switching,
        already_read,
        outgoing,
        inbox,
        protocol: port.protocol,
        max_message_size: port.settings.max_message_size,
        close_timeout: port.settings.close_timeout,
    });
    Some(Guest {
        connection,
        address,
        place,
    })
}

/// An opening handshake that is in order.
struct Handshake {
    stream: Stream,
    head: Head,
    /// What to answer if the broker agrees.
    switching: Vec<u8>,
    already_read: Vec<u8>,
    address: IpAddr,
    place: Option<SubscriberPlace>,
}

/// Answers requests until one is an opening handshake that is in order. Where a protocol has an HTTP
/// API there may be many, one behind the other (RFC 9112 section 9.3.2).
async fn serve_requests(
    mut stream: Stream,
    peer: IpAddr,
    port: &Port,
    admission: &Admission,
) -> Option<Handshake> {
    let settings = &port.settings;
    let behind_proxy = client_ip::is_trusted(peer, &settings.trusted_proxies);
    let mut place = None;
    if !behind_proxy {
        place = port.subscribers.take(Subscriber::of(peer));
        // No header can change that, so nothing needs to be read, and silence wins nothing.
        if place.is_none() {
            log::debug!("{}: {peer} is answered 429", port.name());
            refuse(stream, None, too_many(), port).await;
            return None;
        }
    }
    let mut already_read = Vec::new();
    let mut memory = Charge::new(&port.house.requests, 0);
    loop {
        let read = read_head(&mut stream, std::mem::take(&mut already_read), &mut memory);
        let head = match in_time(read, port).await {
            Ok((head, rest)) => {
                already_read = rest;
                head
            }
            Err(HeadError::Refused(answer)) => {
                log::debug!("{}: {peer} sent no request that can be read", port.name());
                refuse(stream, None, answer, port).await;
                return None;
            }
            Err(HeadError::Gone) => return None,
        };
        let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
        let address = client_ip::client(peer, &forwarded_for, &settings.trusted_proxies);
        if behind_proxy {
            place = port.subscribers.take(Subscriber::of(address));
        }
        let room = room(admission, place.as_ref());
        // What follows a body that nobody reads, or a handshake that has failed, cannot be told
        // from it.
        let has_no_body = matches!(head.body_length(), Ok(0));
        let mut stays = room.is_ok() && has_no_body && !head.wants_upgrade();
        let answer = match (room, check(&head, port)) {
            (Ok(()), Ok(Wish::Socket(switching))) => {
                return Some(Handshake {
                    stream,
                    head,
                    switching,
                    already_read,
                    address,
                    place,
                });
            }
            (Ok(()), Ok(Wish::Answer { body })) => {
                if head.expects_continue() && already_read.len() < body {
                    stream.write_all(CONTINUE).await.ok()?;
                }
                let read = read_body(&mut stream, &mut already_read, body, &mut memory);
                let body = match in_time(read, port).await {
                    Ok(body) => body,
                    Err(HeadError::Refused(answer)) => {
                        refuse(stream, Some(&head), answer, port).await;
                        return None;
                    }
                    Err(HeadError::Gone) => return None,
                };
                stays = !head.wants_upgrade();
                ask(&head, body, address, port).await
            }
            (Ok(()), Err(answer)) => answer,
            (Err(NoRoom::Full), Ok(Wish::Socket(switching))) if port.protocol.full.is_some() => {
                log::debug!("{}: {address} is told that there is no room", port.name());
                turn_away(stream, switching, port).await;
                return None;
            }
            (Err(NoRoom::Full), _) => full(),
            (Err(NoRoom::ForAddress), _) => too_many(),
        };
        log::debug!("{}: {address} is answered {}", port.name(), answer.status);
        if !(port.protocol.answers_requests() && stays && head.wants_keep_alive()) {
            refuse(stream, Some(&head), answer, port).await;
            return None;
        }
        let answer = with_cors(answer.keep_alive(), Some(&head), port);
        write(&mut stream, &answer, &head.method, port).await.ok()?;
        if behind_proxy {
            // The next request may be another client's.
            place = None;
        }
        yield_now().await;
    }
}

/// Waits for a part of a request. Who takes too long for it is treated as if it were gone, and so is
/// everybody once the daemon stops.
async fn in_time<T>(
    read: impl Future<Output = Result<T, HeadError>>,
    port: &Port,
) -> Result<T, HeadError> {
    let read = timeout(port.settings.handshake_timeout, read);
    match select(pin!(read), port.house.stopping.clone()).await {
        Either::Left((in_time, _)) => in_time.unwrap_or(Err(HeadError::Gone)),
        Either::Right(_) => Err(HeadError::Gone),
    }
}

fn hello(head: &Head, address: IpAddr) -> Hello {
    Hello {
        path: head.path.clone(),
        query: head.query.clone(),
        address,
    }
}

/// Has the realm answer a plain request.
async fn ask(head: &Head, body: Vec<u8>, address: IpAddr, port: &Port) -> Answer {
    let (answer, answered) = oneshot::channel();
    let question = Question {
        listener: port.listener,
        request: Request {
            hello: hello(head, address),
            method: if head.method == "POST" {
                Method::Post
            } else {
                Method::Get
            },
            body,
        },
        answer,
    };
    // When the broker is gone, so is the answer.
    let mut inbox = port.house.inbox.clone();
    let _ = inbox.send(Event::Request(Box::new(question))).await;
    match answered.await {
        Ok(Reply::Ok { content_type, body }) => Answer::ok(content_type, body),
        Ok(Reply::UpgradeRequired { target }) => upgrade_required(head, &target),
        Ok(Reply::Refused(refusal)) => {
            let answer = Answer::new(refusal.status, refusal.text);
            if refusal.status == 405 {
                answer.with("Allow", methods(port.protocol))
            } else {
                answer
            }
        }
        Err(oneshot::Canceled) => going_away(),
    }
}

/// Why a client finds no place.
enum NoRoom {
    Full,
    ForAddress,
}

fn room(admission: &Admission, place: Option<&SubscriberPlace>) -> Result<(), NoRoom> {
    match (admission, place) {
        (Admission::Full { .. }, _) => Err(NoRoom::Full),
        (_, None) => Err(NoRoom::ForAddress),
        _ => Ok(()),
    }
}

fn full() -> Answer {
    Answer::no_room(503, "the server is full")
}

fn too_many() -> Answer {
    Answer::no_room(429, "too many connections from your address")
}

fn going_away() -> Answer {
    Answer::new(503, "the server is going away")
}

fn upgrade_required(head: &Head, target: &str) -> Answer {
    let text = format!(
        "connect with a WebSocket client, for example: wscat -c 'ws://{}{target}'",
        head.first("Host").unwrap_or("localhost"),
    );
    Answer::new(426, text).with("Upgrade", "websocket")
}

/// What a request that is in order asks for.
enum Wish {
    /// A WebSocket, with this answer to the handshake.
    Socket(Vec<u8>),
    /// Something that the realm knows, with a body of so many bytes.
    Answer { body: usize },
}

/// Checks a request.
///
/// # Errors
/// The answer, where it can be given without asking the broker.
fn check(head: &Head, port: &Port) -> Result<Wish, Answer> {
    let protocol = port.protocol;
    if !(protocol.serves)(&head.path) {
        let text = format!(
            "nothing here; {} is spoken at {}",
            protocol.name, protocol.endpoint
        );
        return Err(Answer::new(404, text));
    }
    let methods = methods(protocol);
    let mut body = 0;
    match head.method.as_str() {
        "GET" | "HEAD" => {}
        "POST" if protocol.methods.contains(&Method::Post) => body = head.body_length()?,
        "OPTIONS" => return Err(options(head, port)),
        _ => return Err(Answer::new(405, format!("only {methods}")).with("Allow", methods)),
    }
    if head.has_body() && body == 0 {
        return Err(Answer::new(
            400,
            "malformed request: no request here has a body",
        ));
    }
    let wants_socket = head.method == "GET" && head.wants_upgrade();
    if !wants_socket && !protocol.answers_requests() {
        return Err(upgrade_required(head, protocol.endpoint));
    }
    if !lets_in(head, port) {
        return Err(Answer::new(
            403,
            "this origin may not connect; see \"origins\" in the configuration",
        ));
    }
    if wants_socket {
        head.upgrade().map(Wish::Socket)
    } else {
        Ok(Wish::Answer { body })
    }
}

/// What a port answers by itself, for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn first_answer(head: &Head, port: &Port) -> Option<Answer> {
    let answer = check(head, port).err()?;
    Some(with_cors(answer, Some(head), port))
}

/// Sends the last answer, and stays until it has been taken, but not for long.
async fn refuse(mut stream: Stream, head: Option<&Head>, answer: Answer, port: &Port) {
    let answer = with_cors(answer, head, port);
    let method = head.map_or("", |head| &head.method);
    if write(&mut stream, &answer, method, port).await.is_ok() {
        let _ = timeout(port.settings.close_timeout, stream.linger()).await;
    }
}

/// Completes the handshake of a client for whom there is no room, to say so in a way that it
/// understands.
async fn turn_away(mut stream: Stream, mut switching: Vec<u8>, port: &Port) {
    let told = port.protocol.full.map(Frame::text);
    for frame in told
        .iter()
        .chain([&Frame::close(Close::TooManyConnections)])
    {
        frame.pieces(0).for_each(|piece| switching.extend(piece));
    }
    let goodbye = async {
        if stream.write_all(&switching).await.is_ok() {
            stream.linger().await;
        }
    };
    let _ = timeout(port.settings.close_timeout, goodbye).await;
}

/// Sends an answer, to whoever goes on taking of it, and takes it to its end in time.
async fn write(
    stream: &mut Stream,
    answer: &Answer,
    method: &str,
    port: &Port,
) -> std::io::Result<()> {
    let (head, body) = answer.encode(method);
    let (mut head, mut body) = (head.as_bytes(), body.as_bytes());
    let whole = async {
        while !(head.is_empty() && body.is_empty()) {
            let pieces = [IoSlice::new(head), IoSlice::new(body)];
            let piece = timeout(port.settings.close_timeout, stream.write_vectored(&pieces));
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
