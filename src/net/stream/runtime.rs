//! A client's stream over the runtime's reactor: on other systems than Linux, and for the clients of the status port,
//! which are served while the executor is busy.

use super::AcceptedStream;
use crate::net::unix_socket::UnixStream;
use async_io::Async;
use async_std::net::TcpStream;
use futures::io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
pub(in crate::net) use waiting::ClientStream;

/// A stream of one client.
pub(crate) enum RuntimeStream {
    Tcp(TcpStream),
    Unix(Async<UnixStream>),
}

impl RuntimeStream {
    /// Has the runtime watch a stream.
    ///
    /// # Errors
    /// Those of epoll_ctl(2), or what the system has in its place.
    pub(crate) fn new(stream: AcceptedStream) -> io::Result<Self> {
        Ok(match stream {
            AcceptedStream::Tcp(tcp) => Self::Tcp(tcp.into()),
            AcceptedStream::Unix(unix) => Self::Unix(Async::new_nonblocking(unix)?),
        })
    }

    /// Shuts down a direction, or both.
    pub(crate) fn shutdown(&self, direction: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.shutdown(direction),
            Self::Unix(unix) => unix.get_ref().shutdown(direction),
        }
    }
}

impl AsyncRead for RuntimeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Unix(unix) => Pin::new(&mut &*unix).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for RuntimeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, pieces),
            Self::Unix(unix) => Pin::new(&mut &*unix).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(&mut &*unix).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_close(cx),
            Self::Unix(unix) => Pin::new(&mut &*unix).poll_close(cx),
        }
    }
}

/// A client's stream that a [`SocketStatus`](crate::broker::SocketStatus) is told of, as one in an epoll instance is.
#[cfg(not(all(target_os = "linux", not(feature = "portable-sockets"))))]
mod waiting {
    use super::super::{AcceptedStream, read_cleared};
    use super::RuntimeStream;
    use crate::broker::{Sink, SocketStatus};
    use crate::net::unix_socket::UnixStream;
    use futures::io::{AsyncRead, AsyncWrite};
    use rustix::fd::{AsFd, BorrowedFd};
    use rustix::net::RecvFlags;
    use std::io::{self, IoSlice};
    use std::net::Shutdown;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};

    /// Tells a status that its socket is readable.
    struct Readable(Arc<SocketStatus>);

    impl Wake for Readable {
        fn wake(self: Arc<Self>) {
            self.0.set_readable(true);
            self.0.wake();
        }
    }

    /// Tells a status that its socket is writable.
    struct Writable(Arc<SocketStatus>);

    impl Wake for Writable {
        fn wake(self: Arc<Self>) {
            self.0.set_writable();
            self.0.wake();
        }
    }

    /// A client's stream, and the wakers for its two directions.
    pub(in crate::net) struct ClientStream {
        stream: RuntimeStream,
        readable: Waker,
        writable: Waker,
    }

    impl ClientStream {
        /// Has the status told of what happens to a stream.
        ///
        /// # Errors
        /// Those of [`RuntimeStream::new`].
        pub(in crate::net) fn new(
            stream: AcceptedStream,
            status: &Arc<SocketStatus>,
        ) -> io::Result<Self> {
            Ok(Self {
                stream: RuntimeStream::new(stream)?,
                readable: Arc::new(Readable(Arc::clone(status))).into(),
                writable: Arc::new(Writable(Arc::clone(status))).into(),
            })
        }

        /// Reads what the socket has. The status must say that it is not readable before; it says so again after a
        /// read, which does not tell whether the socket is empty.
        pub(in crate::net) fn poll_read(
            &mut self,
            status: &Arc<SocketStatus>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let mut cx = Context::from_waker(&self.readable);
            let read = Pin::new(&mut self.stream).poll_read(&mut cx, buffer);
            if read.is_ready() {
                status.set_readable(true);
            }
            read
        }

        /// Appends to a buffer, up to its capacity, as [`ClientStream::poll_read`] reads into one. What is read into must
        /// be cleared here.
        pub(in crate::net) fn poll_read_spare(
            &mut self,
            status: &Arc<SocketStatus>,
            buffer: &mut Vec<u8>,
        ) -> Poll<io::Result<usize>> {
            let room = buffer.capacity() - buffer.len();
            read_cleared(buffer, room, |part| self.poll_read(status, part))
        }

        /// Copies what a read would return next, which stays unread. If nothing is there it returns an error, and the
        /// status stays readable: only a read has the status told of what comes.
        pub(in crate::net) fn poll_peek(
            &self,
            status: &SocketStatus,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            status.set_readable(true);
            let peeked = rustix::net::recv(self.as_fd(), buffer, RecvFlags::PEEK);
            Poll::Ready(peeked.map(|(_, bytes)| bytes).map_err(io::Error::from))
        }

        /// Writes as much of the pieces as the socket takes.
        pub(in crate::net) fn poll_write(
            &mut self,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut cx = Context::from_waker(&self.writable);
            Pin::new(&mut self.stream).poll_write_vectored(&mut cx, pieces)
        }

        /// Returns nothing: a write that the socket does not take must be that of the task to wake.
        pub(in crate::net) fn sink(&self) -> Option<Arc<dyn Sink>> {
            None
        }

        /// Waits until something can be read, and returns the number of bytes of it that `buffer` has room for. They
        /// stay unread; 0: the client has disconnected.
        pub(in crate::net) async fn peek(
            &self,
            _status: &Arc<SocketStatus>,
            buffer: &mut [u8],
        ) -> io::Result<usize> {
            match &self.stream {
                RuntimeStream::Tcp(tcp) => tcp.peek(buffer).await,
                RuntimeStream::Unix(unix) => {
                    let peek = |unix: &UnixStream| {
                        let (_, bytes) = rustix::net::recv(unix, &mut *buffer, RecvFlags::PEEK)?;
                        Ok(bytes)
                    };
                    unix.read_with(peek).await
                }
            }
        }

        /// Shuts down a direction, or both.
        pub(in crate::net) fn shutdown(&self, direction: Shutdown) -> io::Result<()> {
            self.stream.shutdown(direction)
        }

        /// Returns the socket. No trait does: what rustix takes for one is another trait on Windows.
        pub(in crate::net) fn as_fd(&self) -> BorrowedFd<'_> {
            match &self.stream {
                RuntimeStream::Tcp(tcp) => tcp.as_fd(),
                RuntimeStream::Unix(unix) => unix.as_fd(),
            }
        }
    }
}
