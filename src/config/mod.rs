//! The JSON configuration: settings, defaults, and errors that name the key.

mod address;
mod forwarded_header;
pub mod help;
mod hosts;
mod listener;
mod origins;
mod process;
mod syntax;
mod unknown_keys;
mod validate;
mod values;
mod warnings;

use crate::protocols::PROTOCOLS;
use crate::realm::setting::SettingMap;
use crate::realm::setting_list::Settings as _;
pub use address::Address;
pub use forwarded_header::ForwardedHeader;
pub(crate) use hosts::Hosts;
pub use listener::{Listener, ListenerSettings};
pub(crate) use origins::Origins;
pub use process::ProcessSettings;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
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
}

impl Config {
    /// Returns the built-in defaults: every protocol on its own port of localhost.
    ///
    /// # Panics
    /// If a default is invalid.
    pub fn built_in() -> Self {
        let process = ProcessSettings::from_map(&SettingMap::new());
        Self {
            process: process.unwrap_or_else(|errors| panic!("a default: {errors:?}")),
            listeners: PROTOCOLS.iter().copied().map(Listener::built_in).collect(),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is not JSON, or has invalid settings, of which all are listed.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let failed = |problems| ConfigError {
            file: path.to_owned(),
            problems,
        };
        let bytes = std::fs::read(path)
            .map_err(|error| failed(vec![format!("cannot be read: {error}")]))?;
        let text = syntax::decode(bytes).map_err(|problem| failed(vec![problem]))?;
        Self::from_json(&text).map_err(failed)
    }

    /// Returns the complete configuration as JSON, in the order of the declarations.
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

/// The problems of a configuration file that cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
