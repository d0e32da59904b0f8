//! Who a client is: what its access token and its HELLO say of it, and why that is refused.

use super::messages::{ErrorCode, ErrorReply, Hello, ServerMessage};
use super::{FastChat, MIN_NAME_LENGTH, Recipient};
use crate::base::close::CloseReason;
use crate::realm::{Claims, Context, TokenError};
use crate::toolkit::json::check_length;
use crate::toolkit::sanitize::{sanitize_name, truncate_name};
use sha2::{Digest, Sha256};
use std::time::Duration;
use uuid::{Builder, Uuid, Variant, Version};

/// A client that has said HELLO, as the user that it is.
pub(super) struct Newcomer {
    pub(super) user_id: Uuid,
    pub(super) display_name: String,
    /// Whether the user id is that of the client's token.
    pub(super) is_proven: bool,
    /// The end of the client's token since the Unix epoch, if it has one that ends.
    pub(super) end: Option<Duration>,
}

/// Returns the user of a token: its `sub`, if that is a UUID of version 4; otherwise one made of the first 16 bytes of
/// the SHA-256 of the listener's audience, a zero byte and the `sub`. No other `sub` of the same audience makes the same,
/// but one that is that UUID. `None`: the token has no `sub`.
pub(super) fn user_id_of(claims: &Claims) -> Option<Uuid> {
    let subject = claims.subject.as_deref()?;
    Some(parse_uuid_v4(subject).unwrap_or_else(|| {
        let mut hash = Sha256::new();
        hash.update(claims.audience.as_deref().unwrap_or_default());
        hash.update([0]);
        hash.update(subject);
        let hash = hash.finalize();
        let bytes = hash.first_chunk().expect("a SHA-256 has 32 bytes");
        Builder::from_random_bytes(*bytes).into_uuid()
    }))
}

/// Returns the UUID that a text is in the hyphenated form, in upper or lower case, if it is of version 4.
fn parse_uuid_v4(text: &str) -> Option<Uuid> {
    let hyphenated = Some(text).filter(|text| text.len() == uuid::fmt::Hyphenated::LENGTH);
    hyphenated
        .and_then(|text| Uuid::try_parse(text).ok())
        .filter(is_uuid_v4)
}

/// Returns whether a user id is a UUID of version 4 ("User ID Format").
pub(super) fn is_uuid_v4(id: &Uuid) -> bool {
    id.get_version() == Some(Version::Random) && id.get_variant() == Variant::RFC4122
}

impl FastChat {
    /// Returns the user that a client is: what its token says goes before what its HELLO says.
    ///
    /// # Errors
    /// A field of the HELLO that the token does not replace is missing or wrong.
    pub(super) fn identify(
        &self,
        cx: &mut Context,
        hello: Hello,
        claims: Option<&Claims>,
    ) -> Result<Newcomer, ErrorReply> {
        let proven = claims.and_then(user_id_of);
        let user_id = match proven {
            Some(id) => Some(id),
            None => hello.user_id?,
        };
        let configured = (MIN_NAME_LENGTH, self.options.display_name_length as usize);
        let (min, max) = hello.name_length.unwrap_or(configured);
        let of_token = claims.and_then(|claims| claims.name.as_deref());
        let display_name = match of_token.and_then(|name| name_of_token(name, max)) {
            Some(name) => name,
            None => {
                let name = hello.display_name?;
                check_length(&name, "display_name", min, max)?;
                name
            }
        };
        Ok(Newcomer {
            user_id: user_id.unwrap_or_else(|| cx.uuid()),
            display_name,
            is_proven: proven.is_some(),
            end: claims.and_then(Claims::end),
        })
    }

    /// Returns whether a user has, or has had, a client whose token says that it is this user. Users who were that
    /// longest ago are forgotten at some point.
    pub(super) fn is_proven(&self, id: &Uuid) -> bool {
        let user = self.users.get(id);
        user.is_some_and(|user| user.state.is_proven) || self.proven.contains(id)
    }

    /// Handles a second HELLO: with a fresh token of the same user it renews the connection, and is answered with
    /// HELLO_ACK.
    ///
    /// # Errors
    /// It has no token.
    pub(super) fn handle_second_hello(
        &mut self,
        cx: &mut Context,
        id: Uuid,
        hello: Result<Box<Hello>, ErrorReply>,
    ) -> Result<(), ErrorReply> {
        let token = hello.ok().and_then(|hello| hello.token);
        let token = token.ok_or_else(already_said_hello)?;
        let user = self.user(id);
        let recipient = user.recipient;
        let checked = token.and_then(|claims| claims.valid_at(cx.wall));
        let is_same = |claims: &Claims| match user_id_of(claims) {
            Some(other) => other == id,
            None => !user.state.is_proven,
        };
        match checked {
            Ok(claims) if is_same(&claims) => {
                user.state.is_proven |= claims.subject.is_some();
                cx.expire_at(recipient.connection, claims.end());
                recipient.send(cx, &ServerMessage::hello_ack(id));
            }
            Ok(_) => {
                let text = "the token is that of another user than this connection's";
                refuse(cx, recipient, text, "token");
            }
            Err(error) => refuse_token(cx, recipient, error),
        }
        Ok(())
    }
}

/// Returns the name in a token, sanitized and cut; `None` if nothing is left of it. It may be shorter than one that a
/// client chooses.
fn name_of_token(name: &str, max: usize) -> Option<String> {
    let name = sanitize_name(name);
    let name = truncate_name(&name, max);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the error for a second HELLO on a connection.
pub(super) fn already_said_hello() -> ErrorReply {
    ErrorReply::new(
        ErrorCode::Validation,
        "this connection has already sent a HELLO",
    )
    .with_field("type")
}

/// Refuses a client for its token, or for having none.
pub(super) fn refuse_token(cx: &mut Context, client: Recipient, error: TokenError) {
    let text = match error {
        TokenError::Missing => {
            "a token is needed: \"token\" in HELLO, \"access_token\" in the query, or \"Authorization: Bearer\"".to_owned()
        }
        error => error.to_string(),
    };
    refuse(cx, client, &text, "token");
}

/// Refuses a client: sends `UNAUTHORIZED`, and closes the connection.
pub(super) fn refuse(cx: &mut Context, client: Recipient, text: &str, field: &'static str) {
    let error = ErrorReply::new(ErrorCode::Unauthorized, text).with_field(field);
    client.send(cx, &ServerMessage::Error(error));
    cx.close(client.connection, CloseReason::UNAUTHORIZED);
}
