//! Follows the frames in the bytes that a client sends.
//!
//! tungstenite never shrinks its read buffer after a large frame (snapview/tungstenite-rs#480, #496). The
//! buffer can be replaced only between two messages, and tungstenite does not report when that is.

use crate::broker::{MIN_PROGRESS_BYTES, MessageProgress};
use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use std::io::Cursor;

/// Size in bytes above which a payload is read up to its end and no further, so that nothing is left in
/// the read buffer at that moment.
pub(crate) const LARGE_PAYLOAD: u64 = 16 * 1024;

/// Number of consecutive small frames after which no large one is expected: to look whether the next one is large costs a
/// system call.
const MAX_SMALL_FRAMES: u32 = 64;

/// Bytes of a page of memory.
const PAGE: usize = 4096;

/// The longest frame header: 64 bits of length and a mask (RFC 6455 section 5.2).
pub(crate) const LONGEST_HEADER: usize = 14;

/// The position in a stream of frames.
#[derive(Default)]
pub(crate) struct FrameTracker {
    /// Bytes of an incomplete frame header. They are here and not in a block of their own, which each connection
    /// would keep from its first frame on.
    header: [u8; LONGEST_HEADER],
    /// Number of these bytes.
    header_length: usize,
    /// Bytes of the current frame's payload that are still to be read.
    payload_left: u64,
    /// Whether the current frame is larger than [`LARGE_PAYLOAD`].
    in_large_frame: bool,
    /// Number of whole messages and control frames that were read and that tungstenite has not returned yet.
    pub(crate) unreturned: usize,
    /// Whether the current message has fragments that are still to be read.
    in_message: bool,
    in_control_frame: bool,
    /// Bytes read of the current frame's payload.
    frame_bytes: usize,
    /// Bytes of the earlier fragments of the current message.
    fragment_bytes: usize,
    /// Whether the bytes were not a frame. No bytes are followed after them.
    is_invalid: bool,
    /// The most bytes read of a single payload since this was last reset.
    pub(crate) largest_payload: usize,
    /// Whether a message, or a control frame outside of one, has begun since progress was last asked for.
    has_begun: bool,
    /// Payload bytes of the unfinished message since it last made progress.
    progress_bytes: usize,
    /// Whether it has made progress since that was last asked for.
    has_advanced: bool,
    /// Number of small frames until no large one is expected any more.
    small_frames_left: u32,
}

impl FrameTracker {
    /// Returns whether only whole messages and whole control frames have been read.
    pub(crate) fn between_messages(&self) -> bool {
        !self.is_invalid && !self.in_message && self.payload_left == 0 && self.header_length == 0
    }

    /// Returns whether the client has sent large frames lately.
    pub(crate) fn expects_large(&self) -> bool {
        self.small_frames_left > 0
    }

    /// Returns the most bytes that the reader of the current message holds, for a read buffer of initial size `buffer`: the buffer
    /// has grown with the largest frame, and earlier fragments are collected outside it.
    pub(crate) fn buffered_bytes(&self, buffer: usize) -> usize {
        let largest = buffer.max(self.largest_payload);
        largest.max(self.touched_bytes(buffer)) + self.fragment_bytes
    }

    /// Returns the memory of the current frame if its payload does not fit a buffer of this size. tungstenite
    /// then allocates all that the frame announces, and touches a buffer's size more than it has read: whole
    /// pages, and one more as the allocation can begin anywhere in a page. So an announcement alone takes
    /// memory.
    fn touched_bytes(&self, buffer: usize) -> usize {
        let payload_left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
        let announced = self.frame_bytes.saturating_add(payload_left);
        if self.payload_left == 0 || announced <= buffer {
            return 0;
        }
        announced.min((self.frame_bytes + buffer).next_multiple_of(PAGE) + PAGE)
    }

    /// Returns how the message that is being received stands, since this was last asked for.
    pub(crate) fn take_progress(&mut self) -> MessageProgress {
        let has_begun = std::mem::take(&mut self.has_begun);
        let has_advanced = std::mem::take(&mut self.has_advanced);
        if self.between_messages() {
            MessageProgress::Finished
        } else if has_begun {
            MessageProgress::Begun
        } else if has_advanced {
            MessageProgress::Advanced
        } else {
            MessageProgress::Unchanged
        }
    }

    /// Returns how many bytes of a buffer of this size the next read may fill.
    pub(crate) fn max_read(&self, size: usize) -> usize {
        if self.in_large_frame {
            size.min(usize::try_from(self.payload_left).unwrap_or(usize::MAX))
        } else {
            size
        }
    }

    /// Follows the bytes of one read.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_invalid {
            bytes = if self.payload_left > 0 {
                self.advance_payload(bytes)
            } else {
                self.advance_header(bytes)
            };
        }
    }

    /// Follows payload, and returns the bytes after it.
    fn advance_payload<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let length = usize::try_from(self.payload_left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.payload_left -= length as u64;
        self.in_large_frame &= self.payload_left > 0;
        self.frame_bytes += length;
        // A control frame is no progress of the message that it interrupts.
        if !(self.in_control_frame && self.in_message) {
            self.progress_bytes += length;
            self.has_advanced |= self.progress_bytes >= MIN_PROGRESS_BYTES;
            self.progress_bytes %= MIN_PROGRESS_BYTES;
        }
        self.largest_payload = self.largest_payload.max(self.frame_bytes);
        self.end_frame();
        bytes.get(length..).unwrap_or_default()
    }

    /// Ends the frame if all of its payload has been read.
    fn end_frame(&mut self) {
        if self.payload_left > 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.frame_bytes);
        self.unreturned += usize::from(self.in_control_frame || !self.in_message);
        if !self.in_message {
            self.fragment_bytes = 0;
        } else if !self.in_control_frame {
            self.fragment_bytes += bytes;
        }
    }

    /// Follows a header, and returns the bytes after it.
    fn advance_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let before = self.header_length;
        if before == 0 && !self.in_message {
            self.has_begun = true;
            self.progress_bytes = 0;
        }
        let new = bytes.len().min(LONGEST_HEADER - before);
        for (free, byte) in self.header.iter_mut().skip(before).zip(bytes) {
            *free = *byte;
        }
        self.header_length = before + new;
        let header = self.header.get(..self.header_length);
        let mut cursor = Cursor::new(header.unwrap_or_default());
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let used = usize::try_from(cursor.position()).unwrap_or(before) - before;
                self.header_length = 0;
                self.payload_left = length;
                self.in_large_frame = length > LARGE_PAYLOAD;
                self.small_frames_left = if self.in_large_frame {
                    MAX_SMALL_FRAMES
                } else {
                    self.small_frames_left.saturating_sub(1)
                };
                self.in_control_frame = matches!(header.opcode, OpCode::Control(_));
                if !self.in_control_frame {
                    self.in_message = !header.is_final;
                }
                self.end_frame();
                bytes.get(used..).unwrap_or_default()
            }
            Ok(None) => bytes.get(new..).unwrap_or_default(),
            Err(_) => {
                // tungstenite will report the error.
                self.is_invalid = true;
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

    /// A masked frame, as clients send it; `last` if it ends its message.
    fn frame(size: usize, last: bool) -> Vec<u8> {
        let mut frame = Frame::message(Bytes::from(vec![7; size]), OpCode::Data(Data::Text), last);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        frame.format(&mut bytes).unwrap();
        bytes
    }

    /// A tracker that has followed these bytes.
    fn after(bytes: &[u8]) -> FrameTracker {
        let mut tracker = FrameTracker::default();
        tracker.advance(bytes);
        tracker
    }

    #[test]
    fn after_a_whole_message_and_only_then_the_position_is_between_messages() {
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
    fn a_message_ends_with_its_last_fragment_despite_control_frames_in_between() {
        let mut bytes = frame(10, false);
        assert!(!after(&bytes).between_messages());
        bytes.extend([0x89, 0x80, 1, 2, 3, 4]);
        assert!(!after(&bytes).between_messages());
        bytes.extend([0x80, 0x80, 1, 2, 3, 4]);
        assert!(after(&bytes).between_messages());
    }

    #[test]
    fn fragments_count_as_buffered_until_their_message_is_whole() {
        let mut bytes = frame(1000, false);
        bytes.extend([0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend([0x00, 0x82, 1, 2, 3, 4, 5, 6]);
        assert_eq!(after(&bytes).buffered_bytes(2048), 2048 + 1002);
        bytes.extend([0x80, 0x80, 1, 2, 3, 4]);
        assert_eq!(after(&bytes).buffered_bytes(2048), 2048);
    }

    #[test]
    fn the_buffer_grows_with_the_received_part_of_the_largest_frame_and_does_not_shrink() {
        let bytes = frame(100_000, false);
        assert_eq!(
            after(&bytes[..14]).buffered_bytes(2048),
            2 * PAGE,
            "the payload is announced, but none is received"
        );
        // What was received, a buffer, and what these do not fill of their pages.
        assert_eq!(after(&bytes[..50_014]).buffered_bytes(2048), 14 * PAGE);
        assert_eq!(after(&bytes[..99_000]).buffered_bytes(2048), 100_000);
        let small = frame(3000, true);
        assert_eq!(after(&small[..10]).buffered_bytes(2048), 3000);
        assert_eq!(after(&small[..10]).buffered_bytes(4096), 4096);
        assert_eq!(
            after(&bytes).buffered_bytes(2048),
            200_000,
            "in the buffer and collected as a fragment"
        );
        let bytes = [bytes, frame(1, true)].concat();
        assert_eq!(after(&bytes).buffered_bytes(2048), 100_000);
        assert_eq!(after(&frame(100, true)).buffered_bytes(2048), 2048);
    }

    #[test]
    fn a_large_frame_is_read_to_its_end_and_no_further() {
        let bytes = frame(100_000, true);
        assert_eq!(after(&bytes[..bytes.len() - 10]).max_read(4096), 10);
        assert_eq!(after(&bytes[..bytes.len() - 10_000]).max_read(4096), 4096);
        assert_eq!(after(&bytes).max_read(4096), 4096);
        assert_eq!(after(&frame(1000, true)[..100]).max_read(4096), 4096);
    }

    #[test]
    fn a_large_frame_is_expected_until_sixty_four_small_ones_have_come() {
        let (large, small) = (frame(20_000, true), frame(1, true));
        assert!(!after(&small).expects_large());
        let mut bytes = [large.clone(), small.repeat(63)].concat();
        assert!(after(&bytes).expects_large());
        bytes.extend(small);
        assert!(!after(&bytes).expects_large());
        bytes.extend(large);
        assert!(after(&bytes).expects_large());
    }

    #[test]
    fn whole_messages_and_control_frames_are_counted_and_fragments_are_not() {
        let ping = [0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut bytes = [frame(10, true), frame(0, true)].concat();
        assert_eq!(after(&bytes).unreturned, 2);
        bytes.extend(frame(20_000, false));
        bytes.extend(ping);
        assert_eq!(after(&bytes).unreturned, 3);
        // The end of the message, with a payload and without one.
        bytes.extend([0x80, 0x81, 1, 2, 3, 4, 5]);
        assert_eq!(after(&bytes).unreturned, 4);
        assert_eq!(after(&bytes[..bytes.len() - 1]).unreturned, 3);
        bytes.extend([0x01, 0x80, 1, 2, 3, 4, 0x80, 0x80, 1, 2, 3, 4]);
        assert_eq!(after(&bytes).unreturned, 5);
    }

    #[test]
    fn a_message_progresses_with_each_kib_of_its_payload() {
        let bytes = frame(5000, false);
        let mut tracker = FrameTracker::default();
        let mut progress = |bytes: &[u8]| {
            tracker.advance(bytes);
            tracker.take_progress()
        };
        assert_eq!(progress(&bytes[..1]), MessageProgress::Begun);
        assert_eq!(progress(&bytes[1..1031]), MessageProgress::Unchanged);
        assert_eq!(progress(&bytes[1031..1040]), MessageProgress::Advanced);
        // Neither empty fragments nor control frames are progress.
        assert_eq!(progress(&bytes[1040..]), MessageProgress::Advanced);
        let ping = [0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8];
        let empty = [0x00, 0x80, 1, 2, 3, 4];
        for _ in 0..1000 {
            assert_eq!(progress(&ping), MessageProgress::Unchanged);
            assert_eq!(progress(&empty), MessageProgress::Unchanged);
        }
        assert_eq!(
            progress(&[0x80, 0x80, 1, 2, 3, 4]),
            MessageProgress::Finished
        );
        // A control frame can be unfinished, too.
        assert_eq!(progress(&ping[..9]), MessageProgress::Begun);
        assert_eq!(progress(&ping[9..]), MessageProgress::Finished);
        let next = [frame(1, true), frame(100, true)].concat();
        assert_eq!(progress(&next[..20]), MessageProgress::Begun);
    }

    proptest! {
        #[test]
        fn the_position_does_not_depend_on_how_the_bytes_are_cut(
            sizes in prop::collection::vec((0usize..200_000, any::<bool>()), 1..5),
            step in 1usize..5000,
        ) {
            let bytes: Vec<u8> = sizes.iter().flat_map(|&(size, last)| frame(size, last)).collect();
            let mut tracker = FrameTracker::default();
            bytes.chunks(step).for_each(|chunk| tracker.advance(chunk));
            prop_assert_eq!(tracker.between_messages(), sizes.last().unwrap().1);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            after(&bytes);
        }
    }
}
