//! What the attackers do.

use super::common::protocol_files::request_target;
use super::common::websocket::{frame, open, peerdrop_pair, read_frame, text_frame};
use super::{ATTACKER, DURATION, HEALTHY, Target};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Resource, getrlimit};
use serde_json::json;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use switchboard::protocols::PROTOCOLS;
use uuid::Uuid;

/// One client after the other says all that a minute allows, each under a name of its own.
pub fn names(target: &Target) -> String {
    let address = target.address("workspace");
    let (mut clients, since) = (0, Instant::now());
    let message = text_frame(br#"{"type":"message:send","text":"x"}"#);
    let typing = |is_typing: bool| {
        let data = json!({"type": "typing:indicator", "isTyping": is_typing});
        text_frame(data.to_string().as_bytes())
    };
    let mut speech = message.repeat(100);
    (0..300).for_each(|number| speech.extend(typing(number % 2 == 0)));
    speech.extend(frame(0x88, &1000_u16.to_be_bytes(), 2));
    while clients < 15_000 && since.elapsed() < DURATION {
        let path = format!("/ws?username={clients:x>40}");
        if one_visit(address, &path, &speech).is_err() {
            break;
        }
        clients += 1;
    }
    format!("{clients} names in {:.1} s", since.elapsed().as_secs_f64())
}

/// Connects, says something, and waits for the end.
fn one_visit(address: SocketAddr, path: &str, speech: &[u8]) -> Result<()> {
    let mut stream = open(ATTACKER, address, path)?;
    stream.write_all(speech)?;
    let mut answers = [0; 65_536];
    while stream.read(&mut answers)? > 0 {}
    Ok(())
}

/// One client after the other opens chats with everybody who is online.
pub fn chats(target: &Target) -> String {
    let address = target.address("fastchat");
    let hello = |id: Uuid| {
        let data = json!({"user_id": id, "display_name": "Somebody"});
        text_frame(
            json!({"type": "HELLO", "data": data})
                .to_string()
                .as_bytes(),
        )
    };
    let online: Vec<(Uuid, TcpStream)> = (0..100)
        .map(|_| {
            let (id, mut stream) = (Uuid::new_v4(), open(HEALTHY, address, "/ws").unwrap());
            stream.write_all(&hello(id)).unwrap();
            stream.set_nonblocking(true).unwrap();
            (id, stream)
        })
        .collect();
    let mut open_chats = Vec::new();
    for (id, _) in &online {
        let data = json!({"target_user_id": id, "target_display_name": "Somebody"});
        open_chats.extend(text_frame(
            json!({"type": "OPEN_CHAT", "data": data})
                .to_string()
                .as_bytes(),
        ));
    }
    open_chats.extend(frame(0x88, &1000_u16.to_be_bytes(), 2));
    let (mut clients, since) = (0, Instant::now());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut received = [0; 65_536];
            while !is_over.load(Ordering::Relaxed) {
                for (_, stream) in &online {
                    let mut stream = stream;
                    while stream.read(&mut received).is_ok_and(|bytes| bytes > 0) {}
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        while since.elapsed() < DURATION {
            let speech = [hello(Uuid::new_v4()), open_chats.clone()].concat();
            if one_visit(address, "/ws", &speech).is_err() {
                break;
            }
            clients += 1;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    format!(
        "{clients} users with up to 100 chats in {:.1} s",
        since.elapsed().as_secs_f64()
    )
}

/// One host after the other opens a session and is lost.
pub fn sessions(target: &Target) -> String {
    let address = target.address("loudsync");
    let (mut clients, since) = (0, Instant::now());
    while since.elapsed() < DURATION {
        let id = Uuid::new_v4().simple().to_string();
        let join = json!({
            "type": "join", "timestamp": 1, "sessionId": id, "sessionName": "x".repeat(100),
            "deviceInfo": {"id": id, "name": "x".repeat(50), "type": "host"},
        });
        let visit = || -> Result<()> {
            let mut stream = open(ATTACKER, address, "/")?;
            stream.write_all(&text_frame(join.to_string().as_bytes()))?;
            read_frame(&mut stream)?;
            Ok(())
        };
        if visit().is_err() {
            break;
        }
        clients += 1;
    }
    format!(
        "{clients} hosts were lost in {:.1} s",
        since.elapsed().as_secs_f64()
    )
}

/// Clients on all listeners each send 4,000 bytes of an unfinished message, in fragments of `fragment` bytes. Then a
/// pair from the same address, connected before them, exchanges messages of 1 MB.
pub fn parts(target: &Target, fragment: usize) -> String {
    let since = Instant::now();
    let mut part = Vec::new();
    if fragment >= 4000 {
        part.extend(frame(0x81, &vec![b'x'; 4000], 8000));
    } else {
        for number in 0..4000 / fragment {
            part.extend(frame(
                u8::from(number == 0),
                &vec![b'x'; fragment],
                fragment,
            ));
        }
    }
    let most = getrlimit(Resource::Nofile).current.unwrap_or(20_000) as usize - 200;
    let pair = peerdrop_pair(ATTACKER, target.address("peerdrop"));
    let mut clients = Vec::new();
    for protocol in PROTOCOLS {
        for _ in 0..most / PROTOCOLS.len() {
            let (address, path) = (target.address(protocol.name), request_target(protocol.name));
            let Ok(mut stream) = open(ATTACKER, address, &path) else {
                break;
            };
            if stream.write_all(&part).is_err() {
                break;
            }
            stream.set_nonblocking(true).unwrap();
            clients.push(stream);
        }
    }
    let connected = clients.len();
    let took = since.elapsed().as_secs_f64();
    let large = pair.and_then(send_large_messages);
    let large = large.map_or_else(|error| error.to_string(), |()| "all arrive".to_owned());
    thread::sleep(DURATION.saturating_sub(since.elapsed()));
    let still_open = clients.iter().filter(|stream| is_open(stream)).count();
    format!(
        "{connected} unfinished messages in {took:.1} s, {still_open} of them still open at the end; whole messages of 1 MB: {large}"
    )
}

/// Returns whether the daemon has not closed a connection.
fn is_open(mut stream: &TcpStream) -> bool {
    let mut received = [0; 4096];
    loop {
        match stream.read(&mut received) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Sends ten messages of 1 MB from one peer to the other.
fn send_large_messages((mut creator, mut joiner): (TcpStream, TcpStream)) -> Result<()> {
    for _ in 0..10 {
        creator.write_all(&text_frame(&vec![b'x'; 1_000_000]))?;
        let (opcode, payload) = read_frame(&mut joiner)?;
        if payload.len() != 1_000_000 {
            let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
            return Err(std::io::Error::other(format!("frame {opcode:x} {reason}")));
        }
    }
    Ok(())
}

/// The creators of 200 PeerDrop pairs send all that is taken, and the joiners read some of it and then
/// nothing more.
pub fn slow(target: &Target) -> String {
    const PAIRS: usize = 200;
    let address = target.address("peerdrop");
    let since = Instant::now();
    let message = text_frame(&vec![b'x'; 60_000]);
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let Ok(pair) = slow_pair(address, &message, number % 2 == 0) else {
            break;
        };
        pairs.push((pair, 0));
    }
    let (mut bytes, mut last_progress) = (0, Instant::now());
    while since.elapsed() < 2 * DURATION && last_progress.elapsed() < Duration::from_secs(3) {
        for ((creator, _), offset) in &mut pairs {
            while let Ok(written) = creator.write(&message[*offset..]) {
                if written == 0 {
                    break;
                }
                *offset = (*offset + written) % message.len();
                bytes += written;
                last_progress = Instant::now();
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    format!(
        "{} pairs, {:.1} MB sent that nobody reads, {:.1} s",
        pairs.len(),
        bytes as f64 / 1e6,
        since.elapsed().as_secs_f64()
    )
}

/// A pair whose joiner has stopped reading, where `has_read` after it has read 8 MB, so that the kernel has
/// adapted to a fast connection.
fn slow_pair(
    address: SocketAddr,
    message: &[u8],
    has_read: bool,
) -> Result<(TcpStream, TcpStream)> {
    let (mut creator, mut joiner) = peerdrop_pair(ATTACKER, address)?;
    if has_read {
        for _ in 0..17 {
            for _ in 0..8 {
                creator.write_all(message)?;
            }
            for _ in 0..8 {
                read_frame(&mut joiner)?;
            }
        }
    }
    set_socket_recv_buffer_size(&joiner, 16 * 1024)?;
    creator.set_nonblocking(true)?;
    Ok((creator, joiner))
}
