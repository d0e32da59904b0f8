//! What `check` says first about a mistake that people make: what to write.

use crate::common::tokens::SECRET;
use crate::common::{RuntimeDirectory, TemporaryPath, private_file, program, run};
use crate::configuration::{check, listeners, stdout};
use serde_json::{Value, json};
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use switchboard::config::{Listener, help};
use switchboard::protocols::PROTOCOLS;
use switchboard::realm::Protocol;

/// Asserts that `check` rejects a file, and that its only error begins like this after the file's name. Returns all that it
/// prints.
#[track_caller]
fn assert_rejected(content: &str, expected: &str) -> String {
    let output = check(content);
    assert_eq!(output.status.code(), Some(2), "{content}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let (_, error) = stderr.split_once(".json: ").unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(error.starts_with(expected), "{content}: {error}");
    stderr
}

#[test]
fn a_key_or_a_value_that_cannot_be_is_told_what_to_write() {
    for (settings, expected) in [
        (
            r#""port": 9001"#,
            r#""port": write "address": "*:9001" (all addresses) or "address": "localhost:9001" (this machine)"#,
        ),
        (
            r#""host": "0.0.0.0""#,
            r#""host": write "address": "localhost:9000", where to listen, or "hosts": ["chat.example"]"#,
        ),
        (
            r#""adress": "*:9000""#,
            r#""adress": write "address" instead of "adress""#,
        ),
        (
            r#""aliveTimeout": 60"#,
            r#""aliveTimeout": write "alive_timeout" instead of"#,
        ),
        (
            r#""log": "warn""#,
            r#""log": write this key beside "listeners""#,
        ),
        (
            r#""sslkey": "a.pem""#,
            r#""sslkey": remove this; for TLS put a proxy in front"#,
        ),
        (
            r#""alive_timeout": 1.5"#,
            "alive_timeout: write 1 or 2: must be a whole number, not 1.5",
        ),
        (
            r#""alive_timeout": 60.0"#,
            "alive_timeout: write 60: must be a whole number, not 60.0",
        ),
        (
            r#""alive_timeout": "60""#,
            "alive_timeout: write 60, without quotes",
        ),
        (
            r#""allow_discovery": "true""#,
            "allow_discovery: write true or false, without quotes",
        ),
        (
            r#""origins": ["https://a.example/"]"#,
            r#"origins[0]: write "https://a.example" instead of "https://a.example/""#,
        ),
        (
            r#""address": "::1:9000""#,
            r#"address: write "[::1]:9000" instead of "::1:9000""#,
        ),
        (
            r#""address": "unix:peerjs.sock""#,
            r#"address: write "unix:/peerjs.sock" instead of "unix:peerjs.sock": it must be an absolute path"#,
        ),
        (
            r#""address": "unix:@peerjs""#,
            r#"address: write "unix:/run/switchboard/chat.sock", with a path, instead of "unix:@peerjs""#,
        ),
        (
            r#""address": "systemd:a:b""#,
            r#"address: write "systemd:chat", with the FileDescriptorName= of the socket unit"#,
        ),
        (
            r#""address": "unix:/run/peerjs.sock", "trace_messages": true"#,
            r#"trace_messages: write "address": "localhost:9000", or leave trace_messages out"#,
        ),
        (
            r#""trusted_proxies": ["unix:"]"#,
            r#"trusted_proxies: write "unix", which is whoever may connect to a Unix socket, instead of "unix:""#,
        ),
        (
            r#""trusted_proxies": ["proxy.example"]"#,
            r#"trusted_proxies: write an address, a network or "unix", such as "127.0.0.1""#,
        ),
    ] {
        let content = format!(r#"{{"listeners": [{{"protocol": "peerjs", {settings}}}]}}"#);
        assert_rejected(&content, &format!("listeners[0].{expected}"));
    }
    assert_rejected(
        r#"{"listeners": [{"protocol": "loudsync", "sessions":
            [{"id": "a", "name": "A", "host_id": "h", "host_name": "H", "max_members": 2.5}]}]}"#,
        "listeners[0].sessions[0].max_members: write 2 or 3: must be a whole number, not 2.5",
    );
}

#[test]
fn keys_of_a_listener_at_the_top_level_are_told_where_they_belong_and_no_secret_is_shown() {
    assert_rejected(
        r#"{"protocol": "peerjs", "port": 9001, "auth_secret": "secret"}"#,
        r#"write {"listeners": [{"protocol": "peerjs", "auth_secret": "...", "address": "*:9001"}]}"#,
    );
    assert_rejected(
        r#"{"address": "localhost:9000"}"#,
        r#"write {"listeners": [{"protocol": "peerdrop", "address": "localhost:9000"}]}"#,
    );
}

/// Asserts that `check` rejects this value of `access`, that its error begins like this after the setting's place, and that
/// it shows no secret.
#[track_caller]
fn assert_access_rejected(access: &Value, expected: &str) {
    let content = json!({"listeners": [{"protocol": "peerjs", "access": access}]}).to_string();
    let error = assert_rejected(&content, &format!("listeners[0].access{expected}"));
    let is_shown = error.contains(SECRET) || error.contains("hush");
    assert!(!is_shown, "{error}");
}

#[test]
fn what_is_wrong_with_access_is_told_and_no_secret_is_shown() {
    for (access, expected) in [
        (json!(SECRET), ": must be null or an object, such as"),
        (json!({}), ": needs secret_file or secret; make one with"),
        (
            json!({"secrets": SECRET}),
            ": has no key \"secrets\"; its keys are secret_file, secret, audience, required",
        ),
        (
            json!({"secret": SECRET, "requierd": true}),
            ": has no key \"requierd\"; its keys are",
        ),
        (
            json!({"secret": "hush"}),
            ".secret: each secret must have at least 32 bytes, not 4; make one with",
        ),
        (
            json!({"secret": [SECRET, SECRET]}),
            ".secret: both secrets are the same; write it once",
        ),
        (
            json!({"secret": [SECRET, SECRET, SECRET]}),
            ".secret: must be one secret, or two while it is changed",
        ),
        (
            json!({"secret": [SECRET, 7]}),
            ".secret: must be a string, or a list of two strings",
        ),
    ] {
        assert_access_rejected(&access, expected);
    }
}

#[test]
fn what_is_wrong_with_the_other_keys_of_access_is_told() {
    for (access, expected) in [
        (
            json!({"secret": SECRET, "secret_file": "/x"}),
            ": has secret_file and secret; write one of them",
        ),
        (
            json!({"secret": SECRET, "audience": ["chat"]}),
            ".audience: must be a string that is not empty, such as",
        ),
        (
            json!({"secret": SECRET, "audience": ""}),
            ".audience: must be a string that is not empty, such as",
        ),
        (
            json!({"secret": SECRET, "required": 1}),
            ".required: write true or false, without quotes",
        ),
        (
            json!({"secret_file": "etc/access"}),
            ".secret_file: must be an absolute path, or the name of a credential, not \"etc/access\"",
        ),
        (
            json!({"secret_file": "/"}),
            ".secret_file: /: must be a regular file, with a secret in a line",
        ),
        (
            json!({"secret_file": "/dev/zero"}),
            ".secret_file: /dev/zero: must be a regular file",
        ),
    ] {
        assert_access_rejected(&access, expected);
    }
    let error = assert_rejected(
        &json!({"access": {"secret": SECRET}}).to_string(),
        r#"write {"listeners": [{"protocol": "peerdrop", "access": "..."}]}"#,
    );
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_of_secrets_is_told_and_none_is_shown() {
    let [twice, three] = [2, 3].map(|count| format!("{SECRET}\n").repeat(count));
    let large = "x".repeat(65 << 10);
    for (content, problem) in [
        (
            None,
            "No such file or directory (os error 2); the daemon's user must be able to read it, or systemd with \
             LoadCredential= in the unit",
        ),
        (Some(&*twice), "both secrets are the same; write it once"),
        (
            Some("hush\n"),
            "each secret must have at least 32 bytes, not 4",
        ),
        (
            Some("\n\n"),
            "must be one secret, or two while it is changed",
        ),
        (
            Some(&*three),
            "must be one secret, or two while it is changed",
        ),
        (
            Some(&*large),
            "is too large for secrets; name the file with them",
        ),
    ] {
        let file = private_file(content.unwrap_or_default());
        if content.is_none() {
            std::fs::remove_file(&*file).unwrap();
        }
        assert_access_rejected(
            &json!({"secret_file": file.to_str().unwrap()}),
            &format!(".secret_file: {}: {problem}", file.display()),
        );
    }
}

#[test]
fn secrets_that_each_user_of_the_machine_may_read_are_warned_of() {
    let content = |access: &Value| {
        json!({"listeners": [{"protocol": "peerjs", "access": access}]}).to_string()
    };
    let secrets = private_file(SECRET);
    let warnings = |file: &TemporaryPath| {
        let output = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!stdout(&output).contains(SECRET), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let make_public =
        |file: &TemporaryPath| set_permissions(&**file, Permissions::from_mode(0o644)).unwrap();
    let inline = private_file(&content(&json!({"secret": SECRET})));
    let of_file = private_file(&content(&json!({"secret_file": secrets.to_str().unwrap()})));
    assert_eq!((warnings(&inline), warnings(&of_file)), Default::default());
    make_public(&of_file);
    assert_eq!(warnings(&of_file), "", "it has the path alone");
    make_public(&inline);
    assert_eq!(
        warnings(&inline),
        format!(
            "switchboard: warning: listeners[0].access.secret: each user of this machine can read {}; write the secret \
             into a file of its own and its path here, as secret_file, or take away the right to read this one (chmod \
             o-r)\n",
            inline.display()
        )
    );
    make_public(&secrets);
    assert_eq!(
        warnings(&of_file),
        format!(
            "switchboard: warning: listeners[0].access.secret_file: each user of this machine can read \"{}\"; take \
             away that right (chmod o-r)\n",
            secrets.display()
        )
    );
}

#[test]
fn a_file_of_secrets_that_several_listeners_have_is_warned_of_once() {
    let secrets = private_file(SECRET);
    let access = json!({"secret_file": secrets.to_str().unwrap()});
    let listener = |it: &Protocol| json!({"protocol": it.name, "access": access});
    let listeners: Vec<Value> = PROTOCOLS.iter().map(|it| listener(it)).collect();
    let config = private_file(&json!({ "listeners": listeners }).to_string());
    set_permissions(&*secrets, Permissions::from_mode(0o644)).unwrap();
    let output = run(&["check", "--config", config.to_str().unwrap()]);
    let warnings = String::from_utf8(output.stderr).unwrap();
    let expected =
        "switchboard: warning: listeners[0].access.secret_file: each user of this machine can read";
    assert!(warnings.starts_with(expected), "{warnings}");
    assert_eq!(warnings.lines().count(), 1, "{warnings}");
}

#[test]
fn a_credential_of_the_unit_is_named_without_a_path() {
    let directory = RuntimeDirectory::new();
    std::fs::write(directory.0.join("access"), SECRET).unwrap();
    set_permissions(directory.0.join("access"), Permissions::from_mode(0o400)).unwrap();
    let access = json!({"secret_file": "access"});
    let content = json!({"listeners": [{"protocol": "peerjs", "access": access}]}).to_string();
    let config = private_file(&content);
    let mut command = program();
    command.arg("check").arg("--config").arg(&*config);
    let output = command
        .env("CREDENTIALS_DIRECTORY", &directory.0)
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_protocol_or_a_level_that_does_not_exist_is_told_the_one_that_was_meant() {
    assert_rejected(
        r#"{"listeners": [{"protocol": "peer-js2"}]}"#,
        r#"listeners[0].protocol: write "peerjs"; unknown protocol "peer-js2""#,
    );
    for (level, right) in [("trace", "debug"), ("WARNING", "warn"), ("none", "off")] {
        assert_rejected(
            &json!({"log": level}).to_string(),
            &format!("log: write {right} instead of"),
        );
    }
    for (format, right) in [
        ("ndjson", "json"),
        ("Syslog", "journal"),
        ("pretty", "text"),
    ] {
        assert_rejected(
            &json!({"log_format": format}).to_string(),
            &format!("log_format: write {right}: must be auto, text, journal or json, not"),
        );
    }
    assert_rejected(
        r#"{"log_format": true}"#,
        r#"log_format: must be a string, such as "json""#,
    );
}

#[test]
fn what_is_not_json_is_told_with_its_place_and_what_to_write() {
    for (content, expected) in [
        (
            "",
            r#"write {"listeners": [{"protocol": "peerdrop"}]}, or {} for the defaults"#,
        ),
        (
            "listeners:\n  - protocol: peerjs\n",
            r#"write JSON, such as {"listeners": "#,
        ),
        (
            "{\n  // quiet\n  \"log\": \"warn\"\n}",
            "line 2, column 3: remove the comment",
        ),
        (
            "{\"log\": \"warn\",}",
            "line 1, column 16: remove the comma before this",
        ),
        (
            "{\"listeners\": [{\"protocol\": \"peerjs\"",
            "line 1, column 36: write what is missing, at least }]}, at the end: the file is cut off here",
        ),
    ] {
        assert_rejected(content, expected);
    }
}

#[test]
fn a_key_that_stands_twice_is_an_error() {
    for (content, expected) in [
        (
            r#"{"log": "info", "log": "warn"}"#,
            r#"line 1, column 21: write "log" once"#,
        ),
        (
            r#"{"listeners": [{"protocol": "peerjs", "address": ":1", "address": ":2"}]}"#,
            r#"line 1, column 64: write "address" once"#,
        ),
        (
            r#"{"listeners": [{"protocol": "loudsync", "sessions": [{"id": "a", "id": "b"}]}]}"#,
            r#"line 1, column 69: write "id" once"#,
        ),
    ] {
        assert_rejected(content, expected);
    }
}

#[test]
fn a_byte_order_mark_and_the_case_of_a_protocol_do_not_matter() {
    let output = check("\u{feff}{\"listeners\": [{\"protocol\": \"PeerJS\"}]}");
    assert_eq!(
        listeners(&output),
        "peerjs     ws://localhost:9000/peerjs\n"
    );
}

/// Asserts that `check` accepts these settings of a PeerJS listener, and warns of this alone.
#[track_caller]
fn assert_warned(settings: &str, warning: &str) {
    let content = format!(r#"{{"listeners": [{{"protocol": "peerjs", {settings}}}]}}"#);
    let output = check(&content);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        listeners(&output),
        "peerjs     ws://localhost:9000/peerjs\n"
    );
    assert!(stdout(&output).ends_with("\nok\n"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        stderr,
        format!("switchboard: warning: listeners[0].{warning}\n")
    );
}

#[test]
fn what_is_valid_and_probably_not_meant_is_a_warning_and_the_status_is_0() {
    assert_warned(
        r#""alive_timeout": 60000"#,
        "alive_timeout: 60000 seconds are 16h 40m; if milliseconds are meant, write 60",
    );
    assert_warned(
        r#""expire_timeout": 5000"#,
        "expire_timeout: 5000 seconds are 1h 23m 20s; if milliseconds are meant, write 5",
    );
    assert_warned(
        r#""concurrent_limit": 6000"#,
        "concurrent_limit: 6000 can never be reached, as the listener's max_connections is 5000; raise that, \
         or lower this",
    );
}

#[test]
fn the_old_key_of_a_secret_works_and_is_told_its_new_name() {
    let check = |settings: &str| {
        let content = format!(r#"{{"listeners": [{{"protocol": "workspace", {settings}}}]}}"#);
        let output = check(&content);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("hush"), "{stderr}");
        (output.status.code(), stderr)
    };
    let write = r#"write "access": {"secret": "...", "required": false} instead"#;
    let (status, warning) = check(r#""auth_secret": "hush""#);
    assert_eq!(status, Some(0));
    let expected = format!(
        "switchboard: warning: listeners[0].auth_secret: {write}, with a new secret of at least 32 bytes: this one has 4"
    );
    assert!(warning.starts_with(&expected), "{warning}");
    let (status, warning) = check(r#""auth_secret": "hush hush hush hush hush hush hush""#);
    assert_eq!(status, Some(0));
    let expected = format!("listeners[0].auth_secret: {write}: this is its old name\n");
    assert!(warning.ends_with(&expected), "{warning}");
    // It was the default, and is nothing.
    assert_eq!(check("\"auth_secret\": \"\""), (Some(0), String::new()));
    let both =
        r#""auth_secret": "hush", "access": {"secret": "hush hush hush hush hush hush hush"}"#;
    let (status, error) = check(both);
    assert_eq!(status, Some(2));
    let expected =
        r#"listeners[0].auth_secret: remove this; "access" beside it is the same and more"#;
    assert!(error.contains(expected), "{error}");
    // No other protocol had it.
    assert_rejected(
        r#"{"listeners": [{"protocol": "peerjs", "auth_secret": "hush"}]}"#,
        r#"listeners[0]."auth_secret": write "access" instead of "auth_secret""#,
    );
}

/// Returns the keys that are times.
fn times() -> Vec<&'static str> {
    let settings = help::groups().into_iter().flat_map(|group| group.settings);
    let times = settings.filter(|setting| setting.is_time());
    times.map(|setting| setting.name).collect()
}

#[test]
fn each_time_warns_of_milliseconds() {
    let times = times();
    assert!(times.len() > 10, "{times:?}");
    for key in times {
        let protocols = PROTOCOLS.iter().filter(|protocol| {
            let listener: Value = json!(Listener::built_in(protocol));
            listener.get(key).is_some()
        });
        let configurations = protocols
            .map(|protocol| json!({"listeners": [{"protocol": protocol.name, key: 20_000}]}));
        let configurations: Vec<Value> = configurations.collect();
        let configurations = if configurations.is_empty() {
            vec![json!({key: 20_000})]
        } else {
            configurations
        };
        for configuration in configurations {
            let output = check(&configuration.to_string());
            assert_eq!(output.status.code(), Some(0), "{configuration}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            let expected = format!("{key}: 20000 seconds are 5h 33m 20s");
            assert!(stderr.contains(&expected), "{configuration}: {stderr}");
        }
    }
}
