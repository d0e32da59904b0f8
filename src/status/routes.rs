//! The paths of the status port, and who may ask for them.

use super::daemon_state::DaemonState;
use super::metrics;
use super::moderation::Moderation;
use super::page;
use super::report;
use crate::base::log_escape::Quoted;
use crate::config::Hosts;
use crate::net::http::request::RequestHead;
use crate::net::http::response::Response;

/// What the responses are made of.
pub(crate) struct Routes {
    pub(crate) daemon: DaemonState,
    pub(crate) moderation: Moderation,
}

impl Routes {
    /// Answers a request.
    pub(super) async fn answer(&self, head: &RequestHead, body: Vec<u8>) -> Response {
        // Another host is a web page's whose name server says that it is this machine (DNS rebinding).
        if !Hosts::default().allows(head.first("Host"), head.first("Origin")) {
            let host = Quoted(head.first("Host").unwrap_or_default());
            let text =
                format!("the Host must be an IP address or localhost, not {host}: see \"status\"");
            return Response::new(403, text);
        }
        if let Some(response) = self.moderation.answer(head, &body).await {
            return response;
        }
        let respond: fn(&Self) -> Response = match head.path.as_str() {
            "/" => |_| page::response(),
            "/healthz" => Self::health,
            "/metrics" => |routes| metrics::response(&routes.daemon),
            "/status" => |routes| report::response(&routes.daemon, &routes.moderation),
            path => return Response::new(404, format!("nothing at {}", Quoted(path))),
        };
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            let text = "the method must be GET or HEAD";
            return Response::new(405, text).with_header("Allow", "GET, HEAD");
        }
        respond(self)
    }

    /// Answers whether the broker works.
    fn health(&self) -> Response {
        if self.daemon.pulse.is_alive() {
            Response::new(200, "ok")
        } else {
            Response::new(503, "the broker has not answered for more than a second")
        }
    }
}
