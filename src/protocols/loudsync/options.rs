//! The options of a LOUDSYNC listener in the configuration.

use super::fields::{MAX_MEMBERS, MIN_MEMBERS};
use super::static_sessions::{self, StaticSession};
use crate::realm::options::check_minimum;
use serde::{Deserialize, Serialize};

/// The options of a LOUDSYNC listener in the configuration.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Seconds from the handshake to JOIN; 0: no limit.
    pub(super) join_timeout: u32,
    /// Seconds for a connection to give a sign of life when its device joins from another connection.
    pub(super) takeover_timeout: u32,
    /// Seconds without a heartbeat after which a member is removed ("Timeout Behavior").
    pub(super) heartbeat_timeout: u32,
    /// Members of a session, its host included ("Capacity Limits").
    pub(super) max_members: u32,
    /// Sessions opened by hosts; 0: no limit.
    pub(super) max_sessions: u32,
    /// Sessions that always exist and have no host device.
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
    /// Checks the range of each option.
    ///
    /// # Errors
    /// The first option that is out of range, as [`Realm::new`](crate::realm::Realm::new) returns it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        check_minimum(&[
            ("takeover_timeout", self.takeover_timeout, 1, "seconds"),
            ("heartbeat_timeout", self.heartbeat_timeout, 1, "seconds"),
            ("max_members", self.max_members, MIN_MEMBERS, "members"),
        ])?;
        if self.max_members > MAX_MEMBERS {
            let problem = format!(
                "{} is too many; must be at most {MAX_MEMBERS}",
                self.max_members
            );
            return Err(("max_members", problem));
        }
        static_sessions::check(&self.sessions, self.max_members)
    }
}
