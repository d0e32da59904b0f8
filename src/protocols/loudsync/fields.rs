//! Limits and checks of fields that both dialects, and partly the configuration, have in common.
//!
//! `name` is the field's name, with the path of the object that it is in.

use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, Fields, InvalidMessage};
use serde_json::value::RawValue;

/// The major version of the protocol ("Version History").
pub(super) const VERSION: u64 = 1;

/// Maximum characters in a device ID. The server keeps it for as long as the member has its place.
pub(super) const DEVICE_ID_LENGTH: usize = 128;

/// Maximum characters in a name, which lists repeat for each member (rulings, for `sessionName`).
pub(super) const NAME_LENGTH: usize = 100;

/// Maximum characters in a session ID, which the host chooses (rulings).
pub(super) const SESSION_ID_LENGTH: usize = 64;

/// Maximum characters in a reason.
const REASON_LENGTH: usize = 200;

/// Minimum of a session's `maxMembers`: the host and one guest (rulings).
pub(super) const MIN_MEMBERS: u32 = 2;

/// Maximum of the option `max_members`. Each member is sent all others, so the cost grows with its square.
pub(super) const MAX_MEMBERS: u32 = 256;

/// Returns a required time stamp ("BaseMessage") as the client wrote it.
///
/// # Errors
/// It is missing, or not a number.
pub(super) fn timestamp<'a, const N: usize>(
    fields: &Fields<'a, N>,
    name: &'static str,
) -> Result<&'a RawValue, InvalidMessage> {
    let what = "a number, the time in milliseconds since 1970";
    let value: &RawValue = fields.required(name, what)?;
    if value
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    {
        Ok(value)
    } else {
        Err(InvalidMessage::field(name, format_args!("must be {what}")))
    }
}

/// Returns a required text of 1 to `max_length` characters.
///
/// # Errors
/// It is missing, not a string, empty or too long.
pub(super) fn text<const N: usize>(
    fields: &Fields<N>,
    name: &'static str,
    max_length: usize,
) -> Result<String, InvalidMessage> {
    let text: String = fields.required(name, "a string")?;
    json::check_length(&text, name, 1, max_length).map(|()| text)
}

/// Returns a text as [`text`] does, which may be missing where a token has it: that error is the inner one.
///
/// # Errors
/// It is there, and not a string, empty or too long.
pub(super) fn replaceable_text<const N: usize>(
    fields: &Fields<N>,
    name: &'static str,
    max_length: usize,
) -> Result<Result<String, InvalidMessage>, InvalidMessage> {
    let text = text(fields, name, max_length);
    match fields.get(name) {
        Some(_) => text.map(Ok),
        None => Ok(text),
    }
}

/// Checks the ID of a session that is to be created.
///
/// # Errors
/// It is empty, too long or has other characters.
pub(super) fn check_session_id(id: &str) -> Result<(), InvalidMessage> {
    json::check_length(id, "sessionId", 1, SESSION_ID_LENGTH)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.bytes().all(allowed) {
        Ok(())
    } else {
        let problem = "must have only the letters A to Z and a to z, digits, \"-\" and \"_\"";
        Err(InvalidMessage::field("sessionId", problem))
    }
}

/// Returns whether a version is missing or has this server's major version: `"1.0"`, or the number 1.
///
/// # Errors
/// It is not a version.
pub(super) fn is_supported_version<const N: usize>(
    fields: &Fields<N>,
    name: &'static str,
) -> Result<bool, InvalidMessage> {
    let Some(value) = fields.get(name) else {
        return Ok(true);
    };
    let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let major = text.split('.').next().unwrap_or_default();
    if major.is_empty() || !major.bytes().all(|digit| digit.is_ascii_digit()) {
        let problem = "must be a version such as \"1.0\"";
        return Err(InvalidMessage::field(name, problem));
    }
    Ok(major.parse() == Ok(VERSION))
}

/// Returns an optional reason; none if it is empty.
///
/// # Errors
/// It is not a string, or too long.
pub(super) fn reason<const N: usize>(
    fields: &Fields<N>,
    name: &'static str,
) -> Result<Option<String>, InvalidMessage> {
    let reason: Option<String> = fields.optional(name, "a string")?;
    if let Some(reason) = &reason {
        json::check_length(reason, name, 0, REASON_LENGTH)?;
    }
    Ok(reason.filter(|reason| !reason.is_empty()))
}

/// Returns the error for a type that the dialect does not have; `known` lists those that it has.
pub(super) fn unknown_type(message_type: &str, known: &str) -> InvalidMessage {
    let problem = format!("is {}; must be {known}", Quoted(message_type));
    InvalidMessage::field("type", problem)
}
