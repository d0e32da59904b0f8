//! LOUDSYNC's messages: what a client may say, what it is told, and both as the document writes
//! them ("Message Structure"). The other dialect is in [`upper_case`].

use super::codec::Dialect;
use super::codec_upper_case;
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::toolkit::dialect::Encode;
use crate::toolkit::json::{self, InvalidMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The major version of the protocol ("Version History").
pub(super) const VERSION: u64 = 1;

/// The most characters of a device's id, which the server keeps, and nobody is told.
pub(super) const DEVICE_ID_LENGTH: usize = 128;

/// The most characters of names (rulings, for `sessionName`).
pub(super) const NAME_LENGTH: usize = 100;

/// The most characters of a session's id (rulings).
pub(super) const SESSION_ID_LENGTH: usize = 64;

/// The most characters of a reason.
const REASON_LENGTH: usize = 200;

/// What a client may say, and what it said wrong.
pub enum Command {
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
    List,
    /// `kick` (rulings).
    Kick(Kick),
    /// None of these.
    Wrong(Mistake),
}

/// Who wants into which session.
#[derive(Debug)]
pub struct Join {
    pub(super) session_id: String,
    /// `deviceInfo.id`.
    pub(super) device: String,
    /// `deviceInfo.name`.
    pub(super) name: String,
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
pub(super) enum Code {
    SessionNotFound,
    SessionFull,
    AlreadyJoined,
    InvalidMessage,
    Unauthorized,
    VersionMismatch,
}

/// Something that cannot be done, and why.
#[derive(Debug)]
pub struct Mistake {
    pub(super) code: Code,
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

impl Mistake {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
        }
    }
}

impl From<InvalidMessage> for Mistake {
    fn from(malformed: InvalidMessage) -> Self {
        Self {
            code: Code::InvalidMessage,
            message: malformed.to_string(),
            details: malformed.name().map(|field| Details::Field { field }),
        }
    }
}

/// A message to clients. Time stamps are milliseconds since the epoch.
///
/// It is written as the document says; what is skipped there is told in the other dialect alone.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
pub(super) enum Outgoing<'a> {
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
        name: &'a str,
        reason: Departure,
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
        #[serde(skip)]
        now: u64,
        /// The ping's.
        timestamp: &'a RawValue,
    },
    Error {
        timestamp: u64,
        code: Code,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<&'a Details>,
    },
}

/// Who a message goes to, where it is one of those that the message is about.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    /// How the others know it.
    pub(super) client_id: &'a str,
    pub(super) device: &'a str,
}

impl Outgoing<'_> {
    /// The message for one who stands in it, where the dialect tells it of itself otherwise than
    /// all others.
    pub(super) fn personal(&self, dialect: Dialect, own: Own) -> Option<Frame> {
        match dialect {
            Dialect::Document => None,
            Dialect::UpperCase => codec_upper_case::personal(self, own),
        }
    }
}

impl Encode for Outgoing<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        vec![match dialect {
            Dialect::Document => Frame::json(self),
            Dialect::UpperCase => codec_upper_case::frame(self),
        }]
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) host_id: &'a str,
    #[serde(skip)]
    pub(super) host_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) is_host: bool,
    pub(super) connection_status: ConnectionStatus,
    pub(super) joined_at: u64,
    /// Its last heartbeat, or its JOIN where there was none since: milliseconds since the epoch.
    #[serde(skip)]
    pub(super) last_seen: u64,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
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
pub(super) enum Departure {
    Left,
    Kicked,
    Timeout,
    Error,
}

/// The fields of all types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_info: Option<&'a RawValue>,
    #[serde(borrow)]
    session_name: Option<&'a RawValue>,
    #[serde(borrow)]
    max_members: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    member_id: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct DeviceInfo<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
}

/// Reads a message of the document's dialect ("Message Validation").
pub(super) fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    let timestamp = timestamp(incoming.timestamp, "timestamp")?;
    match kind.as_str() {
        "join" if !is_our_version(incoming.version, "version")? => Ok(Command::JoinOtherVersion),
        "join" => Ok(Command::Join(join(&incoming)?)),
        "leave" => {
            reason(incoming.reason, "reason")?;
            Ok(Command::Leave)
        }
        "heartbeat" => Ok(Command::Heartbeat),
        "ping" => Ok(Command::Ping(timestamp.to_owned())),
        "member_list" => Ok(Command::List),
        "kick" => Ok(Command::Kick(Kick {
            member_id: json::required(incoming.member_id, "memberId", "a string")?,
            reason: reason(incoming.reason, "reason")?,
        })),
        other => {
            let known = "join, leave, heartbeat, ping, member_list and kick";
            let problem = format!("is {}; there are {known}", Quoted(other));
            Err(InvalidMessage::field("type", problem).into())
        }
    }
}

/// A time stamp like that of every message ("BaseMessage"), as it was written.
pub(super) fn timestamp<'a>(
    value: Option<&'a RawValue>,
    name: &'static str,
) -> Result<&'a RawValue, InvalidMessage> {
    let what = "a number, the time in milliseconds since 1970";
    let value: &RawValue = json::required(value, name, what)?;
    if value
        .get()
        .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    {
        Ok(value)
    } else {
        Err(InvalidMessage::field(name, format_args!("is not {what}")))
    }
}

/// A text that has to be there and not empty.
pub(super) fn text(
    value: Option<&RawValue>,
    name: &'static str,
    longest: usize,
) -> Result<String, InvalidMessage> {
    let text: String = json::required(value, name, "a string")?;
    json::check_length(&text, name, 1, longest).map(|()| text)
}

fn join(incoming: &Incoming) -> Result<Join, Mistake> {
    let device: DeviceInfo = incoming.device_info.map_or_else(
        || {
            Err(InvalidMessage::field(
                "deviceInfo",
                "is missing; it is an object",
            ))
        },
        |info| {
            let problem = "is not an object, each key in it once";
            json::object(info.get()).map_err(|_| InvalidMessage::field("deviceInfo", problem))
        },
    )?;
    let session_id: String = json::required(incoming.session_id, "sessionId", "a string")?;
    let types = "\"host\" or \"client\"";
    let kind: String = json::required(device.kind, "deviceInfo.type", types)?;
    let role = match kind.as_str() {
        "host" => {
            check_session_id(&session_id)?;
            let session_name: Option<String> =
                json::optional(incoming.session_name, "sessionName", "a string")?;
            if let Some(name) = &session_name {
                json::check_length(name, "sessionName", 1, NAME_LENGTH)?;
            }
            let max_members = json::optional(
                incoming.max_members,
                "maxMembers",
                "a whole number from 2 on",
            )?;
            Role::Host {
                session_name,
                max_members,
            }
        }
        "client" => Role::Client,
        _ => {
            let problem = format!("is not {types}");
            return Err(InvalidMessage::field("deviceInfo.type", problem).into());
        }
    };
    Ok(Join {
        session_id,
        device: text(device.id, "deviceInfo.id", DEVICE_ID_LENGTH)?,
        name: text(device.name, "deviceInfo.name", NAME_LENGTH)?,
        role,
    })
}

/// A session's id, where somebody makes one.
pub(super) fn check_session_id(id: &str) -> Result<(), InvalidMessage> {
    json::check_length(id, "sessionId", 1, SESSION_ID_LENGTH)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if id.bytes().all(allowed) {
        Ok(())
    } else {
        let problem = "has other characters in it than letters, digits, \"-\" and \"_\"";
        Err(InvalidMessage::field("sessionId", problem))
    }
}

/// Whether a client says nothing of a version, or one of the same major number: `"1.0"`, or 1.
pub(super) fn is_our_version(
    value: Option<&RawValue>,
    name: &'static str,
) -> Result<bool, InvalidMessage> {
    let Some(value) = value else {
        return Ok(true);
    };
    let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    let major = text.split('.').next().unwrap_or_default();
    if major.is_empty() || !major.bytes().all(|digit| digit.is_ascii_digit()) {
        let problem = "is no version, for example \"1.0\"";
        return Err(InvalidMessage::field(name, problem));
    }
    Ok(major.parse() == Ok(VERSION))
}

pub(super) fn reason(
    value: Option<&RawValue>,
    name: &'static str,
) -> Result<Option<String>, InvalidMessage> {
    let reason: Option<String> = json::optional(value, name, "a string")?;
    if let Some(reason) = &reason {
        json::check_length(reason, name, 0, REASON_LENGTH)?;
    }
    Ok(reason.filter(|reason| !reason.is_empty()))
}
