//! Access tokens, read with the secrets that a listener has now.

use crate::config::AccessSettings;
use crate::net::http::request::RequestHead;
use crate::realm::{Access, Claims, ConnectRequest, Protocol, TokenError, TokenReader};
use crate::toolkit::jwt;
use std::sync::{Arc, PoisonError, RwLock};

/// The parameter of the query that is an access token on every protocol (RFC 6750 section 2.3): a browser cannot send an
/// Authorization header with a WebSocket handshake.
const PARAMETER: &str = "access_token";

/// The setting `access` of a listener as it is now, also for those who connected before a reload has changed it: the
/// secrets with which they renew their tokens are the new ones.
pub(crate) struct CurrentAccess(RwLock<Option<Arc<AccessSettings>>>);

impl CurrentAccess {
    pub(crate) fn new(settings: Option<&AccessSettings>) -> Arc<Self> {
        Arc::new(Self(RwLock::new(settings.cloned().map(Arc::new))))
    }

    /// Replaces the setting.
    pub(crate) fn set(&self, settings: Option<&AccessSettings>) {
        let current = self.0.write();
        *current.unwrap_or_else(PoisonError::into_inner) = settings.cloned().map(Arc::new);
    }

    fn get(&self) -> Option<Arc<AccessSettings>> {
        // No code that holds the lock can panic.
        let current = self.0.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what a request shows. Its tokens are the Authorization header (RFC 6750 section 2.1), the parameter
    /// `access_token`, and that of the protocol if it has a token's shape: it has another meaning, too.
    pub(crate) fn of_request(
        &self,
        head: &RequestHead,
        request: &ConnectRequest,
        protocol: &Protocol,
    ) -> Access {
        let Some(settings) = self.get() else {
            return Access::default();
        };
        let bearers = head.all("Authorization").filter_map(bearer);
        let mut tokens: Vec<String> = bearers.map(str::to_owned).collect();
        tokens.extend(request.parameter(PARAMETER));
        let own = protocol.token_parameter;
        let own = own.and_then(|name| request.parameter(name));
        tokens.extend(own.filter(|token| jwt::has_shape(token)));
        tokens.dedup();
        let token = match &tokens[..] {
            [] => None,
            [token] => Some(settings.verifier.read(token)),
            _ => Some(Err(TokenError::Ambiguous)),
        };
        Access {
            is_required: settings.is_required,
            token,
        }
    }
}

impl TokenReader for CurrentAccess {
    fn read(&self, token: &str) -> Option<Result<Claims, TokenError>> {
        self.get().map(|settings| settings.verifier.read(token))
    }
}

/// Returns the token of an Authorization header of the scheme Bearer, whose name has no case (RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start_matches(' '))
}
