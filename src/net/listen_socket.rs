//! The listening sockets of a listener: TCP or Unix, bound by the daemon or passed by systemd.

use super::stream::AcceptedStream;
use super::unix_socket::SocketFile;
use crate::base::ip::ClientAddress;
use async_io::Async;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// A socket that listens.
pub(crate) enum ListenSocket {
    Tcp(Async<TcpListener>),
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
                Ok(Self::Tcp(Async::new(TcpListener::from(socket))?))
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
            Self::Tcp(tcp) => tcp.get_ref().local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// Returns where a client connects, for people.
    pub(super) fn url(&self, scheme: &str, endpoint: &str) -> String {
        match self {
            Self::Tcp(tcp) => match tcp.get_ref().local_addr() {
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

    /// Waits for the next client.
    ///
    /// # Errors
    /// Those of accept(2), usually too many open files.
    pub(crate) async fn accept(&self) -> io::Result<(AcceptedStream, ClientAddress)> {
        match self {
            Self::Tcp(tcp) => {
                let (stream, address) = tcp.read_with(TcpListener::accept).await?;
                stream.set_nonblocking(true)?;
                Ok((AcceptedStream::Tcp(stream), address.ip().into()))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = socket.read_with(UnixListener::accept).await?;
                stream.set_nonblocking(true)?;
                Ok((AcceptedStream::Unix(stream), ClientAddress::Unix))
            }
        }
    }
}
