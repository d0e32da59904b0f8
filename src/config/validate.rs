//! Validating the configuration file.

use super::access::AccessSettings;
use super::layers::{Layer, Source};
use super::unknown_keys::{in_listener, in_process, similar, take_misplaced};
use super::{EXAMPLE_LISTENERS, Listener, ProcessSettings, listener, process, syntax};
use crate::base::log_escape::{Quoted, escape};
use crate::protocols::{self, PROTOCOLS};
use crate::realm::setting::{Setting, SettingMap};
use crate::realm::setting_list::Settings as _;
use crate::realm::{Protocol, SettingError};
use serde_json::Value;

/// What a configuration file says.
#[derive(Debug)]
pub(super) struct FileContent {
    /// The settings of the process.
    pub(super) process: Layer,
    /// The listeners; `None`: without the key.
    pub(super) listeners: Option<Vec<Listener>>,
}

/// What an empty file says.
impl Default for FileContent {
    fn default() -> Self {
        let process = Layer {
            source: Source::File,
            values: SettingMap::new(),
        };
        Self {
            process,
            listeners: None,
        }
    }
}

/// Reads and checks the text of a file.
///
/// # Errors
/// One text for each invalid value, with its place.
pub(super) fn read_content(text: &str) -> Result<FileContent, Vec<String>> {
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
    let listeners = given.remove("listeners");
    problems.extend(take_misplaced(&mut given));
    let owner = Owner {
        name: "configuration",
        place: "",
        keys: keys(&process::descriptions()),
        hint: in_process,
    };
    report_unknown_keys(&given, &owner, &mut problems);
    if let Err(errors) = ProcessSettings::from_map(&given) {
        report("", errors, &mut problems);
    }
    let listeners = listeners.map(|listeners| read_listeners(listeners, &mut problems));
    if problems.is_empty() {
        let mut content = FileContent::default();
        content.process.values = given;
        content.listeners = listeners;
        Ok(content)
    } else {
        // Some problems quote the file.
        Err(problems.iter().map(|problem| escape(problem)).collect())
    }
}

/// Reads the value of `listeners`. Its problems are added to `problems`.
fn read_listeners(listeners: Value, problems: &mut Vec<String>) -> Vec<Listener> {
    let Value::Array(listeners) = listeners else {
        problems.push(format!(
            "listeners: must be an array, such as {EXAMPLE_LISTENERS}"
        ));
        return Vec::new();
    };
    if listeners.is_empty() {
        problems.push(
            "listeners: must not be empty; without this key every protocol listens on localhost"
                .to_owned(),
        );
    }
    let read = |(index, given)| match given {
        Value::Object(given) => read_listener(&format!("listeners[{index}]."), given, problems),
        _ => {
            problems.push(format!(
                "listeners[{index}]: must be an object, such as {{\"protocol\": \"peerdrop\"}}"
            ));
            None
        }
    };
    let listeners: Vec<Listener> = listeners.into_iter().enumerate().filter_map(read).collect();
    if problems.is_empty() {
        let place = |index: usize| format!("listeners[{index}]");
        let address = |index: usize| format!("listeners[{index}].address");
        check_addresses(&listeners, address, place, problems);
    }
    listeners
}

/// Reads a listener. The place of a key is `place` and the key. Problems are added to `problems`.
pub(super) fn read_listener(
    place: &str,
    mut given: SettingMap,
    problems: &mut Vec<String>,
) -> Option<Listener> {
    let protocol = match read_protocol(given.remove("protocol")) {
        Ok(protocol) => protocol,
        Err(problem) => {
            problems.push(format!("{place}protocol: {problem}"));
            return None;
        }
    };
    let options = (protocol.options)();
    let owner = Owner {
        name: &format!("{} listener", protocol.name),
        place,
        keys: [keys(&listener::descriptions()), keys(&options)].concat(),
        hint: in_listener,
    };
    let before = problems.len();
    let old_access = AccessSettings::take_old(protocol, &mut given);
    let old_access = old_access.unwrap_or_else(|error| {
        report(place, vec![error], problems);
        None
    });
    report_unknown_keys(&given, &owner, problems);
    match Listener::read(protocol, &given) {
        Ok(mut listener) => {
            if old_access.is_some() {
                listener.settings.access = old_access;
            }
            (problems.len() == before).then_some(listener)
        }
        Err(errors) => {
            report(place, errors, problems);
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

/// Checks that no two listeners share an address. `address_place` returns where the address of the listener of an index
/// stands, `place` where the listener does.
pub(super) fn check_addresses(
    listeners: &[Listener],
    address_place: impl Fn(usize) -> String,
    place: impl Fn(usize) -> String,
    problems: &mut Vec<String>,
) {
    for (index, listener) in listeners.iter().enumerate() {
        let mut earlier = listeners.iter().take(index).enumerate();
        let earlier =
            earlier.find(|(_, other)| listener.settings.address.overlaps(&other.settings.address));
        if let Some((earlier, other)) = earlier {
            problems.push(format!(
                "{}: {} is already used by {} ({}); each listener needs its own {}",
                address_place(index),
                listener.settings.address,
                place(earlier),
                other.protocol.name,
                listener
                    .settings
                    .address
                    .port()
                    .map_or("address", |_| "port"),
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
