//! The programs in the README that make access tokens, run as they stand there.

use crate::common::tokens::{OTHER_SECRET, SECRET};
use crate::common::{Client, Daemon, private_file, program};
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The path of the secret in the programs.
const PATH: &str = "/etc/switchboard/access.secret";

/// Returns the only program in this language in the README.
fn program_in(language: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let begin = format!("\n```{language}\n");
    let mut blocks = readme.split(&begin).skip(1);
    let (block, others) = (blocks.next(), blocks.count());
    assert_eq!(
        (block.is_some(), others),
        (true, 0),
        "one block of {language}"
    );
    let (program, _) = block.unwrap().split_once("```\n").unwrap();
    let lines = program.lines().filter(|line| !line.is_empty());
    assert!(lines.count() <= 10, "ten lines of {language}");
    program
}

/// Runs a program with the secret in this file, and returns what it prints.
fn run(interpreter: &[&str], program: &str, secret_file: &Path) -> String {
    assert_eq!(program.matches(PATH).count(), 1, "{program}");
    let program = program.replace(PATH, secret_file.to_str().unwrap());
    let mut command = Command::new(interpreter[0]);
    command.args(&interpreter[1..]).arg("-");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{interpreter:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(program.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{interpreter:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs Python and Node.js; .ci/run runs it"]
fn the_lines_of_the_readme_make_tokens_that_are_admitted() {
    // While secrets are changed, they sign with the first one.
    let secrets = private_file(&format!("{SECRET}\n{OTHER_SECRET}\n"));
    let access = json!({"secret_file": secrets.to_str().unwrap()});
    let daemon = Daemon::start_protocol("peerjs", json!({ "access": access }));
    for (language, interpreter) in [
        ("python", &["python3"][..]),
        ("js", &["node", "--input-type=module"]),
    ] {
        let token = run(interpreter, program_in(language), &secrets);
        let mut check = program();
        check.args(["token", "--check", "--listener", "peerjs", token.trim()]);
        let output = check.arg("--config").arg(daemon.config()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{language}: {text}");
        for part in ["sub  \"ann\"\n", "signed with the first of two secrets"] {
            assert!(text.contains(part), "{language}: {text} lacks {part}");
        }
        let target = format!("/peerjs?key=peerjs&id=ann&token={}", token.trim());
        let mut ann = Client::connect(daemon.address(), &target);
        assert_eq!(ann.receive_json()["type"], "OPEN", "{language}");
        ann.close_normally();
    }
}
