//! PeerJS: the signalling server of the npm package `peer`, for the clients of the npm package
//! `peerjs`.
//!
//! A client is an id with a token; what one says to another's id is passed on, or kept for a few
//! seconds if that one is not there. What they say is WebRTC's and none of the server's business.

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
use crate::toolkit::response_pool::InFlightResponses;
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

/// What `GET {path}` answers ("HTTP API").
const SERVER_INFO: &str = r#"{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}"#;

/// What clients are told beyond `concurrent_limit` and `max_connections`.
const FULL_ERROR: &str =
    r#"{"type":"ERROR","payload":{"msg":"Server has reached its concurrent user limit"}}"#;

/// What the configuration may say about a PeerJS listener. The names are those of `peer`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where everything is found, HTTP and WebSockets.
    path: String,
    /// What clients name as `key`.
    key: String,
    /// Seconds without a message from a client; 0: no limit.
    alive_timeout: u32,
    /// Seconds that a message for an absent client is kept.
    expire_timeout: u32,
    /// Clients; 0: no limit.
    concurrent_limit: u32,
    /// Whether anybody may ask for the ids of all clients.
    allow_discovery: bool,
    /// Messages kept for one client; 0: no limit.
    stored_per_destination: usize,
    /// Messages kept of one client; 0: no limit.
    stored_per_source: usize,
    /// Bytes kept of one client; 0: no limit.
    stored_source_size: usize,
    /// Bytes kept of all; 0: no limit.
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

/// Somebody with an id.
struct Peer {
    connection: ConnectionId,
    token: String,
    /// When it said something last.
    last_message: Duration,
}

/// The clients of one listener.
pub struct PeerJs {
    options: Options,
    /// The configured path as it is compared: decoded, without a slash at its end.
    base_path: String,
    /// By id.
    peers: BTreeMap<String, Peer>,
    /// The id of each connection that has one.
    id_by_connection: BTreeMap<ConnectionId, String>,
    /// The newest list of all ids as JSON.
    list: Option<Arc<str>>,
    /// Whether it is of those who are here now.
    is_list_current: bool,
    /// All such lists that somebody reads.
    in_flight_lists: InFlightResponses,
    mailbox: Mailbox,
}

/// What there is below the configured path.
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
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;
    const METHODS: &'static [Method] = &[Method::Get];
    const FULL: Option<&'static str> = Some(FULL_ERROR);

    type Options = Options;
    type Reader = ();
    type Command = ClientMessage;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if !options.path.starts_with('/') || options.path.contains(['?', '#']) {
            let path = &options.path;
            let problem = format!("{path:?} is no path, for example \"/\" or \"/my/app\"");
            return Err(("path", problem));
        }
        if options.key.is_empty() {
            return Err(("key", "is empty; for example \"peerjs\"".to_owned()));
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

    /// That depends on the option `path`, so `open` and `request` say it.
    fn matches_path(_: &str) -> bool {
        true
    }

    fn decode((): &mut (), message: Message) -> Option<ClientMessage> {
        codec::decode(&message)
    }

    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply {
        match self.route(&request.hello.path) {
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
                text: "discovery is off; see \"allow_discovery\" in the configuration",
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
                text: "nothing here",
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
                text: "nothing here; connect to \"peerjs\" below the configured path",
            });
        }
        if let Err((error, reason)) = self.handle_connect(cx, conn, &request) {
            cx.send(conn, error);
            cx.close(conn, reason);
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, message: ClientMessage) {
        // Whoever has been refused has none.
        let Some(source) = self.id_by_connection.get(&conn) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(source) {
            peer.last_message = cx.now;
        }
        let transmission = match message {
            ClientMessage::KeepAlive => return,
            ClientMessage::Leave => return cx.close(conn, CloseReason::Goodbye),
            ClientMessage::Transmit(transmission) => transmission,
        };
        let Transmission {
            message_type, dst, ..
        } = &transmission;
        let (frame, expire) = (transmission.to_frame(source), || {
            expire_message(source, dst)
        });
        if let Some(peer) = self.peers.get(dst) {
            // Whoever has no room for it is not closed: anybody may write to anybody here.
            let receipt = Receipt {
                to: conn,
                delivered: None,
                failed: message_type.is_stored().then(expire),
            };
            cx.deliver(peer.connection, frame, receipt);
        } else if message_type.is_stored() {
            // Nobody can have an id that is too long.
            let kept = dst.len() <= MAX_ID_BYTES && self.mailbox.push(cx.now, source, dst, frame);
            if !kept {
                cx.send(conn, expire());
            }
        }
    }

    fn close(&mut self, _: &mut Context, conn: ConnectionId, _: DisconnectReason) {
        // One that has been replaced has no id any more, so its end changes nothing.
        if let Some(id) = self.id_by_connection.remove(&conn) {
            self.peers.remove(&id);
            self.mailbox.remove_source(&id);
            self.is_list_current = false;
        }
    }

    fn stored_bytes(&self) -> usize {
        self.mailbox.bytes()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        let id = self.id_by_connection.get(&conn);
        id.map_or(0, |id| self.mailbox.bytes_of(id))
    }

    fn tick(&mut self, cx: &mut Context) {
        self.in_flight_lists.release_unused();
        let kept = Duration::from_secs(self.options.expire_timeout.into());
        if let Some(until) = cx.now.checked_sub(kept) {
            for (source, dst) in self.mailbox.expire(until) {
                if let Some(peer) = self.peers.get(&source) {
                    cx.send(peer.connection, expire_message(&source, &dst));
                }
            }
        }
        let alive_timeout = Duration::from_secs(self.options.alive_timeout.into());
        if !alive_timeout.is_zero() {
            let now = cx.now;
            let silent = self.peers.values();
            for peer in silent.filter(|peer| peer.last_message + alive_timeout <= now) {
                cx.close(peer.connection, CloseReason::Idle);
            }
        }
    }
}

impl PeerJs {
    /// What a path leads to. A slash may stand at its end, but not where the document has a
    /// WebSocket.
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

    /// All ids, in their order. While too much is on its way to slow readers, an older list.
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

    /// An id that nobody has.
    fn unused_id(&self, cx: &mut Context) -> String {
        loop {
            let id = cx.uuid().to_string();
            if !self.peers.contains_key(&id) {
                return id;
            }
        }
    }

    /// Lets a client in, or says what to tell it and how to close it.
    fn handle_connect(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: &ConnectRequest,
    ) -> Result<(), (Frame, CloseReason)> {
        let reject = |msg, reason| {
            let payload = ErrorPayload { msg };
            Err((Frame::json(&ServerMessage::Error { payload }), reason))
        };
        let parameter = |name| request.parameter(name).filter(|value| !value.is_empty());
        let (Some(id), Some(token), Some(key)) =
            (parameter("id"), parameter("token"), parameter("key"))
        else {
            let message = "No id, token, or key supplied to websocket server";
            return reject(message, CloseReason::BadParameters);
        };
        if key != self.options.key {
            return reject("Invalid key provided", CloseReason::WrongKey);
        }
        if id.len() > MAX_ID_BYTES || token.len() > MAX_ID_BYTES {
            return reject(
                "Id or token is longer than 256 bytes",
                CloseReason::BadParameters,
            );
        }
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

    /// Whether nothing is kept of anybody.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.id_by_connection.is_empty() && self.mailbox.is_empty()
    }
}

fn percent_decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// What a source is told of messages for a destination.
fn expire_message(source: &str, dst: &str) -> Frame {
    Frame::json(&ServerMessage::Expire {
        src: dst,
        dst: source,
    })
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
