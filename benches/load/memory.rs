//! Idle and storm: what connections hold, and what is left of them.

use crate::admission::admit;
use crate::clients::{Clients, check_interrupted};
use crate::options::Options;
use crate::report::Figures;
use crate::server::{Server, listener};
use serde_json::{Value, json};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;

/// How long nothing may arrive before memory is read: FastChat gathers changes for a second.
const QUIET: Duration = Duration::from_millis(1500);
const QUICK_QUIET: Duration = Duration::from_millis(200);

/// How much more than at the start counts as nothing, in bytes, and how long the daemon has to get there: FastChat
/// remembers users for a minute.
const SLACK: f64 = 4e6;
const RECOVERY: Duration = Duration::from_secs(65);
const QUICK_RECOVERY: Duration = Duration::from_secs(2);

/// Returns how long nothing may arrive.
fn quiet(options: &Options) -> Duration {
    if options.is_quick { QUICK_QUIET } else { QUIET }
}

fn protocols() -> Vec<&'static str> {
    PROTOCOLS.iter().map(|it| it.name).collect()
}

/// Starts a daemon to which one pair of each protocol has connected, so that what is set up once is there.
fn warm_server(program: &Path, options: &Options, protocols: &[&str]) -> Result<Server, String> {
    let listeners = protocols.iter().map(|it| listener(it, &json!({})));
    let listeners: Vec<Value> = listeners.collect();
    let server = Server::start(program, options, &listeners)?;
    let mut clients = Clients::new();
    for (place, protocol) in protocols.iter().enumerate() {
        admit(&mut clients, protocol, server.address(place), 2)?;
    }
    clients.settle(quiet(options))?;
    clients.reset_all();
    thread::sleep(quiet(options));
    Ok(server)
}

/// Measures the memory of connections that have said what their protocol demands, and say no more: of each protocol
/// on a daemon of its own, and of all together.
pub fn idle(program: &Path, options: &Options, count: usize) -> Result<Figures, String> {
    let mut figures = Vec::new();
    for protocol in protocols() {
        let held = hold(program, options, &[protocol], count)?;
        figures.push((protocol, held.a_connection()));
    }
    let held = hold(program, options, &protocols(), count)?;
    figures.extend([
        ("all", held.a_connection()),
        ("before MB", held.before / 1e6),
        ("with all MB", held.with / 1e6),
    ]);
    Ok(figures)
}

/// Memory of the daemon without and with connections, in bytes.
struct Held {
    before: f64,
    with: f64,
    connections: usize,
}

impl Held {
    /// Returns the bytes of a connection.
    fn a_connection(&self) -> f64 {
        (self.with - self.before) / self.connections as f64
    }
}

/// Measures this number of clients of each protocol.
fn hold(
    program: &Path,
    options: &Options,
    protocols: &[&str],
    count: usize,
) -> Result<Held, String> {
    let server = warm_server(program, options, protocols)?;
    let before = server.memory("RssAnon")?;
    let mut clients = Clients::new();
    for (place, protocol) in protocols.iter().enumerate() {
        admit(&mut clients, protocol, server.address(place), count)?;
    }
    clients.settle(quiet(options))?;
    Ok(Held {
        before,
        with: server.memory("RssAnon")?,
        connections: clients.len(),
    })
}

/// Measures what is left of clients of all protocols that connect at once and vanish at once, again and again.
pub fn storm(program: &Path, options: &Options, count: usize) -> Result<Figures, String> {
    let all = protocols();
    let server = warm_server(program, options, &all)?;
    let before = server.memory("RssAnon")?;
    let (start, mut peak, mut connections) = (Instant::now(), before, 0);
    while start.elapsed() < options.time {
        let mut clients = Clients::new();
        for (place, protocol) in all.iter().enumerate() {
            admit(&mut clients, protocol, server.address(place), count)?;
            connections += count;
        }
        peak = peak.max(server.memory("RssAnon")?);
    }
    let recovery = if options.is_quick {
        QUICK_RECOVERY
    } else {
        RECOVERY
    };
    let over = Instant::now();
    let left = loop {
        check_interrupted()?;
        let left = server.memory("RssAnon")? - before;
        if left < SLACK || over.elapsed() > recovery {
            break left;
        }
        thread::sleep(Duration::from_millis(100));
    };
    Ok(vec![
        ("connections", connections as f64),
        ("before MB", before / 1e6),
        ("peak MB", peak / 1e6),
        ("left MB", left / 1e6),
        ("waited s", over.elapsed().as_secs_f64()),
    ])
}
