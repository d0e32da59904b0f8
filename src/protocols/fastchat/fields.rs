//! The fields of client messages and their checks, which are the same in both dialects.

use super::messages::{ClientMessage, Dialect, ErrorReply, Msg, Typing};
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::{sanitize, sanitize_name};
use serde_json::value::RawValue;
use std::borrow::Cow;
use uuid::Uuid;

/// The greatest length of a `message_id`, in characters (rulings): enough for a UUID or a hash.
const MAX_MESSAGE_ID_LENGTH: usize = 64;

/// Reads the `type` of a message, and its `data` where it has one.
pub(super) fn read_envelope(
    text: &str,
) -> Result<(Cow<'_, str>, Option<&RawValue>), InvalidMessage> {
    let envelope = json::Fields::read(text, &["type", "data"])?;
    Ok((
        envelope.required_text("type", "a string")?,
        envelope.get("data"),
    ))
}

/// The fields of all message types: which ones matter depends on the type.
pub(super) type Fields<'a> = json::Fields<'a, 7>;

/// Reads the fields of a message from the object that has them.
pub(super) fn read(text: &str) -> Result<Fields<'_>, InvalidMessage> {
    Fields::read(
        text,
        &[
            "user_id",
            "display_name",
            "target_user_id",
            "to",
            "content",
            "message_id",
            "is_typing",
        ],
    )
}

/// Reads the user that an OPEN_CHAT names.
pub(super) fn target(fields: &Fields) -> Result<Uuid, ErrorReply> {
    Ok(uuid(fields, "target_user_id")?)
}

/// Reads a MSG. Only in the flat dialect, in which it is the partner, `to` may be missing.
pub(super) fn msg(fields: &Fields, dialect: Dialect) -> Result<ClientMessage, ErrorReply> {
    let message_id = fields.optional_id("message_id", MAX_MESSAGE_ID_LENGTH)?;
    let other_fields = || {
        let to = match dialect {
            Dialect::Document => Some(uuid(fields, "to")?),
            Dialect::Flat => optional_uuid(fields, "to")?,
        };
        let content = fields.required_text("content", "a string")?;
        Ok((to, sanitize(&content).into_owned()))
    };
    let (to, content) = other_fields().map_err(|invalid: InvalidMessage| {
        ErrorReply::from(invalid).with_message_id(message_id.clone())
    })?;
    Ok(ClientMessage::Msg(Msg {
        to,
        content,
        message_id,
    }))
}

/// Reads a TYPING.
pub(super) fn typing(fields: &Fields) -> Result<ClientMessage, ErrorReply> {
    let is_typing = fields.required("is_typing", "true or false")?;
    let to = optional_uuid(fields, "to")?;
    Ok(ClientMessage::Typing(Typing { is_typing, to }))
}

/// Reads the name of a user. Returns it sanitized and trimmed; its length is not checked.
pub(super) fn display_name<const N: usize>(
    fields: &json::Fields<N>,
) -> Result<String, InvalidMessage> {
    let name = fields.required_text("display_name", "a string")?;
    Ok(sanitize_name(&name))
}

/// Reads a UUID of any version, in its hyphenated form. Users of the flat dialect have ids of any
/// version, and users of both dialects name them.
pub(super) fn uuid<const N: usize>(
    fields: &json::Fields<N>,
    name: &'static str,
) -> Result<Uuid, InvalidMessage> {
    let what = "a UUID, for example \"8f9fe5ea-6b1c-4f3a-9d0e-2b7a1c5d4e3f\"";
    let text = fields.required_text(name, what)?;
    // `try_parse` also accepts the simple, braced and URN forms. Each has another length.
    let hyphenated = Some(&text).filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    let uuid = hyphenated.and_then(|text| Uuid::try_parse(text).ok());
    uuid.ok_or_else(|| InvalidMessage::field(name, format_args!("must be {what}")))
}

/// Reads a UUID as [`uuid`] does; `None` if the field is missing.
pub(super) fn optional_uuid(
    fields: &Fields,
    name: &'static str,
) -> Result<Option<Uuid>, InvalidMessage> {
    fields.get(name).map(|_| uuid(fields, name)).transpose()
}
