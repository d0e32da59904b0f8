//! FastChat's messages and errors ("Message Types"), as the rules see them. What serializes does so as in the
//! document; the flat dialect's codec has what is different there.

use crate::toolkit::json::InvalidMessage;
use crate::toolkit::message_token::MessageToken;
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

/// The JSON shape of a connection's messages, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The protocol document's: the fields are in `data`.
    #[default]
    Document,
    /// The published React front end's: the fields are next to `type`.
    Flat,
}

/// A decoded message from a client, and the dialect to answer it in.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

/// A message from a client. An invalid one is a message, too, so that its error keeps its place
/// among the answers.
pub(super) enum ClientMessage {
    /// `HELLO`, or what is wrong with it.
    Hello(Result<Box<Hello>, ErrorReply>),
    /// `OPEN_CHAT`: the user to chat with, or the message's error.
    OpenChat(Result<Uuid, ErrorReply>),
    /// `MSG`.
    Msg(Msg),
    /// `MSG_ACK`.
    MsgAck,
    /// `TYPING`.
    Typing(Typing),
    /// `PING`.
    Ping,
    /// `PONG`; only in the flat dialect.
    Pong,
    /// A message that could not be decoded.
    Invalid(ErrorReply),
}

/// The fields of a `HELLO`, or what is wrong with those that a token can replace.
#[derive(Debug)]
pub(super) struct Hello {
    /// The user's id. `None`: the server makes one (flat dialect).
    pub(super) user_id: Result<Option<Uuid>, InvalidMessage>,
    /// The name, sanitized and trimmed. Its length is not checked yet.
    pub(super) display_name: Result<String, InvalidMessage>,
    /// The least and the greatest number of characters of the name. `None`: as configured.
    pub(super) name_length: Option<(usize, usize)>,
    /// What its access token says.
    pub(super) token: MessageToken,
}

/// The fields of a `MSG` from a client.
pub(super) struct Msg {
    /// The recipient. `None`: the partner (flat dialect).
    pub(super) to: Option<Uuid>,
    /// The text, sanitized. Its length is not checked yet.
    pub(super) content: String,
    /// The sender's id for the message. `None`: the server makes one.
    pub(super) message_id: Option<String>,
}

/// The fields of a `TYPING` from a client.
pub(super) struct Typing {
    pub(super) is_typing: bool,
    /// The recipient. `None`: the partner.
    pub(super) to: Option<Uuid>,
}

/// The error codes ("Error Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ErrorCode {
    Validation,
    MessageFailed,
    UserNotFound,
    ChatNotOpened,
    RateLimited,
    Unauthorized,
}

/// The fields of an `ERROR`.
#[derive(Debug, Serialize)]
pub(super) struct ErrorReply {
    pub(super) code: ErrorCode,
    /// The problem, for a person to read.
    pub(super) message: String,
    pub(super) details: Details,
}

/// The part of an `ERROR` that a program can use.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// The id of the MSG that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Milliseconds until the same message can succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl ErrorReply {
    /// Returns an error without details.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Details::default(),
        }
    }

    /// Returns the error for more than `limit` messages of one type in a minute.
    pub(super) fn rate_limited(message_type: &str, limit: u32, wait: Duration) -> Self {
        let text = format!("too many {message_type} messages; at most {limit} in a minute");
        Self::new(ErrorCode::RateLimited, text).with_retry_after(wait)
    }

    /// Sets the field at fault.
    pub(super) fn with_field(mut self, field: &'static str) -> Self {
        self.details.field = Some(field);
        self
    }

    /// Sets the id of the MSG that failed.
    pub(super) fn with_message_id(mut self, message_id: Option<String>) -> Self {
        self.details.message_id = message_id;
        self
    }

    /// Sets the time after which the same message can succeed.
    pub(super) fn with_retry_after(mut self, wait: Duration) -> Self {
        // Rounded up: a client that waits exactly this long must not be too early.
        let millis = wait.as_micros().div_ceil(1000);
        self.details.retry_after_ms = u64::try_from(millis).ok();
        self
    }
}

impl From<InvalidMessage> for ErrorReply {
    fn from(invalid: InvalidMessage) -> Self {
        let mut error = Self::new(ErrorCode::Validation, invalid.to_string());
        error.details.field = invalid.name();
        error
    }
}

/// The `status` of an acknowledgement.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Connected,
    Delivered,
}

/// A message to clients. Fields that are skipped are those of the flat dialect alone.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ServerMessage<'a> {
    /// `HELLO_ACK`.
    HelloAck { user_id: Uuid, status: Status },
    /// A `PRESENCE` with all users online, and those that disconnected since the last one.
    #[serde(rename = "PRESENCE")]
    PresenceList { users: Vec<UserEntry<'a>> },
    /// A `PRESENCE` with only the users that connected or disconnected.
    #[serde(rename = "PRESENCE")]
    PresenceUpdate { users: Vec<UserEntry<'a>> },
    /// `CHAT_OPENED`.
    ChatOpened(ChatOpened<'a>),
    /// `MSG`.
    Msg {
        from: Uuid,
        #[serde(skip)]
        from_name: &'a str,
        to: Uuid,
        content: &'a str,
        message_id: &'a str,
        timestamp: &'a str,
    },
    /// `MSG_ACK`.
    MsgAck {
        message_id: &'a str,
        status: Status,
        #[serde(skip)]
        timestamp: &'a str,
    },
    /// `TYPING`.
    Typing {
        user_id: Uuid,
        #[serde(skip)]
        display_name: &'a str,
        is_typing: bool,
    },
    /// `PONG`.
    Pong { timestamp: String },
    /// `ERROR`.
    Error(ErrorReply),
}

impl ServerMessage<'_> {
    /// Returns a `HELLO_ACK`.
    pub(super) const fn hello_ack(user_id: Uuid) -> Self {
        let status = Status::Connected;
        Self::HelloAck { user_id, status }
    }
}

/// The fields of a `CHAT_OPENED`, the same in both dialects.
#[derive(Serialize)]
pub(super) struct ChatOpened<'a> {
    pub(super) chat_id: Uuid,
    pub(super) participants: [Uuid; 2],
    pub(super) target_user_id: Uuid,
    pub(super) target_display_name: &'a str,
}

/// A user in a `PRESENCE`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct UserEntry<'a> {
    pub(super) user_id: Uuid,
    pub(super) display_name: &'a str,
    pub(super) online: bool,
}
