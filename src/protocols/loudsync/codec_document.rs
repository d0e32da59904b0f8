//! The JSON of the document's dialect ("Message Structure"): lower-case types, fields at the top level.

use super::fields;
use super::messages::{
    ClientMessage, ConnectionStatus, Details, ErrorCode, ErrorReply, Join, Kick, LeaveReason,
    MemberInfo, Role, ServerMessage,
};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, Fields, InvalidMessage};
use serde::Serialize;
use serde_json::value::RawValue;

/// The fields of all message types; which of them a type requires is checked afterwards.
type MessageFields<'a> = Fields<'a, 9>;

/// Decodes a message and checks its fields ("Message Validation").
///
/// # Errors
/// The error to answer the client with.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let message = MessageFields::read(
        text,
        &[
            "type",
            "timestamp",
            "sessionId",
            "deviceInfo",
            "sessionName",
            "maxMembers",
            "version",
            "memberId",
            "reason",
        ],
    )?;
    let message_type: String = message.required("type", "a string")?;
    let timestamp = fields::timestamp(&message, "timestamp")?;
    match message_type.as_str() {
        "join" if !fields::is_supported_version(&message, "version")? => {
            Ok(ClientMessage::JoinOtherVersion)
        }
        "join" => Ok(ClientMessage::Join(join(&message)?)),
        "leave" => {
            fields::reason(&message, "reason")?;
            Ok(ClientMessage::Leave)
        }
        "heartbeat" => Ok(ClientMessage::Heartbeat),
        "ping" => Ok(ClientMessage::Ping(timestamp.to_owned())),
        "member_list" => Ok(ClientMessage::MemberList),
        "kick" => Ok(ClientMessage::Kick(Kick {
            member_id: message.required("memberId", "a string")?,
            reason: fields::reason(&message, "reason")?,
        })),
        other => {
            let known = "join, leave, heartbeat, ping, member_list or kick";
            let problem = format!("is {}; must be {known}", Quoted(other));
            Err(InvalidMessage::field("type", problem).into())
        }
    }
}

fn join(message: &MessageFields) -> Result<Join, ErrorReply> {
    let invalid = |problem| InvalidMessage::field("deviceInfo", problem);
    let device_info = message
        .get("deviceInfo")
        .ok_or_else(|| invalid("is missing; must be an object"))?;
    let names = &["deviceInfo.id", "deviceInfo.name", "deviceInfo.type"];
    let device_info = Fields::read_nested(device_info.get(), "deviceInfo.", names)
        .map_err(|_| invalid("must be an object without duplicate keys"))?;
    let session_id: String = message.required("sessionId", "a string")?;
    let types = "\"host\" or \"client\"";
    let device_type: String = device_info.required("deviceInfo.type", types)?;
    let role = match device_type.as_str() {
        "host" => {
            fields::check_session_id(&session_id)?;
            let session_name: Option<String> = message.optional("sessionName", "a string")?;
            if let Some(name) = &session_name {
                json::check_length(name, "sessionName", 1, fields::NAME_LENGTH)?;
            }
            Role::Host {
                session_name,
                max_members: message.optional("maxMembers", "an integer, at least 2")?,
            }
        }
        "client" => Role::Client,
        _ => {
            let problem = format!("must be {types}");
            return Err(InvalidMessage::field("deviceInfo.type", problem).into());
        }
    };
    Ok(Join {
        session_id,
        device_id: fields::text(&device_info, "deviceInfo.id", fields::DEVICE_ID_LENGTH)?,
        device_name: fields::text(&device_info, "deviceInfo.name", fields::NAME_LENGTH)?,
        role,
    })
}

/// A message to clients.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "snake_case",
    rename_all_fields = "camelCase"
)]
enum Message<'a> {
    Welcome {
        timestamp: u64,
        client_id: &'a str,
        session_info: Session<'a>,
    },
    MemberList {
        timestamp: u64,
        members: Vec<Member<'a>>,
    },
    MemberJoined {
        timestamp: u64,
        member: Member<'a>,
    },
    MemberLeft {
        timestamp: u64,
        member_id: &'a str,
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
        timestamp: &'a RawValue,
    },
    Error {
        timestamp: u64,
        code: ErrorCode,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<&'a Details>,
    },
}

/// `sessionInfo`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    id: &'a str,
    name: &'a str,
    host_id: &'a str,
}

/// A `MemberInfo` of the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    id: &'a str,
    name: &'a str,
    is_host: bool,
    connection_status: ConnectionStatus,
    joined_at: u64,
    /// Milliseconds; left out before the first measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<u64>,
}

/// Encodes a message.
pub(super) fn encode(message: &ServerMessage) -> Frame {
    Frame::json(&match message {
        ServerMessage::Welcome {
            timestamp,
            client_id,
            session_info,
        } => Message::Welcome {
            timestamp: *timestamp,
            client_id,
            session_info: Session {
                id: session_info.id,
                name: session_info.name,
                host_id: session_info.host_id,
            },
        },
        ServerMessage::MemberList { timestamp, members } => Message::MemberList {
            timestamp: *timestamp,
            members: members.iter().map(member).collect(),
        },
        ServerMessage::MemberJoined {
            timestamp,
            member: joined,
        } => Message::MemberJoined {
            timestamp: *timestamp,
            member: member(joined),
        },
        ServerMessage::MemberLeft {
            timestamp,
            member_id,
            member_name: _,
            reason,
        } => Message::MemberLeft {
            timestamp: *timestamp,
            member_id,
            reason: *reason,
        },
        ServerMessage::Kicked { timestamp, reason } => Message::Kicked {
            timestamp: *timestamp,
            reason,
        },
        ServerMessage::SessionClosed { timestamp, reason } => Message::SessionClosed {
            timestamp: *timestamp,
            reason,
        },
        ServerMessage::Pong { now: _, timestamp } => Message::Pong { timestamp },
        ServerMessage::Error {
            timestamp,
            code,
            message,
            details,
        } => Message::Error {
            timestamp: *timestamp,
            code: *code,
            message,
            details: *details,
        },
    })
}

const fn member<'a>(info: &MemberInfo<'a>) -> Member<'a> {
    Member {
        id: info.id,
        name: info.name,
        is_host: info.is_host,
        connection_status: info.connection_status,
        joined_at: info.joined_at,
        latency: info.latency,
    }
}
