//! The protocol document's dialect: the fields of a message are in `data` ("Message Format").

use super::fields::{Fields, display_name, uuid};
use super::messages::{ErrorReply, Hello, ServerMessage};
use crate::base::frame::Frame;
use crate::toolkit::json::InvalidMessage;
use uuid::{Uuid, Variant, Version};

/// Reads a HELLO.
pub(super) fn hello(fields: &Fields) -> Result<Hello, ErrorReply> {
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

/// Encodes a message, as one frame. A [`ServerMessage`] serializes as this dialect has it.
pub(super) fn encode(message: &ServerMessage) -> Vec<Frame> {
    vec![Frame::json(message)]
}
