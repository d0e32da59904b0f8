//! Settings of the configuration, each declared once: its name, type, default, unit, range and what it is for.
//!
//! [`settings!`](settings) makes of such a list the struct that the code uses, the checks and their messages, and the
//! descriptions ([`Setting`]) from which `switchboard defaults`, `switchboard help`, the man page and the tables of the
//! documentation are made.

use super::setting::{Setting, SettingError, SettingMap};
use super::setting_types::SettingValue;
use serde_json::Value;

/// A list of settings that [`settings!`](settings) has declared.
pub(crate) trait Settings: Sized {
    /// Returns the descriptions, in the order of the declaration.
    fn list() -> Vec<Setting>;

    /// Reads the settings from a map. Those that are missing have the defaults of `list`, which is
    /// [`Settings::list`], perhaps with other defaults. Keys that are not in the list are ignored.
    ///
    /// # Errors
    /// All settings that are invalid.
    fn read(list: &[Setting], given: &SettingMap) -> Result<Self, Vec<SettingError>>;

    /// Returns the settings with their values as in the configuration, in the order of the declaration.
    fn values(&self) -> Vec<(&'static str, Value)>;

    /// Reads the settings from a map. Those that are missing have their defaults.
    ///
    /// # Errors
    /// All settings that are invalid.
    fn from_map(given: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Self::read(&Self::list(), given)
    }
}

/// Reads the setting of this name for [`Settings::read`]. `None` if it is invalid, which is added to `errors`.
pub(crate) fn read_setting<T: SettingValue>(
    name: &str,
    list: &[Setting],
    given: &SettingMap,
    errors: &mut Vec<SettingError>,
) -> Option<T> {
    let setting = list.iter().find(|setting| setting.name == name)?;
    let value = given.get(name).or(setting.default.as_ref())?;
    match T::read(value, setting) {
        Ok(value) => Some(value),
        Err(error) => {
            errors.push(SettingError {
                key: format!("{name}{}", error.place),
                problem: error.problem,
            });
            None
        }
    }
}

/// Returns the lines of a doc comment as one.
pub(crate) fn joined(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    lines.join(" ")
}

/// Declares a struct of settings. Each is a doc comment, the field with its type, the default, the unit, the range if
/// not every number is valid, and after `=>` for whom a reload [applies](super::setting::Applies) if that is not at
/// once:
///
/// ```text
/// settings! {
///     /// The options of a PeerDrop listener.
///     pub struct Options {
///         /// Length of a code.
///         code_length: u8 = 6, "characters", 4..=12;
///         /// Number of threads.
///         threads: usize = 0, "threads" => AtRestart;
///     }
/// }
/// ```
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $text:literal])+
                $field_visibility:vis $field:ident: $type:ty = $default:expr, $unit:literal $(, $range:expr)?
                    $(=> $applies:ident)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        $visibility struct $name {
            $(
                $(#[doc = $text])+
                $field_visibility $field: $type,
            )+
        }

        impl $crate::realm::setting_list::Settings for $name {
            fn list() -> Vec<$crate::realm::setting::Setting> {
                vec![$({
                    let default: $type = $default;
                    $crate::realm::setting::Setting {
                        name: stringify!($field),
                        unit: $unit,
                        default: Some($crate::realm::setting_types::SettingValue::to_json(&default)),
                        range: $crate::realm::setting::Range::only(&[$($range.into())?]),
                        applies: $crate::realm::setting_list::applies!($($applies)?),
                        text: $crate::realm::setting_list::joined(&[$($text),+]),
                    }
                }),+]
            }

            fn read(
                list: &[$crate::realm::setting::Setting],
                given: &$crate::realm::setting::SettingMap,
            ) -> Result<Self, Vec<$crate::realm::setting::SettingError>> {
                let mut errors = Vec::new();
                $(
                    let $field =
                        $crate::realm::setting_list::read_setting(stringify!($field), list, given, &mut errors);
                )+
                match ($($field,)+) {
                    ($(Some($field),)+) => Ok(Self { $($field),+ }),
                    _ => Err(errors),
                }
            }

            fn values(&self) -> Vec<(&'static str, serde_json::Value)> {
                vec![$((
                    stringify!($field),
                    $crate::realm::setting_types::SettingValue::to_json(&self.$field),
                )),+]
            }
        }
    };
}
pub(crate) use settings;

/// Returns the [`Applies`](super::setting::Applies) of this name; without one, that of most settings.
macro_rules! applies {
    () => {
        $crate::realm::setting::Applies::AtOnce
    };
    ($name:ident) => {
        $crate::realm::setting::Applies::$name
    };
}
pub(crate) use applies;

#[cfg(test)]
mod tests {
    use super::super::setting::Range;
    use super::super::setting_types::WholeSeconds;
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::time::Duration;

    settings! {
        /// Settings of each type.
        struct Example {
            /// A first sentence. And
            /// a second.
            count: u8 = 6, "things", 4..=12;

            /// A size.
            size: usize = 1 << 20, "bytes", 1024.. => NewConnections;

            /// A time.
            time: Duration = Duration::from_millis(1500), "seconds", Range::ABOVE_ZERO;

            /// A time without fractions.
            whole: WholeSeconds = WholeSeconds(90), "whole seconds", 1..;

            /// A switch.
            switch: bool = false, "true or false" => AtRestart;

            /// A choice.
            choice: Option<bool> = None, "true, false or null";

            /// A text.
            text: String = "/".to_owned(), "path";
        }
    }

    fn read(given: &Value) -> Result<Example, Vec<SettingError>> {
        Example::from_map(given.as_object().unwrap())
    }

    #[test]
    fn what_is_missing_has_its_default() {
        let example = read(&json!({"count": 12, "other": 1})).unwrap();
        assert_eq!(
            (example.count, example.size, example.whole.0),
            (12, 1 << 20, 90)
        );
        assert_eq!(
            (example.switch, example.choice, example.text.as_str()),
            (false, None, "/")
        );
        assert_eq!(example.time, Duration::from_millis(1500));
    }

    #[test]
    fn the_values_are_those_that_were_read() {
        let given = json!({
            "count": 4, "size": 1024, "time": 0.25, "whole": 5, "switch": true, "choice": false, "text": "a",
        });
        let values = read(&given).unwrap().values();
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["count", "size", "time", "whole", "switch", "choice", "text"]
        );
        let values: SettingMap = values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        assert_eq!(Value::Object(values), given);
    }

    #[test]
    fn a_description_has_the_whole_text_and_its_first_sentence() {
        let list = Example::list();
        assert_eq!(list[0].text, "A first sentence. And a second.");
        assert_eq!(list[0].summary(), "A first sentence.");
        assert_eq!(list[2].default, Some(json!(1.5)));
        let times = list.iter().filter(|setting| setting.is_time());
        assert_eq!(
            times.map(|setting| setting.name).collect::<Vec<_>>(),
            ["time", "whole"]
        );
    }

    #[test]
    fn a_setting_applies_at_once_unless_its_declaration_says_otherwise() {
        use super::super::setting::Applies;
        let applies: Vec<Applies> = Example::list().iter().map(|it| it.applies).collect();
        let (at_once, new, restart) =
            (Applies::AtOnce, Applies::NewConnections, Applies::AtRestart);
        assert_eq!(
            applies,
            [at_once, new, at_once, at_once, restart, at_once, at_once]
        );
    }

    #[test]
    fn another_default_of_the_list_holds() {
        let mut list = Example::list();
        list[0].default = Some(json!(7));
        assert_eq!(Example::read(&list, &SettingMap::new()).unwrap().count, 7);
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        for (key, value, problem) in [
            ("count", json!(3), "must be 4 to 12 things, not 3"),
            ("count", json!(300), "must be 4 to 12 things, not 300"),
            (
                "count",
                json!(4.5),
                "write 4 or 5: must be a whole number, not 4.5",
            ),
            (
                "count",
                json!(5.0),
                "write 5: must be a whole number, not 5.0",
            ),
            ("count", json!("5"), "write 5, without quotes"),
            (
                "count",
                json!(-1),
                "must be 4 to 12 things, such as 6, not -1",
            ),
            ("size", json!(1000), "must be at least 1024 bytes, not 1000"),
            (
                "time",
                json!(0),
                "must be more than 0 seconds, such as 1.5, not 0",
            ),
            (
                "time",
                json!(2e9),
                "must be at most 1000000000 seconds, not 2000000000.0",
            ),
            (
                "whole",
                json!(1.5),
                "write 1 or 2: must be a whole number, not 1.5",
            ),
            ("whole", json!(0), "must be at least 1 seconds, not 0"),
            (
                "switch",
                json!(1),
                "write true or false, without quotes, not 1",
            ),
            (
                "choice",
                json!("no"),
                "write true, false or null, without quotes, not \"no\"",
            ),
            ("text", json!(1), "must be a string, such as \"/\""),
        ] {
            let errors = read(&json!({key: value})).unwrap_err();
            assert_eq!(errors, [SettingError::new(key, problem)]);
        }
    }

    #[test]
    fn a_time_that_must_not_be_zero_is_not_so_short_that_it_is() {
        let errors = read(&json!({"time": 1e-12})).unwrap_err();
        assert!(
            errors[0].problem.starts_with("must be more than 0 seconds"),
            "{errors:?}"
        );
        assert_eq!(read(&json!({"time": 1e-9})).unwrap().time.as_nanos(), 1);
    }

    #[test]
    fn all_errors_are_reported() {
        let errors = read(&json!({"count": 3, "switch": 1})).unwrap_err();
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["count", "switch"]);
    }

    proptest! {
        #[test]
        fn a_number_is_read_or_told_what_would_be_right(number: f64, whole: u64) {
            for value in [json!(number), json!(whole)] {
                for key in ["count", "size", "time", "whole"] {
                    match read(&json!({key: value})) {
                        Ok(example) => {
                            let read = example.values().into_iter().find(|(name, _)| *name == key).unwrap().1;
                            // A time is rounded to nanoseconds.
                            let difference = read.as_f64().unwrap() - value.as_f64().unwrap();
                            prop_assert!(difference.abs() <= 1e-7, "{read} {value}");
                        }
                        Err(errors) => prop_assert_eq!(errors.len(), 1),
                    }
                }
            }
        }
    }
}
