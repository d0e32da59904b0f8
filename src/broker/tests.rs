//! The broker keeps its promises (see [`crate::realm`]).

use super::*;
use crate::base::frame::Frame;
use crate::broker::outbox::{Directives, OutboxReceiver, outbox};
use crate::realm::{ConnectRequest, Method, Receipt, Rejection, Request};
use futures::channel::oneshot;
use std::sync::Mutex;
use std::task::Context as TaskContext;

/// What a test's realm is told to do.
pub(super) enum Order {
    Send(u64, String),
    /// To everybody up to connection 100, in one frame.
    Spread(String),
    Close(u64, CloseReason),
    /// And say `ok` or `failed` to connection 1.
    Deliver(u64, String),
    /// With a patience of 5 s.
    Probe(u64),
}

/// Does what it is told, and writes down what happens to it.
#[derive(Default)]
pub(super) struct MockRealm {
    log: Arc<Mutex<Vec<String>>>,
    refuses: bool,
    /// What it says to everybody who comes in.
    at_open: Vec<String>,
    /// What it does when somebody is gone.
    at_close: Vec<(u64, u64)>,
    /// What it keeps of connection 1.
    stored_bytes: usize,
}

impl MockRealm {
    /// One that keeps so many bytes of connection 1.
    pub(super) fn that_keeps(bytes: usize) -> Self {
        Self {
            stored_bytes: bytes,
            ..Self::default()
        }
    }

    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }
}

impl AnyRealm for MockRealm {
    fn request(&mut self, _: &mut Context, request: &Request) -> HttpReply {
        self.note(format!("request {}", request.hello.path));
        HttpReply::Ok {
            content_type: "text/plain",
            body: "x".repeat(request.hello.query.len()).into(),
        }
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        _: ConnectRequest,
    ) -> Result<(), Rejection> {
        self.note(format!("open {}", conn.0));
        for text in &self.at_open {
            cx.send(conn, Frame::text(text.clone()));
        }
        if self.refuses {
            Err(Rejection {
                status: 429,
                text: "no",
            })
        } else {
            Ok(())
        }
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: AnyCommand) {
        self.note(format!("command {}", conn.0));
        for order in *command.downcast::<Vec<Order>>().unwrap() {
            match order {
                Order::Send(to, text) => cx.send(ConnectionId(to), Frame::text(text)),
                Order::Spread(text) => {
                    let frame = Frame::text(text);
                    (1..=100).for_each(|to| cx.send(ConnectionId(to), frame.clone()));
                }
                Order::Close(conn, why) => cx.close(ConnectionId(conn), why),
                Order::Deliver(to, text) => {
                    let receipt = Receipt {
                        to: ConnectionId(1),
                        delivered: Some(Frame::text("ok")),
                        failed: Some(Frame::text("failed")),
                    };
                    cx.deliver(ConnectionId(to), Frame::text(text), receipt);
                }
                Order::Probe(conn) => cx.probe(ConnectionId(conn), Duration::from_secs(5)),
            }
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason) {
        self.note(format!("close {} {}", conn.0, how.name()));
        for &(gone, other) in &self.at_close {
            if gone == conn.0 {
                cx.close(ConnectionId(other), CloseReason::PeerLeft);
            }
        }
    }

    fn probe_result(&mut self, _: &mut Context, conn: ConnectionId, alive: bool) {
        self.note(format!("probed {} {alive}", conn.0));
    }

    fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        if conn.0 == 1 { self.stored_bytes } else { 0 }
    }

    fn tick(&mut self, _: &mut Context) {
        self.note("tick".to_owned());
    }

    fn stop(&mut self, cx: &mut Context) {
        self.note("stop".to_owned());
        cx.send(ConnectionId(1), Frame::text("last words"));
        cx.close(ConnectionId(3), CloseReason::PeerLeft);
    }
}

/// A broker with one puppet, and the connections' ends of the outboxes.
pub(super) struct BrokerHarness {
    pub(super) broker: Broker,
    log: Arc<Mutex<Vec<String>>>,
    now: Duration,
}

impl BrokerHarness {
    pub(super) fn new(slow_consumer_policy: SlowConsumerPolicy) -> Self {
        Self::with(slow_consumer_policy, MockRealm::default())
    }

    pub(super) fn with(slow_consumer_policy: SlowConsumerPolicy, realm: MockRealm) -> Self {
        Self::within(0, slow_consumer_policy, realm)
    }

    /// With a budget of so many bytes.
    pub(super) fn within(
        budget: usize,
        slow_consumer_policy: SlowConsumerPolicy,
        realm: MockRealm,
    ) -> Self {
        let log = Arc::clone(&realm.log);
        let realm = Box::new(realm);
        let keepalive = KeepaliveConfig {
            ping_after: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(5),
            ping_every: Duration::ZERO,
        };
        let broker = Broker::new(
            vec![RealmSlot {
                realm,
                slow_consumer_policy,
                keepalive,
            }],
            MemoryBudget::new(budget),
            Instant::now(),
        );
        Self {
            broker,
            log,
            now: Duration::ZERO,
        }
    }

    /// How much work that was.
    pub(super) fn tell(&mut self, event: Event) -> usize {
        let now = self.now();
        self.broker.handle(now, event)
    }

    /// A batch is over; how much work there was besides.
    pub(super) fn evict_largest(&mut self) -> usize {
        let now = self.now();
        self.broker.evict_largest(now)
    }

    fn now(&self) -> Now {
        Now {
            monotonic: self.now,
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    /// Somebody comes in, with an outbox of 120 bytes.
    pub(super) fn open(&mut self, conn: u64) -> (OutboxReceiver, Option<Result<(), Rejection>>) {
        let (outbox, outbox_receiver) = outbox(120, &self.broker.budget);
        let (answer, mut answered) = oneshot::channel();
        let hello = ConnectRequest {
            path: String::new(),
            query: String::new(),
            address: [127, 0, 0, 1].into(),
        };
        let status = Arc::new(SocketStatus::new(self.broker.started, &self.broker.budget));
        let conn = ConnectionId(conn);
        let opening = OpenEvent {
            listener: 0,
            conn,
            hello,
            outbox,
            status,
            answer,
        };
        self.tell(Event::Open(Box::new(opening)));
        (outbox_receiver, answered.try_recv().unwrap_or_default())
    }

    /// Somebody's socket takes nothing any more.
    fn block(&self, conn: u64) {
        self.broker.connections[&ConnectionId(conn)].status.block();
    }

    pub(super) fn command(&mut self, conn: u64, orders: Vec<Order>) {
        self.tell(Event::Commands {
            conn: ConnectionId(conn),
            commands: vec![Box::new(orders)],
            charged: 0,
        });
    }

    pub(super) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

pub(super) fn send(to: u64, text: &str) -> Order {
    Order::Send(to, text.to_owned())
}

pub(super) fn take(outbox_receiver: &OutboxReceiver) -> (Vec<String>, Directives) {
    let mut frames = VecDeque::new();
    let orders = outbox_receiver.take(&mut TaskContext::from_waker(Waker::noop()), &mut frames);
    let bytes = frames.iter().map(Frame::len).sum();
    let _ = outbox_receiver.written(frames.len(), bytes);
    (
        frames
            .iter()
            .map(|frame| frame.as_text().unwrap())
            .collect(),
        orders,
    )
}

#[test]
fn each_open_is_followed_by_one_close_however_it_ends() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let _ends: Vec<_> = (1..=4).map(|conn| harness.open(conn)).collect();
    harness.log();
    harness.tell(Event::Ended(ConnectionId(1), DisconnectReason::Lost));
    assert_eq!(harness.log(), ["close 1 lost"]);
    harness.command(
        2,
        vec![
            Order::Close(2, CloseReason::Idle),
            Order::Close(2, CloseReason::PeerLeft),
        ],
    );
    assert_eq!(harness.log(), ["command 2", "close 2 timed out"]);
    harness.tell(Event::Ended(
        ConnectionId(2),
        DisconnectReason::Closed(CloseReason::Idle),
    ));
    assert_eq!(harness.log(), [""; 0]);
    harness.block(4);
    harness.command(3, vec![send(4, &"x".repeat(60)), send(4, "one too many")]);
    assert_eq!(harness.log(), ["command 3", "close 4 too slow"]);
    harness.tell(Event::Ended(ConnectionId(4), DisconnectReason::Lost));
    assert_eq!(harness.log(), [""; 0]);
}

#[test]
fn a_refused_open_is_followed_by_none() {
    let realm = MockRealm {
        refuses: true,
        ..MockRealm::default()
    };
    let mut harness = BrokerHarness::with(SlowConsumerPolicy::Disconnect, realm);
    let (_, answer) = harness.open(1);
    assert_eq!(
        answer,
        Some(Err(Rejection {
            status: 429,
            text: "no"
        }))
    );
    harness.tell(Event::Ended(ConnectionId(1), DisconnectReason::Lost));
    assert_eq!(harness.log(), ["open 1"]);
}

#[test]
fn effects_are_applied_in_order_and_before_the_next_command() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (outbox_receiver, _) = harness.open(1);
    let orders = [vec![send(1, "a"), send(1, "b")], vec![send(1, "c")]];
    let commands = orders
        .into_iter()
        .map(|orders| Box::new(orders) as AnyCommand)
        .collect();
    harness.tell(Event::Commands {
        conn: ConnectionId(1),
        commands,
        charged: 0,
    });
    assert_eq!(take(&outbox_receiver).0, ["a", "b", "c"]);
}

#[test]
fn what_a_command_does_holds_for_the_next_one_already() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let _outgoing = harness.open(1);
    let orders = [
        vec![Order::Close(1, CloseReason::Idle)],
        vec![send(1, "too late")],
    ];
    let commands = orders
        .into_iter()
        .map(|orders| Box::new(orders) as AnyCommand)
        .collect();
    harness.tell(Event::Commands {
        conn: ConnectionId(1),
        commands,
        charged: 0,
    });
    assert_eq!(harness.log(), ["open 1", "command 1", "close 1 timed out"]);
}

#[test]
fn nothing_is_sent_to_who_is_closed_and_nothing_is_heard_of_it() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((closed, _), _other) = (harness.open(1), harness.open(2));
    harness.log();
    harness.command(
        2,
        vec![
            send(1, "before"),
            Order::Close(1, CloseReason::Idle),
            send(1, "after"),
        ],
    );
    let (frames, orders) = take(&closed);
    assert_eq!(frames, ["before"]);
    assert_eq!(orders.end, Some(CloseOrder::Graceful(CloseReason::Idle)));
    harness.command(1, vec![send(2, "too late")]);
    assert_eq!(harness.log(), ["command 2", "close 1 timed out"]);
}

#[test]
fn a_realm_hears_of_ends_that_it_causes_only_after_it_is_done() {
    // The end of 1 ends 2, whose end ends 3.
    let realm = MockRealm {
        at_close: vec![(1, 2), (2, 3)],
        ..MockRealm::default()
    };
    let mut harness = BrokerHarness::with(SlowConsumerPolicy::Disconnect, realm);
    let _ends: Vec<_> = (1..=3).map(|conn| harness.open(conn)).collect();
    harness.log();
    harness.tell(Event::Ended(ConnectionId(1), DisconnectReason::Lost));
    assert_eq!(
        harness.log(),
        ["close 1 lost", "close 2 peer left", "close 3 peer left"]
    );
}

#[test]
fn who_comes_in_gets_all_that_the_realm_has_for_it() {
    for slow_consumer_policy in [
        SlowConsumerPolicy::Disconnect,
        SlowConsumerPolicy::Backpressure,
    ] {
        let realm = MockRealm {
            at_open: vec!["x".repeat(60); 100],
            ..MockRealm::default()
        };
        let mut harness = BrokerHarness::with(slow_consumer_policy, realm);
        let (outbox_receiver, _) = harness.open(1);
        let (frames, orders) = take(&outbox_receiver);
        assert_eq!((frames.len(), orders.end), (100, None));
    }
}

#[test]
fn nobody_is_closed_for_what_it_found_or_for_a_large_message() {
    let realm = MockRealm {
        at_open: vec!["x".repeat(60); 100],
        ..MockRealm::default()
    };
    let mut harness = BrokerHarness::with(SlowConsumerPolicy::Disconnect, realm);
    let ((newcomer, _), _sender) = (harness.open(1), harness.open(2));
    harness.block(1);
    harness.command(2, vec![send(1, "a word of the server")]);
    assert_eq!(take(&newcomer).1.end, None);
    // And on, with a message larger than the whole outbox.
    let large = Order::Deliver(1, "x".repeat(1000));
    harness.command(2, vec![large, send(1, "a word of the server")]);
    assert_eq!(take(&newcomer).1.end, None);
}

#[test]
fn whoever_reads_too_slowly_is_closed_and_nobody_else() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((slow, _), (fast, _)) = (harness.open(1), harness.open(2));
    harness.block(1);
    for _ in 0..3 {
        harness.command(2, vec![send(1, &"x".repeat(60)), send(2, "x")]);
        take(&fast);
    }
    assert_eq!(
        take(&slow).1.end,
        Some(CloseOrder::Graceful(CloseReason::TooSlow))
    );
    assert_eq!(take(&fast).1, Directives::default());
}

#[test]
fn nobody_is_called_slow_before_it_had_its_turn_and_the_sender_waits_for_that() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((reader, _), (sender, _)) = (harness.open(1), harness.open(2));
    harness.command(2, vec![send(1, &"x".repeat(60)), send(1, "one too many")]);
    assert!(take(&sender).1.pause_reading);
    let (frames, orders) = take(&reader);
    assert_eq!((frames.len(), orders.notify, orders.end), (2, true, None));
    harness.tell(Event::OutboxDrained(ConnectionId(1)));
    assert!(!take(&sender).1.pause_reading);
}

#[test]
fn a_sender_is_held_until_the_last_of_its_readers_had_its_turn() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (_first, _second, (sender, _)) = (harness.open(1), harness.open(2), harness.open(3));
    let text = "x".repeat(60);
    let orders = [1, 2, 1, 2].map(|reader| send(reader, &text));
    harness.command(3, orders.into());
    harness.tell(Event::OutboxDrained(ConnectionId(1)));
    assert!(take(&sender).1.pause_reading);
    harness.tell(Event::OutboxDrained(ConnectionId(2)));
    assert!(!take(&sender).1.pause_reading);
}

#[test]
fn a_turn_is_not_waited_for_without_end() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((reader, _), _sender) = (harness.open(1), harness.open(2));
    for _ in 0..10 {
        harness.command(2, vec![send(1, &"x".repeat(60))]);
    }
    let end = reader
        .take(
            &mut TaskContext::from_waker(Waker::noop()),
            &mut VecDeque::new(),
        )
        .end;
    assert_eq!(end, Some(CloseOrder::Graceful(CloseReason::TooSlow)));
}

#[test]
fn a_sender_is_held_until_there_is_room() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Backpressure);
    let ((sender, _), (reader, _)) = (harness.open(1), harness.open(2));
    harness.command(1, vec![send(2, &"x".repeat(60))]);
    assert!(!take(&sender).1.pause_reading);
    harness.command(1, vec![send(2, "one too many, but not lost")]);
    assert!(take(&sender).1.pause_reading);
    assert_eq!(take(&reader).0.len(), 2);
    harness.tell(Event::OutboxDrained(ConnectionId(2)));
    assert!(!take(&sender).1.pause_reading);
}

#[test]
fn a_sender_is_released_when_the_reader_goes() {
    for how in ["by itself", "by the realm"] {
        let mut harness = BrokerHarness::new(SlowConsumerPolicy::Backpressure);
        let ((sender, _), _reader, _third) = (harness.open(1), harness.open(2), harness.open(3));
        harness.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
        assert!(take(&sender).1.pause_reading);
        if how == "by itself" {
            harness.tell(Event::Ended(ConnectionId(2), DisconnectReason::Lost));
        } else {
            harness.command(3, vec![Order::Close(2, CloseReason::PeerLeft)]);
        }
        assert!(!take(&sender).1.pause_reading, "{how}");
    }
}

#[test]
fn who_is_silent_is_sent_a_ping_and_then_dropped() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (silent, _) = harness.open(1);
    harness.log();
    harness.now = Duration::from_secs(15);
    harness.tell(Event::Tick);
    assert_eq!(take(&silent).1.ping, Some(Ping::Silence));
    harness.now = Duration::from_secs(19);
    harness.tell(Event::Tick);
    assert_eq!(take(&silent).1, Directives::default());
    harness.now = Duration::from_secs(20);
    harness.tell(Event::Tick);
    assert_eq!(take(&silent).1.end, Some(CloseOrder::Abort));
    assert_eq!(harness.log(), ["tick", "tick", "close 1 silent", "tick"]);
}

#[test]
fn who_is_held_may_be_silent() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Backpressure);
    let ((held, _), _reader) = (harness.open(1), harness.open(2));
    harness.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
    // At 20 the reader, who is silent, too, will be dropped.
    for second in [15, 19] {
        harness.now = Duration::from_secs(second);
        harness.tell(Event::Tick);
        let orders = take(&held).1;
        assert!(
            orders.ping.is_none() && orders.end != Some(CloseOrder::Abort),
            "second {second}"
        );
    }
}

#[test]
fn who_is_held_and_takes_nothing_of_what_is_sent_is_dropped() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Backpressure);
    let ((held, _), _reader) = (harness.open(1), harness.open(2));
    harness.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
    harness.block(1);
    for second in [15, 20] {
        harness.now = Duration::from_secs(second);
        harness.tell(Event::Tick);
    }
    assert_eq!(take(&held).1.end, Some(CloseOrder::Abort));
}

#[test]
fn a_stop_says_goodbye_to_everybody_and_lets_nobody_in() {
    let realm = MockRealm {
        at_close: vec![(1, 2)],
        ..MockRealm::default()
    };
    let mut harness = BrokerHarness::with(SlowConsumerPolicy::Disconnect, realm);
    let ((one, _), (other, _)) = (harness.open(1), harness.open(2));
    harness.tell(Event::Stop);
    for outbox_receiver in [&one, &other] {
        assert_eq!(
            take(outbox_receiver).1.end,
            Some(CloseOrder::Graceful(CloseReason::ShuttingDown))
        );
    }
    harness.tell(Event::Ended(
        ConnectionId(1),
        DisconnectReason::Closed(CloseReason::ShuttingDown),
    ));
    assert_eq!(harness.log(), ["open 1", "open 2", "stop"]);
    assert_eq!(harness.open(3).1, None);
}

#[test]
fn at_a_stop_a_realm_has_the_last_word() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((one, _), _two, (three, _)) = (harness.open(1), harness.open(2), harness.open(3));
    harness.log();
    harness.tell(Event::Stop);
    let (frames, orders) = take(&one);
    assert_eq!(frames, ["last words"]);
    assert_eq!(
        orders.end,
        Some(CloseOrder::Graceful(CloseReason::ShuttingDown))
    );
    assert_eq!(
        take(&three).1.end,
        Some(CloseOrder::Graceful(CloseReason::PeerLeft))
    );
    harness.tell(Event::Tick);
    assert_eq!(harness.log(), ["stop"]);
}

#[test]
fn a_sender_is_told_whether_its_frame_is_in_the_outbox() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((sender, _), (reader, _)) = (harness.open(1), harness.open(2));
    harness.command(1, vec![Order::Deliver(2, "x".repeat(60))]);
    assert_eq!(take(&sender).0, ["ok"]);
    harness.command(1, vec![Order::Deliver(7, "to nobody".to_owned())]);
    assert_eq!(take(&sender).0, ["failed"]);
    let orders = vec![
        Order::Close(2, CloseReason::Idle),
        Order::Deliver(2, "late".to_owned()),
    ];
    harness.command(1, orders);
    assert_eq!(take(&sender).0, ["failed"]);
    assert_eq!(take(&reader).0.len(), 1);
}

#[test]
fn nobody_is_closed_for_what_single_others_send() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((sender, _), (reader, _)) = (harness.open(1), harness.open(2));
    harness.block(2);
    for answer in ["ok", "failed", "failed"] {
        harness.command(1, vec![Order::Deliver(2, "x".repeat(20))]);
        assert_eq!(take(&sender).0, [answer]);
    }
    // They fill half of it; the rest is for what the realm sends.
    harness.command(1, vec![send(2, &"y".repeat(20))]);
    let (frames, orders) = take(&reader);
    assert_eq!((frames.len(), orders.end), (2, None));
}

#[test]
fn what_is_delivered_to_who_had_no_turn_waits_for_it_and_its_sender_with_it() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((sender, _), (reader, _)) = (harness.open(1), harness.open(2));
    let deliver = || vec![Order::Deliver(2, "x".repeat(60))];
    harness.command(1, deliver());
    assert!(!take(&sender).1.pause_reading);
    harness.command(1, deliver());
    let (answers, orders) = take(&sender);
    assert_eq!(
        (answers, orders.pause_reading),
        (vec!["ok".to_owned()], true)
    );
    assert_eq!(take(&reader).0.len(), 2);
}

#[test]
fn what_a_realm_says_by_itself_to_who_had_no_turn_closes_nobody() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (reader, _) = harness.open(1);
    harness.command(1, vec![send(1, &"x".repeat(60))]);
    // Last words have no sender who could wait.
    harness.tell(Event::Stop);
    let (frames, orders) = take(&reader);
    assert_eq!(frames.len(), 2);
    assert_eq!(
        orders.end,
        Some(CloseOrder::Graceful(CloseReason::ShuttingDown))
    );
}

#[test]
fn who_is_asked_for_a_sign_of_life_and_gives_one_is_alive() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let ((asked, _), _other) = (harness.open(1), harness.open(2));
    harness.command(2, vec![Order::Probe(1)]);
    assert_eq!(take(&asked).1.ping, Some(Ping::Probe));
    harness.command(2, vec![Order::Probe(1)]);
    assert_eq!(take(&asked).1.ping, None, "one question at a time");
    harness.log();
    for _ in 0..2 {
        harness.tell(Event::Alive(ConnectionId(1)));
    }
    assert_eq!(harness.log(), ["probed 1 true"]);
}

#[test]
fn who_gives_none_in_time_is_not() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let _both = (harness.open(1), harness.open(2));
    harness.now = Duration::from_millis(2500);
    harness.command(2, vec![Order::Probe(1)]);
    harness.log();
    harness.now = Duration::from_millis(7499);
    harness.tell(Event::Tick);
    assert_eq!(harness.log(), ["tick"]);
    harness.now = Duration::from_millis(7500);
    harness.tell(Event::Tick);
    assert_eq!(harness.log(), ["probed 1 false", "tick"]);
    harness.tell(Event::Alive(ConnectionId(1)));
    assert_eq!(harness.log(), [""; 0]);
}

#[test]
fn a_sign_of_life_that_is_no_message_counts_unless_it_may_be_older_than_the_question() {
    for (heard, alive) in [(1, false), (2, false), (3, true)] {
        let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
        let _both = (harness.open(1), harness.open(2));
        harness.now = Duration::from_millis(2500);
        harness.command(2, vec![Order::Probe(1)]);
        harness.broker.connections[&ConnectionId(1)]
            .status
            .set_last_activity(heard);
        harness.log();
        harness.now = Duration::from_millis(7500);
        harness.tell(Event::Tick);
        assert_eq!(
            harness.log(),
            [format!("probed 1 {alive}"), "tick".to_owned()]
        );
    }
}

#[test]
fn of_who_is_gone_or_closed_before_it_answers_nothing_is_said_but_that() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let _all: Vec<_> = (1..=3).map(|conn| harness.open(conn)).collect();
    harness.command(3, vec![Order::Probe(1), Order::Probe(2), Order::Probe(9)]);
    harness.log();
    harness.tell(Event::Ended(ConnectionId(1), DisconnectReason::Lost));
    harness.command(3, vec![Order::Close(2, CloseReason::Idle)]);
    harness.tell(Event::Alive(ConnectionId(2)));
    harness.now = Duration::from_secs(5);
    harness.tell(Event::Tick);
    assert_eq!(
        harness.log(),
        ["close 1 lost", "command 3", "close 2 timed out", "tick"]
    );
}

#[test]
fn round_trips_are_measured_from_the_first_moment_on_and_as_often_as_configured() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    harness.broker.slots[0].keepalive.ping_every = Duration::from_secs(5);
    let (outbox_receiver, _) = harness.open(1);
    let mut pings = vec![(0, take(&outbox_receiver).1.ping)];
    for second in 1..=11 {
        harness.now = Duration::from_secs(second);
        harness.tell(Event::Tick);
        pings.push((second, take(&outbox_receiver).1.ping));
    }
    pings.retain(|(_, ping)| *ping == Some(Ping::RoundTrip));
    assert_eq!(
        pings.iter().map(|ping| ping.0).collect::<Vec<_>>(),
        [0, 5, 10]
    );
}

#[test]
fn a_request_is_answered_by_its_realm() {
    let mut harness = BrokerHarness::new(SlowConsumerPolicy::Disconnect);
    let (answer, mut answered) = oneshot::channel();
    let hello = ConnectRequest {
        path: "/path".to_owned(),
        query: "x".repeat(5 * BYTES_PER_UNIT),
        address: [127, 0, 0, 1].into(),
    };
    let event = HttpEvent {
        listener: 0,
        request: Request {
            hello,
            method: Method::Get,
            body: Vec::new(),
        },
        answer,
    };
    // Whoever puts a long answer together has worked for it.
    assert_eq!(harness.tell(Event::Request(Box::new(event))), 1 + 5);
    assert_eq!(harness.log(), ["request /path"]);
    let answer = answered.try_recv().unwrap();
    assert!(matches!(answer, Some(HttpReply::Ok { body, .. }) if body.len() == 5 * BYTES_PER_UNIT));
}
