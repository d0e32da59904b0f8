//! Responses whose body is JSON.

use crate::net::http::response::Response;
use serde::Serialize;

/// Returns the response with this body.
pub(super) fn json_response(body: &impl Serialize) -> Response {
    let mut text = serde_json::to_string(body).expect("a body has no key but strings");
    text.push('\n');
    Response::ok("application/json", text.into())
}
