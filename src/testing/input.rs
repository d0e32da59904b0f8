//! A fuzzer's octets as stories and messages.
//!
//! A story is a letter for what happens, and behind it what it needs: a digit for a number or a time, a line
//! for a text. Letters that mean nothing are passed over, so any octets are a story, and one can be written
//! by hand.

use crate::realm::Message;

/// The times that matter to the protocols, and those right beside them, in milliseconds.
const TIMES: [u64; 18] = [
    0, 1, 500, 999, 1_000, 1_001, 2_000, 4_999, 5_000, 9_999, 10_000, 14_999, 15_000, 20_000,
    59_999, 60_000, 60_001, 300_000,
];

/// Octets that have not been read yet.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next octet, if there is one.
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number less than `count`; `0` is 0.
    pub(crate) fn below(&mut self, count: usize) -> Option<usize> {
        Some(usize::from(self.byte()?.wrapping_sub(b'0')) % count)
    }

    /// A number of two octets.
    pub(crate) fn number(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// Whether something is so; `0` is no.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        Some(self.below(2)? == 1)
    }

    /// One of the times that matter, in milliseconds.
    pub(crate) fn millis(&mut self) -> Option<u64> {
        TIMES.get(self.below(TIMES.len())?).copied()
    }

    /// What stands up to the end of the line, which is read, too.
    pub(crate) fn line(&mut self) -> Option<&'a [u8]> {
        let mut parts = self.0.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().filter(|_| !self.0.is_empty())?;
        self.0 = parts.next().unwrap_or_default();
        Some(line)
    }

    /// The same as text.
    pub(crate) fn text(&mut self) -> Option<String> {
        self.line()
            .map(|line| String::from_utf8_lossy(line).into_owned())
    }

    /// So many octets, or as many as there are.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (these, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        these
    }
}

/// A client's messages, a line each: text where it is text, unless it begins with a zero octet.
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
