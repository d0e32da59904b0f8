//! A TCP stream that gives way, and notes when it last heard something.

use crate::broker::SocketStatus;
use async_std::net::TcpStream;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use futures::task::AtomicWaker;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// After reading this much in one go a connection lets others have their turn. The runtime
/// counts nothing of the kind: without it one flooding client stops everybody else.
const BYTES_PER_TURN: usize = 16 * 1024;

/// Remembers whether the socket may have something to read. The runtime would try a `read` each
/// time the task wakes, whatever it was woken for.
struct Readable {
    maybe: AtomicBool,
    reader: AtomicWaker,
}

impl Wake for Readable {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.maybe.store(true, Ordering::Release);
        self.reader.wake();
    }
}

/// One client's socket.
pub(crate) struct ClientSocket {
    tcp: TcpStream,
    readable: Arc<Readable>,
    left_in_turn: usize,
    status: Arc<SocketStatus>,
    /// What is received is no sign of life any more, only that what is sent is taken.
    pub(crate) ignore_received_as_activity: bool,
    /// Octets so far.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl ClientSocket {
    pub(crate) fn new(tcp: TcpStream, status: Arc<SocketStatus>) -> Self {
        // What is written is complete and wanted now. Fails only on a socket that is dead, which
        // the next read will say.
        let _ = tcp.set_nodelay(true);
        let readable = Readable {
            maybe: AtomicBool::new(true),
            reader: AtomicWaker::new(),
        };
        Self {
            tcp,
            readable: Arc::new(readable),
            left_in_turn: BYTES_PER_TURN,
            status,
            ignore_received_as_activity: false,
            received: 0,
            sent: 0,
        }
    }

    /// Whether reading could bring anything. Once it could not, `poll_read`'s waker is called
    /// when it can.
    pub(crate) fn may_be_readable(&self) -> bool {
        self.readable.maybe.load(Ordering::Acquire)
    }

    /// What the broker may see of this.
    pub(crate) fn status(&self) -> &SocketStatus {
        &self.status
    }

    /// Notes that a Ping came back.
    pub(crate) fn record_rtt(&self, time: Duration) {
        self.status.record_rtt(time);
    }

    /// Ends the sending direction, and waits until the client is gone, too. To close at once would
    /// be a reset where the client still sends, which could take what we sent last with it
    /// (RFC 6455 section 7.1.1). The caller sets a limit.
    pub(crate) async fn linger(mut self) {
        // Fails only when the connection is gone already.
        let _ = self.tcp.shutdown(Shutdown::Write);
        let mut unread = [0; 512];
        while self.read(&mut unread).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.left_in_turn == 0 {
            self.left_in_turn = BYTES_PER_TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.readable.reader.register(cx.waker());
        if !self.readable.maybe.swap(false, Ordering::AcqRel) {
            self.left_in_turn = BYTES_PER_TURN;
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.readable));
        let read = Pin::new(&mut self.tcp).poll_read(&mut Context::from_waker(&waker), buffer);
        match &read {
            Poll::Pending => self.left_in_turn = BYTES_PER_TURN,
            Poll::Ready(result) => {
                self.readable.maybe.store(true, Ordering::Release);
                if let Ok(bytes) = *result {
                    self.left_in_turn = self.left_in_turn.saturating_sub(bytes.max(1));
                    self.received += bytes as u64;
                    if !self.ignore_received_as_activity {
                        self.status.record_activity();
                    }
                }
            }
        }
        read
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.status.register_writer(cx.waker());
        let waker = Waker::from(Arc::clone(&self.status));
        let mut cx = Context::from_waker(&waker);
        let before = self.status.write_epoch();
        let written = Pin::new(&mut self.tcp).poll_write_vectored(&mut cx, pieces);
        match &written {
            Poll::Pending => self.status.set_write_blocked(before),
            Poll::Ready(result) => {
                if self.status.is_write_blocked() {
                    self.status.set_writable();
                }
                self.sent += *result.as_ref().unwrap_or(&0) as u64;
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_close(cx)
    }
}
