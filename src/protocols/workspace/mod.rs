//! Workspace: one room per listener, with presence and typing indicators.
//!
//! A user is a username, compared without regard to case, and may have several connections (three by
//! default). The other users see the user, not its connections: `online` with the first one, `offline`
//! with the end of the last. The README in this folder describes the protocol for authors of clients.

mod codec;
mod codec_document;
mod codec_electron;
mod identity;
mod members;
mod messages;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, Retention,
    SlowConsumerPolicy,
};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::heap_bytes::HeapBytes;
use crate::toolkit::jwt::Secret;
use crate::toolkit::rate_limit::{SlidingWindow, WINDOW};
use crate::toolkit::recently_gone::RecentlyGone;
pub use codec::Decoder;
use members::{
    Member, Members, RateLimits, User, Users, broadcast, broadcast_presence, broadcast_typing,
    set_typing, user_count_message,
};
pub use messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, Status};
use messages::{NewMessage, ServerMessage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Shortest time between two `userCount` broadcasts. Changes in between are gathered into one.
const USER_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// Options of a Workspace listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Connections of one username at a time ("Performance Considerations"); 0: no limit.
    max_connections_per_user: u32,
    /// `message:send` and `message` of one username in a minute ("Performance Considerations"); 0: no limit.
    messages_per_minute: u32,
    /// `presence:update` and `typing:indicator` of one username in a minute; 0: no limit.
    signals_per_minute: u32,
    /// Seconds without a message in either direction until a connection is closed ("Security Notes");
    /// 0: no limit.
    idle_timeout: u32,
    /// Characters of a username, 12 to 256. A longer one is cut.
    username_length: u32,
    /// HS256 key of the tokens in `auth`. Empty: tokens are not verified.
    auth_secret: Secret,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections_per_user: 3,
            messages_per_minute: 100,
            signals_per_minute: 300,
            idle_timeout: 300,
            username_length: 64,
            auth_secret: Secret::default(),
        }
    }
}

/// The room of one listener.
pub struct Workspace {
    options: Options,
    members: Members,
    users: Users,
    /// Rate limits of users that disconnected during the last minute, so that reconnecting does not
    /// reset them.
    recently_gone: RecentlyGone<String, RateLimits>,
    /// Memory of the rate limits of the users online, counted once a second.
    online_bytes: usize,
    last_user_id: u64,
    last_message_id: u64,
    user_count: UserCount,
}

/// State of the `userCount` broadcasts.
#[derive(Default)]
struct UserCount {
    last_sent: Option<Duration>,
    /// Whether a user connected or disconnected since then.
    has_changed: bool,
}

impl Realm for Workspace {
    const NAME: &'static str = "workspace";
    const ENDPOINT: &'static str = "/ws";
    const DEFAULTS: Defaults = Defaults {
        port: 4000,
        origins: &["*"],
        handshake_timeout: 30,
        max_message_size: 1 << 20,
        ping_every: 0,
        message_timeout: 30,
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;

    type Options = Options;
    type Decoder = Decoder;
    type Command = Incoming;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        let length = options.username_length;
        if !(12..=256).contains(&length) {
            let problem = format!("must be 12 to 256 characters, not {length}");
            return Err(("username_length", problem));
        }
        Ok(Self {
            options,
            members: BTreeMap::new(),
            users: BTreeMap::new(),
            recently_gone: RecentlyGone::default(),
            online_bytes: 0,
            last_user_id: 0,
            last_message_id: 0,
            user_count: UserCount::default(),
        })
    }

    fn matches_path(path: &str) -> bool {
        path == Self::ENDPOINT
    }

    fn decode(decoder: &mut Decoder, message: Message) -> Option<Incoming> {
        Some(decoder.decode(message))
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        let requested = request.parameter("username").unwrap_or_default();
        let name = self.sanitize_username(&requested);
        let name = name.unwrap_or_else(|| self.generate_username(cx));
        let key = name.to_lowercase();
        if self.is_full(&key) {
            // The document's client reconnects for ever if its connection opens and is then closed, so
            // this is an HTTP status instead of a Close frame.
            return Err(Rejection {
                status: 429,
                text: "this username has too many connections; close one of them first",
            });
        }
        let recipient = Recipient {
            connection: conn,
            dialect: Dialect::default(),
        };
        let member = Member {
            recipient,
            user: key,
            is_typing: false,
            last_activity: cx.now,
            renames: SlidingWindow::default(),
        };
        self.attach(cx, &member.user, name);
        if let Some(user) = self.users.get(&member.user) {
            let connected = ServerMessage::Connected {
                user_id: &user.id,
                username: &user.name,
                timestamp: cx.timestamp(),
                connected_users: self.users.len(),
            };
            recipient.send(cx, &connected);
        }
        self.insert_member(cx, member);
        self.broadcast_user_count(cx);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, incoming: Incoming) {
        let Some(member) = self.members.get_mut(&conn) else {
            return;
        };
        member.last_activity = cx.now;
        let before = std::mem::replace(&mut member.recipient.dialect, incoming.dialect);
        let recipient = member.recipient;
        if let Err(error) = self.handle(cx, recipient, incoming.message) {
            let reply = ServerMessage::Error {
                code: error.code,
                message: &error.message,
                timestamp: cx.timestamp(),
                retry_after_ms: error.retry_after_ms,
            };
            recipient.send(cx, &reply);
        }
        let count_was_sent = self.broadcast_user_count(cx);
        // Before its first message the connection counted as one of the document's dialect, which has no
        // `userCount`.
        if recipient.dialect != before && !count_was_sent {
            recipient.send(cx, &user_count_message(&self.users));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        if let Some(member) = self.members.remove(&conn) {
            self.detach(cx, &member);
            self.broadcast_user_count(cx);
        }
    }

    fn stored_bytes(&self) -> usize {
        self.recently_gone.bytes() + self.online_bytes
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        let member = self.members.get(&conn);
        let user = member.and_then(|member| self.users.get(&member.user));
        user.map_or(0, |user| user.rate_limits.heap_bytes())
    }

    /// Forgets users that are gone; the document does not promise to remember them.
    fn shed(&mut self, _: &mut Context, retention: Retention, bytes: usize) -> usize {
        match retention {
            Retention::BestEffort => self.recently_gone.shed(bytes, |_| false),
            Retention::Promised => 0,
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        let users = self.users.values();
        self.online_bytes = users.map(|user| user.rate_limits.heap_bytes()).sum();
        while self.recently_gone.pop_expired(cx.now, WINDOW).is_some() {}
        self.close_idle(cx);
        self.broadcast_user_count(cx);
    }
}

impl Workspace {
    /// Closes the connections that have been idle for `idle_timeout`.
    fn close_idle(&mut self, cx: &mut Context) {
        if self.options.idle_timeout == 0 {
            return;
        }
        let idle_timeout = Duration::from_secs(self.options.idle_timeout.into());
        let is_idle = |member: &Member| cx.now >= member.last_activity + idle_timeout;
        let idle = self.members.iter().filter(|(_, member)| is_idle(member));
        let idle: Vec<ConnectionId> = idle.map(|(&conn, _)| conn).collect();
        let take = |conn| self.members.remove(&conn).map(|member| (conn, member));
        let idle: Vec<_> = idle.into_iter().filter_map(take).collect();
        // All idle members are removed before the first broadcast, so that the end of a quiet room sends
        // nothing to connections that are closed with it.
        for (conn, member) in idle {
            cx.close(conn, CloseReason::TimedOut);
            self.detach(cx, &member);
        }
    }

    /// Handles a message; an error is for its sender.
    fn handle(
        &mut self,
        cx: &mut Context,
        sender: Recipient<Dialect>,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let conn = sender.connection;
        let signal_limit = self.options.signals_per_minute;
        match message {
            ClientMessage::Send { text, reply_to } => {
                self.handle_send(cx, conn, &text, reply_to.as_deref())
            }
            ClientMessage::Presence(status) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.rate_limits.count_signal(cx.now, signal_limit)?;
                broadcast_presence(&mut self.members, cx, user, status);
                Ok(())
            }
            ClientMessage::Typing(is_typing) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.rate_limits.count_signal(cx.now, signal_limit)?;
                set_typing(&mut self.members, cx, user, conn, is_typing);
                Ok(())
            }
            ClientMessage::Auth(token) => {
                if let Some(name) = self.username_from_token(cx, token.as_deref())? {
                    self.rename(cx, conn, name)?;
                }
                sender.send(cx, &ServerMessage::AuthAck { ok: true });
                Ok(())
            }
            ClientMessage::Invalid(error) => Err(error),
        }
    }

    /// Broadcasts a chat message, to its sender as well.
    fn handle_send(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        text: &str,
        reply_to: Option<&str>,
    ) -> Result<(), ErrorReply> {
        let user = user_of(&self.members, &mut self.users, conn);
        let limit = self.options.messages_per_minute;
        user.rate_limits.count_message(cx.now, limit)?;
        self.last_message_id = cx.epoch_millis().max(self.last_message_id + 1);
        let data = NewMessage {
            id: &format!("msg_{}", self.last_message_id),
            user_id: &user.id,
            username: &user.name,
            text,
            created_at: &cx.timestamp(),
            reply_to,
        };
        broadcast(&mut self.members, cx, None, &ServerMessage::New { data });
        Ok(())
    }

    /// Returns whether a user has all the connections that it may have.
    fn is_full(&self, key: &str) -> bool {
        let limit = self.options.max_connections_per_user;
        let connections = self.users.get(key).map_or(0, |user| user.connections);
        limit > 0 && connections >= limit
    }

    /// Counts a connection to its user, which is created with the first one.
    fn attach(&mut self, cx: &Context, key: &str, name: String) {
        let create = || {
            self.last_user_id = cx.epoch_millis().max(self.last_user_id + 1);
            let rate_limits = self.recently_gone.remove(&key.to_owned());
            let rate_limits = rate_limits.unwrap_or_default();
            self.online_bytes += rate_limits.heap_bytes();
            User {
                key: key.to_owned(),
                name,
                id: format!("ws_user_{}", self.last_user_id),
                connections: 0,
                typing_connections: 0,
                rate_limits,
            }
        };
        let user = self.users.entry(key.to_owned()).or_insert_with(create);
        user.connections += 1;
    }

    /// Inserts a member whose connection is counted already, and notifies the other users that its user
    /// is online if it is the first.
    fn insert_member(&mut self, cx: &mut Context, member: Member) {
        let user = self.users.get(&member.user);
        if let Some(user) = user.filter(|user| user.connections == 1) {
            broadcast_presence(&mut self.members, cx, user, Status::Online);
            self.user_count.has_changed = true;
        }
        self.members.insert(member.recipient.connection, member);
    }

    /// Takes the connection of a removed member from its user, and notifies the other users of the change:
    /// the user stops typing, or goes offline with its last connection.
    fn detach(&mut self, cx: &mut Context, member: &Member) {
        let Some(user) = self.users.get_mut(&member.user) else {
            return;
        };
        if member.is_typing {
            user.typing_connections -= 1;
            if user.typing_connections == 0 {
                broadcast_typing(&mut self.members, cx, user);
            }
        }
        user.connections -= 1;
        if user.connections == 0 {
            broadcast_presence(&mut self.members, cx, user, Status::Offline);
            self.user_count.has_changed = true;
            if let Some(mut user) = self.users.remove(&member.user) {
                let bytes = user.rate_limits.heap_bytes();
                self.online_bytes = self.online_bytes.saturating_sub(bytes);
                user.rate_limits.compact(cx.now);
                if user.rate_limits.has_recent_events(cx.now) {
                    let _ = self
                        .recently_gone
                        .insert(cx.now, user.key, user.rate_limits);
                }
            }
        }
    }

    /// Broadcasts a `userCount` if the users have changed and the last one is long enough ago. Returns
    /// whether it did.
    fn broadcast_user_count(&mut self, cx: &mut Context) -> bool {
        let last_sent = self.user_count.last_sent;
        let is_early = last_sent.is_some_and(|last_sent| cx.now < last_sent + USER_COUNT_INTERVAL);
        if is_early || !self.user_count.has_changed {
            return false;
        }
        self.user_count = UserCount {
            last_sent: Some(cx.now),
            has_changed: false,
        };
        let message = user_count_message(&self.users);
        broadcast(&mut self.members, cx, None, &message);
        true
    }
}

/// Returns the user of a member. It borrows single fields of the realm, so that a caller can broadcast while
/// it holds the user.
fn user_of<'a>(members: &Members, users: &'a mut Users, conn: ConnectionId) -> &'a mut User {
    let member = members.get(&conn);
    let user = member.and_then(|member| users.get_mut(&member.user));
    user.expect("a connection sends messages only while it is a member, and each member has a user")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
