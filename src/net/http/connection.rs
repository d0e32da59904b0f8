//! A client's connection before it is a WebSocket: requests in, responses out, each within its time.

use super::cors::with_cors_headers;
use super::request::{RequestError, RequestHead, read_body, read_head};
use super::response::Response;
use crate::base::ip::ClientAddress;
use crate::base::log_escape::Quoted;
use crate::base::memory_budget::MemoryReservation;
use crate::broker::{MAX_PONG_TIME, time_to_receive};
use crate::net::client_ip;
use crate::net::listener::ListenerState;
use crate::net::notice_lines::ClientName;
use crate::net::notice_log::Notice;
use crate::net::proxy_protocol::{ProxyError, read_proxy_header};
use crate::net::socket::ClientSocket;
use async_std::future::timeout;
use futures::AsyncWriteExt;
use futures::future::{Either, select};
use std::collections::VecDeque;
use std::io::ErrorKind::TimedOut;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

/// The longest time that writing a response may take. 30 s suffice for 200 KB, the ids of a full PeerJS
/// server, at 56 kbit/s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Response to a client that waits for it before it sends a body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection on which HTTP is spoken.
pub(crate) struct HttpConnection<'a> {
    pub(crate) socket: ClientSocket,
    /// The address that the connection comes from, by its PROXY header if there is one. It may be that of a proxy.
    pub(super) peer: ClientAddress,
    /// Whether the peer is a trusted proxy, which may send requests of several clients.
    pub(crate) is_proxied: bool,
    /// Whether the connection began with a PROXY header.
    pub(crate) has_proxy_header: bool,
    /// What is left of the `handshake_timeout`.
    pub(super) time_left: Duration,
    /// The client's address, as far as it is known: it may be in the headers of a request.
    pub(crate) address: ClientAddress,
    /// Bytes that were read after the last request.
    pub(crate) already_read: Vec<u8>,
    /// Whether a request was answered, after which a client need not send another one.
    pub(super) has_answered: bool,
    /// Memory reserved for the request that is being read.
    pub(super) memory: MemoryReservation,
    pub(crate) listener: &'a ListenerState,
}

impl<'a> HttpConnection<'a> {
    pub(crate) fn new(
        socket: ClientSocket,
        peer: ClientAddress,
        listener: &'a ListenerState,
    ) -> Self {
        let settings = &listener.settings;
        Self {
            socket,
            peer,
            is_proxied: client_ip::is_trusted(peer, &settings.trusted_proxies),
            has_proxy_header: false,
            time_left: settings.handshake_timeout,
            address: peer,
            already_read: Vec::new(),
            has_answered: false,
            memory: MemoryReservation::new(&listener.server.request_budget, 0),
            listener,
        }
    }

    /// Reads the PROXY header, if the listener expects one of this peer. Returns `None` if the connection is to be
    /// closed, as there is none.
    ///
    /// After a header without an address the peer is the proxy, but what its requests forward is not believed: the
    /// proxy may pass on a client that it does not know.
    pub(crate) async fn read_proxy_header(&mut self) -> Option<()> {
        let (listener, settings) = (self.listener, &self.listener.settings);
        if !(settings.proxy_protocol && self.is_proxied) {
            return Some(());
        }
        let start = Instant::now();
        let read = pin!(async { Ok(read_proxy_header(&mut self.socket).await) });
        let wait = Wait {
            time: self.time_left,
            silent: Some((self.peer, "PROXY header")),
        };
        let header = in_time(read, wait, listener).await.ok()?;
        self.time_left = self.time_left.saturating_sub(start.elapsed());
        match header {
            Ok((source, rest)) => {
                let is_trusted =
                    |address| client_ip::is_trusted(address, &settings.trusted_proxies);
                let source = source.map(ClientAddress::from);
                self.is_proxied = source.is_some_and(is_trusted);
                self.peer = source.unwrap_or(self.peer);
                self.address = self.peer;
                self.has_proxy_header = true;
                self.already_read = rest;
                Some(())
            }
            Err(ProxyError::Unused) => None,
            Err(error) => {
                let details = || error.to_string();
                listener.log_notice(Notice::ProxyHeader, self.peer, details);
                None
            }
        }
    }

    /// Takes the client's address from the head of its request, if that comes from a trusted proxy.
    pub(crate) fn identify_client(&mut self, head: &RequestHead) {
        let settings = &self.listener.settings;
        let header = settings.forwarded_header;
        self.address = match self.is_proxied {
            true => {
                let values = head.all(header.name());
                client_ip::client(self.peer, header, values, &settings.trusted_proxies)
            }
            false => self.peer,
        };
    }

    /// Forgets the client's address, before the request of another client may follow.
    pub(crate) fn forget_client(&mut self) {
        self.address = self.peer;
    }

    /// Counts the head of the last request no longer. Its client waits for the realm's decision, perhaps for half a
    /// minute, and then for its response to be read: others must not be refused for that.
    pub(crate) fn release_memory(&mut self) {
        self.memory.set(0);
    }

    /// Reads the head of the next request.
    ///
    /// # Errors
    /// Those of [`read_head`], and [`RequestError::NoResponse`] after the `handshake_timeout`.
    pub(crate) async fn read_head(&mut self) -> Result<RequestHead, RequestError> {
        let already_read = std::mem::take(&mut self.already_read);
        let read = pin!(read_head(&mut self.socket, already_read, &mut self.memory));
        let wait = Wait {
            time: self.time_left,
            silent: (!self.has_answered).then_some((self.address, "request")),
        };
        let (head, rest) = in_time(read, wait, self.listener).await?;
        self.time_left = self.listener.settings.handshake_timeout;
        self.already_read = rest;
        Ok(head)
    }

    /// Reads the body of a request, of this length in bytes.
    ///
    /// # Errors
    /// Those of [`read_body`], and [`RequestError::NoResponse`] after the `handshake_timeout`.
    pub(crate) async fn read_body(
        &mut self,
        head: &RequestHead,
        length: usize,
    ) -> Result<Vec<u8>, RequestError> {
        if head.expects_continue() && self.already_read.len() < length {
            let write = async {
                self.socket.write_all(CONTINUE).await?;
                self.socket.flush().await
            };
            write.await.map_err(|_| RequestError::NoResponse)?;
        }
        let read = pin!(read_body(
            &mut self.socket,
            &mut self.already_read,
            length,
            &mut self.memory,
        ));
        let wait = Wait {
            time: self.listener.settings.handshake_timeout,
            silent: Some((self.address, "request")),
        };
        in_time(read, wait, self.listener).await
    }

    /// Writes a response after which the client may send another request.
    pub(crate) async fn respond(
        &mut self,
        head: &RequestHead,
        response: Response,
    ) -> std::io::Result<()> {
        self.log(Some(head), &response);
        self.has_answered = true;
        let response = with_cors_headers(response.keep_alive(), Some(head), self.listener);
        self.write(&response, &head.method).await
    }

    /// Writes the last response, and closes the connection once the client has read it, or after the
    /// `close_timeout`. `head` is `None` if no request could be read.
    pub(crate) async fn respond_and_close(self, head: Option<&RequestHead>, response: Response) {
        self.log(head, &response);
        self.close_with(head, response).await;
    }

    /// Does what [`HttpConnection::respond_and_close`] does, for a response that is logged already.
    pub(super) async fn close_with(mut self, head: Option<&RequestHead>, response: Response) {
        let response = with_cors_headers(response, head, self.listener);
        let method = head.map_or("", |head| &head.method);
        if self.write(&response, method).await.is_ok() {
            let close_timeout = self.listener.settings.close_timeout;
            let status = self.socket.status();
            let time = status.time_to_answer(close_timeout, MAX_PONG_TIME);
            // Pinned as in `in_time`.
            let _ = timeout(time, pin!(self.socket.linger())).await;
        }
    }

    /// Refuses a client before its first request. On a listener with TLS it gets no response: that would cost a handshake,
    /// which a client that is refused for its address must not cause again and again.
    pub(crate) async fn refuse(self, response: Response) {
        if self.listener.shared.tls.get().is_some() {
            self.log(None, &response);
        } else {
            self.respond_and_close(None, response).await;
        }
    }

    fn log(&self, head: Option<&RequestHead>, response: &Response) {
        let name = self.listener.protocol_name();
        let reason = response.log_reason.iter();
        let reason: String = reason.flat_map(|reason| [": ", reason]).collect();
        log::debug!(
            "{name}: the response to {} is {}{reason}",
            ClientName(self.listener.logged_address(self.address)),
            response.status
        );
        if response.status >= 400 {
            let notice = Notice::Refused(response.status);
            let details = || refusal_details(head, response);
            self.listener.log_notice(notice, self.address, details);
        }
    }

    /// Writes a response. It fails if the client reads nothing for the `close_timeout`, or not all
    /// within [`RESPONSE_TIMEOUT`]; both are extended by the time that a slow line needs.
    async fn write(&mut self, response: &Response, method: &str) -> std::io::Result<()> {
        let (head, body) = response.encode(method);
        let length = head.len() + body.iter().map(|piece| piece.len()).sum::<usize>();
        let close_timeout = self.listener.settings.close_timeout;
        let write_all = async {
            let pieces = std::iter::once(head.as_str()).chain(body);
            let mut pieces: VecDeque<&[u8]> = pieces.map(str::as_bytes).collect();
            while let Some(first) = pieces.front() {
                let second = pieces.get(1).copied().unwrap_or_default();
                let slices = [IoSlice::new(first), IoSlice::new(second)];
                let status = self.socket.status();
                let time = status.time_to_answer(close_timeout, MAX_PONG_TIME);
                let write = timeout(time, self.socket.write_vectored(&slices)).await;
                let mut written = write.unwrap_or_else(|_| Err(TimedOut.into()))?;
                while let Some(piece) = pieces.pop_front() {
                    if let Some(left @ [_, ..]) = piece.get(written..) {
                        pieces.push_front(left);
                        break;
                    }
                    written -= piece.len();
                }
            }
            self.socket.flush().await
        };
        let time = time_to_receive(length, RESPONSE_TIMEOUT, MAX_PONG_TIME);
        // Pinned as in `in_time`.
        let written = timeout(time, pin!(write_all)).await;
        // The broker, which has the traffic of connections reported, does not know this one, and it may stay open.
        self.socket.status().traffic.report();
        written.unwrap_or_else(|_| Err(TimedOut.into()))
    }
}

/// Returns the details of a refusal for the log. Queries are left out, as tokens stand in them.
fn refusal_details(head: Option<&RequestHead>, response: &Response) -> String {
    let text = response.log_reason.clone();
    let text = text.unwrap_or_else(|| response.text());
    let Some(head) = head else {
        return text;
    };
    let path = Quoted(&head.path);
    let header = |name| Quoted(head.first(name).unwrap_or_default());
    match response.status {
        403 => {
            let (origin, host) = (header("Origin"), header("Host"));
            format!("origin {origin}, host {host}, path {path}: {text}")
        }
        // The texts of these have the path or the Host header.
        404 => format!("path {path}"),
        426 => format!("path {path} without a WebSocket handshake"),
        _ => format!("path {path}: {text}"),
    }
}

/// How long to wait for a part of a request.
pub(super) struct Wait {
    /// What is left of the `handshake_timeout`.
    pub(super) time: Duration,
    /// The address to log then, and what did not come, if the client should have sent something.
    pub(super) silent: Option<(ClientAddress, &'static str)>,
}

/// Waits for a part of a request. A client that takes longer receives no response, and neither does any client once the
/// daemon stops.
///
/// The caller pins what it waits for: a future that is passed to an async function by value takes room in it twice, as
/// the argument and as what is awaited.
pub(super) async fn in_time<T>(
    read: Pin<&mut impl Future<Output = Result<T, RequestError>>>,
    wait: Wait,
    listener: &ListenerState,
) -> Result<T, RequestError> {
    let read = timeout(wait.time, read);
    match select(pin!(read), pin!(listener.shared.stopping.recv())).await {
        Either::Left((Ok(result), _)) => result,
        Either::Left((Err(_), _)) => {
            if let Some((client, what)) = wait.silent {
                listener.log_notice(Notice::TimedOut, client, || {
                    format!("no whole {what} came within handshake_timeout")
                });
            }
            Err(RequestError::NoResponse)
        }
        Either::Right(_) => Err(RequestError::NoResponse),
    }
}
