//! The status port: what an operator asks of a daemon that runs, over plain HTTP.
//!
//! `server.rs` has the sockets and the connections, `routes.rs` the paths, `moderation.rs` those that need the token.
//! All of it runs on the thread that waits for the end of the daemon, and not on the executor: so it answers while the
//! executor is busy, or the broker hangs.

mod daemon_state;
mod directory;
mod history;
mod json;
pub(crate) mod messages;
mod metrics;
mod moderation;
mod page;
mod report;
mod routes;
mod selection;
mod server;
mod text_format;
mod warnings;

pub(crate) use daemon_state::DaemonState;
pub(crate) use moderation::Moderation;
pub(crate) use routes::Routes;
pub(crate) use server::{MAX_CONNECTIONS, serve};
