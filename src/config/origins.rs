//! The origins of web pages that may connect (RFC 6455 section 10.2; rulings, "origin").

use crate::base::host::{Host, parse_authority};
use crate::base::log_escape::Quoted;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;

/// The origins that a listener admits, as its configuration lists them.
///
/// A request without an Origin header is not from a browser and is always admitted: the check keeps foreign
/// pages from using the network position of their visitors, and other programs could send any origin.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Origins(Vec<Entry>);

/// One entry of `origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `*`: admits every page.
    Any,
    /// `same-host`: admits pages of the host named in the request's Host header, on any port, and of this
    /// machine.
    SameHost,
    /// `null`: admits what has no origin of its own, such as a page in a sandbox.
    Null,
    /// Admits pages of this origin.
    Origin(Origin),
    /// `https://*.example`: admits pages of all names below the host of this origin.
    Below(Origin),
}

/// An origin as browsers send it (RFC 6454 section 6), in the form in which two are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    site: Site,
}

/// The part of an origin after its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Site {
    /// Of a page that came over HTTP. The port is `None` if it is the scheme's own.
    Web { host: Host, port: Option<u16> },
    /// Of another scheme, such as `app://x` or `file://`, as it stands.
    Other(String),
}

impl Origins {
    /// Returns the list that admits every page.
    pub(super) fn any() -> Self {
        Self(vec![Entry::Any])
    }

    /// Returns the entry that admits this origin and no other, if browsers could send it.
    pub(crate) fn entry_for(origin: &str) -> Option<String> {
        let entry = Entry::parse(origin).ok();
        let entry = entry.filter(|entry| matches!(entry, Entry::Origin(_) | Entry::Null));
        entry.map(|entry| entry.to_string())
    }

    /// Returns whether pages that come from the listener are admitted, whatever name it is reached under.
    pub(super) fn allow_own_pages(&self) -> bool {
        let is_general = |entry| matches!(entry, &Entry::Any | &Entry::SameHost);
        self.0.iter().any(is_general)
    }

    /// Returns whether a request with these Origin and Host headers is admitted.
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(text) = origin else { return true };
        let origin = Origin::parse(text);
        self.0.iter().any(|entry| match (entry, &origin) {
            (Entry::Any, _) => true,
            (Entry::Null, _) => text == NULL,
            (_, None) => false,
            (Entry::SameHost, Some(origin)) => origin.is_same_host(host),
            (Entry::Origin(listed), Some(origin)) => listed == origin,
            (Entry::Below(parent), Some(origin)) => origin.is_below(parent),
        })
    }
}

/// Returns whether a request with these Origin and Host headers is from a page that came from where the request goes.
/// Whether that was over TLS is not compared: a proxy may have ended it.
pub(crate) fn is_own_origin(origin: &str, host: &str) -> bool {
    let (origin, host) = (Origin::parse(origin), parse_authority(host));
    let (Some(origin), Some((requested, port))) = (origin, host) else {
        return false;
    };
    let own_port = own_port(&origin.scheme);
    let site = Site::Web {
        host: requested,
        port: port.filter(|port| Some(*port) != own_port),
    };
    own_port.is_some() && origin.site == site
}

/// The origin of a page that has none of its own.
const NULL: &str = "null";

impl Entry {
    /// Parses an entry.
    ///
    /// # Errors
    /// What to write instead of one that could never match.
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "*" => Ok(Self::Any),
            "same-host" => Ok(Self::SameHost),
            NULL => Ok(Self::Null),
            _ => parse_origin(text).ok_or_else(|| problem(text)),
        }
    }
}

/// Parses an entry that is an origin, perhaps with `*.` before its host.
fn parse_origin(text: &str) -> Option<Entry> {
    let (scheme, rest) = text.split_once("://")?;
    let Some(parent) = rest.strip_prefix("*.") else {
        // Pages never come over these schemes.
        let is_never_sent = |never: &&str| scheme.eq_ignore_ascii_case(never);
        let is_sent = !["ws", "wss"].iter().any(is_never_sent);
        return Origin::parse(text).filter(|_| is_sent).map(Entry::Origin);
    };
    let parent = Origin::parse(&format!("{scheme}://{parent}"))?;
    let has_names_below = matches!(
        parent.site,
        Site::Web {
            host: Host::Name(_),
            ..
        }
    );
    has_names_below.then_some(Entry::Below(parent))
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let Some(own_port) = own_port(&scheme) else {
            return Self::of_other_scheme(scheme, rest);
        };
        let (host, port) = parse_authority(rest).filter(|_| !rest.ends_with(':'))?;
        let port = port.filter(|port| *port != own_port);
        let site = Site::Web { host, port };
        Some(Self { scheme, site })
    }

    fn of_other_scheme(scheme: String, rest: &str) -> Option<Self> {
        let is_of_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let is_scheme = scheme.bytes().all(is_of_scheme)
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_of_host = |b: u8| {
            b.is_ascii_graphic()
                && !matches!(b, b'/' | b'?' | b'#' | b'@' | b'*' | b'\\' | b'"' | b',')
        };
        (is_scheme && rest.bytes().all(is_of_host)).then(|| Self {
            scheme,
            site: Site::Other(rest.to_ascii_lowercase()),
        })
    }

    /// Returns whether the page is of the host of the request, or of this machine.
    fn is_same_host(&self, host: Option<&str>) -> bool {
        let name = match &self.site {
            Site::Web { host, .. } => Some(host.clone()),
            Site::Other(text) => parse_authority(text).map(|(host, _)| host),
        };
        let requested = host.and_then(parse_authority);
        name.is_some_and(|name| {
            name.is_loopback() || requested.is_some_and(|(requested, _)| requested == name)
        })
    }

    /// Returns whether the host is a name below that of `parent`, and the rest is the same.
    fn is_below(&self, parent: &Self) -> bool {
        match (&self.site, &parent.site) {
            (
                Site::Web {
                    host: Host::Name(name),
                    port,
                },
                Site::Web {
                    host: Host::Name(above),
                    port: expected,
                },
            ) => {
                let labels = name.strip_suffix(above.as_str());
                self.scheme == parent.scheme
                    && port == expected
                    && labels.is_some_and(|labels| labels.ends_with('.'))
            }
            _ => false,
        }
    }
}

/// Returns the port of a web page without one in its URL; `None` if the scheme is not one of the web.
fn own_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Returns what to write instead of an entry that could never match.
fn problem(text: &str) -> String {
    let given = Quoted(text);
    if !text.is_ascii() {
        return format!(
            "write the name in ASCII, as browsers send it (\"https://xn--...\"), instead of {given}"
        );
    }
    let trimmed = text.trim();
    if trimmed.contains([',', ';']) || trimmed.contains(char::is_whitespace) {
        return format!("write each origin as an entry of its own, instead of {given}");
    }
    let host = trimmed.split_once("://").map_or(trimmed, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    if host == "*" {
        return format!("write \"*\", which is every page, instead of {given}");
    }
    if host.ends_with(":*") {
        return format!(
            "write an origin for each port, such as \"http://localhost:3000\", or \"same-host\", which is \
             any port of this host and of this machine, instead of {given}"
        );
    }
    let squeezed = trimmed.to_ascii_lowercase().replace(['_', '-', '\''], "");
    let keyword = match squeezed.as_str() {
        "any" | "all" | "**" => Some("*"),
        "samehost" | "sameorigin" | "self" | "same" => Some("same-host"),
        "none" => Some(NULL),
        _ => None,
    };
    let repaired = keyword.map(str::to_owned);
    let repaired = repaired.or_else(|| self::repaired(trimmed).map(|entry| entry.to_string()));
    match repaired {
        Some(repaired) => {
            format!(
                "write \"{repaired}\" instead of {given}: browsers send a scheme, a host and a port"
            )
        }
        None => format!(
            "write an origin as browsers send it, such as \"https://chat.example\" or \
             \"https://*.chat.example\", or \"*\", \"same-host\" or \"null\", instead of {given}"
        ),
    }
}

/// Returns the origin that was probably meant.
fn repaired(text: &str) -> Option<Entry> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (String::new(), text.trim_start_matches('/')),
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let rest = rest.trim_end_matches(':');
    let rest = match rest.strip_prefix('*') {
        Some(name) => format!("*.{}", name.trim_start_matches('.')),
        None => rest.to_owned(),
    };
    let is_loopback = parse_authority(&rest).is_some_and(|(host, _)| host.is_loopback());
    let scheme = match scheme.as_str() {
        "ws" => "http",
        "wss" => "https",
        "" | "*" if is_loopback => "http",
        "" | "*" => "https",
        other => other,
    };
    parse_origin(&format!("{scheme}://{rest}"))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.site)
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web { host, port: None } => host.fmt(f),
            Self::Web {
                host,
                port: Some(port),
            } => write!(f, "{host}:{port}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::SameHost => f.write_str("same-host"),
            Self::Null => f.write_str(NULL),
            Self::Origin(origin) => origin.fmt(f),
            Self::Below(Origin { scheme, site }) => write!(f, "{scheme}://*.{site}"),
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(text) => Self::parse(&text).map_err(D::Error::custom),
            Value::Null => Err(D::Error::custom(
                "write \"null\", in quotes, instead of null",
            )),
            other => Err(D::Error::custom(format!(
                "write an origin in quotes, such as \"https://chat.example\", instead of {other}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(origins: &[&str]) -> Origins {
        serde_json::from_value(origins.into()).unwrap()
    }

    fn admits(origins: &[&str], origin: &str) -> bool {
        list(origins).allows(Some(origin), Some("chat.example:8000"))
    }

    #[test]
    fn a_client_without_an_origin_is_admitted() {
        assert!(list(&["https://a.example"]).allows(None, None));
        assert!(list(&["same-host"]).allows(None, None));
    }

    #[test]
    fn a_star_admits_every_origin() {
        assert!(admits(&["*"], "https://evil.example"));
        assert!(admits(&["*"], "null"));
        assert!(admits(&["*"], "no origin at all"));
    }

    #[test]
    fn a_listed_origin_must_match_completely() {
        let listed = &["https://good.example", "http://good.example:8080"];
        for origin in [
            "https://good.example",
            "HTTPS://Good.Example",
            "https://good.example:443",
            "http://good.example:8080",
        ] {
            assert!(admits(listed, origin), "{origin}");
        }
        for origin in [
            "http://good.example",
            "https://good.example:444",
            "https://good.example.evil",
            "https://evil-good.example",
            "https://www.good.example",
            "https://good.example/",
            "https://good.example@evil",
            "null",
            "",
        ] {
            assert!(!admits(listed, origin), "{origin}");
        }
        assert!(admits(&["null"], "null"));
    }

    #[test]
    fn an_entry_is_taken_as_meant() {
        for (entry, origin) in [
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80", "http://a.example"),
            ("https://A.Example", "https://a.example"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("file://", "file://"),
            ("app://x", "app://x"),
            ("app://.", "app://."),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("NULL", "null"),
        ] {
            assert!(admits(&[entry], origin), "{entry}");
        }
        assert!(!admits(&["app://x"], "app://y"));
        assert!(!admits(&["file://"], "null"));
    }

    #[test]
    fn a_star_in_front_stands_for_one_label_or_more() {
        let below = &["https://*.good.example", "http://*.good.example:8080"];
        for origin in [
            "https://a.good.example",
            "https://a.b.good.example",
            "https://a.good.example:443",
            "http://a.good.example:8080",
        ] {
            assert!(admits(below, origin), "{origin}");
        }
        for origin in [
            "https://good.example",
            "https://evilgood.example",
            "https://.good.example",
            "https://a.good.example:8080",
            "http://a.good.example",
            "https://a.good.example.evil",
            "https://a.good.example/.good.example",
            "https://evil/.good.example",
            "https://evil:80@a.good.example",
            "https://evil#.good.example",
        ] {
            assert!(!admits(below, origin), "{origin}");
        }
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
            "capacitor://localhost",
        ] {
            assert!(admits(same, origin), "{origin}");
        }
        for origin in [
            "http://example",
            "http://evil.example",
            "http://chat.example.evil",
            "http://localhost.evil",
            "http://127.0.0.1.evil",
            "http://evil.com/.localhost",
            "http://evil.com/localhost",
            "http://evil.com?.localhost",
            "http://evil.com#.localhost",
            "http://evil.com\\.localhost",
            "http://evil.com:80@localhost",
            "http://evil.com .localhost",
            "x://evil.com/.localhost",
            "x://evil.com,.localhost",
            "file://",
            "null",
            "chat.example",
        ] {
            assert!(!admits(same, origin), "{origin}");
        }
        let same = list(same);
        assert!(!same.allows(Some("file://"), Some("")));
        assert!(!same.allows(Some("http://a"), None));
        assert!(same.allows(Some("http://[::2]:1"), Some("[0::2]:9")));
    }

    #[test]
    fn an_entry_that_could_never_match_is_told_what_to_write() {
        for (entry, right) in [
            (
                "https://a.example/",
                "write \"https://a.example\" instead of",
            ),
            (
                "https://a.example/chat?x#y",
                "write \"https://a.example\" instead of",
            ),
            (
                " https://a.example",
                "write \"https://a.example\" instead of",
            ),
            (
                "https://user@a.example:8443",
                "write \"https://a.example:8443\" instead of",
            ),
            (
                "https://a.example:",
                "write \"https://a.example\" instead of",
            ),
            ("a.example", "write \"https://a.example\" instead of"),
            ("//a.example", "write \"https://a.example\" instead of"),
            (
                "localhost:3000",
                "write \"http://localhost:3000\" instead of",
            ),
            ("wss://a.example", "write \"https://a.example\" instead of"),
            ("ws://a.example", "write \"http://a.example\" instead of"),
            ("*.a.example", "write \"https://*.a.example\" instead of"),
            ("*://a.example", "write \"https://a.example\" instead of"),
            (
                "https://*a.example",
                "write \"https://*.a.example\" instead of",
            ),
            ("file:///", "write \"file://\" instead of"),
            ("https://*", "write \"*\", which is every page, instead of"),
            (
                "http://localhost:*",
                "write an origin for each port, such as \"http://localhost:3000\"",
            ),
            ("same_host", "write \"same-host\" instead of"),
            ("any", "write \"*\" instead of"),
            ("https://m\u{fc}nchen.example", "write the name in ASCII"),
            (
                "https://a.example, https://b.example",
                "write each origin as an entry of its own",
            ),
            (
                "https://a example",
                "write each origin as an entry of its own",
            ),
            (
                "",
                "write an origin as browsers send it, such as \"https://chat.example\"",
            ),
            ("https://", "write an origin as browsers send it"),
            ("https://a.*", "write an origin as browsers send it"),
            ("https://*.127.0.0.1", "write an origin as browsers send it"),
            (
                "https://a.example:99999",
                "write an origin as browsers send it",
            ),
        ] {
            let problem = Entry::parse(entry).unwrap_err();
            assert!(problem.starts_with(right), "{entry}: {problem}");
        }
    }

    #[test]
    fn a_log_tells_to_admit_the_refused_origin_and_no_other() {
        let entry = |origin| Origins::entry_for(origin);
        assert_eq!(
            entry("https://A.example:443").as_deref(),
            Some("https://a.example")
        );
        assert_eq!(entry("null").as_deref(), Some("null"));
        for origin in [
            "*",
            "same-host",
            "https://*.example",
            "https://a.example/",
            "",
        ] {
            assert_eq!(entry(origin), None, "{origin}");
        }
    }

    proptest! {
        #[test]
        fn what_is_told_to_be_written_is_an_entry(text in "[a-z*./:@ -]{0,24}|(http|wss?|file)s?://[a-z*./:@-]{0,16}") {
            if let Err(problem) = Entry::parse(&text) {
                let right = problem.split('"').nth(1).unwrap();
                prop_assert!(Entry::parse(right).is_ok() || !problem.starts_with("write \""), "{}", problem);
            }
        }
    }
}
