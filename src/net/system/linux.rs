//! Linux: sockets are made non-blocking, and closed in other programs, by the call that makes them.

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, socket_with, sockopt,
};
use std::io;

/// What shows the programs that listen on ports.
pub(in crate::net) const LIST_LISTENERS: &str = "ss -ltnp";

/// Makes a stream socket.
pub(in crate::net) fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// Accepts a client if one waits. A TCP socket has the options of the listening one.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] if none waits, and those of accept(2).
pub(in crate::net) fn accept(socket: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddrAny>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(acceptfrom_with(socket, flags)?)
}

/// Returns the family of a socket that listens for streams, if it is IP or Unix.
pub(in crate::net) fn listening_family(socket: &OwnedFd) -> Option<AddressFamily> {
    let is_stream = sockopt::socket_type(socket) == Ok(SocketType::STREAM);
    let listens = is_stream && sockopt::socket_acceptconn(socket) == Ok(true);
    let family = sockopt::socket_domain(socket).ok().filter(|_| listens)?;
    let known = [
        AddressFamily::INET,
        AddressFamily::INET6,
        AddressFamily::UNIX,
    ];
    known.contains(&family).then_some(family)
}

/// Has a restarted daemon bind its port although connections of the last one are still in TIME_WAIT.
pub(in crate::net) fn allow_restart(socket: &OwnedFd) -> io::Result<()> {
    Ok(sockopt::set_socket_reuseaddr(socket, true)?)
}
