//! Workspace's messages as they go over the wire, in the document's dialect ("Message Types"), and
//! what all dialects have in common.

use super::codec_electron;
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::sanitize;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As the document says; so does everybody who has not spoken yet.
    #[default]
    Document,
    /// As the Electron chat does.
    Newer,
}

impl Dialect {
    /// The dialect whose types of messages this is one of.
    fn of(kind: &str) -> Option<Self> {
        if KINDS.contains(&kind) {
            Some(Self::Document)
        } else if codec_electron::KINDS.contains(&kind) {
            Some(Self::Newer)
        } else {
            None
        }
    }
}

/// The document's types of messages from clients.
const KINDS: [&str; 3] = ["message:send", "presence:update", "typing:indicator"];

/// The dialect that a client has spoken, once it has.
#[derive(Debug, Default)]
pub struct Reader(Option<Dialect>);

/// What a client said, and how.
pub struct Said {
    pub(super) dialect: Dialect,
    pub(super) command: Command,
}

/// What a client may say, and what it said wrong.
pub enum Command {
    /// A message to everybody.
    Send {
        /// Sanitised.
        text: String,
        /// The id of the message that it answers.
        reply_to: Option<String>,
    },
    /// `presence:update`.
    Presence(Status),
    /// `typing:indicator`.
    Typing(bool),
    /// Who somebody is, with the token that says so, if there is one.
    Auth(Option<String>),
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
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
}

impl Mistake {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    pub(super) fn unknown_type(kind: &str, known: &str) -> Self {
        let message = format!("there is no type {}; there are {known}", Quoted(kind));
        Self::new("UNKNOWN_TYPE", message)
    }

    pub(super) fn unauthorized(why: impl ToString) -> Self {
        Self::new("UNAUTHORIZED", why.to_string())
    }

    pub(super) fn too_often(what: &str, wait: Duration) -> Self {
        Self {
            retry_after_ms: u64::try_from(wait.as_millis().max(1)).ok(),
            ..Self::new("RATE_LIMITED", format!("too many {what} in a minute"))
        }
    }
}

impl From<InvalidMessage> for Mistake {
    fn from(malformed: InvalidMessage) -> Self {
        let code = match malformed {
            InvalidMessage::NoJson(_) => "INVALID_JSON",
            InvalidMessage::NoObject | InvalidMessage::Field { .. } => "INVALID_MESSAGE",
        };
        Self::new(code, malformed.to_string())
    }
}

impl Reader {
    /// The dialect, once it is decided.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.0
    }

    /// Reads a message ("Validate all incoming messages"). The first one that has a type of one of
    /// the dialects decides for all.
    pub(super) fn read(&mut self, message: Message) -> Said {
        let read = match message {
            Message::Text(text) => self.read_text(&text),
            Message::Binary(_) => {
                let message = "messages are text, not binary";
                Err(Mistake::new("INVALID_MESSAGE", message))
            }
        };
        Said {
            dialect: self.0.unwrap_or_default(),
            command: read.unwrap_or_else(Command::Wrong),
        }
    }

    fn read_text(&mut self, text: &str) -> Result<Command, Mistake> {
        if self.0.is_none() {
            self.0 = json::message_type(text).and_then(|kind| Dialect::of(&kind));
        }
        match self.0.unwrap_or_default() {
            Dialect::Document => read(text),
            Dialect::Newer => codec_electron::read(text),
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

fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    match kind.as_str() {
        "message:send" => Ok(Command::Send {
            text: content(incoming.text)?,
            reply_to: None,
        }),
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
            Err(Mistake::unknown_type(other, known))
        }
    }
}

/// The text of a message, sanitised.
pub(super) fn content(value: Option<&RawValue>) -> Result<String, Mistake> {
    let text: String = json::required(value, "text", "a string")?;
    let text = sanitize(&text);
    if text.trim().is_empty() {
        return Err(InvalidMessage::field("text", "is empty once it is sanitised").into());
    }
    Ok(text.into_owned())
}

/// A message to clients.
#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(super) enum Outgoing<'a> {
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
    #[serde(rename = "userCount")]
    UserCount { count: usize, users: Vec<&'a str> },
    #[serde(rename = "auth:ack")]
    AuthAck { ok: bool },
    #[serde(rename = "error")]
    Error {
        code: &'a str,
        message: &'a str,
        timestamp: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewMessage<'a> {
    pub(super) id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) username: &'a str,
    pub(super) text: &'a str,
    pub(super) created_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply_to: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Presence<'a> {
    pub(super) user_id: &'a str,
    pub(super) username: &'a str,
    pub(super) status: Status,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Typing<'a> {
    pub(super) user_id: &'a str,
    pub(super) username: &'a str,
    pub(super) is_typing: bool,
}

impl Encode for Outgoing<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        let frame = match dialect {
            Dialect::Document => encode(self),
            Dialect::Newer => codec_electron::encode(self),
        };
        frame.into_iter().collect()
    }
}

fn encode(message: &Outgoing) -> Option<Frame> {
    match message {
        Outgoing::New { data } => {
            let data = NewMessage {
                reply_to: None,
                ..data.clone()
            };
            Some(Frame::json(&Outgoing::New { data }))
        }
        Outgoing::UserCount { .. } | Outgoing::AuthAck { .. } => None,
        _ => Some(Frame::json(message)),
    }
}
