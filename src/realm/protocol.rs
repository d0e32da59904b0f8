//! A protocol as data: what the daemon must know of it before there is a connection, and how to create its realm.

use super::{
    Command, ConnectRequest, Message, Method, Realm, Setting, SettingError, SettingMap,
    SlowConsumerPolicy, TokenReader,
};
use crate::base::close::CloseReason;
use serde_json::{Value, json};
use std::sync::Arc;

/// Decodes the messages of one connection, in the connection's own task. It keeps what the next message needs: the
/// client's dialect, if the protocol has several.
///
/// A malformed message becomes a command too, so that the error reply keeps its order among the other replies;
/// whether a command is allowed is for [`Realm::command`] to decide. `None` is a message that the protocol ignores;
/// it is logged.
pub type DecodeFn = Box<dyn FnMut(Message) -> Option<Command> + Send>;

/// Creates the decoder of a new connection, which reads the access tokens in messages with this reader.
pub type NewDecoder = fn(&Arc<dyn TokenReader>) -> DecodeFn;

/// Creates the realm of a listener from its options.
pub type NewRealm = fn(&SettingMap) -> Result<Box<dyn Realm>, Vec<SettingError>>;

/// A protocol. One that is not in the [table](crate::protocols::PROTOCOLS) cannot be named in a configuration file,
/// but [`Listener::built_in`](crate::config::Listener::built_in) can serve it.
#[derive(Debug)]
pub struct Protocol {
    /// Name in the configuration and the log.
    pub name: &'static str,
    /// Returns the path that a client connects to with these options, for messages that say how to connect.
    pub endpoint: fn(&SettingMap) -> String,
    /// Returns an object with the settings of a listener whose defaults are this protocol's own: `address`, and those
    /// that differ from [`ListenerSettings`](crate::config::ListenerSettings).
    pub listener_defaults: fn() -> Value,
    /// Returns the descriptions of the protocol's own settings, its options.
    pub options: fn() -> Vec<Setting>,
    /// The reasons for which the realm closes connections, beside [`CloseReason::COMMON`], in the order of their
    /// codes.
    pub close_reasons: &'static [CloseReason],
    /// The policy for connections whose outbox is full.
    pub slow_consumer_policy: SlowConsumerPolicy,
    /// Number of messages of `max_message_size` that an outbox holds at least, whatever `outbox_size` says.
    pub min_outbox_messages: usize,
    /// The methods of plain HTTP requests that [`Realm::request`] answers. The responses have CORS headers, since web
    /// pages send these requests. Without any method the response says how to connect.
    pub methods: &'static [Method],
    /// The message for a client above `max_connections`, sent before it is closed with
    /// [`CloseReason::TOO_MANY_CONNECTIONS`]. Without one, such a client receives HTTP 503.
    pub full_message: Option<&'static str>,
    /// Returns whether the protocol is served at this path; otherwise the response is 404.
    pub matches_path: fn(&str) -> bool,
    /// Returns the id that a client chose in its handshake, by which an operator finds its connection in the log, if
    /// the protocol has such ids. Never a secret.
    pub client_id: fn(&ConnectRequest) -> Option<String>,
    /// The parameter of the query that may be an access token, beside `access_token`.
    pub token_parameter: Option<&'static str>,
    /// What the protocol adds to the page on which people try it in a browser; `None`: it has no such page.
    pub try_page: Option<TryPage>,
    /// Creates the decoder of a new connection.
    pub new_decoder: NewDecoder,
    /// Creates the realm of a listener from its options, of which none is missing: [`new_realm`].
    pub new_realm: NewRealm,
}

impl Protocol {
    /// Returns a protocol of this name without options, close reasons and an HTTP API, served at every path: for the
    /// small realms of tests, which set what else they need.
    pub const fn bare<R: Realm>(name: &'static str, new_decoder: NewDecoder) -> Self {
        Self {
            name,
            endpoint: |_| "/".to_owned(),
            listener_defaults: || json!({}),
            options: Vec::new,
            close_reasons: &[],
            slow_consumer_policy: SlowConsumerPolicy::Disconnect,
            min_outbox_messages: 0,
            methods: &[],
            full_message: None,
            matches_path: |_| true,
            client_id: |_| None,
            token_parameter: None,
            try_page: None,
            new_decoder,
            new_realm: new_realm::<R>,
        }
    }

    /// Returns whether the protocol has an HTTP API.
    pub(crate) const fn has_http_api(&self) -> bool {
        !self.methods.is_empty()
    }
}

/// The part of a protocol in the page on which people try it in a browser. What is around it, the same for all protocols, is
/// in `net/http/try_page/`.
#[derive(Debug)]
pub struct TryPage {
    /// Name of the protocol for people.
    pub title: &'static str,
    /// Returns the path of the page with these options, percent-encoded or not: "/", unless that is the protocol's own.
    pub path: fn(&SettingMap) -> String,
    /// The protocol's elements, as HTML.
    pub html: &'static str,
    /// The protocol's script. The functions of the shared one are there.
    pub script: &'static str,
    /// Names of the options that the script has to know. Whoever sees the page can read them.
    pub options: &'static [&'static str],
}

/// Creates a realm for [`Protocol::new_realm`].
///
/// # Errors
/// All options that are invalid.
pub fn new_realm<R: Realm>(options: &SettingMap) -> Result<Box<dyn Realm>, Vec<SettingError>> {
    Ok(Box::new(R::new(options)?))
}
