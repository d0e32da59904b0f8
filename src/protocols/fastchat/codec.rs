//! Decodes and encodes messages in the dialect of their connection.

use super::fields::{self, Fields};
use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, ServerMessage};
use super::{codec_document, codec_flat};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::realm::{Message, TokenReader};
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::message_token::read_token;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The decoder's state for one connection.
pub struct Decoder {
    /// The dialect, once a HELLO has fixed it.
    dialect: Option<Dialect>,
    tokens: Arc<dyn TokenReader>,
}

impl Decoder {
    /// Returns the decoder of a new connection, which reads tokens with this reader.
    pub(super) fn new(tokens: &Arc<dyn TokenReader>) -> Self {
        Self {
            dialect: None,
            tokens: tokens.clone(),
        }
    }

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
            None => detect_dialect(text, &*self.tokens),
        };
        self.dialect = dialect.filter(|_| is_fixed);
        let dialect = dialect.unwrap_or_default();
        let message = decode_text(text, dialect, &*self.tokens);
        let message = message.unwrap_or_else(ClientMessage::Invalid);
        Incoming { dialect, message }
    }
}

/// Decodes a message in a dialect. Its fields are read only if its type has some.
fn decode_text(
    text: &str,
    dialect: Dialect,
    tokens: &dyn TokenReader,
) -> Result<ClientMessage, ErrorReply> {
    let (message_type, data) = fields::read_envelope(text)?;
    let object = match dialect {
        Dialect::Document => data.map_or("{}", RawValue::get),
        Dialect::Flat => text,
    };
    let fields = || -> Result<Fields, ErrorReply> {
        fields::read(object).map_err(|error| match dialect {
            Dialect::Document => {
                let problem = "must be an object without duplicate keys";
                InvalidMessage::field("data", problem).into()
            }
            Dialect::Flat => error.into(),
        })
    };
    let hello = |fields| {
        let token = read_token(object, tokens);
        Box::new(match dialect {
            Dialect::Document => codec_document::hello(&fields, token),
            Dialect::Flat => codec_flat::hello(&fields, token),
        })
    };
    match &*message_type {
        "HELLO" => Ok(ClientMessage::Hello(fields().map(hello))),
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
/// Nothing else about the message has to be valid; a key may also occur twice. Where tokens are read, a HELLO may have
/// nothing but one, or nothing at all.
fn detect_dialect(text: &str, tokens: &dyn TokenReader) -> (Option<Dialect>, bool) {
    let Ok(shape) = serde_json::from_str::<Shape>(text) else {
        return (None, false);
    };
    if shape.has_data_object {
        (Some(Dialect::Document), shape.is_hello)
    } else if shape.has_identity {
        (Some(Dialect::Flat), shape.is_hello)
    } else if shape.has_flat_field {
        (Some(Dialect::Flat), false)
    } else if shape.is_hello && tokens.is_reading() {
        let dialect = if shape.has_token {
            Dialect::Flat
        } else {
            Dialect::Document
        };
        (Some(dialect), true)
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
    /// There is a token beside `type`.
    has_token: bool,
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
    Token,
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
                Key::UserId | Key::TargetUserId | Key::Token | Key::Other => {
                    shape.has_identity |= matches!(key, Key::UserId);
                    shape.has_flat_field |= matches!(key, Key::TargetUserId);
                    shape.has_token |= matches!(key, Key::Token);
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
