//! A WebSocket frame, encoded for sending.

mod buffers;
mod joined;

use crate::base::close::CloseReason;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use async_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use async_tungstenite::tungstenite::protocol::frame::{
    CloseFrame, Frame as Unencoded, FrameHeader,
};
use async_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use buffers::BUFFERS;
use serde::Serialize;
use std::fmt;
use std::io::{Cursor, Read, Write};
use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A frame as the bytes that go to the socket, encoded once and shared by all recipients; or several messages in one
/// (`frame/joined.rs`).
///
/// Cloning increments a reference count, and an entry in an outbox is one pointer.
#[derive(Clone)]
pub struct Frame(Arc<EncodedFrame>);

/// Header and payload in one buffer, or in two if the payload is large, so that a relayed payload is not
/// copied.
struct EncodedFrame {
    /// The first buffer, in which the frame begins at `start`.
    buffer: Vec<u8>,
    start: usize,
    body: Bytes,
    /// Number of messages: above 1, `body` has them one after another.
    messages: usize,
    /// Number of clients that a broadcast goes to; 0 for other frames.
    recipients: AtomicUsize,
    /// The frame that this one is a part of. It keeps the memory, and so its reservation.
    whole: Option<Frame>,
    /// The frame's memory while it is in outboxes: counted once, however many recipients it has.
    reservation: OnceLock<MemoryReservation>,
}

impl Drop for EncodedFrame {
    fn drop(&mut self) {
        BUFFERS.give_back(std::mem::take(&mut self.buffer));
    }
}

/// What the log shows of a message to a client.
pub(crate) struct PayloadPrefix {
    pub(crate) is_text: bool,
    /// Length of the whole payload in bytes.
    pub(crate) length: usize,
    /// The first bytes of the payload.
    pub(crate) prefix: Vec<u8>,
}

/// The end of a text message whose beginning is not known yet. The header and a short beginning are written in front
/// of it later. So a message that the connection's task begins to encode and the broker completes is copied once.
pub struct TextEnd {
    /// The text, behind [`TextEnd::ROOM`] bytes.
    buffer: Vec<u8>,
}

/// Memory of a frame in addition to its buffers: the struct and the allocations.
const OVERHEAD: usize = 160;

impl Frame {
    /// Largest payload, in bytes, that is copied behind its header. The copy frees the buffer that the
    /// message was received in, which would otherwise stay allocated as long as the message waits for a
    /// slow client. A larger payload fills most of its buffer, so it is shared.
    const MAX_COPIED: usize = 32 * 1024;

    /// Length of the longest header without a mask, in bytes (RFC 6455 section 5.2).
    const MAX_HEADER: usize = 10;

    /// Creates a text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::message(Data::Text, text.into().into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::message(Data::Binary, bytes.into())
    }

    /// Creates a text message whose beginning has these parts. Its end is not copied.
    pub fn text_with_end(beginning: &[&str], end: TextEnd) -> Self {
        let length: usize = beginning.iter().map(|part| part.len()).sum();
        let header = Header::new(Data::Text, length + end.len());
        let beginning = beginning.iter().map(|part| part.as_bytes());
        let parts = iter::once(header.bytes()).chain(beginning);
        let TextEnd { mut buffer } = end;
        let Some(start) = TextEnd::ROOM.checked_sub(header.length + length) else {
            let parts: Vec<&[u8]> = parts.collect();
            let body = Bytes::from(buffer).split_off(TextEnd::ROOM);
            return Self::from_parts(parts.concat(), 0, body);
        };
        let mut room = buffer.get_mut(start..).unwrap_or_default();
        for part in parts {
            room.write_all(part).expect("the room is large enough");
        }
        Self::from_parts(buffer, start, Bytes::new())
    }

    /// Creates a text message that holds `value` as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let mut json = serde_json::to_vec(value)
            .expect("server messages have string keys and serialize without errors");
        json.shrink_to_fit();
        Self::message(Data::Text, json.into())
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
        Self::from_parts(bytes.to_vec(), 0, Bytes::new())
    }

    fn from_parts(buffer: Vec<u8>, start: usize, body: Bytes) -> Self {
        Self(Arc::new(EncodedFrame {
            buffer,
            start,
            body,
            messages: 1,
            recipients: AtomicUsize::new(0),
            whole: None,
            reservation: OnceLock::new(),
        }))
    }

    /// Records how many clients the frame is about to be queued for.
    pub(crate) fn set_recipients(&self, recipients: usize) {
        self.0.recipients.store(recipients, Ordering::Relaxed);
    }

    /// Returns the frame's memory divided by the number of its recipients, or of its current holders if these are
    /// more: about the bytes that each of them accounts for.
    ///
    /// Holders are effects that the broker is about to apply, the outboxes, and the writers of the recipients.
    /// Connections drop theirs while the broker counts, and a count may be a moment old, so this is an estimate. It
    /// only decides which connections account for the frame when memory is short; how much memory is used is in the
    /// reservation, exactly. The count is at least 1, because the caller has a clone.
    pub(crate) fn bytes_per_holder(&self) -> usize {
        let recipients = self.0.recipients.load(Ordering::Relaxed);
        self.memory() / recipients.max(Arc::strong_count(&self.0))
    }

    /// Reserves the frame's memory in `budget` until its last holder drops it. Further calls change nothing.
    pub(crate) fn reserve(&self, budget: &Arc<MemoryBudget>) {
        self.0
            .reservation
            .get_or_init(|| MemoryReservation::new(budget, self.memory()));
    }

    /// Returns the bytes that the frame keeps allocated.
    fn memory(&self) -> usize {
        self.0.buffer.capacity() + self.0.body.len() + OVERHEAD
    }

    fn message(kind: Data, payload: Bytes) -> Self {
        let header = Header::new(kind, payload.len());
        if payload.len() <= Self::MAX_COPIED {
            let mut buffer = BUFFERS.take(header.bytes().len() + payload.len());
            buffer.extend_from_slice(header.bytes());
            buffer.extend_from_slice(&payload);
            Self::from_parts(buffer, 0, Bytes::new())
        } else {
            Self::from_parts(header.bytes().to_vec(), 0, payload)
        }
    }

    fn encode(frame: Unencoded) -> Self {
        let mut buffer = Vec::with_capacity(frame.len());
        frame
            .format(&mut buffer)
            .expect("writing to a Vec does not fail");
        Self::from_parts(buffer, 0, Bytes::new())
    }

    /// Frees the buffers that are kept of frames that are gone. Called once a second, as they may keep the memory below
    /// them from going back to the system (see [`crate::base::spare`]).
    pub(crate) fn free_spare() {
        BUFFERS.free_all();
    }

    /// Returns the encoded length in bytes, header included.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a frame has at least its header"
    )]
    pub fn len(&self) -> usize {
        self.0.buffer.len() - self.0.start + self.0.body.len()
    }

    /// Returns the slices that are written to the socket, without the first `skip` bytes.
    pub(crate) fn pieces(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let EncodedFrame {
            buffer,
            start,
            body,
            ..
        } = &*self.0;
        let from = (start + skip).min(buffer.len());
        [buffer.get(from..), body.get(start + skip - from..)]
            .into_iter()
            .flatten()
            .filter(|piece| !piece.is_empty())
    }

    /// Returns the kind and the length of each data message, and the first bytes of it, at most `limit`, for the
    /// log.
    pub(crate) fn payload_prefixes(&self, limit: usize) -> impl Iterator<Item = PayloadPrefix> {
        let mut end = 0;
        let starts = self.message_lengths().map(move |length| {
            end += length;
            end - length
        });
        starts.filter_map(move |start| self.payload_prefix_at(start, limit))
    }

    fn payload_prefix_at(&self, start: usize, limit: usize) -> Option<PayloadPrefix> {
        let pieces = self.pieces(start).flatten();
        let start: Vec<u8> = pieces.copied().take(Self::MAX_HEADER + limit).collect();
        let mut start = Cursor::new(start);
        let (header, length) = FrameHeader::parse(&mut start).ok()??;
        let OpCode::Data(kind) = header.opcode else {
            return None;
        };
        let mut prefix = Vec::new();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).min(length);
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

impl TextEnd {
    /// Bytes for the header and the beginning. A longer beginning is a buffer of its own. The longest beginning of a
    /// relayed PeerJS message whose sender has an id of the server is 64 bytes, and the longest header 10.
    const ROOM: usize = 80;

    /// Copies the end of a text from its parts.
    pub fn from_parts(parts: &[&str]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut buffer = BUFFERS.take(Self::ROOM + length);
        buffer.resize(Self::ROOM, 0);
        for part in parts {
            buffer.extend_from_slice(part.as_bytes());
        }
        Self { buffer }
    }

    /// Returns a part of the text.
    ///
    /// # Panics
    /// If the range is not within the text, or cuts a character.
    pub fn part(&self, range: Range<usize>) -> &str {
        let text = self.buffer.get(Self::ROOM..).unwrap_or_default();
        let part = text.get(range).map(std::str::from_utf8);
        part.and_then(Result::ok)
            .expect("the range is one of the text")
    }

    fn len(&self) -> usize {
        self.buffer.len() - Self::ROOM
    }
}

/// The encoded header of an unmasked data frame that is a whole message.
struct Header {
    bytes: [u8; Frame::MAX_HEADER],
    length: usize,
}

impl Header {
    fn new(kind: Data, payload_length: usize) -> Self {
        let header = FrameHeader {
            opcode: OpCode::Data(kind),
            ..FrameHeader::default()
        };
        let mut bytes = [0; Frame::MAX_HEADER];
        let mut unused = bytes.as_mut_slice();
        header
            .format(payload_length as u64, &mut unused)
            .expect("no header is longer");
        let length = Frame::MAX_HEADER - unused.len();
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
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

    fn prefix(frame: &Frame, limit: usize) -> Option<PayloadPrefix> {
        frame.payload_prefixes(limit).next()
    }

    #[test]
    fn the_prefix_of_a_payload_is_without_the_header_and_control_frames_have_none() {
        for length in [0, 1, 125, 126, 32_769, 70_000] {
            let prefix = prefix(&Frame::text("x".repeat(length)), 800).unwrap();
            assert!(prefix.is_text);
            assert_eq!(prefix.length, length);
            assert_eq!(prefix.prefix, "x".repeat(length.min(800)).into_bytes());
        }
        assert!(!prefix(&Frame::binary(vec![1]), 9).unwrap().is_text);
        assert!(prefix(&Frame::ping(b"x"), 9).is_none());
        assert!(prefix(&Frame::encoded(b"HTTP/1.1 101"), 9).is_none());
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
    fn a_message_whose_beginning_comes_later_is_one_frame_whatever_the_lengths() {
        for end_length in [0, 1, 100, 32_768, 70_000] {
            for beginning_length in (0..=TextEnd::ROOM + 1).chain([1000]) {
                let (beginning, end) = ("b".repeat(beginning_length), "e".repeat(end_length));
                let (one, two) = beginning.split_at(beginning_length / 3);
                let text_end = TextEnd::from_parts(&[&end, "", "."]);
                let frame = Frame::text_with_end(&[one, two], text_end);
                let whole = Frame::text(format!("{beginning}{end}."));
                for skip in [0, 1, beginning_length + 4, whole.len()] {
                    let skip = skip.min(whole.len());
                    assert_eq!(encoded(&frame, skip), encoded(&whole, skip));
                }
                assert_eq!(frame.len(), whole.len());
            }
        }
    }

    #[test]
    fn a_message_whose_beginning_comes_later_keeps_its_buffer() {
        for beginning_length in [1, 1000] {
            let end = TextEnd::from_parts(&["end"]);
            let address = end.part(0..3).as_ptr();
            let frame = Frame::text_with_end(&[&"b".repeat(beginning_length)], end);
            let last = frame.pieces(0).last().unwrap();
            assert_eq!(last[last.len() - 3..].as_ptr(), address);
        }
    }

    #[test]
    fn a_frame_is_charged_once_until_its_last_holder_drops_it() {
        let budget = MemoryBudget::new(0);
        let frame = Frame::text("x".repeat(10_000));
        let cost = frame.len() + OVERHEAD;
        assert_eq!(frame.memory(), cost);
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
    fn a_broadcast_counts_in_equal_parts_for_its_recipients_from_the_first_on() {
        let frame = Frame::text("x".repeat(10_000));
        frame.set_recipients(100);
        assert_eq!(frame.bytes_per_holder(), (frame.len() + OVERHEAD) / 100);
    }

    #[test]
    fn a_frame_is_the_size_of_a_pointer() {
        assert_eq!(size_of::<Frame>(), size_of::<usize>());
    }
}
