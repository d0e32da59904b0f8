//! Echo's decoder on arbitrary messages.

use crate::protocols::echo::PROTOCOL;
use crate::realm::{Command, Message};
use crate::testing::harness::no_tokens;
use crate::testing::messages;
use async_tungstenite::tungstenite::Utf8Bytes;

/// Decodes the messages of one connection, one per line. A text is kept as it is; a binary message is ignored.
pub(crate) fn decode_all(bytes: &[u8]) {
    let mut decode = (PROTOCOL.new_decoder)(&no_tokens());
    for message in messages(bytes) {
        let decoded = decode(message.clone()).map(Command::into::<Utf8Bytes>);
        match message {
            Message::Text(text) => assert_eq!(decoded, Some(text)),
            Message::Binary(_) => assert_eq!(decoded, None),
        }
    }
}
