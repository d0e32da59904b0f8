//! PeerJS: a WebRTC signalling server like the npm package `peer`, for clients that use the npm package
//! `peerjs`.
//!
//! A client has an id and a token. A message to the id of another client is relayed, or stored for a few
//! seconds if no such client is connected. The payload belongs to WebRTC; the server does not read it.

mod admission;
mod claims;
mod close_reasons;
mod codec;
mod mailbox;
mod messages;
mod options;
mod shares;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::base::frame::Frame;
use crate::base::ip::SubnetKey;
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, HttpReply, Identity, Method, Protocol,
    Realm, Rejection, Request, Retention, SettingError, SettingMap, SlowConsumerPolicy, TryPage,
};
use crate::toolkit::in_flight::InFlightResponses;
use crate::toolkit::proven::Proven;
use claims::{Contest, Credential, IdClaims};
use mailbox::{Mailbox, Source, Undelivered};
pub use messages::{ClientMessage, Transmission};
use messages::{ServerMessage, TransmissionType};
pub use options::Options;
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Body of the response to `GET {path}` ("HTTP API").
const SERVER_INFO: &str = r#"{"name":"PeerJS Server","description":"A server side element to broker connections between PeerJS clients.","website":"https://peerjs.com/"}"#;

/// Message to a client that is rejected because of `concurrent_limit` or `max_connections`.
const FULL_ERROR: &str =
    r#"{"type":"ERROR","payload":{"msg":"Server has reached its concurrent user limit"}}"#;

/// A client that holds an id.
struct Peer {
    connection: ConnectionId,
    credential: Credential,
    address: SubnetKey,
    /// Time of the last message, or of OPEN.
    last_message: Duration,
    /// Time of the next check whether it has timed out.
    check_at: Duration,
    /// The takeovers of its id.
    contest: Contest,
}

/// The clients of one listener.
pub struct PeerJs {
    options: Options,
    /// The configured path, percent-decoded and without a slash at its end.
    base_path: String,
    /// Clients by id. Boxed, as the nodes of the map are up to half empty.
    peers: BTreeMap<Arc<str>, Box<Peer>>,
    /// Id of each connection. A connection that waits for its id, or was rejected or replaced, has none.
    id_by_connection: BTreeMap<ConnectionId, Arc<str>>,
    /// Clients that wait for an id that another one has.
    claims: IdClaims,
    /// The clients by the time of their next check. So a tick does not look at each client.
    checks: BTreeSet<(Duration, ConnectionId)>,
    /// The newest list of all ids, as JSON.
    list: Option<Arc<str>>,
    /// Whether `list` has the ids of the clients that are connected now.
    is_list_current: bool,
    /// Lists that are being sent.
    in_flight_lists: InFlightResponses,
    mailbox: Mailbox,
    /// Ids that disconnected clients had as the subjects of their access tokens: only such a client gets one of them.
    proven: Proven<Arc<str>>,
    /// Ids that disconnected clients had whose access tokens named none. Apart from the others, as one such token is enough
    /// to have any number of ids: clients without an access token cannot take them.
    reserved: Proven<Arc<str>>,
}

/// Resources below the configured path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    ServerInfo,
    NewId,
    PeerList,
    WebSocket,
}

/// Path that a client connects to with the default options.
const ENDPOINT: &str = "/peerjs";

/// PeerJS as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "peerjs",
    endpoint: |options| {
        let options = Options::from_map(options);
        options.expect("a listener's options are valid").endpoint()
    },
    listener_defaults: || {
        json!({
            "address": "localhost:9000",
            "max_message_size": 8 << 20,
            // A phone that sleeps for half a minute keeps its id and gets its call.
            "pong_timeout": 60,
            "message_timeout": 75,
        })
    },
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Disconnect,
    min_outbox_messages: 0,
    methods: &[Method::Get],
    full_message: Some(FULL_ERROR),
    // The path depends on the options, so `open` and `request` check it.
    matches_path: |_| true,
    client_id: |request| request.parameter("id"),
    token_parameter: Some("token"),
    try_page: Some(TryPage {
        title: "PeerJS",
        path: |options| {
            let options = Options::from_map(options);
            options.expect("a listener's options are valid").page()
        },
        html: include_str!("try.html"),
        script: include_str!("try.js"),
        options: &["key", "alive_timeout"],
    }),
    new_decoder: |_| Box::new(|message| codec::decode(&message).map(Command::new)),
    new_realm: new_realm::<PeerJs>,
};

impl Realm for PeerJs {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Options::from_map(options)?;
        let mailbox = Mailbox::new(options.mailbox_limits());
        Ok(Self {
            base_path: options.decoded_path(),
            options,
            peers: BTreeMap::new(),
            id_by_connection: BTreeMap::new(),
            claims: IdClaims::default(),
            checks: BTreeSet::new(),
            list: None,
            is_list_current: false,
            in_flight_lists: InFlightResponses::default(),
            mailbox,
            proven: Proven::default(),
            reserved: Proven::default(),
        })
    }

    fn reconfigure(
        &mut self,
        _cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.options = Options::from_map(options)?;
        self.base_path = self.options.decoded_path();
        self.mailbox.set_limits(self.options.mailbox_limits());
        self.schedule_checks();
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
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
            Some(Route::PeerList) => self.list_peers(cx, request),
            Some(Route::WebSocket) => HttpReply::UpgradeRequired {
                target: format!(
                    "{}?key={}&id=ID&token=TOKEN",
                    self.options.endpoint(),
                    self.options.key.0
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
        self.proven.forget_unprovable(&request.access);
        self.reserved.forget_unprovable(&request.access);
        if let Err(rejection) = self.handle_connect(cx, conn, &request) {
            admission::reject(cx, conn, rejection);
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let message: ClientMessage = command.into();
        // A connection that was rejected or replaced has no id, and is about to close. One that waits for its
        // id has none yet.
        let Some(id) = self.id_by_connection.get(&conn) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        peer.last_message = cx.now;
        let source = Source {
            id,
            address: peer.address,
        };
        match message {
            ClientMessage::KeepAlive => {}
            ClientMessage::Leave => cx.close(conn, close_reasons::CLIENT_LEFT),
            ClientMessage::Transmit(transmission) => {
                transmit(cx, &self.peers, &mut self.mailbox, source, transmission);
            }
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        if self.claims.remove(conn).is_some() {
            return;
        }
        // A connection that was replaced has no id any more, so its end changes nothing.
        if let Some(id) = self.id_by_connection.remove(&conn) {
            self.handle_gone(cx, &id);
        }
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        let Some(id) = self.id_by_connection.get(&conn).cloned() else {
            return;
        };
        if alive {
            self.refuse_claims(cx, &id);
        } else {
            self.handle_silent(cx, &id);
        }
    }

    fn stored_bytes(&self) -> usize {
        let ids = self.proven.bytes() + self.reserved.bytes();
        self.mailbox.bytes() + self.in_flight_lists.bytes() + ids
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        let id = self.id_by_connection.get(&conn);
        id.map_or(0, |id| self.mailbox.bytes_of(id))
    }

    fn figures(&self) -> Figures {
        Figures {
            sizes: vec![
                ("clients", self.peers.len()),
                ("claims", self.claims.len()),
                ("stored_messages", self.mailbox.len()),
            ],
            // The document knows no such limit.
            rate_limited: 0,
        }
    }

    fn identity(&self, conn: ConnectionId) -> Identity {
        Identity {
            name: None,
            id: self.id_by_connection.get(&conn).map(ToString::to_string),
        }
    }

    fn shed(&mut self, _: &mut Context, retention: Retention, bytes: usize) -> usize {
        match retention {
            Retention::BestEffort => 0,
            Retention::Promised => {
                let freed = self.mailbox.shed(bytes);
                freed + self.reserved.shed(bytes.saturating_sub(freed))
            }
            Retention::Identity => self.proven.shed(bytes),
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.in_flight_lists.release_unused();
        for (source, dst) in self.mailbox.expire(cx.now) {
            if let Some(peer) = self.peers.get(&*source) {
                cx.send(peer.connection, expire_message(&source, &dst));
            }
        }
        for conn in self.claims.pop_due(cx.now) {
            admission::reject(cx, conn, admission::id_taken());
        }
        self.close_timed_out(cx);
    }

    fn free_spare(&mut self) {
        let Self {
            peers,
            id_by_connection,
            claims,
            checks,
            mailbox,
            options: _,
            base_path: _,
            list: _,
            is_list_current: _,
            // `tick` frees what it keeps.
            in_flight_lists: _,
            proven,
            reserved,
        } = self;
        peers.free_spare();
        id_by_connection.free_spare();
        claims.free_spare();
        checks.free_spare();
        mailbox.free_spare();
        proven.free_spare();
        reserved.free_spare();
    }
}

/// Relays a message of a connection, or stores it if its destination is not connected.
fn transmit(
    cx: &mut Context,
    peers: &BTreeMap<Arc<str>, Box<Peer>>,
    mailbox: &mut Mailbox,
    source: Source<'_>,
    transmission: Transmission,
) {
    let message_type = transmission.message_type;
    let undelivered = |dst, frame| Undelivered {
        source,
        dst,
        frame,
        begins_call: message_type == TransmissionType::Offer,
    };
    let Some((dst, peer)) = peers.get_key_value(transmission.dst()) else {
        if message_type.is_stored() {
            let dst = transmission.dst().to_owned();
            mailbox.push(
                cx.now,
                undelivered(&dst, transmission.into_frame(source.id)),
            );
        }
        return;
    };
    // `deliver` does not close a destination whose outbox is full. Any client may write to any other, so with
    // `send` any client could disconnect another by filling its outbox.
    match cx.deliver(peer.connection, transmission.into_frame(source.id)) {
        Ok(()) => mailbox.delivered(source.id, dst),
        Err(frame) if message_type.is_stored() => mailbox.refuse(cx.now, undelivered(dst, frame)),
        Err(_) => {}
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
        match below.strip_prefix(&self.options.key.0)? {
            "/id" | "/id/" => Some(Route::NewId),
            "/peers" | "/peers/" => Some(Route::PeerList),
            _ => None,
        }
    }

    /// Answers a request for the ids of all clients.
    fn list_peers(&mut self, cx: &Context, request: &Request) -> HttpReply {
        let access = request.connect.access.claims(None, cx.wall);
        let refusal = match access {
            Err(problem) => admission::problem_with_token(problem),
            Ok(_) if self.options.allow_discovery => {
                return HttpReply::Ok {
                    content_type: "application/json; charset=utf-8",
                    body: self.peer_list().into(),
                };
            }
            Ok(_) => {
                "the list of peers is off; the server's option \"allow_discovery\" turns it on"
            }
        };
        HttpReply::Rejected(Rejection {
            status: 401,
            text: refusal,
        })
    }

    /// Returns the ids of all clients in ascending order, as JSON. While slow readers hold
    /// too many lists in memory, it is an older list.
    fn peer_list(&mut self) -> Arc<str> {
        let has_capacity = self.in_flight_lists.has_capacity();
        match &self.list {
            Some(list) if self.is_list_current || !has_capacity => Arc::clone(list),
            _ => {
                let ids: Vec<&str> = self.peers.keys().map(|id| &**id).collect();
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
            if !self.peers.contains_key(&*id) {
                return id;
            }
        }
    }

    /// Schedules the check of each client anew, after `alive_timeout` has changed.
    fn schedule_checks(&mut self) {
        let alive_timeout = self.options.alive_timeout.duration();
        self.checks.clear();
        for peer in self.peers.values_mut() {
            peer.check_at = peer.last_message + alive_timeout;
            if !alive_timeout.is_zero() {
                self.checks.insert((peer.check_at, peer.connection));
            }
        }
    }

    /// Closes the clients from which no message has come for `alive_timeout`.
    fn close_timed_out(&mut self, cx: &mut Context) {
        let alive_timeout = self.options.alive_timeout.duration();
        while self.checks.first().is_some_and(|(at, _)| *at <= cx.now) {
            let Some((_, conn)) = self.checks.pop_first() else {
                break;
            };
            let id = self.id_by_connection.get(&conn);
            let Some(peer) = id.and_then(|id| self.peers.get_mut(id)) else {
                continue;
            };
            let times_out_at = cx.silent_since(conn, peer.last_message) + alive_timeout;
            if times_out_at <= cx.now {
                cx.close(conn, CloseReason::TIMED_OUT);
            } else {
                peer.check_at = times_out_at;
                self.checks.insert((times_out_at, conn));
            }
        }
    }

    /// Returns whether no client, connection or message is left.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        self.peers.is_empty()
            && self.id_by_connection.is_empty()
            && self.claims.is_empty()
            && self.checks.is_empty()
            && self.mailbox.is_empty()
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
