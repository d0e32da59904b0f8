//! What to write instead of a key that does not exist, or a name that is misspelt.

use super::access::OLD_KEY;
use super::{EXAMPLE_LISTENERS, Listener, listener, process};
use crate::base::log_escape::Quoted;
use crate::protocols::PROTOCOLS;
use crate::realm::Protocol;
use serde_json::{Map, Value, json};

/// Longest name, in bytes, for which a similar one is looked for.
const MAX_NAME: usize = 40;

/// Keys that other servers have, and what has their purpose here.
const SYNONYMS: [(&str, &str); 19] = [
    ("proto", "protocol"),
    ("type", "protocol"),
    ("cors", "origins"),
    ("corsoptions", "origins"),
    ("allowedorigins", "origins"),
    ("alloworigin", "origins"),
    ("proxied", "trusted_proxies"),
    ("trustproxy", "trusted_proxies"),
    ("realipheader", "forwarded_header"),
    ("acceptproxy", "proxy_protocol"),
    ("sendproxy", "proxy_protocol"),
    ("allowedhosts", "hosts"),
    ("servername", "hosts"),
    ("loglevel", "log"),
    ("workers", "threads"),
    ("maxclients", "max_connections"),
    ("maxpayload", "max_message_size"),
    ("servers", "listeners"),
    ("authsecret", "access"),
];

/// Keys of other servers that name the host of an address.
const HOST_KEYS: [&str; 6] = ["host", "hostname", "bind", "listen", "interface", "ip"];

/// Keys of other servers that are about TLS.
const TLS_KEYS: [&str; 6] = ["ssl", "tls", "sslkey", "sslcert", "cert", "certificate"];

/// What to do about keys of TLS.
const TLS_HINT: &str = "remove this; for TLS put a proxy in front, such as nginx or Caddy";

/// What was probably meant by a name that a flag or a variable gives instead of that of a setting of the process.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// This setting of the process.
    Setting(&'static str),
    /// A key that cannot be given so: what to write.
    Elsewhere(String),
    /// Nothing that is known.
    Unknown,
}

/// Returns what was probably meant by a name that is not one of the settings of the process.
pub(super) fn meant_for_process(name: &str, settings: &[&'static str]) -> Meant {
    let elsewhere = keys_elsewhere(settings);
    if let Some(key) = elsewhere.iter().find(|key| **key == name) {
        return Meant::Elsewhere(hint_elsewhere(key));
    }
    if name == "port" || HOST_KEYS.contains(&name) {
        return Meant::Elsewhere(hint_listen());
    }
    if let Some(setting) = similar(name, settings) {
        return Meant::Setting(setting);
    }
    if let Some(key) = similar(name, &elsewhere) {
        return Meant::Elsewhere(hint_elsewhere(key));
    }
    if TLS_KEYS.contains(&squeeze(name).as_str()) {
        return Meant::Elsewhere(TLS_HINT.to_owned());
    }
    Meant::Unknown
}

/// Returns the keys of the configuration that are not settings of the process.
fn keys_elsewhere(settings: &[&str]) -> Vec<&'static str> {
    let options = PROTOCOLS.iter().flat_map(|protocol| (protocol.options)());
    let all = process::descriptions().into_iter();
    let all = all.chain(listener::descriptions()).chain(options);
    let names = all.map(|setting| setting.name);
    names.filter(|name| !settings.contains(name)).collect()
}

/// Returns what to write instead of a key that neither a flag nor a variable of its own can give.
fn hint_elsewhere(key: &str) -> String {
    if is_process_key(key) || key == "protocol" || key == "address" {
        return hint_listen();
    }
    let mut protocols = PROTOCOLS.iter();
    let has_option =
        |protocol: &&&Protocol| (protocol.options)().iter().any(|option| option.name == key);
    let name = protocols.find(has_option).or(PROTOCOLS.first());
    let name = name.map_or("", |protocol| protocol.name);
    format!(
        "write {{\"listeners\": [{{\"protocol\": \"{name}\", \"{key}\": ...}}]}} in the file: this is a key of a \
         listener"
    )
}

/// Returns what to write instead of keys that say which listeners there are.
fn hint_listen() -> String {
    format!(
        "write --listen PROTOCOL=ADDRESS, such as {}, or \"listeners\" in the file: this is about a listener",
        Listener::example_flag()
    )
}

/// Returns what to write instead of an unknown key of the outermost object.
pub(super) fn in_process(key: &str, _: &Value, known: &[&str]) -> Option<String> {
    let similar = similar(key, known)?;
    Some(format!("write \"{similar}\" instead of {}", Quoted(key)))
}

/// Takes the keys of a listener out of the outermost object. Returns what to write instead of them, if there
/// are any.
pub(super) fn take_misplaced(given: &mut Map<String, Value>) -> Option<String> {
    let is_misplaced = |key: &&String| {
        let is_listener_key = is_listener_key(key) || HOST_KEYS.contains(&key.as_str());
        (is_listener_key || *key == "port") && !is_process_key(key)
    };
    let misplaced: Vec<String> = given.keys().filter(is_misplaced).cloned().collect();
    let (mut protocol, mut entries) = (json!("peerdrop"), Vec::new());
    for key in &misplaced {
        let value = given.remove(key).unwrap_or_default();
        // Only these values are shown: others may be secrets.
        match key.as_str() {
            "protocol" => protocol = shown(value),
            "port" => entries.push(("address", json!(address_of_port(&value)))),
            "address" => entries.push((key, shown(value))),
            key => entries.push((key, json!("..."))),
        }
    }
    let entries: Vec<String> = [("protocol", protocol)]
        .iter()
        .chain(&entries)
        .map(|(key, value)| format!("\"{key}\": {value}"))
        .collect();
    (!misplaced.is_empty()).then(|| {
        format!(
            "write {{\"listeners\": [{{{}}}]}}: these are keys of a listener",
            entries.join(", ")
        )
    })
}

/// Returns what to write instead of an unknown key of a listener.
pub(super) fn in_listener(key: &str, value: &Value, known: &[&str]) -> Option<String> {
    if key == "port" {
        let address = address_of_port(value);
        let local = address.replacen('*', "localhost", 1);
        return Some(format!(
            "write \"address\": \"{address}\" (all addresses) or \"address\": \"{local}\" (this machine)"
        ));
    }
    if HOST_KEYS.contains(&key) {
        return Some(format!(
            "write \"address\": \"localhost:9000\", where to listen, or \"hosts\": [\"chat.example\"], the names \
             of it, instead of {}",
            Quoted(key)
        ));
    }
    if let Some(similar) = similar(key, known) {
        return Some(format!("write \"{similar}\" instead of {}", Quoted(key)));
    }
    if TLS_KEYS.contains(&squeeze(key).as_str()) {
        return Some(TLS_HINT.to_owned());
    }
    if is_process_key(key) {
        return Some(format!(
            "write this key beside \"listeners\": {{\"{key}\": …, \"listeners\": {EXAMPLE_LISTENERS}}}"
        ));
    }
    let of_others: Vec<&str> = PROTOCOLS
        .iter()
        .filter(|protocol| (protocol.options)().iter().any(|option| option.name == key))
        .map(|protocol| protocol.name)
        .collect();
    (!of_others.is_empty()).then(|| {
        format!(
            "remove this; it is an option of {}",
            of_others.join(" and ")
        )
    })
}

/// Returns the known name that was probably meant.
pub(super) fn similar<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let squeezed = squeeze(name);
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == squeezed);
    let synonym = synonym.and_then(|(_, meant)| known.iter().find(|known| *known == meant));
    // A name of eight letters may have two mistakes.
    let allowed = 1 + squeezed.len() / 8;
    let distances = known
        .iter()
        .map(|known| (distance(&squeezed, &squeeze(known)), known));
    let nearest = distances.min_by_key(|(distance, _)| *distance);
    let nearest =
        nearest.filter(|(distance, known)| *distance <= allowed && *distance < known.len() / 2);
    synonym.or(nearest.map(|(_, known)| known)).copied()
}

/// Returns a name without what styles of writing differ in.
fn squeeze(name: &str) -> String {
    name.to_lowercase().replace(['_', '-', ' ', '.'], "")
}

/// Returns how many letters must be inserted, removed, replaced or swapped with the next to make one word of
/// the other (the distance of Damerau and Levenshtein, in its restricted form).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(a != b))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let is_swap =
                i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if is_swap {
                best = best.min(at(&before_last, j - 1) + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

/// Returns the address that has the port which is given as a number or a text.
fn address_of_port(port: &Value) -> String {
    let port = match port {
        Value::String(port) => port.parse().ok(),
        port => port.as_u64().and_then(|port| u16::try_from(port).ok()),
    };
    format!("*:{}", port.unwrap_or(9000_u16))
}

/// Returns a short text, or three dots for everything else.
fn shown(value: Value) -> Value {
    match &value {
        Value::String(text) if text.len() <= MAX_NAME => value,
        _ => json!("..."),
    }
}

fn is_process_key(key: &str) -> bool {
    process::descriptions()
        .iter()
        .any(|setting| setting.name == key)
}

fn is_listener_key(key: &str) -> bool {
    let options = PROTOCOLS.iter().flat_map(|protocol| (protocol.options)());
    listener::descriptions()
        .into_iter()
        .chain(options)
        .any(|setting| setting.name == key)
        || key == OLD_KEY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 6] = [
        "address",
        "protocol",
        "origins",
        "hosts",
        "max_connections",
        "alive_timeout",
    ];

    #[test]
    fn a_misspelt_name_is_recognized() {
        for (given, meant) in [
            ("adress", "address"),
            ("addres", "address"),
            ("addresss", "address"),
            ("Address", "address"),
            ("origin", "origins"),
            ("orgiins", "origins"),
            ("host", "hosts"),
            ("max_conections", "max_connections"),
            ("maxConnections", "max_connections"),
            ("max-connections", "max_connections"),
            ("aliveTimeout", "alive_timeout"),
            ("alive_timout", "alive_timeout"),
            ("type", "protocol"),
            ("cors", "origins"),
        ] {
            assert_eq!(similar(given, &KNOWN), Some(meant), "{given}");
        }
    }

    #[test]
    fn another_name_is_not_taken_for_a_misspelt_one() {
        for given in [
            "",
            "key",
            "path",
            "smtp",
            "colour",
            &"a".repeat(1000),
            "\u{fc}\u{fc}",
        ] {
            assert_eq!(similar(given, &KNOWN), None, "{given}");
        }
    }

    #[test]
    fn a_name_that_is_no_setting_of_the_process_is_told_what_was_meant() {
        let meant = |name| meant_for_process(name, &["threads", "max_connections"]);
        assert_eq!(meant("thraeds"), Meant::Setting("threads"));
        assert_eq!(meant("workers"), Meant::Setting("threads"));
        for name in [
            "listeners",
            "listener",
            "protocol",
            "address",
            "adress",
            "port",
            "host",
        ] {
            assert_eq!(meant(name), Meant::Elsewhere(hint_listen()), "{name}");
        }
        let option = "write {\"listeners\": [{\"protocol\": \"peerjs\", \"alive_timeout\": ...}]} in the file: \
                      this is a key of a listener";
        assert_eq!(meant("alive_timeout"), Meant::Elsewhere(option.to_owned()));
        assert_eq!(meant("aliveTimeout"), Meant::Elsewhere(option.to_owned()));
        assert_eq!(meant("sslkey"), Meant::Elsewhere(TLS_HINT.to_owned()));
        assert_eq!(meant("colour"), Meant::Unknown);
    }

    #[test]
    fn a_distance_counts_letters_inserted_removed_replaced_and_swapped() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "ab", 0),
            ("ab", "ba", 1),
            ("abc", "ac", 1),
            ("abc", "axc", 1),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_distance_is_the_same_both_ways_and_zero_only_for_equal_words(one in "[a-d]{0,6}", other in "[a-d]{0,6}") {
            prop_assert_eq!(distance(&one, &other), distance(&other, &one));
            prop_assert_eq!(distance(&one, &other) == 0, one == other);
        }
    }
}
