//! Access tokens, as far as a realm sees them: what a listener demands, and what the token of a client says.
//!
//! The signature is verified in the task of the connection, before the realm is called; the realm compares the times of
//! a token with the clock, and decides what its claims mean in the protocol.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Time by which the clock of an issuer may differ from that of this server (RFC 7519 sections 4.1.4 and 4.1.5).
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Greatest length of a token in bytes. A longer one is refused before it is decoded.
pub const MAX_TOKEN_LENGTH: usize = 8 << 10;

/// What a listener demands of a client, and what the client has shown with its request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether the listener reads tokens. If it has stopped that, clients can no longer show who they are.
    pub are_tokens_read: bool,
    /// Whether a client without a token is refused.
    pub is_required: bool,
    /// The token of the request, if it has one and tokens are read.
    pub token: Option<Result<Claims, TokenError>>,
}

impl Access {
    /// Returns what the client's token says at this time: that of a message, if it has one, else that of its request.
    /// `None`: the client has no token, and none is demanded.
    ///
    /// # Errors
    /// One of the tokens is refused; their subjects differ; or there is none, and one is demanded. The times of the
    /// request's token are not checked beside another one, which may be there to renew it.
    pub fn claims(
        &self,
        of_message: Option<Result<Claims, TokenError>>,
        wall: SystemTime,
    ) -> Result<Option<Claims>, TokenError> {
        let of_request = self.token.clone().transpose()?;
        let of_message = of_message.transpose()?;
        if let (Some(one), Some(other)) = (&of_request, &of_message) {
            if one.subject != other.subject {
                return Err(TokenError::Ambiguous);
            }
        }
        match of_message.or(of_request) {
            Some(claims) => claims.valid_at(wall).map(Some),
            None if self.is_required => Err(TokenError::Missing),
            None => Ok(None),
        }
    }
}

/// What a token says (RFC 7519 section 4), signed by an issuer that the listener believes and meant for this listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: the identity of the client.
    pub subject: Option<String>,
    /// `name`: the name that people see.
    pub name: Option<String>,
    /// `username`, which Workspace's published client has instead of `sub`.
    pub username: Option<String>,
    /// `roles`: what the client may do; `None`: everything.
    pub roles: Option<Vec<String>>,
    /// The listener's audience, which `aud` is or contains; `None`: the listener has none.
    pub audience: Option<Arc<str>>,
    /// `nbf` since the Unix epoch: the token is not valid before.
    pub not_before: Option<Duration>,
    /// `exp` since the Unix epoch: the token is not valid from then on.
    pub expires: Option<Duration>,
}

impl Claims {
    /// Checks that the token is valid at this time, or within a minute of it.
    ///
    /// # Errors
    /// [`TokenError::Expired`] or [`TokenError::NotYetValid`].
    pub fn check_times(&self, wall: SystemTime) -> Result<(), TokenError> {
        let now = wall.duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        if self.end().is_some_and(|end| now >= end) {
            return Err(TokenError::Expired);
        }
        let is_early = |from| now.saturating_add(LEEWAY) < from;
        if self.not_before.is_some_and(is_early) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }

    /// Returns these claims if [`Claims::check_times`] has nothing against them.
    ///
    /// # Errors
    /// As there.
    pub fn valid_at(self, wall: SystemTime) -> Result<Self, TokenError> {
        self.check_times(wall).map(|()| self)
    }

    /// Returns the time since the Unix epoch from which the token is no longer valid, the leeway included.
    pub fn end(&self) -> Option<Duration> {
        self.expires.map(|expires| expires.saturating_add(LEEWAY))
    }

    /// Returns whether the client may do what this role is for.
    pub fn has_role(&self, role: &str) -> bool {
        let roles = self.roles.as_ref();
        roles.is_none_or(|roles| roles.iter().any(|it| it == role))
    }
}

/// The reason why a token is refused. It says nothing about the secret, and nothing that is in the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// The token is longer than [`MAX_TOKEN_LENGTH`].
    TooLong,
    /// The token is not in compact form (RFC 7515 section 3.1), a claim is of a wrong type, or its subject is empty.
    Malformed,
    /// The token is not signed with HS256, or requires an extension ("crit", RFC 7515 section 4.1.11).
    Algorithm,
    /// The signature was made with none of the listener's secrets.
    Signature,
    /// The token is for another audience (RFC 7519 section 4.1.3).
    Audience,
    /// The token is no longer valid.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
    /// The client has sent two tokens that disagree.
    Ambiguous,
    /// The client has sent none, and one is demanded.
    Missing,
}

impl TokenError {
    /// Returns the reason in words, for the client.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TooLong => "the token must have at most 8192 bytes",
            Self::Malformed => {
                "the token must be a JSON Web Token whose claims have their types, without an empty \"sub\""
            }
            Self::Algorithm => "the token must be signed with HS256, without \"crit\"",
            Self::Signature => "the token is not signed with this server's secret",
            Self::Audience => "the token is for another audience (\"aud\")",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::Ambiguous => "two tokens disagree; send one",
            Self::Missing => {
                "a token is needed: \"Authorization: Bearer\", or \"access_token\" in the query"
            }
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Reads the tokens in messages of clients, with the secrets that the listener has now.
pub trait TokenReader: Send + Sync {
    /// Returns whether the listener reads tokens.
    fn is_reading(&self) -> bool;

    /// Returns what a token says; its times are not checked. `None`: the listener reads no tokens.
    fn read(&self, token: &str) -> Option<Result<Claims, TokenError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn valid(from: Option<u64>, until: Option<u64>) -> Claims {
        Claims {
            not_before: from.map(Duration::from_secs),
            expires: until.map(Duration::from_secs),
            ..Claims::default()
        }
    }

    #[test]
    fn a_token_is_valid_from_a_minute_before_nbf_until_a_minute_after_exp() {
        let claims = valid(Some(1000), Some(2000));
        assert_eq!(claims.check_times(at(939)), Err(TokenError::NotYetValid));
        assert_eq!(claims.check_times(at(940)), Ok(()));
        assert_eq!(claims.check_times(at(2059)), Ok(()));
        assert_eq!(claims.check_times(at(2060)), Err(TokenError::Expired));
        assert_eq!(claims.end(), Some(Duration::from_secs(2060)));
    }

    #[test]
    fn a_token_without_times_is_always_valid() {
        let claims = valid(None, None);
        assert_eq!(claims.check_times(at(0)), Ok(()));
        assert_eq!(claims.check_times(at(u64::from(u32::MAX) * 2)), Ok(()));
        assert_eq!(claims.end(), None);
    }

    #[test]
    fn times_beyond_all_clocks_are_no_overflow() {
        let claims = Claims {
            not_before: Some(Duration::MAX),
            expires: Some(Duration::MAX),
            ..Claims::default()
        };
        assert_eq!(claims.check_times(at(1)), Err(TokenError::NotYetValid));
    }

    fn of(subject: Option<&str>, expires: Option<u64>) -> Claims {
        Claims {
            subject: subject.map(str::to_owned),
            ..valid(None, expires)
        }
    }

    #[test]
    fn the_token_of_a_message_goes_before_that_of_the_request_and_must_agree_with_it() {
        let ann = of(Some("ann"), None);
        let with = |token: Claims| Access {
            are_tokens_read: true,
            is_required: true,
            token: Some(Ok(token)),
        };
        let read = |access: &Access, message: Claims| access.claims(Some(Ok(message)), at(1000));
        assert_eq!(
            with(ann.clone()).claims(None, at(1000)),
            Ok(Some(ann.clone()))
        );
        assert_eq!(read(&Access::default(), ann.clone()), Ok(Some(ann.clone())));
        // The request's token has expired since, and this one renews it.
        let renewed = of(Some("ann"), Some(5000));
        let old = with(of(Some("ann"), Some(900)));
        assert_eq!(read(&old, renewed.clone()), Ok(Some(renewed)));
        assert_eq!(old.claims(None, at(1000)), Err(TokenError::Expired));
        for other in [of(Some("bob"), None), of(None, None)] {
            assert_eq!(read(&with(ann.clone()), other), Err(TokenError::Ambiguous));
        }
        let refused = Access {
            token: Some(Err(TokenError::Signature)),
            ..Access::default()
        };
        assert_eq!(read(&refused, ann.clone()), Err(TokenError::Signature));
        let wrong = Some(Err(TokenError::Audience));
        assert_eq!(with(ann).claims(wrong, at(1000)), Err(TokenError::Audience));
    }

    #[test]
    fn a_client_without_a_token_is_refused_only_where_one_is_demanded() {
        let mut access = Access::default();
        assert_eq!(access.claims(None, at(1000)), Ok(None));
        access.is_required = true;
        assert_eq!(access.claims(None, at(1000)), Err(TokenError::Missing));
    }

    #[test]
    fn the_reason_for_which_a_token_is_too_long_has_the_limit() {
        let limit = MAX_TOKEN_LENGTH.to_string();
        assert!(TokenError::TooLong.text().contains(&limit));
    }

    #[test]
    fn a_token_without_roles_may_do_everything() {
        let mut claims = Claims::default();
        assert!(claims.has_role("host"));
        claims.roles = Some(vec!["join".to_owned()]);
        assert!(claims.has_role("join"));
        assert!(!claims.has_role("host"));
        claims.roles = Some(Vec::new());
        assert!(!claims.has_role("join"));
    }
}
