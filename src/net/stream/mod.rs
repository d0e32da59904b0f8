//! Streams of clients: TCP, or a Unix socket, as they were accepted, and as a task waits for them.

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
mod edge;
mod runtime;

#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
pub(super) use edge::ClientStream;
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
pub(super) use runtime::ClientStream;
pub(crate) use runtime::RuntimeStream;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A stream that was accepted, in non-blocking mode.
pub(crate) enum AcceptedStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for AcceptedStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}
