//! Access tokens of PeerDrop over sockets: how they come, and what the answers are. What they mean is tested on a realm
//! without sockets, in `src/protocols/peerdrop/tests/access.rs`.

use crate::common::tokens::{access, seconds_from_now, token, wrong_tokens};
use crate::common::{Client, Daemon, merge};
use serde_json::{Value, json};

fn daemon(access_keys: &Value) -> Daemon {
    Daemon::start_protocol("peerdrop", access(access_keys))
}

/// Connects with this token in the query. The handshake is completed also for a client that is refused, as browsers
/// cannot read an HTTP status.
fn connect(daemon: &Daemon, path: &str, token: &str) -> Client {
    Client::connect(daemon.address(), &format!("{path}?access_token={token}"))
}

fn assert_refused(mut client: Client) {
    assert_eq!(client.expect_close(), (4401, "unauthorized".to_owned()));
}

#[test]
fn a_pair_with_tokens_meets_and_one_without_is_refused() {
    let daemon = daemon(&json!({}));
    let anybody = token(&json!({}));
    let header = format!("Bearer {anybody}");
    let header = [("authorization", header.as_str())];
    let mut creator = Client::try_connect(daemon.address(), "/ws/chat", &header).unwrap();
    let join = format!("/ws/chat/{}", creator.receive_text());
    for path in ["/ws/chat", join.as_str()] {
        assert_refused(Client::connect(daemon.address(), path));
        // Only PeerJS has a parameter of this name.
        let target = format!("{path}?token={anybody}");
        assert_refused(Client::connect(daemon.address(), &target));
    }
    let mut joiner = connect(&daemon, &join, &anybody);
    joiner.receive_text();
    assert_eq!(creator.receive_text(), "the other guy joined");
}

#[test]
fn a_client_without_a_good_token_gets_close_4401() {
    let daemon = daemon(&json!({"audience": "drop", "required": false}));
    let good = json!({"sub": "ann", "aud": "drop"});
    let with = |claim: Value| token(&merge(good.clone(), &claim));
    for (token, _) in wrong_tokens(&good) {
        assert_refused(connect(&daemon, "/ws/chat", &token));
    }
    for token in [
        "no-token".to_owned(),
        with(json!({"aud": "mail"})),
        with(json!({"roles": ["join"]})),
        // Twice, and differently.
        format!(
            "{}&access_token={}",
            with(json!({"sub": "ben"})),
            token(&good)
        ),
    ] {
        assert_refused(connect(&daemon, "/ws/chat", &token));
    }
    let eight_kib = with(json!({"x": "x".repeat(6000)}));
    assert!(eight_kib.len() > 8000);
    for target in [
        format!("/ws/chat?access_token={}", token(&good)),
        format!("/ws/chat?access_token={eight_kib}"),
        "/ws/chat".to_owned(),
    ] {
        let code = Client::connect(daemon.address(), &target).receive_text();
        assert_eq!(code.len(), 6);
    }
}

#[test]
fn a_session_ends_when_the_token_of_one_of_its_peers_does() {
    let daemon = daemon(&json!({}));
    // The leeway of a minute is over soon.
    let ending = token(&json!({"exp": seconds_from_now(-50)}));
    let anybody = token(&json!({}));
    let mut creator = connect(&daemon, "/ws/chat", &ending);
    let join = format!("/ws/chat/{}", creator.receive_text());
    let mut joiner = connect(&daemon, &join, &anybody);
    joiner.receive_text();
    assert_eq!(creator.receive_text(), "the other guy joined");
    assert_eq!(creator.expect_close(), (1008, "token expired".to_owned()));
    assert_eq!(joiner.expect_close(), (1000, "peer left".to_owned()));
    assert_refused(connect(&daemon, "/ws/chat", &ending));
    let renewed = token(&json!({"exp": seconds_from_now(600)}));
    connect(&daemon, "/ws/chat", &renewed).receive_text();
}
