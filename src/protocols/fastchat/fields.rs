//! The fields of client messages and their checks, which are the same in both dialects.

use super::messages::{ClientMessage, ErrorCode, ErrorReply, Msg, Typing};
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::{sanitize, sanitize_name};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The greatest length of a `message_id`, in characters (rulings): enough for a UUID or a hash.
const MAX_MESSAGE_ID_LENGTH: usize = 64;

/// The outer object of a message.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    message_type: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Reads the `type` of a message, and its `data` where it has one.
pub(super) fn read_envelope(text: &str) -> Result<(String, Option<&RawValue>), InvalidMessage> {
    let Envelope { message_type, data } = json::object(text)?;
    Ok((json::required(message_type, "type", "a string")?, data))
}

/// The fields of all message types, not decoded yet: which ones matter depends on the type.
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
    /// Reads the name in a HELLO.
    pub(super) fn display_name(&self) -> Result<String, InvalidMessage> {
        display_name(self.display_name)
    }

    /// Reads the user that an OPEN_CHAT names.
    pub(super) fn target(&self) -> Result<Uuid, ErrorReply> {
        Ok(uuid(self.target_user_id, "target_user_id")?)
    }

    /// Reads a MSG. `requires_to`: a missing `to` is an error.
    pub(super) fn msg(&self, requires_to: bool) -> Result<ClientMessage, ErrorReply> {
        let message_id = json::optional_id(self.message_id, "message_id", MAX_MESSAGE_ID_LENGTH)?;
        let fields = || {
            let to = match self.to {
                None if !requires_to => None,
                to => Some(uuid(to, "to")?),
            };
            let content: String = json::required(self.content, "content", "a string")?;
            Ok((to, sanitize(&content).into_owned()))
        };
        let (to, content) = fields().map_err(|invalid: InvalidMessage| {
            ErrorReply::from(invalid).with_message_id(message_id.clone())
        })?;
        Ok(ClientMessage::Msg(Msg {
            to,
            content,
            message_id,
        }))
    }

    /// Reads a TYPING.
    pub(super) fn typing(&self) -> Result<ClientMessage, ErrorReply> {
        let is_typing = json::required(self.is_typing, "is_typing", "true or false")?;
        let to = self.to.map(|to| uuid(Some(to), "to")).transpose()?;
        Ok(ClientMessage::Typing(Typing { is_typing, to }))
    }
}

/// Returns the error for an unknown `type`; `known` lists the known ones.
pub(super) fn unknown_type(message_type: &str, known: &str) -> ErrorReply {
    let message = format!(
        "unknown type {}; the types are {known}",
        Quoted(message_type)
    );
    ErrorReply::new(ErrorCode::Validation, message).with_field("type")
}

/// Reads the name of a user. Returns it sanitized and trimmed; its length is not checked.
pub(super) fn display_name(value: Option<&RawValue>) -> Result<String, InvalidMessage> {
    let name: String = json::required(value, "display_name", "a string")?;
    Ok(sanitize_name(&name))
}

/// Reads a UUID of any version, in its hyphenated form. Users of the flat dialect have ids of any
/// version, and users of both dialects name them.
pub(super) fn uuid(value: Option<&RawValue>, name: &'static str) -> Result<Uuid, InvalidMessage> {
    let what = "a UUID, for example \"8f9fe5ea-6b1c-4f3a-9d0e-2b7a1c5d4e3f\"";
    let text: String = json::required(value, name, what)?;
    // `try_parse` also accepts the simple, braced and URN forms. Each has another length.
    let hyphenated = Some(&text).filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    let uuid = hyphenated.and_then(|text| Uuid::try_parse(text).ok());
    uuid.ok_or_else(|| InvalidMessage::field(name, format_args!("must be {what}")))
}
