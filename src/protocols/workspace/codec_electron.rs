//! The dialect of Workspace's Electron chat: the client names its user by a token in a message of its own,
//! and is sent the names of the connected users instead of presence and typing.

use super::messages::{ClientMessage, ErrorReply, ServerMessage, read_text};
use crate::base::frame::Frame;
use crate::toolkit::json::{Fields, InvalidMessage};

/// Types of client messages.
pub(super) const MESSAGE_TYPES: [&str; 2] = ["auth", "message"];

/// Largest token, in bytes: as large as a request head may be, which is where tokens usually travel.
/// The time to verify a token grows with its length.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// Longest `replyTo`, in characters. Message ids of this server have about twenty.
const MAX_REPLY_TO_CHARACTERS: usize = 64;

/// Decodes a client message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let fields = Fields::read(text, &["type", "token", "text", "replyTo"])?;
    let message_type = fields.required_text("type", "a string")?;
    match &*message_type {
        "auth" => Ok(ClientMessage::Auth(check_token(
            fields.optional("token", "a string")?,
        )?)),
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

/// Checks the length of the token of an `auth`. A missing token is not an error here: without `auth_secret` it is
/// as good as any other.
fn check_token(token: Option<String>) -> Result<Option<String>, InvalidMessage> {
    match token {
        Some(token) if token.len() > MAX_TOKEN_BYTES => {
            let problem = format!("is too long; must be at most {MAX_TOKEN_BYTES} bytes");
            Err(InvalidMessage::field("token", problem))
        }
        token => Ok(token),
    }
}

/// Encodes a server message; `None` if the dialect has no such message.
pub(super) fn encode(message: &ServerMessage) -> Option<Frame> {
    match message {
        ServerMessage::Presence { .. } | ServerMessage::Typing { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
