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

/// Reads an array of a type that can be deserialized.
///
/// # Errors
/// What to write instead of another value, or as [`deserialize`].
pub(crate) fn deserialize_array<T: DeserializeOwned>(
    value: &Value,
    setting: &Setting,
) -> Result<T, ValueError> {
    expect_array(value, setting)?;
    deserialize(value)
}

/// Returns the one of some values whose name is `given`, in any case.
pub(crate) fn named<T: Copy>(values: &[T], name: fn(T) -> &'static str, given: &str) -> Option<T> {
    let mut values = values.iter().copied();
    values.find(|value| name(*value).eq_ignore_ascii_case(given))
}

/// Checks that a value is an array.
///
/// # Errors
/// What to write.
fn expect_array(value: &Value, setting: &Setting) -> Result<(), ValueError> {
    // An empty list is no example.
    let example = match &setting.default {
        Some(Value::Array(items)) if !items.is_empty() => {
            format!(", such as {}", setting.example())
        }
        _ => String::new(),
    };
    match value {
        Value::Array(_) => Ok(()),
        Value::String(_) => Err(format!("write [{value}]: must be an array{example}").into()),
        _ => Err(format!("must be an array{example}, not {value}").into()),
    }
}

/// Returns what to write for a number that was refused where a whole one was expected, if it is one that is not whole
/// or too large.
fn whole_number_problem(problem: &str, given: &Number) -> Option<String> {
    let (_, expected) = problem.rsplit_once(", expected ")?;
    given
        .as_f64()
        .filter(|&size| size >= 0.0 && expected == "u32")?;
    whole_number(given, Range::ANY, u32::MAX.into(), "").err()
}

/// Returns a whole number of a range, at most `type_max`.
///
/// # Errors
/// What to write.
fn whole_number(given: &Number, range: Range, type_max: u64, unit: &str) -> Result<u64, String> {
    let limited = Range {
        most: range.most.min(type_max),
        ..range
    };
    let number = given.as_u64();
    if let Some(number) = number.filter(|&number| limited.contains(number as f64)) {
        return Ok(number);
    }
    let size = given.as_f64().unwrap_or(f64::INFINITY);
    if limited.contains(size) && size < u64::MAX as f64 {
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
    // What the type can hold matters only to those who want more.
    let range = if size > type_max as f64 {
        limited
    } else {
        range
    };
    Err(format!("must be {}, not {given}", numbers(range, unit)))
}

/// Returns the numbers of a range in words.
fn numbers(range: Range, unit: &str) -> String {
    let unit = unit.strip_prefix("whole ").unwrap_or(unit);
    let unit = if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    };
    let Range { least, most, .. } = range;
    match (least, most) {
        _ if range.is_open => format!("more than {least}{unit}"),
        (0, u64::MAX) => "a number of at least 0".to_owned(),
        (_, u64::MAX) => format!("at least {least}{unit}"),
        _ => format!("{least} to {most}{unit}"),
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
            "must be {}, such as {}, not {value}",
            numbers(setting.range, setting.unit),
            setting.example()
        )),
    }
}

/// Implements [`SettingValue`] for a type of whole numbers.
macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
                let (range, type_max) = (setting.range, <$type>::MAX as u64);
                let number = whole_number(number(value, setting)?, range, type_max, setting.unit)?;
                Ok(<$type>::try_from(number).expect("the range is within that of the type"))
            }

            fn to_json(&self) -> Value {
                json!(self)
            }
        }
    )+};
}

whole_numbers!(u8, u32, usize);

/// A time in whole seconds: what is counted once a second needs no fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeSeconds(pub(crate) u32);

impl WholeSeconds {
    /// Returns the time.
    pub(crate) fn duration(self) -> Duration {
        Duration::from_secs(self.0.into())
    }
}

impl SettingValue for WholeSeconds {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        u32::read(value, setting).map(Self)
    }

    fn to_json(&self) -> Value {
        json!(self.0)
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
            let time = Self::from_secs_f64(seconds);
            // What is less than half a nanosecond is no time.
            if range.contains(time.as_secs_f64()) {
                return Ok(time);
            }
        }
        if seconds > MAX_SECONDS as f64 {
            return Err(format!("must be at most {MAX_SECONDS} seconds, not {given}").into());
        }
        let range = numbers(range, setting.unit);
        Err(format!(
            "must be {range}, such as {}, not {given}",
            setting.example()
        )
        .into())
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
