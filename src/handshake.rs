//! From accept to 101, or to a plain HTTP answer: what a client must pass before it is let in.

use crate::accept::{Admission, Port};
use crate::address::{self, Subscriber};
use crate::broker::{Event, Opening};
use crate::connection::{Connection, Parts};
use crate::http::{Answer, Head, HeadError, read_head};
use crate::outbox::outbox;
use crate::places::SubscriberPlace;
use crate::realm::{ConnectionId, Hello};
use crate::stream::{Pulse, Stream};
use async_std::future::timeout;
use async_std::net::TcpStream;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{AsyncWriteExt, SinkExt};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A client that has been let in.
pub(crate) struct Guest {
    pub(crate) connection: Connection,
    pub(crate) address: IpAddr,
    /// To be held on to as long as it is here.
    pub(crate) place: Option<SubscriberPlace>,
}

/// Reads the request and answers it. Whoever is not let in has got its answer and is gone when
/// this returns.
pub(crate) async fn greet(
    tcp: TcpStream,
    peer: IpAddr,
    port: &Port,
    admission: &Admission,
) -> Option<Guest> {
    let pulse = Arc::new(Pulse::new(port.house.started));
    let mut stream = Stream::new(tcp, Arc::clone(&pulse));
    let settings = &port.settings;
    let mut place = None;
    if !address::is_trusted(peer, &settings.trusted_proxies) {
        place = port.subscribers.take(Subscriber::of(peer));
        // No header can change that, so nothing needs to be read, and silence wins nothing.
        if place.is_none() {
            log::debug!("{}: {peer} is answered 429", port.name());
            refuse(stream, "", &too_many(), port).await;
            return None;
        }
    }
    let (head, already_read) = match read_in_time(&mut stream, port).await {
        Ok(request) => request,
        Err(HeadError::Refused(answer)) => {
            log::debug!("{}: {peer} sent no request that can be read", port.name());
            refuse(stream, "", &answer, port).await;
            return None;
        }
        Err(HeadError::Gone) => return None,
    };
    let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
    let address = address::client(peer, &forwarded_for, &settings.trusted_proxies);
    place = place.or_else(|| port.subscribers.take(Subscriber::of(address)));
    let found_room = room(admission, place.as_ref());
    let switching = match found_room.and_then(|()| check(&head, port)) {
        Ok(switching) => switching,
        Err(answer) => {
            log::debug!("{}: {address} is answered {}", port.name(), answer.status);
            refuse(stream, &head.method, &answer, port).await;
            return None;
        }
    };

    let who = ConnectionId(port.house.connections.fetch_add(1, Ordering::Relaxed));
    let (outbox, outgoing) = outbox(settings.outbox_size);
    let (answer, answered) = oneshot::channel();
    let mut inbox = port.house.inbox.clone();
    let hello = Hello {
        path: head.path,
        query: head.query,
        address,
    };
    let opening = Opening {
        listener: port.listener,
        who,
        hello,
        outbox,
        pulse,
        answer,
    };
    // When the broker is gone, so is the answer.
    let _ = inbox.send(Event::Open(Box::new(opening))).await;
    let refusal = match answered.await {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) => Some(Answer::new(refusal.status, refusal.text)),
        Err(oneshot::Canceled) => Some(Answer::new(503, "the server is going away")),
    };
    if let Some(answer) = refusal {
        log::debug!("{}: {address} is answered {}", port.name(), answer.status);
        refuse(stream, &head.method, &answer, port).await;
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
        max_message_size: settings.max_message_size,
        close_timeout: settings.close_timeout,
    });
    Some(Guest {
        connection,
        address,
        place,
    })
}

/// Reads the request head. Who takes too long for it is treated as if it were gone, and so is
/// everybody once the daemon stops.
async fn read_in_time(stream: &mut Stream, port: &Port) -> Result<(Head, Vec<u8>), HeadError> {
    let read = timeout(port.settings.handshake_timeout, read_head(stream));
    match select(pin!(read), port.house.stopping.clone()).await {
        Either::Left((in_time, _)) => in_time.unwrap_or(Err(HeadError::Gone)),
        Either::Right(_) => Err(HeadError::Gone),
    }
}

/// Whether there is room for a client.
fn room(admission: &Admission, place: Option<&SubscriberPlace>) -> Result<(), Answer> {
    match (admission, place) {
        (Admission::Full { .. }, _) => Err(no_room(503, "the server is full")),
        (_, None) => Err(too_many()),
        _ => Ok(()),
    }
}

fn too_many() -> Answer {
    no_room(429, "too many connections from your address")
}

fn no_room(status: u16, text: &str) -> Answer {
    // In seconds: a guess, but one that spreads the tries.
    Answer::new(status, text).with("Retry-After", "10")
}

/// Checks a request.
///
/// # Errors
/// The refusal. Otherwise it is the 101 answer that is returned.
fn check(head: &Head, port: &Port) -> Result<Vec<u8>, Answer> {
    let protocol = port.protocol;
    if !(protocol.serves)(&head.path) {
        let text = format!(
            "nothing here; {} is spoken at {}",
            protocol.name, protocol.endpoint
        );
        return Err(Answer::new(404, text));
    }
    let allow = "GET, HEAD, OPTIONS";
    match head.method.as_str() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Err(Answer::new(204, "").with("Allow", allow)),
        _ => {
            let text = format!("only {allow}");
            return Err(Answer::new(405, text).with("Allow", allow));
        }
    }
    if head.has_body() {
        return Err(Answer::new(
            400,
            "malformed request: no request here has a body",
        ));
    }
    if head.method == "HEAD" || !head.wants_upgrade() {
        let text = format!(
            "connect with a WebSocket client, for example: wscat -c ws://{}{}",
            head.first("Host").unwrap_or("localhost"),
            protocol.endpoint,
        );
        return Err(Answer::new(426, text).with("Upgrade", "websocket"));
    }
    if !port
        .settings
        .origins
        .let_in(head.first("Origin"), head.first("Host"))
    {
        return Err(Answer::new(
            403,
            "this origin may not connect; see \"origins\" in the configuration",
        ));
    }
    head.upgrade()
}

/// Sends a plain answer, and stays until it has been taken, but not for long.
async fn refuse(mut stream: Stream, method: &str, answer: &Answer, port: &Port) {
    let goodbye = async {
        if stream.write_all(&answer.encode(method)).await.is_ok() {
            stream.linger().await;
        }
    };
    let _ = timeout(port.settings.close_timeout, goodbye).await;
}
