//! Access tokens of FastChat over sockets: how they come, and what the answers are. What they mean is tested on a realm
//! without sockets, in `src/protocols/fastchat/tests/access.rs`.

use crate::common::tokens::{access, seconds_from_now, token};
use crate::common::{Client, Daemon, http};
use crate::fastchat::{ANN, BOB, daemon, enter, hello, next};
use serde_json::json;

/// Returns a HELLO with a token.
fn hello_with(token: &str, name: &str) -> String {
    json!({"type": "HELLO", "data": {"display_name": name, "token": token}}).to_string()
}

/// Asserts that a client is refused for its token, or for having none.
fn assert_refused(mut client: Client) {
    assert_eq!(next(&mut client, "ERROR")["code"], "UNAUTHORIZED");
    assert_eq!(client.expect_close(), (4401, "unauthorized".to_owned()));
}

#[test]
fn where_a_token_is_demanded_only_one_admits_and_only_as_its_subject() {
    let daemon = daemon(access(&json!({})));
    let ann = token(&json!({"sub": ANN}));
    let mut without = Client::connect(daemon.address(), "/ws");
    without.send(hello(ANN, "Ann"));
    assert_refused(without);
    assert_refused(Client::connect(
        daemon.address(),
        "/ws?access_token=made-up",
    ));
    let mut admitted = Client::connect(daemon.address(), "/ws");
    admitted.send(hello_with(&ann, "Ann"));
    assert_eq!(next(&mut admitted, "HELLO_ACK")["user_id"], ANN);
    let mut other = Client::connect(daemon.address(), &format!("/ws?access_token={ann}"));
    other.send(hello_with(&token(&json!({"sub": BOB})), "Bob"));
    assert_refused(other);
    let get = |query: &str| {
        let head = format!("GET /presence/online{query} HTTP/1.1\r\nHost: localhost\r\n");
        http(daemon.address(), &(head + "Connection: close\r\n\r\n"))
    };
    assert!(get("").starts_with("HTTP/1.1 401 Unauthorized\r\n"));
    let list = get(&format!("?access_token={ann}"));
    assert!(list.starts_with("HTTP/1.1 200 OK\r\n") && list.contains(ANN));
}

#[test]
fn a_connection_ends_with_its_token_unless_a_fresh_one_came_before() {
    // Each has a daemon of its own, so that neither is sent the other's PRESENCE.
    let daemons = [(); 2].map(|()| daemon(access(&json!({}))));
    let ends = |end: i64| token(&json!({"sub": ANN, "exp": seconds_from_now(end)}));
    let enter_until = |daemon: &Daemon, end: i64| {
        let mut client = Client::connect(daemon.address(), "/ws");
        client.send(hello_with(&ends(end), "Ann"));
        next(&mut client, "HELLO_ACK");
        next(&mut client, "PRESENCE");
        client
    };
    // A token is valid for a minute more.
    let mut renewed = enter_until(&daemons[0], -50);
    renewed.send(hello_with(&ends(3600), "Ann"));
    next(&mut renewed, "HELLO_ACK");
    let mut client = enter_until(&daemons[1], -47);
    assert_eq!(client.expect_close(), (1008, "token expired".to_owned()));
    renewed.send(r#"{"type":"PING"}"#);
    next(&mut renewed, "PONG");
}

#[test]
fn where_a_token_is_not_demanded_one_protects_its_user() {
    let daemon = daemon(access(&json!({"required": false})));
    let mut without = enter(&daemon, ANN, "Impostor");
    let mut ann = Client::connect(daemon.address(), "/ws");
    ann.send(hello_with(&token(&json!({"sub": ANN})), "Ann"));
    assert_eq!(
        without.expect_close(),
        (4409, "connected again elsewhere".to_owned())
    );
    ann.receive_type("HELLO_ACK");
    let mut again = Client::connect(daemon.address(), "/ws");
    again.send(hello(ANN, "Impostor"));
    assert_refused(again);
}
