//! The process and the machine it runs on.

pub mod malloc;
pub(crate) mod memory;
