//! Echo: sends each text back to the client that it came from, so many times for each connection.

mod close_reasons;
mod options;

use crate::base::close::DisconnectReason;
use crate::base::frame::Frame;
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, Message, Protocol, Realm, Rejection,
    SettingError, SettingMap, SlowConsumerPolicy,
};
use async_tungstenite::tungstenite::Utf8Bytes;
pub use options::Options;
use serde_json::json;
use std::collections::BTreeMap;

/// Path that a client connects to.
const ENDPOINT: &str = "/echo";

/// Echo as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "echo",
    endpoint: |_| ENDPOINT.to_owned(),
    listener_defaults: || json!({"address": "localhost:7000"}),
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Disconnect,
    min_outbox_messages: 0,
    methods: &[],
    full_message: None,
    matches_path: |path| path == ENDPOINT,
    client_id: |_| None,
    token_parameter: None,
    try_page: None,
    new_decoder: |_| {
        Box::new(|message| match message {
            Message::Text(text) => Some(Command::new(text)),
            Message::Binary(_) => None,
        })
    },
    new_realm: new_realm::<Echo>,
};

/// The connections of one listener.
pub struct Echo {
    options: Options,
    /// Number of texts that each connection was sent back.
    echoes: BTreeMap<ConnectionId, u32>,
    /// Number of connections that were closed because they had enough.
    rate_limited: u64,
}

impl Realm for Echo {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        Ok(Self {
            options: Options::from_map(options)?,
            echoes: BTreeMap::new(),
            rate_limited: 0,
        })
    }

    fn reconfigure(
        &mut self,
        _cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.options = Options::from_map(options)?;
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
    }

    fn open(
        &mut self,
        _cx: &mut Context,
        conn: ConnectionId,
        _request: ConnectRequest,
    ) -> Result<(), Rejection> {
        self.echoes.insert(conn, 0);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let text: Utf8Bytes = command.into();
        let Some(echoes) = self.echoes.get_mut(&conn) else {
            return;
        };
        if *echoes == self.options.max_echoes {
            self.rate_limited += 1;
            return cx.close(conn, close_reasons::ENOUGH_ECHOES);
        }
        *echoes += 1;
        cx.send(conn, Frame::text(text));
    }

    fn close(&mut self, _cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        self.echoes.remove(&conn);
    }

    fn figures(&self) -> Figures {
        Figures {
            sizes: vec![("clients", self.echoes.len())],
            rate_limited: self.rate_limited,
        }
    }

    fn free_spare(&mut self) {
        let Self {
            echoes,
            rate_limited: _,
            options: _,
        } = self;
        echoes.free_spare();
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
