//! The status port of a daemon whose broker hangs.

use crate::common::status_port::request;
use crate::common::{HANDSHAKE, masked_frame, read_head, tcp, wait_until};
use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use switchboard::base::close::DisconnectReason;
use switchboard::config::{Address, Config, Listener};
use switchboard::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Protocol, Realm, Rejection,
    SettingError, SettingMap,
};
use switchboard::server::{Server, WhenTaken};

/// A realm that does not return from a message until [`RELEASE`] is closed.
struct Hanging;

static RELEASE: Mutex<Option<Receiver<()>>> = Mutex::new(None);

static HANGING: Protocol =
    Protocol::bare::<Hanging>("hanging", |_| Box::new(|_| Some(Command::new(()))));

impl Realm for Hanging {
    fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Ok(Self)
    }

    fn reconfigure(
        &mut self,
        _: &mut Context<'_>,
        _: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &HANGING
    }

    fn open(
        &mut self,
        _: &mut Context,
        _: ConnectionId,
        _: ConnectRequest,
    ) -> Result<(), Rejection> {
        Ok(())
    }

    fn command(&mut self, _: &mut Context, _: ConnectionId, _: Command) {
        let release = RELEASE
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let _ = release.unwrap().recv();
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(&mut self, _: &mut Context, _: ConnectionId, _: DisconnectReason) {}
}

#[test]
fn while_the_broker_hangs_the_daemon_is_not_healthy_and_still_says_what_it_knows() {
    let (release, released) = channel();
    *RELEASE.lock().unwrap() = Some(released);
    let free = || {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        socket.local_addr().unwrap()
    };
    let (address, status) = (free(), free());
    let mut config = Config::built_in();
    config.process.status = Some(Address::Ip(status));
    let mut listener = Listener::built_in(&HANGING);
    listener.settings.address = Address::Ip(address);
    config.listeners = vec![listener];
    let server = Server::bind(config, 1000, WhenTaken::Fail).unwrap();
    thread::spawn(|| {
        async_std::task::block_on(server.run(futures::stream::pending(), || unreachable!()))
    });
    let mut stream = tcp(address);
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    read_head(&mut stream);
    let healthz = || request(status, "GET /healthz");
    wait_until("it is healthy", || healthz().starts_with("HTTP/1.1 200 "));
    stream.write_all(&masked_frame(1, b"hang")).unwrap();
    wait_until("it is not", || healthz().starts_with("HTTP/1.1 503 "));
    let metrics = request(status, "GET /metrics");
    assert!(metrics.contains("\nswitchboard_healthy 0\n"), "{metrics}");
    assert!(
        metrics.contains("\nswitchboard_connections{protocol=\"hanging\""),
        "{metrics}"
    );
    assert!(request(status, "GET /status").contains("\"healthy\":false"));
    drop(release);
    wait_until("it is healthy again", || {
        healthz().starts_with("HTTP/1.1 200 ")
    });
}
