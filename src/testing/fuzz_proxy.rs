//! PROXY headers, split into arbitrary pieces.

use super::Input;
use super::fuzz_request::Pieces;
use crate::net::proxy_protocol::{MAX_V1, MAX_V2, is_proxy_header, read_proxy_header};
use futures::executor::block_on;
use std::net::IpAddr;

/// Length of the part of a header of version 2 before addresses and TLVs, in bytes.
const V2_FIXED: usize = 16;

/// Reads the PROXY header of a connection. The pieces in which it is received make no difference, what follows the
/// header is left as it is, a header is within its limits, and who expects none recognizes it.
pub fn proxy_header(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let sizes = input.line().unwrap_or_default();
    let bytes = input.bytes(usize::MAX);
    let at_once = read(bytes, &[]);
    assert_eq!(at_once, read(bytes, sizes));
    let Ok((_, rest)) = at_once else { return };
    assert!(bytes.ends_with(&rest));
    let most = match bytes.first() {
        Some(b'P') => MAX_V1,
        _ => V2_FIXED + MAX_V2,
    };
    let length = bytes.len() - rest.len();
    assert!(length <= most);
    assert!(is_proxy_header(bytes));
    // Without its last byte it is not whole.
    let cut = bytes.get(..length - 1).unwrap_or_default();
    assert!(read(cut, &[]).is_err());
}

/// Returns the client's address and what follows the header, or what is wrong.
fn read(bytes: &[u8], sizes: &[u8]) -> Result<(Option<IpAddr>, Vec<u8>), String> {
    let mut stream = Pieces::new(bytes, sizes);
    let header = block_on(read_proxy_header(&mut stream));
    let (source, mut rest) = header.map_err(|error| format!("{error:?}"))?;
    rest.extend_from_slice(stream.remaining);
    Ok((source, rest))
}
