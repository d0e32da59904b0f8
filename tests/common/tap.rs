//! A relay between clients and the daemon that keeps what both send, as a count of its own.

use async_tungstenite::tungstenite::protocol::frame::FrameHeader;
use async_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What went over connections in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub messages: u64,
    pub bytes: u64,
}

/// The bytes of one connection in one direction.
type Bytes = Arc<Mutex<Vec<u8>>>;

/// A relay to a listener of the daemon. It runs until the test process ends.
pub struct Tap {
    /// The address that clients connect to instead of the daemon's.
    pub address: SocketAddr,
    /// What the clients and the daemon have sent, by connection.
    connections: Arc<Mutex<Vec<[Bytes; 2]>>>,
}

impl Tap {
    pub fn new(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
        };
        let connections = Arc::clone(&tap.connections);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, daemon) = (client.unwrap(), TcpStream::connect(daemon).unwrap());
                let kept = [Bytes::default(), Bytes::default()];
                connections.lock().unwrap().push(kept.clone());
                let [from_client, from_daemon] = kept;
                relay(&client, &daemon, from_client);
                relay(&daemon, &client, from_daemon);
            }
        });
        tap
    }

    /// Returns what all clients have sent so far, and what the daemon has sent them.
    pub fn sent(&self) -> [Sent; 2] {
        let connections = self.connections.lock().unwrap();
        [0, 1].map(|direction| {
            let sent = connections
                .iter()
                .map(|kept| count(&kept[direction].lock().unwrap()));
            sent.fold(Sent::default(), |sum, sent| Sent {
                messages: sum.messages + sent.messages,
                bytes: sum.bytes + sent.bytes,
            })
        })
    }
}

/// Passes on what is read, and then the end.
fn relay(from: &TcpStream, to: &TcpStream, kept: Bytes) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            kept.lock().unwrap().extend(&buffer[..bytes]);
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Counts the data messages after an HTTP head, and all bytes.
fn count(bytes: &[u8]) -> Sent {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
    let mut frames = Cursor::new(head.map_or(&[][..], |end| &bytes[end + 4..]));
    let mut messages = 0;
    while let Ok(Some((header, length))) = FrameHeader::parse(&mut frames) {
        let is_last = header.is_final && matches!(header.opcode, OpCode::Data(_));
        messages += u64::from(is_last);
        frames.set_position(frames.position() + length);
    }
    Sent {
        messages,
        bytes: bytes.len() as u64,
    }
}
