//! Serialization of single values of the configuration.

use crate::base::ip::Network;
use crate::base::log_escape::Quoted;
use crate::realm::Protocol;
use log::LevelFilter;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::Value;
use std::net::SocketAddr;
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
/// A text that says what to write.
pub fn parse_level(name: &str) -> Result<LevelFilter, String> {
    let lower = name.to_ascii_lowercase();
    let instead = match lower.as_str() {
        // At this level tungstenite would log what clients write to each other.
        "trace" => "debug",
        "verbose" | "all" | "finest" => "debug",
        "information" | "notice" => "info",
        "warning" => "warn",
        "err" | "critical" | "fatal" => "error",
        "none" | "silent" | "quiet" => "off",
        _ => {
            return name.parse().map_err(|_| {
                format!(
                    "must be off, error, warn, info or debug, not {}",
                    Quoted(name)
                )
            });
        }
    };
    Err(format!(
        "write {instead} instead of {}; the levels are off, error, warn, info and debug",
        Quoted(name)
    ))
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

pub(super) fn yes_no_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    match Value::deserialize(from)? {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        other => Err(D::Error::custom(format!(
            "write true, false or null, without quotes, not {other}"
        ))),
    }
}

pub(super) fn network_names<S: Serializer>(networks: &[Network], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(Network::to_string))
}

pub(super) fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Network>, D::Error> {
    let parse = |text: String| {
        text.parse()
            .map_err(|()| D::Error::custom(network_problem(&text)))
    };
    Vec::<String>::deserialize(from)?
        .into_iter()
        .map(parse)
        .collect()
}

/// Returns what to write instead of something that is neither an address nor a network.
fn network_problem(text: &str) -> String {
    let given = Quoted(text);
    let trimmed = text.trim();
    let without_port = trimmed
        .parse::<SocketAddr>()
        .map(|address| address.ip().to_string());
    let right = match trimmed {
        "localhost" => "\"127.0.0.1\", \"::1\"".to_owned(),
        "*" => "\"0.0.0.0/0\", \"::/0\", which trusts everything,".to_owned(),
        _ if trimmed.parse::<Network>().is_ok() => format!("\"{trimmed}\""),
        _ => match without_port {
            Ok(address) => format!("\"{address}\""),
            Err(_) => {
                "an address or a network, such as \"127.0.0.1\" or \"10.0.0.0/8\",".to_owned()
            }
        },
    };
    format!("write {right} instead of {given}")
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
