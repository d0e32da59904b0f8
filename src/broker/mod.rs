//! The central task: it owns all state, hears of everything over one channel, and never waits
//! for anything else.
//!
//! It keeps the promises of [`crate::realm`], and owns what realms share and must not know:
//! connections, outboxes, liveness, counters.

use crate::base::close::{Close, Ending};
use crate::base::frame::Frame;
use crate::base::memory_budget::{Budget, Charge};
use crate::broker::outbox::{End, Outbox, Ping, Report};
use crate::broker::socket_status::Pulse;
use crate::realm::erased::{AnyCommand, AnyRealm};
use crate::realm::{
    ConnectionId, Connections, Context, Effect, Hello, Ids, Refusal, Reply, Request, WhenFull,
};
use async_std::task::yield_now;
use eviction::Leaving;
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use keepalive::{Patience, Verdict};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

mod eviction;
pub(crate) mod keepalive;
pub(crate) mod outbox;
pub(crate) mod socket_status;

/// After this much work the broker lets others run. A command counts 1, and so do
/// [`EFFECTS_PER_UNIT`] effects, since a broadcast to thousands is more work than a command, and
/// [`OCTETS_PER_UNIT`] octets of an answer, which has been put together.
const BATCH: usize = 32;
const EFFECTS_PER_UNIT: usize = 1024;
const OCTETS_PER_UNIT: usize = 4096;

/// What the broker is told.
pub(crate) enum Event {
    /// Somebody stands at the door.
    Open(Box<Opening>),
    /// Somebody asks something.
    Request(Box<Question>),
    /// A connection's messages, in their order. Not more before these are taken.
    Commands {
        who: ConnectionId,
        commands: Vec<AnyCommand>,
        /// For so many of their octets the connection is charged until they are done.
        charged: usize,
    },
    /// A connection's outbox has room again, or has been written as far as its socket goes.
    Room(ConnectionId),
    /// A connection that was asked for a sign of life has given one.
    Alive(ConnectionId),
    /// What a connection has received has overdrawn the budget.
    Overdrawn,
    /// A connection is gone. Nothing comes from it after this.
    Ended(ConnectionId, Ending),
    /// A second has passed.
    Tick,
    /// The daemon stops.
    Stop,
    /// How have connections ended so far?
    Count(oneshot::Sender<Endings>),
}

/// An opening handshake that is in order and waits for an answer.
pub(crate) struct Opening {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) who: ConnectionId,
    pub(crate) hello: Hello,
    pub(crate) outbox: Outbox,
    pub(crate) pulse: Arc<Pulse>,
    /// Whether to complete the handshake.
    pub(crate) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// A plain HTTP request for a realm.
pub(crate) struct Question {
    /// The place of the listener in the configuration.
    pub(crate) listener: usize,
    pub(crate) request: Request,
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// A listener's realm, and how its connections are treated.
pub(crate) struct Host {
    pub(crate) realm: Box<dyn AnyRealm>,
    pub(crate) when_full: WhenFull,
    pub(crate) patience: Patience,
}

struct Connection {
    listener: usize,
    outbox: Outbox,
    pulse: Arc<Pulse>,
    /// When it was sent a Ping, to the second.
    pinged: Option<Duration>,
    /// When its round trip is to be measured next, if that is wanted.
    next_ping: Duration,
    /// Its realm waits for a sign of life.
    probe: Option<Probe>,
    /// For the sake of how many others it is not read from.
    held: usize,
    /// Who is held for the sake of this one.
    holds: Vec<ConnectionId>,
    /// Its realm has been told that it is gone.
    closing: bool,
    /// What it held when it was closed for that, in bytes.
    releasing: Option<usize>,
}

impl Connection {
    /// Whether its outbox is full only because its task has not had its turn. Its socket would
    /// take more, so it is not slow.
    fn has_had_no_turn(&self) -> bool {
        !self.pulse.is_blocked() && !self.outbox.is_far_over()
    }

    /// Sends a Ping for the round trip, when it is time for one.
    fn measure(&mut self, moment: Moment, patience: Patience, wakers: &mut Vec<Waker>) {
        if !patience.ping_every.is_zero() && moment.now >= self.next_ping {
            self.next_ping = moment.now + patience.ping_every;
            self.outbox.ping(Ping::RoundTrip, wakers);
        }
    }
}

/// A realm's question whether a connection is alive.
#[derive(Clone, Copy)]
struct Probe {
    /// When it was asked, to the second.
    asked: Duration,
    until: Duration,
}

type Table = HashMap<ConnectionId, Connection, BuildHasherDefault<IdHasher>>;

impl Connections for Table {
    fn round_trip(&self, who: ConnectionId) -> Option<Duration> {
        self.get(&who)
            .and_then(|connection| connection.pulse.round_trip())
    }
}

/// How many connections ended in which way, for the log.
pub(crate) type Endings = BTreeMap<&'static str, u64>;

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

    fn alive(&mut self, moment: Moment, who: ConnectionId) -> usize {
        let connection = self.connections.get_mut(&who);
        // Its time may have been up just before.
        if connection.is_some_and(|connection| connection.probe.take().is_some()) {
            self.probed(moment, who, true)
        } else {
            1
        }
    }

    /// Tells a realm what became of its question, unless the connection is gone meanwhile.
    fn probed(&mut self, moment: Moment, who: ConnectionId, alive: bool) -> usize {
        match self.connections.get(&who) {
            Some(&Connection {
                closing: false,
                listener,
                ..
            }) => self.enter(moment, listener, None, |realm, cx| {
                realm.probed(cx, who, alive);
            }),
            _ => 1,
        }
    }

    fn tick(&mut self, moment: Moment) -> usize {
        if self.stopping {
            return 1;
        }
        self.forget_the_gone();
        let mut silent = Vec::new();
        let mut probed = Vec::new();
        for (&who, connection) in &mut self.connections {
            if connection.held > 0 && !connection.pulse.is_blocked() {
                // Nobody listens to it, so its silence means nothing.
                connection.pinged = None;
                continue;
            }
            let Some(host) = self.hosts.get(connection.listener) else {
                continue;
            };
            connection.measure(moment, host.patience, &mut self.wakers);
            let heard = connection.pulse.heard();
            if let Some(probe) = connection.probe.take_if(|probe| moment.now >= probe.until) {
                // What was heard in the second of the question may have come before it.
                probed.push((who, heard > probe.asked));
            }
            match keepalive::judge(moment.seconds(), heard, connection.pinged, host.patience) {
                Verdict::Alive => connection.pinged = None,
                Verdict::Wait => {}
                Verdict::Ping => {
                    connection.pinged = Some(moment.seconds());
                    connection.outbox.ping(Ping::Silence, &mut self.wakers);
                }
                Verdict::Silent => {
                    connection.outbox.end(End::Drop, &mut self.wakers);
                    silent.push(who);
                }
            }
        }
        silent
            .into_iter()
            .for_each(|who| self.mark_closing(who, Ending::Silent));
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

    fn apply(&mut self, moment: Moment, effect: Effect, sender: Option<ConnectionId>) {
        match effect {
            Effect::Send(to, frame) => self.send(to, frame, sender),
            Effect::Deliver(to, frame, receipt) => {
                let news = if self.deliver(to, frame, sender) {
                    receipt.delivered
                } else {
                    receipt.failed
                };
                news.into_iter()
                    .for_each(|news| self.send(receipt.to, news, sender));
            }
            Effect::Close(who, why) => self.close(who, why),
            Effect::Probe(who, patience) => self.probe(moment, who, patience),
        }
    }

    /// Puts a frame into an outbox; what is to be done if there is no room is the realm's policy.
    fn send(&mut self, to: ConnectionId, frame: Frame, sender: Option<ConnectionId>) {
        let Some(connection) = self.connections.get(&to).filter(|it| !it.closing) else {
            return;
        };
        if self.entering == Some(to) {
            connection.outbox.push_first(frame, &mut self.wakers);
            return;
        }
        let Err(frame) = connection.outbox.push(frame, &mut self.wakers) else {
            return;
        };
        let Some(host) = self.hosts.get(connection.listener) else {
            return;
        };
        match host.when_full {
            WhenFull::HoldSender if sender.is_some() => {
                self.push_over(to, frame, Report::Room, sender);
            }
            WhenFull::CloseReader if connection.has_had_no_turn() => {
                self.push_over(to, frame, Report::Turn, sender);
            }
            _ => self.close(to, Close::TooSlow),
        }
    }

    /// Puts a frame into an outbox if there is room, and says whether there was. Nobody is closed
    /// for what a single other one sends.
    fn deliver(&mut self, to: ConnectionId, frame: Frame, sender: Option<ConnectionId>) -> bool {
        let Some(connection) = self.connections.get(&to).filter(|it| !it.closing) else {
            return false;
        };
        match connection.outbox.push_to_half(frame, &mut self.wakers) {
            Ok(()) => true,
            Err(frame) if connection.has_had_no_turn() => {
                self.push_over(to, frame, Report::Turn, sender);
                true
            }
            Err(_) => false,
        }
    }

    /// Puts a frame into an outbox although there is no room, while its sender, if there is one,
    /// waits for a report.
    fn push_over(
        &mut self,
        to: ConnectionId,
        frame: Frame,
        report: Report,
        sender: Option<ConnectionId>,
    ) {
        if let Some(connection) = self.connections.get_mut(&to) {
            connection.outbox.push_over(frame, report, &mut self.wakers);
            connection.holds.extend(sender);
            sender.into_iter().for_each(|sender| self.hold(sender));
        }
    }

    fn probe(&mut self, moment: Moment, who: ConnectionId, patience: Duration) {
        let connection = self.connections.get_mut(&who);
        if let Some(connection) = connection.filter(|it| !it.closing && it.probe.is_none()) {
            connection.probe = Some(Probe {
                asked: moment.seconds(),
                until: moment.now + patience,
            });
            connection.outbox.ping(Ping::Probe, &mut self.wakers);
        }
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

    fn hold(&mut self, who: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&who) {
            connection.held += 1;
            connection.outbox.hold(true, &mut self.wakers);
        }
    }

    fn release_held_by(&mut self, who: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&who) else {
            return;
        };
        for held in std::mem::take(&mut connection.holds) {
            if let Some(connection) = self.connections.get_mut(&held) {
                connection.held -= 1;
                if connection.held == 0 {
                    connection.pinged = None;
                    connection.pulse.beat();
                    connection.outbox.hold(false, &mut self.wakers);
                }
            }
        }
    }
}

/// Ids from the operating system's random source.
struct RandomIds;

impl Ids for RandomIds {
    fn uuid(&mut self) -> Uuid {
        Uuid::new_v4()
    }
}

/// Connection ids are numbers of our own making, one after the other: nobody can choose them so
/// that they collide, and one multiplication spreads them over a table.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for &octet in octets {
            self.write_u64(self.0 ^ u64::from(octet));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests;
