//! Chooses the dialect of a connection, and with it the codec.

use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, ServerMessage};
use super::{codec_document, codec_electron};
use crate::base::frame::Frame;
use crate::realm::{Message, TokenReader};
use crate::toolkit::dialect::Encode;
use crate::toolkit::json;
use std::sync::Arc;

/// Decoder of one connection.
pub struct Decoder {
    /// Its dialect, once a message has decided it.
    dialect: Option<Dialect>,
    /// Reads the tokens in its messages.
    tokens: Arc<dyn TokenReader>,
}

impl Decoder {
    /// Creates the decoder of a new connection.
    pub fn new(tokens: &Arc<dyn TokenReader>) -> Self {
        Self {
            dialect: None,
            tokens: Arc::clone(tokens),
        }
    }

    /// Returns the dialect, once it is decided.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Decodes a message ("Validate all incoming messages"). The first message with a type of one of
    /// the dialects decides the connection's dialect, also if the rest of the message is invalid.
    pub(super) fn decode(&mut self, message: Message) -> Incoming {
        let decoded = match message {
            Message::Text(text) => self.decode_text(&text),
            Message::Binary(_) => {
                let problem = "message is binary; must be text";
                Err(ErrorReply::new(ErrorCode::InvalidMessage, problem))
            }
        };
        Incoming {
            dialect: self.dialect.unwrap_or_default(),
            message: decoded.unwrap_or_else(ClientMessage::Invalid),
        }
    }

    fn decode_text(&mut self, text: &str) -> Result<ClientMessage, ErrorReply> {
        if self.dialect.is_none() {
            self.dialect =
                json::message_type(text).and_then(|message_type| dialect_of(&message_type));
        }
        match self.dialect.unwrap_or_default() {
            Dialect::Document => codec_document::decode(text, &*self.tokens),
            Dialect::Electron => codec_electron::decode(text, &*self.tokens),
        }
    }
}

/// Returns the dialect that this type of a first message decides. No type is in both.
fn dialect_of(message_type: &str) -> Option<Dialect> {
    if codec_document::MESSAGE_TYPES.contains(&message_type) {
        Some(Dialect::Document)
    } else if codec_electron::MESSAGE_TYPES.contains(&message_type) {
        Some(Dialect::Electron)
    } else {
        None
    }
}

impl Encode for ServerMessage<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        let frame = match dialect {
            Dialect::Document => codec_document::encode(self),
            Dialect::Electron => codec_electron::encode(self),
        };
        frame.into_iter().collect()
    }
}
