//! Whether a request's `Origin` and `Host` are allowed: which web pages may reach a listener, and by which names.

use super::request::RequestHead;
use super::response::Response;
use crate::base::log_escape::Quoted;
use crate::config::{Hosts, Origins, is_own_origin};
use crate::net::listener::ListenerState;

/// Returns whether the listener's `origins` allow this request, or it is from the listener's own page, if it has one.
pub(crate) fn is_origin_allowed(head: &RequestHead, listener: &ListenerState) -> bool {
    let (origin, host) = (head.first("Origin"), head.first("Host"));
    let origins = &listener.settings.origins;
    origins.allows(origin, host) || listener.try_page.is_some() && is_from_own_page(head, listener)
}

/// Returns whether the request is from a page that came from the listener, under a name that is surely the listener's:
/// DNS rebinding makes any other the origin of a stranger's page, whose requests name it as their host, too.
fn is_from_own_page(head: &RequestHead, listener: &ListenerState) -> bool {
    let (Some(origin), Some(host)) = (head.first("Origin"), head.first("Host")) else {
        return false;
    };
    let is_named = match &listener.checked_hosts {
        Some(hosts) => hosts.allows(Some(host), Some(origin)),
        None => Hosts::default().allows(Some(host), Some(origin)),
    };
    is_named && is_own_origin(origin, host)
}

/// Returns whether the request names a host under which the listener is reached, as far as that is checked
/// (see [`Hosts`]).
pub(crate) fn is_host_allowed(head: &RequestHead, listener: &ListenerState) -> bool {
    let checked = listener.checked_hosts.as_ref();
    checked.is_none_or(|hosts| hosts.allows(head.first("Host"), head.first("Origin")))
}

/// Returns the response to a request whose host is not allowed.
pub(crate) fn host_refused(head: &RequestHead, listener: &ListenerState) -> Response {
    let host = head.first("Host").unwrap_or_default();
    let remedy = match Hosts::entry_for(host) {
        None => "no browser sends it".to_owned(),
        Some(entry) => {
            let proxy = if listener.settings.hosts.is_none() {
                ", or, if a proxy sends it, that proxy into \"trusted_proxies\""
            } else {
                ""
            };
            let entry = Quoted(&entry);
            format!("if it is a name of this listener, write it into \"hosts\": [{entry}]{proxy}")
        }
    };
    let text = "this host is not allowed; see \"hosts\" in the configuration";
    let reason = format!("host {} is not allowed; {remedy}", Quoted(host));
    Response::new(403, text).with_log_reason(reason)
}

/// Returns the response to a request whose origin is not allowed.
pub(crate) fn origin_refused(head: &RequestHead) -> Response {
    let origin = head.first("Origin").unwrap_or_default();
    let host = Quoted(head.first("Host").unwrap_or_default());
    let remedy = match Origins::entry_for(origin) {
        Some(entry) => format!(
            "to admit its pages, write it into \"origins\": [{}]",
            Quoted(&entry)
        ),
        None => "no browser sends it".to_owned(),
    };
    let origin = Quoted(origin);
    let text = "this origin is not allowed; see \"origins\" in the configuration";
    let reason = format!("origin {origin} is not allowed on host {host}; {remedy}");
    Response::new(403, text).with_log_reason(reason)
}
