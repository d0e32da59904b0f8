//! The listeners that flags name: `--listen PROTOCOL=ADDRESS`.

use super::Listener;
use super::validate::{check_addresses, read_listener};
use crate::base::log_escape::Quoted;
use crate::protocols;
use crate::realm::setting::SettingMap;
use serde_json::json;

/// Reads the values of all flags. Their problems are added to `problems`.
pub(super) fn read(flags: &[String], problems: &mut Vec<String>) -> Vec<Listener> {
    let before = problems.len();
    let read = |text: &String| read_one(text, problems);
    let listeners: Vec<Listener> = flags.iter().filter_map(read).collect();
    if problems.len() == before {
        let flags: Vec<String> = listeners.iter().map(Listener::to_flag).collect();
        let place = |index: usize| flags.get(index).cloned().unwrap_or_default();
        check_addresses(&listeners, place, place, problems);
    }
    listeners
}

/// Reads the value of one flag by the rules of the keys `protocol` and `address` in a file.
fn read_one(text: &str, problems: &mut Vec<String>) -> Option<Listener> {
    let place = format!("--listen {}: ", Quoted(text));
    let Some((protocol, address)) = text.split_once('=') else {
        problems.push(format!("{place}{}", without_protocol(text)));
        return None;
    };
    let given = [("protocol", json!(protocol)), ("address", json!(address))];
    let given = given.map(|(key, value)| (key.to_owned(), value));
    read_listener(&place, SettingMap::from_iter(given), problems)
}

/// Returns what to write instead of a text without an equals sign.
fn without_protocol(text: &str) -> String {
    let word = text.split([':', ' ']).next().unwrap_or_default();
    match protocols::by_name(word) {
        Some(protocol) => format!("write {}", Listener::built_in(protocol).to_flag()),
        None => format!(
            "write --listen PROTOCOL=ADDRESS, such as {}",
            Listener::example_flag()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(flags: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut problems = Vec::new();
        let listeners = read(&flags, &mut problems);
        if problems.is_empty() {
            Ok(listeners.iter().map(Listener::to_flag).collect())
        } else {
            Err(problems)
        }
    }

    #[test]
    fn each_flag_is_a_listener_whose_other_settings_are_the_defaults() {
        assert_eq!(
            read_all(&["peerjs=*:1", "PeerJS=:2", "workspace=[::1]:3"]),
            Ok(vec![
                "--listen peerjs=*:1".to_owned(),
                "--listen peerjs=*:2".to_owned(),
                "--listen workspace=[::1]:3".to_owned(),
            ])
        );
        let listener = read(&["peerdrop=localhost:9081".to_owned()], &mut Vec::new());
        let built_in = Listener::built_in(protocols::by_name("peerdrop").unwrap());
        assert_eq!(json!(listener), json!([built_in]));
    }

    #[test]
    fn an_error_is_that_of_the_key_in_a_file() {
        for (flag, problem) in [
            ("", "write --listen PROTOCOL=ADDRESS, such as --listen "),
            (
                "*:9000",
                "write --listen PROTOCOL=ADDRESS, such as --listen ",
            ),
            ("peerjs", "write --listen peerjs=localhost:9000"),
            ("peerjs:9000", "write --listen peerjs=localhost:9000"),
            (
                "=*:9000",
                "protocol: unknown protocol \"\"; the protocols are ",
            ),
            (
                "smtp=*:25",
                "protocol: unknown protocol \"smtp\"; the protocols are ",
            ),
            ("peerj=*:1", "protocol: write \"peerjs\"; unknown protocol"),
            (
                "peerjs=9000",
                "address: write \"*:9000\" instead of \"9000\"",
            ),
            ("peerjs=*:", "address: write \"*:9000\" instead of \"*:\""),
            (
                "peerjs=",
                "address: write \"localhost:9000\" (this machine), ",
            ),
            (
                "peerjs=*:99999",
                "address: write \"localhost:9000\" (this machine), ",
            ),
            (
                "peerjs=a=b",
                "address: write \"localhost:9000\" (this machine), ",
            ),
        ] {
            let problems = read_all(&[flag]).unwrap_err();
            let expected = format!("--listen \"{flag}\": {problem}");
            assert!(problems[0].starts_with(&expected), "{flag}: {problems:?}");
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
    }

    #[test]
    fn an_address_that_is_used_twice_is_an_error() {
        assert_eq!(
            read_all(&["peerjs=*:1", "fastchat=localhost:1"]),
            Err(vec![
                "--listen fastchat=localhost:1: localhost:1 is already used by --listen peerjs=*:1 (peerjs); \
                 each listener needs its own port"
                    .to_owned()
            ])
        );
    }
}
