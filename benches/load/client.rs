//! One client of the load: a WebSocket that does not block, with frames by hand.

use crate::common::websocket::{frame, request};
use rustix::net::sockopt::set_socket_linger;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Bytes from which on a frame is written as it is, and not copied behind what waits.
const LARGE: usize = 16 << 10;

/// What a client has received.
pub enum Received<'a> {
    /// The response that completes the handshake.
    Open,
    Text(&'a [u8]),
}

/// A connected client.
pub struct Client {
    stream: TcpStream,
    is_open: bool,
    /// The beginning of a frame or of the response, the rest of which is on its way.
    unread: Vec<u8>,
    /// What the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Client {
    /// Connects, and sends the request for this path. Dropping the client resets the connection, so that no port waits
    /// for late segments.
    pub fn connect(address: SocketAddr, path: &str) -> Result<Self, String> {
        let connect = || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            set_socket_linger(&stream, Some(Duration::ZERO))?;
            stream.write_all(request(path).as_bytes())?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: std::io::Error| format!("connect: {error}"))?;
        Ok(Self {
            stream,
            is_open: false,
            unread: Vec::new(),
            unsent: Vec::new(),
        })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Takes a frame, which [`flush`](Self::flush) sends; a large one is sent at once, as far as the socket takes it.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        let mut sent = 0;
        if frame.len() >= LARGE {
            self.flush()?;
            if self.unsent.is_empty() {
                sent = write(&mut self.stream, frame)?;
            }
        }
        self.unsent.extend_from_slice(&frame[sent..]);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), String> {
        if !self.unsent.is_empty() {
            let sent = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    /// Reads until the socket is empty, and passes on what has arrived. `has_ended`: the daemon sends no more.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        has_ended: bool,
        mut handler: impl FnMut(Received) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err("the daemon ended the connection".to_owned()),
                Ok(bytes) => {
                    self.take(&buffer[..bytes], &mut handler)?;
                    // Nothing is left, and the next bytes cause another event. An end does not that is there already.
                    if bytes < buffer.len() && !has_ended {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("read: {error}")),
            }
        }
    }

    /// Handles bytes that have arrived.
    fn take(
        &mut self,
        bytes: &[u8],
        handler: &mut impl FnMut(Received) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.unread.is_empty() {
            let used = self.take_whole(bytes, handler)?;
            self.unread.extend_from_slice(&bytes[used..]);
        } else {
            let mut unread = std::mem::take(&mut self.unread);
            unread.extend_from_slice(bytes);
            let used = self.take_whole(&unread, handler)?;
            unread.drain(..used);
            self.unread = unread;
        }
        Ok(())
    }

    /// Handles the whole frames at the beginning of these bytes. Returns their length.
    fn take_whole(
        &mut self,
        bytes: &[u8],
        handler: &mut impl FnMut(Received) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut used = 0;
        if !self.is_open {
            let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
                return Ok(0);
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return Err(format!("refused: {}", String::from_utf8_lossy(bytes)));
            }
            self.is_open = true;
            used = end + 4;
            handler(Received::Open)?;
        }
        while let Some((opcode, start, end)) = whole_frame(&bytes[used..]) {
            let payload = &bytes[used + start..used + end];
            used += end;
            match opcode {
                0x81 => handler(Received::Text(payload))?,
                0x89 => self.send(&frame(0x8a, payload, payload.len()))?,
                0x88 => {
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(format!("the daemon closed the connection: {reason}"));
                }
                other => return Err(format!("a frame that begins with {other:#x}")),
            }
        }
        Ok(used)
    }
}

/// Writes as much as the socket takes. Returns how much that is.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> Result<usize, String> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("write: {error}")),
        }
    }
    Ok(sent)
}

/// Returns the first byte of the frame at the beginning of these bytes, and where its payload starts and ends; none
/// if it is not whole.
fn whole_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => {
            let length = bytes.get(2..4)?.try_into().unwrap();
            (4, u16::from_be_bytes(length).into())
        }
        127 => {
            let length = bytes.get(2..10)?.try_into().unwrap();
            (10, u64::from_be_bytes(length) as usize)
        }
        length => (2, length.into()),
    };
    (bytes.len() >= start + length).then_some((bytes[0], start, start + length))
}
