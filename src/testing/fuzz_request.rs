//! Request heads, split into arbitrary pieces, and the responses to them before a client is admitted.

use super::Input;
use crate::base::ip::ClientAddress;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::broker::{Clock, ListenerCounters, ListenerKey, lane};
use crate::config::{Address, ForwardedHeader, Listener};
use crate::net::client_ip;
use crate::net::http::checks::local_response;
use crate::net::http::request::{
    MAX_BODY, MAX_HEAD, MAX_HEADERS, RequestError, RequestHead, read_body, read_head,
};
use crate::net::http::response::Response;
use crate::net::listener::{ListenerShared, ListenerState};
use crate::net::server_state::ServerState;
use crate::protocols::PROTOCOLS;
use crate::realm::{Method, Protocol};
use crate::testing::harness::RealmHarness;
use async_std::channel;
use futures::AsyncRead;
use futures::channel::mpsc;
use futures::executor::block_on;
use serde_json::json;
use std::io;
use std::iter::Cycle;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::slice::Iter;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Maximum number of requests on one connection in this test.
const REQUESTS: usize = 8;

/// The bytes of a connection, received in pieces.
pub(super) struct Pieces<'a> {
    pub(super) remaining: &'a [u8],
    sizes: Cycle<Iter<'a, u8>>,
}

impl<'a> Pieces<'a> {
    /// Each byte of `sizes` is the length of a piece, minus 1; without any, all bytes are received at once.
    pub(super) fn new(bytes: &'a [u8], sizes: &'a [u8]) -> Self {
        Self {
            remaining: bytes,
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
        let count = size.min(buffer.len()).min(self.remaining.len());
        let (read, remaining) = self.remaining.split_at(count);
        buffer[..count].copy_from_slice(read);
        self.remaining = remaining;
        Poll::Ready(Ok(count))
    }
}

/// Reads requests with their bodies. The pieces in which they are received make no difference, reading stays
/// within its limits, and no response contains a line that the client injected.
pub fn request(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sizes = input.line().unwrap_or_default();
    let bytes = input.bytes(usize::MAX);
    let (requests, at_once) = read_requests(bytes, &[]);
    let (_, in_pieces) = read_requests(bytes, sizes);
    assert_eq!(at_once, in_pieces);
    for (head, body) in &requests {
        check_head(head);
        LISTENERS.with(|listeners| {
            listeners
                .iter()
                .for_each(|listener| check_first_response(head, listener))
        });
        for protocol in PROTOCOLS {
            call_realm(protocol, head, body);
        }
    }
}

/// Reads the requests of a connection. Returns them with a transcript of the connection: the requests, how it
/// ended, and the bytes that were not read.
fn read_requests(bytes: &[u8], sizes: &[u8]) -> (Vec<(RequestHead, Vec<u8>)>, String) {
    let mut stream = Pieces::new(bytes, sizes);
    let (mut requests, mut transcript) = (Vec::new(), String::new());
    let mut already_read = Vec::new();
    let mut memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
    while requests.len() < REQUESTS {
        let start = bytes.len() - already_read.len() - stream.remaining.len();
        let unread = stream.remaining.len();
        let read = block_on(read_head(
            &mut stream,
            std::mem::take(&mut already_read),
            &mut memory,
        ));
        let head = match read {
            Ok((head, rest)) => {
                already_read = rest;
                let end = bytes.len() - already_read.len() - stream.remaining.len();
                assert_well_formed(&bytes[start..end]);
                head
            }
            Err(RequestError::Rejected(response)) => {
                // After a rejected head nothing more is read.
                assert!(unread - stream.remaining.len() <= MAX_HEAD + 1024);
                transcript.push_str(&encode(&response));
                return (requests, transcript);
            }
            Err(RequestError::NoResponse) => {
                transcript.push_str("gone");
                return (requests, transcript);
            }
            Err(RequestError::WrongProtocol(wrong)) => {
                transcript.push_str(&format!("{wrong:?}"));
                return (requests, transcript);
            }
        };
        let length = head.body_length();
        transcript.push_str(&format!("{head:?} {length:?}"));
        let body = match length {
            Ok(length) => block_on(read_body(
                &mut stream,
                &mut already_read,
                length,
                &mut memory,
            )),
            Err(_) => return (requests, transcript),
        };
        let Ok(body) = body else {
            return (requests, transcript);
        };
        assert!(body.len() <= MAX_BODY);
        transcript.push_str(&format!("{body:?}"));
        requests.push((head, body));
    }
    let unread = [already_read.as_slice(), stream.remaining].concat();
    transcript.push_str(&format!("{unread:?}"));
    (requests, transcript)
}

/// Checks that an accepted head ends with an empty line, that its lines end in CRLF, and that it is within
/// the limits.
fn assert_well_formed(head: &[u8]) {
    assert!(head.len() <= MAX_HEAD);
    let head = String::from_utf8_lossy(head);
    let (lines, rest) = head
        .split_once("\r\n\r\n")
        .expect("an accepted head ends with an empty line");
    assert_eq!(rest, "");
    let lines: Vec<&str> = lines.split("\r\n").collect();
    // One empty line may precede the request line (RFC 9112 section 2.2).
    assert!(lines.len() <= 2 + MAX_HEADERS);
    assert!(
        !lines.iter().any(|line| line.contains(['\r', '\n'])),
        "{head:?}"
    );
}

/// Encodes the head of a response, and checks that it contains its own headers and no injected ones.
fn encode(response: &Response) -> String {
    let (head, _) = response.encode("GET");
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = parsed.parse(head.as_bytes());
    assert_eq!(
        status,
        Ok(httparse::Status::Complete(head.len())),
        "{head:?}"
    );
    assert_eq!(parsed.code, Some(response.status));
    let lines = head
        .split("\r\n")
        .filter(|line| line.contains(": "))
        .count();
    assert_eq!(parsed.headers.len(), lines);
    assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{head:?}");
    head
}

/// Checks what holds for every head.
fn check_head(head: &RequestHead) {
    assert!(head.path.starts_with('/'), "{head:?}");
    assert!(head.all("Host").count() <= 1);
    if let Ok(upgrade_response) = head.upgrade() {
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&upgrade_response);
        assert_eq!(
            parsed,
            Ok(httparse::Status::Complete(upgrade_response.len()))
        );
        assert_eq!(response.code, Some(101));
    }
    // A request without a body has the length 0.
    if !head.has_body() {
        assert!(matches!(head.body_length(), Ok(0)));
    }
    let localhost = ClientAddress::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let trusted = ["127.0.0.0/8", "::/0", "unix"].map(|proxy| proxy.parse().expect("proxies"));
    let headers = ForwardedHeader::ALL.into_iter();
    for (header, peer) in headers.flat_map(|it| [(it, localhost), (it, ClientAddress::Unix)]) {
        let client = |trusted| client_ip::client(peer, header, head.all(header.name()), trusted);
        assert_eq!(client(&[]), peer);
        let _ = client(&trusted);
    }
}

thread_local! {
    /// A listener for each protocol.
    static LISTENERS: Vec<ListenerState> = PROTOCOLS
        .iter()
        .enumerate()
        .map(|(index, protocol)| {
            let mut listener = Listener::built_in(protocol);
            // The seeds name this host. Half of the listeners admit every host.
            listener.settings.hosts = (index % 2 == 0).then(|| serde_json::from_value(json!(["h"])).expect("a name"));
            let address = Address::Any(1);
            listener.settings.address = address.clone();
            let (lane, _) = lane();
            let (_, stopping) = channel::bounded(1);
            let (all_gone, _) = mpsc::channel(1);
            let server = Arc::new(ServerState::new(Arc::new(Clock::new()), all_gone));
            let key = ListenerKey::new(index, ListenerCounters::default());
            let shared = ListenerShared::new(key, lane, stopping, &listener.settings);
            ListenerState::new(server, shared, listener, Arc::new(address))
        })
        .collect();
}

/// Checks the response that a listener gives without its realm, if it gives one.
fn check_first_response(head: &RequestHead, listener: &ListenerState) {
    if let Some(response) = local_response(head, listener) {
        encode(&response);
    }
}

/// Passes the request to a realm, as a new connection and as a plain request; it must not panic.
fn call_realm(protocol: &Protocol, head: &RequestHead, body: &[u8]) {
    if !(protocol.matches_path)(&head.path) {
        return;
    }
    let mut harness = RealmHarness::of(protocol);
    let target = format!("{}?{}", head.path, head.query);
    if let Err(rejection) = harness.try_open(1, &target, "127.0.0.1") {
        encode(&Response::new(rejection.status, rejection.text));
    }
    if protocol.methods.contains(&Method::Get) {
        harness.get(&target);
    }
    if let (true, Ok(body)) = (
        protocol.methods.contains(&Method::Post),
        std::str::from_utf8(body),
    ) {
        harness.post(&target, body);
    }
}
