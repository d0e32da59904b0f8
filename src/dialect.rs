//! Clients of one protocol that speak it differently: each is spoken to in its own dialect.
//!
//! The rules of a realm know addresses and messages; how a message is written for whom is known to
//! the message alone.

use crate::frame::Frame;
use crate::realm::{ConnectionId, Context};

/// Where a client is, and how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<D> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its dialect.
    pub dialect: D,
}

/// A message to clients of several dialects.
pub trait Written {
    /// The dialects of the protocol.
    type Dialect: Copy + PartialEq;

    /// The message in a dialect; none where it has no such message.
    fn written(&self, dialect: Self::Dialect) -> Option<Frame>;
}

impl<D: Copy + PartialEq> Address<D> {
    /// Sends a message there, in the words that are understood there.
    pub fn tell(self, cx: &mut Context, message: &impl Written<Dialect = D>) {
        if let Some(frame) = message.written(self.dialect) {
            cx.send(self.connection, frame);
        }
    }
}

/// A message for many, written once in each dialect that they speak.
pub struct Circular<'a, M: Written> {
    message: &'a M,
    written: Vec<(M::Dialect, Option<Frame>)>,
}

impl<'a, M: Written> Circular<'a, M> {
    /// Nothing is written before somebody is told.
    pub fn new(message: &'a M) -> Self {
        Self {
            message,
            written: Vec::new(),
        }
    }

    /// The message in a dialect; none where it has no such message.
    pub fn frame(&mut self, dialect: M::Dialect) -> Option<Frame> {
        let known = self.written.iter().find(|(known, _)| *known == dialect);
        if let Some((_, frame)) = known {
            return frame.clone();
        }
        let frame = self.message.written(dialect);
        self.written.push((dialect, frame.clone()));
        frame
    }

    /// Sends it to one of them.
    pub fn tell(&mut self, cx: &mut Context, to: Address<M::Dialect>) {
        if let Some(frame) = self.frame(to.dialect) {
            cx.send(to.connection, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A message that counts how often it is written; dialect 0 does not have it.
    struct Counted(Cell<u32>);

    impl Written for Counted {
        type Dialect = u8;

        fn written(&self, dialect: u8) -> Option<Frame> {
            self.0.set(self.0.get() + 1);
            (dialect > 0).then(|| Frame::text(dialect.to_string()))
        }
    }

    #[test]
    fn a_message_for_many_is_written_once_in_each_dialect_in_use() {
        let message = Counted(Cell::new(0));
        let mut circular = Circular::new(&message);
        let texts: Vec<Option<String>> = [1, 2, 0, 1, 2, 0]
            .map(|dialect| circular.frame(dialect))
            .iter()
            .map(|frame| frame.as_ref().and_then(Frame::as_text))
            .collect();
        let [one, two] = ["1", "2"].map(|text| Some(text.to_owned()));
        assert_eq!(texts, [one.clone(), two.clone(), None, one, two, None]);
        assert_eq!(message.0.get(), 3);
    }
}
