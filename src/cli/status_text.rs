//! `/status` as text for a person.

use super::table::table;
use crate::base::log_escape::escape;
use serde_json::Value;
use std::time::Duration;

/// Warnings that are printed, at most: the last ones.
const MAX_WARNINGS: usize = 5;

/// Returns what a daemon says of itself: a paragraph about the process, a line for each listener and each ban, and the
/// last warnings. What a daemon of another version leaves out is left out here.
pub(super) fn status_text(status: &Value) -> String {
    let uptime = status
        .get("uptime_seconds")
        .and_then(Value::as_f64)
        .unwrap_or_default();
    let uptime = Duration::from_secs(
        Duration::try_from_secs_f64(uptime)
            .unwrap_or_default()
            .as_secs(),
    );
    let health = match status.get("healthy").and_then(Value::as_bool) {
        Some(true) => "healthy",
        _ => "not well",
    };
    let mut out = format!(
        "switchboard {}, pid {}, {health}, up {}\n{} of {} connections, {}\n\n",
        text(status, "version"),
        text(status, "pid"),
        humantime::format_duration(uptime),
        text(status, "connections"),
        text(status, "max_connections"),
        memory(status.get("memory").unwrap_or(&Value::Null)),
    );
    let heading = [
        "PROTOCOL",
        "LISTENER",
        "CONNECTIONS",
        "ACCEPTED",
        "REFUSED",
        "MESSAGES IN",
        "OUT",
        "STATE",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(list(status, "listeners").map(listener));
    out += &table(&rows);
    for ban in list(status, "bans") {
        out += &format!(
            "\n{} is banned {}",
            text(ban, "network"),
            until(ban.get("until").and_then(Value::as_str))
        );
    }
    let warnings: Vec<&Value> = list(status, "warnings").collect();
    let start = warnings.len().saturating_sub(MAX_WARNINGS);
    for warning in warnings.get(start..).unwrap_or_default() {
        let [time, level, message] = ["time", "level", "message"].map(|key| text(warning, key));
        out += &format!("\n{time} {level}: {message}");
    }
    format!("{}\n", out.trim_end())
}

/// Returns a listener as a row of the table.
fn listener(listener: &Value) -> Vec<String> {
    let refused = listener.get("refused").and_then(Value::as_object);
    let refused = refused.map_or(0, |by_reason| {
        by_reason.values().filter_map(Value::as_u64).sum::<u64>()
    });
    let state = match listener.get("is_bound").and_then(Value::as_bool) {
        Some(false) => "its address is taken, and tried again",
        _ => "listens",
    };
    vec![
        text(listener, "protocol"),
        text(listener, "address"),
        text(listener, "connections"),
        text(listener, "accepted"),
        refused.to_string(),
        text(listener, "messages_in"),
        text(listener, "messages_out"),
        state.to_owned(),
    ]
}

/// Returns how much memory is used.
fn memory(memory: &Value) -> String {
    let mib = |key: &str| memory.get(key).and_then(Value::as_u64).unwrap_or_default() >> 20;
    let budget = match memory.get("budget_bytes").and_then(Value::as_u64) {
        None | Some(0) => "no limit".to_owned(),
        Some(_) => format!("{} MiB", mib("budget_bytes")),
    };
    format!(
        "{} MiB of {budget} held for clients, {} MiB resident",
        mib("held_bytes"),
        mib("resident_bytes")
    )
}

/// Returns how long a ban lasts.
pub(super) fn until(time: Option<&str>) -> String {
    match time {
        Some(time) => format!("until {}", escape(time)),
        None => "as long as the daemon runs".to_owned(),
    }
}

/// Returns the entries of a list.
fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten()
}

/// Returns a value as text, for one line of a terminal.
fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => escape(text),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_a_paragraph_a_table_of_listeners_bans_and_the_last_warnings() {
        let warning =
            |n: u32| json!({"time": "T", "level": "warn", "message": format!("{n}\u{1b}")});
        let status = json!({
            "version": "0.1.0", "pid": 7, "uptime_seconds": 3725.9, "healthy": true,
            "connections": 37, "max_connections": 5000,
            "memory": {"held_bytes": 3 << 20, "budget_bytes": 128 << 20, "resident_bytes": 9 << 20},
            "listeners": [
                {"protocol": "peerjs", "address": "*:9000", "is_bound": true, "connections": 30,
                 "accepted": 100, "refused": {"404": 1, "timeout": 2}, "messages_in": 5, "messages_out": 6},
                {"protocol": "fastchat", "address": "*:8000", "is_bound": false, "connections": 0,
                 "accepted": 0, "refused": {}, "messages_in": 0, "messages_out": 0},
            ],
            "bans": [{"network": "192.0.2.0/24", "until": null}],
            "warnings": (0..9).map(warning).collect::<Vec<_>>(),
        });
        assert_eq!(
            status_text(&status),
            "switchboard 0.1.0, pid 7, healthy, up 1h 2m 5s\n\
             37 of 5000 connections, 3 MiB of 128 MiB held for clients, 9 MiB resident\n\n\
             PROTOCOL  LISTENER  CONNECTIONS  ACCEPTED  REFUSED  MESSAGES IN  OUT  STATE\n\
             peerjs    *:9000    30           100       3        5            6    listens\n\
             fastchat  *:8000    0            0         0        0            0    its address is taken, and tried again\n\
             \n192.0.2.0/24 is banned as long as the daemon runs\n\
             T warn: 4\\u{1b}\nT warn: 5\\u{1b}\nT warn: 6\\u{1b}\nT warn: 7\\u{1b}\nT warn: 8\\u{1b}\n"
        );
    }
}
