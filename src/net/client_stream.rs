//! The streams of clients: TCP, or a Unix socket.

use async_io::Async;
use async_std::net::TcpStream;
use futures::io::{AsyncRead, AsyncWrite};
use rustix::net::RecvFlags;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A stream of one client.
pub(crate) enum ClientStream {
    Tcp(TcpStream),
    Unix(Async<UnixStream>),
}

impl ClientStream {
    /// Sends each write at once, where the stream would wait for more.
    pub(super) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Waits until something can be read, and returns the number of bytes of it that `buffer` has room for. They stay
    /// unread; 0: the client has disconnected.
    pub(super) async fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.peek(buffer).await,
            Self::Unix(unix) => {
                let peek = |unix: &UnixStream| {
                    let (_, bytes) = rustix::net::recv(unix, &mut *buffer, RecvFlags::PEEK)?;
                    Ok(bytes)
                };
                unix.read_with(peek).await
            }
        }
    }

    /// Shuts down a direction, or both.
    pub(crate) fn shutdown(&self, direction: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.shutdown(direction),
            Self::Unix(unix) => unix.get_ref().shutdown(direction),
        }
    }
}

impl From<TcpStream> for ClientStream {
    fn from(tcp: TcpStream) -> Self {
        Self::Tcp(tcp)
    }
}

impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
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
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_close(cx),
            Self::Unix(unix) => Pin::new(unix).poll_close(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_std::net::TcpListener;
    use async_std::task::block_on;
    use futures::{AsyncReadExt, AsyncWriteExt};

    /// A stream of each kind, with its client.
    async fn pairs() -> [(ClientStream, ClientStream); 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (server, _) = listener.accept().await.unwrap();
        let (unix, unix_client) = Async::<UnixStream>::pair().unwrap();
        [
            (server.into(), client.unwrap().into()),
            (ClientStream::Unix(unix), ClientStream::Unix(unix_client)),
        ]
    }

    #[test]
    fn what_is_peeked_at_stays_and_the_end_is_seen() {
        block_on(async {
            for (mut server, mut client) in pairs().await {
                let pieces = [IoSlice::new(b"a"), IoSlice::new(b"bc")];
                assert_eq!(client.write_vectored(&pieces).await.unwrap(), 3);
                let mut byte = [0];
                assert_eq!(server.peek(&mut byte).await.unwrap(), 1);
                let mut bytes = [0; 3];
                server.read_exact(&mut bytes).await.unwrap();
                assert_eq!((byte, bytes), (*b"a", *b"abc"));
                client.shutdown(Shutdown::Write).unwrap();
                assert_eq!(server.peek(&mut byte).await.unwrap(), 0);
            }
        });
    }
}
