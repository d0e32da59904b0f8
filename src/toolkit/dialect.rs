//! Dialects: clients of one protocol that use different messages for the same things.
//!
//! The rules of a realm work with recipients and messages. Only the message's [`Encode`] depends on the
//! dialects.

use crate::base::frame::Frame;
use crate::realm::{ConnectionId, Context, Recipients};
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

/// A message for recipients that are chosen one by one, encoded once in each of their dialects.
pub struct Broadcast<'a, M: Encode> {
    message: &'a M,
    recipients: Vec<Recipient<M::Dialect>>,
}

impl<'a, M: Encode> Broadcast<'a, M> {
    /// Creates a broadcast without recipients.
    pub fn new(message: &'a M) -> Self {
        Self {
            message,
            recipients: Vec::new(),
        }
    }

    /// Adds a recipient.
    pub fn add(&mut self, to: Recipient<M::Dialect>) {
        self.recipients.push(to);
    }

    /// Sends the message to all recipients that were added.
    pub fn send(self, cx: &mut Context) {
        for (recipients, frames) in self.encode() {
            for frame in frames {
                cx.broadcast(&recipients, &[], frame);
            }
        }
    }

    /// Returns the frames in each dialect, and who is sent them.
    fn encode(self) -> impl Iterator<Item = (Recipients, Vec<Frame>)> {
        let lists = by_dialect(self.recipients.into_iter()).into_iter();
        lists.map(|(dialect, list)| (list, self.message.encode(dialect)))
    }
}

/// Returns a list for each dialect that a recipient has.
pub(super) fn by_dialect<D: Copy + PartialEq>(
    recipients: impl Iterator<Item = Recipient<D>>,
) -> Vec<(D, Recipients)> {
    let mut lists: Vec<(D, Vec<_>)> = Vec::new();
    for Recipient {
        connection,
        dialect,
    } in recipients
    {
        match lists.iter_mut().find(|(known, _)| *known == dialect) {
            Some((_, list)) => list.push(connection),
            None => lists.push((dialect, vec![connection])),
        }
    }
    let lists = lists.into_iter();
    lists
        .map(|(dialect, list)| (dialect, list.into_iter().collect()))
        .collect()
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
        for (connection, dialect) in (0..).zip([1, 2, 0, 1, 2, 0]) {
            broadcast.add(Recipient {
                connection: ConnectionId(connection),
                dialect,
            });
        }
        let frames = broadcast.encode().map(|(_, frames)| frames.len());
        assert_eq!(frames.collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(message.0.get(), 3);
    }
}
