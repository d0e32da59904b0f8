//! macOS and other relatives of Unix.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, acceptfrom, socket, sockopt};
use std::io;

/// What shows the programs that listen on ports.
pub(in crate::net) const LIST_LISTENERS: &str = "lsof -nP -iTCP -sTCP:LISTEN";

/// Makes a stream socket.
pub(in crate::net) fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    prepare(socket(family, SocketType::STREAM, None)?)
}

/// Accepts a client if one waits. A TCP socket has the options of the listening one.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if none waits, and those of accept(2).
pub(in crate::net) fn accept(socket: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (client, address) = acceptfrom(socket)?;
    Ok((prepare(client)?, address))
}

/// Returns nothing: no other process passes sockets here.
pub(in crate::net) fn listening_family(_socket: &OwnedFd) -> Option<AddressFamily> {
    None
}

/// Has a restarted daemon bind its port although connections of the last one are still in TIME_WAIT.
pub(in crate::net) fn allow_restart(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(socket, true)?)
}

/// Makes a socket non-blocking, and has it closed in other programs.
fn prepare(socket: OwnedFd) -> io::Result<OwnedFd> {
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
