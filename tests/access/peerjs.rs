//! Access tokens of PeerJS over sockets: how they come, and what the answers are. What they mean is tested on a realm
//! without sockets, in `src/protocols/peerjs/tests/access.rs`.

use crate::common::tokens::{access, seconds_from_now, token, wrong_tokens};
use crate::common::{Client, Daemon, http, merge};
use serde_json::{Value, json};

fn daemon(access_keys: &Value) -> Daemon {
    Daemon::start_protocol("peerjs", access(access_keys))
}

const OPEN: &str = r#"{"type":"OPEN"}"#;

/// Connects with these parameters beside the key, and with these headers.
fn connect(daemon: &Daemon, parameters: &str, headers: &[(&'static str, &str)]) -> Client {
    let target = format!("/peerjs?key=peerjs&{parameters}");
    Client::try_connect(daemon.address(), &target, headers).unwrap()
}

/// Connects with this token in the parameter that the npm client has for it, and reads OPEN.
fn enter(daemon: &Daemon, id: &str, token: &str) -> Client {
    let mut client = connect(daemon, &format!("id={id}&token={token}"), &[]);
    assert_eq!(client.receive_text(), OPEN);
    client
}

/// Asserts that a client is refused with an ERROR that contains `problem`, and Close 4401.
fn assert_refused(mut client: Client, problem: &str) {
    let error = client.receive_json();
    let msg = error["payload"]["msg"].as_str().unwrap();
    assert_eq!(error, json!({"type": "ERROR", "payload": {"msg": msg}}));
    assert!(msg.contains(problem), "{msg}");
    assert_eq!(client.expect_close(), (4401, "unauthorized".to_owned()));
}

#[test]
fn a_token_comes_in_the_header_in_access_token_or_in_token() {
    let daemon = daemon(&json!({}));
    let ann = token(&json!({"sub": "ann"}));
    let header = format!("Bearer {ann}");
    let header = [("authorization", header.as_str())];
    for (parameters, headers) in [
        ("id=ann".to_owned(), &header[..]),
        // The npm client always sends a token that it made up.
        ("id=ann&token=k3jf9s0d".to_owned(), &header),
        (format!("id=ann&access_token={ann}"), &[]),
        (format!("id=ann&token={ann}"), &[]),
        (format!("id=ann&token={ann}&access_token={ann}"), &header),
        // Its subject is the id of who names none.
        (format!("token={ann}"), &[]),
    ] {
        let mut client = connect(&daemon, &parameters, headers);
        assert_eq!(client.receive_text(), OPEN, "{parameters}");
        client.close();
    }
}

#[test]
fn a_client_without_a_good_token_gets_the_reason_and_close_4401() {
    let daemon = daemon(&json!({"audience": "calls"}));
    let ann = json!({"sub": "ann", "aud": "calls"});
    let with = |claim: Value| token(&merge(ann.clone(), &claim));
    let mut refused = wrong_tokens(&ann);
    refused.extend([
        ("k3jf9s0d".to_owned(), "an access token is needed"),
        (with(json!({"aud": "mail"})), "another audience"),
        (with(json!({"sub": "ben"})), "another id"),
    ]);
    for (token, problem) in refused {
        let client = connect(&daemon, &format!("id=ann&token={token}"), &[]);
        assert_refused(client, problem);
    }
    let (ann, other) = (token(&ann), with(json!({"sub": "ben"})));
    let client = connect(
        &daemon,
        &format!("id=ann&token={ann}&access_token={other}"),
        &[],
    );
    assert_refused(client, "two tokens disagree");
    enter(&daemon, "ann", &ann).close();
}

#[test]
fn a_token_of_8_kib_is_read() {
    let daemon = daemon(&json!({}));
    let with = |length| token(&json!({"sub": "ann", "x": "x".repeat(length)}));
    // Three bytes are four characters.
    let length = (0..8 << 10)
        .rev()
        .find(|&length| with(length).len() <= 8 << 10);
    let largest = with(length.unwrap());
    assert!(largest.len() > (8 << 10) - 4);
    enter(&daemon, "ann", &largest);
}

#[test]
fn a_connection_ends_when_its_token_does_and_a_renewed_one_keeps_the_id() {
    let daemon = daemon(&json!({}));
    // The leeway of a minute is over soon.
    let ending = token(&json!({"sub": "ann", "exp": seconds_from_now(-50)}));
    let mut ann = enter(&daemon, "ann", &ending);
    assert_eq!(ann.expect_close(), (1008, "token expired".to_owned()));
    let refused = connect(&daemon, &format!("id=ann&token={ending}"), &[]);
    assert_refused(refused, "has expired");
    let renewed = |until| token(&json!({"sub": "ann", "exp": seconds_from_now(until)}));
    let mut ann = enter(&daemon, "ann", &renewed(600));
    // Connecting again before the end closes only the old connection.
    let mut again = enter(&daemon, "ann", &renewed(1200));
    let replaced = (4409, "connected again elsewhere".to_owned());
    assert_eq!(ann.expect_close(), replaced);
    again.expect_no_message();
}

#[test]
fn only_the_list_of_peers_needs_a_token_over_http() {
    let settings = merge(json!({"allow_discovery": true}), &access(&json!({})));
    let daemon = Daemon::start_protocol("peerjs", settings);
    let ann = token(&json!({"sub": "ann"}));
    let _ann = enter(&daemon, "ann", &ann);
    let request = |method: &str, target: &str, headers: &str| {
        let headers = format!("Host: h\r\nConnection: close\r\n{headers}");
        let request = format!("{method} {target} HTTP/1.1\r\n{headers}\r\n");
        http(daemon.address(), &request)
    };
    let authorization = format!("Authorization: Bearer {ann}\r\n");
    let by_parameter = format!("/peerjs/peers?access_token={ann}");
    for (method, target, headers, status) in [
        ("GET", "/peerjs/peers", "", 401),
        ("GET", "/peerjs/peers?token=made-up", "", 401),
        ("GET", "/peerjs/peers", authorization.as_str(), 200),
        ("GET", by_parameter.as_str(), "", 200),
        // The npm client sends none there.
        ("GET", "/peerjs/id", "", 200),
        ("OPTIONS", "/peerjs/peers", "", 204),
        ("GET", "/", "", 200),
    ] {
        let response = request(method, target, headers);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(response.starts_with(&expected), "{target}: {response}");
        let challenge = "\r\nWWW-Authenticate: Bearer\r\n";
        assert_eq!(response.contains(challenge), status == 401, "{response}");
        assert_eq!(
            response.ends_with(r#"["ann"]"#),
            target.contains("peers") && status == 200,
            "{response}"
        );
    }
}

#[test]
fn a_token_holder_takes_an_id_from_a_client_without_a_token_and_never_the_reverse() {
    let daemon = daemon(&json!({"required": false}));
    let mut tokenless = enter(&daemon, "ann", "made-up");
    let ann = enter(&daemon, "ann", &token(&json!({"sub": "ann"})));
    let taken = (4409, "ID is taken".to_owned());
    assert_eq!(tokenless.expect_close(), taken);
    // Its holder keeps it, connected or not.
    let is_refused = || {
        let mut client = connect(&daemon, "id=ann&token=made-up", &[]);
        assert_eq!(client.receive_json()["type"], "ID-TAKEN");
        assert_eq!(client.expect_close(), taken);
    };
    is_refused();
    ann.close();
    is_refused();
    enter(&daemon, "ben", "made-up");
}
