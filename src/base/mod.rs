//! Plain data types that every other layer uses and that depend on none of them.

pub mod close;
pub(crate) mod coalesce;
pub mod frame;
pub(crate) mod host;
pub(crate) mod ip;
pub(crate) mod log_escape;
pub(crate) mod memory_budget;
pub(crate) mod spare;
