//! `/status`: all figures as JSON, with the last minutes of each listener.

use super::daemon_state::{DaemonState, WatchedListener};
use super::history::History;
use super::json::json_response;
use super::messages::BanEntry;
use super::moderation::Moderation;
use super::warnings::{self, WarningEntry};
use crate::base::close::CloseReason;
use crate::net::http::response::Response;
use crate::sys::process;
use humantime::format_rfc3339_millis;
use serde::Serialize;
use std::collections::BTreeMap;

/// The daemon, as `/status` shows it.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    pid: u32,
    started_at: String,
    uptime_seconds: f64,
    healthy: bool,
    connections: u64,
    max_connections: usize,
    memory: MemoryReport,
    listeners: Vec<ListenerReport<'a>>,
    bans: Vec<BanEntry>,
    /// The last warnings of the log, oldest first.
    warnings: Vec<WarningEntry>,
}

#[derive(Serialize)]
struct MemoryReport {
    held_bytes: usize,
    /// `null`: there is no limit.
    budget_bytes: Option<usize>,
    /// `null`: the system does not say.
    resident_bytes: Option<u64>,
}

/// A listener, as `/status` shows it. Each key has the meaning of the metric of that name.
#[derive(Serialize)]
struct ListenerReport<'a> {
    protocol: &'static str,
    address: String,
    endpoint: &'a str,
    is_bound: bool,
    /// `null`: the listener does not speak TLS.
    certificate_expires_at: Option<String>,
    connections: u64,
    /// `null`: there is no limit but that of the process.
    max_connections: Option<usize>,
    accepted: u64,
    /// By status or reason; those that never happened are left out, here and in `closed`.
    refused: BTreeMap<String, u64>,
    /// By code and reason.
    closed: BTreeMap<String, u64>,
    messages_in: u64,
    messages_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    outbox_bytes: usize,
    slow_consumers: u64,
    rate_limited: u64,
    evicted: u64,
    sizes: BTreeMap<&'static str, usize>,
    history: &'a History,
}

/// Returns the response of `/status`.
pub(super) fn response(daemon: &DaemonState, moderation: &Moderation) -> Response {
    let listeners = daemon.listeners();
    let listeners: Vec<ListenerReport<'_>> = listeners.iter().map(listener_report).collect();
    let usage = process::figures().usage;
    json_response(&Report {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started_at: format_rfc3339_millis(daemon.started_at).to_string(),
        uptime_seconds: daemon.started.elapsed().as_secs_f64(),
        healthy: daemon.pulse.is_alive(),
        connections: listeners.iter().map(|listener| listener.connections).sum(),
        max_connections: daemon.server.connection_limit.limit(),
        memory: MemoryReport {
            held_bytes: daemon.server.budget.reserved(),
            budget_bytes: daemon.server.budget.finite_limit(),
            resident_bytes: usage.map(|usage| usage.resident_memory_bytes),
        },
        listeners,
        bans: moderation.listed_bans(),
        warnings: warnings::entries(),
    })
}

fn listener_report(watched: &WatchedListener) -> ListenerReport<'_> {
    let WatchedListener {
        state,
        is_bound,
        history,
    } = watched;
    let counters = state.counters();
    let traffic = counters.traffic.get();
    let refused = counters.refused().into_iter();
    let closed = counters.closed().filter(|(_, count)| *count > 0);
    let max_connections = state.settings.max_connections;
    ListenerReport {
        protocol: state.protocol_name(),
        address: state.address.to_string(),
        endpoint: &state.endpoint,
        is_bound: *is_bound,
        certificate_expires_at: watched
            .certificate_end()
            .map(|end| format_rfc3339_millis(end).to_string()),
        connections: counters.connections(),
        max_connections: (max_connections > 0).then_some(max_connections),
        accepted: counters.accepted(),
        refused: refused
            .map(|(refusal, count)| (refusal.to_string(), count))
            .collect(),
        closed: closed
            .map(|(ending, count)| (ending.to_string(), count))
            .collect(),
        messages_in: traffic.messages_in,
        messages_out: traffic.messages_out,
        bytes_in: traffic.bytes_in,
        bytes_out: traffic.bytes_out,
        outbox_bytes: counters.outbox_bytes(),
        slow_consumers: counters.closed_for(CloseReason::TOO_SLOW),
        rate_limited: counters.rate_limited(),
        evicted: counters.closed_for(CloseReason::SHORT_OF_MEMORY),
        sizes: counters.sizes().collect(),
        history,
    }
}
