//! The central task: it owns all state, hears of everything over one channel, and never waits
//! for anything else.
//!
//! It keeps the promises of [`crate::realm`], and owns what realms share and must not know:
//! connections, outboxes, liveness, counters.

mod connections;
mod delivery;
mod event;
mod eviction;
mod keepalive;
mod outbox;
mod socket_status;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::realm::erased::{AnyCommand, AnyRealm};
use crate::realm::{ConnectionId, Context, Effect, HttpReply, Ids, SlowConsumerPolicy};
use async_std::task::yield_now;
use connections::{Connection, Table};
pub(crate) use event::{DisconnectCounts, Event, HttpEvent, OpenEvent};
use eviction::ClosingConnection;
use futures::StreamExt;
use futures::channel::mpsc;
pub(crate) use keepalive::KeepaliveConfig;
pub(crate) use outbox::{CloseOrder, OutboxReceiver, Ping, outbox};
pub(crate) use socket_status::SocketStatus;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

/// After this much work the broker lets others run. A command counts 1, and so do
/// [`EFFECTS_PER_UNIT`] effects, since a broadcast to thousands is more work than a command, and
/// [`BYTES_PER_UNIT`] octets of an answer, which has been put together.
const BATCH: usize = 32;
const EFFECTS_PER_UNIT: usize = 1024;
const BYTES_PER_UNIT: usize = 4096;

/// A listener's realm, and how its connections are treated.
pub(crate) struct RealmSlot {
    pub(crate) realm: Box<dyn AnyRealm>,
    pub(crate) slow_consumer_policy: SlowConsumerPolicy,
    pub(crate) keepalive: KeepaliveConfig,
}

/// All that the daemon knows.
pub(crate) struct Broker {
    slots: Vec<RealmSlot>,
    connections: Table,
    /// What the realm at work wants done.
    effects: Vec<Effect>,
    /// Who is being let in.
    opening: Option<ConnectionId>,
    /// Ends that realms have not been told of yet: on which listener, of whom, and how.
    pending_closes: VecDeque<(usize, ConnectionId, DisconnectReason)>,
    /// Tasks to wake at the end of this batch.
    wakers: Vec<Waker>,
    budget: Arc<MemoryBudget>,
    /// For what each realm keeps.
    stored_bytes: Vec<MemoryReservation>,
    /// What those will give back who have been closed for what they hold, in bytes.
    releasing: usize,
    /// Who is gone for the realms and still says goodbye, and holds something for that.
    closing_connections: Vec<ClosingConnection>,
    started: Instant,
    stopping: bool,
    endings: DisconnectCounts,
}

/// The time, read once per batch.
#[derive(Clone, Copy)]
struct Now {
    /// Since the daemon started.
    monotonic: Duration,
    wall: SystemTime,
}

impl Now {
    fn seconds(self) -> Duration {
        Duration::from_secs(self.monotonic.as_secs())
    }
}

impl Broker {
    pub(crate) fn new(slots: Vec<RealmSlot>, budget: Arc<MemoryBudget>, started: Instant) -> Self {
        Self {
            stored_bytes: slots
                .iter()
                .map(|_| MemoryReservation::new(&budget, 0))
                .collect(),
            slots,
            connections: Table::default(),
            effects: Vec::new(),
            opening: None,
            pending_closes: VecDeque::new(),
            wakers: Vec::new(),
            budget,
            releasing: 0,
            closing_connections: Vec::new(),
            started,
            stopping: false,
            endings: DisconnectCounts::new(),
        }
    }

    /// Works until everybody who could tell it something is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        while let Some(first) = inbox.next().await {
            let now = Now {
                monotonic: self.started.elapsed(),
                wall: SystemTime::now(),
            };
            let mut work = self.handle(now, first);
            while work < BATCH {
                let Ok(event) = inbox.try_recv() else { break };
                work += self.handle(now, event);
            }
            work += self.evict_largest(now);
            self.wakers.drain(..).for_each(Waker::wake);
            if work >= BATCH {
                yield_now().await;
            }
        }
    }

    /// Handles one event; how much work it was.
    fn handle(&mut self, now: Now, event: Event) -> usize {
        match event {
            Event::Open(opening) => self.open(now, *opening),
            Event::Request(event) => self.request(now, *event),
            Event::Commands {
                conn,
                commands,
                charged,
            } => {
                let work = self.commands(now, conn, commands);
                if let Some(connection) = self.connections.get(&conn) {
                    connection.status.receive_memory.shrink(charged);
                }
                work
            }
            Event::OutboxDrained(conn) => {
                self.resume_senders_of(conn);
                1
            }
            Event::Alive(conn) => self.alive(now, conn),
            // There is room made after each batch.
            Event::BudgetExceeded => 1,
            Event::Ended(conn, ending) => self.ended(now, conn, ending),
            Event::Tick => self.tick(now),
            Event::Stop => self.stop(now),
            Event::Count(answer) => {
                // Whoever asked may have lost interest.
                let _ = answer.send(self.endings.clone());
                1
            }
        }
    }

    fn open(&mut self, now: Now, opening: OpenEvent) -> usize {
        let OpenEvent {
            listener,
            conn,
            hello,
            outbox,
            status,
            answer,
        } = opening;
        if self.stopping {
            // The handshake's task hears of it by the loss of its answer.
            return 1;
        }
        self.connections.insert(
            conn,
            Connection {
                listener,
                outbox,
                status,
                pinged: None,
                next_ping: now.monotonic,
                probe: None,
                paused_by: 0,
                paused_senders: Vec::new(),
                closing: false,
                releasing: None,
            },
        );
        let mut refused = None;
        self.opening = Some(conn);
        let work = self.run_realm(now, listener, None, |realm, cx| {
            refused = realm.open(cx, conn, hello).err();
        });
        self.opening = None;
        if refused.is_some() {
            self.connections.remove(&conn);
        }
        if let (Some(slot), Some(connection)) =
            (self.slots.get(listener), self.connections.get_mut(&conn))
        {
            connection.measure(now, slot.keepalive, &mut self.wakers);
        }
        // When the client went meanwhile, its task says so by Ended.
        let _ = answer.send(refused.map_or(Ok(()), Err));
        work
    }

    fn request(&mut self, now: Now, event: HttpEvent) -> usize {
        let HttpEvent {
            listener,
            request,
            answer,
        } = event;
        let mut reply = None;
        let work = self.run_realm(now, listener, None, |realm, cx| {
            reply = Some(realm.request(cx, &request));
        });
        let size = match &reply {
            Some(HttpReply::Ok { body, .. }) => body.len(),
            _ => 0,
        };
        // Whoever asked may be gone.
        let _ = reply.map(|reply| answer.send(reply));
        work + size / BYTES_PER_UNIT
    }

    fn commands(&mut self, now: Now, conn: ConnectionId, commands: Vec<AnyCommand>) -> usize {
        let mut work = 0;
        for command in commands {
            let Some(connection) = self.connections.get(&conn) else {
                break;
            };
            if connection.closing {
                break;
            }
            let listener = connection.listener;
            work += self.run_realm(now, listener, Some(conn), |realm, cx| {
                realm.command(cx, conn, command);
            });
        }
        work.max(1)
    }

    fn ended(&mut self, now: Now, conn: ConnectionId, ending: DisconnectReason) -> usize {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return 1;
        };
        *self.endings.entry(ending.name()).or_default() += 1;
        let listener = connection.listener;
        let told = std::mem::replace(&mut connection.closing, true);
        self.releasing -= connection.releasing.unwrap_or_default();
        self.resume_senders_of(conn);
        if let Some(connection) = self.connections.remove(&conn) {
            self.track_closing(connection);
        }
        if told || self.stopping {
            return 1;
        }
        self.run_realm(now, listener, None, |realm, cx| {
            realm.close(cx, conn, ending)
        })
    }

    fn tick(&mut self, now: Now) -> usize {
        if self.stopping {
            return 1;
        }
        self.reap_closed();
        let probe_result = self.check_connections(now);
        let mut work = 1 + self.deliver_pending_closes(now);
        for (conn, alive) in probe_result {
            work += self.probe_result(now, conn, alive);
        }
        for listener in 0..self.slots.len() {
            work += self.run_realm(now, listener, None, |realm, cx| realm.tick(cx));
        }
        work
    }

    fn stop(&mut self, now: Now) -> usize {
        for listener in 0..self.slots.len() {
            self.call_realm(now, listener, None, |realm, cx| realm.stop(cx));
        }
        self.stopping = true;
        // Realms are told nothing more: there will be nobody left to whom they could speak.
        for connection in self.connections.values_mut() {
            connection.closing = true;
            connection.outbox.end(
                CloseOrder::Graceful(CloseReason::ShuttingDown),
                &mut self.wakers,
            );
        }
        BATCH
    }

    /// Lets a realm do something, and then does what it wants done, until all is quiet. `sender`
    /// is the connection whose message it is about.
    fn run_realm(
        &mut self,
        now: Now,
        listener: usize,
        sender: Option<ConnectionId>,
        act: impl FnOnce(&mut dyn AnyRealm, &mut Context),
    ) -> usize {
        1 + self.call_realm(now, listener, sender, act) + self.deliver_pending_closes(now)
    }

    /// Tells realms of those who are gone, and does what they want done about it.
    fn deliver_pending_closes(&mut self, now: Now) -> usize {
        let mut work = 0;
        while let Some((listener, gone, ending)) = self.pending_closes.pop_front() {
            work += self.call_realm(now, listener, None, |realm, cx| {
                realm.close(cx, gone, ending)
            });
        }
        work
    }

    fn call_realm(
        &mut self,
        now: Now,
        listener: usize,
        sender: Option<ConnectionId>,
        act: impl FnOnce(&mut dyn AnyRealm, &mut Context),
    ) -> usize {
        let Some(slot) = self.slots.get_mut(listener) else {
            return 0;
        };
        let mut effects = std::mem::take(&mut self.effects);
        let mut ids = RandomIds;
        let mut cx = Context::new(
            now.monotonic,
            now.wall,
            &self.connections,
            &mut ids,
            &mut effects,
        );
        act(slot.realm.as_mut(), &mut cx);
        if let Some(stored_bytes) = self.stored_bytes.get_mut(listener) {
            stored_bytes.set(slot.realm.stored_bytes());
        }
        let count = effects.len();
        for effect in effects.drain(..) {
            self.apply(now, effect, sender);
        }
        self.effects = effects;
        count / EFFECTS_PER_UNIT
    }

    fn close(&mut self, conn: ConnectionId, why: CloseReason) {
        if let Some(connection) = self
            .connections
            .get(&conn)
            .filter(|connection| !connection.closing)
        {
            connection
                .outbox
                .end(CloseOrder::Graceful(why), &mut self.wakers);
            self.mark_closing(conn, DisconnectReason::Closed(why));
        }
    }

    fn mark_closing(&mut self, conn: ConnectionId, ending: DisconnectReason) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            if !std::mem::replace(&mut connection.closing, true) {
                self.pending_closes
                    .push_back((connection.listener, conn, ending));
            }
        }
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
