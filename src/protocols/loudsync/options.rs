//! What the configuration may say about a LOUDSYNC listener.

use super::fields::{MAX_MEMBERS, MIN_MEMBERS};
use super::static_sessions::{self, StaticSession};
use crate::realm::options::check_minimum;
use serde::{Deserialize, Serialize};

/// What the configuration may say about a LOUDSYNC listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds from the handshake to JOIN; 0: no limit.
    pub(super) join_timeout: u32,
    /// Seconds that a connection has for a sign of life when its device comes again elsewhere.
    pub(super) takeover_timeout: u32,
    /// Seconds without a heartbeat ("Timeout Behavior").
    pub(super) heartbeat_timeout: u32,
    /// Members of a session, its host among them ("Capacity Limits").
    pub(super) max_members: u32,
    /// Sessions that hosts make; 0: no limit.
    pub(super) max_sessions: u32,
    /// Sessions that are there without a host's device.
    pub(super) sessions: Vec<StaticSession>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            join_timeout: 15,
            takeover_timeout: 2,
            heartbeat_timeout: 15,
            max_members: 10,
            max_sessions: 5000,
            sessions: Vec::new(),
        }
    }
}

impl Options {
    /// Checks what each option allows.
    ///
    /// # Errors
    /// The first mistake, as [`Realm::new`](crate::realm::Realm::new) says it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        check_minimum(&[
            ("takeover_timeout", self.takeover_timeout, 1, "seconds"),
            ("heartbeat_timeout", self.heartbeat_timeout, 1, "seconds"),
            ("max_members", self.max_members, MIN_MEMBERS, "members"),
        ])?;
        if self.max_members > MAX_MEMBERS {
            let problem = format!("{} is more than {MAX_MEMBERS} members", self.max_members);
            return Err(("max_members", problem));
        }
        static_sessions::check(&self.sessions, self.max_members)
    }
}
