//! Options of a protocol: reading them, and errors that name the key.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// An option of a protocol that is not right: its key where it is known, and what is wrong.
pub(crate) struct OptionError {
    pub(crate) key: String,
    pub(crate) problem: String,
}

/// Reads a flat object; an error comes with the key that it is about.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| (error.path().to_string(), error.into_inner().to_string()))
}

/// Checks options that have a least value: key, value, least value, unit.
///
/// # Errors
/// The first that is less, as [`Realm::new`] says it.
pub(crate) fn check_minimum(
    options: &[(&'static str, u32, u32, &str)],
) -> Result<(), (&'static str, String)> {
    match options.iter().find(|(_, value, least, _)| value < least) {
        Some((key, value, least, unit)) => {
            Err((key, format!("{value} is less than {least} {unit}")))
        }
        None => Ok(()),
    }
}
