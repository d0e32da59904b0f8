//! The fields of clients' messages, whichever dialect puts them where.

use super::messages::{ClientMessage, ErrorCode, ErrorReply, Msg, Typing};
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::sanitize;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The most characters of a `message_id` (rulings).
const MESSAGE_ID_LENGTH: usize = 64;

/// What stands around the fields.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The type of a message, and its `data`.
pub(super) fn envelope(text: &str) -> Result<(String, Option<&RawValue>), InvalidMessage> {
    let Envelope { kind, data } = json::object(text)?;
    Ok((json::required(kind, "type", "a string")?, data))
}

/// The fields of all types.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub(super) user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    display_name: Option<&'a RawValue>,
    #[serde(borrow)]
    target_user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    is_typing: Option<&'a RawValue>,
}

impl Fields<'_> {
    /// The name in a HELLO, sanitised and trimmed.
    pub(super) fn display_name(&self) -> Result<String, InvalidMessage> {
        let name: String = json::required(self.display_name, "display_name", "a string")?;
        Ok(sanitize(&name).trim().to_owned())
    }

    /// An OPEN_CHAT.
    pub(super) fn open_chat(&self) -> Result<ClientMessage, ErrorReply> {
        Ok(ClientMessage::OpenChat {
            target: uuid(self.target_user_id, "target_user_id")?,
        })
    }

    /// A MSG, which must name its target if `requires_to`.
    pub(super) fn msg(&self, requires_to: bool) -> Result<ClientMessage, ErrorReply> {
        let message_id = json::check_id(self.message_id, "message_id", MESSAGE_ID_LENGTH)?;
        let rest = || {
            let to = match self.to {
                None if !requires_to => None,
                to => Some(uuid(to, "to")?),
            };
            let content: String = json::required(self.content, "content", "a string")?;
            Ok((to, sanitize(&content).into_owned()))
        };
        let about =
            |invalid: InvalidMessage| ErrorReply::from(invalid).with_message_id(message_id.clone());
        let (to, content) = rest().map_err(about)?;
        Ok(ClientMessage::Msg(Msg {
            to,
            content,
            message_id,
        }))
    }

    /// A TYPING.
    pub(super) fn typing(&self) -> Result<ClientMessage, ErrorReply> {
        let is_typing = json::required(self.is_typing, "is_typing", "true or false")?;
        let to = self.to.map(|to| uuid(Some(to), "to")).transpose()?;
        Ok(ClientMessage::Typing(Typing { is_typing, to }))
    }
}

/// There is no such type; `known` are those that there are.
pub(super) fn unknown_type(kind: &str, known: &str) -> ErrorReply {
    let message = format!("there is no type {}; there are {known}", Quoted(kind));
    ErrorReply::new(ErrorCode::Validation, message).with_field("type")
}

/// A UUID in its usual spelling. Others may have one of any version, in other dialects.
pub(super) fn uuid(value: Option<&RawValue>, name: &'static str) -> Result<Uuid, InvalidMessage> {
    let what = "a UUID, for example \"8f9fe5ea-6b1c-4f3a-9d0e-2b7a1c5d4e3f\"";
    let text: String = json::required(value, name, what)?;
    // Other spellings have other lengths.
    let usual = Some(&text).filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    let uuid = usual.and_then(|text| Uuid::try_parse(text).ok());
    uuid.ok_or_else(|| InvalidMessage::field(name, format_args!("is not {what}")))
}
