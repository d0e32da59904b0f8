//! Merging a configuration with the defaults, and validating it.

use super::unknown_keys::{in_listener, in_process, similar, take_misplaced};
use super::{Address, Config, EXAMPLE_LISTENERS, Listener, Settings, syntax};
use crate::base::log_escape::{Quoted, escape};
use crate::protocols::{self, PROTOCOLS};
use crate::realm::Protocol;
use crate::realm::options::deserialize_object;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// Maximum number of executor threads.
const MAX_THREADS: usize = 1024;

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// One text for each invalid value, with its place.
    pub fn from_json(text: &str) -> Result<Self, Vec<String>> {
        let mut given = match syntax::parse(text) {
            Ok(Value::Object(given)) => given,
            Ok(_) => {
                return Err(vec![format!(
                    "must be a JSON object, such as {{\"listeners\": {EXAMPLE_LISTENERS}}}"
                )]);
            }
            Err(problem) => return Err(vec![escape(&problem)]),
        };
        let mut problems = Vec::new();
        let mut config = Self::built_in();
        let listeners = given.remove("listeners");
        problems.extend(take_misplaced(&mut given));
        let mut known = object(&config.process);
        let owner = Owner {
            name: "configuration",
            place: "",
            others: &["listeners"],
            hint: in_process,
        };
        overlay(&mut known, given, &owner, &mut problems);
        let known = Value::Object(known);
        match deserialize_object(known.clone()) {
            Ok(process) => config.process = process,
            Err((key, problem)) => {
                problems.push(format!("{key}: {}", plain(&problem, &key, &known)));
            }
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
        match read_address(&address, listener.address.port()) {
            Ok(address) => listener.address = address,
            Err(problem) => problems.push(format!("{place}.address: {problem}")),
        }
    }
    read_settings(&mut listener, given, &place, problems);
    (problems.len() == before).then_some(listener)
}

fn read_protocol(name: Option<Value>) -> Result<&'static Protocol, String> {
    let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    let all = names.join(", ");
    match name {
        Some(Value::String(name)) => protocols::by_name(&name).ok_or_else(|| {
            let unknown = format!("unknown protocol {}", Quoted(&name));
            match similar(&name, &names) {
                Some(similar) => format!("write \"{similar}\"; {unknown}"),
                None => format!("{unknown}; the protocols are {all}"),
            }
        }),
        Some(_) => Err(format!("must be a string; the protocols are {all}")),
        None => Err(format!("is missing; the protocols are {all}")),
    }
}

/// Reads an address. `port` is the protocol's default.
fn read_address(address: &Value, port: u16) -> Result<Address, String> {
    match address {
        Value::String(address) => Address::parse(address, port),
        Value::Number(number) => Address::parse(&number.to_string(), port),
        _ => Err(format!("must be a string, such as \"localhost:{port}\"")),
    }
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
    let owner = Owner {
        name: &format!("{} listener", protocol.name),
        place: &format!("{place}."),
        others: &["protocol", "address"],
        hint: in_listener,
    };
    overlay(&mut settings, given, &owner, problems);
    let all = Value::Object(settings.clone());
    listener.options = settings
        .clone()
        .into_iter()
        .filter(|(key, _)| !setting_names.contains(key))
        .collect();
    settings.retain(|key, _| setting_names.contains(key));
    match deserialize_object(Value::Object(settings)) {
        Ok(settings) => listener.settings = settings,
        Err((key, problem)) => {
            problems.push(format!("{place}.{key}: {}", plain(&problem, &key, &all)));
        }
    }
    for (key, problem) in out_of_range(&listener.settings) {
        problems.push(format!("{place}.{key}: {problem}"));
    }
    if let Err(error) = (protocol.new_realm)(&listener.options) {
        let problem = plain(&error.problem, &error.key, &all);
        problems.push(format!("{place}.{}: {problem}", error.key));
    }
}

/// Returns the keys whose values have the right type and are out of range, with the problem.
fn out_of_range(settings: &Settings) -> Vec<(&'static str, String)> {
    const MAX_SIZE: usize = 1 << 30;
    let mut problems = Vec::new();
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
        let earlier = earlier.find(|(_, other)| listener.address.overlaps(&other.address));
        if let Some((earlier, other)) = earlier {
            problems.push(format!(
                "listeners[{index}].address: {} is already used by listeners[{earlier}] ({}); \
                 each listener needs its own port",
                listener.address, other.protocol.name,
            ));
        }
    }
}

/// What has the keys that are read, for errors.
struct Owner<'a> {
    name: &'a str,
    /// The place of a key is this and the key.
    place: &'a str,
    /// Keys that are read elsewhere.
    others: &'a [&'a str],
    /// Returns what to write instead of an unknown key with this value, given the known ones.
    hint: fn(&str, &Value, &[&str]) -> Option<String>,
}

/// Replaces defaults by the given values. Unknown keys and values of another type than the default's are
/// added to `problems`.
fn overlay(
    defaults: &mut Map<String, Value>,
    given: Map<String, Value>,
    owner: &Owner,
    problems: &mut Vec<String>,
) {
    let place = owner.place;
    for (key, value) in given {
        let Some(default) = defaults.get(&key) else {
            let known = owner.others.iter().copied();
            let known: Vec<&str> = known.chain(defaults.keys().map(String::as_str)).collect();
            let problem = (owner.hint)(&key, &value, &known).unwrap_or_else(|| {
                let name = owner.name;
                format!("unknown key; the keys of a {name} are {}", known.join(", "))
            });
            problems.push(format!("{place}{}: {problem}", Quoted(&key)));
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
        (Value::Number(_), Value::String(text))
            if text.parse::<f64>().is_ok_and(f64::is_finite) =>
        {
            Some(format!("write {text}, without quotes"))
        }
        (Value::Number(_), _) => Some(format!(
            "must be a number of at least 0, such as {default}, not {value}"
        )),
        (Value::Bool(_), Value::Bool(_)) => None,
        (Value::Bool(_), _) => Some(format!("write true or false, without quotes, not {value}")),
        (Value::Array(_), Value::Array(_)) => None,
        (Value::Array(_), Value::String(_)) => Some(format!(
            "write [{value}]: must be an array, such as {default}"
        )),
        (Value::Array(_), _) => Some(format!("must be an array, such as {default}, not {value}")),
        // Deserializing checks the values of all other settings.
        _ => None,
    }
}

/// Returns an error of deserializing in plain words where a whole number was expected and `path` in `values`
/// has another, or one that is too large.
fn plain(problem: &str, path: &str, values: &Value) -> String {
    let largest = match problem.rsplit_once(", expected ") {
        Some((_, "u32")) => u64::from(u32::MAX),
        Some((_, "u64" | "usize")) => u64::MAX,
        _ => return problem.to_owned(),
    };
    let number = values.pointer(&pointer(path)).and_then(Value::as_number);
    match number.and_then(Number::as_f64) {
        Some(size) if size > largest as f64 => format!("must be at most {largest}, not {size}"),
        Some(size) if size >= 0.0 => {
            let (below, above) = (size.floor() as u64, size.ceil() as u64);
            let right = if below == above || below == 0 {
                above.to_string()
            } else {
                format!("{below} or {above}")
            };
            format!("write {right}: must be a whole number, not {size:?}")
        }
        _ => problem.to_owned(),
    }
}

/// Returns the JSON pointer (RFC 6901) of a path such as `sessions[0].max_members`.
fn pointer(path: &str) -> String {
    let slashes = path.replace(['.', '['], "/").replace(']', "");
    format!("/{slashes}")
}

fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        other => unreachable!("settings serialize to an object: {other:?}"),
    }
}
