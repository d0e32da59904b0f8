//! What Workspace's clients and server say to each other, in whichever dialect.

use crate::base::log_escape::Quoted;
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::sanitize::sanitize;
use serde::{Deserialize, Serialize};
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

/// The text of a message, sanitised.
pub(super) fn sanitised_text(text: &str) -> Result<String, InvalidMessage> {
    let text = sanitize(text);
    if text.trim().is_empty() {
        return Err(InvalidMessage::field(
            "text",
            "is empty once it is sanitised",
        ));
    }
    Ok(text.into_owned())
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
