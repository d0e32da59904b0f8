//! Settings of the process that flags and variables give as texts.

use super::layers::{Layer, Source};
use super::unknown_keys::{Meant, meant_for_process};
use super::{ProcessSettings, syntax};
use crate::base::log_escape::Quoted;
use crate::realm::setting::{Setting, SettingError, SettingMap};
use crate::realm::setting_list::Settings as _;
use serde_json::{Value, json};

/// A setting, and the text that is to be its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    /// What gives the value, for errors: a flag or a variable.
    pub(super) place: String,
    pub(super) key: &'static str,
    pub(super) text: String,
}

/// Returns the key of the process with this name.
///
/// # Errors
/// There is none: what was probably meant.
pub(super) fn find_key(name: &str) -> Result<&'static str, Meant> {
    let list = ProcessSettings::list();
    let known: Vec<&'static str> = list.iter().map(|setting| setting.name).collect();
    match known.iter().find(|known| **known == name) {
        Some(key) => Ok(key),
        None => Err(meant_for_process(name, &known)),
    }
}

/// Reads the settings of one source. Their problems are added to `problems`.
pub(super) fn read_layer(
    source: Source,
    assignments: &[Assignment],
    problems: &mut Vec<String>,
) -> Layer {
    let mut values = SettingMap::new();
    for (index, Assignment { place, key, text }) in assignments.iter().enumerate() {
        let mut earlier = assignments.iter().take(index);
        match earlier.find(|earlier| earlier.key == *key) {
            Some(earlier) if earlier.place == *place => {
                problems.push(format!("{place}: write this once; it is given twice"));
                continue;
            }
            Some(earlier) => {
                problems.push(format!(
                    "{place}: write either this or {}; both set {key}",
                    earlier.place
                ));
                continue;
            }
            None => {}
        }
        match read_value(key, text) {
            Ok(value) => {
                values.insert((*key).to_owned(), value);
            }
            Err(errors) => problems.extend(errors.into_iter().map(|error| {
                let within = error.key.strip_prefix(key).unwrap_or_default();
                format!("{place}{within}: {}", error.problem)
            })),
        }
    }
    Layer { source, values }
}

/// Reads the value of a setting: JSON, or a text without quotes.
fn read_value(key: &str, text: &str) -> Result<Value, Vec<SettingError>> {
    let check = |value: Value| {
        let given = SettingMap::from_iter([(key.to_owned(), value.clone())]);
        ProcessSettings::from_map(&given).map(|_| value)
    };
    let word = || check(json!(text));
    match syntax::parse(text) {
        // A text may look like another value.
        Ok(value) => check(value).or_else(|errors| word().map_err(|_| errors)),
        Err(_) => word().map_err(|errors| match number(text) {
            Some(number) => match check(number.clone()) {
                Ok(_) => {
                    let problem = format!("write {number} instead of {}", Quoted(text));
                    vec![SettingError::new(key, problem)]
                }
                Err(errors) => errors,
            },
            None => errors,
        }),
    }
}

/// Returns the number that a text is in another notation than that of JSON, such as `+2` or `02`.
fn number(text: &str) -> Option<Value> {
    let text = text.trim();
    let whole = text.parse::<u64>().map(Value::from).ok();
    let fraction = || text.parse::<f64>().ok().filter(|it| it.is_finite());
    whole.or_else(|| fraction().map(Value::from))
}

/// Returns a text that sets a setting to its default, as an example in errors.
pub(super) fn example(setting: &Setting) -> String {
    format!("{}={}", setting.name, setting.example())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(assignments: &[(&str, &str, &str)]) -> Result<Value, Vec<String>> {
        let assignment = |&(place, key, text): &(&str, &str, &str)| Assignment {
            place: place.to_owned(),
            key: find_key(key).unwrap(),
            text: text.to_owned(),
        };
        let assignments: Vec<Assignment> = assignments.iter().map(assignment).collect();
        let mut problems = Vec::new();
        let layer = read_layer(Source::Flag, &assignments, &mut problems);
        if problems.is_empty() {
            Ok(Value::Object(layer.values))
        } else {
            Err(problems)
        }
    }

    #[test]
    fn a_value_is_json_or_a_text_without_quotes() {
        for (key, text, value) in [
            ("threads", "2", json!(2)),
            ("threads", " 2 ", json!(2)),
            ("log", "warn", json!("warn")),
            ("log", "\"warn\"", json!("warn")),
            ("log", "null", json!(null)),
            ("memory_budget", "null", json!(null)),
            ("shutdown_timeout", "0.5", json!(0.5)),
        ] {
            assert_eq!(read(&[("x", key, text)]), Ok(json!({key: value})), "{text}");
        }
    }

    #[test]
    fn the_default_of_each_setting_can_be_written_as_a_text() {
        for setting in ProcessSettings::list() {
            let (name, default) = (setting.name, setting.default.clone().unwrap());
            let assignment = example(&setting);
            let (_, text) = assignment.split_once('=').unwrap();
            assert_eq!(read(&[("x", name, text)]), Ok(json!({name: default})));
        }
    }

    #[test]
    fn an_invalid_value_is_an_error_with_its_place() {
        for (key, text, problem) in [
            (
                "threads",
                "",
                "must be 0 to 1024 threads, such as 0, not \"\"",
            ),
            (
                "threads",
                "two",
                "must be 0 to 1024 threads, such as 0, not \"two\"",
            ),
            ("threads", "2000", "must be 0 to 1024 threads, not 2000"),
            ("threads", "\"2\"", "write 2, without quotes"),
            ("threads", "02", "write 2 instead of \"02\""),
            ("threads", "+2", "write 2 instead of \"+2\""),
            ("threads", "1.", "write 1: must be a whole number, not 1.0"),
            ("threads", "02000", "must be 0 to 1024 threads, not 2000"),
            (
                "threads",
                "1e999",
                "must be 0 to 1024 threads, such as 0, not \"1e999\"",
            ),
            (
                "threads",
                "[1",
                "must be 0 to 1024 threads, such as 0, not \"[1\"",
            ),
            (
                "threads",
                "{\"a\": 1, \"a\": 2}",
                "must be 0 to 1024 threads, such as 0, not \"{\\\"a\\\": 1, \\\"a\\\": 2}\"",
            ),
            (
                "log",
                "",
                "must be off, error, warn, info or debug, not \"\"",
            ),
        ] {
            let expected = format!("PLACE: {problem}");
            assert_eq!(read(&[("PLACE", key, text)]), Err(vec![expected]));
        }
    }

    #[test]
    fn a_key_that_is_given_twice_is_an_error() {
        assert_eq!(
            read(&[("a", "threads", "1"), ("a", "threads", "1")]),
            Err(vec!["a: write this once; it is given twice".to_owned()])
        );
        assert_eq!(
            read(&[("a", "threads", "1"), ("b", "threads", "2")]),
            Err(vec![
                "b: write either this or a; both set threads".to_owned()
            ])
        );
    }

    #[test]
    fn all_problems_are_reported() {
        let problems = read(&[("a", "threads", "x"), ("b", "log", "x")]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error_with_its_place(text in "[-+0-9.eE \"a-z\\[\\]{}:,]{0,8}|.{0,8}") {
            for Setting { name, .. } in ProcessSettings::list() {
                match read(&[("PLACE", name, &text)]) {
                    Ok(values) => {
                        let values = values.as_object().unwrap().clone();
                        prop_assert!(ProcessSettings::from_map(&values).is_ok());
                    }
                    Err(problems) => {
                        prop_assert_eq!(problems.len(), 1);
                        prop_assert!(problems[0].starts_with("PLACE: "));
                    }
                }
            }
        }
    }
}
