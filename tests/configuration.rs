//! The configuration on the command line: `check`, `defaults`, and the errors for invalid files.

use crate::common::{program, run, temporary_file};
use serde_json::json;
use std::process::Output;
use switchboard::config::Config;
use switchboard::config::help::groups;
use switchboard::protocols::PROTOCOLS;

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// Returns the lines about listeners that `check` has printed.
pub fn listeners(output: &Output) -> String {
    let lines = stdout(output).lines();
    let lines = lines.filter(|line| line.contains(" ws://"));
    lines.map(|line| format!("{line}\n")).collect()
}

pub fn check(content: &str) -> Output {
    let file = temporary_file(content);
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    output
}

#[test]
fn the_printed_defaults_are_a_complete_configuration() {
    let printed = run(&["defaults"]);
    assert!(printed.status.success());
    let checked = check(stdout(&printed));
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert_eq!(listeners(&checked), listeners(&run(&["check"])));
    let defaults = Config::from_json(stdout(&printed)).unwrap().to_json();
    assert_eq!(defaults, Config::built_in().to_json());
}

#[test]
fn check_prints_every_listener() {
    let output = run(&["check"]);
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<&str> = stdout(&output).lines().take(PROTOCOLS.len()).collect();
    assert_eq!(listeners(&output).lines().count(), PROTOCOLS.len());
    assert!(
        lines.contains(&"peerdrop   ws://localhost:9081/ws/chat"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"fastchat   ws://localhost:8000/ws"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"loudsync   ws://localhost:8080/"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"peerjs     ws://localhost:9000/peerjs"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"workspace  ws://localhost:4000/ws"),
        "{lines:?}"
    );
    let with_path = json!({"listeners": [{"protocol": "peerjs", "path": "/my/app"}]});
    assert_eq!(
        listeners(&check(&with_path.to_string())),
        "peerjs     ws://localhost:9000/my/app/peerjs\n"
    );
}

#[test]
fn each_error_names_the_key_and_what_would_be_right() {
    let listener = |text: &str| {
        format!(
            r#"{{"listeners": [{{"protocol": "peerdrop"}}, {{"protocol": "workspace", {text}}}]}}"#
        )
    };
    for (content, expected) in [
        (
            "{".to_owned(),
            "line 1, column 1: write what is missing, at least }, at the end",
        ),
        ("[]".to_owned(), "must be a JSON object"),
        (
            r#"{"listener": []}"#.to_owned(),
            r#""listener": write "listeners" instead of "listener""#,
        ),
        (
            r#"{"colour": 1}"#.to_owned(),
            r#""colour": unknown key; the keys of a configuration are log, log_format, log_connections, log_addresses, threads, "#,
        ),
        (
            r#"{"listeners": []}"#.to_owned(),
            "listeners: must not be empty",
        ),
        (
            r#"{"listeners": {}}"#.to_owned(),
            "listeners: must be an array",
        ),
        (
            r#"{"listeners": [7]}"#.to_owned(),
            "listeners[0]: must be an object",
        ),
        (
            r#"{"listeners": [{}]}"#.to_owned(),
            "listeners[0].protocol: is missing; the protocols are peerdrop, fastchat, workspace, loudsync, peerjs",
        ),
        (
            r#"{"listeners": [{"protocol": "smtp"}]}"#.to_owned(),
            r#"listeners[0].protocol: unknown protocol "smtp"; the protocols are peerdrop, fastchat, workspace, loudsync, peerjs"#,
        ),
        (
            r#"{"log": "loud"}"#.to_owned(),
            r#"log: must be off, error, warn, info or debug, not "loud""#,
        ),
        (
            r#"{"memory_budget": "64M"}"#.to_owned(),
            r#"memory_budget: must be 0 (no limit), null (a quarter of the memory) or at least 1048576 bytes, not "64M""#,
        ),
        (
            r#"{"memory_budget": 64}"#.to_owned(),
            "memory_budget: must be 0 (no limit), null (a quarter of the memory) or at least 1048576 bytes, not 64",
        ),
        (
            r#"{"threads": -1}"#.to_owned(),
            "threads: must be 0 to 1024 threads, such as 0, not -1",
        ),
        (
            r#"{"threads": 1.5}"#.to_owned(),
            "threads: write 1 or 2: must be a whole number, not 1.5",
        ),
        (
            r#"{"threads": 5000}"#.to_owned(),
            "threads: must be 0 to 1024 threads, not 5000",
        ),
        (
            r#"{"shutdown_timeout": "long"}"#.to_owned(),
            r#"shutdown_timeout: must be a number of at least 0, such as 5, not "long""#,
        ),
        (
            listener(r#""address": "0.0.0.0:99999""#),
            r#"listeners[1].address: write "localhost:4000" (this machine), "*:4000" (all addresses), an IP address"#,
        ),
        (
            listener(r#""address": 8080"#),
            r#"listeners[1].address: write "*:8080" instead of "8080""#,
        ),
        (
            listener(r#""address": null"#),
            r#"listeners[1].address: must be a string, such as "localhost:4000""#,
        ),
        (
            listener(r#""address": "127.0.0.1:9081""#),
            "listeners[1].address: 127.0.0.1:9081 is already used by listeners[0] (peerdrop)",
        ),
        (
            listener(r#""address": "0.0.0.0:9081""#),
            "listeners[1].address: 0.0.0.0:9081 is already used by listeners[0] (peerdrop)",
        ),
        (
            listener(r#""max_connections": -5"#),
            "listeners[1].max_connections: must be a number of at least 0, such as 5000, not -5",
        ),
        (
            listener(r#""max_conections": 5"#),
            r#"listeners[1]."max_conections": write "max_connections" instead of "max_conections""#,
        ),
        (
            listener(r#""colour": 5"#),
            r#"listeners[1]."colour": unknown key; the keys of a workspace listener are protocol, address, "#,
        ),
        (
            listener(r#""code_length": 5"#),
            r#"listeners[1]."code_length": remove this; it is an option of peerdrop"#,
        ),
        (
            listener(r#""origins": "*""#),
            r#"listeners[1].origins: write ["*"]: must be an array"#,
        ),
        (
            listener(r#""origins": ["*", "example.com"]"#),
            r#"listeners[1].origins[1]: write "https://example.com" instead of "example.com""#,
        ),
        (
            listener(r#""hosts": "https://chat.example""#),
            r#"listeners[1].hosts: write ["chat.example"]"#,
        ),
        (
            listener(r#""hosts": ["chat.example:9000"]"#),
            r#"listeners[1].hosts: write "chat.example", the name alone, instead of "chat.example:9000""#,
        ),
        (
            listener(r#""landing_page": "no""#),
            "listeners[1].landing_page: write true, false or null",
        ),
        (
            listener(r#""trusted_proxies": ["localhost"]"#),
            r#"listeners[1].trusted_proxies: write "127.0.0.1", "::1" instead of "localhost""#,
        ),
        (
            listener(r#""trusted_proxies": ["127.0.0.1:80"]"#),
            r#"listeners[1].trusted_proxies: write "127.0.0.1" instead of "127.0.0.1:80""#,
        ),
        (
            listener(r#""trusted_proxies": ["proxy.example"]"#),
            r#"listeners[1].trusted_proxies: write an address, a network or "unix", such as "127.0.0.1" or "10.0.0.0/8", instead of"#,
        ),
        (
            listener(r#""forwarded_header": "x_forwarded_for""#),
            r#"listeners[1].forwarded_header: write "X-Forwarded-For" instead of "x_forwarded_for""#,
        ),
        (
            listener(r#""forwarded_header": "CF-Connecting-IP""#),
            r#"listeners[1].forwarded_header: write "X-Forwarded-For", "Forwarded" or "X-Real-IP" instead of "CF-Connecting-IP""#,
        ),
        (
            listener(r#""forwarded_header": true"#),
            r#"listeners[1].forwarded_header: must be "X-Forwarded-For", "Forwarded" or "X-Real-IP", not true"#,
        ),
        (
            listener(r#""proxy_protocol": true"#),
            r#"listeners[1].proxy_protocol: write "trusted_proxies": ["127.0.0.1"] beside it, with the addresses of your"#,
        ),
        (
            listener(r#""proxy_protocol": "v2", "trusted_proxies": ["127.0.0.1"]"#),
            r#"listeners[1].proxy_protocol: write true or false, without quotes, not "v2""#,
        ),
        (
            listener(r#""handshake_timeout": 0"#),
            "listeners[1].handshake_timeout: must be more than 0 seconds",
        ),
        (
            listener(r#""ping_after": 1e300"#),
            "listeners[1].ping_after: must be at most 1000000000 seconds, not 1e+300",
        ),
        (
            listener(r#""max_message_size": 0"#),
            "listeners[1].max_message_size: must be 1 to 1073741824 bytes, not 0",
        ),
        (
            listener(r#""outbox_size": 1"#),
            "listeners[1].outbox_size: must be 1024 to 1073741824 bytes, not 1",
        ),
        (
            listener(r#""messages_per_minute": 5000000000"#),
            "listeners[1].messages_per_minute: must be 0 to 4294967295 messages, not 5000000000",
        ),
        (
            listener(r#""username_length": 1"#),
            "listeners[1].username_length: must be 12 to 256 characters, not 1",
        ),
        (
            // An error about a secret does not show its value.
            listener(r#""auth_secret": 12345"#),
            "listeners[1].auth_secret: must be a string\n",
        ),
    ] {
        let output = check(&content);
        assert_eq!(output.status.code(), Some(2), "{content}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let (file, error) = stderr
            .split_once(".json: ")
            .unwrap_or_else(|| panic!("the error names no file: {stderr}"));
        assert!(
            !file.contains('\n') && error.contains(expected),
            "{content}: {stderr}"
        );
    }
}

#[test]
fn all_errors_are_reported_at_once() {
    let output = check(
        r#"{"thread": 1, "listeners": [{"protocol": "x"}, {"protocol": "peerdrop", "address": ""}]}"#,
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 3);
}

#[test]
fn control_characters_in_a_quoted_key_are_escaped() {
    let session = r#"{"protocol": "loudsync", "sessions": [{"host\u007f\u009b2Jname\n": 1}]}"#;
    let output = check(&format!(r#"{{"listeners": [{session}]}}"#));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains(r"host\u{7f}\u{9b}2Jname\u{a}"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_file_that_cannot_be_read_is_reported() {
    for command in [
        &["--config", "/nowhere/switchboard.json"][..],
        &["check", "-c", "/nowhere/switchboard.json"],
    ] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with("/nowhere/switchboard.json: cannot be read: "),
            "{stderr}"
        );
    }
}

#[test]
fn the_environment_names_the_file_unless_the_command_line_does() {
    let file = temporary_file(r#"{"listeners": [{"protocol": "peerdrop", "address": "[::1]:7"}]}"#);
    let check = |arguments: &[&str]| {
        let mut program = program();
        let output = program
            .args(arguments)
            .env("SWITCHBOARD_CONFIG", &file)
            .output()
            .unwrap();
        listeners(&output)
    };
    assert_eq!(check(&["check"]), "peerdrop   ws://[::1]:7/ws/chat\n");
    let other =
        temporary_file(r#"{"listeners": [{"protocol": "workspace", "address": "[::1]:7"}]}"#);
    assert_eq!(
        check(&["check", "-c", other.to_str().unwrap()]),
        "workspace  ws://[::1]:7/ws\n"
    );
}

#[test]
fn wrong_arguments_exit_with_2_and_help_with_0() {
    assert_eq!(run(&["--nonsense"]).status.code(), Some(2));
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("switchboard defaults > switchboard.json"));
    assert_eq!(
        stdout(&run(&["--version"])),
        concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn help_explains_a_setting_or_lists_all() {
    let explained = run(&["help", "code_length"]);
    assert_eq!(explained.status.code(), Some(0));
    assert!(stdout(&explained).starts_with("code_length (characters, 4 to 12; default 6)\n"));
    let list = run(&["help"]);
    for group in groups() {
        for setting in group.settings {
            assert!(stdout(&list).contains(&format!("\n  {} ", setting.name)));
        }
    }
    let wrong = run(&["help", "code_lenght"]);
    assert_eq!(wrong.status.code(), Some(2));
    let error = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        error.starts_with("switchboard: write \"switchboard help code_length\""),
        "{error}"
    );
}

#[test]
fn the_packaged_configuration_is_valid_and_has_every_protocol_on_all_addresses() {
    let config = Config::from_json(include_str!("../systemd/switchboard.json")).unwrap();
    let packaged: Vec<&str> = config
        .listeners
        .iter()
        .map(|listener| listener.protocol.name)
        .collect();
    let all: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    assert_eq!(packaged, all);
    assert!(
        config.listeners.iter().all(|listener| listener
            .settings
            .address
            .to_string()
            .starts_with("*:"))
    );
}
