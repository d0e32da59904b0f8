//! State that a connection's socket shares with the broker without sending messages.

use super::unfinished::{MessageProgress, UnfinishedMessage};
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use futures::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// The state of a client's socket that the broker can see: its last activity, the last round trip, whether
/// writes are blocked, and how much memory received data takes.
pub(crate) struct SocketStatus {
    /// Time at which the daemon started.
    started: Instant,
    /// Second of the last activity, counted from `started`.
    activity_second: AtomicU32,
    /// Last round trip of a Ping in microseconds, at least 1; 0 before the first.
    rtt_micros: AtomicU32,
    /// Odd while the socket accepts no more bytes. Becoming writable moves it on to the next even
    /// number, so that a write that failed before that cannot mark the socket as blocked after it.
    write_epoch: AtomicU32,
    write_waker: AtomicWaker,
    /// Memory reserved for received data that is not yet handled. The connection grows it by the bytes
    /// it reads; the broker releases the bytes of the commands that it has handled.
    pub(crate) receive_memory: MemoryReservation,
    /// The message that has been received in part.
    pub(crate) unfinished: UnfinishedMessage,
    /// Whether the socket may have something to read that was not read yet.
    readable: AtomicBool,
}

impl SocketStatus {
    /// Creates the status of a client that was active just now. `started` is when the daemon started.
    pub(crate) fn new(started: Instant, budget: &Arc<MemoryBudget>) -> Self {
        let status = Self {
            started,
            activity_second: AtomicU32::new(0),
            rtt_micros: AtomicU32::new(0),
            write_epoch: AtomicU32::new(0),
            write_waker: AtomicWaker::new(),
            receive_memory: MemoryReservation::new(budget, 0),
            unfinished: UnfinishedMessage::default(),
            readable: AtomicBool::new(true),
        };
        status.record_activity();
        status
    }

    /// Records that the client was active just now.
    pub(crate) fn record_activity(&self) {
        self.activity_second.store(self.second(), Ordering::Relaxed);
    }

    /// Returns the seconds since the daemon started.
    fn second(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    /// Records how the message stands that is being received.
    pub(crate) fn record_progress(&self, progress: MessageProgress) {
        self.unfinished.record(progress, || self.second());
    }

    /// Returns the second since which the connection has held what it holds, about: since its unfinished
    /// message began, or since the client has stopped reading. `u32::MAX` if neither is so: then it holds
    /// what it will soon be rid of, or a buffer that was used.
    pub(crate) fn held_since(&self) -> u32 {
        let blocked = self.is_write_blocked();
        let blocked_since = blocked.then(|| self.activity_second.load(Ordering::Relaxed));
        self.unfinished
            .begun()
            .or(blocked_since)
            .unwrap_or(u32::MAX)
    }

    /// Returns whether the socket may have something to read that was not read yet.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable.load(Ordering::Acquire)
    }

    /// Sets whether the socket may have something to read.
    pub(crate) fn set_readable(&self, readable: bool) {
        self.readable.store(readable, Ordering::Release);
    }

    /// Returns whether the socket may have something to read, and takes it that it will be read now.
    pub(crate) fn take_readable(&self) -> bool {
        self.readable.swap(false, Ordering::AcqRel)
    }

    /// Returns the time of the last activity since the daemon started, rounded down to seconds.
    pub(crate) fn last_activity(&self) -> Duration {
        Duration::from_secs(self.activity_second.load(Ordering::Relaxed).into())
    }

    /// Records the round trip of a Ping.
    pub(crate) fn record_rtt(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
        self.rtt_micros.store(micros.max(1), Ordering::Relaxed);
    }

    /// Returns the last recorded round trip of a Ping.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Returns whether the socket accepts no more bytes at present.
    pub(crate) fn is_write_blocked(&self) -> bool {
        self.write_epoch.load(Ordering::Relaxed) % 2 == 1
    }

    /// Returns the current epoch, to be read before a write and passed to
    /// [`SocketStatus::set_write_blocked`] if that write does not succeed.
    pub(crate) fn write_epoch(&self) -> u32 {
        self.write_epoch.load(Ordering::Relaxed)
    }

    /// Registers the task to wake when the socket becomes writable.
    pub(crate) fn register_writer(&self, waker: &Waker) {
        self.write_waker.register(waker);
    }

    /// Records that a write which began in `epoch` was blocked, unless the socket has become writable
    /// since. Counts as activity when it begins: silence is measured from here.
    pub(crate) fn set_write_blocked(&self, epoch: u32) {
        let order = Ordering::Relaxed;
        let exchange = self
            .write_epoch
            .compare_exchange(epoch, epoch | 1, order, order);
        let was_writable = epoch % 2 == 0;
        if exchange.is_ok() && was_writable {
            self.record_activity();
        }
    }

    /// Records that the socket is writable. If it was not, this is activity. A client busy reading a
    /// long queue shows no other activity until it reaches the Ping.
    pub(crate) fn set_writable(&self) {
        let next_even = |epoch: u32| Some((epoch | 1).wrapping_add(1));
        let before = self
            .write_epoch
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next_even);
        if before.is_ok_and(|before| before % 2 == 1) {
            self.record_activity();
        }
    }

    /// Sets the second of the last activity, for tests.
    #[cfg(test)]
    pub(crate) fn set_last_activity(&self, second: u32) {
        self.activity_second.store(second, Ordering::Relaxed);
    }

    /// Makes the socket accept no more bytes, for tests.
    #[cfg(test)]
    pub(crate) fn block_writes(&self) {
        self.set_write_blocked(self.write_epoch());
    }
}

/// Wakes the writer, and records that the socket is writable at once rather than when the task runs:
/// a client must not count as slow because its task waits to be scheduled.
impl Wake for SocketStatus {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_writable();
        self.write_waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_round_trip_is_recorded_in_microseconds() {
        let status = SocketStatus::new(Instant::now(), &MemoryBudget::new(0));
        assert_eq!(status.rtt(), None);
        for micros in [23_456, 1, 4_000_000_000] {
            status.record_rtt(Duration::from_micros(micros));
            assert_eq!(status.rtt(), Some(Duration::from_micros(micros)));
        }
        status.record_rtt(Duration::ZERO);
        assert!(status.rtt().is_some());
    }
}
