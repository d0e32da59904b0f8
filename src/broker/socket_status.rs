//! State that a connection's socket shares with the broker without sending messages.

use super::clock::Clock;
use super::traffic::{TrafficCounts, TrafficMeter};
use super::unfinished::{MessageProgress, UnfinishedMessage};
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use futures::task::AtomicWaker;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Bytes a second of the slowest line that the server waits for: one of 2G (rulings, "liveness").
const SLOWEST_LINE: usize = 2 * 1024;

/// Returns `timeout`, extended by the time that the slowest line takes for this many bytes, up to `at_most`
/// unless `timeout` is longer.
pub(crate) fn time_to_receive(bytes: usize, timeout: Duration, at_most: Duration) -> Duration {
    let seconds = Duration::from_secs((bytes / SLOWEST_LINE) as u64);
    timeout.max(timeout.saturating_add(seconds).min(at_most))
}

/// The state of a client's socket that the broker can see: its last activity, the last round trip, whether
/// writes are blocked, and how much memory received data takes.
///
/// The fields have this order (`repr(C)`) since a broadcast to thousands waits for the memory of each: those up to
/// `traffic` are what each write reads and changes.
#[repr(C)]
pub(crate) struct SocketStatus {
    /// Odd while the socket accepts no more bytes. Becoming writable moves it on to the next even
    /// number, so that a write that failed before that cannot mark the socket as blocked after it.
    write_epoch: AtomicU32,
    /// Bytes written since the last byte was received: what may still be on its way to the client, in the
    /// buffers of kernels and proxies.
    bytes_in_flight: AtomicU32,
    /// What has gone over the socket.
    pub(crate) traffic: TrafficMeter,
    clock: Arc<Clock>,
    /// Second of the last activity on the clock.
    activity_second: AtomicU32,
    /// Last round trip of a Ping in microseconds, at least 1; 0 before the first.
    rtt_micros: AtomicU32,
    /// Waker of the connection's task.
    waker: AtomicWaker,
    /// Memory reserved for received data that is not yet handled. The connection grows it by the bytes
    /// it reads; the broker releases the bytes of the commands that it has handled.
    pub(crate) receive_memory: MemoryReservation,
    /// The message that has been received in part.
    pub(crate) unfinished: UnfinishedMessage,
    /// Whether the connection does not read at present, for a reason that is not the client's.
    unread: AtomicBool,
    /// Whether the socket may have something to read that was not read yet.
    readable: AtomicBool,
    /// Whether something follows what a read returns, although it has not filled its buffer: the client has closed its
    /// sending direction, the connection is broken, or the client sends urgent data.
    #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
    has_end: AtomicBool,
}

impl SocketStatus {
    /// Creates the status of a client that was active just now. `traffic` is that of its listener.
    pub(crate) fn new(
        clock: &Arc<Clock>,
        budget: &Arc<MemoryBudget>,
        traffic: &Arc<TrafficCounts>,
    ) -> Self {
        let status = Self {
            clock: Arc::clone(clock),
            activity_second: AtomicU32::new(0),
            bytes_in_flight: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            rtt_micros: AtomicU32::new(0),
            write_epoch: AtomicU32::new(0),
            waker: AtomicWaker::new(),
            receive_memory: MemoryReservation::new(budget, 0),
            traffic: TrafficMeter::new(Arc::clone(traffic)),
            unfinished: UnfinishedMessage::default(),
            readable: AtomicBool::new(true),
            #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
            has_end: AtomicBool::new(false),
        };
        status.record_activity();
        status
    }

    /// Records that bytes were received just now.
    pub(crate) fn record_received(&self) {
        self.record_activity();
        self.bytes_in_flight.store(0, Ordering::Relaxed);
    }

    /// Records that the client was active just now. What was sent before may still be on its way.
    fn record_activity(&self) {
        self.activity_second.store(self.second(), Ordering::Relaxed);
    }

    /// Returns the seconds since the daemon started.
    fn second(&self) -> u32 {
        u32::try_from(self.clock.now().as_secs()).unwrap_or(u32::MAX)
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

    /// Returns whether something may follow what a read returns, although it has not filled its buffer: an end of the
    /// stream or of a part of it, of which the system has told.
    #[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
    pub(crate) fn has_end(&self) -> bool {
        self.has_end.load(Ordering::Acquire)
    }

    /// Writes to the socket, and records what follows from that. Called by one task at a time.
    pub(crate) fn write(
        &self,
        write: impl FnOnce() -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let epoch = self.write_epoch();
        let written = write();
        match &written {
            Poll::Pending => self.set_write_blocked(epoch),
            Poll::Ready(result) => {
                if self.is_write_blocked() {
                    self.set_writable();
                }
                let bytes = *result.as_ref().unwrap_or(&0);
                self.record_written(bytes);
                self.traffic.counts.bytes_out.add(bytes as u64);
            }
        }
        written
    }

    /// Records that bytes were written.
    pub(super) fn record_written(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let add = |before: u32| Some(before.saturating_add(bytes));
        let order = Ordering::Relaxed;
        // It always succeeds.
        let _ = self.bytes_in_flight.fetch_update(order, order, add);
    }

    /// Returns the time in which the client should answer what is sent now, if it has `timeout` once it has
    /// received it: longer by a second for each 2 KiB that may be on their way before it, up to `at_most`
    /// unless `timeout` is longer.
    pub(crate) fn time_to_answer(&self, timeout: Duration, at_most: Duration) -> Duration {
        let bytes = self.bytes_in_flight.load(Ordering::Relaxed);
        time_to_receive(bytes as usize, timeout, at_most)
    }

    /// Records whether the connection does not read at present, for a reason that is not the client's.
    pub(crate) fn set_unread(&self, unread: bool) {
        if self.unread.load(Ordering::Relaxed) != unread {
            self.unread.store(unread, Ordering::Relaxed);
        }
    }

    /// Returns whether the connection does not read at present, for a reason that is not the client's.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
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
    fn write_epoch(&self) -> u32 {
        self.write_epoch.load(Ordering::Relaxed)
    }

    /// Registers the task to wake when something happens to the socket.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// Records that a write which began in `epoch` was blocked, unless the socket has become writable
    /// since. Counts as activity when it begins: silence is measured from here. What was sent is still on
    /// its way.
    fn set_write_blocked(&self, epoch: u32) {
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

/// What happens to the socket is recorded at once rather than when the task runs: a client must not count as slow
/// because its task waits to be scheduled.
#[cfg(all(target_os = "linux", not(feature = "portable-sockets")))]
impl crate::sys::reactor::Source for SocketStatus {
    fn ready(&self, readiness: crate::sys::reactor::Readiness) {
        if readiness.hung_up || readiness.urgent {
            self.has_end.store(true, Ordering::Release);
        }
        // A broken connection says so to whoever reads or writes.
        if readiness.readable || readiness.hung_up {
            self.set_readable(true);
        }
        if readiness.writable || readiness.hung_up {
            self.set_writable();
        }
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> SocketStatus {
        SocketStatus::new(
            &Arc::new(Clock::new()),
            &MemoryBudget::new(0),
            &Arc::default(),
        )
    }

    #[test]
    fn the_last_round_trip_is_recorded_in_microseconds() {
        let status = status();
        assert_eq!(status.rtt(), None);
        for micros in [23_456, 1, 4_000_000_000] {
            status.record_rtt(Duration::from_micros(micros));
            assert_eq!(status.rtt(), Some(Duration::from_micros(micros)));
        }
        status.record_rtt(Duration::ZERO);
        assert!(status.rtt().is_some());
    }

    #[test]
    fn the_time_to_answer_grows_by_a_second_for_each_2_kib_since_the_last_received_byte() {
        let s = Duration::from_secs;
        let status = status();
        let time = |status: &SocketStatus| status.time_to_answer(s(5), s(120));
        assert_eq!(time(&status), s(5));
        status.record_written(2047);
        assert_eq!(time(&status), s(5));
        status.record_written(1);
        assert_eq!(time(&status), s(6));
        status.record_written(58 * 1024);
        assert_eq!(time(&status), s(35));
        // A socket that takes more is a sign of life, but what it took before is still on its way.
        status.block_writes();
        status.set_writable();
        assert_eq!(time(&status), s(35));
        status.record_written(usize::MAX);
        assert_eq!(time(&status), s(120));
        assert_eq!(status.time_to_answer(s(200), s(120)), s(200));
        status.record_received();
        assert_eq!(time(&status), s(5));
    }
}
