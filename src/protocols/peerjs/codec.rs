//! Reads clients' messages and writes the relayed ones, without parsing their payload.

use super::messages::{ClientMessage, Dst, MAX_ID_BYTES, Transmission, TransmissionType};
use crate::base::frame::{Frame, TextEnd};
use crate::realm::Message;
use crate::toolkit::json::{Fields, escape, plain_string};
use serde_json::value::RawValue;

/// Longest `dst`, in bytes of JSON, that can name an existing id: two quotes, and at most six bytes
/// (`\u0078`) for each byte of the id.
const MAX_DST_JSON_BYTES: usize = 2 + 6 * MAX_ID_BYTES;

/// What stands before the destination in a relayed message, behind `src`.
const DST_KEY: &str = r#","dst":"#;

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
    let id = read_dst(dst)?;
    // `null` is a payload, too.
    let after_src = match fields.get_or_null("payload") {
        Some(payload) => {
            TextEnd::from_parts(&[DST_KEY, dst.get(), r#","payload":"#, payload.get(), "}"])
        }
        None => TextEnd::from_parts(&[DST_KEY, dst.get(), "}"]),
    };
    Some(ClientMessage::Transmit(Transmission {
        message_type,
        dst: id,
        after_src,
    }))
}

/// Reads the id that a `dst` names. A number names the id of its digits: JavaScript lets an application write
/// `connect(4711)`, and the id in a URL is text.
fn read_dst(dst: &RawValue) -> Option<Dst> {
    if let Some(id) = plain_string(dst) {
        let start = DST_KEY.len() + 1;
        return Some(Dst::Part(start..start + id.len()));
    }
    let dst = dst.get();
    if dst.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Some(Dst::Decoded(dst.to_owned()));
    }
    serde_json::from_str(dst).ok().map(Dst::Decoded)
}

impl Transmission {
    /// Returns the id of its destination.
    pub(super) fn dst(&self) -> &str {
        match &self.dst {
            Dst::Part(range) => self.after_src.part(range.clone()),
            Dst::Decoded(id) => id,
        }
    }

    /// Returns the frame for its destination: `{type, src, dst, payload}`, with `src` as given.
    pub(super) fn into_frame(self, src: &str) -> Frame {
        let beginning = [
            r#"{"type":""#,
            self.message_type.name(),
            r#"","src":""#,
            &escape(src),
            "\"",
        ];
        Frame::text_with_end(&beginning, self.after_src)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_message_is_one_buffer_if_the_server_has_chosen_the_senders_id() {
        let is_one_buffer = |id: &str, payload: &str| {
            let text = format!(r#"{{"type":"CANDIDATE","dst":"x","payload":{payload}}}"#);
            let Some(ClientMessage::Transmit(message)) = decode(&Message::Text(text.into())) else {
                panic!("not relayed");
            };
            message.into_frame(id).pieces(0).count() == 1
        };
        for payload in ["{}".to_owned(), format!("{:?}", "x".repeat(100_000))] {
            assert!(is_one_buffer(&"0".repeat(36), &payload));
            assert!(!is_one_buffer(&"0".repeat(MAX_ID_BYTES), &payload));
        }
    }
}
