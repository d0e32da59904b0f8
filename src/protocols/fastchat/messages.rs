//! FastChat's messages ("Message Types").

use crate::toolkit::json::InvalidMessage;
use serde::Serialize;
use std::time::Duration;
use uuid::Uuid;

/// How a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As the protocol document has it, each message's fields in `data`.
    #[default]
    Document,
    /// As the published front end does, the fields beside `type`.
    Flat,
}

/// A client's message, and the dialect to answer it in.
pub struct Incoming {
    pub(super) dialect: Dialect,
    pub(super) message: ClientMessage,
}

/// What a client may say, and what it said wrong.
pub(super) enum ClientMessage {
    /// `HELLO`, or what is wrong with it.
    Hello(Result<Hello, ErrorReply>),
    /// `OPEN_CHAT`.
    OpenChat {
        /// With whom.
        target: Uuid,
    },
    /// `MSG`.
    Msg(Msg),
    /// `MSG_ACK`.
    MsgAck,
    /// `TYPING`.
    Typing(Typing),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// None of these.
    Invalid(ErrorReply),
}

/// Who somebody says to be.
#[derive(Debug)]
pub(super) struct Hello {
    /// The server makes one where there is none.
    pub(super) user_id: Option<Uuid>,
    /// Sanitised and trimmed.
    pub(super) display_name: String,
    /// The fewest and the most characters of the name, where they are not the configured ones.
    pub(super) name_length: Option<(usize, usize)>,
}

/// A message for somebody.
pub(super) struct Msg {
    /// To whom, if not to the partner of the chat used last.
    pub(super) to: Option<Uuid>,
    /// Sanitised.
    pub(super) content: String,
    pub(super) message_id: Option<String>,
}

/// A change of whether somebody is typing.
pub(super) struct Typing {
    pub(super) is_typing: bool,
    /// To whom, if not to the partner of the chat used last.
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

/// Something that cannot be done, and why: an `ERROR`.
#[derive(Debug)]
pub(super) struct ErrorReply {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) details: Details,
}

/// What a program can use of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Details {
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    /// That of the message that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl ErrorReply {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Details::default(),
        }
    }

    /// More than `limit` of something in a minute.
    pub(super) fn rate_limited(what: &str, limit: u32, wait: Duration) -> Self {
        Self::new(
            ErrorCode::RateLimited,
            format!("more than {limit} {what} in a minute"),
        )
        .retry_after(wait)
    }

    pub(super) fn with_field(mut self, field: &'static str) -> Self {
        self.details.field = Some(field);
        self
    }

    pub(super) fn with_message_id(mut self, message_id: Option<String>) -> Self {
        self.details.message_id = message_id;
        self
    }

    pub(super) fn retry_after(mut self, wait: Duration) -> Self {
        // Rounded up, so that it is not too early.
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

/// What has become of something.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Connected,
    Delivered,
}

/// A message to clients.
pub(super) enum ServerMessage<'a> {
    HelloAck {
        user_id: Uuid,
        status: Status,
    },
    /// Everybody, and who has just gone.
    PresenceList {
        users: Vec<UserEntry<'a>>,
    },
    /// Who has come and who has gone.
    PresenceUpdate {
        users: Vec<UserEntry<'a>>,
    },
    ChatOpened {
        chat_id: Uuid,
        participants: [Uuid; 2],
        target_user_id: Uuid,
        target_display_name: &'a str,
    },
    Msg {
        from: Uuid,
        from_name: &'a str,
        to: Uuid,
        content: &'a str,
        message_id: &'a str,
        timestamp: String,
    },
    MsgAck {
        message_id: &'a str,
        status: Status,
        timestamp: String,
    },
    Typing {
        user_id: Uuid,
        display_name: &'a str,
        is_typing: bool,
    },
    Pong {
        timestamp: String,
    },
    Error(ErrorReply),
}

/// One of the users in a `PRESENCE`.
#[derive(Clone, Copy, Serialize)]
pub(super) struct UserEntry<'a> {
    pub(super) user_id: Uuid,
    pub(super) display_name: &'a str,
    pub(super) online: bool,
}
