//! Decodes and encodes messages in the dialect of their connection.

use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, ServerMessage};
use super::{codec_document, codec_flat};
use crate::base::frame::Frame;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The decoder's state for one connection: its dialect, once a HELLO has fixed it.
#[derive(Default)]
pub struct Decoder {
    dialect: Option<Dialect>,
}

#[cfg(any(test, fuzzing))]
impl Decoder {
    /// Returns the dialect, if it is fixed.
    pub(super) const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }
}

/// Decodes a message. The first HELLO, valid or not, fixes the connection's dialect.
pub(super) fn decode(decoder: &mut Decoder, received: &Message) -> Incoming {
    let Message::Text(text) = received else {
        let text = "must be a text message; FastChat has no binary messages";
        let error = ErrorReply::new(ErrorCode::Validation, text);
        return Incoming {
            dialect: decoder.dialect.unwrap_or_default(),
            message: ClientMessage::Invalid(error),
        };
    };
    let (dialect, is_fixed) = match decoder.dialect {
        Some(dialect) => (Some(dialect), true),
        None => detect_dialect(text),
    };
    decoder.dialect = dialect.filter(|_| is_fixed);
    let dialect = dialect.unwrap_or_default();
    let message = match dialect {
        Dialect::Document => codec_document::decode(text),
        Dialect::Flat => codec_flat::decode(text),
    };
    let message = message.unwrap_or_else(ClientMessage::Invalid);
    Incoming { dialect, message }
}

/// Returns the dialect whose shape a message has, if any, and whether it is a HELLO that fixes it.
///
/// Nothing else about the message has to be valid; a key may also occur twice.
fn detect_dialect(text: &str) -> (Option<Dialect>, bool) {
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        return (None, false);
    };
    let starts_with = |key: &str, start: &str| {
        let value = fields.get(key);
        value.is_some_and(|value| value.get().starts_with(start))
    };
    let has_any = |keys: &[&str]| keys.iter().any(|key| fields.contains_key(*key));
    let is_hello = starts_with("type", r#""HELLO""#);
    if starts_with("data", "{") {
        (Some(Dialect::Document), is_hello)
    } else if has_any(&["user_id", "display_name"]) {
        (Some(Dialect::Flat), is_hello)
    } else if has_any(&["target_user_id", "to", "content", "message_id", "is_typing"]) {
        (Some(Dialect::Flat), false)
    } else {
        (None, false)
    }
}

impl Encode for ServerMessage<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        match dialect {
            Dialect::Document => codec_document::encode(self),
            Dialect::Flat => codec_flat::encode(self),
        }
    }
}
