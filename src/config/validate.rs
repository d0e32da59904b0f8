//! Merging a configuration with the defaults, and validating it.

use super::{Config, Listener, Settings};
use crate::base::log_escape::{Quoted, escape};
use crate::protocols::{PROTOCOLS, Protocol};
use crate::realm::options::deserialize_object;
use serde::Serialize;
use serde_json::{Map, Number, Value};
use std::net::{IpAddr, SocketAddr};

/// Maximum number of executor threads.
const MAX_THREADS: usize = 1024;

/// A valid value of `listeners`, for errors.
const EXAMPLE_LISTENERS: &str = r#"[{"protocol": "peerdrop"}]"#;

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// One text for each invalid value, with its place.
    pub fn from_json(text: &str) -> Result<Self, Vec<String>> {
        let mut given = match serde_json::from_str(text) {
            Ok(Value::Object(given)) => given,
            Ok(_) => {
                return Err(vec![format!(
                    "must be a JSON object, such as {{\"listeners\": {EXAMPLE_LISTENERS}}}"
                )]);
            }
            Err(error) => return Err(vec![format!("is not valid JSON: {error}")]),
        };
        let mut problems = Vec::new();
        let mut config = Self::built_in();
        let listeners = given.remove("listeners");
        let mut known = object(&config.process);
        let owner = "configuration";
        overlay(&mut known, given, &["listeners"], owner, "", &mut problems);
        match deserialize_object(Value::Object(known)) {
            Ok(process) => config.process = process,
            Err((key, problem)) => problems.push(format!("{key}: {problem}")),
        }
        match listeners {
            None => {}
            Some(Value::Array(listeners)) if listeners.is_empty() => {
                problems.push(
                    "listeners: must not be empty; without this key every protocol listens on localhost"
                        .into(),
                );
            }
            Some(Value::Array(listeners)) => {
                config.listeners = listeners
                    .into_iter()
                    .enumerate()
                    .filter_map(|(index, given)| read_listener(index, given, &mut problems))
                    .collect();
                if problems.is_empty() {
                    check_addresses(&config.listeners, &mut problems);
                }
            }
            Some(_) => problems.push(format!(
                "listeners: must be an array, such as {EXAMPLE_LISTENERS}"
            )),
        }
        if config.process.threads > MAX_THREADS {
            problems.push(format!(
                "threads: must be at most {MAX_THREADS}, not {}; 0 is the number of cores, at most 4",
                config.process.threads
            ));
        }
        if problems.is_empty() {
            Ok(config)
        } else {
            // Some problems quote the file.
            Err(problems.iter().map(|problem| escape(problem)).collect())
        }
    }
}

/// Reads one entry of `listeners`. Its problems are added to `problems`.
fn read_listener(index: usize, given: Value, problems: &mut Vec<String>) -> Option<Listener> {
    let place = format!("listeners[{index}]");
    let Value::Object(mut given) = given else {
        problems.push(format!(
            "{place}: must be an object, such as {{\"protocol\": \"peerdrop\"}}"
        ));
        return None;
    };
    let protocol = match read_protocol(given.remove("protocol")) {
        Ok(protocol) => protocol,
        Err(problem) => {
            problems.push(format!("{place}.protocol: {problem}"));
            return None;
        }
    };
    let before = problems.len();
    let mut listener = Listener::built_in(protocol);
    if let Some(address) = given.remove("address") {
        match read_address(&address) {
            Ok(address) => listener.address = address,
            Err(problem) => problems.push(format!("{place}.address: {problem}")),
        }
    }
    read_settings(&mut listener, given, &place, problems);
    (problems.len() == before).then_some(listener)
}

fn read_protocol(name: Option<Value>) -> Result<&'static Protocol, String> {
    let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    let names = names.join(", ");
    match name {
        Some(Value::String(name)) => Protocol::by_name(&name).ok_or_else(|| {
            format!(
                "unknown protocol {}; the protocols are {names}",
                Quoted(&name)
            )
        }),
        Some(_) => Err(format!("must be a string; the protocols are {names}")),
        None => Err(format!("is missing; the protocols are {names}")),
    }
}

fn read_address(address: &Value) -> Result<SocketAddr, String> {
    const EXAMPLE: &str = "such as \"0.0.0.0:8080\"";
    let Value::String(address) = address else {
        return Err(format!("must be a string, {EXAMPLE}"));
    };
    let problem = |_| {
        format!(
            "must be a socket address, {EXAMPLE}, not {}",
            Quoted(address)
        )
    };
    address.parse().map_err(problem)
}

/// Reads the settings of a listener that every protocol has, and the options of its protocol.
fn read_settings(
    listener: &mut Listener,
    given: Map<String, Value>,
    place: &str,
    problems: &mut Vec<String>,
) {
    let protocol = listener.protocol;
    let mut settings = object(&listener.settings);
    let setting_names: Vec<String> = settings.keys().cloned().collect();
    settings.append(&mut listener.options);
    overlay(
        &mut settings,
        given,
        &["protocol", "address"],
        &format!("{} listener", protocol.name),
        &format!("{place}."),
        problems,
    );
    listener.options = settings
        .clone()
        .into_iter()
        .filter(|(key, _)| !setting_names.contains(key))
        .collect();
    settings.retain(|key, _| setting_names.contains(key));
    match deserialize_object(Value::Object(settings)) {
        Ok(settings) => listener.settings = settings,
        Err((key, problem)) => problems.push(format!("{place}.{key}: {problem}")),
    }
    for (key, problem) in out_of_range(&listener.settings) {
        problems.push(format!("{place}.{key}: {problem}"));
    }
    if let Err(error) = (protocol.new_realm)(&listener.options) {
        problems.push(format!("{place}.{}: {}", error.key, error.problem));
    }
}

/// Returns the keys whose values have the right type and are out of range, with the problem.
fn out_of_range(settings: &Settings) -> Vec<(&'static str, String)> {
    const MAX_SIZE: usize = 1 << 30;
    let mut problems = Vec::new();
    if let Some(origin) = settings.origins.first_invalid() {
        problems.push((
            "origins",
            format!(
                "an entry must be an origin, such as \"https://chat.example\", or \"same-host\", \"null\" \
                 or \"*\", not {}",
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
            problems.push((key, "must be more than 0 seconds, for example 5".to_owned()));
        }
    }
    let sizes = [
        ("max_message_size", settings.max_message_size, 1),
        ("outbox_size", settings.outbox_size, 1024),
    ];
    for (key, size, minimum) in sizes {
        if !(minimum..=MAX_SIZE).contains(&size) {
            problems.push((
                key,
                format!("must be from {minimum} to {MAX_SIZE} bytes, not {size}"),
            ));
        }
    }
    problems
}

/// Checks that no two listeners share an address.
fn check_addresses(listeners: &[Listener], problems: &mut Vec<String>) {
    for (index, listener) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(index).enumerate();
        let earlier = earlier.find(|(_, other)| overlaps(listener.address, other.address));
        if let Some((earlier, other)) = earlier {
            problems.push(format!(
                "listeners[{index}].address: {} is already used by listeners[{earlier}] ({}); \
                 each listener needs its own port",
                listener.address, other.protocol.name,
            ));
        }
    }
}

/// Returns whether two addresses cannot be bound at the same time.
fn overlaps(one: SocketAddr, other: SocketAddr) -> bool {
    // With the usual system settings "[::]" includes the IPv4 addresses.
    let covers =
        |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() == other.port() && one.port() != 0 && (covers(a, b) || covers(b, a))
}

/// Replaces defaults by the given values. Unknown keys and values of another type than the default's are
/// added to `problems`. `others` are keys that are read elsewhere; `owner` and `place` say in an error what
/// has the keys and where it is.
fn overlay(
    defaults: &mut Map<String, Value>,
    given: Map<String, Value>,
    others: &[&str],
    owner: &str,
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
                "{place}{}: unknown key; the keys of a {owner} are {known}",
                Quoted(&key)
            ));
            continue;
        };
        match type_problem(default, &value) {
            Some(problem) => problems.push(format!("{place}{key}: {problem}")),
            None => {
                defaults.insert(key, value);
            }
        }
    }
}

/// Returns what is wrong with a value of another type than the default's, or with a negative number.
fn type_problem(default: &Value, value: &Value) -> Option<String> {
    let is_negative = |number: &Number| number.as_f64().is_some_and(|number| number < 0.0);
    match (default, value) {
        (Value::Number(_), Value::Number(number)) if !is_negative(number) => None,
        (Value::Number(_), _) => Some(format!(
            "must be a number of at least 0, such as {default}, not {value}"
        )),
        (Value::Array(_), Value::Array(_)) => None,
        (Value::Array(_), _) => Some(format!("must be an array, such as {default}, not {value}")),
        // Deserializing checks the values of all other settings.
        _ => None,
    }
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        other => unreachable!("settings serialize to an object: {other:?}"),
    }
}
