//! `/metrics`: all figures in Prometheus' text format, named after its conventions
//! (<https://prometheus.io/docs/practices/naming/>).

use super::daemon_state::{DaemonState, WatchedListener};
use super::text_format::{Kind, Labels, MetricsText};
use crate::base::close::CloseReason;
use crate::broker::{Histogram, ListenerCounters};
use crate::net::http::response::Response;
use crate::sys::process;
use std::fmt::Display;
use std::time::UNIX_EPOCH;

/// The media type of the format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the response of `/metrics`.
pub(super) fn response(daemon: &DaemonState) -> Response {
    let mut text = MetricsText::default();
    write_daemon(&mut text, daemon);
    let listeners = daemon.listeners();
    let listeners: Vec<(Labels, &WatchedListener)> = listeners.iter().map(labelled).collect();
    write_connections(&mut text, &listeners);
    write_ends(&mut text, &listeners);
    write_traffic(&mut text, &listeners);
    write_realms(&mut text, &listeners);
    write_process(&mut text, daemon);
    Response::ok(CONTENT_TYPE, text.into_string().into())
}

/// Returns a listener with the labels of its samples.
fn labelled(listener: &WatchedListener) -> (Labels, &WatchedListener) {
    let state = &listener.state;
    let labels = Labels::default().with("protocol", state.protocol_name());
    (labels.with("listener", &state.address), listener)
}

fn write_daemon(text: &mut MetricsText, daemon: &DaemonState) {
    let version = Labels::default().with("version", env!("CARGO_PKG_VERSION"));
    let help = "The version of switchboard, as a label.";
    text.family("switchboard_build_info", Kind::Gauge, help)
        .sample(&version, 1);
    text.single(
        "switchboard_healthy",
        Kind::Gauge,
        "Whether the broker answers within a second (1) or not (0).",
        u8::from(daemon.pulse.is_alive()),
    );
    text.single(
        "switchboard_max_connections",
        Kind::Gauge,
        "Greatest number of connections of all listeners together.",
        daemon.server.connection_limit.limit(),
    );
    text.single(
        "switchboard_memory_held_bytes",
        Kind::Gauge,
        "Memory that clients make the daemon hold, as memory_budget counts it.",
        daemon.server.budget.reserved(),
    );
    if let Some(limit) = daemon.server.budget.finite_limit() {
        let help = "Limit of that memory (memory_budget).";
        text.single("switchboard_memory_budget_bytes", Kind::Gauge, help, limit);
    }
    write_histogram(
        text,
        "switchboard_broker_batch_duration_seconds",
        "Time that the broker took for a batch of events, after which other tasks run.",
        &daemon.pulse.batches,
    );
    write_histogram(
        text,
        "switchboard_broker_lag_seconds",
        "Time that an event waited for the broker, measured once a second.",
        &daemon.pulse.lag,
    );
}

fn write_histogram(text: &mut MetricsText, name: &'static str, help: &str, histogram: &Histogram) {
    let mut family = text.family(name, Kind::Histogram, help);
    let (none, mut count) = (Labels::default(), 0);
    for (limit, up_to_limit) in histogram.buckets() {
        let limit = limit.map_or("+Inf".to_owned(), |seconds| seconds.to_string());
        family.sample_of("_bucket", &none.with("le", limit), up_to_limit);
        count = up_to_limit;
    }
    family.sample_of("_sum", &none, histogram.sum());
    family.sample_of("_count", &none, count);
}

/// Writes a family with one sample for each listener.
fn write_each<V: Display>(
    text: &mut MetricsText,
    listeners: &[(Labels, &WatchedListener)],
    (name, kind, help): (&'static str, Kind, &str),
    value: impl Fn(&WatchedListener) -> V,
) {
    let mut family = text.family(name, kind, help);
    for (labels, listener) in listeners {
        family.sample(labels, value(listener));
    }
}

/// Writes a counter with one sample for each listener.
fn write_counter(
    text: &mut MetricsText,
    listeners: &[(Labels, &WatchedListener)],
    name: &'static str,
    help: &str,
    count: impl Fn(&ListenerCounters) -> u64,
) {
    write_each(text, listeners, (name, Kind::Counter, help), |listener| {
        count(listener.counters())
    });
}

fn write_connections(text: &mut MetricsText, listeners: &[(Labels, &WatchedListener)]) {
    let help = "Whether the address of the listener is bound (1), or another program has it (0).";
    let family = ("switchboard_listener_bound", Kind::Gauge, help);
    write_each(text, listeners, family, |listener| {
        u8::from(listener.is_bound)
    });
    write_certificates(text, listeners);
    let family = (
        "switchboard_connections",
        Kind::Gauge,
        "WebSocket connections.",
    );
    write_each(text, listeners, family, |listener| {
        listener.counters().connections()
    });
    write_counter(
        text,
        listeners,
        "switchboard_connections_accepted_total",
        "WebSocket connections that were accepted.",
        ListenerCounters::accepted,
    );
    let mut family = text.family(
        "switchboard_requests_refused_total",
        Kind::Counter,
        "Handshakes and plain requests that were refused, by HTTP status or reason.",
    );
    for (labels, listener) in listeners {
        for (refusal, count) in listener.counters().refused() {
            family.sample(&labels.with("reason", refusal), count);
        }
    }
}

/// Writes when the certificates of listeners with TLS end, if there are any.
fn write_certificates(text: &mut MetricsText, listeners: &[(Labels, &WatchedListener)]) {
    let end = |(labels, listener): &(Labels, &WatchedListener)| {
        let end = listener.certificate_end()?.duration_since(UNIX_EPOCH);
        Some((labels.clone(), end.unwrap_or_default().as_secs()))
    };
    let ends: Vec<(Labels, u64)> = listeners.iter().filter_map(end).collect();
    if ends.is_empty() {
        return;
    }
    let help = "End of the validity of the certificate (tls), in seconds since 1970.";
    let name = "switchboard_tls_certificate_expiry_timestamp_seconds";
    let mut family = text.family(name, Kind::Gauge, help);
    for (labels, end) in &ends {
        family.sample(labels, end);
    }
}

fn write_ends(text: &mut MetricsText, listeners: &[(Labels, &WatchedListener)]) {
    let mut family = text.family(
        "switchboard_connections_closed_total",
        Kind::Counter,
        "WebSocket connections that have ended, by close code (1005: a Close frame without one, 1006: no Close frame, \
         other: one that a client chose) and reason.",
    );
    for (labels, listener) in listeners {
        for (ending, count) in listener.counters().closed() {
            let code = ending
                .code
                .map_or("other".to_owned(), |code| code.to_string());
            let labels = labels.with("code", code).with("reason", ending.reason);
            family.sample(&labels, count);
        }
    }
    write_counter(
        text,
        listeners,
        "switchboard_slow_consumers_total",
        "Connections that were closed because they read more slowly than others send to them.",
        |counters| counters.closed_for(CloseReason::TOO_SLOW),
    );
    write_counter(
        text,
        listeners,
        "switchboard_evictions_total",
        "Connections that were closed because memory_budget was used up.",
        |counters| counters.closed_for(CloseReason::SHORT_OF_MEMORY),
    );
}

fn write_traffic(text: &mut MetricsText, listeners: &[(Labels, &WatchedListener)]) {
    write_counter(
        text,
        listeners,
        "switchboard_messages_received_total",
        "Messages that clients sent.",
        |counters| counters.traffic.get().messages_in,
    );
    write_counter(
        text,
        listeners,
        "switchboard_messages_sent_total",
        "Messages that clients were sent.",
        |counters| counters.traffic.get().messages_out,
    );
    write_counter(
        text,
        listeners,
        "switchboard_received_bytes_total",
        "Bytes that clients sent, those of handshakes and plain requests included.",
        |counters| counters.traffic.get().bytes_in,
    );
    write_counter(
        text,
        listeners,
        "switchboard_sent_bytes_total",
        "Bytes that clients were sent, those of handshakes and plain requests included.",
        |counters| counters.traffic.get().bytes_out,
    );
    let help = "Bytes in the outboxes of all connections, as outbox_size counts them.";
    let family = ("switchboard_outbox_bytes", Kind::Gauge, help);
    write_each(text, listeners, family, |listener| {
        listener.counters().outbox_bytes()
    });
}

fn write_realms(text: &mut MetricsText, listeners: &[(Labels, &WatchedListener)]) {
    write_counter(
        text,
        listeners,
        "switchboard_rate_limited_total",
        "Messages and connections that were refused because their client was above a rate limit of the protocol.",
        ListenerCounters::rate_limited,
    );
    let help = "How much the protocol keeps, by kind.";
    let mut family = text.family("switchboard_realm_size", Kind::Gauge, help);
    for (labels, listener) in listeners {
        for (kind, size) in listener.counters().sizes() {
            family.sample(&labels.with("kind", kind), size);
        }
    }
}

/// Writes the metrics that Prometheus' own libraries have of each process, under their names.
fn write_process(text: &mut MetricsText, daemon: &DaemonState) {
    let figures = process::figures();
    let started = daemon
        .started_at
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut gauge = |name, help: &str, value: Option<u64>| {
        if let Some(value) = value {
            text.single(name, Kind::Gauge, help, value);
        }
    };
    gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        figures.usage.map(|usage| usage.resident_memory_bytes),
    );
    gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        figures.usage.map(|usage| usage.virtual_memory_bytes),
    );
    gauge(
        "process_threads",
        "Number of OS threads in the process.",
        figures.usage.map(|usage| usage.threads),
    );
    gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        figures.open_fds,
    );
    gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        figures.max_fds,
    );
    text.single(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process since unix epoch in seconds.",
        started.as_secs_f64(),
    );
    if let Some(usage) = figures.usage {
        text.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
            usage.cpu_seconds,
        );
    }
}
