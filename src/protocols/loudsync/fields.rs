//! Fields that messages of both dialects have, and the configuration: their limits, and how they
//! are read.

use crate::toolkit::json::{self, InvalidMessage};
use serde_json::value::RawValue;

/// The major version of the protocol ("Version History").
pub(super) const VERSION: u64 = 1;

/// The most characters of a device's id, which the server keeps, and nobody is told.
pub(super) const DEVICE_ID_LENGTH: usize = 128;

/// The most characters of names (rulings, for `sessionName`).
pub(super) const NAME_LENGTH: usize = 100;

/// The most characters of a session's id (rulings).
pub(super) const SESSION_ID_LENGTH: usize = 64;

/// The most characters of a reason.
const REASON_LENGTH: usize = 200;

/// The fewest members that a session may be limited to (rulings).
pub(super) const MIN_MEMBERS: u32 = 2;

/// And no more than this: each is told of all others.
pub(super) const MAX_MEMBERS: u32 = 256;

/// A time stamp like that of every message ("BaseMessage"), as it was written.
pub(super) fn timestamp<'a>(
    value: Option<&'a RawValue>,
    name: &'static str,
) -> Result<&'a RawValue, InvalidMessage> {
    let what = "a number, the time in milliseconds since 1970";
    let value: &RawValue = json::required(value, name, what)?;
    if value
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    {
        Ok(value)
    } else {
        Err(InvalidMessage::field(name, format_args!("is not {what}")))
    }
}

/// A text that has to be there and not empty.
pub(super) fn text(
    value: Option<&RawValue>,
    name: &'static str,
    longest: usize,
) -> Result<String, InvalidMessage> {
    let text: String = json::required(value, name, "a string")?;
    json::check_length(&text, name, 1, longest).map(|()| text)
}

/// A session's id, where somebody makes one.
pub(super) fn check_session_id(id: &str) -> Result<(), InvalidMessage> {
    json::check_length(id, "sessionId", 1, SESSION_ID_LENGTH)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.bytes().all(allowed) {
        Ok(())
    } else {
        let problem = "has other characters in it than letters, digits, \"-\" and \"_\"";
        Err(InvalidMessage::field("sessionId", problem))
    }
}

/// Whether a client says nothing of a version, or one of the same major number: `"1.0"`, or 1.
pub(super) fn is_our_version(
    value: Option<&RawValue>,
    name: &'static str,
) -> Result<bool, InvalidMessage> {
    let Some(value) = value else {
        return Ok(true);
    };
    let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let major = text.split('.').next().unwrap_or_default();
    if major.is_empty() || !major.bytes().all(|digit| digit.is_ascii_digit()) {
        let problem = "is no version, for example \"1.0\"";
        return Err(InvalidMessage::field(name, problem));
    }
    Ok(major.parse() == Ok(VERSION))
}

pub(super) fn reason(
    value: Option<&RawValue>,
    name: &'static str,
) -> Result<Option<String>, InvalidMessage> {
    let reason: Option<String> = json::optional(value, name, "a string")?;
    if let Some(reason) = &reason {
        json::check_length(reason, name, 0, REASON_LENGTH)?;
    }
    Ok(reason.filter(|reason| !reason.is_empty()))
}
