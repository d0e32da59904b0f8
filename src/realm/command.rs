//! Decoded messages of any protocol.

use std::any::Any;

/// A decoded message, whose type only its protocol's decoder and realm know. This is the one place where a protocol's
/// types are erased: all else is the same for all protocols.
pub struct Command(Box<dyn Any + Send>);

impl Command {
    /// Wraps what a decoder has made of a message.
    pub fn new(command: impl Any + Send) -> Self {
        Self(Box::new(command))
    }

    /// Returns what the decoder has made.
    ///
    /// # Panics
    /// If that is of another type. A connection decodes with the protocol of its listener, so this is a bug of the
    /// protocol.
    pub fn into<T: Any>(self) -> T {
        let command = self.0.downcast();
        *command.expect("a protocol's decoder and realm agree on the type of its commands")
    }
}
