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

use crate::base::close::{Close, Ending};
use crate::base::memory_budget::{Budget, Charge};
use crate::realm::erased::{AnyCommand, AnyRealm};
use crate::realm::{ConnectionId, Context, Effect, Ids, Reply, WhenFull};
use async_std::task::yield_now;
use connections::{Connection, Table};
pub(crate) use event::{Endings, Event, Opening, Question};
use eviction::Leaving;
use futures::StreamExt;
use futures::channel::mpsc;
pub(crate) use keepalive::Patience;
pub(crate) use outbox::{End, Outgoing, Ping, outbox};
pub(crate) use socket_status::Pulse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

/// After this much work the broker lets others run. A command counts 1, and so do
/// [`EFFECTS_PER_UNIT`] effects, since a broadcast to thousands is more work than a command, and
/// [`OCTETS_PER_UNIT`] octets of an answer, which has been put together.
const BATCH: usize = 32;
const EFFECTS_PER_UNIT: usize = 1024;
const OCTETS_PER_UNIT: usize = 4096;

/// A listener's realm, and how its connections are treated.
pub(crate) struct Host {
    pub(crate) realm: Box<dyn AnyRealm>,
    pub(crate) when_full: WhenFull,
    pub(crate) patience: Patience,
}

/// All that the daemon knows.
pub(crate) struct Broker {
    hosts: Vec<Host>,
    connections: Table,
    /// What the realm at work wants done.
    effects: Vec<Effect>,
    /// Who is being let in.
    entering: Option<ConnectionId>,
    /// Ends that realms have not been told of yet: on which listener, of whom, and how.
    untold: VecDeque<(usize, ConnectionId, Ending)>,
    /// Tasks to wake at the end of this batch.
    wakers: Vec<Waker>,
    budget: Arc<Budget>,
    /// For what each realm keeps.
    kept: Vec<Charge>,
    /// What those will give back who have been closed for what they hold, in bytes.
    releasing: usize,
    /// Who is gone for the realms and still says goodbye, and holds something for that.
    leaving: Vec<Leaving>,
    started: Instant,
    stopping: bool,
    endings: Endings,
}

/// The time, read once per batch.
#[derive(Clone, Copy)]
struct Moment {
    now: Duration,
    wall: SystemTime,
}

impl Moment {
    fn seconds(self) -> Duration {
        Duration::from_secs(self.now.as_secs())
    }
}

impl Broker {
    pub(crate) fn new(hosts: Vec<Host>, budget: Arc<Budget>, started: Instant) -> Self {
        Self {
            kept: hosts.iter().map(|_| Charge::new(&budget, 0)).collect(),
            hosts,
            connections: Table::default(),
            effects: Vec::new(),
            entering: None,
            untold: VecDeque::new(),
            wakers: Vec::new(),
            budget,
            releasing: 0,
            leaving: Vec::new(),
            started,
            stopping: false,
            endings: Endings::new(),
        }
    }

    /// Works until everybody who could tell it something is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Event>) {
        while let Some(first) = inbox.next().await {
            let moment = Moment {
                now: self.started.elapsed(),
                wall: SystemTime::now(),
            };
            let mut work = self.handle(moment, first);
            while work < BATCH {
                let Ok(event) = inbox.try_recv() else { break };
                work += self.handle(moment, event);
            }
            work += self.make_room(moment);
            self.wakers.drain(..).for_each(Waker::wake);
            if work >= BATCH {
                yield_now().await;
            }
        }
    }

    /// Handles one event; how much work it was.
    fn handle(&mut self, moment: Moment, event: Event) -> usize {
        match event {
            Event::Open(opening) => self.open(moment, *opening),
            Event::Request(question) => self.request(moment, *question),
            Event::Commands {
                who,
                commands,
                charged,
            } => {
                let work = self.commands(moment, who, commands);
                if let Some(connection) = self.connections.get(&who) {
                    connection.pulse.incoming.shrink(charged);
                }
                work
            }
            Event::Room(who) => {
                self.release_held_by(who);
                1
            }
            Event::Alive(who) => self.alive(moment, who),
            // There is room made after each batch.
            Event::Overdrawn => 1,
            Event::Ended(who, ending) => self.ended(moment, who, ending),
            Event::Tick => self.tick(moment),
            Event::Stop => self.stop(moment),
            Event::Count(answer) => {
                // Whoever asked may have lost interest.
                let _ = answer.send(self.endings.clone());
                1
            }
        }
    }

    fn open(&mut self, moment: Moment, opening: Opening) -> usize {
        let Opening {
            listener,
            who,
            hello,
            outbox,
            pulse,
            answer,
        } = opening;
        if self.stopping {
            // The handshake's task hears of it by the loss of its answer.
            return 1;
        }
        self.connections.insert(
            who,
            Connection {
                listener,
                outbox,
                pulse,
                pinged: None,
                next_ping: moment.now,
                probe: None,
                held: 0,
                holds: Vec::new(),
                closing: false,
                releasing: None,
            },
        );
        let mut refused = None;
        self.entering = Some(who);
        let work = self.enter(moment, listener, None, |realm, cx| {
            refused = realm.open(cx, who, hello).err();
        });
        self.entering = None;
        if refused.is_some() {
            self.connections.remove(&who);
        }
        if let (Some(host), Some(connection)) =
            (self.hosts.get(listener), self.connections.get_mut(&who))
        {
            connection.measure(moment, host.patience, &mut self.wakers);
        }
        // When the client went meanwhile, its task says so by Ended.
        let _ = answer.send(refused.map_or(Ok(()), Err));
        work
    }

    fn request(&mut self, moment: Moment, question: Question) -> usize {
        let Question {
            listener,
            request,
            answer,
        } = question;
        let mut reply = None;
        let work = self.enter(moment, listener, None, |realm, cx| {
            reply = Some(realm.request(cx, &request));
        });
        let size = match &reply {
            Some(Reply::Ok { body, .. }) => body.len(),
            _ => 0,
        };
        // Whoever asked may be gone.
        let _ = reply.map(|reply| answer.send(reply));
        work + size / OCTETS_PER_UNIT
    }

    fn commands(&mut self, moment: Moment, who: ConnectionId, commands: Vec<AnyCommand>) -> usize {
        let mut work = 0;
        for command in commands {
            let Some(connection) = self.connections.get(&who) else {
                break;
            };
            if connection.closing {
                break;
            }
            let listener = connection.listener;
            work += self.enter(moment, listener, Some(who), |realm, cx| {
                realm.command(cx, who, command);
            });
        }
        work.max(1)
    }

    fn ended(&mut self, moment: Moment, who: ConnectionId, ending: Ending) -> usize {
        let Some(connection) = self.connections.get_mut(&who) else {
            return 1;
        };
        *self.endings.entry(ending.name()).or_default() += 1;
        let listener = connection.listener;
        let told = std::mem::replace(&mut connection.closing, true);
        self.releasing -= connection.releasing.unwrap_or_default();
        self.release_held_by(who);
        if let Some(connection) = self.connections.remove(&who) {
            self.sees_off(connection);
        }
        if told || self.stopping {
            return 1;
        }
        self.enter(moment, listener, None, |realm, cx| {
            realm.close(cx, who, ending)
        })
    }

    fn tick(&mut self, moment: Moment) -> usize {
        if self.stopping {
            return 1;
        }
        self.forget_the_gone();
        let probed = self.check_connections(moment);
        let mut work = 1 + self.tell_the_gone(moment);
        for (who, alive) in probed {
            work += self.probed(moment, who, alive);
        }
        for listener in 0..self.hosts.len() {
            work += self.enter(moment, listener, None, |realm, cx| realm.tick(cx));
        }
        work
    }

    fn stop(&mut self, moment: Moment) -> usize {
        for listener in 0..self.hosts.len() {
            self.visit(moment, listener, None, |realm, cx| realm.stop(cx));
        }
        self.stopping = true;
        // Realms are told nothing more: there will be nobody left to whom they could speak.
        for connection in self.connections.values_mut() {
            connection.closing = true;
            connection
                .outbox
                .end(End::Close(Close::ShuttingDown), &mut self.wakers);
        }
        BATCH
    }

    /// Lets a realm do something, and then does what it wants done, until all is quiet. `sender`
    /// is the connection whose message it is about.
    fn enter(
        &mut self,
        moment: Moment,
        listener: usize,
        sender: Option<ConnectionId>,
        act: impl FnOnce(&mut dyn AnyRealm, &mut Context),
    ) -> usize {
        1 + self.visit(moment, listener, sender, act) + self.tell_the_gone(moment)
    }

    /// Tells realms of those who are gone, and does what they want done about it.
    fn tell_the_gone(&mut self, moment: Moment) -> usize {
        let mut work = 0;
        while let Some((listener, gone, ending)) = self.untold.pop_front() {
            work += self.visit(moment, listener, None, |realm, cx| {
                realm.close(cx, gone, ending)
            });
        }
        work
    }

    fn visit(
        &mut self,
        moment: Moment,
        listener: usize,
        sender: Option<ConnectionId>,
        act: impl FnOnce(&mut dyn AnyRealm, &mut Context),
    ) -> usize {
        let Some(host) = self.hosts.get_mut(listener) else {
            return 0;
        };
        let mut effects = std::mem::take(&mut self.effects);
        let mut ids = RandomIds;
        let Moment { now, wall } = moment;
        let mut cx = Context::new(now, wall, &self.connections, &mut ids, &mut effects);
        act(host.realm.as_mut(), &mut cx);
        if let Some(kept) = self.kept.get_mut(listener) {
            kept.set(host.realm.kept());
        }
        let count = effects.len();
        for effect in effects.drain(..) {
            self.apply(moment, effect, sender);
        }
        self.effects = effects;
        count / EFFECTS_PER_UNIT
    }

    fn close(&mut self, who: ConnectionId, why: Close) {
        if let Some(connection) = self
            .connections
            .get(&who)
            .filter(|connection| !connection.closing)
        {
            connection.outbox.end(End::Close(why), &mut self.wakers);
            self.mark_closing(who, Ending::Closed(why));
        }
    }

    fn mark_closing(&mut self, who: ConnectionId, ending: Ending) {
        if let Some(connection) = self.connections.get_mut(&who) {
            if !std::mem::replace(&mut connection.closing, true) {
                self.untold.push_back((connection.listener, who, ending));
            }
        }
        self.release_held_by(who);
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
