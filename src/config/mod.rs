//! The JSON configuration: defaults, what may stand in it, and errors that name the key.
//!
//! What the printed defaults contain is what a configuration may contain: a key that has no
//! default does not exist, and a value of another kind than the default's is wrong. So there is
//! one list of settings, and it cannot disagree with itself.

mod origins;
mod validate;
mod values;

use crate::base::ip::Network;
use crate::protocols::{PROTOCOLS, Protocol};
use log::LevelFilter;
use origins::Origins;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use values::parse_level;
use values::{bytes, level, level_name, network_names, networks, protocol_name, seconds};

/// The whole configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// Settings of the process.
    #[serde(flatten)]
    pub process: Process,
    /// What listens where. Any number, also several of one protocol.
    pub listeners: Vec<Listener>,
}

/// Settings of the process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Process {
    /// The least severe level that is logged; `None` leaves it to `RUST_LOG`, and without that to `info`.
    #[serde(serialize_with = "level_name", deserialize_with = "level")]
    pub log: Option<LevelFilter>,
    /// Executor threads; 0: the number of cores, at most 4.
    pub threads: usize,
    /// Connections of all listeners together; 0: what the open-files limit allows.
    pub max_connections: usize,
    /// What clients may make the process hold, all of them together, in bytes; 0: no limit; `None`: a
    /// quarter of the memory that there is.
    #[serde(deserialize_with = "bytes")]
    pub memory_budget: Option<usize>,
    /// How long a stop waits for clients to say goodbye, in seconds.
    #[serde(with = "seconds")]
    pub shutdown_timeout: Duration,
}

/// One protocol on one port, with a realm of its own.
#[derive(Clone, Debug, Serialize)]
pub struct Listener {
    /// What is spoken.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: &'static Protocol,
    /// Where. Port 0 is one that the system chooses.
    pub address: SocketAddr,
    /// What every protocol can have set.
    #[serde(flatten)]
    pub settings: Settings,
    /// What only this protocol has.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// What can be set for a listener of any protocol.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Settings {
    /// Which web pages may connect.
    pub origins: Origins,
    /// Whose `X-Forwarded-For` is believed: addresses and networks.
    #[serde(serialize_with = "network_names", deserialize_with = "networks")]
    pub trusted_proxies: Vec<Network>,
    /// Connections to this listener; 0: no limit but the process's.
    pub max_connections: usize,
    /// Connections from one address; 0: no limit.
    pub max_connections_per_ip: usize,
    /// From accept to the complete request head, in seconds.
    #[serde(with = "seconds")]
    pub handshake_timeout: Duration,
    /// After this long without a sign of life a client is sent a Ping, in seconds; 0: never.
    #[serde(with = "seconds")]
    pub ping_after: Duration,
    /// And this long after the Ping without any it is dropped, in seconds.
    #[serde(with = "seconds")]
    pub pong_timeout: Duration,
    /// Each client is sent a Ping this often to measure the round trip, in seconds; 0: never.
    #[serde(with = "seconds")]
    pub ping_every: Duration,
    /// How long a client may take to answer a Close, in seconds.
    #[serde(with = "seconds")]
    pub close_timeout: Duration,
    /// The largest message that a client may send, in bytes.
    pub max_message_size: usize,
    /// What may wait for one client, in bytes.
    pub outbox_size: usize,
}

impl Config {
    /// The built-in defaults: every protocol on its own port of 127.0.0.1.
    pub fn built_in() -> Self {
        Self {
            process: Process {
                log: None,
                threads: 0,
                max_connections: 0,
                memory_budget: None,
                shutdown_timeout: Duration::from_secs(5),
            },
            listeners: PROTOCOLS.iter().map(Listener::built_in).collect(),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is no JSON, or has mistakes in it: all of those that were found.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let failed = |problems| ConfigError {
            file: path.to_owned(),
            problems,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| failed(vec![format!("cannot be read: {error}")]))?;
        Self::from_json(&text).map_err(failed)
    }

    /// The configuration as JSON, complete, in the order of the documentation.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a configuration is plain data")
    }
}

impl Listener {
    /// The path that a client connects to.
    pub fn endpoint(&self) -> String {
        (self.protocol.endpoint_with)(&self.options)
    }

    /// What a listener of this protocol is when its configuration says nothing else.
    pub fn built_in(protocol: &'static Protocol) -> Self {
        let defaults = &protocol.defaults;
        Self {
            protocol,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, defaults.port)),
            settings: Settings {
                origins: Origins::new(defaults.origins),
                trusted_proxies: Vec::new(),
                max_connections: 5000,
                max_connections_per_ip: 0,
                handshake_timeout: Duration::from_secs(defaults.handshake_timeout),
                ping_after: Duration::from_secs(15),
                pong_timeout: Duration::from_secs(5),
                ping_every: Duration::from_secs(defaults.ping_every),
                close_timeout: Duration::from_secs(2),
                max_message_size: defaults.max_message_size as usize,
                outbox_size: 1 << 20,
            },
            options: (protocol.default_options)(),
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            let line_end = if at == 0 { "" } else { "\n" };
            write!(f, "{line_end}{}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
