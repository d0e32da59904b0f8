//! Floods: clients that send more than the daemon can serve, or never read its responses, and more
//! connections than it has file descriptors. The server must pause or reject the flooding clients, stay
//! available to others and bound its memory.

use super::dialects::Hostile;
use super::{HEALTHY_IP, MEMORY_SLACK, Server, listeners};
use crate::common::{
    Client, Daemon, Pair, handshake, masked_frame, read_frame, read_head, request_target, tcp,
    wait_until,
};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;

/// Sets a flag on drop. Without it, a failed test would wait for its flooding threads forever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_empty_fragments_does_not_starve_other_clients_on_one_thread() {
    let listeners = listeners(&json!({}), &[]);
    let config = json!({"threads": 1, "listeners": listeners});
    let server = Server::from_daemon(Daemon::start(config));
    let flood = &[0x00, 0x80, 0, 0, 0, 0].repeat(10_000);
    let stopped = &AtomicBool::new(false);
    thread::scope(|scope| {
        for (protocol, _) in server.endpoints() {
            let mut flooder = server.connect_raw(protocol);
            flooder.write_all(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) && flooder.write_all(flood).is_ok() {}
            });
        }
        let _stop = SetOnDrop(stopped);
        server.assert_serves();
    });
    server.assert_survives(
        "a flood of empty fragments, one thread",
        "others are served",
    );
}

/// Sends the same bytes repeatedly until the server takes no more for a second, or has closed the
/// connection. The server must take fewer than `limit` bytes. A second in which a slow machine merely
/// pauses ends the flood early, which cannot fail the test.
fn send_until_blocked(stream: &mut TcpStream, bytes: &[u8], limit: usize) {
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut sent = 0;
    while stream.write_all(bytes).is_ok() {
        sent += bytes.len();
        assert!(sent < limit, "the server took {sent} bytes");
    }
}

#[test]
fn a_client_that_sends_pings_and_reads_no_pongs_is_paused() {
    let server = Server::start();
    let flood = &masked_frame(0x9, &[b'x'; 125]).repeat(10_000);
    let flooders: Vec<TcpStream> = thread::scope(|scope| {
        let flooders = server.endpoints().map(|(protocol, _)| {
            let mut flooder = server.connect_raw(protocol);
            scope.spawn(move || {
                send_until_blocked(&mut flooder, flood, 1 << 30);
                flooder
            })
        });
        let flooders: Vec<_> = flooders.collect();
        flooders.into_iter().map(|it| it.join().unwrap()).collect()
    });
    server.assert_survives(
        "millions of Pings without reading, client connected",
        "paused",
    );
    drop(flooders);
    server.assert_survives("millions of Pings without reading, client gone", "paused");
}

#[test]
fn a_million_pings_of_clients_that_read_are_answered() {
    // Of each protocol's client, in thousands.
    let thousands = 1000 / PROTOCOLS.len();
    let server = Server::start();
    thread::scope(|scope| {
        for (protocol, _) in server.endpoints() {
            let mut reader = server.connect_raw(protocol);
            let mut writer = reader.try_clone().unwrap();
            scope.spawn(move || {
                let flood = masked_frame(0x9, b"").repeat(1000);
                (0..thousands).for_each(|_| writer.write_all(&flood).unwrap());
            });
            scope.spawn(move || {
                // An empty Pong has 2 bytes.
                let (mut buffer, mut received) = (vec![0; 1 << 16], 0);
                while received < 2000 * thousands {
                    let count = reader.read(&mut buffer).unwrap();
                    assert!(count > 0, "{protocol}: the server closed the connection");
                    received += count;
                }
            });
        }
        server.assert_serves();
    });
    server.assert_survives("a million Pings, Pongs read", "answered");
}

/// [`MEMORY_SLACK`] after one outbox was full: 1 MiB and some thousand frames.
const FULL_OUTBOX_SLACK: u64 = MEMORY_SLACK + (3 << 20);

#[test]
fn a_client_that_sends_requests_and_reads_no_responses_is_paused_or_closed() {
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let mut cases = vec![
        (
            "user lists".to_owned(),
            "fastchat",
            None,
            request("/presence/online"),
        ),
        ("ids".to_owned(), "peerjs", None, request("/peerjs/id")),
    ];
    for Hostile {
        protocol, floods, ..
    } in Hostile::all()
    {
        for message in floods {
            let question = masked_frame(0x1, message.as_bytes());
            cases.push((
                format!("answers to {message}"),
                protocol,
                Some(request_target(protocol)),
                question,
            ));
        }
    }
    // Each case mostly waits, so all of them run at the same time.
    thread::scope(|scope| {
        for (responses, protocol, target, question) in &cases {
            scope.spawn(move || {
                let server = Server::start();
                let mut flooder = match target {
                    Some(target) => server.connect_raw_to(protocol, target),
                    None => tcp(server.address(protocol)),
                };
                set_socket_recv_buffer_size(&flooder, 4096).unwrap();
                send_until_blocked(&mut flooder, &question.repeat(100), 1 << 28);
                let case = format!("{protocol}: client asks for {responses} and does not read");
                let connected = format!("{case}, client connected");
                server.assert_survives_within(FULL_OUTBOX_SLACK, &connected, "paused or closed");
                drop(flooder);
                let gone = format!("{case}, client gone");
                server.assert_survives_within(FULL_OUTBOX_SLACK, &gone, "paused or closed");
            });
        }
    });
}

/// Bytes that a client sends to itself: many times its outbox and what kernels hold.
const SENT_TO_ITSELF: usize = 64 << 20;

/// A PeerJS client gets one EXPIRE for all that its destination does not take, so nothing fills the other half
/// of its outbox, and there is no reason to pause it.
#[test]
fn a_peerjs_client_that_sends_to_itself_and_does_not_read_holds_no_more_than_its_outbox() {
    let server = Server::start();
    let target = "/peerjs?key=peerjs&id=flooder&token=t";
    let mut flooder = server.connect_raw_to("peerjs", target);
    set_socket_recv_buffer_size(&flooder, 4096).unwrap();
    let offer = json!({"type": "OFFER", "dst": "flooder", "payload": "x".repeat(1000)});
    let offers = masked_frame(0x1, offer.to_string().as_bytes()).repeat(100);
    for _ in 0..SENT_TO_ITSELF / offers.len() {
        flooder.write_all(&offers).unwrap();
    }
    let case = "peerjs: client sends to itself and does not read";
    let connected = format!("{case}, client connected");
    server.assert_survives_within(FULL_OUTBOX_SLACK, &connected, "dropped");
    drop(flooder);
    let gone = format!("{case}, client gone");
    server.assert_survives_within(FULL_OUTBOX_SLACK, &gone, "dropped");
}

#[test]
fn a_peerdrop_client_whose_peer_reads_nothing_is_paused() {
    let server = Server::start();
    let mut pair = Pair::connect("peerdrop", server.address("peerdrop"), HEALTHY_IP);
    let sender = &mut pair.sender.socket.get_mut().0;
    send_until_blocked(sender, &masked_frame(0x1, &[b'x'; 50_000]), 1 << 28);
    let case = "peerdrop: recipient does not read";
    server.assert_survives(&format!("{case}, pair connected"), "sender paused");
    drop(pair);
    server.assert_survives(&format!("{case}, pair gone"), "sender paused");
}

/// Limits the daemon to `spare` more file descriptors than it has open. Returns its previous limit.
/// The limit is on descriptor numbers, and a new descriptor gets the lowest free number.
fn limit_files(daemon: &Daemon, spare: usize) -> Rlimit {
    let files = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    let is_free = |file: &u64| !std::path::Path::new(&format!("{files}/{file}")).exists();
    let limit = Rlimit {
        current: (0..).filter(is_free).nth(spare),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(daemon.pid()), Resource::Nofile, limit).unwrap()
}

#[test]
fn without_file_descriptors_the_daemon_stops_accepting_until_it_has_some() {
    let server = Server::with_overrides(&json!({}), &[("workspace", json!({"ping_every": 1}))]);
    let mut client = server.connect("workspace");
    client.receive_type("connected");
    // A descriptor that the daemon closed later would let it accept one client more.
    server.wait_for_connections(1);
    let limits = limit_files(&server.daemon, 2);
    // More clients than descriptors. The system completes all these connections, in the backlog.
    let endpoints: Vec<_> = server.endpoints().collect();
    let waiting: Vec<(&str, TcpStream)> = endpoints
        .into_iter()
        .cycle()
        .take(100)
        .map(|(protocol, address)| (protocol, tcp(address)))
        .collect();
    for _ in server.endpoints() {
        server.daemon.wait_for_log("cannot accept connections");
    }
    // For some seconds, measured by the server's Pings (one per second), the connected client is still
    // served, and the daemon hardly computes. Pings sent earlier are read first; they measure nothing.
    let (start, cpu_before) = (Instant::now(), server.daemon.cpu());
    client.ping();
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(client.socket.read().unwrap().is_ping());
        client.socket.flush().unwrap();
    }
    let cpu = server.daemon.cpu() - cpu_before;
    // A share of the elapsed time: on a slow machine both are longer.
    let elapsed = start.elapsed();
    assert!(4 * cpu < elapsed, "{cpu:?} of CPU time in {elapsed:?}");
    prlimit(Some(server.daemon.pid()), Resource::Nofile, limits).unwrap();
    // The next line about accepting, so the problem was logged once per listener, not per attempt.
    for _ in server.endpoints() {
        let next = server.daemon.wait_for_log("accept connections");
        assert!(next.contains("can accept connections again"), "{next}");
    }
    drop((client, waiting));
    let outcome = format!("waits ({} ms CPU), then accepts", cpu.as_millis());
    server.assert_survives("100 clients, 2 spare file descriptors", &outcome);
}

/// Returns whether a client is rejected in the WebSocket that was opened for it, as PeerJS does.
fn is_rejected(stream: &mut TcpStream, protocol: &str) -> bool {
    if protocol != "peerjs" {
        return false;
    }
    // The rest of the response, then the first message.
    read_head(stream);
    let (_, message) = read_frame(stream);
    !message.starts_with(br#"{"type":"OPEN""#)
}

#[test]
fn with_few_file_descriptors_some_clients_are_admitted_and_others_are_told_that_there_are_too_many()
{
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 100 && exec "$0" "$@""#]);
    let config = json!({"listeners": listeners(&json!({}), &[])});
    let server = Server::from_daemon(Daemon::start_with_launcher(shell, config));
    let endpoints: Vec<_> = server.endpoints().collect();
    let clients: Vec<(&str, TcpStream)> = endpoints
        .into_iter()
        .cycle()
        .take(200)
        .map(|(protocol, address)| {
            let mut stream = tcp(address);
            let head = handshake(&request_target(protocol));
            // The server may have closed the connection already.
            let _ = stream.write_all(head.as_bytes());
            (protocol, stream)
        })
        .collect();
    let (mut upgraded, mut rejected, mut closed) = (0, 0, 0);
    for (protocol, stream) in &clients {
        let mut stream = stream.try_clone().unwrap();
        let mut status = [0; 12];
        match stream.read_exact(&mut status) {
            Ok(()) if status.ends_with(b"101") && is_rejected(&mut stream, protocol) => {
                rejected += 1;
            }
            Ok(()) if status.ends_with(b"101") => {
                // An admitted client stays connected; all others disconnect.
                upgraded += 1;
                continue;
            }
            Ok(()) => {
                assert!(status.ends_with(b"503"), "{}", status.escape_ascii());
                rejected += 1;
            }
            Err(_) => closed += 1,
        }
        let _ = stream.shutdown(Shutdown::Both);
    }
    // The share of each is open: some of the permits may still belong to the healthy clients served before.
    let counts = [upgraded, rejected, closed];
    assert!(upgraded > 0 && rejected > 0 && upgraded < 200, "{counts:?}");
    drop(clients);
    wait_until("clients of all protocols are admitted again", || {
        server.endpoints().all(|(protocol, address)| {
            Client::try_connect(address, &request_target(protocol), &[]).is_ok()
        })
    });
    let outcome = format!("{upgraded} admitted, {rejected} rejected, {closed} closed");
    server.assert_survives("200 clients, 100 file descriptors", &outcome);
}
