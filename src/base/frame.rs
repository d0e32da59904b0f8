//! A WebSocket frame, encoded for sending.

use crate::base::close::CloseReason;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use async_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{
    CloseFrame, Frame as Unencoded, FrameHeader,
};
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use serde::Serialize;
use std::fmt;
use std::io::{Cursor, Read};
use std::sync::{Arc, OnceLock};

/// A frame as the bytes that go to the socket, encoded once and shared by all recipients.
///
/// Cloning increments a reference count, and an entry in an outbox is one pointer.
#[derive(Clone)]
pub struct Frame(Arc<EncodedFrame>);

/// Header and payload in one buffer, or in two if the payload is large, so that a relayed payload is not
/// copied.
struct EncodedFrame {
    head: Bytes,
    body: Bytes,
    /// The frame's memory while it is in outboxes: counted once, however many recipients it has.
    reservation: OnceLock<MemoryReservation>,
}

/// What the log shows of a message to a client.
pub(crate) struct PayloadPrefix {
    pub(crate) is_text: bool,
    /// Length of the whole payload in bytes.
    pub(crate) length: usize,
    /// The first bytes of the payload.
    pub(crate) prefix: Vec<u8>,
}

/// Largest capacity that an empty queue of frames keeps; a larger one is freed.
pub(crate) const RETAINED_FRAMES: usize = 64;

/// Memory of a frame in addition to its encoded bytes: the struct, its buffers' handles and their
/// allocations.
const OVERHEAD: usize = 128;

impl Frame {
    /// Largest payload, in bytes, that is copied behind its header. The copy frees the buffer that the
    /// message was received in, which would otherwise stay allocated as long as the message waits for a
    /// slow client. A larger payload fills most of its buffer, so it is shared.
    const MAX_COPIED: usize = 32 * 1024;

    /// Length of the longest header without a mask, in bytes (RFC 6455 section 5.2).
    const MAX_HEADER: usize = 10;

    /// Creates a text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::message(Data::Text, &[], text.into().into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::message(Data::Binary, &[], bytes.into())
    }

    /// Creates a text message from two parts. The second is existing text, which is shared if it is large.
    pub fn text_from_parts(beginning: &str, rest: Utf8Bytes) -> Self {
        Self::message(Data::Text, beginning.as_bytes(), rest.into())
    }

    /// Creates a text message that holds `value` as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let mut json = serde_json::to_vec(value)
            .expect("server messages have string keys and serialize without errors");
        json.shrink_to_fit();
        Self::message(Data::Text, &[], json.into())
    }

    /// Creates a Ping with this payload (RFC 6455 section 5.5.2).
    pub(crate) fn ping(payload: &[u8]) -> Self {
        Self::encode(Unencoded::ping(Bytes::copy_from_slice(payload)))
    }

    /// Creates a Close frame (RFC 6455 section 5.5.1).
    pub(crate) fn close(reason: CloseReason) -> Self {
        Self::encode(Unencoded::close(Some(close_frame(reason))))
    }

    /// Creates a frame from bytes that are already encoded.
    pub(crate) fn encoded(bytes: &[u8]) -> Self {
        Self::from_parts(Bytes::copy_from_slice(bytes), Bytes::new())
    }

    fn from_parts(head: Bytes, body: Bytes) -> Self {
        Self(Arc::new(EncodedFrame {
            head,
            body,
            reservation: OnceLock::new(),
        }))
    }

    /// Returns the frame's memory divided by its current number of holders: about the bytes that each of
    /// them accounts for.
    ///
    /// Those who hold a clone are the effects that the broker is about to apply, one for each recipient, then
    /// the outboxes and the writers of the recipients. Connections drop theirs while the broker counts, and a
    /// count may be a moment old, so this is an estimate. It only decides which connections account for the frame
    /// when memory is short; how much memory is used is in the reservation, exactly. The count is at least 1,
    /// because the caller has a clone.
    pub(crate) fn bytes_per_holder(&self) -> usize {
        (self.len() + OVERHEAD) / Arc::strong_count(&self.0)
    }

    /// Reserves the frame's memory in `budget` until its last holder drops it. Further calls change nothing.
    pub(crate) fn reserve(&self, budget: &Arc<MemoryBudget>) {
        self.0
            .reservation
            .get_or_init(|| MemoryReservation::new(budget, self.len() + OVERHEAD));
    }

    fn message(kind: Data, beginning: &[u8], rest: Bytes) -> Self {
        let header = FrameHeader {
            opcode: OpCode::Data(kind),
            ..FrameHeader::default()
        };
        let (copied, body) = if rest.len() <= Self::MAX_COPIED {
            (rest, Bytes::new())
        } else {
            (Bytes::new(), rest)
        };
        let length = beginning.len() + copied.len() + body.len();
        let mut head = Vec::with_capacity(Self::MAX_HEADER + beginning.len() + copied.len());
        header
            .format(length as u64, &mut head)
            .expect("writing to a Vec does not fail");
        head.extend_from_slice(beginning);
        head.extend_from_slice(&copied);
        Self::from_parts(head.into(), body)
    }

    fn encode(frame: Unencoded) -> Self {
        let mut head = Vec::with_capacity(frame.len());
        frame
            .format(&mut head)
            .expect("writing to a Vec does not fail");
        Self::from_parts(head.into(), Bytes::new())
    }

    /// Returns the encoded length in bytes, header included.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a frame has at least its header"
    )]
    pub fn len(&self) -> usize {
        self.0.head.len() + self.0.body.len()
    }

    /// Returns the slices that are written to the socket, without the first `skip` bytes.
    pub(crate) fn pieces(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let (head, body) = (&self.0.head, &self.0.body);
        let head_skip = skip.min(head.len());
        [head.get(head_skip..), body.get(skip - head_skip..)]
            .into_iter()
            .flatten()
            .filter(|piece| !piece.is_empty())
    }

    /// Returns the kind and the length of a data message, and the first bytes of it, at most `limit`, for the log.
    pub(crate) fn payload_prefix(&self, limit: usize) -> Option<PayloadPrefix> {
        let pieces = self.pieces(0).flatten();
        let start: Vec<u8> = pieces.copied().take(Self::MAX_HEADER + limit).collect();
        let mut start = Cursor::new(start);
        let (header, length) = FrameHeader::parse(&mut start).ok()??;
        let OpCode::Data(kind) = header.opcode else {
            return None;
        };
        let mut prefix = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        start.take(limit).read_to_end(&mut prefix).ok()?;
        Some(PayloadPrefix {
            is_text: kind == Data::Text,
            length: usize::try_from(length).unwrap_or(usize::MAX),
            prefix,
        })
    }

    /// Returns the payload of a text message, for tests and for code that inspects effects.
    pub fn as_text(&self) -> Option<String> {
        let mut bytes = Cursor::new(self.pieces(0).collect::<Vec<_>>().concat());
        FrameHeader::parse(&mut bytes).ok()??;
        let mut text = String::new();
        bytes.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// Returns the code and the reason text of a Close frame.
pub(crate) fn close_frame(reason: CloseReason) -> CloseFrame {
    CloseFrame {
        code: reason.code().into(),
        reason: Utf8Bytes::from_static(reason.reason()),
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the content: debug output ends up in logs.
        write!(f, "Frame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frame: &Frame, skip: usize) -> Vec<u8> {
        frame.pieces(skip).flatten().copied().collect()
    }

    #[test]
    fn a_short_message_is_one_unmasked_final_frame() {
        // RFC 6455 section 5.7: a single-frame unmasked text message.
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(encoded(&Frame::text("Hello"), 0), hello);
        assert_eq!(encoded(&Frame::text(""), 0), [0x81, 0x00]);
        assert_eq!(encoded(&Frame::binary(vec![0xff]), 0), [0x82, 0x01, 0xff]);
        assert_eq!(encoded(&Frame::ping(b"x"), 0), [0x89, 0x01, b'x']);
    }

    #[test]
    fn a_frame_of_any_length_can_be_resumed_at_any_byte() {
        for length in [0, 1, 125, 126, 32_768, 32_769, 65_535, 65_536, 200_000] {
            let text = "x".repeat(length);
            let frame = Frame::text(text.clone());
            let all = encoded(&frame, 0);
            assert_eq!(all.len(), frame.len());
            assert_eq!(frame.as_text(), Some(text));
            let mut cursor = Cursor::new(&all);
            let (header, announced) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(announced as usize, length);
            for skip in [0, 1, 2, 3, 9, 10, 11, all.len() - 1, all.len()] {
                assert_eq!(
                    encoded(&frame, skip.min(all.len())),
                    all[skip.min(all.len())..]
                );
            }
        }
    }

    #[test]
    fn the_prefix_of_a_payload_is_without_the_header_and_control_frames_have_none() {
        for length in [0, 1, 125, 126, 32_769, 70_000] {
            let prefix = Frame::text("x".repeat(length)).payload_prefix(800).unwrap();
            assert!(prefix.is_text);
            assert_eq!(prefix.length, length);
            assert_eq!(prefix.prefix, "x".repeat(length.min(800)).into_bytes());
        }
        assert!(!Frame::binary(vec![1]).payload_prefix(9).unwrap().is_text);
        assert!(Frame::ping(b"x").payload_prefix(9).is_none());
        assert!(Frame::encoded(b"HTTP/1.1 101").payload_prefix(9).is_none());
    }

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_copied() {
        let large = Bytes::from(vec![b'x'; 100_000]);
        let frame = Frame::text(Utf8Bytes::try_from(large.clone()).unwrap());
        assert_eq!(frame.0.body.as_ptr(), large.as_ptr());
        let small = Bytes::from(vec![b'x'; 100]);
        let frame = Frame::text(Utf8Bytes::try_from(small.clone()).unwrap());
        assert!(
            small.is_unique(),
            "{frame:?} keeps the buffer that it was received in"
        );
    }

    #[test]
    fn a_message_of_two_parts_is_one_frame() {
        for length in [0, 1, 32_768, 32_769, 70_000] {
            let rest = "x".repeat(length);
            let frame = Frame::text_from_parts("beginning, ", rest.clone().into());
            let whole = Frame::text(format!("beginning, {rest}"));
            assert_eq!(encoded(&frame, 0), encoded(&whole, 0));
        }
    }

    #[test]
    fn a_frame_is_charged_once_until_its_last_holder_drops_it() {
        let budget = MemoryBudget::new(0);
        let frame = Frame::text("x".repeat(10_000));
        let cost = frame.len() + OVERHEAD;
        frame.reserve(&budget);
        assert_eq!(frame.bytes_per_holder(), cost);
        let shared = frame.clone();
        shared.reserve(&budget);
        assert_eq!(budget.reserved(), cost);
        assert_eq!(frame.bytes_per_holder(), cost / 2);
        drop(frame);
        assert_eq!(budget.reserved(), cost);
        drop(shared);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn a_frame_is_the_size_of_a_pointer() {
        assert_eq!(size_of::<Frame>(), size_of::<usize>());
    }
}
