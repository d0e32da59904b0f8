//! Connections that their realm pauses.

use super::harness::{Action, BrokerHarness, drain, send};
use crate::base::close::{CloseReason, DisconnectReason};
use crate::broker::Event;
use crate::realm::SlowConsumerPolicy::Disconnect;
use crate::realm::{Command, Commands, ConnectionId, SlowConsumerPolicy::Backpressure};

#[test]
fn commands_of_a_paused_connection_are_handled_in_order_once_it_is_resumed() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (first, second) = (harness.connect(1), harness.connect(2));
    harness.commands(
        1,
        vec![vec![send(2, "a"), Action::Pause(1)], vec![send(2, "b")]],
    );
    harness.commands(
        1,
        vec![vec![send(2, "c"), Action::Pause(1)], vec![send(2, "d")]],
    );
    assert!(drain(&first).directives.pause_reading);
    assert_eq!(drain(&second).texts, ["a"]);
    harness.command(2, vec![Action::Resume(1), send(2, "-")]);
    assert_eq!(drain(&second).texts, ["-", "b", "c"], "paused again by c");
    assert!(drain(&first).directives.pause_reading);
    harness.command(2, vec![Action::Resume(1), Action::Resume(1)]);
    assert_eq!(drain(&second).texts, ["d"]);
    assert!(!drain(&first).directives.pause_reading);
}

#[test]
fn a_connection_is_read_again_when_no_reason_is_left_to_pause_it() {
    let mut harness = BrokerHarness::new(Backpressure);
    let (_first, second, sender) = (harness.connect(1), harness.connect(2), harness.connect(3));
    let text = "x".repeat(60);
    harness.command(3, vec![send(1, &text), send(1, &text), Action::Pause(3)]);
    harness.command(2, vec![Action::Resume(3)]);
    assert!(
        drain(&sender).directives.pause_reading,
        "the outbox of 1 is full"
    );
    harness.handle(Event::OutboxDrained(ConnectionId(1)));
    assert!(!drain(&sender).directives.pause_reading);
    drop(second);
}

#[test]
fn a_connection_that_closes_is_paused_no_more_and_its_commands_are_dropped() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (_first, _second) = (harness.connect(1), harness.connect(2));
    harness.take_log();
    harness.commands(1, vec![vec![Action::Pause(1)], vec![send(2, "never")]]);
    harness.command(
        2,
        vec![Action::Close(1, CloseReason::TIMED_OUT), Action::Resume(1)],
    );
    harness.commands(1, vec![vec![send(2, "never")]]);
    let connection = &harness.broker.connections[&ConnectionId(1)];
    assert_eq!(
        connection.pause_count, 0,
        "or its silence would never count"
    );
    harness.commands(2, vec![vec![Action::Pause(2)], vec![send(2, "never")]]);
    harness.disconnect(2, DisconnectReason::Lost);
    assert!(harness.broker.pausing.is_empty());
    let closes = [
        "command 1",
        "command 2",
        "close 1 timed out",
        "command 2",
        "close 2 lost",
    ];
    assert_eq!(harness.take_log(), closes);
}

#[test]
fn the_silence_of_a_paused_connection_does_not_count() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (first, _second) = (harness.connect(1), harness.connect(2));
    harness.command(1, vec![Action::Pause(1)]);
    (1..=40).for_each(|second| harness.tick_at(second));
    let drained = drain(&first).directives;
    assert_eq!((drained.ping, drained.close), (None, None));
}

#[test]
fn the_memory_of_held_commands_is_released_once_they_are_handled() {
    let mut harness = BrokerHarness::new(Disconnect);
    let (_first, _second) = (harness.connect(1), harness.connect(2));
    harness.command(1, vec![Action::Pause(1)]);
    harness.status(1).receive_memory.grow(1000);
    harness.handle(Event::Commands {
        conn: ConnectionId(1),
        commands: Commands::One(Command::new(vec![send(2, "held")])),
        reserved_bytes: 1000,
    });
    assert_eq!(harness.status(1).receive_memory.bytes(), 1000);
    harness.command(2, vec![Action::Resume(1)]);
    assert_eq!(harness.status(1).receive_memory.bytes(), 0);
}
