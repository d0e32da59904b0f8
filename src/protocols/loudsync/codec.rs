//! Which dialect a client speaks; its messages are read, and those to it written, in that.

use super::messages::{ClientMessage, ErrorCode, ErrorReply, RecipientIds, ServerMessage};
use super::{codec_document, codec_upper_case};
use crate::base::frame::Frame;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json;

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As the document says.
    Document,
    /// As the React Native client does: types in capitals, fields in `payload`.
    UpperCase,
}

/// Where a client is, and how it is spoken to.
pub(super) type Recipient = crate::toolkit::dialect::Recipient<Dialect>;

/// What a connection remembers for reading: its dialect, once a message has decided it.
#[derive(Debug, Default)]
pub struct Reader(Option<Dialect>);

/// What a client says, and in which dialect it is to be answered.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

impl Reader {
    /// The dialect, once it is decided.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.0
    }

    /// Reads a message. The first with a type in letters of one case decides the dialect.
    pub(super) fn decode(&mut self, message: Message) -> Incoming {
        let Message::Text(text) = message else {
            let message = "messages are text, not binary";
            let error = ErrorReply::new(ErrorCode::InvalidMessage, message);
            return Incoming {
                dialect: self.dialect(),
                message: ClientMessage::Invalid(error),
            };
        };
        self.0 = self.0.or_else(|| dialect(&text));
        let message = match self.dialect() {
            Dialect::Document => codec_document::decode(&text),
            Dialect::UpperCase => codec_upper_case::decode(&text),
        };
        Incoming {
            dialect: self.dialect(),
            message: message.unwrap_or_else(ClientMessage::Invalid),
        }
    }

    /// The document's as long as nothing else is known.
    fn dialect(&self) -> Dialect {
        self.0.unwrap_or(Dialect::Document)
    }
}

/// The dialect that a message's type is of, whatever else is wrong with the message.
fn dialect(text: &str) -> Option<Dialect> {
    let kind = json::message_type(text)?;
    let has = |is_such: fn(&u8) -> bool| kind.as_bytes().iter().any(is_such);
    match (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase)) {
        (true, false) => Some(Dialect::UpperCase),
        (false, true) => Some(Dialect::Document),
        _ => None,
    }
}

impl ServerMessage<'_> {
    /// The message for one who stands in it, where the dialect tells it of itself otherwise than
    /// all others.
    pub(super) fn personalized(&self, dialect: Dialect, recipient: RecipientIds) -> Option<Frame> {
        match dialect {
            Dialect::Document => None,
            Dialect::UpperCase => codec_upper_case::encode_personalized(self, recipient),
        }
    }
}

impl Encode for ServerMessage<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        vec![match dialect {
            Dialect::Document => codec_document::encode(self),
            Dialect::UpperCase => codec_upper_case::encode(self),
        }]
    }
}
