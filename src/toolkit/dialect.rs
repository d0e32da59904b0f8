//! Clients of one protocol that speak it differently: each is spoken to in its own dialect.
//!
//! The rules of a realm know addresses and messages; how a message is written for whom is known to
//! the message alone.

use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Context};
use std::cell::LazyCell;

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

    /// The message in a dialect: mostly one frame, more where it takes several, none where it has
    /// no such message.
    fn written(&self, dialect: Self::Dialect) -> Vec<Frame>;
}

/// There may be nothing to say.
impl<M: Written> Written for Option<M> {
    type Dialect = M::Dialect;

    fn written(&self, dialect: M::Dialect) -> Vec<Frame> {
        self.as_ref()
            .map_or_else(Vec::new, |message| message.written(dialect))
    }
}

/// What it is may not be worth finding out before somebody is told.
impl<M: Written, F: FnOnce() -> M> Written for LazyCell<M, F> {
    type Dialect = M::Dialect;

    fn written(&self, dialect: M::Dialect) -> Vec<Frame> {
        M::written(self, dialect)
    }
}

impl<D: Copy + PartialEq> Address<D> {
    /// Sends a message there, in the words that are understood there.
    pub fn tell(self, cx: &mut Context, message: &impl Written<Dialect = D>) {
        for frame in message.written(self.dialect) {
            cx.send(self.connection, frame);
        }
    }
}

/// A message for many, written once in each dialect that they speak.
pub struct Circular<'a, M: Written> {
    message: &'a M,
    written: Vec<(M::Dialect, Vec<Frame>)>,
}

impl<'a, M: Written> Circular<'a, M> {
    /// Nothing is written before somebody is told.
    pub fn new(message: &'a M) -> Self {
        Self {
            message,
            written: Vec::new(),
        }
    }

    /// The message in a dialect.
    pub fn frames(&mut self, dialect: M::Dialect) -> &[Frame] {
        let known = self.written.iter().position(|(known, _)| *known == dialect);
        let at = known.unwrap_or(self.written.len());
        if known.is_none() {
            self.written.push((dialect, self.message.written(dialect)));
        }
        self.written.get(at).map_or(&[], |(_, frames)| frames)
    }

    /// Sends it to one of them, and says whether there was anything to send.
    pub fn tell(&mut self, cx: &mut Context, to: Address<M::Dialect>) -> bool {
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

    impl Written for Counted {
        type Dialect = u8;

        fn written(&self, dialect: u8) -> Vec<Frame> {
            self.0.set(self.0.get() + 1);
            vec![Frame::text(dialect.to_string()); dialect.into()]
        }
    }

    #[test]
    fn a_message_for_many_is_written_once_in_each_dialect_in_use() {
        let message = Counted(Cell::new(0));
        let mut circular = Circular::new(&message);
        for dialect in [1, 2, 0, 1, 2, 0] {
            let frames = circular.frames(dialect).iter();
            let texts: Vec<String> = frames.filter_map(Frame::as_text).collect();
            assert_eq!(texts, vec![dialect.to_string(); dialect.into()]);
        }
        assert_eq!(message.0.get(), 3);
    }
}
