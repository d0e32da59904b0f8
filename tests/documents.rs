//! Compares settings and close reasons in the man page and on the protocols' pages with the code, and
//! checks the examples.

use serde_json::{Map, Value, json};
use switchboard::base::close::CloseReason;
use switchboard::config::{Config, Listener};
use switchboard::protocols::PROTOCOLS;

const MAN_PAGE: &str = include_str!("../systemd/switchboard.json.5");

/// Returns the page of a protocol for authors of clients, or with an empty name the one about all protocols.
fn page(protocol: &str) -> &'static str {
    match protocol {
        "" => include_str!("../src/protocols/README.md"),
        "peerdrop" => include_str!("../src/protocols/peerdrop/README.md"),
        "fastchat" => include_str!("../src/protocols/fastchat/README.md"),
        "workspace" => include_str!("../src/protocols/workspace/README.md"),
        "loudsync" => include_str!("../src/protocols/loudsync/README.md"),
        "peerjs" => include_str!("../src/protocols/peerjs/README.md"),
        other => panic!("unknown protocol {other:?}: add its page here"),
    }
}

/// Returns whether switchboard.json(5) has an entry for a key that names this default.
fn man_page_has(key: &str, default: &str) -> bool {
    let entry = format!(".BR {key} \"");
    let default = default.replace('"', "\\(dq");
    MAN_PAGE
        .lines()
        .any(|line| line.starts_with(&entry) && line.contains(&default))
}

#[test]
fn the_man_page_has_every_setting_with_its_default() {
    let config: Map<String, Value> = serde_json::from_str(&Config::built_in().to_json()).unwrap();
    for (key, value) in config.iter().filter(|(key, _)| *key != "listeners") {
        assert!(
            man_page_has(key, &value.to_string()),
            "no entry for {key} with the default {value}"
        );
    }
    for protocol in PROTOCOLS {
        let listener = Listener::built_in(protocol);
        let settings: Map<String, Value> =
            serde_json::from_value(json!(listener.settings)).unwrap();
        let address = json!(listener.address.to_string());
        for (key, value) in settings
            .iter()
            .chain(&listener.options)
            .chain([(&"address".to_owned(), &address)])
        {
            let value = value.to_string();
            assert!(man_page_has(key, &value), "{} {key} {value}", protocol.name);
        }
    }
}

/// A row of the table begins with `| `key` | unit | `default` |`.
#[test]
fn each_protocols_page_has_its_options_with_their_defaults() {
    for protocol in PROTOCOLS {
        for (key, default) in &Listener::built_in(protocol).options {
            let row = page(protocol.name)
                .lines()
                .find(|line| line.starts_with(&format!("| `{key}` |")))
                .unwrap_or_else(|| panic!("the page of {} lacks {key}", protocol.name));
            let cell = row.split('|').nth(3).unwrap().trim();
            assert_eq!(cell, format!("`{default}`"), "{} {key}", protocol.name);
        }
    }
}

/// Returns the beginning of the row of a close reason in the table of a page.
fn row(reason: CloseReason) -> String {
    let reconnect = if reason.should_reconnect() {
        "yes"
    } else {
        "no"
    };
    format!(
        "| {} | `{}` | {reconnect} |",
        reason.code(),
        reason.reason()
    )
}

#[test]
fn each_close_reason_is_on_its_page() {
    for protocol in PROTOCOLS {
        for &reason in protocol.close_reasons {
            let (row, name) = (row(reason), protocol.name);
            assert!(page(name).contains(&row), "the page of {name} lacks {row}");
        }
    }
    let names = PROTOCOLS.iter().map(|protocol| protocol.name);
    let pages: Vec<&str> = names.chain([""]).map(page).collect();
    for reason in CloseReason::COMMON {
        let row = row(reason);
        assert!(
            pages.iter().any(|page| page.contains(&row)),
            "no page has {row}"
        );
    }
}

#[test]
fn the_examples_are_valid_configurations() {
    for example in [
        include_str!("../systemd/examples/behind-a-proxy.json"),
        include_str!("../systemd/examples/peerjs-server.json"),
        include_str!("../systemd/examples/small-server.json"),
    ] {
        Config::from_json(example).unwrap();
    }
}

#[test]
fn the_readme_shows_the_example_that_replaces_peer() {
    let readme = include_str!("../README.md");
    let example = include_str!("../systemd/examples/peerjs-server.json");
    let indented: String = example
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    assert!(readme.contains(&indented));
}
