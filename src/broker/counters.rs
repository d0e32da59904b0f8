//! What is counted of one listener. The status port reads it without asking the broker.
//!
//! Each figure is counted where it arises: traffic by the connections (`traffic.rs`), admitted and ended connections by
//! the broker, refusals by whoever refuses. What only the broker and the realm know is published once a second
//! (`figures.rs`).

use super::count::Count;
use super::traffic::TrafficCounts;
use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::{Figures, Realm};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Capacity for all kinds of refusals: the statuses that the server sends, and five others. Allocated for the first
/// refusal of a storm, it would keep the memory below it (see [`crate::base::spare`]).
const REFUSAL_KINDS: usize = 24;

/// The counters of one listener.
#[derive(Default)]
pub(crate) struct ListenerCounters {
    /// Connections that the realm has admitted.
    accepted: Count,
    /// Connections that have ended, by how. All ways in which one can end have an entry from the start.
    closed: Box<[(Ending, Count)]>,
    refused: Mutex<Vec<(Refusal, u64)>>,
    /// What has gone over all sockets, those of refused clients and of plain requests included.
    pub(crate) traffic: Arc<TrafficCounts>,
    /// Bytes in the outboxes of all connections.
    outbox_bytes: AtomicUsize,
    rate_limited: AtomicU64,
    /// [`Figures::sizes`] of the realm.
    sizes: Box<[(&'static str, AtomicUsize)]>,
}

/// How a connection ended, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The status code of the Close frame, with 1005 for a Close frame without one and 1006 for none (RFC 6455 section
    /// 7.4.1). `None`: a code that clients may choose as they like.
    pub(crate) code: Option<u16>,
    /// [`DisconnectReason::name`].
    pub(crate) reason: &'static str,
}

/// The code of a Close frame that has none, and of a connection that ended without one.
const NO_STATUS: u16 = 1005;
const ABNORMAL: u16 = 1006;

impl From<DisconnectReason> for Ending {
    fn from(reason: DisconnectReason) -> Self {
        let code = match reason {
            DisconnectReason::Closed(close) => Some(close.code()),
            DisconnectReason::ClosedByClient(None) => Some(NO_STATUS),
            DisconnectReason::ClosedByClient(code) => code.filter(|code| LEFT_CODES.contains(code)),
            DisconnectReason::Lost | DisconnectReason::Unresponsive => Some(ABNORMAL),
        };
        Self {
            code,
            reason: reason.name(),
        }
    }
}

/// The codes of clients that are counted one by one: those that browsers send by themselves. All others count
/// together, as a client may choose among thousands.
const LEFT_CODES: [u16; 2] = [1000, 1001];

/// Displays the code, where a Close frame had one, and the reason.
impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(NO_STATUS | ABNORMAL) => f.write_str(self.reason),
            Some(code) => write!(f, "{code} {}", self.reason),
            None => write!(f, "other {}", self.reason),
        }
    }
}

/// Why a client was refused before it was admitted, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It got a response with this status.
    Status(u16),
    /// It got none.
    Unanswered(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Unanswered(reason) => f.write_str(reason),
        }
    }
}

impl ListenerCounters {
    /// Creates the counters of a listener with this realm.
    pub(crate) fn new(realm: &dyn Realm) -> Self {
        let zero = |(name, _)| (name, AtomicUsize::new(0));
        let endings = endings(realm.protocol().close_reasons);
        Self {
            closed: endings.map(|ending| (ending, Count::default())).collect(),
            refused: Mutex::new(Vec::with_capacity(REFUSAL_KINDS)),
            sizes: realm.figures().sizes.into_iter().map(zero).collect(),
            ..Self::default()
        }
    }

    /// Counts a connection that the realm has admitted.
    pub(super) fn record_accepted(&self) {
        self.accepted.add(1);
    }

    /// Counts the end of a connection.
    pub(super) fn record_closed(&self, reason: DisconnectReason) {
        let ending = Ending::from(reason);
        let mut closed = self.closed.iter();
        let found = closed.find(|(known, _)| *known == ending);
        debug_assert!(
            found.is_some(),
            "{ending} is missing in the protocol's `close_reasons`"
        );
        if let Some((_, count)) = found {
            count.add(1);
        }
    }

    /// Counts a refusal.
    pub(crate) fn record_refused(&self, refusal: Refusal) {
        let mut refused = self.lock_refused();
        match refused.iter_mut().find(|(known, _)| *known == refusal) {
            Some((_, count)) => *count += 1,
            None => refused.push((refusal, 1)),
        }
    }

    /// Records what only the broker and the realm know.
    pub(super) fn publish(&self, outbox_bytes: usize, figures: &Figures) {
        self.outbox_bytes.store(outbox_bytes, Ordering::Relaxed);
        self.rate_limited
            .store(figures.rate_limited, Ordering::Relaxed);
        for ((_, size), (_, now)) in self.sizes.iter().zip(&figures.sizes) {
            size.store(*now, Ordering::Relaxed);
        }
    }

    /// Returns the number of connections.
    pub(crate) fn connections(&self) -> u64 {
        // Read first: a connection that ends meanwhile was accepted before.
        let closed: u64 = self.closed().map(|(_, count)| count).sum();
        self.accepted().saturating_sub(closed)
    }

    /// Returns the number of connections that were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.get()
    }

    /// Returns the number of connections that have ended, by how; those that are 0 included.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (Ending, u64)> {
        let closed = self.closed.iter();
        closed.map(|(ending, count)| (*ending, count.get()))
    }

    /// Returns the number of connections that were closed for a reason.
    pub(crate) fn closed_for(&self, reason: CloseReason) -> u64 {
        let wanted = Ending::from(DisconnectReason::Closed(reason));
        let closed = self.closed().filter(|(ending, _)| *ending == wanted);
        closed.map(|(_, count)| count).sum()
    }

    /// Returns the numbers of refusals.
    pub(crate) fn refused(&self) -> Vec<(Refusal, u64)> {
        self.lock_refused().clone()
    }

    /// Returns the bytes in all outboxes, at most a second ago.
    pub(crate) fn outbox_bytes(&self) -> usize {
        self.outbox_bytes.load(Ordering::Relaxed)
    }

    /// Returns [`Figures::rate_limited`], at most a second ago.
    pub(crate) fn rate_limited(&self) -> u64 {
        self.rate_limited.load(Ordering::Relaxed)
    }

    /// Returns [`Figures::sizes`], at most a second ago.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let sizes = self.sizes.iter();
        sizes.map(|(name, size)| (*name, size.load(Ordering::Relaxed)))
    }

    fn lock_refused(&self) -> MutexGuard<'_, Vec<(Refusal, u64)>> {
        // No code that holds the lock can panic in the middle of a change.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns all ways in which a connection can end, with these close reasons of its protocol.
fn endings(close_reasons: &[CloseReason]) -> impl Iterator<Item = Ending> {
    let closed = CloseReason::COMMON.iter().chain(close_reasons);
    let closed = closed.map(|&reason| DisconnectReason::Closed(reason));
    let known = LEFT_CODES.map(Some).into_iter();
    // Any code that is not known stands for all of these.
    let left = known.chain([None, Some(u16::MAX)]);
    let left = left.map(DisconnectReason::ClosedByClient);
    let broken = [DisconnectReason::Lost, DisconnectReason::Unresponsive];
    closed.chain(left).chain(broken).map(Ending::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::harness::MockRealm;

    #[test]
    fn each_end_is_counted_by_its_code_and_reason_and_the_codes_of_clients_are_few() {
        let counters = ListenerCounters::new(&MockRealm::default());
        let ends = [
            (
                DisconnectReason::Closed(CloseReason::GOODBYE),
                "1000 goodbye",
            ),
            (
                DisconnectReason::Closed(CloseReason::TOO_SLOW),
                "1013 too slow",
            ),
            (DisconnectReason::ClosedByClient(Some(1000)), "1000 left"),
            (DisconnectReason::ClosedByClient(Some(1001)), "1001 left"),
            (DisconnectReason::ClosedByClient(None), "left"),
            (DisconnectReason::ClosedByClient(Some(3000)), "other left"),
            (DisconnectReason::ClosedByClient(Some(4999)), "other left"),
            (DisconnectReason::Lost, "lost"),
            (DisconnectReason::Unresponsive, "silent"),
        ];
        for (reason, name) in ends {
            let count = || {
                let mut closed = counters.closed();
                let found = closed.find(|(ending, _)| ending.to_string() == name);
                found.unwrap_or_else(|| panic!("{name}")).1
            };
            let before = count();
            counters.record_closed(reason);
            assert_eq!(count(), before + 1, "{name}");
        }
        assert_eq!(counters.closed_for(CloseReason::TOO_SLOW), 1);
        let sum: u64 = counters.closed().map(|(_, count)| count).sum();
        assert_eq!(sum, ends.len() as u64, "each is counted once");
    }

    #[test]
    fn connections_are_those_that_were_accepted_and_have_not_ended() {
        let counters = ListenerCounters::new(&MockRealm::default());
        (0..3).for_each(|_| counters.record_accepted());
        counters.record_closed(DisconnectReason::Lost);
        assert_eq!((counters.accepted(), counters.connections()), (3, 2));
    }

    #[test]
    fn refusals_are_counted_by_their_kind() {
        let counters = ListenerCounters::default();
        for refusal in [404, 429, 404].map(Refusal::Status) {
            counters.record_refused(refusal);
        }
        counters.record_refused(Refusal::Unanswered("timeout"));
        let refused = counters.refused();
        let refused = refused
            .iter()
            .map(|(refusal, count)| format!("{refusal} {count}"));
        assert_eq!(refused.collect::<Vec<_>>(), ["404 2", "429 1", "timeout 1"]);
    }
}
