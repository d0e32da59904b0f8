//! Decoded messages of any protocol.

use std::any::Any;
use std::iter::Chain;
use std::{mem, option, vec};

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

/// The commands of one event, in order. Mostly it is one, which needs no list.
#[derive(Default)]
pub(crate) enum Commands {
    #[default]
    None,
    One(Command),
    Several(Vec<Command>),
}

impl Commands {
    /// Capacity of a new list.
    const FEW: usize = 4;

    /// Adds a command at the end.
    pub(crate) fn push(&mut self, command: Command) {
        *self = match mem::take(self) {
            Self::None => Self::One(command),
            Self::One(first) => {
                let mut commands = Vec::with_capacity(Self::FEW);
                commands.extend([first, command]);
                Self::Several(commands)
            }
            Self::Several(mut commands) => {
                commands.push(command);
                Self::Several(commands)
            }
        };
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl IntoIterator for Commands {
    type Item = Command;
    type IntoIter = Chain<option::IntoIter<Command>, vec::IntoIter<Command>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, several) = match self {
            Self::None => (None, Vec::new()),
            Self::One(command) => (Some(command), Vec::new()),
            Self::Several(commands) => (None, commands),
        };
        one.into_iter().chain(several)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_keep_their_order_however_many_they_are() {
        for count in [0, 1, 2, 16] {
            let mut commands = Commands::default();
            (0..count).for_each(|number: u8| commands.push(Command::new(number)));
            assert_eq!(commands.is_empty(), count == 0);
            let numbers = commands.into_iter().map(Command::into::<u8>);
            assert!(numbers.eq(0..count));
        }
    }

    #[test]
    fn one_command_without_a_list_makes_an_event_no_larger() {
        assert_eq!(size_of::<Commands>(), size_of::<Vec<Command>>());
    }
}
