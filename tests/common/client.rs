//! A client for WebSockets and plain HTTP that blocks, with a deadline on all that it does.

use super::DEADLINE;
use async_tungstenite::tungstenite::client::IntoClientRequest;
use async_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use async_tungstenite::tungstenite::protocol::CloseFrame;
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::{self, Bytes, Error, HandshakeError, Message, WebSocket};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

/// A handshake with Workspace, octet for octet.
pub const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The same with something else.
pub fn handshake(target: &str) -> String {
    HANDSHAKE.replacen("/ws", target, 1)
}

/// A stream that goes on when a signal to the process interrupts it, as it may where there is a
/// deadline.
pub struct Patient(pub TcpStream);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        again(|| self.0.read(buffer))
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        again(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn again(mut attempt: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// One WebSocket.
pub struct Client {
    pub socket: WebSocket<Patient>,
    /// Texts that came while another was waited for.
    pub passed_over: Vec<String>,
}

/// A connection with a deadline on all that it does.
pub fn tcp(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(address).unwrap())
}

/// The same from another address of this machine.
pub fn tcp_from(from: IpAddr, address: SocketAddr) -> TcpStream {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&stream, &SocketAddr::from((from, 0))).unwrap();
    connect(&stream, &address).unwrap();
    patient(stream.into())
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Client {
    /// Connects, and is let in.
    pub fn connect(address: SocketAddr, target: &str) -> Self {
        Self::try_connect(address, target, &[]).unwrap_or_else(|status| panic!("HTTP {status}"))
    }

    /// Connects with extra headers; the HTTP status if it is not let in.
    pub fn try_connect(
        address: SocketAddr,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        Self::over(tcp(address), address, target, headers)
    }

    /// Connects from another address of this machine, and is let in.
    pub fn connect_from(from: IpAddr, address: SocketAddr, target: &str) -> Self {
        Self::over(tcp_from(from, address), address, target, &[])
            .unwrap_or_else(|status| panic!("HTTP {status}"))
    }

    fn over(
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
        match tungstenite::client(request, Patient(stream)) {
            Ok((socket, _)) => Ok(Self {
                socket,
                passed_over: Vec::new(),
            }),
            Err(HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("no handshake: {error}"),
        }
    }

    /// Sends a text message.
    pub fn says(&mut self, text: impl Into<tungstenite::Utf8Bytes>) {
        self.socket.send(Message::Text(text.into())).unwrap();
    }

    /// Sends octets as they are.
    pub fn sends_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a [`masked_frame`].
    pub fn sends_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.sends_raw(&masked_frame(opcode, payload));
    }

    /// The next text message.
    pub fn text(&mut self) -> String {
        let since = Instant::now();
        loop {
            match self.socket.read().expect("a text message") {
                Message::Text(text) => return text.as_str().to_owned(),
                // Pings may come for ever.
                Message::Ping(_) | Message::Pong(_) => assert!(since.elapsed() < DEADLINE),
                other => panic!("not a text message: {other:?}"),
            }
        }
    }

    /// The next text message, as JSON.
    pub fn json(&mut self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// Proves that everything sent so far has been read, and that the connection is well: a Ping
    /// comes back.
    pub fn pings(&mut self) {
        self.socket
            .send(Message::Ping(Bytes::from_static(b"well?")))
            .unwrap();
        while !matches!(self.socket.read().expect("a Pong"), Message::Pong(_)) {}
    }

    /// All texts up to the answer to a Ping, and those that came while another was waited for.
    pub fn texts(&mut self) -> Vec<String> {
        let payload = Bytes::from_static(b"all?");
        self.socket.send(Message::Ping(payload.clone())).unwrap();
        let mut texts = std::mem::take(&mut self.passed_over);
        loop {
            match self.socket.read().expect("a Pong") {
                Message::Pong(answer) if answer == payload => return texts,
                Message::Text(text) => texts.push(text.as_str().to_owned()),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Pong: {other:?}"),
            }
        }
    }

    /// Proves that nothing waits to be read: a Ping comes back, and no message before it.
    pub fn pings_and_gets_nothing_else(&mut self) {
        let payload = Bytes::from_static(b"nothing else?");
        self.socket.send(Message::Ping(payload.clone())).unwrap();
        loop {
            match self.socket.read().expect("a Pong") {
                Message::Pong(answer) if answer == payload => return,
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Pong: {other:?}"),
            }
        }
    }

    /// The code and the reason of the Close frame that must come next.
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.socket.read().expect("a Close frame") {
                Message::Close(Some(close)) => {
                    let reason = close.reason.as_str().to_owned();
                    // Answers it, and waits until the server is done, too.
                    while self.socket.read().is_ok() {}
                    return (close.code.into(), reason);
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a Close frame: {other:?}"),
            }
        }
    }

    /// The code of the Close frame that comes sooner or later.
    pub fn code_of_close(&mut self) -> u16 {
        loop {
            match self.socket.read().expect("a Close frame") {
                Message::Close(Some(close)) => return close.code.into(),
                Message::Close(None) => panic!("a Close frame without a code"),
                _ => {}
            }
        }
    }

    /// Reads up to a text message for which there is something.
    pub fn until<T>(&mut self, mut found: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let text = self.text();
            if let Some(found) = found(&text) {
                return found;
            }
            self.passed_over.push(text);
        }
    }

    /// Reads up to a message of this type.
    pub fn until_type(&mut self, kind: &str) -> Value {
        self.until(|text| {
            let message: Value = serde_json::from_str(text).ok()?;
            (message["type"] == kind).then_some(message)
        })
    }

    /// Closes with a Close frame, and waits for the answer.
    pub fn leaves(mut self) {
        self.socket.close(None).unwrap();
        while self.socket.read().is_ok() {}
    }

    /// The same as browsers do it, unless the server was first.
    pub fn leaves_for_good(mut self) {
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = self.socket.close(Some(normal));
        while self.socket.read().is_ok() {}
    }

    /// Goes without a word.
    pub fn vanishes(self) {
        let _ = self.socket.get_ref().0.shutdown(Shutdown::Both);
    }
}

/// Sends octets over a new connection, and returns all that comes back until the server closes.
pub fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = tcp(address);
    stream.write_all(request.as_bytes()).unwrap();
    receive_http(stream)
}

/// The next head of an answer, to its empty line. What follows is not read.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The next frame as it comes over the wire: its opcode and its payload, which is short. Nothing is
/// answered.
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

/// A frame of this opcode and payload with FIN set, masked with zeros.
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

/// All that comes until the server closes.
pub fn receive_http(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("no end: {error}"),
        _ => String::from_utf8_lossy(&answer).into_owned(),
    }
}
