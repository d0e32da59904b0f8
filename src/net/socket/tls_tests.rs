//! Turns of sockets with TLS.

use super::tests::{read, tcp, wait_until};
use super::*;
use crate::base::memory_budget::MemoryBudget;
use async_io::block_on;
use futures_rustls::rustls::crypto::ring::default_provider;
use futures_rustls::rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use futures_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
use rcgen::generate_simple_self_signed;
use std::io::Write;
use std::net::TcpStream;
use std::task::Waker;

/// Returns a client after its TLS handshake, and the socket of the server.
fn tls() -> (ClientConnection, TcpStream, ClientSocket) {
    let generated = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = generated.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(generated.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::new(client), name).unwrap();
    let (mut stream, socket) = tcp();
    let client = std::thread::spawn(move || {
        session.complete_io(&mut stream).unwrap();
        (session, stream)
    });
    let memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
    let socket = block_on(socket.accept_tls(Vec::new(), Arc::new(server), memory)).unwrap();
    let (session, stream) = client.join().unwrap();
    (session, stream, socket)
}

fn unread(socket: &ClientSocket) -> usize {
    let bytes = rustix::io::ioctl_fionread(socket.stream.as_fd()).unwrap();
    bytes.try_into().unwrap()
}

/// Sends these records, and has the socket read in one turn. Returns how many bytes that has taken from it, and how many it
/// has read.
fn read_turn(stream: &mut TcpStream, records: &[u8], socket: &mut ClientSocket) -> (usize, usize) {
    stream.write_all(records).unwrap();
    wait_until("all has come", || unread(socket) == records.len());
    wait_until("that is told", || socket.status.is_readable());
    let mut cx = Context::from_waker(Waker::noop());
    let mut bytes = 0;
    while let Poll::Ready(read) = Pin::new(&mut *socket).poll_read(&mut cx, &mut [0; 8192]) {
        bytes += read.unwrap();
    }
    (records.len() - unread(socket), bytes)
}

#[test]
fn a_turn_is_charged_what_came_from_the_socket_and_not_what_it_says() {
    let (mut session, mut stream, mut socket) = tls();
    let mut records = Vec::new();
    for _ in 0..2000 {
        session.writer().write_all(b"x").unwrap();
        session.write_tls(&mut records).unwrap();
    }
    let (taken, bytes) = read_turn(&mut stream, &records, &mut socket);
    assert!((READ_BUDGET..2 * READ_BUDGET).contains(&taken), "{taken}");
    assert_eq!(read(&mut socket, 2000 - bytes), vec![b'x'; 2000 - bytes]);
}

#[test]
fn a_turn_ends_in_the_middle_of_a_record_and_the_next_goes_on_with_it() {
    let (mut session, mut stream, mut socket) = tls();
    let text = vec![b'x'; READ_BUDGET];
    session.writer().write_all(&text).unwrap();
    let mut record = Vec::new();
    session.write_tls(&mut record).unwrap();
    let (taken, bytes) = read_turn(&mut stream, &record, &mut socket);
    assert_eq!((taken, bytes), (READ_BUDGET, 0));
    assert_eq!(read(&mut socket, READ_BUDGET), text);
}
