//! LOUDSYNC as its document writes it ("Message Structure").

use super::fields;
use super::messages::{
    Code, Command, ConnectionStatus, Departure, Details, Join, Kick, MemberInfo, Mistake, Outgoing,
    Role,
};
use crate::base::frame::Frame;
use crate::base::log_escape::Quoted;
use crate::toolkit::json::{self, InvalidMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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
    let timestamp = fields::timestamp(incoming.timestamp, "timestamp")?;
    match kind.as_str() {
        "join" if !fields::is_our_version(incoming.version, "version")? => {
            Ok(Command::JoinOtherVersion)
        }
        "join" => Ok(Command::Join(join(&incoming)?)),
        "leave" => {
            fields::reason(incoming.reason, "reason")?;
            Ok(Command::Leave)
        }
        "heartbeat" => Ok(Command::Heartbeat),
        "ping" => Ok(Command::Ping(timestamp.to_owned())),
        "member_list" => Ok(Command::List),
        "kick" => Ok(Command::Kick(Kick {
            member_id: json::required(incoming.member_id, "memberId", "a string")?,
            reason: fields::reason(incoming.reason, "reason")?,
        })),
        other => {
            let known = "join, leave, heartbeat, ping, member_list and kick";
            let problem = format!("is {}; there are {known}", Quoted(other));
            Err(InvalidMessage::field("type", problem).into())
        }
    }
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
            fields::check_session_id(&session_id)?;
            let session_name: Option<String> =
                json::optional(incoming.session_name, "sessionName", "a string")?;
            if let Some(name) = &session_name {
                json::check_length(name, "sessionName", 1, fields::NAME_LENGTH)?;
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
        device: fields::text(device.id, "deviceInfo.id", fields::DEVICE_ID_LENGTH)?,
        name: fields::text(device.name, "deviceInfo.name", fields::NAME_LENGTH)?,
        role,
    })
}

/// A message as it goes over the wire.
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session<'a> {
    id: &'a str,
    name: &'a str,
    host_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Member<'a> {
    id: &'a str,
    name: &'a str,
    is_host: bool,
    connection_status: ConnectionStatus,
    joined_at: u64,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<u64>,
}

/// Writes a message.
pub(super) fn frame(message: &Outgoing) -> Frame {
    Frame::json(&match message {
        Outgoing::Welcome {
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
        Outgoing::MemberList { timestamp, members } => Message::MemberList {
            timestamp: *timestamp,
            members: members.iter().map(member).collect(),
        },
        Outgoing::MemberJoined {
            timestamp,
            member: joined,
        } => Message::MemberJoined {
            timestamp: *timestamp,
            member: member(joined),
        },
        Outgoing::MemberLeft {
            timestamp,
            member_id,
            name: _,
            reason,
        } => Message::MemberLeft {
            timestamp: *timestamp,
            member_id,
            reason: *reason,
        },
        Outgoing::Kicked { timestamp, reason } => Message::Kicked {
            timestamp: *timestamp,
            reason,
        },
        Outgoing::SessionClosed { timestamp, reason } => Message::SessionClosed {
            timestamp: *timestamp,
            reason,
        },
        Outgoing::Pong { now: _, timestamp } => Message::Pong { timestamp },
        Outgoing::Error {
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
