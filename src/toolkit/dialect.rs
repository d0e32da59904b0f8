//! Dialects: clients of one protocol that use different messages for the same things.
//!
//! The rules of a realm work with recipients and messages. Only the message's [`Encode`] depends on the
//! dialects.

use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Context};
use std::cell::LazyCell;

/// A client to send to: its connection and its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipient<D> {
    /// The client's connection.
    pub connection: ConnectionId,
    /// The client's dialect.
    pub dialect: D,
}

/// A message that can be encoded in each dialect of a protocol.
pub trait Encode {
    /// The dialects of the protocol.
    type Dialect: Copy + PartialEq;

    /// Encodes the message in a dialect: mostly as one frame, as several if the dialect needs them, or as
    /// none if the dialect has no such message.
    fn encode(&self, dialect: Self::Dialect) -> Vec<Frame>;
}

/// `None` is a message without frames.
impl<M: Encode> Encode for Option<M> {
    type Dialect = M::Dialect;

    fn encode(&self, dialect: M::Dialect) -> Vec<Frame> {
        self.as_ref()
            .map_or_else(Vec::new, |message| message.encode(dialect))
    }
}

/// A message that is only computed if there is a recipient.
impl<M: Encode, F: FnOnce() -> M> Encode for LazyCell<M, F> {
    type Dialect = M::Dialect;

    fn encode(&self, dialect: M::Dialect) -> Vec<Frame> {
        M::encode(self, dialect)
    }
}

impl<D: Copy + PartialEq> Recipient<D> {
    /// Sends a message to this client in its dialect.
    pub fn send(self, cx: &mut Context, message: &impl Encode<Dialect = D>) {
        for frame in message.encode(self.dialect) {
            cx.send(self.connection, frame);
        }
    }
}

/// A message for many recipients, encoded once in each of their dialects.
pub struct Broadcast<'a, M: Encode> {
    message: &'a M,
    encoded: Vec<(M::Dialect, Vec<Frame>)>,
}

impl<'a, M: Encode> Broadcast<'a, M> {
    /// Creates a broadcast. A dialect is encoded when its first recipient is known.
    pub fn new(message: &'a M) -> Self {
        Self {
            message,
            encoded: Vec::new(),
        }
    }

    /// Returns the message in a dialect, which is encoded at the first call.
    pub fn frames(&mut self, dialect: M::Dialect) -> &[Frame] {
        let known = self.encoded.iter().position(|(known, _)| *known == dialect);
        let index = known.unwrap_or(self.encoded.len());
        if known.is_none() {
            self.encoded.push((dialect, self.message.encode(dialect)));
        }
        self.encoded.get(index).map_or(&[], |(_, frames)| frames)
    }

    /// Sends the message to one recipient. Returns whether its dialect has such a message.
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

    /// A message that counts how often it is encoded; dialect 0 has no such message, 2 has two frames.
    struct Counted(Cell<u32>);

    impl Encode for Counted {
        type Dialect = u8;

        fn encode(&self, dialect: u8) -> Vec<Frame> {
            self.0.set(self.0.get() + 1);
            vec![Frame::text(dialect.to_string()); dialect.into()]
        }
    }

    #[test]
    fn a_broadcast_is_encoded_once_in_each_dialect_in_use() {
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
