//! Several messages in one [`Frame`]: what goes to the same recipients one after another is queued for each of them
//! once.

use super::{EncodedFrame, Frame};
use async_tungstenite::tungstenite::Bytes;
use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use std::io::Cursor;
use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

/// A frame of several messages, split where its writing has stopped.
pub(crate) struct SplitFrame {
    /// Number of the messages that are written whole, and their encoded length.
    pub(crate) done: (usize, usize),
    /// The message that is written in part, and how much of it.
    pub(crate) partial: Option<(Frame, usize)>,
    /// The messages of which nothing is written.
    pub(crate) rest: Option<Frame>,
}

impl Frame {
    /// Creates a frame of the messages of these frames, in order. Their bytes are copied.
    pub(crate) fn join<'a>(frames: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let length = frames.clone().map(Self::len).sum();
        let messages = frames.clone().map(Self::messages).sum();
        let mut body = Vec::with_capacity(length);
        for piece in frames.flat_map(|frame| frame.pieces(0)) {
            body.extend_from_slice(piece);
        }
        Self::of_messages(messages, body.into(), None)
    }

    fn of_messages(messages: usize, body: Bytes, whole: Option<Self>) -> Self {
        Self(Arc::new(EncodedFrame {
            buffer: Vec::new(),
            start: 0,
            body,
            messages,
            recipients: AtomicUsize::new(0),
            whole,
            reservation: OnceLock::new(),
        }))
    }

    /// Returns the number of messages.
    pub(crate) fn messages(&self) -> usize {
        self.0.messages
    }

    /// Returns the encoded lengths of the messages in bytes, in order.
    pub(crate) fn message_lengths(&self) -> impl Iterator<Item = usize> {
        let mut start = 0;
        (0..self.messages()).map_while(move |_| {
            let length = match self.messages() {
                1 => self.len(),
                _ => encoded_length(self.0.body.get(start..)?)?,
            };
            start += length;
            Some(length)
        })
    }

    /// Returns the payloads of all its text messages.
    #[cfg(test)]
    pub(crate) fn as_texts(&self) -> Vec<String> {
        let prefixes = self.payload_prefixes(self.len());
        let texts = prefixes.map(|payload| String::from_utf8(payload.prefix).unwrap());
        texts.collect()
    }

    /// Splits a frame of several messages of which the first `written` bytes are written, so that other frames can
    /// go between its messages. `None` for a frame of one message, which nothing may interrupt.
    pub(crate) fn split(&self, written: usize) -> Option<SplitFrame> {
        if self.messages() == 1 {
            return None;
        }
        let (mut messages, mut end) = (0, 0);
        let mut lengths = self.message_lengths();
        let next = loop {
            match lengths.next() {
                Some(length) if end + length <= written => {
                    messages += 1;
                    end += length;
                }
                next => break next.unwrap_or_default(),
            }
        };
        let (done, partial_bytes) = ((messages, end), written - end);
        let mut partial = None;
        if partial_bytes > 0 {
            partial = Some((self.part(1, end..end + next), partial_bytes));
            messages += 1;
            end += next;
        }
        let left = self.messages() - messages;
        Some(SplitFrame {
            done,
            partial,
            rest: (left > 0).then(|| self.part(left, end..self.len())),
        })
    }

    /// Returns a part of a frame of several messages, which shares its memory.
    fn part(&self, messages: usize, range: Range<usize>) -> Self {
        let whole = self.0.whole.as_ref().unwrap_or(self).clone();
        Self::of_messages(messages, self.0.body.slice(range), Some(whole))
    }
}

/// Returns the length of the first of these encoded messages, header included.
fn encoded_length(messages: &[u8]) -> Option<usize> {
    let mut messages = Cursor::new(messages);
    let (_, payload) = FrameHeader::parse(&mut messages).ok()??;
    usize::try_from(messages.position() + payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory_budget::MemoryBudget;

    #[test]
    fn a_joined_frame_has_the_bytes_of_its_messages_and_knows_where_each_ends() {
        let frames = [0, 1, 125, 126, 32_769, 70_000].map(|length| Frame::text("x".repeat(length)));
        let joined = Frame::join(frames.iter());
        let bytes = |frame: &Frame| frame.pieces(0).collect::<Vec<_>>().concat();
        let all: Vec<u8> = frames.iter().flat_map(bytes).collect();
        assert_eq!(bytes(&joined), all);
        assert_eq!(joined.messages(), frames.len());
        let lengths: Vec<usize> = frames.iter().map(Frame::len).collect();
        assert_eq!(joined.message_lengths().collect::<Vec<_>>(), lengths);
        let prefixes = joined.payload_prefixes(9);
        let prefixes: Vec<usize> = prefixes.map(|prefix| prefix.length).collect();
        assert_eq!(prefixes, [0, 1, 125, 126, 32_769, 70_000]);
    }

    #[test]
    fn a_joined_frame_is_split_after_what_is_written_at_any_byte() {
        let frames = ["a", "", "three"].map(Frame::text);
        let joined = Frame::join(frames.iter());
        let bytes = |frame: &Frame| frame.pieces(0).collect::<Vec<_>>().concat();
        let all = bytes(&joined);
        for written in 0..=all.len() {
            let split = joined.split(written).unwrap();
            let partial = split.partial.as_ref();
            let in_part = partial.map_or(0, |(_, written)| *written);
            assert_eq!(split.done.1 + in_part, written);
            let partial = partial.map(|(frame, _)| frame);
            let left: Vec<&Frame> = partial.into_iter().chain(&split.rest).collect();
            let left_bytes: Vec<u8> = left.iter().flat_map(|frame| bytes(frame)).collect();
            assert_eq!(left_bytes, all[split.done.1..]);
            let messages: usize = left.iter().map(|frame| frame.messages()).sum();
            assert_eq!(split.done.0 + messages, 3);
            assert!(partial.is_none_or(|frame| frame.messages() == 1));
        }
        assert!(frames[0].split(1).is_none());
    }

    #[test]
    fn a_part_keeps_the_memory_of_the_whole_reserved() {
        let budget = MemoryBudget::new(0);
        let joined = Frame::join([Frame::text("a"), Frame::text("b")].iter());
        joined.reserve(&budget);
        let reserved = budget.reserved();
        let rest = joined.split(3).unwrap().rest;
        drop(joined);
        assert_eq!(budget.reserved(), reserved);
        drop(rest);
        assert_eq!(budget.reserved(), 0);
    }
}
