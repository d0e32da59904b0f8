//! The PROXY header with which a proxy begins a TCP connection to say whose it is, in version 1 (text) and 2 (binary):
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.

use futures::io::{AsyncRead, AsyncReadExt};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest header of version 1, in bytes: the longest that the document allows, with its CR LF.
pub(crate) const MAX_V1: usize = 107;

/// The most bytes after the fixed part of a header of version 2: addresses, and TLVs, which are skipped. The document
/// allows 64 KiB. Proxies add some 300 bytes (checksum, host name, what is known of TLS); a client certificate that is
/// passed on takes 2 KiB.
pub(crate) const MAX_V2: usize = 4 * 1024;

/// The first bytes of version 1.
const V1_PREFIX: &[u8] = b"PROXY ";

/// The first bytes of version 2.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length in bytes of the part of version 2 that each header has: signature, version, family and length.
const V2_FIXED: usize = 16;

/// What is wrong with the beginning of a connection that must be a PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// The connection ended before its first byte, as those of health checks do.
    Unused,
    /// The connection ended within the header.
    Cut,
    /// The first bytes are not of a header.
    Missing,
    /// The header is malformed or too long, in this way.
    Invalid(&'static str),
}

/// Displays what is wrong, and what would be right.
impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused | Self::Cut => f.write_str("the connection ended within it"),
            Self::Missing => f.write_str(
                "it sends none, as it must with proxy_protocol; let it send one (HAProxy: send-proxy-v2, nginx: \
                 proxy_protocol on, Caddy: proxy_protocol v2), or set \"proxy_protocol\": false for this listener",
            ),
            Self::Invalid(problem) => f.write_str(problem),
        }
    }
}

/// A PROXY header.
#[derive(Debug, PartialEq, Eq)]
struct ProxyHeader {
    /// The client's address; `None` if the proxy made the connection for itself, or knows no IP address (`UNKNOWN`,
    /// LOCAL and UNSPEC).
    source: Option<IpAddr>,
    /// Length in bytes.
    length: usize,
}

/// Returns whether bytes begin with a PROXY header. No HTTP request does: the target of one is never `TCP4`.
pub(crate) fn is_proxy_header(bytes: &[u8]) -> bool {
    let families = ["TCP4 ", "TCP6 ", "UNKNOWN"];
    let is_v1 = |rest: &[u8]| families.iter().any(|it| rest.starts_with(it.as_bytes()));
    bytes.strip_prefix(V1_PREFIX).is_some_and(is_v1) || bytes.starts_with(V2_SIGNATURE)
}

/// Returns whether bytes with an empty line may be the beginning of a header of version 2, which has one in its
/// signature.
pub(crate) fn may_become_v2(bytes: &[u8]) -> bool {
    bytes.len() < V2_SIGNATURE.len() && V2_SIGNATURE.starts_with(bytes)
}

/// Reads the PROXY header that a connection must begin with. Returns the client's address, unless the header has none,
/// and the bytes that were read after the header.
///
/// Keeps at most some 600 bytes, so that no budget need count them.
///
/// # Errors
/// What the connection begins with instead.
pub(crate) async fn read_proxy_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<(Option<IpAddr>, Vec<u8>), ProxyError> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 512];
    let header = loop {
        if let Some(header) = parse(&bytes)? {
            break header;
        }
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        match count {
            0 if bytes.is_empty() => return Err(ProxyError::Unused),
            0 => return Err(ProxyError::Cut),
            _ => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    };
    let mut unread = header.length.saturating_sub(bytes.len());
    while unread > 0 {
        let most = unread.min(chunk.len());
        let skipped = chunk.get_mut(..most).unwrap_or_default();
        let count = stream.read(skipped).await.unwrap_or(0);
        if count == 0 {
            return Err(ProxyError::Cut);
        }
        unread -= count;
    }
    let rest = bytes.split_off(header.length.min(bytes.len()));
    Ok((header.source, rest))
}

/// Parses the header that these bytes begin with. Returns `None` if more bytes are needed; TLVs are not.
///
/// # Errors
/// The bytes are not the beginning of a header.
fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    if bytes.starts_with(V1_PREFIX) {
        parse_v1(bytes)
    } else if bytes.starts_with(V2_SIGNATURE) {
        parse_v2(bytes)
    } else if V1_PREFIX.starts_with(bytes) || V2_SIGNATURE.starts_with(bytes) {
        Ok(None)
    } else {
        Err(ProxyError::Missing)
    }
}

/// Parses a header of version 1: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443` and CR LF.
fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let start = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
        return match start.len() {
            MAX_V1 => Err(ProxyError::Invalid("it is longer than 107 bytes")),
            _ => Ok(None),
        };
    };
    let line = start.get(V1_PREFIX.len()..end).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Invalid("it is not ASCII"))?;
    let fields: Vec<&str> = line.split(' ').collect();
    let source = match *fields.as_slice() {
        // What follows is to be ignored.
        ["UNKNOWN", ..] => None,
        ["TCP4", source, destination, from, to] => {
            let source = source_v1::<Ipv4Addr>([source, destination], [from, to])?;
            Some(IpAddr::V4(source))
        }
        ["TCP6", source, destination, from, to] => {
            let source = source_v1::<Ipv6Addr>([source, destination], [from, to])?;
            Some(IpAddr::V6(source))
        }
        _ => {
            return Err(ProxyError::Invalid(
                "PROXY must be followed by UNKNOWN, or by TCP4 or TCP6, two addresses and two ports",
            ));
        }
    };
    Ok(Some(ProxyHeader {
        source,
        length: end + 2,
    }))
}

/// Returns the first of two addresses of a family, if both are valid, and so are the ports.
fn source_v1<T: FromStr>(addresses: [&str; 2], ports: [&str; 2]) -> Result<T, ProxyError> {
    let is_port = |port: &str| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && port.parse::<u16>().is_ok()
    };
    if !ports.into_iter().all(is_port) {
        return Err(ProxyError::Invalid("its ports must be 0 to 65535"));
    }
    match addresses.map(T::from_str) {
        [Ok(source), Ok(_)] => Ok(source),
        _ => Err(ProxyError::Invalid(
            "its addresses are not of the family that it names",
        )),
    }
}

/// Parses a header of version 2 that begins with the signature.
fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let Some(&[version_and_command, family, high, low]) = bytes.get(V2_SIGNATURE.len()..V2_FIXED)
    else {
        return Ok(None);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => {
            return Err(ProxyError::Invalid(
                "its version must be 2, and its command LOCAL or PROXY",
            ));
        }
    };
    let body = usize::from(u16::from_be_bytes([high, low]));
    if body > MAX_V2 {
        return Err(ProxyError::Invalid(
            "it has more than 4096 bytes of addresses and TLVs",
        ));
    }
    let header = |source| ProxyHeader {
        source,
        length: V2_FIXED + body,
    };
    // A source and a destination, each with a port; of Unix sockets two paths.
    let addresses = match family {
        _ if is_local => return Ok(Some(header(None))),
        0x00 => 0,
        0x11 | 0x12 => 2 * (4 + 2),
        0x21 | 0x22 => 2 * (16 + 2),
        0x31 | 0x32 => 2 * 108,
        _ => return Err(ProxyError::Invalid("its address family is unknown")),
    };
    if body < addresses {
        return Err(ProxyError::Invalid("it is shorter than its addresses"));
    }
    let Some(addresses) = bytes.get(V2_FIXED..V2_FIXED + addresses) else {
        return Ok(None);
    };
    let source = match family {
        0x11 | 0x12 => first::<4>(addresses).map(IpAddr::from),
        0x21 | 0x22 => first::<16>(addresses).map(IpAddr::from),
        _ => None,
    };
    Ok(Some(header(source)))
}

/// Returns the first bytes of a block of addresses.
fn first<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::from_text::ip;
    use futures::executor::block_on;
    use proptest::prelude::*;

    /// Returns the source and what follows of a connection with these bytes.
    fn read(bytes: &[u8]) -> Result<(Option<IpAddr>, Vec<u8>), ProxyError> {
        let mut stream = bytes;
        let (source, mut rest) = block_on(read_proxy_header(&mut stream))?;
        rest.extend_from_slice(stream);
        Ok((source, rest))
    }

    /// Returns a header of version 2.
    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    const IPV4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

    fn ipv6() -> Vec<u8> {
        let [source, destination] = ["2001:db8::1", "2001:db8::2"].map(|text| {
            let address: Ipv6Addr = text.parse().unwrap();
            address.octets()
        });
        [&source[..], &destination, &[0xdc, 4, 1, 0xbb]].concat()
    }

    fn valid_headers() -> Vec<(Vec<u8>, Option<IpAddr>)> {
        let v1 = |line: &str, source| (format!("{line}\r\n").into_bytes(), source);
        let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let tlvs = [
            &IPV4[..],
            &[0x20, 0, 3, 1, 0, 0],
            &[4, 0x0f, 0],
            &[0; 0xf00],
        ]
        .concat();
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|text| Some(ip(text)));
        vec![
            v1("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443", v4),
            v1(
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535",
                Some(ip("255.255.255.255")),
            ),
            v1("PROXY TCP6 2001:db8::1 2001:db8::2 0 1", v6),
            v1(
                &format!("PROXY TCP6 {full} {full} 65535 65535"),
                Some(ip(full)),
            ),
            v1("PROXY UNKNOWN", None),
            // The longest that the document has.
            v1(&format!("PROXY UNKNOWN {full} {full} 65535 65535"), None),
            (v2(0x21, 0x11, &IPV4), v4),
            (v2(0x21, 0x12, &IPV4), v4),
            (v2(0x21, 0x21, &ipv6()), v6),
            (v2(0x21, 0x11, &tlvs), v4),
            (v2(0x20, 0, &[]), None),
            // The addresses of a health check are not to be used.
            (v2(0x20, 0x11, &IPV4), None),
            (v2(0x21, 0, &[4, 0, 1, 0]), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x20, 0, &[0; MAX_V2]), None),
        ]
    }

    #[test]
    fn valid_headers_give_the_source_and_leave_what_follows() {
        for (header, source) in valid_headers() {
            for rest in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 2000]] {
                let bytes = [&header, rest].concat();
                let expected = Ok((source, rest.to_vec()));
                assert_eq!(
                    read(&bytes),
                    expected,
                    "{:?}",
                    header.escape_ascii().to_string()
                );
            }
        }
    }

    #[test]
    fn a_header_that_is_cut_anywhere_is_an_error() {
        assert_eq!(read(b""), Err(ProxyError::Unused));
        for (header, _) in valid_headers() {
            for length in 1..header.len() {
                assert_eq!(
                    read(&header[..length]),
                    Err(ProxyError::Cut),
                    "{length} of {header:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_missing() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PROXY\r\n",
            b"proxy TCP4 ",
            b"\x16\x03",
            b"\r\n\r\nG",
        ] {
            assert_eq!(read(bytes), Err(ProxyError::Missing), "{bytes:?}");
            assert!(!is_proxy_header(bytes));
        }
    }

    #[test]
    fn malformed_headers_are_invalid() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(92));
        assert_eq!(long.len(), MAX_V1 + 1);
        let endless = [b"PROXY TCP4 ", &[b'1'; 1 << 20][..]].concat();
        let v1 = [
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +5 443\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 56324 443\r\n",
            "PROXY \u{fc} \r\n",
            "PROXY \r\n",
            &long,
        ];
        let v1 = v1.map(|line| line.as_bytes().to_vec());
        let v2 = [
            v2(0x11, 0x11, &IPV4),
            v2(0x22, 0x11, &IPV4),
            v2(0x21, 0x11, &IPV4[..11]),
            v2(0x21, 0x21, &ipv6()[..35]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x10, &IPV4),
            v2(0x21, 0x41, &IPV4),
            v2(0x20, 0, &[0; MAX_V2 + 1]),
        ];
        for bytes in v1.into_iter().chain([endless]).chain(v2) {
            let result = read(&bytes);
            let start = bytes[..bytes.len().min(150)].escape_ascii().to_string();
            assert!(
                matches!(result, Err(ProxyError::Invalid(_))),
                "{start}: {result:?}"
            );
        }
    }

    #[test]
    fn headers_are_recognized_by_who_expects_none() {
        for (header, _) in valid_headers() {
            assert!(is_proxy_header(&header), "{header:?}");
        }
        assert!(!is_proxy_header(b"PROXY / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(may_become_v2(b"\r\n\r\n") && !may_become_v2(b"\r\n\r\nG"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_within_the_limits(
            start in prop::sample::select(vec![&b""[..], V1_PREFIX, b"PROXY TCP4 ", V2_SIGNATURE]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, &bytes].concat();
            if let Ok((_, rest)) = read(&bytes) {
                prop_assert!(bytes.ends_with(&rest));
                prop_assert!(bytes.len() - rest.len() <= V2_FIXED + MAX_V2);
                prop_assert!(is_proxy_header(&bytes));
            }
        }
    }
}
