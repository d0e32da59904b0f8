//! PeerDrop's decoder on arbitrary messages.

use crate::base::frame::Frame;
use crate::protocols::peerdrop::PROTOCOL;
use crate::realm::{Command, Message};
use crate::testing::harness::no_tokens;
use crate::testing::messages;

/// Decodes the messages of one connection, one per line. A text is relayed unchanged; a binary message is
/// ignored.
pub(crate) fn decode_all(bytes: &[u8]) {
    let mut decode = (PROTOCOL.new_decoder)(&no_tokens());
    for message in messages(bytes) {
        let decoded = decode(message.clone()).map(Command::into::<Frame>);
        match message {
            Message::Text(text) => {
                let frame = decoded.expect("a text is never ignored");
                assert_eq!(frame.as_text().as_deref(), Some(text.as_str()));
            }
            Message::Binary(_) => assert!(decoded.is_none()),
        }
    }
}
