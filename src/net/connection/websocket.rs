//! What tungstenite reads a client's messages with.
//!
//! A connection that waits for a message has nothing of the kind: a whole message leaves nothing behind, so the next
//! one of any client can be read with what read the last. A connection keeps it only while a message is unfinished.
//! tungstenite never shrinks its read buffer (snapview/tungstenite-rs#480, #496), so one that has grown is dropped instead.
//! A large message after another one is read without tungstenite if it comes in one frame (`large_message.rs`).

use super::large_message::LargeMessage;
use crate::base::close::CloseReason;
use crate::base::frame::{Frame, close_frame};
use crate::broker::SocketStatus;
use crate::net::frame_tracker::{LARGE_PAYLOAD, LONGEST_HEADER};
use crate::net::frame_writer::FrameWriter;
use crate::net::socket::ClientSocket;
use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use async_tungstenite::tungstenite::{Error, Message};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

/// Size in bytes of a shared reader's buffer, and so of one read: several messages of the usual size.
const SHARED_BUFFER: usize = 8 * 1024;

/// Size in bytes of the buffer for a message of large fragments, which then needs fewer system calls.
const LARGE_BUFFER: usize = 64 * 1024;

/// Readers that no connection uses now: as many as there are threads.
static SHARED: Mutex<Vec<Reader>> = Mutex::new(Vec::new());

/// A reader of messages. It is between two messages, with an empty buffer, unless a connection has it.
struct Reader {
    context: Box<WebSocketContext>,
    /// Bytes that were read into its buffer since that was new.
    used: usize,
}

fn shared() -> MutexGuard<'static, Vec<Reader>> {
    // No code that holds the lock can panic.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Allocates what each of this many threads needs to read messages.
pub(crate) fn allocate_readers(threads: usize) {
    shared().reserve_exact(threads);
    replace_readers();
}

/// Replaces the readers that no connection uses now. What was allocated in a storm would keep the memory below it (see
/// [`crate::base::spare`]).
pub(crate) fn replace_readers() {
    let mut shared = shared();
    shared.clear();
    let count = shared.capacity();
    shared.extend((0..count).map(|_| new_reader(Vec::new(), SHARED_BUFFER)));
}

/// Creates a reader with a buffer of this size in bytes, which has already read something.
fn new_reader(already_read: Vec<u8>, buffer: usize) -> Reader {
    let used = already_read.len();
    let config = WebSocketConfig::default()
        .read_buffer_size(buffer)
        // Those of the connection that uses it are set then.
        .max_message_size(None)
        .max_frame_size(None)
        // tungstenite's own frames go to the writer at once.
        .write_buffer_size(0)
        .max_write_buffer_size(1024);
    let context = WebSocketContext::from_partially_read(already_read, Role::Server, Some(config));
    Reader {
        context: Box::new(context),
        used,
    }
}

/// Returns the initial size of a reader's buffer. tungstenite keeps it.
fn buffer_size(reader: &Reader) -> usize {
    reader.context.get_config().read_buffer_size
}

/// Returns whether a reader is for large fragments.
fn is_large(reader: &Reader) -> bool {
    buffer_size(reader) == LARGE_BUFFER
}

/// Keeps a reader for other connections. tungstenite reads into what is left of its buffer, so one of which little is left
/// would need a second system call for what a new one reads with the first.
fn give_back(mut reader: Reader) {
    if reader.used > SHARED_BUFFER / 2 {
        // First frees the old buffer, so that the new one can take its place.
        drop(reader);
        reader = new_reader(Vec::new(), SHARED_BUFFER);
    }
    let mut shared = shared();
    if shared.len() < shared.capacity() {
        shared.push(reader);
    }
}

/// A client's WebSocket.
pub(super) struct WebSocket {
    writer: FrameWriter,
    /// The reader that this connection uses now.
    reader: Option<Reader>,
    /// The message that is received without a reader.
    large_message: Option<Box<LargeMessage>>,
    max_message_size: usize,
}

impl WebSocket {
    /// Creates a WebSocket. `already_read` are bytes that were read together with the request head.
    pub(super) fn new(
        mut socket: ClientSocket,
        already_read: Vec<u8>,
        max_message_size: usize,
    ) -> Self {
        // It is a part of what is buffered.
        socket.end_requests();
        let mut websocket = Self {
            writer: FrameWriter::new(socket, &already_read),
            reader: None,
            large_message: None,
            max_message_size,
        };
        if !already_read.is_empty() {
            websocket.set_reader(new_reader(already_read, SHARED_BUFFER));
        }
        websocket
    }

    /// Makes this the connection's reader.
    fn set_reader(&mut self, mut reader: Reader) {
        let limit = Some(self.max_message_size);
        if reader.context.get_config().max_message_size != limit {
            reader.context.set_config(|config| {
                config.max_message_size = limit;
                config.max_frame_size = limit;
            });
        }
        self.reader = Some(reader);
    }

    /// Returns the initial size of the reader's buffer, 0 without one.
    fn buffer_size(&self) -> usize {
        self.reader.as_ref().map_or(0, buffer_size)
    }

    /// Returns whether a message is being received without tungstenite.
    #[cfg(test)]
    pub(super) fn is_receiving_large(&self) -> bool {
        self.large_message.is_some()
    }

    /// Drops what has been received of an unfinished message.
    pub(super) fn discard_received(&mut self) {
        self.reader = None;
        self.large_message = None;
        self.writer.tracker.largest_payload = 0;
    }

    /// Returns whether the reader holds a part of a message, or whole ones that it has not returned yet.
    fn holds_received(&self) -> bool {
        !self.writer.tracker.between_messages() || self.writer.tracker.unreturned > 0
    }

    /// Returns whether the closing handshake has begun, which the reader takes part in.
    fn is_closing(&self) -> bool {
        let reader = self.reader.as_ref();
        reader.is_some_and(|reader| !reader.context.can_write())
    }

    /// Gives the reader back if it holds nothing. One that has grown is dropped.
    pub(super) fn release_reader(&mut self) {
        if self.holds_received() || self.is_closing() {
            return;
        }
        let largest_payload = std::mem::take(&mut self.writer.tracker.largest_payload);
        let has_grown = largest_payload > LARGE_PAYLOAD as usize;
        let reader = self.reader.take();
        if let Some(reader) = reader.filter(|reader| !has_grown && !is_large(reader)) {
            give_back(reader);
        }
    }

    /// Returns the most bytes that messages take which are received in part or not yet returned.
    pub(super) fn buffered_bytes(&self) -> usize {
        let size = self.buffer_size();
        let decrypted = if size > 0 {
            size_of::<WebSocketContext>() + self.writer.tracker.buffered_bytes(size)
        } else if self.large_message.is_some() {
            self.writer.tracker.buffered_bytes(0)
        } else {
            0
        };
        decrypted + self.writer.socket.undecrypted_bytes()
    }

    /// Returns whether the buffer holds more than its initial size.
    pub(super) fn has_outgrown_buffer(&self) -> bool {
        let size = self.buffer_size();
        size > 0 && self.writer.tracker.buffered_bytes(size) > size
    }

    /// Returns the next message or control frame. The reply to a control frame is queued by then.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        if !self.holds_received() && self.large_message.is_none() {
            if !self.writer.socket.wait_readable(cx) {
                return Poll::Pending;
            }
            if self.writer.tracker.expects_large() && !self.is_closing() {
                ready!(self.poll_header(cx));
            }
        }
        let result = match &mut self.large_message {
            Some(large) => ready!(large.poll(cx, &mut self.writer)),
            None => self.with_reader(cx, |reader, stream| {
                let message = reader.read(stream);
                if matches!(message, Ok(Message::Ping(_) | Message::Close(_))) {
                    // The socket is not in its way. After the reply to a Close frame it reports the end of the
                    // connection.
                    let _ = reader.flush(stream);
                }
                message
            }),
        };
        self.large_message = None;
        match result {
            Ok(message) => {
                let unreturned = &mut self.writer.tracker.unreturned;
                *unreturned = unreturned.saturating_sub(1);
                Poll::Ready(Some(Ok(message)))
            }
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => {
                // It is of no use to any client any more.
                self.reader = None;
                let is_end = matches!(error, Error::ConnectionClosed | Error::AlreadyClosed);
                Poll::Ready((!is_end).then_some(Err(error)))
            }
        }
    }

    /// Looks at the header of the next frame, and prepares for a large one.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; LONGEST_HEADER];
        let peeked = ready!(self.writer.socket.poll_peek(cx, &mut bytes));
        let mut bytes = Cursor::new(bytes.get(..peeked).unwrap_or_default());
        // What is not a header is left to tungstenite.
        let header = FrameHeader::parse(&mut bytes).ok().flatten();
        if let Some((header, length)) = header.filter(|&(_, length)| length > LARGE_PAYLOAD) {
            self.release_reader();
            let header_length = usize::try_from(bytes.position()).unwrap_or(LONGEST_HEADER);
            let large_message =
                LargeMessage::new(&header, header_length, length, self.max_message_size);
            if large_message.is_none() {
                self.set_reader(new_reader(Vec::new(), LARGE_BUFFER));
            }
            self.large_message = large_message.map(Box::new);
        }
        Poll::Ready(())
    }

    /// Calls the reader, or a shared one if the connection has none, with the socket as its stream.
    fn with_reader<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut WebSocketContext, &mut PolledStream) -> T,
    ) -> T {
        if self.reader.is_none() {
            let reader = shared().pop();
            self.set_reader(reader.unwrap_or_else(|| new_reader(Vec::new(), SHARED_BUFFER)));
        }
        let Self { writer, reader, .. } = self;
        let Reader { context, used } = reader.as_mut().expect("the reader was set");
        call(context, &mut PolledStream { writer, cx, used })
    }

    /// Queues a Close frame, after which tungstenite expects that of the client.
    pub(super) fn close(&mut self, cx: &mut Context<'_>, reason: CloseReason) {
        // Fails only if the closing handshake has begun already.
        let _ = self.with_reader(cx, |reader, stream| {
            reader.close(stream, Some(close_frame(reason)))
        });
    }

    /// Returns the writer, which owns the socket.
    #[cfg(test)]
    pub(super) fn writer(&self) -> &FrameWriter {
        &self.writer
    }

    /// Returns the writer, to queue and write frames.
    pub(super) fn writer_mut(&mut self) -> &mut FrameWriter {
        &mut self.writer
    }

    /// Returns the state of the socket that is shared with the broker.
    pub(super) fn status(&self) -> &SocketStatus {
        self.writer.socket.status()
    }

    /// Returns the socket alone. Frees the received messages that were not handled, and the frames that were not
    /// sent.
    pub(super) fn into_socket(self) -> ClientSocket {
        self.writer.socket
    }
}

/// The socket as tungstenite reads it. What tungstenite writes are its own control frames, which are queued whole and
/// never block: their number is bounded by not reading while too many of them are queued.
struct PolledStream<'a, 'cx> {
    writer: &'a mut FrameWriter,
    cx: &'a mut Context<'cx>,
    /// Bytes that were read.
    used: &'a mut usize,
}

impl Read for PolledStream<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.writer.poll_read(self.cx, buffer) {
            Poll::Ready(read) => {
                *self.used += read.as_ref().unwrap_or(&0);
                read
            }
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for PolledStream<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.queue_control(Frame::encoded(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
