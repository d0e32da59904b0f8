//! Interpretation of a fuzzer's bytes as stories and messages.
//!
//! A story is a sequence of steps. A step is a letter, followed by its arguments: a digit for a number or a
//! time, a line for a text. Unknown letters are skipped, so any bytes are a story, and a story can be written
//! by hand.

use crate::realm::Message;

/// The timeouts of the protocols and values next to them, in milliseconds.
const TIMES: [u64; 18] = [
    0, 1, 500, 999, 1_000, 1_001, 2_000, 4_999, 5_000, 9_999, 10_000, 14_999, 15_000, 20_000,
    59_999, 60_000, 60_001, 300_000,
];

/// The bytes that have not been read yet.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads the next byte; `None` at the end.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Reads one byte as a number below `count`; the digit `0` is 0.
    pub(crate) fn below(&mut self, count: usize) -> Option<usize> {
        Some(usize::from(self.byte()?.wrapping_sub(b'0')) % count)
    }

    /// Reads two bytes as a big-endian number.
    pub(crate) fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// Reads one byte as a flag; the digit `0` is false.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        Some(self.below(2)? == 1)
    }

    /// Reads one byte as an index into [`TIMES`]. Returns the time in milliseconds.
    pub(crate) fn millis(&mut self) -> Option<u64> {
        TIMES.get(self.below(TIMES.len())?).copied()
    }

    /// Reads a line. Returns it without the newline.
    pub(crate) fn line(&mut self) -> Option<&'a [u8]> {
        let mut parts = self.0.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().filter(|_| !self.0.is_empty())?;
        self.0 = parts.next().unwrap_or_default();
        Some(line)
    }

    /// Reads a line as text, with invalid UTF-8 replaced.
    pub(crate) fn text(&mut self) -> Option<String> {
        self.line()
            .map(|line| String::from_utf8_lossy(line).into_owned())
    }

    /// Reads `count` bytes, or fewer at the end.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Splits bytes into a client's messages, one per line. A line that begins with a zero byte, or is not UTF-8,
/// is a binary message.
pub(crate) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message> {
    bytes.split(|byte| *byte == b'\n').map(|line| {
        let (is_binary, bytes) = match line.strip_prefix(b"\0") {
            Some(bytes) => (true, bytes),
            None => (false, line),
        };
        match String::from_utf8(bytes.to_vec()) {
            Ok(text) if !is_binary => Message::Text(text.into()),
            _ => Message::Binary(bytes.to_vec().into()),
        }
    })
}
