//! Lines of the log about the server as a whole.

use crate::broker::{DisconnectCounts, Event, EventSender};
use crate::net::bind::Bound;
use crate::net::listener::ListenerState;
use crate::sys::limits::Limits;
use crate::sys::log_fields::{self, field, text};
use futures::SinkExt;
use futures::channel::oneshot;
use std::time::{Duration, Instant};

/// Logs that the server is ready, and its limits.
pub(super) fn log_ready(time: Duration, limits: &Limits) {
    let (capacity, milliseconds) = (&limits.capacity, time.as_secs_f64() * 1e3);
    let connections = capacity.connections;
    let fields = [
        field("max_connections", connections),
        field("memory_budget", limits.memory_budget),
    ];
    log_fields::log(
        log::Level::Info,
        &fields,
        format_args!(
            "ready in {milliseconds:.1} ms after the configuration was read; limits: at most {connections} connections, because of {}; \
             {} of memory for what clients send and are sent (memory_budget)",
            capacity.decided_by,
            limits.budget_text(),
        ),
    );
}

/// Logs where a listener listens, and where its page is on which people try it.
pub(super) fn log_listening(listener: &ListenerState, bound: &Bound) {
    let (name, address) = (listener.protocol_name(), &listener.address);
    let page = listener.try_page.as_ref();
    let page = page.and_then(|page| bound.page_url(listener.settings.page_scheme(), &page.path()));
    let page = page.map_or_else(String::new, |url| format!("; try it at {url}"));
    log_fields::log(
        log::Level::Info,
        &[field("protocol", name), text("listener", address)],
        format_args!(
            "{name:<10} listens on {}{page}",
            bound.urls(listener.settings.scheme(), &listener.endpoint)
        ),
    );
}

/// Logs how connections ended since the start, by reason.
pub(super) async fn log_summary(mut inbox: EventSender, started: Instant) {
    let (reply, counts) = oneshot::channel();
    let _ = inbox.send(Event::Count(reply)).await;
    if let Ok(counts) = counts.await {
        let seconds = started.elapsed().as_secs_f64();
        log::info!(
            "stopped after {seconds:.0} s; connections: {}",
            counts_text(&counts)
        );
    }
}

/// Returns the counts in words.
fn counts_text(counts: &DisconnectCounts) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"));
    parts.collect::<Vec<_>>().join(", ")
}
