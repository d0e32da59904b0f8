//! FastChat's codecs under any input.

use crate::protocols::fastchat::codec::Decoder;
use crate::protocols::fastchat::messages::{ClientMessage, Dialect, Incoming, ServerMessage};
use crate::realm::Message;
use crate::testing::messages;
use crate::toolkit::dialect::Encode;
use crate::toolkit::sanitize::{sanitize, sanitize_name};
use serde_json::Value;

/// Decodes `bytes` as the messages of one connection, a line each.
///
/// Each message is decoded or gets an error; a dialect that is fixed does not change; text that other
/// clients are sent is sanitized.
pub(crate) fn decode_all(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    for message in messages(bytes) {
        let before = decoder.dialect();
        let is_text = matches!(message, Message::Text(_));
        let Incoming {
            dialect,
            message: decoded,
        } = decoder.decode(&message);
        let fixed = decoder.dialect();
        assert!(before.is_none() || fixed == before);
        assert!(fixed.is_none_or(|fixed| fixed == dialect));
        // A HELLO fixes the dialect, even if it is invalid.
        assert!(
            fixed == before
                || matches!(decoded, ClientMessage::Hello(_) | ClientMessage::Invalid(_))
        );
        assert!(is_text || matches!(decoded, ClientMessage::Invalid(_)));
        match decoded {
            ClientMessage::Hello(Ok(hello)) => {
                let name = hello.display_name;
                assert_eq!(name.trim(), name);
                assert_eq!(sanitize(&name), name);
                assert_eq!(sanitize_name(&name), name);
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
            ClientMessage::Hello(Err(error))
            | ClientMessage::OpenChat(Err(error))
            | ClientMessage::Invalid(error) => {
                for frame in ServerMessage::Error(error).encode(dialect) {
                    // The length of an error does not depend on the length of the message.
                    assert!(frame.len() < 4096);
                    let error: Value = serde_json::from_str(&frame.as_text().unwrap()).unwrap();
                    assert_eq!(error["type"], "ERROR");
                }
            }
            ClientMessage::Pong => assert_eq!(dialect, Dialect::Flat),
            ClientMessage::OpenChat(Ok(_))
            | ClientMessage::MsgAck
            | ClientMessage::Typing(_)
            | ClientMessage::Ping => {}
        }
    }
}
