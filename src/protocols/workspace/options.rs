//! The options of a Workspace listener in the configuration.

use crate::realm::setting_list::settings;
use crate::realm::setting_types::WholeSeconds;

settings! {
    /// Options of a Workspace listener.
    pub struct Options {
        /// Connections of one username at a time, whatever its case. Above it: HTTP 429, or error
        /// `TOO_MANY_CONNECTIONS` for an `auth`, unless one of them is dead (see `takeover_after`). 0: no limit.
        pub(super) max_connections_per_user: u32 = 3, "connections";

        /// Time for which a connection has been silent when it is sent a Ping because its username has all its
        /// connections and gets another. The newer one waits. Of those that do not answer, the longest silent is
        /// closed.
        pub(super) takeover_after: WholeSeconds = WholeSeconds(5), "whole seconds";

        /// Time for a connection to answer that Ping. Then it is closed with 4409, if its place is still wanted.
        pub(super) takeover_timeout: WholeSeconds = WholeSeconds(5), "whole seconds", 1..;

        /// `message:send` and `message` of one username in a minute, over all its connections. Above it: error
        /// `RATE_LIMITED`. 0: no limit.
        pub(super) messages_per_minute: u32 = 100, "messages";

        /// `presence:update` and `typing:indicator` of one username in a minute, together. Above it: error
        /// `RATE_LIMITED`. 0: no limit.
        pub(super) signals_per_minute: u32 = 300, "messages";

        /// Bytes of text of one username in a minute, over all its connections. The first message in a minute may have
        /// more. Above it: error `RATE_LIMITED`. 0: no limit.
        pub(super) text_per_minute: u32 = 1 << 20, "bytes";

        /// Size above which a text is large. It enters the room after the large ones before it, and its sender is not
        /// read from meanwhile.
        pub(super) large_text: u32 = 16 << 10, "bytes";

        /// Bytes of large texts that enter the room in a second, so that members with slow lines can read them. 0: no
        /// limit.
        pub(super) large_text_per_second: u32 = 192 << 10, "bytes";

        /// Messages sent in a second to tell the members of a room that users come and go. In a room of 100 the default
        /// is 200 comings and goings. What exceeds it waits, oldest first; a coming and a going of the same username
        /// cancel each other. 0: no limit.
        pub(super) announcements_per_second: u32 = 20_000, "messages";

        /// Time between two announcements of one username. 0: none.
        pub(super) announcement_interval: WholeSeconds = WholeSeconds(10), "whole seconds";

        /// Time without a message in either direction, after which a connection is closed with 4408. WebSocket Pings do
        /// not count. 0: no limit.
        pub(super) idle_timeout: WholeSeconds = WholeSeconds(300), "whole seconds";

        /// Greatest length of a username. A longer one is cut. After a reload, users who are connected keep theirs.
        pub(super) username_length: u32 = 64, "characters", 12..=256;
    }
}
