//! The process and the machine that it runs on.

pub(crate) mod capacity;
pub mod executor;
pub mod limits;
pub(crate) mod log_fields;
pub mod log_format;
mod log_lines;
mod log_queue;
mod log_thread;
pub(crate) mod log_tokens;
pub mod log_writer;
mod machine;
pub(crate) mod memory;
pub mod open_files;
pub(crate) mod private_files;
pub(crate) mod process;
pub(crate) mod reactor;
pub(crate) mod recent_warnings;
pub mod signals;
pub mod stderr;
pub mod streams;
pub mod systemd;
pub mod systemd_sockets;
pub(crate) mod token_file;
