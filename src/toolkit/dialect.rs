//! Clients of one protocol that speak it differently: each is spoken to in its own dialect.
//!
//! The rules of a realm know addresses and messages; how a message is written for whom is known to
//! the message alone.

use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Context};
use std::cell::LazyCell;

/// Where a client is, and how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient<D> {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its dialect.
    pub dialect: D,
}

/// A message to clients of several dialects.
pub trait Encode {
    /// The dialects of the protocol.
    type Dialect: Copy + PartialEq;

    /// The message in a dialect: mostly one frame, more where it takes several, none where it has
    /// no such message.
    fn encode(&self, dialect: Self::Dialect) -> Vec<Frame>;
}

/// There may be nothing to say.
impl<M: Encode> Encode for Option<M> {
    type Dialect = M::Dialect;

    fn encode(&self, dialect: M::Dialect) -> Vec<Frame> {
        self.as_ref()
            .map_or_else(Vec::new, |message| message.encode(dialect))
    }
}

/// What it is may not be worth finding out before somebody is told.
impl<M: Encode, F: FnOnce() -> M> Encode for LazyCell<M, F> {
    type Dialect = M::Dialect;

    fn encode(&self, dialect: M::Dialect) -> Vec<Frame> {
        M::encode(self, dialect)
    }
}

impl<D: Copy + PartialEq> Recipient<D> {
    /// Sends a message there, in the words that are understood there.
    pub fn send_to(self, cx: &mut Context, message: &impl Encode<Dialect = D>) {
        for frame in message.encode(self.dialect) {
            cx.send(self.connection, frame);
        }
    }
}

/// A message for many, written once in each dialect that they speak.
pub struct Broadcast<'a, M: Encode> {
    message: &'a M,
    encode: Vec<(M::Dialect, Vec<Frame>)>,
}

impl<'a, M: Encode> Broadcast<'a, M> {
    /// Nothing is written before somebody is told.
    pub fn new(message: &'a M) -> Self {
        Self {
            message,
            encode: Vec::new(),
        }
    }

    /// The message in a dialect.
    pub fn frames(&mut self, dialect: M::Dialect) -> &[Frame] {
        let known = self.encode.iter().position(|(known, _)| *known == dialect);
        let at = known.unwrap_or(self.encode.len());
        if known.is_none() {
            self.encode.push((dialect, self.message.encode(dialect)));
        }
        self.encode.get(at).map_or(&[], |(_, frames)| frames)
    }

    /// Sends it to one of them, and says whether there was anything to send.
    pub fn send_to(&mut self, cx: &mut Context, to: Recipient<M::Dialect>) -> bool {
        let frames = self.frames(to.dialect);
        for frame in frames {
            cx.send(to.connection, frame.clone());
        }
        !frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A message that counts how often it is written; dialect 0 does not have it, 2 has it twice.
    struct Counted(Cell<u32>);

    impl Encode for Counted {
        type Dialect = u8;

        fn encode(&self, dialect: u8) -> Vec<Frame> {
            self.0.set(self.0.get() + 1);
            vec![Frame::text(dialect.to_string()); dialect.into()]
        }
    }

    #[test]
    fn a_message_for_many_is_written_once_in_each_dialect_in_use() {
        let message = Counted(Cell::new(0));
        let mut broadcast = Broadcast::new(&message);
        for dialect in [1, 2, 0, 1, 2, 0] {
            let frames = broadcast.frames(dialect).iter();
            let texts: Vec<String> = frames.filter_map(Frame::as_text).collect();
            assert_eq!(texts, vec![dialect.to_string(); dialect.into()]);
        }
        assert_eq!(message.0.get(), 3);
    }
}
