//! The JSON configuration: defaults, what may stand in it, and errors that name the key.
//!
//! What the printed defaults contain is what a configuration may contain: a key that has no
//! default does not exist, and a value of another kind than the default's is wrong. So there is
//! one list of settings, and it cannot disagree with itself.

mod origins;

use crate::base::ip::Network;
use crate::base::log_escape::{Quoted, escaped};
use crate::protocols::{PROTOCOLS, Protocol};
use crate::realm::options::read;
use log::LevelFilter;
use origins::Origins;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A single client may make the process hold about so much and be well-behaved.
const LEAST_MEMORY_BUDGET: usize = 1 << 20;

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

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// One sentence for each mistake that was found, each with its place.
    pub fn from_json(text: &str) -> Result<Self, Vec<String>> {
        let mut given = match serde_json::from_str(text) {
            Ok(Value::Object(given)) => given,
            Ok(_) => {
                return Err(vec![
                    "is no JSON object, for example {\"listeners\": []}".into(),
                ]);
            }
            Err(error) => return Err(vec![format!("is no valid JSON: {error}")]),
        };
        let mut problems = Vec::new();
        let mut config = Self::built_in();
        let listeners = given.remove("listeners");
        let mut known = object(&config.process);
        let hint = "; the keys of a configuration";
        overlay(&mut known, given, &["listeners"], hint, "", &mut problems);
        match read(Value::Object(known)) {
            Ok(process) => config.process = process,
            Err((key, problem)) => problems.push(format!("{key}: {problem}")),
        }
        match listeners {
            None => {}
            Some(Value::Array(listeners)) if listeners.is_empty() => {
                problems.push("listeners: is empty, so there would be nothing to do; leave it out to have every protocol on localhost".into());
            }
            Some(Value::Array(listeners)) => {
                config.listeners = listeners
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, given)| read_listener(at, given, &mut problems))
                    .collect();
                if problems.is_empty() {
                    check_addresses(&config.listeners, &mut problems);
                }
            }
            Some(_) => problems
                .push("listeners: is no array, for example [{\"protocol\": \"peerdrop\"}]".into()),
        }
        if config.process.threads > 1024 {
            problems.push(format!(
                "threads: {} is more than 1024; 0 is the number of cores, at most 4",
                config.process.threads
            ));
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            // Some quote what was given.
            Err(problems.iter().map(|it| escaped(it)).collect())
        }
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

/// Reads one entry of `listeners`; what is wrong with it is added to `problems`.
fn read_listener(at: usize, given: Value, problems: &mut Vec<String>) -> Option<Listener> {
    let place = format!("listeners[{at}]");
    let Value::Object(mut given) = given else {
        problems.push(format!(
            "{place}: is no object, for example {{\"protocol\": \"peerdrop\"}}"
        ));
        return None;
    };
    let names = || {
        PROTOCOLS
            .iter()
            .map(|protocol| protocol.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let protocol = match given.remove("protocol") {
        Some(Value::String(name)) => Protocol::named(&name).ok_or(format!(
            "{} is not spoken here; there are {}",
            Quoted(&name),
            names()
        )),
        Some(_) => Err(format!("is no string; there are {}", names())),
        None => Err(format!("is missing; there are {}", names())),
    };
    let protocol = match protocol {
        Ok(protocol) => protocol,
        Err(problem) => {
            problems.push(format!("{place}.protocol: {problem}"));
            return None;
        }
    };
    let before = problems.len();
    let mut listener = Listener::built_in(protocol);
    match given.remove("address") {
        None => {}
        Some(Value::String(address)) => match address.parse() {
            Ok(address) => listener.address = address,
            Err(_) => problems.push(format!(
                "{place}.address: {} is no socket address, for example \"0.0.0.0:8080\"",
                Quoted(&address)
            )),
        },
        Some(_) => problems.push(format!(
            "{place}.address: is no string, for example \"0.0.0.0:8080\""
        )),
    }
    let mut settings = object(&listener.settings);
    let setting_names: Vec<String> = settings.keys().cloned().collect();
    settings.append(&mut listener.options);
    let hint = format!("; the keys of a {} listener", protocol.name);
    overlay(
        &mut settings,
        given,
        &["protocol", "address"],
        &hint,
        &format!("{place}."),
        problems,
    );
    listener.options = settings
        .clone()
        .into_iter()
        .filter(|(key, _)| !setting_names.contains(key))
        .collect();
    settings.retain(|key, _| setting_names.contains(key));
    match read(Value::Object(settings)) {
        Ok(settings) => listener.settings = settings,
        Err((key, problem)) => problems.push(format!("{place}.{key}: {problem}")),
    }
    for (key, problem) in out_of_range(&listener.settings) {
        problems.push(format!("{place}.{key}: {problem}"));
    }
    if let Err(error) = (protocol.realm)(&listener.options) {
        problems.push(format!("{place}.{}: {}", error.key, error.problem));
    }
    (problems.len() == before).then_some(listener)
}

/// What is a number, but not one that could work.
fn out_of_range(settings: &Settings) -> Vec<(&'static str, String)> {
    const LARGEST: usize = 1 << 30;
    let mut wrong = Vec::new();
    if let Some(origin) = settings.origins.mistake() {
        wrong.push((
            "origins",
            format!(
                "{} is no origin, for example \"https://chat.example\", \"same-host\" or \"*\"",
                Quoted(origin)
            ),
        ));
    }
    let times = [
        ("handshake_timeout", settings.handshake_timeout),
        ("pong_timeout", settings.pong_timeout),
        ("close_timeout", settings.close_timeout),
    ];
    for (key, time) in times {
        if time.is_zero() {
            wrong.push((
                key,
                "0 is too short; a number of seconds, for example 5".to_owned(),
            ));
        }
    }
    let sizes = [
        ("max_message_size", settings.max_message_size, 1),
        ("outbox_size", settings.outbox_size, 1024),
    ];
    for (key, size, least) in sizes {
        if !(least..=LARGEST).contains(&size) {
            wrong.push((
                key,
                format!("{size} is not from {least} to {LARGEST} bytes"),
            ));
        }
    }
    wrong
}

/// Two listeners cannot share an address.
fn check_addresses(listeners: &[Listener], problems: &mut Vec<String>) {
    for (at, listener) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(at).enumerate();
        let earlier = earlier.find(|(_, other)| clash(listener.address, other.address));
        if let Some((earlier, other)) = earlier {
            problems.push(format!(
                "listeners[{at}].address: {} is taken by listeners[{earlier}] ({}); each listener needs a port of its own",
                listener.address, other.protocol.name,
            ));
        }
    }
}

fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // "[::]" takes the port of IPv4 as well, as systems come.
    let covers =
        |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (covers(a, b) || covers(b, a))
}

/// Puts what is given over the defaults, and finds keys that do not exist and values of another
/// kind than the default's. `others` are keys that are read elsewhere.
fn overlay(
    defaults: &mut Map<String, Value>,
    given: Map<String, Value>,
    others: &[&str],
    hint: &str,
    place: &str,
    problems: &mut Vec<String>,
) {
    for (key, value) in given {
        let Some(default) = defaults.get(&key) else {
            let known = others
                .iter()
                .copied()
                .chain(defaults.keys().map(String::as_str));
            let known = known.collect::<Vec<_>>().join(", ");
            problems.push(format!(
                "{place}{}: unknown key{hint} are {known}",
                Quoted(&key)
            ));
            continue;
        };
        match wrong_kind(default, &value) {
            Some(problem) => problems.push(format!("{place}{key}: {problem}")),
            None => {
                defaults.insert(key, value);
            }
        }
    }
}

fn wrong_kind(default: &Value, value: &Value) -> Option<String> {
    match (default, value) {
        (Value::Number(_), Value::Number(number)) => number
            .as_f64()
            .is_some_and(|number| number < 0.0)
            .then(|| format!("{value} is negative; a number from 0 on, for example {default}")),
        (Value::Number(_), _) => Some(format!("{value} is no number, for example {default}")),
        (Value::Array(_), Value::Array(_)) | (Value::Null, _) => None,
        (Value::Array(_), _) => Some(format!("{value} is no array, for example {default}")),
        // No setting is of another kind; one that were would be read, or refused, by its type.
        _ => None,
    }
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        other => unreachable!("settings serialise to an object: {other:?}"),
    }
}

fn protocol_name<S: Serializer>(protocol: &&'static Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.name)
}

fn level_name<S: Serializer>(level: &Option<LevelFilter>, to: S) -> Result<S::Ok, S::Error> {
    match level {
        Some(level) => to.serialize_str(&level.as_str().to_ascii_lowercase()),
        None => to.serialize_none(),
    }
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Option<LevelFilter>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    name.map(|name| parse_level(&name).map_err(D::Error::custom))
        .transpose()
}

/// Reads the name of a log level.
///
/// # Errors
/// The text is no level; the error says what is.
pub fn parse_level(name: &str) -> Result<LevelFilter, String> {
    name.parse().map_err(|_| {
        format!(
            "{} is no log level; there are off, error, warn, info, debug",
            Quoted(name)
        )
    })
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let given = Value::deserialize(from)?;
    let bytes = given.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        _ if given.is_null() => Ok(None),
        Some(bytes) if bytes == 0 || bytes >= LEAST_MEMORY_BUDGET => Ok(Some(bytes)),
        _ => Err(D::Error::custom(format!(
            "{given} is no number of bytes from {LEAST_MEMORY_BUDGET} on; 0 is no limit, and null a quarter of the memory that there is"
        ))),
    }
}

fn network_names<S: Serializer>(networks: &[Network], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(networks.iter().map(Network::to_string))
}

fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Network>, D::Error> {
    let parse = |text: String| {
        text.parse().map_err(|()| {
            let problem = "is no address or network, for example \"127.0.0.1\" or \"10.0.0.0/8\"";
            D::Error::custom(format!("{} {problem}", Quoted(&text)))
        })
    };
    Vec::<String>::deserialize(from)?
        .into_iter()
        .map(parse)
        .collect()
}

/// Times are seconds in the configuration; fractions are allowed.
mod seconds {
    use super::{Deserialize, Deserializer, Duration, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if time.subsec_nanos() == 0 {
            to.serialize_u64(time.as_secs())
        } else {
            to.serialize_f64(time.as_secs_f64())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        const LARGEST: f64 = 1e9;
        let seconds = f64::deserialize(from)?;
        if !(0.0..=LARGEST).contains(&seconds) {
            return Err(D::Error::custom(format!(
                "{seconds} is not from 0 to {LARGEST} seconds"
            )));
        }
        Ok(Duration::from_secs_f64(seconds))
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
