//! The options of a PeerJS listener in the configuration.

use super::ENDPOINT;
use super::mailbox::Limits;
use crate::realm::Setting;
use crate::realm::setting_list::settings;
use crate::realm::setting_types::{SettingValue, ValueError, WholeSeconds};
use serde_json::{Value, json};

settings! {
    /// Options of a PeerJS listener. Those that the npm package `peer` has, too, have its names.
    pub struct Options {
        /// Path below which everything is served: the HTTP API and the WebSocket (`--path` of `peer`). After a reload,
        /// clients that are connected stay so.
        pub(super) path: BasePath = BasePath("/".to_owned()), "path";

        /// Key that clients must name (`--key` of `peer`). Another: `ERROR`, and Close 4403; over HTTP 404.
        /// After a reload, clients that are connected stay so.
        pub(super) key: Key = Key("peerjs".to_owned()), "text";

        /// Time without a message from a client, after which it is closed with 4408 (`--alive_timeout` of `peer`, in
        /// milliseconds there). Browsers let hidden tabs send one heartbeat a minute. 0: no limit.
        pub(super) alive_timeout: WholeSeconds = WholeSeconds(90), "whole seconds";

        /// Time for which a message for an absent client is stored (`--expire_timeout` of `peer`, in milliseconds
        /// there). Then its sender gets `EXPIRE`, one for a call. After a reload, what is stored keeps its time.
        pub(super) expire_timeout: WholeSeconds = WholeSeconds(5), "whole seconds", 1..;

        /// Time without a sign of life, after which a client is sent a Ping when another one asks for its id with
        /// another token. If it does not answer, the other one gets the id. The default is longer than the half a
        /// minute for which phones sleep.
        pub(super) silent_after: WholeSeconds = WholeSeconds(40), "whole seconds", 1..;

        /// Time for a client to answer that Ping. The same for the one that is sent when its id is taken over with its
        /// token more than three times in ten seconds. Then the other client gets the id.
        pub(super) takeover_timeout: WholeSeconds = WholeSeconds(5), "whole seconds", 1..;

        /// Connected clients (`--concurrent_limit` of `peer`). Above it: `ERROR`, and Close 4429. 0: no limit.
        pub(super) concurrent_limit: u32 = 5000, "clients";

        /// Whether any client may list all ids at `{path}/{key}/peers` (`--allow_discovery` of `peer`).
        pub(super) allow_discovery: bool = false, "true or false";

        /// Messages stored for one absent client. A call is an OFFER and 4 to 12 candidates. At the limit the newest
        /// message of the address with most messages is removed and expires; if that is the sender's own address, the
        /// new message expires. 0: no limit.
        pub(super) stored_per_destination: usize = 1024, "messages";

        /// Messages stored that one client has sent. Above it a message expires. 0: no limit.
        pub(super) stored_per_source: usize = 1024, "messages";

        /// Size of the stored messages that one client has sent. Each message counts 2688 bytes and its ids more. Above
        /// it a message expires. 0: no limit.
        pub(super) stored_source_size: usize = 4 << 20, "bytes";

        /// Size of all stored messages, counted in the same way. At the limit the newest messages of the address with
        /// most are removed and expire; if that is the sender's own address, the new message expires. When memory is
        /// short, stored messages are given up last, in the same order, and expire. 0: no limit.
        pub(super) stored_size: usize = 16 << 20, "bytes";
    }
}

/// The path below which everything is served.
#[derive(Clone, Debug)]
pub struct BasePath(String);

impl BasePath {
    /// Returns the path without a slash at its end.
    pub(super) fn trimmed(&self) -> &str {
        self.0.trim_end_matches('/')
    }
}

impl SettingValue for BasePath {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        let path = String::read(value, setting)?;
        if path.starts_with('/') && !path.contains(['?', '#']) {
            return Ok(Self(path));
        }
        Err(format!(
            "must begin with \"/\" and contain neither \"?\" nor \"#\", such as \"/my/app\", not {path:?}"
        )
        .into())
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// The key that clients must name.
#[derive(Clone, Debug)]
pub struct Key(pub(super) String);

impl SettingValue for Key {
    fn read(value: &Value, setting: &Setting) -> Result<Self, ValueError> {
        match String::read(value, setting)? {
            empty if empty.is_empty() => {
                Err(format!("must not be empty; the default is {}", setting.example()).into())
            }
            key => Ok(Self(key)),
        }
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }
}

impl Options {
    /// Returns the path that a client connects to.
    pub(super) fn endpoint(&self) -> String {
        format!("{}{ENDPOINT}", self.path.trimmed())
    }

    /// Returns the path of the page on which people try it. The one above is the document's.
    pub(super) fn page(&self) -> String {
        format!("{}/try", self.path.trimmed())
    }

    /// Returns the path percent-decoded and without a slash at its end.
    pub(super) fn decoded_path(&self) -> String {
        super::percent_decoded(self.path.trimmed()).into_owned()
    }

    /// Returns the limits of stored messages.
    pub(super) fn mailbox_limits(&self) -> Limits {
        Limits {
            per_destination: self.stored_per_destination,
            per_source: self.stored_per_source,
            source_bytes: self.stored_source_size,
            bytes: self.stored_size,
            expire_timeout: self.expire_timeout.duration(),
        }
    }
}
