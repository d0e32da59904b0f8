//! Serialization of single values of the configuration.

use crate::base::ip::Network;
use crate::base::log_escape::Quoted;
use crate::protocols::Protocol;
use log::LevelFilter;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::Value;
use std::time::Duration;

/// Smallest `memory_budget`, in bytes: about what a single well-behaved client can use.
const MIN_MEMORY_BUDGET: usize = 1 << 20;

pub(super) fn protocol_name<S: Serializer>(
    protocol: &&'static Protocol,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.name)
}

pub(super) fn level_name<S: Serializer>(
    level: &Option<LevelFilter>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match level {
        Some(level) => to.serialize_str(&level.as_str().to_ascii_lowercase()),
        None => to.serialize_none(),
    }
}

pub(super) fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LevelFilter>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.map(|name| parse_level(&name).map_err(D::Error::custom))
        .transpose()
}

/// Parses the name of a log level.
///
/// # Errors
/// A text that lists the valid names.
pub fn parse_level(name: &str) -> Result<LevelFilter, String> {
    name.parse().map_err(|_| {
        format!(
            "must be off, error, warn, info or debug, not {}",
            Quoted(name)
        )
    })
}

pub(super) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let given = Value::deserialize(from)?;
    let bytes = given.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        _ if given.is_null() => Ok(None),
        Some(bytes) if bytes == 0 || bytes >= MIN_MEMORY_BUDGET => Ok(Some(bytes)),
        _ => Err(D::Error::custom(format!(
            "must be 0 (no limit), null (a quarter of the memory) or at least \
             {MIN_MEMORY_BUDGET} bytes, not {given}"
        ))),
    }
}

pub(super) fn network_names<S: Serializer>(networks: &[Network], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(Network::to_string))
}

pub(super) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Network>, D::Error> {
    let parse = |text: String| {
        text.parse().map_err(|()| {
            D::Error::custom(format!(
                "an entry must be an address or a network, such as \"127.0.0.1\" or \"10.0.0.0/8\", \
                 not {}",
                Quoted(&text)
            ))
        })
    };
    Vec::<String>::deserialize(from)?
        .into_iter()
        .map(parse)
        .collect()
}

/// Durations, which are numbers of seconds in the configuration; fractions are allowed.
pub(super) mod seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer};
    use serde::de::Error;

    pub(in crate::config) fn serialize<S: Serializer>(
        time: &Duration,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        if time.subsec_nanos() == 0 {
            to.serialize_u64(time.as_secs())
        } else {
            to.serialize_f64(time.as_secs_f64())
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Duration, D::Error> {
        const MAX: f64 = 1e9;
        let seconds = f64::deserialize(from)?;
        if !(0.0..=MAX).contains(&seconds) {
            return Err(D::Error::custom(format!(
                "must be from 0 to {MAX} seconds, not {seconds:?}"
            )));
        }
        Ok(Duration::from_secs_f64(seconds))
    }
}
