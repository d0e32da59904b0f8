//! A client's stream in the epoll instance of its thread ([`crate::sys::reactor`]), which tells [`SocketStatus`] of edges.

use super::AcceptedStream;
use crate::broker::{Sink, SocketStatus};
use crate::sys::executor;
use crate::sys::reactor::Registration;
use futures::future::poll_fn;
use rustix::net::RecvFlags;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Poll;

/// A client's stream. The status has the waker of the task that waits for it.
pub(in crate::net) struct ClientStream {
    // Before the registration: what is closed has no events any more.
    stream: Arc<AcceptedStream>,
    _registration: Registration,
}

impl ClientStream {
    /// Has the status told of what happens to a stream.
    ///
    /// # Errors
    /// Those of [`Reactor::register`](crate::sys::reactor::Reactor::register).
    pub(in crate::net) fn new(
        stream: AcceptedStream,
        status: &Arc<SocketStatus>,
    ) -> io::Result<Self> {
        let source = Arc::clone(status);
        Ok(Self {
            _registration: executor::reactor().register(&stream, source)?,
            stream: Arc::new(stream),
        })
    }

    /// Reads what the socket has. The status must say that it is not readable before, so that an edge that comes
    /// meanwhile is not lost; it says so again after a read that has not emptied the socket.
    pub(in crate::net) fn poll_read(
        &mut self,
        status: &Arc<SocketStatus>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = match &*self.stream {
            AcceptedStream::Tcp(tcp) => (&*tcp).read(buffer),
            AcceptedStream::Unix(unix) => (&*unix).read(buffer),
        };
        self.after_read(status, read, buffer.len())
    }

    /// Appends to a buffer, up to its capacity, as [`ClientStream::poll_read`] reads into one.
    pub(in crate::net) fn poll_read_spare(
        &mut self,
        status: &SocketStatus,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let room = buffer.capacity() - buffer.len();
        let spare = rustix::buffer::spare_capacity(buffer);
        let read = rustix::net::recv(self.stream.as_fd(), spare, RecvFlags::empty());
        let read = read.map(|(_, bytes)| bytes).map_err(io::Error::from);
        self.after_read(status, read, room)
    }

    /// Records what a read says of the socket, for which there was room for this many bytes.
    fn after_read(
        &self,
        status: &SocketStatus,
        read: io::Result<usize>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        match read {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Ok(bytes) if bytes < room && self.ends_with_short_read(status) => {
                Poll::Ready(Ok(bytes))
            }
            read => {
                status.set_readable(true);
                Poll::Ready(read)
            }
        }
    }

    /// Copies what a read would return next, which stays unread. As before a read, the status must say that the
    /// socket is not readable.
    pub(in crate::net) fn poll_peek(
        &self,
        status: &SocketStatus,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let peeked = rustix::net::recv(self.stream.as_fd(), buffer, RecvFlags::PEEK);
        match peeked.map(|(_, bytes)| bytes).map_err(io::Error::from) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            peeked => {
                status.set_readable(true);
                Poll::Ready(peeked)
            }
        }
    }

    /// Returns whether a read that leaves room in its buffer has emptied the socket, so that an edge follows. The end of
    /// the stream, of which an edge has told before, stays to be read, and so does what follows urgent data; and a Unix
    /// socket is read message by message where the client passes file descriptors (unix(7)).
    fn ends_with_short_read(&self, status: &SocketStatus) -> bool {
        matches!(*self.stream, AcceptedStream::Tcp(_)) && !status.has_end()
    }

    /// Writes as much of the pieces as the socket takes.
    pub(in crate::net) fn poll_write(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.stream.write(pieces)
    }

    /// Returns what others can write to the socket with.
    pub(in crate::net) fn sink(&self) -> Option<Arc<dyn Sink>> {
        Some(Arc::clone(&self.stream) as Arc<dyn Sink>)
    }

    /// Waits until something can be read, and returns the number of bytes of it that `buffer` has room for. They stay
    /// unread; 0: the client has disconnected.
    pub(in crate::net) async fn peek(
        &self,
        status: &Arc<SocketStatus>,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        poll_fn(|cx| {
            status.register(cx.waker());
            if !status.take_readable() {
                return Poll::Pending;
            }
            self.poll_peek(status, buffer)
        })
        .await
    }

    #[cfg(test)]
    pub(in crate::net) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Shuts down a direction, or both.
    pub(in crate::net) fn shutdown(&self, direction: Shutdown) -> io::Result<()> {
        match &*self.stream {
            AcceptedStream::Tcp(tcp) => tcp.shutdown(direction),
            AcceptedStream::Unix(unix) => unix.shutdown(direction),
        }
    }
}

impl Sink for AcceptedStream {
    fn write(&self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
        let written = match (self, filled.next(), filled.next()) {
            // The kernel does less for send(2) than for writev(2).
            (Self::Tcp(tcp), Some(only), None) => (&*tcp).write(only),
            (Self::Tcp(tcp), ..) => (&*tcp).write_vectored(pieces),
            (Self::Unix(unix), ..) => (&*unix).write_vectored(pieces),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            written => Poll::Ready(written),
        }
    }
}

impl AsFd for AcceptedStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}
