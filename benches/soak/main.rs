//! A long day in the life of the daemon: people of all five protocols come, talk, idle, vanish and
//! come back, it is stopped, killed and started again, and every promise is checked that a client
//! can see.
//!
//! `cargo bench --bench soak -- [SECONDS [CLIENTS [SEED]]]`, by default 60 s, 2,000 clients and a
//! new seed each time. A line a minute says how it goes, and a table at the end what was checked.
//! The exit status is 1 if a promise was broken, if memory at the end is more than a quarter and
//! 4 MiB above that in the middle, or if the daemon ended by itself. Its log is kept. Memory is
//! judged only if the daemon was there for five minutes before the middle: in runs of 50 minutes
//! and more.
//!
//! # What is due
//!
//! A *life* is the time from when a client knows that it is in to when it goes, is cut, or knows
//! that it is out. What is said to somebody is due if its life lasts from before that was said
//! until the next *moment of quiet*. In such a moment nobody begins anything, and all who came or
//! went are done with it. Then there is nothing on its way, and everybody must have heard what is
//! due, and believe what is so. That is asked again and again until it is right, or a minute is
//! over.
//!
//! What must never be fails at once: what was not sent, or to somebody else, or is refused, or
//! comes twice, or before what was said earlier.
//!
//! What may be lost: what is on its way to or from somebody who is cut; everything when the daemon
//! is killed. After a restart it knows nothing, and all promises hold anew.
//!
//! Nothing depends on how fast this machine is, but that clients keep alive: they send their
//! heartbeats in time or know that they did not. Where this program itself got no turn for some
//! seconds, a client that is taken for dead then counts as a fault and not as a failure.
//!
//! # How it is built
//!
//! [`client_task`] leads the life of a client; what it says and may hear is in the model of its
//! protocol ([`clients`]), which does no
//! input or output. What all clients of a protocol are to have seen is in [`expectations`]. [`connection`] is a
//! connection and the ways to end it, [`scenario`] the story. Everything is on one thread. What happens follows from the seed; when, from the
//! machine, too.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

mod client_task;
mod clients;
mod connection;
mod daemon;
mod expectations;
#[path = "../../tests/common/daemon.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod process;
mod report;
mod scenario;
mod shared_state;

/// How long to wait for the daemon.
const DEADLINE: Duration = Duration::from_secs(60);

use async_global_executor::{block_on, spawn_local};
use client_task::{Life, Person};
use clients::{fastchat, loudsync, peerdrop, peerjs, workspace};
use daemon::Daemon;
use expectations::{fastchat::Town, loudsync::Party, workspace::Room};
use scenario::Director;
use shared_state::{Chance, Protocol, World};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

fn main() -> ExitCode {
    // Without it cargo only tries whether this works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let (seconds, clients) = if is_bench { (60, 2000) } else { (5, 100) };
    let seconds: u64 = numbers.next().unwrap_or(seconds);
    let clients: u64 = numbers.next().unwrap_or(clients);
    let seed = numbers
        .next()
        .unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 16);
    println!("{clients} clients for {seconds} s, seed {seed}");
    let size = (clients as usize).div_ceil(Protocol::ALL.len());
    let world = World::new(size, seed, !is_bench);
    block_on(run(world, Duration::from_secs(seconds), seed))
}

async fn run(world: Rc<World>, length: Duration, seed: u64) -> ExitCode {
    let daemon = Daemon::start(seed).await;
    println!("the daemon's log is in {}", daemon.log.display());
    world.begin(daemon.addresses.clone());
    let size = world.size;
    let pairs = Rc::new(RefCell::new(peerdrop::Pairs::new(size)));
    let town = Rc::new(RefCell::new(Town::new(&world)));
    let room = Rc::new(RefCell::new(Room::new(size)));
    let party = Rc::new(RefCell::new(Party::new(size)));
    let exchange = Rc::new(RefCell::new(peerjs::Exchange::new(size)));
    for index in 0..size {
        lives(&world, index, peerdrop::Peer::new(&world, &pairs, index));
        lives(&world, index, fastchat::User::new(&world, &town, index));
        lives(&world, index, workspace::Guest::new(&world, &room, index));
        lives(&world, index, loudsync::Member::new(&world, &party, index));
        lives(&world, index, peerjs::Caller::new(&world, &exchange, index));
    }
    let mut director = Director {
        world: Rc::clone(&world),
        daemon,
        places: vec![
            (Protocol::PeerDrop, pairs),
            (Protocol::FastChat, town),
            (Protocol::Workspace, room),
            (Protocol::Loudsync, party),
            (Protocol::PeerJs, Rc::clone(&exchange) as _),
        ],
        exchange,
        chance: Chance::of(seed),
        length,
        spent: 0.0,
        told: Duration::ZERO,
        resident: VecDeque::new(),
        since: Duration::ZERO,
        is_warm: false,
        has_ended: false,
    };
    director.directs().await;
    if world.report.failures() == 0 {
        println!("all promises were kept");
        ExitCode::SUCCESS
    } else {
        println!(
            "{} promises were broken; the seed was {seed}",
            world.report.failures()
        );
        ExitCode::FAILURE
    }
}

/// Another client begins its life.
fn lives<P: Person + 'static>(world: &Rc<World>, index: usize, person: P) {
    let life = Life {
        world: Rc::clone(world),
        person,
        name: format!("{} {index}", P::PROTOCOL.name()),
        chance: world.chance(P::PROTOCOL, index),
    };
    spawn_local(life.lead()).detach();
}
