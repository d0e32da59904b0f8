//! Workspace: one room for everybody, with presence and typing indicators.
//!
//! A user is a username, compared without regard to case, and may be connected up to three times;
//! what the others see is the user, not the connections.

mod codec;
mod codec_document;
mod codec_electron;
mod identity;
mod members;
mod messages;

use crate::base::close::{CloseReason, DisconnectReason};
use crate::realm::{
    ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection, SlowConsumerPolicy,
};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::jwt::Secret;
use crate::toolkit::rate_limit::{SPAN, SlidingWindow};
use crate::toolkit::recently_gone::RecentlyGone;
pub use codec::Reader;
use members::{
    Member, Members, RateLimits, User, broadcast, broadcast_presence, broadcast_typing, set_typing,
    user_count_message,
};
pub use messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, Status};
use messages::{NewMessage, ServerMessage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Changes of who is there within this time of the last count are gathered into one.
const USER_COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// What the configuration may say about a Workspace listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Connections of one username ("Performance Considerations"); 0: no limit.
    max_connections_per_user: u32,
    /// `message:send` of one username in a minute ("Performance Considerations"); 0: no limit.
    messages_per_minute: u32,
    /// `presence:update` and `typing:indicator` of one username in a minute; 0: no limit.
    signals_per_minute: u32,
    /// Seconds without a message in either direction ("Security Notes"); 0: no limit.
    idle_timeout: u32,
    /// Characters of a username; what is beyond is cut off.
    username_length: u32,
    /// What the tokens of clients are signed with; none where it is empty, and then they are
    /// believed as they are.
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
    /// By the name in lower case.
    users: BTreeMap<String, User>,
    /// The limits of users who went during the last minute, so that going and coming back does
    /// not lift them.
    recently_gone: RecentlyGone<String, RateLimits>,
    last_user_id: u64,
    last_message_id: u64,
    user_count: UserCount,
}

/// Whether everybody knows who is there.
#[derive(Default)]
struct UserCount {
    /// When everybody was told last.
    last_sent: Option<Duration>,
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
    };
    const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;

    type Options = Options;
    type Reader = Reader;
    type Command = Incoming;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if !(12..=256).contains(&options.username_length) {
            let problem = format!(
                "{} is not from 12 to 256 characters",
                options.username_length
            );
            return Err(("username_length", problem));
        }
        Ok(Self {
            options,
            members: BTreeMap::new(),
            users: BTreeMap::new(),
            recently_gone: RecentlyGone::default(),
            last_user_id: 0,
            last_message_id: 0,
            user_count: UserCount::default(),
        })
    }

    fn matches_path(path: &str) -> bool {
        path == Self::ENDPOINT
    }

    fn decode(reader: &mut Reader, message: Message) -> Option<Incoming> {
        Some(reader.decode(message))
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
            // The document's client would come back for ever if it were let in and closed.
            return Err(Rejection {
                status: 429,
                text: "this user has too many connections",
            });
        }
        let recipient = Recipient {
            connection: conn,
            dialect: Dialect::default(),
        };
        let member = Member {
            recipient,
            user: key,
            typing: false,
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
            recipient.send_to(cx, &connected);
        }
        self.insert(cx, member);
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
            recipient.send_to(cx, &reply);
        }
        let count_was_sent = self.broadcast_user_count(cx);
        // Until now it could not be told in words that it understands.
        if recipient.dialect != before && !count_was_sent {
            recipient.send_to(cx, &user_count_message(&self.users));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _reason: DisconnectReason) {
        if let Some(member) = self.members.remove(&conn) {
            self.detach(cx, &member);
            self.broadcast_user_count(cx);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        while self.recently_gone.pop_expired(cx.now, SPAN).is_some() {}
        self.close_idle(cx);
        self.broadcast_user_count(cx);
    }
}

impl Workspace {
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
        // A quiet room ends as a whole, so those who go hear nothing of each other.
        for (conn, member) in idle {
            cx.close(conn, CloseReason::Idle);
            self.detach(cx, &member);
        }
    }

    /// Does what somebody wants.
    fn handle(
        &mut self,
        cx: &mut Context,
        sender: Recipient<Dialect>,
        message: ClientMessage,
    ) -> Result<(), ErrorReply> {
        let conn = sender.connection;
        match message {
            ClientMessage::Send { text, reply_to } => {
                self.handle_send(cx, conn, &text, reply_to.as_deref())
            }
            ClientMessage::Presence(status) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.limits
                    .count_signal(cx.now, self.options.signals_per_minute)?;
                broadcast_presence(&mut self.members, cx, user, status);
                Ok(())
            }
            ClientMessage::Typing(is_typing) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.limits
                    .count_signal(cx.now, self.options.signals_per_minute)?;
                set_typing(&mut self.members, cx, user, conn, is_typing);
                Ok(())
            }
            ClientMessage::Auth(token) => {
                if let Some(name) = self.username_from_token(cx, token.as_deref())? {
                    self.rename(cx, conn, name)?;
                }
                sender.send_to(cx, &ServerMessage::AuthAck { ok: true });
                Ok(())
            }
            ClientMessage::Invalid(error) => Err(error),
        }
    }

    fn handle_send(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        text: &str,
        reply_to: Option<&str>,
    ) -> Result<(), ErrorReply> {
        let user = user_of(&self.members, &mut self.users, conn);
        let limit = self.options.messages_per_minute;
        let counted = user.limits.messages.take(cx.now, limit);
        counted.map_err(|wait| ErrorReply::rate_limited("messages", wait))?;
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

    /// Whether a user may have no more connections.
    fn is_full(&self, key: &str) -> bool {
        let limit = self.options.max_connections_per_user;
        let connections = self.users.get(key).map_or(0, |user| user.connections);
        limit > 0 && connections >= limit
    }

    /// A user has one more connection, and comes with it if it is the first.
    fn attach(&mut self, cx: &Context, key: &str, name: String) {
        let new = || {
            self.last_user_id = cx.epoch_millis().max(self.last_user_id + 1);
            User {
                key: key.to_owned(),
                name,
                id: format!("ws_user_{}", self.last_user_id),
                connections: 0,
                typing_connections: 0,
                limits: self
                    .recently_gone
                    .remove(&key.to_owned())
                    .unwrap_or_default(),
            }
        };
        self.users
            .entry(key.to_owned())
            .or_insert_with(new)
            .connections += 1;
    }

    /// Tells the others what changes now that a member is there.
    fn insert(&mut self, cx: &mut Context, member: Member) {
        let user = self.users.get(&member.user);
        if let Some(user) = user.filter(|user| user.connections == 1) {
            broadcast_presence(&mut self.members, cx, user, Status::Online);
            self.user_count.has_changed = true;
        }
        self.members.insert(member.recipient.connection, member);
    }

    /// Tells the others what changes now that a member is gone.
    fn detach(&mut self, cx: &mut Context, member: &Member) {
        let Some(user) = self.users.get_mut(&member.user) else {
            return;
        };
        if member.typing {
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
                if user.limits.has_recent_events(cx.now) {
                    let _ = self.recently_gone.insert(cx.now, user.key, user.limits);
                }
            }
        }
    }

    /// Tells everybody who is there, if that has changed and it is time for it; whether it was.
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
        broadcast(
            &mut self.members,
            cx,
            None,
            &user_count_message(&self.users),
        );
        true
    }
}

/// The user of a connection that is there.
fn user_of<'a>(
    members: &Members,
    users: &'a mut BTreeMap<String, User>,
    conn: ConnectionId,
) -> &'a mut User {
    let member = members.get(&conn);
    let user = member.and_then(|member| users.get_mut(&member.user));
    user.expect("a user is there as long as one of its connections is")
}

#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
