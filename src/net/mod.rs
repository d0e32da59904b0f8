//! Everything that touches a client's socket, from accept to the last byte.

pub(crate) mod accept;
mod acceptor;
pub(crate) mod access;
pub(crate) mod bans;
pub(crate) mod bind;
pub(crate) mod client_ip;
pub(crate) mod connection;
pub(crate) mod connection_limits;
mod current;
pub(crate) mod frame_tracker;
pub(crate) mod frame_writer;
pub(crate) mod handshake;
pub(crate) mod http;
pub(crate) mod listen_socket;
pub(crate) mod listener;
pub(crate) mod listener_set;
mod listener_tokens;
mod notice_lines;
mod notice_log;
pub(crate) mod proxy_protocol;
pub(crate) mod server_state;
pub(crate) mod socket;
mod socket_options;
pub(crate) mod stream;
mod system;
pub(crate) mod turns;
pub(crate) mod unix_socket;
