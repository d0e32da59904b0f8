//! What ends a batch.

use super::harness::{Action, BrokerHarness};
use crate::base::memory_budget::MemoryBudget;
use crate::broker::outbox::{DirectWriter, Sink};
use crate::broker::{Clock, Event, SocketStatus, TIME_PER_BATCH, WRITES_PER_LOOK, inbox};
use crate::realm::SlowConsumerPolicy;
use futures::task::noop_waker_ref;
use futures::{FutureExt, SinkExt};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A socket whose writes take a while, and the writes to all of them.
struct SlowSink(Arc<AtomicUsize>);

const WRITE: Duration = Duration::from_millis(1);

impl Sink for SlowSink {
    fn write(&self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let start = Instant::now();
        while start.elapsed() < WRITE {}
        self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }
}

#[test]
fn writes_count_as_work_so_the_broker_yields_before_it_has_written_to_all() {
    const CONNECTIONS: u64 = 100;
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (writes, clock) = (Arc::default(), Arc::new(Clock::new()));
    let budget = MemoryBudget::new(0);
    let connect = |conn| {
        let receiver = harness.connect(conn);
        let status = SocketStatus::new(&clock, &budget, &Arc::default());
        let sink = Arc::new(SlowSink(Arc::clone(&writes)));
        receiver.set_direct_writer(DirectWriter::new(sink, Arc::new(status)));
        receiver.set_task_idle();
        receiver
    };
    let _receivers: Vec<_> = (1..=CONNECTIONS).map(connect).collect();
    harness.command(1, vec![Action::Broadcast("to all".to_owned())]);
    let (mut sender, inbox) = inbox();
    let mut run = Box::pin(harness.broker.run(inbox));
    sender.send(Event::BudgetExceeded).now_or_never();
    let mut cx = Context::from_waker(noop_waker_ref());
    let at_most = (TIME_PER_BATCH.as_millis() / WRITE.as_millis()) as usize + WRITES_PER_LOOK;
    let mut polls = 0;
    while writes.load(Ordering::Relaxed) < CONNECTIONS as usize {
        let before = writes.load(Ordering::Relaxed);
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert!(writes.load(Ordering::Relaxed) - before <= at_most);
        polls += 1;
        assert!(polls <= CONNECTIONS, "the broker goes on");
    }
}
