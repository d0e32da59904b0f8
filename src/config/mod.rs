//! The configuration: settings and their defaults, the JSON file, flags and variables, and errors that name the key.

mod access;
mod address;
mod assignments;
mod forwarded_header;
pub mod help;
mod hosts;
mod layers;
mod listen;
mod listener;
mod load;
mod named_socket;
mod origins;
mod process;
mod syntax;
mod tls;
mod unknown_keys;
mod validate;
mod values;
mod variables;
mod warnings;

use crate::realm::setting_list::Settings as _;
pub use access::AccessSettings;
pub use address::Address;
pub use forwarded_header::ForwardedHeader;
pub(crate) use hosts::Hosts;
pub use layers::{Effective, Source};
pub use listener::{Listener, ListenerSettings};
use load::ConfigFile;
pub use load::{ConfigError, Flags, SettingFlag};
use log::LevelFilter;
pub(crate) use origins::{Origins, is_own_origin};
pub use process::ProcessSettings;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::Path;
pub use tls::TlsSettings;
pub(crate) use tls::{Stamp, Validity};
pub use values::parse_level;

/// A valid value of `listeners`, for errors.
const EXAMPLE_LISTENERS: &str = r#"[{"protocol": "peerdrop"}]"#;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Settings of the process.
    pub process: ProcessSettings,
    /// The listeners: any number, also several of one protocol.
    pub listeners: Vec<Listener>,
    /// Where the setting of each key of the process comes from.
    sources: BTreeMap<String, Source>,
    source_of_listeners: Source,
    /// The file that was read, if one was.
    file: Option<ConfigFile>,
    /// What the sources have that is ignored.
    load_warnings: Vec<String>,
}

impl Config {
    /// Returns the file that the configuration was read from, if one was.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Checks that the file, if one was read, can be read again.
    ///
    /// # Errors
    /// It was a pipe, or is one now: what is wrong.
    pub fn check_file(&self) -> Result<(), String> {
        self.file.as_ref().map_or(Ok(()), ConfigFile::check)
    }

    /// Returns the level of the log, and a warning if `RUST_LOG` would set it and is invalid.
    pub fn log_level(&self) -> (LevelFilter, Option<String>) {
        let default = LevelFilter::Info;
        let variable = std::env::var("RUST_LOG").ok();
        match (self.process.log, variable.filter(|name| !name.is_empty())) {
            (Some(level), _) => (level, None),
            (None, None) => (default, None),
            (None, Some(name)) => match parse_level(&name) {
                Ok(level) => (level, None),
                Err(problem) => (default, Some(format!("RUST_LOG is ignored: {problem}"))),
            },
        }
    }

    /// Returns the complete configuration as JSON, in the order of the declarations. Secrets of access tokens are hidden.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a configuration has string keys and serializes without errors")
    }
}

/// In the order of the declarations.
impl Serialize for Config {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Part<'a> {
            Setting(serde_json::Value),
            Listeners(&'a [Listener]),
        }
        let settings = self.process.values().into_iter();
        let settings = settings.map(|(name, value)| (name, Part::Setting(value)));
        let listeners = ("listeners", Part::Listeners(&self.listeners));
        to.collect_map(settings.chain([listeners]))
    }
}
