//! A large message that comes in one frame. It is received into a block of its own size, and unmasked there.
//!
//! tungstenite clears all of its buffer before each read, copies what it has read of a payload before it knew the length,
//! and unmasks a payload once all of it has come, when its beginning has left the caches. Clearing and copying alone were
//! a seventh of what such a message costs. tungstenite reads all other frames, those whose header breaks a rule among
//! them.

use crate::net::frame_writer::FrameWriter;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use async_tungstenite::tungstenite::{Bytes, Error, Message};
use std::task::{Context, Poll, ready};

/// A large message that is being received.
pub(super) struct LargeMessage {
    /// What has come of the frame, its payload unmasked. The capacity is the frame's length, so that no read goes beyond it.
    frame: Vec<u8>,
    header_length: usize,
    mask: [u8; 4],
    is_text: bool,
}

impl LargeMessage {
    /// Returns the message of this many bytes that begins with this header, if it comes in one frame, breaks no rule and is
    /// within the limit. The length of the header is not in it: a client may write a length with more bytes than needed.
    pub(super) fn new(
        header: &FrameHeader,
        header_length: usize,
        length: u64,
        max_length: usize,
    ) -> Option<Self> {
        let is_text = match header.opcode {
            OpCode::Data(Data::Text) => true,
            OpCode::Data(Data::Binary) => false,
            _ => return None,
        };
        let has_reserved_bits = header.rsv1 || header.rsv2 || header.rsv3;
        let payload_length = usize::try_from(length).ok()?;
        if !header.is_final || has_reserved_bits || payload_length > max_length {
            return None;
        }
        let mask = header.mask?;
        let frame = Vec::with_capacity(header_length + payload_length);
        // The standard library may allocate more. tungstenite reads the message then.
        (frame.capacity() == header_length + payload_length).then_some(Self {
            frame,
            header_length,
            mask,
            is_text,
        })
    }

    /// Reads until the message is whole, and returns it then.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut FrameWriter,
    ) -> Poll<Result<Message, Error>> {
        while self.frame.len() < self.frame.capacity() {
            let before = self.frame.len();
            if ready!(writer.poll_read_spare(cx, &mut self.frame))? == 0 {
                let error = ProtocolError::ResetWithoutClosingHandshake;
                return Poll::Ready(Err(error.into()));
            }
            self.unmask(before);
        }
        let frame = Bytes::from(std::mem::take(&mut self.frame));
        let payload = frame.slice(self.header_length..);
        Poll::Ready(if self.is_text {
            payload.try_into().map(Message::Text).map_err(Error::from)
        } else {
            Ok(Message::Binary(payload))
        })
    }

    /// Unmasks the payload from this byte of the frame on (RFC 6455 section 5.3).
    fn unmask(&mut self, from: usize) {
        let from = from.max(self.header_length);
        let payload = self.frame.get_mut(from..).unwrap_or_default();
        let mut mask = self.mask;
        mask.rotate_left((from - self.header_length) % 4);
        let [a, b, c, d] = mask;
        let mask_word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut words = payload.chunks_exact_mut(size_of::<u64>());
        // A loop over bytes is compiled to something many times slower.
        for word in &mut words {
            let mut masked = [0; size_of::<u64>()];
            masked.copy_from_slice(word);
            word.copy_from_slice(&(u64::from_ne_bytes(masked) ^ mask_word).to_ne_bytes());
        }
        let rest = words.into_remainder().iter_mut();
        rest.zip(mask.iter().cycle())
            .for_each(|(byte, mask)| *byte ^= mask);
    }
}
