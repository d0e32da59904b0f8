//! A client's message as JSON: read one field at a time, so that each mistake names its field.
//!
//! Which fields matter depends on a message's type. So a protocol reads the object into a struct
//! of `Option<&RawValue>`, and then from that what the type demands.

use crate::toolkit::sanitize::sanitize;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt;

/// What is wrong with a message, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidMessage {
    /// It is no JSON (RFC 8259); why not.
    NoJson(String),
    /// It is JSON, but no object in which each key stands once.
    NoObject,
    /// A field is missing or wrong.
    Field {
        /// Its name, for a program.
        name: &'static str,
        /// What would be right, for a person.
        problem: String,
    },
}

impl InvalidMessage {
    /// A field that is there and of the right kind, but wrong; `problem` follows its name.
    pub fn field(name: &'static str, problem: impl fmt::Display) -> Self {
        let problem = format!("\"{name}\" {problem}");
        Self::Field { name, problem }
    }

    /// The field at fault, where it is one.
    pub const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Field { name, .. } => Some(name),
            Self::NoJson(_) | Self::NoObject => None,
        }
    }
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoJson(why) => write!(f, "this is no JSON: {why}"),
            Self::NoObject => f.write_str("a message is a JSON object, each key in it once"),
            Self::Field { problem, .. } => f.write_str(problem),
        }
    }
}

/// Reads a message into its fields; what else stands in it is ignored, however deep.
///
/// # Errors
/// It is no JSON, or no object.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, InvalidMessage> {
    let fields = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            InvalidMessage::NoObject
        } else {
            InvalidMessage::NoJson(error.to_string())
        }
    })?;
    // An array of the right length would be read as well.
    if text.trim_start().starts_with('{') {
        Ok(fields)
    } else {
        Err(InvalidMessage::NoObject)
    }
}

/// Reads a field that must be there. `what` it is stands in the error: "a string".
///
/// # Errors
/// It is missing, or something else.
pub fn required<'a, T: Deserialize<'a>>(
    value: Option<&'a RawValue>,
    name: &'static str,
    what: &str,
) -> Result<T, InvalidMessage> {
    let missing = || InvalidMessage::field(name, format_args!("is missing; it is {what}"));
    optional(value, name, what)?.ok_or_else(missing)
}

/// Reads a field that may be missing. `null` is taken for missing.
///
/// # Errors
/// It is something else than `what` says.
pub fn optional<'a, T: Deserialize<'a>>(
    value: Option<&'a RawValue>,
    name: &'static str,
    what: &str,
) -> Result<Option<T>, InvalidMessage> {
    let wrong = |_| InvalidMessage::field(name, format_args!("is not {what}"));
    value
        .map(|value| serde_json::from_str(value.get()).map_err(wrong))
        .transpose()
}

/// The text of a field whose length in characters (Unicode scalar values) is in range.
///
/// # Errors
/// It is shorter or longer; the limits are named.
pub fn check_length(
    text: &str,
    name: &'static str,
    shortest: usize,
    longest: usize,
) -> Result<(), InvalidMessage> {
    let length = text.chars().count();
    if (shortest..=longest).contains(&length) {
        return Ok(());
    }
    Err(InvalidMessage::field(
        name,
        format_args!("has {length} characters; it has {shortest} to {longest}"),
    ))
}

/// An id that a client gives and others see as it is, 1 to `longest` characters, if it is there: one
/// that was sanitised would be another.
///
/// # Errors
/// It is no string, too long or empty, or sanitising would change it.
pub fn check_id(
    value: Option<&RawValue>,
    name: &'static str,
    longest: usize,
) -> Result<Option<String>, InvalidMessage> {
    let id: Option<String> = optional(value, name, "a string")?;
    if let Some(id) = &id {
        check_length(id, name, 1, longest)?;
        if sanitize(id) != id.as_str() {
            let problem = "has HTML tags or control characters in it";
            return Err(InvalidMessage::field(name, problem));
        }
    }
    Ok(id)
}

/// The `type` of a message, whatever else is wrong with it; none where it has none.
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
    fn a_field_is_read_and_what_else_there_is_ignored() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(r#" {{"more": {deep}, "text": "x", "number": 1e9999}}"#);
        assert_eq!(text(&json).as_deref(), Ok("x"));
    }

    #[test]
    fn what_is_no_json_is_told_from_what_is_no_object() {
        for json in ["", "x", "{", "{} {}", r#"{"text": "x}"#] {
            assert!(
                matches!(text(json), Err(InvalidMessage::NoJson(_))),
                "{json}"
            );
        }
        for json in ["[]", r#"["x"]"#, r#""x""#, "7", r#"{"text":1,"text":2}"#] {
            assert_eq!(text(json), Err(InvalidMessage::NoObject), "{json}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_what_would_be_right() {
        let told = |json| text(json).unwrap_err().to_string();
        assert_eq!(told("{}"), r#""text" is missing; it is a string"#);
        assert_eq!(
            told(r#"{"text": null}"#),
            r#""text" is missing; it is a string"#
        );
        assert_eq!(told(r#"{"text": 7}"#), r#""text" is not a string"#);
        assert_eq!(told(r#"{"text": "\ud800"}"#), r#""text" is not a string"#);
        let long = check_length("äöü", "text", 1, 2).unwrap_err();
        assert_eq!(
            long.to_string(),
            r#""text" has 3 characters; it has 1 to 2"#
        );
        assert_eq!(long.name(), Some("text"));
    }

    #[test]
    fn length_is_counted_in_characters_and_both_limits_are_allowed() {
        assert!(check_length("äöü", "text", 3, 5).is_ok());
        assert!(check_length("äöüxy", "text", 3, 5).is_ok());
        assert!(check_length("äö", "text", 3, 5).is_err());
        assert!(check_length("äöüxyz", "text", 3, 5).is_err());
    }
}
