//! Access tokens, read with the secrets that a listener has now.

use crate::config::AccessSettings;
use crate::net::current::Current;
use crate::net::http::request::RequestHead;
use crate::realm::{Access, Claims, ConnectRequest, Protocol, TokenError, TokenReader};
use crate::toolkit::jwt;
use std::sync::Arc;

/// The parameter of the query that is an access token on every protocol (RFC 6750 section 2.3): a browser cannot send an
/// Authorization header with a WebSocket handshake.
const PARAMETER: &str = "access_token";

/// The setting `access` of a listener as it is now, also for those who connected before a reload has changed it: the
/// secrets with which they renew their tokens are the new ones.
pub(crate) struct CurrentAccess(Current<AccessSettings>);

impl CurrentAccess {
    pub(crate) fn new(settings: Option<&AccessSettings>) -> Arc<Self> {
        Arc::new(Self(Current::new(settings)))
    }

    /// Replaces the setting.
    pub(crate) fn set(&self, settings: Option<&AccessSettings>) {
        self.0.set(settings);
    }

    /// Returns whether the listener demands a token; `None`: it reads none.
    pub(crate) fn is_required(&self) -> Option<bool> {
        self.0.get().map(|settings| settings.is_required)
    }

    /// Returns what a request shows. Its tokens are those of Authorization headers (RFC 6750 section 2.1), the parameters
    /// `access_token`, and those of the protocol that have a token's shape: they have another meaning, too.
    pub(crate) fn of_request(
        &self,
        head: &RequestHead,
        request: &ConnectRequest,
        protocol: &Protocol,
    ) -> Access {
        let Some(settings) = self.0.get() else {
            return Access::default();
        };
        let bearers = head.all("Authorization").filter_map(bearer);
        let mut tokens: Vec<String> = bearers.map(str::to_owned).collect();
        tokens.extend(request.parameters(PARAMETER));
        let own = protocol.token_parameter.into_iter();
        let own = own.flat_map(|name| request.parameters(name));
        tokens.extend(own.filter(|token| jwt::has_shape(token)));
        let token = match &tokens[..] {
            [] => None,
            [token, others @ ..] if others.iter().all(|other| other == token) => {
                Some(settings.verifier.read(token))
            }
            _ => Some(Err(TokenError::Ambiguous)),
        };
        Access {
            are_tokens_read: true,
            is_required: settings.is_required,
            token,
        }
    }
}

impl TokenReader for CurrentAccess {
    fn is_reading(&self) -> bool {
        self.0.get().is_some()
    }

    fn read(&self, token: &str) -> Option<Result<Claims, TokenError>> {
        self.0.get().map(|settings| settings.verifier.read(token))
    }
}

/// Returns the token of an Authorization header of the scheme Bearer, whose name has no case (RFC 9110 section 11.1).
fn bearer(header: &str) -> Option<&str> {
    // A client that means a token must not come in as one without.
    let (scheme, token) = header.split_once([' ', '\t'])?;
    scheme
        .eq_ignore_ascii_case("Bearer")
        .then(|| token.trim_start_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ip::ClientAddress;
    use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
    use crate::config::ListenerSettings;
    use crate::net::http::request::read_head;
    use crate::protocols::{peerdrop, peerjs};
    use crate::realm::setting_list::Settings as _;
    use crate::toolkit::jwt::{Secret, sign};
    use futures::executor::block_on;
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const PROTOCOL: &Protocol = &peerjs::PROTOCOL;

    fn settings(access: Value) -> Option<AccessSettings> {
        let given = json!({"address": "localhost:0", "access": access});
        let settings = ListenerSettings::from_map(given.as_object().unwrap());
        settings.unwrap().access
    }

    fn token(subject: &str) -> String {
        sign(&json!({"sub": subject}), &Secret::new(SECRET.as_bytes()))
    }

    fn shown(access: &CurrentAccess, protocol: &Protocol, query: &str, headers: &str) -> Access {
        let head = format!("GET /peerjs?{query} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        let mut memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
        let head = block_on(read_head(&mut head.as_bytes(), Vec::new(), &mut memory));
        let (head, _) = head.unwrap();
        let request = ConnectRequest {
            path: head.path.clone(),
            query: head.query.clone(),
            address: ClientAddress::Unix,
            access: Access::default(),
        };
        access.of_request(&head, &request, protocol)
    }

    /// Returns the subject of what a request shows; `None`: it shows no token.
    fn subject_of(query: &str, headers: &str) -> Result<Option<String>, TokenError> {
        let access = CurrentAccess::new(settings(json!({"secret": SECRET})).as_ref());
        let shown = shown(&access, PROTOCOL, query, headers);
        assert!(shown.is_required);
        let claims = shown.token.transpose()?;
        Ok(claims.and_then(|claims| claims.subject))
    }

    #[test]
    fn a_token_is_in_the_header_in_access_token_or_in_the_parameter_of_the_protocol() {
        let ann = token("ann");
        for (query, headers) in [
            (String::new(), format!("Authorization: Bearer {ann}\r\n")),
            (String::new(), format!("authorization: bEARER   {ann}\r\n")),
            (String::new(), format!("Authorization: Bearer\t{ann}\r\n")),
            (format!("access_token={ann}"), String::new()),
            (format!("a=b&token={ann}&id=c"), String::new()),
        ] {
            let subject = subject_of(&query, &headers);
            assert_eq!(subject, Ok(Some("ann".to_owned())), "{query} {headers}");
        }
    }

    #[test]
    fn other_texts_in_these_places_are_no_tokens() {
        let ann = token("ann");
        for (query, headers) in [
            (String::new(), String::new()),
            (format!("x={ann}&Access_Token={ann}"), String::new()),
            ("token=k3jf9s0d".to_owned(), String::new()),
            (String::new(), format!("Authorization: Basic {ann}\r\n")),
            (String::new(), format!("Authorization: {ann}\r\n")),
            (String::new(), format!("X-Authorization: Bearer {ann}\r\n")),
        ] {
            assert_eq!(subject_of(&query, &headers), Ok(None), "{query} {headers}");
        }
        // Only what is meant as a token must be one.
        for query in ["access_token=k3jf9s0d", "access_token=", "token=a.b.c"] {
            assert_eq!(subject_of(query, ""), Err(TokenError::Malformed), "{query}");
        }
        let empty = "Authorization: Bearer \r\n";
        assert_eq!(subject_of("", empty), Ok(None), "it is trimmed");
    }

    #[test]
    fn the_parameter_of_another_protocol_means_nothing() {
        let access = CurrentAccess::new(settings(json!({"secret": SECRET})).as_ref());
        let query = format!("token={}", token("ann"));
        let shown = shown(&access, &peerdrop::PROTOCOL, &query, "");
        assert_eq!(shown.token, None);
    }

    #[test]
    fn tokens_that_are_equal_are_one_and_others_disagree_wherever_they_are() {
        let [ann, ben] = ["ann", "ben"].map(token);
        let header = |token: &str| format!("Authorization: Bearer {token}\r\n");
        let all = format!("access_token={ann}&token={ann}&access_token={ann}");
        let subject = subject_of(&all, &header(&ann));
        assert_eq!(subject, Ok(Some("ann".to_owned())));
        for (query, headers) in [
            (format!("access_token={ann}&token={ben}"), String::new()),
            (
                format!("access_token={ann}&access_token={ben}"),
                String::new(),
            ),
            (format!("token={ann}&token={ben}"), String::new()),
            (format!("access_token={ann}"), header(&ben)),
            (String::new(), header(&ann) + &header(&ben)),
            // The first and the last are equal.
            (format!("access_token={ben}&token={ann}"), header(&ann)),
            // One of them is no token at all.
            (format!("access_token={ann}&access_token="), String::new()),
        ] {
            let subject = subject_of(&query, &headers);
            assert_eq!(subject, Err(TokenError::Ambiguous), "{query} {headers}");
        }
    }

    #[test]
    fn a_listener_without_access_reads_no_tokens() {
        let access = CurrentAccess::new(None);
        let query = format!("access_token={}&token=a.b.c", token("ann"));
        let shown = shown(&access, PROTOCOL, &query, "Authorization: Bearer x\r\n");
        assert_eq!(shown, Access::default());
        assert_eq!(access.read(&token("ann")), None);
    }

    #[test]
    fn a_changed_setting_holds_at_once() {
        let access = CurrentAccess::new(None);
        let query = format!("token={}", token("ann"));
        access.set(settings(json!({"secret": SECRET, "required": false})).as_ref());
        let first = shown(&access, PROTOCOL, &query, "");
        assert!(!first.is_required && matches!(first.token, Some(Ok(_))));
        let other = "fedcba9876543210fedcba9876543210";
        access.set(settings(json!({"secret": other})).as_ref());
        let second = shown(&access, PROTOCOL, &query, "");
        let refused = Access {
            are_tokens_read: true,
            is_required: true,
            token: Some(Err(TokenError::Signature)),
        };
        assert_eq!(second, refused);
        assert_eq!(access.read(&token("ann")), Some(Err(TokenError::Signature)));
    }
}
