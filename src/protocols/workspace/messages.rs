//! Workspace's message types and errors, the same for both dialects.
//!
//! The codecs decode to [`ClientMessage`] and encode [`ServerMessage`]; the realm uses only these.

use crate::base::log_escape::Quoted;
use crate::realm::{Claims, Context, MAX_TOKEN_LENGTH, TokenError, TokenReader};
use crate::toolkit::dialect::Recipient;
use crate::toolkit::json::{Fields, InvalidMessage};
use crate::toolkit::jwt;
use crate::toolkit::sanitize::sanitize;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The dialect of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The document's, and that of a connection that has not sent a message yet.
    #[default]
    Document,
    /// The Electron chat's.
    Electron,
}

/// A decoded message of a client, and the dialect in which the connection is answered.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

/// A message from a client.
pub enum ClientMessage {
    /// `message:send`, or `message` in the Electron dialect.
    Send {
        /// The sanitized text, not empty.
        text: String,
        /// The id of the message that this one answers (Electron dialect only).
        reply_to: Option<String>,
    },
    /// `presence:update`.
    Presence(Status),
    /// `typing:indicator`: whether the connection is typing.
    Typing(bool),
    /// `auth`: in the document's dialect only where the listener reads tokens.
    Auth(Auth),
    /// A message that could not be decoded, with the error for the client. It passes through the realm
    /// like any other message so that the error keeps its place among the responses.
    Invalid(ErrorReply),
}

/// The token of an `auth`.
pub enum Auth {
    /// It has none, and the listener reads tokens.
    Missing,
    /// The listener reads no tokens: the username in the token, which is only claimed, if there is one.
    Claimed(Option<String>),
    /// What the token says, or why it is refused. Its times are not checked yet.
    Verified(Box<Result<Claims, TokenError>>),
}

impl Auth {
    /// Largest token where it is not verified, in bytes: as large as one that is.
    const MAX_BYTES: usize = MAX_TOKEN_LENGTH;

    /// Reads the token of an `auth`. An empty one is a token, which is refused, as in the other protocols.
    ///
    /// # Errors
    /// It is too long, and the listener reads no tokens.
    pub(super) fn read(
        token: Option<String>,
        tokens: &dyn TokenReader,
    ) -> Result<Self, InvalidMessage> {
        let Some(token) = token else {
            let is_reading = tokens.is_reading();
            return Ok(if is_reading {
                Self::Missing
            } else {
                Self::Claimed(None)
            });
        };
        match tokens.read(&token) {
            Some(claims) => Ok(Self::Verified(Box::new(claims))),
            None if token.len() > Self::MAX_BYTES => {
                let problem = format!("is too long; must be at most {} bytes", Self::MAX_BYTES);
                Err(InvalidMessage::field("token", problem))
            }
            None => Ok(Self::Claimed(jwt::unverified_username(&token))),
        }
    }
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

/// The `code` of an error message. The document has no error message, and without one a client could not
/// tell an invalid message from a lost one; these are from the rulings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The message is not JSON.
    InvalidJson,
    /// The message is binary or not a JSON object, or one of its fields is missing or wrong.
    InvalidMessage,
    /// The `type` is not one of the connection's dialect.
    UnknownType,
    /// The token is not valid, or the client needs one.
    Unauthorized,
    /// The limit for one minute is reached.
    RateLimited,
    /// The username in a token already has all its connections.
    TooManyConnections,
}

/// An error for the client that sent a message.
pub struct ErrorReply {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
}

impl ErrorReply {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_ms: None,
        }
    }

    /// Returns the error for a type that is not in `known`, a list for a person to read.
    pub(super) fn unknown_type(message_type: &str, known: &str) -> Self {
        let message = format!("unknown type {}; must be {known}", Quoted(message_type));
        Self::new(ErrorCode::UnknownType, message)
    }

    /// Sends the error to a client.
    pub(super) fn send(&self, cx: &mut Context, recipient: Recipient<Dialect>) {
        let message = ServerMessage::Error {
            code: self.code,
            message: &self.message,
            timestamp: cx.timestamp(),
            retry_after_ms: self.retry_after_ms,
        };
        recipient.send(cx, &message);
    }

    /// Returns the error for a client that has sent no token where it has to.
    pub(super) fn token_missing() -> Self {
        Self::unauthorized("a token is needed: send \"auth\" with a \"token\"")
    }

    pub(super) fn unauthorized(problem: impl ToString) -> Self {
        Self::new(ErrorCode::Unauthorized, problem.to_string())
    }

    /// Returns the error for more than `limit` of `what` in a minute; the next is allowed after `wait`.
    pub(super) fn rate_limited(what: &str, limit: u32, wait: Duration) -> Self {
        let message = format!("too many {what}; must be at most {limit} a minute");
        Self::retry_after(message, wait)
    }

    /// Returns the error for more than `limit` bytes of text in a minute; this text is allowed after `wait`.
    pub(super) fn too_much_text(limit: u32, wait: Duration) -> Self {
        let message = format!("too much text; must be at most {limit} bytes a minute");
        Self::retry_after(message, wait)
    }

    fn retry_after(message: String, wait: Duration) -> Self {
        Self {
            retry_after_ms: u64::try_from(wait.as_millis().max(1)).ok(),
            ..Self::new(ErrorCode::RateLimited, message)
        }
    }
}

impl From<InvalidMessage> for ErrorReply {
    fn from(invalid: InvalidMessage) -> Self {
        let code = match invalid {
            InvalidMessage::NotJson(_) => ErrorCode::InvalidJson,
            InvalidMessage::NotAnObject | InvalidMessage::Field { .. } => ErrorCode::InvalidMessage,
        };
        Self::new(code, invalid.to_string())
    }
}

/// Reads the text of a message, and sanitizes it ("Sanitize message content before broadcasting").
///
/// # Errors
/// It is missing, not a string, or nothing but white space is left of it.
pub(super) fn read_text<const N: usize>(fields: &Fields<N>) -> Result<String, InvalidMessage> {
    let text = fields.required_text("text", "a string")?;
    let text = sanitize(&text);
    if text.trim().is_empty() {
        let problem = "is empty without HTML tags and white space; must contain text";
        return Err(InvalidMessage::field("text", problem));
    }
    Ok(text.into_owned())
}

/// A message to clients. Both dialects write it as the same JSON; each codec leaves out the messages and
/// fields that its dialect does not have.
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
