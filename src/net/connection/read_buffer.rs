//! tungstenite's read buffer: its size, and when it is replaced.
//!
//! tungstenite never shrinks its read buffer (snapview/tungstenite-rs#480, #496). So a connection that has
//! read a large message gets a new buffer as soon as the old one is empty.

use crate::base::close::CloseReason;
use crate::base::frame::close_frame;
use crate::broker::SocketStatus;
use crate::net::frame_tracker::LARGE_PAYLOAD;
use crate::net::frame_writer::FrameWriter;
use crate::net::socket::ClientSocket;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message};
use futures::{FutureExt, StreamExt};
use std::task::{Context, Poll};

/// The initial size of a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBufferSize {
    /// Initial size of each connection. It is most of the memory of an idle connection.
    Small,
    /// Size for a connection that receives large messages, which then needs fewer system calls.
    Large,
}

impl ReadBufferSize {
    const fn bytes(self) -> usize {
        match self {
            Self::Small => 2 * 1024,
            Self::Large => 64 * 1024,
        }
    }

    /// Returns the largest payload, in bytes, after which the buffer is kept. A buffer that received a larger
    /// payload is replaced: it has grown to more memory than is worth keeping.
    const fn max_payload(self) -> usize {
        match self {
            Self::Small => LARGE_PAYLOAD as usize,
            Self::Large => 2 * Self::Large.bytes(),
        }
    }
}

/// Number of consecutive small frames after which a large buffer is replaced by a small one. Compared
/// with them, allocating a large one again costs nothing.
const MAX_SMALL_FRAMES: u32 = 256;

/// A client's WebSocket, whose read buffer can be replaced.
pub(super) struct BufferedWebSocket(WebSocketStream<FrameWriter>);

impl BufferedWebSocket {
    /// Creates a WebSocket with a small read buffer. `already_read` are bytes that were read together with the
    /// request head.
    pub(super) fn new(
        socket: ClientSocket,
        already_read: Vec<u8>,
        max_message_size: usize,
    ) -> Self {
        let writer = FrameWriter::new(socket, &already_read);
        let config = WebSocketConfig::default()
            // tungstenite's own frames go to the writer at once.
            .write_buffer_size(0)
            .max_write_buffer_size(1024)
            .max_message_size(Some(max_message_size))
            .max_frame_size(Some(max_message_size));
        Self::with_buffer(writer, already_read, ReadBufferSize::Small, config)
    }

    fn with_buffer(
        writer: FrameWriter,
        already_read: Vec<u8>,
        buffer_size: ReadBufferSize,
        config: WebSocketConfig,
    ) -> Self {
        let config = config.read_buffer_size(buffer_size.bytes());
        let stream =
            WebSocketStream::from_partially_read(writer, already_read, Role::Server, Some(config))
                .now_or_never();
        Self(stream.expect("creating a WebSocket waits for nothing"))
    }

    /// Returns the initial size of the current buffer. tungstenite keeps it; a field of its own would add 8 bytes to
    /// each connection.
    fn buffer_size(&self) -> ReadBufferSize {
        if self.0.get_config().read_buffer_size == ReadBufferSize::Small.bytes() {
            ReadBufferSize::Small
        } else {
            ReadBufferSize::Large
        }
    }

    /// Replaces the read buffer by an empty one. What was in it is lost.
    pub(super) fn with_new_buffer(self, buffer_size: ReadBufferSize) -> Self {
        let config = *self.0.get_config();
        let mut writer = self.0.into_inner();
        writer.tracker.largest_payload = 0;
        Self::with_buffer(writer, Vec::new(), buffer_size, config)
    }

    /// Returns the new size if the buffer should be replaced now. `is_silent` says whether the client was
    /// sent a Ping for its silence and has sent nothing since. A buffer can be replaced only when it is
    /// empty: between two messages, and after tungstenite has returned all that it read.
    pub(super) fn replacement(&self, is_silent: bool) -> Option<ReadBufferSize> {
        let (size, writer) = (self.buffer_size(), self.writer());
        let tracker = &writer.tracker;
        let is_outgrown = tracker.largest_payload > size.max_payload();
        let is_idle = is_silent || tracker.consecutive_small_frames > MAX_SMALL_FRAMES;
        let grown_size = size.bytes().max(tracker.largest_payload);
        let is_too_large = is_idle && grown_size > ReadBufferSize::Small.bytes();
        if !is_outgrown && !is_too_large || !tracker.between_messages() {
            return None;
        }
        // tungstenite reads only when it holds no whole frame. So its buffer is empty after a read that
        // returned nothing, and at the end of a large frame, beyond which it cannot read.
        let is_empty = tracker.large_frame_ended || !writer.socket.may_be_readable();
        is_empty.then_some(if is_too_large {
            ReadBufferSize::Small
        } else {
            ReadBufferSize::Large
        })
    }

    /// Returns the received bytes that tungstenite holds, at most, beside the small buffer that each connection
    /// has.
    pub(super) fn buffered_bytes(&self) -> usize {
        let tracker = &self.writer().tracker;
        tracker.buffered_bytes(self.buffer_size().bytes()) - ReadBufferSize::Small.bytes()
    }

    /// Returns the next message or control frame.
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        self.0.poll_next_unpin(cx)
    }

    /// Queues a Close frame, after which tungstenite expects that of the client.
    pub(super) async fn close(&mut self, reason: CloseReason) {
        // Fails only if the closing handshake has begun already.
        let _ = self.0.close(Some(close_frame(reason))).await;
    }

    /// Returns the writer, which owns the socket.
    pub(super) fn writer(&self) -> &FrameWriter {
        self.0.get_ref()
    }

    /// Returns the writer, to queue and write frames.
    pub(super) fn writer_mut(&mut self) -> &mut FrameWriter {
        self.0.get_mut()
    }

    /// Returns the state of the socket that is shared with the broker.
    pub(super) fn status(&self) -> &SocketStatus {
        self.writer().socket.status()
    }

    /// Returns the socket alone. Frees the received messages that were not handled, and the frames that were not
    /// sent.
    pub(super) fn into_socket(self) -> ClientSocket {
        self.0.into_inner().socket
    }
}
