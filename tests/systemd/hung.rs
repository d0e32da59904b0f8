//! A daemon whose broker can be hung: a client's message `hang` keeps it busy for ever. `tests/systemd/run` sees
//! whether systemd's watchdog notices.

use serde_json::json;
use std::process::ExitCode;
use switchboard::base::close::DisconnectReason;
use switchboard::config::{Config, Listener};
use switchboard::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Message, Protocol, Realm, Rejection,
    SettingError, SettingMap,
};
use switchboard::server::{Server, WhenTaken};
use switchboard::sys::{executor, open_files};

/// A realm that never returns from its first command.
struct Hanging;

static HANGING: Protocol = Protocol {
    listener_defaults: || json!({"address": "localhost:7001"}),
    ..Protocol::bare::<Hanging>("hanging", |_| {
        Box::new(|message| match message {
            Message::Text(text) if text.as_str() == "hang" => Some(Command::new(())),
            _ => None,
        })
    })
};

impl Realm for Hanging {
    fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Ok(Self)
    }

    fn reconfigure(&mut self, _: &mut Context, _: &SettingMap) -> Result<(), Vec<SettingError>> {
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
        loop {
            std::thread::park();
        }
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn close(&mut self, _: &mut Context, _: ConnectionId, _: DisconnectReason) {}
}

fn main() -> ExitCode {
    femme::with_level(log::LevelFilter::Info);
    let mut config = Config::built_in();
    config.listeners = vec![Listener::built_in(&HANGING)];
    executor::start(config.process.threads);
    match Server::bind(config, open_files::raise_limit(), WhenTaken::Fail) {
        Ok(server) => {
            async_io::block_on(server.run(futures::stream::pending(), || unreachable!()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hung: {error}");
            ExitCode::FAILURE
        }
    }
}
