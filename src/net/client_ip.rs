//! The address of a client that connects through proxies, from the header that they write.

use crate::base::ip::{ClientAddress, ProxyAddress};
use crate::config::ForwardedHeader;
use std::net::{IpAddr, SocketAddr};

/// Returns the client's address, from the values of the header that the proxies write.
///
/// Of a list it is the nearest one that is not a trusted proxy's. Each proxy appends the address that its request came
/// from. An entry counts only if a trusted proxy wrote it, so a client cannot choose its address by sending the
/// header. `X-Real-IP` is no list: a proxy replaces it.
pub fn client<'a>(
    peer: ClientAddress,
    header: ForwardedHeader,
    values: impl DoubleEndedIterator<Item = &'a str> + 'a,
    trusted: &[ProxyAddress],
) -> ClientAddress {
    let mut client = peer;
    if header == ForwardedHeader::XRealIp {
        let only = Some(values).filter(|_| is_trusted(client, trusted));
        let only = only.and_then(|values| hops(header, values).next().flatten());
        return only.map_or(client, ClientAddress::from);
    }
    let mut hops = hops(header, values);
    while is_trusted(client, trusted) {
        let Some(hop) = hops.next().flatten() else {
            break;
        };
        client = hop.into();
    }
    client
}

/// Returns whether an address is a trusted proxy's.
pub fn is_trusted(address: ClientAddress, trusted: &[ProxyAddress]) -> bool {
    trusted.iter().any(|proxy| proxy.contains(address))
}

/// Returns the address that the nearest proxy wrote.
pub fn nearest<'a>(
    header: ForwardedHeader,
    values: impl DoubleEndedIterator<Item = &'a str> + 'a,
) -> Option<IpAddr> {
    hops(header, values).next().flatten()
}

/// Returns the addresses in a header, the last one first; `None` for an entry that is not an address.
fn hops<'a>(
    header: ForwardedHeader,
    values: impl DoubleEndedIterator<Item = &'a str> + 'a,
) -> Box<dyn Iterator<Item = Option<IpAddr>> + 'a> {
    let mut values = values.rev();
    match header {
        ForwardedHeader::XForwardedFor => {
            let hops = values.flat_map(|value| value.rsplit(','));
            Box::new(hops.map(str::trim).map(parse_hop))
        }
        ForwardedHeader::Forwarded => {
            let elements = values.flat_map(|value| rsplit_unquoted(value, b','));
            // RFC 9110 section 5.6.1.2: empty elements of a list do not count.
            let elements = elements.filter(|element| !element.trim_ascii().is_empty());
            Box::new(elements.map(parse_forwarded))
        }
        ForwardedHeader::XRealIp => {
            let only = match (values.next(), values.next()) {
                (Some(only), None) => parse_hop(only.trim()),
                _ => None,
            };
            Box::new(std::iter::once(only))
        }
    }
}

/// Parses an entry: an IP address, IPv6 also in brackets, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .unwrap_or(hop);
    let address = bare.parse().ok().or_else(with_port);
    address.map(|address: IpAddr| address.to_canonical())
}

/// Returns the address of the client that an element of `Forwarded` names (RFC 7239 sections 4 and 6). `None` if it
/// names none, or a hidden one.
fn parse_forwarded(element: &str) -> Option<IpAddr> {
    let mut nodes = rsplit_unquoted(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim_ascii().eq_ignore_ascii_case("for");
        is_for.then_some(value.trim_ascii())
    });
    // A parameter must not be there twice.
    let (Some(node), None) = (nodes.next(), nodes.next()) else {
        return None;
    };
    let node = unquote(node)?;
    match node.rsplit_once(':') {
        // A port may be hidden, too.
        Some((address, port)) if port.starts_with('_') => parse_hop(address),
        _ => parse_hop(&node),
    }
}

/// Returns the text of a token or of a quoted string (RFC 9110 section 5.6.4); `None` if it is neither.
fn unquote(value: &str) -> Option<String> {
    let Some(quoted) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let (mut text, mut chars) = (String::new(), quoted.chars());
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// Splits a text at each separator outside of quoted strings, and returns the last part first.
///
/// Quotes are counted from the end, where a trusted proxy wrote: a quote that the client left open does not reach
/// there.
fn rsplit_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut left = Some(text);
    std::iter::from_fn(move || {
        let text = left?;
        let (before, part) = match last_unquoted(text, separator) {
            Some(at) => (text.get(..at), text.get(at + 1..)),
            None => (None, Some(text)),
        };
        left = before;
        part
    })
}

/// Returns the place of the last separator outside of quoted strings.
fn last_unquoted(text: &str, separator: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut is_quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let before = bytes.get(..at).unwrap_or_default();
            let backslashes = before.iter().rev().take_while(|&&b| b == b'\\').count();
            is_quoted ^= backslashes % 2 == 0;
        } else if *byte == separator && !is_quoted {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::{client as ip, proxies};
    use ForwardedHeader::{Forwarded, XForwardedFor, XRealIp};
    use proptest::prelude::*;

    /// The client behind this peer, by this value of `X-Forwarded-For`.
    fn client(peer: ClientAddress, value: &str, trusted: &[ProxyAddress]) -> ClientAddress {
        super::client(peer, XForwardedFor, [value].into_iter(), trusted)
    }

    /// The client behind 127.0.0.1, by these values of a header, where 127.0.0.0/8 and 10.0.0.0/8 are trusted.
    fn behind_proxies(header: ForwardedHeader, values: &[&str]) -> ClientAddress {
        let trusted = proxies(&["127.0.0.0/8", "10.0.0.0/8"]);
        super::client(ip("127.0.0.1"), header, values.iter().copied(), &trusted)
    }

    #[test]
    fn an_untrusted_client_cannot_choose_its_address() {
        let trusted = proxies(&["127.0.0.1"]);
        assert_eq!(
            client(ip("192.0.2.9"), "10.0.0.1", &trusted),
            ip("192.0.2.9")
        );
        assert_eq!(
            client(ip("127.0.0.1"), "10.0.0.1, 192.0.2.9", &trusted),
            ip("192.0.2.9")
        );
        assert_eq!(client(ip("127.0.0.1"), "10.0.0.1", &[]), ip("127.0.0.1"));
        for (header, value) in [(Forwarded, "for=10.0.0.1"), (XRealIp, "10.0.0.1")] {
            let client = super::client(ip("192.0.2.9"), header, [value].into_iter(), &trusted);
            assert_eq!(client, ip("192.0.2.9"), "{header:?}");
        }
    }

    #[test]
    fn a_proxy_behind_a_unix_socket_is_believed_if_that_is_trusted() {
        let unix = ClientAddress::Unix;
        let trusted = proxies(&["unix", "10.0.0.0/8"]);
        assert_eq!(
            client(unix, "6.6.6.6, 192.0.2.9, 10.0.0.7", &trusted),
            ip("192.0.2.9")
        );
        assert_eq!(client(unix, "unknown", &trusted), unix);
        let networks = proxies(&["0.0.0.0/0", "::/0"]);
        assert_eq!(client(unix, "192.0.2.9", &networks), unix);
        // What nginx writes of its own clients on a Unix socket is no address.
        assert_eq!(client(unix, "192.0.2.9, unix:", &trusted), unix);
    }

    #[test]
    fn several_trusted_proxies_can_be_chained() {
        for values in [
            &["6.6.6.6, 192.0.2.9:4711, 10.0.0.7"][..],
            &["6.6.6.6", "192.0.2.9:4711", "10.0.0.7"],
        ] {
            assert_eq!(behind_proxies(XForwardedFor, values), ip("192.0.2.9"));
        }
        for values in [
            &["for=6.6.6.6, for=\"192.0.2.9:4711\";proto=https, by=x;for=10.0.0.7"][..],
            &["for=6.6.6.6", "for=192.0.2.9", "for=10.0.0.7"],
        ] {
            assert_eq!(behind_proxies(Forwarded, values), ip("192.0.2.9"));
        }
    }

    #[test]
    fn an_entry_that_is_not_an_address_ends_the_search() {
        let trusted = proxies(&["127.0.0.1"]);
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

    #[test]
    fn the_examples_of_rfc_7239_name_these_clients() {
        for (value, expected) in [
            ("for=\"_gazonk\"", "127.0.0.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("for=192.0.2.43", "192.0.2.43"),
            ("for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            (
                "for=192.0.2.43,for=\"[2001:db8:cafe::17]\",for=unknown",
                "127.0.0.1",
            ),
            (
                "for=192.0.2.43, for=\"[2001:db8:cafe::17]\"",
                "2001:db8:cafe::17",
            ),
            ("for=_hidden, for=_SEVKISEK", "127.0.0.1"),
            ("for=192.0.2.43:47011", "192.0.2.43"),
            ("for=\"192.0.2.43:47011\"", "192.0.2.43"),
        ] {
            assert_eq!(behind_proxies(Forwarded, &[value]), ip(expected), "{value}");
        }
    }

    #[test]
    fn forwarded_is_read_after_its_grammar() {
        for (value, expected) in [
            ("for=\"[2001:db8::1]:_port\"", "2001:db8::1"),
            ("for=\"192.0.2.1:_port\"", "192.0.2.1"),
            ("for=\"::ffff:192.0.2.1\"", "192.0.2.1"),
            ("for=\"192.0.2\\.1\"", "192.0.2.1"),
            ("host=\"a, for=6.6.6.6\";for=192.0.2.1", "192.0.2.1"),
            (
                "for=192.0.2.1;host=\"a\\\", for=6.6.6.6;\\\\\"",
                "192.0.2.1",
            ),
            (" FOR = 192.0.2.1 ; proto=https , , ", "192.0.2.1"),
            // What names no client, or two.
            ("for=6.6.6.6, proto=https", "127.0.0.1"),
            ("for=6.6.6.6, for=192.0.2.1;for=192.0.2.2", "127.0.0.1"),
            ("for=6.6.6.6, for=", "127.0.0.1"),
            ("for=6.6.6.6, for=\"192.0.2.1", "127.0.0.1"),
            ("for=6.6.6.6, for=\"192.0.2.1\"x", "127.0.0.1"),
            ("for=6.6.6.6, 192.0.2.1", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(behind_proxies(Forwarded, &[value]), ip(expected), "{value}");
        }
        // A quote that a client leaves open hides nothing of what the proxy adds in a header of its own.
        let values = ["for=\"6.6.6.6", "for=192.0.2.1"];
        assert_eq!(behind_proxies(Forwarded, &values), ip("192.0.2.1"));
    }

    #[test]
    fn x_real_ip_is_one_address_or_none() {
        for (values, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&[" [2001:db8::1]:80 "], "2001:db8::1"),
            // The address of a proxy that has no client: it is no list that could go on.
            (&["10.0.0.1"], "10.0.0.1"),
            (&[], "127.0.0.1"),
            (&["6.6.6.6", "192.0.2.1"], "127.0.0.1"),
            (&["6.6.6.6, 192.0.2.1"], "127.0.0.1"),
            (&["unknown"], "127.0.0.1"),
        ] {
            assert_eq!(behind_proxies(XRealIp, values), ip(expected), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_before_the_entry_of_a_proxy_makes_no_difference(
            written in r#"[ -~]{0,40}|([",;=\\]|for=|6\.6\.6\.6|\[::1\]){0,12}"#,
            entry in prop::sample::select(vec![
                ("192.0.2.1", "for=192.0.2.1"),
                ("192.0.2.1", "for=\"192.0.2.1:80\";host=\"a\\\",;\""),
                ("2001:db8::1", "proto=https;for=\"[2001:db8::1]\""),
            ]),
        ) {
            let (address, element) = entry;
            let joined = format!("{written}, {address}");
            prop_assert_eq!(behind_proxies(XForwardedFor, &[&joined]), ip(address));
            let joined = format!("{written}, {element}");
            prop_assert_eq!(behind_proxies(Forwarded, &[&joined]), ip(address));
            prop_assert_eq!(behind_proxies(Forwarded, &[&written, element]), ip(address));
        }

        #[test]
        fn no_value_of_a_header_panics(values in prop::collection::vec(any::<String>(), 0..4)) {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            for header in ForwardedHeader::ALL {
                let _ = behind_proxies(header, &values);
            }
        }
    }
}
