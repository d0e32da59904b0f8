//! IP addresses as keys of limits, and networks as the configuration writes them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The key under which limits per client address count: an IPv4 address, or the /64 network of an IPv6
/// address, the smallest that a provider assigns to one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetKey(IpAddr);

impl SubnetKey {
    /// Returns the key of an address. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & (u128::MAX << 64);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 => v4,
        })
    }
}

/// A network in CIDR notation, such as `10.0.0.0/8`, or a single address, such as `192.0.2.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
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

    pub(crate) fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::from_text::{ip, networks};
    use super::*;

    #[test]
    fn a_subnet_key_is_an_ipv4_address_or_an_ipv6_network() {
        let key = |text| SubnetKey::of(ip(text));
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
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
