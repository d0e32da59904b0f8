//! FastChat: users who see who is there, and talk in pairs.
//!
//! A user is a UUID that a client says is its own ("HELLO"); there are no accounts. What belongs
//! to a user and not to its connection, chats and rates, outlives a short absence.

mod chats;
mod codec;
mod codec_document;
mod codec_flat;
mod fields;
mod http_api;
mod messages;
mod presence;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::options::check_minimum;
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, HttpReply, Message, Method, Realm, Rejection,
    Request, SlowConsumerPolicy,
};
use crate::toolkit::dialect;
use crate::toolkit::json::check_length;
use crate::toolkit::pending_clients::PendingClients;
use crate::toolkit::rate_limit::{SPAN, SlidingWindow};
use crate::toolkit::recently_gone::RecentlyGone;
use crate::toolkit::response_pool::InFlightResponses;
use chats::Chat;
pub use codec::Reader;
use http_api::OnlineList;
pub use messages::Incoming;
use messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Hello, ServerMessage, Status};
use presence::PresenceChanges;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

type Recipient = dialect::Recipient<Dialect>;

/// The fewest characters of a display name ("Content Limits").
const SHORTEST_NAME: usize = 3;

/// What the configuration may say about a FastChat listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds from the handshake to HELLO; 0: no limit.
    hello_timeout: u32,
    /// Seconds that a connection has for a sign of life when its user comes again elsewhere.
    takeover_timeout: u32,
    /// Seconds after which a user who went is forgotten, and its chats end.
    absence: u32,
    /// MSG of one user in a minute ("Rate Limiting"); 0: no limit.
    messages_per_minute: u32,
    /// TYPING of one user in a minute ("Rate Limiting"); 0: no limit.
    typing_per_minute: u32,
    /// PING of one user in a minute; 0: no limit.
    pings_per_minute: u32,
    /// Up to this many users a change of who is online is sent as the whole list; 0: always.
    presence_list_up_to: u32,
    /// Characters of a message ("Content Limits").
    message_length: u32,
    /// Characters of a display name ("Content Limits").
    display_name_length: u32,
    /// Chats that one user has opened and that have not ended; 0: no limit.
    chats_per_user: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            hello_timeout: 10,
            takeover_timeout: 5,
            absence: 60,
            messages_per_minute: 60,
            typing_per_minute: 10,
            pings_per_minute: 60,
            presence_list_up_to: 200,
            message_length: 1000,
            display_name_length: 50,
            chats_per_user: 100,
        }
    }
}

/// Somebody who is online.
struct User {
    recipient: Recipient,
    name: String,
    /// How many changes of who is online it has been told of; none before its first list.
    seen_version: Option<u64>,
    /// To whom it is typing, on which connection of theirs.
    typing: Option<(Uuid, ConnectionId)>,
    state: UserState,
}

/// What of a user outlives a short absence.
#[derive(Default)]
struct UserState {
    /// By the partner. The partner has an entry, too.
    chats: BTreeMap<Uuid, Chat>,
    /// The partner of the chat used last.
    partner: Option<Uuid>,
    /// Its last OPEN_CHAT failed, and it has used no chat since. A message that names nobody was for
    /// whom it wanted, and not for the partner.
    last_open_failed: bool,
    messages: SlidingWindow,
    typing: SlidingWindow,
    pings: SlidingWindow,
}

/// The users of one listener.
pub struct FastChat {
    options: Options,
    /// Who waits for a place there, with where to answer.
    pending: PendingClients<(Recipient, Hello)>,
    /// Who said HELLO as whom.
    connections: BTreeMap<ConnectionId, Uuid>,
    users: BTreeMap<Uuid, User>,
    gone: RecentlyGone<Uuid, UserState>,
    presence_changes: PresenceChanges,
    /// Who is online, for those who ask by HTTP.
    online_list: Option<OnlineList>,
    /// Lists that leave somebody out.
    in_flight_lists: InFlightResponses,
    /// How those speak who have said something and have not been let in.
    pending_dialects: BTreeMap<ConnectionId, Dialect>,
}

impl Realm for FastChat {
    const NAME: &'static str = "fastchat";
    const ENDPOINT: &'static str = "/ws";
    const DEFAULTS: Defaults = Defaults {
        port: 8000,
        // "Origin validation on connection" ("CORS").
        origins: &["same-host"],
        handshake_timeout: 10,
        max_message_size: 64 << 10,
        ping_every: 0,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;
    const METHODS: &'static [Method] = &[Method::Get, Method::Post];

    type Options = Options;
    type Reader = Reader;
    type Command = Incoming;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        // Who is forgotten sooner could go over a limit, go, and come back without it.
        let absence = SPAN.as_secs() as u32;
        let name = options.display_name_length;
        check_minimum(&[
            ("takeover_timeout", options.takeover_timeout, 1, "seconds"),
            ("absence", options.absence, absence, "seconds"),
            ("message_length", options.message_length, 1, "characters"),
            (
                "display_name_length",
                name,
                SHORTEST_NAME as u32,
                "characters",
            ),
        ])?;
        let patience = Duration::from_secs(options.hello_timeout.into());
        Ok(Self {
            options,
            pending: PendingClients::new(patience),
            connections: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: RecentlyGone::default(),
            presence_changes: PresenceChanges::default(),
            online_list: None,
            in_flight_lists: InFlightResponses::default(),
            pending_dialects: BTreeMap::new(),
        })
    }

    fn matches_path(path: &str) -> bool {
        matches!(path, "/ws" | "/presence/online" | "/presence/heartbeat")
    }

    fn decode(reader: &mut Reader, message: Message) -> Option<Incoming> {
        Some(codec::decode(reader, &message))
    }

    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply {
        self.handle_request(cx, request)
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        hello: ConnectRequest,
    ) -> Result<(), Rejection> {
        if hello.path != Self::ENDPOINT {
            return Err(Rejection {
                status: 404,
                text: "there is no WebSocket here; fastchat is spoken at /ws",
            });
        }
        self.pending.insert(cx.now, conn);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Incoming) {
        let Incoming { dialect, message } = command;
        let recipient = Recipient {
            connection: conn,
            dialect,
        };
        let done = match self.connections.get(&conn) {
            Some(&user) => self.handle(cx, user, message),
            None => {
                self.pending_dialects.insert(conn, dialect);
                self.handle_pending(cx, recipient, message)
            }
        };
        if let Err(error) = done {
            recipient.send_to(cx, &ServerMessage::Error(error));
        }
        self.broadcast_presence(cx);
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _: DisconnectReason) {
        self.remove_pending(conn);
        self.handle_disconnect(cx, conn);
        self.broadcast_presence(cx);
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        if alive {
            for (connection, (claimant, _)) in self.pending.end_takeovers(conn) {
                let error = ErrorReply::new(ErrorCode::Unauthorized, "user is connected");
                claimant.send_to(cx, &ServerMessage::Error(error.with_field("user_id")));
                cx.close(connection, CloseReason::UserConnected);
            }
        } else if self.pending.has_takeover_of(conn) {
            // With its end the place is free, and the claimants try again.
            cx.close(conn, CloseReason::Replaced);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        for conn in self.pending.expired(cx.now) {
            let stranger = Recipient {
                connection: conn,
                dialect: self
                    .pending_dialects
                    .get(&conn)
                    .copied()
                    .unwrap_or_default(),
            };
            let error = ErrorReply::new(ErrorCode::Unauthorized, "no HELLO in time");
            stranger.send_to(cx, &ServerMessage::Error(error));
            cx.close(conn, CloseReason::NotIntroduced);
        }
        self.in_flight_lists.release_unused();
        let absence = Duration::from_secs(self.options.absence.into());
        while let Some((user, state)) = self.gone.pop_expired(cx.now, absence) {
            self.end_chats(user, state);
        }
        self.broadcast_presence(cx);
    }
}

impl FastChat {
    /// Does what somebody wants who has not been let in.
    fn handle_pending(
        &mut self,
        cx: &mut Context,
        recipient: Recipient,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let is_claimant = self.pending.is_taking_over(recipient.connection);
        match message {
            ClientMessage::Hello(_) if is_claimant => Err(already_said_hello()),
            _ if is_claimant => {
                let text = "wait: the connection that this user has is being asked";
                Err(ErrorReply::new(ErrorCode::Unauthorized, text))
            }
            ClientMessage::Hello(hello) => {
                let hello = hello?;
                let configured = (SHORTEST_NAME, self.options.display_name_length as usize);
                let (shortest, longest) = hello.name_length.unwrap_or(configured);
                check_length(&hello.display_name, "display_name", shortest, longest)?;
                self.handle_hello(cx, recipient, hello);
                Ok(())
            }
            ClientMessage::Invalid(mut error) => {
                error.code = ErrorCode::Unauthorized;
                error.message = format!("HELLO comes first; besides, {}", error.message);
                Err(error)
            }
            _ => Err(ErrorReply::new(
                ErrorCode::Unauthorized,
                "HELLO comes first",
            )),
        }
    }

    /// Lets somebody in, unless that user is connected: then that connection is asked first.
    fn handle_hello(&mut self, cx: &mut Context, recipient: Recipient, hello: Hello) {
        let conn = recipient.connection;
        let user_id = hello.user_id.unwrap_or_else(|| cx.uuid());
        if let Some(user) = self.users.get(&user_id) {
            let patience = Duration::from_secs(self.options.takeover_timeout.into());
            let owner = user.recipient.connection;
            cx.probe(owner, patience);
            self.pending.start_takeover(conn, owner, (recipient, hello));
            return;
        }
        let Hello { display_name, .. } = hello;
        self.remove_pending(conn);
        self.connections.insert(conn, user_id);
        self.presence_changes
            .record(user_id, display_name.clone(), true);
        let user = User {
            recipient,
            name: display_name,
            seen_version: None,
            typing: None,
            state: self.gone.remove(&user_id).unwrap_or_default(),
        };
        self.users.insert(user_id, user);
        let status = Status::Connected;
        recipient.send_to(cx, &ServerMessage::HelloAck { user_id, status });
        // Long lists wait for the next news, so that all who came meanwhile share one.
        if self.is_list_short() {
            recipient.send_to(cx, &self.presence_list([]));
            self.user(user_id).seen_version = Some(self.presence_changes.version());
        }
    }

    /// Somebody is let in, or goes.
    fn remove_pending(&mut self, conn: ConnectionId) {
        self.pending.remove(conn);
        self.pending_dialects.remove(&conn);
    }

    /// A user's connection is gone. Whoever waits for its place may try again.
    fn handle_disconnect(&mut self, cx: &mut Context, conn: ConnectionId) {
        let Some(id) = self.connections.remove(&conn) else {
            return;
        };
        self.stop_typing(cx, id);
        if let Some(user) = self.users.remove(&id) {
            self.presence_changes.record(id, user.name, false);
            if let Some((forgotten, state)) = self.gone.insert(cx.now, id, user.state) {
                self.end_chats(forgotten, state);
            }
        }
        for (_, (claimant, hello)) in self.pending.end_takeovers(conn) {
            self.handle_hello(cx, claimant, hello);
        }
    }

    /// Somebody who has a connection.
    fn user(&mut self, id: Uuid) -> &mut User {
        let user = self.users.get_mut(&id);
        user.expect("a user is online as long as its connection is noted")
    }

    /// Does what a user wants.
    fn handle(
        &mut self,
        cx: &mut Context,
        id: Uuid,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        match message {
            ClientMessage::Hello(_) => Err(already_said_hello()),
            ClientMessage::OpenChat { target } => {
                let done = self.open_chat(cx, id, target);
                self.user(id).state.last_open_failed = done.is_err();
                done
            }
            ClientMessage::Msg(msg) => self.handle_msg(cx, id, msg),
            // "The target's own MSG_ACK … is accepted in silence" (rulings).
            ClientMessage::MsgAck | ClientMessage::Pong => Ok(()),
            ClientMessage::Typing(typing) => self.handle_typing(cx, id, typing),
            ClientMessage::Ping => self.handle_ping(cx, id),
            ClientMessage::Invalid(error) => Err(error),
        }
    }

    fn handle_ping(&mut self, cx: &mut Context, id: Uuid) -> Result<(), ErrorReply> {
        let limit = self.options.pings_per_minute;
        let user = self.user(id);
        let counted = user.state.pings.take(cx.now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("PING", limit, wait))?;
        let timestamp = cx.timestamp();
        user.recipient
            .send_to(cx, &ServerMessage::Pong { timestamp });
        Ok(())
    }

    /// Whether nothing is kept of anybody.
    #[cfg(any(test, fuzzing))]
    fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.pending_dialects.is_empty()
            && self.connections.is_empty()
            && self.users.is_empty()
            && self.gone.is_empty()
            && self.presence_changes.is_empty()
    }
}

fn already_said_hello() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Validation,
        "this connection has said HELLO already",
    )
    .with_field("type")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
