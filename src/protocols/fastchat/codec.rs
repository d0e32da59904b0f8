//! Decodes and encodes messages in the dialect of their connection.

use super::fields::{self, Fields};
use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, ServerMessage};
use super::{codec_document, codec_flat};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::InvalidMessage;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// The decoder's state for one connection: its dialect, once a HELLO has fixed it.
#[derive(Default)]
pub struct Decoder {
    dialect: Option<Dialect>,
}

impl Decoder {
    /// Returns the dialect, if it is fixed.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Decodes a message. The first HELLO, valid or not, fixes the connection's dialect.
    pub(super) fn decode(&mut self, received: &Message) -> Incoming {
        let Message::Text(text) = received else {
            let text = "must be a text message; FastChat has no binary messages";
            let error = ErrorReply::new(ErrorCode::Validation, text);
            return Incoming {
                dialect: self.dialect.unwrap_or_default(),
                message: ClientMessage::Invalid(error),
            };
        };
        let (dialect, is_fixed) = match self.dialect {
            Some(dialect) => (Some(dialect), true),
            None => detect_dialect(text),
        };
        self.dialect = dialect.filter(|_| is_fixed);
        let dialect = dialect.unwrap_or_default();
        let message = decode_text(text, dialect).unwrap_or_else(ClientMessage::Invalid);
        Incoming { dialect, message }
    }
}

/// Decodes a message in a dialect. Its fields are read only if its type has some.
fn decode_text(text: &str, dialect: Dialect) -> Result<ClientMessage, ErrorReply> {
    let (message_type, data) = fields::read_envelope(text)?;
    let fields = || -> Result<Fields, ErrorReply> {
        match dialect {
            Dialect::Document => {
                let problem = "must be an object without duplicate keys";
                fields::read(data.map_or("{}", RawValue::get))
                    .map_err(|_| InvalidMessage::field("data", problem).into())
            }
            Dialect::Flat => Ok(fields::read(text)?),
        }
    };
    let hello = |fields| match dialect {
        Dialect::Document => codec_document::hello(&fields),
        Dialect::Flat => codec_flat::hello(&fields),
    };
    match &*message_type {
        "HELLO" => Ok(ClientMessage::Hello(fields().and_then(hello))),
        "OPEN_CHAT" => Ok(ClientMessage::OpenChat(
            fields().and_then(|fields| fields::target(&fields)),
        )),
        "MSG" => fields::msg(&fields()?, dialect),
        "MSG_ACK" => Ok(ClientMessage::MsgAck),
        "TYPING" => fields::typing(&fields()?),
        "PING" => Ok(ClientMessage::Ping),
        "PONG" if dialect == Dialect::Flat => Ok(ClientMessage::Pong),
        other => Err(unknown_type(other, dialect)),
    }
}

/// Returns the error for a type that the dialect does not have.
fn unknown_type(message_type: &str, dialect: Dialect) -> ErrorReply {
    let known = match dialect {
        Dialect::Document => "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING and PING",
        Dialect::Flat => "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING, PING and PONG",
    };
    let message_type = Quoted(message_type);
    let message = format!("unknown type {message_type}; the types are {known}");
    ErrorReply::new(ErrorCode::Validation, message).with_field("type")
}

/// Returns the dialect whose shape a message has, if any, and whether it is a HELLO that fixes it.
///
/// Nothing else about the message has to be valid; a key may also occur twice.
fn detect_dialect(text: &str) -> (Option<Dialect>, bool) {
    let Ok(shape) = serde_json::from_str::<Shape>(text) else {
        return (None, false);
    };
    if shape.has_data_object {
        (Some(Dialect::Document), shape.is_hello)
    } else if shape.has_identity {
        (Some(Dialect::Flat), shape.is_hello)
    } else if shape.has_flat_field {
        (Some(Dialect::Flat), false)
    } else {
        (None, false)
    }
}

/// What decides the dialect of a message. Reading it keeps nothing of other keys, of which a client may send
/// thousands.
#[derive(Default)]
struct Shape {
    is_hello: bool,
    /// `data` is an object.
    has_data_object: bool,
    /// There is a field that a flat HELLO has, and a HELLO of the document has not.
    has_identity: bool,
    /// There is a field of another flat message.
    has_flat_field: bool,
}

/// The keys that decide the dialect.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Type,
    Data,
    #[serde(alias = "display_name")]
    UserId,
    #[serde(
        alias = "to",
        alias = "content",
        alias = "message_id",
        alias = "is_typing"
    )]
    TargetUserId,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
        let mut shape = Shape::default();
        while let Some(key) = fields.next_key()? {
            match key {
                Key::Type => {
                    let value: &RawValue = fields.next_value()?;
                    shape.is_hello = value.get().starts_with(r#""HELLO""#);
                }
                Key::Data => {
                    let value: &RawValue = fields.next_value()?;
                    shape.has_data_object = value.get().starts_with('{');
                }
                Key::UserId | Key::TargetUserId | Key::Other => {
                    shape.has_identity |= matches!(key, Key::UserId);
                    shape.has_flat_field |= matches!(key, Key::TargetUserId);
                    fields.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(shape)
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
