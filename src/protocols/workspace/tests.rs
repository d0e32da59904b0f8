//! What the document and the rulings demand of Workspace, each rule at the desk.

use super::*;
use crate::desk::{Desk, no_lines};
use proptest::prelude::*;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn desk() -> Desk<Workspace> {
    Desk::new(json!({}))
}

/// A desk with these users, connections 1 and so on.
fn room(names: &[&str]) -> Desk<Workspace> {
    let mut desk = desk();
    for (at, name) in names.iter().enumerate() {
        desk.opens(at as u64 + 1, &format!("/ws?username={name}"));
    }
    desk
}

/// Takes a line to one connection apart.
fn to(who: u64, line: &str) -> Value {
    let json = line
        .strip_prefix(&format!("{who} < "))
        .unwrap_or_else(|| panic!("not to {who}: {line}"));
    serde_json::from_str(json).unwrap()
}

/// The `connected` that somebody gets on coming in.
fn enters(desk: &mut Desk<Workspace>, who: u64, name: &str) -> Value {
    to(who, &desk.opens(who, &format!("/ws?username={name}"))[0])
}

/// The error that somebody gets for a message, and nobody else gets anything.
fn error(desk: &mut Desk<Workspace>, who: u64, text: &str) -> Value {
    let lines = desk.says(who, text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let error = to(who, &lines[0]);
    assert_eq!(error["type"], "error");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert_eq!(error["timestamp"], "2026-01-16T10:00:00.000Z");
    error
}

fn presence(who: u64, id: u64, name: &str, status: &str) -> String {
    let data = json!({"userId": user_id(id), "username": name, "status": status});
    line(who, "presence:update", data)
}

fn typing(who: u64, id: u64, name: &str, is_typing: bool) -> String {
    let data = json!({"userId": user_id(id), "username": name, "isTyping": is_typing});
    line(who, "typing:indicator", data)
}

/// The id of the nth user who came at the desk's first moment.
fn user_id(nth: u64) -> String {
    format!("ws_user_{}", 1_768_557_600_000 + nth - 1)
}

/// A line with its fields in the order in which they are sent.
fn line(who: u64, kind: &str, data: Value) -> String {
    let state = if kind == "presence:update" {
        "status"
    } else {
        "isTyping"
    };
    let (id, name, state_value) = (&data["userId"], &data["username"], &data[state]);
    format!(
        r#"{who} < {{"type":"{kind}","data":{{"userId":{id},"username":{name},"{state}":{state_value}}}}}"#
    )
}

const SEND: &str = r#"{"type":"message:send","text":"Hello everyone!"}"#;
const AWAY: &str = r#"{"type":"presence:update","status":"away"}"#;
const TYPES: &str = r#"{"type":"typing:indicator","isTyping":true}"#;
const RESTS: &str = r#"{"type":"typing:indicator","isTyping":false}"#;

#[test]
fn connected_comes_first_and_has_the_documents_fields() {
    let lines = desk().opens(1, "/ws?username=john_doe");
    assert_eq!(
        lines,
        [
            r#"1 < {"type":"connected","userId":"ws_user_1768557600000","username":"john_doe","timestamp":"2026-01-16T10:00:00.000Z","connectedUsers":1}"#
        ]
    );
}

#[test]
fn connected_users_counts_users_and_not_connections() {
    let mut desk = room(&["a", "b", "b"]);
    assert_eq!(enters(&mut desk, 4, "c")["connectedUsers"], 3);
    assert_eq!(enters(&mut desk, 5, "A")["connectedUsers"], 3);
}

#[test]
fn user_ids_are_unique_and_increasing_even_within_a_millisecond() {
    let mut desk = desk();
    assert_eq!(enters(&mut desk, 1, "a")["userId"], "ws_user_1768557600000");
    assert_eq!(enters(&mut desk, 2, "b")["userId"], "ws_user_1768557600001");
    desk.leaves(2, Ending::Lost);
    assert_eq!(enters(&mut desk, 3, "b")["userId"], "ws_user_1768557600002");
    desk.waits(MINUTE);
    assert_eq!(enters(&mut desk, 4, "c")["userId"], "ws_user_1768557660000");
}

#[test]
fn a_user_has_one_id_and_one_name_on_all_its_connections() {
    let mut desk = desk();
    let first = enters(&mut desk, 1, "Ann");
    let second = enters(&mut desk, 2, "ANN");
    assert_eq!(
        (&first["userId"], &first["username"]),
        (&second["userId"], &second["username"])
    );
}

#[test]
fn a_username_is_decoded_sanitised_trimmed_and_cut() {
    for (given, name) in [
        ("john+doe", "john doe"),
        ("J%C3%BCrgen%20%26%20Co", "Jürgen & Co"),
        ("%3Cb%3Ebold%3C%2Fb%3E", "bold"),
        ("++spaces++", "spaces"),
        (&"ü".repeat(70), &"ü".repeat(64)),
        (&format!("{}+x", "y".repeat(63)), &"y".repeat(63)),
        ("a%07b", "ab"),
    ] {
        assert_eq!(enters(&mut desk(), 1, given)["username"], name, "{given}");
    }
}

#[test]
fn who_gives_no_name_is_a_user_of_its_own() {
    let mut desk = desk();
    let mut names = Vec::new();
    for (who, target) in [
        "/ws",
        "/ws?username=",
        "/ws?username=+",
        "/ws?username=%3Cb%3E",
    ]
    .iter()
    .enumerate()
    {
        let who = who as u64 + 1;
        let connected = to(who, &desk.opens(who, target)[0]);
        assert_eq!(connected["connectedUsers"], who);
        let name = connected["username"].as_str().unwrap().to_owned();
        let letters = name.strip_prefix("User_").unwrap();
        assert!(letters.len() == 6 && letters.bytes().all(|letter| LETTERS.contains(&letter)));
        assert!(!names.contains(&name));
        names.push(name);
    }
}

#[test]
fn a_made_up_name_that_is_taken_is_not_used() {
    let mut desk = desk();
    desk.opens(1, "/ws");
    desk.repeat_the_last_id();
    assert_eq!(to(2, &desk.opens(2, "/ws")[0])["connectedUsers"], 2);
}

#[test]
fn a_fourth_connection_of_a_user_is_refused_in_the_handshake() {
    let mut desk = room(&["ann", "Ann", "ANN"]);
    let refusal = desk
        .tries_to_open(4, "/ws?username=aNN", "127.0.0.1")
        .unwrap_err();
    assert_eq!(refusal.status, 429);
    desk.leaves(2, Ending::Lost);
    assert_eq!(enters(&mut desk, 4, "ann")["connectedUsers"], 1);
}

#[test]
fn without_a_limit_a_user_may_have_any_number_of_connections() {
    let mut desk = Desk::<Workspace>::new(json!({"max_connections_per_user": 0}));
    for who in 1..100 {
        enters(&mut desk, who, "ann");
    }
}

#[test]
fn a_message_goes_to_everybody_the_sender_included() {
    let mut desk = room(&["john_doe", "b", "b"]);
    let lines = desk.says(1, SEND);
    let message = r#"{"type":"message:new","data":{"id":"msg_1768557600000","userId":"ws_user_1768557600000","username":"john_doe","text":"Hello everyone!","createdAt":"2026-01-16T10:00:00.000Z"}}"#;
    assert_eq!(lines, [1, 2, 3].map(|who| format!("{who} < {message}")));
}

#[test]
fn message_ids_are_unique_and_increasing() {
    let mut desk = room(&["a"]);
    let id = |desk: &mut Desk<Workspace>| to(1, &desk.says(1, SEND)[0])["data"]["id"].clone();
    assert_eq!(id(&mut desk), "msg_1768557600000");
    assert_eq!(id(&mut desk), "msg_1768557600001");
    desk.waits(Duration::from_secs(1));
    assert_eq!(id(&mut desk), "msg_1768557601000");
}

#[test]
fn message_content_is_sanitised() {
    let mut desk = room(&["a"]);
    let lines = desk.says(
        1,
        r#"{"type":"message:send","text":"<scr<script>ipt>1 < 2 \u0007<b>"}"#,
    );
    assert_eq!(to(1, &lines[0])["data"]["text"], "ipt>1 < 2 ");
}

#[test]
fn a_presence_update_goes_to_all_other_users() {
    let mut desk = room(&["a", "b", "a", "c"]);
    for status in ["online", "away", "busy", "offline"] {
        let lines = desk.says(
            1,
            &format!(r#"{{"type":"presence:update","status":"{status}"}}"#),
        );
        assert_eq!(
            lines,
            [presence(2, 1, "a", status), presence(4, 1, "a", status)]
        );
    }
}

#[test]
fn the_others_hear_when_a_user_comes_with_its_first_connection() {
    let mut desk = room(&["a"]);
    assert_eq!(
        desk.opens(2, "/ws?username=b")[1..],
        [presence(1, 2, "b", "online")]
    );
    assert_eq!(desk.opens(3, "/ws?username=b")[1..], no_lines());
}

#[test]
fn the_others_hear_when_a_user_goes_with_its_last_connection() {
    for how in [
        Ending::Left(Some(1001)),
        Ending::Lost,
        Ending::Silent,
        Ending::Closed(Close::TooSlow),
    ] {
        let mut desk = room(&["a", "b", "b"]);
        assert_eq!(desk.leaves(2, how), no_lines());
        assert_eq!(desk.leaves(3, how), [presence(1, 2, "b", "offline")]);
    }
}

#[test]
fn typing_goes_to_all_other_users_and_only_when_it_changes() {
    let mut desk = room(&["a", "b", "a"]);
    assert_eq!(desk.says(1, TYPES), [typing(2, 1, "a", true)]);
    assert_eq!(desk.says(1, TYPES), no_lines());
    assert_eq!(desk.says(1, RESTS), [typing(2, 1, "a", false)]);
    assert_eq!(desk.says(1, RESTS), no_lines());
}

#[test]
fn a_user_types_as_long_as_one_of_its_connections_does() {
    let mut desk = room(&["a", "b", "a"]);
    assert_eq!(desk.says(1, TYPES), [typing(2, 1, "a", true)]);
    assert_eq!(desk.says(3, TYPES), no_lines());
    assert_eq!(desk.says(1, RESTS), no_lines());
    assert_eq!(desk.says(3, RESTS), [typing(2, 1, "a", false)]);
}

#[test]
fn a_user_who_leaves_while_typing_stops_typing() {
    let mut desk = room(&["a", "b"]);
    desk.says(2, TYPES);
    let lines = desk.leaves(2, Ending::Lost);
    assert_eq!(
        lines,
        [typing(1, 2, "b", false), presence(1, 2, "b", "offline")]
    );
    let mut desk = room(&["a", "b", "b"]);
    desk.says(2, TYPES);
    assert_eq!(desk.leaves(2, Ending::Lost), [typing(1, 2, "b", false)]);
}

#[test]
fn what_is_no_json_is_answered_and_nobody_else_hears_of_it() {
    let mut desk = room(&["a", "b"]);
    for text in [
        "",
        "hello",
        "{",
        r#"{"type":"message:send","text":"\ud800"#,
        "{} {}",
    ] {
        assert_eq!(error(&mut desk, 1, text)["code"], "INVALID_JSON", "{text}");
    }
}

#[test]
fn an_unknown_type_is_answered() {
    let mut desk = room(&["a", "b"]);
    for text in [
        r#"{"type":"message:new"}"#,
        r#"{"type":""}"#,
        r#"{"type":"MESSAGE:SEND","text":"x"}"#,
    ] {
        assert_eq!(error(&mut desk, 1, text)["code"], "UNKNOWN_TYPE", "{text}");
    }
}

#[test]
fn a_message_that_makes_no_sense_is_answered() {
    let mut desk = room(&["a", "b"]);
    for text in [
        "[]",
        r#"["message:send","hi",null,true]"#,
        r#"  ["message:send","hi",null,true]"#,
        r#""message:send""#,
        "7",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"message:send"}"#,
        r#"{"type":"message:send","text":null}"#,
        r#"{"type":"message:send","text":["x"]}"#,
        r#"{"type":"message:send","text":""}"#,
        r#"{"type":"message:send","text":" \n "}"#,
        r#"{"type":"message:send","text":"<b></b>"}"#,
        r#"{"type":"message:send","text":"\ud800"}"#,
        r#"{"type":"message:send","text":"a","text":"b"}"#,
        r#"{"type":"presence:update","status":"asleep"}"#,
        r#"{"type":"presence:update"}"#,
        r#"{"type":"typing:indicator","isTyping":"yes"}"#,
        r#"{"type":"typing:indicator"}"#,
    ] {
        assert_eq!(
            error(&mut desk, 1, text)["code"],
            "INVALID_MESSAGE",
            "{text}"
        );
    }
    let lines = desk.sends(1, Message::Binary(SEND.as_bytes().to_vec().into()));
    assert_eq!(to(1, &lines[0])["code"], "INVALID_MESSAGE");
}

#[test]
fn unknown_fields_are_ignored() {
    let mut desk = room(&["a"]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = format!(r#"{{"extra":{deep},"type":"message:send","text":"x","status":5}}"#);
    assert_eq!(to(1, &desk.says(1, &text)[0])["type"], "message:new");
}

#[test]
fn a_user_may_send_100_messages_a_minute_over_all_its_connections() {
    let mut desk = room(&["a", "A"]);
    for sent in 0..100 {
        assert_eq!(desk.says(1 + sent % 2, SEND).len(), 2);
    }
    let refused = error(&mut desk, 1, SEND);
    assert_eq!(
        (&refused["code"], &refused["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(60_000))
    );
    assert_eq!(
        desk.says(2, AWAY),
        no_lines(),
        "signals have a limit of their own"
    );
    desk.waits(MINUTE);
    assert_eq!(desk.says(2, SEND).len(), 2);
}

#[test]
fn signals_have_a_limit_of_their_own_three_times_that() {
    let mut desk = room(&["a"]);
    for _ in 0..150 {
        assert_eq!(desk.says(1, AWAY), no_lines());
        assert_eq!(desk.says(1, TYPES), no_lines());
    }
    assert_eq!(error(&mut desk, 1, AWAY)["code"], "RATE_LIMITED");
    assert_eq!(error(&mut desk, 1, RESTS)["code"], "RATE_LIMITED");
    assert_eq!(desk.says(1, SEND).len(), 1);
}

#[test]
fn only_what_passed_validation_counts() {
    let mut desk = room(&["a"]);
    for _ in 0..200 {
        error(&mut desk, 1, r#"{"type":"message:send","text":""}"#);
    }
    assert_eq!(to(1, &desk.says(1, SEND)[0])["type"], "message:new");
}

#[test]
fn going_and_coming_back_does_not_lift_a_limit() {
    let mut desk = room(&["a", "b"]);
    for _ in 0..100 {
        desk.says(1, SEND);
    }
    desk.leaves(1, Ending::Left(None));
    desk.opens(3, "/ws?username=A");
    assert_eq!(error(&mut desk, 3, SEND)["code"], "RATE_LIMITED");
    desk.leaves(3, Ending::Lost);
    desk.waits(MINUTE);
    desk.opens(4, "/ws?username=a");
    assert_eq!(desk.says(4, SEND).len(), 2);
}

#[test]
fn those_who_are_gone_are_not_remembered_for_ever() {
    let mut desk = desk();
    for who in 0..1000 {
        desk.opens(who, &format!("/ws?username=u{who}"));
        desk.says(who, SEND);
        desk.leaves(who, Ending::Lost);
    }
    desk.waits(MINUTE);
    let Workspace {
        members,
        users,
        gone,
        ..
    } = &desk.realm;
    assert!(members.is_empty() && users.is_empty());
    assert!(gone.is_empty());
}

#[test]
fn a_connection_is_closed_after_five_minutes_without_a_message_in_either_direction() {
    let mut desk = room(&["a", "b"]);
    desk.waits(2 * MINUTE);
    desk.says(1, AWAY);
    desk.waits(3 * MINUTE);
    assert_eq!(
        desk.waits(2 * MINUTE - Duration::from_millis(1)),
        no_lines()
    );
    let lines = desk.waits(Duration::from_millis(1));
    assert_eq!(lines, ["1 x 4408 timed out", "2 x 4408 timed out"]);
    assert!(desk.realm.members.is_empty() && desk.realm.users.is_empty());
}

#[test]
fn those_who_are_not_idle_hear_of_those_who_are() {
    let mut desk = room(&["a"]);
    desk.waits(MINUTE);
    desk.opens(2, "/ws?username=b");
    desk.waits(4 * MINUTE);
    desk.opens(3, "/ws?username=c");
    assert_eq!(desk.waits(4 * MINUTE), no_lines());
    // The others have heard nothing since the newcomer came.
    desk.says(3, "nonsense");
    let lines = desk.waits(MINUTE);
    let [a, b] = [(1, "a"), (60_001, "b")].map(|(id, name)| presence(3, id, name, "offline"));
    assert_eq!(lines, ["1 x 4408 timed out", &a, "2 x 4408 timed out", &b]);
}

#[test]
fn even_a_message_that_is_wrong_is_one() {
    let mut desk = room(&["a"]);
    desk.waits(4 * MINUTE);
    desk.says(1, "nonsense");
    assert_eq!(desk.waits(4 * MINUTE), no_lines());
}

#[test]
fn without_a_limit_nobody_is_idle() {
    let mut desk = Desk::<Workspace>::new(json!({"idle_timeout": 0}));
    desk.opens(1, "/ws");
    assert_eq!(desk.waits(1000 * MINUTE), no_lines());
}

#[test]
fn it_serves_one_path() {
    assert!(Workspace::serves("/ws"));
    for path in ["/", "/ws/", "/ws/chat", "/WS"] {
        assert!(!Workspace::serves(path), "{path}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_decoding_panic(text in "\\PC{0,100}") {
        Workspace::decode(&mut (), Message::Text(text.into()));
    }

    #[test]
    fn no_json_makes_decoding_panic(
        kind in "(message:send|presence:update|typing:indicator|[a-z:]{0,12})",
        field in "(text|status|isTyping|type|[a-z]{0,5})",
        value in "(true|null|-?[0-9]{1,30}(e[0-9]{1,3})?|\"[a-z<>]{0,9}\"|\\[\\]|\\{\\})",
    ) {
        Workspace::decode(&mut (), Message::Text(format!(r#"{{"type":"{kind}","{field}":{value}}}"#).into()));
    }
}
