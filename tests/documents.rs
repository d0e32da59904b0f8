//! Compares close reasons on the protocols' pages with the code, and checks the examples. Settings:
//! `setting_tables.rs`.

use crate::common::protocol_file;
use switchboard::base::close::CloseReason;
use switchboard::config::Config;
use switchboard::protocols::PROTOCOLS;

/// Returns the page of a protocol for authors of clients.
fn page(protocol: &str) -> String {
    protocol_file(protocol, "README.md", "a page for authors of clients")
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
    let common = include_str!("../src/protocols/README.md");
    for reason in CloseReason::COMMON {
        let row = row(reason);
        assert!(common.contains(&row), "src/protocols/README.md lacks {row}");
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
fn the_page_of_peerjs_shows_the_example_that_replaces_peer() {
    let page = page("peerjs");
    let example = include_str!("../systemd/examples/peerjs-server.json");
    let indented: String = example
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    assert!(page.contains(&indented));
}
