//! Streams of clients: TCP, or a Unix socket, as they were accepted, and as a task waits for them, with TLS over them or
//! without.

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
mod edge;
mod maybe_tls;
#[cfg(feature = "tls")]
mod record_tracker;
mod runtime;
#[cfg(feature = "tls")]
mod tls;

use super::unix_socket::UnixStream;
#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
use edge::ClientStream;
pub(super) use maybe_tls::MaybeTlsStream;
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
use runtime::ClientStream;
pub(crate) use runtime::RuntimeStream;
use std::io;
use std::net::TcpStream;
use std::task::Poll;

/// A stream that was accepted, in non-blocking mode.
pub(crate) enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Appends what `read` reads to a buffer, at most `room` bytes, which are cleared before.
pub(super) fn read_cleared(
    buffer: &mut Vec<u8>,
    room: usize,
    read: impl FnOnce(&mut [u8]) -> Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    let before = buffer.len();
    buffer.resize(before + room, 0);
    let read = read(buffer.get_mut(before..).unwrap_or_default());
    let bytes = match &read {
        Poll::Ready(Ok(bytes)) => *bytes,
        _ => 0,
    };
    buffer.truncate(before + bytes);
    read
}
