//! Lists of protocols outside of their folders, compared with the table. Where a protocol is missing in one of
//! them, the failure says what to add, and where.

use crate::common::protocol_file;
use serde_json::{Value, json};
use std::path::PathBuf;
use switchboard::config::Listener;
use switchboard::protocols::PROTOCOLS;
use switchboard::realm::Protocol;

/// Reads a file of the repository.
fn file(path: &str) -> String {
    let absolute = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(absolute).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Asserts that a file has what `entry` returns for each protocol.
fn assert_lists_all(path: &str, place: &str, entry: impl Fn(&'static Protocol) -> String) {
    let content = file(path);
    for protocol in PROTOCOLS {
        let entry = entry(protocol);
        assert!(
            content.contains(&entry),
            "{path} lacks {}: {place}, add {entry}",
            protocol.name
        );
    }
}

/// Returns the heading of a protocol's page: its name as people write it.
fn title(protocol: &Protocol) -> String {
    let page = protocol_file(protocol.name, "README.md", "a page for authors of clients");
    let heading = page.lines().next().and_then(|line| line.strip_prefix("# "));
    heading.expect("a page begins with its heading").to_owned()
}

/// Returns the default port of a protocol.
fn port(protocol: &'static Protocol) -> u16 {
    Listener::built_in(protocol)
        .settings
        .address
        .port()
        .unwrap()
}

#[test]
fn every_folder_of_a_protocol_is_in_the_table() {
    let folders = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/protocols");
    let entries = std::fs::read_dir(folders).unwrap().map(|it| it.unwrap());
    for folder in entries.filter(|entry| entry.path().is_dir()) {
        let name = folder.file_name().into_string().unwrap();
        assert!(
            PROTOCOLS.iter().any(|protocol| protocol.name == name),
            "src/protocols/mod.rs lacks {name}: add it to the table, and its `pub mod`"
        );
    }
}

#[test]
fn the_packaged_configuration_has_a_listener_of_each_protocol_on_its_default_port() {
    let path = "systemd/switchboard.json";
    let config: Value = serde_json::from_str(&file(path)).unwrap();
    let listeners = config["listeners"].as_array().unwrap();
    for protocol in PROTOCOLS {
        let address = format!("*:{}", port(protocol));
        let listener = json!({"protocol": protocol.name, "address": address});
        assert!(
            listeners.contains(&listener),
            "{path} lacks {}: add {listener} to its listeners",
            protocol.name
        );
    }
    assert_eq!(
        listeners.len(),
        PROTOCOLS.len(),
        "{path} has more listeners"
    );
}

#[test]
fn the_readme_has_a_row_for_each_protocol() {
    let readme = file("README.md");
    for protocol in PROTOCOLS {
        let (name, port) = (protocol.name, port(protocol));
        let endpoint = Listener::built_in(protocol).endpoint();
        let begin = format!("| [{}](src/protocols/{name}/README.md) | ", title(protocol));
        let row = readme.lines().find_map(|line| line.strip_prefix(&begin));
        // `/` is only an example where clients may connect to any path.
        let is_any_path = endpoint == "/" && (protocol.matches_path)("/any/other/path");
        let place = match is_any_path {
            true => "any path".to_owned(),
            false => format!("`{endpoint}`"),
        };
        let what = format!("{begin}what it does | {port} | {place} |");
        let row =
            row.unwrap_or_else(|| panic!("README.md lacks {name}: add to its first table {what}"));
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells[1], port.to_string(), "{name}");
        // The row may show fewer parameters of the query, and further paths.
        let path = endpoint.split('?').next().unwrap_or_default();
        let has_path = |end| cells[2].contains(&format!("`{path}{end}"));
        assert!(
            cells[2].contains(&place) || !is_any_path && (has_path('`') || has_path('?')),
            "README.md has another path for {name}: its row must be {what}"
        );
    }
}

#[test]
fn the_page_about_all_protocols_links_to_each() {
    assert_lists_all(
        "src/protocols/README.md",
        "in the first lines",
        |protocol| format!("[{}]({}/README.md)", title(protocol), protocol.name),
    );
}

#[test]
fn the_manual_names_each_protocol() {
    assert_lists_all("systemd/switchboard.1", "in the DESCRIPTION", title);
}

#[test]
fn the_description_of_the_package_names_each_protocol() {
    assert_lists_all("systemd/packaging/control.in", "in its text", title);
}

#[test]
fn the_container_exposes_the_port_of_each_protocol() {
    assert_lists_all("systemd/Dockerfile", "in front of USER", |protocol| {
        format!("EXPOSE {}\n", port(protocol))
    });
}

#[test]
fn pages_that_count_the_protocols_count_right() {
    const WORDS: [&str; 10] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    ];
    let expected = format!("{} WebSocket protocols", WORDS[PROTOCOLS.len()]);
    for path in [
        "README.md",
        "src/ARCHITECTURE.md",
        "systemd/switchboard.1",
        "systemd/packaging/control.in",
    ] {
        let content = file(path);
        assert!(content.contains(&expected), "{path} must say: {expected}");
    }
}

#[test]
fn the_examples_for_proxies_carry_each_protocol() {
    assert_lists_all(
        "systemd/examples/nginx.conf",
        "in a server of its own",
        |it| format!("location / {{ proxy_pass http://127.0.0.1:{}; }}", port(it)),
    );
    assert_lists_all(
        "systemd/examples/haproxy.cfg",
        "in a backend of its own",
        |it| format!("server switchboard 127.0.0.1:{} check", port(it)),
    );
    assert_lists_all("systemd/examples/Caddyfile", "in a host of its own", |it| {
        format!("reverse_proxy 127.0.0.1:{}\n", port(it))
    });
    assert_lists_all(
        "systemd/examples/behind-a-proxy.json",
        "in a line of its own",
        |it| {
            format!(
                r#"{{ "protocol": "{}", "trusted_proxies": ["127.0.0.1"]"#,
                it.name
            )
        },
    );
}

#[test]
fn the_soak_has_clients_of_each_protocol() {
    let starts = file("benches/soak/main.rs");
    for Protocol { name, .. } in PROTOCOLS {
        let soak = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/soak");
        let has_files =
            ["clients", "expectations"].map(|it| soak.join(it).join(format!("{name}.rs")).exists());
        assert!(
            has_files == [true; 2] && starts.contains(&format!("\"{name}\" => ")),
            "benches/soak lacks {name}: add clients/{name}.rs and expectations/{name}.rs, their `pub mod` lines, and in \
             main.rs their imports and an arm in start_clients (benches/README.md, \"soak\")"
        );
    }
}
