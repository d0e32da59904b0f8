//! Reads clients' messages and writes the relayed ones, without parsing their payload.

use super::messages::{ClientMessage, MAX_ID_BYTES, Transmission, TransmissionType};
use crate::base::frame::Frame;
use crate::realm::Message;
use crate::toolkit::json::Fields;
use serde::Serialize;
use serde_json::value::RawValue;

/// Longest `dst`, in bytes of JSON, that can name an existing id: two quotes, and at most six bytes
/// (`\u0078`) for each byte of the id.
const MAX_DST_JSON_BYTES: usize = 2 + 6 * MAX_ID_BYTES;

/// Reads a message. Returns `None` if it is not a JSON object; such a message is ignored instead
/// of closing the connection (rulings, "PeerJS").
pub(super) fn decode(message: &Message) -> Option<ClientMessage> {
    let text = match message {
        Message::Text(text) => text.as_str(),
        // The npm package `peer` reads binary messages as text.
        Message::Binary(bytes) => std::str::from_utf8(bytes).ok()?,
    };
    // Other fields are ignored, `src` among them.
    let fields = Fields::read(text, &["type", "dst", "payload"]).ok()?;
    Some(interpret(&fields).unwrap_or(ClientMessage::KeepAlive))
}

/// Returns the id that a `dst` names. A number names the id of its digits: JavaScript lets an application
/// write `connect(4711)`, and the id in a URL is text.
fn id(dst: &RawValue) -> Option<String> {
    let json = dst.get();
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(json.to_owned());
    }
    serde_json::from_str(json).ok()
}

/// Returns the message that the fields make, or `None` if it is to be ignored.
fn interpret(fields: &Fields<3>) -> Option<ClientMessage> {
    let message_type = fields.required_text("type", "a string").ok()?;
    let message_type = TransmissionType::from_name(&message_type)?;
    // An empty `dst` counts as missing: no id is empty.
    let Some(dst) = fields.get("dst").filter(|dst| dst.get() != r#""""#) else {
        return (message_type == TransmissionType::Leave).then_some(ClientMessage::Leave);
    };
    if dst.get().len() > MAX_DST_JSON_BYTES {
        return None;
    }
    // `null` is a payload, too.
    let after_src = match fields.get_or_null("payload") {
        Some(payload) => [
            r#","dst":"#,
            dst.get(),
            r#","payload":"#,
            payload.get(),
            "}",
        ]
        .concat(),
        None => [r#","dst":"#, dst.get(), "}"].concat(),
    };
    Some(ClientMessage::Transmit(Transmission {
        message_type,
        dst: id(dst)?,
        after_src: after_src.into(),
    }))
}

/// The part of a relayed message before its destination.
#[derive(Serialize)]
struct Beginning<'a> {
    #[serde(rename = "type")]
    message_type: TransmissionType,
    src: &'a str,
}

impl Transmission {
    /// Returns the frame for its destination: `{type, src, dst, payload}`, with `src` as given.
    pub(super) fn to_frame(&self, src: &str) -> Frame {
        let beginning = Beginning {
            message_type: self.message_type,
            src,
        };
        let object = serde_json::to_string(&beginning).expect("strings are JSON");
        let beginning = object
            .strip_suffix('}')
            .expect("an object ends with a brace");
        Frame::text_from_parts(beginning, self.after_src.clone())
    }
}
