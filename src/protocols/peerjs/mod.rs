//! PeerJS: a WebRTC signalling server like the npm package `peer`, for clients that use the npm package
//! `peerjs`.
//!
//! A client has an id and a token. A message to the id of another client is relayed, or stored for a few
//! seconds if no such client is connected. The payload belongs to WebRTC; the server does not read it.

mod codec;
mod mailbox;
mod messages;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::realm::options::check_minimum;
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, HttpReply, Message, Method, Realm, Receipt,
    Rejection, Request, SlowConsumerPolicy,
};
use crate::toolkit::in_flight::InFlightResponses;
use mailbox::{Limits, Mailbox};
pub use messages::{ClientMessage, Transmission};
use messages::{ErrorPayload, MAX_ID_BYTES, ServerMessage};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Body of the response to `GET {path}` ("HTTP API").
const SERVER_INFO: &str = r#"{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}"#;

/// Message to a client that is rejected because of `concurrent_limit` or `max_connections`.
const FULL_ERROR: &str =
    r#"{"type":"ERROR","payload":{"msg":"Server has reached its concurrent user limit"}}"#;

/// Options of a PeerJS listener. Those that the npm package `peer` has, too, have its names.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Base path of the HTTP API and the WebSocket.
    path: String,
    /// The `key` that clients must send.
    key: String,
    /// Seconds without a message after which a client is closed; 0: no limit.
    alive_timeout: u32,
    /// Seconds that a message for an absent client is stored.
    expire_timeout: u32,
    /// Number of clients; 0: no limit.
    concurrent_limit: u32,
    /// Whether `GET {path}/{key}/peers` lists the ids of all clients.
    allow_discovery: bool,
    /// Messages stored for one destination; 0: no limit.
    stored_per_destination: usize,
    /// Messages stored from one source; 0: no limit.
    stored_per_source: usize,
    /// Bytes stored from one source; 0: no limit.
    stored_source_size: usize,
    /// Bytes stored in all; 0: no limit.
    stored_size: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            key: "peerjs".to_owned(),
            alive_timeout: 60,
            expire_timeout: 5,
            concurrent_limit: 5000,
            allow_discovery: false,
            stored_per_destination: 64,
            stored_per_source: 64,
            stored_source_size: 4 << 20,
            stored_size: 16 << 20,
        }
    }
}

/// A client that holds an id.
struct Peer {
    connection: ConnectionId,
    token: String,
    /// Time of the last message, or of OPEN.
    last_message: Duration,
}

/// The clients of one listener.
pub struct PeerJs {
    options: Options,
    /// The configured path, percent-decoded and without a slash at its end.
    base_path: String,
    /// Clients by id.
    peers: BTreeMap<String, Peer>,
    /// Id of each connection. A connection that was rejected or replaced has none.
    id_by_connection: BTreeMap<ConnectionId, String>,
    /// The newest list of all ids, as JSON.
    list: Option<Arc<str>>,
    /// Whether `list` has the ids of the clients that are connected now.
    is_list_current: bool,
    /// Lists that are being sent.
    in_flight_lists: InFlightResponses,
    mailbox: Mailbox,
}

/// The message to a client that is rejected, and the close reason.
type CloseWith = (Frame, CloseReason);

/// Resources below the configured path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    ServerInfo,
    NewId,
    PeerList,
    WebSocket,
}

impl Realm for PeerJs {
    const NAME: &'static str = "peerjs";
    const ENDPOINT: &'static str = "/peerjs";
    const DEFAULTS: Defaults = Defaults {
        port: 9000,
        origins: &["*"],
        handshake_timeout: 10,
        max_message_size: 8 << 20,
        ping_every: 0,
        message_timeout: 75,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;
    const METHODS: &'static [Method] = &[Method::Get];
    const FULL_MESSAGE: Option<&'static str> = Some(FULL_ERROR);

    type Options = Options;
    type Decoder = ();
    type Command = ClientMessage;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if !options.path.starts_with('/') || options.path.contains(['?', '#']) {
            let path = &options.path;
            let problem = format!(
                "must begin with \"/\" and contain neither \"?\" nor \"#\", such as \"/my/app\", not {path:?}"
            );
            return Err(("path", problem));
        }
        if options.key.is_empty() {
            return Err((
                "key",
                "must not be empty; the default is \"peerjs\"".to_owned(),
            ));
        }
        check_minimum(&[("expire_timeout", options.expire_timeout, 1, "seconds")])?;
        let limits = Limits {
            per_destination: options.stored_per_destination,
            per_source: options.stored_per_source,
            source_bytes: options.stored_source_size,
            bytes: options.stored_size,
        };
        let base_path = percent_decoded(options.path.trim_end_matches('/')).into_owned();
        Ok(Self {
            options,
            base_path,
            peers: BTreeMap::new(),
            id_by_connection: BTreeMap::new(),
            list: None,
            is_list_current: false,
            in_flight_lists: InFlightResponses::default(),
            mailbox: Mailbox::new(limits),
        })
    }

    fn endpoint(options: &Options) -> String {
        format!("{}{}", options.path.trim_end_matches('/'), Self::ENDPOINT)
    }

    /// Always true: the path depends on the options, so `open` and `request` check it.
    fn matches_path(_: &str) -> bool {
        true
    }

    fn decode((): &mut (), message: Message) -> Option<ClientMessage> {
        codec::decode(&message)
    }

    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply {
        match self.route(&request.connect.path) {
            Some(Route::ServerInfo) => HttpReply::Ok {
                content_type: "application/json; charset=utf-8",
                body: SERVER_INFO.into(),
            },
            Some(Route::NewId) => HttpReply::Ok {
                content_type: "text/plain; charset=utf-8",
                body: self.unused_id(cx).into(),
            },
            Some(Route::PeerList) if self.options.allow_discovery => HttpReply::Ok {
                content_type: "application/json; charset=utf-8",
                body: self.peer_list(),
            },
            Some(Route::PeerList) => HttpReply::Rejected(Rejection {
                status: 401,
                text: "the list of peers is off; the server's option \"allow_discovery\" turns it on",
            }),
            Some(Route::WebSocket) => HttpReply::UpgradeRequired {
                target: format!(
                    "{}?key={}&id=ID&token=TOKEN",
                    Self::endpoint(&self.options),
                    self.options.key
                ),
            },
            None => HttpReply::Rejected(Rejection {
                status: 404,
                text: "not found",
            }),
        }
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        if self.route(&request.path) != Some(Route::WebSocket) {
            return Err(Rejection {
                status: 404,
                text: "not found: the WebSocket is at \"peerjs\" below the configured path",
            });
        }
        if let Err((error, reason)) = self.handle_connect(cx, conn, &request) {
            cx.send(conn, error);
            cx.close(conn, reason);
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, message: ClientMessage) {
        // A connection that was rejected or replaced has no id, and is about to close.
        let Some(source) = self.id_by_connection.get(&conn) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(source) {
            peer.last_message = cx.now;
        }
        let transmission = match message {
            ClientMessage::KeepAlive => return,
            ClientMessage::Leave => return cx.close(conn, CloseReason::ClientLeft),
            ClientMessage::Transmit(transmission) => transmission,
        };
        let Transmission {
            message_type, dst, ..
        } = &transmission;
        let frame = transmission.to_frame(source);
        let expire = || expire_message(source, dst);
        if let Some(peer) = self.peers.get(dst) {
            // `deliver` does not close a destination whose outbox is full. Any client may write to any
            // other, so with `send` any client could disconnect another by filling its outbox.
            let receipt = Receipt {
                to: conn,
                delivered: None,
                failed: message_type.is_stored().then(expire),
            };
            cx.deliver(peer.connection, frame, receipt);
        } else if message_type.is_stored() {
            // No client can have an id above the limit.
            let is_stored =
                dst.len() <= MAX_ID_BYTES && self.mailbox.push(cx.now, source, dst, frame);
            if !is_stored {
                cx.send(conn, expire());
            }
        }
    }

    fn close(&mut self, _: &mut Context, conn: ConnectionId, _: DisconnectReason) {
        // A connection that was replaced has no id any more, so its end changes nothing.
        if let Some(id) = self.id_by_connection.remove(&conn) {
            self.peers.remove(&id);
            self.mailbox.remove_source(&id);
            self.is_list_current = false;
        }
    }

    fn stored_bytes(&self) -> usize {
        self.mailbox.bytes() + self.in_flight_lists.bytes()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        let id = self.id_by_connection.get(&conn);
        id.map_or(0, |id| self.mailbox.bytes_of(id))
    }

    fn tick(&mut self, cx: &mut Context) {
        self.in_flight_lists.release_unused();
        let expire_timeout = Duration::from_secs(self.options.expire_timeout.into());
        if let Some(until) = cx.now.checked_sub(expire_timeout) {
            for (source, dst) in self.mailbox.expire(until) {
                if let Some(peer) = self.peers.get(&source) {
                    cx.send(peer.connection, expire_message(&source, &dst));
                }
            }
        }
        let alive_timeout = Duration::from_secs(self.options.alive_timeout.into());
        if !alive_timeout.is_zero() {
            let now = cx.now;
            let is_silent = |peer: &&Peer| peer.last_message + alive_timeout <= now;
            for peer in self.peers.values().filter(is_silent) {
                cx.close(peer.connection, CloseReason::TimedOut);
            }
        }
    }
}

impl PeerJs {
    /// Returns the resource at a path. A slash at the end of the path is allowed, except at that of the
    /// WebSocket: the document has none there.
    fn route(&self, path: &str) -> Option<Route> {
        let path = percent_decoded(path);
        let below = path.strip_prefix(&self.base_path)?;
        if matches!(below, "" | "/") {
            return Some(Route::ServerInfo);
        }
        let below = below.strip_prefix('/')?;
        if below == "peerjs" {
            return Some(Route::WebSocket);
        }
        match below.strip_prefix(&self.options.key)? {
            "/id" | "/id/" => Some(Route::NewId),
            "/peers" | "/peers/" => Some(Route::PeerList),
            _ => None,
        }
    }

    /// Returns the ids of all clients in ascending order, as JSON. While slow readers hold
    /// too many lists in memory, it is an older list.
    fn peer_list(&mut self) -> Arc<str> {
        let has_capacity = self.in_flight_lists.has_capacity();
        match &self.list {
            Some(list) if self.is_list_current || !has_capacity => Arc::clone(list),
            _ => {
                let ids: Vec<&String> = self.peers.keys().collect();
                let list = serde_json::to_string(&ids).expect("strings are JSON");
                let list: Arc<str> = list.into();
                self.in_flight_lists.add(&list);
                self.is_list_current = true;
                Arc::clone(self.list.insert(list))
            }
        }
    }

    /// Returns a new id that no client has.
    fn unused_id(&self, cx: &mut Context) -> String {
        loop {
            let id = cx.uuid().to_string();
            if !self.peers.contains_key(&id) {
                return id;
            }
        }
    }

    /// Reads the id and the token of a client.
    ///
    /// # Errors
    /// A parameter is missing, wrong or too long: the message that says so, and the close reason.
    fn credentials(&self, request: &ConnectRequest) -> Result<(String, String), CloseWith> {
        let reject = |msg, reason| {
            let payload = ErrorPayload { msg };
            Err((Frame::json(&ServerMessage::Error { payload }), reason))
        };
        let parameter = |name| request.parameter(name).filter(|value| !value.is_empty());
        let (Some(id), Some(token), Some(key)) =
            (parameter("id"), parameter("token"), parameter("key"))
        else {
            let msg = "No id, token, or key supplied to websocket server";
            return reject(msg, CloseReason::BadParameters);
        };
        if key != self.options.key {
            return reject("Invalid key provided", CloseReason::WrongKey);
        }
        if id.len() > MAX_ID_BYTES || token.len() > MAX_ID_BYTES {
            let msg = "Id or token is longer than 256 bytes";
            return reject(msg, CloseReason::BadParameters);
        }
        Ok((id, token))
    }

    /// Admits a client under its id, and sends OPEN and the messages that were stored for it.
    ///
    /// # Errors
    /// The message with the reason why the client is rejected, and the close reason.
    fn handle_connect(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: &ConnectRequest,
    ) -> Result<(), CloseWith> {
        let (id, token) = self.credentials(request)?;
        if let Some(peer) = self.peers.get_mut(&id) {
            if !bool::from(peer.token.as_bytes().ct_eq(token.as_bytes())) {
                let payload = ErrorPayload { msg: "ID is taken" };
                let taken = Frame::json(&ServerMessage::IdTaken { payload });
                return Err((taken, CloseReason::IdTaken));
            }
            let old = std::mem::replace(&mut peer.connection, conn);
            peer.last_message = cx.now;
            self.id_by_connection.remove(&old);
            cx.close(old, CloseReason::Replaced);
        } else {
            let limit = self.options.concurrent_limit as usize;
            if limit > 0 && self.peers.len() >= limit {
                return Err((Frame::text(FULL_ERROR), CloseReason::TooManyConnections));
            }
            let peer = Peer {
                connection: conn,
                token,
                last_message: cx.now,
            };
            self.peers.insert(id.clone(), peer);
            self.is_list_current = false;
        }
        cx.send(conn, Frame::json(&ServerMessage::Open));
        for frame in self.mailbox.take(&id) {
            cx.send(conn, frame);
        }
        self.id_by_connection.insert(conn, id);
        Ok(())
    }

    /// Returns whether no client, connection or message is left.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.id_by_connection.is_empty() && self.mailbox.is_empty()
    }
}

/// Percent-decodes a path. Bytes that are not UTF-8 become U+FFFD.
fn percent_decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// Returns the EXPIRE that notifies a source that messages for `dst` were not delivered.
fn expire_message(source: &str, dst: &str) -> Frame {
    Frame::json(&ServerMessage::Expire {
        src: dst,
        dst: source,
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
