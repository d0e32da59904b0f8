//! FastChat's reader under any messages.

use crate::protocols::fastchat::codec::{Reader, decode};
use crate::protocols::fastchat::messages::{ClientMessage, Dialect, Incoming, ServerMessage};
use crate::realm::Message;
use crate::testing::messages;
use crate::toolkit::dialect::Encode;
use crate::toolkit::sanitize::sanitize;
use serde_json::Value;

/// One connection's messages, a line each. Each is understood, or answered with what is wrong with it; once
/// a dialect is decided it stays; and what goes to others is fit for them.
pub(crate) fn read_all(bytes: &[u8]) {
    let mut reader = Reader::default();
    for message in messages(bytes) {
        let before = reader.dialect();
        let is_text = matches!(message, Message::Text(_));
        let Incoming {
            dialect,
            message: decoded,
        } = decode(&mut reader, &message);
        let decided = reader.dialect();
        assert!(before.is_none() || decided == before);
        assert!(decided.is_none_or(|decided| decided == dialect));
        // A HELLO decides, also one that is no message otherwise.
        assert!(
            decided == before
                || matches!(decoded, ClientMessage::Hello(_) | ClientMessage::Invalid(_))
        );
        assert!(is_text || matches!(decoded, ClientMessage::Invalid(_)));
        match decoded {
            ClientMessage::Hello(Ok(hello)) => {
                let name = hello.display_name;
                assert_eq!(name.trim(), name);
                assert_eq!(sanitize(&name), name);
                assert!(hello.user_id.is_some() || dialect == Dialect::Flat);
            }
            ClientMessage::Msg(msg) => {
                assert_eq!(sanitize(&msg.content), msg.content);
                assert!(msg.to.is_some() || dialect == Dialect::Flat);
                if let Some(id) = msg.message_id {
                    assert!((1..=64).contains(&id.chars().count()));
                    assert_eq!(sanitize(&id), id);
                }
            }
            ClientMessage::Hello(Err(mistake)) | ClientMessage::Invalid(mistake) => {
                for frame in ServerMessage::Error(mistake).encode(dialect) {
                    // However long what was said is, what is said of it is not.
                    assert!(frame.len() < 4096);
                    let error: Value = serde_json::from_str(&frame.as_text().unwrap()).unwrap();
                    assert_eq!(error["type"], "ERROR");
                }
            }
            ClientMessage::Pong => assert_eq!(dialect, Dialect::Flat),
            ClientMessage::OpenChat { .. }
            | ClientMessage::MsgAck
            | ClientMessage::Typing(_)
            | ClientMessage::Ping => {}
        }
    }
}
