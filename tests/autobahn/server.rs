//! The server that the Autobahn suite talks to: the daemon's own listeners and connections, with a realm that sends
//! each message back unchanged, text and binary, however large and however often.
//!
//! `autobahn-server [ADDRESS [CERTIFICATE KEY]]`, by default on a port that the system chooses; the log says which. With the
//! files of a certificate and its key it speaks TLS. It stops when its standard input ends, and so never outlives the
//! process that started it.
//!
//! It is not the protocol Echo of `tests/echo/`, which is an example of a whole protocol: that one is added to the
//! table in a copy of the repository, has options, a close reason and tests, and ignores binary messages. This one is
//! in no table, so no configuration can name it.

use async_std::io;
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;
use switchboard::base::close::DisconnectReason;
use switchboard::base::frame::Frame;
use switchboard::config::{Address, Config, Listener, TlsSettings};
use switchboard::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Message, Protocol, Realm, Rejection,
    SettingError, SettingMap, SlowConsumerPolicy,
};
use switchboard::server::{Server, WhenTaken};
use switchboard::sys::signals::Request;
use switchboard::sys::{executor, open_files};

/// A realm that sends each message back to its sender.
struct EchoAnything;

static PROTOCOL: Protocol = Protocol {
    listener_defaults: || json!({"max_message_size": 16 << 20}),
    slow_consumer_policy: SlowConsumerPolicy::Backpressure,
    ..Protocol::bare::<EchoAnything>("autobahn", |_| {
        Box::new(|message| Some(Command::new(message)))
    })
};

impl Realm for EchoAnything {
    fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Ok(Self)
    }

    fn reconfigure(&mut self, _: &mut Context, _: &SettingMap) -> Result<(), Vec<SettingError>> {
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
    }

    fn open(
        &mut self,
        _: &mut Context,
        _: ConnectionId,
        _: ConnectRequest,
    ) -> Result<(), Rejection> {
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let frame = match command.into() {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::binary(bytes),
        };
        cx.send(conn, frame);
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(&mut self, _: &mut Context, _: ConnectionId, _: DisconnectReason) {}
}

fn main() -> ExitCode {
    femme::with_level(log::LevelFilter::Info);
    let mut listener = Listener::built_in(&PROTOCOL);
    if let Some(address) = std::env::args().nth(1) {
        match address.parse() {
            Ok(address) => listener.settings.address = Address::Ip(address),
            Err(_) => {
                eprintln!(
                    "autobahn-server: ADDRESS must be a socket address, such as 127.0.0.1:9001"
                );
                return ExitCode::from(2);
            }
        }
    }
    let files: Vec<String> = std::env::args().skip(2).collect();
    if let [certificate, key] = &files[..] {
        match TlsSettings::load(certificate, key) {
            Ok(tls) => listener.settings.tls = Some(tls),
            Err(problem) => {
                eprintln!("autobahn-server: {problem}");
                return ExitCode::from(2);
            }
        }
    }
    // Longer than a suite waits, so that the suite notices a connection that is not closed in time.
    listener.settings.close_timeout = Duration::from_secs(60);
    let mut config = Config::built_in();
    config.listeners = vec![listener];
    let open_files = open_files::raise_limit();
    executor::start(config.process.threads);
    match Server::bind(config, open_files, WhenTaken::Fail) {
        Ok(server) => {
            async_io::block_on(server.run(
                futures::stream::once(async {
                    // An error ends the input, too.
                    let _ = io::copy(&mut io::stdin(), &mut io::sink()).await;
                    Request::Stop
                }),
                || unreachable!("only signals ask for a reload"),
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("autobahn-server: {error}");
            ExitCode::FAILURE
        }
    }
}
