//! The protocol document's dialect: the fields of a message are in `data` ("Message Format").

use super::fields::{Fields, display_name, uuid};
use super::identity::is_uuid_v4;
use super::messages::{Hello, ServerMessage};
use crate::base::frame::Frame;
use crate::toolkit::json::InvalidMessage;
use crate::toolkit::message_token::MessageToken;
use uuid::Uuid;

/// Reads a HELLO.
pub(super) fn hello(fields: &Fields, token: MessageToken) -> Hello {
    Hello {
        user_id: uuid_v4(fields).map(Some),
        display_name: display_name(fields),
        name_length: None,
        token,
    }
}

/// Reads a client's own user id, in upper or lower case.
fn uuid_v4(fields: &Fields) -> Result<Uuid, InvalidMessage> {
    let id = uuid(fields, "user_id")?;
    if is_uuid_v4(&id) {
        Ok(id)
    } else {
        Err(InvalidMessage::field(
            "user_id",
            "must be a UUID of version 4",
        ))
    }
}

/// Encodes a message, as one frame. A [`ServerMessage`] serializes as this dialect has it.
pub(super) fn encode(message: &ServerMessage) -> Vec<Frame> {
    vec![Frame::json(message)]
}
