//! A soak test: clients of all protocols connect, exchange messages, idle, fail and reconnect,
//! while the daemon is suspended, stopped, killed and restarted. Every guarantee that a client can
//! observe is checked.
//!
//! `cargo bench --bench soak -- [SECONDS [CLIENTS [SEED]]]`, by default 60 s, 2,000 clients and a
//! random seed. `benches/README.md` says how to read the output. The exit status is 1 if a check
//! failed, if the daemon ended by itself, or if its memory grew: by more than a quarter and 4 MiB
//! between the middle of the run and its end. Memory is judged only if the daemon had been running for
//! five minutes in the middle, which is so in runs of 50 minutes and more.
//!
//! # What is checked
//!
//! A client is *admitted* from when it knows that the server accepted it until it disconnects, is cut
//! or knows that it was closed. A message is *due* to a recipient that stays admitted from before the
//! message was sent until the next *quiescent point*: a point in time at which no client begins
//! anything, none is connecting or disconnecting, and so nothing is in flight. There all due
//! messages must have arrived, and what each client was told of the others must be true. The check is
//! repeated until it passes, for at most a minute.
//!
//! Some things fail at once, whenever they are seen: a message that was not sent, that was sent to
//! another client, that was rejected, that arrives twice or after a later one.
//!
//! Messages may be lost on their way to or from a client whose connection is cut; all may be lost when
//! the daemon is killed. A restarted daemon knows nothing of before, and all checks begin anew.
//!
//! The speed of the machine does not matter but for keep-alive: clients must send their heartbeats in
//! time, or know that they did not. If this program itself was not scheduled for seconds, a client that
//! the daemon dropped as silent is counted as a fault and not as a failure.
//!
//! # Modules
//!
//! - [`scenario`]: the timeline of a run, its quiescent points and its result; [`daemon_faults`]: what is
//!   done to the daemon meanwhile; [`daemon`]: the process.
//! - [`client_task`]: the life cycle of one client and the faults that happen to it; [`connection`]: its
//!   WebSocket and the ways to end it.
//! - [`clients`]: for each protocol what a client sends, and the checks on each message that it gets.
//!   These do no input or output.
//! - [`expectations`]: for each protocol what all of its clients together must have seen at a quiescent
//!   point.
//! - [`shared_state`], [`random`], [`payload`], [`checks`] and [`report`]: what these use.
//!
//! Everything runs on one thread. The seed decides what happens; when it happens also depends on the
//! machine.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

mod checks;
mod client_task;
mod clients;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;
mod connection;
mod daemon;
mod daemon_faults;
mod expectations;
mod payload;
mod random;
mod report;
mod scenario;
mod shared_state;

use async_global_executor::{block_on, spawn_local};
use client_task::ClientTask;
use clients::ClientModel;
use clients::fastchat::FastChatClient;
use clients::loudsync::LoudsyncClient;
use clients::peerdrop::PeerDropClient;
use clients::peerjs::PeerJsClient;
use clients::workspace::WorkspaceClient;
use daemon::Daemon;
use expectations::Expectations;
use expectations::fastchat::FastChatExpectations;
use expectations::loudsync::LoudsyncExpectations;
use expectations::peerdrop::PeerDropExpectations;
use expectations::peerjs::PeerJsExpectations;
use expectations::workspace::WorkspaceExpectations;
use scenario::Scenario;
use shared_state::{Protocol, SharedState};
use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use uuid::Uuid;

fn main() -> ExitCode {
    // `cargo test --benches` runs this without the flag, to see whether it works.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let (seconds, clients) = if is_bench { (60, 2000) } else { (5, 100) };
    let seconds: u64 = numbers.next().unwrap_or(seconds);
    let clients: u64 = numbers.next().unwrap_or(clients);
    let seed = numbers
        .next()
        .unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 16);
    println!("{clients} clients for {seconds} s, seed {seed}");
    let clients_per_protocol = (clients as usize).div_ceil(Protocol::all().len());
    let shared = SharedState::new(clients_per_protocol, seed, !is_bench);
    block_on(run(shared, Duration::from_secs(seconds), seed))
}

async fn run(shared: Rc<SharedState>, length: Duration, seed: u64) -> ExitCode {
    let daemon = Daemon::start(seed).await;
    println!("the daemon's log is {}", daemon.log.display());
    shared.daemon_started(daemon.addresses.clone());
    let peerjs = Rc::new(RefCell::new(PeerJsExpectations::new(
        shared.clients_per_protocol,
    )));
    let expectations = Protocol::all()
        .map(|protocol| (protocol, start_clients(&shared, protocol, &peerjs)))
        .collect();
    let mut scenario = Scenario::new(&shared, daemon, expectations, peerjs, length, seed);
    scenario.run().await;
    let failures = shared.report.failures();
    if failures == 0 {
        println!("all checks passed");
        ExitCode::SUCCESS
    } else {
        println!("{failures} checks failed; the seed was {seed}");
        ExitCode::FAILURE
    }
}

/// Starts the clients of a protocol. Returns what all of them together must have seen.
fn start_clients(
    shared: &Rc<SharedState>,
    protocol: Protocol,
    peerjs: &Rc<RefCell<PeerJsExpectations>>,
) -> Rc<RefCell<dyn Expectations>> {
    let count = shared.clients_per_protocol;
    match protocol.name() {
        "peerdrop" => start(
            shared,
            PeerDropExpectations::new(count),
            PeerDropClient::new,
        ),
        "fastchat" => start(
            shared,
            FastChatExpectations::new(shared),
            FastChatClient::new,
        ),
        "workspace" => start(
            shared,
            WorkspaceExpectations::new(count),
            WorkspaceClient::new,
        ),
        "loudsync" => start(
            shared,
            LoudsyncExpectations::new(count),
            LoudsyncClient::new,
        ),
        "peerjs" => start_with(shared, Rc::clone(peerjs), PeerJsClient::new),
        other => panic!(
            "the soak has no clients of {other}: add clients/{other}.rs, which implements ClientModel, \
             expectations/{other}.rs, which implements Expectations, the line `pub mod {other};` in clients/mod.rs \
             and in expectations/mod.rs, and in main.rs their two imports and an arm in start_clients"
        ),
    }
}

fn start<E: Expectations + 'static, M: ClientModel + 'static>(
    shared: &Rc<SharedState>,
    expectations: E,
    new: fn(&Rc<SharedState>, &Rc<RefCell<E>>, usize) -> M,
) -> Rc<RefCell<dyn Expectations>> {
    start_with(shared, Rc::new(RefCell::new(expectations)), new)
}

/// Starts the tasks of the clients of one protocol.
fn start_with<E: Expectations + 'static, M: ClientModel + 'static>(
    shared: &Rc<SharedState>,
    expectations: Rc<RefCell<E>>,
    new: fn(&Rc<SharedState>, &Rc<RefCell<E>>, usize) -> M,
) -> Rc<RefCell<dyn Expectations>> {
    for index in 0..shared.clients_per_protocol {
        let task = ClientTask {
            shared: Rc::clone(shared),
            model: new(shared, &expectations, index),
            name: format!("{} {index}", M::PROTOCOL.name()),
            random: shared.random(M::PROTOCOL, index),
        };
        spawn_local(task.run()).detach();
    }
    expectations
}
