//! Reading HTTP requests (RFC 9112), and the opening handshake of a WebSocket (RFC 6455 section 4.2).

use crate::base::memory_budget::MemoryReservation;
use crate::net::http::response::Response;
use crate::net::proxy_protocol::{is_proxy_header, may_become_v2};
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use futures::io::{AsyncRead, AsyncReadExt};

/// The largest request head, in bytes (rulings, "wrong path"). It must be held whole before it is checked.
/// Login cookies of the same domain take 8 KiB and more; the npm package `peer` accepts 16 KiB, too.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// The largest body of a request, in bytes.
pub(crate) const MAX_BODY: usize = 4 * 1024;

/// Bytes of a request that are not counted in the memory budget. Most requests are smaller.
const UNCOUNTED_BYTES: usize = 2 * 1024;

/// The most header lines in a request head. Browsers send about 20, and each proxy adds a few.
pub(crate) const MAX_HEADERS: usize = 100;

/// The head of a request: the request line and the headers.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// The path as it was sent.
    pub(crate) path: String,
    /// The part after the `?` as it was sent; empty if there is none.
    pub(crate) query: String,
    minor_version: u8,
    headers: Vec<(String, String)>,
}

/// The reason why a request could not be read.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// No response can or need be sent: the client has disconnected or did not send the request within the
    /// `handshake_timeout`, or the daemon is stopping.
    NoResponse,
    /// The request is malformed or exceeds a limit; this is the response.
    Rejected(Response),
    /// The client speaks another protocol, and would not understand a response.
    WrongProtocol(WrongProtocol),
}

/// A protocol that clients speak by mistake to a plain port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongProtocol {
    /// `https://` or `wss://`.
    Tls,
    /// HTTP/2 without TLS.
    Http2,
    /// A PROXY header that is not expected, after which something else would follow.
    ProxyHeader,
}

impl WrongProtocol {
    /// Returns the protocol that these first bytes are of, if it is one of these.
    fn detect(bytes: &[u8]) -> Option<Self> {
        // The type of a record with a handshake (RFC 8446 section 5.1). No method begins with it.
        const TLS_HANDSHAKE: u8 = 0x16;
        // The beginning of the connection preface (RFC 9113 section 3.4).
        const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
        match bytes.first() {
            Some(&TLS_HANDSHAKE) => Some(Self::Tls),
            _ if bytes.starts_with(HTTP2_PREFACE) => Some(Self::Http2),
            _ => is_proxy_header(bytes).then_some(Self::ProxyHeader),
        }
    }
}

/// Reads one request head, the beginning of which may be in `already_read`. Returns the bytes after
/// the head, too: a client may send its first frames or its next request without waiting for the
/// response.
///
/// # Errors
/// 400 for a malformed request, 431 for one that is too large, 503 if the budget of `memory` is
/// exceeded; [`RequestError::WrongProtocol`] for TLS, HTTP/2 and a PROXY header.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    already_read: Vec<u8>,
    memory: &mut MemoryReservation,
) -> Result<(RequestHead, Vec<u8>), RequestError> {
    let mut bytes = already_read;
    let mut chunk = [0; 1024];
    let mut searched = 0;
    loop {
        if let Some(wrong) = WrongProtocol::detect(&bytes) {
            return Err(RequestError::WrongProtocol(wrong));
        }
        let is_undecided = may_become_v2(&bytes);
        let unsearched = bytes.get(searched..).unwrap_or_default();
        let end = find(unsearched, b"\r\n\r\n").map(|at| searched + at + 4);
        let end = end.filter(|_| !is_undecided);
        if end.unwrap_or(bytes.len()) > MAX_HEAD {
            let text = format!("the request head is larger than {MAX_HEAD} bytes");
            return Err(RequestError::Rejected(Response::new(431, text)));
        }
        if let Some(end) = end {
            let rest = bytes.split_off(end);
            return parse(&bytes)
                .map(|head| (head, rest))
                .map_err(RequestError::Rejected);
        }
        // The blank line that ends the head may have begun in the last 3 bytes.
        searched = match is_undecided {
            true => 0,
            false => bytes.len().saturating_sub(3),
        };
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            return Err(RequestError::NoResponse);
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        reserve(memory, bytes.len())?;
    }
}

/// Reserves memory for a request of this many bytes.
///
/// # Errors
/// 503 if the budget is exceeded and the request is not small.
fn reserve(memory: &mut MemoryReservation, bytes: usize) -> Result<(), RequestError> {
    memory.set(bytes.saturating_sub(UNCOUNTED_BYTES));
    if memory.bytes() > 0 && memory.budget().is_exceeded() {
        let response = Response::unavailable(503, "the server is short of memory, try again later");
        return Err(RequestError::Rejected(response));
    }
    Ok(())
}

/// Reads a body of this length in bytes, the beginning of which may be in `already_read`. Leaves the
/// bytes after the body there.
///
/// # Errors
/// [`RequestError::NoResponse`], or 503 if the budget of `memory` is exceeded.
pub(crate) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    already_read: &mut Vec<u8>,
    length: usize,
    memory: &mut MemoryReservation,
) -> Result<Vec<u8>, RequestError> {
    reserve(memory, length)?;
    let mut body = std::mem::take(already_read);
    *already_read = body.split_off(length.min(body.len()));
    let read = body.len();
    body.resize(length, 0);
    let rest = body.get_mut(read..).unwrap_or_default();
    stream
        .read_exact(rest)
        .await
        .map_err(|_| RequestError::NoResponse)?;
    Ok(body)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

fn parse(bytes: &[u8]) -> Result<RequestHead, Response> {
    let malformed = |what: &str| Response::new(400, format!("malformed request: {what}"));
    // RFC 9112 section 2.2 allows a bare LF, but servers disagree on whether it ends a head: a proxy
    // in front of this server could see other requests than this server does.
    if bytes
        .split(|&byte| byte == b'\n')
        .rev()
        .skip(1)
        .any(|line| !line.ends_with(b"\r"))
    {
        return Err(malformed("each line must end with CR LF"));
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed("the head is incomplete")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Response::new(
                431,
                format!("the request has more than {MAX_HEADERS} headers"),
            ));
        }
        Err(error) => return Err(malformed(&error.to_string())),
    }
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = request.headers.iter().map(|header| {
        let value = header.value.trim_ascii();
        // The lossy conversion looks at each byte, and is for the few values that need it.
        let value = match std::str::from_utf8(value) {
            Ok(value) => value.to_owned(),
            Err(_) => String::from_utf8_lossy(value).into_owned(),
        };
        (header.name.to_owned(), value)
    });
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        path: target_path(path)
            .ok_or_else(|| {
                malformed("the request target must be a path or an http(s) or ws(s) URL")
            })?
            .to_owned(),
        query: query.to_owned(),
        minor_version: request.version.unwrap_or_default(),
        headers: headers.collect(),
    };
    if head.all("Host").count() > 1 || head.minor_version > 0 && head.first("Host").is_none() {
        return Err(malformed("there must be exactly one Host header"));
    }
    Ok(head)
}

/// Returns the path of a request target without its query. A target for a proxy has scheme and host
/// before it (RFC 9112 section 3.2.2). `None` if it is neither.
fn target_path(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return None;
    }
    Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"))
}

impl RequestHead {
    /// Returns the values of all headers with a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the value of the first header with a name.
    pub(crate) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Returns whether a header that holds a comma-separated list contains a token.
    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// Returns whether a body follows. Only a POST may have one. After an opening handshake this server would
    /// read it as frames, and a proxy in front of this server as a body.
    pub(crate) fn has_body(&self) -> bool {
        self.all("Content-Length").any(|length| length != "0")
            || self.first("Transfer-Encoding").is_some()
    }

    /// Returns whether the client waits for a 100 response before it sends the body (RFC 9110 section
    /// 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.minor_version > 0 && self.has_token("Expect", "100-continue")
    }

    /// Returns the length in bytes of the body that follows (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// 400 if the length is ambiguous, 411 if it is not given, 413 if the body is too large.
    pub(crate) fn body_length(&self) -> Result<usize, Response> {
        if self.first("Transfer-Encoding").is_some() {
            return Err(Response::new(
                411,
                "the request body must have a Content-Length",
            ));
        }
        let mut lengths = self.all("Content-Length");
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => return Ok(0),
            (Some(length), None) if is_number(length) => length.parse(),
            _ => {
                let text = "malformed request: there must be exactly one Content-Length, a number";
                return Err(Response::new(400, text));
            }
        };
        let fits = length.ok().filter(|length| *length <= MAX_BODY);
        fits.ok_or_else(|| {
            Response::new(
                413,
                format!("the request body is larger than {MAX_BODY} bytes"),
            )
        })
    }

    /// Returns whether the client may send another request on this connection (RFC 9112 section 9.3).
    pub(crate) fn wants_keep_alive(&self) -> bool {
        self.minor_version > 0 && !self.has_token("Connection", "close")
    }

    /// Returns whether the request came over HTTP/1.0.
    pub(crate) fn is_http_1_0(&self) -> bool {
        self.minor_version == 0
    }

    /// Returns the first subprotocol that a handshake offers (RFC 6455 section 4.1, item 10). What is not a
    /// token is none.
    fn first_subprotocol(&self) -> Option<&str> {
        self.all("Sec-WebSocket-Protocol")
            .flat_map(|value| value.split(','))
            .map(str::trim_ascii)
            .find(|offered| is_token(offered))
    }

    /// Returns whether the request was meant as an opening handshake, although a proxy may have dropped its
    /// Upgrade header.
    pub(crate) fn has_websocket_key(&self) -> bool {
        self.first("Sec-WebSocket-Key").is_some()
    }

    /// Returns whether the request asks for a WebSocket, correctly or not.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.has_token("Upgrade", "websocket")
    }

    /// Checks the headers of an opening handshake (RFC 6455 section 4.2.1) and returns the response to
    /// it (section 4.2.2).
    ///
    /// # Errors
    /// 400 or 426, naming the header that is wrong.
    pub(crate) fn upgrade(&self) -> Result<Vec<u8>, Response> {
        let malformed = |what: &str| {
            Err(Response::new(
                400,
                format!("malformed WebSocket handshake: {what}"),
            ))
        };
        if !self.has_token("Connection", "Upgrade") {
            return malformed("the Connection header must contain Upgrade");
        }
        if self.all("Sec-WebSocket-Version").ne(["13"]) {
            let response = Response::new(426, "the Sec-WebSocket-Version header must be 13");
            return Err(response
                .with_header("Sec-WebSocket-Version", "13")
                .with_header("Upgrade", "websocket"));
        }
        let mut keys = self.all("Sec-WebSocket-Key");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return malformed("there must be exactly one Sec-WebSocket-Key header");
        };
        if !is_key(key) {
            return malformed("the Sec-WebSocket-Key header must be 16 bytes in base64");
        }
        let accept = derive_accept_key(key.as_bytes());
        // No protocol gives a subprotocol a meaning, but clients that offer some fail without an answer.
        let subprotocol = self.first_subprotocol().into_iter();
        let subprotocol: String = subprotocol
            .flat_map(|offered| ["Sec-WebSocket-Protocol: ", offered, "\r\n"])
            .collect();
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{subprotocol}\r\n"
        );
        Ok(response.into_bytes())
    }
}

/// Returns whether a key is 22 letters of base64 and `==`. The last letter holds 2 bits of the 16 bytes; some
/// clients set the other 4.
fn is_key(key: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let letters = key.strip_suffix("==").unwrap_or_default();
    letters.len() == 22 && letters.bytes().all(is_letter)
}

/// Returns whether a text is a token (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let is_of_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_of_token)
}

#[cfg(test)]
mod tests;
