//! A WebSocket frame on its way to clients.

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

/// A frame as the octets that go to the socket, encoded once and shared by all who get it.
///
/// A clone is a reference count, and what waits in an outbox for somebody is one pointer.
#[derive(Clone)]
pub struct Frame(Arc<EncodedFrame>);

/// The header and the payload in one piece, or, where the payload is large, in two, so that
/// what is only passed on is not copied.
struct EncodedFrame {
    head: Bytes,
    body: Bytes,
    /// For what it takes while it waits for anybody, however many they are.
    charge: OnceLock<MemoryReservation>,
}

/// What a frame takes besides its octets: its parts and their allocations.
const OVERHEAD: usize = 128;

impl Frame {
    /// Up to this many bytes a payload is copied behind its header. It frees the buffer that the
    /// message was received in, which would otherwise be held as long as the message waits for a
    /// slow client, and of which a larger one is no small part.
    const COPIED_UP_TO: usize = 32 * 1024;

    /// Of a header without a mask (RFC 6455 section 5.2).
    const LONGEST_HEADER: usize = 10;

    /// A text message.
    pub fn text(text: impl Into<Utf8Bytes>) -> Self {
        Self::message(Data::Text, &[], text.into().into())
    }

    /// A binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::message(Data::Binary, &[], bytes.into())
    }

    /// A text message of two parts, the second of which was there before and is shared if it is
    /// large.
    pub fn text_in_two(beginning: &str, rest: Utf8Bytes) -> Self {
        Self::message(Data::Text, beginning.as_bytes(), rest.into())
    }

    /// A text message that holds this value as JSON.
    pub fn json(value: &impl Serialize) -> Self {
        let mut json =
            serde_json::to_vec(value).expect("wire types have string keys and no failing parts");
        json.shrink_to_fit();
        Self::message(Data::Text, &[], json.into())
    }

    /// A Ping with this payload (RFC 6455 section 5.5.2).
    pub(crate) fn ping(payload: &[u8]) -> Self {
        Self::encode(Unencoded::ping(Bytes::copy_from_slice(payload)))
    }

    /// A Close frame (RFC 6455 section 5.5.1).
    pub(crate) fn close(why: CloseReason) -> Self {
        Self::encode(Unencoded::close(Some(close_frame(why))))
    }

    /// Octets that were encoded elsewhere.
    pub(crate) fn encoded(bytes: &[u8]) -> Self {
        Self::of(Bytes::copy_from_slice(bytes), Bytes::new())
    }

    fn of(head: Bytes, body: Bytes) -> Self {
        Self(Arc::new(EncodedFrame {
            head,
            body,
            charge: OnceLock::new(),
        }))
    }

    /// What it takes of memory for each of those who have it now, roughly.
    pub(crate) fn share(&self) -> usize {
        (self.len() + OVERHEAD) / Arc::strong_count(&self.0)
    }

    /// Counts it against a budget from now on, as long as anybody has it: once, however often it is
    /// said.
    pub(crate) fn charge(&self, budget: &Arc<MemoryBudget>) {
        let bytes = || self.len() + OVERHEAD;
        self.0
            .charge
            .get_or_init(|| MemoryReservation::new(budget, bytes()));
    }

    fn message(kind: Data, beginning: &[u8], rest: Bytes) -> Self {
        let header = FrameHeader {
            opcode: OpCode::Data(kind),
            ..FrameHeader::default()
        };
        let (copied, body) = if rest.len() <= Self::COPIED_UP_TO {
            (rest, Bytes::new())
        } else {
            (Bytes::new(), rest)
        };
        let length = beginning.len() + copied.len() + body.len();
        let mut head = Vec::with_capacity(Self::LONGEST_HEADER + beginning.len() + copied.len());
        header
            .format(length as u64, &mut head)
            .expect("a Vec takes all");
        head.extend_from_slice(beginning);
        head.extend_from_slice(&copied);
        Self::of(head.into(), body)
    }

    fn encode(frame: Unencoded) -> Self {
        let mut head = Vec::with_capacity(frame.len());
        frame.format(&mut head).expect("a Vec takes all");
        Self::of(head.into(), Bytes::new())
    }

    /// How many octets it is on the wire, header included.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a frame has at least its header"
    )]
    pub fn len(&self) -> usize {
        self.0.head.len() + self.0.body.len()
    }

    /// The pieces in which it goes to the socket, less the first `skip` octets.
    pub(crate) fn pieces(&self, skip: usize) -> impl Iterator<Item = &[u8]> {
        let (head, body) = (&self.0.head, &self.0.body);
        let head_skip = skip.min(head.len());
        [head.get(head_skip..), body.get(skip - head_skip..)]
            .into_iter()
            .flatten()
            .filter(|piece| !piece.is_empty())
    }

    /// The payload of a text message, for tests and for whoever looks at effects.
    pub fn as_text(&self) -> Option<String> {
        let mut bytes = Cursor::new(self.pieces(0).collect::<Vec<_>>().concat());
        FrameHeader::parse(&mut bytes).ok()??;
        let mut text = String::new();
        bytes.read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// What a Close frame says.
pub(crate) fn close_frame(why: CloseReason) -> CloseFrame {
    CloseFrame {
        code: why.code().into(),
        reason: Utf8Bytes::from_static(why.reason()),
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the content: what is printed ends up in logs.
        write!(f, "Frame({} octets)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_the_wire(frame: &Frame, skip: usize) -> Vec<u8> {
        frame.pieces(skip).flatten().copied().collect()
    }

    #[test]
    fn a_short_message_is_one_unmasked_final_frame() {
        // RFC 6455 section 5.7: a single-frame unmasked text message.
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(on_the_wire(&Frame::text("Hello"), 0), hello);
        assert_eq!(on_the_wire(&Frame::text(""), 0), [0x81, 0x00]);
        assert_eq!(
            on_the_wire(&Frame::binary(vec![0xff]), 0),
            [0x82, 0x01, 0xff]
        );
        assert_eq!(on_the_wire(&Frame::ping(b"x"), 0), [0x89, 0x01, b'x']);
    }

    #[test]
    fn every_length_is_encoded_and_can_be_resumed_anywhere() {
        for length in [0, 1, 125, 126, 32_768, 32_769, 65_535, 65_536, 200_000] {
            let text = "x".repeat(length);
            let frame = Frame::text(text.clone());
            let all = on_the_wire(&frame, 0);
            assert_eq!(all.len(), frame.len());
            assert_eq!(frame.as_text(), Some(text));
            let mut cursor = Cursor::new(&all);
            let (header, announced) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(announced as usize, length);
            for skip in [0, 1, 2, 3, 9, 10, 11, all.len() - 1, all.len()] {
                assert_eq!(
                    on_the_wire(&frame, skip.min(all.len())),
                    all[skip.min(all.len())..]
                );
            }
        }
    }

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_not() {
        let large = Bytes::from(vec![b'x'; 100_000]);
        let frame = Frame::text(Utf8Bytes::try_from(large.clone()).unwrap());
        assert_eq!(frame.0.body.as_ptr(), large.as_ptr());
        let small = Bytes::from(vec![b'x'; 100]);
        let frame = Frame::text(Utf8Bytes::try_from(small.clone()).unwrap());
        assert!(
            small.is_unique(),
            "{frame:?} holds on to the buffer it was received in"
        );
    }

    #[test]
    fn a_message_of_two_parts_is_one() {
        for length in [0, 1, 32_768, 32_769, 70_000] {
            let rest = "x".repeat(length);
            let frame = Frame::text_in_two("beginning, ", rest.clone().into());
            let whole = Frame::text(format!("beginning, {rest}"));
            assert_eq!(on_the_wire(&frame, 0), on_the_wire(&whole, 0));
        }
    }

    #[test]
    fn it_is_charged_once_as_long_as_anybody_has_it() {
        let budget = MemoryBudget::new(0);
        let frame = Frame::text("x".repeat(10_000));
        let cost = frame.len() + OVERHEAD;
        frame.charge(&budget);
        assert_eq!(frame.share(), cost);
        let shared = frame.clone();
        shared.charge(&budget);
        assert_eq!(budget.reserved(), cost);
        assert_eq!(frame.share(), cost / 2);
        drop(frame);
        assert_eq!(budget.reserved(), cost);
        drop(shared);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn in_an_outbox_a_frame_is_a_pointer() {
        assert_eq!(size_of::<Frame>(), size_of::<usize>());
    }
}
