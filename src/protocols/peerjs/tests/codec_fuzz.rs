//! PeerJS's reader under any messages.

use crate::protocols::peerjs::codec::decode;
use crate::protocols::peerjs::messages::ClientMessage;
use crate::realm::Message;
use crate::testing::messages;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A client's messages, a line each. Text and binary are the same; what is no JSON is ignored, and what is
/// passed on is the message with another `src` (rulings, "PeerJS").
pub(crate) fn read_all(bytes: &[u8]) {
    for message in messages(bytes) {
        let bytes = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        };
        let text = std::str::from_utf8(bytes).ok();
        let message_read = decode(&message);
        let other = text.and_then(|text| match &message {
            Message::Text(_) => decode(&Message::Binary(bytes.to_vec().into())),
            Message::Binary(_) => decode(&Message::Text(text.into())),
        });
        match (&message_read, &other) {
            (Some(ClientMessage::KeepAlive), Some(ClientMessage::KeepAlive))
            | (Some(ClientMessage::Leave), Some(ClientMessage::Leave))
            | (None, None) => {}
            (Some(ClientMessage::Transmit(one)), Some(ClientMessage::Transmit(other))) => {
                assert_eq!(one.to_frame("x").as_text(), other.to_frame("x").as_text());
            }
            _ => panic!("text and binary are read differently"),
        }
        let Some(ClientMessage::Transmit(transmission)) = message_read else {
            continue;
        };
        let src = "me \"\\\u{1f600}";
        let relayed = transmission.to_frame(src).as_text().unwrap();
        type Fields<'a> = BTreeMap<String, &'a RawValue>;
        let sent: Fields = serde_json::from_str(text.unwrap()).unwrap();
        let got: Fields = serde_json::from_str(&relayed).unwrap();
        let raw = |fields: &Fields, key: &str| fields.get(key).map(|value| value.get().to_owned());
        let string = |value: &RawValue| serde_json::from_str::<Value>(value.get()).unwrap();
        assert_eq!(string(got["src"]), src);
        assert_eq!(string(got["type"]), string(sent["type"]));
        assert_eq!(string(got["dst"]), transmission.dst);
        assert_eq!(raw(&got, "dst"), raw(&sent, "dst"));
        assert_eq!(raw(&got, "payload"), raw(&sent, "payload"));
        let keys = 3 + usize::from(sent.contains_key("payload"));
        assert_eq!(got.len(), keys);
    }
}
