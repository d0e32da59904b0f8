//! The address of a listener, as the configuration writes it (rulings, "address").

use super::named_socket;
use crate::base::host::{Host, parse_authority, parse_port, split_port};
use crate::base::log_escape::Quoted;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `localhost:PORT`: 127.0.0.1 and ::1, whichever of them exist.
    Localhost(u16),
    /// `*:PORT`: all addresses of both families, of IPv4 alone where the kernel has no IPv6.
    Any(u16),
    /// One address, as it was written; `[::]` binds what `*` does.
    Ip(SocketAddr),
    /// `unix:PATH`: a Unix socket that the daemon makes at this path.
    Unix(Arc<str>),
    /// `systemd:NAME`: the sockets that systemd passes under this `FileDescriptorName`.
    Systemd(Arc<str>),
}

impl Address {
    /// Parses an address. `port` is the protocol's default, for what an error says to write.
    ///
    /// # Errors
    /// What to write instead.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        if let Some(sockets) = named_socket::HERE.lacks(text) {
            return Err(format!(
                "write \"localhost:{port}\" instead of {}: {sockets} are not available on this system",
                Quoted(text)
            ));
        }
        if let Some(path) = text.strip_prefix(named_socket::UNIX) {
            return named_socket::check_path(path).map(|()| Self::Unix(path.into()));
        }
        if let Some(name) = text.strip_prefix(named_socket::SYSTEMD) {
            return named_socket::check_name(name).map(|()| Self::Systemd(name.into()));
        }
        match parse_words(text) {
            Some(address) => Ok(address),
            None => Err(problem(text, port)),
        }
    }

    /// Returns the port, where the address has one; 0: one that the system chooses.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Localhost(port) | Self::Any(port) => Some(*port),
            Self::Ip(address) => Some(address.port()),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }

    /// Returns the same address with another port, where it has one.
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Localhost(_) => Self::Localhost(port),
            Self::Any(_) => Self::Any(port),
            Self::Ip(address) => Self::Ip(SocketAddr::new(address.ip(), port)),
            Self::Unix(_) | Self::Systemd(_) => self.clone(),
        }
    }

    /// Returns where a client connects over `ws` or `http`, for people. Of sockets that systemd passes the
    /// configuration does not say it.
    pub fn url(&self, scheme: &str, endpoint: &str) -> String {
        match self {
            // As the library below wscat writes it.
            Self::Unix(path) => format!("{scheme}+unix://{path}:{endpoint}"),
            Self::Systemd(_) => format!("{self}, path {endpoint}"),
            Self::Localhost(_) | Self::Any(_) | Self::Ip(_) => {
                format!("{scheme}://{self}{endpoint}")
            }
        }
    }

    /// Returns the IP addresses that are to be bound; none for other sockets. An unspecified one stands for all of its
    /// family.
    pub fn ips(&self) -> Vec<IpAddr> {
        match self {
            Self::Localhost(_) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Self::Ip(address) if address.ip() != Ipv6Addr::UNSPECIFIED => {
                vec![address.ip().to_canonical()]
            }
            Self::Any(_) | Self::Ip(_) => {
                vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()]
            }
            Self::Unix(_) | Self::Systemd(_) => Vec::new(),
        }
    }

    /// Returns how many sockets are bound at most: one takes all addresses of both families. Those that systemd passes
    /// are open before.
    pub(crate) fn max_sockets(&self) -> usize {
        match self {
            Self::Localhost(_) => self.ips().len(),
            Self::Any(_) | Self::Ip(_) | Self::Unix(_) => 1,
            Self::Systemd(_) => 0,
        }
    }

    /// Returns whether it is bound to the loopback: browsers of this machine can connect, and no other machine can.
    ///
    /// A Unix socket is not: no browser can connect to it, and it is there for a proxy, whose clients are elsewhere.
    /// What systemd passes is not known here.
    pub fn is_loopback(&self) -> bool {
        let ips = self.ips();
        !ips.is_empty() && ips.iter().all(IpAddr::is_loopback)
    }

    /// Returns whether two addresses cannot be bound at the same time.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (Some(port), Some(other_port)) = (self.port(), other.port()) else {
            return self == other;
        };
        let covers =
            |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() && a.is_ipv4() == b.is_ipv4();
        let (ours, theirs) = (self.ips(), other.ips());
        let mut pairs = ours
            .iter()
            .flat_map(|a| theirs.iter().map(move |b| (*a, *b)));
        port == other_port && port != 0 && pairs.any(|(a, b)| covers(a, b) || covers(b, a))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost(port) => write!(f, "localhost:{port}"),
            Self::Any(port) => write!(f, "*:{port}"),
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}{path}", named_socket::UNIX),
            Self::Systemd(name) => write!(f, "{}{name}", named_socket::SYSTEMD),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// Parses the addresses that are not written in numbers.
fn parse_words(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = parse_port(port)?;
    match host {
        "" | "*" => Some(Address::Any(port)),
        host if host.eq_ignore_ascii_case("localhost") => Some(Address::Localhost(port)),
        _ => None,
    }
}

/// Returns what to write instead of something that is not an address.
fn problem(text: &str, port: u16) -> String {
    let given = Quoted(text);
    match repaired(text, port) {
        Some(repaired) => format!("write \"{repaired}\" instead of {given}"),
        None => format!(
            "write \"localhost:{port}\" (this machine), \"*:{port}\" (all addresses), an IP address \
             and a port from 0 to 65535, such as \"192.0.2.1:{port}\", \"{}\" (a Unix socket), or \"systemd:NAME\" (a \
             socket that systemd passes), instead of {given}",
            named_socket::EXAMPLE
        ),
    }
}

/// Returns the address that was probably meant.
fn repaired(text: &str, default_port: u16) -> Option<Address> {
    let text = text.trim();
    if let Some(named) = repaired_named(text) {
        return Some(named);
    }
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split('/').next().unwrap_or_default();
    if let Some(port) = parse_port(text) {
        return Some(Address::Any(port));
    }
    if let Some(address) = text
        .parse()
        .map(Address::Ip)
        .ok()
        .or_else(|| parse_words(text))
    {
        return Some(address);
    }
    let (host, port) = split_port(text);
    let ip = |ip, port| Some(Address::Ip(SocketAddr::new(ip, port)));
    // An IPv6 address without its brackets. What may be a port is taken as one.
    if let (Ok(v6), Some(port)) = (host.parse::<Ipv6Addr>(), port.and_then(parse_port)) {
        return ip(v6.into(), port);
    }
    if let Ok(address) = text.parse() {
        return ip(address, default_port);
    }
    match parse_authority(text) {
        Some((Host::Ip(address), port)) => ip(address, port.unwrap_or(default_port)),
        Some((Host::Name(name), None)) if name == "localhost" => {
            Some(Address::Localhost(default_port))
        }
        _ if host == "*" && port.unwrap_or_default().is_empty() => Some(Address::Any(default_port)),
        _ => None,
    }
}

/// Returns the path or the name that was probably meant.
fn repaired_named(text: &str) -> Option<Address> {
    if named_socket::is_path(text) {
        return Some(Address::Unix(text.into()));
    }
    let (kind, name) = text.split_once(':')?;
    let kind = format!("{}:", kind.to_ascii_lowercase());
    let is_named = [named_socket::UNIX, named_socket::SYSTEMD].contains(&kind.as_str());
    let address = is_named.then(|| Address::parse(&format!("{kind}{}", name.trim_start()), 0));
    address?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(text, 9000)
    }

    fn address(text: &str) -> Address {
        parse(text).unwrap()
    }

    #[test]
    fn each_form_of_the_ruling_is_an_address_and_is_printed_as_it_was_written() {
        for (text, expected, printed) in [
            ("localhost:1", Address::Localhost(1), "localhost:1"),
            ("LocalHost:1", Address::Localhost(1), "localhost:1"),
            ("*:1", Address::Any(1), "*:1"),
            (":1", Address::Any(1), "*:1"),
            (":0", Address::Any(0), "*:0"),
        ] {
            assert_eq!(parse(text), Ok(expected.clone()));
            assert_eq!(expected.to_string(), printed);
            assert_eq!(parse(printed), Ok(expected));
        }
        for text in ["127.0.0.1:1", "[::1]:1", "0.0.0.0:65535", "[::]:0"] {
            assert_eq!(address(text).to_string(), text);
            assert!(matches!(address(text), Address::Ip(_)));
        }
        let unix = address("unix:/run/switchboard/peerjs.sock");
        assert_eq!(unix, Address::Unix("/run/switchboard/peerjs.sock".into()));
        assert_eq!(unix.to_string(), "unix:/run/switchboard/peerjs.sock");
        let systemd = address("systemd:peerjs");
        assert_eq!(systemd, Address::Systemd("peerjs".into()));
        assert_eq!(systemd.to_string(), "systemd:peerjs");
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        for (text, right) in [
            ("9000", "\"*:9000\""),
            ("0.0.0.0", "\"0.0.0.0:9000\""),
            ("::1", "\"[::1]:9000\""),
            ("::1:80", "\"[::1]:80\""),
            ("[::1]", "\"[::1]:9000\""),
            ("*", "\"*:9000\""),
            ("*:", "\"*:9000\""),
            ("localhost", "\"localhost:9000\""),
            ("ws://localhost:80/ws", "\"localhost:80\""),
            ("http://127.0.0.1:80", "\"127.0.0.1:80\""),
            (" 127.0.0.1:80 ", "\"127.0.0.1:80\""),
            ("/run/peerjs.sock", "\"unix:/run/peerjs.sock\""),
            ("UNIX: /run/peerjs.sock", "\"unix:/run/peerjs.sock\""),
            ("unix:peerjs.sock", "\"unix:/peerjs.sock\""),
            ("Systemd:peerjs", "\"systemd:peerjs\""),
            ("systemd:", "\"systemd:chat\""),
            (
                "",
                "\"localhost:9000\" (this machine), \"*:9000\" (all addresses)",
            ),
            (
                "chat.example:80",
                "\"localhost:9000\" (this machine), \"*:9000\" (all addresses)",
            ),
            (
                "127.0.0.1:99999",
                "\"localhost:9000\" (this machine), \"*:9000\" (all addresses)",
            ),
            (
                "127.0.0.1:+1",
                "\"localhost:9000\" (this machine), \"*:9000\" (all addresses)",
            ),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(
                problem.starts_with(&format!("write {right}")),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn addresses_overlap_if_they_cannot_be_bound_at_the_same_time() {
        for (one, other, overlap) in [
            ("localhost:1", "127.0.0.1:1", true),
            ("localhost:1", "[::1]:1", true),
            ("localhost:1", "127.0.0.2:1", false),
            ("localhost:1", "localhost:2", false),
            ("localhost:0", "localhost:0", false),
            ("*:1", "192.0.2.1:1", true),
            ("*:1", "[2001:db8::1]:1", true),
            ("*:1", "localhost:1", true),
            ("[::]:1", "192.0.2.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "localhost:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "[::1]:1", false),
            ("unix:/run/a", "unix:/run/a", true),
            ("unix:/run/a", "unix:/run/b", false),
            ("unix:/run/a", "*:1", false),
            ("systemd:a", "systemd:a", true),
            ("systemd:a", "systemd:b", false),
            ("systemd:a", "unix:/a", false),
        ] {
            let (one, other) = (address(one), address(other));
            assert_eq!(one.overlaps(&other), overlap, "{one} {other}");
            assert_eq!(other.overlaps(&one), overlap, "{other} {one}");
        }
    }

    #[test]
    fn an_address_is_a_loopback_one_if_no_other_machine_can_connect_to_it() {
        for text in [
            "localhost:1",
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(address(text).is_loopback(), "{text}");
        }
        for text in [
            "*:1",
            "[::]:1",
            "0.0.0.0:1",
            "192.0.2.1:1",
            "unix:/run/a",
            "systemd:a",
        ] {
            assert!(!address(text).is_loopback(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_for_an_address_is_printed_as_the_same(text in "(unix:|systemd:)?[*:0-9.\\[\\]a-z/@ ]{0,20}") {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }

        #[test]
        fn an_address_that_is_told_to_be_written_is_one(text in "(unix:|systemd:)?[*:0-9.\\[\\]a-z/@ ]{0,20}") {
            if let Err(problem) = parse(&text) {
                let right = problem.split('"').nth(1).unwrap();
                prop_assert!(parse(right).is_ok(), "{}", problem);
            }
        }
    }
}
