//! tungstenite's read buffer: its size, and when it is replaced.
//!
//! tungstenite never shrinks its read buffer (snapview/tungstenite-rs#480, #496). So a connection that has
//! read a large message gets a new buffer as soon as the old one is empty.

use crate::net::frame_tracker::LARGE_PAYLOAD;
use crate::net::frame_writer::FrameWriter;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use futures::FutureExt;

/// The initial size of a read buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadBufferSize {
    /// Initial size of each connection. It is most of the memory of an idle connection.
    Small,
    /// Size for a connection that receives large messages, which then needs fewer system calls.
    Large,
}

impl ReadBufferSize {
    pub(super) const fn bytes(self) -> usize {
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

    /// Returns the new size if the buffer should be replaced now. `is_silent` says whether the client was
    /// sent a Ping for its silence and has sent nothing since. A buffer can be replaced only when it is
    /// empty: between two messages, and after tungstenite has returned all that it read.
    pub(super) fn replacement(self, writer: &FrameWriter, is_silent: bool) -> Option<Self> {
        let tracker = &writer.tracker;
        let is_outgrown = tracker.largest_payload > self.max_payload();
        let is_idle = is_silent || tracker.consecutive_small_frames > MAX_SMALL_FRAMES;
        let grown_size = self.bytes().max(tracker.largest_payload);
        let is_too_large = is_idle && grown_size > Self::Small.bytes();
        if !is_outgrown && !is_too_large || !tracker.between_messages() {
            return None;
        }
        // tungstenite reads only when it holds no whole frame. So its buffer is empty after a read that
        // returned nothing, and at the end of a large frame, beyond which it cannot read.
        let is_empty = tracker.large_frame_ended || !writer.socket.may_be_readable();
        is_empty.then_some(if is_too_large {
            Self::Small
        } else {
            Self::Large
        })
    }
}

/// Number of consecutive small frames after which a large buffer is replaced by a small one. Compared
/// with them, allocating a large one again costs nothing.
const MAX_SMALL_FRAMES: u32 = 256;

/// Creates a WebSocket with a new read buffer. `already_read` are bytes that were read
/// together with the request head.
pub(super) fn open_websocket(
    writer: FrameWriter,
    already_read: Vec<u8>,
    buffer_size: ReadBufferSize,
    max_message_size: usize,
) -> WebSocketStream<FrameWriter> {
    let config = WebSocketConfig::default()
        .read_buffer_size(buffer_size.bytes())
        // tungstenite's own frames go to the writer at once.
        .write_buffer_size(0)
        .max_write_buffer_size(1024)
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size));
    WebSocketStream::from_partially_read(writer, already_read, Role::Server, Some(config))
        .now_or_never()
        .expect("creating a WebSocket waits for nothing")
}
