//! For each protocol what all of its clients together must have seen: filled by the clients, checked at
//! quiescent points.

pub mod accepted_rate;
pub mod fastchat;
pub mod loudsync;
pub mod message_ledger;
pub mod peerdrop;
pub mod peerjs;
pub mod workspace;

use crate::checks::Violation;

/// The expectations of one protocol.
pub trait Expectations {
    /// Returns what is missing or wrong now. Some of it may still be in flight.
    fn violations(&self) -> Vec<Violation>;

    /// Forgets the past, of which nothing is missing or wrong any more. Returns which checks were made
    /// at this quiescent point, and how often.
    fn start_anew(&mut self) -> Vec<(&'static str, usize)>;

    /// Returns the visitor to connect at a quiescent point, if the protocol has a use for one.
    fn visitor(&self) -> Option<Visitor> {
        None
    }
}

/// A client that connects at a quiescent point, only to read its first message.
pub struct Visitor {
    /// The path and query to connect to.
    pub target: String,
    /// What the first message must contain.
    pub expected: String,
}
