//! The options of a PeerJS listener in the configuration.

use super::ENDPOINT;
use crate::realm::SettingError;
use crate::realm::setting_list::settings;

settings! {
    /// Options of a PeerJS listener. Those that the npm package `peer` has, too, have its names.
    pub struct Options {
        /// Path below which everything is served: the HTTP API and the WebSocket (`--path` of `peer`).
        pub(super) path: String = "/".to_owned(), "path";

        /// Key that clients must name (`--key` of `peer`). Another: `ERROR`, and Close 4403; over HTTP 404.
        pub(super) key: String = "peerjs".to_owned(), "text";

        /// Time without a message from a client, after which it is closed with 4408 (`--alive_timeout` of `peer`, in
        /// milliseconds there). Browsers let hidden tabs send one heartbeat a minute. 0: no limit.
        pub(super) alive_timeout: u32 = 90, "whole seconds";

        /// Time for which a message for an absent client is stored (`--expire_timeout` of `peer`, in milliseconds
        /// there). Then its sender gets `EXPIRE`, one for a call.
        pub(super) expire_timeout: u32 = 5, "whole seconds", 1..;

        /// Time without a sign of life, after which a client is sent a Ping when another one asks for its id with
        /// another token. If it does not answer, the other one gets the id. The default is longer than the half a
        /// minute for which phones sleep.
        pub(super) silent_after: u32 = 40, "whole seconds", 1..;

        /// Time for a client to answer that Ping. The same for the one that is sent when its id is taken over with its
        /// token more than three times in ten seconds.
        pub(super) takeover_timeout: u32 = 5, "whole seconds", 1..;

        /// Connected clients (`--concurrent_limit` of `peer`). Above it: `ERROR`, and Close 4429. 0: no limit.
        pub(super) concurrent_limit: u32 = 5000, "clients";

        /// Whether any client may list all ids at `{path}/{key}/peers` (`--allow_discovery` of `peer`).
        pub(super) allow_discovery: bool = false, "true or false";

        /// Messages stored for one absent client. A call is an OFFER and 4 to 12 candidates. At the limit the newest
        /// message of the address that has most of them makes place; one of the address that would then have most
        /// expires itself. 0: no limit.
        pub(super) stored_per_destination: usize = 1024, "messages";

        /// Messages stored that one client has sent. Above it a message expires. 0: no limit.
        pub(super) stored_per_source: usize = 1024, "messages";

        /// Size of the stored messages that one client has sent. Each message counts 2688 bytes and its ids more. Above
        /// it a message expires. 0: no limit.
        pub(super) stored_source_size: usize = 4 << 20, "bytes";

        /// Size of all stored messages, counted in the same way. At the limit the newest messages of the address that
        /// has most make place. When memory is short, they are given up last, in the same order. 0: no limit.
        pub(super) stored_size: usize = 16 << 20, "bytes";
    }
}

impl Options {
    /// Checks the texts.
    ///
    /// # Errors
    /// All that are invalid.
    pub(super) fn check(&self) -> Result<(), Vec<SettingError>> {
        let mut errors = Vec::new();
        let path = &self.path;
        if !path.starts_with('/') || path.contains(['?', '#']) {
            let problem = format!(
                "must begin with \"/\" and contain neither \"?\" nor \"#\", such as \"/my/app\", not {path:?}"
            );
            errors.push(SettingError::new("path", problem));
        }
        if self.key.is_empty() {
            let problem = "must not be empty; the default is \"peerjs\"";
            errors.push(SettingError::new("key", problem));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// Returns the path that a client connects to.
    pub(super) fn endpoint(&self) -> String {
        format!("{}{ENDPOINT}", self.path.trim_end_matches('/'))
    }
}
