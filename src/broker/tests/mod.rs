//! The broker's promises to realms (see [`crate::realm`]), and what it does by itself.

mod admission;
mod batches;
mod broadcasts;
mod clients;
mod expiries;
pub(crate) mod harness;
mod keepalive;
mod lifecycle;
mod listeners;
mod pausing;
mod slow_consumers;
