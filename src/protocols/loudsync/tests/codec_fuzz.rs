//! LOUDSYNC's codecs under any input.

use crate::protocols::loudsync::codec::{Decoder, Dialect};
use crate::protocols::loudsync::fields::{
    DEVICE_ID_LENGTH, NAME_LENGTH, SESSION_ID_LENGTH, check_session_id,
};
use crate::protocols::loudsync::messages::{ClientMessage, ErrorReply, Role, ServerMessage};
use crate::realm::Message;
use crate::testing::harness::{no_tokens, test_tokens};
use crate::testing::messages;
use crate::toolkit::dialect::Encode;
use serde_json::Value;

/// Decodes the messages of one connection, one per line, of a listener that reads no tokens and of one that does.
pub(crate) fn decode_all(bytes: &[u8]) {
    decode(bytes, false);
    decode(bytes, true);
}

/// Each message must be decoded or answered with an error, a decided dialect must not change, and decoded texts must be
/// within their limits.
fn decode(bytes: &[u8], reads_tokens: bool) {
    let mut decoder = Decoder::new(&if reads_tokens {
        test_tokens()
    } else {
        no_tokens()
    });
    for message in messages(bytes) {
        let previous = decoder.decided();
        let is_text = matches!(message, Message::Text(_));
        let incoming = decoder.decode(message);
        let (dialect, decided) = (incoming.dialect, decoder.decided());
        assert!(previous.is_none() || decided == previous);
        assert_eq!(dialect, decided.unwrap_or(Dialect::Document));
        assert!(is_text || matches!(incoming.message, ClientMessage::Invalid(_)));
        let has_length = |text: &str, max_length| (1..=max_length).contains(&text.chars().count());
        match incoming.message {
            ClientMessage::Join(join) => {
                for (text, length) in [
                    (join.device_id, DEVICE_ID_LENGTH),
                    (join.device_name, NAME_LENGTH),
                ] {
                    match text {
                        Ok(text) => assert!(has_length(&text, length)),
                        Err(error) => check_error(&error.into(), dialect),
                    }
                }
                assert!(join.token.is_none() || reads_tokens);
                match join.role {
                    Role::Host { session_name, .. } => {
                        assert_eq!(dialect, Dialect::Document);
                        assert!(has_length(&join.session_id, SESSION_ID_LENGTH));
                        assert_eq!(check_session_id(&join.session_id), Ok(()));
                        assert!(session_name.is_none_or(|name| has_length(&name, NAME_LENGTH)));
                    }
                    Role::Client => assert_eq!(dialect, Dialect::Document),
                    Role::Guest => assert_eq!(dialect, Dialect::UpperCase),
                }
            }
            ClientMessage::Ping(timestamp) => {
                // The server sends the time stamp back as the client wrote it.
                let timestamp: Value = serde_json::from_str(timestamp.get()).unwrap_or_default();
                assert!(timestamp.is_number() || timestamp.is_null());
            }
            ClientMessage::Kick(kick) => {
                assert_eq!(dialect, Dialect::Document);
                assert!(kick.reason.is_none_or(|reason| has_length(&reason, 200)));
            }
            ClientMessage::Pong => assert_eq!(dialect, Dialect::UpperCase),
            ClientMessage::Invalid(error) => check_error(&error, dialect),
            ClientMessage::JoinOtherVersion
            | ClientMessage::Leave
            | ClientMessage::Heartbeat
            | ClientMessage::MemberList => {}
        }
    }
}

fn check_error(error: &ErrorReply, dialect: Dialect) {
    let error = ServerMessage::Error {
        timestamp: 0,
        code: error.code,
        message: &error.message,
        details: error.details.as_ref(),
    };
    for frame in error.encode(dialect) {
        // An error is short however long the message is.
        assert!(frame.len() < 4096);
        let error: Value = serde_json::from_str(&frame.as_text().unwrap()).unwrap();
        let message_type = error["type"].as_str().unwrap();
        assert!(message_type.eq_ignore_ascii_case("error"));
    }
}
