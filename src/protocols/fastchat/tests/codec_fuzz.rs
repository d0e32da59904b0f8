//! FastChat's codecs under any input.

use crate::protocols::fastchat::codec::Decoder;
use crate::protocols::fastchat::messages::{
    ClientMessage, Dialect, ErrorReply, Incoming, ServerMessage,
};
use crate::realm::Message;
use crate::testing::harness::{no_tokens, test_tokens};
use crate::testing::messages;
use crate::toolkit::dialect::Encode;
use crate::toolkit::sanitize::{sanitize, sanitize_name};
use serde_json::Value;

/// Decodes `bytes` as the messages of one connection, a line each, of a listener that reads no tokens and of one that
/// does.
pub(crate) fn decode_all(bytes: &[u8]) {
    decode(bytes, false);
    decode(bytes, true);
}

/// Each message is decoded or gets an error; a dialect that is fixed does not change; text that other
/// clients are sent is sanitized.
fn decode(bytes: &[u8], reads_tokens: bool) {
    let mut decoder = Decoder::new(&if reads_tokens {
        test_tokens()
    } else {
        no_tokens()
    });
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
                match hello.display_name {
                    Ok(name) => {
                        assert_eq!(name.trim(), name);
                        assert_eq!(sanitize(&name), name);
                        assert_eq!(sanitize_name(&name), name);
                    }
                    Err(error) => check_error(error.into(), dialect),
                }
                match hello.user_id {
                    Ok(id) => assert!(id.is_some() || dialect == Dialect::Flat),
                    Err(error) => check_error(error.into(), dialect),
                }
                assert!(hello.token.is_none() || reads_tokens);
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
            | ClientMessage::Invalid(error) => check_error(error, dialect),
            ClientMessage::Pong => assert_eq!(dialect, Dialect::Flat),
            ClientMessage::OpenChat(Ok(_))
            | ClientMessage::MsgAck
            | ClientMessage::Typing(_)
            | ClientMessage::Ping => {}
        }
    }
}

fn check_error(error: ErrorReply, dialect: Dialect) {
    for frame in ServerMessage::Error(error).encode(dialect) {
        // The length of an error does not depend on the length of the message.
        assert!(frame.len() < 4096);
        let error: Value = serde_json::from_str(&frame.as_text().unwrap()).unwrap();
        assert_eq!(error["type"], "ERROR");
    }
}
