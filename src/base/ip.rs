//! Addresses of clients, as keys of limits, and as the configuration writes those of proxies.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// Where a connection comes from, as far as the socket or a trusted proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientAddress {
    /// An IP address, in its canonical form if it is made by `from`: IPv4 is never written as IPv6.
    Ip(IpAddr),
    /// A Unix socket, whose clients have no addresses: all of them count as one.
    Unix,
}

impl ClientAddress {
    /// Returns whether the address is in a network, which no Unix socket is.
    pub(crate) fn is_in(&self, network: &Network) -> bool {
        match self {
            Self::Ip(address) => network.contains(*address),
            Self::Unix => false,
        }
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

/// As [`ProxyAddress`] writes it.
impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

/// The name of the clients of Unix sockets, in the log and in the configuration.
const UNIX: &str = "unix";

/// The key under which limits per client address count: an IPv4 address, or the /64 network of an IPv6
/// address, the smallest that a provider assigns to one customer. The clients of Unix sockets share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetKey(ClientAddress);

impl SubnetKey {
    /// Returns the key of an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: impl Into<ClientAddress>) -> Self {
        Self(match address.into() {
            ClientAddress::Ip(IpAddr::V6(v6)) => {
                let network = u128::from(v6) & (u128::MAX << 64);
                ClientAddress::Ip(IpAddr::V6(Ipv6Addr::from(network)))
            }
            single => single,
        })
    }
}

/// A network of proxies, or the proxies that connect through a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyAddress {
    /// A network, or one address.
    Network(Network),
    /// `unix`: whoever may connect to the Unix socket.
    Unix,
}

impl ProxyAddress {
    /// Returns whether these proxies have this address.
    pub fn contains(&self, address: ClientAddress) -> bool {
        match (self, address) {
            (Self::Network(network), ClientAddress::Ip(address)) => network.contains(address),
            (Self::Unix, ClientAddress::Unix) => true,
            (Self::Network(_), ClientAddress::Unix) | (Self::Unix, ClientAddress::Ip(_)) => false,
        }
    }
}

impl FromStr for ProxyAddress {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            UNIX => Ok(Self::Unix),
            network => network.parse().map(Self::Network),
        }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}

/// A network in CIDR notation, such as `10.0.0.0/8`, or a single address, such as `192.0.2.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Returns the network with this prefix length that an address is in.
    ///
    /// A prefix that is longer than the address is the address alone.
    pub fn of(address: IpAddr, prefix: u8) -> Self {
        let address = address.to_canonical();
        let prefix = prefix.min(width(address));
        let host_bits = width(address) - prefix;
        let masked = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(host_bits.into()).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(host_bits.into()).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Self {
            address: masked,
            prefix,
        }
    }

    /// Returns the same network, without bits of the address behind the prefix.
    pub fn normalized(self) -> Self {
        Self::of(self.address, self.prefix)
    }

    /// Returns the address, which may have bits behind the prefix.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns the length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Returns whether all addresses of another network are in this one.
    pub fn contains_network(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Returns whether the network contains an address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let width = width(self.address);
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let address = address.to_canonical();
        let host_bits = width - self.prefix;
        width == self::width(address)
            && (bits(self.address) ^ bits(address))
                .checked_shr(host_bits.into())
                .unwrap_or(0)
                == 0
    }
}

/// Returns the length of an address in bits.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| ())?,
            None => width(address),
        };
        // Addresses are compared in their canonical form, so that an IPv4 network written as IPv6 would never
        // match.
        match (address, address.to_canonical()) {
            _ if prefix > width(address) => Err(()),
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if prefix >= 96 => Ok(Self {
                address: v4,
                prefix: prefix - 96,
            }),
            _ => Ok(Self { address, prefix }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Addresses and networks of tests, from their text.
#[cfg(test)]
pub(crate) mod from_text {
    use super::*;

    pub(crate) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(crate) fn client(text: &str) -> ClientAddress {
        ip(text).into()
    }

    pub(crate) fn proxies(texts: &[&str]) -> Vec<ProxyAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::from_text::{ip, proxies};
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_subnet_key_is_an_ipv4_address_or_an_ipv6_network() {
        let key = |text| SubnetKey::of(ip(text));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        let unix = SubnetKey::of(ClientAddress::Unix);
        assert_eq!(unix, SubnetKey::of(ClientAddress::Unix));
        assert!(unix != key("127.0.0.1") && unix != key("::"));
    }

    #[test]
    fn a_unix_socket_is_no_network_and_no_network_has_a_unix_socket() {
        let [unix, all, all_of_v6] = proxies(&["unix", "0.0.0.0/0", "::/0"])[..] else {
            unreachable!()
        };
        assert_eq!(unix.to_string(), "unix");
        assert!(unix.contains(ClientAddress::Unix));
        for address in ["127.0.0.1", "::1", "::"] {
            assert!(!unix.contains(ip(address).into()), "{address}");
        }
        for network in [all, all_of_v6] {
            assert!(!network.contains(ClientAddress::Unix), "{network}");
        }
        for text in ["Unix", "unix:", "unix:/run/proxy.sock", "unix/0", ""] {
            assert_eq!(text.parse::<ProxyAddress>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        let [ten, one, all, v6, host] = networks(&[
            "10.0.0.0/8",
            "192.0.2.1",
            "0.0.0.0/0",
            "2001:db8::/32",
            "::1",
        ])[..] else {
            unreachable!()
        };
        assert!(ten.contains(ip("10.255.0.1")) && !ten.contains(ip("11.0.0.1")));
        assert!(one.contains(ip("192.0.2.1")) && !one.contains(ip("192.0.2.2")));
        assert!(all.contains(ip("8.8.8.8")) && !all.contains(ip("::1")));
        assert!(v6.contains(ip("2001:db8:9::")) && !v6.contains(ip("2001:db9::")));
        assert!(host.contains(ip("::1")) && !host.contains(ip("::2")));
        assert!(ten.contains(ip("::ffff:10.1.2.3")));
        let [mapped, host] = networks(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.1"])[..] else {
            unreachable!()
        };
        assert!(mapped.contains(ip("10.255.0.1")) && !mapped.contains(ip("11.0.0.1")));
        assert!(host.contains(ip("192.0.2.1")) && !host.contains(ip("192.0.2.2")));
    }

    #[test]
    fn a_normalized_network_has_no_bits_behind_its_prefix() {
        for (written, normalized) in [
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/0", "0.0.0.0/0"),
            ("2001:db8::7/64", "2001:db8::/64"),
            ("2001:db8::7/0", "::/0"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        ] {
            let network: Network = written.parse().unwrap();
            assert_eq!(network.normalized().to_string(), normalized);
        }
        assert_eq!(Network::of(ip("192.0.2.7"), 99).to_string(), "192.0.2.7/32");
    }

    #[test]
    fn a_network_contains_those_whose_addresses_it_contains() {
        for (outer, inner, expected) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("0.0.0.0/0", "::/0", false),
        ] {
            let [outer, inner] = networks(&[outer, inner])[..] else {
                unreachable!()
            };
            assert_eq!(outer.contains_network(&inner), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn an_invalid_network_is_an_error() {
        for text in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "1.2.3",
        ] {
            assert_eq!(text.parse::<Network>(), Err(()), "{text}");
        }
    }
}
