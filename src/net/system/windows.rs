//! Windows: sockets of Winsock.

use crate::net::socket_options;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, acceptfrom, socket, wsa_startup};
use std::io;

/// What shows the programs that listen on ports.
pub(in crate::net) const LIST_LISTENERS: &str = "netstat -ano -p tcp";

/// Makes a stream socket.
pub(in crate::net) fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    // Counted, and cheap after the first time. The standard library does it only for its own sockets.
    wsa_startup()?;
    let socket = socket(family, SocketType::STREAM, None)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Accepts a client if one waits, and sets its options.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if none waits, and those of accept.
pub(in crate::net) fn accept(socket: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let (client, address) = acceptfrom(socket)?;
    ioctl_fionbio(&client, true)?;
    // Fails only on a dead socket, as the next read will.
    let _ = socket_options::set_tcp(&client);
    Ok((client, address))
}

/// Returns nothing: no other process passes sockets here.
pub(in crate::net) fn listening_family(_socket: &OwnedFd) -> Option<AddressFamily> {
    None
}

/// Does nothing: connections in TIME_WAIT do not hinder a restarted daemon here, and `SO_REUSEADDR` would let any other
/// program take the port, too.
#[allow(clippy::unnecessary_wraps, reason = "the other systems' can fail")]
pub(in crate::net) fn allow_restart(_socket: &OwnedFd) -> io::Result<()> {
    Ok(())
}
