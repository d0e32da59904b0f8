//! The options of a Workspace listener in the configuration.

use crate::realm::options::check_minimum;
use crate::toolkit::jwt::Secret;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Options of a Workspace listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Connections of one username at a time ("Performance Considerations"); 0: no limit.
    pub(super) max_connections_per_user: u32,
    /// Seconds for which a connection has been silent when it is probed because its username has all its
    /// connections and gets another one.
    pub(super) takeover_after: u32,
    /// Seconds for a connection to give a sign of life then.
    pub(super) takeover_timeout: u32,
    /// `message:send` and `message` of one username in a minute ("Performance Considerations"); 0: no limit.
    pub(super) messages_per_minute: u32,
    /// `presence:update` and `typing:indicator` of one username in a minute; 0: no limit.
    pub(super) signals_per_minute: u32,
    /// Bytes of text of one username in a minute; 0: no limit. A first message may have more.
    pub(super) text_per_minute: u32,
    /// Bytes above which a text is large, and enters the room after those before it.
    pub(super) large_text: u32,
    /// Bytes of large texts that enter the room in a second; 0: no limit.
    pub(super) large_text_per_second: u32,
    /// Messages sent in a second to announce that users come and go; 0: no limit.
    pub(super) announcements_per_second: u32,
    /// Seconds between two announcements of one username; 0: none.
    pub(super) announcement_interval: u32,
    /// Seconds without a message in either direction until a connection is closed ("Security Notes");
    /// 0: no limit.
    pub(super) idle_timeout: u32,
    /// Characters of a username, 12 to 256. A longer one is cut.
    pub(super) username_length: u32,
    /// HS256 key of the tokens in `auth`. Empty: tokens are not verified.
    pub(super) auth_secret: Secret,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections_per_user: 3,
            takeover_after: 5,
            takeover_timeout: 5,
            messages_per_minute: 100,
            signals_per_minute: 300,
            text_per_minute: 1 << 20,
            large_text: 16 << 10,
            large_text_per_second: 192 << 10,
            announcements_per_second: 20_000,
            announcement_interval: 10,
            idle_timeout: 300,
            username_length: 64,
            auth_secret: Secret::default(),
        }
    }
}

impl Options {
    /// Checks the range of each option.
    ///
    /// # Errors
    /// The first option that is out of range, as [`Realm::new`](crate::realm::Realm::new) returns it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        check_minimum(&[("takeover_timeout", self.takeover_timeout, 1, "seconds")])?;
        let length = self.username_length;
        if !(12..=256).contains(&length) {
            let problem = format!("must be 12 to 256 characters, not {length}");
            return Err(("username_length", problem));
        }
        Ok(())
    }

    /// Returns [`Options::takeover_after`].
    pub(super) fn takeover_after(&self) -> Duration {
        Duration::from_secs(self.takeover_after.into())
    }

    /// Returns [`Options::takeover_timeout`].
    pub(super) fn takeover_timeout(&self) -> Duration {
        Duration::from_secs(self.takeover_timeout.into())
    }

    /// Returns [`Options::announcement_interval`].
    pub(super) fn announcement_interval(&self) -> Duration {
        Duration::from_secs(self.announcement_interval.into())
    }
}
