//! The types of settings: how each is read from the configuration, and what is said about a wrong value.

use crate::realm::setting::{Range, Setting};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value, json};
use std::time::Duration;

/// The longest time, in seconds.
const MAX_SECONDS: u64 = 1_000_000_000;

/// A type that a setting can have.
pub(crate) trait SettingValue: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// The place in the value, and what would be right.
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError>;

    /// Returns the value as in the configuration.
    fn to_json(&self) -> Value;
}

/// What is wrong with the value of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    /// The place in the value, such as `[0].id`; empty: the whole value.
    pub(crate) place: String,
    /// What would be right.
    pub(crate) problem: String,
}

impl<T: Into<String>> From<T> for ValueError {
    fn from(problem: T) -> Self {
        Self {
            place: String::new(),
            problem: problem.into(),
        }
    }
}

/// Reads a value of a type that can be deserialized.
///
/// # Errors
/// The place and the problem of the first part that is of another type.
pub(crate) fn deserialize<T: DeserializeOwned>(value: &Value) -> Result<T, ValueError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let place = match error.path().to_string() {
            whole if whole == "." => String::new(),
            place => place,
        };
        let problem = error.inner().to_string();
        let pointer = place.replace(['.', '['], "/").replace(']', "");
        let part = value.pointer(&pointer).and_then(Value::as_number);
        let whole_number = part.and_then(|number| whole_number_problem(&problem, number));
        ValueError {
            place,
            problem: whole_number.unwrap_or(problem),
        }
    })
}

/// Checks that a value is an array.
///
/// # Errors
/// What to write.
pub(crate) fn expect_array(value: &Value, setting: &Setting) -> Result<(), ValueError> {
    let example = setting.example();
    match value {
        Value::Array(_) => Ok(()),
        Value::String(_) => {
            Err(format!("write [{value}]: must be an array, such as {example}").into())
        }
        _ => Err(format!("must be an array, such as {example}, not {value}").into()),
    }
}

/// Returns what to write for a number that was refused where a whole one was expected, if it is one that is not whole
/// or too large.
fn whole_number_problem(problem: &str, given: &Number) -> Option<String> {
    let (_, expected) = problem.rsplit_once(", expected ")?;
    let most = match expected {
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => u64::MAX,
        _ => return None,
    };
    given.as_f64().filter(|&size| size >= 0.0)?;
    whole_number(given, Range::from(..=most), "").err()
}

/// Returns a whole number of a range.
///
/// # Errors
/// What to write.
fn whole_number(given: &Number, range: Range, unit: &str) -> Result<u64, String> {
    if let Some(number) = given
        .as_u64()
        .filter(|&number| range.contains(number as f64))
    {
        return Ok(number);
    }
    let size = given.as_f64().unwrap_or(f64::INFINITY);
    if range.contains(size) && size < u64::MAX as f64 {
        let (below, above) = (size.floor() as u64, size.ceil() as u64);
        let right = if below == above || below == 0 {
            above.to_string()
        } else {
            format!("{below} or {above}")
        };
        return Err(format!(
            "write {right}: must be a whole number, not {size:?}"
        ));
    }
    Err(out_of_range(range, unit, given))
}

/// Returns that a number is not within its range.
fn out_of_range(range: Range, unit: &str, given: &Number) -> String {
    let unit = unit.strip_prefix("whole ").unwrap_or(unit);
    let space = if unit.is_empty() { "" } else { " " };
    let Range { least, most, .. } = range;
    match (least, most) {
        _ if range.is_open => format!("must be more than {least}{space}{unit}, for example 5"),
        (0, _) => format!("must be at most {most}{space}{unit}, not {given}"),
        (_, u64::MAX) => format!("must be at least {least}{space}{unit}, not {given}"),
        _ => format!("must be {least} to {most}{space}{unit}, not {given}"),
    }
}

/// Returns the number that a value is.
///
/// # Errors
/// What to write.
fn number<'a>(value: &'a Value, setting: &Setting) -> Result<&'a Number, String> {
    let is_negative = |number: &Number| number.as_f64().is_some_and(|number| number < 0.0);
    match value {
        Value::Number(number) if !is_negative(number) => Ok(number),
        Value::String(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
            Err(format!("write {text}, without quotes"))
        }
        _ => Err(format!(
            "must be a number of at least 0, such as {}, not {value}",
            setting.example()
        )),
    }
}

/// Implements [`SettingValue`] for a type of whole numbers.
macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
                let range = Range {
                    most: setting.range.most.min(<$type>::MAX as u64),
                    ..setting.range
                };
                let number = whole_number(number(value, setting)?, range, setting.unit)?;
                Ok(<$type>::try_from(number).expect("the range is within that of the type"))
            }

            fn to_json(&self) -> Value {
                json!(self)
            }
        }
    )+};
}

whole_numbers!(u8, u32, usize);

/// A number that `null` leaves to the daemon.
impl SettingValue for Option<usize> {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        if value.is_null() {
            return Ok(None);
        }
        let Range { least, .. } = setting.range;
        match value
            .as_u64()
            .filter(|&number| setting.range.contains(number as f64))
        {
            Some(number) => Ok(usize::try_from(number).ok()),
            None => Err(format!(
                "must be 0 (no limit), null (the default) or at least {least} {}, not {value}",
                setting.unit
            )
            .into()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// Seconds, with fractions.
impl SettingValue for Duration {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        let given = number(value, setting)?;
        let seconds = given.as_f64().unwrap_or(f64::INFINITY);
        let range = Range {
            most: setting.range.most.min(MAX_SECONDS),
            ..setting.range
        };
        if range.contains(seconds) {
            Ok(Self::from_secs_f64(seconds))
        } else if seconds > MAX_SECONDS as f64 {
            Err(format!("must be at most {MAX_SECONDS} seconds, not {given}").into())
        } else {
            Err(out_of_range(range, setting.unit, given).into())
        }
    }

    fn to_json(&self) -> Value {
        if self.subsec_nanos() == 0 {
            json!(self.as_secs())
        } else {
            json!(self.as_secs_f64())
        }
    }
}

impl SettingValue for bool {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        let wrong = || format!("write true or false, without quotes, not {value}").into();
        value.as_bool().ok_or_else(wrong)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// A choice that `null` leaves to the daemon.
impl SettingValue for Option<bool> {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            _ => Err(format!("write true, false or null, without quotes, not {value}").into()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// A text. The error does not show another value, which may be a secret.
impl SettingValue for String {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        let wrong = || format!("must be a string, such as {}", setting.example()).into();
        value.as_str().map(str::to_owned).ok_or_else(wrong)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}
