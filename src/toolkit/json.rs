//! Decoding a client's JSON message one field at a time, so that each error names its field.
//!
//! The type of a message decides which fields it needs. So a protocol reads the object into a struct
//! of `Option<&RawValue>`, and from that the fields that the type requires.

use crate::toolkit::sanitize::sanitize;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt;

/// The reason why a message cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMessage {
    /// The message is not JSON (RFC 8259), with the parser's error.
    NotJson(String),
    /// The message is JSON, but not an object in which each key occurs once.
    NotAnObject,
    /// A field is missing or invalid.
    Field {
        /// The name of the field, for programs.
        name: &'static str,
        /// Text for people: what is wrong, and what would be valid.
        problem: String,
    },
}

impl InvalidMessage {
    /// Creates an error for a field; in its text, `problem` follows the quoted name.
    pub fn field(name: &'static str, problem: impl fmt::Display) -> Self {
        let problem = format!("\"{name}\" {problem}");
        Self::Field { name, problem }
    }

    /// Returns the name of the invalid field, if the error is about one.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Field { name, .. } => Some(name),
            Self::NotJson(_) | Self::NotAnObject => None,
        }
    }
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(error) => write!(f, "the message is not JSON: {error}"),
            Self::NotAnObject => {
                f.write_str("the message must be a JSON object without duplicate keys")
            }
            Self::Field { problem, .. } => f.write_str(problem),
        }
    }
}

/// Reads a message into the fields of `T`. Other fields are ignored, however deeply nested.
///
/// # Errors
/// The message is not JSON, or not an object.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, InvalidMessage> {
    let fields = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            InvalidMessage::NotAnObject
        } else {
            InvalidMessage::NotJson(error.to_string())
        }
    })?;
    // Serde also reads an array of the right length into a struct.
    if text.trim_start().starts_with('{') {
        Ok(fields)
    } else {
        Err(InvalidMessage::NotAnObject)
    }
}

/// Reads a required field. `what` names the type in an error, such as "a string".
///
/// # Errors
/// The field is missing or `null`, or of another type.
pub fn required<'a, T: Deserialize<'a>>(
    value: Option<&'a RawValue>,
    name: &'static str,
    what: &str,
) -> Result<T, InvalidMessage> {
    let missing = || InvalidMessage::field(name, format_args!("is missing; it must be {what}"));
    optional(value, name, what)?.ok_or_else(missing)
}

/// Reads an optional field. `null` counts as missing.
///
/// # Errors
/// The field is of another type than `what` names.
pub fn optional<'a, T: Deserialize<'a>>(
    value: Option<&'a RawValue>,
    name: &'static str,
    what: &str,
) -> Result<Option<T>, InvalidMessage> {
    let wrong = |_| InvalidMessage::field(name, format_args!("must be {what}"));
    value
        .map(|value| serde_json::from_str(value.get()).map_err(wrong))
        .transpose()
}

/// Checks that a field has `min` to `max` characters (Unicode scalar values).
///
/// # Errors
/// The text is shorter or longer; the error names the limits.
pub fn check_length(
    text: &str,
    name: &'static str,
    min: usize,
    max: usize,
) -> Result<(), InvalidMessage> {
    let length = text.chars().count();
    if (min..=max).contains(&length) {
        return Ok(());
    }
    Err(InvalidMessage::field(
        name,
        format_args!("must have {min} to {max} characters, not {length}"),
    ))
}

/// Reads an optional id of 1 to `max` characters that the client chose and others see unchanged. An id that
/// would need sanitizing is an error, since the sanitized id would be another one.
///
/// # Errors
/// The id is not a string, empty or too long, or contains markup or control characters.
pub fn optional_id(
    value: Option<&RawValue>,
    name: &'static str,
    max: usize,
) -> Result<Option<String>, InvalidMessage> {
    let id: Option<String> = optional(value, name, "a string")?;
    if let Some(id) = &id {
        check_length(id, name, 1, max)?;
        if sanitize(id) != id.as_str() {
            let problem = "must not contain HTML tags or control characters";
            return Err(InvalidMessage::field(name, problem));
        }
    }
    Ok(id)
}

/// Returns the `type` of a message even if the rest is invalid; `None` if it has no readable type.
pub fn message_type(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
    }
    let typed: Typed = object(text).ok()?;
    required(typed.kind, "type", "a string").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Fields<'a> {
        #[serde(borrow)]
        text: Option<&'a RawValue>,
    }

    fn text(json: &str) -> Result<String, InvalidMessage> {
        required(object::<Fields>(json)?.text, "text", "a string")
    }

    #[test]
    fn a_field_is_read_and_other_fields_are_ignored() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(r#" {{"more": {deep}, "text": "x", "number": 1e9999}}"#);
        assert_eq!(text(&json).as_deref(), Ok("x"));
    }

    #[test]
    fn invalid_json_is_distinguished_from_json_that_is_not_an_object() {
        for json in ["", "x", "{", "{} {}", r#"{"text": "x}"#] {
            assert!(
                matches!(text(json), Err(InvalidMessage::NotJson(_))),
                "{json}"
            );
        }
        for json in ["[]", r#"["x"]"#, r#""x""#, "7", r#"{"text":1,"text":2}"#] {
            assert_eq!(text(json), Err(InvalidMessage::NotAnObject), "{json}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_what_would_be_valid() {
        let error = |json| text(json).unwrap_err().to_string();
        assert_eq!(error("{}"), r#""text" is missing; it must be a string"#);
        assert_eq!(
            error(r#"{"text": null}"#),
            r#""text" is missing; it must be a string"#
        );
        assert_eq!(error(r#"{"text": 7}"#), r#""text" must be a string"#);
        assert_eq!(error(r#"{"text": "\ud800"}"#), r#""text" must be a string"#);
        let long = check_length("äöü", "text", 1, 2).unwrap_err();
        assert_eq!(
            long.to_string(),
            r#""text" must have 1 to 2 characters, not 3"#
        );
        assert_eq!(long.name(), Some("text"));
    }

    #[test]
    fn length_is_counted_in_characters_and_both_limits_are_inclusive() {
        assert!(check_length("äöü", "text", 3, 5).is_ok());
        assert!(check_length("äöüxy", "text", 3, 5).is_ok());
        assert!(check_length("äö", "text", 3, 5).is_err());
        assert!(check_length("äöüxyz", "text", 3, 5).is_err());
    }
}
