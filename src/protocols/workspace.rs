//! Workspace: one room for everybody, with presence and typing indicators.
//!
//! A user is a username, compared without regard to case, and may be connected up to three times;
//! what the others see is the user, not the connections.

use crate::close::{Close, Ending};
use crate::frame::Frame;
use crate::json::{self, Malformed};
use crate::rate::{SPAN, Window};
use crate::realm::{ConnectionId, Context, Defaults, Hello, Message, Realm, Refusal, WhenFull};
use crate::remembered::Remembered;
use crate::text::{Quoted, cut, sanitise};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The letters of a made-up name.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections_per_user: 3,
            messages_per_minute: 100,
            signals_per_minute: 300,
            idle_timeout: 300,
            username_length: 64,
        }
    }
}

/// One connection.
struct Member {
    /// The key of its user.
    user: String,
    typing: bool,
    /// When it said or was told something last.
    active: Duration,
}

/// Somebody with a name, connected at least once.
struct User {
    /// The name in lower case.
    key: String,
    /// The name as the first of the connections wrote it.
    name: String,
    /// `userId` on the wire.
    id: String,
    connections: u32,
    /// How many of them are typing.
    typing: u32,
    limits: Limits,
}

#[derive(Default)]
struct Limits {
    messages: Window,
    signals: Window,
}

impl Limits {
    /// Whether anything was counted in the last minute.
    fn matter(&mut self, now: Duration) -> bool {
        self.messages.count(now) + self.signals.count(now) > 0
    }
}

/// The room of one listener.
pub struct Workspace {
    options: Options,
    members: BTreeMap<ConnectionId, Member>,
    /// By the name in lower case.
    users: HashMap<String, User>,
    /// The limits of users who went during the last minute, so that going and coming back does
    /// not lift them.
    gone: Remembered<String, Limits>,
    last_user_id: u64,
    last_message_id: u64,
}

/// What a client may say, and what it said wrong.
pub enum Command {
    /// `message:send`, sanitised.
    Send(String),
    /// `presence:update`.
    Presence(Status),
    /// `typing:indicator`.
    Typing(bool),
    /// None of these.
    Wrong(Mistake),
}

/// The four statuses ("Valid Statuses").
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Active and available.
    Online,
    /// Inactive but available.
    Away,
    /// Do not disturb.
    Busy,
    /// Offline.
    Offline,
}

/// Something that cannot be done, and why.
pub struct Mistake {
    code: &'static str,
    message: String,
    retry_after_ms: Option<u64>,
}

impl Mistake {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: "INVALID_MESSAGE",
            message: message.into(),
            retry_after_ms: None,
        }
    }

    fn too_often(what: &str, wait: Duration) -> Self {
        Self {
            code: "RATE_LIMITED",
            message: format!("too many {what} in a minute"),
            retry_after_ms: u64::try_from(wait.as_millis().max(1)).ok(),
        }
    }
}

impl From<Malformed> for Mistake {
    fn from(malformed: Malformed) -> Self {
        let mistake = Self::invalid(malformed.to_string());
        match malformed {
            Malformed::NoJson(_) => Self {
                code: "INVALID_JSON",
                ..mistake
            },
            Malformed::NoObject | Malformed::Field { .. } => mistake,
        }
    }
}

/// A message from a client, its fields still unread: which of them matter depends on the type.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow, rename = "isTyping")]
    is_typing: Option<&'a RawValue>,
}

/// A message to clients.
#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum Outgoing<'a> {
    #[serde(rename = "connected")]
    Connected {
        user_id: &'a str,
        username: &'a str,
        timestamp: String,
        connected_users: usize,
    },
    #[serde(rename = "message:new")]
    New { data: NewMessage<'a> },
    #[serde(rename = "presence:update")]
    Presence { data: Presence<'a> },
    #[serde(rename = "typing:indicator")]
    Typing { data: Typing<'a> },
    #[serde(rename = "error")]
    Error {
        code: &'a str,
        message: &'a str,
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMessage<'a> {
    id: String,
    user_id: &'a str,
    username: &'a str,
    text: &'a str,
    created_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Presence<'a> {
    user_id: &'a str,
    username: &'a str,
    status: Status,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    user_id: &'a str,
    username: &'a str,
    is_typing: bool,
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
    const WHEN_FULL: WhenFull = WhenFull::CloseReader;

    type Options = Options;
    type Reader = ();
    type Command = Command;

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
            users: HashMap::new(),
            gone: Remembered::default(),
            last_user_id: 0,
            last_message_id: 0,
        })
    }

    fn serves(path: &str) -> bool {
        path == Self::ENDPOINT
    }

    fn decode((): &mut (), message: Message) -> Option<Command> {
        Some(match message {
            Message::Text(text) => read(&text).unwrap_or_else(Command::Wrong),
            Message::Binary(_) => Command::Wrong(Mistake::invalid("messages are text, not binary")),
        })
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal> {
        let name = self.name(cx, &hello);
        let key = name.to_lowercase();
        let limit = self.options.max_connections_per_user;
        let connections = self.users.get(&key).map_or(0, |user| user.connections);
        if limit > 0 && connections >= limit {
            // The document's client would come back for ever if it were let in and closed.
            return Err(Refusal {
                status: 429,
                text: "this user has too many connections",
            });
        }
        let user_count = self.users.len() + usize::from(connections == 0);
        let user = self.users.entry(key).or_insert_with_key(|key| {
            self.last_user_id = cx.epoch_millis().max(self.last_user_id + 1);
            User {
                key: key.clone(),
                name,
                id: format!("ws_user_{}", self.last_user_id),
                connections: 0,
                typing: 0,
                limits: self.gone.come_back(key).unwrap_or_default(),
            }
        });
        user.connections += 1;
        let connected = Outgoing::Connected {
            user_id: &user.id,
            username: &user.name,
            timestamp: cx.timestamp(),
            connected_users: user_count,
        };
        cx.send(who, Frame::json(&connected));
        if connections == 0 {
            tell_presence(&mut self.members, cx, user, Status::Online);
        }
        let member = Member {
            user: user.key.clone(),
            typing: false,
            active: cx.now,
        };
        self.members.insert(who, member);
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: Command) {
        let Some(member) = self.members.get_mut(&who) else {
            return;
        };
        member.active = cx.now;
        let Some(user) = self.users.get_mut(&member.user) else {
            return;
        };
        let per_minute = |limit: &mut Window, most, what| {
            limit
                .take(cx.now, most)
                .map_err(|wait| Mistake::too_often(what, wait))
        };
        let counted = match &command {
            Command::Send(_) => {
                let most = self.options.messages_per_minute;
                per_minute(&mut user.limits.messages, most, "messages")
            }
            Command::Presence(_) | Command::Typing(_) => {
                let most = self.options.signals_per_minute;
                per_minute(
                    &mut user.limits.signals,
                    most,
                    "presence updates and typing indicators",
                )
            }
            Command::Wrong(_) => Ok(()),
        };
        let command = counted.map_or_else(Command::Wrong, |()| command);
        match command {
            Command::Send(text) => {
                self.last_message_id = cx.epoch_millis().max(self.last_message_id + 1);
                let data = NewMessage {
                    id: format!("msg_{}", self.last_message_id),
                    user_id: &user.id,
                    username: &user.name,
                    text: &text,
                    created_at: cx.timestamp(),
                };
                tell(&mut self.members, cx, None, &Outgoing::New { data });
            }
            Command::Presence(status) => tell_presence(&mut self.members, cx, user, status),
            Command::Typing(is_typing) => {
                change_typing(&mut self.members, cx, user, who, is_typing);
            }
            Command::Wrong(Mistake {
                code,
                message,
                retry_after_ms,
            }) => {
                let timestamp = cx.timestamp();
                let message = &message;
                let error = Outgoing::Error {
                    code,
                    message,
                    timestamp,
                    retry_after_ms,
                };
                cx.send(who, Frame::json(&error));
            }
        }
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, _how: Ending) {
        if let Some(member) = self.members.remove(&who) {
            self.part(cx, &member);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        while self.gone.forget(cx.now, SPAN).is_some() {}
        if self.options.idle_timeout == 0 {
            return;
        }
        let idle_timeout = Duration::from_secs(self.options.idle_timeout.into());
        let is_idle = |member: &Member| cx.now >= member.active + idle_timeout;
        let idle = self.members.iter().filter(|(_, member)| is_idle(member));
        let idle: Vec<ConnectionId> = idle.map(|(&who, _)| who).collect();
        let take = |who| self.members.remove(&who).map(|member| (who, member));
        let idle: Vec<_> = idle.into_iter().filter_map(take).collect();
        // A quiet room ends as a whole, so those who go hear nothing of each other.
        for (who, member) in idle {
            cx.close(who, Close::Idle);
            self.part(cx, &member);
        }
    }
}

impl Workspace {
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
            if let Some(mut user) = self.users.remove(&member.user) {
                if user.limits.matter(cx.now) {
                    let _ = self.gone.remember(cx.now, user.key, user.limits);
                }
            }
        }
    }

    /// The name that somebody wants, made fit for others to see, or one that nobody has.
    fn name(&self, cx: &mut Context, hello: &Hello) -> String {
        let wanted = hello.parameter("username").unwrap_or_default();
        let clean = sanitise(&wanted);
        let name = cut(clean.trim(), self.options.username_length as usize).trim_end();
        if !name.is_empty() {
            return name.to_owned();
        }
        loop {
            let name = format!("User_{}", cx.letters(LETTERS, 6));
            if !self.users.contains_key(&name.to_lowercase()) {
                return name;
            }
        }
    }
}

/// Sends a message to everybody, or to everybody else than a user.
fn tell(
    members: &mut BTreeMap<ConnectionId, Member>,
    cx: &mut Context,
    but: Option<&User>,
    message: &Outgoing,
) {
    let frame = Frame::json(message);
    for (&to, member) in members {
        if but.is_none_or(|user| user.key != member.user) {
            member.active = cx.now;
            cx.send(to, frame.clone());
        }
    }
}

fn tell_presence(
    members: &mut BTreeMap<ConnectionId, Member>,
    cx: &mut Context,
    user: &User,
    status: Status,
) {
    let data = Presence {
        user_id: &user.id,
        username: &user.name,
        status,
    };
    tell(members, cx, Some(user), &Outgoing::Presence { data });
}

/// Notes whether a connection is typing, and tells the others if that changes whether its user
/// is.
fn change_typing(
    members: &mut BTreeMap<ConnectionId, Member>,
    cx: &mut Context,
    user: &mut User,
    who: ConnectionId,
    is_typing: bool,
) {
    let Some(member) = members.get_mut(&who) else {
        return;
    };
    if std::mem::replace(&mut member.typing, is_typing) == is_typing {
        return;
    }
    let before = user.typing;
    user.typing = if is_typing { before + 1 } else { before - 1 };
    if (before == 0) != (user.typing == 0) {
        tell_typing(members, cx, user);
    }
}

fn tell_typing(members: &mut BTreeMap<ConnectionId, Member>, cx: &mut Context, user: &User) {
    let is_typing = user.typing > 0;
    let data = Typing {
        user_id: &user.id,
        username: &user.name,
        is_typing,
    };
    tell(members, cx, Some(user), &Outgoing::Typing { data });
}

/// Reads a message ("Validate all incoming messages").
fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    match kind.as_str() {
        "message:send" => {
            let text: String = json::required(incoming.text, "text", "a string")?;
            let text = sanitise(&text);
            if text.trim().is_empty() {
                return Err(Mistake::invalid("\"text\" is empty once it is sanitised"));
            }
            Ok(Command::Send(text.into_owned()))
        }
        "presence:update" => {
            let statuses = "one of \"online\", \"away\", \"busy\" and \"offline\"";
            let status = json::required(incoming.status, "status", statuses)?;
            Ok(Command::Presence(status))
        }
        "typing:indicator" => {
            let is_typing = json::required(incoming.is_typing, "isTyping", "true or false")?;
            Ok(Command::Typing(is_typing))
        }
        other => {
            let known = "message:send, presence:update and typing:indicator";
            let message = format!("there is no type {}; there are {known}", Quoted(other));
            Err(Mistake {
                code: "UNKNOWN_TYPE",
                ..Mistake::invalid(message)
            })
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
