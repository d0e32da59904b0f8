//! Chooses the dialect of a connection, and decodes and encodes messages with its codec.

use super::messages::{ClientMessage, ErrorCode, ErrorReply, RecipientIds, ServerMessage};
use super::{codec_document, codec_upper_case};
use crate::base::frame::Frame;
use crate::realm::{Message, TokenReader};
use crate::toolkit::dialect::Encode;
use crate::toolkit::json;
use std::sync::Arc;

/// A way to write the messages of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The document's.
    Document,
    /// The React Native client's: upper-case types, fields in `payload`.
    UpperCase,
}

/// The connection that a message is sent to, and its dialect.
pub(super) type Recipient = crate::toolkit::dialect::Recipient<Dialect>;

/// Decoder state of a connection.
pub struct Decoder {
    /// The dialect, once a message has decided it.
    decided: Option<Dialect>,
    tokens: Arc<dyn TokenReader>,
}

/// A message from a client, and the dialect to answer in.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

impl Decoder {
    /// Returns the decoder of a new connection, which reads tokens with this reader.
    pub(super) fn new(tokens: &Arc<dyn TokenReader>) -> Self {
        Self {
            decided: None,
            tokens: tokens.clone(),
        }
    }

    /// Returns the dialect, or none before it is decided.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.decided
    }

    /// Decodes a message. The first message whose type has letters of one case only decides the
    /// dialect for the life of the connection.
    pub(super) fn decode(&mut self, message: Message) -> Incoming {
        let decoded = match message {
            Message::Text(text) => {
                self.decided = self.decided.or_else(|| detect_dialect(&text));
                match self.dialect() {
                    Dialect::Document => codec_document::decode(&text, &*self.tokens),
                    Dialect::UpperCase => codec_upper_case::decode(&text, &*self.tokens),
                }
            }
            Message::Binary(_) => {
                let problem = "messages must be text frames, not binary frames";
                Err(ErrorReply::new(ErrorCode::InvalidMessage, problem))
            }
        };
        Incoming {
            dialect: self.dialect(),
            message: decoded.unwrap_or_else(ClientMessage::Invalid),
        }
    }

    /// Returns the dialect; the document's before it is decided.
    fn dialect(&self) -> Dialect {
        self.decided.unwrap_or(Dialect::Document)
    }
}

/// Returns the dialect of a message by its type, even if the rest of the message is invalid.
fn detect_dialect(text: &str) -> Option<Dialect> {
    let message_type = json::message_type(text)?;
    let has = |is_such: fn(&u8) -> bool| message_type.as_bytes().iter().any(is_such);
    match (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase)) {
        (true, false) => Some(Dialect::UpperCase),
        (false, true) => Some(Dialect::Document),
        _ => None,
    }
}

impl ServerMessage<'_> {
    /// Returns the message for this recipient alone if it mentions the recipient and the dialect shows a
    /// device its own device ID; otherwise none, and [`Encode::encode`] is for all.
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
