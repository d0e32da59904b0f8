//! Access tokens of Workspace over sockets: how they come, and what the answers are. What they mean is tested on a realm
//! without sockets, in `src/protocols/workspace/tests/access.rs`.

use crate::common::tokens::{access, seconds_from_now, token, wrong_tokens};
use crate::common::{Client, Daemon};
use crate::workspace::{enter, skip_counts};
use serde_json::json;

/// Returns the token of a user.
fn token_of(name: &str) -> String {
    token(&json!({"sub": name}))
}

/// Starts a room that reads tokens, and demands them or not.
fn with_access(is_required: bool) -> Daemon {
    Daemon::start_protocol("workspace", access(&json!({"required": is_required})))
}

fn send_auth(client: &mut Client, token: &str) {
    client.send(json!({"type": "auth", "token": token}).to_string());
}

/// Asserts that a client is refused.
#[track_caller]
fn assert_refused(client: &mut Client) {
    let error = client.receive_json();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("error"), &json!("UNAUTHORIZED"))
    );
    assert_eq!(client.expect_close(), (4401, "unauthorized".to_owned()));
}

#[test]
fn where_tokens_are_demanded_a_client_comes_in_with_one_as_the_user_in_it() {
    let daemon = with_access(true);
    let target = format!("/ws?username=eve&access_token={}", token_of("ann"));
    let mut ann = Client::connect(daemon.address(), &target);
    assert_eq!(ann.receive_json()["username"], "ann");
    let bearer = format!("Bearer {}", token_of("bob"));
    let headers = [("authorization", &*bearer)];
    let mut bob = Client::try_connect(daemon.address(), "/ws", &headers).unwrap();
    assert_eq!(bob.receive_json()["username"], "bob");
    let mut carol = Client::connect(daemon.address(), "/ws");
    assert_eq!(carol.receive_json()["connectedUsers"], 0);
    ann.send(r#"{"type":"message:send","text":"Only for us"}"#);
    while bob.receive_json()["data"]["text"] != "Only for us" {}
    carol.send(r#"{"type":"message","text":"let me in"}"#);
    assert_eq!(carol.receive_json()["code"], "UNAUTHORIZED");
    send_auth(&mut carol, &token_of("carol"));
    let ack = json!({"type": "auth:ack", "ok": true});
    assert_eq!(carol.receive_json(), ack);
    let count = json!({"type": "userCount", "count": 3, "users": ["ann", "bob", "carol"]});
    assert_eq!(carol.receive_json(), count);
    carol.send(r#"{"type":"message","text":"Hi"}"#);
    assert_eq!(skip_counts(&mut carol)["data"]["username"], "carol");
    // Nobody becomes another by a token of another.
    send_auth(&mut carol, &token_of("ann"));
    assert_refused(&mut carol);
}

#[test]
fn where_tokens_are_demanded_a_client_with_another_or_two_is_refused() {
    let daemon = with_access(true);
    let mut refused = wrong_tokens(&json!({"sub": "ann"}));
    refused.push(("nonsense".to_owned(), ""));
    for (token, _) in &refused {
        let target = format!("/ws?access_token={token}");
        assert_refused(&mut Client::connect(daemon.address(), &target));
        let mut client = Client::connect(daemon.address(), "/ws");
        assert_eq!(client.receive_json()["type"], "connected");
        send_auth(&mut client, token);
        assert_refused(&mut client);
    }
    let bearer = format!("Bearer {}", token_of("ann"));
    let target = format!("/ws?access_token={}", token_of("bob"));
    let headers = [("authorization", &*bearer)];
    assert_refused(&mut Client::try_connect(daemon.address(), &target, &headers).unwrap());
}

#[test]
fn a_connection_ends_with_its_token() {
    let daemon = with_access(true);
    // The leeway of a minute is over soon.
    let soon = json!({"sub": "ann", "exp": seconds_from_now(-50)});
    let target = format!("/ws?access_token={}", token(&soon));
    let mut client = Client::connect(daemon.address(), &target);
    assert_eq!(client.receive_json()["type"], "connected");
    assert_eq!(client.expect_close(), (1008, "token expired".to_owned()));
}

#[test]
fn where_tokens_are_read_a_holder_takes_its_name_from_those_without() {
    let daemon = with_access(false);
    let mut claimant = enter(&daemon, "ann");
    let target = format!("/ws?access_token={}", token_of("ann"));
    let mut ann = Client::connect(daemon.address(), &target);
    assert_eq!(ann.receive_json()["username"], "ann");
    let replaced = (4409, "connected again elsewhere".to_owned());
    assert_eq!(claimant.expect_close(), replaced);
    let mut claimant = Client::connect(daemon.address(), "/ws?username=ANN");
    assert_refused(&mut claimant);
    enter(&daemon, "bob");
}
