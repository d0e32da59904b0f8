//! The paths of the status port, and who may ask for them.

use crate::base::log_escape::Quoted;
use crate::broker::Pulse;
use crate::config::Hosts;
use crate::net::http::request::RequestHead;
use crate::net::http::response::Response;
use std::sync::Arc;

/// What the responses are made of.
pub(crate) struct Routes {
    pub(crate) pulse: Arc<Pulse>,
}

impl Routes {
    /// Answers a request.
    pub(super) async fn answer(&self, head: &RequestHead, _body: Vec<u8>) -> Response {
        // Another host is a web page's whose name server says that it is this machine (DNS rebinding).
        if !Hosts::default().allows(head.first("Host"), head.first("Origin")) {
            let host = Quoted(head.first("Host").unwrap_or_default());
            let text =
                format!("the Host must be an IP address or localhost, not {host}: see \"status\"");
            return Response::new(403, text);
        }
        match head.path.as_str() {
            "/healthz" => self.health(),
            path => Response::new(404, format!("nothing at {}", Quoted(path))),
        }
    }

    /// Answers whether the broker works.
    fn health(&self) -> Response {
        if self.pulse.is_alive() {
            Response::new(200, "ok")
        } else {
            Response::new(503, "the broker has not answered for more than a second")
        }
    }
}
