//! A flood of messages, and how long another pair waits meanwhile.

use crate::clients::Clients;
use crate::common::bystander::{percentile, round_trips};
use crate::conversations::connect_stream;
use crate::options::Options;
use crate::report::Figures;
use crate::server::{Server, listener};
use serde_json::json;
use std::path::Path;
use std::thread;

/// Pairs whose senders send all they can.
const PAIRS: usize = 8;

/// Bytes of each sender that are under way, and messages at most: more than the daemon handles in a turn.
const IN_FLIGHT_BYTES: usize = 1 << 20;
const IN_FLIGHT: usize = 1024;

/// Measures a PeerDrop pair while the senders of others, on another listener, send messages of this length.
pub fn run(program: &Path, options: &Options, bytes: usize) -> Result<Figures, String> {
    let listener = listener("peerdrop", &json!({}));
    let server = Server::start(program, options, &[listener.clone(), listener])?;
    let mut clients = Clients::new();
    let in_flight = (IN_FLIGHT_BYTES / bytes).clamp(1, IN_FLIGHT);
    let talk = connect_stream(&mut clients, &server, PAIRS, bytes, in_flight)?;
    let (address, time) = (server.address(1), options.time);
    // A thread of its own: what the load waits for itself is not the daemon's.
    let (flood, waited) = thread::scope(|scope| {
        let bystander = scope.spawn(move || round_trips(address, time));
        let flood = talk.run(&mut clients, &server, time);
        (flood, bystander.join())
    });
    let flood = flood?;
    let waited = waited.map_err(|_| "the bystander was not served")?;
    let figure = |wanted: &str| flood.iter().find(|it| it.0 == wanted).copied();
    let others = [
        ("others' p50 ms", percentile(&waited, 0.5)),
        ("others' p99 ms", percentile(&waited, 0.99)),
    ];
    let of_flood = ["CPU us/delivery", "deliveries/s"]
        .into_iter()
        .filter_map(figure);
    Ok(others.into_iter().chain(of_flood).collect())
}
