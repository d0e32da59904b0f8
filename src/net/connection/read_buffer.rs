//! tungstenite's read buffer: how large it is, and when another may take its place.
//!
//! tungstenite keeps its read buffer as large as the largest message ever; so a connection that has
//! read a large one gets a new buffer at the next moment when the old one is empty.

use super::pump::Pump;
use crate::net::frame_tracker::LARGE;
use crate::net::frame_writer::FrameWriter;
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use futures::FutureExt;

/// Read buffers: what every connection has, which is most of what an idle one costs, and what
/// those get that send large messages, for which few system calls matter more.
pub(super) const SMALL_BUFFER: usize = 2 * 1024;
pub(super) const LARGE_BUFFER: usize = 64 * 1024;

/// A payload of this size leaves more memory behind in the read buffer than is worth keeping.
const HUGE: usize = 2 * LARGE_BUFFER;

/// So many frames that are not large in a row, and the large buffer goes: enough that a new one
/// now and then costs nothing against them.
const SMALL_FRAMES: u32 = 256;

pub(super) fn open(
    wire: FrameWriter,
    already_read: Vec<u8>,
    config: WebSocketConfig,
) -> WebSocketStream<FrameWriter> {
    WebSocketStream::from_partially_read(wire, already_read, Role::Server, Some(config))
        .now_or_never()
        .expect("making a socket waits for nothing")
}

pub(super) fn config(read_buffer: usize, max_message_size: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        // Its own frames go to the wire at once; they never wait in tungstenite.
        .write_buffer_size(0)
        .max_write_buffer_size(1024)
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

impl Pump {
    /// The same with a read buffer that has nothing in it.
    pub(super) fn with_new_buffer(
        self: Box<Self>,
        large: bool,
        max_message_size: usize,
    ) -> Box<Self> {
        let pump = *self;
        let size = if large { LARGE_BUFFER } else { SMALL_BUFFER };
        let mut wire = pump.socket.into_inner();
        wire.frames.largest_payload = 0;
        Box::new(Self {
            socket: open(wire, Vec::new(), config(size, max_message_size)),
            large_buffer: large,
            ..pump
        })
    }

    /// Whether the read buffer should be another now, and may be: only between two messages, and
    /// when tungstenite has given out all that it read, is nothing in it.
    pub(super) fn buffer_to_change(&self) -> Option<bool> {
        let wire = self.socket.get_ref();
        let frames = &wire.frames;
        let (size, most) = if self.large_buffer {
            (LARGE_BUFFER, HUGE)
        } else {
            (SMALL_BUFFER, LARGE as usize)
        };
        let outgrown = frames.largest_payload > most;
        let idle = self.quiet || frames.consecutive_small_frames > SMALL_FRAMES;
        let too_large = idle && size.max(frames.largest_payload) > SMALL_BUFFER;
        if !outgrown && !too_large || !frames.between_messages() {
            return None;
        }
        // tungstenite reads on only when it has no whole frame left; so the end of a large frame,
        // beyond which it was not let, or a read that brought nothing, is the end of its buffer.
        let is_empty = frames.large_frame_ended || !wire.stream.may_be_readable();
        is_empty.then_some(!too_large)
    }
}
