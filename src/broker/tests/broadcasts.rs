//! Broadcasts: what is joined, and that nobody can tell it from single frames.

use super::harness::{Action, BrokerHarness, MockRealm, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::broker::Event;
use crate::broker::outbox::OutboxReceiver;
use crate::realm::{Command, Commands, ConnectionId, SlowConsumerPolicy};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Waker};

/// The lists of the realm. The first two have no connection in common, the third has some with both.
const LISTS: [&[u64]; 3] = [&[1, 2, 3], &[4, 5], &[2, 3, 4]];

fn broadcast(text: &str) -> Action {
    Action::BroadcastTo(0, Vec::new(), text.to_owned())
}

fn harness() -> BrokerHarness {
    let realm = MockRealm::broadcasting(&LISTS, &[], false);
    BrokerHarness::with_realm(SlowConsumerPolicy::Disconnect, realm)
}

pub(super) fn command(conn: u64, actions: Vec<Action>) -> Event {
    Event::Commands {
        conn: ConnectionId(conn),
        commands: Commands::One(Command::new(actions)),
        reserved_bytes: 0,
    }
}

/// Takes the frames out of an outbox, each as its number of messages.
fn take_messages(receiver: &OutboxReceiver) -> Vec<usize> {
    let mut frames = VecDeque::new();
    receiver.take(&mut Context::from_waker(Waker::noop()), &mut frames);
    frames.iter().map(Frame::messages).collect()
}

#[test]
fn broadcasts_of_several_clients_to_the_same_list_are_one_frame_for_each_recipient() {
    let mut harness = harness();
    let recipients = [1, 2, 3].map(|conn| harness.connect(conn));
    for (conn, text) in [(1, "a"), (2, "b"), (3, "c")] {
        harness.handle_first(command(conn, vec![broadcast(text)]));
    }
    assert!(drain(&recipients[0]).texts.is_empty());
    harness.flush_broadcasts();
    assert_eq!(drain(&recipients[0]).texts, ["a", "b", "c"]);
    assert_eq!(take_messages(&recipients[1]), [3]);
}

#[test]
fn another_frame_for_a_recipient_comes_after_the_broadcasts_before_it() {
    let mut harness = harness();
    let recipients = [1, 2, 3].map(|conn| harness.connect(conn));
    let other = Action::BroadcastTo(2, Vec::new(), "c".to_owned());
    let actions = vec![broadcast("a"), send(1, "b"), broadcast("b"), other];
    harness.handle_first(command(9, actions.clone()));
    assert!(drain(&recipients[0]).texts.is_empty(), "there is no sender");
    harness.handle(command(1, actions));
    assert_eq!(drain(&recipients[0]).texts, ["a", "b", "b"]);
    assert_eq!(drain(&recipients[1]).texts, ["a", "b", "c"]);
}

#[test]
fn a_broadcast_does_not_wait_for_what_is_no_message() {
    let mut harness = harness();
    let recipient = harness.connect(1);
    harness.handle_first(command(1, vec![broadcast("a")]));
    harness.handle_first(Event::Tick);
    assert_eq!(drain(&recipient).texts, ["a"]);
}

#[test]
fn joined_frames_are_bounded_and_a_large_one_is_not_copied() {
    let mut harness = harness();
    harness.outbox_limit = 1 << 20;
    let recipient = harness.connect(1);
    let sizes = [10, 20_000, 20_000, 20_000, 20_000, 70_000, 10, 10];
    let texts = sizes.map(|size| broadcast(&"x".repeat(size)));
    harness.handle(command(1, texts.into()));
    assert_eq!(take_messages(&recipient), [4, 1, 1, 2]);
}

#[test]
fn a_recipient_that_is_excepted_gets_the_others() {
    let mut harness = harness();
    let recipients = [1, 2, 3].map(|conn| harness.connect(conn));
    let but_for = |except: &[u64], text: &str| Action::BroadcastTo(0, except.to_vec(), text.into());
    let actions = vec![broadcast("a"), but_for(&[2], "b"), but_for(&[3, 2], "c")];
    harness.handle(command(1, actions));
    let texts = recipients.each_ref().map(|receiver| drain(receiver).texts);
    assert_eq!(
        texts.each_ref().map(|texts| texts.concat()),
        ["abc", "a", "ab"]
    );
}

#[test]
fn a_broadcast_is_as_much_work_as_a_frame_for_each_recipient() {
    let lists: Vec<u64> = (1..=2048).collect();
    for sends_singly in [false, true] {
        let realm = MockRealm::broadcasting(&[&lists], &[], sends_singly);
        let mut harness = BrokerHarness::with_realm(SlowConsumerPolicy::Disconnect, realm);
        let _sender = harness.connect(1);
        assert_eq!(harness.handle(command(1, vec![broadcast("a")])), 3);
    }
}

/// What happens in a story.
#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Command(u64, Vec<Action>),
    Disconnect(u64),
    /// The recipient's socket accepts no more bytes.
    Block(u64),
    OutboxDrained(u64),
    Tick,
    /// The end of a batch, and this connection's task, which writes all.
    Write(u64),
}

/// The connections that send. They are no recipients of broadcasts: one that is too slow is closed at the end of the
/// batch, and not before its next message.
const SENDERS: [u64; 2] = [8, 9];

fn action() -> impl Strategy<Value = Action> {
    let text = prop_oneof![4 => 0..20_usize, 1 => 20..200_usize].prop_map(|size| "x".repeat(size));
    (0..16_u8, 1..6_u64, 0..3_usize, vec(1..6_u64, 0..3), text).prop_map(
        |(kind, conn, list, except, text)| match kind {
            0..8 => Action::BroadcastTo(list, Vec::new(), text),
            8..10 => Action::BroadcastTo(list, except, text),
            10..12 => Action::Send(conn, text),
            12 => Action::SendIfDeliverable(conn, text),
            13 => Action::Deliver(conn, text),
            14 => Action::Admit(conn),
            _ => Action::Close(conn, CloseReason::GOODBYE),
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let sender = prop::sample::select(&SENDERS);
    prop_oneof![
        1 => (1..6_u64).prop_map(Step::Open),
        8 => (sender, vec(action(), 1..6)).prop_map(|(conn, actions)| Step::Command(conn, actions)),
        1 => (1..6_u64).prop_map(Step::Disconnect),
        1 => (1..6_u64).prop_map(Step::Block),
        1 => (1..6_u64).prop_map(Step::OutboxDrained),
        1 => Just(Step::Tick),
        4 => (1..10_u64).prop_map(Step::Write),
    ]
}

/// A broker and the connections' ends of its outboxes.
struct Side {
    harness: BrokerHarness,
    receivers: BTreeMap<u64, OutboxReceiver>,
    /// Number of texts so far, which makes each of them different.
    texts: usize,
}

impl Side {
    fn new(policy: SlowConsumerPolicy, sends_singly: bool) -> Self {
        // Connection 5 waits for its admission.
        let realm = MockRealm::broadcasting(&LISTS, &[5], sends_singly);
        let mut side = Self {
            harness: BrokerHarness::with_realm(policy, realm),
            receivers: BTreeMap::new(),
            texts: 0,
        };
        for conn in SENDERS.into_iter().chain(1..4) {
            side.open(conn);
        }
        side
    }

    fn open(&mut self, conn: u64) {
        if !self.receivers.contains_key(&conn) {
            let (receiver, _reply) = self.harness.open(conn);
            self.receivers.insert(conn, receiver);
        }
    }

    fn has(&self, conn: u64) -> bool {
        let connections = &self.harness.broker.connections;
        connections.contains_key(&ConnectionId(conn))
    }

    fn number(&mut self, mut action: Action) -> Action {
        if let Action::BroadcastTo(_, _, text)
        | Action::Send(_, text)
        | Action::SendIfDeliverable(_, text)
        | Action::Deliver(_, text) = &mut action
        {
            text.insert_str(0, &self.texts.to_string());
            self.texts += 1;
        }
        action
    }

    /// Makes a step. Returns what a connection's task writes.
    fn apply(&mut self, step: Step) -> Option<String> {
        match step {
            Step::Open(conn) => self.open(conn),
            Step::Command(conn, actions) => {
                let actions = actions.into_iter().map(|it| self.number(it)).collect();
                self.harness.handle_first(command(conn, actions));
            }
            Step::Disconnect(conn) => {
                let event = Event::Disconnected(ConnectionId(conn), DisconnectReason::Lost);
                self.harness.handle_first(event);
            }
            Step::Block(conn) if self.has(conn) => {
                self.harness.flush_broadcasts();
                self.harness.block_writes(conn);
            }
            Step::Block(_) => {}
            Step::OutboxDrained(conn) => {
                let event = Event::OutboxDrained(ConnectionId(conn));
                self.harness.handle_first(event);
            }
            Step::Tick => {
                self.harness.handle_first(Event::Tick);
            }
            Step::Write(conn) => {
                self.harness.flush_broadcasts();
                return self.receivers.get(&conn).map(|receiver| {
                    let drained = drain(receiver);
                    format!("{:?} {:?}", drained.texts, drained.directives)
                });
            }
        }
        None
    }

    /// Returns the bytes in each outbox, after the end of a batch.
    fn queued_bytes(&mut self) -> Vec<(ConnectionId, usize)> {
        self.harness.flush_broadcasts();
        let connections = self.harness.broker.connections.iter();
        let mut bytes: Vec<_> = connections
            .map(|(&conn, connection)| (conn, connection.outbox.queued_bytes()))
            .collect();
        bytes.sort_unstable();
        bytes
    }
}

proptest! {
    #[test]
    fn joined_broadcasts_are_to_every_client_what_single_frames_are(
        steps in vec(step(), 0..60),
        has_backpressure: bool,
    ) {
        let policy = if has_backpressure {
            SlowConsumerPolicy::Backpressure
        } else {
            SlowConsumerPolicy::Disconnect
        };
        let mut sides = [false, true].map(|sends_singly| Side::new(policy, sends_singly));
        let rest = SENDERS.into_iter().chain(1..6).map(Step::Write);
        for step in steps.into_iter().chain(rest) {
            let [joined, single] = sides.each_mut().map(|side| side.apply(step.clone()));
            prop_assert_eq!(joined, single);
            if matches!(step, Step::Write(_)) {
                let [joined, single] = sides.each_mut().map(Side::queued_bytes);
                prop_assert_eq!(joined, single);
            }
        }
        for side in sides {
            let budget = std::sync::Arc::clone(side.harness.broker.memory.budget());
            drop(side);
            prop_assert_eq!(budget.reserved(), 0);
        }
    }
}
