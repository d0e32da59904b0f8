//! The document's dialect ("Message Types"): decodes its client messages, encodes its server messages.

use super::messages::{ClientMessage, ErrorReply, NewMessage, ServerMessage, sanitize_text};
use crate::base::frame::Frame;
use crate::toolkit::json;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Types of client messages.
pub(super) const MESSAGE_TYPES: [&str; 3] = ["message:send", "presence:update", "typing:indicator"];

/// Fields of a client message, not parsed yet: the type decides which of them matter.
#[derive(Deserialize)]
struct RawFields<'a> {
    #[serde(borrow, rename = "type")]
    message_type: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "isTyping")]
    is_typing: Option<&'a RawValue>,
}

/// Decodes a client message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let fields: RawFields = json::object(text)?;
    let message_type: String = json::required(fields.message_type, "type", "a string")?;
    match message_type.as_str() {
        "message:send" => {
            let text: String = json::required(fields.text, "text", "a string")?;
            Ok(ClientMessage::Send {
                text: sanitize_text(&text)?,
                reply_to: None,
            })
        }
        "presence:update" => {
            let statuses = r#"one of "online", "away", "busy" and "offline""#;
            let status = json::required(fields.status, "status", statuses)?;
            Ok(ClientMessage::Presence(status))
        }
        "typing:indicator" => {
            let is_typing = json::required(fields.is_typing, "isTyping", "true or false")?;
            Ok(ClientMessage::Typing(is_typing))
        }
        other => {
            let known = "message:send, presence:update or typing:indicator";
            Err(ErrorReply::unknown_type(other, known))
        }
    }
}

/// Encodes a server message; `None` if the document has no such message.
pub(super) fn encode(message: &ServerMessage) -> Option<Frame> {
    match message {
        ServerMessage::New { data } => {
            let data = NewMessage {
                reply_to: None,
                ..data.clone()
            };
            Some(Frame::json(&ServerMessage::New { data }))
        }
        ServerMessage::UserCount { .. } | ServerMessage::AuthAck { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
