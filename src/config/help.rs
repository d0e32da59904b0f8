//! The descriptions of all settings, for `switchboard help` and for the documentation.

use super::assignments::find_key;
use super::unknown_keys::similar;
use super::variables::variable;
use super::{listener, process};
use crate::base::log_escape::Quoted;
use crate::protocols::PROTOCOLS;
use crate::realm::setting::{Range, Setting};
use serde_json::Value;

/// Greatest length of a line, in characters.
const LINE_LENGTH: usize = 80;

/// The settings that stand in the same object of the configuration.
pub struct Group {
    /// `process`, `listener`, or the name of the protocol whose options these are.
    pub name: &'static str,
    /// The settings, in the order of their declaration.
    pub settings: Vec<Setting>,
}

/// Returns all settings.
pub fn groups() -> Vec<Group> {
    let group = |name, settings| Group { name, settings };
    let common = [
        group("process", process::descriptions()),
        group("listener", listener::descriptions()),
    ];
    let options = PROTOCOLS.iter().map(|it| group(it.name, (it.options)()));
    common.into_iter().chain(options).collect()
}

/// Returns each default of a setting of every listener with its protocols. The general one comes first, without names;
/// it is left out if every protocol has its own.
pub fn defaults_by_protocol(setting: &Setting) -> Vec<(Value, Vec<&'static str>)> {
    let general = setting.default.clone().unwrap_or_default();
    let mut defaults = vec![(general, Vec::new())];
    let mut is_general_used = false;
    for protocol in PROTOCOLS {
        match (protocol.listener_defaults)().get(setting.name) {
            None => is_general_used = true,
            Some(own) => match defaults.iter_mut().find(|(value, _)| value == own) {
                Some((_, protocols)) => protocols.push(protocol.name),
                None => defaults.push((own.clone(), vec![protocol.name])),
            },
        }
    }
    if !is_general_used {
        defaults.remove(0);
    }
    defaults
}

/// Returns the default of a setting, in which `format` writes each value; `None` if it has none. Where it depends on
/// the protocol, all are named.
pub fn default_text(
    group: &Group,
    setting: &Setting,
    format: fn(&str) -> String,
) -> Option<String> {
    let default = setting.default.as_ref()?;
    if group.name != "listener" {
        return Some(format(&default.to_string()));
    }
    let one = |(value, protocols): &(Value, Vec<&str>)| {
        let value = format(&value.to_string());
        match protocols[..] {
            [] => value,
            _ => format!("{}: {value}", protocols.join(", ")),
        }
    };
    let all: Vec<String> = defaults_by_protocol(setting).iter().map(one).collect();
    Some(all.join("; "))
}

/// Returns the unit of a setting and the numbers that are valid, such as `characters, 4 to 12`.
pub fn unit_and_range(setting: &Setting) -> String {
    let unit = setting.unit;
    let Range { least, most, .. } = setting.range;
    let zero = if setting.range.or_zero { "0 or " } else { "" };
    match (least, most) {
        _ if setting.range.is_open => format!("{unit}, more than {least}"),
        (0, u64::MAX) => unit.to_owned(),
        (0, _) => format!("{unit}, at most {most}"),
        (_, u64::MAX) => format!("{unit}, {zero}at least {least}"),
        _ => format!("{unit}, {zero}{least} to {most}"),
    }
}

/// Returns what a setting of the configuration is for, of each object that has it.
///
/// # Errors
/// No object has this key: what to write.
pub fn describe(key: &str) -> Result<String, String> {
    let groups = groups();
    let matching = |group: &Group| {
        let setting = group.settings.iter().find(|setting| setting.name == key)?;
        Some(description(group, setting))
    };
    let descriptions: Vec<String> = groups.iter().filter_map(matching).collect();
    if !descriptions.is_empty() {
        return Ok(descriptions.join("\n"));
    }
    let settings = groups.iter().flat_map(|group| &group.settings);
    let names: Vec<&str> = settings.map(|setting| setting.name).collect();
    Err(match similar(key, &names) {
        Some(similar) => format!(
            "write \"switchboard help {similar}\"; there is no setting {}",
            Quoted(key)
        ),
        None => format!(
            "there is no setting {}; \"switchboard help\" lists all",
            Quoted(key)
        ),
    })
}

/// Returns a line about each setting.
pub fn overview() -> String {
    let line = |setting: &Setting| {
        let summary = setting.summary();
        let short = summary.split(';').next().unwrap_or(summary);
        format!("  {:<28} {}\n", setting.name, short.trim_end_matches('.'))
    };
    let section = |group: Group| {
        let lines: String = group.settings.iter().map(line).collect();
        format!("{}:\n{lines}", place(group.name))
    };
    let sections: Vec<String> = groups().into_iter().map(section).collect();
    format!(
        "{}\n\"switchboard help KEY\" says more about one. A flag or a variable can set one of the process, too:\n\
         --set KEY=VALUE or {}=VALUE. --listen PROTOCOL=ADDRESS stands for the listeners.\n",
        sections.join("\n"),
        variable("key")
    )
}

/// Returns where the settings of a group stand.
fn place(group: &str) -> String {
    match group {
        "process" => "Settings of the process, beside \"listeners\"".to_owned(),
        "listener" => "Settings of a listener".to_owned(),
        protocol => format!("Settings of a {protocol} listener"),
    }
}

fn description(group: &Group, setting: &Setting) -> String {
    let default = match default_text(group, setting, str::to_owned) {
        Some(default) => format!("; default {default}"),
        None => String::new(),
    };
    format!(
        "{} ({}{default})\n{}:\n{}  {}\n{}",
        setting.name,
        unit_and_range(setting),
        place(group.name),
        wrapped(&setting.text),
        setting.applies.text(),
        flag_and_variable(group, setting)
    )
}

/// Returns how a setting can be given beside the file, as a line; empty if it cannot.
fn flag_and_variable(group: &Group, setting: &Setting) -> String {
    let name = setting.name;
    match find_key(name) {
        Ok(_) if group.name == "process" => {
            format!(
                "  Also --set {name}=VALUE, or {}=VALUE in the environment.\n",
                variable(name)
            )
        }
        _ => String::new(),
    }
}

/// Returns a text in indented lines.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (String::new(), "  ".to_owned());
    for word in text.split(' ') {
        if line.trim().is_empty() {
            line += word;
        } else if line.chars().count() + 1 + word.chars().count() <= LINE_LENGTH {
            line = line + " " + word;
        } else {
            lines = lines + &line + "\n";
            line = format!("  {word}");
        }
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_described_with_its_unit_range_and_default() {
        assert_eq!(
            describe("code_length").unwrap(),
            "code_length (characters, 4 to 12; default 6)\nSettings of a peerdrop listener:\n  Length of a code. After a \
             reload the codes that are in use stay as they are.\n  \
             Reload: at once.\n"
        );
        let timeout = describe("handshake_timeout").unwrap();
        assert!(
            timeout.starts_with(
                "handshake_timeout (seconds, more than 0; default 10; workspace: 30)\n"
            )
        );
        assert!(timeout.lines().all(|line| line.len() <= LINE_LENGTH));
    }

    #[test]
    fn settings_of_the_process_are_described_with_their_flag_and_variable() {
        let also = |name: &str| describe(name).unwrap().contains("Also --set");
        assert!(describe("threads").unwrap().ends_with(
            "  Also --set threads=VALUE, or SWITCHBOARD_THREADS=VALUE in the environment.\n"
        ));
        for group in groups() {
            for Setting { name, .. } in group.settings {
                if group.name == "process" && name != "listeners" {
                    assert!(also(name), "{name}");
                }
            }
        }
        assert!(!also("listeners") && !also("address"));
        // The one of the process alone.
        let both = describe("max_connections").unwrap();
        assert_eq!(both.matches("Also --set").count(), 1);
    }

    #[test]
    fn a_key_of_several_objects_is_described_for_each() {
        let text = describe("takeover_timeout").unwrap();
        for protocol in ["fastchat", "workspace", "loudsync", "peerjs"] {
            assert!(
                text.contains(&format!("of a {protocol} listener")),
                "{text}"
            );
        }
        assert!(
            describe("max_connections")
                .unwrap()
                .contains("of the process")
        );
    }

    #[test]
    fn a_key_that_does_not_exist_is_told_what_to_write() {
        let error = describe("code_lenght").unwrap_err();
        assert!(
            error.starts_with("write \"switchboard help code_length\""),
            "{error}"
        );
        assert!(
            describe("colour")
                .unwrap_err()
                .contains("\"switchboard help\" lists all")
        );
    }

    #[test]
    fn every_setting_has_sentences_and_the_first_one_is_short() {
        for group in groups() {
            for setting in group.settings {
                assert!(setting.text.ends_with('.'), "{}", setting.name);
                let summary = setting.summary();
                assert!(summary.ends_with('.'), "{summary}");
                assert!(summary.len() <= 260, "{}: {summary}", setting.name);
            }
        }
    }
}
