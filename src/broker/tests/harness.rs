//! A broker without connection tasks: tests send the events and look at the outboxes.

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::memory_budget::MemoryBudget;
use crate::broker::outbox::{Directives, OutboxReceiver, outbox};
use crate::broker::{
    Broker, Clock, ConnectionChecks, Event, KeepaliveConfig, ListenerCounters, ListenerKey, Now,
    OpenEvent, RealmSlot, SocketStatus,
};
use crate::config::Address;
use crate::realm::{
    Access, Command, Commands, ConnectRequest, ConnectionId, Context, Figures, HttpReply, Protocol,
    Realm, Recipients, Rejection, Request, Retention, SettingError, SettingMap, SlowConsumerPolicy,
};
use futures::channel::oneshot;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Waker};
use std::time::{Duration, SystemTime};

/// An action of [`MockRealm`]. A list of these is a command.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Sends a text to a connection.
    Send(u64, String),
    /// Sends a text to connections 1 to 100.
    Broadcast(String),
    /// Sends a text to one of the lists that the realm keeps, except to these connections.
    BroadcastTo(usize, Vec<u64>, String),
    /// Closes a connection.
    Close(u64, CloseReason),
    /// Delivers a text to a connection. Whether that succeeds, `ok` or `failed`, is sent to connection 1.
    Deliver(u64, String),
    /// Sends a text to a connection if a delivery of it would succeed.
    SendIfDeliverable(u64, String),
    /// Has a connection end at this second since the Unix epoch.
    ExpireAt(u64, Option<u64>),
    /// Probes a connection with a timeout of 5 s.
    Probe(u64),
    /// Admits a connection whose open is deferred.
    Admit(u64),
    /// Rejects one with status 429.
    Reject(u64),
    /// Pauses reading from a connection.
    Pause(u64),
    /// Resumes it.
    Resume(u64),
}

/// Shorthand for [`Action::Send`].
pub(crate) fn send(to: u64, text: &str) -> Action {
    Action::Send(to, text.to_owned())
}

/// The rejection of [`MockRealm`].
pub(crate) const REJECTION: Rejection = Rejection {
    status: 429,
    text: "no",
};

/// A realm that does what its commands say, and logs each call.
pub(crate) struct MockRealm {
    slow_consumer_policy: SlowConsumerPolicy,
    log: Arc<Mutex<Vec<String>>>,
    rejects: bool,
    defers: Vec<u64>,
    sends_at_open: Vec<String>,
    closes_with: Vec<(u64, u64)>,
    lists: Vec<Recipients>,
    /// Whether a broadcast is sent as a frame to each recipient.
    sends_singly: bool,
    stored_bytes: usize,
    best_effort_bytes: usize,
    promised_bytes: usize,
    identity_bytes: usize,
    figures: Figures,
}

impl Default for MockRealm {
    fn default() -> Self {
        Self {
            slow_consumer_policy: SlowConsumerPolicy::Disconnect,
            log: Arc::default(),
            rejects: false,
            defers: Vec::new(),
            sends_at_open: Vec::new(),
            closes_with: Vec::new(),
            lists: Vec::new(),
            sends_singly: false,
            stored_bytes: 0,
            best_effort_bytes: 0,
            promised_bytes: 0,
            identity_bytes: 0,
            figures: Figures::default(),
        }
    }
}

impl MockRealm {
    /// A realm with these figures.
    pub(crate) fn showing(figures: Figures) -> Self {
        Self {
            figures,
            ..Self::default()
        }
    }

    /// A realm that rejects each connection with status 429.
    pub(crate) fn rejecting() -> Self {
        Self {
            rejects: true,
            ..Self::default()
        }
    }

    /// A realm that defers its decision about these connections.
    pub(crate) fn deferring(conns: &[u64]) -> Self {
        Self {
            defers: conns.to_vec(),
            ..Self::default()
        }
    }

    /// A realm that sends 100 texts of 60 bytes to each new connection.
    pub(crate) fn sending_at_open() -> Self {
        Self {
            sends_at_open: vec!["x".repeat(60); 100],
            ..Self::default()
        }
    }

    /// A realm that closes the second connection of a pair when the first is closed.
    pub(crate) fn closing(pairs: &[(u64, u64)]) -> Self {
        Self {
            closes_with: pairs.to_vec(),
            ..Self::default()
        }
    }

    /// A realm that keeps these lists of recipients, and defers its decision about some connections.
    pub(crate) fn broadcasting(lists: &[&[u64]], defers: &[u64], sends_singly: bool) -> Self {
        let list = |ids: &&[u64]| ids.iter().copied().map(ConnectionId).collect();
        Self {
            lists: lists.iter().map(list).collect(),
            sends_singly,
            ..Self::deferring(defers)
        }
    }

    /// A realm that stores this many bytes on behalf of connection 1.
    pub(crate) fn storing(bytes: usize) -> Self {
        Self {
            stored_bytes: bytes,
            ..Self::default()
        }
    }

    /// A realm that stores so much on behalf of no connection, which it can give up: of the kinds of [`Retention`] in their
    /// order.
    pub(crate) fn remembering(bytes: [usize; 3]) -> Self {
        let [best_effort_bytes, promised_bytes, identity_bytes] = bytes;
        Self {
            best_effort_bytes,
            promised_bytes,
            identity_bytes,
            ..Self::default()
        }
    }

    /// Returns the log, for realms beside that of the harness.
    pub(crate) fn log(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.log)
    }

    fn record(&self, entry: String) {
        self.log.lock().unwrap().push(entry);
    }

    fn act(&self, cx: &mut Context, action: Action) {
        match action {
            Action::Send(to, text) => cx.send(ConnectionId(to), Frame::text(text)),
            Action::Broadcast(text) => {
                let all: Recipients = (1..=100).map(ConnectionId).collect();
                cx.broadcast(&all, &[], Frame::text(text));
            }
            Action::BroadcastTo(list, except, text) => {
                let (list, frame) = (&self.lists[list], Frame::text(text));
                let except: Vec<_> = except.into_iter().map(ConnectionId).collect();
                if self.sends_singly {
                    let recipients = list.iter().filter(|to| !except.contains(to));
                    recipients.for_each(|to| cx.send(to, frame.clone()));
                } else {
                    cx.broadcast(list, &except, frame);
                }
            }
            Action::Close(conn, reason) => cx.close(ConnectionId(conn), reason),
            Action::Deliver(to, text) => {
                let delivered = cx.deliver(ConnectionId(to), Frame::text(text));
                let receipt = if delivered.is_ok() { "ok" } else { "failed" };
                cx.send(ConnectionId(1), Frame::text(receipt));
            }
            Action::SendIfDeliverable(to, text) => {
                let frame = Frame::text(text);
                if cx.can_deliver(ConnectionId(to), &frame) {
                    cx.send(ConnectionId(to), frame);
                }
            }
            Action::ExpireAt(conn, second) => {
                cx.expire_at(ConnectionId(conn), second.map(Duration::from_secs));
            }
            Action::Probe(conn) => cx.probe(ConnectionId(conn), Duration::from_secs(5)),
            Action::Admit(conn) => cx.admit(ConnectionId(conn)),
            Action::Reject(conn) => cx.reject(ConnectionId(conn), REJECTION),
            Action::Pause(conn) => cx.pause_reading(ConnectionId(conn)),
            Action::Resume(conn) => cx.resume_reading(ConnectionId(conn)),
        }
    }
}

static PROTOCOL_WITH_BACKPRESSURE: Protocol = protocol(SlowConsumerPolicy::Backpressure);
static PROTOCOL_WITH_DISCONNECT: Protocol = protocol(SlowConsumerPolicy::Disconnect);

/// A protocol with this policy. The broker does not decode.
const fn protocol(slow_consumer_policy: SlowConsumerPolicy) -> Protocol {
    Protocol {
        close_reasons: &[CloseReason::GOODBYE],
        slow_consumer_policy,
        ..Protocol::bare::<MockRealm>("mock", |_| unreachable!())
    }
}

impl Realm for MockRealm {
    fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Ok(Self::default())
    }

    fn reconfigure(
        &mut self,
        cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.record("reconfigure".to_owned());
        cx.send(
            ConnectionId(1),
            Frame::text(serde_json::to_string(options).unwrap()),
        );
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        match self.slow_consumer_policy {
            SlowConsumerPolicy::Backpressure => &PROTOCOL_WITH_BACKPRESSURE,
            SlowConsumerPolicy::Disconnect => &PROTOCOL_WITH_DISCONNECT,
        }
    }

    /// Replies with as many bytes as the query has.
    fn request(&mut self, _: &mut Context, request: &Request) -> HttpReply {
        self.record(format!("request {}", request.connect.path));
        HttpReply::Ok {
            content_type: "text/plain",
            body: "x".repeat(request.connect.query.len()).into(),
        }
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        _: ConnectRequest,
    ) -> Result<(), Rejection> {
        self.record(format!("open {}", conn.0));
        for text in &self.sends_at_open {
            cx.send(conn, Frame::text(text.clone()));
        }
        if self.defers.contains(&conn.0) {
            cx.defer(conn);
        }
        if self.rejects { Err(REJECTION) } else { Ok(()) }
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        self.record(format!("command {}", conn.0));
        for action in command.into::<Vec<Action>>() {
            self.act(cx, action);
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason) {
        self.record(format!("close {} {}", conn.0, reason.name()));
        for &(closed, other) in &self.closes_with {
            if closed == conn.0 {
                cx.close(ConnectionId(other), CloseReason::GOODBYE);
            }
        }
    }

    fn probe_result(&mut self, _: &mut Context, conn: ConnectionId, alive: bool) {
        self.record(format!("probe_result {} {alive}", conn.0));
    }

    fn stored_bytes(&self) -> usize {
        let remembered = self.promised_bytes + self.identity_bytes;
        self.stored_bytes + self.best_effort_bytes + remembered
    }

    fn figures(&self) -> Figures {
        self.figures.clone()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        if conn.0 == 1 { self.stored_bytes } else { 0 }
    }

    fn shed(&mut self, _: &mut Context, retention: Retention, bytes: usize) -> usize {
        let left = match retention {
            Retention::BestEffort => &mut self.best_effort_bytes,
            Retention::Promised => &mut self.promised_bytes,
            Retention::Identity => &mut self.identity_bytes,
        };
        let freed = bytes.min(*left);
        *left -= freed;
        if freed > 0 {
            self.record(format!("shed {retention:?}"));
        }
        freed
    }

    fn tick(&mut self, _: &mut Context) {
        self.record("tick".to_owned());
    }

    /// Sends to connection 1, and closes connection 3.
    fn stop(&mut self, cx: &mut Context) {
        self.record("stop".to_owned());
        cx.send(ConnectionId(1), Frame::text("last words"));
        cx.close(ConnectionId(3), CloseReason::GOODBYE);
    }
}

/// A broker with one [`MockRealm`], and a clock that tests move. A client is silent for 15 s before
/// it is sent a Ping, and has 5 s to answer.
pub(crate) struct BrokerHarness {
    pub(crate) broker: Broker,
    /// Time since the daemon started.
    pub(crate) now: Duration,
    /// The wall clock, in seconds since the Unix epoch.
    pub(crate) wall: u64,
    log: Arc<Mutex<Vec<String>>>,
    /// The key of the listener.
    pub(crate) key: ListenerKey,
    /// Limit of the outboxes of connections that open.
    pub(crate) outbox_limit: usize,
}

/// The checks of the listener.
pub(crate) const CHECKS: ConnectionChecks = ConnectionChecks {
    keepalive: KeepaliveConfig {
        ping_after: Duration::from_secs(15),
        pong_timeout: Duration::from_secs(5),
        ping_every: Duration::ZERO,
    },
    message_timeout: Duration::from_secs(30),
};

impl BrokerHarness {
    pub(crate) fn new(policy: SlowConsumerPolicy) -> Self {
        Self::with_realm(policy, MockRealm::default())
    }

    pub(crate) fn with_realm(policy: SlowConsumerPolicy, realm: MockRealm) -> Self {
        Self::with_budget(0, policy, realm)
    }

    /// A harness with a memory budget in bytes; 0: no limit.
    pub(crate) fn with_budget(budget: usize, policy: SlowConsumerPolicy, realm: MockRealm) -> Self {
        let log = Arc::clone(&realm.log);
        let realm = MockRealm {
            slow_consumer_policy: policy,
            ..realm
        };
        let slot = RealmSlot {
            realm: Box::new(realm),
            address: Address::Any(1),
            checks: CHECKS,
        };
        let mut broker = Broker::new(MemoryBudget::new(budget), Arc::new(Clock::new()));
        let key = broker.insert_listener(slot);
        Self {
            broker,
            now: Duration::ZERO,
            wall: 0,
            log,
            key,
            outbox_limit: 120,
        }
    }

    /// Returns the checks of the listener, to change them.
    pub(crate) fn checks(&mut self) -> &mut ConnectionChecks {
        let index = self.key.index();
        &mut self.broker.slots.get_mut(index).unwrap().checks
    }

    /// Handles an event as the last one of its lane, and returns the units of work.
    pub(crate) fn handle(&mut self, event: Event) -> usize {
        let work = self.handle_first(event);
        work + self.flush_broadcasts()
    }

    /// Handles an event that others of its lane follow.
    pub(crate) fn handle_first(&mut self, event: Event) -> usize {
        let now = self.broker_now();
        self.broker.handle(now, event)
    }

    /// Queues the broadcasts that wait.
    pub(crate) fn flush_broadcasts(&mut self) -> usize {
        let now = self.broker_now();
        match self.broker.broadcasts.is_empty() {
            true => 0,
            false => self.broker.flush_broadcasts(now),
        }
    }

    /// Does what ends a batch, and returns the units of work.
    pub(crate) fn reclaim_memory(&mut self) -> usize {
        let now = self.broker_now();
        self.broker.reclaim_memory(now)
    }

    fn broker_now(&self) -> Now {
        Now {
            monotonic: self.now,
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(self.wall),
        }
    }

    /// Sets the clock to this second, and ticks.
    pub(crate) fn tick_at(&mut self, second: u64) {
        self.now = Duration::from_secs(second);
        self.handle(Event::Tick);
    }

    /// Opens a connection with an outbox of 120 bytes. Returns the connection's end of it, and the
    /// broker's reply, if there is one.
    pub(crate) fn open(&mut self, conn: u64) -> (OutboxReceiver, Option<Result<(), Rejection>>) {
        let (receiver, mut reply) = self.start_open(conn);
        (receiver, reply.try_recv().unwrap_or_default())
    }

    /// The same from another address.
    pub(crate) fn open_from(
        &mut self,
        address: IpAddr,
        conn: u64,
    ) -> (OutboxReceiver, Option<Result<(), Rejection>>) {
        let (receiver, mut reply) = self.start_open_at(self.key.index(), address, conn);
        (receiver, reply.try_recv().unwrap_or_default())
    }

    /// Starts an open that may be deferred: returns the receiver of the reply.
    pub(crate) fn start_open(
        &mut self,
        conn: u64,
    ) -> (OutboxReceiver, oneshot::Receiver<Result<(), Rejection>>) {
        let key = self.key.clone();
        self.start_open_to(&key, conn)
    }

    /// The same to another listener.
    pub(crate) fn start_open_to(
        &mut self,
        key: &ListenerKey,
        conn: u64,
    ) -> (OutboxReceiver, oneshot::Receiver<Result<(), Rejection>>) {
        self.start_open_at(key.index(), [127, 0, 0, 1].into(), conn)
    }

    fn start_open_at(
        &mut self,
        listener_index: usize,
        address: IpAddr,
        conn: u64,
    ) -> (OutboxReceiver, oneshot::Receiver<Result<(), Rejection>>) {
        let budget = self.broker.memory.budget();
        let (outbox, receiver) = outbox(self.outbox_limit, budget);
        let (reply_to, reply) = oneshot::channel();
        let status = SocketStatus::new(&self.broker.clock, budget, &self.counters().traffic);
        status.set_last_activity(self.second());
        let event = OpenEvent {
            listener_index,
            conn: ConnectionId(conn),
            request: ConnectRequest {
                path: String::new(),
                query: String::new(),
                address: address.into(),
                access: Access::default(),
            },
            outbox,
            status: Arc::new(status),
            reply_to,
        };
        self.handle(Event::Open(Box::new(event)));
        (receiver, reply)
    }

    /// Opens a connection to another listener, which must be admitted.
    pub(crate) fn connect_to(&mut self, key: &ListenerKey, conn: u64) -> OutboxReceiver {
        let (receiver, mut reply) = self.start_open_to(key, conn);
        assert_eq!(reply.try_recv(), Ok(Some(Ok(()))));
        receiver
    }

    /// Opens a connection, which must be admitted.
    pub(crate) fn connect(&mut self, conn: u64) -> OutboxReceiver {
        let (receiver, reply) = self.open(conn);
        assert_eq!(reply, Some(Ok(())));
        receiver
    }

    /// Ends a connection as its task would.
    pub(crate) fn disconnect(&mut self, conn: u64, reason: DisconnectReason) {
        self.handle(Event::Disconnected(ConnectionId(conn), reason));
    }

    pub(crate) fn counters(&self) -> &ListenerCounters {
        self.key.counters()
    }

    pub(crate) fn status(&self, conn: u64) -> &SocketStatus {
        &self.broker.connections[&ConnectionId(conn)].status
    }

    /// Makes the socket of a connection accept no more bytes.
    pub(crate) fn block_writes(&self, conn: u64) {
        self.status(conn).block_writes();
        self.status(conn).set_last_activity(self.second());
    }

    /// Returns the harness's time for a socket status, whose own clock goes on while a loaded machine
    /// keeps the test waiting.
    fn second(&self) -> u32 {
        self.now.as_secs() as u32
    }

    /// Handles one command of a connection.
    pub(crate) fn command(&mut self, conn: u64, actions: Vec<Action>) {
        self.commands(conn, vec![actions]);
    }

    /// Handles several commands of a connection in one event.
    pub(crate) fn commands(&mut self, conn: u64, commands: Vec<Vec<Action>>) {
        let mut list = Commands::default();
        commands
            .into_iter()
            .for_each(|command| list.push(Command::new(command)));
        self.handle(Event::Commands {
            conn: ConnectionId(conn),
            commands: list,
            reserved_bytes: 0,
        });
    }

    /// Returns the realm's log since the last time.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// The content of an outbox.
pub(crate) struct Drained {
    pub(crate) texts: Vec<String>,
    pub(crate) directives: Directives,
}

/// Takes everything out of an outbox, as a connection with a fast client would.
pub(crate) fn drain(receiver: &OutboxReceiver) -> Drained {
    let mut frames = VecDeque::new();
    let directives = receiver.take(&mut TaskContext::from_waker(Waker::noop()), &mut frames);
    let bytes = frames.iter().map(Frame::len).sum();
    let messages = frames.iter().map(Frame::messages).sum();
    let _ = receiver.release(messages, bytes);
    let texts = frames.iter().flat_map(Frame::as_texts);
    Drained {
        texts: texts.collect(),
        directives,
    }
}
