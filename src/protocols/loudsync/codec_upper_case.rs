//! LOUDSYNC as its React Native client speaks it: types in capitals, fields in `payload`.
//!
//! Who speaks so is always a guest. A device is told of itself by its own id, by which that
//! client finds itself in a list; of all others, and by all others, by the ids that are made here.

use super::fields::{self, DEVICE_ID_LENGTH, NAME_LENGTH};
use super::messages::{
    ClientMessage, ConnectionStatus, ErrorCode, ErrorReply, Join, LeaveReason, MemberInfo,
    RecipientIds, Role, ServerMessage,
};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, InvalidMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct RawMessage<'a> {
    #[serde(borrow, rename = "type")]
    message_type: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// The fields of all types. The device id of LEAVE and HEARTBEAT is not read: both are about the
/// connection's own member.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_id: Option<&'a RawValue>,
    #[serde(borrow)]
    device_name: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
}

/// Reads a message ("Message Validation").
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let raw: RawMessage = json::object(text)?;
    let message_type: String = json::required(raw.message_type, "type", "a string")?;
    fields::timestamp(raw.timestamp, "timestamp")?;
    let payload = payload(raw.payload)?;
    match message_type.as_str() {
        "JOIN" if !fields::is_our_version(payload.version, "payload.version")? => {
            Ok(ClientMessage::JoinOtherVersion)
        }
        "JOIN" => Ok(ClientMessage::Join(Join {
            session_id: json::required(payload.session_id, "payload.sessionId", "a string")?,
            device_id: fields::text(payload.device_id, "payload.deviceId", DEVICE_ID_LENGTH)?,
            device_name: fields::text(payload.device_name, "payload.deviceName", NAME_LENGTH)?,
            role: Role::Guest,
        })),
        "LEAVE" => {
            fields::reason(payload.reason, "payload.reason")?;
            Ok(ClientMessage::Leave)
        }
        "HEARTBEAT" => Ok(ClientMessage::Heartbeat),
        "PING" => {
            let timestamp = fields::timestamp(payload.timestamp, "payload.timestamp")?;
            Ok(ClientMessage::Ping(timestamp.to_owned()))
        }
        "PONG" => Ok(ClientMessage::Pong),
        "MEMBER_LIST" => Ok(ClientMessage::MemberList),
        other => {
            let known = "JOIN, LEAVE, HEARTBEAT, PING, PONG and MEMBER_LIST";
            let problem = format!("is {}; there are {known}", Quoted(other));
            Err(InvalidMessage::field("type", problem).into())
        }
    }
}

/// What stands in the payload. Without one nothing does.
fn payload(payload: Option<&RawValue>) -> Result<Fields<'_>, InvalidMessage> {
    let Some(payload) = payload else {
        return Ok(Fields::default());
    };
    let problem = "is not an object, each key in it once";
    json::object(payload.get()).map_err(|_| InvalidMessage::field("payload", problem))
}

/// A message as it goes over the wire. Time stamps are milliseconds since the epoch.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    message_type: &'static str,
    timestamp: u64,
    payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Payload<'a> {
    Welcome {
        session_id: &'a str,
        session_name: &'a str,
        host_id: &'a str,
        host_name: &'a str,
        your_device_id: &'a str,
        connected_at: u64,
    },
    MemberList {
        members: Vec<Member<'a>>,
        total_count: usize,
    },
    MemberJoined {
        member: Member<'a>,
    },
    MemberLeft {
        device_id: &'a str,
        device_name: &'a str,
        reason: LeaveReason,
    },
    Reason {
        reason: &'a str,
    },
    Pong {
        timestamp: u64,
        ping_timestamp: &'a RawValue,
    },
    Error {
        code: &'static str,
        message: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    id: &'a str,
    name: &'a str,
    role: &'static str,
    connection_status: ConnectionStatus,
    joined_at: u64,
    last_seen: u64,
    /// Always empty: nobody needs the others' addresses.
    address: &'static str,
    /// In milliseconds; null before it is known.
    latency: Option<u64>,
}

/// A message for all who do not stand in it.
pub(super) fn encode(message: &ServerMessage) -> Frame {
    encode_with(message, None)
}

/// A message for one who stands in it; none where that is no other than for all. Everybody stands
/// in the list, so that is written once for each who speaks in capitals.
pub(super) fn encode_personalized(
    message: &ServerMessage,
    recipient: RecipientIds,
) -> Option<Frame> {
    let is_subject = match message {
        ServerMessage::Welcome { client_id, .. } => *client_id == recipient.client_id,
        ServerMessage::MemberList { members, .. } => {
            members.iter().any(|it| it.id == recipient.client_id)
        }
        ServerMessage::MemberJoined { member, .. } => member.id == recipient.client_id,
        ServerMessage::MemberLeft { member_id, .. } => *member_id == recipient.client_id,
        ServerMessage::Kicked { .. }
        | ServerMessage::SessionClosed { .. }
        | ServerMessage::Pong { .. }
        | ServerMessage::Error { .. } => false,
    };
    is_subject.then(|| encode_with(message, Some(recipient)))
}

fn encode_with(message: &ServerMessage, recipient: Option<RecipientIds>) -> Frame {
    let (message_type, timestamp, payload) = match message {
        ServerMessage::Welcome {
            timestamp,
            client_id,
            session_info,
        } => {
            let payload = Payload::Welcome {
                session_id: session_info.id,
                session_name: session_info.name,
                host_id: id_for(session_info.host_id, recipient),
                host_name: session_info.host_name,
                your_device_id: id_for(client_id, recipient),
                connected_at: *timestamp,
            };
            ("WELCOME", *timestamp, payload)
        }
        ServerMessage::MemberList { timestamp, members } => {
            let payload = Payload::MemberList {
                members: members.iter().map(|it| member(it, recipient)).collect(),
                total_count: members.len(),
            };
            ("MEMBER_LIST", *timestamp, payload)
        }
        ServerMessage::MemberJoined {
            timestamp,
            member: joined,
        } => {
            let member = member(joined, recipient);
            (
                "MEMBER_JOINED",
                *timestamp,
                Payload::MemberJoined { member },
            )
        }
        ServerMessage::MemberLeft {
            timestamp,
            member_id,
            member_name,
            reason,
        } => {
            let payload = Payload::MemberLeft {
                device_id: id_for(member_id, recipient),
                device_name: member_name,
                reason: *reason,
            };
            ("MEMBER_LEFT", *timestamp, payload)
        }
        ServerMessage::Kicked { timestamp, reason } => {
            ("KICKED", *timestamp, Payload::Reason { reason })
        }
        ServerMessage::SessionClosed { timestamp, reason } => {
            ("SESSION_CLOSED", *timestamp, Payload::Reason { reason })
        }
        ServerMessage::Pong { now, timestamp } => {
            let payload = Payload::Pong {
                timestamp: *now,
                ping_timestamp: timestamp,
            };
            ("PONG", *now, payload)
        }
        ServerMessage::Error {
            timestamp,
            code,
            message,
            details: _,
        } => {
            let code = error_code(*code);
            ("ERROR", *timestamp, Payload::Error { code, message })
        }
    };
    Frame::json(&Message {
        message_type,
        timestamp,
        payload,
    })
}

/// The id by which a member is known to the receiver.
fn id_for<'a>(id: &'a str, recipient: Option<RecipientIds<'a>>) -> &'a str {
    recipient
        .filter(|recipient| recipient.client_id == id)
        .map_or(id, |recipient| recipient.device_id)
}

fn member<'a>(info: &MemberInfo<'a>, recipient: Option<RecipientIds<'a>>) -> Member<'a> {
    Member {
        id: id_for(info.id, recipient),
        name: info.name,
        role: if info.is_host { "host" } else { "client" },
        connection_status: info.connection_status,
        joined_at: info.joined_at,
        last_seen: info.last_seen,
        address: "",
        latency: info.latency,
    }
}

pub(super) const fn error_code(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::SessionNotFound => "SESSION_NOT_FOUND",
        ErrorCode::SessionFull => "SESSION_FULL",
        ErrorCode::AlreadyJoined => "ALREADY_JOINED",
        ErrorCode::InvalidMessage => "INVALID_MESSAGE",
        ErrorCode::Unauthorized => "UNAUTHORIZED",
        ErrorCode::VersionMismatch => "VERSION_MISMATCH",
    }
}
