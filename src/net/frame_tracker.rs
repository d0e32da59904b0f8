//! Where in a client's frames the reading stands.
//!
//! tungstenite keeps its read buffer for good once a large frame has made it large. A new one can
//! take its place only between two messages, and tungstenite does not tell when that is.

use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use std::io::Cursor;

/// A payload above this size is read up to its end and not beyond, so that there is a moment at
/// which nothing is buffered.
pub(crate) const LARGE: u64 = 16 * 1024;

/// The longest frame header: 64 bits of length and a mask (RFC 6455 section 5.2).
const LONGEST_HEADER: usize = 14;

/// Follows the frame headers in what is read.
#[derive(Default)]
pub(crate) struct FrameTracker {
    header: Vec<u8>,
    payload_left: u64,
    in_large: bool,
    /// The last read began within a large frame and ended with it.
    pub(crate) large_frame_ended: bool,
    in_message: bool,
    in_control: bool,
    /// Octets so far of the payload of this frame, and of the earlier fragments of its message.
    frame: usize,
    fragments: usize,
    lost: bool,
    /// The most octets of one payload since this was last set to 0.
    pub(crate) largest_payload: usize,
    /// Frames that were not large since the last one that was.
    pub(crate) consecutive_small_frames: u32,
}

impl FrameTracker {
    /// Whether all that was read so far are whole messages. Control frames in between are whole,
    /// too.
    pub(crate) fn between_messages(&self) -> bool {
        !self.lost && !self.in_message && self.payload_left == 0 && self.header.is_empty()
    }

    /// What tungstenite keeps at the most, in bytes, if its buffer was of this size at first: it has
    /// grown with the largest frame, and the fragments that came before are put together elsewhere.
    pub(crate) fn buffered_bytes(&self, buffer: usize) -> usize {
        buffer.max(self.largest_payload) + self.fragments
    }

    /// How much of a buffer of this size may be filled by the next read.
    pub(crate) fn limit(&self, size: usize) -> usize {
        if self.in_large {
            size.min(usize::try_from(self.payload_left).unwrap_or(usize::MAX))
        } else {
            size
        }
    }

    /// Follows what was read.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        // What else a read brings that began before a large frame is with tungstenite still.
        let began_in_large = self.in_large;
        while !bytes.is_empty() && !self.lost {
            bytes = if self.payload_left > 0 {
                self.payload(bytes)
            } else {
                self.header(bytes)
            };
        }
        self.large_frame_ended &= began_in_large;
    }

    fn payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(self.payload_left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.payload_left -= here as u64;
        self.large_frame_ended = self.in_large && self.payload_left == 0;
        self.in_large &= self.payload_left > 0;
        self.frame += here;
        self.largest_payload = self.largest_payload.max(self.frame);
        self.finish();
        bytes.get(here..).unwrap_or_default()
    }

    /// Ends the frame, if this is its end.
    fn finish(&mut self) {
        if self.payload_left > 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.frame);
        if !self.in_message {
            self.fragments = 0;
        } else if !self.in_control {
            self.fragments += bytes;
        }
    }

    fn header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.large_frame_ended = false;
        let before = self.header.len();
        let new = bytes.len().min(LONGEST_HEADER - before);
        self.header
            .extend_from_slice(bytes.get(..new).unwrap_or_default());
        let mut cursor = Cursor::new(&self.header);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let used = usize::try_from(cursor.position()).unwrap_or(before) - before;
                self.header.clear();
                self.payload_left = length;
                self.in_large = length > LARGE;
                self.consecutive_small_frames = if self.in_large {
                    0
                } else {
                    self.consecutive_small_frames.saturating_add(1)
                };
                self.in_control = matches!(header.opcode, OpCode::Control(_));
                if !self.in_control {
                    self.in_message = !header.is_final;
                }
                self.finish();
                bytes.get(used..).unwrap_or_default()
            }
            Ok(None) => bytes.get(new..).unwrap_or_default(),
            Err(_) => {
                // No frame at all; tungstenite will say so.
                self.lost = true;
                &[]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_tungstenite::tungstenite::Bytes;
    use async_tungstenite::tungstenite::protocol::frame::Frame;
    use async_tungstenite::tungstenite::protocol::frame::coding::Data;
    use proptest::prelude::*;

    fn frame(size: usize, last: bool) -> Vec<u8> {
        let mut frame = Frame::message(Bytes::from(vec![7; size]), OpCode::Data(Data::Text), last);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn after(bytes: &[u8]) -> FrameTracker {
        let mut frames = FrameTracker::default();
        frames.advance(bytes);
        frames
    }

    #[test]
    fn only_whole_messages_end_between_messages() {
        for size in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = frame(size, true);
            assert!(after(&bytes).between_messages());
            for cut in [1, 2, bytes.len() / 2, bytes.len() - 1] {
                assert!(
                    !after(&bytes[..cut]).between_messages(),
                    "{size} bytes cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn a_message_ends_with_its_last_fragment_whatever_control_frames_come_between() {
        let mut bytes = frame(10, false);
        assert!(!after(&bytes).between_messages());
        bytes.extend([0x89, 0x80, 1, 2, 3, 4]);
        assert!(!after(&bytes).between_messages());
        bytes.extend([0x80, 0x80, 1, 2, 3, 4]);
        assert!(after(&bytes).between_messages());
    }

    #[test]
    fn fragments_are_kept_until_their_message_is_whole() {
        let mut bytes = frame(1000, false);
        bytes.extend([0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0x00, 0x82, 1, 2, 3, 4, 5, 6]);
        assert_eq!(after(&bytes).buffered_bytes(2048), 2048 + 1002);
        bytes.extend([0x80, 0x80, 1, 2, 3, 4]);
        assert_eq!(after(&bytes).buffered_bytes(2048), 2048);
    }

    #[test]
    fn the_buffer_grows_with_what_came_of_the_largest_frame_and_stays_so() {
        let bytes = frame(100_000, false);
        assert_eq!(
            after(&bytes[..14]).buffered_bytes(2048),
            2048,
            "nothing but announced"
        );
        assert_eq!(after(&bytes[..50_014]).buffered_bytes(2048), 50_000);
        assert_eq!(
            after(&bytes).buffered_bytes(2048),
            200_000,
            "there and put together"
        );
        let bytes = [bytes, frame(1, true)].concat();
        assert_eq!(after(&bytes).buffered_bytes(2048), 100_000);
        assert_eq!(after(&frame(100, true)).buffered_bytes(2048), 2048);
    }

    #[test]
    fn a_large_frame_is_read_to_its_end_and_not_beyond() {
        let bytes = frame(100_000, true);
        assert_eq!(after(&bytes[..bytes.len() - 10]).limit(4096), 10);
        assert_eq!(after(&bytes[..bytes.len() - 10_000]).limit(4096), 4096);
        assert_eq!(after(&bytes).limit(4096), 4096);
        assert_eq!(after(&frame(1000, true)[..100]).limit(4096), 4096);
    }

    #[test]
    fn only_a_read_within_a_large_frame_can_be_known_to_have_been_used_up_with_it() {
        let mut bytes = frame(1, true);
        bytes.extend(frame(20_000, true));
        assert!(!after(&bytes).large_frame_ended);
        let mut frames = after(&bytes[..100]);
        frames.advance(&bytes[100..]);
        assert!(frames.large_frame_ended);
        frames.advance(&frame(1, true));
        assert!(!frames.large_frame_ended);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_octets_are_cut(
            sizes in prop::collection::vec((0usize..200_000, any::<bool>()), 1..5),
            step in 1usize..5000,
        ) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|&(size, last)| frame(size, last)).collect();
            let mut frames = FrameTracker::default();
            bytes.chunks(step).for_each(|chunk| frames.advance(chunk));
            prop_assert_eq!(frames.between_messages(), sizes.last().unwrap().1);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            after(&bytes);
        }
    }
}
