//! The rates of text, and the pace at which large texts enter the room.

use super::document::{MINUTE, SEND, error, room, to};
use crate::protocols::workspace::*;
use crate::testing::harness::{RealmHarness, no_lines};
use serde_json::{Value, json};

const KIB: usize = 1024;

/// Returns a `message:send` with a text of `bytes` bytes.
fn text_of(bytes: usize) -> String {
    json!({"type": "message:send", "text": "x".repeat(bytes)}).to_string()
}

/// Returns who received a `message:new` with a text of how many bytes, in order; other lines as they are.
fn received(lines: &[String]) -> Vec<String> {
    let describe = |line: &String| match line.split_once(" < ") {
        Some((conn, json)) => {
            let message: Value = serde_json::from_str(json).unwrap();
            let text = message["data"]["text"].as_str().unwrap_or_default();
            format!("{conn} < {}", text.len())
        }
        None => line.clone(),
    };
    lines.iter().map(describe).collect()
}

/// Advances by whole seconds, and returns after how many the first text entered.
fn seconds_until_next(harness: &mut RealmHarness<Workspace>) -> u32 {
    let second = |_: &u32| !harness.advance(Duration::from_secs(1)).is_empty();
    (1..100).find(second).unwrap()
}

#[test]
fn a_user_may_send_1_mib_of_text_a_minute_over_all_its_connections() {
    let mut harness = room(&["a", "A"]);
    for sent in 0..64 {
        assert_eq!(
            harness.send(1 + sent % 2, &text_of(16 * KIB)).len(),
            2,
            "{sent}"
        );
    }
    let rejected = error(&mut harness, 1, SEND);
    assert_eq!(
        (&rejected["code"], &rejected["retryAfterMs"]),
        (&json!("RATE_LIMITED"), &json!(60_000))
    );
    harness.disconnect(1, DisconnectReason::Lost);
    harness.disconnect(2, DisconnectReason::Lost);
    harness.open(3, "/ws?username=a");
    assert_eq!(error(&mut harness, 3, SEND)["code"], "RATE_LIMITED");
    harness.advance(MINUTE);
    assert_eq!(harness.send(3, SEND).len(), 1);
}

#[test]
fn the_limit_of_text_is_a_sliding_one() {
    let mut harness = RealmHarness::<Workspace>::new(json!({"text_per_minute": 100}));
    harness.open(1, "/ws?username=a");
    for _ in 0..5 {
        assert_eq!(harness.send(1, &text_of(20)).len(), 1);
        harness.advance(Duration::from_secs(10));
    }
    // 40 bytes are free when the first two texts are a minute old.
    let rejected = to(1, &harness.send(1, &text_of(21))[0]);
    assert_eq!(rejected["retryAfterMs"], 20_000);
    harness.advance(Duration::from_secs(19));
    assert_eq!(
        to(1, &harness.send(1, &text_of(21))[0])["code"],
        "RATE_LIMITED"
    );
    harness.advance(Duration::from_secs(1));
    assert_eq!(received(&harness.send(1, &text_of(21))), ["1 < 21"]);
}

#[test]
fn a_text_that_is_refused_counts_neither_as_message_nor_as_text() {
    let options = json!({"text_per_minute": 100, "messages_per_minute": 2});
    let mut harness = RealmHarness::<Workspace>::new(options);
    harness.open(1, "/ws?username=a");
    assert_eq!(harness.send(1, &text_of(60)).len(), 1);
    for _ in 0..10 {
        assert_eq!(error(&mut harness, 1, &text_of(41))["code"], "RATE_LIMITED");
    }
    assert_eq!(received(&harness.send(1, &text_of(40))), ["1 < 40"]);
}

#[test]
fn a_first_text_may_be_as_large_as_messages_are() {
    let mut harness = room(&["a"]);
    assert_eq!(
        received(&harness.send(1, &text_of(3 << 20))),
        ["1 < 3145728"]
    );
    assert_eq!(error(&mut harness, 1, SEND)["code"], "RATE_LIMITED");
    harness.advance(MINUTE);
    assert_eq!(
        received(&harness.send(1, &text_of(3 << 20))),
        ["1 < 3145728"]
    );
}

#[test]
fn large_texts_enter_one_after_another_at_192_kib_a_second() {
    let mut harness = room(&["a", "b", "c", "d"]);
    let size = 5 * 192 * KIB;
    assert_eq!(harness.send(1, &text_of(size)).len(), 4);
    assert_eq!(harness.send(2, &text_of(192 * KIB)), ["2 ~ paused"]);
    assert_eq!(harness.send(3, &text_of(17 * KIB)), ["3 ~ paused"]);
    assert_eq!(harness.advance(Duration::from_millis(4999)), no_lines());
    let lines = harness.advance(Duration::from_millis(1));
    let all = |bytes: usize| (1..=4).map(move |conn| format!("{conn} < {bytes}"));
    let expected: Vec<String> = all(192 * KIB).chain(["2 ~ resumed".to_owned()]).collect();
    assert_eq!(received(&lines), expected);
    let lines = harness.advance(Duration::from_secs(1));
    let expected: Vec<String> = all(17 * KIB).chain(["3 ~ resumed".to_owned()]).collect();
    assert_eq!(received(&lines), expected);
    // Time without large texts is not saved up.
    harness.advance(MINUTE);
    assert_eq!(harness.send(1, &text_of(size)).len(), 4);
    harness.send(2, &text_of(17 * KIB));
    assert_eq!(seconds_until_next(&mut harness), 5);
}

#[test]
fn many_large_texts_share_the_pace() {
    let names: Vec<String> = (0..100).map(|number| format!("n{number}")).collect();
    let mut harness = room(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for conn in 1..=100 {
        harness.send(conn, &text_of(32 * KIB));
    }
    let mut seconds = 0;
    while !harness.realm.large_texts.is_empty() {
        let entered = harness.advance(Duration::from_secs(1)).len() / 101;
        assert!(
            (5..=7).contains(&entered) || harness.realm.large_texts.is_empty(),
            "{entered}"
        );
        seconds += 1;
    }
    assert_eq!(seconds, 17, "99 waited, 6 a second");
}

#[test]
fn the_pace_counts_what_the_members_receive() {
    let mut harness = room(&["a", "b"]);
    let text = "\"".repeat(192 * KIB);
    harness.send(
        1,
        &json!({"type": "message:send", "text": text}).to_string(),
    );
    harness.send(2, &text_of(17 * KIB));
    assert_eq!(
        seconds_until_next(&mut harness),
        2,
        "each quotation mark is sent as two bytes"
    );
}

#[test]
fn a_text_of_16_kib_is_not_large() {
    let mut harness = room(&["a", "b"]);
    harness.send(1, &text_of(1000 * KIB));
    assert_eq!(harness.send(2, &text_of(16 * KIB)).len(), 2);
    assert_eq!(harness.send(2, &text_of(16 * KIB + 1)), ["2 ~ paused"]);
}

#[test]
fn without_a_pace_large_texts_enter_at_once() {
    let options = json!({"large_text_per_second": 0, "text_per_minute": 0});
    let mut harness = RealmHarness::<Workspace>::new(options);
    harness.open(1, "/ws?username=a");
    for _ in 0..12 {
        assert_eq!(
            received(&harness.send(1, &text_of(1 << 20))),
            ["1 < 1048576"]
        );
    }
}

#[test]
fn the_sender_of_a_large_text_is_not_read_until_it_has_entered() {
    let mut harness = room(&["a", "b"]);
    harness.send(1, &text_of(192 * KIB));
    assert_eq!(harness.send(2, &text_of(17 * KIB)), ["2 ~ paused"]);
    assert_eq!(harness.send(1, SEND).len(), 2, "its text has entered");
    let lines = harness.advance(Duration::from_secs(1));
    assert_eq!(lines.last().unwrap(), "2 ~ resumed");
}

#[test]
fn what_a_sender_says_after_its_large_text_comes_after_it() {
    let mut harness = room(&["a", "b"]);
    harness.send(1, &text_of(192 * KIB));
    harness.send(2, &text_of(17 * KIB));
    for text in [text_of(1), text_of(18 * KIB), text_of(2)] {
        assert_eq!(harness.send(2, &text), no_lines());
    }
    let lines = received(&harness.advance(Duration::from_secs(1)));
    assert_eq!(
        lines,
        [
            "1 < 17408",
            "2 < 17408",
            "2 ~ resumed",
            "1 < 1",
            "2 < 1",
            "2 ~ paused"
        ]
    );
    let lines = received(&harness.advance(Duration::from_secs(1)));
    assert_eq!(
        lines,
        ["1 < 18432", "2 < 18432", "2 ~ resumed", "1 < 2", "2 < 2"]
    );
}

#[test]
fn a_sender_whose_large_text_waits_is_not_idle() {
    let options = json!({"large_text_per_second": 1000, "announcement_interval": 0});
    let mut harness = RealmHarness::<Workspace>::new(options);
    harness.open(1, "/ws?username=a");
    harness.open(2, "/ws?username=b");
    harness.send(1, &text_of(400_000));
    harness.send(2, &text_of(17 * KIB));
    let lines = harness.advance(Duration::from_secs(399));
    assert_eq!(lines[0], "1 x 4408 timed out");
    let lines = harness.advance(Duration::from_secs(1));
    assert_eq!(received(&lines), ["2 < 17408", "2 ~ resumed"]);
    assert_eq!(harness.advance(Duration::from_secs(299)), no_lines());
}

#[test]
fn a_large_text_goes_with_its_sender() {
    let mut harness = room(&["a", "b", "c"]);
    harness.send(1, &text_of(192 * KIB));
    harness.send(2, &text_of(100 * KIB));
    harness.send(3, &text_of(17 * KIB));
    harness.disconnect(2, DisconnectReason::Lost);
    let lines = harness.advance(Duration::from_secs(1));
    assert_eq!(received(&lines), ["1 < 17408", "3 < 17408", "3 ~ resumed"]);
    assert!(harness.realm.large_texts.is_empty());
}

#[test]
fn a_large_text_that_waits_is_counted_as_memory_of_its_sender() {
    let mut harness = room(&["a", "b"]);
    harness.send(1, &text_of(192 * KIB));
    let before = harness.realm.stored_bytes();
    harness.send(2, &text_of(100 * KIB));
    // The rates of the users count, too, with a few bytes.
    let with_text = 100 * KIB..101 * KIB;
    assert!(with_text.contains(&(harness.realm.stored_bytes() - before)));
    assert!(with_text.contains(&harness.realm.stored_bytes_of(ConnectionId(2))));
    harness.advance(Duration::from_secs(1));
    assert!(harness.realm.stored_bytes() - before < KIB);
    assert!(harness.realm.stored_bytes_of(ConnectionId(2)) < KIB);
}

#[test]
fn a_reader_of_2_mbit_s_stays_while_others_send_what_they_may() {
    const OUTBOX: usize = 2 * (1 << 20);
    const BYTES_PER_SECOND: usize = 250_000;
    let names: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
    let mut harness = room(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let largest = text_of((1 << 20) - 100);
    let (mut queued, mut total, mut most) = (0, 0, 0);
    for second in 0..180 {
        let mut lines = harness.advance(Duration::from_secs(1));
        // Each sends when its last text is a minute old. The harness would keep any number of messages of a
        // paused connection.
        let sender = 1 + second % 60;
        if sender <= 12 && !harness.is_paused(sender) {
            lines.extend(harness.send(sender, &largest));
        }
        let mine = lines.iter().filter_map(|line| line.strip_prefix("12 < "));
        // Its own errors are no text of others.
        let mine = mine.filter(|json| json.contains("message:new"));
        let bytes: usize = mine.map(str::len).sum();
        total += bytes;
        queued += bytes;
        most = most.max(queued);
        queued = queued.saturating_sub(BYTES_PER_SECOND);
    }
    assert!(most <= OUTBOX, "{most} bytes waited");
    assert!(total > 170 * 180 * KIB, "the pace is made use of: {total}");
}
