//! Hosts and ports as URLs, Origin and Host headers write them (RFC 3986 section 3.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host. Two are equal if they mean the same, however they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case, without the dot that may end it.
    Name(String),
    /// An address, an IPv4 one even if it was written as IPv6.
    Ip(IpAddr),
}

impl Host {
    /// Parses a host; IPv6 addresses stand in brackets. `None` for everything that no browser would send: among
    /// it letters outside ASCII, empty labels, and names that end in a number and are not an address.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(text) = text.strip_prefix('[') {
            let address: Ipv6Addr = text.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(address).to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let is_letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !label.is_empty() && label.bytes().all(is_letter)
        };
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            let address: Ipv4Addr = name.parse().ok()?;
            return Some(Self::Ip(address.into()));
        }
        name.split('.')
            .all(is_label)
            .then(|| Self::Name(name.to_ascii_lowercase()))
    }

    /// Returns whether the host is this machine whatever a name server says: `localhost`, a name below it
    /// (RFC 6761 section 6.3), or a loopback address.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::Ip(ip) => ip.is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Parses a host that a port may follow. A colon without a port is no port.
pub fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = split_port(text);
    let port = match port.unwrap_or_default() {
        "" => None,
        digits => Some(parse_port(digits)?),
    };
    Some((Host::parse(host)?, port))
}

/// Parses the digits of a port.
pub fn parse_port(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Splits off what follows the last colon. A colon within brackets belongs to an IPv6 address.
pub fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_parsed_whatever_its_case_its_final_dot_and_its_spelling_of_an_address() {
        for (text, shown) in [
            ("Chat.Example", "chat.example"),
            ("chat.example.", "chat.example"),
            ("my_host-1", "my_host-1"),
            ("127.0.0.1", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_no_browser_sends_as_a_host_is_none() {
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a b",
            " a",
            "a/b",
            "a@b",
            "a*",
            "*.a",
            "m\u{fc}nchen",
            "a:1",
            "127.0.0.256",
            "127.1",
            "1.2.3.4.5",
            "::1",
            "[::1",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%1]",
            "a?b",
            "a#b",
            "a\\b",
            "a\0b",
        ] {
            assert_eq!(Host::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_may_follow_a_host() {
        let parsed = |text| parse_authority(text).map(|(host, port)| (host.to_string(), port));
        assert_eq!(parsed("a:80"), Some(("a".to_owned(), Some(80))));
        assert_eq!(parsed("a:"), Some(("a".to_owned(), None)));
        assert_eq!(parsed("[::1]"), Some(("[::1]".to_owned(), None)));
        assert_eq!(parsed("[::1]:080"), Some(("[::1]".to_owned(), Some(80))));
        for text in ["a:65536", "a:+1", "a:x", "::1", ":80", "a:1:2", "[::1]x:80"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }

    #[test]
    fn loopback_are_localhost_the_names_below_it_and_loopback_addresses() {
        let is_loopback = |text| Host::parse(text).unwrap().is_loopback();
        for text in [
            "localhost",
            "LOCALHOST.",
            "app.localhost",
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_loopback(text), "{text}");
        }
        for text in [
            "localhost.evil",
            "notlocalhost",
            "0.0.0.0",
            "[::]",
            "128.0.0.1",
        ] {
            assert!(!is_loopback(text), "{text}");
        }
    }
}
