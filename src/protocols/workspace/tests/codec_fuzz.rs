//! Workspace's reader under any messages.

use crate::protocols::workspace::{Command, Dialect, Reader};
use crate::realm::Message;
use crate::testing::messages;
use crate::toolkit::sanitize::sanitize;

/// One connection's messages, a line each. Each is understood, or answered with what is wrong with it; once
/// a dialect is decided it stays; and what goes to others is fit for them.
pub(crate) fn read_all(bytes: &[u8]) {
    let mut reader = Reader::default();
    for message in messages(bytes) {
        let before = reader.decided();
        let is_text = matches!(message, Message::Text(_));
        let said = reader.read(message);
        let decided = reader.decided();
        assert!(before.is_none() || decided == before);
        assert_eq!(said.dialect, decided.unwrap_or_default());
        let is_newer = decided == Some(Dialect::Newer);
        assert!(is_text || matches!(said.command, Command::Wrong(_)));
        match said.command {
            Command::Send { text, reply_to } => {
                assert!(!text.trim().is_empty());
                assert_eq!(sanitize(&text), text);
                if let Some(id) = reply_to {
                    assert!(is_newer && (1..=64).contains(&id.chars().count()));
                    assert_eq!(sanitize(&id), id);
                }
            }
            Command::Presence(_) | Command::Typing(_) => {
                assert_eq!(decided, Some(Dialect::Document))
            }
            Command::Auth(token) => {
                assert!(is_newer && token.is_none_or(|token| token.len() <= 8 << 10));
            }
            Command::Wrong(mistake) => {
                // However long what was said is, what is said of it is not.
                assert!(mistake.message.len() < 2048);
                let code = mistake.code;
                assert!(["INVALID_JSON", "INVALID_MESSAGE", "UNKNOWN_TYPE"].contains(&code));
            }
        }
    }
}
