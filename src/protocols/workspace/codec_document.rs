//! The document's dialect ("Message Types"): decodes its client messages, encodes its server messages.

use super::messages::{Auth, ClientMessage, ErrorReply, NewMessage, ServerMessage, read_text};
use crate::base::frame::Frame;
use crate::realm::TokenReader;
use crate::toolkit::json::Fields;

/// Types of client messages, besides `auth` where the listener reads tokens.
pub(super) const MESSAGE_TYPES: [&str; 3] = ["message:send", "presence:update", "typing:indicator"];

/// Decodes a client message.
pub(super) fn decode(text: &str, tokens: &dyn TokenReader) -> Result<ClientMessage, ErrorReply> {
    let fields = Fields::read(text, &["type", "text", "status", "isTyping"])?;
    let message_type = fields.required_text("type", "a string")?;
    match &*message_type {
        "message:send" => Ok(ClientMessage::Send {
            text: read_text(&fields)?,
            reply_to: None,
        }),
        "presence:update" => {
            let statuses = r#"one of "online", "away", "busy" and "offline""#;
            let status = fields.required("status", statuses)?;
            Ok(ClientMessage::Presence(status))
        }
        "typing:indicator" => {
            let is_typing = fields.required("isTyping", "true or false")?;
            Ok(ClientMessage::Typing(is_typing))
        }
        "auth" if tokens.is_reading() => {
            let fields = Fields::read(text, &["token"])?;
            let token = fields.optional("token", "a string")?;
            Ok(ClientMessage::Auth(Auth::read(token, tokens)?))
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
        ServerMessage::UserCount { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
