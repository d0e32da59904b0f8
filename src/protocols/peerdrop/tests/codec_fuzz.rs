//! PeerDrop's reader under any messages.

use crate::base::frame::Frame;
use crate::protocols::peerdrop::PeerDrop;
use crate::realm::{Message, Realm};
use crate::testing::messages;

/// One connection's messages, a line each. A text is passed on as it came; anything else is ignored.
pub(crate) fn read_all(bytes: &[u8]) {
    for message in messages(bytes) {
        let said = PeerDrop::decode(&mut (), message.clone());
        match message {
            Message::Text(text) => {
                let frame = Frame::text(said.expect("a text is always said"));
                assert_eq!(frame.as_text().as_deref(), Some(text.as_str()));
            }
            Message::Binary(_) => assert_eq!(said, None),
        }
    }
}
