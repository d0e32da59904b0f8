//! The access token in a message of a client.

use super::json::Fields;
use crate::realm::{Claims, TokenError, TokenReader};

/// What the token in a message says; `None`: the message has none, or the listener reads no tokens. Boxed, as few
/// messages have one.
pub type MessageToken = Option<Box<Result<Claims, TokenError>>>;

/// Reads the field `token` of an object, whose other fields are read already. What is there and is not the text of one
/// token is a token that is refused, so that no mistake admits a client as one without a token.
pub fn read_token(object: &str, tokens: &dyn TokenReader) -> MessageToken {
    let token: String = match Fields::read(object, &["token"]) {
        Ok(fields) => serde_json::from_str(fields.get("token")?.get()).unwrap_or_default(),
        // The field occurs twice.
        Err(_) => String::new(),
    };
    tokens.read(&token).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::harness::{no_tokens, test_tokens, token};
    use serde_json::json;

    fn read(object: &str) -> Option<Result<Option<String>, TokenError>> {
        let token = read_token(object, &*test_tokens())?;
        Some(token.map(|claims| claims.subject))
    }

    #[test]
    fn the_field_token_is_read_where_the_listener_reads_tokens() {
        let message = json!({"type": "HELLO", "token": token(&json!({"sub": "ann"}))}).to_string();
        assert_eq!(read(&message), Some(Ok(Some("ann".to_owned()))));
        assert_eq!(read_token(&message, &*no_tokens()), None);
    }

    #[test]
    fn a_field_that_is_missing_or_null_is_no_token() {
        for object in ["{}", r#"{"token":null}"#, r#"{"data":{"token":"x"}}"#] {
            assert_eq!(read(object), None, "{object}");
        }
    }

    #[test]
    fn a_field_that_is_not_the_text_of_one_token_is_refused() {
        for object in [
            r#"{"token":7}"#,
            r#"{"token":["x"]}"#,
            r#"{"token":""}"#,
            r#"{"token":"x"}"#,
            r#"{"token":null,"token":null}"#,
        ] {
            assert_eq!(read(object), Some(Err(TokenError::Malformed)), "{object}");
        }
    }
}
