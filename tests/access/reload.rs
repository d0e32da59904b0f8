//! Secrets of access tokens that change while the daemon runs.

use crate::common::tokens::{HS256, OTHER_SECRET, SECRET, sign};
use crate::common::{Client, Daemon, private_file};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A PeerJS listener that demands a token that is signed with a secret in this file.
fn config(secret_file: &Path) -> Value {
    let access = json!({"secret_file": secret_file.to_str().unwrap()});
    json!({"listeners": [{"protocol": "peerjs", "access": access}]})
}

/// Connects with a token for this id.
fn connect(address: SocketAddr, id: &str, secret: &str) -> Client {
    let token = sign(HS256, json!({ "sub": id }), secret);
    Client::connect(
        address,
        &format!("/peerjs?key=peerjs&id={id}&token={token}"),
    )
}

#[track_caller]
fn assert_admitted(address: SocketAddr, id: &str, secret: &str) -> Client {
    let mut client = connect(address, id, secret);
    assert_eq!(client.receive_json()["type"], "OPEN");
    client
}

#[track_caller]
fn assert_refused(address: SocketAddr, id: &str, secret: &str) {
    let mut client = connect(address, id, secret);
    assert_eq!(client.receive_json()["type"], "ERROR");
    assert_eq!(client.expect_close().0, 4401);
}

/// Reloads the unchanged configuration, and returns what the log says of it.
fn reload(daemon: &Daemon, last: &str) -> String {
    daemon.signal(Signal::HUP);
    daemon.log_until(last).pop().unwrap()
}

#[test]
fn secrets_are_changed_by_their_file_and_a_reload_and_nobody_is_disconnected() {
    let file = private_file(SECRET);
    let daemon = Daemon::start(config(&file));
    let address = daemon.address();
    let mut ann = assert_admitted(address, "ann", SECRET);
    assert_refused(address, "ben", OTHER_SECRET);

    // The issuers change one after another.
    fs::write(&*file, format!("{OTHER_SECRET}\n{SECRET}\n")).unwrap();
    let line = reload(&daemon, "reloaded: ");
    assert!(
        line.ends_with(&format!("reloaded: peerjs on {address}: access")),
        "{line}"
    );
    let mut ben = assert_admitted(address, "ben", OTHER_SECRET);
    let mut cid = assert_admitted(address, "cid", SECRET);

    fs::write(&*file, OTHER_SECRET).unwrap();
    let line = reload(&daemon, "reloaded: ");
    assert!(line.ends_with(": access"), "{line}");
    assert_refused(address, "dan", SECRET);
    let mut dan = assert_admitted(address, "dan", OTHER_SECRET);
    for client in [&mut ann, &mut ben, &mut cid, &mut dan] {
        client.expect_no_message();
    }
    let line = reload(&daemon, "reloaded: ");
    assert!(line.ends_with("reloaded: nothing has changed"), "{line}");
}

#[test]
fn a_faulty_file_with_secrets_changes_nothing() {
    let file = private_file(SECRET);
    let daemon = Daemon::start(config(&file));
    let refused = |content: Option<&str>, problem: &str| {
        match content {
            Some(content) => fs::write(&*file, content).unwrap(),
            None => fs::remove_file(&*file).unwrap(),
        }
        daemon.signal(Signal::HUP);
        let lines = daemon.log_until("the reload is refused, and the configuration is unchanged");
        let expected = format!(
            "listeners[0].access.secret_file: {}: {problem}",
            file.display()
        );
        assert!(
            lines.iter().any(|line| line.contains(&expected)),
            "{lines:?}"
        );
        assert!(lines.iter().all(|line| !line.contains("hush")), "{lines:?}");
        assert_admitted(daemon.address(), "ann", SECRET).close_normally();
    };
    refused(
        Some("hush"),
        "each secret must have at least 32 bytes, not 4",
    );
    refused(Some(""), "must be one secret, or two while it is changed");
    refused(None, "No such file");
}

#[test]
fn tokens_may_be_demanded_and_no_longer_by_a_reload() {
    let file = private_file(SECRET);
    let without = json!({"listeners": [{"protocol": "peerjs"}]});
    let daemon = Daemon::start(without.clone());
    let made_up = "/peerjs?key=peerjs&id=ann&token=made-up";
    let mut ann = Client::connect(daemon.address(), made_up);
    assert_eq!(ann.receive_json()["type"], "OPEN");
    daemon.reload(&config(&file));
    ann.expect_no_message();
    let mut ben = Client::connect(daemon.address(), &made_up.replace("ann", "ben"));
    assert_eq!(ben.receive_json()["type"], "ERROR");
    assert_eq!(ben.expect_close().0, 4401);
    assert_admitted(daemon.address(), "ben", SECRET);
    daemon.reload(&without);
    let mut cid = Client::connect(daemon.address(), &made_up.replace("ann", "cid"));
    assert_eq!(cid.receive_json()["type"], "OPEN");
}
