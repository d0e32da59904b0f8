//! The example programs that make access tokens.

use crate::common::tokens::{OTHER_SECRET, SECRET};
use crate::common::{Client, Daemon, private_file, program};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Runs an example with the subject ann and the secret in this file, and returns the token that it prints.
fn token(interpreter: &str, example: &str, secret_file: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/examples");
    let mut command = Command::new(interpreter);
    command.arg(path.join(example)).arg("ann").arg(secret_file);
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{interpreter}: {error}"));
    assert!(output.status.success(), "{example}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs Python and Node.js; .ci/run runs it"]
fn the_examples_make_tokens_that_are_admitted() {
    // While secrets are changed, they sign with the first one.
    let secrets = private_file(&format!("{SECRET}\n{OTHER_SECRET}\n"));
    let access = json!({"secret_file": secrets.to_str().unwrap()});
    let daemon = Daemon::start_protocol("peerjs", json!({ "access": access }));
    for (interpreter, example) in [("python3", "access_token.py"), ("node", "access-token.mjs")] {
        let token = token(interpreter, example, &secrets);
        let mut check = program();
        check.args(["token", "--check", "--listener", "peerjs", &token]);
        let output = check.arg("--config").arg(daemon.config()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{example}: {text}");
        for part in ["sub  \"ann\"\n", "signed with the first of two secrets"] {
            assert!(text.contains(part), "{example}: {text} lacks {part}");
        }
        let target = format!("/peerjs?key=peerjs&id=ann&token={token}");
        let mut ann = Client::connect(daemon.address(), &target);
        assert_eq!(ann.receive_json()["type"], "OPEN", "{example}");
        ann.close_normally();
    }
}
