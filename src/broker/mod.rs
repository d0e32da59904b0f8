//! The broker: one task that owns all state, receives every event over one inbox (a lane for each listener) and
//! waits for nothing else.
//!
//! It hosts the realms, keeps the promises of [`crate::realm`], and owns what realms share and
//! have no access to: connections, outboxes, keep-alive, memory and counters.

mod admission;
mod batch_time;
mod broadcasts;
mod clients;
mod clock;
mod connections;
mod count;
mod counters;
mod delivery;
mod event;
mod eviction;
mod expiries;
mod fair_share;
mod figures;
mod histogram;
mod inbox;
mod keepalive;
mod listeners;
mod memory;
mod outbox;
mod pausing;
mod pulse;
mod slots;
mod socket_status;
mod traffic;
mod unfinished;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::memory_budget::MemoryBudget;
use crate::base::spare::FreeSpare;
use crate::realm::{ConnectionId, Context, Effect, HttpReply, Ids, Realm};
use admission::Admission;
use async_std::task::yield_now;
use batch_time::BatchTime;
use broadcasts::Broadcasts;
pub(crate) use clients::{Client, MAX_SLICE, OperatorRequest};
pub(crate) use clock::Clock;
use connections::{ConnectionFacts, ConnectionTable};
pub(crate) use counters::{ListenerCounters, Refusal};
use event::EventReceiver;
pub(crate) use event::{
    DisconnectCounts, Event, HttpEvent, ListenerChange, NewListener, OpenEvent,
};
use expiries::Expiries;
use futures::StreamExt;
pub(crate) use histogram::Histogram;
pub(crate) use inbox::{EventSender, Inbox, inbox, lane};
pub(crate) use keepalive::{KeepaliveConfig, MAX_PONG_TIME};
use memory::Memory;
pub(crate) use outbox::{
    CloseOrder, DirectWriter, Directives, OutboxReceiver, PingReason, Sink, Wakeups, outbox,
};
#[cfg(test)]
pub(crate) use outbox::{NotifyWhen, Outbox};
use pausing::Pausing;
pub(crate) use pulse::Pulse;
use slots::Slots;
pub(crate) use slots::{ConnectionChecks, ListenerKey, RealmSlot};
pub(crate) use socket_status::{SocketStatus, time_to_receive};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
pub(crate) use traffic::Traffic;
pub(crate) use unfinished::{MIN_PROGRESS_BYTES, MessageProgress};
use uuid::Uuid;

/// Units of work after which the broker yields to other tasks. A command is one unit. So are
/// [`EFFECTS_PER_UNIT`] effects (a broadcast is one for each recipient), since one to thousands is more work than a
/// command, and
/// [`BYTES_PER_UNIT`] bytes of an HTTP body, which the realm had to build.
const WORK_PER_BATCH: usize = 256;
/// Writes to sockets between two looks at the clock. The outboxes of so many recipients of a broadcast also stay in the
/// processor's cache while it is queued for them and written.
const WRITES_PER_LOOK: usize = 16;
const EFFECTS_PER_UNIT: usize = 1024;
const BYTES_PER_UNIT: usize = 4096;

/// The state of the daemon, owned by one task. The rules of a part are in the file of its type.
pub(crate) struct Broker {
    slots: Slots,
    /// The events of listeners that were added in this batch.
    new_lanes: Vec<EventReceiver>,
    connections: ConnectionTable,
    admission: Admission,
    expiries: Expiries,
    pausing: Pausing,
    memory: Memory,
    /// Effects of the current realm call; kept between calls to reuse the allocation.
    effects: Vec<Effect>,
    /// Broadcasts that wait for others to the same recipients.
    broadcasts: Broadcasts,
    /// Closes that are not yet reported to their realm: listener index, connection, reason.
    pending_closes: VecDeque<(usize, ConnectionId, DisconnectReason)>,
    /// Connection tasks to wake, and sockets to write to, at the end of a lane's turn.
    wakeups: Wakeups,
    clock: Arc<Clock>,
    pulse: Arc<Pulse>,
    stopping: bool,
    /// Ended connections of listeners that were removed.
    ended_before: DisconnectCounts,
}

/// The time, read once per batch.
#[derive(Clone, Copy)]
struct Now {
    /// Time on the daemon's [`Clock`].
    monotonic: Duration,
    wall: SystemTime,
}

impl Now {
    /// Returns the time since the daemon started, rounded down to seconds.
    fn whole_seconds(self) -> Duration {
        Duration::from_secs(self.monotonic.as_secs())
    }
}

impl Broker {
    /// Creates a broker without listeners.
    pub(crate) fn new(budget: Arc<MemoryBudget>, clock: Arc<Clock>) -> Self {
        Self {
            memory: Memory::new(budget),
            slots: Slots::default(),
            new_lanes: Vec::new(),
            connections: ConnectionTable::default(),
            admission: Admission::default(),
            expiries: Expiries::default(),
            pausing: Pausing::default(),
            effects: Vec::new(),
            broadcasts: Broadcasts::default(),
            pending_closes: VecDeque::new(),
            wakeups: Wakeups::default(),
            clock,
            pulse: Arc::new(Pulse::new()),
            stopping: false,
            ended_before: DisconnectCounts::new(),
        }
    }

    /// Returns the broker's sign of life.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Handles events until all senders of `inbox` are dropped.
    pub(crate) async fn run(mut self, mut inbox: Inbox) {
        while let Some(first) = inbox.next().await {
            let now = Now {
                monotonic: self.clock.now(),
                wall: SystemTime::now(),
            };
            let mut time = BatchTime::start();
            let (mut work, lane) = self.handle_batch(now, &mut time, &mut inbox, first);
            loop {
                work += self.write(now, &mut time, &mut inbox, lane);
                let reclaimed = self.reclaim_memory(now);
                if reclaimed > 0 {
                    work += reclaimed;
                    time.lap();
                }
                self.wakeups.wake_all();
                self.pulse.batches.record(time.spent);
                if self.is_written() {
                    break;
                }
                yield_now().await;
                time = BatchTime::start();
            }
            if !self.new_lanes.is_empty() {
                inbox.add(self.new_lanes.drain(..));
            }
            // Events that follow at once are from other threads. They must not keep this thread from its own tasks.
            if work >= WORK_PER_BATCH || time.is_over() || inbox.has_event() {
                yield_now().await;
            }
        }
    }

    /// Handles an event and those that follow it at once, until the batch is full. Returns the units of work, and the
    /// last lane.
    fn handle_batch(
        &mut self,
        now: Now,
        time: &mut BatchTime,
        inbox: &mut Inbox,
        first: Event,
    ) -> (usize, usize) {
        let (mut work, mut next) = (0, Some(first));
        let mut lane = inbox.lane();
        while let Some(event) = next {
            lane = inbox.lane();
            if matches!(event, Event::Count(_)) {
                // What has ended before is counted, whichever lane says so.
                while let Some(earlier) = inbox.try_next() {
                    work += self.handle(now, earlier);
                }
            }
            work += self.handle(now, event);
            inbox.charge(lane, time.lap());
            let has_next = work < WORK_PER_BATCH && inbox.advance_to_event();
            if !has_next || inbox.lane() != lane {
                work += self.write(now, time, inbox, lane);
            }
            let goes_on = has_next && work < WORK_PER_BATCH && !time.is_over();
            next = if goes_on { inbox.try_next() } else { None };
        }
        (work, lane)
    }

    /// Returns whether nothing waits to be written.
    fn is_written(&self) -> bool {
        self.broadcasts.is_empty() && self.wakeups.due() == 0
    }

    /// Queues the broadcasts that wait and writes what is due to sockets, until the batch is over, and charges the lane
    /// that caused it. Returns the units of work.
    fn write(&mut self, now: Now, time: &mut BatchTime, inbox: &mut Inbox, lane: usize) -> usize {
        let mut work = 0;
        while !self.is_written() && !time.is_over() {
            if self.broadcasts.is_empty() {
                self.wakeups.write_first(WRITES_PER_LOOK);
            } else {
                self.write_some_broadcasts();
                work += self.deliver_pending_closes(now);
            }
            inbox.charge(lane, time.lap());
        }
        work
    }

    /// Queues the broadcasts that must not wait any longer before this event. Returns the units of work.
    fn flush_broadcasts_before(&mut self, now: Now, event: &Event) -> usize {
        match *event {
            // These are about no client, or about messages, whose effects come after the broadcasts.
            Event::Commands { .. } | Event::BudgetExceeded | Event::Refresh => 0,
            Event::OutboxDrained(conn) => {
                self.queue_broadcasts_to(conn);
                self.deliver_pending_closes(now)
            }
            _ => self.flush_broadcasts(now),
        }
    }

    /// Queues the broadcasts that wait, and calls `close` of the realms whose clients are too slow for them. Returns
    /// the units of work.
    fn flush_broadcasts(&mut self, now: Now) -> usize {
        self.queue_all_broadcasts();
        self.deliver_pending_closes(now)
    }

    /// Handles one event and returns the units of work it took.
    fn handle(&mut self, now: Now, event: Event) -> usize {
        let mut work = 0;
        if !self.broadcasts.is_empty() {
            work += self.flush_broadcasts_before(now, &event);
        }
        work += self.handle_event(now, event);
        work + self.handle_resumed(now)
    }

    fn handle_event(&mut self, now: Now, event: Event) -> usize {
        match event {
            Event::Open(event) => self.open(now, *event),
            Event::Request(event) => self.request(now, *event),
            Event::Commands {
                conn,
                commands,
                reserved_bytes,
            } => self.commands(now, conn, commands, reserved_bytes),
            Event::OutboxDrained(conn) => {
                self.resume_senders_of(conn);
                1
            }
            Event::ProbeAnswered(conn) => self.probe_answered(now, conn),
            // Only starts a batch: each batch ends with an eviction if one is needed.
            Event::BudgetExceeded => 1,
            // Has no effect: sending it makes the channel free an old block (see `Event::Refresh`).
            Event::Refresh => 1,
            Event::Disconnected(conn, reason) => self.disconnected(now, conn, reason),
            Event::Tick => self.tick(now),
            Event::AddListener(new) => self.add_listener(*new),
            Event::ChangeListener(change) => self.change_listener(now, *change),
            Event::RemoveListener(listener_index) => self.remove_listener(now, listener_index),
            Event::Operator(request) => self.operator_request(now, *request),
            Event::Stop => self.stop(now),
            Event::Count(reply_to) => {
                // Fails only if the requester no longer waits.
                let _ = reply_to.send(self.disconnect_counts());
                1
            }
        }
    }

    /// Has the realm answer a plain HTTP request.
    fn request(&mut self, now: Now, event: HttpEvent) -> usize {
        let HttpEvent {
            listener_index,
            request,
            reply_to,
        } = event;
        let mut reply = None;
        let work = self.run_realm(now, listener_index, None, |realm, cx| {
            reply = Some(realm.request(cx, &request));
        });
        let size = match &reply {
            Some(HttpReply::Ok { body, .. }) => body.len(),
            _ => 0,
        };
        // Fails only if the client has disconnected.
        let _ = reply.map(|reply| reply_to.send(reply));
        work + size / BYTES_PER_UNIT
    }

    /// Removes a connection that has ended, resumes the senders that were paused for it, and calls the
    /// realm's `close`, unless it was already called or is queued because the server closed the connection.
    fn disconnected(&mut self, now: Now, conn: ConnectionId, reason: DisconnectReason) -> usize {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return 1;
        };
        let listener_index = connection.listener_index;
        if connection.is_admitted {
            if let Some(counters) = self.slots.counters(listener_index) {
                counters.record_closed(reason);
            }
        }
        let is_reported = std::mem::replace(&mut connection.closing, true);
        self.resume_senders_of(conn);
        self.admission.remove(conn);
        self.pausing.remove(conn);
        if let Some(connection) = self.remove_connection(conn) {
            self.memory.track_closing(connection);
        }
        if is_reported || self.stopping {
            return 1;
        }
        self.run_realm(now, listener_index, None, |realm, cx| {
            realm.close(cx, conn, reason)
        })
    }

    /// Does the work of each second: the check of all connections, results of probes, ends of tokens, and the `tick` of all
    /// realms.
    fn tick(&mut self, now: Now) -> usize {
        if self.stopping {
            return 1;
        }
        self.pulse.record_lag();
        self.memory.begin_second();
        let probe_results = self.check_connections(now);
        let mut work = 1 + self.deliver_pending_closes(now);
        for (conn, alive) in probe_results {
            work += self.probe_result(now, conn, alive);
        }
        work += self.close_expired(now);
        work += self.expire_deferred(now);
        for listener_index in 0..self.slots.len() {
            work += self.run_realm(now, listener_index, None, |realm, cx| realm.tick(cx));
        }
        self.free_drained();
        self.free_spare();
        self.publish_figures();
        self.pulse.record_tick();
        work
    }

    /// Frees what collections without an entry keep (see [`crate::base::spare`]). Each field is named, as in the
    /// parts, so that the compiler asks about a new one.
    fn free_spare(&mut self) {
        let Self {
            slots,
            new_lanes,
            connections,
            admission,
            expiries,
            pausing,
            memory,
            effects,
            broadcasts,
            pending_closes,
            wakeups,
            clock: _,
            pulse: _,
            stopping: _,
            // Has an entry for each reason at most.
            ended_before: _,
        } = self;
        slots.free_spare();
        new_lanes.free_spare();
        connections.free_spare();
        admission.free_spare();
        expiries.free_spare();
        pausing.free_spare();
        memory.free_spare();
        effects.free_spare();
        broadcasts.free_spare();
        pending_closes.free_spare();
        wakeups.free_spare();
        Frame::free_spare();
    }

    /// Calls `stop` of all realms, then closes all connections. After this, no realm is called.
    fn stop(&mut self, now: Now) -> usize {
        for listener_index in 0..self.slots.len() {
            self.call_realm(now, listener_index, None, |realm, cx| realm.stop(cx));
        }
        self.stopping = true;
        self.admission.stop();
        // These closes are not reported to the realms: no client is left that they could send to.
        for connection in self.connections.values_mut() {
            connection.closing = true;
            connection.outbox.close(
                CloseOrder::Graceful(CloseReason::SHUTTING_DOWN),
                &mut self.wakeups,
            );
        }
        WORK_PER_BATCH
    }

    /// Calls a realm, then delivers the closes that follow from its effects, and those that follow
    /// from them, until none is pending. `sender` is the connection whose message is handled.
    /// Returns the units of work.
    fn run_realm(
        &mut self,
        now: Now,
        listener_index: usize,
        sender: Option<ConnectionId>,
        call: impl FnOnce(&mut dyn Realm, &mut Context),
    ) -> usize {
        1 + self.call_realm(now, listener_index, sender, call) + self.deliver_pending_closes(now)
    }

    /// Calls `close` of the realms whose connections were closed, and applies the effects. Returns
    /// the units of work.
    fn deliver_pending_closes(&mut self, now: Now) -> usize {
        let mut work = 0;
        while let Some((listener_index, conn, reason)) = self.pending_closes.pop_front() {
            work += self.call_realm(now, listener_index, None, |realm, cx| {
                realm.close(cx, conn, reason)
            });
        }
        work
    }

    /// Calls a realm and applies its effects in order. Returns the units of work.
    fn call_realm(
        &mut self,
        now: Now,
        listener_index: usize,
        sender: Option<ConnectionId>,
        call: impl FnOnce(&mut dyn Realm, &mut Context),
    ) -> usize {
        let Some(slot) = self.slots.get_mut(listener_index) else {
            return 0;
        };
        let mut effects = std::mem::take(&mut self.effects);
        let mut ids = RandomIds;
        let facts = ConnectionFacts {
            connections: &self.connections,
            broadcasts: &self.broadcasts,
        };
        let mut cx = Context::new(now.monotonic, now.wall, &facts, &mut ids, &mut effects);
        call(slot.realm.as_mut(), &mut cx);
        self.memory
            .set_stored(listener_index, slot.realm.stored_bytes());
        let mut count = 0;
        for effect in effects.drain(..) {
            count += self.apply(now, effect, sender);
        }
        self.effects = effects;
        count / EFFECTS_PER_UNIT
    }

    /// Closes a connection with a Close frame, unless it is already closing.
    fn close(&mut self, conn: ConnectionId, reason: CloseReason) {
        self.queue_broadcasts_to(conn);
        if let Some(connection) = self
            .connections
            .get(&conn)
            .filter(|connection| !connection.closing)
        {
            connection
                .outbox
                .close(CloseOrder::Graceful(reason), &mut self.wakeups);
            self.mark_closing(conn, DisconnectReason::Closed(reason));
            // A Close frame can follow only a completed handshake.
            self.admit(conn);
        }
    }

    /// Queues the realm's `close`, once per connection, drops the commands that are held for it, and resumes the
    /// senders that were paused for this connection.
    fn mark_closing(&mut self, conn: ConnectionId, reason: DisconnectReason) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            if !std::mem::replace(&mut connection.closing, true) {
                self.pending_closes
                    .push_back((connection.listener_index, conn, reason));
            }
        }
        self.drop_held(conn);
        self.resume_senders_of(conn);
    }
}

/// Ids from the operating system's random source.
struct RandomIds;

impl Ids for RandomIds {
    fn uuid(&mut self) -> Uuid {
        Uuid::new_v4()
    }
}

#[cfg(test)]
mod tests;
