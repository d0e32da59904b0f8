//! From the text of a configuration to its values: JSON in which no key stands twice, and errors that say what
//! to write.

use super::EXAMPLE_LISTENERS;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Decodes a file.
///
/// # Errors
/// The file is not UTF-8.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    String::from_utf8(bytes).map_err(|error| {
        if is_utf16 {
            return "write the file as UTF-8; it is UTF-16 (as PowerShell writes what > redirects)"
                .to_owned();
        }
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("line {line}: write the file as UTF-8; something here is not")
    })
}

/// Parses the text of a configuration, which a byte order mark may precede.
///
/// # Errors
/// Where the text is not JSON, or has a key twice in one object, and what to write there.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(format!(
            "write {{\"listeners\": {EXAMPLE_LISTENERS}}}, or {{}} for the defaults: the file is empty"
        ));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    UniqueKeys::deserialize(&mut deserializer)
        .and_then(|UniqueKeys(value)| deserializer.end().map(|()| value))
        .map_err(|error| problem(text, &error))
}

/// A JSON value in none of whose objects a key stands twice.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(UniqueKeys(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "write {key:?} once; it stands twice in the same object"
                )));
            }
            let UniqueKeys(value) = from.next_value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Returns what is wrong with a text, where, and what to write.
fn problem(text: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let place = format!("line {line}, column {column}");
    let message = error.to_string();
    let suffix = format!(" at line {line} column {column}");
    let message = message.strip_suffix(&suffix).unwrap_or(&message);
    let first = first_of_values(text);
    match error.classify() {
        Category::Data => format!("{place}: {message}"),
        _ if !first.starts_with(['{', '[']) => format!(
            "write JSON, such as {{\"listeners\": {EXAMPLE_LISTENERS}}}: this is another format"
        ),
        Category::Eof => format!(
            "{place}: write {} at the end: the file is cut off here",
            missing_end(text)
        ),
        Category::Syntax | Category::Io => match repair(text, line, column, message) {
            Some(repair) => format!("{place}: {repair}"),
            None => format!("{place}: is not valid JSON: {message}"),
        },
    }
}

/// Returns a text from its first character that is neither blank nor in a comment.
fn first_of_values(text: &str) -> &str {
    let is_comment = |line: &&str| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with("//") || line.starts_with('#') || line.starts_with("/*")
    };
    text.lines()
        .find(|line| !is_comment(line))
        .unwrap_or_default()
        .trim_start()
}

/// Returns what to do about a syntax error, if that can be said.
fn repair(text: &str, line: usize, column: usize, message: &str) -> Option<String> {
    let at = text
        .split('\n')
        .nth(line.checked_sub(1)?)?
        .as_bytes()
        .get(column.checked_sub(1)?..)?;
    let word: Vec<u8> = at
        .iter()
        .copied()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .take(40)
        .collect();
    let word = String::from_utf8_lossy(&word);
    let first = at.first()?;
    Some(match (first, message) {
        (b'#', _) => "remove the comment; JSON has none".to_owned(),
        (b'/', _) if at.starts_with(b"//") || at.starts_with(b"/*") => {
            "remove the comment; JSON has none".to_owned()
        }
        (b'\'', _) => "write \" instead of '".to_owned(),
        (_, "trailing comma") => "remove the comma before this".to_owned(),
        (_, "trailing characters") => {
            "remove this and what follows; the configuration ends before it".to_owned()
        }
        (_, "expected `:`") => "write a colon before this".to_owned(),
        (b'"' | b'{' | b'[', _) if message.starts_with("expected `,`") => {
            "write a comma before this".to_owned()
        }
        (_, "key must be a string") if !word.is_empty() => format!("write \"{word}\", in quotes"),
        (_, "expected value" | "expected ident") if !word.is_empty() => {
            format!("write a value before this, or \"{word}\" in quotes")
        }
        _ => return None,
    })
}

/// Returns the brackets that a text lacks at its end.
fn missing_end(text: &str) -> String {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => drop(open.pop()),
            _ => {}
        }
    }
    let quote = if in_string { "\"" } else { "" };
    let brackets: String = open.into_iter().rev().collect();
    if brackets.is_empty() {
        return "the rest".to_owned();
    }
    format!("what is missing, at least {quote}{brackets},")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn assert_problem(text: &str, expected: &str) {
        let problem = parse(text).unwrap_err();
        assert!(problem.starts_with(expected), "{text}: {problem}");
    }

    #[test]
    fn a_byte_order_mark_is_accepted_and_other_encodings_are_told_what_to_write() {
        assert_eq!(parse("\u{feff}{}"), Ok(Value::Object(Map::new())));
        assert_eq!(decode(b"{}".to_vec()), Ok("{}".to_owned()));
        for bytes in [&b"\xff\xfe{\0}\0"[..], b"\xfe\xff\0{\0}"] {
            assert!(
                decode(bytes.to_vec())
                    .unwrap_err()
                    .starts_with("write the file as UTF-8; it is UTF-16")
            );
        }
        let problem = decode(b"{\n\"\xfc\"}".to_vec()).unwrap_err();
        assert!(
            problem.starts_with("line 2: write the file as UTF-8"),
            "{problem}"
        );
    }

    #[test]
    fn an_empty_file_and_another_format_are_told_what_json_to_write() {
        for empty in ["", " \n", "\u{feff}\n"] {
            assert_problem(
                empty,
                r#"write {"listeners": [{"protocol": "peerdrop"}]}, or {} for the defaults"#,
            );
        }
        for other in [
            "listeners:\n  - protocol: peerjs\n",
            "---\nlisteners: []\n",
            "# a comment\nlisteners: []\n",
            "log = \"warn\"\n",
            "<config/>",
        ] {
            assert_problem(
                other,
                r#"write JSON, such as {"listeners": [{"protocol": "peerdrop"}]}"#,
            );
        }
    }

    #[test]
    fn a_mistake_in_json_is_told_with_its_place_and_what_to_write() {
        for (text, problem) in [
            ("// quiet\n{}", "line 1, column 1: remove the comment"),
            (
                "{\n  // quiet\n  \"log\": \"warn\"\n}",
                "line 2, column 3: remove the comment",
            ),
            (
                "{\n  \"log\": \"warn\" # quiet\n}",
                "line 2, column 17: remove the comment",
            ),
            (
                "{\"log\": /* quiet */ \"warn\"}",
                "line 1, column 9: remove the comment",
            ),
            (
                "{\"log\": \"warn\",}",
                "line 1, column 16: remove the comma before this",
            ),
            (
                "{\"listeners\": [1,]}",
                "line 1, column 18: remove the comma before this",
            ),
            ("{'log': 'warn'}", "line 1, column 2: write \" instead of '"),
            (
                "{log: \"warn\"}",
                "line 1, column 2: write \"log\", in quotes",
            ),
            (
                "{\"log\" \"warn\"}",
                "line 1, column 8: write a colon before this",
            ),
            (
                "{\"log\": \"warn\" \"threads\": 1}",
                "line 1, column 16: write a comma before this",
            ),
            (
                "{\"listeners\": [{} {}]}",
                "line 1, column 19: write a comma before this",
            ),
            (
                "{\"log\": warn}",
                "line 1, column 9: write a value before this, or \"warn\" in quotes",
            ),
            ("{}}", "line 1, column 3: remove this and what follows"),
            (
                "{\"log\": }",
                "line 1, column 9: is not valid JSON: expected value",
            ),
        ] {
            assert_problem(text, problem);
        }
    }

    #[test]
    fn a_file_that_is_cut_is_told_what_is_missing() {
        for (text, missing) in [
            ("{\"listeners\": [{\"protocol\": \"peerjs\"", "}]},"),
            ("{\"listeners\": [{\"protocol\": \"pe]}\\\"", "\"}]},"),
            ("{", "},"),
            ("[", "],"),
        ] {
            let problem = parse(text).unwrap_err();
            let expected = format!("write what is missing, at least {missing} at the end");
            assert!(problem.contains(&expected), "{problem}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_in_one_object_is_an_error_that_names_it() {
        assert_problem(
            "{\"log\": 1, \"log\": 2}",
            "line 1, column 16: write \"log\" once",
        );
        let within = "{\"listeners\": [{\"sessions\": [{\n\"id\": 1, \"name\": 2, \"id\": 3}]}]}";
        assert_problem(within, "line 2, column 24: write \"id\" once");
        // An escape is no way around it.
        assert_problem(
            "{\"log\": 1, \"l\\u006fg\": 2}",
            "line 1, column 21: write \"log\" once",
        );
        parse("{\"a\": {\"log\": 1}, \"b\": {\"log\": 1}}").unwrap();
    }

    proptest! {
        #[test]
        fn the_values_are_those_of_serde_json(text in "[\\[\\]{}\":, \\\\0-9a.e-]{0,24}") {
            if let Ok(value) = parse(&text) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }

        #[test]
        fn a_configuration_that_is_cut_anywhere_is_told_where(at in 1_usize..36) {
            let text = "{\"listeners\": [{\"protocol\": \"peerjs\"}]}";
            let problem = parse(&text[..at]).unwrap_err();
            prop_assert!(problem.starts_with("line 1, column "), "{}", problem);
            prop_assert!(problem.contains("the file is cut off here"), "{}", problem);
        }
    }
}
