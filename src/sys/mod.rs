//! The process and the machine that it runs on.

pub(crate) mod memory;
pub mod open_files;
pub mod signals;
pub(crate) mod systemd;
pub mod threads;
