//! The turn of a connection's task: how much it handles before other tasks run (rulings, "turns").
//!
//! What is fair is equal cost, not an equal number of messages. So a turn ends by whichever limit it reaches
//! first.

use std::time::{Duration, Instant};

/// Messages and control frames after which a turn ends. Also the most commands that are sent to the broker in
/// one event.
pub(super) const MAX_FRAMES: usize = 16;

/// Bytes of messages after which a turn ends.
const MAX_BYTES: usize = 16 * 1024;

/// Time that decoding may take in a turn: it ends with the message that takes it past this.
const MAX_DECODING: Duration = Duration::from_millis(1);

/// Size of a message in bytes from which the time of decoding it is measured. Smaller ones end the turn by
/// [`MAX_BYTES`] before they take long, and reading the clock twice would cost a tenth of decoding one.
const MEASURED: usize = 4 * 1024;

/// The work of one turn so far.
#[derive(Default)]
pub(super) struct Turn {
    frames: usize,
    bytes: usize,
    decoding: Duration,
}

impl Turn {
    /// Counts a message or a control frame of this many bytes.
    pub(super) fn count(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes;
    }

    /// Decodes a message of this many bytes, and counts the time.
    pub(super) fn decode<T>(&mut self, bytes: usize, decode: impl FnOnce() -> T) -> T {
        if bytes < MEASURED {
            return decode();
        }
        let start = Instant::now();
        let decoded = decode();
        self.decoding += start.elapsed();
        decoded
    }

    /// Returns whether the turn is over.
    pub(super) fn is_over(&self) -> bool {
        self.frames >= MAX_FRAMES || self.bytes >= MAX_BYTES || self.decoding > MAX_DECODING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_after_16_frames_or_16_kib_or_a_millisecond_of_decoding() {
        let turn = |frames: usize, bytes: usize| {
            let mut turn = Turn::default();
            (0..frames).for_each(|_| turn.count(bytes));
            turn
        };
        assert!(!turn(15, 1000).is_over());
        assert!(turn(16, 0).is_over());
        assert!(!turn(3, 5000).is_over());
        assert!(turn(4, 5000).is_over());
        let mut slow = Turn::default();
        slow.decode(MEASURED, || {
            let start = Instant::now();
            while start.elapsed() <= MAX_DECODING {}
        });
        assert!(slow.is_over());
    }
}
