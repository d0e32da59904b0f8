//! The names under which a listener is reached (rulings, "origin").

use crate::base::host::{Host, parse_authority};
use crate::base::log_escape::Quoted;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The hosts that requests may name, beside IP addresses and loopback names.
///
/// A page of `evil.example` whose name server answers 127.0.0.1 at its second query (DNS rebinding) talks to
/// a listener of this machine as to its own host, and no check of its origin notices. Its requests name
/// `evil.example` as their host. A host that is an IP address or a loopback name was not looked up, so that
/// such a page cannot name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Host>);

impl Hosts {
    /// Returns whether a request with these Host and Origin headers is admitted. One without either is not
    /// from a browser.
    pub fn allows(&self, host: Option<&str>, origin: Option<&str>) -> bool {
        match host.filter(|host| !host.is_empty()) {
            None => origin.is_none(),
            Some(host) => parse_authority(host).is_some_and(|(host, _)| self.contains(&host)),
        }
    }

    /// Returns the entry that admits requests with this Host header, if it names a host.
    pub(crate) fn entry_for(host: &str) -> Option<String> {
        parse_authority(host).map(|(host, _)| host.to_string())
    }

    fn contains(&self, host: &Host) -> bool {
        matches!(host, Host::Ip(_)) || host.is_loopback() || self.0.contains(host)
    }
}

impl Serialize for Hosts {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(Host::to_string))
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let hosts = match Value::deserialize(from)? {
            Value::Array(hosts) => hosts,
            Value::String(host) => {
                let right = repaired(&host).map_or(host, |host| host.to_string());
                return Err(D::Error::custom(format!("write [{}]", Quoted(&right))));
            }
            _ => {
                let problem = "write names in a list, such as [\"chat.example\"], or null";
                return Err(D::Error::custom(problem));
            }
        };
        hosts
            .iter()
            .map(|host| parse(host).map_err(D::Error::custom))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Parses an entry.
///
/// # Errors
/// What to write instead of one that is no name.
fn parse(entry: &Value) -> Result<Host, String> {
    let Value::String(text) = entry else {
        return Err("write each name in quotes, such as \"chat.example\"".to_owned());
    };
    Host::parse(text).ok_or_else(|| match repaired(text) {
        Some(host) => format!("write \"{host}\", the name alone, instead of {}", Quoted(text)),
        None => format!(
            "write a name in ASCII under which this listener is reached, such as \"chat.example\", instead \
             of {}; each name needs an entry of its own",
            Quoted(text)
        ),
    })
}

/// Returns the host in something that has more than a host.
fn repaired(text: &str) -> Option<Host> {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    parse_authority(authority).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hosts(hosts: Value) -> Result<Hosts, String> {
        serde_json::from_value(hosts).map_err(|error| error.to_string())
    }

    #[test]
    fn a_request_must_name_an_ip_address_a_loopback_name_or_a_listed_host() {
        let listed = hosts(json!(["chat.example"])).unwrap();
        for host in [
            "chat.example",
            "Chat.Example:8000",
            "chat.example.",
            "localhost:9000",
            "app.localhost",
            "127.0.0.1:9000",
            "192.0.2.1",
            "[::1]:9000",
            "[2001:db8::1]",
        ] {
            assert!(
                listed.allows(Some(host), Some("https://a.example")),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "a.chat.example",
            "chat.example.evil",
            "evil.example/.localhost",
            "chat.example@evil.example",
            "chat.example:x",
            "127.0.0.1.evil.example",
            "::1",
            " ",
        ] {
            assert!(!listed.allows(Some(host), None), "{host}");
        }
        assert!(!Hosts::default().allows(Some("chat.example"), None));
    }

    #[test]
    fn a_request_without_a_host_is_admitted_if_it_has_no_origin() {
        for host in [None, Some("")] {
            assert!(Hosts::default().allows(host, None));
            assert!(!Hosts::default().allows(host, Some("http://localhost")));
        }
    }

    #[test]
    fn what_is_no_name_is_told_what_to_write() {
        for (given, right) in [
            (json!("a.example"), "write [\"a.example\"]"),
            (json!("https://a.example/"), "write [\"a.example\"]"),
            (
                json!(["https://a.example:1/x"]),
                "write \"a.example\", the name alone",
            ),
            (
                json!(["a.example:9000"]),
                "write \"a.example\", the name alone",
            ),
            (json!([" a.example"]), "write \"a.example\", the name alone"),
            (json!(["*"]), "write a name in ASCII"),
            (json!(["*.a.example"]), "write a name in ASCII"),
            (json!(["m\u{fc}nchen.example"]), "write a name in ASCII"),
            (json!(["a.example b.example"]), "write a name in ASCII"),
            (json!([7]), "write each name in quotes"),
            (json!(true), "write names in a list"),
        ] {
            let problem = hosts(given).unwrap_err();
            assert!(problem.starts_with(right), "{problem}");
        }
    }

    #[test]
    fn names_are_printed_as_they_are_compared() {
        let hosts = hosts(json!(["Chat.Example.", "[0::1]"])).unwrap();
        assert_eq!(json!(hosts), json!(["chat.example", "[::1]"]));
    }
}
