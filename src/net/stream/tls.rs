//! TLS over a client's stream: rustls between the socket's bytes and the connection's.
//!
//! What is read is decrypted as far as it is asked for: while plaintext waits, nothing more is read from the socket, and the
//! [`SocketStatus`] stays readable. A read of plaintext reads once from the socket, and what came from there is charged to
//! the turn of its task: a record of one byte costs as much as a small message.
//!
//! What is written is encrypted a record at a time, and no further one before the socket has taken the last. So beside its
//! idle state a connection holds at most one record in either direction, or, of a message of the TLS handshake, what rustls
//! allows (64 KiB). All of it is counted in a memory budget: what is received here before the WebSocket, and then by the
//! connection ([`TlsStream::undecrypted_bytes`]); what is unsent here.

use super::ClientStream;
use super::record_tracker::RecordTracker;
use crate::base::memory_budget::MemoryReservation;
use crate::broker::{MessageProgress, SocketStatus};
use crate::net::turns::Turns;
use futures::future::poll_fn;
use futures::io::{AsyncRead, AsyncWrite};
use futures_rustls::rustls::{self, ServerConfig};
use futures_rustls::{TlsAcceptor, server};
use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// Bytes that are encrypted at once, and wait for the socket: those of the largest record (RFC 8446 section 5.1).
const WRITE_LIMIT: usize = 16 * 1024;

/// Most bytes that a client may send in its handshake, with the record that may follow at once. A ClientHello has some 2 KiB,
/// with keys that withstand quantum computers.
const MAX_HANDSHAKE: usize = 36 * 1024;

/// Most bytes of one read from the socket. rustls gives it no more than 4 KiB of buffer, except in the rest of a long record.
const LONGEST_RECEIVE: usize = 8 * 1024;

/// Bytes before the WebSocket that are not counted, as those of a request are.
const UNCOUNTED_BYTES: usize = 4 * 1024;

/// What rustls reads and writes.
struct TlsSocket {
    stream: ClientStream,
    status: Arc<SocketStatus>,
    /// What was read before TLS began: it followed a PROXY header.
    already_read: Vec<u8>,
    /// Follows what rustls is given.
    tracker: RecordTracker,
    /// Bytes that were received and are not charged to a turn yet.
    received: usize,
    is_handshaking: bool,
    /// The memory of what is undecrypted, until the WebSocket counts it.
    memory: Option<MemoryReservation>,
}

impl TlsSocket {
    fn poll_receive(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let limit = buffer.len().min(LONGEST_RECEIVE);
        let buffer = buffer.get_mut(..limit).unwrap_or_default();
        let bytes = if self.already_read.is_empty() {
            if !self.status.take_readable() {
                return Poll::Pending;
            }
            ready!(self.stream.poll_read(&self.status, buffer))?
        } else {
            let bytes = self.already_read.len().min(buffer.len());
            let read = self.already_read.drain(..bytes);
            buffer
                .iter_mut()
                .zip(read)
                .for_each(|(to, from)| *to = from);
            self.already_read.shrink_to_fit();
            bytes
        };
        self.received += bytes;
        self.tracker
            .advance(buffer.get(..bytes).unwrap_or_default());
        self.reserve();
        self.check_limits()?;
        Poll::Ready(Ok(bytes))
    }

    /// Reserves memory for what is undecrypted, before the WebSocket does.
    fn reserve(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.set(self.tracker.undecrypted().saturating_sub(UNCOUNTED_BYTES));
        }
    }

    /// Fails if the client has sent more than it may before the WebSocket.
    fn check_limits(&self) -> io::Result<()> {
        let is_short = |it: &MemoryReservation| it.bytes() > 0 && it.budget().is_exceeded();
        let error = if self.memory.as_ref().is_some_and(is_short) {
            "the server is short of memory"
        } else if self.is_handshaking && self.tracker.undecrypted() > MAX_HANDSHAKE {
            "it has more than 36 KiB"
        } else {
            return Ok(());
        };
        Err(io::Error::new(ErrorKind::InvalidData, error))
    }

    /// Records that all records but the one that has begun are decrypted.
    fn record_plaintext(&mut self) {
        self.tracker.record_plaintext();
        self.reserve();
    }
}

impl io::Read for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.poll_receive(buffer) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl io::Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.poll_write(&[IoSlice::new(bytes)]) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The task is woken through the status: contexts are not looked at.
impl AsyncRead for TlsSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_receive(buffer)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(pieces)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }
}

/// A client's stream after its TLS handshake.
pub(in crate::net) struct TlsStream {
    stream: server::TlsStream<TlsSocket>,
    /// Bytes of plaintext that wait encrypted for the socket, which are reserved in the status.
    unsent: usize,
    /// What was wrong with a record. It is told after the plaintext of those before it.
    failure: Option<rustls::Error>,
}

impl TlsStream {
    /// Bytes that one read returns at most: the plaintext of a record.
    pub(super) const LONGEST_READ: usize = WRITE_LIMIT;

    /// Completes the handshake of a client. What is undecrypted is reserved in `memory`, until
    /// [`TlsStream::end_requests`].
    ///
    /// # Errors
    /// The client speaks no TLS that rustls accepts, has sent an alert, or has disconnected.
    pub(in crate::net) async fn accept(
        stream: ClientStream,
        status: &Arc<SocketStatus>,
        already_read: Vec<u8>,
        config: Arc<ServerConfig>,
        memory: MemoryReservation,
    ) -> io::Result<Self> {
        let socket = TlsSocket {
            stream,
            status: Arc::clone(status),
            already_read,
            tracker: RecordTracker::default(),
            received: 0,
            is_handshaking: true,
            memory: Some(memory),
        };
        let mut accepting = TlsAcceptor::from(config).accept_with(socket, |session| {
            session.set_buffer_limit(Some(WRITE_LIMIT));
        });
        let mut stream = loop {
            wait_for_turn().await;
            let step = Pin::new(&mut accepting).poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(accepted) = step {
                break accepted?;
            }
            wait_for_event(status).await;
        };
        let socket = stream.get_mut().0;
        socket.record_plaintext();
        socket.received = 0;
        socket.is_handshaking = false;
        // rustls may have decrypted what followed.
        status.set_readable(true);
        Ok(Self {
            stream,
            unsent: 0,
            failure: None,
        })
    }

    /// Reads what there is, as [`ClientStream::poll_read`] does. If records have come and no plaintext, which
    /// [`TlsStream::take_received`] tells, the socket may have more.
    pub(in crate::net) fn poll_read(
        &mut self,
        status: &SocketStatus,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = ready!(self.poll_decrypt(status)).and_then(|()| {
            let (_, session) = self.stream.get_mut();
            io::Read::read(&mut session.reader(), buffer)
        });
        let read = end_is_nothing(read);
        let is_anything_left = !self.stream.get_ref().1.wants_read() || self.failure.is_some();
        if is_anything_left || !matches!(read, Ok(1..)) {
            status.set_readable(true);
        }
        Poll::Ready(read)
    }

    /// Copies what a read would return next, as [`ClientStream::poll_peek`] does.
    pub(in crate::net) fn poll_peek(
        &mut self,
        status: &SocketStatus,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let peeked = ready!(self.poll_decrypt(status)).and_then(|()| {
            let (_, session) = self.stream.get_mut();
            let chunk = session.reader().into_first_chunk()?;
            buffer
                .iter_mut()
                .zip(chunk)
                .for_each(|(to, from)| *to = *from);
            Ok(chunk.len().min(buffer.len()))
        });
        status.set_readable(true);
        Poll::Ready(end_is_nothing(peeked))
    }

    /// Waits until there is something to peek at, and copies it, as [`ClientStream::peek`] does.
    pub(in crate::net) async fn peek(
        &mut self,
        status: &SocketStatus,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        loop {
            if status.take_readable() {
                if let Poll::Ready(peeked) = self.poll_peek(status, buffer) {
                    return peeked;
                }
                if self.take_received() > 0 {
                    wait_for_turn().await;
                    continue;
                }
            }
            wait_for_event(status).await;
        }
    }

    /// Reads once from the socket unless there is plaintext, or the end of it.
    fn poll_decrypt(&mut self, status: &SocketStatus) -> Poll<io::Result<()>> {
        // It was taken for a read of plaintext, and the socket may have something.
        status.set_readable(true);
        let (socket, session) = self.stream.get_mut();
        if !session.wants_read() {
            return Poll::Ready(Ok(()));
        }
        if self.failure.is_none() {
            match session.read_tls(socket) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = session.process_new_packets() {
                // The client is told by an alert, if the socket takes it.
                while session.wants_write() && session.write_tls(socket).is_ok_and(|it| it > 0) {}
                self.failure = Some(error);
            }
            if !session.wants_read() {
                socket.record_plaintext();
                return Poll::Ready(Ok(()));
            }
        }
        match &self.failure {
            Some(error) => {
                let error = io::Error::new(ErrorKind::InvalidData, error.clone());
                Poll::Ready(Err(error))
            }
            None => Poll::Pending,
        }
    }

    /// Returns the bytes that were received since this was last asked for: what decrypting has cost.
    pub(in crate::net) fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.stream.get_mut().0.received)
    }

    /// Writes as much of the pieces as fits a record, once the socket has taken the last one.
    pub(in crate::net) fn poll_write(&mut self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush())?;
        let mut cx = Context::from_waker(Waker::noop());
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(&mut cx, pieces))?;
        if !self.is_flushed() {
            self.set_unsent(written);
        }
        Poll::Ready(Ok(written))
    }

    /// Returns whether the socket has taken all that was written, and what rustls has to say.
    pub(in crate::net) fn is_flushed(&self) -> bool {
        !self.stream.get_ref().1.wants_write()
    }

    /// Has the socket take what was written.
    pub(in crate::net) fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        let mut cx = Context::from_waker(Waker::noop());
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(&mut cx));
        self.set_unsent(0);
        Poll::Ready(flushed)
    }

    /// Tells the client that nothing follows (RFC 8446 section 6.1), and ends the sending direction.
    pub(in crate::net) fn poll_close(&mut self) -> Poll<io::Result<()>> {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_close(&mut cx)
    }

    /// Reserves no memory any more for what is undecrypted: the caller does from now on.
    pub(in crate::net) fn end_requests(&mut self) {
        self.stream.get_mut().0.memory = None;
    }

    /// Returns the bytes of what has begun to come and cannot be decrypted before the rest has.
    pub(in crate::net) fn undecrypted_bytes(&self) -> usize {
        self.stream.get_ref().0.tracker.unfinished()
    }

    /// Returns how that stands, since this was last asked for.
    pub(in crate::net) fn take_progress(&mut self) -> MessageProgress {
        self.stream.get_mut().0.tracker.take_progress()
    }

    /// Reserves memory for what waits for the socket.
    fn set_unsent(&mut self, bytes: usize) {
        let memory = &self.stream.get_ref().0.status.receive_memory;
        memory.grow(bytes.saturating_sub(self.unsent));
        memory.shrink(self.unsent.saturating_sub(bytes));
        self.unsent = bytes;
    }
}

#[cfg(test)]
impl TlsStream {
    pub(in crate::net) fn as_fd(&self) -> rustix::fd::BorrowedFd<'_> {
        self.stream.get_ref().0.stream.as_fd()
    }
}

/// The broker may keep the status longer.
impl Drop for TlsStream {
    fn drop(&mut self) {
        self.set_unsent(0);
    }
}

/// Returns what a read has returned. That a client closes the connection without saying so in TLS is an end like another:
/// WebSocket messages and requests have lengths.
fn end_is_nothing(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

/// Waits until it is the turn of a handshake. A step costs as much as some hundred messages, so that of a flood of
/// handshakes only a few are taken at a time, between the messages of others.
async fn wait_for_turn() {
    let mut turns = Turns::default();
    let mut has_ended = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut has_ended, true) {
            turns.end(cx);
            return Poll::Pending;
        }
        match turns.may_begin(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

/// Waits until something happens to the socket.
async fn wait_for_event(status: &SocketStatus) {
    let mut is_woken = false;
    poll_fn(|cx| {
        status.register(cx.waker());
        match status.is_readable() || std::mem::replace(&mut is_woken, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}
