//! The JSON configuration: settings, defaults, and errors that name the key.
//!
//! The default configuration is the schema: it lists all keys and their types.

mod address;
mod hosts;
mod origins;
mod syntax;
mod unknown_keys;
mod validate;
mod values;
mod warnings;

use crate::base::ip::Network;
use crate::protocols::PROTOCOLS;
use crate::realm::{OptionMap, Protocol};
pub use address::Address;
pub(crate) use hosts::Hosts;
use log::LevelFilter;
pub(crate) use origins::Origins;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use values::parse_level;
use values::{
    bytes, level, level_name, network_names, networks, protocol_name, seconds, yes_no_or_null,
};

/// A valid value of `listeners`, for errors.
const EXAMPLE_LISTENERS: &str = r#"[{"protocol": "peerdrop"}]"#;

/// The whole configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Settings of the process.
    #[serde(flatten)]
    pub process: Process,
    /// The listeners: any number, also several of one protocol.
    pub listeners: Vec<Listener>,
}

/// Settings of the process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Process {
    /// The least severe level that is logged; `None`: the level in `RUST_LOG`, or `info` without it.
    #[serde(serialize_with = "level_name", deserialize_with = "level")]
    pub log: Option<LevelFilter>,
    /// Number of executor threads; 0: the number of cores, at most 4.
    pub threads: usize,
    /// Maximum number of connections of all listeners together; 0: what the open-files limit allows.
    pub max_connections: usize,
    /// Maximum memory that all clients together may make the process use, in bytes; 0: no limit; `None`: a
    /// quarter of the available memory.
    #[serde(deserialize_with = "bytes")]
    pub memory_budget: Option<usize>,
    /// Time for which a shutdown waits for the closing handshakes of clients, in seconds.
    #[serde(with = "seconds")]
    pub shutdown_timeout: Duration,
}

/// One protocol on one port, with a realm of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// The protocol, by name in the file.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: &'static Protocol,
    /// The address to listen on. Port 0: a free port that the system chooses.
    pub address: Address,
    /// The settings that every protocol has.
    #[serde(flatten)]
    pub settings: Settings,
    /// The options of this protocol.
    #[serde(flatten)]
    pub options: OptionMap,
}

/// Settings of a listener of any protocol.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// The origins of web pages that may connect.
    pub origins: Origins,
    /// The names under which the listener is reached; `None`: see [`Listener::checked_hosts`].
    pub hosts: Option<Hosts>,
    /// Whether `GET /` is answered where the protocol does not define it; `None`: it is.
    #[serde(deserialize_with = "yes_no_or_null")]
    pub landing_page: Option<bool>,
    /// The proxies whose `X-Forwarded-For` is trusted: addresses and networks.
    #[serde(serialize_with = "network_names", deserialize_with = "networks")]
    pub trusted_proxies: Vec<Network>,
    /// Maximum number of connections to this listener; 0: only the limit of the process applies.
    pub max_connections: usize,
    /// Maximum number of connections from one address (IPv6: /64 network); 0: no limit.
    pub max_connections_per_ip: usize,
    /// Time from accept to the complete request head, in seconds.
    #[serde(with = "seconds")]
    pub handshake_timeout: Duration,
    /// Time without a sign of life after which a client is sent a Ping, in seconds; 0: never.
    #[serde(with = "seconds")]
    pub ping_after: Duration,
    /// Time after that Ping without a sign of life after which the client is dropped, in seconds.
    #[serde(with = "seconds")]
    pub pong_timeout: Duration,
    /// Interval of the Pings that measure each client's round-trip time, in seconds; 0: never.
    #[serde(with = "seconds")]
    pub ping_every: Duration,
    /// Time in which 1 KiB, or the rest, of a message that has begun must come, in seconds; 0: no limit.
    #[serde(with = "seconds")]
    pub message_timeout: Duration,
    /// Time for a client to answer a Close frame, in seconds.
    #[serde(with = "seconds")]
    pub close_timeout: Duration,
    /// Maximum size of a message from a client, in bytes.
    pub max_message_size: usize,
    /// Maximum size of one client's outbox, in bytes.
    pub outbox_size: usize,
}

impl Config {
    /// Returns the built-in defaults: every protocol on its own port of localhost.
    pub fn built_in() -> Self {
        Self {
            process: Process {
                log: None,
                threads: 0,
                max_connections: 0,
                memory_budget: None,
                shutdown_timeout: Duration::from_secs(5),
            },
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

    /// Returns the complete configuration as JSON, in the order of the README.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a configuration has string keys and serializes without errors")
    }
}

impl Listener {
    /// Returns the path that a client connects to.
    pub fn endpoint(&self) -> String {
        (self.protocol.endpoint)(&self.options)
    }

    /// Returns the hosts that requests must name; `None`: any. Without `hosts` these are loopback names if only
    /// this machine can connect and no proxy is trusted, which would pass on other names: pages of such a
    /// machine's browser are what DNS rebinding could let in.
    pub(crate) fn checked_hosts(&self) -> Option<Hosts> {
        let is_exposed = self.address.is_loopback() && self.settings.trusted_proxies.is_empty();
        let default = || is_exposed.then(Hosts::default);
        self.settings.hosts.clone().or_else(default)
    }

    /// Returns a listener of this protocol with all settings at their defaults.
    pub fn built_in(protocol: &'static Protocol) -> Self {
        let defaults = &protocol.defaults;
        Self {
            protocol,
            address: Address::Localhost(defaults.port),
            settings: Settings {
                origins: Origins::new(defaults.origins),
                hosts: None,
                landing_page: None,
                trusted_proxies: Vec::new(),
                max_connections: 5000,
                max_connections_per_ip: 0,
                handshake_timeout: Duration::from_secs(defaults.handshake_timeout),
                ping_after: Duration::from_secs(defaults.ping_after),
                pong_timeout: Duration::from_secs(defaults.pong_timeout),
                ping_every: Duration::from_secs(defaults.ping_every),
                message_timeout: Duration::from_secs(defaults.message_timeout),
                close_timeout: Duration::from_secs(2),
                max_message_size: defaults.max_message_size as usize,
                outbox_size: 1 << 20,
            },
            options: (protocol.default_options)(),
        }
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
