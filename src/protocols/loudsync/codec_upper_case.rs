//! LOUDSYNC as its React Native client speaks it: types in capitals, fields in `payload`.
//!
//! Who speaks so is always a guest. A device is told of itself by its own id, by which that
//! client finds itself in a list; of all others, and by all others, by the ids that are made here.

use super::fields::{self, DEVICE_ID_LENGTH, NAME_LENGTH};
use super::messages::{
    Code, Command, ConnectionStatus, Departure, Join, MemberInfo, Mistake, Outgoing, Own, Role,
};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, InvalidMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
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
pub(super) fn read(text: &str) -> Result<Command, Mistake> {
    let incoming: Incoming = json::object(text)?;
    let kind: String = json::required(incoming.kind, "type", "a string")?;
    fields::timestamp(incoming.timestamp, "timestamp")?;
    let payload = payload(incoming.payload)?;
    match kind.as_str() {
        "JOIN" if !fields::is_our_version(payload.version, "payload.version")? => {
            Ok(Command::JoinOtherVersion)
        }
        "JOIN" => Ok(Command::Join(Join {
            session_id: json::required(payload.session_id, "payload.sessionId", "a string")?,
            device: fields::text(payload.device_id, "payload.deviceId", DEVICE_ID_LENGTH)?,
            name: fields::text(payload.device_name, "payload.deviceName", NAME_LENGTH)?,
            role: Role::Guest,
        })),
        "LEAVE" => {
            fields::reason(payload.reason, "payload.reason")?;
            Ok(Command::Leave)
        }
        "HEARTBEAT" => Ok(Command::Heartbeat),
        "PING" => {
            let timestamp = fields::timestamp(payload.timestamp, "payload.timestamp")?;
            Ok(Command::Ping(timestamp.to_owned()))
        }
        "PONG" => Ok(Command::Pong),
        "MEMBER_LIST" => Ok(Command::List),
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
    kind: &'static str,
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
        reason: Departure,
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
pub(super) fn frame(message: &Outgoing) -> Frame {
    write(message, None)
}

/// A message for one who stands in it; none where that is no other than for all. Everybody stands
/// in the list, so that is written once for each who speaks in capitals.
pub(super) fn personal(message: &Outgoing, own: Own) -> Option<Frame> {
    let stands_in_it = match message {
        Outgoing::Welcome { client_id, .. } => *client_id == own.client_id,
        Outgoing::MemberList { members, .. } => members.iter().any(|it| it.id == own.client_id),
        Outgoing::MemberJoined { member, .. } => member.id == own.client_id,
        Outgoing::MemberLeft { member_id, .. } => *member_id == own.client_id,
        Outgoing::Kicked { .. }
        | Outgoing::SessionClosed { .. }
        | Outgoing::Pong { .. }
        | Outgoing::Error { .. } => false,
    };
    stands_in_it.then(|| write(message, Some(own)))
}

fn write(message: &Outgoing, own: Option<Own>) -> Frame {
    let (kind, timestamp, payload) = match message {
        Outgoing::Welcome {
            timestamp,
            client_id,
            session_info,
        } => {
            let payload = Payload::Welcome {
                session_id: session_info.id,
                session_name: session_info.name,
                host_id: shown(session_info.host_id, own),
                host_name: session_info.host_name,
                your_device_id: shown(client_id, own),
                connected_at: *timestamp,
            };
            ("WELCOME", *timestamp, payload)
        }
        Outgoing::MemberList { timestamp, members } => {
            let payload = Payload::MemberList {
                members: members.iter().map(|it| member(it, own)).collect(),
                total_count: members.len(),
            };
            ("MEMBER_LIST", *timestamp, payload)
        }
        Outgoing::MemberJoined {
            timestamp,
            member: joined,
        } => {
            let member = member(joined, own);
            (
                "MEMBER_JOINED",
                *timestamp,
                Payload::MemberJoined { member },
            )
        }
        Outgoing::MemberLeft {
            timestamp,
            member_id,
            name,
            reason,
        } => {
            let payload = Payload::MemberLeft {
                device_id: shown(member_id, own),
                device_name: name,
                reason: *reason,
            };
            ("MEMBER_LEFT", *timestamp, payload)
        }
        Outgoing::Kicked { timestamp, reason } => {
            ("KICKED", *timestamp, Payload::Reason { reason })
        }
        Outgoing::SessionClosed { timestamp, reason } => {
            ("SESSION_CLOSED", *timestamp, Payload::Reason { reason })
        }
        Outgoing::Pong { now, timestamp } => {
            let payload = Payload::Pong {
                timestamp: *now,
                ping_timestamp: timestamp,
            };
            ("PONG", *now, payload)
        }
        Outgoing::Error {
            timestamp,
            code: at_fault,
            message,
            details: _,
        } => {
            let code = code(*at_fault);
            ("ERROR", *timestamp, Payload::Error { code, message })
        }
    };
    Frame::json(&Message {
        kind,
        timestamp,
        payload,
    })
}

/// The id by which a member is known to the receiver.
fn shown<'a>(id: &'a str, own: Option<Own<'a>>) -> &'a str {
    own.filter(|own| own.client_id == id)
        .map_or(id, |own| own.device)
}

fn member<'a>(info: &MemberInfo<'a>, own: Option<Own<'a>>) -> Member<'a> {
    Member {
        id: shown(info.id, own),
        name: info.name,
        role: if info.is_host { "host" } else { "client" },
        connection_status: info.connection_status,
        joined_at: info.joined_at,
        last_seen: info.last_seen,
        address: "",
        latency: info.latency,
    }
}

pub(super) const fn code(code: Code) -> &'static str {
    match code {
        Code::SessionNotFound => "SESSION_NOT_FOUND",
        Code::SessionFull => "SESSION_FULL",
        Code::AlreadyJoined => "ALREADY_JOINED",
        Code::InvalidMessage => "INVALID_MESSAGE",
        Code::Unauthorized => "UNAUTHORIZED",
        Code::VersionMismatch => "VERSION_MISMATCH",
    }
}
