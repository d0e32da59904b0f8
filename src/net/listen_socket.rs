//! The listening sockets of a listener: TCP or Unix, bound by the daemon or passed by systemd.

use super::socket_options;
use super::stream::AcceptedStream;
use super::unix_socket::SocketFile;
use crate::base::ip::ClientAddress;
use async_io::Async;
use rustix::net::{AddressFamily, SocketFlags, SocketType, acceptfrom_with, sockopt};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// A socket that listens.
pub(crate) enum ListenSocket {
    Tcp(Async<TcpListener>),
    /// One that another process has opened. Clients may have connected before it had the options of clients' sockets, so
    /// each of these is given them.
    PassedTcp(Async<TcpListener>),
    Unix {
        /// The file of a socket that the daemon has made. It is before the socket, as it must be dropped first.
        _file: Option<SocketFile>,
        socket: Async<UnixListener>,
    },
}

impl ListenSocket {
    /// Makes one of a socket that another process has opened.
    ///
    /// # Errors
    /// No client can be accepted from it.
    pub(super) fn from_passed(socket: OwnedFd) -> io::Result<Self> {
        let is_stream = sockopt::socket_type(&socket) == Ok(SocketType::STREAM);
        let listens = is_stream && sockopt::socket_acceptconn(&socket) == Ok(true);
        match sockopt::socket_domain(&socket) {
            Ok(AddressFamily::INET | AddressFamily::INET6) if listens => {
                Ok(Self::PassedTcp(Async::new(TcpListener::from(socket))?))
            }
            Ok(AddressFamily::UNIX) if listens => Ok(Self::Unix {
                _file: None,
                socket: Async::new(UnixListener::from(socket))?,
            }),
            _ => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "it is not a listening stream socket; write ListenStream= and Accept=no into its socket unit",
            )),
        }
    }

    /// Returns the IP address and the port; `None` for a Unix socket.
    pub(crate) fn ip_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(tcp) | Self::PassedTcp(tcp) => tcp.get_ref().local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Returns where a client connects, for people.
    pub(super) fn url(&self, scheme: &str, endpoint: &str) -> String {
        match self {
            Self::Tcp(tcp) | Self::PassedTcp(tcp) => match tcp.get_ref().local_addr() {
                Ok(address) => format!("{scheme}://{address}{endpoint}"),
                Err(error) => error.to_string(),
            },
            Self::Unix { socket, .. } => {
                let address = socket.get_ref().local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                let path = path.unwrap_or("@".as_ref());
                format!("{scheme}+unix://{}:{endpoint}", path.display())
            }
        }
    }

    /// Waits for the next client in the runtime's reactor.
    ///
    /// # Errors
    /// Those of accept(2), usually too many open files.
    pub(crate) async fn accept(&self) -> io::Result<(AcceptedStream, ClientAddress)> {
        loop {
            match self.try_accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self {
                    Self::Tcp(tcp) | Self::PassedTcp(tcp) => tcp.readable().await?,
                    Self::Unix { socket, .. } => socket.readable().await?,
                },
                accepted => return accepted,
            }
        }
    }

    /// Accepts a client if one waits.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] if none waits, and those of accept(2).
    pub(super) fn try_accept(&self) -> io::Result<(AcceptedStream, ClientAddress)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (stream, address) = acceptfrom_with(self, flags)?;
        // Setting an option fails only on a dead socket, as the next read will.
        match self {
            Self::Tcp(_) => {}
            Self::PassedTcp(_) => {
                let _ = socket_options::set_tcp(&stream);
            }
            Self::Unix { .. } => {
                let _ = socket_options::set_unix(&stream);
                return Ok((AcceptedStream::Unix(stream.into()), ClientAddress::Unix));
            }
        }
        let address = SocketAddr::try_from(address.ok_or(ErrorKind::InvalidData)?)?;
        Ok((AcceptedStream::Tcp(stream.into()), address.ip().into()))
    }
}

impl AsFd for ListenSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) | Self::PassedTcp(tcp) => tcp.as_fd(),
            Self::Unix { socket, .. } => socket.as_fd(),
        }
    }
}
