//! A client's stream, with TLS over it or without.

#[cfg(feature = "tls")]
use super::tls::TlsStream;
use super::{AcceptedStream, ClientStream};
#[cfg(feature = "tls")]
use crate::base::memory_budget::MemoryReservation;
use crate::broker::{MessageProgress, Sink, SocketStatus};
#[cfg(feature = "tls")]
use futures_rustls::rustls::ServerConfig;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::Poll;

/// A client's stream. What is read from it and written to it is plain; with TLS the socket has it encrypted.
pub(in crate::net) enum MaybeTlsStream {
    /// The client's own bytes are on the socket.
    Plain(ClientStream),
    /// TLS records are on the socket. Boxed, so that plain streams are no larger for it.
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl MaybeTlsStream {
    /// Has the status told of what happens to a stream, which is plain.
    ///
    /// # Errors
    /// Those of [`ClientStream::new`].
    pub(in crate::net) fn new(
        stream: AcceptedStream,
        status: &Arc<SocketStatus>,
    ) -> io::Result<Self> {
        ClientStream::new(stream, status).map(Self::Plain)
    }

    /// Completes the TLS handshake of a client. What is not decrypted yet is reserved in `memory`, until
    /// [`MaybeTlsStream::end_requests`].
    ///
    /// # Errors
    /// Those of [`TlsStream::accept`].
    #[cfg(feature = "tls")]
    pub(in crate::net) async fn accept_tls(
        self,
        status: &Arc<SocketStatus>,
        already_read: Vec<u8>,
        config: Arc<ServerConfig>,
        memory: MemoryReservation,
    ) -> io::Result<Self> {
        match self {
            Self::Plain(stream) => {
                let accepted = TlsStream::accept(stream, status, already_read, config, memory);
                Ok(Self::Tls(Box::new(accepted.await?)))
            }
            Self::Tls(_) => Err(io::Error::other("TLS has begun already")),
        }
    }

    /// Reads what there is. The status must say that the stream is not readable before; it says so again after a read that
    /// has left something.
    pub(in crate::net) fn poll_read(
        &mut self,
        status: &Arc<SocketStatus>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read(status, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_read(status, buffer),
        }
    }

    /// Appends to a buffer, up to its capacity, as [`MaybeTlsStream::poll_read`] reads into one.
    pub(in crate::net) fn poll_read_spare(
        &mut self,
        status: &Arc<SocketStatus>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_read_spare(status, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => {
                let room = TlsStream::LONGEST_READ.min(buffer.capacity() - buffer.len());
                super::read_cleared(buffer, room, |part| stream.poll_read(status, part))
            }
        }
    }

    /// Copies what a read would return next, which stays unread. As before a read, the status must say that the stream is
    /// not readable.
    pub(in crate::net) fn poll_peek(
        &mut self,
        status: &Arc<SocketStatus>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_peek(status, buffer),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_peek(status, buffer),
        }
    }

    /// Waits until something can be read, and returns the number of bytes of it that `buffer` has room for. They stay
    /// unread; 0: the client has disconnected.
    pub(in crate::net) async fn peek(
        &mut self,
        status: &Arc<SocketStatus>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.peek(status, buffer).await,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.peek(status, buffer).await,
        }
    }

    /// Writes as much of the pieces as the stream takes. With TLS the socket may not have taken all of it yet
    /// ([`MaybeTlsStream::is_flushed`]).
    pub(in crate::net) fn poll_write(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => stream.poll_write(pieces),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_write(pieces),
        }
    }

    /// Returns whether the socket has taken all that was written.
    pub(in crate::net) fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.is_flushed(),
        }
    }

    /// Has the socket take what was written.
    pub(in crate::net) fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_flush(),
        }
    }

    /// Ends the sending direction, after all that was written.
    pub(in crate::net) fn poll_close(&mut self) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_close(),
        }
    }

    /// Returns what others can write to the socket with: nothing with TLS, since each record is numbered.
    pub(in crate::net) fn sink(&self) -> Option<Arc<dyn Sink>> {
        match self {
            Self::Plain(stream) => stream.sink(),
            #[cfg(feature = "tls")]
            Self::Tls(_) => None,
        }
    }

    /// Returns what the last read has cost its turn, which has returned this many bytes: what came from the socket, which
    /// may be more than that, or less.
    pub(in crate::net) fn take_cost(&mut self, read: usize) -> usize {
        match self {
            Self::Plain(_) => read,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.take_received(),
        }
    }

    /// Reserves no memory any more for what is not decrypted yet: the caller does from now on.
    pub(in crate::net) fn end_requests(&mut self) {
        match self {
            Self::Plain(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.end_requests(),
        }
    }

    /// Returns the bytes that were received and cannot be decrypted before more has come.
    pub(in crate::net) fn undecrypted_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.undecrypted_bytes(),
        }
    }

    /// Returns how the record that is being received stands, since this was last asked for.
    pub(in crate::net) fn take_progress(&mut self) -> MessageProgress {
        match self {
            Self::Plain(_) => MessageProgress::Finished,
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.take_progress(),
        }
    }
}

#[cfg(test)]
impl MaybeTlsStream {
    pub(in crate::net) fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.as_fd(),
        }
    }
}
