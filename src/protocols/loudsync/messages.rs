//! LOUDSYNC's messages: what a client may say, and what it is told, in whichever dialect.

use crate::toolkit::json::InvalidMessage;
use serde::Serialize;
use serde_json::value::RawValue;

/// What a client may say, and what it said wrong.
pub enum ClientMessage {
    /// `join`.
    Join(Join),
    /// `join` in another version of the protocol; the rest of it may be anything.
    JoinOtherVersion,
    /// `leave`.
    Leave,
    /// `heartbeat`.
    Heartbeat,
    /// `ping`, and its time stamp as it was written.
    Ping(Box<RawValue>),
    /// `PONG`: the answer to a ping that this server does not send.
    Pong,
    /// `member_list`: a request for it (rulings).
    MemberList,
    /// `kick` (rulings).
    Kick(Kick),
    /// None of these.
    Invalid(ErrorReply),
}

/// Who wants into which session.
#[derive(Debug)]
pub struct Join {
    pub(super) session_id: String,
    /// `deviceInfo.id`.
    pub(super) device_id: String,
    /// `deviceInfo.name`.
    pub(super) device_name: String,
    pub(super) role: Role,
}

/// As what somebody joins.
#[derive(Debug)]
pub(super) enum Role {
    Host {
        session_name: Option<String>,
        max_members: Option<u32>,
    },
    /// As whatever its device is in the session; a guest where it is nothing yet.
    Client,
    /// As a guest and nothing else.
    Guest,
}

/// Whom a host wants to have removed.
pub struct Kick {
    pub(super) member_id: String,
    pub(super) reason: Option<String>,
}

/// The error codes ("ERROR").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorCode {
    SessionNotFound,
    SessionFull,
    AlreadyJoined,
    InvalidMessage,
    Unauthorized,
    VersionMismatch,
}

/// Something that cannot be done, and why.
#[derive(Debug)]
pub struct ErrorReply {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) details: Option<Details>,
}

/// What a program can use of it.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum Details {
    Field {
        field: &'static str,
    },
    Full {
        max_members: usize,
        current_members: usize,
    },
    Sessions {
        max_sessions: u32,
    },
}

impl ErrorReply {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }
}

impl From<InvalidMessage> for ErrorReply {
    fn from(invalid: InvalidMessage) -> Self {
        Self {
            code: ErrorCode::InvalidMessage,
            message: invalid.to_string(),
            details: invalid.name().map(|field| Details::Field { field }),
        }
    }
}

/// A message to clients. Time stamps are milliseconds since the epoch.
pub(super) enum ServerMessage<'a> {
    Welcome {
        timestamp: u64,
        client_id: &'a str,
        session_info: SessionInfo<'a>,
    },
    MemberList {
        timestamp: u64,
        members: Vec<MemberInfo<'a>>,
    },
    MemberJoined {
        timestamp: u64,
        member: MemberInfo<'a>,
    },
    MemberLeft {
        timestamp: u64,
        member_id: &'a str,
        member_name: &'a str,
        reason: LeaveReason,
    },
    Kicked {
        timestamp: u64,
        reason: &'a str,
    },
    SessionClosed {
        timestamp: u64,
        reason: &'a str,
    },
    Pong {
        /// When it is sent.
        now: u64,
        /// The ping's.
        timestamp: &'a RawValue,
    },
    Error {
        timestamp: u64,
        code: ErrorCode,
        message: &'a str,
        details: Option<&'a Details>,
    },
}

/// Who a message goes to, where it is one of those that the message is about.
#[derive(Clone, Copy)]
pub(super) struct RecipientIds<'a> {
    /// How the others know it.
    pub(super) client_id: &'a str,
    pub(super) device_id: &'a str,
}

pub(super) struct SessionInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) host_id: &'a str,
    pub(super) host_name: &'a str,
}

pub(super) struct MemberInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) is_host: bool,
    pub(super) connection_status: ConnectionStatus,
    pub(super) joined_at: u64,
    /// Its last heartbeat, or its JOIN where there was none since: milliseconds since the epoch.
    pub(super) last_seen: u64,
    /// In milliseconds.
    pub(super) latency: Option<u64>,
}

/// How a member is connected. The document's `disconnected` is nobody's: who is not connected and
/// not awaited is no member.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConnectionStatus {
    Connected,
    Reconnecting,
}

/// Why a member is one no more ("MEMBER_LEFT").
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LeaveReason {
    Left,
    Kicked,
    Timeout,
    Error,
}
