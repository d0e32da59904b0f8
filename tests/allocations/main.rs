//! Allocations a delivery: a gate against steps back that no clock decides.
//!
//! A server in this process, whose allocator counts. The clients allocate nothing and send the next messages after the
//! last ones are received, so the server does the same in each round on a machine of any speed. This is the only test
//! of its process, as the allocator counts for all threads.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by a panic"
)]

#[path = "../common/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests need more of it")]
mod common;

use common::{Rounds, listening_address};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;
use switchboard::config::Config;
use switchboard::server::{Server, WhenTaken};
use switchboard::sys::executor;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations that each second may take beside the deliveries, as for the tick.
const ALLOCATIONS_PER_SECOND: u64 = 30;

/// A log that finds the addresses of the listeners.
struct Addresses(Sender<SocketAddr>);

impl Log for Addresses {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        if let Some(address) = listening_address(&record.args().to_string()) {
            self.0.send(address).unwrap();
        }
    }

    fn flush(&self) {}
}

/// Starts a server with these listeners that is never stopped. Returns their addresses.
fn start<const COUNT: usize>(listeners: &[Value; COUNT]) -> [SocketAddr; COUNT] {
    let config = json!({"threads": 1, "status": null, "listeners": listeners.to_vec()});
    let config = Config::from_json(&config.to_string()).unwrap();
    let (sender, addresses) = channel();
    log::set_boxed_logger(Box::new(Addresses(sender))).unwrap();
    log::set_max_level(LevelFilter::Info);
    executor::start(config.process.threads);
    let server = Server::bind(config, 1024, WhenTaken::Fail).unwrap();
    let serve = || async_io::block_on(server.run(futures::stream::pending(), || unreachable!()));
    thread::spawn(serve);
    [(); COUNT].map(|()| addresses.recv().unwrap())
}

/// Asserts that a delivery takes at most this many allocations.
fn assert_costs(what: &str, mut clients: Rounds, rounds: usize, max_allocations: f64) {
    // What the first rounds allocate for longer is there then.
    clients.run(20);
    let region = Region::new(ALLOCATOR);
    let start = Instant::now();
    clients.run(rounds);
    let elapsed = start.elapsed().as_secs();
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    let deliveries = (clients.deliveries * rounds) as f64;
    let allowed = max_allocations * deliveries + (ALLOCATIONS_PER_SECOND * (elapsed + 1)) as f64;
    assert!(
        allocations as f64 <= allowed,
        "{what}: {deliveries} deliveries in {elapsed} s took {allocations} allocations; at most {max_allocations} a \
         delivery are allowed"
    );
    println!("{what} {}", allocations as f64 / deliveries);
}

#[test]
fn a_delivery_takes_no_more_allocations_than_are_needed() {
    let (relay, fan_out) = (Rounds::relay_listener(), Rounds::fan_out_listener());
    // A listener for each, as clients that leave are announced to the others.
    let listeners = [&relay, &relay, &fan_out, &fan_out].map(Value::clone);
    let [four, one, batch, single] = start(&listeners);
    // For each message: the command, the frame, and what tungstenite makes of the message. For each read, here of four
    // messages: the event, and a new buffer for the reader, with what refers to it.
    let relay = Rounds::relay(four, 4, 1500);
    assert_costs("relay, four in flight", relay, 500, 4.6);
    let relay = Rounds::relay(one, 1, 1500);
    assert_costs("relay, one in flight", relay, 500, 6.2);
    // For each message, not for each recipient: what the sender's message takes.
    let fan_out = Rounds::fan_out(batch, 50, 8);
    assert_costs("fan-out of a batch", fan_out, 200, 14.0 / 50.0);
    let fan_out = Rounds::fan_out(single, 50, 1);
    assert_costs("fan-out of single messages", fan_out, 200, 16.0 / 50.0);
}
