//! A client's socket. It yields to other tasks while it reads, and records activity.

use super::stream::{AcceptedStream, MaybeTlsStream, read_cleared};
#[cfg(feature = "tls")]
use crate::base::memory_budget::MemoryReservation;
use crate::broker::{DirectWriter, MessageProgress, SocketStatus};
use crate::net::frame_tracker::LONGEST_HEADER;
use crate::net::turns::Turns;
use futures::future::pending;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes after which a connection that reads yields to other tasks, encrypted ones with TLS. The last read may go beyond them. The runtime has no
/// such budget: without it, a client that floods the server would starve all others.
const READ_BUDGET: usize = 16 * 1024;

/// Bytes of a large message that are read at once: with its header, one of 64 KiB. A longer read would make the turns of
/// those who send large messages several times as long as those of others.
const LONGEST_READ: usize = 64 * 1024 + LONGEST_HEADER;

/// Bytes that a connection may write before it yields to other tasks, and the most in one write. Copying them
/// takes the kernel about as long as the rest of a turn; without it, a client that reads fast gets a long
/// response in one turn.
const WRITE_BUDGET: usize = 64 * 1024;

/// One client's socket.
pub(crate) struct ClientSocket {
    stream: MaybeTlsStream,
    read_budget_left: usize,
    write_budget_left: usize,
    read_turns: Turns,
    write_turns: Turns,
    status: Arc<SocketStatus>,
    /// If set, received bytes do not count as activity; only the client's reading does, which shows in the
    /// socket's accepting further bytes.
    pub(crate) ignore_received_as_activity: bool,
    /// Number of writes that the kernel took.
    #[cfg(test)]
    pub(crate) writes: usize,
}

impl ClientSocket {
    /// Creates the socket of a client.
    ///
    /// # Errors
    /// The system cannot watch it: it has no memory for that.
    pub(crate) fn new(stream: AcceptedStream, status: Arc<SocketStatus>) -> io::Result<Self> {
        let stream = MaybeTlsStream::new(stream, &status)?;
        Ok(Self::with_stream(stream, status))
    }

    fn with_stream(stream: MaybeTlsStream, status: Arc<SocketStatus>) -> Self {
        Self {
            stream,
            read_budget_left: READ_BUDGET,
            write_budget_left: WRITE_BUDGET,
            read_turns: Turns::default(),
            write_turns: Turns::default(),
            status,
            ignore_received_as_activity: false,
            #[cfg(test)]
            writes: 0,
        }
    }

    /// Completes the TLS handshake of a client, of which `already_read` has come. What is not decrypted yet is reserved in
    /// `memory`, until [`ClientSocket::end_requests`].
    ///
    /// # Errors
    /// Those of [`MaybeTlsStream::accept_tls`].
    #[cfg(feature = "tls")]
    pub(crate) async fn accept_tls(
        self,
        already_read: Vec<u8>,
        config: Arc<futures_rustls::rustls::ServerConfig>,
        memory: MemoryReservation,
    ) -> io::Result<Self> {
        let Self { stream, status, .. } = self;
        let stream = stream.accept_tls(&status, already_read, config, memory);
        let stream = stream.await?;
        Ok(Self::with_stream(stream, status))
    }

    /// Waits for the first byte of a client, which stays unread. `None`: the client has disconnected.
    #[cfg(feature = "tls")]
    pub(crate) async fn peek_first(&mut self) -> Option<u8> {
        let mut first = [0];
        let peeked = self.stream.peek(&self.status, &mut first).await;
        let [first] = first;
        peeked.is_ok_and(|bytes| bytes > 0).then_some(first)
    }

    /// Returns whether a read could return anything. If not, the task of `cx` is woken once it could, and its next turn
    /// begins then.
    pub(crate) fn wait_readable(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.status.is_readable() {
            self.status.register(cx.waker());
            if !self.status.is_readable() {
                self.read_budget_left = READ_BUDGET;
                return false;
            }
        }
        true
    }

    /// Ends the turn in which the task of `cx` reads and handles messages; it is woken for the next one.
    pub(crate) fn end_read_turn(&mut self, cx: &mut Context<'_>) {
        self.read_budget_left = READ_BUDGET;
        self.read_turns.end(cx);
    }

    /// Returns whether it is the turn of the task of `cx` to read. If not, it is woken when it is.
    pub(crate) fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        self.read_turns.may_begin(cx)
    }

    /// Appends what the socket has to a buffer, up to its capacity, at most [`LONGEST_READ`] bytes. If the capacity is not
    /// more than that, its unused part need not be cleared before.
    pub(crate) fn poll_read_spare(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |stream, status| {
            if buffer.capacity() - buffer.len() <= LONGEST_READ {
                stream.poll_read_spare(status, buffer)
            } else {
                read_cleared(buffer, LONGEST_READ, |part| stream.poll_read(status, part))
            }
        })
    }

    /// Copies what can be read next, as much as `buffer` has room for, and returns the number of bytes: 0 at the end of
    /// the stream and for an error, too. A read tells which.
    pub(crate) fn poll_peek(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        self.poll_in_turn(cx, |stream, status| {
            let peeked = stream.poll_peek(status, buffer);
            (peeked, stream.take_cost(0))
        })
        .map(|peeked| peeked.unwrap_or(0))
    }

    /// Reads if it is the turn of the task of `cx` and the socket may have something.
    fn poll_read_with(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut MaybeTlsStream, &Arc<SocketStatus>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let read = self.poll_in_turn(cx, |stream, status| {
            let read = read(stream, status);
            let cost = match &read {
                Poll::Ready(Ok(bytes)) => stream.take_cost(*bytes).max(1),
                _ => stream.take_cost(0),
            };
            (read, cost)
        });
        if let Poll::Ready(Ok(bytes)) = &read {
            self.status.traffic.counts.bytes_in.add(*bytes as u64);
            if !self.ignore_received_as_activity {
                self.status.record_received();
            }
        }
        read
    }

    /// Reads or peeks if it is the turn of the task of `cx` and the socket may have something. `read` returns also what that
    /// costs the turn. If it costs something and returns nothing, it is called again.
    fn poll_in_turn(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(
            &mut MaybeTlsStream,
            &Arc<SocketStatus>,
        ) -> (Poll<io::Result<usize>>, usize),
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.read_budget_left == 0 {
                self.end_read_turn(cx);
                return Poll::Pending;
            }
            if !self.may_read(cx) {
                return Poll::Pending;
            }
            self.status.register(cx.waker());
            if !self.status.take_readable() {
                self.read_budget_left = READ_BUDGET;
                return Poll::Pending;
            }
            let (read, cost) = read(&mut self.stream, &self.status);
            self.read_budget_left = self.read_budget_left.saturating_sub(cost);
            if read.is_ready() {
                return read;
            }
            if cost == 0 {
                self.read_budget_left = READ_BUDGET;
                return Poll::Pending;
            }
        }
    }

    /// Returns whether the socket has taken all that was written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.stream.is_flushed()
    }

    /// Reserves no memory any more for what is not decrypted yet: the caller does from now on.
    pub(crate) fn end_requests(&mut self) {
        self.stream.end_requests();
    }

    /// Returns the bytes that were received and cannot be decrypted before more has come.
    pub(crate) fn undecrypted_bytes(&self) -> usize {
        self.stream.undecrypted_bytes()
    }

    /// Returns how what is not decrypted yet stands, since this was last asked for.
    pub(crate) fn take_progress(&mut self) -> MessageProgress {
        self.stream.take_progress()
    }

    /// Begins a turn in which frames are written: what earlier ones have written does not count.
    pub(crate) fn begin_write_turn(&mut self) {
        self.write_budget_left = WRITE_BUDGET;
    }

    /// Returns the state that is shared with the broker.
    pub(crate) fn status(&self) -> &Arc<SocketStatus> {
        &self.status
    }

    /// Returns what the broker writes to the socket with, if it can.
    pub(crate) fn direct_writer(&self) -> Option<DirectWriter> {
        let sink = self.stream.sink()?;
        Some(DirectWriter::new(sink, Arc::clone(&self.status)))
    }

    /// Completes once the client has disconnected without having sent anything, and never if it has sent something:
    /// then its end shows only after that is read.
    pub(crate) async fn disconnected(&mut self) {
        let peeked = self.stream.peek(&self.status, &mut [0]).await;
        if peeked.is_ok_and(|bytes| bytes > 0) {
            pending::<()>().await;
        }
    }

    /// Shuts down the sending direction, and reads until the client closes its own. Closing at once would
    /// reset the connection if the client still sends, and the client could lose what it was sent last
    /// (RFC 6455 section 7.1.1). The caller limits the time.
    pub(crate) async fn linger(mut self) {
        // Fails only if the connection is closed already.
        let _ = self.close().await;
        let mut discarded = [0; 512];
        while self.read(&mut discarded).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

/// Returns the first two of these pieces, cut to this many bytes in total. No caller writes more than two.
fn cut<'a>(pieces: &'a [IoSlice<'_>], mut bytes: usize) -> [IoSlice<'a>; 2] {
    let mut pieces = pieces.iter();
    [(); 2].map(|()| {
        let piece: &[u8] = pieces.next().map_or(&[], |piece| piece);
        let piece = piece.get(..bytes).unwrap_or(piece);
        bytes -= piece.len();
        IoSlice::new(piece)
    })
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |stream, status| stream.poll_read(status, buffer))
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
        if self.write_budget_left == 0 {
            self.begin_write_turn();
            self.write_turns.end(cx);
            return Poll::Pending;
        }
        if !self.write_turns.may_begin(cx) {
            return Poll::Pending;
        }
        let pieces = cut(pieces, WRITE_BUDGET);
        self.status.register(cx.waker());
        let Self { stream, status, .. } = &mut *self;
        let written = status.write(|| stream.poll_write(&pieces));
        match &written {
            Poll::Pending => self.write_budget_left = WRITE_BUDGET,
            Poll::Ready(result) => {
                #[cfg(test)]
                {
                    self.writes += 1;
                }
                let bytes = *result.as_ref().unwrap_or(&0);
                self.write_budget_left = self.write_budget_left.saturating_sub(bytes);
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.status.register(cx.waker());
        let Self { stream, status, .. } = &mut *self;
        let flushed = status.write(|| stream.poll_flush().map_ok(|()| 0));
        flushed.map_ok(|_| ())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.status.register(cx.waker());
        self.stream.poll_close()
    }
}

#[cfg(all(test, feature = "tls"))]
mod tls_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::memory_budget::MemoryBudget;
    use crate::broker::Clock;
    use async_io::block_on;
    use async_std::future::timeout;
    use futures::future::poll_fn;
    use futures::task::{ArcWake, waker};
    use rustix::event::{PollFd, PollFlags};
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
    use std::io::Write;
    use std::mem::MaybeUninit;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    /// How long a test waits for what must happen. Far more than any machine needs.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// What poll(2) says of a socket whose client has closed its sending direction.
    #[cfg(target_os = "linux")]
    const END: PollFlags = PollFlags::RDHUP;
    /// The other systems say no more than that something can be read.
    #[cfg(not(target_os = "linux"))]
    const END: PollFlags = PollFlags::IN;

    fn socket(stream: AcceptedStream) -> ClientSocket {
        let (clock, budget) = (Arc::new(Clock::new()), MemoryBudget::new(0));
        let status = SocketStatus::new(&clock, &budget, &Arc::default());
        ClientSocket::new(stream, Arc::new(status)).unwrap()
    }

    pub(super) fn tcp() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, socket(AcceptedStream::Tcp(server)))
    }

    pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < DEADLINE, "{what}");
            std::thread::yield_now();
        }
    }

    /// Waits until all that the client has done has reached the socket: this is what its end says of it. The events have
    /// been handled then, too, where the socket is registered for edges.
    fn wait_for(socket: &ClientSocket, flags: PollFlags) {
        let mut polled = [PollFd::from_borrowed_fd(socket.stream.as_fd(), flags)];
        rustix::event::poll(&mut polled, None).unwrap();
        #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
        wait_until("the end is seen", || socket.status.has_end());
    }

    /// Reads this many bytes in reads of 100, or to the end of the stream.
    pub(super) fn read(socket: &mut ClientSocket, bytes: usize) -> Vec<u8> {
        let read = async {
            let mut received = Vec::new();
            let mut buffer = [0; 100];
            while received.len() < bytes {
                match socket.read(&mut buffer).await.unwrap() {
                    0 => break,
                    count => received.extend_from_slice(&buffer[..count]),
                }
            }
            received
        };
        block_on(timeout(DEADLINE, read)).expect("there is something to read")
    }

    #[test]
    fn the_last_message_and_the_end_of_the_stream_are_read_when_they_arrive_together() {
        let (mut client, mut socket) = tcp();
        client.write_all(b"last").unwrap();
        drop(client);
        wait_for(&socket, END);
        assert_eq!(read(&mut socket, usize::MAX), b"last");
    }

    #[test]
    fn the_end_of_the_stream_is_read_when_it_arrives_after_the_last_message() {
        let (mut client, mut socket) = tcp();
        client.write_all(b"last").unwrap();
        assert_eq!(read(&mut socket, 4), b"last");
        drop(client);
        assert_eq!(read(&mut socket, 1), b"");
    }

    #[test]
    fn what_follows_urgent_data_is_read() {
        let (mut client, mut socket) = tcp();
        client.write_all(b"before").unwrap();
        send(&client, b"!", SendFlags::OOB).unwrap();
        client.write_all(b" and after").unwrap();
        wait_for(&socket, PollFlags::PRI);
        assert_eq!(read(&mut socket, 16), b"before and after");
    }

    #[test]
    fn what_follows_a_passed_file_descriptor_on_a_unix_socket_is_read() {
        let (client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut socket = socket(AcceptedStream::Unix(server));
        (&client).write_all(b"before ").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files = [client.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
        let with = [IoSlice::new(b"with ")];
        sendmsg(&client, &with, &mut ancillary, SendFlags::empty()).unwrap();
        (&client).write_all(b"after").unwrap();
        wait_until("it is readable", || socket.status.is_readable());
        assert_eq!(read(&mut socket, 17), b"before with after");
    }

    /// A waker that records whether it was called.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl ArcWake for Woken {
        fn wake_by_ref(arc_self: &Arc<Self>) {
            arc_self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_task_of_the_last_read_that_waits_is_woken() {
        let (mut client, mut socket) = tcp();
        let tasks = [(); 3].map(|()| Arc::<Woken>::default());
        for task in &tasks {
            let waker = waker(Arc::clone(task));
            let mut cx = Context::from_waker(&waker);
            let mut buffer = [0; 100];
            while Pin::new(&mut socket)
                .poll_read(&mut cx, &mut buffer)
                .is_ready()
            {}
        }
        client.write_all(b"x").unwrap();
        let last = &tasks[2].0;
        wait_until("the last task is woken", || last.load(Ordering::SeqCst));
        // The same for a task that only asks.
        assert_eq!(read(&mut socket, 1), b"x");
        block_on(poll_fn(|cx| {
            let mut buffer = [0; 100];
            assert!(
                Pin::new(&mut socket)
                    .poll_read(cx, &mut buffer)
                    .is_pending()
            );
            Poll::Ready(())
        }));
        let asking = Arc::<Woken>::default();
        let waker = waker(Arc::clone(&asking));
        assert!(!socket.wait_readable(&mut Context::from_waker(&waker)));
        client.write_all(b"x").unwrap();
        wait_until("it is woken", || asking.0.load(Ordering::SeqCst));
    }

    #[test]
    fn the_task_of_the_last_write_that_waits_is_woken() {
        let (client, mut socket) = tcp();
        let tasks = [(); 3].map(|()| Arc::<Woken>::default());
        for task in &tasks {
            let waker = waker(Arc::clone(task));
            let mut cx = Context::from_waker(&waker);
            while !socket.status.is_write_blocked() {
                let _ = Pin::new(&mut socket).poll_write(&mut cx, &[0; 1 << 16]);
            }
            assert!(Pin::new(&mut socket).poll_write(&mut cx, b"x").is_pending());
        }
        std::thread::spawn(move || std::io::copy(&mut &client, &mut std::io::sink()));
        let last = &tasks[2].0;
        wait_until("the last task is woken", || last.load(Ordering::SeqCst));
        assert!(!socket.status.is_write_blocked());
    }
}
