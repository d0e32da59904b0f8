//! What a client asks for before or instead of a WebSocket, and what a realm answers.

use std::net::IpAddr;
use std::sync::Arc;

/// Who comes in, or asks something: what a realm may know of a request.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The path of the request target, as it was sent.
    pub path: String,
    /// What stands behind the `?`, as it was sent; empty where there is none.
    pub query: String,
    /// The client's address, through trusted proxies.
    pub address: IpAddr,
}

impl ConnectRequest {
    /// A parameter of the query, percent-decoded, `+` being a space. The last one of that name.
    pub fn parameter(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }
}

/// A handshake refused with an HTTP status instead of a Close frame.
///
/// A browser cannot read the status; so this is for clients that would otherwise come back for
/// ever. Everybody else is let in and closed with a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status: one that [`crate::net::http::request`] knows.
    pub status: u16,
    /// One line for whoever looks at the answer.
    pub text: &'static str,
}

/// A plain HTTP request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked for, and by whom.
    pub hello: ConnectRequest,
    /// How; HEAD is GET here.
    pub method: Method,
    /// Of a POST, as it was sent; empty otherwise.
    pub body: Vec<u8>,
}

/// The methods of requests that a realm may answer (RFC 9110 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET, and HEAD with it.
    Get,
    /// POST.
    Post,
}

/// A realm's answer to a plain HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpReply {
    /// 200.
    Ok {
        /// The media type of the body.
        content_type: &'static str,
        /// All of it; one to HEAD goes without.
        body: Arc<str>,
    },
    /// 426: a WebSocket is there.
    UpgradeRequired {
        /// A request target that a client could connect to, for whoever looks at the answer.
        target: String,
    },
    /// Any other status.
    Rejected(Rejection),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_decoded_and_the_last_of_its_name() {
        let address = [127, 0, 0, 1].into();
        let query = "a=1&name=other&name=J%C3%BC+x&empty=".to_owned();
        let hello = ConnectRequest {
            path: String::new(),
            query,
            address,
        };
        assert_eq!(hello.parameter("name").as_deref(), Some("J\u{fc} x"));
        assert_eq!(hello.parameter("empty").as_deref(), Some(""));
        assert_eq!(hello.parameter("missing"), None);
    }
}
