//! What a change of the options changes in the sessions.

use super::session::Session;
use super::{Loudsync, Options, static_sessions};
use crate::realm::setting_list::Settings as _;
use crate::realm::{Context, SettingError, SettingMap};
use std::collections::btree_map::Entry;

/// The reason in `session_closed` when the configuration has a session no longer, or has one in its place.
const CHANGED: &str = "The server's sessions were changed";

impl Options {
    /// Reads the options from a map.
    ///
    /// # Errors
    /// All that are invalid.
    pub(super) fn read(given: &SettingMap) -> Result<Self, Vec<SettingError>> {
        let options = Self::from_map(given)?;
        static_sessions::check(&options.sessions, options.max_members)?;
        Ok(options)
    }
}

impl Loudsync {
    /// Changes the options. A session that a host has opened keeps its greatest number of members.
    pub(super) fn set_options(&mut self, cx: &mut Context, options: Options) {
        self.pending.set_timeout(options.join_timeout.duration());
        self.options = options;
        self.end_replaced_sessions(cx);
        for configured in &self.options.sessions {
            let session = Session::from_config(configured, self.options.max_members);
            match self.sessions.entry(configured.id.clone()) {
                Entry::Vacant(place) => {
                    place.insert(session);
                }
                Entry::Occupied(mut place) => place.get_mut().replace_config(cx, session),
            }
        }
    }

    /// Ends the sessions that the configuration has no longer, and those of hosts whose ID it has now.
    fn end_replaced_sessions(&mut self, cx: &mut Context) {
        let is_configured = |id: &str| self.options.sessions.iter().any(|it| it.id == id);
        let has_host_device = |session: &Session| session.host.member().is_some();
        let replaced = self.sessions.iter();
        let replaced = replaced.filter(|(id, it)| is_configured(id) == has_host_device(it));
        let replaced: Vec<String> = replaced.map(|(id, _)| id.clone()).collect();
        for id in replaced {
            self.close_session(cx, &id, CHANGED);
        }
    }
}
