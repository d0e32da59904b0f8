//! What ends a batch.

use super::broadcasts::command;
use super::harness::{Action, BrokerHarness, MockRealm, drain};
use crate::base::memory_budget::MemoryBudget;
use crate::broker::batch_time::TIME_PER_BATCH;
use crate::broker::outbox::{DirectWriter, OutboxReceiver, Sink};
use crate::broker::{Clock, Event, SocketStatus, WRITES_PER_LOOK, inbox};
use crate::realm::SlowConsumerPolicy;
use futures::task::noop_waker_ref;
use futures::{FutureExt, SinkExt};
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A socket that does something with each write.
struct CallingSink<F>(F);

impl<F: Fn() + Send + Sync> Sink for CallingSink<F> {
    fn write(&self, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0();
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }
}

/// Connects clients to whose sockets the broker writes, with a call for each write.
fn connect(
    harness: &mut BrokerHarness,
    connections: RangeInclusive<u64>,
    on_write: impl Fn() + Send + Sync + 'static,
) -> Vec<OutboxReceiver> {
    let (clock, budget) = (Arc::new(Clock::new()), MemoryBudget::new(0));
    let sink = Arc::new(CallingSink(on_write));
    let connect = |conn| {
        let receiver = harness.connect(conn);
        let status = SocketStatus::new(&clock, &budget, &Arc::default());
        let writer = DirectWriter::new(Arc::clone(&sink) as _, Arc::new(status));
        receiver.set_direct_writer(writer);
        receiver.set_task_idle();
        receiver
    };
    connections.map(connect).collect()
}

#[test]
fn writes_count_as_work_so_the_broker_yields_before_it_has_written_to_all() {
    const CONNECTIONS: u64 = 100;
    const WRITE: Duration = Duration::from_millis(1);
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let writes: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&writes);
    let _receivers = connect(&mut harness, 1..=CONNECTIONS, move || {
        let start = Instant::now();
        while start.elapsed() < WRITE {}
        counted.fetch_add(1, Ordering::Relaxed);
    });
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

#[test]
fn the_broker_yields_to_its_own_thread_while_others_send_it_one_event_after_another() {
    const EVENTS: usize = 100;
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (mut sender, inbox) = inbox();
    let writes: Arc<AtomicUsize> = Arc::default();
    let (counted, another) = (Arc::clone(&writes), sender.clone());
    let again = || command(1, vec![Action::Send(1, "again".to_owned())]);
    // As another thread would while the broker writes.
    let _receivers = connect(&mut harness, 1..=1, move || {
        if counted.fetch_add(1, Ordering::Relaxed) < EVENTS {
            assert!(another.clone().try_send(again()).is_ok());
        }
    });
    let mut run = Box::pin(harness.broker.run(inbox));
    sender.send(again()).now_or_never();
    let mut cx = Context::from_waker(noop_waker_ref());
    for batch in 1..=EVENTS {
        assert!(run.as_mut().poll(&mut cx).is_pending());
        assert_eq!(writes.load(Ordering::Relaxed), batch);
    }
}

#[test]
fn a_broadcast_is_written_to_some_recipients_before_it_is_queued_for_the_next() {
    const RECIPIENTS: u64 = 2 * WRITES_PER_LOOK as u64 + 1;
    let list: Vec<u64> = (1..=RECIPIENTS).collect();
    let realm = MockRealm::broadcasting(&[&list], &[], false);
    let mut harness = BrokerHarness::with_realm(SlowConsumerPolicy::Disconnect, realm);
    let writes: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&writes);
    let receivers = connect(&mut harness, 1..=RECIPIENTS, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let all = Action::BroadcastTo(0, Vec::new(), "to all".to_owned());
    harness.handle_first(command(1, vec![all]));
    harness.broker.write_some_broadcasts();
    let queued = |harness: &BrokerHarness| {
        let connections = harness.broker.connections.values();
        connections
            .filter(|it| it.outbox.queued_bytes() > 0)
            .count()
    };
    assert_eq!(writes.load(Ordering::Relaxed), WRITES_PER_LOOK);
    assert_eq!(queued(&harness), 0);
    // What else is to be done with one of them comes after it.
    harness.handle_first(command(
        1,
        vec![Action::Send(RECIPIENTS, "to one".to_owned())],
    ));
    assert_eq!(queued(&harness), WRITES_PER_LOOK + 1);
    assert_eq!(
        drain(&receivers[2 * WRITES_PER_LOOK]).texts,
        ["to all", "to one"]
    );
}
