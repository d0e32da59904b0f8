//! Fan-out, relay and stream: clients whose messages reach all, or one other client.

use crate::admission::{admit, name};
use crate::clients::Clients;
use crate::message::{HEAD, Reader, Template, filler};
use crate::options::Options;
use crate::report::Figures;
use crate::server::{Server, listener};
use crate::talk::{Sender, Talk};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How long nothing may arrive before a load begins.
const QUIET: Duration = Duration::from_millis(300);

/// Length of an offer of a PeerJS client.
const OFFER: usize = 1500;

/// Messages of one sender that are under way.
const IN_FLIGHT: usize = 4;

/// Measures a Workspace room in which all receive what some say: all of a small room, ten of a large one, one of a huge
/// one.
pub fn fan_out(program: &Path, options: &Options, count: usize) -> Result<Figures, String> {
    let (senders, length, in_flight) = match count {
        0..=100 => (count, 64, 1),
        101..=1000 => (10, 128, IN_FLIGHT),
        _ => (1, 128, 1),
    };
    // Announcements of thousands of members are no part of the load.
    let settings = json!({"messages_per_minute": 0, "text_per_minute": 0, "idle_timeout": 0,
                          "announcements_per_second": 1});
    let server = Server::start(program, options, &[listener("workspace", &settings)])?;
    let mut clients = Clients::new();
    admit(&mut clients, "workspace", server.address(0), count)?;
    clients.settle(QUIET)?;
    let filler = filler(length - HEAD, false);
    // They are spread, so that they are neither the first nor the last of the daemon's list.
    let speakers = (0..senders).map(|number| (2 * number + 1) * count / (2 * senders));
    let speakers: Vec<usize> = speakers.collect();
    let sender = |(number, &client)| Sender {
        client,
        template: Template::new(
            r#"{"type":"message:send","text":""#,
            &filler,
            r#""}"#,
            number,
        ),
        done_at: client,
    };
    let talk = Talk {
        senders: speakers.iter().enumerate().map(sender).collect(),
        reader: Reader::new(
            Some(r#""username":""#),
            speakers.iter().map(|&client| name(client)).collect(),
            r##""text":"#"##,
            format!("{filler}\""),
        ),
        is_broadcast: true,
        in_flight,
    };
    talk.run(&mut clients, &server, options.time)
}

/// Measures PeerJS pairs, of which one client sends offers to the other as the published client writes them.
pub fn relay(program: &Path, options: &Options, pairs: usize) -> Result<Figures, String> {
    // Clients that only receive are as good as others.
    let settings = json!({"alive_timeout": 0});
    let server = Server::start(program, options, &[listener("peerjs", &settings)])?;
    let mut clients = Clients::new();
    admit(&mut clients, "peerjs", server.address(0), 2 * pairs)?;
    clients.settle(QUIET)?;
    const REST: &str = r#""},"type":"data","connectionId":"dc_x"}"#;
    let filler = filler(OFFER - HEAD, true);
    let sender = |number| {
        let before = r#"{"type":"OFFER","payload":{"sdp":{"type":"offer","sdp":""#;
        let receiver = name(number + pairs);
        let after = format!(r#"{REST},"dst":"{receiver}"}}"#);
        Sender {
            client: number,
            template: Template::new(before, &filler, &after, number),
            done_at: number + pairs,
        }
    };
    let talk = Talk {
        senders: (0..pairs).map(sender).collect(),
        reader: Reader::new(
            Some(r#""src":""#),
            (0..pairs).map(name).collect(),
            r##""sdp":"#"##,
            format!("{filler}{REST}"),
        ),
        is_broadcast: false,
        // One pair shows what a single round costs.
        in_flight: if pairs == 1 { 1 } else { IN_FLIGHT },
    };
    talk.run(&mut clients, &server, options.time)
}

/// Measures PeerDrop pairs, of which one client sends texts of this length to the other.
pub fn stream(
    program: &Path,
    options: &Options,
    pairs: usize,
    bytes: usize,
) -> Result<Figures, String> {
    let server = Server::start(program, options, &[listener("peerdrop", &json!({}))])?;
    let mut clients = Clients::new();
    let in_flight = match bytes {
        0..=4096 => IN_FLIGHT,
        4097..=524_288 => 2 * IN_FLIGHT,
        _ => 2,
    };
    let talk = connect_stream(&mut clients, &server, pairs, bytes, in_flight)?;
    talk.run(&mut clients, &server, options.time)
}

/// Connects PeerDrop pairs to the first listener.
pub fn connect_stream(
    clients: &mut Clients,
    server: &Server,
    pairs: usize,
    bytes: usize,
    in_flight: usize,
) -> Result<Talk, String> {
    admit(clients, "peerdrop", server.address(0), 2 * pairs)?;
    clients.settle(QUIET)?;
    let filler = filler(bytes.saturating_sub(HEAD), false);
    let sender = |number| Sender {
        client: number,
        template: Template::new("", &filler, "", number),
        done_at: number + pairs,
    };
    Ok(Talk {
        senders: (0..pairs).map(sender).collect(),
        reader: Reader::new(None, Vec::new(), "#", filler),
        is_broadcast: false,
        in_flight,
    })
}
