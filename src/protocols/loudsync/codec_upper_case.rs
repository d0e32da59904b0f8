//! The JSON of the upper-case dialect, which the React Native client uses: upper-case types, fields in
//! `payload`.
//!
//! Its clients are always guests. A device is shown itself by its own device ID, by which that
//! client finds itself in a list; all other members are shown by client ID.

use super::fields::{self, DEVICE_ID_LENGTH, NAME_LENGTH};
use super::messages::{
    ClientMessage, ConnectionStatus, ErrorCode, ErrorReply, JoinRequest, LeaveReason, MemberInfo,
    RecipientIds, Role, ServerMessage,
};
use crate::base::frame::Frame;
use crate::realm::TokenReader;
use crate::toolkit::json::{Fields, InvalidMessage};
use crate::toolkit::message_token::read_token;
use serde::Serialize;
use serde_json::value::RawValue;

/// The payload fields of all message types. The device ID of LEAVE and HEARTBEAT is ignored: both
/// always concern the connection's own member.
type PayloadFields<'a> = Fields<'a, 6>;

/// Decodes a message and checks its fields ("Message Validation").
///
/// # Errors
/// The error to answer the client with.
pub(super) fn decode(text: &str, tokens: &dyn TokenReader) -> Result<ClientMessage, ErrorReply> {
    let message = Fields::read(text, &["type", "timestamp", "payload"])?;
    let message_type = message.required_text("type", "a string")?;
    fields::timestamp(&message, "timestamp")?;
    // A missing payload is an empty one.
    let payload_text = message.get("payload").map_or("{}", RawValue::get);
    let payload = read_payload(payload_text)?;
    match &*message_type {
        "JOIN" if !fields::is_supported_version(&payload, "payload.version")? => {
            Ok(ClientMessage::JoinOtherVersion)
        }
        "JOIN" => Ok(ClientMessage::Join(Box::new(JoinRequest {
            session_id: payload.required("payload.sessionId", "a string")?,
            device_id: fields::replaceable_text(&payload, "payload.deviceId", DEVICE_ID_LENGTH)?,
            device_name: fields::replaceable_text(&payload, "payload.deviceName", NAME_LENGTH)?,
            role: Role::Guest,
            token: read_token(payload_text, tokens),
        }))),
        "LEAVE" => {
            fields::reason(&payload, "payload.reason")?;
            Ok(ClientMessage::Leave)
        }
        "HEARTBEAT" => Ok(ClientMessage::Heartbeat),
        "PING" => {
            let timestamp = fields::timestamp(&payload, "payload.timestamp")?;
            Ok(ClientMessage::Ping(timestamp.to_owned()))
        }
        "PONG" => Ok(ClientMessage::Pong),
        "MEMBER_LIST" => Ok(ClientMessage::MemberList),
        other => {
            let known = "JOIN, LEAVE, HEARTBEAT, PING, PONG or MEMBER_LIST";
            Err(fields::unknown_type(other, known).into())
        }
    }
}

/// Reads the fields of the payload.
fn read_payload(payload: &str) -> Result<PayloadFields<'_>, InvalidMessage> {
    let problem = "must be an object without duplicate keys";
    PayloadFields::read_nested(
        payload,
        "payload.",
        &[
            "payload.sessionId",
            "payload.deviceId",
            "payload.deviceName",
            "payload.version",
            "payload.reason",
            "payload.timestamp",
        ],
    )
    .map_err(|_| InvalidMessage::field("payload", problem))
}

/// A message to clients. Time stamps are milliseconds since the epoch.
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

/// A member as the client expects it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    id: &'a str,
    name: &'a str,
    role: &'static str,
    connection_status: ConnectionStatus,
    joined_at: u64,
    last_seen: u64,
    /// Always empty: members do not need each other's addresses.
    address: &'static str,
    /// Milliseconds; null before the first measurement.
    latency: Option<u64>,
}

/// Encodes a message for all recipients that it does not name.
pub(super) fn encode(message: &ServerMessage) -> Frame {
    encode_for(message, None)
}

/// Encodes a message for a recipient that it names, or returns none if it does not name it. The list
/// names every member, so it is encoded once for each recipient of this dialect.
pub(super) fn encode_personalized(
    message: &ServerMessage,
    recipient: RecipientIds,
) -> Option<Frame> {
    let id = recipient.client_id;
    let names_recipient = match message {
        ServerMessage::Welcome { client_id, .. } => *client_id == id,
        ServerMessage::MemberList { members, .. } => members.iter().any(|member| member.id == id),
        ServerMessage::MemberJoined { member, .. } => member.id == id,
        ServerMessage::MemberLeft { member_id, .. } => *member_id == id,
        ServerMessage::Kicked { .. }
        | ServerMessage::SessionClosed { .. }
        | ServerMessage::Pong { .. }
        | ServerMessage::Error { .. } => false,
    };
    names_recipient.then(|| encode_for(message, Some(recipient)))
}

fn encode_for(message: &ServerMessage, recipient: Option<RecipientIds>) -> Frame {
    let (message_type, timestamp) = match message {
        ServerMessage::Welcome { timestamp, .. } => ("WELCOME", *timestamp),
        ServerMessage::MemberList { timestamp, .. } => ("MEMBER_LIST", *timestamp),
        ServerMessage::MemberJoined { timestamp, .. } => ("MEMBER_JOINED", *timestamp),
        ServerMessage::MemberLeft { timestamp, .. } => ("MEMBER_LEFT", *timestamp),
        ServerMessage::Kicked { timestamp, .. } => ("KICKED", *timestamp),
        ServerMessage::SessionClosed { timestamp, .. } => ("SESSION_CLOSED", *timestamp),
        ServerMessage::Pong { now, .. } => ("PONG", *now),
        ServerMessage::Error { timestamp, .. } => ("ERROR", *timestamp),
    };
    Frame::json(&Message {
        message_type,
        timestamp,
        payload: payload(message, recipient),
    })
}

fn payload<'a>(message: &'a ServerMessage, recipient: Option<RecipientIds<'a>>) -> Payload<'a> {
    match message {
        ServerMessage::Welcome {
            timestamp,
            client_id,
            session_info,
        } => Payload::Welcome {
            session_id: session_info.id,
            session_name: session_info.name,
            host_id: id_for(session_info.host_id, recipient),
            host_name: session_info.host_name,
            your_device_id: id_for(client_id, recipient),
            connected_at: *timestamp,
        },
        ServerMessage::MemberList { members, .. } => Payload::MemberList {
            members: members.iter().map(|it| member(it, recipient)).collect(),
            total_count: members.len(),
        },
        ServerMessage::MemberJoined { member: joined, .. } => Payload::MemberJoined {
            member: member(joined, recipient),
        },
        ServerMessage::MemberLeft {
            member_id,
            member_name,
            reason,
            ..
        } => Payload::MemberLeft {
            device_id: id_for(member_id, recipient),
            device_name: member_name,
            reason: *reason,
        },
        ServerMessage::Kicked { reason, .. } | ServerMessage::SessionClosed { reason, .. } => {
            Payload::Reason { reason }
        }
        ServerMessage::Pong { now, timestamp } => Payload::Pong {
            timestamp: *now,
            ping_timestamp: timestamp,
        },
        ServerMessage::Error { code, message, .. } => Payload::Error {
            code: error_code(*code),
            message,
        },
    }
}

/// Returns the ID under which a recipient is shown a member: its device ID for itself, otherwise `id`.
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

/// Returns an error code as this dialect writes it.
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
