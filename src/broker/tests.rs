//! The broker keeps its promises (see [`crate::realm`]).

use super::*;
use crate::base::frame::Frame;
use crate::broker::outbox::{Orders, Outgoing, outbox};
use crate::realm::{Hello, Method, Receipt, Refusal, Request};
use futures::channel::oneshot;
use std::sync::Mutex;
use std::task::Context as TaskContext;

/// What a test's realm is told to do.
pub(super) enum Order {
    Send(u64, String),
    /// To everybody up to connection 100, in one frame.
    Spread(String),
    Close(u64, Close),
    /// And say `ok` or `failed` to connection 1.
    Deliver(u64, String),
    /// With a patience of 5 s.
    Probe(u64),
}

/// Does what it is told, and writes down what happens to it.
#[derive(Default)]
pub(super) struct Puppet {
    diary: Arc<Mutex<Vec<String>>>,
    refuses: bool,
    /// What it says to everybody who comes in.
    at_open: Vec<String>,
    /// What it does when somebody is gone.
    at_close: Vec<(u64, u64)>,
    /// What it keeps of connection 1.
    kept: usize,
}

impl Puppet {
    /// One that keeps so many bytes of connection 1.
    pub(super) fn that_keeps(bytes: usize) -> Self {
        Self {
            kept: bytes,
            ..Self::default()
        }
    }

    fn note(&self, what: String) {
        self.diary.lock().unwrap().push(what);
    }
}

impl AnyRealm for Puppet {
    fn request(&mut self, _: &mut Context, request: &Request) -> Reply {
        self.note(format!("request {}", request.hello.path));
        Reply::Ok {
            content_type: "text/plain",
            body: "x".repeat(request.hello.query.len()).into(),
        }
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, _: Hello) -> Result<(), Refusal> {
        self.note(format!("open {}", who.0));
        for text in &self.at_open {
            cx.send(who, Frame::text(text.clone()));
        }
        if self.refuses {
            Err(Refusal {
                status: 429,
                text: "no",
            })
        } else {
            Ok(())
        }
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: AnyCommand) {
        self.note(format!("command {}", who.0));
        for order in *command.downcast::<Vec<Order>>().unwrap() {
            match order {
                Order::Send(to, text) => cx.send(ConnectionId(to), Frame::text(text)),
                Order::Spread(text) => {
                    let frame = Frame::text(text);
                    (1..=100).for_each(|to| cx.send(ConnectionId(to), frame.clone()));
                }
                Order::Close(who, why) => cx.close(ConnectionId(who), why),
                Order::Deliver(to, text) => {
                    let receipt = Receipt {
                        to: ConnectionId(1),
                        delivered: Some(Frame::text("ok")),
                        failed: Some(Frame::text("failed")),
                    };
                    cx.deliver(ConnectionId(to), Frame::text(text), receipt);
                }
                Order::Probe(who) => cx.probe(ConnectionId(who), Duration::from_secs(5)),
            }
        }
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending) {
        self.note(format!("close {} {}", who.0, how.name()));
        for &(gone, other) in &self.at_close {
            if gone == who.0 {
                cx.close(ConnectionId(other), Close::PeerLeft);
            }
        }
    }

    fn probed(&mut self, _: &mut Context, who: ConnectionId, alive: bool) {
        self.note(format!("probed {} {alive}", who.0));
    }

    fn kept(&self) -> usize {
        self.kept
    }

    fn kept_of(&self, who: ConnectionId) -> usize {
        if who.0 == 1 { self.kept } else { 0 }
    }

    fn tick(&mut self, _: &mut Context) {
        self.note("tick".to_owned());
    }

    fn stop(&mut self, cx: &mut Context) {
        self.note("stop".to_owned());
        cx.send(ConnectionId(1), Frame::text("last words"));
        cx.close(ConnectionId(3), Close::PeerLeft);
    }
}

/// A broker with one puppet, and the connections' ends of the outboxes.
pub(super) struct Stage {
    pub(super) broker: Broker,
    diary: Arc<Mutex<Vec<String>>>,
    now: Duration,
}

impl Stage {
    pub(super) fn new(when_full: WhenFull) -> Self {
        Self::with(when_full, Puppet::default())
    }

    pub(super) fn with(when_full: WhenFull, puppet: Puppet) -> Self {
        Self::within(0, when_full, puppet)
    }

    /// With a budget of so many bytes.
    pub(super) fn within(budget: usize, when_full: WhenFull, puppet: Puppet) -> Self {
        let diary = Arc::clone(&puppet.diary);
        let realm = Box::new(puppet);
        let patience = Patience {
            ping_after: Duration::from_secs(15),
            pong_timeout: Duration::from_secs(5),
            ping_every: Duration::ZERO,
        };
        let broker = Broker::new(
            vec![Host {
                realm,
                when_full,
                patience,
            }],
            Budget::new(budget),
            Instant::now(),
        );
        Self {
            broker,
            diary,
            now: Duration::ZERO,
        }
    }

    /// How much work that was.
    pub(super) fn tell(&mut self, event: Event) -> usize {
        let moment = self.moment();
        self.broker.handle(moment, event)
    }

    /// A batch is over; how much work there was besides.
    pub(super) fn make_room(&mut self) -> usize {
        let moment = self.moment();
        self.broker.make_room(moment)
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now,
            wall: SystemTime::UNIX_EPOCH,
        }
    }

    /// Somebody comes in, with an outbox of 120 bytes.
    pub(super) fn open(&mut self, who: u64) -> (Outgoing, Option<Result<(), Refusal>>) {
        let (outbox, outgoing) = outbox(120, &self.broker.budget);
        let (answer, mut answered) = oneshot::channel();
        let hello = Hello {
            path: String::new(),
            query: String::new(),
            address: [127, 0, 0, 1].into(),
        };
        let pulse = Arc::new(Pulse::new(self.broker.started, &self.broker.budget));
        let who = ConnectionId(who);
        let opening = Opening {
            listener: 0,
            who,
            hello,
            outbox,
            pulse,
            answer,
        };
        self.tell(Event::Open(Box::new(opening)));
        (outgoing, answered.try_recv().unwrap_or_default())
    }

    /// Somebody's socket takes nothing any more.
    fn block(&self, who: u64) {
        self.broker.connections[&ConnectionId(who)].pulse.block();
    }

    pub(super) fn command(&mut self, who: u64, orders: Vec<Order>) {
        self.tell(Event::Commands {
            who: ConnectionId(who),
            commands: vec![Box::new(orders)],
            charged: 0,
        });
    }

    pub(super) fn diary(&self) -> Vec<String> {
        std::mem::take(&mut self.diary.lock().unwrap())
    }
}

pub(super) fn send(to: u64, text: &str) -> Order {
    Order::Send(to, text.to_owned())
}

pub(super) fn take(outgoing: &Outgoing) -> (Vec<String>, Orders) {
    let mut frames = VecDeque::new();
    let orders = outgoing.take(&mut TaskContext::from_waker(Waker::noop()), &mut frames);
    let octets = frames.iter().map(Frame::len).sum();
    let _ = outgoing.written(frames.len(), octets);
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
    let mut stage = Stage::new(WhenFull::CloseReader);
    let _ends: Vec<_> = (1..=4).map(|who| stage.open(who)).collect();
    stage.diary();
    stage.tell(Event::Ended(ConnectionId(1), Ending::Lost));
    assert_eq!(stage.diary(), ["close 1 lost"]);
    stage.command(
        2,
        vec![
            Order::Close(2, Close::Idle),
            Order::Close(2, Close::PeerLeft),
        ],
    );
    assert_eq!(stage.diary(), ["command 2", "close 2 timed out"]);
    stage.tell(Event::Ended(ConnectionId(2), Ending::Closed(Close::Idle)));
    assert_eq!(stage.diary(), [""; 0]);
    stage.block(4);
    stage.command(3, vec![send(4, &"x".repeat(60)), send(4, "one too many")]);
    assert_eq!(stage.diary(), ["command 3", "close 4 too slow"]);
    stage.tell(Event::Ended(ConnectionId(4), Ending::Lost));
    assert_eq!(stage.diary(), [""; 0]);
}

#[test]
fn a_refused_open_is_followed_by_none() {
    let puppet = Puppet {
        refuses: true,
        ..Puppet::default()
    };
    let mut stage = Stage::with(WhenFull::CloseReader, puppet);
    let (_, answer) = stage.open(1);
    assert_eq!(
        answer,
        Some(Err(Refusal {
            status: 429,
            text: "no"
        }))
    );
    stage.tell(Event::Ended(ConnectionId(1), Ending::Lost));
    assert_eq!(stage.diary(), ["open 1"]);
}

#[test]
fn effects_are_applied_in_order_and_before_the_next_command() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let (outgoing, _) = stage.open(1);
    let orders = [vec![send(1, "a"), send(1, "b")], vec![send(1, "c")]];
    let commands = orders
        .into_iter()
        .map(|orders| Box::new(orders) as AnyCommand)
        .collect();
    stage.tell(Event::Commands {
        who: ConnectionId(1),
        commands,
        charged: 0,
    });
    assert_eq!(take(&outgoing).0, ["a", "b", "c"]);
}

#[test]
fn what_a_command_does_holds_for_the_next_one_already() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let _outgoing = stage.open(1);
    let orders = [
        vec![Order::Close(1, Close::Idle)],
        vec![send(1, "too late")],
    ];
    let commands = orders
        .into_iter()
        .map(|orders| Box::new(orders) as AnyCommand)
        .collect();
    stage.tell(Event::Commands {
        who: ConnectionId(1),
        commands,
        charged: 0,
    });
    assert_eq!(stage.diary(), ["open 1", "command 1", "close 1 timed out"]);
}

#[test]
fn nothing_is_sent_to_who_is_closed_and_nothing_is_heard_of_it() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((closed, _), _other) = (stage.open(1), stage.open(2));
    stage.diary();
    stage.command(
        2,
        vec![
            send(1, "before"),
            Order::Close(1, Close::Idle),
            send(1, "after"),
        ],
    );
    let (frames, orders) = take(&closed);
    assert_eq!(frames, ["before"]);
    assert_eq!(orders.end, Some(End::Close(Close::Idle)));
    stage.command(1, vec![send(2, "too late")]);
    assert_eq!(stage.diary(), ["command 2", "close 1 timed out"]);
}

#[test]
fn a_realm_hears_of_ends_that_it_causes_only_after_it_is_done() {
    // The end of 1 ends 2, whose end ends 3.
    let puppet = Puppet {
        at_close: vec![(1, 2), (2, 3)],
        ..Puppet::default()
    };
    let mut stage = Stage::with(WhenFull::CloseReader, puppet);
    let _ends: Vec<_> = (1..=3).map(|who| stage.open(who)).collect();
    stage.diary();
    stage.tell(Event::Ended(ConnectionId(1), Ending::Lost));
    assert_eq!(
        stage.diary(),
        ["close 1 lost", "close 2 peer left", "close 3 peer left"]
    );
}

#[test]
fn who_comes_in_gets_all_that_the_realm_has_for_it() {
    for when_full in [WhenFull::CloseReader, WhenFull::HoldSender] {
        let puppet = Puppet {
            at_open: vec!["x".repeat(60); 100],
            ..Puppet::default()
        };
        let mut stage = Stage::with(when_full, puppet);
        let (outgoing, _) = stage.open(1);
        let (frames, orders) = take(&outgoing);
        assert_eq!((frames.len(), orders.end), (100, None));
    }
}

#[test]
fn nobody_is_closed_for_what_it_found_or_for_a_large_message() {
    let puppet = Puppet {
        at_open: vec!["x".repeat(60); 100],
        ..Puppet::default()
    };
    let mut stage = Stage::with(WhenFull::CloseReader, puppet);
    let ((newcomer, _), _sender) = (stage.open(1), stage.open(2));
    stage.block(1);
    stage.command(2, vec![send(1, "a word of the server")]);
    assert_eq!(take(&newcomer).1.end, None);
    // And on, with a message larger than the whole outbox.
    let large = Order::Deliver(1, "x".repeat(1000));
    stage.command(2, vec![large, send(1, "a word of the server")]);
    assert_eq!(take(&newcomer).1.end, None);
}

#[test]
fn whoever_reads_too_slowly_is_closed_and_nobody_else() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((slow, _), (fast, _)) = (stage.open(1), stage.open(2));
    stage.block(1);
    for _ in 0..3 {
        stage.command(2, vec![send(1, &"x".repeat(60)), send(2, "x")]);
        take(&fast);
    }
    assert_eq!(take(&slow).1.end, Some(End::Close(Close::TooSlow)));
    assert_eq!(take(&fast).1, Orders::default());
}

#[test]
fn nobody_is_called_slow_before_it_had_its_turn_and_the_sender_waits_for_that() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((reader, _), (sender, _)) = (stage.open(1), stage.open(2));
    stage.command(2, vec![send(1, &"x".repeat(60)), send(1, "one too many")]);
    assert!(take(&sender).1.hold);
    let (frames, orders) = take(&reader);
    assert_eq!((frames.len(), orders.report, orders.end), (2, true, None));
    stage.tell(Event::Room(ConnectionId(1)));
    assert!(!take(&sender).1.hold);
}

#[test]
fn a_sender_is_held_until_the_last_of_its_readers_had_its_turn() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let (_first, _second, (sender, _)) = (stage.open(1), stage.open(2), stage.open(3));
    let text = "x".repeat(60);
    let orders = [1, 2, 1, 2].map(|reader| send(reader, &text));
    stage.command(3, orders.into());
    stage.tell(Event::Room(ConnectionId(1)));
    assert!(take(&sender).1.hold);
    stage.tell(Event::Room(ConnectionId(2)));
    assert!(!take(&sender).1.hold);
}

#[test]
fn a_turn_is_not_waited_for_without_end() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((reader, _), _sender) = (stage.open(1), stage.open(2));
    for _ in 0..10 {
        stage.command(2, vec![send(1, &"x".repeat(60))]);
    }
    let end = reader
        .take(
            &mut TaskContext::from_waker(Waker::noop()),
            &mut VecDeque::new(),
        )
        .end;
    assert_eq!(end, Some(End::Close(Close::TooSlow)));
}

#[test]
fn a_sender_is_held_until_there_is_room() {
    let mut stage = Stage::new(WhenFull::HoldSender);
    let ((sender, _), (reader, _)) = (stage.open(1), stage.open(2));
    stage.command(1, vec![send(2, &"x".repeat(60))]);
    assert!(!take(&sender).1.hold);
    stage.command(1, vec![send(2, "one too many, but not lost")]);
    assert!(take(&sender).1.hold);
    assert_eq!(take(&reader).0.len(), 2);
    stage.tell(Event::Room(ConnectionId(2)));
    assert!(!take(&sender).1.hold);
}

#[test]
fn a_sender_is_released_when_the_reader_goes() {
    for how in ["by itself", "by the realm"] {
        let mut stage = Stage::new(WhenFull::HoldSender);
        let ((sender, _), _reader, _third) = (stage.open(1), stage.open(2), stage.open(3));
        stage.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
        assert!(take(&sender).1.hold);
        if how == "by itself" {
            stage.tell(Event::Ended(ConnectionId(2), Ending::Lost));
        } else {
            stage.command(3, vec![Order::Close(2, Close::PeerLeft)]);
        }
        assert!(!take(&sender).1.hold, "{how}");
    }
}

#[test]
fn who_is_silent_is_sent_a_ping_and_then_dropped() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let (silent, _) = stage.open(1);
    stage.diary();
    stage.now = Duration::from_secs(15);
    stage.tell(Event::Tick);
    assert_eq!(take(&silent).1.ping, Some(Ping::Silence));
    stage.now = Duration::from_secs(19);
    stage.tell(Event::Tick);
    assert_eq!(take(&silent).1, Orders::default());
    stage.now = Duration::from_secs(20);
    stage.tell(Event::Tick);
    assert_eq!(take(&silent).1.end, Some(End::Drop));
    assert_eq!(stage.diary(), ["tick", "tick", "close 1 silent", "tick"]);
}

#[test]
fn who_is_held_may_be_silent() {
    let mut stage = Stage::new(WhenFull::HoldSender);
    let ((held, _), _reader) = (stage.open(1), stage.open(2));
    stage.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
    // At 20 the reader, who is silent, too, will be dropped.
    for second in [15, 19] {
        stage.now = Duration::from_secs(second);
        stage.tell(Event::Tick);
        let orders = take(&held).1;
        assert!(
            orders.ping.is_none() && orders.end != Some(End::Drop),
            "second {second}"
        );
    }
}

#[test]
fn who_is_held_and_takes_nothing_of_what_is_sent_is_dropped() {
    let mut stage = Stage::new(WhenFull::HoldSender);
    let ((held, _), _reader) = (stage.open(1), stage.open(2));
    stage.command(1, vec![send(2, &"x".repeat(60)), send(2, "one too many")]);
    stage.block(1);
    for second in [15, 20] {
        stage.now = Duration::from_secs(second);
        stage.tell(Event::Tick);
    }
    assert_eq!(take(&held).1.end, Some(End::Drop));
}

#[test]
fn a_stop_says_goodbye_to_everybody_and_lets_nobody_in() {
    let puppet = Puppet {
        at_close: vec![(1, 2)],
        ..Puppet::default()
    };
    let mut stage = Stage::with(WhenFull::CloseReader, puppet);
    let ((one, _), (other, _)) = (stage.open(1), stage.open(2));
    stage.tell(Event::Stop);
    for outgoing in [&one, &other] {
        assert_eq!(take(outgoing).1.end, Some(End::Close(Close::ShuttingDown)));
    }
    stage.tell(Event::Ended(
        ConnectionId(1),
        Ending::Closed(Close::ShuttingDown),
    ));
    assert_eq!(stage.diary(), ["open 1", "open 2", "stop"]);
    assert_eq!(stage.open(3).1, None);
}

#[test]
fn at_a_stop_a_realm_has_the_last_word() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((one, _), _two, (three, _)) = (stage.open(1), stage.open(2), stage.open(3));
    stage.diary();
    stage.tell(Event::Stop);
    let (frames, orders) = take(&one);
    assert_eq!(frames, ["last words"]);
    assert_eq!(orders.end, Some(End::Close(Close::ShuttingDown)));
    assert_eq!(take(&three).1.end, Some(End::Close(Close::PeerLeft)));
    stage.tell(Event::Tick);
    assert_eq!(stage.diary(), ["stop"]);
}

#[test]
fn a_sender_is_told_whether_its_frame_is_in_the_outbox() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((sender, _), (reader, _)) = (stage.open(1), stage.open(2));
    stage.command(1, vec![Order::Deliver(2, "x".repeat(60))]);
    assert_eq!(take(&sender).0, ["ok"]);
    stage.command(1, vec![Order::Deliver(7, "to nobody".to_owned())]);
    assert_eq!(take(&sender).0, ["failed"]);
    let orders = vec![
        Order::Close(2, Close::Idle),
        Order::Deliver(2, "late".to_owned()),
    ];
    stage.command(1, orders);
    assert_eq!(take(&sender).0, ["failed"]);
    assert_eq!(take(&reader).0.len(), 1);
}

#[test]
fn nobody_is_closed_for_what_single_others_send() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((sender, _), (reader, _)) = (stage.open(1), stage.open(2));
    stage.block(2);
    for answer in ["ok", "failed", "failed"] {
        stage.command(1, vec![Order::Deliver(2, "x".repeat(20))]);
        assert_eq!(take(&sender).0, [answer]);
    }
    // They fill half of it; the rest is for what the realm sends.
    stage.command(1, vec![send(2, &"y".repeat(20))]);
    let (frames, orders) = take(&reader);
    assert_eq!((frames.len(), orders.end), (2, None));
}

#[test]
fn what_is_delivered_to_who_had_no_turn_waits_for_it_and_its_sender_with_it() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((sender, _), (reader, _)) = (stage.open(1), stage.open(2));
    let deliver = || vec![Order::Deliver(2, "x".repeat(60))];
    stage.command(1, deliver());
    assert!(!take(&sender).1.hold);
    stage.command(1, deliver());
    let (answers, orders) = take(&sender);
    assert_eq!((answers, orders.hold), (vec!["ok".to_owned()], true));
    assert_eq!(take(&reader).0.len(), 2);
}

#[test]
fn what_a_realm_says_by_itself_to_who_had_no_turn_closes_nobody() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let (reader, _) = stage.open(1);
    stage.command(1, vec![send(1, &"x".repeat(60))]);
    // Last words have no sender who could wait.
    stage.tell(Event::Stop);
    let (frames, orders) = take(&reader);
    assert_eq!(frames.len(), 2);
    assert_eq!(orders.end, Some(End::Close(Close::ShuttingDown)));
}

#[test]
fn who_is_asked_for_a_sign_of_life_and_gives_one_is_alive() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let ((asked, _), _other) = (stage.open(1), stage.open(2));
    stage.command(2, vec![Order::Probe(1)]);
    assert_eq!(take(&asked).1.ping, Some(Ping::Probe));
    stage.command(2, vec![Order::Probe(1)]);
    assert_eq!(take(&asked).1.ping, None, "one question at a time");
    stage.diary();
    for _ in 0..2 {
        stage.tell(Event::Alive(ConnectionId(1)));
    }
    assert_eq!(stage.diary(), ["probed 1 true"]);
}

#[test]
fn who_gives_none_in_time_is_not() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let _both = (stage.open(1), stage.open(2));
    stage.now = Duration::from_millis(2500);
    stage.command(2, vec![Order::Probe(1)]);
    stage.diary();
    stage.now = Duration::from_millis(7499);
    stage.tell(Event::Tick);
    assert_eq!(stage.diary(), ["tick"]);
    stage.now = Duration::from_millis(7500);
    stage.tell(Event::Tick);
    assert_eq!(stage.diary(), ["probed 1 false", "tick"]);
    stage.tell(Event::Alive(ConnectionId(1)));
    assert_eq!(stage.diary(), [""; 0]);
}

#[test]
fn a_sign_of_life_that_is_no_message_counts_unless_it_may_be_older_than_the_question() {
    for (heard, alive) in [(1, false), (2, false), (3, true)] {
        let mut stage = Stage::new(WhenFull::CloseReader);
        let _both = (stage.open(1), stage.open(2));
        stage.now = Duration::from_millis(2500);
        stage.command(2, vec![Order::Probe(1)]);
        stage.broker.connections[&ConnectionId(1)]
            .pulse
            .hear_at(heard);
        stage.diary();
        stage.now = Duration::from_millis(7500);
        stage.tell(Event::Tick);
        assert_eq!(
            stage.diary(),
            [format!("probed 1 {alive}"), "tick".to_owned()]
        );
    }
}

#[test]
fn of_who_is_gone_or_closed_before_it_answers_nothing_is_said_but_that() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let _all: Vec<_> = (1..=3).map(|who| stage.open(who)).collect();
    stage.command(3, vec![Order::Probe(1), Order::Probe(2), Order::Probe(9)]);
    stage.diary();
    stage.tell(Event::Ended(ConnectionId(1), Ending::Lost));
    stage.command(3, vec![Order::Close(2, Close::Idle)]);
    stage.tell(Event::Alive(ConnectionId(2)));
    stage.now = Duration::from_secs(5);
    stage.tell(Event::Tick);
    assert_eq!(
        stage.diary(),
        ["close 1 lost", "command 3", "close 2 timed out", "tick"]
    );
}

#[test]
fn round_trips_are_measured_from_the_first_moment_on_and_as_often_as_configured() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    stage.broker.hosts[0].patience.ping_every = Duration::from_secs(5);
    let (outgoing, _) = stage.open(1);
    let mut pings = vec![(0, take(&outgoing).1.ping)];
    for second in 1..=11 {
        stage.now = Duration::from_secs(second);
        stage.tell(Event::Tick);
        pings.push((second, take(&outgoing).1.ping));
    }
    pings.retain(|(_, ping)| *ping == Some(Ping::RoundTrip));
    assert_eq!(
        pings.iter().map(|ping| ping.0).collect::<Vec<_>>(),
        [0, 5, 10]
    );
}

#[test]
fn a_request_is_answered_by_its_realm() {
    let mut stage = Stage::new(WhenFull::CloseReader);
    let (answer, mut answered) = oneshot::channel();
    let hello = Hello {
        path: "/path".to_owned(),
        query: "x".repeat(5 * OCTETS_PER_UNIT),
        address: [127, 0, 0, 1].into(),
    };
    let question = Question {
        listener: 0,
        request: Request {
            hello,
            method: Method::Get,
            body: Vec::new(),
        },
        answer,
    };
    // Whoever puts a long answer together has worked for it.
    assert_eq!(stage.tell(Event::Request(Box::new(question))), 1 + 5);
    assert_eq!(stage.diary(), ["request /path"]);
    let answer = answered.try_recv().unwrap();
    assert!(matches!(answer, Some(Reply::Ok { body, .. }) if body.len() == 5 * OCTETS_PER_UNIT));
}
