//! Sessions from the configuration (`sessions`). They never end, and their host is a name, not a device.

use super::fields::{DEVICE_ID_LENGTH, MIN_MEMBERS, NAME_LENGTH, check_session_id};
use crate::base::log_escape::Quoted;
use crate::realm::SettingError;
use crate::realm::setting::Setting;
use crate::realm::setting_types::{SettingValue, ValueError, deserialize_array};
use crate::toolkit::json::check_length;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One of `sessions`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticSession {
    /// As in JOIN: 1 to 64 of letters, digits, `-` and `_`.
    #[serde(deserialize_with = "session_id")]
    pub(super) id: String,
    /// 1 to 100 characters.
    #[serde(deserialize_with = "name")]
    pub(super) name: String,
    /// 1 to 128 characters. It is not a secret: every member is shown it.
    #[serde(deserialize_with = "host_id")]
    pub(super) host_id: String,
    /// 1 to 100 characters.
    #[serde(deserialize_with = "name")]
    pub(super) host_name: String,
    /// Members, the host included. Default: the listener's `max_members`.
    #[serde(default)]
    pub(super) max_members: Option<u32>,
}

/// Checks the sessions against each other and the listener's `max_members`: IDs must be unique,
/// limits in range.
///
/// # Errors
/// All sessions that are wrong.
pub(super) fn check(sessions: &[StaticSession], limit: u32) -> Result<(), Vec<SettingError>> {
    let mut errors = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, session) in sessions.iter().enumerate() {
        if let Some(earlier) = seen.insert(&session.id, index) {
            let id = Quoted(&session.id);
            let problem = format!("must be unique, and {id} is that of sessions[{earlier}], too");
            errors.push(SettingError::new(&format!("sessions[{index}].id"), problem));
        }
        let max_members = session.max_members.unwrap_or(limit);
        if !(MIN_MEMBERS..=limit).contains(&max_members) {
            let problem =
                format!("must be {MIN_MEMBERS} to {limit} (max_members), not {max_members}");
            errors.push(SettingError::new(
                &format!("sessions[{index}].max_members"),
                problem,
            ));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

impl SettingValue for Vec<StaticSession> {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        deserialize_array(value, setting)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

fn session_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    match check_session_id(&id) {
        Ok(()) => Ok(id),
        Err(_) => {
            let what = "1 to 64 letters, digits, \"-\" or \"_\"";
            Err(D::Error::custom(format!("{} must be {what}", Quoted(&id))))
        }
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, NAME_LENGTH)
}

fn host_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, DEVICE_ID_LENGTH)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D, max_length: usize) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match check_length(&text, "", 1, max_length) {
        Ok(()) => Ok(text),
        Err(_) => Err(D::Error::custom(format!(
            "{} must be 1 to {max_length} characters long",
            Quoted(&text)
        ))),
    }
}
