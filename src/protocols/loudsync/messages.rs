//! LOUDSYNC's messages and errors, as the rules see them. What serializes does so as in the document; the
//! upper-case dialect's codec has messages of its own.

use crate::toolkit::json::InvalidMessage;
use crate::toolkit::message_token::MessageToken;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// A message from a client, or the error that answers an invalid one.
pub enum ClientMessage {
    /// `join`.
    Join(Box<JoinRequest>),
    /// `join` for another major version of the protocol. Its other fields are not checked: that
    /// version may define them differently.
    JoinOtherVersion,
    /// `leave`.
    Leave,
    /// `heartbeat`.
    Heartbeat,
    /// `ping`, with its time stamp as the client wrote it.
    Ping(Box<RawValue>),
    /// `PONG` of the upper-case dialect. Ignored: this server sends no `PING`.
    Pong,
    /// `member_list`: a request for the list, for a client that has lost track of changes (rulings).
    MemberList,
    /// `kick`: the request behind the document's KICKED, for which it has none (rulings).
    Kick(Kick),
    /// A message that cannot be read, and the error to answer it with.
    Invalid(ErrorReply),
}

/// A device's request to join a session, with the errors for fields that are missing and that a token can replace.
#[derive(Debug)]
pub struct JoinRequest {
    pub(super) session_id: String,
    /// `deviceInfo.id`.
    pub(super) device_id: Result<String, InvalidMessage>,
    /// `deviceInfo.name`.
    pub(super) device_name: Result<String, InvalidMessage>,
    pub(super) role: Role,
    /// What its access token says.
    pub(super) token: MessageToken,
}

/// A device that joins a session.
#[derive(Debug)]
pub(super) struct Join {
    pub(super) session_id: String,
    /// Kept secret: it lets the device take its place again.
    pub(super) device_id: String,
    pub(super) device_name: String,
    pub(super) role: Role,
    /// Whether the device ID is that of the client's token.
    pub(super) is_proven: bool,
    /// Whether the client may be the host of a session.
    pub(super) may_host: bool,
    /// The end of the client's token since the Unix epoch, if it has one that ends.
    pub(super) end: Option<Duration>,
}

/// The role in which a device asks to join.
#[derive(Debug)]
pub(super) enum Role {
    /// `host`: opens the session, or returns to it as its host.
    Host {
        /// Default: the device's name.
        session_name: Option<String>,
        /// Default: the listener's `max_members`.
        max_members: Option<u32>,
    },
    /// `client`: the host again if the device is the session's host, otherwise a guest.
    Client,
    /// A guest and never the host: every JOIN of the upper-case dialect.
    Guest,
}

/// A host's request to remove a member.
pub struct Kick {
    /// The client ID of the member.
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

/// An error to answer a client with.
#[derive(Debug)]
pub struct ErrorReply {
    pub(super) code: ErrorCode,
    /// Text for a person.
    pub(super) message: String,
    /// Values for a program; only the document's dialect has them.
    pub(super) details: Option<Details>,
}

/// The `details` of an error.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(super) enum Details {
    /// The field that is missing or wrong.
    Field { field: &'static str },
    /// The session is full.
    Full {
        max_members: usize,
        current_members: usize,
    },
    /// The listener has `max_sessions` sessions.
    Sessions { max_sessions: u32 },
}

impl ErrorReply {
    /// Returns an error without details.
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

/// A message to clients. A `u64` is a time stamp in milliseconds since the epoch unless stated otherwise.
/// Fields that are skipped are those of the upper-case dialect alone.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
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
        #[serde(skip)]
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
        /// The time at which it is sent.
        #[serde(skip)]
        now: u64,
        /// The time stamp of the ping, as the client wrote it.
        timestamp: &'a RawValue,
    },
    Error {
        timestamp: u64,
        code: ErrorCode,
        message: &'a str,
        /// The document's dialect only.
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<&'a Details>,
    },
}

/// The IDs of the member that receives a message.
///
/// In the upper-case dialect a device finds itself in a message by its own device ID, while all
/// other members, and the others for it, are shown by client IDs.
#[derive(Clone, Copy)]
pub(super) struct RecipientIds<'a> {
    pub(super) client_id: &'a str,
    pub(super) device_id: &'a str,
}

/// The session in a welcome.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) host_id: &'a str,
    #[serde(skip)]
    pub(super) host_name: &'a str,
}

/// A member as other members see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) is_host: bool,
    pub(super) connection_status: ConnectionStatus,
    /// Milliseconds since the epoch.
    pub(super) joined_at: u64,
    /// Milliseconds since the epoch of its last heartbeat, or of its JOIN if it has sent none since.
    #[serde(skip)]
    pub(super) last_seen: u64,
    /// Round trip in milliseconds; none before the first measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<u64>,
}

/// The connection of a member. The document's `disconnected` is never sent: a device that is neither
/// connected nor expected back is not a member.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConnectionStatus {
    Connected,
    /// Lost, and its place is kept.
    Reconnecting,
}

/// The reason why a device is no longer a member ("MEMBER_LEFT").
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LeaveReason {
    /// It sent LEAVE or closed its connection cleanly.
    Left,
    /// The host removed it.
    Kicked,
    /// It sent no heartbeat in time.
    Timeout,
    /// The server closed its connection because it broke RFC 6455, read too slowly, or was evicted when
    /// memory was short.
    Error,
}
