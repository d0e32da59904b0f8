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
//! | ids have at most 256 bytes, tokens 2,048, `+` is a space | `ids_have_at_most_256_bytes_and_tokens_2048` |
//! | concurrent limit | `clients_above_the_concurrent_limit_are_rejected`, `a_client_above_max_connections_gets_the_error_of_the_concurrent_limit` |
//! | same id, other token: ID-TAKEN, then Close | `an_id_with_another_token_is_taken` |
//! | ... and the holder has been silent for 40 s: it is probed (5 s) | `an_id_of_a_client_silent_for_40_seconds_is_decided_by_a_probe` |
//! | ... it is silent: the newcomer gets the id, and nothing of what was meant for the old holder | `a_silent_client_loses_its_id_and_what_it_has_stored`, `a_client_that_answers_no_ping_loses_its_id_to_another_token`, `messages_for_a_silent_client_do_not_reach_its_successor` |
//! | tokens are compared in constant time | not tested; the crate "subtle" does it |
//! | same id, same token: takeover | `a_client_with_the_same_token_takes_the_id_over` |
//! | more than 3 takeovers within 10 s: the holder is probed (5 s) | `the_fourth_takeover_within_10_seconds_waits_for_a_probe`, `the_fourth_takeover_in_a_row_gets_id_taken_if_the_holder_is_alive` |
//! | ... it answers: ID-TAKEN after 2 s, doubling to 30 s for each further one within a minute | `id_taken_is_delayed_for_2_seconds_and_twice_as_long_each_time`, `a_contest_is_over_after_a_minute` |
//! | ... it does not: takeover | `a_fourth_takeover_succeeds_if_the_holder_is_silent` |
//! | an id that becomes free goes to who waits for it | `a_client_that_waits_for_an_id_gets_it_when_the_holder_disconnects`, `clients_that_wait_may_disconnect` |
//! | OFFER, ANSWER, CANDIDATE, LEAVE, EXPIRE are relayed with the sender's id as `src` | `messages_are_relayed_under_the_senders_id` |
//! | the payload's JSON is unchanged | `a_payload_is_relayed_unchanged` |
//! | unknown types and malformed JSON are ignored, the latter is logged | `unknown_and_malformed_messages_are_ignored`, `a_message_that_cannot_be_decoded_is_logged` |
//! | a binary message is read as text | `a_binary_message_is_read_as_text` |
//! | HEARTBEAT is not answered | `a_heartbeat_is_not_answered` |
//! | messages for an absent client are stored, LEAVE and EXPIRE dropped | `messages_for_an_absent_client_are_delivered_in_order` |
//! | OPEN, then the stored messages, all of them | `messages_for_an_absent_client_are_delivered_in_order`, `a_client_receives_all_messages_stored_for_it` |
//! | a stored message lives `expire_timeout`; all of a pair expire with its first, with one EXPIRE | `all_messages_of_a_pair_expire_with_the_first_and_bring_one_expire` |
//! | CANDIDATE and ANSWER within `expire_timeout` after it are dropped without another | `what_belongs_to_a_failed_call_is_dropped` |
//! | an OFFER begins anew, with an EXPIRE of its own | `an_offer_after_an_expire_begins_anew` |
//! | a `dst` that is a number | `a_destination_that_is_a_number_is_the_id_of_its_digits` |
//! | when the source disconnects, its stored messages are dropped; a takeover drops none | `stored_messages_are_dropped_when_their_source_disconnects`, `the_mailbox_is_empty_after_delivery_and_expiry` |
//! | a host that reloads its page gets the calls of twenty guests | `twenty_guests_call_a_host_that_reloads_its_page` |
//! | stored messages are bounded: 4 MiB per source, 16 MiB in all, 1,024 messages per destination and per source | `stored_messages_are_bounded_by_number_and_bytes` |
//! | what does not fit gets the pair's one EXPIRE after `expire_timeout` | `a_message_that_does_not_fit_brings_one_expire_in_due_time` |
//! | ... as does what was stored and made place | `a_message_that_made_place_brings_the_expire_of_its_pair` |
//! | ... none while the pair has something stored | `what_does_not_fit_beside_a_stored_offer_brings_no_expire_of_its_own` |
//! | ... none once the destination has come | `no_expire_is_sent_once_the_destination_has_come` |
//! | at a full destination the newest of the source that has most makes place | `a_stranger_that_fills_a_destination_makes_place` |
//! | in a full store, too | `a_stranger_that_fills_the_store_makes_place` |
//! | when memory is short, stored messages go last | `when_memory_is_short_stored_messages_go_last_and_bring_an_expire` |
//! | sources are summed by address | `sources_are_summed_by_address` |
//! | a newcomer that would have most is refused | `a_newcomer_that_would_have_most_is_refused` |
//! | pairs that wait for their EXPIRE are bounded and counted | `pairs_without_messages_are_bounded_and_counted` |
//! | a destination that takes nothing more: one EXPIRE, after `expire_timeout`; neither is closed | `messages_to_a_full_outbox_bring_one_expire_in_due_time`, `a_destination_that_stops_reading_brings_one_expire` |
//! | ... none if it has taken something since | `no_expire_is_sent_if_the_destination_has_taken_something_since` |
//! | LEAVE without `dst` ends the record, 1000 | `leave_without_a_destination_ends_the_connection` |
//! | no message for `alive_timeout` (90 s): 4408 | `a_client_without_messages_for_90_seconds_is_closed` |
//! | `ping_after` 15 s, `pong_timeout` 60 s; other defaults | `a_phone_may_sleep_for_a_minute`, `the_defaults_are_those_of_the_rulings` |
//! | time in which the server does not read a client is no silence of it | `a_client_that_the_server_does_not_read_is_not_silent` |
//! | a closed connection's record is removed at once | `the_record_of_a_closed_connection_is_removed_at_once` |
//! | options can change while it runs | `changed_options_hold_and_clients_and_stored_messages_stay` |
//! | access tokens: admitted with one that holds, until its end | `a_client_with_a_token_of_its_id_is_admitted_until_the_token_ends`, `a_token_holds_from_a_minute_before_nbf_until_a_minute_after_exp`, `a_connection_ends_when_its_token_does_and_a_renewed_one_keeps_the_id`, `a_token_of_8_kib_is_read` |
//! | ... in the header, in `access_token` or in `token`, where other texts are the document's | `a_token_comes_in_the_header_in_access_token_or_in_token`, `an_access_token_may_be_longer_than_the_documents`, `without_access_a_token_of_any_shape_is_the_documents` |
//! | ... refused: ERROR, then 4401 | `a_client_without_a_token_is_refused_where_one_is_demanded`, `a_client_whose_token_is_refused_gets_the_reason_whether_or_not_one_is_demanded`, `a_client_without_a_good_token_gets_the_reason_and_close_4401` |
//! | ... `sub` is the id; without one any free id; no roles | `a_token_with_a_subject_admits_only_under_that_id`, `a_client_that_names_no_id_has_that_of_its_token`, `a_token_without_a_subject_admits_under_any_free_id`, `a_token_without_a_subject_gets_no_id_that_another_was_for`, `a_token_without_a_subject_does_not_make_the_ids_forgotten_that_others_were_for`, `roles_mean_nothing` |
//! | ... same `sub`: takeover | `a_renewed_token_keeps_the_id`, `takeovers_by_one_subject_that_follow_too_fast_wait_for_a_probe`, `a_client_that_waits_for_an_id_and_gets_it_keeps_the_end_of_its_token`, `the_documents_token_beside_one_without_a_subject_takes_the_id_over` |
//! | ... who has shown more takes the id from who has shown less, and never the reverse | `a_token_holder_takes_over_from_a_client_without_a_token_at_once`, `a_token_for_the_id_goes_before_one_without_a_subject`, `a_client_without_a_token_never_gets_the_id_of_a_token_holder`, `clients_that_wait_without_a_token_get_no_id_of_a_token_holder`, `a_token_holder_takes_an_id_from_a_client_without_a_token_and_never_the_reverse` |
//! | ... what is remembered of token holders is bounded | `ids_of_token_holders_are_counted_and_forgotten_last_when_memory_is_short` |
//! | ... `/peers` 401, `/id` and preflights free | `the_list_of_peers_needs_a_token_where_one_is_demanded`, `ids_and_what_the_server_is_need_no_token`, `only_the_list_of_peers_needs_a_token_over_http` |
//! | what an operator is shown | `the_figures_are_the_clients_those_who_wait_for_an_id_and_the_stored_messages` |

use crate::config::Listener;
use crate::protocols::peerjs::mailbox::{MAX_NOTES, MESSAGE_OVERHEAD};
use crate::protocols::peerjs::*;
use crate::realm::{Body, Message};
use crate::testing::harness::{RealmHarness, no_lines};
use crate::toolkit::in_flight::MAX_IN_FLIGHT_BYTES;
use serde_json::{Value, json};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const OPEN: &str = r#"{"type":"OPEN"}"#;

fn harness() -> RealmHarness<PeerJs> {
    RealmHarness::new(json!({}))
}

pub(super) fn target(id: &str, token: &str) -> String {
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

pub(super) fn offer(dst: &str, payload: &str) -> String {
    format!(r#"{{"type":"OFFER","payload":{payload},"dst":"{dst}"}}"#)
}

fn message(kind: &str, dst: &str) -> String {
    format!(r#"{{"type":"{kind}","dst":"{dst}"}}"#)
}

/// Returns the line of an EXPIRE to a connection.
fn expired(conn: u64, src: &str, dst: &str) -> String {
    format!(r#"{conn} < {{"type":"EXPIRE","src":"{src}","dst":"{dst}"}}"#)
}

/// Returns the lines of a client that is rejected since its id is taken.
pub(super) fn id_taken(conn: u64) -> [String; 2] {
    let taken = r#"{"type":"ID-TAKEN","payload":{"msg":"ID is taken"}}"#;
    [
        format!("{conn} < {taken}"),
        format!("{conn} x 4409 ID is taken"),
    ]
}

pub(super) fn status(reply: &HttpReply) -> u16 {
    match reply {
        HttpReply::Ok { .. } => 200,
        HttpReply::UpgradeRequired { .. } => 426,
        HttpReply::Rejected(rejection) => rejection.status,
    }
}

pub(super) fn body(reply: HttpReply) -> String {
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
    assert_eq!((PROTOCOL.listener_defaults)()["address"], "localhost:9000");
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
fn ids_have_at_most_256_bytes_and_tokens_2048() {
    let mut harness = with(&["a+b%20c", &"x".repeat(256)]);
    assert_eq!(harness.send(2, &offer("a b c", "1")).len(), 1);
    let longest = "x".repeat(2048);
    assert_eq!(self::harness().open(1, &target("a", &longest)).len(), 1);
    for (id, token) in [
        ("x".repeat(257), "t".to_owned()),
        ("a".to_owned(), "x".repeat(2049)),
    ] {
        let lines = self::harness().open(1, &target(&id, &token));
        let text = "Id is longer than 256 bytes, or token longer than 2048";
        assert_rejected(&lines, text, "4400 bad parameters");
    }
    // The longest id is found when all of it is escaped.
    let mut harness = with(&["a", &"x".repeat(256)]);
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
    harness.advance(39 * SECOND);
    for (conn, token) in [(2, "b"), (3, "aa"), (4, "A")] {
        assert_eq!(harness.open(conn, &target("a", token)), id_taken(conn));
    }
    assert_eq!(
        harness.send(1, &offer("a", "1")).len(),
        1,
        "the first client still has its id"
    );
}

#[test]
fn an_id_of_a_client_silent_for_40_seconds_is_decided_by_a_probe() {
    let mut harness = with(&["a", "b"]);
    harness.advance(40 * SECOND);
    assert_eq!(harness.open(3, &target("a", "other")), ["1 ? 5 s"]);
    assert_eq!(harness.open(4, &target("a", "other")), ["1 ? 5 s"]);
    let lines = harness.answer_probe(1);
    assert_eq!(lines, [id_taken(3), id_taken(4)].concat());
    assert_eq!(harness.open(5, &target("a", "other")), id_taken(5));
    // Its own token needs no probe, and clients that wait for one hear of the new connection.
    assert_eq!(harness.open(6, &target("b", "other")), ["2 ? 5 s"]);
    let lines = harness.open(7, &target("b", "b"));
    assert_eq!(
        lines[..2],
        [
            "2 x 4409 connected again elsewhere",
            "7 < {\"type\":\"OPEN\"}"
        ]
    );
    assert_eq!(lines[2..], id_taken(6));
}

#[test]
fn a_silent_client_loses_its_id_and_what_it_has_stored() {
    let mut harness = RealmHarness::<PeerJs>::new(json!({"expire_timeout": 60}));
    harness.open(1, &target("a", "a"));
    harness.send(1, &offer("later", "1"));
    harness.advance(40 * SECOND);
    for conn in [2, 3] {
        assert_eq!(harness.open(conn, &target("a", "other")), ["1 ? 5 s"]);
    }
    assert_eq!(harness.open(4, &target("a", "third")), ["1 ? 5 s"]);
    assert_eq!(
        harness.fail_probe(1)[..2],
        ["1 x 4408 timed out".to_owned(), format!("2 < {OPEN}")]
    );
    assert_eq!(harness.open_connections().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(
        harness.open(5, &target("later", "t")),
        [format!("5 < {OPEN}")]
    );
    // The third has the token of the second, whose connection has just been opened.
    assert_eq!(harness.advance(2 * SECOND), id_taken(3));
    assert_eq!(harness.send(5, &offer("a", "1")).len(), 1);
}

#[test]
fn messages_for_a_silent_client_do_not_reach_its_successor() {
    let mut harness = with(&["a", "b"]);
    harness.fill_outbox(1);
    harness.send(2, &offer("a", "1"));
    harness.advance(40 * SECOND);
    harness.send(2, &offer("a", "2"));
    harness.open(3, &target("a", "other"));
    harness.send(2, &offer("a", "3"));
    let lines = harness.fail_probe(1);
    assert_eq!(
        lines,
        ["1 x 4408 timed out".to_owned(), format!("3 < {OPEN}")]
    );
    assert_eq!(harness.advance(5 * SECOND), [expired(2, "a", "b")]);
}

#[test]
fn a_phone_may_sleep_for_a_minute() {
    let settings = Listener::built_in(&PROTOCOL).settings;
    assert_eq!(settings.ping_after, Duration::from_secs(15));
    assert_eq!(settings.pong_timeout, Duration::from_secs(60));
}

#[test]
fn the_defaults_are_those_of_the_rulings() {
    let options = Listener::built_in(&PROTOCOL).options;
    let expected = json!({
        "path": "/", "key": "peerjs", "alive_timeout": 90, "expire_timeout": 5, "silent_after": 40,
        "takeover_timeout": 5, "concurrent_limit": 5000, "allow_discovery": false,
        "stored_per_destination": 1024, "stored_per_source": 1024, "stored_source_size": 4 << 20,
        "stored_size": 16 << 20,
    });
    for (key, default) in expected.as_object().unwrap() {
        assert_eq!(options.get(key), Some(default), "{key}");
    }
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

/// Returns a realm in which connection 4 has taken over "a" for the third time.
fn contested() -> RealmHarness<PeerJs> {
    let mut harness = with(&["a"]);
    for conn in 2..=4 {
        harness.advance(3 * SECOND);
        assert_eq!(harness.open(conn, &target("a", "a")).len(), 2);
    }
    harness
}

#[test]
fn the_fourth_takeover_within_10_seconds_waits_for_a_probe() {
    let mut harness = contested();
    harness.advance(Duration::from_millis(3999));
    assert_eq!(harness.open(5, &target("a", "a")), ["4 ? 5 s"]);
    let mut harness = contested();
    harness.advance(4 * SECOND);
    assert_eq!(
        harness.open(5, &target("a", "a")).len(),
        2,
        "the first is 10 s ago"
    );
    assert_eq!(harness.open(6, &target("a", "a")), ["5 ? 5 s"]);
    // The rule is about each id by itself.
    assert_eq!(harness.open(7, &target("b", "a")), [format!("7 < {OPEN}")]);
}

#[test]
fn id_taken_is_delayed_for_2_seconds_and_twice_as_long_each_time() {
    let mut harness = contested();
    for (conn, delay) in (5..).zip([2, 4, 8, 16, 30, 30]) {
        assert_eq!(harness.open(conn, &target("a", "a")), ["4 ? 5 s"]);
        assert_eq!(harness.answer_probe(4), no_lines());
        let just_before = delay * SECOND - Duration::from_millis(1);
        assert_eq!(harness.advance(just_before), no_lines(), "{delay} s");
        assert_eq!(harness.advance(Duration::from_millis(1)), id_taken(conn));
        harness.send(4, r#"{"type":"HEARTBEAT"}"#);
    }
    assert_eq!(harness.send(4, &offer("a", "1")).len(), 1, "4 has the id");
}

#[test]
fn a_contest_is_over_after_a_minute() {
    let mut harness = contested();
    let refuse = |harness: &mut RealmHarness<PeerJs>, conn, holder| {
        assert_eq!(
            harness.open(conn, &target("a", "a")),
            [format!("{holder} ? 5 s")]
        );
        assert_eq!(harness.answer_probe(holder), no_lines());
        assert_eq!(harness.advance(2 * SECOND), id_taken(conn));
    };
    refuse(&mut harness, 5, 4);
    harness.advance(57 * SECOND);
    assert_eq!(
        harness.open(6, &target("a", "a")),
        ["4 ? 5 s"],
        "59 s after the refusal"
    );
    harness.disconnect(6, DisconnectReason::Lost);
    harness.advance(SECOND);
    assert_eq!(harness.open(7, &target("a", "a")).len(), 2);
    // The delays begin anew.
    for conn in 8..=9 {
        assert_eq!(harness.open(conn, &target("a", "a")).len(), 2);
    }
    refuse(&mut harness, 10, 9);
}

#[test]
fn a_fourth_takeover_succeeds_if_the_holder_is_silent() {
    let mut harness = contested();
    harness.send(4, &offer("later", "1"));
    harness.open(5, &target("a", "a"));
    harness.open(6, &target("a", "a"));
    let lines = harness.fail_probe(4);
    let expected = [
        "4 x 4409 connected again elsewhere".to_owned(),
        format!("5 < {OPEN}"),
    ];
    assert_eq!(lines, expected);
    assert_eq!(
        harness.open(7, &target("later", "t")).len(),
        2,
        "a takeover drops nothing"
    );
    assert_eq!(
        harness.advance(2 * SECOND),
        id_taken(6),
        "the new holder is alive"
    );
}

#[test]
fn a_client_that_waits_for_an_id_gets_it_when_the_holder_disconnects() {
    let mut harness = contested();
    harness.open(5, &target("a", "a"));
    harness.answer_probe(4);
    harness.open(6, &target("a", "a"));
    assert_eq!(
        harness.disconnect(4, DisconnectReason::Lost),
        [format!("5 < {OPEN}")]
    );
    assert_eq!(
        harness.open(7, &target("a", "a")),
        ["5 ? 5 s"],
        "the contest goes on"
    );
    assert_eq!(harness.advance(4 * SECOND), id_taken(6));
    let mut harness = RealmHarness::<PeerJs>::new(json!({"allow_discovery": true}));
    harness.open(1, &target("a", "a"));
    harness.advance(40 * SECOND);
    harness.open(2, &target("a", "other"));
    harness.send(1, r#"{"type":"LEAVE"}"#);
    assert_eq!(body(harness.get("/peerjs/peers")), r#"["a"]"#);
    assert_eq!(harness.send(2, &offer("a", "1")).len(), 1);
}

#[test]
fn clients_that_wait_may_disconnect() {
    let mut harness = contested();
    harness.open(5, &target("a", "a"));
    harness.answer_probe(4);
    harness.open(6, &target("a", "a"));
    assert_eq!(
        harness.send(6, &offer("a", "1")),
        no_lines(),
        "it has no id yet"
    );
    harness.disconnect(5, DisconnectReason::Lost);
    harness.disconnect(6, DisconnectReason::Lost);
    assert_eq!(harness.fail_probe(4), no_lines());
    assert_eq!(harness.advance(30 * SECOND), no_lines());
    harness.disconnect(4, DisconnectReason::Lost);
    assert!(harness.realm.is_empty());
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
fn messages_to_a_full_outbox_bring_one_expire_in_due_time() {
    let mut harness = with(&["a", "b"]);
    harness.fill_outbox(2);
    for kind in ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"] {
        assert_eq!(harness.send(1, &message(kind, "b")), no_lines());
        assert_eq!(harness.advance(Duration::from_millis(900)), no_lines());
    }
    // The time counts from the OFFER, not from the CANDIDATE.
    let mut harness = with(&["a", "b"]);
    harness.fill_outbox(2);
    harness.send(1, &message("OFFER", "b"));
    harness.advance(4 * SECOND);
    harness.send(1, &message("CANDIDATE", "b"));
    assert_eq!(harness.advance(SECOND), [expired(1, "b", "a")]);
    harness.send(1, &message("CANDIDATE", "b"));
    assert_eq!(
        harness.advance(10 * SECOND),
        no_lines(),
        "it belongs to the failed call"
    );
    for kind in ["LEAVE", "EXPIRE"] {
        harness.send(1, &message(kind, "b"));
        assert_eq!(
            harness.advance(10 * SECOND),
            no_lines(),
            "{kind} is dropped"
        );
    }
    assert_eq!(
        harness.open_connections().count(),
        2,
        "neither client is closed"
    );
}

#[test]
fn no_expire_is_sent_if_the_destination_has_taken_something_since() {
    let mut harness = with(&["a", "b", "c"]);
    harness.fill_outbox(2);
    harness.send(1, &message("OFFER", "b"));
    harness.send(3, &message("OFFER", "b"));
    harness.drain_outbox(2);
    assert_eq!(harness.send(1, &message("LEAVE", "b")).len(), 1);
    let lines = harness.advance(5 * SECOND);
    assert_eq!(lines, [expired(3, "b", "c")], "each pair counts by itself");
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
        r#"{"type":"OFFER","dst":true}"#,
        r#"{"type":"OFFER","dst":[7]}"#,
        r#"{"type":"OFFER","dst":{"7":7}}"#,
        r#"{"type":"OFFER","dst":"\ud800"}"#,
        r#"{"type":"LEAVE","dst":false}"#,
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
fn a_destination_that_is_a_number_is_the_id_of_its_digits() {
    let mut harness = with(&["a", "4711", "-1.5"]);
    for (conn, id) in [(2, "4711"), (3, "-1.5")] {
        for kind in ["OFFER", "LEAVE"] {
            let text = format!(r#"{{"type":"{kind}","dst":{id}}}"#);
            let relayed = format!(r#"{conn} < {{"type":"{kind}","src":"a","dst":{id}}}"#);
            assert_eq!(harness.send(1, &text), [relayed]);
        }
    }
    assert_eq!(harness.send(1, r#"{"type":"OFFER","dst":1}"#), no_lines());
    assert_eq!(harness.send(1, r#"{"type":"OFFER","dst":12}"#), no_lines());
    assert_eq!(harness.open(4, &target("1", "t")).len(), 2);
    assert_eq!(harness.advance(5 * SECOND), [expired(1, "12", "a")]);
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
fn all_messages_of_a_pair_expire_with_the_first_and_bring_one_expire() {
    let mut harness = with(&["a", "b"]);
    harness.send(1, &offer("c", "1"));
    harness.send(1, &offer("d", "2"));
    harness.advance(2 * SECOND);
    harness.send(2, &offer("c", "3"));
    harness.advance(Duration::from_millis(2999));
    harness.send(1, &message("CANDIDATE", "c"));
    harness.send(1, &offer("c", "4"));
    let lines = harness.advance(Duration::from_millis(1));
    assert_eq!(lines, [expired(1, "c", "a"), expired(1, "d", "a")]);
    let lines = harness.open(3, &target("c", "t"));
    assert_eq!(lines.len(), 2, "the message of b is left: {lines:?}");
    assert!(lines[1].contains(r#""payload":3"#));
    assert_eq!(harness.advance(10 * SECOND), no_lines());
}

#[test]
fn what_belongs_to_a_failed_call_is_dropped() {
    let mut harness = with(&["a", "b"]);
    harness.send(1, &offer("c", "1"));
    assert_eq!(harness.advance(5 * SECOND), [expired(1, "c", "a")]);
    harness.advance(Duration::from_millis(4999));
    for kind in ["CANDIDATE", "ANSWER"] {
        assert_eq!(harness.send(1, &message(kind, "c")), no_lines());
        harness.send(1, &message(kind, "d"));
        harness.send(2, &message(kind, "c"));
    }
    let lines = harness.advance(6 * SECOND);
    assert_eq!(
        lines,
        [expired(1, "d", "a"), expired(2, "c", "b")],
        "others are not concerned"
    );
    // After that time it begins anew.
    harness.send(1, &message("CANDIDATE", "c"));
    assert_eq!(harness.advance(5 * SECOND), [expired(1, "c", "a")]);
    // The destination may come and go.
    let lines = harness.open(3, &target("c", "t"));
    assert_eq!(lines, [format!("3 < {OPEN}")]);
    harness.disconnect(3, DisconnectReason::Lost);
    harness.send(1, &message("ANSWER", "c"));
    assert_eq!(harness.open(4, &target("c", "t")).len(), 2);
}

#[test]
fn an_offer_after_an_expire_begins_anew() {
    let mut harness = with(&["a"]);
    harness.send(1, &offer("c", "1"));
    harness.advance(5 * SECOND);
    harness.advance(SECOND);
    assert_eq!(harness.send(1, &offer("c", "2")), no_lines());
    assert_eq!(harness.send(1, &message("CANDIDATE", "c")), no_lines());
    assert_eq!(harness.advance(Duration::from_millis(4999)), no_lines());
    assert_eq!(
        harness.advance(Duration::from_millis(1)),
        [expired(1, "c", "a")]
    );
    harness.send(1, &offer("c", "3"));
    harness.send(1, &message("CANDIDATE", "c"));
    assert_eq!(harness.open(2, &target("c", "t")).len(), 3);
}

#[test]
fn twenty_guests_call_a_host_that_reloads_its_page() {
    let mut harness = harness();
    harness.open(100, &target("host", "t"));
    for guest in 1..=20 {
        harness.open(guest, &target(&format!("guest{guest}"), "t"));
    }
    harness.disconnect(100, DisconnectReason::ClosedByClient(Some(1001)));
    for guest in 1..=20 {
        assert_eq!(harness.send(guest, &offer("host", "1")), no_lines());
        for _ in 0..12 {
            assert_eq!(
                harness.send(guest, &message("CANDIDATE", "host")),
                no_lines()
            );
        }
    }
    assert_eq!(harness.advance(2 * SECOND), no_lines());
    assert_eq!(harness.open(101, &target("host", "t")).len(), 1 + 20 * 13);
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

/// Returns a realm with these options and clients "a" to "d" as 1 to 4, each at an address of its own.
fn with_options(options: Value) -> RealmHarness<PeerJs> {
    let mut harness = RealmHarness::<PeerJs>::new(options);
    for (conn, id) in (1..).zip(["a", "b", "c", "d"]) {
        harness.open_from(conn, &target(id, "t"), &format!("192.0.2.{conn}"));
    }
    harness
}

/// Returns the payloads that a new client with this id receives.
fn stored(harness: &mut RealmHarness<PeerJs>, id: &str) -> Vec<Value> {
    let lines = harness.open(1000, &target(id, "t"));
    harness.disconnect(1000, DisconnectReason::Lost);
    let payload = |line: &String| {
        let (_, text) = line.split_once(" < ").unwrap();
        serde_json::from_str::<Value>(text).unwrap()["payload"].clone()
    };
    lines.iter().skip(1).map(payload).collect()
}

/// Bytes of a payload with which a message costs a little more than 10,000.
const TEN_THOUSAND: usize = 10_000 - MESSAGE_OVERHEAD;

fn large(name: &str) -> String {
    format!("\"{name}{}\"", "x".repeat(TEN_THOUSAND))
}

#[test]
fn stored_messages_are_bounded_by_number_and_bytes() {
    let mut harness = with_options(json!({"stored_per_destination": 2}));
    for payload in ["1", "2", "3"] {
        assert_eq!(harness.send(1, &offer("x", payload)), no_lines());
        assert_eq!(harness.send(1, &offer("y", payload)), no_lines());
    }
    assert_eq!(stored(&mut harness, "x"), [1, 2]);
    assert_eq!(stored(&mut harness, "y"), [1, 2]);
    let mut harness = with_options(json!({"stored_per_source": 2}));
    for dst in ["x", "y", "z"] {
        harness.send(1, &offer(dst, "1"));
        harness.send(2, &offer(dst, "2"));
    }
    assert_eq!(stored(&mut harness, "y"), [1, 2]);
    assert_eq!(stored(&mut harness, "z"), [0; 0]);
    // Delivery frees the space.
    harness.send(1, &offer("z", "1"));
    assert_eq!(stored(&mut harness, "z"), [1]);
    let mut harness = with_options(json!({"stored_source_size": 25_000}));
    for dst in ["x", "y", "z"] {
        harness.send(1, &offer(dst, &large("a")));
        harness.send(2, &offer(dst, &large("b")));
    }
    assert_eq!(stored(&mut harness, "y").len(), 2);
    assert_eq!(stored(&mut harness, "z"), [0; 0]);
    let mut harness = with_options(json!({"stored_size": 25_000}));
    for dst in ["x", "y", "z"] {
        harness.send(1, &offer(dst, &large("a")));
    }
    assert_eq!(stored(&mut harness, "y").len(), 1);
    assert_eq!(stored(&mut harness, "z"), [0; 0]);
    // Ids count, too.
    let mut harness = with_options(json!({"stored_size": MESSAGE_OVERHEAD + 500}));
    let long = "x".repeat(256);
    harness.send(1, &offer(&long, "1"));
    harness.send(1, &offer("x", "1"));
    assert_eq!(stored(&mut harness, &long), [0; 0]);
    assert_eq!(stored(&mut harness, "x"), [1]);
    // 0 is no limit.
    let mut harness = with_options(json!({
        "stored_per_destination": 0, "stored_per_source": 0, "stored_source_size": 0, "stored_size": 0,
    }));
    for _ in 0..6000 {
        harness.send(1, &offer("x", &large("a")));
    }
    assert_eq!(stored(&mut harness, "x").len(), 6000);
}

#[test]
fn a_message_that_does_not_fit_brings_one_expire_in_due_time() {
    let mut harness = with_options(json!({"stored_per_source": 1}));
    harness.send(1, &offer("x", "1"));
    harness.advance(SECOND);
    for kind in ["OFFER", "CANDIDATE", "CANDIDATE", "ANSWER"] {
        assert_eq!(harness.send(1, &message(kind, "y")), no_lines());
    }
    harness.advance(3 * SECOND);
    harness.send(1, &message("CANDIDATE", "y"));
    assert_eq!(harness.advance(SECOND), [expired(1, "x", "a")]);
    assert_eq!(harness.advance(SECOND), [expired(1, "y", "a")]);
    harness.send(1, &message("CANDIDATE", "y"));
    assert_eq!(harness.advance(10 * SECOND), no_lines());
    // No client can have an id above the limit, so nothing is stored for it.
    let impossible = "x".repeat(257);
    assert_eq!(harness.send(1, &offer(&impossible, "1")), no_lines());
    assert_eq!(harness.advance(5 * SECOND), [expired(1, &impossible, "a")]);
}

#[test]
fn what_does_not_fit_beside_a_stored_offer_brings_no_expire_of_its_own() {
    let mut harness = with_options(json!({"stored_per_destination": 2}));
    for payload in ["1", "2"] {
        harness.send(1, &offer("x", payload));
    }
    harness.advance(SECOND);
    harness.send(1, &offer("x", "3"));
    harness.advance(SECOND);
    assert_eq!(stored(&mut harness, "x"), [1, 2]);
    assert_eq!(
        harness.advance(10 * SECOND),
        no_lines(),
        "it would be untrue"
    );
    // A pair that gets something stored before its EXPIRE has it only when that expires.
    let mut harness = with_options(json!({"stored_per_source": 1}));
    harness.send(1, &offer("y", "1"));
    harness.send(1, &offer("x", "1"));
    harness.advance(3 * SECOND);
    assert_eq!(stored(&mut harness, "y"), [1]);
    harness.send(1, &message("CANDIDATE", "x"));
    assert_eq!(harness.advance(4 * SECOND), no_lines());
    assert_eq!(harness.advance(SECOND), [expired(1, "x", "a")]);
}

#[test]
fn no_expire_is_sent_once_the_destination_has_come() {
    let mut harness = with_options(json!({"stored_per_destination": 1}));
    harness.send(1, &offer("x", "1"));
    harness.send(2, &offer("x", "2"));
    harness.advance(4 * SECOND);
    assert_eq!(stored(&mut harness, "x"), [1]);
    assert_eq!(harness.advance(10 * SECOND), no_lines());
}

#[test]
fn a_stranger_that_fills_a_destination_makes_place() {
    let mut harness = with_options(json!({"stored_per_destination": 6, "stored_per_source": 0}));
    for number in 0..9 {
        harness.send(1, &offer("x", &number.to_string()));
    }
    for payload in ["\"offer\"", "\"candidate\""] {
        harness.send(2, &offer("x", payload));
    }
    harness.send(1, &offer("x", "9"));
    assert_eq!(
        stored(&mut harness, "x"),
        [
            json!(0),
            json!(1),
            json!(2),
            json!(3),
            json!("offer"),
            json!("candidate")
        ]
    );
}

#[test]
fn a_message_that_made_place_brings_the_expire_of_its_pair() {
    let mut harness = with_options(json!({"stored_size": 35_000}));
    for dst in ["x", "y", "z"] {
        harness.send(1, &offer(dst, &large("a")));
    }
    harness.advance(SECOND);
    harness.send(2, &offer("z", &large("b")));
    let lines = harness.advance(4 * SECOND);
    assert_eq!(lines, ["x", "y", "z"].map(|dst| expired(1, dst, "a")));
    assert_eq!(harness.advance(SECOND), [expired(2, "z", "b")]);
}

#[test]
fn a_stranger_that_fills_the_store_makes_place() {
    let mut harness = with_options(json!({"stored_size": 85_000}));
    for dst in ["p", "q", "r", "s", "t", "u", "v", "w"] {
        harness.send(1, &offer(dst, &large(dst)));
    }
    harness.send(2, &offer("x", &large("b")));
    harness.send(3, &offer("x", &format!("\"{}\"", "y".repeat(17_000))));
    assert_eq!(stored(&mut harness, "x").len(), 2);
    for dst in ["u", "v", "w"] {
        assert_eq!(stored(&mut harness, dst), [0; 0], "the newest make place");
    }
    for dst in ["p", "q", "r", "s", "t"] {
        assert_eq!(stored(&mut harness, dst).len(), 1);
    }
}

#[test]
fn when_memory_is_short_stored_messages_go_last_and_bring_an_expire() {
    let mut harness = with_options(json!({}));
    for dst in ["p", "q", "r"] {
        harness.send(1, &offer(dst, &large("a")));
    }
    harness.send(2, &offer("p", &large("b")));
    assert_eq!(harness.shed(Retention::BestEffort, usize::MAX).0, 0);
    let before = harness.realm.stored_bytes();
    let (freed, lines) = harness.shed(Retention::Promised, 1);
    assert!(freed > 0 && harness.realm.stored_bytes() == before - freed);
    assert_eq!(lines, no_lines());
    assert_eq!(
        stored(&mut harness, "r"),
        [0; 0],
        "the newest message of the address that has most"
    );
    assert_eq!(stored(&mut harness, "p").len(), 2);
    harness.shed(Retention::Promised, usize::MAX);
    assert_eq!(harness.advance(5 * SECOND), [expired(1, "q", "a")]);
}

#[test]
fn a_newcomer_that_would_have_most_is_refused() {
    let mut harness = with_options(json!({"stored_per_destination": 4}));
    for conn in [1, 1, 2, 2] {
        harness.send(conn, &offer("x", &conn.to_string()));
    }
    harness.send(3, &offer("x", "3"));
    harness.send(3, &offer("x", "3"));
    assert_eq!(
        stored(&mut harness, "x"),
        [1, 1, 2, 3],
        "the second would have as many as the first"
    );
    let mut harness = with_options(json!({"stored_size": 35_000}));
    for (conn, dst) in [(1, "x"), (1, "y"), (2, "y")] {
        harness.send(conn, &offer(dst, &large("a")));
    }
    harness.send(3, &offer("z", &format!("\"{}\"", "y".repeat(22_000))));
    assert_eq!(stored(&mut harness, "z"), [0; 0]);
    assert_eq!(
        stored(&mut harness, "x").len(),
        1,
        "nothing was removed for it"
    );
    assert_eq!(stored(&mut harness, "y").len(), 2);
}

#[test]
fn sources_are_summed_by_address() {
    let mut harness =
        RealmHarness::<PeerJs>::new(json!({"stored_per_destination": 6, "stored_size": 65_000}));
    for conn in 1..=6 {
        harness.open_from(
            conn,
            &target(&format!("s{conn}"), "t"),
            &format!("2001:db8::{conn}"),
        );
        harness.send(conn, &offer("x", &large(&conn.to_string())));
    }
    harness.open_from(7, &target("guest", "t"), "2001:db8:1::1");
    harness.send(7, &offer("x", &large("guest")));
    harness.send(7, &message("CANDIDATE", "x"));
    let names = stored(&mut harness, "x");
    let names: Vec<&str> = names
        .iter()
        .map(|name| name.as_str().unwrap_or("none").trim_end_matches('x'))
        .collect();
    assert_eq!(names, ["1", "2", "3", "4", "guest", "none"]);
}

#[test]
fn pairs_without_messages_are_bounded_and_counted() {
    let mut harness = with_options(json!({"stored_per_source": 1}));
    for number in 0..MAX_NOTES + 10 {
        harness.send(1, &offer(&format!("x{number}"), "1"));
    }
    let bytes = harness.realm.stored_bytes();
    assert!(bytes > MAX_NOTES * 1000, "{bytes}");
    assert_eq!(bytes, harness.realm.stored_bytes_of(ConnectionId(1)));
    harness.send(2, &offer("y", "1"));
    harness.send(2, &offer("z", "1"));
    let lines = harness.advance(5 * SECOND);
    assert!(lines.contains(&expired(2, "z", "b")), "others find place");
    assert!(lines.contains(&expired(1, "x1", "a")));
    assert_eq!(lines.len(), MAX_NOTES + 2, "and two that were stored");
    harness.advance(5 * SECOND);
    assert!(harness.realm.mailbox.is_empty());
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
    let one = harness.realm.stored_bytes();
    assert!(one < 2 * MESSAGE_OVERHEAD, "{one}");
    assert_eq!(one, harness.realm.stored_bytes_of(ConnectionId(1)));
    harness.advance(5 * SECOND);
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
fn a_client_without_messages_for_90_seconds_is_closed() {
    let mut harness = with(&["a", "b", "c"]);
    harness.advance(30 * SECOND);
    harness.send(2, r#"{"type":"UNKNOWN"}"#);
    harness.send(3, r#"{"type":"OFFER","dst":"a"}"#);
    assert_eq!(harness.advance(Duration::from_millis(59_999)), no_lines());
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
        harness.advance(89 * SECOND);
        harness.send(1, message);
        assert_eq!(harness.advance(89 * SECOND), no_lines(), "{message}");
    }
    let mut taken_over = with(&["a"]);
    taken_over.advance(89 * SECOND);
    taken_over.open(2, &target("a", "a"));
    assert_eq!(
        taken_over.advance(89 * SECOND),
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
        ("silent_after", json!(0)),
        ("takeover_timeout", json!(0)),
    ] {
        let options = json!({key: wrong});
        assert_eq!(RealmHarness::<PeerJs>::invalid_option(options), key);
    }
}

#[test]
fn the_figures_are_the_clients_those_who_wait_for_an_id_and_the_stored_messages() {
    let mut harness = with(&["a", "b"]);
    harness.send(1, &offer("absent", "1"));
    harness.send(1, &message("CANDIDATE", "absent"));
    harness.advance(SECOND * 41);
    harness.open(3, &target("b", "another"));
    harness.send(1, &offer("absent", "2"));
    let expected = Figures {
        sizes: vec![("clients", 2), ("claims", 1), ("stored_messages", 1)],
        rate_limited: 0,
    };
    assert_eq!(harness.realm.figures(), expected);
}

#[test]
fn every_rule_has_a_test() {
    crate::testing::spec_table::assert_tested(&[
        include_str!("document.rs"),
        include_str!("access.rs"),
        include_str!("../../../../tests/peerjs.rs"),
        include_str!("../../../../tests/access/peerjs.rs"),
    ]);
}

#[test]
fn changed_options_hold_and_clients_and_stored_messages_stay() {
    let mut harness = with(&["a", "b"]);
    assert_eq!(harness.send(1, &offer("c", "1")), no_lines());
    let options = json!({
        "path": "/app", "key": "other", "concurrent_limit": 3, "alive_timeout": 10, "stored_per_source": 1,
    });
    assert_eq!(harness.reconfigure(options), no_lines());
    assert_eq!(status(&harness.get("/peerjs/id")), 404);
    assert_eq!(status(&harness.get("/app/other/id")), 200);
    assert_eq!(
        harness.send(1, &offer("b", "2")),
        [r#"2 < {"type":"OFFER","src":"a","dst":"b","payload":2}"#]
    );
    let lines = harness.open(3, "/app/peerjs?key=other&id=c&token=c");
    assert_eq!(
        lines.len(),
        2,
        "OPEN, and what was stored before: {lines:?}"
    );
    let lines = harness.open(4, "/app/peerjs?key=other&id=d&token=d");
    assert!(lines[0].contains("concurrent user limit"), "{lines:?}");
    harness.advance(9 * SECOND);
    harness.send(2, r#"{"type":"HEARTBEAT"}"#);
    let lines = harness.advance(SECOND);
    assert_eq!(lines, ["1 x 4408 timed out", "3 x 4408 timed out"]);
    harness.reconfigure(json!({"alive_timeout": 0}));
    assert_eq!(harness.advance(1000 * SECOND), no_lines());
    // From the last message on, which is long ago.
    harness.reconfigure(json!({"alive_timeout": 90}));
    assert_eq!(harness.advance(SECOND), ["2 x 4408 timed out"]);
}
