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
    Limits, Member, Members, User, change_typing, tell, tell_presence, tell_typing, user_count,
};
pub use messages::{Command, Dialect, Mistake, Said, Status};
use messages::{NewMessage, Outgoing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Changes of who is there within this time of the last count are gathered into one.
const INTERVAL: Duration = Duration::from_secs(1);

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
    gone: RecentlyGone<String, Limits>,
    last_user_id: u64,
    last_message_id: u64,
    count: Count,
}

/// Whether everybody knows who is there.
#[derive(Default)]
struct Count {
    /// When everybody was told last.
    told: Option<Duration>,
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
    type Command = Said;

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
            gone: RecentlyGone::default(),
            last_user_id: 0,
            last_message_id: 0,
            count: Count::default(),
        })
    }

    fn matches_path(path: &str) -> bool {
        path == Self::ENDPOINT
    }

    fn decode(reader: &mut Reader, message: Message) -> Option<Said> {
        Some(reader.read(message))
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        hello: ConnectRequest,
    ) -> Result<(), Rejection> {
        let wanted = hello.parameter("username").unwrap_or_default();
        let name = self.clean(&wanted);
        let name = name.unwrap_or_else(|| self.made_up(cx));
        let key = name.to_lowercase();
        if self.is_full(&key) {
            // The document's client would come back for ever if it were let in and closed.
            return Err(Rejection {
                status: 429,
                text: "this user has too many connections",
            });
        }
        let address = Recipient {
            connection: conn,
            dialect: Dialect::default(),
        };
        let member = Member {
            address,
            user: key,
            typing: false,
            active: cx.now,
            renames: SlidingWindow::default(),
        };
        self.enter(cx, &member.user, name);
        if let Some(user) = self.users.get(&member.user) {
            let connected = Outgoing::Connected {
                user_id: &user.id,
                username: &user.name,
                timestamp: cx.timestamp(),
                connected_users: self.users.len(),
            };
            address.send_to(cx, &connected);
        }
        self.settle(cx, member);
        self.spread_count(cx);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, said: Said) {
        let Some(member) = self.members.get_mut(&conn) else {
            return;
        };
        member.active = cx.now;
        let before = std::mem::replace(&mut member.address.dialect, said.dialect);
        let address = member.address;
        if let Err(mistake) = self.obey(cx, address, said.command) {
            let error = Outgoing::Error {
                code: mistake.code,
                message: &mistake.message,
                timestamp: cx.timestamp(),
                retry_after_ms: mistake.retry_after_ms,
            };
            address.send_to(cx, &error);
        }
        let all_told = self.spread_count(cx);
        // Until now it could not be told in words that it understands.
        if address.dialect != before && !all_told {
            address.send_to(cx, &user_count(&self.users));
        }
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, _how: DisconnectReason) {
        if let Some(member) = self.members.remove(&conn) {
            self.part(cx, &member);
            self.spread_count(cx);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        while self.gone.pop_expired(cx.now, SPAN).is_some() {}
        self.close_idle(cx);
        self.spread_count(cx);
    }
}

impl Workspace {
    fn close_idle(&mut self, cx: &mut Context) {
        if self.options.idle_timeout == 0 {
            return;
        }
        let idle_timeout = Duration::from_secs(self.options.idle_timeout.into());
        let is_idle = |member: &Member| cx.now >= member.active + idle_timeout;
        let idle = self.members.iter().filter(|(_, member)| is_idle(member));
        let idle: Vec<ConnectionId> = idle.map(|(&conn, _)| conn).collect();
        let take = |conn| self.members.remove(&conn).map(|member| (conn, member));
        let idle: Vec<_> = idle.into_iter().filter_map(take).collect();
        // A quiet room ends as a whole, so those who go hear nothing of each other.
        for (conn, member) in idle {
            cx.close(conn, CloseReason::Idle);
            self.part(cx, &member);
        }
    }

    /// Does what somebody wants.
    fn obey(
        &mut self,
        cx: &mut Context,
        from: Recipient<Dialect>,
        command: Command,
    ) -> Result<(), Mistake> {
        let conn = from.connection;
        match command {
            Command::Send { text, reply_to } => self.send(cx, conn, &text, reply_to.as_deref()),
            Command::Presence(status) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.limits.signal(cx.now, &self.options)?;
                tell_presence(&mut self.members, cx, user, status);
                Ok(())
            }
            Command::Typing(is_typing) => {
                let user = user_of(&self.members, &mut self.users, conn);
                user.limits.signal(cx.now, &self.options)?;
                change_typing(&mut self.members, cx, user, conn, is_typing);
                Ok(())
            }
            Command::Auth(token) => {
                if let Some(name) = self.named(cx, token.as_deref())? {
                    self.rename(cx, conn, name)?;
                }
                from.send_to(cx, &Outgoing::AuthAck { ok: true });
                Ok(())
            }
            Command::Wrong(mistake) => Err(mistake),
        }
    }

    fn send(
        &mut self,
        cx: &mut Context,
        from: ConnectionId,
        text: &str,
        reply_to: Option<&str>,
    ) -> Result<(), Mistake> {
        let user = user_of(&self.members, &mut self.users, from);
        let most = self.options.messages_per_minute;
        let counted = user.limits.messages.take(cx.now, most);
        counted.map_err(|wait| Mistake::too_often("messages", wait))?;
        self.last_message_id = cx.epoch_millis().max(self.last_message_id + 1);
        let data = NewMessage {
            id: &format!("msg_{}", self.last_message_id),
            user_id: &user.id,
            username: &user.name,
            text,
            created_at: &cx.timestamp(),
            reply_to,
        };
        tell(&mut self.members, cx, None, &Outgoing::New { data });
        Ok(())
    }

    /// Whether a user may have no more connections.
    fn is_full(&self, key: &str) -> bool {
        let limit = self.options.max_connections_per_user;
        let connections = self.users.get(key).map_or(0, |user| user.connections);
        limit > 0 && connections >= limit
    }

    /// A user has one more connection, and comes with it if it is the first.
    fn enter(&mut self, cx: &Context, key: &str, name: String) {
        let new = || {
            self.last_user_id = cx.epoch_millis().max(self.last_user_id + 1);
            User {
                key: key.to_owned(),
                name,
                id: format!("ws_user_{}", self.last_user_id),
                connections: 0,
                typing: 0,
                limits: self.gone.remove(&key.to_owned()).unwrap_or_default(),
            }
        };
        self.users
            .entry(key.to_owned())
            .or_insert_with(new)
            .connections += 1;
    }

    /// Tells the others what changes now that a member is there.
    fn settle(&mut self, cx: &mut Context, member: Member) {
        let user = self.users.get(&member.user);
        if let Some(user) = user.filter(|user| user.connections == 1) {
            tell_presence(&mut self.members, cx, user, Status::Online);
            self.count.has_changed = true;
        }
        self.members.insert(member.address.connection, member);
    }

    /// Tells the others what changes now that a member is gone.
    fn part(&mut self, cx: &mut Context, member: &Member) {
        let Some(user) = self.users.get_mut(&member.user) else {
            return;
        };
        if member.typing {
            user.typing -= 1;
            if user.typing == 0 {
                tell_typing(&mut self.members, cx, user);
            }
        }
        user.connections -= 1;
        if user.connections == 0 {
            tell_presence(&mut self.members, cx, user, Status::Offline);
            self.count.has_changed = true;
            if let Some(mut user) = self.users.remove(&member.user) {
                if user.limits.matter(cx.now) {
                    let _ = self.gone.insert(cx.now, user.key, user.limits);
                }
            }
        }
    }

    /// Tells everybody who is there, if that has changed and it is time for it; whether it was.
    fn spread_count(&mut self, cx: &mut Context) -> bool {
        let told = self.count.told;
        let is_early = told.is_some_and(|told| cx.now < told + INTERVAL);
        if is_early || !self.count.has_changed {
            return false;
        }
        self.count = Count {
            told: Some(cx.now),
            has_changed: false,
        };
        tell(&mut self.members, cx, None, &user_count(&self.users));
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
