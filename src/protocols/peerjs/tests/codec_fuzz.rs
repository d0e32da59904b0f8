//! PeerJS's codec on arbitrary messages.

use crate::protocols::peerjs::codec::decode;
use crate::protocols::peerjs::messages::ClientMessage;
use crate::realm::Message;
use crate::testing::messages;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The id of the sender.
const SRC: &str = "me \"\\\u{1f600}";

/// Decodes a client's messages, one per line. A text and a binary message with the same bytes are the same
/// message, and a relayed message differs from the original only in its `src` (rulings, "PeerJS").
pub(crate) fn decode_all(bytes: &[u8]) {
    for message in messages(bytes) {
        let bytes = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        };
        let text = std::str::from_utf8(bytes).ok();
        let decoded = decode(&message);
        let decoded_as_other_kind = text.and_then(|text| match &message {
            Message::Text(_) => decode(&Message::Binary(bytes.to_vec().into())),
            Message::Binary(_) => decode(&Message::Text(text.into())),
        });
        let mut as_other_kind = None;
        match (&decoded, decoded_as_other_kind) {
            (Some(ClientMessage::KeepAlive), Some(ClientMessage::KeepAlive))
            | (Some(ClientMessage::Leave), Some(ClientMessage::Leave))
            | (None, None) => {}
            (Some(ClientMessage::Transmit(_)), Some(ClientMessage::Transmit(other))) => {
                as_other_kind = other.into_frame(SRC).as_text();
            }
            _ => panic!("text and binary are decoded differently"),
        }
        let Some(ClientMessage::Transmit(transmission)) = decoded else {
            continue;
        };
        let named_dst = transmission.dst().to_owned();
        let relayed = transmission.into_frame(SRC).as_text().unwrap();
        assert_eq!(as_other_kind.as_ref(), Some(&relayed));
        type Fields<'a> = BTreeMap<String, &'a RawValue>;
        let sent: Fields = serde_json::from_str(text.unwrap()).unwrap();
        let received: Fields = serde_json::from_str(&relayed).unwrap();
        let raw = |fields: &Fields, key: &str| fields.get(key).map(|value| value.get().to_owned());
        let string = |value: &RawValue| serde_json::from_str::<Value>(value.get()).unwrap();
        assert_eq!(string(received["src"]), SRC);
        assert_eq!(string(received["type"]), string(sent["type"]));
        let dst = match string(received["dst"]) {
            Value::String(dst) => dst,
            _ => received["dst"].get().to_owned(),
        };
        assert_eq!(dst, named_dst);
        assert_eq!(raw(&received, "dst"), raw(&sent, "dst"));
        assert_eq!(raw(&received, "payload"), raw(&sent, "payload"));
        let keys = 3 + usize::from(sent.contains_key("payload"));
        assert_eq!(received.len(), keys);
    }
}
