//! The dialect of Workspace's Electron chat: the client names its user by a token in a message of its own,
//! and is sent the names of the connected users instead of presence and typing.

use super::messages::{Auth, ClientMessage, ErrorReply, ServerMessage, read_text};
use crate::base::frame::Frame;
use crate::realm::TokenReader;
use crate::toolkit::json::Fields;

/// Types of client messages.
pub(super) const MESSAGE_TYPES: [&str; 2] = ["auth", "message"];

/// Longest `replyTo`, in characters. Message ids of this server have about twenty.
const MAX_REPLY_TO_CHARACTERS: usize = 64;

/// Decodes a client message.
pub(super) fn decode(text: &str, tokens: &dyn TokenReader) -> Result<ClientMessage, ErrorReply> {
    let fields = Fields::read(text, &["type", "token", "text", "replyTo"])?;
    let message_type = fields.required_text("type", "a string")?;
    match &*message_type {
        "auth" => {
            let token = fields.optional("token", "a string")?;
            Ok(ClientMessage::Auth(Auth::read(token, tokens)?))
        }
        "message" => {
            // The client sends an empty string if the message answers none.
            let is_answer = fields.get("replyTo").is_some_and(|id| id.get() != r#""""#);
            Ok(ClientMessage::Send {
                text: read_text(&fields)?,
                reply_to: if is_answer {
                    fields.optional_id("replyTo", MAX_REPLY_TO_CHARACTERS)?
                } else {
                    None
                },
            })
        }
        other => Err(ErrorReply::unknown_type(other, "auth or message")),
    }
}

/// Encodes a server message; `None` if the dialect has no such message.
pub(super) fn encode(message: &ServerMessage) -> Option<Frame> {
    match message {
        ServerMessage::Presence { .. } | ServerMessage::Typing { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
