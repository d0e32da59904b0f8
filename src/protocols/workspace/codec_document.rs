//! Workspace's messages as JSON, in the document's dialect ("Message Types").

use super::messages::{Command, Mistake, NewMessage, Outgoing, sanitised_text};
use crate::base::frame::Frame;
use crate::toolkit::json;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The document's types of messages from clients.
pub(super) const KINDS: [&str; 3] = ["message:send", "presence:update", "typing:indicator"];

/// A message from a client, its fields still unread: which of them matter depends on the type.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "isTyping")]
    is_typing: Option<&'a RawValue>,
}

/// Reads a message.
pub(super) fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    match kind.as_str() {
        "message:send" => Ok(Command::Send {
            text: sanitised_text(&json::required::<String>(
                incoming.text,
                "text",
                "a string",
            )?)?,
            reply_to: None,
        }),
        "presence:update" => {
            let statuses = "one of \"online\", \"away\", \"busy\" and \"offline\"";
            let status = json::required(incoming.status, "status", statuses)?;
            Ok(Command::Presence(status))
        }
        "typing:indicator" => {
            let is_typing = json::required(incoming.is_typing, "isTyping", "true or false")?;
            Ok(Command::Typing(is_typing))
        }
        other => {
            let known = "message:send, presence:update and typing:indicator";
            Err(Mistake::unknown_type(other, known))
        }
    }
}

/// The message as the document has it, if it does.
pub(super) fn encode(message: &Outgoing) -> Option<Frame> {
    match message {
        Outgoing::New { data } => {
            let data = NewMessage {
                reply_to: None,
                ..data.clone()
            };
            Some(Frame::json(&Outgoing::New { data }))
        }
        Outgoing::UserCount { .. } | Outgoing::AuthAck { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
