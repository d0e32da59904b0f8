//! Merging a configuration with the defaults, and validating it.

use super::unknown_keys::{in_listener, in_process, similar, take_misplaced};
use super::{Config, EXAMPLE_LISTENERS, Listener, ProcessSettings, listener, process, syntax};
use crate::base::log_escape::{Quoted, escape};
use crate::protocols::{self, PROTOCOLS};
use crate::realm::setting::{Setting, SettingMap};
use crate::realm::setting_list::Settings as _;
use crate::realm::{Protocol, SettingError};
use serde_json::Value;

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
        let owner = Owner {
            name: "configuration",
            place: "",
            keys: keys(&process::descriptions()),
            hint: in_process,
        };
        report_unknown_keys(&given, &owner, &mut problems);
        match ProcessSettings::from_map(&given) {
            Ok(process) => config.process = process,
            Err(errors) => report("", errors, &mut problems),
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
    let options = (protocol.options)();
    let place = format!("{place}.");
    let owner = Owner {
        name: &format!("{} listener", protocol.name),
        place: &place,
        keys: [keys(&listener::descriptions()), keys(&options)].concat(),
        hint: in_listener,
    };
    let before = problems.len();
    report_unknown_keys(&given, &owner, problems);
    match Listener::read(protocol, &given) {
        Ok(listener) => (problems.len() == before).then_some(listener),
        Err(errors) => {
            report(&place, errors, problems);
            None
        }
    }
}

/// Returns the names of settings.
fn keys(settings: &[Setting]) -> Vec<&'static str> {
    settings.iter().map(|setting| setting.name).collect()
}

/// Adds the errors of settings at this place to `problems`.
fn report(place: &str, errors: Vec<SettingError>, problems: &mut Vec<String>) {
    let text = |error: SettingError| format!("{place}{}: {}", error.key, error.problem);
    problems.extend(errors.into_iter().map(text));
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

/// Checks that no two listeners share an address.
fn check_addresses(listeners: &[Listener], problems: &mut Vec<String>) {
    for (index, listener) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(index).enumerate();
        let earlier =
            earlier.find(|(_, other)| listener.settings.address.overlaps(&other.settings.address));
        if let Some((earlier, other)) = earlier {
            problems.push(format!(
                "listeners[{index}].address: {} is already used by listeners[{earlier}] ({}); \
                 each listener needs its own port",
                listener.settings.address, other.protocol.name,
            ));
        }
    }
}

/// An object with settings, for errors.
struct Owner<'a> {
    name: &'a str,
    /// The place of a key is this and the key.
    place: &'a str,
    /// The keys that it can have.
    keys: Vec<&'static str>,
    /// Returns what to write instead of an unknown key with this value, given the known ones.
    hint: fn(&str, &Value, &[&str]) -> Option<String>,
}

/// Adds the keys that the owner cannot have to `problems`.
fn report_unknown_keys(given: &SettingMap, owner: &Owner, problems: &mut Vec<String>) {
    let Owner {
        name,
        place,
        keys,
        hint,
    } = owner;
    let unknown = |(key, _): &(&String, &Value)| !keys.contains(&key.as_str());
    for (key, value) in given.iter().filter(unknown) {
        let problem = hint(key, value, keys).unwrap_or_else(|| {
            format!("unknown key; the keys of a {name} are {}", keys.join(", "))
        });
        problems.push(format!("{place}{}: {problem}", Quoted(key)));
    }
}
