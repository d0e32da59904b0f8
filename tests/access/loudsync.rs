//! Access tokens of LOUDSYNC over sockets: how they come, and what the answers are. What they mean is tested on a realm
//! without sockets, in `src/protocols/loudsync/tests/access.rs`.

use crate::common::Client;
use crate::common::tokens::{access, seconds_from_now, token};
use crate::loudsync::{daemon, enter, join, next};
use serde_json::{Value, json};

/// Returns a `join` for the session `party` with a token.
fn join_with(token: &str, kind: &str) -> String {
    let info = json!({"name": "Phone", "type": kind});
    json!({"type": "join", "timestamp": 1, "sessionId": "party", "deviceInfo": info, "token": token})
        .to_string()
}

/// Asserts that a client is refused for its token, or for having none.
fn assert_refused(mut client: Client) {
    assert_eq!(next(&mut client, "error")["code"], "unauthorized");
    assert_eq!(client.expect_close(), (4401, "unauthorized".to_owned()));
}

#[test]
fn where_a_token_is_demanded_only_one_admits_and_only_as_its_subject() {
    let daemon = daemon(access(&json!({})));
    let mac = token(&json!({"sub": "mac"}));
    let mut without = Client::connect(daemon.address(), "/");
    without.send(join("mac", "host"));
    assert_refused(without);
    assert_refused(Client::connect(daemon.address(), "/?access_token=made-up"));
    let mut host = Client::connect(daemon.address(), "/");
    host.send(join_with(&mac, "host"));
    next(&mut host, "welcome");
    let mut other = Client::connect(daemon.address(), &format!("/?access_token={mac}"));
    other.send(join("phone", "client"));
    assert_refused(other);
    let mut no_host = Client::connect(daemon.address(), "/");
    let claims = json!({"sub": "pad", "roles": ["guest"]});
    no_host.send(join_with(&token(&claims), "host"));
    assert_refused(no_host);
}

#[test]
fn a_connection_ends_with_its_token_unless_a_fresh_one_came_before_and_keeps_its_place() {
    let daemon = daemon(access(&json!({})));
    let ends = |id: &str, end: i64| token(&json!({"sub": id, "exp": seconds_from_now(end)}));
    // A token is valid for a minute more.
    let enter_until = |id: &str, kind: &str, end: i64| {
        let mut client = Client::connect(daemon.address(), "/");
        client.send(join_with(&ends(id, end), kind));
        next(&mut client, "welcome");
        next(&mut client, "member_list");
        client
    };
    let mut host = enter_until("mac", "host", -50);
    host.send(join_with(&ends("mac", 3600), "host"));
    next(&mut host, "welcome");
    let mut phone = enter_until("phone", "client", -47);
    assert_eq!(phone.expect_close(), (1008, "token expired".to_owned()));
    let list = host.receive_until(|text| {
        let message: Value = serde_json::from_str(text).unwrap();
        (message["members"][1]["connectionStatus"] == "reconnecting").then_some(message)
    });
    let place = &list["members"][1]["id"];
    let mut phone = Client::connect(daemon.address(), "/");
    phone.send(join_with(&ends("phone", 3600), "client"));
    assert_eq!(next(&mut phone, "welcome")["clientId"], *place);
}

#[test]
fn where_a_token_is_not_demanded_one_protects_its_device() {
    let daemon = daemon(access(&json!({"required": false})));
    let mut without = enter(&daemon, "mac", "host");
    let mut host = Client::connect(daemon.address(), "/");
    host.send(join_with(&token(&json!({"sub": "mac"})), "host"));
    assert_eq!(
        without.expect_close(),
        (4409, "connected again elsewhere".to_owned())
    );
    next(&mut host, "welcome");
    let mut again = Client::connect(daemon.address(), "/");
    again.send(join("mac", "host"));
    assert_refused(again);
}
