//! The options of clients' sockets.

use rustix::fd::OwnedFd;
use rustix::io;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_send_buffer_size, set_tcp_nodelay,
};

/// Bytes of a client's data that the kernel holds for sending, unsent or not acknowledged, at most. It doubles
/// the figure for its own overhead (socket(7), `SO_SNDBUF`). Left to itself it takes up to 4 MiB for a client that
/// reads slowly, which no `memory_budget` sees. Half as much costs half again as much CPU for messages of 64 KiB.
const SEND_BUFFER: usize = 256 * 1024;

/// The same for data that was received and is not read yet (`SO_RCVBUF`). Left to itself the kernel takes up to
/// 32 MiB of a sender that is not read from because its recipient reads slowly.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// Sets the options of a client's TCP socket, or of a listening one, whose clients' sockets then have them, too, from
/// the next client on.
pub(super) fn set_tcp(socket: &OwnedFd) -> io::Result<()> {
    // Each write is a complete flush.
    set_tcp_nodelay(socket, true)?;
    set_buffers(socket)
}

/// Sets the options of a client's socket of any kind. A Unix socket has none from the listening one.
pub(super) fn set_buffers(socket: &OwnedFd) -> io::Result<()> {
    set_socket_send_buffer_size(socket, SEND_BUFFER)?;
    set_socket_recv_buffer_size(socket, RECEIVE_BUFFER)
}
