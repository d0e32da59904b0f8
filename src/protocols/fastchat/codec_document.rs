//! The protocol document's dialect: the fields of a message are in `data` ("Message Format").

use super::fields::{
    Fields, display_name, msg, read_envelope, read_fields, target, typing, unknown_type, uuid,
};
use super::messages::{
    ClientMessage, Details, ErrorCode, ErrorReply, Hello, ServerMessage, Status, UserEntry,
};
use crate::base::frame::Frame;
use crate::toolkit::json::InvalidMessage;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::{Uuid, Variant, Version};

/// Decodes a message.
pub(super) fn decode(text: &str) -> Result<ClientMessage, ErrorReply> {
    let (message_type, data) = read_envelope(text)?;
    let fields = read_fields(data.map_or("{}", RawValue::get))
        .map_err(|_| InvalidMessage::field("data", "must be an object without duplicate keys"));
    match message_type.as_str() {
        "HELLO" => Ok(ClientMessage::Hello(
            fields
                .map_err(ErrorReply::from)
                .and_then(|fields| hello(&fields)),
        )),
        "OPEN_CHAT" => Ok(ClientMessage::OpenChat(
            fields
                .map_err(ErrorReply::from)
                .and_then(|fields| target(&fields)),
        )),
        "MSG" => msg(&fields?, true),
        "MSG_ACK" => Ok(ClientMessage::MsgAck),
        "TYPING" => typing(&fields?),
        "PING" => Ok(ClientMessage::Ping),
        other => {
            let known = "HELLO, OPEN_CHAT, MSG, MSG_ACK, TYPING and PING";
            Err(unknown_type(other, known))
        }
    }
}

fn hello(fields: &Fields) -> Result<Hello, ErrorReply> {
    Ok(Hello {
        user_id: Some(uuid_v4(fields)?),
        display_name: display_name(fields)?,
        name_length: None,
    })
}

/// Reads a client's own user id, in upper or lower case ("User ID Format").
fn uuid_v4(fields: &Fields) -> Result<Uuid, InvalidMessage> {
    let id = uuid(fields, "user_id")?;
    if id.get_version() == Some(Version::Random) && id.get_variant() == Variant::RFC4122 {
        Ok(id)
    } else {
        Err(InvalidMessage::field(
            "user_id",
            "must be a UUID of version 4",
        ))
    }
}

/// The JSON of a message to a client.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "SCREAMING_SNAKE_CASE")]
enum Document<'a> {
    HelloAck {
        user_id: Uuid,
        status: Status,
    },
    Presence {
        users: &'a [UserEntry<'a>],
    },
    ChatOpened {
        chat_id: Uuid,
        participants: [Uuid; 2],
        target_user_id: Uuid,
        target_display_name: &'a str,
    },
    Msg {
        from: Uuid,
        to: Uuid,
        content: &'a str,
        message_id: &'a str,
        timestamp: &'a str,
    },
    MsgAck {
        message_id: &'a str,
        status: Status,
    },
    Typing {
        user_id: Uuid,
        is_typing: bool,
    },
    Pong {
        timestamp: &'a str,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
        details: &'a Details,
    },
}

/// Encodes a message, as one frame.
pub(super) fn encode(message: &ServerMessage) -> Vec<Frame> {
    let message = match message {
        ServerMessage::HelloAck { user_id, status } => Document::HelloAck {
            user_id: *user_id,
            status: *status,
        },
        ServerMessage::PresenceList { users } | ServerMessage::PresenceUpdate { users } => {
            Document::Presence { users }
        }
        ServerMessage::ChatOpened {
            chat_id,
            participants,
            target_user_id,
            target_display_name,
        } => Document::ChatOpened {
            chat_id: *chat_id,
            participants: *participants,
            target_user_id: *target_user_id,
            target_display_name,
        },
        ServerMessage::Msg {
            from,
            from_name: _,
            to,
            content,
            message_id,
            timestamp,
        } => Document::Msg {
            from: *from,
            to: *to,
            content,
            message_id,
            timestamp,
        },
        ServerMessage::MsgAck {
            message_id,
            status,
            timestamp: _,
        } => Document::MsgAck {
            message_id,
            status: *status,
        },
        ServerMessage::Typing {
            user_id,
            display_name: _,
            is_typing,
        } => Document::Typing {
            user_id: *user_id,
            is_typing: *is_typing,
        },
        ServerMessage::Pong { timestamp } => Document::Pong { timestamp },
        ServerMessage::Error(error) => Document::Error {
            code: error.code,
            message: &error.message,
            details: &error.details,
        },
    };
    vec![Frame::json(&message)]
}
