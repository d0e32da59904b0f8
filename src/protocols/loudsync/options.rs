//! The options of a LOUDSYNC listener in the configuration.

use super::fields::{MAX_MEMBERS, MIN_MEMBERS};
use super::static_sessions::StaticSession;
use crate::realm::setting_list::settings;
use crate::realm::setting_types::WholeSeconds;

settings! {
    /// The options of a LOUDSYNC listener in the configuration.
    pub struct Options {
        /// Time from the handshake to `join`. Then Close 4401. 0: no limit.
        pub(super) join_timeout: WholeSeconds = WholeSeconds(15), "whole seconds";

        /// Time for a connection to answer a Ping when its device joins on another. If the old connection answers, the
        /// newer one is rejected; if not, the old one is closed with 4409.
        pub(super) takeover_timeout: WholeSeconds = WholeSeconds(2), "whole seconds", 1..;

        /// Time without a `heartbeat`, after which a member loses its place. Its connection is closed with 4408.
        pub(super) heartbeat_timeout: WholeSeconds = WholeSeconds(15), "whole seconds", 1..;

        /// Members of a session, its host included. Above it: error `session_full`. After a reload the sessions that
        /// hosts have opened keep theirs.
        pub(super) max_members: u32 = 10, "members", u64::from(MIN_MEMBERS)..=u64::from(MAX_MEMBERS);

        /// Sessions that hosts have opened. Above it the session whose host has been disconnected for longest ends, of
        /// those without a connected member; if there is none: error `session_full`. 0: no limit.
        pub(super) max_sessions: u32 = 5000, "sessions";

        /// Sessions that always exist, without a host device. Each has an `id`, `name`, `host_id` and `host_name`, and
        /// may have `max_members`. The host stands first in the list of members and takes one place. At a reload a
        /// session that stays keeps its members; one that is left out ends (`session_closed`), and so does one that a
        /// host has opened with an ID that stands here now.
        pub(super) sessions: Vec<StaticSession> = Vec::new(), "list";
    }
}
