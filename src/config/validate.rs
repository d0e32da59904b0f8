//! Laying a configuration over the defaults, and what can be wrong with it.

use super::{Config, Listener, Settings};
use crate::base::log_escape::{Quoted, escaped};
use crate::protocols::{PROTOCOLS, Protocol};
use crate::realm::options::read;
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::{IpAddr, SocketAddr};

impl Config {
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
