//! The origins of web pages that may connect (RFC 6455 section 10.2; rulings, "origin").

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The origins that a listener admits, as its configuration lists them.
///
/// A request without an Origin header is not from a browser and is always admitted: the check keeps foreign
/// pages from using the network position of their visitors, and other programs could send any origin.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origins(Vec<String>);

/// Admits every page.
const ANY: &str = "*";
/// Admits pages of the host named in the request's Host header, on any port, and of this machine.
const SAME_HOST: &str = "same-host";

impl Origins {
    /// Creates the list from the entries of a configuration.
    pub fn new(origins: &[&str]) -> Self {
        Self(origins.iter().map(|&origin| origin.to_owned()).collect())
    }

    /// Returns the first entry that could never match, if there is one.
    pub fn first_invalid(&self) -> Option<&str> {
        let is_valid = |entry: &str| {
            entry == ANY
                || entry == SAME_HOST
                || entry == "null"
                || entry.split_once("://").is_some_and(|(scheme, host)| {
                    !scheme.is_empty() && !host.is_empty() && !host.contains('/')
                })
        };
        self.0
            .iter()
            .map(String::as_str)
            .find(|entry| !is_valid(entry))
    }

    /// Returns whether a request with these Origin and Host headers is admitted.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.0.iter().any(|entry| match entry.as_str() {
            ANY => true,
            SAME_HOST => is_same_host(origin, host),
            // The case of scheme and host does not matter (RFC 6454 section 4).
            listed => listed.eq_ignore_ascii_case(origin),
        })
    }
}

fn is_same_host(origin: &str, host: Option<&str>) -> bool {
    let Some((_scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let name = without_port(authority);
    is_loopback(name) || host.is_some_and(|host| name.eq_ignore_ascii_case(without_port(host)))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn is_loopback(name: &str) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(origins: &[&str], origin: &str) -> bool {
        Origins::new(origins).allows(Some(origin), Some("chat.example:8000"))
    }

    #[test]
    fn a_client_without_an_origin_is_admitted() {
        assert!(Origins::new(&["https://a.example"]).allows(None, None));
        assert!(Origins::new(&["same-host"]).allows(None, None));
    }

    #[test]
    fn a_star_admits_every_origin() {
        assert!(admits(&["*"], "https://evil.example"));
        assert!(admits(&["*"], "null"));
    }

    #[test]
    fn a_listed_origin_must_match_completely() {
        let listed = &["https://good.example", "http://good.example:8080"];
        for origin in [
            "https://good.example",
            "HTTPS://Good.Example",
            "http://good.example:8080",
        ] {
            assert!(admits(listed, origin), "{origin}");
        }
        for origin in [
            "http://good.example",
            "https://good.example:444",
            "https://good.example.evil",
            "https://evil-good.example",
            "https://good.example/",
            "null",
            "",
        ] {
            assert!(!admits(listed, origin), "{origin}");
        }
        assert!(admits(&["null"], "null"));
    }

    #[test]
    fn same_host_admits_the_host_of_the_request_on_any_port_and_this_machine() {
        let same = &["same-host"];
        for origin in [
            "http://chat.example",
            "https://CHAT.example:3000",
            "http://localhost:3000",
            "http://app.localhost",
            "http://127.0.0.1:5173",
            "http://[::1]:80",
        ] {
            assert!(admits(same, origin), "{origin}");
        }
        for origin in [
            "http://example",
            "http://evil.example",
            "http://chat.example.evil",
            "http://localhost.evil",
            "http://127.0.0.1.evil",
            "null",
            "chat.example",
        ] {
            assert!(!admits(same, origin), "{origin}");
        }
    }

    #[test]
    fn an_entry_that_could_never_match_is_invalid() {
        assert_eq!(
            Origins::new(&["*", "same-host", "null", "https://a.b:1"]).first_invalid(),
            None
        );
        for invalid in [
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "same_host",
        ] {
            assert_eq!(Origins::new(&["*", invalid]).first_invalid(), Some(invalid));
        }
    }
}
