//! The dialect of Workspace's newer client, its Electron chat: it says who it is by a token, in a
//! message of its own, and wants the names of all who are there instead of presence and typing.

use super::messages::{Command, Mistake, Outgoing, sanitised_text};
use crate::base::frame::Frame;
use crate::toolkit::json::{self, InvalidMessage};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The types of messages from clients.
pub(super) const KINDS: [&str; 2] = ["auth", "message"];

/// The most bytes of a token: as many as a request head may have, in which tokens travel otherwise.
/// Verifying takes time in proportion.
const TOKEN_SIZE: usize = 8 << 10;

/// The most characters of an id that a message answers. This server's own have about twenty.
const REPLY_TO_LENGTH: usize = 64;

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow, rename = "replyTo")]
    reply_to: Option<&'a RawValue>,
}

/// Reads a message.
pub(super) fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    // The client's word for none is an empty one.
    let reply_to = incoming.reply_to.filter(|id| id.get() != r#""""#);
    match kind.as_str() {
        // Where there is no secret, a client without a token is as good as one with any other.
        "auth" => Ok(Command::Auth(token(incoming.token)?)),
        "message" => Ok(Command::Send {
            text: sanitised_text(&json::required::<String>(
                incoming.text,
                "text",
                "a string",
            )?)?,
            reply_to: json::check_id(reply_to, "replyTo", REPLY_TO_LENGTH)?,
        }),
        other => Err(Mistake::unknown_type(other, "auth and message")),
    }
}

fn token(value: Option<&RawValue>) -> Result<Option<String>, InvalidMessage> {
    let token: Option<String> = json::optional(value, "token", "a string")?;
    if token.as_ref().is_some_and(|token| token.len() > TOKEN_SIZE) {
        let problem = format_args!("has more than {TOKEN_SIZE} bytes");
        return Err(InvalidMessage::field("token", problem));
    }
    Ok(token)
}

/// What is said otherwise than in the document is added to its wire types; the rest is not said.
pub(super) fn encode(message: &Outgoing) -> Option<Frame> {
    match message {
        Outgoing::Presence { .. } | Outgoing::Typing { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
