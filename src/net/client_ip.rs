//! The address of a client that connects through proxies.

use crate::base::ip::Network;
use std::net::{IpAddr, SocketAddr};

/// Returns the client's address: the nearest one that is not a trusted proxy's.
///
/// `forwarded_for` is the value of `X-Forwarded-For`. Each proxy appends the address that its request
/// came from. An entry counts only if a trusted proxy wrote it, so a client cannot choose its address
/// by sending the header.
pub fn client(peer: IpAddr, forwarded_for: &str, trusted: &[Network]) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut hops = forwarded_for.rsplit(',').map(str::trim);
    while is_trusted(client, trusted) {
        let Some(hop) = hops.next().and_then(parse_hop) else {
            break;
        };
        client = hop.to_canonical();
    }
    client
}

/// Returns whether an address is a trusted proxy's.
pub fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|proxy| proxy.contains(address))
}

/// Parses an entry: an IP address, IPv6 also in brackets, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::{ip, networks};

    #[test]
    fn an_untrusted_client_cannot_choose_its_address() {
        let trusted = networks(&["127.0.0.1"]);
        assert_eq!(
            client(ip("192.0.2.9"), "10.0.0.1", &trusted),
            ip("192.0.2.9")
        );
        assert_eq!(
            client(ip("127.0.0.1"), "10.0.0.1, 192.0.2.9", &trusted),
            ip("192.0.2.9")
        );
        assert_eq!(client(ip("127.0.0.1"), "10.0.0.1", &[]), ip("127.0.0.1"));
    }

    #[test]
    fn several_trusted_proxies_can_be_chained() {
        let trusted = networks(&["127.0.0.0/8", "10.0.0.0/8"]);
        let header = "6.6.6.6, 192.0.2.9:4711, 10.0.0.7";
        assert_eq!(client(ip("127.0.0.1"), header, &trusted), ip("192.0.2.9"));
    }

    #[test]
    fn an_entry_that_is_not_an_address_ends_the_search() {
        let trusted = networks(&["127.0.0.1"]);
        for header in ["", "unknown", "192.0.2.9, _hidden"] {
            assert_eq!(client(ip("127.0.0.1"), header, &trusted), ip("127.0.0.1"));
        }
        assert_eq!(
            client(ip("127.0.0.1"), "[2001:db8::1]", &trusted),
            ip("2001:db8::1")
        );
        assert_eq!(
            client(ip("127.0.0.1"), "[2001:db8::1]:80", &trusted),
            ip("2001:db8::1")
        );
    }
}
