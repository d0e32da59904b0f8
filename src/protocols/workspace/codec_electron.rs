//! The dialect of Workspace's newer client, its Electron chat: it says who it is by a token, in a
//! message of its own, and wants the names of all who are there instead of presence and typing.

use super::messages::{ClientMessage, ErrorReply, ServerMessage, sanitize_text};
use crate::base::frame::Frame;
use crate::toolkit::json::{self, InvalidMessage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The types of messages from clients.
pub(super) const MESSAGE_TYPES: [&str; 2] = ["auth", "message"];

/// The most bytes of a token: as many as a request head may have, in which tokens travel otherwise.
/// Verifying takes time in proportion.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// The most characters of an id that a message answers. This server's own have about twenty.
const MAX_REPLY_TO_CHARACTERS: usize = 64;

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

/// Reads a message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let fields: RawFields = json::object(text)?;
    let message_type: String = json::required(fields.message_type, "type", "a string")?;
    // The client's word for none is an empty one.
    let reply_to = fields.reply_to.filter(|id| id.get() != r#""""#);
    match message_type.as_str() {
        // Where there is no secret, a client without a token is as good as one with any other.
        "auth" => Ok(ClientMessage::Auth(token(fields.token)?)),
        "message" => Ok(ClientMessage::Send {
            text: sanitize_text(&json::required::<String>(fields.text, "text", "a string")?)?,
            reply_to: json::check_id(reply_to, "replyTo", MAX_REPLY_TO_CHARACTERS)?,
        }),
        other => Err(ErrorReply::unknown_type(other, "auth and message")),
    }
}

fn token(value: Option<&RawValue>) -> Result<Option<String>, InvalidMessage> {
    let token: Option<String> = json::optional(value, "token", "a string")?;
    if token
        .as_ref()
        .is_some_and(|token| token.len() > MAX_TOKEN_BYTES)
    {
        let problem = format_args!("has more than {MAX_TOKEN_BYTES} bytes");
        return Err(InvalidMessage::field("token", problem));
    }
    Ok(token)
}

/// What is said otherwise than in the document is added to its wire types; the rest is not said.
pub(super) fn encode(message: &ServerMessage) -> Option<Frame> {
    match message {
        ServerMessage::Presence { .. } | ServerMessage::Typing { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
