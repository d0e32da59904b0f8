//! Tests of the built daemon from outside: its ports, its log, its exit status.
//!
//! Each file has one subject; `common` has what they share. No test sleeps, except where pauses are the
//! attack. A test waits for a frame, a line of the log or the exit of the process; a deadline far above
//! what any slow machine needs turns a missing one into a failure. For the same reason the daemon's own
//! time-outs are switched off, or an hour long, except the one that is the subject of the test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail by a panic"
)]

mod access;
mod addresses;
mod all_protocols;
mod backpressure;
mod command_line;
mod common;
mod completions;
mod configuration;
mod configuration_errors;
mod documents;
mod environment;
mod fastchat;
mod hanging_broker;
mod hostile;
mod hosts;
mod http;
mod lifecycle;
mod liveness;
mod log;
mod log_filter;
mod log_format;
mod loudsync;
mod memory;
mod moderation;
mod operator;
mod peerdrop;
mod peerjs;
mod protocol_lists;
mod proxies;
mod refusals;
mod reload;
mod setting_tables;
mod socket_activation;
mod status;
mod status_page;
mod system_calls;
#[cfg(feature = "tls")]
mod tls;
mod transcripts;
mod try_page;
mod unix_sockets;
mod workspace;
