//! Sessions that the configuration names. They live for ever, and their host is a name.

use super::fields::{DEVICE_ID_LENGTH, MIN_MEMBERS, NAME_LENGTH, check_session_id};
use crate::base::log_escape::Quoted;
use crate::toolkit::json::check_length;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// One of `sessions`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticSession {
    /// As in JOIN: 1 to 64 of letters, digits, `-` and `_`.
    #[serde(deserialize_with = "session_id")]
    pub(super) id: String,
    /// 1 to 100 characters.
    #[serde(deserialize_with = "name")]
    pub(super) name: String,
    /// 1 to 128 characters, which everybody is shown.
    #[serde(deserialize_with = "host_id")]
    pub(super) host_id: String,
    /// 1 to 100 characters.
    #[serde(deserialize_with = "name")]
    pub(super) host_name: String,
    /// Its host among them, who takes a place as any other does.
    #[serde(default)]
    pub(super) max_members: Option<u32>,
}

/// Checks what no session can be told alone: that each id is there once, and the limits.
///
/// # Errors
/// The first mistake, as [`Realm::new`](crate::realm::Realm::new) says it.
pub(super) fn check(sessions: &[StaticSession], limit: u32) -> Result<(), (&'static str, String)> {
    let mut seen = BTreeMap::new();
    for (at, session) in sessions.iter().enumerate() {
        if let Some(earlier) = seen.insert(&session.id, at) {
            let id = Quoted(&session.id);
            let problem = format!("sessions[{at}].id is {id}, as sessions[{earlier}].id is");
            return Err(("sessions", problem));
        }
        let max_members = session.max_members.unwrap_or(limit);
        if !(MIN_MEMBERS..=limit).contains(&max_members) {
            let problem = format!(
                "sessions[{at}].max_members is {max_members}; it is from {MIN_MEMBERS} to max_members, {limit}"
            );
            return Err(("sessions", problem));
        }
    }
    Ok(())
}

fn session_id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let id = String::deserialize(from)?;
    match check_session_id(&id) {
        Ok(()) => Ok(id),
        Err(_) => {
            let what = "1 to 64 letters, digits, \"-\" and \"_\"";
            Err(D::Error::custom(format!("{} is not {what}", Quoted(&id))))
        }
    }
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, NAME_LENGTH)
}

fn host_id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    text(from, DEVICE_ID_LENGTH)
}

fn text<'de, D: Deserializer<'de>>(from: D, longest: usize) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    match check_length(&text, "", 1, longest) {
        Ok(()) => Ok(text),
        Err(_) => Err(D::Error::custom(format!(
            "{} is not 1 to {longest} characters long",
            Quoted(&text)
        ))),
    }
}
