//! The dialect of Workspace's Electron chat: the client names its user by a token in a message of its own,
//! and is sent the names of the connected users instead of presence and typing.

use super::messages::{ClientMessage, ErrorReply, ServerMessage, sanitize_text};
use crate::base::frame::Frame;
use crate::toolkit::json::{self, InvalidMessage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Types of client messages.
pub(super) const MESSAGE_TYPES: [&str; 2] = ["auth", "message"];

/// Largest token, in bytes: as large as a request head may be, which is where tokens usually travel.
/// The time to verify a token grows with its length.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// Longest `replyTo`, in characters. Message ids of this server have about twenty.
const MAX_REPLY_TO_CHARACTERS: usize = 64;

/// Fields of a client message, not parsed yet: the type decides which of them matter.
#[derive(Deserialize)]
struct RawFields<'a> {
    #[serde(borrow, rename = "type")]
    message_type: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow, rename = "replyTo")]
    reply_to: Option<&'a RawValue>,
}

/// Decodes a client message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let fields: RawFields = json::object(text)?;
    let message_type: String = json::required(fields.message_type, "type", "a string")?;
    match message_type.as_str() {
        "auth" => Ok(ClientMessage::Auth(token(fields.token)?)),
        "message" => {
            let text: String = json::required(fields.text, "text", "a string")?;
            // The client sends an empty string if the message answers none.
            let reply_to = fields.reply_to.filter(|id| id.get() != r#""""#);
            Ok(ClientMessage::Send {
                text: sanitize_text(&text)?,
                reply_to: json::optional_id(reply_to, "replyTo", MAX_REPLY_TO_CHARACTERS)?,
            })
        }
        other => Err(ErrorReply::unknown_type(other, "auth or message")),
    }
}

/// Parses the token of an `auth`. A missing token is not an error here: without `auth_secret` it is as
/// good as any other.
fn token(value: Option<&RawValue>) -> Result<Option<String>, InvalidMessage> {
    let token: Option<String> = json::optional(value, "token", "a string")?;
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
