//! What crosses records, waits in them, and is left when a client does not read.

use super::{FROM, start};
use crate::common::tls::Certificate;
use crate::common::{Client, Pair, masked_frame, tcp};
use async_tungstenite::tungstenite::Message;
use futures_rustls::rustls::pki_types::ServerName;
use futures_rustls::rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Opcodes of frames (RFC 6455 section 5.2).
const TEXT: u8 = 1;
const PING: u8 = 9;
const CLOSE: u8 = 8;

/// A client that sends records as it likes.
pub struct RecordClient(pub StreamOwned<ClientConnection, TcpStream>);

impl RecordClient {
    /// Connects, and has TLS alone begin.
    pub fn begin(address: SocketAddr, certificate: &Certificate) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(certificate.client_config(), name).unwrap();
        let mut tls = StreamOwned::new(session, tcp(address));
        tls.conn.complete_io(&mut tls.sock).unwrap();
        Self(tls)
    }

    /// Connects to a target.
    pub fn connect(address: SocketAddr, certificate: &Certificate, target: &str) -> Self {
        let Self(mut tls) = Self::begin(address, certificate);
        tls.write_all(crate::common::handshake(target).as_bytes())
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            tls.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        Self(tls)
    }

    /// Returns the opcode and the payload of the next frame that is no text: Workspace greets its clients.
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (opcode, payload) = self.any_frame();
            if opcode != TEXT {
                return (opcode, payload);
            }
        }
    }

    fn any_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let mut length = usize::from(head[1]);
        if length == 126 {
            let mut long = [0; 2];
            self.0.read_exact(&mut long).unwrap();
            length = u16::from_be_bytes(long).into();
        }
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).unwrap();
        (head[0] & 0x0f, payload)
    }

    /// Encrypts bytes, and returns the records.
    pub fn encrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.conn.writer().write_all(bytes).unwrap();
        let mut records = Vec::new();
        while self.0.conn.wants_write() {
            self.0.conn.write_tls(&mut records).unwrap();
        }
        records
    }
}

#[test]
fn all_messages_of_one_record_are_handled_though_the_socket_has_nothing_more() {
    let certificate = Certificate::new();
    let (daemon, _) = start("workspace", &certificate, json!({}));
    let mut client = RecordClient::connect(daemon.address(), &certificate, "/ws");
    // More than one turn handles, and than one buffer takes.
    let frames: Vec<u8> = (0..150_u8)
        .flat_map(|n| masked_frame(PING, &[n; 100]))
        .collect();
    assert!(frames.len() < 16 << 10);
    let record = client.encrypt(&frames);
    client.0.sock.write_all(&record).unwrap();
    for n in 0..150 {
        assert_eq!(client.frame(), (PING + 1, vec![n; 100]));
    }
}

#[test]
fn a_connection_ends_with_a_close_frame_and_close_notify() {
    let certificate = Certificate::new();
    let (daemon, _) = start("workspace", &certificate, json!({}));
    let mut client = RecordClient::connect(daemon.address(), &certificate, "/ws");
    client
        .0
        .write_all(&masked_frame(CLOSE, &1000_u16.to_be_bytes()))
        .unwrap();
    assert_eq!(client.frame().0, CLOSE);
    // Without close_notify this is an error.
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_closes_tcp_alone_has_left_like_another() {
    let certificate = Certificate::new();
    let (mut daemon, _) = start("peerdrop", &certificate, json!({}));
    let client = RecordClient::connect(daemon.address(), &certificate, "/ws/chat");
    drop(client.0.sock);
    daemon.wait_for_log("peerdrop #1: lost");
    let log = daemon.stop_and_read_log();
    assert!(
        !log.iter()
            .any(|it| it.contains("ERROR") || it.contains("panic")),
        "{log:?}"
    );
}

#[test]
fn a_record_that_is_never_finished_ends_its_connection() {
    let certificate = Certificate::new();
    let (daemon, _) = start("workspace", &certificate, json!({"message_timeout": 1}));
    for before in [&[][..], &masked_frame(TEXT, b"{}")] {
        let mut client = RecordClient::connect(daemon.address(), &certificate, "/ws");
        let whole = client.encrypt(before);
        let record = client.encrypt(&masked_frame(PING, b"x"));
        let part = &record[..record.len() - 1];
        client.0.sock.write_all(&[&whole, part].concat()).unwrap();
        let (opcode, payload) = client.frame();
        assert_eq!(
            (opcode, &payload[..2]),
            (CLOSE, &1008_u16.to_be_bytes()[..])
        );
    }
}

#[test]
fn a_record_that_is_wrong_costs_no_message_before_it_and_is_answered_by_an_alert() {
    let certificate = Certificate::new();
    let (daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut sender = RecordClient::connect(daemon.address(), &certificate, "/ws/chat");
    let code = String::from_utf8(sender.any_frame().1).unwrap();
    let mut recipient = Client::connect(address, &format!("/ws/chat/{code}"));
    recipient.receive_text();
    let whole = sender.encrypt(&masked_frame(TEXT, b"last"));
    let wrong = [&b"\x17\x03\x03\x00\x20"[..], &[0x7a; 32]].concat();
    sender.0.sock.write_all(&[whole, wrong].concat()).unwrap();
    assert_eq!(recipient.receive_text(), "last");
    let error = loop {
        if let Err(error) = sender.0.read(&mut [0; 100]) {
            break error.to_string();
        }
    };
    assert!(error.contains("fatal alert"), "{error}");
}

#[test]
fn messages_of_20_mb_go_both_ways() {
    let certificate = Certificate::new();
    let (_daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    for client in [&mut pair.sender, &mut pair.recipient] {
        client.socket.set_config(|config| {
            config.max_message_size = None;
            config.max_frame_size = None;
        });
    }
    // The second is read another way than the first (`large_message.rs`).
    for letter in ["a", "b"] {
        let text = letter.repeat(20 << 20);
        for (from, to) in [(0, 1), (1, 0)] {
            let clients = [&mut pair.sender, &mut pair.recipient];
            clients[from].send(text.clone());
            assert!(
                clients[to].receive_text() == text,
                "another text of {letter}"
            );
        }
    }
}

#[test]
fn what_waits_for_a_client_that_does_not_read_is_sent_when_it_does() {
    let certificate = Certificate::new();
    let (_daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    let text = |n: usize| format!("{n} {}", "x".repeat(10_000));
    const COUNT: usize = 2000;
    // More than all buffers between them hold: the sender is paused before its last message is sent.
    std::thread::scope(|scope| {
        let sender = &mut pair.sender;
        scope.spawn(move || {
            for n in 0..COUNT {
                sender.send(text(n));
            }
            // Nothing follows that would have the last bytes written.
        });
        for n in 0..COUNT {
            assert!(pair.recipient.receive_text() == text(n), "message {n}");
        }
    });
}

#[test]
fn a_client_that_is_closed_for_not_reading_is_told_so_after_what_it_was_sent() {
    let certificate = Certificate::new();
    let (_daemon, address) = start("peerdrop", &certificate, json!({}));
    let mut pair = Pair::connect("peerdrop", address, FROM);
    // Some of it waits encrypted for the socket when the sender leaves.
    let text = "x".repeat(4 << 20);
    pair.sender
        .socket
        .send(Message::Text(text.clone().into()))
        .unwrap();
    pair.sender.ping();
    let Pair {
        sender,
        mut recipient,
        ..
    } = pair;
    Client::abort(sender);
    assert!(recipient.receive_text() == text);
    assert_eq!(recipient.expect_close(), (1000, "peer left".to_owned()));
}
