//! Request heads, and the upgrade to a WebSocket (RFC 9112; RFC 6455 section 4.2).

use crate::base::memory_budget::MemoryReservation;
use crate::net::http::response::Response;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use futures::io::{AsyncRead, AsyncReadExt};

/// The largest request head, in bytes (rulings, "wrong path").
pub(crate) const MAX_HEAD: usize = 8 * 1024;

/// The largest body of a request, in bytes.
pub(crate) const MAX_BODY: usize = 4 * 1024;

/// What a request may take of memory without being counted, in bytes: most are smaller.
const USUAL_REQUEST: usize = 2 * 1024;

/// The most header lines in one.
pub(crate) const MAX_HEADERS: usize = 64;

/// A request without its body.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    /// The path as it was sent.
    pub(crate) path: String,
    /// What stands behind the `?`.
    pub(crate) query: String,
    minor_version: u8,
    headers: Vec<(String, String)>,
}

/// Why there is no request.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The client went, or its connection broke.
    Gone,
    /// What it sent is not a request that we would read; this is what to answer.
    Refused(Response),
}

/// Reads one request head, the beginning of which may be `already_read`. What came behind it is
/// returned, too: a client may send its first frames with the handshake, or its next request,
/// without waiting for the answer.
///
/// # Errors
/// 400 for what is no request, 431 for one that is too large, 503 when `memory` has no room for it.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    already_read: Vec<u8>,
    memory: &mut MemoryReservation,
) -> Result<(RequestHead, Vec<u8>), RequestError> {
    let mut bytes = already_read;
    let mut chunk = [0; 1024];
    let mut unseen = 0;
    loop {
        let end =
            find(bytes.get(unseen..).unwrap_or_default(), b"\r\n\r\n").map(|at| unseen + at + 4);
        if end.unwrap_or(bytes.len()) > MAX_HEAD {
            let text = format!("the request head is larger than {MAX_HEAD} bytes");
            return Err(RequestError::Refused(Response::new(431, text)));
        }
        if let Some(end) = end {
            let rest = bytes.split_off(end);
            return parse(&bytes)
                .map(|head| (head, rest))
                .map_err(RequestError::Refused);
        }
        // The end may be cut in two by the reads.
        unseen = bytes.len().saturating_sub(3);
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            return Err(RequestError::Gone);
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        reserve(memory, bytes.len())?;
    }
}

/// Takes room for a request of which so much is here.
fn reserve(memory: &mut MemoryReservation, bytes: usize) -> Result<(), RequestError> {
    memory.set(bytes.saturating_sub(USUAL_REQUEST));
    if memory.bytes() > 0 && memory.budget().is_exceeded() {
        return Err(RequestError::Refused(Response::unavailable(
            503,
            "the server is short of memory",
        )));
    }
    Ok(())
}

/// Reads a body of this length, the beginning of which may be in `already_read`. What comes behind it
/// is left there.
///
/// # Errors
/// The client went, or its connection broke; 503 when `memory` has no room for it.
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
        .map_err(|_| RequestError::Gone)?;
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
    // Allowed by RFC 9112 section 2.2, and taken for the end of a head by some and not by others.
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
        Ok(httparse::Status::Partial) => return Err(malformed("the head is not complete")),
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
        let value = String::from_utf8_lossy(header.value.trim_ascii());
        (header.name.to_owned(), value.into_owned())
    });
    let head = RequestHead {
        method: request.method.unwrap_or_default().to_owned(),
        path: origin_form(path)
            .ok_or_else(|| malformed("the request target is no path"))?
            .to_owned(),
        query: query.to_owned(),
        minor_version: request.version.unwrap_or_default(),
        headers: headers.collect(),
    };
    if head.all("Host").count() > 1 || head.minor_version > 0 && head.first("Host").is_none() {
        return Err(malformed("there must be one Host header"));
    }
    Ok(head)
}

/// The path of a target; that of a proxy's request names scheme and host before it.
fn origin_form(target: &str) -> Option<&str> {
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
    /// The values of all headers of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        let named = move |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|(_, value)| value.as_str())
    }

    /// The value of the first header of a name.
    pub(crate) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
    }

    /// Whether a body follows. Only a POST may have one; as frames of a WebSocket it would be
    /// something that a proxy before us did not see as such.
    pub(crate) fn has_body(&self) -> bool {
        self.all("Content-Length").any(|length| length != "0")
            || self.first("Transfer-Encoding").is_some()
    }

    /// Whether the client waits for a word before it sends the body (RFC 9110 section 10.1.1).
    pub(crate) fn expects_continue(&self) -> bool {
        self.minor_version > 0 && self.has_token("Expect", "100-continue")
    }

    /// How long the body is that follows (RFC 9112 section 6.3).
    ///
    /// # Errors
    /// 400 if that cannot be told for sure, 411 if it has no length, 413 if it is too large.
    pub(crate) fn body_length(&self) -> Result<usize, Response> {
        if self.first("Transfer-Encoding").is_some() {
            return Err(Response::new(411, "a body needs a Content-Length here"));
        }
        let mut lengths = self.all("Content-Length");
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => return Ok(0),
            (Some(length), None) if is_number(length) => length.parse(),
            _ => {
                let text = "malformed request: there must be one Content-Length, a number";
                return Err(Response::new(400, text));
            }
        };
        let fits = length.ok().filter(|length| *length <= MAX_BODY);
        fits.ok_or_else(|| Response::new(413, format!("the body is larger than {MAX_BODY} bytes")))
    }

    /// Whether the client wants to send another request on this connection (RFC 9112 section 9.3).
    pub(crate) fn wants_keep_alive(&self) -> bool {
        self.minor_version > 0 && !self.has_token("Connection", "close")
    }

    /// Whether this asks for a WebSocket, rightly or wrongly.
    pub(crate) fn wants_upgrade(&self) -> bool {
        self.has_token("Upgrade", "websocket")
    }

    /// Checks the headers of an opening handshake (RFC 6455 section 4.2.1) and makes the answer
    /// to it (section 4.2.2).
    ///
    /// # Errors
    /// 400 or 426, saying which header is wrong.
    pub(crate) fn upgrade(&self) -> Result<Vec<u8>, Response> {
        let wrong = |what: &str| {
            Err(Response::new(
                400,
                format!("no WebSocket handshake: {what}"),
            ))
        };
        if self.minor_version == 0 {
            return wrong("it needs HTTP/1.1");
        }
        if !self.has_token("Connection", "Upgrade") {
            return wrong("the Connection header must contain Upgrade");
        }
        if self.all("Sec-WebSocket-Version").ne(["13"]) {
            let answer = Response::new(
                426,
                "the Sec-WebSocket-Version header must be 13".to_owned(),
            );
            return Err(answer
                .with("Sec-WebSocket-Version", "13")
                .with("Upgrade", "websocket"));
        }
        let mut keys = self.all("Sec-WebSocket-Key");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return wrong("there must be one Sec-WebSocket-Key header");
        };
        if !is_key(key) {
            return wrong("the Sec-WebSocket-Key header must be 16 bytes in base64");
        }
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        Ok(answer.into_bytes())
    }
}

/// 16 bytes in base64 are 22 letters, the last of which holds two bits, and `==`.
fn is_key(key: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let letters = key.strip_suffix("==").unwrap_or_default();
    letters.len() == 22 && letters.bytes().all(is_letter) && letters.ends_with(['A', 'Q', 'g', 'w'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory_budget::MemoryBudget;
    use futures::executor::block_on;
    use proptest::prelude::*;

    const HANDSHAKE: &str = "GET /ws?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn read(mut bytes: &[u8]) -> Result<(RequestHead, Vec<u8>), RequestError> {
        block_on(read_head(&mut bytes, Vec::new(), &mut memory(0)))
    }

    /// Room for so many bytes; 0: for any.
    fn memory(limit: usize) -> MemoryReservation {
        MemoryReservation::new(&MemoryBudget::new(limit), 0)
    }

    fn head(text: &str) -> RequestHead {
        read(text.as_bytes()).expect("a request").0
    }

    fn refused(text: &str) -> u16 {
        match read(text.as_bytes()) {
            Err(RequestError::Refused(answer)) => answer.status,
            other => panic!("{text:?} is not refused: {other:?}"),
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        // RFC 6455 section 1.3.
        let answer = String::from_utf8(head(HANDSHAKE).upgrade().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.ends_with("\r\n\r\n"));
    }

    #[test]
    fn path_query_and_headers_are_read_and_what_follows_is_kept() {
        let (head, rest) = read(format!("{HANDSHAKE}frames").as_bytes()).unwrap();
        assert_eq!((head.path.as_str(), head.query.as_str()), ("/ws", "a=b"));
        assert_eq!(head.first("host"), Some("h"));
        assert_eq!(rest, b"frames");
    }

    #[test]
    fn a_large_request_needs_room_and_a_usual_one_does_not() {
        let refused = |read: Result<(), RequestError>| match read {
            Err(RequestError::Refused(answer)) => assert_eq!(answer.status, 503),
            other => panic!("{other:?}"),
        };
        let request = |size| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
                "x".repeat(size)
            )
        };
        let read = |size, memory: &mut MemoryReservation| {
            let request = request(size);
            block_on(read_head(&mut request.as_bytes(), Vec::new(), memory)).map(|_| ())
        };
        let mut memory = memory(1000);
        read(1900, &mut memory).unwrap();
        assert_eq!(memory.bytes(), 0);
        read(2900, &mut memory).unwrap();
        assert!((800..1000).contains(&memory.bytes()));
        refused(read(3100, &mut memory));
        let others = MemoryReservation::new(memory.budget(), 2000);
        read(1900, &mut memory).unwrap();
        drop(others);
        let (mut body, mut none) = (&[0; 4000][..], Vec::new());
        let body = block_on(read_body(&mut body, &mut none, 4000, &mut memory));
        refused(body.map(|_| ()));
    }

    #[test]
    fn a_proxys_request_with_scheme_and_host_is_read() {
        assert_eq!(
            head("GET http://h/ws HTTP/1.1\r\nHost: h\r\n\r\n").path,
            "/ws"
        );
        assert_eq!(head("GET WSS://h HTTP/1.1\r\nHost: h\r\n\r\n").path, "/");
        assert_eq!(refused("GET ftp://h/ws HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    }

    #[test]
    fn what_is_no_request_is_malformed() {
        for text in [
            "\u{16}\u{3}\u{1}\r\n\r\n",
            "GET\r\n\r\n",
            "GET /ws\r\n\r\n",
            "GET ws HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /ws HTTP/2.0\r\nHost: h\r\n\r\n",
            "GET /ws HTTP/1.1\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost: h\r\n folded: line\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
            "GET /ws HTTP/1.1\nHost: h\n\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n",
            "\r\n\r\nGET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(refused(text), 400, "{text:?}");
        }
    }

    #[test]
    fn a_body_is_noticed() {
        let with = |headers: &str| head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n"));
        for headers in [
            "Content-Length: 5",
            "Content-Length: 0, 5",
            "Content-Length: 0\r\nContent-Length: 9",
            "Transfer-Encoding: chunked",
        ] {
            assert!(with(headers).has_body(), "{headers}");
        }
        assert!(!with("Content-Length: 0").has_body());
    }

    #[test]
    fn the_length_of_a_body_is_told_for_sure_or_not_at_all() {
        let length = |headers: &str| {
            let head = head(&format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
            head.body_length().map_err(|answer| answer.status)
        };
        assert_eq!(length(""), Ok(0));
        assert_eq!(length("Content-Length: 0\r\n"), Ok(0));
        assert_eq!(length("Content-Length: 4096\r\n"), Ok(4096));
        for (headers, status) in [
            ("Content-Length: 4097\r\n", 413),
            ("Content-Length: 99999999999999999999999\r\n", 413),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: \r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 411),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 411),
        ] {
            assert_eq!(length(headers), Err(status), "{headers}");
        }
    }

    #[test]
    fn a_body_is_read_to_its_end_and_what_follows_is_kept() {
        for already in 0..=7 {
            let (mut read, mut stream) = (b"bodynext"[..already].to_vec(), &b"bodynext"[already..]);
            let body = block_on(read_body(&mut stream, &mut read, 4, &mut memory(0))).unwrap();
            assert_eq!(body, b"body");
            assert_eq!([&read, stream].concat(), b"next");
        }
        let gone = block_on(read_body(
            &mut &b"bo"[..],
            &mut Vec::new(),
            4,
            &mut memory(0),
        ));
        assert!(matches!(gone, Err(RequestError::Gone)));
    }

    #[test]
    fn a_head_may_have_8_kib_and_64_headers_and_no_more() {
        let with = |padding: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
                "x".repeat(padding)
            )
        };
        let most = MAX_HEAD - with(0).len();
        head(&with(most));
        assert_eq!(refused(&with(most + 1)), 431);
        assert_eq!(refused(&"x".repeat(100_000)), 431);
        let with = |headers: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
                "X: y\r\n".repeat(headers - 1)
            )
        };
        head(&with(64));
        assert_eq!(refused(&with(65)), 431);
    }

    #[test]
    fn a_client_that_goes_before_the_end_of_the_head_gets_no_answer() {
        assert!(matches!(
            read(b"GET / HTTP/1.1\r\n"),
            Err(RequestError::Gone)
        ));
        assert!(matches!(read(b""), Err(RequestError::Gone)));
    }

    #[test]
    fn a_handshake_with_a_wrong_missing_or_doubled_header_is_refused() {
        let version = "Sec-WebSocket-Version: 13\r\n";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (from, to, status) in [
            ("Connection: keep-alive, Upgrade\r\n", "", 400),
            (
                "Connection: keep-alive, Upgrade\r\n",
                "Connection: Upgraded\r\n",
                400,
            ),
            (version, "", 426),
            (version, "Sec-WebSocket-Version: 8\r\n", 426),
            (
                version,
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n",
                426,
            ),
            (key, "", 400),
            (key, "Sec-WebSocket-Key: short==\r\n", 400),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n", 400),
            (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n", 400),
            (key, &key.repeat(2), 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
        ] {
            assert!(HANDSHAKE.contains(from));
            let answer = head(&HANDSHAKE.replace(from, to)).upgrade().unwrap_err();
            assert_eq!(answer.status, status, "{to:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = bytes;
            bytes.extend(b"\r\n\r\n");
            let _ = read(&bytes);
        }

        #[test]
        fn no_damaged_handshake_makes_it_panic(at in 0usize..180, byte in any::<u8>()) {
            let mut bytes = HANDSHAKE.as_bytes().to_vec();
            let at = at.min(bytes.len() - 5);
            bytes[at] = byte;
            if let Ok((head, _)) = read(&bytes) {
                let _ = head.upgrade();
            }
        }
    }
}
