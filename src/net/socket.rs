//! A TCP stream that gives way, and notes when it last heard something.

use crate::base::memory_budget::{Budget, Charge};
use async_std::net::TcpStream;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use futures::task::AtomicWaker;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// After reading this much in one go a connection lets others have their turn. The runtime
/// counts nothing of the kind: without it one flooding client stops everybody else.
const OCTETS_A_TURN: usize = 16 * 1024;

/// What the broker may see of a client's socket: when it last gave a sign of life, to the second,
/// how long a Ping took to come back, whether it takes what is sent, and what it has sent itself that
/// is still here.
pub(crate) struct Pulse {
    origin: Instant,
    seconds: AtomicU32,
    /// In microseconds, at least 1; 0 before the first.
    round_trip: AtomicU32,
    /// Odd while the socket has no room for what is sent. Each time it has room again it goes on
    /// to the next even number, so that a write that failed before that cannot be noted after it.
    room: AtomicU32,
    writer: AtomicWaker,
    /// For what was received and has not been done yet. The connection adds what it reads; what it
    /// hands to the broker is for that to take off.
    pub(crate) incoming: Charge,
}

impl Pulse {
    /// A client heard just now; `origin` is when the daemon started.
    pub(crate) fn new(origin: Instant, budget: &Arc<Budget>) -> Self {
        let pulse = Self {
            origin,
            seconds: AtomicU32::new(0),
            round_trip: AtomicU32::new(0),
            room: AtomicU32::new(0),
            writer: AtomicWaker::new(),
            incoming: Charge::new(budget, 0),
        };
        pulse.beat();
        pulse
    }

    /// Notes a sign of life.
    pub(crate) fn beat(&self) {
        let seconds = u32::try_from(self.origin.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    fn set_round_trip(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.round_trip.store(micros.max(1), Ordering::Relaxed);
    }

    /// The last round trip of a Ping that was measured.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let micros = self.round_trip.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Whether the client's socket has no room for what is sent to it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.room.load(Ordering::Relaxed) % 2 == 1
    }

    /// Notes that a write found no room, unless there has been room since `before`, the number
    /// then. This is the start of a silence.
    fn set_blocked(&self, before: u32) {
        let order = Ordering::Relaxed;
        let blocked = before | 1;
        if self.room.compare_exchange(before, blocked, order, order) == Ok(before & !1) {
            self.beat();
        }
    }

    /// Notes that there is room. Where there was none it is a sign of life, the only one of a
    /// client that has much to read before our Ping.
    fn set_free(&self) {
        let next = |room: u32| Some((room | 1).wrapping_add(1));
        let before = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if before.is_ok_and(|before| before % 2 == 1) {
            self.beat();
        }
    }

    /// A client that was heard last at this second, for a test.
    #[cfg(test)]
    pub(crate) fn hear_at(&self, second: u32) {
        self.seconds.store(second, Ordering::Relaxed);
    }

    /// A client that takes nothing of what is sent to it, for a test.
    #[cfg(test)]
    pub(crate) fn block(&self) {
        self.set_blocked(self.room.load(Ordering::Relaxed));
    }

    /// When the last sign of life was, since the daemon started, rounded down to seconds.
    pub(crate) fn heard(&self) -> Duration {
        Duration::from_secs(self.seconds.load(Ordering::Relaxed).into())
    }
}

/// Called when the socket has room again: it is not the client's fault if its task has to wait
/// for its turn from then on.
impl Wake for Pulse {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_free();
        self.writer.wake();
    }
}

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
pub(crate) struct Stream {
    tcp: TcpStream,
    readable: Arc<Readable>,
    left_in_turn: usize,
    pulse: Arc<Pulse>,
    /// What is received is no sign of life any more, only that what is sent is taken.
    pub(crate) is_deaf: bool,
    /// Octets so far.
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, pulse: Arc<Pulse>) -> Self {
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
            left_in_turn: OCTETS_A_TURN,
            pulse,
            is_deaf: false,
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
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Notes that a Ping came back.
    pub(crate) fn came_back_after(&self, time: Duration) {
        self.pulse.set_round_trip(time);
    }

    /// Ends the sending direction, and waits until the client is gone, too. To close at once would
    /// be a reset where the client still sends, which could take what we sent last with it
    /// (RFC 6455 section 7.1.1). The caller sets a limit.
    pub(crate) async fn linger(mut self) {
        // Fails only when the connection is gone already.
        let _ = self.tcp.shutdown(Shutdown::Write);
        let mut unread = [0; 512];
        while self.read(&mut unread).await.is_ok_and(|octets| octets > 0) {}
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.left_in_turn == 0 {
            self.left_in_turn = OCTETS_A_TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.readable.reader.register(cx.waker());
        if !self.readable.maybe.swap(false, Ordering::AcqRel) {
            self.left_in_turn = OCTETS_A_TURN;
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.readable));
        let read = Pin::new(&mut self.tcp).poll_read(&mut Context::from_waker(&waker), buffer);
        match &read {
            Poll::Pending => self.left_in_turn = OCTETS_A_TURN,
            Poll::Ready(result) => {
                self.readable.maybe.store(true, Ordering::Release);
                if let Ok(octets) = *result {
                    self.left_in_turn = self.left_in_turn.saturating_sub(octets.max(1));
                    self.received += octets as u64;
                    if !self.is_deaf {
                        self.pulse.beat();
                    }
                }
            }
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pulse.writer.register(cx.waker());
        let waker = Waker::from(Arc::clone(&self.pulse));
        let mut cx = Context::from_waker(&waker);
        let before = self.pulse.room.load(Ordering::Relaxed);
        let written = Pin::new(&mut self.tcp).poll_write_vectored(&mut cx, pieces);
        match &written {
            Poll::Pending => self.pulse.set_blocked(before),
            Poll::Ready(result) => {
                if self.pulse.is_blocked() {
                    self.pulse.set_free();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_round_trip_is_known_to_the_microsecond() {
        let pulse = Pulse::new(Instant::now(), &Budget::new(0));
        assert_eq!(pulse.round_trip(), None);
        for micros in [23_456, 1, 4_000_000_000] {
            pulse.set_round_trip(Duration::from_micros(micros));
            assert_eq!(pulse.round_trip(), Some(Duration::from_micros(micros)));
        }
        pulse.set_round_trip(Duration::ZERO);
        assert!(pulse.round_trip().is_some());
    }
}
