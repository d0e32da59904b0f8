//! The listening sockets of a listener: TCP or Unix, bound by the daemon or passed by systemd.

use super::stream::AcceptedStream;
use super::unix_socket::{self, SocketFile, UnixListener};
use super::{socket_options, system};
use crate::base::ip::ClientAddress;
use async_io::Async;
use rustix::fd::OwnedFd;
use rustix::net::AddressFamily;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};

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
        match system::listening_family(&socket) {
            Some(AddressFamily::INET | AddressFamily::INET6) => {
                Ok(Self::PassedTcp(Async::new(TcpListener::from(socket))?))
            }
            Some(_) => Ok(Self::Unix {
                _file: None,
                socket: unix_socket::from_passed(socket)?,
            }),
            None => Err(io::Error::new(
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
                let path = unix_socket::path(socket.get_ref());
                let path = path.unwrap_or_else(|| "@".into());
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
        let (stream, address) = match self {
            Self::Tcp(tcp) => system::accept(tcp)?,
            Self::PassedTcp(tcp) => {
                let (stream, address) = system::accept(tcp)?;
                // Fails only on a dead socket, as the next read will.
                let _ = socket_options::set_tcp(&stream);
                (stream, address)
            }
            Self::Unix { socket, .. } => {
                let stream = unix_socket::accept(socket)?;
                return Ok((AcceptedStream::Unix(stream), ClientAddress::Unix));
            }
        };
        let address = SocketAddr::try_from(address.ok_or(ErrorKind::InvalidData)?)?;
        Ok((AcceptedStream::Tcp(stream.into()), address.ip().into()))
    }
}
