//! Where people of one protocol meet, as whoever checks them sees it.

pub mod accepted_rate;
pub mod fastchat;
pub mod loudsync;
pub mod message_ledger;
pub mod workspace;

use crate::client_task::Broken;

/// One protocol's people, looked at in a moment of quiet.
pub trait Place {
    /// What does not agree, and may be because it is on its way still.
    fn disagreements(&self) -> Vec<Broken>;

    /// All agrees, and what was before need not be known any more. What was checked how often.
    fn forget(&mut self) -> Vec<(&'static str, usize)>;

    /// Who is to come while it is quiet, if that tells anything.
    fn visits(&self) -> Option<Visit> {
        None
    }
}

/// Somebody comes while it is quiet, and is told how many are there.
pub struct Visit {
    /// Where it connects.
    pub target: String,
    /// What the first message contains.
    pub told: String,
}
