//! A blocking client for WebSockets and plain HTTP. Each read and write has a deadline.

use super::DEADLINE;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Bytes, Error, HandshakeError, Message, WebSocket};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// A WebSocket handshake with Workspace: the bytes of the request.
pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Returns [`HANDSHAKE`] with another target.
pub fn handshake(target: &str) -> String {
    HANDSHAKE.replacen("/ws", target, 1)
}

/// A stream that repeats a call interrupted by a signal. A read or write with a deadline may be interrupted
/// even where signal handlers restart system calls.
pub struct RetryingStream(pub TcpStream);

impl Read for RetryingStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        retry_interrupted(|| self.0.read(buffer))
    }
}

impl Write for RetryingStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        retry_interrupted(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn retry_interrupted(
    mut attempt: impl FnMut() -> std::io::Result<usize>,
) -> std::io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// An open WebSocket.
pub struct Client {
    pub socket: WebSocket<RetryingStream>,
    /// Texts received and skipped while waiting for another one.
    pub skipped_texts: Vec<String>,
}

/// Opens a TCP connection whose reads and writes have a deadline.
pub fn tcp(address: SocketAddr) -> TcpStream {
    with_deadline(TcpStream::connect(address).unwrap())
}

/// Opens a TCP connection from another address of this machine.
pub fn tcp_from(from: IpAddr, address: SocketAddr) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &SocketAddr::from((from, 0))).unwrap();
    connect(&stream, &address).unwrap();
    with_deadline(stream.into())
}

/// Opens a connection to a Unix socket whose reads and writes have a deadline. The standard library's type for TCP
/// takes each kind of stream socket, so that all that is here for clients serves these, too.
pub fn unix(path: &Path) -> TcpStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    OwnedFd::from(stream).into()
}

fn with_deadline(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Client {
    /// Connects. Panics if the server rejects the handshake.
    pub fn connect(address: SocketAddr, target: &str) -> Self {
        Self::try_connect(address, target, &[]).unwrap_or_else(|status| panic!("HTTP {status}"))
    }

    /// Connects with extra headers. Returns the HTTP status if the server rejects the handshake.
    pub fn try_connect(
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        Self::upgrade(tcp(address), address, target, headers)
    }

    /// Connects from another address of this machine. Panics if the server rejects the handshake.
    pub fn connect_from(from: IpAddr, address: SocketAddr, target: &str) -> Self {
        Self::upgrade(tcp_from(from, address), address, target, &[])
            .unwrap_or_else(|status| panic!("HTTP {status}"))
    }

    /// Connects to a Unix socket. Returns the HTTP status if the server rejects the handshake.
    pub fn try_connect_unix(
        path: &Path,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let host = (Ipv4Addr::LOCALHOST, 80).into();
        Self::upgrade(unix(path), host, target, headers)
    }

    /// Connects to a Unix socket. Panics if the server rejects the handshake.
    pub fn connect_unix(path: &Path, target: &str) -> Self {
        Self::try_connect_unix(path, target, &[]).unwrap_or_else(|status| panic!("HTTP {status}"))
    }

    fn upgrade(
        stream: TcpStream,
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{target}")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        match tungstenite::client(request, RetryingStream(stream)) {
            Ok((socket, _)) => Ok(Self {
                socket,
                skipped_texts: Vec::new(),
            }),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("the handshake failed: {error}"),
        }
    }

    /// Sends a text message.
    pub fn send(&mut self, text: impl Into<tungstenite::Utf8Bytes>) {
        self.socket.send(Message::Text(text.into())).unwrap();
    }

    /// Writes bytes to the socket as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a [`masked_frame`].
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.send_raw(&masked_frame(opcode, payload));
    }

    /// Returns the next message, which must be a text.
    pub fn receive_text(&mut self) -> String {
        let since = Instant::now();
        loop {
            match self.socket.read().expect("a text message") {
                Message::Text(text) => return text.as_str().to_owned(),
                // A server that sends nothing but Pings would otherwise keep this loop busy for ever.
                Message::Ping(_) | Message::Pong(_) => assert!(since.elapsed() < DEADLINE),
                other => panic!("not a text message: {other:?}"),
            }
        }
    }

    /// Returns the next message, which must be a text, as JSON.
    pub fn receive_json(&mut self) -> Value {
        serde_json::from_str(&self.receive_text()).unwrap()
    }

    /// Sends a Ping and waits for a Pong. Then the server has read everything sent so far, and the
    /// connection is open.
    pub fn ping(&mut self) {
        self.socket
            .send(Message::Ping(Bytes::from_static(b"alive?")))
            .unwrap();
        while !matches!(self.socket.read().expect("a Pong"), Message::Pong(_)) {}
    }

    /// Sends a Ping, and returns the texts received before its Pong, after those skipped while waiting
    /// for another.
    pub fn drain_texts(&mut self) -> Vec<String> {
        let payload = Bytes::from_static(b"all?");
        self.socket.send(Message::Ping(payload.clone())).unwrap();
        let mut texts = std::mem::take(&mut self.skipped_texts);
        loop {
            match self.socket.read().expect("a Pong") {
                Message::Pong(pong) if pong == payload => return texts,
                Message::Text(text) => texts.push(text.as_str().to_owned()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Pong: {other:?}"),
            }
        }
    }

    /// Sends a Ping and waits for its Pong. Panics if a message precedes it: the server has sent nothing.
    pub fn expect_no_message(&mut self) {
        let payload = Bytes::from_static(b"nothing else?");
        self.socket.send(Message::Ping(payload.clone())).unwrap();
        loop {
            match self.socket.read().expect("a Pong") {
                Message::Pong(pong) if pong == payload => return,
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Pong: {other:?}"),
            }
        }
    }

    /// Returns the code and the reason of the next message, which must be a Close frame.
    pub fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.socket.read().expect("a Close frame") {
                Message::Close(Some(close)) => {
                    let reason = close.reason.as_str().to_owned();
                    // Sends the answer, and waits until the server has closed the connection.
                    while self.socket.read().is_ok() {}
                    return (close.code.into(), reason);
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Close frame: {other:?}"),
            }
        }
    }

    /// Skips messages until the server sends a Close frame, and returns its code.
    pub fn wait_for_close_code(&mut self) -> u16 {
        loop {
            match self.socket.read().expect("a Close frame") {
                Message::Close(Some(close)) => return close.code.into(),
                Message::Close(None) => panic!("a Close frame without a code"),
                _ => {}
            }
        }
    }

    /// Receives texts until `found` returns a value for one, and returns that value.
    pub fn receive_until<T>(&mut self, mut found: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let text = self.receive_text();
            if let Some(found) = found(&text) {
                return found;
            }
            self.skipped_texts.push(text);
        }
    }

    /// Receives texts until one is a JSON message of this type, and returns it.
    pub fn receive_type(&mut self, kind: &str) -> Value {
        self.receive_until(|text| {
            let message: Value = serde_json::from_str(text).ok()?;
            (message["type"] == kind).then_some(message)
        })
    }

    /// Returns the stream. Nothing that was received may be left unread.
    pub fn into_stream(self) -> TcpStream {
        self.socket.get_ref().0.try_clone().unwrap()
    }

    /// Sends a Close frame without a code, and waits until the server has closed the connection.
    pub fn close(mut self) {
        self.socket.close(None).unwrap();
        while self.socket.read().is_ok() {}
    }

    /// Sends a Close frame with code 1000, as browsers do, unless the server has closed the connection
    /// already.
    pub fn close_normally(mut self) {
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.socket.close(Some(normal));
        while self.socket.read().is_ok() {}
    }

    /// Shuts the socket down without a Close frame.
    pub fn abort(self) {
        let _ = self.socket.get_ref().0.shutdown(Shutdown::Both);
    }
}

/// Sends a request over a new connection, and returns everything received until the server closes it.
pub fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = tcp(address);
    stream.write_all(request.as_bytes()).unwrap();
    receive_http(stream)
}

/// Returns the next response head up to and including its empty line. Reads nothing after it.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Returns the opcode and the payload of the next frame, which must be shorter than 64 KiB. Answers no
/// Ping and no Close frame.
pub fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (head[0] & 0x0f, payload)
}

/// Returns a frame with this opcode and payload and with FIN set, masked with zeros.
pub fn masked_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Returns everything received until the server closes the connection.
pub fn receive_http(mut stream: TcpStream) -> String {
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("the connection is not closed: {error}")
        }
        _ => String::from_utf8_lossy(&response).into_owned(),
    }
}
