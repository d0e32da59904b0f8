//! The broker's promises to realms (see [`crate::realm`]), and what it does by itself.

pub(crate) mod harness;
mod keepalive;
mod lifecycle;
mod slow_consumers;
