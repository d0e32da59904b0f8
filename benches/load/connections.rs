//! Handshakes a second, and the start of the daemon.

use crate::admission::{IN_HANDSHAKE, peerjs};
use crate::client::Received;
use crate::clients::Clients;
use crate::common::DEADLINE;
use crate::options::Options;
use crate::report::{Figures, median};
use crate::server::{Server, listener};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use switchboard::protocols::PROTOCOLS;

/// Starts of which the median is taken.
const STARTS: usize = 20;
const QUICK_STARTS: usize = 3;

/// Measures PeerJS clients that connect, are admitted and vanish.
pub fn handshakes(program: &Path, options: &Options) -> Result<Figures, String> {
    let server = Server::start(program, options, &[listener("peerjs", &json!({}))])?;
    let address = server.address(0);
    let mut clients = Clients::new();
    let (mut next, mut admitted) = (0, 0);
    let mut path = || {
        next += 1;
        peerjs(next).path
    };
    for _ in 0..IN_HANDSHAKE {
        clients.connect(address, &path())?;
    }
    let (start, cpu) = (Instant::now(), server.cpu()?);
    while start.elapsed() < options.time {
        let mut done = Vec::new();
        let has_heard = clients.turn(DEADLINE, |client, received| {
            if let Received::Text(text) = received {
                if !text.starts_with(br#"{"type":"OPEN""#) {
                    return Err(format!("not admitted: {}", String::from_utf8_lossy(text)));
                }
                done.push(client);
            }
            Ok(())
        })?;
        if !has_heard {
            return Err("no client is admitted any more".to_owned());
        }
        admitted += done.len();
        for client in done {
            clients.replace(client, address, &path())?;
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    let cpu = (server.cpu()? - cpu).as_secs_f64();
    Ok(vec![
        ("handshakes/s", admitted as f64 / elapsed),
        ("CPU us/handshake", cpu * 1e6 / admitted as f64),
        ("server cores", cpu / elapsed),
    ])
}

/// Measures the time from exec to the line of the log that says that all listeners are ready, and the memory then.
pub fn start(program: &Path, options: &Options) -> Result<Figures, String> {
    let listeners = PROTOCOLS.iter().map(|it| listener(it.name, &json!({})));
    let listeners: Vec<Value> = listeners.collect();
    let starts = if options.is_quick {
        QUICK_STARTS
    } else {
        STARTS
    };
    let (mut times, mut anonymous, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..starts {
        let start = Instant::now();
        let server = Server::start(program, options, &listeners)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        anonymous.push(server.memory("RssAnon")? / 1e6);
        resident.push(server.memory("VmRSS")? / 1e6);
    }
    let size =
        std::fs::metadata(program).map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(vec![
        ("ready ms", median(&mut times)),
        ("RssAnon MB", median(&mut anonymous)),
        ("VmRSS MB", median(&mut resident)),
        ("program MB", size.len() as f64 / 1e6),
    ])
}
