//! The rules of PeerJS's document and of the rulings, one test each, on a realm without sockets.
//!
//! The table names the tests of each rule. Tests that need sockets are in `tests/peerjs.rs`, the model is
//! in `model.rs`.
//!
//! | rule | test |
//! | --- | --- |
//! | `GET {path}`: the JSON of the document | `the_root_describes_the_server`, `the_http_api_answers_a_browser` |
//! | `GET {path}/{key}/id`: a UUID, not one in use | `a_new_id_is_a_uuid_that_is_not_in_use` |
//! | `GET {path}/{key}/peers`: 401 unless discovery is on | `peers_are_listed_only_with_allow_discovery` |
//! | wrong key: 404; configurable path | `requests_are_answered_below_the_configured_path_and_key` |
//! | options out of range | `options_out_of_range_are_named` |
//! | the WebSocket is at `{path}/peerjs` | `the_websocket_is_below_the_configured_path` |
//! | the same over sockets, media types, HEAD, preflight 204 | `the_http_api_answers_a_browser` |
//! | keep-alive and pipelined requests | `pipelined_requests_are_answered_in_order`, `a_request_body_closes_the_connection_and_is_not_read_as_a_request`, `nothing_is_read_after_a_request_that_closes_the_connection` |
//! | CORS headers on every answer, for the origins that may connect | `every_response_has_cors_headers`, `a_page_of_another_origin_gets_no_cors_headers` |
//! | limits as for every listener | `a_connection_of_a_proxy_carries_requests_of_many_clients`, `slow_readers_of_lists_hold_no_more_than_a_few`, `a_list_larger_than_the_socket_buffer_is_sent_whole` |
//! | OPEN after connecting | `a_client_receives_open_when_it_connects` |
//! | missing id, token or key | `a_client_without_id_token_or_key_is_rejected` |
//! | wrong key | `a_client_with_a_wrong_key_is_rejected` |
//! | ids and tokens have at most 256 bytes, `+` is a space | `ids_and_tokens_have_at_most_256_bytes` |
//! | concurrent limit | `clients_above_the_concurrent_limit_are_rejected`, `a_client_above_max_connections_gets_the_error_of_the_concurrent_limit` |
//! | same id, other token: ID-TAKEN, then Close | `an_id_with_another_token_is_taken` |
//! | tokens are compared in constant time | not tested; the crate "subtle" does it |
//! | same id, same token: takeover | `a_client_with_the_same_token_takes_the_id_over` |
//! | OFFER, ANSWER, CANDIDATE, LEAVE, EXPIRE are relayed with the sender's id as `src` | `messages_are_relayed_under_the_senders_id` |
//! | the payload's JSON is unchanged | `a_payload_is_relayed_unchanged` |
//! | unknown types and malformed JSON are ignored, the latter is logged | `unknown_and_malformed_messages_are_ignored`, `a_message_that_cannot_be_decoded_is_logged` |
//! | a binary message is read as text | `a_binary_message_is_read_as_text` |
//! | HEARTBEAT is not answered | `a_heartbeat_is_not_answered` |
//! | messages for an absent client are stored, LEAVE and EXPIRE dropped | `messages_for_an_absent_client_are_delivered_in_order` |
//! | OPEN, then the stored messages, all of them | `messages_for_an_absent_client_are_delivered_in_order`, `a_client_receives_all_messages_stored_for_it` |
//! | each message expires by its own age; one EXPIRE for a pair | `a_stored_message_expires_and_its_source_gets_one_expire` |
//! | when the source disconnects, its stored messages are dropped; a takeover drops none | `stored_messages_are_dropped_when_their_source_disconnects`, `the_mailbox_is_empty_after_delivery_and_expiry` |
//! | stored messages are bounded; one above a limit expires at once | `a_message_above_a_storage_limit_expires_at_once` |
//! | a full outbox closes neither its client nor the sender | `a_message_to_a_full_outbox_expires_at_once` |
//! | LEAVE without `dst` ends the record, 1000 | `leave_without_a_destination_ends_the_connection` |
//! | no message for `alive_timeout`: 4408 | `a_client_without_messages_for_a_minute_is_closed` |
//! | time in which the server does not read a client is no silence of it | `a_client_that_the_server_does_not_read_is_not_silent` |
//! | a closed connection's record is removed at once | `the_record_of_a_closed_connection_is_removed_at_once` |

use crate::protocols::peerjs::mailbox::MESSAGE_OVERHEAD;
use crate::protocols::peerjs::*;
use crate::realm::Body;
use crate::testing::harness::{RealmHarness, no_lines};
use crate::toolkit::in_flight::MAX_IN_FLIGHT_BYTES;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const OPEN: &str = r#"{"type":"OPEN"}"#;

fn harness() -> RealmHarness<PeerJs> {
    RealmHarness::new(json!({}))
}

fn target(id: &str, token: &str) -> String {
    format!("/peerjs?key=peerjs&id={id}&token={token}&version=1.5.4")
}

/// Returns a realm with these clients connected as 1, 2 and so on. The token of each is its id.
fn with(ids: &[&str]) -> RealmHarness<PeerJs> {
    let mut harness = harness();
    for (conn, id) in (1..).zip(ids) {
        assert_eq!(
            harness.open(conn, &target(id, id)),
            [format!("{conn} < {OPEN}")]
        );
    }
    harness
}

fn offer(dst: &str, payload: &str) -> String {
    format!(r#"{{"type":"OFFER","payload":{payload},"dst":"{dst}"}}"#)
}

/// Returns the line of an EXPIRE to a connection.
fn expired(conn: u64, src: &str, dst: &str) -> String {
    format!(r#"{conn} < {{"type":"EXPIRE","src":"{src}","dst":"{dst}"}}"#)
}

fn status(reply: &HttpReply) -> u16 {
    match reply {
        HttpReply::Ok { .. } => 200,
        HttpReply::UpgradeRequired { .. } => 426,
        HttpReply::Rejected(rejection) => rejection.status,
    }
}

fn body(reply: HttpReply) -> String {
    match reply {
        HttpReply::Ok { body, .. } => body.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_root_describes_the_server() {
    let mut harness = harness();
    let info: Value = serde_json::from_str(&body(harness.get("/"))).unwrap();
    let expected = json!({
        "name": "PeerJS Server",
        "description": "A server side element to broker connections between PeerJS clients.",
        "website": "https://peerjs.com/",
    });
    assert_eq!(info, expected);
}

#[test]
fn a_new_id_is_a_uuid_that_is_not_in_use() {
    let mut harness = harness();
    let first = body(harness.get("/peerjs/id"));
    assert!(uuid::Uuid::try_parse(&first).is_ok() && first.contains('-'));
    harness.open(1, &target(&first, "t"));
    harness.repeat_last_id();
    assert_ne!(body(harness.get("/peerjs/id")), first);
}

#[test]
fn peers_are_listed_only_with_allow_discovery() {
    let mut harness = with(&["b", "a"]);
    assert_eq!(status(&harness.get("/peerjs/peers")), 401);
    let mut harness = RealmHarness::<PeerJs>::new(json!({"allow_discovery": true}));
    assert_eq!(body(harness.get("/peerjs/peers")), "[]");
    harness.open(1, &target("b", "t"));
    harness.open(2, &target("%22a", "t"));
    assert_eq!(body(harness.get("/peerjs/peers")), r#"["\"a","b"]"#);
    // The list is cached: each change of the clients must invalidate it.
    harness.open(3, &target("c", "t"));
    assert_eq!(body(harness.get("/peerjs/peers")), r#"["\"a","b","c"]"#);
    harness.disconnect(1, DisconnectReason::Lost);
    assert_eq!(body(harness.get("/peerjs/peers")), r#"["\"a","c"]"#);
    harness.send(3, r#"{"type":"LEAVE"}"#);
    assert_eq!(body(harness.get("/peerjs/peers")), r#"["\"a"]"#);
}

#[test]
fn slow_readers_of_lists_hold_no_more_than_a_few() {
    let mut harness =
        RealmHarness::<PeerJs>::new(json!({"allow_discovery": true, "concurrent_limit": 0}));
    let mut list = |conn: u64| {
        harness.open(conn, &target(&format!("{conn:0>256}"), "t"));
        match harness.get("/peerjs/peers") {
            HttpReply::Ok { body, .. } => body,
            other => panic!("{other:?}"),
        }
    };
    let size = |held: &[Body]| held.iter().map(Body::len).sum::<usize>();
    let mut held = Vec::new();
    while size(&held) < MAX_IN_FLIGHT_BYTES {
        held.push(list(held.len() as u64 + 1));
    }
    assert!(
        list(5001) == *held.last().unwrap(),
        "an older list is sent while too many are in flight"
    );
    // One reader is left, and one that holds the second newest list.
    held.truncate(1);
    assert!(list(5002).to_string().contains("5002"));
    assert!(list(5003).to_string().contains("5003"));
}

#[test]
fn requests_are_answered_below_the_configured_path_and_key() {
    let mut harness = harness();
    for (path, expected) in [
        ("/", 200),
        ("/peerjs/id", 200),
        ("/other/id", 404),
        ("/peerjs", 426),
        ("/id", 404),
        ("/peerjs/id/", 200),
        ("/peerjs/id//", 404),
        ("/peerjs/", 404),
        ("//peerjs/id", 404),
        ("/peerjsx/id", 404),
        ("/peer%6as/%69d", 200),
        ("/%FF/id", 404),
        ("", 200),
    ] {
        assert_eq!(status(&harness.get(path)), expected, "{path}");
    }
    for configured in ["/my/app", "/my/app/"] {
        let options = json!({"path": configured, "key": "k", "allow_discovery": true});
        let mut harness = RealmHarness::<PeerJs>::new(options);
        for (path, expected) in [
            ("/my/app", 200),
            ("/my/app/", 200),
            ("/my/app/k/id", 200),
            ("/my/app/k/peers", 200),
            ("/my/app/peerjs", 426),
            ("/my/app/peerjs/id", 404),
            ("/my/apple", 404),
            ("/", 404),
            ("/k/id", 404),
        ] {
            assert_eq!(status(&harness.get(path)), expected, "{configured} {path}");
        }
    }
    // Browsers percent-encode characters that are reserved or not ASCII.
    for configured in ["/ü b", "/%C3%BC%20b"] {
        let mut harness = RealmHarness::<PeerJs>::new(json!({"path": configured, "key": "k/ß"}));
        let path = "/%C3%BC%20b/k/%C3%9F/id";
        assert_eq!(status(&harness.get(path)), 200, "{configured}");
    }
}

#[test]
fn the_websocket_is_below_the_configured_path() {
    let mut harness = RealmHarness::<PeerJs>::new(json!({"path": "/my", "key": "k"}));
    let query = "?key=k&id=a&token=t";
    let lines = harness.open(1, &format!("/my/peerjs{query}"));
    assert_eq!(lines, [format!("1 < {OPEN}")]);
    for path in ["/peerjs", "/my", "/my/k", "/my/peerjs/"] {
        let rejection = harness.try_open(2, &format!("{path}{query}"), "127.0.0.1");
        assert_eq!(rejection.unwrap_err().status, 404, "{path}");
    }
    assert_eq!(PeerJs::DEFAULTS.port, 9000);
    for path in ["/my", "/my/"] {
        let options = json!({"path": path, "key": "k"});
        let target = "/my/peerjs?key=k&id=ID&token=TOKEN".to_owned();
        assert_eq!(
            RealmHarness::<PeerJs>::new(options).get("/my/peerjs"),
            HttpReply::UpgradeRequired { target }
        );
    }
}

#[test]
fn a_client_receives_open_when_it_connects() {
    let mut harness = harness();
    assert_eq!(harness.open(1, &target("a", "t")), [format!("1 < {OPEN}")]);
}

/// Asserts that connection 1 got this error and was closed.
fn assert_rejected(lines: &[String], text: &str, close: &str) {
    let error = format!(r#"1 < {{"type":"ERROR","payload":{{"msg":"{text}"}}}}"#);
    assert_eq!(lines, [error, format!("1 x {close}")]);
}

#[test]
fn a_client_without_id_token_or_key_is_rejected() {
    for query in [
        "",
        "?key=peerjs&id=a",
        "?key=peerjs&token=t",
        "?id=a&token=t",
        "?key=peerjs&id=&token=t",
    ] {
        let lines = harness().open(1, &format!("/peerjs{query}"));
        let text = "No id, token, or key supplied to websocket server";
        assert_rejected(&lines, text, "4400 bad parameters");
    }
}

#[test]
fn a_client_with_a_wrong_key_is_rejected() {
    let lines = harness().open(1, "/peerjs?key=other&id=a&token=t");
    assert_rejected(&lines, "Invalid key provided", "4403 wrong key");
}

#[test]
fn ids_and_tokens_have_at_most_256_bytes() {
    let mut harness = with(&["a+b%20c", &"x".repeat(256)]);
    assert_eq!(harness.send(2, &offer("a b c", "1")).len(), 1);
    let (longest, too_long) = ("x".repeat(256), "x".repeat(257));
    assert_eq!(self::harness().open(1, &target("a", &longest)).len(), 1);
    for (id, token) in [(too_long.as_str(), "t"), ("a", &too_long)] {
        let lines = self::harness().open(1, &target(id, token));
        let text = "Id or token is longer than 256 bytes";
        assert_rejected(&lines, text, "4400 bad parameters");
    }
    // The longest id is found when all of it is escaped.
    let mut harness = with(&["a", &longest]);
    let escaped = r"\u0078".repeat(256);
    assert_eq!(harness.send(1, &offer(&escaped, "1")).len(), 1);
    assert_eq!(
        harness.send(1, &offer(&format!("{escaped}x"), "1")),
        no_lines()
    );
}

#[test]
fn clients_above_the_concurrent_limit_are_rejected() {
    let mut harness = RealmHarness::<PeerJs>::new(json!({"concurrent_limit": 1}));
    harness.open(2, &target("b", "t"));
    let lines = harness.open(1, &target("a", "t"));
    let text = "Server has reached its concurrent user limit";
    assert_rejected(&lines, text, "4429 too many connections");
    assert_eq!(
        lines[0],
        format!("1 < {FULL_ERROR}"),
        "the same message as at max_connections"
    );
    assert_eq!(
        harness.open(3, &target("b", "t")).len(),
        2,
        "a takeover adds no client"
    );
    let mut unlimited = RealmHarness::<PeerJs>::new(json!({"concurrent_limit": 0}));
    assert_eq!(unlimited.open(1, &target("a", "t")).len(), 1);
}

#[test]
fn an_id_with_another_token_is_taken() {
    let mut harness = with(&["a"]);
    for (conn, token) in [(2, "b"), (3, "aa"), (4, "A")] {
        let lines = harness.open(conn, &target("a", token));
        let taken = r#"{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}"#;
        assert_eq!(
            lines,
            [
                format!("{conn} < {taken}"),
                format!("{conn} x 4409 ID is taken")
            ]
        );
    }
    assert_eq!(
        harness.send(1, &offer("a", "1")).len(),
        1,
        "the first client still has its id"
    );
}

#[test]
fn a_client_with_the_same_token_takes_the_id_over() {
    let mut harness = with(&["a", "b"]);
    let lines = harness.open(3, &target("a", "a"));
    assert_eq!(
        lines,
        [
            "1 x 4409 connected again elsewhere".to_owned(),
            format!("3 < {OPEN}")
        ]
    );
    let lines = harness.send(2, &offer("a", "1"));
    assert!(
        lines[0].starts_with("3 < "),
        "the end of the old connection does not remove the id"
    );
    assert!(harness.send(3, &offer("b", "1"))[0].starts_with("2 < "));
}

#[test]
fn messages_are_relayed_under_the_senders_id() {
    let mut harness = with(&["a", "b"]);
    for kind in ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"] {
        let text = format!(r#"{{"type":"{kind}","src":"forged","dst":"b","payload":{{"x":1}}}}"#);
        let relayed = format!(r#"2 < {{"type":"{kind}","src":"a","dst":"b","payload":{{"x":1}}}}"#);
        assert_eq!(harness.send(1, &text), [relayed]);
    }
    let lines = harness.send(1, r#"{"type":"LEAVE","dst":"b"}"#);
    assert_eq!(lines, [r#"2 < {"type":"LEAVE","src":"a","dst":"b"}"#]);
}

#[test]
fn a_payload_is_relayed_unchanged() {
    let mut harness = with(&["a", "b"]);
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    for payload in [
        r#"{"b":1,"a":2, "n":1.0e+400,"t":"\u00e9\/"}"#,
        r#"{"same":1,"same":2}"#,
        "[ 12345678901234567890 ]",
        "\"\\ud800\"",
        "null",
        &large,
    ] {
        let lines = harness.send(1, &offer("b", payload));
        let expected = format!(r#"{{"type":"OFFER","src":"a","dst":"b","payload":{payload}}}"#);
        assert!(lines == [format!("2 < {expected}")], "{payload:.80?}");
    }
}

#[test]
fn a_message_to_a_full_outbox_expires_at_once() {
    let mut harness = with(&["a", "b"]);
    harness.fill_outbox(2);
    for kind in ["OFFER", "ANSWER", "CANDIDATE"] {
        let text = format!(r#"{{"type":"{kind}","dst":"b"}}"#);
        assert_eq!(harness.send(1, &text), [expired(1, "b", "a")]);
    }
    for kind in ["LEAVE", "EXPIRE"] {
        let text = format!(r#"{{"type":"{kind}","dst":"b"}}"#);
        assert_eq!(harness.send(1, &text), no_lines());
    }
    assert_eq!(
        harness.open_connections().count(),
        2,
        "neither client is closed"
    );
}

#[test]
fn unknown_and_malformed_messages_are_ignored() {
    let mut harness = with(&["a", "b"]);
    for text in [
        "",
        "nonsense",
        "[]",
        "{}",
        r#"{"type":7,"dst":"b"}"#,
        r#"{"type":{"OFFER":null},"dst":"b"}"#,
        r#"{"type":"OPEN","dst":"b"}"#,
        r#"{"type":"offer","dst":"b"}"#,
        r#"{"type":"OFFER"}"#,
        r#"{"type":"OFFER","dst":""}"#,
        r#"{"type":"OFFER","dst":7}"#,
        r#"{"type":"OFFER","dst":"\ud800"}"#,
        r#"{"type":"LEAVE","dst":7}"#,
        r#"{"type":"LEAVE","dst":"\ud800"}"#,
        r#"{"type":"LEAVE","type":"LEAVE"}"#,
    ] {
        assert_eq!(harness.send(1, text), no_lines(), "{text}");
    }
}

#[test]
fn a_binary_message_is_read_as_text() {
    let mut harness = with(&["a", "b"]);
    let binary = |bytes: &[u8]| Message::Binary(bytes.to_vec().into());
    assert_eq!(
        harness
            .send_message(1, binary(offer("b", "1").as_bytes()))
            .len(),
        1
    );
    assert_eq!(harness.send_message(1, binary(b"\xff\xfe")), no_lines());
}

#[test]
fn a_heartbeat_is_not_answered() {
    let mut harness = with(&["a"]);
    assert_eq!(harness.send(1, r#"{"type":"HEARTBEAT"}"#), no_lines());
}

#[test]
fn messages_for_an_absent_client_are_delivered_in_order() {
    let mut harness = with(&["a", "b"]);
    for (conn, kind, payload) in [
        (1, "OFFER", 1),
        (2, "OFFER", 2),
        (1, "CANDIDATE", 3),
        (1, "LEAVE", 4),
        (1, "EXPIRE", 5),
        (2, "ANSWER", 6),
    ] {
        let text = format!(r#"{{"type":"{kind}","dst":"c","payload":{payload}}}"#);
        assert_eq!(harness.send(conn, &text), no_lines());
    }
    let lines = harness.open(3, &target("c", "t"));
    let payloads: Vec<Value> = lines[1..]
        .iter()
        .map(|line| serde_json::from_str::<Value>(&line[4..]).unwrap()["payload"].clone())
        .collect();
    assert_eq!(lines[0], format!("3 < {OPEN}"));
    assert_eq!(payloads, [1, 2, 3, 6]);
    assert_eq!(
        harness.advance(10 * SECOND),
        no_lines(),
        "delivered messages do not expire"
    );
}

#[test]
fn a_stored_message_expires_and_its_source_gets_one_expire() {
    let mut harness = with(&["a", "b"]);
    harness.send(1, &offer("c", "1"));
    harness.send(1, &offer("c", "2"));
    harness.send(1, &offer("d", "3"));
    harness.advance(2 * SECOND);
    harness.send(2, &offer("c", "4"));
    harness.send(1, &offer("c", "5"));
    assert_eq!(harness.advance(Duration::from_millis(2999)), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, [expired(1, "c", "a"), expired(1, "d", "a")]);
    let lines = harness.open(3, &target("c", "t"));
    assert_eq!(
        lines.len(),
        3,
        "the messages stored later are delivered: {lines:?}"
    );
    assert_eq!(harness.advance(10 * SECOND), no_lines());
}

#[test]
fn stored_messages_are_dropped_when_their_source_disconnects() {
    let mut harness = with(&["a", "b"]);
    harness.send(1, &offer("c", "1"));
    harness.send(2, &offer("c", "2"));
    harness.open(3, &target("b", "b"));
    harness.disconnect(1, DisconnectReason::Lost);
    let lines = harness.open(4, &target("c", "t"));
    assert_eq!(
        lines.len(),
        2,
        "the message of b, whose id was taken over: {lines:?}"
    );
    assert!(lines[1].contains(r#""payload":2"#));
}

#[test]
fn a_message_above_a_storage_limit_expires_at_once() {
    let with_limit = |key: &str, limit: usize| {
        let mut harness = RealmHarness::<PeerJs>::new(json!({key: limit}));
        harness.open(1, &target("a", "t"));
        harness.open(2, &target("b", "t"));
        harness
    };
    let mut harness = with_limit("stored_per_destination", 2);
    assert_eq!(harness.send(1, &offer("c", "1")), no_lines());
    assert_eq!(harness.send(2, &offer("c", "1")), no_lines());
    assert_eq!(harness.send(1, &offer("c", "1")), [expired(1, "c", "a")]);
    assert_eq!(harness.send(1, &offer("d", "1")), no_lines());
    let mut harness = with_limit("stored_per_source", 2);
    assert_eq!(harness.send(1, &offer("c", "1")), no_lines());
    assert_eq!(harness.send(1, &offer("d", "1")), no_lines());
    assert_eq!(harness.send(1, &offer("e", "1")), [expired(1, "e", "a")]);
    assert_eq!(harness.send(2, &offer("e", "1")), no_lines());
    let large = format!("\"{}\"", "x".repeat(1000));
    let mut harness = with_limit("stored_source_size", 3000);
    assert_eq!(harness.send(1, &offer("c", &large)), no_lines());
    assert_eq!(harness.send(1, &offer("d", &large)), [expired(1, "d", "a")]);
    assert_eq!(harness.send(2, &offer("c", &large)), no_lines());
    let mut harness = with_limit("stored_size", 3000);
    assert_eq!(harness.send(1, &offer("c", &large)), no_lines());
    assert_eq!(harness.send(2, &offer("d", &large)), [expired(2, "d", "b")]);
    // Delivery frees the space.
    harness.open(3, &target("c", "t"));
    assert_eq!(harness.send(2, &offer("d", &large)), no_lines());
    // Ids count, too.
    let mut harness = with_limit("stored_size", MESSAGE_OVERHEAD + 700);
    let long = "x".repeat(256);
    assert_eq!(
        harness.send(1, &offer(&long, "1")),
        [expired(1, &long, "a")]
    );
    assert_eq!(harness.send(1, &offer("c", "1")), no_lines());
    // 0 is no limit.
    let mut harness = RealmHarness::<PeerJs>::new(json!({
        "stored_per_destination": 0, "stored_per_source": 0, "stored_source_size": 0, "stored_size": 0,
    }));
    harness.open(1, &target("a", "t"));
    for _ in 0..6000 {
        assert_eq!(harness.send(1, &offer("c", &large)), no_lines());
    }
    // No client can have an id above the limit, so nothing is stored for it.
    let impossible = "x".repeat(257);
    let mut harness = with(&["a"]);
    assert_eq!(
        harness.send(1, &offer(&impossible, "1")),
        [expired(1, &impossible, "a")]
    );
}

#[test]
fn the_mailbox_is_empty_after_delivery_and_expiry() {
    let mut harness = with(&["a"]);
    harness.send(1, &offer("stays", "1"));
    for number in 0..100 {
        harness.send(1, &offer(&format!("d{number}"), "1"));
        harness.open(2, &target(&format!("d{number}"), "t"));
        harness.disconnect(2, DisconnectReason::Lost);
    }
    assert_eq!(harness.realm.mailbox.destination_count("a"), 1);
    harness.advance(5 * SECOND);
    assert!(harness.realm.mailbox.is_empty());
}

#[test]
fn leave_without_a_destination_ends_the_connection() {
    for dst in ["", r#","dst":null"#, r#","dst":"""#] {
        let mut harness = with(&["a"]);
        harness.send(1, &offer("c", "1"));
        let leave = format!(r#"{{"type":"LEAVE"{dst}}}"#);
        assert_eq!(harness.send(1, &leave), ["1 x 1000 goodbye"]);
        assert!(harness.realm.is_empty());
    }
}

#[test]
fn a_client_without_messages_for_a_minute_is_closed() {
    let mut harness = with(&["a", "b", "c"]);
    harness.advance(30 * SECOND);
    harness.send(2, r#"{"type":"UNKNOWN"}"#);
    harness.send(3, r#"{"type":"OFFER","dst":"a"}"#);
    assert_eq!(harness.advance(Duration::from_millis(29_999)), no_lines());
    assert_eq!(
        harness.advance(Duration::from_millis(1)),
        ["1 x 4408 timed out"]
    );
    assert_eq!(
        harness.open(4, &target("a", "other")).len(),
        1,
        "the id is available again"
    );
    assert_eq!(
        harness.advance(30 * SECOND),
        ["2 x 4408 timed out", "3 x 4408 timed out"]
    );
    for message in [r#"{"type":"HEARTBEAT"}"#, r#"{"type":"LEAVE","dst":"b"}"#] {
        let mut harness = with(&["a"]);
        harness.advance(59 * SECOND);
        harness.send(1, message);
        assert_eq!(harness.advance(59 * SECOND), no_lines(), "{message}");
    }
    let mut taken_over = with(&["a"]);
    taken_over.advance(59 * SECOND);
    taken_over.open(2, &target("a", "a"));
    assert_eq!(
        taken_over.advance(59 * SECOND),
        no_lines(),
        "the time-out counts from OPEN"
    );
    let mut unlimited = RealmHarness::<PeerJs>::new(json!({"alive_timeout": 0}));
    unlimited.open(1, &target("a", "t"));
    assert_eq!(unlimited.advance(100_000 * SECOND), no_lines());
}

#[test]
fn a_client_that_the_server_does_not_read_is_not_silent() {
    let mut harness = RealmHarness::<PeerJs>::new(json!({"alive_timeout": 60}));
    harness.open(1, &target("a", "t"));
    assert_eq!(harness.advance_unread(1, 60 * SECOND), no_lines());
    assert_eq!(harness.advance(59 * SECOND), no_lines());
    assert_eq!(harness.advance(SECOND), ["1 x 4408 timed out"]);
}

#[test]
fn the_record_of_a_closed_connection_is_removed_at_once() {
    for how in [
        DisconnectReason::Lost,
        DisconnectReason::ClosedByClient(Some(1000)),
        DisconnectReason::Unresponsive,
    ] {
        let mut harness = with(&["a"]);
        harness.send(1, &offer("b", "1"));
        harness.disconnect(1, how);
        assert!(harness.realm.is_empty());
        assert_eq!(harness.open(2, &target("a", "other")).len(), 1);
    }
}

#[test]
fn options_out_of_range_are_named() {
    for (key, wrong) in [
        ("path", json!("myapp")),
        ("path", json!("/my?app")),
        ("key", json!("")),
        ("expire_timeout", json!(0)),
    ] {
        let mut options = serde_json::to_value(Options::default()).unwrap();
        options[key] = wrong;
        let problem = PeerJs::new(serde_json::from_value(options).unwrap()).err();
        assert_eq!(problem.unwrap().0, key);
    }
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("../../../../tests/peerjs.rs"),
    ]);
}
