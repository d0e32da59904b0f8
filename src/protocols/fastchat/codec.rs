//! Reads and writes messages in the dialect of their connection.

use super::messages::{ClientMessage, Dialect, ErrorCode, ErrorReply, Incoming, ServerMessage};
use super::{codec_document, codec_flat};
use crate::base::frame::Frame;
use crate::realm::Message;
use crate::toolkit::dialect::Encode;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a connection remembers of its client's messages: the dialect, once HELLO has decided it.
#[derive(Default)]
pub struct Reader {
    decided: Option<Dialect>,
}

#[cfg(any(test, fuzzing))]
impl Reader {
    /// The dialect, once it is decided.
    pub(super) const fn decided(&self) -> Option<Dialect> {
        self.decided
    }
}

/// Reads a message in the dialect of its connection; HELLO is_decisive that.
pub(super) fn decode(reader: &mut Reader, received: &Message) -> Incoming {
    let Message::Text(text) = received else {
        let error = ErrorReply::new(ErrorCode::Validation, "messages are text, not binary");
        return Incoming {
            dialect: reader.decided.unwrap_or_default(),
            message: ClientMessage::Invalid(error),
        };
    };
    let (detected, is_decisive) = match reader.decided {
        Some(decided) => (Some(decided), true),
        None => detect_dialect(text),
    };
    let dialect = detected.unwrap_or_default();
    reader.decided = detected.filter(|_| is_decisive);
    let message = match dialect {
        Dialect::Document => codec_document::decode(text),
        Dialect::Flat => codec_flat::decode(text),
    };
    let message = message.unwrap_or_else(ClientMessage::Invalid);
    Incoming { dialect, message }
}

/// The dialect that a message detected like, if it does, and whether it is a HELLO that is_decisive for it.
/// What is wrong with the message otherwise, also a key that stands twice, does not matter here.
fn detect_dialect(text: &str) -> (Option<Dialect>, bool) {
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) else {
        return (None, false);
    };
    let is = |key: &str, start: &str| {
        fields
            .get(key)
            .is_some_and(|value| value.get().starts_with(start))
    };
    let has_any = |keys: &[&str]| keys.iter().any(|key| fields.contains_key(*key));
    let is_hello = is("type", r#""HELLO""#);
    if is("data", "{") {
        (Some(Dialect::Document), is_hello)
    } else if has_any(&["user_id", "display_name"]) {
        (Some(Dialect::Flat), is_hello)
    } else if has_any(&["target_user_id", "to", "content", "message_id", "is_typing"]) {
        (Some(Dialect::Flat), false)
    } else {
        (None, false)
    }
}

impl Encode for ServerMessage<'_> {
    type Dialect = Dialect;

    fn encode(&self, dialect: Dialect) -> Vec<Frame> {
        match dialect {
            Dialect::Document => codec_document::encode(self),
            Dialect::Flat => codec_flat::encode(self),
        }
    }
}
