//! Reading a protocol's options, with errors that name the key.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A protocol's own keys of a listener, with their values.
pub type OptionMap = Map<String, Value>;

/// An invalid option.
#[derive(Debug)]
pub struct OptionError {
    /// The key, or a path if the error is inside a value.
    pub key: String,
    /// What would be valid.
    pub problem: String,
}

impl From<(&str, String)> for OptionError {
    fn from((key, problem): (&str, String)) -> Self {
        Self {
            key: key.to_owned(),
            problem,
        }
    }
}

/// Returns the default options of a protocol.
pub(crate) fn default_options<T: Default + Serialize>() -> OptionMap {
    match serde_json::to_value(T::default()) {
        Ok(Value::Object(options)) => options,
        other => unreachable!("options serialize to an object: {other:?}"),
    }
}

/// Reads options. Those that are missing have their defaults.
///
/// # Errors
/// An option of another type.
pub(crate) fn read_options<T>(options: &OptionMap) -> Result<T, OptionError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let mut all = default_options::<T>();
    all.extend(options.clone());
    deserialize_object(Value::Object(all)).map_err(|(key, problem)| OptionError { key, problem })
}

/// Deserializes a JSON object.
///
/// # Errors
/// The path of the invalid key, and what is wrong with its value.
pub(crate) fn deserialize_object<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.into_inner().to_string()))
}

/// Checks options that have a minimum, each given as key, value, minimum and unit.
///
/// # Errors
/// The first option below its minimum, in the form that becomes an [`OptionError`].
pub(crate) fn check_minimum(
    options: &[(&'static str, u32, u32, &str)],
) -> Result<(), (&'static str, String)> {
    match options
        .iter()
        .find(|(_, value, minimum, _)| value < minimum)
    {
        Some((key, value, minimum, unit)) => Err((
            key,
            format!("must be at least {minimum} {unit}, not {value}"),
        )),
        None => Ok(()),
    }
}
