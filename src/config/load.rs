//! A configuration from all its sources: defaults, file, environment and command line.

use super::assignments::{Assignment, example, find_key, read_layer};
use super::layers::{Effective, Layer, Source, merge};
use super::unknown_keys::Meant;
use super::validate::{FileContent, read_content};
use super::variables::Variables;
use super::{Config, Listener, ProcessSettings, listen, syntax};
use crate::base::log_escape::{Quoted, escape};
use crate::protocols::PROTOCOLS;
use crate::realm::setting::Setting;
use crate::realm::setting_list::Settings as _;
use crate::sys::private_files::is_public;
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest configuration file in bytes: more than thousands of listeners need. Something else that stands at its path
/// when a running daemon reloads must not take the memory and the time of its clients.
const MAX_FILE: u64 = 1 << 20;

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the configuration file.
    pub file: Option<PathBuf>,
    /// The flags that set settings of the process, in their order.
    pub settings: Vec<SettingFlag>,
    /// The values of `--listen`, in their order.
    pub listen: Vec<String>,
}

/// A flag that sets a setting of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingFlag {
    /// `--set` and its value, `KEY=VALUE`.
    Set(String),
    /// A flag that has the name of its setting, and its value.
    Named(&'static str, String),
}

/// The problems of a configuration that cannot be used: a line for each, with its place.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// Returns the lines.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// The file of a configuration.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    /// Whether it was a file when it was read, and not a pipe or a terminal, which can be read once.
    was_file: bool,
    /// Whether each user of the machine could read it then.
    pub(super) was_public: bool,
}

impl ConfigFile {
    fn new(path: &Path) -> Self {
        let metadata = std::fs::metadata(path);
        Self {
            path: path.to_owned(),
            was_file: metadata.as_ref().map_or(true, Metadata::is_file),
            was_public: metadata.as_ref().is_ok_and(is_public),
        }
    }

    /// Checks that it can be read again. Reading what has become a pipe since might wait for ever.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let path = escape(&self.path.display().to_string());
        if !self.was_file {
            return Err(format!(
                "{path}: cannot be read again, as it was no regular file at the start; start the daemon with one"
            ));
        }
        match is_file(&self.path) {
            Some(false) => Err(format!("{path}: must be a regular file; it is none now")),
            // One that is not there is reported when it is read.
            Some(true) | None => Ok(()),
        }
    }
}

/// Returns whether a path leads to a regular file; `None` if that cannot be known.
fn is_file(path: &Path) -> Option<bool> {
    std::fs::metadata(path).ok().map(|it| it.is_file())
}

impl Config {
    /// Returns the built-in defaults: every protocol on its own port of localhost.
    ///
    /// # Panics
    /// If a default is invalid.
    pub fn built_in() -> Self {
        Self::merged(Vec::new(), None, Vec::new())
    }

    /// Reads and checks the text of a configuration file, without other sources.
    ///
    /// # Errors
    /// One text for each invalid value, with its place.
    pub fn from_json(text: &str) -> Result<Self, Vec<String>> {
        let FileContent { process, listeners } = read_content(text)?;
        let listeners = listeners.map(|listeners| (Source::File, listeners));
        Ok(Self::merged(vec![process], listeners, Vec::new()))
    }

    /// Reads and checks a configuration: the flags, the variables of the environment, and the file that one of them
    /// names.
    ///
    /// # Errors
    /// All that is invalid in any source, also where another one takes precedence.
    pub fn load(
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let variables = Variables::read(environment, &mut problems);
        let environment = read_layer(Source::Environment, &variables.assignments, &mut problems);
        let assignments = assignments(&flags.settings, &mut problems);
        let of_flags = read_layer(Source::Flag, &assignments, &mut problems);
        let named = listen::read(&flags.listen, &mut problems);
        let mut lines: Vec<String> = problems
            .iter()
            .map(|problem| format!("switchboard: {}", escape(problem)))
            .collect();
        let path = flags.file.as_deref().or(variables.file.as_deref());
        let content = match path.map(read_file).transpose() {
            Ok(content) => content.unwrap_or_default(),
            Err(problems) => {
                lines.extend(problems);
                FileContent::default()
            }
        };
        if !lines.is_empty() {
            return Err(ConfigError(lines));
        }
        let mut warnings = variables.warnings;
        let listeners = if named.is_empty() {
            content.listeners.map(|listeners| (Source::File, listeners))
        } else {
            if let Some(path) = path.filter(|_| content.listeners.is_some()) {
                let path = escape(&path.display().to_string());
                warnings.push(format!(
                    "{path}: listeners: ignored with all their settings, since --listen names others"
                ));
            }
            Some((Source::Flag, named))
        };
        let layers = vec![content.process, environment, of_flags];
        Ok(Self {
            file: path.map(ConfigFile::new),
            ..Self::merged(layers, listeners, warnings)
        })
    }

    /// Merges layers, each of which is valid, with the defaults.
    fn merged(
        mut layers: Vec<Layer>,
        listeners: Option<(Source, Vec<Listener>)>,
        load_warnings: Vec<String>,
    ) -> Self {
        layers.push(defaults());
        let merged = merge(layers);
        let built_in = || {
            let listeners = PROTOCOLS.iter().copied().map(Listener::built_in);
            (Source::Default, listeners.collect())
        };
        let (source_of_listeners, listeners) = listeners.unwrap_or_else(built_in);
        Self {
            process: ProcessSettings::from_map(&merged.values)
                .expect("the settings of each layer are valid, and so are the defaults"),
            listeners,
            sources: merged.sources,
            source_of_listeners,
            file: None,
            load_warnings,
        }
    }

    /// Returns the settings of the process with their values and sources, in the order of the declarations.
    pub fn effective(&self) -> Vec<Effective> {
        let source = |name| self.sources.get(name).copied().unwrap_or(Source::Default);
        let effective = |(name, value)| Effective {
            name,
            value,
            source: source(name),
        };
        self.process.values().into_iter().map(effective).collect()
    }

    /// Returns where the listener of this index is named, for errors.
    pub(crate) fn place_of_listener(&self, index: usize) -> String {
        match self.flag_of(index) {
            Some(flag) => flag,
            None => format!("listeners[{index}]"),
        }
    }

    /// Returns what precedes a key of the listener of this index in warnings.
    pub(super) fn place_of_listener_key(&self, index: usize) -> String {
        match self.flag_of(index) {
            Some(flag) => format!("{flag}: "),
            None => format!("listeners[{index}]."),
        }
    }

    /// Returns the flag that made the listener of this index, if one did.
    fn flag_of(&self, index: usize) -> Option<String> {
        let listener = self.listeners.get(index)?;
        (self.source_of_listeners == Source::Flag).then(|| listener.to_flag())
    }
}

/// Returns the defaults of the settings of the process.
fn defaults() -> Layer {
    let list = ProcessSettings::list().into_iter();
    let default = |setting: Setting| Some((setting.name.to_owned(), setting.default?));
    Layer {
        source: Source::Default,
        values: list.filter_map(default).collect(),
    }
}

/// Reads a configuration file.
///
/// # Errors
/// The file cannot be read, is not JSON, or has invalid settings: a line for each, with its place.
fn read_file(path: &Path) -> Result<FileContent, Vec<String>> {
    let bytes = read_bytes(path).map_err(|problem| vec![problem]);
    let text = bytes.and_then(|bytes| syntax::decode(bytes).map_err(|problem| vec![problem]));
    let content = text.and_then(|text| read_content(&text));
    content.map_err(|problems| {
        let line = |problem| format!("{}: {problem}", path.display());
        problems.into_iter().map(line).collect()
    })
}

/// Reads a file of at most [`MAX_FILE`] bytes.
///
/// # Errors
/// It is larger, or cannot be read.
fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map(|file| file.take(MAX_FILE + 1));
    let read = file.and_then(|mut file| file.read_to_end(&mut bytes));
    match read {
        Ok(length) if length as u64 > MAX_FILE => Err(format!(
            "is larger than {} MiB, which no configuration is; name the file with the configuration",
            MAX_FILE >> 20
        )),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Finds the settings that flags set. Problems are added to `problems`.
fn assignments(flags: &[SettingFlag], problems: &mut Vec<String>) -> Vec<Assignment> {
    let assignment = |flag: &SettingFlag| match flag {
        SettingFlag::Set(text) => assignment(text),
        SettingFlag::Named(name, text) => Ok(Assignment {
            place: format!("--{name}"),
            key: name,
            text: text.clone(),
        }),
    };
    let read = |flag| {
        assignment(flag)
            .map_err(|problem| problems.push(problem))
            .ok()
    };
    flags.iter().filter_map(read).collect()
}

/// Reads the value of `--set`.
///
/// # Errors
/// It has no equals sign, or there is no such setting of the process: what to write.
fn assignment(text: &str) -> Result<Assignment, String> {
    let Some((name, value)) = text.split_once('=') else {
        let list = ProcessSettings::list();
        let example = list
            .iter()
            .find(|setting| setting.name == text)
            .map(example);
        let right = example.unwrap_or_else(|| "KEY=VALUE".to_owned());
        return Err(format!("--set {}: write --set {right}", Quoted(text)));
    };
    let keys = || {
        let list = ProcessSettings::list();
        let keys: Vec<&str> = list.iter().map(|setting| setting.name).collect();
        keys.join(", ")
    };
    let problem = match find_key(name) {
        Ok(key) => {
            return Ok(Assignment {
                place: format!("--set {key}"),
                key,
                text: value.to_owned(),
            });
        }
        Err(Meant::Setting(key)) => format!("write --set {key}=... instead"),
        Err(Meant::Elsewhere(hint)) => hint,
        Err(Meant::Unknown) => format!("unknown key; the keys of the process are {}", keys()),
    };
    Err(format!("--set {}: {problem}", Quoted(name)))
}
