//! Settings from variables of the environment.

use crate::command_line::{assert_rejected, check, invalid, stderr};
use crate::common::program;
use crate::configuration::{listeners, stdout};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use switchboard::protocols::PROTOCOLS;

#[test]
fn an_invalid_variable_is_an_error_that_names_it() {
    for (name, value, error) in [
        (
            "SWITCHBOARD_THREADS",
            "two",
            "SWITCHBOARD_THREADS: must be 0 to 1024 threads, such as 0, not \"two\"\n",
        ),
        (
            "SWITCHBOARD_THREADS",
            " ",
            "SWITCHBOARD_THREADS: must be 0 to 1024 threads, such as 0, not \" \"\n",
        ),
        (
            "SWITCHBOARD_LOG",
            "trace",
            "SWITCHBOARD_LOG: write debug instead of \"trace\"; ",
        ),
    ] {
        assert_rejected(&[], &[(name, value)], error);
        // Also where a flag takes precedence.
        assert_rejected(
            &["--set", "threads=1", "--log", "warn"],
            &[(name, value)],
            error,
        );
    }
}

#[test]
fn an_unknown_variable_is_a_warning() {
    for (name, warning) in [
        (
            "SWITCHBOARD_SERVICE_HOST",
            "is ignored: unknown variable; the variables are SWITCHBOARD_CONFIG, SWITCHBOARD_LOG, ",
        ),
        (
            "SWITCHBOARD_THREAD",
            "is ignored: write SWITCHBOARD_THREADS\n",
        ),
        (
            "SWITCHBOARD_threads",
            "is ignored: write SWITCHBOARD_THREADS\n",
        ),
        (
            "SWITCHBOARD_PORT",
            "is ignored: write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            "SWITCHBOARD_LISTENERS",
            "is ignored: write --listen PROTOCOL=ADDRESS, such as --listen ",
        ),
        (
            "SWITCHBOARD_AUTH_SECRET",
            "is ignored: write {\"listeners\": [{\"protocol\": \"peerdrop\", \"access\": ...}]} in the file",
        ),
    ] {
        let output = check(&[], &[(name, "a-secret")]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).ends_with("\nok\n"));
        let expected = format!("switchboard: warning: {name} {warning}");
        assert!(
            stderr(&output).starts_with(&expected),
            "{}",
            stderr(&output)
        );
        assert_eq!(stderr(&output).lines().count(), 1);
        assert!(!stderr(&output).contains("a-secret"));
    }
}

#[test]
fn check_warns_of_a_rust_log_that_would_be_ignored() {
    let rust_log = [("RUST_LOG", "switchboard=debug")];
    let warning = "switchboard: warning: RUST_LOG is ignored: must be off, ";
    assert!(stderr(&check(&[], &rust_log)).starts_with(warning));
    assert_eq!(stderr(&check(&["--log", "warn"], &rust_log)), "");
    for level in ["debug", ""] {
        assert_eq!(stderr(&check(&[], &[("RUST_LOG", level)])), "");
    }
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let variables = [
        ("SWITCHBOARD_THREADS", ""),
        ("SWITCHBOARD_CONFIG", ""),
        ("SWITCHBOARD_COLOUR", ""),
    ];
    let output = check(&[], &variables);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
    assert_eq!(listeners(&output).lines().count(), PROTOCOLS.len());
    assert!(stdout(&output).contains("\nthreads = 0 (default)\n"));
}

#[test]
fn variables_that_are_not_utf8_are_errors_if_they_are_settings_and_warnings_otherwise() {
    let check = |name: &[u8], value: &[u8]| {
        let mut program = program();
        let (name, value) = (OsStr::from_bytes(name), OsStr::from_bytes(value));
        program.arg("check").env(name, value).output().unwrap()
    };
    let output = check(b"SWITCHBOARD_THREADS", &invalid("2"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "switchboard: SWITCHBOARD_THREADS: write it as UTF-8; it is not\n"
    );
    let output = check(b"SWITCHBOARD_COLOUR", &invalid("2"));
    assert_eq!(output.status.code(), Some(0));
    let warning = "switchboard: warning: SWITCHBOARD_COLOUR is ignored: ";
    assert!(stderr(&output).starts_with(warning), "{}", stderr(&output));
    let output = check(&invalid("SWITCHBOARD_"), b"2");
    assert_eq!(output.status.code(), Some(0));
    let warning = "switchboard: warning: \"SWITCHBOARD_\u{fffd}\" is ignored: ";
    assert!(stderr(&output).starts_with(warning), "{}", stderr(&output));
    let output = check(&invalid("OTHER"), &invalid("2"));
    assert_eq!(stderr(&output), "");
}
