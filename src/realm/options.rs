//! Reading a protocol's options, with errors that name the key.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// An invalid option: its key, or a path if the error is inside a value, and what would be valid.
pub(crate) struct OptionError {
    pub(crate) key: String,
    pub(crate) problem: String,
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
/// The first option below its minimum, in the form that [`Realm::new`](super::Realm::new) returns.
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
