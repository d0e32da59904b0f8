//! Which dialect a client speaks: it decides how messages are read and written.

use super::messages::{Command, Dialect, Mistake, Outgoing, Said};
use super::{codec_document, codec_electron};
use crate::base::frame::Frame;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json;

/// The dialect that a client has spoken, once it has.
#[derive(Debug, Default)]
pub struct Reader(Option<Dialect>);

impl Reader {
    /// The dialect, once it is decided.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.0
    }

    /// Reads a message ("Validate all incoming messages"). The first one that has a type of one of
    /// the dialects decides for all.
    pub(super) fn read(&mut self, message: Message) -> Said {
        let read = match message {
            Message::Text(text) => self.read_text(&text),
            Message::Binary(_) => {
                let message = "messages are text, not binary";
                Err(Mistake::new("INVALID_MESSAGE", message))
            }
        };
        Said {
            dialect: self.0.unwrap_or_default(),
            command: read.unwrap_or_else(Command::Wrong),
        }
    }

    fn read_text(&mut self, text: &str) -> Result<Command, Mistake> {
        if self.0.is_none() {
            self.0 = json::message_type(text).and_then(|kind| dialect_of(&kind));
        }
        match self.0.unwrap_or_default() {
            Dialect::Document => codec_document::read(text),
            Dialect::Newer => codec_electron::read(text),
        }
    }
}

/// The dialect whose types of messages this is one of.
fn dialect_of(kind: &str) -> Option<Dialect> {
    if codec_document::KINDS.contains(&kind) {
        Some(Dialect::Document)
    } else if codec_electron::KINDS.contains(&kind) {
        Some(Dialect::Newer)
    } else {
        None
    }
}

impl Encode for Outgoing<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        let frame = match dialect {
            Dialect::Document => codec_document::encode(self),
            Dialect::Newer => codec_electron::encode(self),
        };
        frame.into_iter().collect()
    }
}
