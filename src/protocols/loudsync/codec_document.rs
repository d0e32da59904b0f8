//! The JSON of the document's dialect ("Message Structure"): lower-case types, fields at the top level.

use super::fields;
use super::messages::{ClientMessage, ErrorReply, JoinRequest, Kick, Role, ServerMessage};
use crate::base::frame::Frame;
use crate::realm::TokenReader;
use crate::toolkit::json::{self, Fields, InvalidMessage};
use crate::toolkit::message_token::{MessageToken, read_token};

/// The fields of all message types; which of them a type requires is checked afterwards.
type MessageFields<'a> = Fields<'a, 9>;

/// Decodes a message and checks its fields ("Message Validation").
///
/// # Errors
/// The error to answer the client with.
pub(super) fn decode(text: &str, tokens: &dyn TokenReader) -> Result<ClientMessage, ErrorReply> {
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
    let message_type = message.required_text("type", "a string")?;
    let timestamp = fields::timestamp(&message, "timestamp")?;
    match &*message_type {
        "join" if !fields::is_supported_version(&message, "version")? => {
            Ok(ClientMessage::JoinOtherVersion)
        }
        "join" => {
            let token = read_token(text, tokens);
            Ok(ClientMessage::Join(Box::new(join(&message, token)?)))
        }
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
            Err(fields::unknown_type(other, known).into())
        }
    }
}

fn join(message: &MessageFields, token: MessageToken) -> Result<JoinRequest, ErrorReply> {
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
    Ok(JoinRequest {
        session_id,
        device_id: fields::replaceable_text(
            &device_info,
            "deviceInfo.id",
            fields::DEVICE_ID_LENGTH,
        )?,
        device_name: fields::replaceable_text(
            &device_info,
            "deviceInfo.name",
            fields::NAME_LENGTH,
        )?,
        role,
        token,
    })
}

/// Encodes a message. A [`ServerMessage`] serializes as this dialect has it.
pub(super) fn encode(message: &ServerMessage) -> Frame {
    Frame::json(message)
}
