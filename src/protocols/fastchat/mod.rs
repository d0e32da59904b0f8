//! FastChat: presence of all users, and chats between two of them.
//!
//! A user is identified by the UUID in its client's HELLO; there are no accounts. Chats and rates belong
//! to the user, not to its connection, and are kept while the user is offline for up to `absence` seconds.
//!
//! `README.md` beside this file is the protocol for authors of clients.

mod chats;
mod close_reasons;
mod codec;
mod codec_document;
mod codec_flat;
mod fields;
mod http_api;
mod identity;
mod messages;
mod options;
mod partner;
mod presence;
mod presence_broadcast;
mod registration;
mod stored;

use crate::base::close::DisconnectReason;
use crate::base::spare::FreeSpare;
use crate::realm::protocol::new_realm;
use crate::realm::setting_list::Settings as _;
use crate::realm::{
    Command, ConnectRequest, ConnectionId, Context, Figures, HttpReply, Identity, Method, Protocol,
    Realm, Rejection, Request, Retention, SettingError, SettingMap, SlowConsumerPolicy, TryPage,
};
use crate::toolkit::dialect;
use crate::toolkit::in_flight::InFlightResponses;
use crate::toolkit::pending_access::PendingAccess;
use crate::toolkit::pending_clients::PendingClients;
use crate::toolkit::proven::Proven;
use crate::toolkit::rate_limit::SlidingWindow;
use crate::toolkit::recently_gone::RecentlyGone;
use chats::Chat;
pub use codec::Decoder;
use http_api::OnlineList;
use identity::Newcomer;
pub use messages::Incoming;
use messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, ServerMessage};
pub use options::Options;
use partner::Partner;
use presence::PresenceChanges;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

type Recipient = dialect::Recipient<Dialect>;

/// The least number of characters of a display name ("Content Limits").
const MIN_NAME_LENGTH: usize = 3;

/// A user that is online.
struct User {
    /// The user's connection and dialect.
    recipient: Recipient,
    /// The display name of HELLO.
    name: String,
    /// The version of the presence changes that the user was last sent; `None` before its first list.
    seen_version: Option<u64>,
    /// The user that was last sent TYPING `true` without a `false` after it, and on which connection.
    typing_to: Option<(Uuid, ConnectionId)>,
    /// Whether the page was sent a CHAT_OPENED that it had not asked for, and nothing has come from it since.
    may_have_missed_chat: bool,
    /// Whether an OPEN_CHAT of a claimant in the flat dialect failed: its page selected another user.
    claimant_open_failed: bool,
    state: UserState,
}

/// The state of a user that is kept while it is offline, for up to `absence` seconds.
#[derive(Default)]
struct UserState {
    /// Chats by the partner's id. The partner has an entry for this user, too.
    chats: BTreeMap<Uuid, Chat>,
    /// The recipient of messages that name none.
    partner: Partner,
    /// The rate of MSG.
    message_rate: SlidingWindow,
    /// The rate of TYPING.
    typing_rate: SlidingWindow,
    /// The rate of PING.
    ping_rate: SlidingWindow,
    /// The rate of OPEN_CHAT.
    open_rate: SlidingWindow,
    /// Whether the user's client has, or had, a token that says that it is this user.
    is_proven: bool,
}

/// The FastChat realm: the users of one listener and their chats.
pub struct FastChat {
    options: Options,
    /// Connections that are not registered yet. For a claimant it stores the recipient and who it is:
    /// it waits for the probe of its user's connection.
    pending: PendingClients<(Recipient, Newcomer)>,
    /// What the unregistered connections have shown with their requests.
    access: PendingAccess,
    /// Users who are offline, and whose clients had tokens that said that they were these users.
    proven: Proven<Uuid>,
    /// The user of each registered connection.
    connections: BTreeMap<ConnectionId, Uuid>,
    /// The users online. Boxed, as the nodes of the map are up to half empty.
    users: BTreeMap<Uuid, Box<User>>,
    /// Users that have disconnected within the last `absence` seconds; at most `MAX_RECENTLY_GONE`.
    gone: RecentlyGone<Uuid, UserState>,
    /// Number of chats so far.
    chat_count: u64,
    /// Number of messages that were refused with `RATE_LIMITED`.
    rate_limited: u64,
    /// Memory of the states of the users online.
    online_bytes: usize,
    /// The changes of `users` since the last PRESENCE to all.
    presence_changes: PresenceChanges,
    /// The response to `GET /presence/online`, cached.
    online_list: Option<OnlineList>,
    /// Responses to `GET /presence/online` that slow clients are still reading.
    in_flight_lists: InFlightResponses,
    /// The dialects of unregistered connections that have sent something.
    pending_dialects: BTreeMap<ConnectionId, Dialect>,
}

/// Path that a client connects to.
const ENDPOINT: &str = "/ws";

/// FastChat as the daemon sees it.
pub static PROTOCOL: Protocol = Protocol {
    name: "fastchat",
    endpoint: |_| ENDPOINT.to_owned(),
    listener_defaults: || {
        // "Origin validation on connection" ("CORS").
        json!({"address": "localhost:8000", "origins": ["same-host"]})
    },
    options: Options::list,
    close_reasons: close_reasons::ALL,
    slow_consumer_policy: SlowConsumerPolicy::Disconnect,
    min_outbox_messages: 0,
    methods: &[Method::Get, Method::Post],
    full_message: None,
    matches_path: |path| matches!(path, "/ws" | "/presence/online" | "/presence/heartbeat"),
    client_id: |_| None,
    token_parameter: None,
    try_page: Some(TryPage {
        title: "FastChat",
        path: |_| "/".to_owned(),
        html: include_str!("try.html"),
        script: include_str!("try.js"),
        options: &[],
    }),
    new_decoder: |tokens| {
        let mut decoder = Decoder::new(tokens);
        Box::new(move |message| Some(Command::new(decoder.decode(&message))))
    },
    new_realm: new_realm::<FastChat>,
};

impl Realm for FastChat {
    fn new(options: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Options::from_map(options)?;
        let hello_timeout = options.hello_timeout.duration();
        Ok(Self {
            options,
            pending: PendingClients::new(hello_timeout),
            access: PendingAccess::default(),
            proven: Proven::default(),
            connections: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: RecentlyGone::default(),
            chat_count: 0,
            rate_limited: 0,
            online_bytes: 0,
            presence_changes: PresenceChanges::default(),
            online_list: None,
            in_flight_lists: InFlightResponses::default(),
            pending_dialects: BTreeMap::new(),
        })
    }

    fn reconfigure(
        &mut self,
        _cx: &mut Context,
        options: &SettingMap,
    ) -> Result<(), Vec<SettingError>> {
        self.options = Options::from_map(options)?;
        self.pending
            .set_timeout(self.options.hello_timeout.duration());
        Ok(())
    }

    fn protocol(&self) -> &'static Protocol {
        &PROTOCOL
    }

    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply {
        self.handle_request(cx, request)
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        if request.path != ENDPOINT {
            return Err(Rejection {
                status: 404,
                text: "no WebSocket at this path; connect to /ws",
            });
        }
        self.proven.forget_unprovable(&request.access);
        if let Err(error) = self.access.insert(conn, request.access, cx.wall) {
            let recipient = Recipient {
                connection: conn,
                dialect: Dialect::default(),
            };
            identity::refuse_token(cx, recipient, error);
            return Ok(());
        }
        self.pending.insert(cx.now, conn);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
        let incoming: Incoming = command.into();
        let Incoming { dialect, message } = incoming;
        let recipient = Recipient {
            connection: conn,
            dialect,
        };
        let result = match self.connections.get(&conn) {
            Some(&user) => self.handle_registered(cx, user, message),
            None => {
                self.pending_dialects.insert(conn, dialect);
                self.handle_pending(cx, recipient, message)
            }
        };
        if let Err(error) = result {
            self.rate_limited += u64::from(error.code == ErrorCode::RateLimited);
            recipient.send(cx, &ServerMessage::Error(error));
        }
        self.broadcast_presence(cx);
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason) {
        self.remove_pending(conn);
        self.handle_disconnect(cx, conn, reason);
        self.broadcast_presence(cx);
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        if alive {
            if let Some(&user) = self.connections.get(&conn) {
                self.user(user).claimant_open_failed = false;
            }
            for (claimant, (recipient, _)) in self.pending.end_takeovers(conn) {
                let error = ErrorReply::new(ErrorCode::Unauthorized, "user is connected");
                recipient.send(cx, &ServerMessage::Error(error.with_field("user_id")));
                cx.close(claimant, close_reasons::USER_CONNECTED);
            }
        } else if self.pending.has_takeover_of(conn) {
            // When it has closed, `handle_disconnect` lets the claimants try again.
            cx.close(conn, close_reasons::REPLACED);
        }
    }

    fn stored_bytes(&self) -> usize {
        self.bytes_of_all()
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        self.bytes_of(conn)
    }

    fn figures(&self) -> Figures {
        Figures {
            sizes: vec![
                ("users", self.users.len()),
                ("users_gone", self.gone.len()),
                ("unregistered", self.pending.len()),
                ("chats", self.open_chats()),
            ],
            rate_limited: self.rate_limited,
        }
    }

    fn identity(&self, conn: ConnectionId) -> Identity {
        let id = self.connections.get(&conn);
        let user = id.and_then(|id| self.users.get(id));
        Identity {
            name: user.map(|user| user.name.clone()),
            id: id.map(Uuid::to_string),
        }
    }

    fn shed(&mut self, _: &mut Context, retention: Retention, bytes: usize) -> usize {
        self.shed_gone(retention, bytes)
    }

    fn tick(&mut self, cx: &mut Context) {
        let silent_since = |conn, since| cx.silent_since(conn, since);
        for conn in self.pending.expired(cx.now, silent_since) {
            let recipient = Recipient {
                connection: conn,
                dialect: self
                    .pending_dialects
                    .get(&conn)
                    .copied()
                    .unwrap_or_default(),
            };
            let text = format!("no valid HELLO within {} s", self.options.hello_timeout.0);
            let error = ErrorReply::new(ErrorCode::Unauthorized, text);
            recipient.send(cx, &ServerMessage::Error(error));
            cx.close(conn, close_reasons::HELLO_TIMEOUT);
        }
        self.in_flight_lists.release_unused();
        self.forget_expired(cx.now);
        self.count_online_bytes();
        self.broadcast_presence(cx);
    }

    fn free_spare(&mut self) {
        let Self {
            pending,
            access,
            proven,
            connections,
            users,
            gone,
            presence_changes,
            pending_dialects,
            options: _,
            chat_count: _,
            rate_limited: _,
            online_bytes: _,
            online_list: _,
            // `tick` frees what it keeps.
            in_flight_lists: _,
        } = self;
        pending.free_spare();
        access.free_spare();
        proven.free_spare();
        connections.free_spare();
        users.free_spare();
        gone.free_spare();
        presence_changes.free_spare();
        pending_dialects.free_spare();
    }
}

impl FastChat {
    /// Drops the state of the users that have been offline for `absence`.
    fn forget_expired(&mut self, now: Duration) {
        let absence = self.options.absence.duration();
        while let Some((user, state)) = self.gone.pop_expired(now, absence) {
            self.end_chats(user, state);
        }
    }

    /// Returns a user that is online.
    fn user(&mut self, id: Uuid) -> &mut User {
        let user = self.users.get_mut(&id);
        user.expect("a user with a registered connection is online")
    }

    /// Handles a message of a registered user.
    fn handle_registered(
        &mut self,
        cx: &mut Context,
        id: Uuid,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        self.user(id).may_have_missed_chat = false;
        match message {
            ClientMessage::Hello(hello) => self.handle_second_hello(cx, id, hello),
            ClientMessage::OpenChat(target) => {
                let result = target.and_then(|target| self.open_chat(cx, id, target));
                let user = self.user(id);
                if result.is_err() {
                    user.state.partner.record_unknown(user.recipient.dialect);
                }
                result
            }
            ClientMessage::Msg(msg) => self.handle_msg(cx, id, msg),
            // Accepted without an answer (rulings): the sender already has its MSG_ACK from the server.
            ClientMessage::MsgAck | ClientMessage::Pong => Ok(()),
            ClientMessage::Typing(typing) => self.handle_typing(cx, id, typing),
            ClientMessage::Ping => self.handle_ping(cx, id),
            ClientMessage::Invalid(error) => Err(error),
        }
    }

    /// Answers a PING, within the rate.
    fn handle_ping(&mut self, cx: &mut Context, id: Uuid) -> Result<(), ErrorReply> {
        let limit = self.options.pings_per_minute;
        let user = self.user(id);
        let counted = user.state.ping_rate.try_record(cx.now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("PING", limit, wait))?;
        let timestamp = cx.timestamp();
        user.recipient.send(cx, &ServerMessage::Pong { timestamp });
        Ok(())
    }

    /// Returns whether nothing is stored about any client.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.access.is_empty()
            && self.pending_dialects.is_empty()
            && self.connections.is_empty()
            && self.users.is_empty()
            && self.gone.is_empty()
            && self.presence_changes.is_empty()
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
