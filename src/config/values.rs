//! The types of settings that only the configuration knows.

use super::{Address, Hosts, Origins};
use crate::base::ip::ProxyAddress;
use crate::base::log_escape::Quoted;
use crate::realm::setting::Setting;
use crate::realm::setting_types::{
    SettingValue, ValueError, deserialize, deserialize_array, named,
};
use crate::sys::log_format::LogFormat;
use log::LevelFilter;
use serde_json::{Value, json};
use std::net::SocketAddr;

impl SettingValue for Option<LevelFilter> {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::Null => Ok(None),
            Value::String(name) => Ok(Some(parse_level(name)?)),
            _ => Err("must be a string, such as \"warn\", or null".into()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self.map(|level| level.as_str().to_ascii_lowercase()))
    }
}

impl SettingValue for LogFormat {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        let name = value.as_str().ok_or("must be a string, such as \"json\"")?;
        named(&Self::ALL, Self::name, name).ok_or_else(|| {
            let instead = match name.to_ascii_lowercase().as_str() {
                "ndjson" | "jsonl" => "write json: ",
                "plain" | "pretty" | "human" => "write text: ",
                "journald" | "systemd" | "syslog" => "write journal: ",
                _ => "",
            };
            let given = Quoted(name);
            format!("{instead}must be auto, text, journal or json, not {given}").into()
        })
    }

    fn to_json(&self) -> Value {
        json!(self.name())
    }
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

/// Only `memory_budget` is of this type.
impl SettingValue for Option<usize> {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        if value.is_null() {
            return Ok(None);
        }
        let number = value
            .as_u64()
            .filter(|&number| setting.range.contains(number as f64));
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(format!(
                "must be 0 (no limit), null (a quarter of the memory) or at least {} {}, not {value}",
                setting.range.least, setting.unit
            )
            .into()),
        }
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

/// The default is an address with the port of the protocol.
impl SettingValue for Address {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        let default = setting
            .default
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default();
        let (_, port) = default.rsplit_once(':').unwrap_or_default();
        let port = port.parse().unwrap_or_default();
        let address = match value {
            Value::String(address) => Self::parse(address, port),
            Value::Number(number) => Self::parse(&number.to_string(), port),
            _ => Err(format!("must be a string, such as {}", setting.example())),
        };
        Ok(address?)
    }

    fn to_json(&self) -> Value {
        json!(self.to_string())
    }
}

/// Only `status` is of this type.
impl SettingValue for Option<Address> {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        match value {
            Value::Null => Ok(None),
            address => Address::read(address, setting).map(Some),
        }
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for Origins {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        deserialize_array(value, setting)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for Option<Hosts> {
    fn read(value: &Value, _: &Setting) -> Result<Self, ValueError> {
        deserialize(value)
    }

    fn to_json(&self) -> Value {
        json!(self)
    }
}

impl SettingValue for Vec<ProxyAddress> {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        let texts: Vec<String> = deserialize_array(value, setting)?;
        let parse = |text: &String| text.parse().map_err(|()| proxy_problem(text).into());
        texts.iter().map(parse).collect()
    }

    fn to_json(&self) -> Value {
        json!(self.iter().map(ProxyAddress::to_string).collect::<Vec<_>>())
    }
}

/// Returns what to write instead of something that stands for no proxies.
fn proxy_problem(text: &str) -> String {
    let given = Quoted(text);
    let trimmed = text.trim();
    let without_port = trimmed
        .parse::<SocketAddr>()
        .map(|address| address.ip().to_string());
    let right = match trimmed {
        "localhost" => "\"127.0.0.1\", \"::1\"".to_owned(),
        "*" => "\"0.0.0.0/0\", \"::/0\", which trusts everything,".to_owned(),
        _ if trimmed.parse::<ProxyAddress>().is_ok() => format!("\"{trimmed}\""),
        _ if is_unix(trimmed) => {
            "\"unix\", which is whoever may connect to a Unix socket,".to_owned()
        }
        _ => match without_port {
            Ok(address) => format!("\"{address}\""),
            Err(_) => "an address, a network or \"unix\", such as \"127.0.0.1\" or \"10.0.0.0/8\","
                .to_owned(),
        },
    };
    format!("write {right} instead of {given}")
}

/// Returns whether a text looks like the address of a Unix socket, or like its name in another program.
fn is_unix(text: &str) -> bool {
    text.starts_with('/') || text.to_ascii_lowercase().starts_with("unix")
}
