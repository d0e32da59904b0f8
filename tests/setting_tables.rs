//! The tables of settings in the man page, on the protocols' pages and in the README are those that the declarations
//! make. After a setting has changed, this writes them anew:
//!
//! ```text
//! WRITE_TABLES=1 cargo test --test daemon setting_tables
//! ```

use std::fs;
use std::path::Path;
use switchboard::config::help::{default_text, defaults_by_protocol, groups, unit_and_range};
use switchboard::protocols::PROTOCOLS;
use switchboard::realm::setting::Setting;

/// The settings of the README's table, each with its group: those that people change.
const IN_README: [(&str, &str); 13] = [
    ("process", "listeners"),
    ("listener", "address"),
    ("listener", "origins"),
    ("listener", "hosts"),
    ("listener", "tls"),
    ("listener", "access"),
    ("listener", "trusted_proxies"),
    ("listener", "max_connections"),
    ("process", "max_connections"),
    ("listener", "max_connections_per_ip"),
    ("process", "memory_budget"),
    ("process", "log"),
    ("process", "log_format"),
];

/// Asserts that what stands between two lines of a file is this text, or writes it there.
#[track_caller]
fn assert_part(file: &str, begin: &str, end: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let content = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let split = content.split_once(&format!("{begin}\n"));
    let (before, rest) = split.unwrap_or_else(|| panic!("{file} lacks the line {begin}"));
    let split = rest.split_once(end);
    let (actual, after) = split.unwrap_or_else(|| panic!("{file} lacks the line {end}"));
    if std::env::var_os("WRITE_TABLES").is_some() {
        let content = format!("{before}{begin}\n{expected}{end}{after}");
        fs::write(path, content).unwrap();
    } else {
        assert_eq!(
            actual, expected,
            "{file} is not what the settings are declared to be; run WRITE_TABLES=1 cargo test --test daemon \
             setting_tables"
        );
    }
}

/// Returns a Markdown text in the language of man pages.
fn roff(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq");
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => part.to_owned(),
        _ => format!("\\fB{part}\\fR"),
    });
    parts.collect()
}

#[test]
fn the_man_page_has_every_setting() {
    let mut page = String::new();
    for group in groups() {
        page += &format!(".SH {}\n", group.name.to_uppercase());
        page += &match group.name {
            "process" => "Keys of the outermost object.\nAll but\n.B listeners\ncan also be given by a flag or a variable, see\n\
                          .BR switchboard (1).\n"
                .to_owned(),
            "listener" => "Keys of each object in\n.BR listeners .\n".to_owned(),
            name => format!("Further keys of a\n.B {name}\nlistener.\n"),
        };
        for setting in &group.settings {
            let default = match default_text(&group, setting, str::to_owned) {
                None => String::new(),
                Some(default) => format!("; default {default}"),
            };
            let unit = unit_and_range(setting);
            page += &format!(
                ".TP\n.BR {} \" ({})\"\n{}\n{}\n",
                setting.name,
                roff(&format!("{unit}{default}")),
                roff(&setting.text),
                roff(setting.applies.text())
            );
        }
    }
    assert_part(
        "systemd/switchboard.json.5",
        ".\\\" The settings are written by tests/setting_tables.rs.",
        ".\\\" End of the settings.",
        &page,
    );
}

/// Returns the lines of a table with these cells.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| {
        assert_eq!(cells.len(), head.len(), "{cells:?}");
        format!("| {} |\n", cells.join(" | "))
    };
    let names: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = vec!["---".to_owned(); head.len()];
    let rows = rows.map(|cells| line(&cells));
    line(&names) + &line(&rule) + &rows.collect::<String>()
}

const BEGIN: &str = "<!-- This table is written by tests/setting_tables.rs. -->";
const END: &str = "<!-- End of the table. -->";

fn code(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn each_protocols_page_has_its_options() {
    for group in groups() {
        if !PROTOCOLS.iter().any(|protocol| protocol.name == group.name) {
            continue;
        }
        let row = |setting: &Setting| {
            let default = default_text(&group, setting, code).unwrap_or_default();
            vec![
                code(setting.name),
                unit_and_range(setting),
                default,
                setting.text.clone(),
            ]
        };
        let head = [
            "key",
            "unit",
            "default",
            "meaning, and what happens at the limit",
        ];
        let table = table(&head, group.settings.iter().map(row));
        let file = format!("src/protocols/{}/README.md", group.name);
        assert_part(&file, BEGIN, END, &table);
    }
}

#[test]
fn the_readme_has_the_settings_that_people_change() {
    let groups = groups();
    let row = |(group, key): (&str, &str)| {
        let group = groups.iter().find(|it| it.name == group).unwrap();
        let setting = group.settings.iter().find(|it| it.name == key).unwrap();
        let differs_by_protocol =
            group.name == "listener" && defaults_by_protocol(setting).len() > 2;
        let default = match key {
            "listeners" => "all protocols on localhost".to_owned(),
            _ if differs_by_protocol => "per protocol".to_owned(),
            _ => default_text(group, setting, code).unwrap_or_default(),
        };
        let place = match (key, group.name) {
            ("max_connections", "process") => " at the top level",
            ("max_connections", _) => " of a listener",
            _ => "",
        };
        let summary = setting.summary().to_owned();
        vec![code(key) + place, default, summary]
    };
    let table = table(
        &["key", "default", "meaning"],
        IN_README.into_iter().map(row),
    );
    assert_part("README.md", BEGIN, END, &table);
}
