//! Request heads, however they are cut, and what is answered to them before a client is let in.

use super::Input;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::config::Listener;
use crate::net::client_ip;
use crate::net::connection_limits::ConnectionLimit;
use crate::net::handshake::first_answer;
use crate::net::http::request::{
    MAX_BODY, MAX_HEAD, MAX_HEADERS, RequestError, RequestHead, read_body, read_head,
};
use crate::net::http::response::Response;
use crate::net::listener::{ListenerState, ServerState};
use crate::protocols::PROTOCOLS;
use crate::protocols::{fastchat::FastChat, loudsync::Loudsync, peerdrop::PeerDrop};
use crate::protocols::{peerjs::PeerJs, workspace::Workspace};
use crate::realm::{Method, Realm};
use crate::testing::harness::RealmHarness;
use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;
use futures::{AsyncRead, FutureExt};
use serde_json::json;
use std::io;
use std::iter::Cycle;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::slice::Iter;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Instant;

/// The most requests on one connection here.
const REQUESTS: usize = 8;

/// What comes over a connection, in pieces.
struct Pieces<'a> {
    left: &'a [u8],
    sizes: Cycle<Iter<'a, u8>>,
}

impl<'a> Pieces<'a> {
    /// Each octet of `sizes` is the length of a piece; without any, all comes at once.
    fn new(bytes: &'a [u8], sizes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            sizes: sizes.iter().cycle(),
        }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let size = self
            .sizes
            .next()
            .map_or(usize::MAX, |size| usize::from(*size) + 1);
        let count = size.min(buffer.len()).min(self.left.len());
        let (read, left) = self.left.split_at(count);
        buffer[..count].copy_from_slice(read);
        self.left = left;
        Poll::Ready(Ok(count))
    }
}

/// Requests are read, with their bodies: how they come in pieces does not matter, no more is read than is
/// bounded, and no answer has a line in it that a client wrote.
pub fn request(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sizes = input.line().unwrap_or_default();
    let bytes = input.bytes(usize::MAX);
    let (heads, at_once) = conversation(bytes, &[]);
    let (_, in_pieces) = conversation(bytes, sizes);
    assert_eq!(at_once, in_pieces);
    for (head, body) in &heads {
        look(head);
        LISTENERS.with(|listeners| {
            listeners
                .iter()
                .for_each(|listener| answered(head, listener))
        });
        comes::<PeerDrop>(head, body);
        comes::<FastChat>(head, body);
        comes::<Workspace>(head, body);
        comes::<Loudsync>(head, body);
        comes::<PeerJs>(head, body);
    }
}

/// The requests of a connection, and what it was like: these, its end, and what is left of it.
fn conversation(bytes: &[u8], sizes: &[u8]) -> (Vec<(RequestHead, Vec<u8>)>, String) {
    let mut stream = Pieces::new(bytes, sizes);
    let (mut requests, mut story) = (Vec::new(), String::new());
    let mut already_read = Vec::new();
    let mut memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
    while requests.len() < REQUESTS {
        let start = bytes.len() - already_read.len() - stream.left.len();
        let unread = stream.left.len();
        let read = block_on(read_head(
            &mut stream,
            std::mem::take(&mut already_read),
            &mut memory,
        ));
        let head = match read {
            Ok((head, rest)) => {
                already_read = rest;
                let end = bytes.len() - already_read.len() - stream.left.len();
                is_well_formed(&bytes[start..end]);
                head
            }
            Err(RequestError::Refused(answer)) => {
                // Who is refused is read no further.
                assert!(unread - stream.left.len() <= MAX_HEAD + 1024);
                story.push_str(&encoded(&answer));
                return (requests, story);
            }
            Err(RequestError::Gone) => {
                story.push_str("gone");
                return (requests, story);
            }
        };
        let length = head.body_length();
        story.push_str(&format!("{head:?} {length:?}"));
        let body = match length {
            Ok(length) => block_on(read_body(
                &mut stream,
                &mut already_read,
                length,
                &mut memory,
            )),
            Err(_) => return (requests, story),
        };
        let Ok(body) = body else {
            return (requests, story);
        };
        assert!(body.len() <= MAX_BODY);
        story.push_str(&format!("{body:?}"));
        requests.push((head, body));
    }
    let left = [already_read.as_slice(), stream.left].concat();
    story.push_str(&format!("{left:?}"));
    (requests, story)
}

/// A head that was taken for one ends as one, and each line in it; and it is within its bounds.
fn is_well_formed(head: &[u8]) {
    assert!(head.len() <= MAX_HEAD);
    let head = String::from_utf8_lossy(head);
    let (lines, rest) = head.split_once("\r\n\r\n").expect("its end");
    assert_eq!(rest, "");
    let lines: Vec<&str> = lines.split("\r\n").collect();
    // An empty one may stand before the first (RFC 9112 section 2.2).
    assert!(lines.len() <= 2 + MAX_HEADERS);
    assert!(
        !lines.iter().any(|line| line.contains(['\r', '\n'])),
        "{head:?}"
    );
}

/// An answer as it goes over the wire, in which there are the headers that were put there and no others.
fn encoded(answer: &Response) -> String {
    let (head, _) = answer.encode("GET");
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(head.as_bytes());
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(head.len())),
        "{head:?}"
    );
    assert_eq!(response.code, Some(answer.status));
    let lines = head
        .split("\r\n")
        .filter(|line| line.contains(": "))
        .count();
    assert_eq!(response.headers.len(), lines);
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
    head
}

/// What holds of every head.
fn look(head: &RequestHead) {
    assert!(head.path.starts_with('/'), "{head:?}");
    assert!(head.all("Host").count() <= 1);
    if let Ok(switching) = head.upgrade() {
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&switching);
        assert_eq!(parsed, Ok(httparse::Status::Complete(switching.len())));
        assert_eq!(response.code, Some(101));
    }
    // What can be told for sure to be no body is none.
    if !head.has_body() {
        assert!(matches!(head.body_length(), Ok(0)));
    }
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let forwarded_for = head.all("X-Forwarded-For").collect::<Vec<_>>().join(",");
    assert_eq!(client_ip::client(peer, &forwarded_for, &[]), peer);
    let trusted = ["127.0.0.0/8", "::/0"].map(|network| network.parse().expect("a network"));
    let _ = client_ip::client(peer, &forwarded_for, &trusted);
}

thread_local! {
    /// A port for each protocol.
    static LISTENERS: Vec<ListenerState> = PROTOCOLS
        .iter()
        .enumerate()
        .map(|(at, protocol)| {
            let listener = Listener::built_in(protocol);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let (inbox, _) = mpsc::channel(1);
            let (_, stopping) = oneshot::channel();
            let (all_gone, _) = mpsc::channel(1);
            let server = Arc::new(ServerState {
                started: Instant::now(),
                inbox,
                connections: AtomicU64::new(1),
                permits: ConnectionLimit::new(0),
                budget: MemoryBudget::new(0),
                requests: MemoryBudget::new(0),
                rejecting: ConnectionLimit::new(0),
                stopping: stopping.shared(),
                _all_gone: all_gone,
            });
            ListenerState::new(server, at, listener, address)
        })
        .collect();
}

/// What a port answers by itself can be read.
fn answered(head: &RequestHead, listener: &ListenerState) {
    if let Some(answer) = first_answer(head, listener) {
        encoded(&answer);
    }
}

/// Whoever comes with this request to a realm, or asks it something, breaks nothing.
fn comes<R: Realm>(head: &RequestHead, body: &[u8]) {
    if !R::matches_path(&head.path) {
        return;
    }
    let mut harness = RealmHarness::<R>::new(json!({}));
    let target = format!("{}?{}", head.path, head.query);
    if let Err(refusal) = harness.tries_to_open(1, &target, "127.0.0.1") {
        encoded(&Response::new(refusal.status, refusal.text));
    }
    if R::METHODS.contains(&Method::Get) {
        harness.asks(&target);
    }
    if let (true, Ok(body)) = (
        R::METHODS.contains(&Method::Post),
        std::str::from_utf8(body),
    ) {
        harness.posts(&target, body);
    }
}
