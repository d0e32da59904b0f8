//! What two configurations differ in.

use crate::config::{Listener, ProcessSettings};
use crate::realm::Applies;
use crate::realm::setting::{Setting, SettingMap};
use crate::realm::setting_list::Settings as _;
use serde_json::Value;

/// The listener of the old configuration that one of the new configuration continues, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counterpart {
    /// That of the same protocol on the same address, perhaps with other settings.
    Same(usize),
    /// That of another protocol on the same address, whose sockets it takes over.
    OtherProtocol(usize),
    /// It is new.
    None,
}

impl Counterpart {
    /// Returns the index of the old listener.
    pub(super) const fn old_index(self) -> Option<usize> {
        match self {
            Self::Same(index) | Self::OtherProtocol(index) => Some(index),
            Self::None => None,
        }
    }
}

/// Returns the counterpart of each of the `new` listeners. Each of the `old` ones is that of one at most.
pub(super) fn counterparts(old: &[&Listener], new: &[Listener]) -> Vec<Counterpart> {
    let has_same_address =
        |old: &Listener, new: &Listener| old.settings.address == new.settings.address;
    let is_same = |old: &Listener, new: &Listener| {
        old.protocol.name == new.protocol.name && has_same_address(old, new)
    };
    let mut counterparts = vec![Counterpart::None; new.len()];
    // Several may have port 0, so that a listener of the same protocol is looked for first.
    pair(&mut counterparts, old, new, is_same, Counterpart::Same);
    pair(
        &mut counterparts,
        old,
        new,
        has_same_address,
        Counterpart::OtherProtocol,
    );
    counterparts
}

/// Pairs the new listeners that have no counterpart yet with the old ones that are none yet.
fn pair(
    counterparts: &mut [Counterpart],
    old: &[&Listener],
    new: &[Listener],
    matches: impl Fn(&Listener, &Listener) -> bool,
    counterpart: fn(usize) -> Counterpart,
) {
    let mut taken: Vec<usize> = counterparts
        .iter()
        .filter_map(|it| it.old_index())
        .collect();
    for (place, listener) in counterparts.iter_mut().zip(new) {
        let mut free = (0..).zip(old).filter(|(index, _)| !taken.contains(index));
        let found = free.find(|(_, old)| matches(old, listener));
        if let (Counterpart::None, Some((index, _))) = (&place, found) {
            *place = counterpart(index);
            taken.push(index);
        }
    }
}

/// Returns the keys of a listener whose values differ. The values of `access` and `tls` do not have what is in their files,
/// which may have changed, so that these are compared as they are.
pub(super) fn changed_settings(old: &Listener, new: &Listener) -> Vec<String> {
    const ACCESS: &str = "access";
    const TLS: &str = "tls";
    let values = |listener: &Listener| {
        let common = listener.settings.values().into_iter();
        let common = common.map(|(name, value)| (name.to_owned(), value));
        common.chain(listener.options.clone()).collect()
    };
    let mut changed = different(&values(old), &values(new));
    changed.retain(|key| key != ACCESS && key != TLS);
    if old.settings.access != new.settings.access {
        changed.push(ACCESS.to_owned());
    }
    if old.settings.tls != new.settings.tls {
        changed.push(TLS.to_owned());
    }
    changed
}

/// A setting of the process that cannot change while the daemon runs.
#[derive(Debug, PartialEq)]
pub(super) struct Unchanged {
    pub(super) name: &'static str,
    /// The value that holds.
    pub(super) running: Value,
    /// That of the new configuration.
    pub(super) configured: Value,
}

/// The differences of the settings of the process.
pub(super) struct ProcessChanges {
    /// The settings that hold from now on.
    pub(super) settings: ProcessSettings,
    /// The keys whose values have changed.
    pub(super) changed: Vec<String>,
    pub(super) unchanged: Vec<Unchanged>,
}

/// Returns what changes in the settings of the process, and what cannot.
pub(super) fn process_changes(old: &ProcessSettings, new: &ProcessSettings) -> ProcessChanges {
    let running = map(old);
    let mut settings = map(new);
    let mut unchanged = Vec::new();
    let fixed = ProcessSettings::list().into_iter();
    for Setting { name, .. } in fixed.filter(|it| it.applies == Applies::AtRestart) {
        let (Some(running), Some(place)) = (running.get(name), settings.get_mut(name)) else {
            continue;
        };
        let configured = std::mem::replace(place, running.clone());
        if configured != *running {
            unchanged.push(Unchanged {
                name,
                running: running.clone(),
                configured,
            });
        }
    }
    ProcessChanges {
        changed: different(&running, &settings),
        settings: ProcessSettings::from_map(&settings)
            .expect("each value is of a valid configuration"),
        unchanged,
    }
}

fn map(settings: &ProcessSettings) -> SettingMap {
    let values = settings.values().into_iter();
    values
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Returns the keys whose values differ. Both have the same keys.
fn different(old: &SettingMap, new: &SettingMap) -> Vec<String> {
    let changed = new
        .iter()
        .filter(|(key, value)| old.get(*key) != Some(value));
    changed.map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    fn listeners(given: &[(&str, &str)]) -> Vec<Listener> {
        let listener =
            |(protocol, address): &(&str, &str)| json!({"protocol": protocol, "address": address});
        let listeners: Vec<Value> = given.iter().map(listener).collect();
        let text = json!({ "listeners": listeners }).to_string();
        Config::from_json(&text).unwrap().listeners
    }

    fn counterparts_of(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<Counterpart> {
        let old = listeners(old);
        let old: Vec<&Listener> = old.iter().collect();
        counterparts(&old, &listeners(new))
    }

    #[test]
    fn a_listener_stays_the_same_by_its_protocol_and_address_in_whatever_order() {
        let (a, b, c) = (
            ("peerdrop", "*:1"),
            ("workspace", "*:2"),
            ("workspace", "*:3"),
        );
        assert_eq!(
            counterparts_of(&[a, b], &[c, b, a]),
            [
                Counterpart::None,
                Counterpart::Same(1),
                Counterpart::Same(0)
            ]
        );
        assert_eq!(
            counterparts_of(&[("workspace", "localhost:2")], &[b]),
            [Counterpart::None]
        );
    }

    #[test]
    fn another_protocol_on_an_address_takes_over_its_sockets() {
        let new = [("workspace", "*:1"), ("peerdrop", "*:2")];
        assert_eq!(
            counterparts_of(&[("peerdrop", "*:1"), ("peerdrop", "*:2")], &new),
            [Counterpart::OtherProtocol(0), Counterpart::Same(1)]
        );
    }

    #[test]
    fn each_of_several_listeners_whose_ports_the_system_chooses_is_one_of_the_old_ones() {
        let (peerdrop, workspace) = (("peerdrop", "*:0"), ("workspace", "*:0"));
        assert_eq!(
            counterparts_of(
                &[peerdrop, workspace, peerdrop],
                &[workspace, workspace, peerdrop, peerdrop, peerdrop]
            ),
            [
                Counterpart::Same(1),
                Counterpart::None,
                Counterpart::Same(0),
                Counterpart::Same(2),
                Counterpart::None,
            ]
        );
    }

    #[test]
    fn settings_that_differ_are_named_those_of_the_protocol_too() {
        let old = listeners(&[("workspace", "*:1")]).remove(0);
        assert_eq!(changed_settings(&old, &old.clone()), [""; 0]);
        let text = json!({"listeners": [{
            "protocol": "workspace", "address": "*:1", "origins": ["same-host"], "idle_timeout": 1, "ping_after": 15.0,
        }]});
        let new = Config::from_json(&text.to_string()).unwrap();
        let mut changed = changed_settings(&old, &new.listeners[0]);
        changed.sort();
        assert_eq!(changed, ["idle_timeout", "origins"]);
    }

    #[test]
    fn another_secret_is_a_change_of_access() {
        let with_access = |access: Value| {
            let listener = json!({"protocol": "workspace", "address": "*:1", "access": access});
            let text = json!({ "listeners": [listener] }).to_string();
            Config::from_json(&text).unwrap().listeners.remove(0)
        };
        let [one, other] = ["a", "b"].map(|letter| letter.repeat(32));
        let old = with_access(json!({"secret": one}));
        assert_eq!(changed_settings(&old, &old.clone()), [""; 0]);
        for new in [
            json!({"secret": other}),
            json!({"secret": [other, one]}),
            json!({"secret": one, "required": false}),
            Value::Null,
        ] {
            assert_eq!(changed_settings(&old, &with_access(new)), ["access"]);
        }
    }

    #[test]
    fn what_says_that_it_needs_a_restart_is_warned_of_and_stays_and_all_else_changes() {
        let old = Config::built_in().process;
        let another = |setting: &Setting| match setting.default.clone().unwrap() {
            Value::Bool(value) => json!(!value),
            Value::Number(number) => json!(number.as_f64().unwrap() as u64 + 2),
            _ if setting.name == "log_format" => json!("json"),
            _ if setting.name == "log" => json!("debug"),
            _ if setting.name == "status" => Value::Null,
            _ => json!(1 << 20),
        };
        for setting in ProcessSettings::list() {
            let given = json!({setting.name: another(&setting)});
            let new = ProcessSettings::from_map(given.as_object().unwrap()).unwrap();
            let changes = process_changes(&old, &new);
            let unchanged = changes.unchanged.iter().map(|it| it.name);
            let (changed, unchanged) = (changes.changed, unchanged.collect::<Vec<_>>());
            if setting.applies == Applies::AtRestart {
                assert_eq!((changed.len(), unchanged), (0, vec![setting.name]));
                assert_eq!(map(&changes.settings), map(&old));
            } else {
                assert_eq!(
                    (changed, unchanged.len()),
                    (vec![setting.name.to_owned()], 0)
                );
                assert_eq!(map(&changes.settings), map(&new));
            }
        }
    }
}
