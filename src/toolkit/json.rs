//! Decoding a client's JSON message one field at a time, so that each error names its field.
//!
//! The type of a message decides which fields it needs. So a protocol reads the object into [`Fields`], which
//! are still JSON, and decodes those that the type requires.

use crate::toolkit::sanitize::sanitize;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
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

/// Reads an object into a struct. Fields that it does not have are ignored, however deeply nested.
///
/// # Errors
/// The text is not JSON, or not an object.
pub fn read_struct<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, InvalidMessage> {
    check_object(text, serde_json::from_str(text))
}

/// Returns what was read from a text, if the text is an object.
fn check_object<T>(text: &str, read: serde_json::Result<T>) -> Result<T, InvalidMessage> {
    let value = read.map_err(|error| {
        if error.is_data() {
            InvalidMessage::NotAnObject
        } else {
            InvalidMessage::NotJson(error.to_string())
        }
    })?;
    // Serde also reads an array of the right length into a struct.
    if text.trim_start().starts_with('{') {
        Ok(value)
    } else {
        Err(InvalidMessage::NotAnObject)
    }
}

/// The fields of a JSON object that have one of `N` names, each still as JSON.
///
/// All other fields are ignored, however deeply nested and however often they occur: nothing of them is kept.
///
/// Lookups are always inlined, so that the compiler resolves a constant name to its index, instead of comparing
/// names for each message.
pub struct Fields<'a, const N: usize> {
    names: &'static [&'static str; N],
    values: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Reads the fields with these names from an object.
    ///
    /// # Errors
    /// The text is not JSON, or not an object, or has one of these fields twice.
    pub fn read(text: &'a str, names: &'static [&'static str; N]) -> Result<Self, InvalidMessage> {
        Self::read_nested(text, "", names)
    }

    /// Reads the fields of an object inside a message. `path` leads to the object, and each name begins with it,
    /// such as `"payload."` and `"payload.reason"`: so an error says where its field is.
    ///
    /// # Errors
    /// As for [`Fields::read`].
    pub fn read_nested(
        text: &'a str,
        path: &str,
        names: &'static [&'static str; N],
    ) -> Result<Self, InvalidMessage> {
        let mut values = [None; N];
        let reader = FieldsReader {
            names,
            values: &mut values,
            path_length: path.len(),
        };
        let mut json = serde_json::Deserializer::from_str(text);
        let read = reader.deserialize(&mut json).and_then(|()| json.end());
        check_object(text, read)?;
        Ok(Self { names, values })
    }

    /// Returns the JSON of a field; `None` if it is missing or `null`.
    #[inline(always)]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.get_or_null(name).filter(|value| value.get() != "null")
    }

    /// Returns the JSON of a field, also if it is `null`; `None` if it is missing.
    #[inline(always)]
    pub fn get_or_null(&self, name: &str) -> Option<&'a RawValue> {
        let place = self.names.iter().position(|known| *known == name);
        debug_assert!(place.is_some(), "{name} is not one of the fields");
        *self.values.get(place?)?
    }

    /// Decodes a required field. `what` names the type in an error, such as "a string".
    ///
    /// # Errors
    /// The field is missing or `null`, or of another type.
    #[inline(always)]
    pub fn required<T: Deserialize<'a>>(
        &self,
        name: &'static str,
        what: &str,
    ) -> Result<T, InvalidMessage> {
        let missing = || InvalidMessage::field(name, format_args!("is missing; it must be {what}"));
        self.optional(name, what)?.ok_or_else(missing)
    }

    /// Decodes a required string, without a copy unless it has escapes.
    ///
    /// # Errors
    /// As for [`Fields::required`].
    #[inline(always)]
    pub fn required_text(
        &self,
        name: &'static str,
        what: &str,
    ) -> Result<Cow<'a, str>, InvalidMessage> {
        match self.get(name).and_then(plain_string) {
            Some(text) => Ok(Cow::Borrowed(text)),
            None => self.required(name, what).map(Cow::Owned),
        }
    }

    /// Decodes an optional field. `null` counts as missing.
    ///
    /// # Errors
    /// The field is of another type than `what` names.
    #[inline(always)]
    pub fn optional<T: Deserialize<'a>>(
        &self,
        name: &'static str,
        what: &str,
    ) -> Result<Option<T>, InvalidMessage> {
        let wrong = |_| InvalidMessage::field(name, format_args!("must be {what}"));
        self.get(name)
            .map(|value| serde_json::from_str(value.get()).map_err(wrong))
            .transpose()
    }

    /// Decodes an optional id of 1 to `max` characters that the client chose and others see unchanged. An id that
    /// would need sanitizing is an error, since the sanitized id would be another one.
    ///
    /// # Errors
    /// The id is not a string, empty or too long, or contains markup or control characters.
    pub fn optional_id(
        &self,
        name: &'static str,
        max: usize,
    ) -> Result<Option<String>, InvalidMessage> {
        let id: Option<String> = self.optional(name, "a string")?;
        if let Some(id) = &id {
            check_length(id, name, 1, max)?;
            if sanitize(id) != id.as_str() {
                let problem = "must not contain HTML tags or control characters";
                return Err(InvalidMessage::field(name, problem));
            }
        }
        Ok(id)
    }
}

/// Returns the text of a string without escapes, which is in the JSON as it is.
pub fn plain_string(json: &RawValue) -> Option<&str> {
    let text = json.get().strip_prefix('"')?.strip_suffix('"')?;
    (!text.contains('\\')).then_some(text)
}

/// Returns a text as it is in JSON between the quotes of a string.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    if !text.bytes().any(is_escaped) {
        return Cow::Borrowed(text);
    }
    let json = serde_json::to_string(text).expect("strings are JSON");
    let text = json
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    Cow::Owned(text.expect("a string has quotes").to_owned())
}

/// Reads an object into the values of the fields with these names.
struct FieldsReader<'v, 'a, const N: usize> {
    names: &'static [&'static str; N],
    values: &'v mut [Option<&'a RawValue>; N],
    /// Bytes of each name that are not in the key.
    path_length: usize,
}

impl<'a, const N: usize> DeserializeSeed<'a> for FieldsReader<'_, 'a, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_struct("Fields", self.names, self)
    }
}

impl<'a, const N: usize> Visitor<'a> for FieldsReader<'_, 'a, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<(), A::Error> {
        let key = Key {
            names: self.names,
            path_length: self.path_length,
        };
        while let Some(place) = object.next_key_seed(key)? {
            match place.and_then(|place| self.values.get_mut(place)) {
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
                Some(Some(_)) => return Err(Error::custom("a field occurs twice")),
                Some(value) => *value = Some(object.next_value()?),
            }
        }
        Ok(())
    }

    /// Reads an array of as many values as there are fields, which is no object. It is read all the same, so that
    /// an error in it is reported as one of JSON; [`check_object`] rejects an array without one.
    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        for length in 0..self.names.len() {
            if array.next_element::<IgnoredAny>()?.is_none() {
                return Err(Error::invalid_length(length, &self));
            }
        }
        Ok(())
    }
}

/// Reads a key as the place of its name in the list; `None` for a field that is not in it.
#[derive(Clone, Copy)]
struct Key<const N: usize> {
    names: &'static [&'static str; N],
    path_length: usize,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Key<N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Option<usize>, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl<const N: usize> Visitor<'_> for Key<N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        let length = self.path_length + key.len();
        let is_of_key = |name: &&str| name.len() == length && name.ends_with(key);
        Ok(self.names.iter().position(is_of_key))
    }
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

/// Returns the `type` of a message even if the rest is invalid; `None` if it has no readable type.
pub fn message_type(text: &str) -> Option<String> {
    let fields = Fields::read(text, &["type"]).ok()?;
    let message_type = fields.required_text("type", "a string").ok()?;
    Some(message_type.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Result<String, InvalidMessage> {
        Fields::read(json, &["text"])?.required("text", "a string")
    }

    /// Returns the JSON of three fields, or the error.
    fn raw(json: &str) -> Result<[Option<&str>; 3], InvalidMessage> {
        const NAMES: [&str; 3] = ["a", "type", "b"];
        let fields = Fields::read(json, &NAMES)?;
        Ok(NAMES.map(|name| fields.get(name).map(RawValue::get)))
    }

    #[test]
    fn a_field_is_read_and_other_fields_are_ignored() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let json = format!(r#" {{"more": {deep}, "text": "x", "number": 1e9999}}"#);
        assert_eq!(text(&json).as_deref(), Ok("x"));
    }

    #[test]
    fn each_name_has_the_json_of_its_field_whatever_the_order() {
        let json = r#"{"b": [1, {"a": 2}] , "more": {"type": 3}, "a":{"b": "x" },"A":4}"#;
        let expected = [Some(r#"{"b": "x" }"#), None, Some(r#"[1, {"a": 2}]"#)];
        assert_eq!(raw(json), Ok(expected));
        assert_eq!(raw("{}"), Ok([None; 3]));
    }

    #[test]
    fn a_known_field_that_occurs_twice_makes_the_message_malformed_and_an_unknown_one_does_not() {
        for json in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":null,"a":null}"#,
            r#"{"a":null,"x":0,"a":1}"#,
            r#"{"type":1,"\u0074ype":2}"#,
        ] {
            assert_eq!(raw(json), Err(InvalidMessage::NotAnObject), "{json}");
        }
        let unknown = r#"{"x":1,"x":2,"x":null,"":3,"":4,"a":{"b":5,"b":6}}"#;
        assert_eq!(raw(unknown), Ok([Some(r#"{"b":5,"b":6}"#), None, None]));
    }

    #[test]
    fn null_counts_as_missing_unless_it_is_asked_for() {
        let fields = Fields::read(r#"{"a": null ,"b":"null"}"#, &["a", "b", "c"]).unwrap();
        assert!(fields.get("a").is_none());
        assert_eq!(fields.get_or_null("a").map(RawValue::get), Some("null"));
        assert_eq!(fields.optional::<String>("a", "a string"), Ok(None));
        assert_eq!(fields.required("b", "a string"), Ok("null".to_owned()));
        assert!(fields.get_or_null("c").is_none());
    }

    #[test]
    fn escapes_in_a_key_are_those_of_json() {
        let json = r#"{"\u0074ype":1,"\u0061":2,"\\u0062":3}"#;
        assert_eq!(raw(json), Ok([Some("2"), Some("1"), None]));
        for json in [r#"{"\ud800":1}"#, r#"{"\x":1}"#, "{\"\n\":1}"] {
            assert!(
                matches!(raw(json), Err(InvalidMessage::NotJson(_))),
                "{json}"
            );
        }
    }

    #[test]
    fn fields_of_a_nested_object_have_its_path_in_their_name_and_not_in_their_key() {
        let names = &["payload.a", "payload.b"];
        let json = r#"{"a":"x","payload.b":1,"b":2}"#;
        let fields = Fields::read_nested(json, "payload.", names).unwrap();
        assert_eq!(fields.required("payload.a", "a string"), Ok("x".to_owned()));
        let error = fields
            .required::<String>("payload.b", "a string")
            .unwrap_err();
        assert_eq!(error.to_string(), r#""payload.b" must be a string"#);
        assert_eq!(error.name(), Some("payload.b"));
    }

    #[cfg(debug_assertions)]
    #[test]
    #[should_panic(expected = "c is not one of the fields")]
    fn to_ask_for_a_field_that_is_not_read_is_a_mistake() {
        let _ = Fields::read("{}", &["a", "b"]).unwrap().get("c");
    }

    #[test]
    fn an_array_is_no_object_and_an_error_in_it_is_one_of_json() {
        for json in ["[]", "[1]", "[1,2,3]", "[null,null,null]", r#"[{"a":1}]"#] {
            assert_eq!(raw(json), Err(InvalidMessage::NotAnObject), "{json}");
        }
        for json in ["[", "[1,2", "[1,2,x]", "[1,2,3,]", "[1,2,3] 4"] {
            assert!(
                matches!(raw(json), Err(InvalidMessage::NotJson(_))),
                "{json}"
            );
        }
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
    fn a_text_is_copied_only_if_it_has_escapes() {
        let text = |json| Fields::read(json, &["a"])?.required_text("a", "a string");
        assert!(matches!(text(r#"{"a":"äb"}"#), Ok(Cow::Borrowed("äb"))));
        let escaped = text(r#"{"a":"\u0061\n"}"#);
        assert!(matches!(escaped, Ok(Cow::Owned(text)) if text == "a\n"));
        for json in ["{}", r#"{"a":null}"#, r#"{"a":1}"#, r#"{"a":"\ud800"}"#] {
            let fields = Fields::read(json, &["a"]).unwrap();
            let owned = fields.required::<String>("a", "a string");
            assert_eq!(text(json).map(Cow::into_owned), owned, "{json}");
            assert!(owned.is_err(), "{json}");
        }
    }

    #[test]
    fn a_text_is_escaped_as_serde_json_does_it_and_copied_only_if_it_must_be() {
        for character in (0..0x100)
            .filter_map(char::from_u32)
            .chain(['\u{2028}', '\u{1f600}'])
        {
            let text = format!("{character}x{character}");
            let escaped = escape(&text);
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(format!("\"{escaped}\""), json);
            assert_eq!(
                matches!(escaped, Cow::Borrowed(_)),
                *escaped == *text,
                "{json}"
            );
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
