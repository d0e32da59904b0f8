//! What a connection's socket and the broker know of each other without a message.

use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use futures::task::AtomicWaker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// What the broker may see of a client's socket: when it last gave a sign of life, to the second,
/// how long a Ping took to come back, whether it takes what is sent, and what it has sent itself that
/// is still here.
pub(crate) struct SocketStatus {
    origin: Instant,
    activity_second: AtomicU32,
    /// In microseconds, at least 1; 0 before the first.
    rtt: AtomicU32,
    /// Odd while the socket has no room for what is sent. Each time it has room again it goes on
    /// to the next even number, so that a write that failed before that cannot be noted after it.
    epoch: AtomicU32,
    writer: AtomicWaker,
    /// For what was received and has not been done yet. The connection adds what it reads; what it
    /// hands to the broker is for that to take off.
    pub(crate) receive_memory: MemoryReservation,
}

impl SocketStatus {
    /// A client heard just now; `origin` is when the daemon started.
    pub(crate) fn new(origin: Instant, budget: &Arc<MemoryBudget>) -> Self {
        let status = Self {
            origin,
            activity_second: AtomicU32::new(0),
            rtt: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            writer: AtomicWaker::new(),
            receive_memory: MemoryReservation::new(budget, 0),
        };
        status.record_activity();
        status
    }

    /// Notes a sign of life.
    pub(crate) fn record_activity(&self) {
        let activity_second = u32::try_from(self.origin.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.activity_second
            .store(activity_second, Ordering::Relaxed);
    }

    /// Notes how long a Ping took to come back.
    pub(crate) fn record_rtt(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.rtt.store(micros.max(1), Ordering::Relaxed);
    }

    /// The last round trip of a Ping that was measured.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// Whether the client's socket has no room for what is sent to it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) % 2 == 1
    }

    /// The number of this moment, for [`SocketStatus::set_blocked`] after a write that began in it.
    pub(crate) fn write_epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The task to wake when the socket has room again.
    pub(crate) fn register_writer(&self, waker: &Waker) {
        self.writer.register(waker);
    }

    /// Notes that a write found no room, unless there has been room since `before`, the number
    /// then. This is the start of a silence.
    pub(crate) fn set_blocked(&self, before: u32) {
        let order = Ordering::Relaxed;
        let blocked = before | 1;
        if self.epoch.compare_exchange(before, blocked, order, order) == Ok(before & !1) {
            self.record_activity();
        }
    }

    /// Notes that there is room. Where there was none it is a sign of life, the only one of a
    /// client that has much to read before our Ping.
    pub(crate) fn set_free(&self) {
        let next = |epoch: u32| Some((epoch | 1).wrapping_add(1));
        let before = self
            .epoch
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if before.is_ok_and(|before| before % 2 == 1) {
            self.record_activity();
        }
    }

    /// A client that was heard last at this second, for a test.
    #[cfg(test)]
    pub(crate) fn set_last_activity(&self, second: u32) {
        self.activity_second.store(second, Ordering::Relaxed);
    }

    /// A client that takes nothing of what is sent to it, for a test.
    #[cfg(test)]
    pub(crate) fn block(&self) {
        self.set_blocked(self.write_epoch());
    }

    /// When the last sign of life was, since the daemon started, rounded down to seconds.
    pub(crate) fn last_activity(&self) -> Duration {
        Duration::from_secs(self.activity_second.load(Ordering::Relaxed).into())
    }
}

/// Called when the socket has room again: it is not the client's fault if its task has to wait
/// for its turn from then on.
impl Wake for SocketStatus {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set_free();
        self.writer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_round_trip_is_known_to_the_microsecond() {
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
