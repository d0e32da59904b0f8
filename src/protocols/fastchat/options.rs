//! The options of a FastChat listener in the configuration.

use super::MIN_NAME_LENGTH;
use crate::realm::setting_list::settings;
use crate::realm::setting_types::WholeSeconds;
use crate::toolkit::rate_limit::WINDOW;

settings! {
    /// The options of a FastChat listener.
    pub struct Options {
        /// Time from the handshake to a valid HELLO. Then error `UNAUTHORIZED` and Close 4401. 0: no limit.
        pub(super) hello_timeout: WholeSeconds = WholeSeconds(10), "whole seconds";

        /// Time for a connection to answer a Ping when its user says HELLO on another. If the old connection answers,
        /// the newer one is closed with 4409; if not, the old one is.
        pub(super) takeover_timeout: WholeSeconds = WholeSeconds(5), "whole seconds", 1..;

        /// Time for which the chats and rates of a user are kept after it disconnected. Then the user is forgotten, and
        /// its chats end. With less than the time of a rate limit a user could reset its rates by reconnecting.
        pub(super) absence: WholeSeconds = WholeSeconds(60), "whole seconds", WINDOW.as_secs()..;

        /// MSG of one user in a minute. Above it: error `RATE_LIMITED`. 0: no limit.
        pub(super) messages_per_minute: u32 = 60, "messages";

        /// TYPING of one user in a minute. Above it: error `RATE_LIMITED`, but a `false` that ends a `true` is sent. 0:
        /// no limit.
        pub(super) typing_per_minute: u32 = 10, "messages";

        /// PING of one user in a minute. Above it: error `RATE_LIMITED`. 0: no limit.
        pub(super) pings_per_minute: u32 = 60, "messages";

        /// OPEN_CHAT of one user in a minute, apart from those for a chat that is open. Above it: error `RATE_LIMITED`.
        /// 0: no limit.
        pub(super) open_chats_per_minute: u32 = 30, "messages";

        /// Number of users online up to which each change is sent to all as the whole list. Above it only what changed
        /// is sent, and a user who connects may wait a second for the list. 0: always the whole list.
        pub(super) presence_list_up_to: u32 = 200, "users";

        /// Greatest length of the text of a MSG. Above it: error `VALIDATION`.
        pub(super) message_length: u32 = 1000, "characters", 1..;

        /// Greatest length of a display name. Above it: error `VALIDATION`. The flat dialect allows 100 in any case.
        pub(super) display_name_length: u32 = 50, "characters", MIN_NAME_LENGTH as u64..;

        /// Chats that one user has opened and that have not ended. Above it: error `RATE_LIMITED`. 0: no limit.
        pub(super) chats_per_user: u32 = 100, "chats";
    }
}
