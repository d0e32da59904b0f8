//! The access tokens that the clients of a listener send. Why one is refused is logged, as a wrong secret, clock or audience
//! is the usual first mistake of an operator, and clients seldom show what they are told.

use crate::base::ip::ClientAddress;
use crate::net::access::CurrentAccess;
use crate::net::http::request::RequestHead;
use crate::net::notice_lines::NoticeLines;
use crate::net::notice_log::Notice;
use crate::realm::{Access, Claims, ConnectRequest, Protocol, TokenError, TokenReader};
use std::sync::Arc;
use std::time::SystemTime;

/// Reads the tokens of clients, and logs those that are refused.
pub(crate) struct ListenerTokens {
    pub(crate) access: Arc<CurrentAccess>,
    pub(crate) lines: NoticeLines,
}

impl ListenerTokens {
    /// Returns what a request shows: see [`CurrentAccess::of_request`]. `address` is the client's for the log.
    pub(crate) fn of_request(
        &self,
        head: &RequestHead,
        request: &ConnectRequest,
        protocol: &Protocol,
        address: Option<ClientAddress>,
    ) -> Access {
        let access = self.access.of_request(head, request, protocol);
        self.log_refused(access.token.as_ref(), address);
        access
    }

    /// Logs why a token is refused. Its times are compared with the clock, as the realm will do.
    fn log_refused(
        &self,
        token: Option<&Result<Claims, TokenError>>,
        address: Option<ClientAddress>,
    ) {
        let checked = match token {
            None => return,
            Some(Ok(claims)) => claims.check_times(SystemTime::now()),
            Some(Err(error)) => Err(*error),
        };
        if let Err(error) = checked {
            let lines = &self.lines;
            lines.log(Notice::Token(error), address, || {
                format!(
                    "{}; \"switchboard token --check --listener {}={}\" says more of a token",
                    remedy(error),
                    lines.protocol,
                    lines.listener
                )
            });
        }
    }
}

impl TokenReader for ListenerTokens {
    fn is_reading(&self) -> bool {
        self.access.is_reading()
    }

    fn read(&self, token: &str) -> Option<Result<Claims, TokenError>> {
        let read = self.access.read(token);
        // The connection's line has the address.
        self.log_refused(read.as_ref(), None);
        read
    }
}

/// Returns what an operator can do about a token that is refused.
fn remedy(error: TokenError) -> &'static str {
    match error {
        TokenError::TooLong => "let its issuer write less into it",
        TokenError::Malformed => {
            "let its issuer make three parts of base64url, and texts of \"sub\" and \"name\""
        }
        TokenError::Algorithm => "let its issuer sign with HS256",
        TokenError::Signature => "give its issuer the secret of this listener, byte for byte",
        TokenError::Audience => {
            "let its issuer write \"audience\" of this listener's \"access\" into \"aud\""
        }
        TokenError::Expired => {
            "the client needs a new one; if it is new, compare the clocks of this machine and of the issuer"
        }
        TokenError::NotYetValid => "compare the clocks of this machine and of the issuer",
        TokenError::Ambiguous => "let the client send one",
        TokenError::Missing => "let the client send one, or write \"required\": false",
    }
}
