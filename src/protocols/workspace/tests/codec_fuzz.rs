//! Decodes arbitrary messages.

use crate::protocols::workspace::{Auth, ClientMessage, Decoder, Dialect, ErrorCode};
use crate::realm::{Message, TokenReader};
use crate::testing::harness::{no_tokens, test_tokens};
use crate::testing::messages;
use crate::toolkit::sanitize::sanitize;
use std::sync::Arc;

/// Decodes the messages of one connection, one per line of the input, on a listener that reads no tokens and on one that
/// does. Checks that each is decoded or gets an
/// error, that the dialect does not change once it is decided, and that text for other clients is sanitized.
pub(crate) fn decode_all(bytes: &[u8]) {
    for tokens in [no_tokens(), test_tokens()] {
        decode_with(bytes, &tokens);
    }
}

fn decode_with(bytes: &[u8], tokens: &Arc<dyn TokenReader>) {
    let mut decoder = Decoder::new(tokens);
    let reads_tokens = tokens.read("").is_some();
    for message in messages(bytes) {
        let before = decoder.dialect();
        let is_text = matches!(message, Message::Text(_));
        let incoming = decoder.decode(message);
        let decided = decoder.dialect();
        assert!(before.is_none() || decided == before);
        assert_eq!(incoming.dialect, decided.unwrap_or_default());
        let is_electron = decided == Some(Dialect::Electron);
        assert!(is_text || matches!(incoming.message, ClientMessage::Invalid(_)));
        match incoming.message {
            ClientMessage::Send { text, reply_to } => {
                assert!(!text.trim().is_empty());
                assert_eq!(sanitize(&text), text);
                if let Some(id) = reply_to {
                    assert!(is_electron && (1..=64).contains(&id.chars().count()));
                    assert_eq!(sanitize(&id), id);
                }
            }
            ClientMessage::Presence(_) | ClientMessage::Typing(_) => {
                assert_eq!(decided, Some(Dialect::Document))
            }
            ClientMessage::Auth(Auth::Claimed(name)) => {
                assert!(is_electron && !reads_tokens);
                assert!(name.is_none_or(|name| name.len() <= 8 << 10));
            }
            ClientMessage::Auth(Auth::Verified(_) | Auth::Missing) => assert!(reads_tokens),
            ClientMessage::Invalid(error) => {
                // An error stays short however long the message was.
                assert!(error.message.len() < 2048);
                let code = error.code;
                assert!(
                    [
                        ErrorCode::InvalidJson,
                        ErrorCode::InvalidMessage,
                        ErrorCode::UnknownType
                    ]
                    .contains(&code)
                );
            }
        }
    }
}
