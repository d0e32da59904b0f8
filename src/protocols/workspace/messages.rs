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
    Electron,
}

/// What a client said, and how.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

/// What a client may say, and what it said wrong.
pub enum ClientMessage {
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
    Invalid(ErrorReply),
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
pub struct ErrorReply {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
}

/// The `code` of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Not JSON.
    InvalidJson,
    /// Not an object, or a field is missing or wrong.
    InvalidMessage,
    /// A `type` that the dialect does not have.
    UnknownType,
    /// A token that is not valid.
    Unauthorized,
    /// More messages than the limit for a minute.
    RateLimited,
    /// A username that already has all its connections.
    TooManyConnections,
}

impl ErrorReply {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    pub(super) fn unknown_type(message_type: &str, known: &str) -> Self {
        let message = format!(
            "there is no type {}; there are {known}",
            Quoted(message_type)
        );
        Self::new(ErrorCode::UnknownType, message)
    }

    pub(super) fn unauthorized(why: impl ToString) -> Self {
        Self::new(ErrorCode::Unauthorized, why.to_string())
    }

    pub(super) fn rate_limited(what: &str, wait: Duration) -> Self {
        Self {
            retry_after_ms: u64::try_from(wait.as_millis().max(1)).ok(),
            ..Self::new(
                ErrorCode::RateLimited,
                format!("too many {what} in a minute"),
            )
        }
    }
}

/// The text of a message, sanitised.
pub(super) fn sanitize_text(text: &str) -> Result<String, InvalidMessage> {
    let text = sanitize(text);
    if text.trim().is_empty() {
        return Err(InvalidMessage::field(
            "text",
            "is empty once it is sanitised",
        ));
    }
    Ok(text.into_owned())
}

impl From<InvalidMessage> for ErrorReply {
    fn from(invalid: InvalidMessage) -> Self {
        let code = match invalid {
            InvalidMessage::NoJson(_) => ErrorCode::InvalidJson,
            InvalidMessage::NoObject | InvalidMessage::Field { .. } => ErrorCode::InvalidMessage,
        };
        Self::new(code, invalid.to_string())
    }
}

/// A message to clients.
#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub(super) enum ServerMessage<'a> {
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
        code: ErrorCode,
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
