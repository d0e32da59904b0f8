//! Too much of everything.

use super::{HEALTHY_IP, MEMORY_SLACK, Server, listeners, target};
use crate::common::{Client, Daemon, Pair, handshake, masked_frame, tcp, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Stops a flood even when the test fails, which could not end otherwise.
struct StopAtTheEnd<'a>(&'a AtomicBool);

impl Drop for StopAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_empty_fragments_leaves_others_their_turn_even_on_one_thread() {
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
        let _at_the_end = StopAtTheEnd(stopped);
        server.assert_serves();
    });
    server.assert_survives("a flood of empty fragments", "others have their turn");
}

/// Sends the same again and again until nothing more is taken, which is all that `so_much` allows.
/// A pause that is taken for it does no harm.
fn send_until_blocked(stream: &mut TcpStream, bytes: &[u8], so_much: usize) {
    stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut sent = 0;
    while stream.write_all(bytes).is_ok() {
        sent += bytes.len();
        assert!(sent < so_much, "{sent} bytes were taken");
    }
}

#[test]
fn pings_by_the_million_whose_answers_nobody_reads_are_not_read_either() {
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
    server.assert_survives("millions of Pings, nothing read, still there", "held");
    drop(flooders);
    server.assert_survives("millions of Pings, nothing read", "held");
}

#[test]
fn pings_by_the_million_are_answered_where_they_are_read() {
    const PINGS: usize = 200_000;
    let server = Server::start();
    thread::scope(|scope| {
        for (protocol, _) in server.endpoints() {
            let mut reader = server.connect_raw(protocol);
            let mut writer = reader.try_clone().unwrap();
            scope.spawn(move || {
                let flood = masked_frame(0x9, b"").repeat(1000);
                (0..PINGS / 1000).for_each(|_| writer.write_all(&flood).unwrap());
            });
            scope.spawn(move || {
                let (mut bytes, mut pongs) = (vec![0; 1 << 16], 0);
                while pongs < 2 * PINGS {
                    let count = reader.read(&mut bytes).unwrap();
                    assert!(count > 0, "{protocol} ended");
                    pongs += count;
                }
            });
        }
        server.assert_serves();
    });
    server.assert_survives("a million Pings, all read", "answered");
}

/// What memory may be more by where an outbox was full, of 1 MiB and some thousand frames.
const FULL_OUTBOX_SLACK: u64 = MEMORY_SLACK + (3 << 20);

#[test]
fn who_asks_without_end_and_reads_nothing_is_held_or_closed() {
    let id = "deaf";
    let offer = json!({"type": "OFFER", "dst": id, "payload": "x".repeat(1000)}).to_string();
    let ping = r#"{"type":"ping","timestamp":1}"#;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes();
    let frame = |text: &str| masked_frame(0x1, text.as_bytes());
    let peerjs = format!("/peerjs?key=peerjs&id={id}&token=t");
    let cases = [
        ("errors", "fastchat", Some("/ws"), frame("nonsense")),
        ("lists", "fastchat", None, request("/presence/online")),
        ("errors", "workspace", Some("/ws"), frame("nonsense")),
        ("PONGs", "loudsync", Some("/"), frame(ping)),
        ("its own OFFERs", "peerjs", Some(&*peerjs), frame(&offer)),
        ("ids", "peerjs", None, request("/peerjs/id")),
    ];
    // Most of it is waiting, so all of them wait together.
    thread::scope(|scope| {
        for (answers, protocol, target, question) in &cases {
            scope.spawn(move || {
                let server = Server::start();
                let mut deaf = match target {
                    Some(target) => server.connect_raw_to(protocol, target),
                    None => tcp(server.address(protocol)),
                };
                set_socket_recv_buffer_size(&deaf, 4096).unwrap();
                send_until_blocked(&mut deaf, &question.repeat(100), 1 << 28);
                let case = format!("{protocol}: asks for {answers} and reads nothing");
                server.assert_survives_within(
                    FULL_OUTBOX_SLACK,
                    &format!("{case}, still there"),
                    "held or closed",
                );
                drop(deaf);
                server.assert_survives_within(FULL_OUTBOX_SLACK, &case, "held or closed");
            });
        }
    });
}

#[test]
fn who_sends_without_end_to_a_peer_that_reads_nothing_is_held() {
    let server = Server::start();
    let mut pair = Pair::of("peerdrop", server.address("peerdrop"), HEALTHY_IP);
    let sender = &mut pair.one.socket.get_mut().0;
    send_until_blocked(sender, &masked_frame(0x1, &[b'x'; 50_000]), 1 << 28);
    let case = "peerdrop: one sends, the other reads nothing";
    server.assert_survives(&format!("{case}, still there"), "held");
    drop(pair);
    server.assert_survives(case, "held");
}

/// How many files the daemon may open: `room` more than it has open. They get the lowest free
/// numbers, and the limit is on the numbers.
fn limit_files(daemon: &Daemon, room: usize) -> Rlimit {
    let files = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
    let is_free = |file: &u64| !std::path::Path::new(&format!("{files}/{file}")).exists();
    let limit = Rlimit {
        current: (0..).filter(is_free).nth(room),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(daemon.pid()), Resource::Nofile, limit).unwrap()
}

#[test]
fn out_of_file_descriptors_it_waits_and_recovers() {
    let server = Server::with_overrides(&json!({}), &[("workspace", json!({"ping_every": 1}))]);
    let mut guest = server.connect("workspace");
    guest.until_type("connected");
    // A file that the daemon closed later would be room for a client more.
    server.wait_for_connections(1);
    let limits = limit_files(&server.daemon, 2);
    // More than there is room for; the system takes them all.
    let waiting: Vec<(&str, TcpStream)> = (0..20)
        .flat_map(|_| server.endpoints())
        .map(|(protocol, address)| (protocol, tcp(address)))
        .collect();
    for _ in server.endpoints() {
        server.daemon.logs("cannot accept connections");
    }
    // Nothing changes for some seconds, in which a client that is in is served. The Pings that came
    // before are read first, since they tell nothing of these seconds.
    let (since, before) = (Instant::now(), server.daemon.cpu());
    guest.pings();
    let mut pings = 0;
    while pings < 3 {
        pings += usize::from(guest.socket.read().unwrap().is_ping());
        guest.socket.flush().unwrap();
    }
    let computed = server.daemon.cpu() - before;
    // A share of the time that has passed: on a slow machine both are longer.
    let waited = since.elapsed();
    assert!(4 * computed < waited, "{computed:?} of work in {waited:?}");
    prlimit(Some(server.daemon.pid()), Resource::Nofile, limits).unwrap();
    // The next line of its kind: it was said once for each, not once for each attempt.
    for _ in server.endpoints() {
        let next = server.daemon.logs("accept connections");
        assert!(next.contains("can accept connections again"), "{next}");
    }
    drop((guest, waiting));
    let outcome = format!("waits ({} ms of work), then serves", computed.as_millis());
    server.assert_survives("100 clients, files for two", &outcome);
}

#[test]
fn with_few_file_descriptors_it_says_that_it_is_full() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 100 && exec "$0" "$@""#]);
    let config = json!({"listeners": listeners(&json!({}), &[])});
    let server = Server::from_daemon(Daemon::start_by(shell, config));
    let crowd: Vec<TcpStream> = (0..40)
        .flat_map(|_| server.endpoints())
        .map(|(protocol, address)| {
            let mut stream = tcp(address);
            let head = handshake(&target(protocol));
            // It may be cut off already.
            let _ = stream.write_all(head.as_bytes());
            stream
        })
        .collect();
    let mut answers = [0, 0, 0];
    for mut stream in crowd.iter().map(|it| it.try_clone().unwrap()) {
        let mut status = [0; 12];
        let at = match stream.read_exact(&mut status) {
            Err(_) => 2,
            Ok(()) if status.ends_with(b"101") => 0,
            Ok(()) => {
                assert!(status.ends_with(b"503"), "{}", status.escape_ascii());
                1
            }
        };
        answers[at] += 1;
        // Whoever is let in stays; the others go.
        if at > 0 {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
    let [welcome, told, cut_off] = answers;
    // PeerJS says it in a WebSocket. Some of the 36 places may be those of who was served before.
    assert!(welcome > 0 && told > 0 && welcome < 200, "{answers:?}");
    drop(crowd);
    wait_until("there is room again", || {
        server
            .endpoints()
            .all(|(protocol, address)| Client::try_connect(address, &target(protocol), &[]).is_ok())
    });
    let outcome = format!("{welcome} let in or told, {told} told by 503, {cut_off} cut off");
    server.assert_survives("200 clients, 100 files", &outcome);
}
