//! Listeners and settings from flags, and what `check` says about them. Variables: `environment.rs`.

use crate::common::{Client, Daemon, program, run, run_at_terminal, temporary_file};
use crate::configuration::{listeners, stdout};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;
use switchboard::config::help::groups;
use switchboard::realm::setting::Setting;

/// What is not UTF-8.
pub fn invalid(before: &str) -> Vec<u8> {
    [before.as_bytes(), b"\xff"].concat()
}

/// Returns the settings of the process, without `listeners`, which has no default.
fn settings() -> Vec<Setting> {
    let process = groups().into_iter().find(|group| group.name == "process");
    let settings = process.unwrap().settings.into_iter();
    settings.filter(|it| it.default.is_some()).collect()
}

/// Runs `check` with these arguments and variables.
pub fn check(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut program = program();
    let variables = variables.iter().copied();
    program.arg("check").args(arguments).envs(variables);
    program.output().unwrap()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Asserts that both `check` and a start reject these arguments and variables with this line on standard error.
#[track_caller]
pub fn assert_rejected(arguments: &[&str], variables: &[(&str, &str)], line: &str) {
    for command in [&["check"][..], &[]] {
        let mut program = program();
        let variables = variables.iter().copied();
        program.args(command).args(arguments).envs(variables);
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(stdout(&output), "");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        let expected = format!("switchboard: {line}");
        let is_it = stderr(&output).starts_with(&expected);
        assert!(is_it, "{} is not {expected}", stderr(&output));
    }
}

/// Asserts that `check` accepts these arguments and variables and prints these settings of the process.
#[track_caller]
fn assert_settings(arguments: &[&str], variables: &[(&str, &str)], settings: &[&str]) {
    let output = check(arguments, variables);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for setting in settings {
        let has_it = stdout(&output).lines().any(|line| line == *setting);
        assert!(has_it, "{} lacks {setting}", stdout(&output));
    }
}

#[test]
fn check_prints_addresses_then_settings_with_their_sources_then_limits_then_ok() {
    let file = temporary_file(r#"{"threads": 3, "shutdown_timeout": 2}"#);
    let file = file.to_str().unwrap();
    let arguments = [
        "--config",
        file,
        "--listen",
        "peerjs=*:9000",
        "--set",
        "threads=2",
    ];
    let variables = [
        ("SWITCHBOARD_THREADS", "4"),
        ("SWITCHBOARD_MEMORY_BUDGET", "67108864"),
    ];
    let output = check(&arguments, &variables);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    let lines: Vec<&str> = stdout(&output).lines().collect();
    let (addresses, rest) = lines.split_at(2);
    let status = "status     http://localhost:7171/";
    assert_eq!(addresses, ["peerjs     ws://*:9000/peerjs", status]);
    let expected: Vec<String> = settings()
        .iter()
        .map(|setting| {
            let (value, source) = match setting.name {
                "threads" => ("2".to_owned(), "flag"),
                "memory_budget" => ("67108864".to_owned(), "environment"),
                "shutdown_timeout" => ("2".to_owned(), "file"),
                _ => (setting.default.clone().unwrap().to_string(), "default"),
            };
            format!("{} = {value} ({source})", setting.name)
        })
        .collect();
    let (settings, rest) = rest.split_at(expected.len());
    assert_eq!(settings, expected);
    // The other limits depend on the machine.
    let names: Vec<&str> = rest
        .iter()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["open files", "connections", "memory budget", "ok"]);
    assert!(rest[0].starts_with("open files: at most "), "{rest:?}");
    assert!(rest[1].contains(", because of the "), "{rest:?}");
    assert_eq!(rest[2], "memory budget: 64 MiB");
}

#[test]
fn check_prints_ok_in_spite_of_warnings() {
    let output = check(&["--set", "shutdown_timeout=5000"], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).ends_with("\nok\n"), "{}", stdout(&output));
    assert_eq!(
        stderr(&output),
        "switchboard: warning: shutdown_timeout: 5000 seconds are 1h 23m 20s; if milliseconds are meant, write 5\n"
    );
}

#[test]
fn check_warns_of_more_connections_than_there_can_be() {
    let output = check(&["--set", "max_connections=1000000000000"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let warning = "max_connections is 1000000000000, but the open-files limit allows ";
    assert!(stderr(&output).contains(warning), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("\nok\n"));
}

#[test]
fn a_flag_precedes_the_environment_and_that_the_file() {
    let file = temporary_file(r#"{"threads": 3, "log": "error"}"#);
    let file = ["--config", file.to_str().unwrap()];
    let with_flag = [&file[..], &["--set", "threads=1", "--log", "debug"]].concat();
    let variables = [("SWITCHBOARD_THREADS", "2"), ("SWITCHBOARD_LOG", "warn")];
    assert_settings(
        &file,
        &[],
        &["threads = 3 (file)", "log = \"error\" (file)"],
    );
    assert_settings(
        &file,
        &variables,
        &["threads = 2 (environment)", "log = \"warn\" (environment)"],
    );
    assert_settings(
        &with_flag,
        &variables,
        &["threads = 1 (flag)", "log = \"debug\" (flag)"],
    );
    assert_settings(&[], &[], &["threads = 0 (default)", "log = null (default)"]);
}

#[test]
fn each_setting_of_the_process_can_be_given_by_a_flag_and_by_a_variable() {
    for setting in settings() {
        let default = setting.default.unwrap();
        let name = setting.name;
        let flag = format!("{name}={default}");
        let line = format!("{name} = {default} (flag)");
        assert_settings(&["--set", &flag], &[], &[&line]);
        let variable = format!("SWITCHBOARD_{}", name.to_uppercase());
        let line = format!("{name} = {default} (environment)");
        assert_settings(&[], &[(&variable, &default.to_string())], &[&line]);
    }
}

#[test]
fn listen_stands_for_the_listeners_of_the_file_and_of_the_defaults() {
    let arguments = ["--listen", "workspace=[::1]:7", "--listen=PeerJS=:9000"];
    let expected = "workspace  ws://[::1]:7/ws\npeerjs     ws://*:9000/peerjs\n";
    let output = check(&arguments, &[]);
    assert_eq!(listeners(&output), expected);
    assert_eq!(stderr(&output), "");

    let file = temporary_file(
        r#"{"threads": 3, "listeners": [{"protocol": "peerjs", "path": "/app", "max_connections": 7}]}"#,
    );
    let file = file.to_str().unwrap();
    let with_file = [&arguments[..], &["--config", file]].concat();
    let output = check(&with_file, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(listeners(&output), expected);
    assert!(stdout(&output).contains("\nthreads = 3 (file)\n"));
    assert_eq!(
        stderr(&output),
        format!(
            "switchboard: warning: {file}: listeners: ignored with all their settings, since --listen names others\n"
        )
    );
    let file = temporary_file(r#"{"threads": 3}"#);
    let with_file = [&arguments[..], &["--config", file.to_str().unwrap()]].concat();
    assert_eq!(stderr(&check(&with_file, &[])), "");
}

#[test]
fn a_daemon_serves_the_listeners_of_its_flags_and_no_others() {
    let mut command = program();
    command.args(["--listen", "workspace=127.0.0.1:0"]);
    command.args(["--listen", "workspace=[::1]:0"]);
    let daemon = Daemon::launch(command, json!({"listeners": [{"protocol": "peerdrop"}]}));
    assert_eq!(daemon.addresses.len(), 2);
    for address in &daemon.addresses {
        Client::connect(*address, "/ws?username=ann").receive_json();
    }
}

#[test]
fn a_start_logs_what_is_ignored_at_the_level_that_a_flag_or_a_variable_sets() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("workspace={}", other.local_addr().unwrap());
    // At a terminal it ends, since it cannot listen.
    let log = |arguments: &[&str], level: &str| {
        let mut program = program();
        program.args(["--listen", &taken]).args(arguments);
        program.env("SWITCHBOARD_LOG", level);
        program.env("SWITCHBOARD_COLOUR", "red");
        let output = run_at_terminal(program);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let warning = "SWITCHBOARD_COLOUR is ignored: ";
    assert!(log(&[], "warn").contains(warning));
    assert!(!log(&[], "error").contains(warning));
    assert!(log(&["--set", "log=warn"], "error").contains(warning));
    assert!(!log(&["--log", "error"], "warn").contains(warning));
}

#[test]
fn a_file_with_a_mistake_is_an_error_also_where_flags_stand_for_it() {
    let file = temporary_file(r#"{"threads": -1, "listeners": [{"protocol": "smtp"}]}"#);
    let file = file.to_str().unwrap();
    let arguments = [
        "--config",
        file,
        "--set",
        "threads=1",
        "--listen",
        "peerjs=:1",
    ];
    let output = check(&arguments, &[]);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<&str> = stderr(&output).lines().collect();
    assert!(lines[0].starts_with(&format!("{file}: threads: must be ")));
    assert!(lines[1].starts_with(&format!("{file}: listeners[0].protocol: unknown ")));
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_flag_with_an_invalid_setting_is_an_error_that_names_it() {
    for (flag, error) in [
        ("threads", "--set \"threads\": write --set threads=0\n"),
        ("colour", "--set \"colour\": write --set KEY=VALUE\n"),
        ("", "--set \"\": write --set KEY=VALUE\n"),
        (
            "=2",
            "--set \"\": unknown key; the keys of the process are log, ",
        ),
        (
            "colour=2",
            "--set \"colour\": unknown key; the keys of the process are log, ",
        ),
        (
            "thraeds=2",
            "--set \"thraeds\": write --set threads=... instead\n",
        ),
        (
            "threads=",
            "--set threads: must be 0 to 1024 threads, such as 0, not \"\"\n",
        ),
        (
            "threads=two",
            "--set threads: must be 0 to 1024 threads, such as 0, not \"two\"\n",
        ),
        (
            "threads=5000",
            "--set threads: must be 0 to 1024 threads, not 5000\n",
        ),
        ("threads=02", "--set threads: write 2 instead of \"02\"\n"),
        (
            "memory_budget=64M",
            "--set memory_budget: must be 0 (no limit), null (a quarter of the memory) or at least 1048576 bytes, \
             not \"64M\"\n",
        ),
        (
            "log=loud",
            "--set log: must be off, error, warn, info or debug, not \"loud\"\n",
        ),
        (
            "listeners=[]",
            "--set \"listeners\": write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            "address=*:9000",
            "--set \"address\": write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            "port=9000",
            "--set \"port\": write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            "alive_timeout=90",
            "--set \"alive_timeout\": write {\"listeners\": [{\"protocol\": \"peerjs\", \"alive_timeout\": ...}]} in \
             the file: this is a key of a listener\n",
        ),
        (
            "a\u{1b}[2J=1",
            "--set \"a\\u{1b}[2J\": unknown key; the keys of the process are log, ",
        ),
    ] {
        assert_rejected(&["--set", flag], &[], error);
    }
    assert_rejected(
        &["--log", "loud"],
        &[],
        "--log: must be off, error, warn, info or debug, not \"loud\"\n",
    );
}

#[test]
fn a_setting_that_is_given_twice_is_an_error() {
    for (arguments, error) in [
        (
            &["--set", "threads=1", "--set", "threads=1"][..],
            "--set threads: write this once; it is given twice\n",
        ),
        (
            &["--log", "warn", "--log", "info"],
            "--log: write this once; it is given twice\n",
        ),
        (
            &["--log", "warn", "--set", "log=warn"],
            "--set log: write either this or --log; both set log\n",
        ),
        (
            &["--set", "log=warn", "-l", "warn"],
            "--log: write either this or --set log; both set log\n",
        ),
    ] {
        assert_rejected(arguments, &[], error);
    }
}

#[test]
fn a_listener_that_cannot_be_is_an_error_that_names_its_flag() {
    for (flags, error) in [
        (
            &["--listen", "*:9000"][..],
            "--listen \"*:9000\": write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            &["--listen", ""],
            "--listen \"\": write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            &["--listen", "peerjs"],
            "--listen \"peerjs\": write --listen peerjs=localhost:9000\n",
        ),
        (
            &["--listen", "=*:9000"],
            "--listen \"=*:9000\": protocol: unknown protocol \"\"; the protocols are ",
        ),
        (
            &["--listen", "smtp=*:25"],
            "--listen \"smtp=*:25\": protocol: unknown protocol \"smtp\"; the protocols are ",
        ),
        (
            &["--listen", "peerjs="],
            "--listen \"peerjs=\": address: write \"localhost:9000\" (this machine), ",
        ),
        (
            &["--listen", "peerjs=*:"],
            "--listen \"peerjs=*:\": address: write \"*:9000\" instead of \"*:\"\n",
        ),
        (
            &["--listen", "peerjs=chat.example:80"],
            "--listen \"peerjs=chat.example:80\": address: write \"localhost:9000\" (this machine), ",
        ),
        (
            &["--listen", "peerjs=*:1", "--listen", "peerjs=*:1"],
            "--listen peerjs=*:1: *:1 is already used by --listen peerjs=*:1 (peerjs); each listener needs its own \
             port\n",
        ),
        (
            &["--listen", "peerjs=*:1", "--listen", "fastchat=[::1]:1"],
            "--listen fastchat=[::1]:1: [::1]:1 is already used by --listen peerjs=*:1 (peerjs); ",
        ),
    ] {
        assert_rejected(flags, &[], error);
    }
}

#[test]
fn the_warnings_and_errors_about_a_listener_of_a_flag_name_the_flag() {
    let output = check(
        &["--listen", "peerjs=:1", "--set", "max_connections=10"],
        &[],
    );
    assert_eq!(output.status.code(), Some(0));
    let warning =
        "switchboard: warning: --listen peerjs=*:1: concurrent_limit: 5000 can never be reached";
    assert!(stderr(&output).starts_with(warning), "{}", stderr(&output));

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let flag = format!("workspace={address}");
    let mut command = program();
    command.args(["--listen", &flag]);
    let output = run_at_terminal(command);
    assert_eq!(output.status.code(), Some(1));
    let error = format!("switchboard: --listen {flag} (workspace) cannot listen on {address}: ");
    assert!(stderr(&output).starts_with(&error), "{}", stderr(&output));
}

#[test]
fn the_built_in_configuration_is_not_changed_by_flags_or_variables() {
    for command in ["defaults", "help"] {
        for flag in [
            ["--set", "threads=1"],
            ["--listen", "peerjs=:1"],
            ["--log", "warn"],
            ["--config", "a.json"],
        ] {
            let output = run(&[command, flag[0], flag[1]]);
            assert_eq!(output.status.code(), Some(2), "{command} {flag:?}");
            let error = format!(
                "switchboard: {} cannot be used with defaults or help",
                flag[0]
            );
            assert!(stderr(&output).starts_with(&error), "{}", stderr(&output));
        }
        let mut program = program();
        let variables = [("SWITCHBOARD_THREADS", "x"), ("SWITCHBOARD_CONFIG", "/x")];
        let output = program.arg(command).envs(variables).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(stdout(&output), stdout(&run(&[command])));
    }
}

#[test]
fn arguments_that_are_not_utf8_are_errors() {
    for (flag, value, error) in [
        (
            "--set",
            invalid("threads="),
            "--set: write UTF-8 instead of ",
        ),
        (
            "--listen",
            invalid("peerjs="),
            "--listen: write UTF-8 instead of ",
        ),
        ("--log", invalid("w"), "--log: write UTF-8 instead of "),
        ("check", invalid("--set"), "invalid option '--set"),
        ("--config", invalid("/nowhere/"), "/nowhere/"),
    ] {
        let mut program = program();
        let output = program.arg(flag).arg(OsStr::from_bytes(&value)).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag}");
        assert!(stderr(&output).contains(error), "{}", stderr(&output));
    }
}

#[test]
fn the_problems_of_all_sources_are_reported_at_once() {
    let file = temporary_file(r#"{"thread": 1}"#);
    let file = file.to_str().unwrap();
    let arguments = ["--set", "log=x", "--listen", "smtp=:1", "--config", file];
    let output = check(&arguments, &[("SWITCHBOARD_THREADS", "x")]);
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<&str> = stderr(&output).lines().collect();
    let places = [
        "switchboard: SWITCHBOARD_THREADS: ",
        "switchboard: --set log: ",
        "switchboard: --listen \"smtp=:1\": ",
        &format!("{file}: \"thread\": "),
    ];
    assert_eq!(lines.len(), places.len(), "{lines:?}");
    for (line, place) in lines.iter().zip(places) {
        assert!(line.starts_with(place), "{line}");
    }
}
