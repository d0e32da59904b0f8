//! Requests of clients, for a WebSocket or plain HTTP, and the realm's answers to them.

use super::{Access, Body};
use crate::base::ip::ClientAddress;

/// The part of a client's request that a realm may see.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The path of the request target, as sent.
    pub path: String,
    /// The query of the request target, as sent, without `?`; empty if there is none.
    pub query: String,
    /// The client's address, as reported by trusted proxies.
    pub address: ClientAddress,
    /// The access token of the request, and whether the listener demands one.
    pub access: Access,
}

impl ConnectRequest {
    /// Returns the last parameter of that name in the query, percent-decoded, with `+` as a space.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters(name).next()
    }

    /// Returns all parameters of that name, the last one first.
    pub fn parameters<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        self.query.rsplit('&').filter_map(move |pair| {
            let key = pair.split('=').next().unwrap_or_default();
            // Decoding costs more than all else here, and hardly any name is encoded.
            let may_match = key == name || key.contains(['%', '+']);
            let (key, value) =
                may_match.then(|| form_urlencoded::parse(pair.as_bytes()).next())??;
            (key == name).then(|| value.into_owned())
        })
    }
}

/// A handshake rejected with an HTTP status instead of a Close frame.
///
/// A browser cannot read the status, so a rejection is for clients that would otherwise reconnect for ever.
/// All others are admitted and closed with a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status: one of those that [`crate::net::http::response`] has a reason phrase for.
    pub status: u16,
    /// One line of text for the body of the response.
    pub text: &'static str,
}

/// A plain HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Target and client address.
    pub connect: ConnectRequest,
    /// The method; HEAD counts as GET.
    pub method: Method,
    /// The body of a POST, as sent; empty otherwise.
    pub body: Vec<u8>,
}

/// The methods that a realm may answer (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET and HEAD.
    Get,
    /// POST.
    Post,
}

/// A realm's response to a plain HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpReply {
    /// Status 200.
    Ok {
        /// The media type of the body.
        content_type: &'static str,
        /// The whole body; the response to HEAD is sent without it.
        body: Body,
    },
    /// Status 426: the path serves WebSocket connections.
    UpgradeRequired {
        /// A request target that a client could connect to, for the text of the response.
        target: String,
    },
    /// Another status.
    Rejected(Rejection),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parameter_of_a_name_is_returned_decoded() {
        let address = ClientAddress::Unix;
        let query = "a=1&name=other&name=J%C3%BC+x&empty=".to_owned();
        let request = ConnectRequest {
            path: String::new(),
            query,
            address,
            access: Access::default(),
        };
        assert_eq!(request.parameter("name").as_deref(), Some("J\u{fc} x"));
        let all: Vec<String> = request.parameters("name").collect();
        assert_eq!(all, ["J\u{fc} x", "other"]);
        assert_eq!(request.parameter("empty").as_deref(), Some(""));
        assert_eq!(request.parameter("missing"), None);
    }
}
